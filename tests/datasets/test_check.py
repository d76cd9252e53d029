"""Every problem that a check promises to name, and that the other cases go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calvaria.datasets.catalog import DATA_SETS, FoundSet, find_set
from calvaria.datasets.check import CaseCheck, SetCheck, check_case, check_set
from calvaria.datasets.content import mask_digest
from calvaria.datasets.layouts import SkullCase
from calvaria.errors import InputError
from calvaria.io import write_mesh, write_volume
from calvaria.jobs import DIED
from calvaria.volume import Grid, Volume, extract_surface

GRID = Grid.isotropic((44, 50, 40), 4.0)


def skull(thickness: int = 2) -> np.ndarray:
    """A closed box of bone 160 x 184 x 144 mm outside."""
    data = np.zeros(GRID.shape, bool)
    data[2:42, 2:48, 2:38] = True
    inner = (
        slice(2 + thickness, 42 - thickness),
        slice(2 + thickness, 48 - thickness),
        slice(2 + thickness, 38 - thickness),
    )
    data[inner] = False
    return data


def hole() -> np.ndarray:
    data = np.zeros(GRID.shape, bool)
    data[15:25, 20:30, 30:] = True
    return data & skull()


def write(path: Path, data: np.ndarray, grid: Grid = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(data, grid))
    return path


def whole_case(root: Path, name: str = "a", shape: np.ndarray | None = None) -> SkullCase:
    complete = skull() if shape is None else shape
    return SkullCase(
        name,
        name,
        write(root / "complete" / f"{name}.nrrd", complete),
        write(root / "patch" / f"{name}.nrrd", hole()),
        write(root / "defective" / f"{name}.nrrd", complete & ~hole()),
        "clinical",
    )


def other_skull(number: int) -> np.ndarray:
    data = skull()
    data[2 + number, 2, 2] = False
    return data


def problems(case: SkullCase, depth="voxels") -> str:
    return " | ".join(check_case(case, depth).problems)


def test_a_whole_case_has_no_problem(tmp_path):
    for depth in ("headers", "voxels"):
        found = check_case(whole_case(tmp_path), depth)
        assert (found.problems, found.notes) == ((), ())
        assert set(found.digests) == {"complete", "patch", "defective"}
        assert found.seconds > 0


def test_no_skull_at_all():
    assert problems(SkullCase("a", "a")) == "there is neither a complete nor a defective skull"


def test_a_missing_a_truncated_and_an_empty_file(tmp_path):
    case = whole_case(tmp_path)
    assert case.complete and case.patch and case.defective
    case.complete.write_bytes(case.complete.read_bytes()[:-40])
    assert "a.nrrd: truncated" in problems(case)
    case.patch.unlink()
    case.defective.write_bytes(b"")
    for depth in ("headers", "voxels"):
        assert "there is no such file" in problems(case, depth)
        assert "the file is empty" in problems(case, depth)


def test_an_empty_mask_and_one_of_labels(tmp_path):
    case = replace(whole_case(tmp_path), patch=write(tmp_path / "none.nrrd", np.zeros(GRID.shape, bool)))
    assert "none.nrrd: no voxel is set" in problems(case)
    labels = skull().astype(np.uint8) + hole()
    case = replace(case, patch=None, complete=write(tmp_path / "labels.nrrd", labels))
    assert "labels.nrrd: a mask has two values, such as 0 and 1" in problems(case)


@pytest.mark.parametrize("depth", ["headers", "voxels"])
def test_another_grid(tmp_path, depth):
    moved = Grid.isotropic(GRID.shape, 4.0, (1.0, 0.0, 0.0))
    case = replace(whole_case(tmp_path), patch=write(tmp_path / "moved.nrrd", hole(), moved))
    assert problems(case, depth) == "complete and patch must lie on one grid; their corners are up to 1 mm apart"


@pytest.mark.parametrize("depth", ["headers", "voxels"])
def test_a_spacing_that_is_not_in_mm(tmp_path, depth):
    metres = Grid.isotropic(GRID.shape, 0.004)
    case = SkullCase("a", "a", write(tmp_path / "a.nrrd", skull(), metres))
    assert "complete: voxels of 0.004 x 0.004 x 0.004 mm; wanted 0.1 to 6.0 mm" in problems(case, depth)


def test_sizes_that_no_head_has(tmp_path):
    small = Grid.isotropic(GRID.shape, 1.0)
    found = problems(SkullCase("a", "a", write(tmp_path / "small.nrrd", skull(), small)))
    assert "ml of bone; a skull has more than 100 ml" in found
    assert "its bone is 46 mm long; a head's is 100 to 320 mm" in found
    tiny = np.zeros(GRID.shape, bool)
    tiny[15, 20, 36] = True
    case = replace(whole_case(tmp_path), patch=write(tmp_path / "tiny.nrrd", tiny), defective=None)
    assert problems(case) == "patch: 0.1 ml; wanted 0.5 to 500 ml"


def test_masks_that_do_not_add_up(tmp_path):
    case = whole_case(tmp_path)
    overlapping = replace(case, defective=write(tmp_path / "full.nrrd", skull()))
    assert problems(overlapping) == (
        f"patch and defective skull overlap in {hole().sum()} voxels; they share none by definition"
    )
    short = skull() & ~hole()
    short[:, :, :5] = False
    assert "complete skull and its parts differ in" in problems(
        replace(case, defective=write(tmp_path / "s.nrrd", short))
    )
    outside = hole()
    outside[15:25, 20:30, 10:20] = True
    elsewhere = replace(case, defective=None, patch=write(tmp_path / "e.nrrd", outside))
    assert "complete skull and its parts differ in 1000 voxels" in problems(elsewhere)


def test_a_healed_rim_is_a_note(tmp_path):
    healed = skull() & ~hole()
    healed[15, 20, 36] = False
    healed[14, 20, 36] = False
    case = replace(whole_case(tmp_path), defective=write(tmp_path / "healed.nrrd", healed))
    found = check_case(case)
    assert found.problems == ()
    assert found.notes[0].startswith("complete skull and its parts differ in 1 voxels")


def test_an_implant_is_read_and_needs_no_common_grid(tmp_path):
    mesh = extract_surface(Volume(hole(), GRID))
    write_mesh(tmp_path / "good.stl", mesh)
    case = replace(whole_case(tmp_path), implant=tmp_path / "good.stl")
    assert problems(case) == ""
    (tmp_path / "bad.stl").write_bytes(b"solid nothing")
    assert "bad.stl" in problems(replace(case, implant=tmp_path / "bad.stl"))
    other = Grid.isotropic((20, 20, 20), 2.0)
    apart = write(tmp_path / "implant.nrrd", np.ones(other.shape, bool), other)
    assert problems(replace(case, implant=apart)) == ""


def test_a_cube_has_no_calvaria(tmp_path):
    solid = np.zeros(GRID.shape, bool)
    solid[5:40, 5:40, 5:40] = True
    case = SkullCase("a", "a", write(tmp_path / "solid.nrrd", solid))
    assert "does not resemble a skull in any pose" in problems(case, "anatomy")


def folder_of(root: Path, *cases: SkullCase) -> FoundSet:
    return FoundSet(DATA_SETS["folders"], root, cases)


@pytest.mark.usefixtures("dying_workers")
def test_cases_whose_process_died_count_as_not_checked(tmp_path):
    cases = [SkullCase(name, name, None) for name in "ab"]
    result = check_set(folder_of(tmp_path, *cases), jobs=2)
    assert [one.problems for one in result.cases] == [(f"not checked: {DIED}",)] * 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_case_does_not_stop_the_rest(tmp_path, jobs):
    cases = [whole_case(tmp_path, name, other_skull(n)) for n, name in enumerate("abc")]
    assert cases[1].complete is not None
    cases[1].complete.write_bytes(b"no skull")
    told: list[float] = []
    result = check_set(folder_of(tmp_path, *cases), jobs=jobs, progress=lambda stage, share: told.append(share))
    assert [case.id for case in result.damaged] == ["b"]
    assert [case.id for case in result.cases] == ["a", "b", "c"]
    assert told == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])


def test_an_id_twice_and_an_empty_one(tmp_path):
    cases = [whole_case(tmp_path, name, other_skull(n)) for n, name in enumerate("abc")]
    result = check_set(folder_of(tmp_path, cases[0], replace(cases[1], id="a"), replace(cases[2], id=" ")))
    assert [one.problems[0].split(";")[0] for one in result.cases] == [
        "2 cases have this id",
        "2 cases have this id",
        "the id is empty",
    ]


def test_the_same_skull_twice(tmp_path):
    first, again = whole_case(tmp_path, "a"), whole_case(tmp_path, "b")
    assert again.complete is not None
    again = replace(again, complete=write(tmp_path / "b.nii.gz", skull()), patch=None, defective=None)
    two = check_set(folder_of(tmp_path, first, again)).cases[1]
    assert two.problems == ("the same skull as a, which counts as another person",)
    known = check_set(folder_of(tmp_path, first, replace(again, person="a"))).cases[1]
    assert known.problems == ()
    assert "the same skull as a, known as one person" in known.notes


def test_the_defects_of_one_skull_are_no_duplicates(tmp_path):
    case = whole_case(tmp_path)
    kinds = [replace(case, id=f"a/{kind}", kind=kind) for kind in ("random_1", "random_2")]
    assert not any(one.problems or one.notes for one in check_set(folder_of(tmp_path, *kinds)).cases)


def test_what_most_cases_have_is_missed(tmp_path):
    cases = [whole_case(tmp_path, f"case-{n}", other_skull(n)) for n in range(3)]
    result = check_set(folder_of(tmp_path, *cases[:2], replace(cases[2], patch=None)))
    assert result.cases[2].notes == ("no patch, which most cases of its part have",)
    assert not result.damaged


def test_missing_cases_and_stray_files_of_a_published_set(tmp_path):
    for n in ("000", "002"):
        write(tmp_path / "training_set" / "complete_skull" / f"{n}.nrrd", other_skull(int(n)))
    stray = write(tmp_path / "training_set" / "implant" / "077.nrrd", hole())
    result = check_set(find_set(tmp_path), "headers")
    assert isinstance(result, SetCheck)
    assert result.counts["train-"] == (2, 100)
    assert result.missing[:2] == ("train-001", "train-003")
    assert len(result.missing) == 98  # nothing is said of the test folder, which is not there at all
    assert result.strays == (stray,)


def test_an_unknown_depth(tmp_path):
    with pytest.raises(InputError, match="headers, voxels, anatomy; got 'deep'"):
        check_set(folder_of(tmp_path, SkullCase("a", "a")), "deep")  # type: ignore[arg-type]


def test_an_empty_set_is_whole(tmp_path):
    assert check_set(folder_of(tmp_path)) == SetCheck(folder_of(tmp_path), ())
    assert CaseCheck("a").problems == ()


def test_the_digest_is_of_the_voxels_alone():
    mask = Volume(skull(), GRID)
    digest = mask_digest(mask)
    assert len(digest) == 32
    assert mask_digest(Volume(np.asfortranarray(skull()), Grid.isotropic(GRID.shape, 2.0))) == digest
    assert mask_digest(Volume(other_skull(1), GRID)) != digest
    lying = Grid.isotropic((2, 3, 8), 1.0), Grid.isotropic((3, 2, 8), 1.0)
    assert len({mask_digest(Volume(np.zeros(grid.shape, bool), grid)) for grid in lying}) == 2
    with pytest.raises(InputError, match="a mask is wanted"):
        mask_digest(Volume(np.zeros((2, 2, 2)), Grid.isotropic((2, 2, 2), 1.0)))


def test_real_cases_are_whole(real_data):
    found = find_set(real_data / "autoimplant2020")
    few = FoundSet(found.data_set, found.root, found.cases[1:3])
    assert not any(case.problems or case.notes for case in check_set(few).cases)
