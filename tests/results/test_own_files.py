"""The patient's own bone as files: what is given, and where it stands in the record."""

from __future__ import annotations

import json
import shutil

import pytest

from calvaria.errors import InputError
from calvaria.results.case import run_case
from calvaria.results.designing import run_design
from calvaria.results.own_files import OwnFiles, require_one_case, require_unknown
from calvaria.results.settings import Settings


def test_none_given_is_none(tmp_path):
    assert OwnFiles.asked(None, None) is None
    assert OwnFiles().read(lambda path: pytest.fail("nothing is to be read")) == {}


def test_both_or_a_file_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match="--pre-op and --flap: give one of them"):
        OwnFiles.asked(tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"--flap .*none\.nrrd: there is no such file or folder"):
        OwnFiles.asked(None, tmp_path / "none.nrrd")


def test_a_folder_of_cases_and_a_known_patch_take_none(tmp_path):
    require_one_case(None, tmp_path)
    require_unknown(None, tmp_path)
    with pytest.raises(InputError, match=r"--pre-op is one patient's, and .* is a folder of cases"):
        require_one_case(OwnFiles(tmp_path), tmp_path)
    with pytest.raises(InputError, match=r"--flap: the missing bone in .* is known; leave this out"):
        require_unknown(OwnFiles(flap=tmp_path), tmp_path)


@pytest.mark.parametrize("which", ["pre_op", "flap"])
def test_the_scan_is_read_handed_on_and_recorded_without_its_name(engine, skull, truth, tmp_path, which):
    given = tmp_path / "mrs-smith.nrrd"
    shutil.copy(truth, given)
    record = run_case(skull, tmp_path / "out", Settings(preview=False), own=OwnFiles(**{which: given}))
    (asked,) = (call["own"] for call in engine.calls if "own" in call)
    assert set(asked) == {which, "own_name"}
    assert asked["own_name"] == "mrs-smith.nrrd"
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written == record.to_json()
    assert written["own_scan"]["sha256"] != written["input"]["sha256"]
    assert written["own_bone"]["fit"]["mean_mm" if which == "pre_op" else "kerf_mm"] in {0.05, 1.5}
    assert written["own_bone"]["share"] == 0.97
    assert "smith" not in json.dumps(written)


def test_without_one_nothing_is_said_of_it(engine, skull, tmp_path):
    written = run_case(skull, tmp_path / "out", Settings(preview=False)).to_json()
    assert "own_bone" not in written
    assert "own_scan" not in written


def test_results_take_no_scans_place(engine, skull, truth, tmp_path):
    (tmp_path / "out").mkdir()
    given = tmp_path / "out" / "patch.nrrd"
    shutil.copy(truth, given)
    with pytest.raises(InputError, match=r"patch\.nrrd: the results would replace the input"):
        run_case(skull, tmp_path / "out", Settings(), own=OwnFiles(given))


def test_a_design_hands_it_on_too(engine, designer, skull, truth, tmp_path):
    from calvaria.implant.settings import ImplantSettings

    run_design(skull, tmp_path / "out", Settings(preview=False), ImplantSettings(), own=OwnFiles(flap=truth))
    assert [set(call["own"]) for call in engine.calls if "own" in call] == [{"flap", "own_name"}]
    with pytest.raises(InputError, match="--flap: the missing bone in"):
        run_design(tmp_path / "out", tmp_path / "new", Settings(), ImplantSettings(), own=OwnFiles(flap=truth))
