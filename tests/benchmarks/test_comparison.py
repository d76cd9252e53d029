"""Table 4's cases and methods: who is left out, what is scored without a truth, and how official sets are read."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.heads import family_model, family_template

from calvaria.benchmarks import comparison as module
from calvaria.benchmarks.cases import Task, build
from calvaria.benchmarks.comparison import (
    SKULLBREAK,
    SKULLFIX,
    STAND_IN,
    CaseSet,
    Method,
    duplicates_command,
    label_of,
    method_of,
    official,
    persons_of_skullbreak,
    persons_seen,
    reconstruct_commands,
    run,
    stand_in,
)
from calvaria.benchmarks.reconstruction import Answer
from calvaria.benchmarks.table import read_rows
from calvaria.datasets.catalog import SkullCase
from calvaria.datasets.duplicates import Duplicates, Pair
from calvaria.datasets.layouts import SKULLBREAK_KINDS
from calvaria.datasets.split import load_split
from calvaria.errors import FormatError, GeometryError, InputError
from calvaria.io import write_volume
from calvaria.reconstruction.shape_prior.tables import TableModel
from calvaria.training.recipes.shape_prior import ShapePriorRecipe
from calvaria.training.shape_prior import _write
from calvaria.volume import Grid, Volume

GRID = Grid.isotropic((20, 20, 16), 4.0)


def skull() -> Volume:
    """A closed box of bone."""
    data = np.zeros(GRID.shape, bool)
    data[2:18, 2:18, 2:14] = True
    data[4:16, 4:16, 4:12] = False
    return Volume(data, GRID)


def hole() -> Volume:
    """A piece of its lid."""
    data = np.zeros(GRID.shape, bool)
    data[7:13, 7:13, 12:14] = True
    return Volume(data, GRID)


def holed() -> Volume:
    return Volume(skull().mask & ~hole().mask, GRID)


def write(path: Path, volume: Volume) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(write_volume(path, volume) or path)


def skullbreak(root: Path, numbers: tuple[str, ...] = ("000", "001"), *, truth: bool = True) -> Path:
    """A folder like the published one, each skull with five equal defects, all on the test side."""
    for n in numbers:
        if truth:
            write(root / "test" / "complete_skull" / f"{n}.nrrd", skull())
        for kind in SKULLBREAK_KINDS:
            write(root / "test" / "defective_skull" / kind / f"{n}.nrrd", holed())
            if truth:
                write(root / "test" / "implant" / kind / f"{n}.nrrd", hole())
    return root


def skullfix(root: Path, test: tuple[str, ...] = ("003", "050"), additional: tuple[str, ...] = ()) -> Path:
    """A folder like the published one: defective test skulls, no truth."""
    write(root / "training_set" / "complete_skull" / "000.nrrd", skull())
    for n in test:
        write(root / "test_set_for_participants" / f"{n}.nrrd", holed())
    for n in additional:
        write(root / "additional_test_set_for_participants" / f"{n}.nrrd", holed())
    return root


def perfect(defective: Volume, model: str) -> Answer:
    del model
    return Answer(defective.with_data(skull().mask & ~defective.mask), 2.0, 1.5, 100.0, 1)


METHOD = Method("made-up", "shape-prior", "", "abc")


def silent(line: str) -> None:
    del line


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model of each reconstruction; all are perfect."""
    asked: list[str] = []

    def solve(defective: Volume, model: str) -> Answer:
        asked.append(model)
        return perfect(defective, model)

    monkeypatch.setitem(module.WAYS, "", solve)
    return asked


def about(monkeypatch: pytest.MonkeyPatch, **made_from: str) -> None:
    """Let every model's file say that it was made from this."""
    text = {"made_from": json.dumps(made_from)} if made_from else {}
    monkeypatch.setattr(module, "load_about", lambda info: text)


# Methods


def test_a_method_is_a_model_and_perhaps_what_follows_it(monkeypatch):
    assert method_of("shape-prior").engine == "shape-prior"
    assert method_of("shape-prior").key == f"shape-prior@{method_of('shape-prior').weights}"
    calls = []
    monkeypatch.setitem(module.WAYS, "refine", lambda defective, model: calls.append((defective, model)))
    method = method_of("shape-prior+refine")
    assert (method.engine, method.way, len(method.weights)) == ("shape-prior", "refine", 12)
    method.solve(skull())
    assert [model for _, model in calls] == ["shape-prior"]
    with pytest.raises(InputError, match=r"shape-prior\+paint: nothing is called 'paint' .* known: MODEL\+refine"):
        method_of("shape-prior+paint")


@pytest.mark.parametrize("name", ["shape-prior+", "shape-prior+paint"])
def test_what_is_no_method_is_refused(name):
    with pytest.raises(InputError, match=r"may follow a model; known: MODEL alone"):
        method_of(name)


def test_a_model_that_completes_nothing_is_refused_before_any_work():
    with pytest.raises(InputError, match="there is no model called 'nobody'"):
        method_of("nobody")
    with pytest.raises(InputError, match="a model that completes skulls"):
        method_of("symmetry-vit")


def test_a_plus_sign_in_a_files_name_is_no_method(tmp_path):
    with pytest.raises(InputError, match=r"there is no model called '.*a\+b\.safetensors'"):
        method_of(str(tmp_path / "a+b.safetensors"))


# Whom a model has seen


def test_the_shipped_prior_learned_from_every_test_case_of_skullfix_but_from_none_of_the_stand_in():
    seen = persons_seen("shape-prior")
    assert {"train-011", "train-018", "test-000", "test-099"} <= seen
    assert not seen & set(load_split().test + load_split().validation)


def test_a_prior_of_complete_skulls_alone_has_seen_two_persons_of_the_test_cases(monkeypatch):
    about(monkeypatch, people="train", unlabelled="none")
    seen = persons_seen("shape-prior")
    cases = {f"test-{n:03d}": module.person_of(f"test-{n:03d}") for n in range(100)}
    assert sorted(case for case, person in cases.items() if person in seen) == [
        "test-003",
        "test-040",
        "test-065",
        "test-092",
    ]


def test_a_prior_of_everybody_has_seen_the_stand_in(monkeypatch):
    about(monkeypatch, people="all")
    assert set(load_split().test) <= persons_seen("shape-prior")


def test_what_a_prior_was_made_from_is_in_its_file(tmp_path):
    seen = {}
    model = family_model()
    tables = TableModel(model, model, model.depth_half)  # what they hold does not matter here
    for unlabelled in ("none", "filled"):
        output = tmp_path / f"{unlabelled}.safetensors"
        recipe = ShapePriorRecipe(root=tmp_path, output=output, unlabelled=unlabelled)
        _write(recipe, model, tables, family_template())
        seen[unlabelled] = persons_seen(str(output))
    assert seen["filled"] == persons_seen("shape-prior")
    assert {"test-000", "test-003"} & seen["none"] == set()
    assert "train-018" in seen["none"]


# The official sets


def test_skullbreaks_test_cases_are_its_skulls_with_their_own_defects(tmp_path):
    found = official(SKULLBREAK, skullbreak(tmp_path))
    assert (found.label, len(found.tasks), found.hidden) == (SKULLBREAK, 10, ())
    assert found.tasks[0].case.id == "skullbreak:test-000/bilateral"
    assert found.tasks[0].case.person == "skullbreak:test-000"
    defective, patch = build(found.tasks[0])
    assert np.array_equal(defective.mask, holed().mask)
    assert np.array_equal(patch.mask, hole().mask)
    assert {t.case.person for t in official(SKULLBREAK, tmp_path, limit=1).tasks} == {"skullbreak:test-000"}


def test_training_cases_of_an_official_set_are_not_run(tmp_path):
    (skullbreak(tmp_path) / "test").rename(tmp_path / "train")
    with pytest.raises(InputError, match=r"no test case of SkullBreak, only training cases; .* one of test, testing"):
        official(SKULLBREAK, tmp_path)


def test_an_empty_folder_is_no_official_set(tmp_path):
    with pytest.raises(InputError, match=r"no SkullBreak skull found; give the folder that holds defective_skull/KIND"):
        official(SKULLBREAK, tmp_path)
    with pytest.raises(InputError, match="no AutoImplant 2020 skull found"):
        official(SKULLFIX, tmp_path / "none")


def test_test_cases_without_truth_are_told_apart(tmp_path):
    hidden = official(SKULLFIX, skullfix(tmp_path, additional=("104",)))
    assert hidden.tasks == ()
    assert [case.id for case in hidden.hidden] == [f"skullfix:{n}" for n in ("test-003", "test-050", "additional-104")]
    assert reconstruct_commands(hidden.hidden) == [
        f"calvaria reconstruct {tmp_path / folder} -o patches-{folder} --no-preview --jobs 2"
        for folder in ("test_set_for_participants", "additional_test_set_for_participants")
    ]
    broken = official(SKULLBREAK, skullbreak(tmp_path / "break", truth=False))
    assert (len(broken.tasks), len(broken.hidden), len(reconstruct_commands(broken.hidden))) == (0, 10, 5)


@pytest.mark.parametrize("deep", [False, True], ids=["beside", "with defective_skull"])
def test_whoever_has_skullfixs_truth_lays_it_into_implant(tmp_path, deep):
    root = skullfix(tmp_path)
    folder = root / "test_set_for_participants"
    if deep:
        (folder / "defective_skull").mkdir()
        for path in folder.glob("*.nrrd"):
            path.rename(folder / "defective_skull" / path.name)
    write(folder / "implant" / "050.nrrd", hole())
    found = official(SKULLFIX, root)
    assert [task.case.id for task in found.tasks] == ["skullfix:test-050"]
    assert [case.id for case in found.hidden] == ["skullfix:test-003"]
    assert np.array_equal(build(found.tasks[0])[1].mask, hole().mask)


def test_two_of_the_three_files_are_enough(tmp_path):
    files = {name: write(tmp_path / f"{name}.nrrd", one) for name, one in FILES.items()}
    for left_out in FILES:
        case = replace(SkullCase("a", "a", kind="random_1", **files), **{left_out: None})
        defective, patch = build(Task(case, "random_1"))
        assert np.array_equal(defective.mask, holed().mask), left_out
        assert np.array_equal(patch.mask, hole().mask), left_out


FILES = {"complete": skull(), "patch": hole(), "defective": holed()}


def test_an_official_input_is_not_touched(tmp_path):
    """Bone that lies in the true patch as well, as a healed rim may, stays in the input."""
    files = {"defective": write(tmp_path / "d.nrrd", skull()), "patch": write(tmp_path / "p.nrrd", hole())}
    defective, _ = build(Task(SkullCase("a", "a", **files), "official"))
    assert np.array_equal(defective.mask, skull().mask)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (("defective",), "a: there is no complete skull, so no truth"),
        (("complete",), "a: there is no implant file, so no random_1 defect"),
        (("patch",), "a: there is neither a complete nor a defective skull beside the implant"),
    ],
)
def test_one_file_of_a_case_is_not_enough(tmp_path, there, message):
    files = {name: write(tmp_path / f"{name}.nrrd", FILES[name]) for name in there}
    with pytest.raises(InputError, match=message):
        build(Task(SkullCase("a", "a", kind="random_1", **files), "random_1"))


@pytest.mark.parametrize(
    ("role", "message"), [("complete", "defective skull and complete skull"), ("patch", "defective skull and implant")]
)
def test_files_on_different_grids_are_refused(tmp_path, role, message):
    other = write(tmp_path / "b.nrrd", Volume(skull().mask, Grid.isotropic(GRID.shape, 2.0)))
    case = SkullCase("a", "a", defective=write(tmp_path / "d.nrrd", holed()))
    with pytest.raises(GeometryError, match=f"a: {message}"):
        build(Task(replace(case, **{role: other}), "official"))


# Persons of both sets


def duplicates(path: Path, *pairs: tuple[str, str]) -> Path:
    names = sorted({name for pair in pairs for name in pair})
    Duplicates(tuple(names), tuple(Pair(a, b, 0.99, 1.0) for a, b in pairs)).save(path)
    return path


def test_persons_of_skullbreak_who_are_training_persons_are_found(tmp_path):
    path = duplicates(
        tmp_path / "d.json",
        ("autoimplant2020:test-065", "skullbreak:test-001"),  # the person of train-011
        ("autoimplant2020:train-004", "skullbreak:test-002"),  # nobody whom the model has seen
        ("skullbreak:test-003", "skullbreak:train-009"),
    )
    assert persons_of_skullbreak(frozenset({"train-011"}), path) == {"skullbreak:test-001"}


def test_a_file_of_duplicates_of_other_sets_is_refused(tmp_path):
    path = duplicates(tmp_path / "d.json", ("train-000", "train-052"))
    with pytest.raises(InputError, match=r"d\.json: no skull in it is called skullbreak:\.\.\., such as train-000"):
        persons_of_skullbreak(frozenset(), path)
    path.write_text("{}")
    with pytest.raises(FormatError, match=r"d\.json: not a file of duplicates"):
        persons_of_skullbreak(frozenset(), path)
    assert persons_of_skullbreak(frozenset({"train-000"}), duplicates(tmp_path / "none.json")) == frozenset()


def test_the_command_that_finds_them_names_the_folders():
    assert duplicates_command(Path("my sets/break"), Path("fix")) == (
        "calvaria data duplicates 'my sets/break' fix -o duplicates.json --jobs 2"
    )
    assert " AUTOIMPLANT2020 " in duplicates_command(Path("break"), None)


# Runs


def test_cases_of_persons_whom_a_model_has_seen_are_left_out_for_it(tmp_path, monkeypatch, solved):
    root = skullfix(tmp_path / "fix")
    for n in ("003", "050"):
        write(root / "test_set_for_participants" / "implant" / f"{n}.nrrd", hole())
    sets = [official(SKULLFIX, root), official(SKULLBREAK, skullbreak(tmp_path / "break"))]
    path = duplicates(tmp_path / "d.json", ("autoimplant2020:train-000", "skullbreak:test-001"))
    about(monkeypatch, people="train", unlabelled="none")
    (found,) = run(sets, [METHOD], tmp_path / "t.csv", duplicates=path, tell=silent)
    assert found.left_out == ("skullfix:test-003", *(f"skullbreak:test-001/{kind}" for kind in SKULLBREAK_KINDS))
    assert [row.case for row in found.rows] == [
        "skullfix:test-050",
        *(f"skullbreak:test-000/{kind}" for kind in SKULLBREAK_KINDS),
    ]
    assert {row.dsc for row in found.rows} == {1.0}
    about(monkeypatch)
    (shipped,) = run(sets[:1], [METHOD], tmp_path / "t.csv", tell=silent)
    assert (shipped.rows, shipped.left_out) == ((), ("skullfix:test-003", "skullfix:test-050"))


def test_a_run_goes_on_and_new_weights_are_run_anew(tmp_path, monkeypatch, solved):
    sets = [official(SKULLBREAK, skullbreak(tmp_path, ("000",)))]
    path = tmp_path / "t.csv"

    def stop(defective: Volume, model: str) -> Answer:
        if len(solved) == 2:
            raise KeyboardInterrupt
        solved.append(model)
        return perfect(defective, model)

    with monkeypatch.context() as patched:
        patched.setitem(module.WAYS, "", stop)
        with pytest.raises(KeyboardInterrupt):
            run(sets, [METHOD], path, tell=silent)
    assert len(read_rows(path)) == 2
    run(sets, [METHOD], path, tell=silent)
    assert len(solved) == 5
    run(sets, [METHOD, replace(METHOD, weights="def")], path, tell=silent)
    assert len(solved) == 10
    assert {row.model for row in read_rows(path)} == {"made-up@abc", "made-up@def"}


def test_a_damaged_file_is_one_failed_row(tmp_path, solved):
    root = skullbreak(tmp_path, ("000",))
    (root / "test" / "defective_skull" / "bilateral" / "000.nrrd").write_bytes(b"NRRD0004\nbroken")
    (found,) = run([official(SKULLBREAK, root)], [METHOD], tmp_path / "t.csv", tell=silent)
    assert [bool(row.error) for row in found.rows] == [True, False, False, False, False]
    assert "000.nrrd" in found.rows[0].error


def test_the_solver_of_a_method_can_go_to_another_process():
    import pickle

    solve = pickle.loads(pickle.dumps(partial(module._solve, method=METHOD)))
    assert solve.keywords == {"method": METHOD}


def test_the_stand_in_are_the_six_holes_of_a_side(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "tasks_of", lambda root, side, limit: asked.append((root, side, limit)) or ["task"])
    assert stand_in(Path("x"), "validation", 2) == CaseSet(STAND_IN, ("task",))
    assert asked == [(Path("x"), "validation", 2)]


def test_rows_tell_their_set():
    ids = ("skullfix:additional-100", "skullbreak:test-000/random_1", "train-004")
    assert [label_of(one) for one in ids] == [SKULLFIX, SKULLBREAK, STAND_IN]


def test_real_test_skulls_of_skullfix_are_found_and_left_out(real_data, tmp_path):
    found = official(SKULLFIX, real_data / "autoimplant2020")
    assert found.tasks == ()
    assert len(found.hidden) == 99
    cases = tuple(Task(replace(case, patch=Path("truth.nrrd")), "official") for case in found.hidden)
    (outcome,) = run([CaseSet(SKULLFIX, cases)], [METHOD], tmp_path / "t.csv", tell=silent)
    assert (outcome.rows, len(outcome.left_out)) == ((), 99)
