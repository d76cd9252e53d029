"""Nothing that goes to or comes from an archive is logged, said or shown: no patient, no UID, no credentials."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from tests.dicom_files import IDENTITY
from tests.io.archive.archives import Behaviour, WebBehaviour, dimse_archive, web_archive
from tests.io.archive.test_dimse import PATIENT

from calvaria.cli import main
from calvaria.errors import CalvariaError
from calvaria.io.archive import StudyQuery, credentials_from, echo, fetch, parse_address, send

SECRETS = ["s3cret", *(part for value in IDENTITY.values() for part in (value, *value.split("^")) if len(part) > 2)]


def require_silent(text, study):
    uids = {one[name].value for one in study for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    assert [secret for secret in (*SECRETS, *uids) if secret.lower() in text.lower()] == []


@pytest.fixture
def everything_logged(caplog):
    """As a program that shows all that libraries have to say."""
    caplog.set_level(logging.DEBUG)
    names = ("pynetdicom", "pynetdicom.acse", "pynetdicom.events", "pydicom", "urllib3", "http")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield caplog
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


BEHAVIOURS = {
    "fine": Behaviour(),
    "short": Behaviour(missing=1),
    "breaks": Behaviour(breaks=9),
    "refuses": Behaviour(store_status=0xA700),
}


@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.parametrize("scheme", ["dicom", "http"])
def test_no_log_message_nor_repr_says_who_it_is(
    study, later, files, tmp_path, quick, everything_logged, capfd, name, scheme
):
    """A study that comes, one that does not, several that match, files that are stored and refused."""
    behaviour = replace(BEHAVIOURS[name])
    token = credentials_from(environment={"CALVARIA_DICOM_TOKEN": "s3cret"})
    access = replace(quick, credentials=token) if scheme == "http" else quick
    how = WebBehaviour(authorization="Bearer s3cret", cut=[1000] * 9 if name == "breaks" else [])
    said = []
    opened = (
        dimse_archive([*study, *later], behaviour)
        if scheme == "dicom"
        else web_archive([*study, *later], how, behaviour)
    )
    with opened as place:
        address = parse_address(place.url if scheme == "http" else f"dicom://{place[0]}")
        asked = (
            PATIENT,
            StudyQuery(study=study[0].StudyInstanceUID),
            StudyQuery(accession="ACC-99817", date="20190213"),
        )
        for number, query in enumerate(asked):
            try:
                found = fetch(
                    address, query, tmp_path / f"{number}.zip", access=access, progress=lambda *w: said.append(w)
                )
                said.append(repr(found))
            except CalvariaError as error:
                said.append(f"{error!r} {error.__cause__} {None if error.__suppress_context__ else error.__context__}")
        said.append(repr(send(address, files, access=access)))
        echo(address, access=access)
    shown = capfd.readouterr()
    require_silent(repr(said) + shown.out + shown.err + everything_logged.text, [*study, *later])


@pytest.mark.parametrize("scheme", ["dicom", "http"])
def test_no_line_nor_traceback_of_the_commands_does(
    study, files, tmp_path, everything_logged, capfd, monkeypatch, scheme
):
    monkeypatch.setenv("CALVARIA_DICOM_TOKEN", "s3cret")
    behaviour = Behaviour(missing=1)
    opened = dimse_archive(study, behaviour) if scheme == "dicom" else web_archive(study, None, behaviour)
    with opened as place:
        archive = place.url if scheme == "http" else f"dicom://{place[0]}"
        words = ["-v", "--timeout", "2"]
        codes = [
            main(["dicom", "fetch", archive, "-o", str(tmp_path / "a"), "--patient", IDENTITY["PatientID"], *words]),
            main(["dicom", "fetch", archive, "-o", str(tmp_path / "b"), "--patient", "NOBODY", *words]),
            main(["dicom", "send", str(files), archive, *words]),
            main(["dicom", "fetch", archive.replace("//", "//u:s3cret@"), "-o", str(tmp_path / "c"), *words]),
        ]
    assert codes == [2, 2, 0, 2]
    shown = capfd.readouterr()
    assert "fewer slices than it announced" in shown.err
    require_silent(shown.out + shown.err + everything_logged.text, study)
