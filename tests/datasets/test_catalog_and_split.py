"""What lies in a folder, and that no person is on two sides of the split."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.datasets.catalog import SAME_PERSON_AUTOIMPLANT2020, SkullCase, autoimplant2020, person_of
from calvaria.datasets.layouts import skull_name
from calvaria.datasets.persons import with_groups
from calvaria.datasets.split import SIDES, SPLITS, Split, digests_of, draw_split, load_split, main, verify_split
from calvaria.errors import FormatError, InputError
from calvaria.io import write_volume
from calvaria.volume import Grid, Volume


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def case_of(name: str) -> SkullCase:
    complete = Path(f"{name}.nrrd") if name.startswith("train") else None
    return SkullCase(name, person_of(name), complete, complete, None)


def packaged_cases() -> list[SkullCase]:
    return [case_of(name) for name in load_split().ids]


def test_the_catalog_finds_files_and_persons(tmp_path: Path) -> None:
    training = tmp_path / "training_set"
    complete = [touch(training / "complete_skull" / f"{n}.nrrd") for n in ("000", "011", "052")]
    patch = touch(training / "implant" / "011.nrrd")
    defective = touch(training / "defective_skull" / "011.nrrd")
    hidden = touch(tmp_path / "test_set_for_participants" / "065.nrrd")
    assert autoimplant2020(tmp_path) == [
        SkullCase("train-000", "train-000", complete[0], None, None),
        SkullCase("train-011", "train-011", complete[1], patch, defective),
        SkullCase("train-052", "train-000", complete[2], None, None),
        SkullCase("test-065", "train-011", None, None, hidden),
    ]


def test_the_other_spelling_of_the_test_folder_is_found(tmp_path: Path) -> None:
    hidden = touch(tmp_path / "test_set_give_participants" / "003.nrrd")
    assert autoimplant2020(str(tmp_path)) == [SkullCase("test-003", "train-018", None, None, hidden)]


def test_a_folder_without_skulls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no AutoImplant 2020 skull found; give the folder that holds training_set"):
        autoimplant2020(tmp_path / "nowhere")


def test_the_packaged_split_has_its_sizes_and_all_cases() -> None:
    split = load_split("autoimplant2020")
    assert (len(split.test), len(split.validation)) == (15, 10)
    complete = [name for name in split.ids if name.startswith("train-")]
    assert len(complete) == 85
    assert len({person_of(name) for name in complete}) == 83
    assert sum(name.startswith("test-") for name in split.train) == 99
    assert all(name.startswith("train-") for name in split.test + split.validation)


def test_persons_with_several_files_are_all_in_training() -> None:
    split = load_split()
    assert {name for group in SAME_PERSON_AUTOIMPLANT2020 for name in group} <= set(split.train)
    assert {frozenset(group) for group in split.same_person} == {frozenset(g) for g in SAME_PERSON_AUTOIMPLANT2020}


def test_the_packaged_split_is_what_its_seed_draws() -> None:
    packaged = load_split()
    assert draw_split(packaged_cases()[::-1], packaged.seed).to_json() == packaged.to_json()


def test_the_packaged_split_is_that_of_the_real_files(real_data: Path, tmp_path: Path) -> None:
    main([str(real_data / "autoimplant2020"), "-o", str(tmp_path / "again.json")])
    assert (tmp_path / "again.json").read_bytes() == (SPLITS / "autoimplant2020.json").read_bytes()


@given(st.integers(0, 2**32), st.randoms())
def test_no_seed_makes_a_split_leak(seed: int, random: Random) -> None:
    cases = packaged_cases()
    random.shuffle(cases)
    split = draw_split(cases, seed)
    sides = [{person_of(name) for name in split.side(side)} for side in ("train", "validation", "test")]
    assert sum(len(side) for side in sides) == len(set.union(*sides))
    assert sorted(split.ids) == sorted(case.id for case in cases)
    assert split == draw_split(packaged_cases(), seed)
    assert Split.from_json(split.to_json()) == split


def test_a_leaking_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"leaks: train-000 \(train\) and train-052 \(test\) are one person"):
        Split(("train-000",), (), ("train-052",), SAME_PERSON_AUTOIMPLANT2020)
    with pytest.raises(InputError, match="leaks: train-001 appears more than once"):
        Split(("train-001",), ("train-001",), ())
    values = json.loads((SPLITS / "autoimplant2020.json").read_text())
    values["test"].append("train-000")
    values["train"].remove("train-000")
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"bad\.json: the split leaks: .* are one person"):
        load_split(path)


def test_an_edited_or_damaged_split_file_is_refused(tmp_path: Path) -> None:
    values = json.loads((SPLITS / "autoimplant2020.json").read_text())
    values["validation"].append(values["test"].pop())
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"edited\.json: the ids do not match its sha256"):
        load_split(path)
    for text in ("{", "[]", '{"seed": 1}'):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"edited\.json: not a split file"):
            load_split(path)


def test_unknown_splits_and_sides_are_refused() -> None:
    with pytest.raises(InputError, match="skullbreak: no such split; packaged are: autoimplant2020"):
        load_split("skullbreak")
    with pytest.raises(InputError, match="sides train, validation, test; got 'valid'"):
        load_split().side("valid")


def test_too_few_persons_cannot_be_split() -> None:
    cases = [case_of(f"train-{n:03d}") for n in range(100, 125)]
    with pytest.raises(InputError, match="more than 25 persons with one complete skull; got 25"):
        draw_split(cases)


KINDS = ("bilateral", "random_1")


def defects(people: int, kinds: tuple[str, ...] = KINDS) -> list[SkullCase]:
    """A set like SkullBreak: several defects of each skull."""
    path = Path("x.nrrd")
    return [
        SkullCase(f"train-{n:03}/{kind}", f"train-{n:03}", path, path, path, kind)
        for n in range(people)
        for kind in kinds
    ]


@given(st.integers(0, 1000), st.integers(0, 6), st.floats(0.05, 0.4), st.lists(st.integers(0, 19), max_size=5))
def test_all_defects_of_a_person_are_on_one_side(seed: int, test: int, validation: float, group: list[int]) -> None:
    cases = with_groups(defects(20), [[f"train-{n:03}" for n in group]])
    split = draw_split(cases, seed, test=test, validation=validation)
    side_of = {name: side for side in SIDES for name in split.side(side)}
    person_of_case = {case.id: case.person for case in cases}
    assert sorted(side_of) == sorted(person_of_case)
    homes: dict[str, set[str]] = {}
    for name, side in side_of.items():
        homes.setdefault(person_of_case[name], set()).add(side)
    assert all(len(sides) == 1 for sides in homes.values())
    assert len(split.test) == 2 * test
    single = 20 - (len(set(group)) if len(set(group)) > 1 else 0)
    assert len(split.validation) == 2 * round(validation * single)


def test_groups_join_persons_whatever_they_name() -> None:
    cases = [*defects(4), SkullCase("test-000", "test-000", defective=Path("y.nrrd"))]
    joined = with_groups(
        cases, [("train-002", "test-000"), ("train-001/random_1", "train-002"), ("nobody", "train-000")]
    )
    assert [case.id for case in joined] == [case.id for case in cases]
    persons = {skull_name(case): case.person for case in joined}
    assert persons == {
        "train-000": "train-000",
        "train-001": "train-001",
        "train-002": "train-001",
        "train-003": "train-003",
        "test-000": "train-001",
    }


def test_one_skull_under_two_names_is_one_person() -> None:
    cases = defects(8)
    digests = {case.id: "same" if case.person in ("train-002", "train-005") else case.person for case in cases}
    for seed in range(20):
        split = draw_split(cases, seed, test=3, validation=2, digests=digests)
        assert {name for name in split.train if digests[name] == "same"} == {
            f"train-00{n}/{kind}" for n in (2, 5) for kind in KINDS
        }
    assert dict(split.inputs) == digests
    assert Split.from_json(split.to_json()) == split


def test_a_split_with_one_skull_on_two_sides_is_refused() -> None:
    with pytest.raises(InputError, match=r"leaks: a \(train\) and b \(test\) hold the same skull, voxel for voxel"):
        Split(("a",), (), ("b",), inputs=(("a", "0f"), ("b", "0f")))


def test_edited_inputs_are_noticed() -> None:
    values = json.loads(Split(("a",), (), ("b",), inputs=(("a", "0f"), ("b", "1f"))).to_json())
    values["inputs"]["a"] = "2f"
    with pytest.raises(FormatError, match="do not match its sha256"):
        Split.from_json(json.dumps(values))
    values["inputs"] = 3
    with pytest.raises(FormatError, match="not a split file"):
        Split.from_json(json.dumps(values))


@pytest.mark.parametrize(("test", "text"), [(-1, "got -1"), (1.5, r"got 1\.5")])
def test_sizes_that_mean_nothing(test: float, text: str) -> None:
    with pytest.raises(InputError, match=f"test: a number of persons, or a share below 1, is wanted; {text}"):
        draw_split(defects(5), test=test, validation=1)


def test_a_split_is_held_against_the_files() -> None:
    cases = defects(6)
    digests = {case.id: case.person for case in cases}
    split = draw_split(cases, 3, test=1, validation=1, digests=digests)
    assert verify_split(split, cases, (), digests) == []
    changed = digests | {split.train[0]: "changed"}
    assert verify_split(split, cases, (), changed) == [
        f"{split.train[0]}: its skull is not the one that the split was drawn from"
    ]
    new = SkullCase("train-900", "train-900", Path("x.nrrd"))
    gone = cases[0].id
    assert verify_split(split, [*cases[1:], new]) == [
        f"{gone}: in the split, not in the folder",
        "train-900: in the folder, not in the split",
    ]
    reported, learnt = skull_name_of(split.test[0]), skull_name_of(split.train[0])
    with pytest.raises(InputError, match=rf"leaks: {learnt}/\w+ \(train\) and {reported}/\w+ \(test\) are one person"):
        verify_split(split, cases, [(reported, learnt)])
    copied = digests | dict.fromkeys((*split.test, split.train[0]), "copy")
    with pytest.raises(InputError, match="hold the same skull, voxel for voxel"):
        verify_split(split, cases, (), copied)


def skull_name_of(name: str) -> str:
    return name.split("/", maxsplit=1)[0]


def test_digests_are_read_once_and_bad_files_named(tmp_path: Path) -> None:
    grid = Grid.isotropic((4, 4, 4), 1.0)
    complete = tmp_path / "a.nrrd"
    write_volume(complete, Volume(np.ones(grid.shape, bool), grid))
    bad = touch(tmp_path / "b.nrrd")
    cases = [SkullCase(f"a/{kind}", "a", complete, kind=kind) for kind in KINDS]
    cases += [SkullCase("b", "b", bad), SkullCase("c", "c")]
    told: list[tuple[str, float]] = []
    digests, failed = digests_of(cases, lambda *step: told.append(step))
    assert digests["a/bilateral"] == digests["a/random_1"]
    assert failed == {
        "b": "b.nrrd: the file is empty (0 bytes)",
        "c": "there is neither a complete nor a defective skull",
    }
    assert [share for _, share in told] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert told[-1][0] == "4 of 4 cases read"
