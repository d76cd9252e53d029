"""Which files are cases, and which belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from calvaria.errors import InputError
from calvaria.io.images import READ_AS
from calvaria.io.meshes import MESHES
from calvaria.results.names import IMAGE_SUFFIXES, MESH_SUFFIXES, Case, find_cases, find_patches, match, paired


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(*words):
    return [Case(word, Path(word)) for word in words]


def test_every_image_that_can_be_read_counts_as_a_case():
    assert set(IMAGE_SUFFIXES) == set(READ_AS)
    assert set(MESH_SUFFIXES) == set(MESHES)


def test_the_images_of_a_folder_in_order(tmp_path):
    touch(tmp_path, "b.nrrd", "a.NII.GZ", "1.2.840.mha", "notes.txt", ".hidden.nrrd", "deeper/c.nrrd")
    assert [case.name for case in find_cases(tmp_path)] == ["1.2.840", "a", "b"]


def test_the_images_of_subfolders_carry_their_folders_name(tmp_path):
    touch(tmp_path, "bilateral/000.nrrd", "bilateral/001.nrrd", "random_1/000.nrrd", ".git/x.nrrd", "notes.txt")
    touch(tmp_path, "done/completed.nrrd", "done/result.json")
    assert [case.name for case in find_cases(tmp_path)] == ["bilateral/000", "bilateral/001", "random_1/000"]
    one, two = match(find_cases(tmp_path), [Case("bilateral/001.patch", Path())])
    assert set(one) & set(two) == {"bilateral/001"}


def test_a_folder_without_images_says_what_was_wanted(tmp_path):
    touch(tmp_path, "slice1.dcm")
    with pytest.raises(InputError, match=r"no image in this folder; wanted files ending in one of \.nii\.gz"):
        find_cases(tmp_path)


def test_two_files_for_one_folder_of_results_are_refused(tmp_path):
    touch(tmp_path, "a.nrrd", "a.nii.gz")
    with pytest.raises(InputError, match="two files are called a but for the suffix; take one away"):
        find_cases(tmp_path)


def test_patches_are_found_in_the_output_of_reconstruct(tmp_path):
    touch(tmp_path, "007/patch.nrrd", "007/completed.nrrd", "008/patch.nii.gz", "009/result.json")
    assert [(case.name, case.path.name) for case in find_patches(tmp_path)] == [
        ("007", "patch.nrrd"),
        ("008", "patch.nii.gz"),
    ]


def test_patches_of_cases_in_subfolders_lie_deeper(tmp_path):
    touch(tmp_path, "bilateral/000/patch.nrrd", "bilateral/000/result.json", "random_1/000/patch.nrrd")
    assert [case.name for case in find_patches(tmp_path)] == ["bilateral/000", "random_1/000"]


def test_two_patches_of_one_case_are_refused(tmp_path):
    touch(tmp_path, "007/patch.nrrd", "007/patch.mha")
    with pytest.raises(InputError, match="two files are called 007"):
        find_patches(tmp_path)


def test_patches_can_be_plain_files(tmp_path):
    touch(tmp_path, "007.nrrd", "old/patch.nrrd")
    assert [case.name for case in find_patches(tmp_path)] == ["007"]


def test_what_stands_before_the_first_dot_belongs_together():
    one, two = match(names("007.patch", "008.patch"), names("007", "008"))
    assert {key: (one[key].name, two[key].name) for key in one} == {
        "007": ("007.patch", "007"),
        "008": ("008.patch", "008"),
    }


def test_names_made_of_numbers_and_dots_stay_whole():
    one, two = match(names("1.2.840", "1.2.841"), names("1.2.841"))
    assert set(one) & set(two) == {"1.2.841"}


def test_cases_of_two_tables_come_in_the_order_of_the_first_and_the_others_are_told():
    common, left_out = paired("a.csv", ["c", "b", "x", "y"], "b.csv", ["b", "c", "z"])
    assert common == ["c", "b"]
    assert left_out == [
        "2 cases of a.csv have no partner and are left out: x, y",
        "1 cases of b.csv have no partner and are left out: z",
    ]
    with pytest.raises(InputError, match=r"a\.csv and b\.csv have no case in common"):
        paired("a.csv", ["x"], "b.csv", ["y"])
