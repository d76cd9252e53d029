"""Every layout that a set may come in, and what it is told by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calvaria.datasets.catalog import DATA_SETS, data_set_of, find_set, find_sets, joined, read_set
from calvaria.datasets.layouts import (
    SKULLBREAK_KINDS,
    SkullCase,
    autoimplant2020,
    autoimplant2021,
    folders,
    mug500,
    person_of,
    skull_name,
    skullbreak,
)
from calvaria.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def skullbreak_side(root: Path, numbers: tuple[str, ...] = ("000", "017"), *, per_kind: bool = False) -> Path:
    for n in numbers:
        for kind in SKULLBREAK_KINDS:
            touch(root / "complete_skull" / (f"{kind}/{n}.nrrd" if per_kind else f"{n}.nrrd"))
            touch(root / "defective_skull" / kind / f"{n}.nrrd")
            touch(root / "implant" / kind / f"{n}.nrrd")
    return root


def autoimplant(root: Path) -> Path:
    for n in ("000", "001", "052"):
        touch(root / "training_set" / "complete_skull" / f"{n}.nrrd")
        touch(root / "training_set" / "implant" / f"{n}.nrrd")
    touch(root / "test_set_for_participants" / "090.nrrd")
    return root


@pytest.mark.parametrize("per_kind", [False, True], ids=["flat", "a folder a kind"])
def test_skullbreak_has_a_case_a_skull_and_kind(tmp_path, per_kind):
    root = skullbreak_side(tmp_path, per_kind=per_kind)
    cases = skullbreak(root)
    assert [case.id for case in cases[:5]] == [f"train-000/{kind}" for kind in SKULLBREAK_KINDS]
    assert len(cases) == 10
    assert {case.person for case in cases} == {"train-000", "train-017"}
    one = cases[6]
    assert one == SkullCase(
        "train-017/frontoorbital",
        "train-017",
        root / "complete_skull" / ("frontoorbital/017.nrrd" if per_kind else "017.nrrd"),
        root / "implant/frontoorbital/017.nrrd",
        root / "defective_skull/frontoorbital/017.nrrd",
        "frontoorbital",
    )
    assert skull_name(one) == "train-017"


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("trainset2021", "testset2021"),
        ("skullbreak/train", "skullbreak/test"),
    ],
)
def test_the_sides_of_skullbreak_are_told_by_their_folders(tmp_path, train, test):
    skullbreak_side(tmp_path / train, ("000",))
    for kind in SKULLBREAK_KINDS:  # the test side came without its truth at first
        touch(tmp_path / test / "defective_skull" / kind / "000.nrrd")
    cases = skullbreak(tmp_path)
    assert [case.person for case in cases] == ["train-000"] * 5 + ["test-000"] * 5
    assert all(case.complete is None and case.patch is None for case in cases[5:])


def test_the_test_folder_of_skullbreak_alone_is_still_the_test_side(tmp_path):
    assert {case.person for case in skullbreak(skullbreak_side(tmp_path / "testing", ("003",)))} == {"test-003"}


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ("training_set", "test_set_give_participants"),
        ("Training", "Testing"),
        ("SkullFix/training_set", "SkullFix/test"),
    ],
)
def test_skullfix_under_its_other_names(tmp_path, training, test):
    touch(tmp_path / training / "complete_skull" / "000.nrrd")
    touch(tmp_path / test / "065.nrrd")
    assert [(case.id, case.person) for case in autoimplant2020(tmp_path)] == [
        ("train-000", "train-000"),
        ("test-065", "train-011"),
    ]


def test_the_additional_cases_of_skullfix_are_people_of_the_test_folder(tmp_path):
    autoimplant(tmp_path)
    for n in (100, 101, 104):
        touch(tmp_path / "additional_test_set_for_participants" / f"{n}.nrrd")
    persons = {case.id: case.person for case in autoimplant2020(tmp_path)}
    assert persons["additional-100"] == persons["test-090"]
    assert persons["additional-104"] == person_of("test-092")
    assert persons["additional-101"] == "additional-101"


def test_a_flat_copy_of_skullfix_is_told_by_its_numbers(tmp_path):
    touch(tmp_path / "complete_skull" / "007.nrrd")
    touch(tmp_path / "complete_skull" / "smith.nrrd")
    touch(tmp_path / "implant" / "007.nrrd")
    assert [case.id for case in autoimplant2020(tmp_path)] == ["train-007"]


def test_autoimplant2021_is_its_tasks(tmp_path):
    skullbreak_side(tmp_path / "Task1" / "Training", ("000",))
    touch(tmp_path / "Task2" / "sub07.nrrd")
    autoimplant(tmp_path / "task_3")
    cases = {case.id: case for case in autoimplant2021(tmp_path)}
    assert cases["task1/train-000/random_1"].person == "task1/train-000"
    assert cases["task2/sub07"].defective == tmp_path / "Task2/sub07.nrrd"
    assert cases["task2/sub07"].kind == "clinical"
    assert cases["task3/train-052"].person == "task3/train-000"
    assert skull_name(cases["task1/train-000/random_1"]) == "task1/train-000"


def test_mug500_has_healthy_skulls_and_craniotomies(tmp_path):
    healthy = touch(tmp_path / "A0491-A0495" / "A0491" / "A0491.nrrd")
    touch(healthy.with_name("A0491_clear.stl"))
    (tmp_path / "A0491-A0495" / "A0492").mkdir()
    skull = touch(tmp_path / "craniotomy_skull" / "B0001" / "B0001.nrrd")
    implant = touch(skull.with_name("B0001_implant.stl"))
    assert mug500(tmp_path) == [
        SkullCase("A0491", "A0491", complete=healthy, kind="none"),
        SkullCase("A0492", "A0492", kind="none"),
        SkullCase("B0001", "B0001", defective=skull, implant=implant, kind="clinical"),
    ]


def test_mug500_in_one_folder_and_twice(tmp_path):
    first = touch(tmp_path / "complete_nrrds" / "A0001.nrrd")
    again = touch(tmp_path / "more" / "A0001.nii.gz")
    assert [case.complete for case in mug500(tmp_path)] == [first, again]


def test_folders_of_files(tmp_path):
    defective = touch(tmp_path / "defective" / "smith.nii.gz")
    implant = touch(tmp_path / "implant" / "smith.stl")
    patch = touch(tmp_path / "patch" / "jones.mha")
    assert folders(tmp_path) == [
        SkullCase("jones", "jones", patch=patch, kind="clinical"),
        SkullCase("smith", "smith", defective=defective, implant=implant, kind="clinical"),
    ]


def test_implant_beside_complete_skulls_means_the_missing_bone(tmp_path):
    complete = touch(tmp_path / "complete_skull" / "smith.nrrd")
    missing = touch(tmp_path / "implant" / "smith.nrrd")
    assert folders(tmp_path) == [SkullCase("smith", "smith", complete, missing, kind="clinical")]


def test_a_folder_a_case_may_name_the_person(tmp_path):
    first = touch(tmp_path / "op1" / "defective.nrrd")
    second = touch(tmp_path / "op2" / "defective.nrrd")
    implant = touch(tmp_path / "op2" / "implant.nrrd")
    (tmp_path / "op2" / "case.json").write_text(json.dumps({"person": "op1"}))
    touch(tmp_path / "notes" / "readme.txt")
    assert folders(tmp_path) == [
        SkullCase("op1", "op1", defective=first, kind="clinical"),
        SkullCase("op2", "op1", defective=second, implant=implant, kind="clinical"),
    ]
    (tmp_path / "op2" / "case.json").write_text("[]")
    with pytest.raises(InputError, match=r"op2/case\.json: not a JSON object"):
        folders(tmp_path)


def test_hidden_files_and_other_files_are_no_skulls(tmp_path):
    autoimplant(tmp_path)
    touch(tmp_path / "training_set" / "complete_skull" / "._001.nrrd")
    touch(tmp_path / "training_set" / "complete_skull" / "002.nrrd.txt")
    assert len(autoimplant2020(tmp_path)) == 4


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (autoimplant2020, "no AutoImplant 2020 skull found; give the folder that holds training_set"),
        (skullbreak, "no SkullBreak skull found; give the folder that holds defective_skull/KIND"),
        (autoimplant2021, "no AutoImplant 2021 skull found; give the folder that holds Task1"),
        (mug500, r"no MUG500\+ skull found; give a folder above those called A0001"),
        (folders, "no case found; wanted folders complete, defective, patch or implant"),
    ],
)
def test_a_folder_without_cases_is_refused(tmp_path, reader, text):
    touch(tmp_path / "holiday" / "beach.png")
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=text):
            reader(root)


def test_each_layout_is_recognised(tmp_path):
    skullbreak_side(tmp_path / "a")
    autoimplant(tmp_path / "b")
    skullbreak_side(tmp_path / "c" / "Task1")
    touch(tmp_path / "d" / "A0001" / "A0001.nrrd")
    touch(tmp_path / "e" / "defective" / "x.nrrd")
    names = [find_set(tmp_path / letter).data_set.name for letter in "abcde"]
    assert names == ["skullbreak", "autoimplant2020", "autoimplant2021", "mug500", "folders"]
    touch(tmp_path / "f" / "x.png")
    with pytest.raises(InputError, match=r"no set recognised by its layout\. Known layouts: autoimplant2021: Task1"):
        find_set(tmp_path / "f")
    with pytest.raises(InputError, match="nowhere: there is no such folder"):
        find_set(tmp_path / "nowhere")


def test_a_set_is_read_by_its_names(tmp_path):
    autoimplant(tmp_path)
    assert read_set("SkullFix", tmp_path) == read_set("auto", tmp_path) == autoimplant2020(tmp_path)
    with pytest.raises(InputError, match="no such set; there are autoimplant2021, mug500, skullbreak"):
        data_set_of("skulbreak")
    with pytest.raises(InputError, match="no SkullBreak skull found"):
        read_set("skullbreak", tmp_path)


def test_several_sets_keep_their_cases_apart(tmp_path):
    autoimplant(tmp_path / "fix")
    skullbreak_side(tmp_path / "break", ("000",))
    sets = find_sets([tmp_path / "fix", tmp_path / "break"])
    cases = {case.id: case.person for case in joined(sets)}
    assert cases["autoimplant2020:train-052"] == "autoimplant2020:train-000"
    assert cases["skullbreak:train-000/random_1"] == "skullbreak:train-000"
    assert joined(find_sets([tmp_path / "fix"])) == autoimplant2020(tmp_path / "fix")


def test_two_folders_of_one_set_are_called_by_their_names(tmp_path):
    for hospital in ("graz", "brno"):
        touch(tmp_path / hospital / "defective" / "1.nrrd")
    sets = find_sets([tmp_path / "graz", tmp_path / "brno"])
    assert [case.id for case in joined(sets)] == ["graz:1", "brno:1"]
    with pytest.raises(InputError, match="two folders called graz hold the same set; rename one"):
        find_sets([tmp_path / "graz", tmp_path / "graz"])


def test_the_ids_of_a_published_set_are_known():
    train, test, additional = DATA_SETS["autoimplant2020"].parts
    assert (train.expected[0], test.expected[-1], additional.expected[-1]) == (
        "train-000",
        "test-099",
        "additional-109",
    )
    assert DATA_SETS["mug500"].parts[1].expected[-1] == "B0029"


def test_the_real_skulls_are_recognised(real_data):
    found = find_set(real_data / "autoimplant2020")
    assert found.data_set.name == "autoimplant2020"
    assert len(found.cases) == 184
    assert len({case.person for case in found.cases}) == 178
