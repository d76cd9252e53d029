"""The cascade's benchmark: what is run on whom, what stands in a row, who is left out, and that it goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.heads import SIDE, Head, boxed, scan, true_frame, truth_of
from tests.training.cascades import clinical_set

from calvaria.benchmarks import cascade as module
from calvaria.benchmarks.cascade import (
    DESIGN,
    IMPLANT,
    PARAMETRIC,
    PATCH,
    PRIOR,
    Method,
    Row,
    Scene,
    cases_of,
    methods_of,
    prior_method,
    rows_of,
    run,
    seen_by,
    wanted_of,
)
from calvaria.benchmarks.cases import Task
from calvaria.benchmarks.rows import read_table, write_table
from calvaria.clinical.loader import KIND as CLINICAL
from calvaria.datasets.catalog import SkullCase, person_of
from calvaria.datasets.persons import digest_of
from calvaria.datasets.split import load_split
from calvaria.errors import FormatError, InputError
from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import DIED
from calvaria.models import register
from calvaria.reconstruction.box import AIR_MM, box_grid
from calvaria.reconstruction.networks.cascade_engine import CASCADE, CascadeEngine, CascadeSpec
from calvaria.reconstruction.networks.forms import FORMS
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.volume import Grid, Volume

HEAD = Head(20, (SIDE,))
SPLIT = load_split()
TEST, TRAINING = SPLIT.test[0], SPLIT.train[0]
BOTH = Method("multi-branch", "bbb", "both.safetensors", ("patch", "implant"))
PATCHES = Method("patch", "ppp", "patch.safetensors", ("patch",))
SETTINGS = ImplantSettings()


def task_of(tmp_path, person="p0", patch=True, implant=True, kind=CLINICAL):
    """A clinical case; nobody reads its files but for their hash."""
    (tmp_path / "d.nrrd").write_bytes(b"skull")
    files = {"patch": tmp_path / "p.nrrd" if patch else None, "implant": tmp_path / "i.nrrd" if implant else None}
    return Task(SkullCase(f"c-{person}", person, kind=CLINICAL, defective=tmp_path / "d.nrrd", **files), kind)


def silent(line):
    del line


def weights_file(folder, branch="both", persons=()):
    """A cascade's file, by its header alone."""
    spec = CascadeSpec(FORMS["cascade-published"], Grid.isotropic((16, 16, 16), 12.0), 2, 16)
    about = {**spec.told(), "branch": branch, "clinical_persons": [digest_of(person) for person in persons]}
    path = folder / f"{branch}.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path, metadata={"calvaria": json.dumps(about)})
    register(path, branch, CASCADE, "CC-BY-NC-SA-4.0")
    return path


class Stub(CascadeEngine):
    """A cascade that says what it was made to say."""

    def __init__(self, soft, found, branches=("patch", "implant")):
        self.spec = CascadeSpec(FORMS["cascade-published"], Grid.isotropic((16, 16, 16), 12.0), 2, 16, branches)
        self.soft, self.found, self.calls = soft, found, 0

    def answer(self, field, sketch=None, skull=None, frame=None):
        self.calls += 1
        return self.found

    def soft_of(self, found, field):
        return self.soft

    def implant_of(self, found, frame):
        return found


@pytest.fixture(scope="module")
def scene():
    """A head whose hole the prior fills as it was, with an implant of which the true one is the middle."""
    defective = scan(HEAD, spacing_mm=(3.0, 3.0, 3.0))
    patch, frame, field = truth_of(HEAD, defective), true_frame(HEAD), boxed(HEAD)
    whole = Head(20).field_on(box_grid().moved(np.diag([*HEAD.scale, 1.0])))
    apart = np.linalg.norm(box_grid().centres_mm() * HEAD.scale - SIDE.centre_mm, axis=-1)
    soft = SoftField(np.clip(whole, -3, 3).astype(np.float32), apart < SIDE.radius_mm + 2, 0.0)
    inner = np.linalg.norm(defective.grid.centres_mm() - SIDE.centre_mm, axis=-1) < SIDE.radius_mm - 3
    implant = patch.with_data(patch.mask & inner)
    return Scene(defective, patch, implant, defective, Completion(frame, field, soft), soft, {"seconds": 1.25})


@pytest.fixture
def engines(scene, monkeypatch):
    """By the names of files; of the scene, found without looking."""
    found = {}
    monkeypatch.setattr(module, "scene_of", lambda task: scene)
    monkeypatch.setattr(module, "load_engine", lambda name, device: found[name])
    return found


def fills(scene):
    return Stub(scene.done.soft, Volume(scene.implant.mask.astype(np.float32), scene.implant.grid))


def test_patch_implant_and_both_designs_are_scored_on_a_clinical_case(scene, engines, tmp_path, monkeypatch):
    task, engines[BOTH.engine] = task_of(tmp_path), fills(scene)
    designs = []

    def designed(defective, patch, to_world, settings, **how):
        designs.append((patch, settings, how))
        checks = [SimpleNamespace(name="thinnest wall", verdict="fail")] * 2 + [
            SimpleNamespace(name="x", verdict="warn")
        ]
        return SimpleNamespace(parts=(), checks=checks)

    monkeypatch.setattr(module, "design", designed)
    wanted = wanted_of(task, [prior_method(), BOTH], SETTINGS, designs=True)
    assert [(one.what, one.method.name) for one in wanted] == [
        (PATCH, PRIOR),
        (PATCH, "multi-branch"),
        (IMPLANT, "multi-branch"),
        (DESIGN, PARAMETRIC),
        (DESIGN, "multi-branch"),
    ]
    rows = rows_of(task, wanted, SETTINGS)
    assert not [row.error for row in rows if row.error]
    assert [(row.what, row.method) for row in rows] == [(one.what, one.method.name) for one in wanted]
    prior, patch, implant, parametric, learned = rows
    assert prior.dsc > 0.9
    assert prior.seconds == 1.25
    assert replace(prior, method="", weights="", seconds=0, cpu_seconds=0, peak_mb=0) == replace(
        patch, method="", weights="", seconds=0, cpu_seconds=0, peak_mb=0
    )
    assert math.isfinite(prior.border_mm)
    assert math.isfinite(prior.border_curvature_mse_mm4)
    assert (implant.dsc, implant.msd_mm) == (1.0, 0.0)
    assert engines[BOTH.engine].calls == 1  # one look serves three rows
    assert [(row.checks, row.failed, row.dsc) for row in (parametric, learned)] == [(3.0, "thinnest wall", 0.0)] * 2
    two, one = designs  # method by method
    assert one[2]["learned"] is None
    assert two[2]["learned"].probability is engines[BOTH.engine].found
    np.testing.assert_array_equal(one[0].mask, two[0].mask)
    np.testing.assert_array_equal(one[2]["outer"][0], two[2]["outer"][0])


def test_what_has_no_truth_and_no_head_has_no_row(tmp_path):
    def asked(task, **how):
        return [
            (one.what, one.method.name)
            for one in wanted_of(task, [prior_method(), PATCHES, BOTH], SETTINGS, **({"designs": True} | how))
        ]

    patches = [(PATCH, PRIOR), (PATCH, "patch"), (PATCH, "multi-branch")]
    implants = [(IMPLANT, "multi-branch"), (DESIGN, PARAMETRIC), (DESIGN, "multi-branch")]
    assert asked(task_of(tmp_path)) == patches + implants
    assert asked(task_of(tmp_path), designs=False) == patches + implants[:1]
    assert asked(task_of(tmp_path, patch=False)) == implants
    assert asked(task_of(tmp_path, implant=False)) == patches
    assert asked(task_of(tmp_path, kind="official")) == patches


def test_nothing_found_has_no_overlap_and_infinite_distances(scene, engines, tmp_path):
    box = box_grid()
    nothing = SoftField(np.full(box.shape, AIR_MM, np.float32), np.zeros(box.shape, bool), 0.0)
    engines[BOTH.engine] = Stub(nothing, None)
    task = task_of(tmp_path)
    rows = rows_of(task, wanted_of(task, [BOTH], SETTINGS, designs=True))
    found = {(row.what, row.method): row for row in rows}
    for what in (PATCH, IMPLANT):
        row = found[what, "multi-branch"]
        assert (row.dsc, row.hd95_mm, row.outer_mm, row.error) == (0.0, math.inf, math.inf, "")
    none = found[DESIGN, "multi-branch"]  # a result, not a failure
    assert (none.failed, none.checks, none.error) == ("refused: the implant branch finds no hole", 0.0, "")
    assert (none.dsc, none.hd95_mm) == (0.0, math.inf)
    assert found[DESIGN, PARAMETRIC].error == ""
    assert found[DESIGN, PARAMETRIC].dsc > 0.5
    assert found[DESIGN, PARAMETRIC].checks > 10


def test_a_model_that_fails_is_named_and_the_others_go_on(engines, tmp_path):
    engines[PATCHES.engine] = SimpleNamespace()
    task = task_of(tmp_path, implant=False)
    rows = rows_of(task, wanted_of(task, [PATCHES, prior_method()], SETTINGS, designs=False))
    assert [(row.method, row.error) for row in rows] == [
        ("patch", "patch: this model is no cascade any more"),
        (PRIOR, ""),
    ]


def test_a_skull_that_cannot_be_read_is_named(tmp_path):
    task = task_of(tmp_path)
    rows = rows_of(task, wanted_of(task, [prior_method()], SETTINGS, designs=True))
    assert len(rows) == 2
    assert all("nrrd" in row.error for row in rows)


def test_clinical_cases_come_first_and_those_of_other_sides_are_counted(tmp_path, monkeypatch):
    folder = clinical_set(tmp_path / "set", [TRAINING, TEST, "stranger", SPLIT.validation[0]], masks=False)
    monkeypatch.setattr(module, "tasks_of", lambda *given: [Task(SkullCase("t", "t"), "official"), given])
    found = cases_of(tmp_path, folder, "test", ("official",), 3)
    assert [task.case.person for task in found.tasks[:2]] == [person_of(TEST), "stranger"]
    assert found.elsewhere == ("c0", "c3")
    assert found.tasks[3] == (tmp_path, "test", ("official",), 3)
    assert len(cases_of(None, folder, limit=1).tasks) == 1
    assert cases_of(None, folder, "validation").elsewhere == ("c0", "c1")


def test_calls_that_have_nothing_to_run_are_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to run: give --data FOLDER, --clinical FOLDER or both"):
        cases_of(None, None)
    folder = clinical_set(tmp_path / "set", [TRAINING], masks=False)
    with pytest.raises(InputError, match="none of its 1 cases shows a person of the test side; calvaria data simulate"):
        cases_of(None, folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.safetensors"], r"--weights net\.safetensors: NAME=FILE is wanted, such as multi-branch=runs"),
        (["=net"], "NAME=FILE is wanted"),
        (["shape-prior=x"], "something else is called 'shape-prior' already"),
        (["a=net", "a=net"], "--weights a=net: something else is called 'a' already; choose another name"),
        (["b=prior"], "--weights b=prior: this model is no cascade"),
    ],
)
def test_weights_that_cannot_be_are_refused(monkeypatch, words, message):
    engines = {"net": Stub(None, None), "prior": SimpleNamespace()}
    monkeypatch.setattr(module, "load_engine", lambda name, device: engines[name])
    monkeypatch.setattr(module, "find", lambda name: SimpleNamespace(sha256="abc" * 20))
    with pytest.raises(InputError, match=message):
        methods_of(words)


def test_weights_are_named_with_their_hash_and_heads(monkeypatch):
    engine = Stub(None, None, ("implant",))
    monkeypatch.setattr(module, "load_engine", lambda name, device: engine)
    monkeypatch.setattr(module, "find", lambda name: SimpleNamespace(sha256="abc" * 20))
    assert methods_of(["implant=x=y.safetensors"]) == [
        Method("implant", "abcabcabcabc", "x=y.safetensors", ("implant",))
    ]


def test_whom_a_model_learned_from_is_known(tmp_path):
    path = str(weights_file(tmp_path, persons=["patient-7"]))
    model = Method("m", "w", path, ("patch",))
    for person, known in ((TRAINING, True), ("patient-7", True), (TEST, False), ("patient-8", False)):
        assert seen_by(model, task_of(tmp_path, person_of(person))) == known, person
    assert "patient-7" not in (tmp_path / "both.safetensors").read_bytes().decode("latin-1")


@pytest.fixture
def asked(monkeypatch):
    """What was run on which cases; every Dice is 0.5."""
    found = []

    def fake(task, wanted, settings):
        found.append((task.case.person, [f"{one.what} {one.method.name}" for one in wanted]))
        return [one.row(task, dsc=0.5) for one in wanted]

    monkeypatch.setattr(module, "rows_of", fake)
    monkeypatch.setattr(module, "seen_by", lambda method, task: (method.name, task.case.person) == ("patch", "p1"))
    return found


def test_a_run_goes_on_and_leaves_out_whom_a_model_knows(asked, tmp_path):
    path, said = tmp_path / "out" / "c.csv", []
    tasks = [task_of(tmp_path, f"p{n}", implant=False) for n in range(2)]
    first = run(tasks, [], path, tell=said.append)
    assert said == ["[1 of 2] c-p0 clinical", "[2 of 2] c-p1 clinical"] or len(said) == 2
    assert [row.method for row in first.rows] == [PRIOR, PRIOR]
    asked.clear()
    outcome = run(tasks, [PATCHES], path, tell=said.append)
    assert asked == [("p0", ["patch patch"])]
    assert outcome.left_out == {"patch": ("c-p1 clinical",)}
    assert [(row.person, row.method) for row in outcome.rows] == [("p0", PRIOR), ("p0", "patch"), ("p1", PRIOR)]
    asked.clear()
    run(tasks, [PATCHES], path, tell=said.append)
    assert said[-1] == "2 of 2 cases are in c.csv already"
    # Other weights, other parameters and another file are other rows.
    run(tasks, [PATCHES._replace(weights="new")], path, tell=silent)
    assert asked == [("p0", ["patch patch"])]
    asked.clear()
    run(tasks[:1], [], path, settings=ImplantSettings(thickness_mm=5.0), tell=silent)
    (tmp_path / "d.nrrd").write_bytes(b"another skull")
    run(tasks[:1], [], path, tell=silent)
    assert asked == [("p0", [f"patch {PRIOR}"])] * 2


def test_failed_rows_are_run_again_and_told(tmp_path, monkeypatch):
    task, said = task_of(tmp_path, implant=False), []
    monkeypatch.setattr(module, "rows_of", lambda task, wanted, _: [one.row(task, error="no") for one in wanted])
    run([task], [], tmp_path / "c.csv", tell=said.append)
    assert said == ["[1 of 1] c-p0 clinical: 1 of 1 FAILED"]
    monkeypatch.setattr(module, "rows_of", lambda task, wanted, _: [one.row(task, dsc=1.0) for one in wanted])
    assert [row.error for row in run([task], [], tmp_path / "c.csv", tell=silent).rows] == [""]
    assert len(read_table(tmp_path / "c.csv", Row, "the cascade")) == 1


@pytest.mark.usefixtures("dying_workers")
def test_a_process_that_dies_is_a_failed_case(asked, tmp_path):
    tasks = [task_of(tmp_path, f"p{n}", implant=False) for n in range(2)]
    rows = run(tasks, [], tmp_path / "c.csv", jobs=2, tell=silent).rows
    assert [row.error for row in rows] == [DIED, DIED]


def test_rows_come_back_from_their_file(tmp_path):
    row = Row("c", "p", CLINICAL, DESIGN, "m", "w", "s", 0.5, hd95_mm=math.inf, checks=24.0, failed="a; b")
    write_table(tmp_path / "c.csv", Row, [row])
    (back,) = read_table(tmp_path / "c.csv", Row, "the cascade")
    assert (back.key, back.hd95_mm, back.checks, back.failed) == (row.key, math.inf, 24.0, "a; b")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match=r"x\.csv: not a table of the cascade; name another file"):
        run([], [], tmp_path / "x.csv", tell=silent)
