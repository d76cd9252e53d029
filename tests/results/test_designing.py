"""Implants from a file or a folder of results to a folder: what is given back, written, refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from tests.cli.conftest import defective, hole
from tests.implant.shapes import OUTER_MM, cap, edge_deg

from calvaria.errors import CalvariaError, FormatError, InputError
from calvaria.implant.parts import Maps, Relief
from calvaria.implant.settings import ImplantSettings
from calvaria.io import read_mask, read_mesh, write_volume
from calvaria.jobs import unheard
from calvaria.reconstruction.confidence import Confidence
from calvaria.results.case import Clock, run_case
from calvaria.results.design_files import Origin, fill_design
from calvaria.results.designing import designable, run_design
from calvaria.results.record import Input
from calvaria.results.settings import Settings

OWN = ["design.json", "design.png", "host.stl", "implant.3mf", "implant.nrrd", "implant.stl", "report.html"]
RECONSTRUCTED = ["completed.nrrd", "patch.nrrd", "patch.stl", "preview.png", "result.json"]
PLAIN = Settings(preview=False)
ORIGIN = Origin(
    Input(".nrrd", (1, 2, 3), (1.0, 1.0, 2.0), "0" * 64), Settings(), Confidence(0.9, "so"), ("look",), ".nrrd"
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gives_the_reconstruction_and_the_implant(designer, skull, tmp_path, capsys):
    seen = []
    record = run_design(skull, tmp_path / "out", Settings(), ImplantSettings(), lambda *state: seen.append(state))
    assert names(tmp_path / "out") == sorted(OWN + RECONSTRUCTED)
    assert record.to_json() == json.loads((tmp_path / "out" / "design.json").read_text())
    assert list(record.files) == OWN
    assert record.surface_from == "field"
    assert record.confidence == Confidence(0.94, "like the validation cases")
    assert set(record.seconds.steps) == {
        "read",
        "load",
        "reconstruct",
        "picture",
        "write",
        "design",
        "export",
        "report",
    }
    assert record.seconds.stages == {"body": 0.25}
    assert tuple(capsys.readouterr()) == ("", "")
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert (seen[0], seen[-1]) == (("read", 0.0), ("done", 1.0))
    assert ("body", 0.5 + 0.5 * 0.8 * 0.5) in seen


def test_the_reconstruction_beside_it_is_that_of_reconstruct(designer, skull, tmp_path):
    run_design(skull, tmp_path / "out", Settings(), ImplantSettings())
    alone = run_case(skull, tmp_path / "alone", Settings())
    for name in ("completed.nrrd", "patch.nrrd", "patch.stl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["files"] == list(alone.files) == RECONSTRUCTED
    assert set(found["seconds"]) == set(alone.to_json()["seconds"])


def test_a_folder_of_results_gives_the_bone_without_the_patch_and_its_pose(designer, finished, tmp_path):
    record = run_design(finished, tmp_path / "out", Settings(), ImplantSettings(thickness_mm=5.0))
    asked = next(call for call in designer.calls if "patch" in call)
    assert np.array_equal(asked["patch"].mask, hole().mask)
    assert np.array_equal(asked["defective"].mask, defective().mask)
    assert np.array_equal(asked["frame"], np.eye(4))
    assert asked["settings"] == ImplantSettings(thickness_mm=5.0)
    assert names(tmp_path / "out") == OWN
    assert record.surface_from == "mask"
    before = json.loads((finished / "result.json").read_text())
    assert record.to_json()["input"] == before["input"]
    assert record.to_json()["confidence"] == before["confidence"]
    assert record.reconstruction == Settings(kind="mask")


def test_a_folder_of_results_may_take_the_implant_itself(designer, finished):
    before = {name: (finished / name).read_bytes() for name in names(finished)}
    run_design(finished, finished, PLAIN, ImplantSettings())
    assert names(finished) == sorted([*before, *(name for name in OWN if name not in ("design.png", "report.html"))])
    assert all((finished / name).read_bytes() == held for name, held in before.items())


def test_two_runs_give_the_same_bytes(designer, finished, skull, tmp_path):
    for number, source in enumerate((finished, finished, skull, skull)):
        run_design(source, tmp_path / str(number), PLAIN, ImplantSettings())
    for name in ("implant.stl", "implant.3mf", "implant.nrrd", "host.stl"):
        assert len({(tmp_path / str(number) / name).read_bytes() for number in range(4)}) == 1, name


def test_several_implants_and_their_moulds_have_numbers_and_those_of_before_go(designer, finished, tmp_path):
    designer.parts = 3
    run_design(finished, tmp_path, PLAIN, ImplantSettings(mould=True))
    designer.parts = 2
    record = run_design(finished, tmp_path, PLAIN, ImplantSettings(mould=True))
    numbered = [f"{name}-{n}" for name in ("implant", "mould-lower", "mould-upper") for n in (1, 2)]
    meshes = sorted(path.stem for path in tmp_path.glob("*.stl") if path.stem != "host")
    assert meshes == sorted(numbered)
    assert [part.name for part in record.parts] == ["implant-1", "implant-2"]
    assert record.parts[1].files == ("implant-2.3mf", "implant-2.stl", "mould-lower-2.stl", "mould-upper-2.stl")
    assert "insertion" not in record.to_json()
    assert [part["insertion"] for part in record.to_json()["parts"]] == [
        {"direction_lps": [-1.0, 0.0, 0.0], "travel_mm": 30.0}
    ] * 2
    designer.parts = 1
    run_design(finished, tmp_path, PLAIN, ImplantSettings(mould=True))
    meshes = sorted(path.stem for path in tmp_path.glob("*.stl") if path.stem != "host")
    assert meshes == ["implant", "mould-lower", "mould-upper"]


def test_a_new_reconstruction_takes_the_implant_of_the_old_patch_away(designer, finished, skull):
    designer.parts = 2
    run_design(finished, finished, Settings(), ImplantSettings(mould=True))
    (finished / "notes.txt").write_text("mine")
    run_case(skull, finished, Settings())
    assert names(finished) == sorted(["notes.txt", *RECONSTRUCTED])


def test_a_page_of_an_evaluation_is_no_implant(designer, finished, skull):
    (finished / "report.html").write_text("scores")
    run_case(skull, finished, PLAIN)
    assert (finished / "report.html").read_text() == "scores"


def test_the_page_has_the_record_and_the_picture(designer, finished, tmp_path):
    run_design(finished, tmp_path / "out", Settings(), ImplantSettings())
    told = next(call["page"] for call in designer.calls if "page" in call)
    found = json.loads((tmp_path / "out" / "design.json").read_text())
    for changes in ("seconds", "peak_memory_mb"):
        del told[changes], found[changes]
    assert told == found
    assert (tmp_path / "out" / "report.html").read_text() == "<!doctype html><title>warn</title>"


def test_the_files_hold_the_implant_as_it_is(tmp_path):
    design = cap()
    origin = replace(ORIGIN, settings=PLAIN)
    fill_design(tmp_path, design, origin, Clock(), unheard)
    assert b"SPACE=LPS" in (tmp_path / "implant.stl").read_bytes()[:80]
    mesh = design.parts[0].mesh
    assert read_mesh(tmp_path / "implant.stl").volume_ml == pytest.approx(mesh.volume_ml, rel=1e-4)
    mask = read_mask(tmp_path / "implant.nrrd")
    assert mask.grid.same_as(design.bone.grid)
    assert mask.volume_ml == pytest.approx(mesh.volume_ml, rel=0.01)
    assert not (mask.mask & design.bone.mask).any()
    assert read_mesh(tmp_path / "host.stl").volume_ml == pytest.approx(design.host.volume_ml, rel=1e-4)


def test_an_implant_in_figures(tmp_path):
    design = cap()
    relief = Relief(1.23456, 0.123456, np.float64(0.5))
    design = replace(design, parts=(replace(design.parts[0], relief=relief),))
    (part,) = fill_design(tmp_path, design, replace(ORIGIN, settings=PLAIN), Clock(), unheard).parts
    area = 2 * np.pi * OUTER_MM**2 * (1 - np.cos(np.radians(edge_deg()))) / 100
    assert part.area_cm2 == pytest.approx(area, rel=0.01)
    assert part.thickness_mm == 4.0
    assert part.volume_ml == round(design.parts[0].mesh.volume_ml, 4)
    assert part.triangles == len(design.parts[0].mesh.faces)
    assert part.relief == Relief(1.235, 0.1235, 0.5)


def test_a_measured_thickness_is_told_before_the_one_asked_for(tmp_path):
    measured = np.full(len(cap().parts[0].body.vertices_mm), 3.75)
    measured[::2] = np.nan
    design = replace(cap(), maps=(Maps(measured, measured),))
    (part,) = fill_design(tmp_path, design, replace(ORIGIN, settings=PLAIN), Clock(), unheard).parts
    assert part.thickness_mm == 3.75


def test_figures_of_checks_are_rounded_and_plain(designer, finished, tmp_path):
    more = (
        replace(designer.checks[0], name="loose", value=np.bool_(False)),
        replace(designer.checks[1], name="nowhere", value=float("inf"), verdict="fail"),
        replace(designer.checks[1], name="single", value=np.float32(0.1)),
    )
    designer.checks += more
    record = run_design(finished, tmp_path, PLAIN, ImplantSettings())
    values = {check["name"]: check["value"] for check in record.to_json()["checks"]}
    assert values == {
        "watertight": True,
        "clearance, least": 0.5123,
        "outer step": 0.34,
        "loose": False,
        "nowhere": None,
        "single": 0.1,
    }
    assert record.verdict == record.to_json()["verdict"] == "fail"
    assert [check.name for check in record.failed] == ["nowhere"]


def test_nothing_tells_whose_it_is_and_the_3mf_not_even_the_mark(designer, skull, tmp_path):
    settings = ImplantSettings(mark="Mustermann", thickness_mm=5.5)
    run_design(skull, tmp_path / "out", PLAIN, settings)
    text = (tmp_path / "out" / "design.json").read_text()
    assert json.loads(text)["parameters"]["mark"] == "Mustermann"  # asked for, and needed to make it again
    assert text.count("Mustermann") == 1
    assert str(tmp_path) not in text
    with zipfile.ZipFile(tmp_path / "out" / "implant.3mf") as archive:
        model = archive.read("3D/3dmodel.model").decode()
    assert "Mustermann" not in model
    assert "LPS" in model
    assert "thickness_mm=5.5" in model
    assert "put in along (-1.000, 0.000, 0.000)" in model


def test_warnings_of_all_steps_stand_in_it_once(engine, designer, finished, tmp_path):
    engine.warnings = ("the lower edge is cut", "far")
    designer.notes = ("far", "two pieces")
    run_case(tmp_path / "Erika Mustermann.nrrd", finished, PLAIN)
    record = run_design(finished, tmp_path / "out", PLAIN, ImplantSettings())
    assert record.warnings == ("the lower edge is cut", "far", "two pieces")


def spoil(finished, **changes):
    path = finished / "result.json"
    found = json.loads(path.read_text())
    found.update(changes)
    path.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))


def mirrored():
    return {"canonical_to_world": np.diag([-1.0, 1.0, 1.0, 1.0]).tolist()}


SPOILED = {
    "schema": ({"schema": 1}, r"result\.json: its schema is 1, this version of calvaria reads 2; make it again"),
    "pose": ({"pose": None}, r"result\.json: it has no 'pose': it is not as calvaria writes it"),
    "mirrored": ({"pose": mirrored()}, r"result\.json: pose\.canonical_to_world is no rigid map, \(4, 4\)"),
    "no matrix": ({"pose": {"canonical_to_world": [[1, 2], [3]]}}, r"a value in it is not of the kind"),
    "null": ({"pose": {"canonical_to_world": [[None] * 4] * 4}}, r"pose\.canonical_to_world is no rigid map"),
    "empty": ({"patch": {"empty": True, "volume_ml": 0.0}}, r"no hole was found in this skull: the patch is empty"),
    "confidence": ({"confidence": {"reason": "x"}}, r"it has no 'expected_dsc'"),
    "parameters": ({"parameters": {"kind": "shoe"}}, r"the reconstruction's kind is none that it can have; got 'shoe'"),
    "other parameters": ({"parameters": {"colour": 1}}, r"a reconstruction has no parameter colour"),
    "warnings": ({"warnings": "x"}, r"a value in it is not of the kind that calvaria writes: a list of texts"),
    "another patch": (
        {"patch": {"empty": False, "volume_ml": 7.0}},
        r"patch\.nrrd is not the one that result\.json is about: it has 0\.720 ml, not 7\.000 ml; to design",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_record_that_cannot_be_used_is_one_line(designer, finished, tmp_path, what):
    changes, message = SPOILED[what]
    spoil(finished, **changes)
    with pytest.raises(InputError, match=message) as caught:
        run_design(finished, tmp_path / "out", PLAIN, ImplantSettings())
    assert str(caught.value).startswith(f"{finished}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"result\.json: this is not JSON"),
        ("[]", r"a JSON object is wanted; got a list"),
        ("", r"result\.json: the file is empty"),
    ],
)
def test_a_record_that_is_none_is_one_line(designer, finished, tmp_path, text, message):
    (finished / "result.json").write_text(text)
    with pytest.raises(InputError, match=message):
        run_design(finished, tmp_path / "out", PLAIN, ImplantSettings())


def test_images_that_are_missing_or_do_not_belong_are_one_line(designer, finished, tmp_path):
    def refused(message):
        with pytest.raises(CalvariaError, match=message):
            run_design(finished, tmp_path / "out", PLAIN, ImplantSettings())

    write_volume(finished / "completed.nrrd", defective())
    refused(r"patch\.nrrd reaches beyond completed\.nrrd: they do not belong together; to design for another patch")
    write_volume(finished / "completed.nrrd", hole())
    refused(r"completed\.nrrd holds nothing but the patch: there is no bone around the hole")
    write_volume(finished / "completed.nrrd", defective().flip((0,)))
    refused(r"patch\.nrrd and completed\.nrrd must lie on one grid")
    (finished / "completed.nrrd").unlink()
    refused(r"no completed\.nrrd beside patch\.nrrd: run calvaria reconstruct again")
    (finished / "patch.nrrd").write_text("rubbish")
    (finished / "completed.nrrd").write_text("rubbish")
    refused(r"patch\.nrrd: named like NRRD, but it does not begin like one")
    (finished / "patch.nrrd").unlink()
    refused(r"no patch beside result\.json; wanted patch\.nrrd, patch\.nii\.gz, patch\.mha: run calvaria reconstruct")
    (finished / "result.json").unlink()
    refused(r"this folder holds no result\.json; give one that calvaria reconstruct wrote")


def test_results_of_another_run_are_not_mixed_with_a_design(designer, finished, skull, tmp_path):
    run_case(skull, tmp_path / "other", PLAIN)
    with pytest.raises(InputError, match=r"other: results of another run lie there; give \S+results itself or a new"):
        run_design(finished, tmp_path / "other", PLAIN, ImplantSettings())


def test_a_skull_without_a_hole_gives_no_implant_and_no_files(engine, designer, skull, tmp_path):
    engine.empty = True
    with pytest.raises(InputError, match=r"no defect of 5 ml or more was found, so there is no implant to design"):
        run_design(skull, tmp_path / "out", Settings(), ImplantSettings())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["skull", "finished"])
def test_an_implant_that_cannot_be_is_one_line_with_the_source_and_no_files(
    designer, skull, finished, tmp_path, which, request
):
    designer.error = InputError("nothing is left of the implant after a clearance of 4 mm")
    source = request.getfixturevalue(which)
    with pytest.raises(InputError, match=rf"{re.escape(source.name)}: nothing is left of the implant"):
        run_design(source, tmp_path / "out", Settings(), ImplantSettings(clearance_mm=4.0))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_found_before_reading(designer, finished, skull, tmp_path, monkeypatch):
    def refuse(path, **options):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("calvaria.io.read_volume", refuse)
    monkeypatch.setattr("calvaria.io.read_mask", refuse)
    (tmp_path / "out" / "implant.3mf").mkdir(parents=True)
    for source in (skull, finished):
        with pytest.raises(InputError, match=r"implant\.3mf: this is a folder, where a file is to be written"):
            run_design(source, tmp_path / "out", Settings(), ImplantSettings())


def test_an_input_that_the_implant_would_replace_is_refused(designer, skull, tmp_path):
    mine = tmp_path / "implant.nrrd"
    shutil.copy(skull, mine)
    with pytest.raises(InputError, match=r"implant\.nrrd: the results would replace the input; give another folder"):
        run_design(mine, tmp_path, PLAIN, ImplantSettings())


def test_design_json_comes_last_and_is_away_meanwhile(designer, skull, tmp_path, monkeypatch):
    run_design(skull, tmp_path / "out", PLAIN, ImplantSettings())
    moved = []

    rename = os.replace

    def replaced(source, target):
        if target.parent != tmp_path / "out":  # the files themselves, while they are written
            rename(source, target)
            return
        there = names(tmp_path / "out")
        assert "design.json" not in there
        assert "result.json" not in there or moved[-1] == "result.json"
        moved.append(target.name)
        rename(source, target)

    monkeypatch.setattr("calvaria.results.staging.os.replace", replaced)
    run_design(skull, tmp_path / "out", PLAIN, ImplantSettings())
    assert moved[-2:] == ["result.json", "design.json"]


def test_the_cases_of_a_folder_are_its_images_or_else_its_folders_of_results(designer, finished, skull, tmp_path):
    shutil.move(finished, tmp_path / "many" / "sub" / "b")
    shutil.copytree(tmp_path / "many" / "sub" / "b", tmp_path / "many" / "a")
    assert [case.name for case in designable(tmp_path / "many")] == ["a", "sub/b"]
    shutil.copy(skull, tmp_path / "many" / "c.nrrd")
    assert [case.name for case in designable(tmp_path / "many")] == ["c"]
    shutil.copy(skull, tmp_path / "many" / "c.mha")
    with pytest.raises(InputError, match="two files are called c"):
        designable(tmp_path / "many")
    (tmp_path / "many" / "a" / "result.json").unlink()
    with pytest.raises(InputError, match=r"a: a patch and a completed skull, but no result\.json: run calvaria recon"):
        designable(tmp_path / "many" / "a")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none: no image in this folder"):
        designable(tmp_path / "none")


def test_a_damaged_record_is_told_by_its_kind(designer, finished, tmp_path):
    spoil(finished, schema=None)
    with pytest.raises(FormatError, match="its schema is None"):
        run_design(finished, tmp_path / "out", PLAIN, ImplantSettings())
