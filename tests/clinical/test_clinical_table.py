"""Tables of clinical cases as spreadsheets write them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calvaria.clinical.table import COLUMNS, ClinicalTable, read_table
from calvaria.errors import FormatError, InputError

HEADING = "id,skull,implant,patch"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for name in ("a/skull.nrrd", "a/implant.stl", "patch.stl"):
        (tmp_path / name).write_text("x")
    return tmp_path


def table(folder: Path, *lines: str, heading: str = HEADING) -> ClinicalTable:
    path = folder / "cases.csv"
    path.write_text("\n".join((heading, *lines)) + "\n", encoding="utf-8")
    return read_table(path)


def reason(folder: Path, line: str, heading: str = HEADING) -> str:
    found = table(folder, line, heading=heading)
    assert not found.rows
    return found.refused[0].reason


def test_a_row_has_its_files_and_its_defaults(folder):
    row = table(folder, "p1,a/skull.nrrd,a/implant.stl,patch.stl").rows[0]
    assert (row.id, row.person, row.kind, row.convention, row.line) == ("p1", "p1", "auto", None, 2)
    assert (row.skull, row.implant, row.patch) == tuple(
        folder / name for name in ("a/skull.nrrd", "a/implant.stl", "patch.stl")
    )


def test_all_columns_are_read_in_any_order_and_in_capitals(folder):
    heading = "Notes,PATCH,Implant,Convention,Person,Kind,Skull,ID"
    row = table(folder, '"one, two",,a/implant.stl,RAS,Erika,CT,a/skull.nrrd,p1', heading=heading).rows[0]
    assert (row.id, row.kind, row.person, row.convention, row.patch) == ("p1", "ct", "Erika", "ras", None)
    assert set(heading.casefold().split(",")) == set(COLUMNS)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_write_is_read(folder, delimiter, encoding, newline):
    lines = [HEADING.replace(",", delimiter), "", delimiter.join(["p1", "a/skull.nrrd", "", "patch.stl"])]
    (folder / "cases.csv").write_bytes((newline.join(lines) + newline).encode(encoding))
    found = read_table(folder / "cases.csv")
    assert [(row.id, row.patch) for row in found.rows] == [("p1", folder / "patch.stl")]
    assert not found.warnings


def test_a_stated_separator_is_believed(folder):
    (folder / "cases.csv").write_bytes(b"sep=|\r\nid|skull|implant\r\np1|a/skull.nrrd|a/implant.stl\r\n")
    found = read_table(folder / "cases.csv")
    assert [(row.id, row.line) for row in found.rows] == [("p1", 3)]


def test_windows_latin_is_read_and_said(folder):
    (folder / "cases.csv").write_bytes(
        "id,skull,implant,notes\np1,a/skull.nrrd,a/implant.stl,Schädel\n".encode("cp1252")
    )
    found = read_table(folder / "cases.csv")
    assert len(found.rows) == 1
    assert "not UTF-8" in found.warnings[0]


def test_paths_may_be_windows_own_absolute_or_lead_outside(folder):
    inner = folder / "inner"
    inner.mkdir()
    lines = [f"p1,../a/skull.nrrd,{folder / 'patch.stl'},", "p2,..\\a\\skull.nrrd,../patch.stl,"]
    assert [row.skull.resolve() for row in table(inner, *lines).rows] == [(folder / "a/skull.nrrd").resolve()] * 2


def test_unknown_columns_are_warned_about(folder):
    found = table(folder, "p1,a/skull.nrrd,patch.stl,x", heading="id,skull,implant,surgeon")
    assert len(found.rows) == 1
    assert found.warnings == ("cases.csv: unknown columns are left out: surgeon",)


def test_an_empty_id_is_named_by_its_line(folder):
    found = table(folder, "p1,a/skull.nrrd,,patch.stl", ",a/skull.nrrd,,patch.stl")
    assert [row.id for row in found.rows] == ["p1"]
    assert (found.refused[0].name, found.refused[0].reason) == ("line 3", "the id is empty; give the case a name")


def test_all_rows_of_an_id_that_is_there_twice_are_refused(folder):
    found = table(folder, *(f"{name},a/skull.nrrd,,patch.stl" for name in ("p1", "p2", "P1")))
    assert [row.id for row in found.rows] == ["p2"]
    assert [(one.id, one.line) for one in found.refused] == [("p1", 2), ("P1", 4)]
    assert "occurs 2 times" in found.refused[0].reason


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "Erika Mustermann", "ä", "x" * 65, "dot."])
def test_an_id_that_is_no_folder_is_refused(folder, name):
    assert "cannot be a folder's name" in reason(folder, f"{name},a/skull.nrrd,,patch.stl")


def test_files_that_are_not_there_are_named(folder):
    assert "skull: " in reason(folder, "p1,b.nrrd,,patch.stl")
    assert "there is no such file; paths are relative" in reason(folder, "p1,a/skull.nrrd,gone.stl,")
    assert "this is a folder" in reason(folder, "p1,a/skull.nrrd,a,")


def test_a_row_needs_a_skull_and_something_to_put_into_it(folder):
    assert reason(folder, "p1,,a/implant.stl,") == "no skull is named; give a CT or a mask"
    assert "neither an implant nor a patch" in reason(folder, "p1,a/skull.nrrd,,")
    assert "neither an implant nor a patch" in reason(folder, "p1,a/skull.nrrd")


def test_a_kind_that_is_not_known_is_refused(folder):
    heading = "id,skull,implant,kind"
    assert "auto, mask, ct; got 'MR'" in reason(folder, "p1,a/skull.nrrd,patch.stl,MR", heading)


def test_a_row_that_is_too_long_is_refused(folder):
    assert "more than 4 cells; put text" in reason(folder, "p1,a/skull.nrrd,,patch.stl,one, two")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "save the sheet as CSV"),
        (b"id,skull\x00", "this is no text"),
        (b"id,implant\np1,x\n", "skull is missing"),
        (b"id,skull\np1,x\n", "implant or patch is missing"),
        (b"\n \n", "id, skull is missing; found nothing"),
        (b"id,skull,patch,id\np1,x,y,z\n", "the column id occurs twice"),
        (b"id,skull,patch\n", "has no row below its first line"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, content, message):
    path = tmp_path / "cases.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as found:
        read_table(path)
    assert str(found.value).startswith("cases.csv: ")


def test_a_broken_quote_is_no_crash(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("id,skull,patch\n" + '"' + "x" * (csv.field_size_limit() + 1) + "\n", encoding="utf-8")
    with pytest.raises(FormatError, match="not a CSV"):
        read_table(path)


def test_there_must_be_a_table(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "cases.csv")


@given(
    notes=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30), min_size=1, max_size=5
    ),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_notes_every_row_comes_back(folder, notes, delimiter):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["id", "skull", "patch", "notes"])
    writer.writerows([[f"p{n}", "a/skull.nrrd", "patch.stl", note] for n, note in enumerate(notes)])
    (folder / "cases.csv").write_bytes(text.getvalue().encode("utf-8"))
    found = read_table(folder / "cases.csv")
    assert [row.id for row in found.rows] == [f"p{n}" for n in range(len(notes))]
    assert not found.refused
