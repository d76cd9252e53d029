"""The record of a design: typed here, plain in design.json, and back; and the settings that it gives back."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import InputError
from calvaria.implant.parts import Check, Relief
from calvaria.implant.settings import ImplantSettings
from calvaria.io import write_result_json
from calvaria.reconstruction.confidence import Confidence
from calvaria.results.design_record import Asked, DesignRecord, Insertion, PartRecord, read_asked
from calvaria.results.design_summary import design_lines, failed_line, short_lines
from calvaria.results.record import Input, Seconds
from calvaria.results.settings import Settings

PART = PartRecord(
    name="implant",
    files=("implant.3mf", "implant.stl"),
    insertion=Insertion((0.6, 0.0, -0.8), 30.0),
    relief=Relief(0.25, 0.125, 0.0),
    area_cm2=45.25,
    thickness_mm=4.0,
    volume_ml=18.0,
    triangles=12345,
)
CHECKS = (
    Check("watertight", True, "", "yes", "pass", "printers need it", "implant"),
    Check("clearance, mean", 0.71234, "mm", "0.5 to 0.9", "pass", "our choice", "implant"),
    Check("outer step", 0.34, "mm", "at most 0.3", "warn", "our choice", "implant"),
    Check("overlap with bone", None, "ml", "0", "fail", "it must go in"),
)
RECORD = DesignRecord(
    versions={"calvaria": "1"},
    input=Input(".nrrd", (3, 4, 5), (1.0, 1.0, 2.0), "0" * 64),
    reconstruction=Settings(kind="ct", threshold_hu=300.0),
    parameters=ImplantSettings(thickness_mm=5.0, mark="L 7"),
    parts=(PART,),
    checks=CHECKS,
    files=("design.json", "implant.stl"),
    confidence=Confidence(0.93, "as it is", 0.5, 30.0, 0.1),
    surface_from="field",
    seconds=Seconds({"read": 0.5, "design": 1.0}, {"body": 0.25}, 1.5),
    warnings=("look",),
    peak_memory_mb=500.0,
)
TWO = replace(RECORD, parts=(replace(PART, name="implant-1"), replace(PART, name="implant-2")))


def test_the_layout_is_the_documented_one():
    found = RECORD.to_json()
    assert set(found) == {
        "schema",
        "versions",
        "input",
        "reconstruction",
        "parameters",
        "insertion",
        "parts",
        "checks",
        "verdict",
        "files",
        "confidence",
        "surface_from",
        "seconds",
        "warnings",
        "peak_memory_mb",
    }
    assert found["schema"] == 1
    assert found["parameters"] == RECORD.parameters.to_json()
    assert set(found["parameters"]) == {one.name for one in fields(ImplantSettings)}
    assert found["insertion"] == {"direction_lps": [0.6, 0.0, -0.8], "travel_mm": 30.0}
    assert found["parts"][0] == {
        "name": "implant",
        "files": ["implant.3mf", "implant.stl"],
        "insertion": found["insertion"],
        "relief": {"depth_mm": 0.25, "volume_ml": 0.125, "narrow_ml": 0.0},
        "area_cm2": 45.25,
        "thickness_mm": 4.0,
        "volume_ml": 18.0,
        "triangles": 12345,
    }
    assert found["checks"][2] == {
        "name": "outer step",
        "value": 0.34,
        "unit": "mm",
        "limit": "at most 0.3",
        "verdict": "warn",
        "source": "our choice",
        "part": "implant",
    }
    assert found["seconds"] == {"read": 0.5, "design": 1.0, "stages": {"body": 0.25}, "total": 1.5}
    assert found["verdict"] == "fail"


@pytest.mark.parametrize("record", [RECORD, TWO, replace(RECORD, checks=(), peak_memory_mb=None)])
def test_what_was_written_is_read_back(tmp_path, record):
    path = tmp_path / "design.json"
    write_result_json(path, record.to_json())
    assert DesignRecord.from_json(json.loads(path.read_text())) == record


def test_the_verdict_is_the_worst():
    assert replace(RECORD, checks=()).verdict == "pass"
    assert replace(RECORD, checks=CHECKS[:2]).verdict == "pass"
    assert replace(RECORD, checks=CHECKS[:3]).verdict == "warn"
    assert RECORD.verdict == "fail"


@pytest.mark.parametrize("name", sorted(set(RECORD.to_json()) - {"verdict", "insertion"}))
def test_a_record_that_lacks_something_is_told(name):
    found = RECORD.to_json()
    del found[name]
    message = "its schema is None" if name == "schema" else f"it has no '{name}': it is not as calvaria writes it"
    with pytest.raises(InputError, match=message):
        DesignRecord.from_json(found)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("parts", 5, "a value in it is not of the kind that calvaria writes: 'int' object is not iterable"),
        ("parts", [{"name": "implant"}], "it has no 'insertion'"),
        ("checks", [{"colour": "red"}], "a value in it is not of the kind"),
        ("parameters", {"thickness_mm": 99}, "thickness_mm must be 2 to 10 mm; got 99"),
        ("files", "abc", "a list of texts is wanted; got 'abc'"),
        ("seconds", None, "a value in it is not of the kind"),
        ("input", [], "a value in it is not of the kind"),
    ],
)
def test_a_record_with_other_things_in_it_is_told(name, value, message):
    with pytest.raises(InputError, match=message):
        DesignRecord.from_json({**RECORD.to_json(), name: value})


def test_its_settings_come_back(tmp_path):
    path = tmp_path / "design.json"
    write_result_json(path, RECORD.to_json())
    assert read_asked(path) == Asked(RECORD.parameters, RECORD.reconstruction)


def test_of_a_file_by_hand_the_parameters_are_enough(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"parameters": {"thickness_mm": 6, "mould": true}}')
    assert read_asked(path) == Asked(ImplantSettings(thickness_mm=6, mould=True), Settings())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solid implant", "mine.json: this is not JSON: Expecting value"),
        ("[" * 100_000, "mine.json: this is not JSON: "),
        ("7", "mine.json: a JSON object is wanted; got a int"),
        ("", r"mine.json: the file is empty \(0 bytes\)"),
        ("{}", "mine.json: it has no parameters of an implant; give a design.json that calvaria design wrote"),
        ('{"parameters": [1]}', "mine.json: it has no parameters of an implant"),
        ('{"schema": 7, "parameters": {}}', "mine.json: its schema is 7, this version of calvaria reads 1"),
        ('{"parameters": {"colour": 1}}', "mine.json: an implant has no parameter colour"),
        ('{"parameters": {"thickness_mm": "4"}}', "mine.json: thickness_mm must be a number; got '4'"),
        ('{"parameters": {"thickness_mm": NaN}}', "mine.json: thickness_mm must be a number; got nan"),
        ('{"parameters": {"thickness_mm": null}}', "mine.json: thickness_mm must be a number; got None"),
        ('{"parameters": {"thickness_mm": true}}', "mine.json: thickness_mm must be a number; got True"),
        ('{"parameters": {"thickness_mm": 1' + "0" * 400 + "}}", "mine.json: thickness_mm must be a number; got 1000"),
        ('{"parameters": {"plate_seats": 2.5}}', "mine.json: plate_seats must be a whole number; got 2.5"),
        ('{"parameters": {"mould": "yes"}}', "mine.json: mould must be true or false; got 'yes'"),
        ('{"parameters": {"mark": 7}}', "mine.json: mark must be text; got 7"),
        ('{"parameters": {"thickness": ["bone"]}}', r"mine.json: thickness must be text; got \['bone'\]"),
        ('{"parameters": {"split": "often"}}', "mine.json: split must be one of auto, never; got 'often'"),
        ('{"parameters": {"min_wall_mm": 3, "thickness_mm": 2}}', "mine.json: no wall is thicker than the body"),
        ('{"parameters": {}, "reconstruction": {"refine": 1}}', "mine.json: the reconstruction's refine is none that"),
        ('{"parameters": {}, "reconstruction": {"min_hole_ml": true}}', "the reconstruction's min_hole_ml is none"),
        ('{"parameters": {}, "reconstruction": {"min_hole_ml": Infinity}}', "min_hole_ml must be a number; got inf"),
        ('{"parameters": {}, "reconstruction": {"colour": 1}}', "a reconstruction has no parameter colour"),
        ('{"parameters": {}, "reconstruction": 5}', "the parameters of the reconstruction are a JSON object; got 5"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_asked(path)
    assert "\n" not in str(caught.value)


def test_settings_that_are_no_text_or_not_there_are_one_line(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a\.json: this is not JSON"):
        read_asked(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: there is no such file"):
        read_asked(tmp_path / "b.json")


@given(
    st.builds(Settings, threshold_hu=st.none() | st.floats(0, 1e4), refine=st.booleans(), engine=st.text(max_size=5))
)
def test_settings_of_a_reconstruction_come_back(settings):
    from calvaria.results.read_back import settings_from

    assert settings_from(json.loads(json.dumps(asdict(settings)))) == settings


def test_a_design_in_words():
    assert design_lines(RECORD) == [
        "implant: 45.2 cm2, 4.0 mm thick, 18.0 ml, 23.4 g in PEEK",
        "checks: 2 pass, 1 warn, 1 fail",
        "  warn  outer step         0.34 mm       (limit: at most 0.3 mm)  implant",
        "  fail  overlap with bone  not measured  (limit: 0 ml)",
        "expected accuracy of the missing bone: DSC 0.93 (as it is)",
        "took 1.5 s, 500 MB",
    ]
    every = design_lines(RECORD, every_check=True)
    assert every[2:4] == [
        "  pass  watertight         yes           (limit: yes)             implant",
        "  pass  clearance, mean    0.7123 mm     (limit: 0.5 to 0.9 mm)   implant",
    ]
    plain = replace(RECORD, checks=(), confidence=Confidence(None, "why"), peak_memory_mb=None)
    assert design_lines(plain)[1:] == ["expected accuracy of the missing bone: unknown (why)", "took 1.5 s"]


def test_what_failed_in_words():
    assert failed_line(RECORD) == "1 check failed: overlap with bone: not measured (limit: 0 ml)"
    worse = replace(CHECKS[2], verdict="fail", value=123456.7, unit="", limit="")
    assert failed_line(replace(RECORD, checks=(CHECKS[3], worse))) == (
        "2 checks failed: overlap with bone: not measured (limit: 0 ml); outer step of implant: 123457"
    )


def test_one_of_many_in_words():
    assert short_lines(replace(TWO, checks=CHECKS[:2])) == [
        "implant-1: 45.2 cm2, 4.0 mm thick, 18.0 ml, 23.4 g in PEEK",
        "implant-2: 45.2 cm2, 4.0 mm thick, 18.0 ml, 23.4 g in PEEK",
        "checks: 2 pass",
    ]
    assert short_lines(RECORD)[-1] == failed_line(RECORD)
    assert short_lines(replace(RECORD, checks=()))[-1] == "checks: none"
