"""What lies in a folder, and that no person is on two sides of the split."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.data.catalog import SAME_PERSON_AUTOIMPLANT2020, SkullCase, autoimplant2020, person_of
from calvaria.data.split import SPLITS, Split, draw_split, load_split, main
from calvaria.errors import FormatError, InputError


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
