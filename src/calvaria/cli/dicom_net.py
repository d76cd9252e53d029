"""``calvaria dicom fetch``, ``send`` and ``echo``: a study from a hospital's archive, results into it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.in_place import Command, fields_as_options, in_place_of
from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calvaria.io.archive import Access, ArchiveAddress, Sent, StudyFound


FETCH_EXAMPLES = """\b
Examples:
  calvaria dicom fetch https://pacs.example/dicom-web -o study.zip --accession 4711
  calvaria dicom fetch dicom://ORTHANC@localhost:4242 -o study --patient 0815 --date 2024-01-31
  calvaria reconstruct study.zip -o out --dicom
"""

SEND_EXAMPLES = """\b
Examples:
  calvaria dicom send out https://pacs.example/dicom-web --token-file token
  calvaria dicom send out dicoms://ORTHANC@pacs.example:2762 --ca-file hospital.pem
"""

ECHO_EXAMPLES = """\b
Examples:
  calvaria dicom echo dicom://ORTHANC@localhost:4242
  calvaria dicom echo https://pacs.example/dicom-web
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

Address = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE", help="https://HOST/PATH (DICOMweb), dicom://AETITLE@HOST:PORT, or dicoms://..."),
]


@dataclass(frozen=True)
class Connection:
    """How an archive is reached: the options' values."""

    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="S", help="Seconds to wait for the connection, and for each sign of life."),
    ] = 30.0
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="PEM", help="Who vouches for the archive.  [default: the system's authorities]"
        ),
    ] = None
    cert: Annotated[
        Path | None, typer.Option("--cert", metavar="PEM", help="A certificate of ours, if it wants one.")
    ] = None
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PEM", help="Its private key, if not in the same file.")
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Holds a bearer token.  [default: CALVARIA_DICOM_TOKEN]"),
    ] = None
    login_file: Annotated[
        Path | None,
        typer.Option(
            "--login-file",
            metavar="FILE",
            help="Holds user:password.  [default: CALVARIA_DICOM_USER, CALVARIA_DICOM_PASSWORD]",
        ),
    ] = None
    ae_title: Annotated[str, typer.Option("--ae-title", metavar="TITLE", help="What dicom:// archives know us by.")] = (
        "CALVARIA"
    )


def with_connection_options(command: Command) -> Command:
    """Give a command the options of a connection in place of its parameter ``connection``."""
    return in_place_of("connection", fields_as_options(Connection), Connection)(command)


@with_connection_options
def fetch(
    context: typer.Context,
    archive: Address,
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PATH", help="A new folder, or a name that ends in .zip.")
    ],
    study: Annotated[str | None, typer.Option("--study", metavar="UID", help="The study, by its UID,")] = None,
    accession: Annotated[
        str | None, typer.Option("--accession", metavar="N", help="or by its accession number,")
    ] = None,
    patient: Annotated[
        str | None, typer.Option("--patient", metavar="ID", help="or by the patient's number (no name).")
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DAY", help="Of the study: YYYY-MM-DD, or FROM:TO.")
    ] = None,
    series: Annotated[
        str | None, typer.Option("--series", metavar="NUMBER", help="This series alone, by number or UID.")
    ] = None,
    modality: Annotated[
        str, typer.Option("--modality", metavar="CODE", help="Series of this kind alone; all takes every.")
    ] = "CT",
    connection: Connection,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch a study from an archive, ready for calvaria reconstruct.

    By DICOMweb (QIDO-RS, WADO-RS) or C-FIND and C-GET; C-MOVE is not used. Several studies that match are listed, and
    none is fetched. Nothing is left if fewer slices come than were announced. Credentials never stand on the command
    line nor in the address.
    """
    from calvaria.io.archive import ManyStudiesError, StudyQuery, parse_address
    from calvaria.io.archive import fetch as fetch_study

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    address = parse_address(archive)
    kind = modality if modality == "all" else modality.upper()
    query = StudyQuery(study, accession, patient, date, kind, series)
    access = _access(address, connection)
    try:
        with screen.progress() as progress:
            done = fetch_study(address, query, output, access=access, progress=progress)
    except ManyStudiesError as error:
        _show_studies(error.studies, screen)
        raise
    screen.say(f"{done.path}: {done.slices} slices of {len(done.series)} series, {done.size_bytes / 1e6:.1f} MB")
    screen.json(
        {
            "path": str(done.path),
            "slices": done.slices,
            "size_bytes": done.size_bytes,
            "series": [{"number": one.number, "modality": one.modality} for one in done.series],
        }
    )


@with_connection_options
def send(
    context: typer.Context,
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS", help="A folder of results (its dicom/), a folder or zip of DICOM, or a file."
        ),
    ],
    archive: Address,
    *,
    connection: Connection,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Store results in an archive.

    By DICOMweb (STOW-RS) or C-STORE; each file is sent once. What was refused is said, and why; the exit
    code is then 2. Credentials never stand on the command line nor in the address.
    """
    from calvaria.io.archive import parse_address
    from calvaria.io.archive import send as send_files

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    address = parse_address(archive)
    access = _access(address, connection)
    with screen.progress() as progress:
        done = send_files(address, results, access=access, progress=progress)
    _say_sent(done, address.name, screen)
    if done.refused:
        count = len(done.outcomes)
        screen.error(
            f"{address.name}: {len(done.refused)} of {count} files were not stored; those that were stay there"
        )
        raise typer.Exit(2)


@with_connection_options
def echo(
    context: typer.Context,
    archive: Address,
    *,
    connection: Connection,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Say whether an archive answers, and lets one in: by C-ECHO, or by a search of DICOMweb."""
    from calvaria.io.archive import echo as ask
    from calvaria.io.archive import parse_address

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    address = parse_address(archive)
    access = _access(address, connection)
    began = time.monotonic()
    ask(address, access=access)
    seconds = time.monotonic() - began
    screen.say(f"{address.name}: answers ({seconds:.2f} s)")
    screen.json({"archive": address.name, "seconds": round(seconds, 3)})


def _access(address: ArchiveAddress, by: Connection) -> Access:
    """The options as the library takes them; what stands in the environment is for DICOMweb alone."""
    from calvaria.io.archive import Access, credentials_from

    environment: dict[str, str] | None = None if address.is_web else {}
    credentials = credentials_from(token_file=by.token_file, login_file=by.login_file, environment=environment)
    return Access(by.timeout, by.ca_file, by.cert, by.key, credentials, by.ae_title)


def _show_studies(studies: Sequence[StudyFound], screen: Screen) -> None:
    """What matches, without whose it is; a UID only where the date does not tell."""
    from rich import box
    from rich.table import Table

    from calvaria.io.archive.query import MAX_LISTED

    days = Counter(one.date for one in studies)
    table = Table("date", "description", "modalities", "series", "--study", box=box.SIMPLE_HEAD)
    rows = []
    for one in studies[:MAX_LISTED]:
        uid = one.uid if days[one.date] > 1 or not one.date else None
        count = "-" if one.series is None else str(one.series)
        kinds = ", ".join(one.modalities) or "-"
        table.add_row(_plain(one.date or "-"), _plain(one.description or "-"), kinds, count, uid or "")
        shown = {"date": one.date, "description": one.description, "modalities": list(one.modalities)}
        rows.append(shown | {"series": one.series, "study": uid})
    screen.show(table)
    if len(studies) > MAX_LISTED:
        screen.say(f"and {len(studies) - MAX_LISTED} more")
    screen.json(rows)


def _plain(text: str) -> str:
    """A text that came over the net, without what a terminal would take for a command, nor rich for markup."""
    from rich.markup import escape

    return escape("".join(letter for letter in text[:64] if letter.isprintable()))


def _say_sent(done: Sent, name: str, screen: Screen) -> None:
    changed = sum(one.changed for one in done.stored)
    more = f" ({changed} with values that it changed)" if changed else ""
    screen.say(f"{name}: {len(done.stored)} of {len(done.outcomes)} files stored{more}")
    reasons: dict[str, list[str]] = {}
    for one in done.refused:
        reasons.setdefault(str(one.reason), []).append(one.name)
    for reason, names in reasons.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        screen.say(f"not stored, {reason}: {shown}")
    if done.others:
        screen.say(f"{done.others} files are not DICOM and were left out")
    screen.json(
        {
            "archive": name,
            "stored": [one.name for one in done.stored],
            "refused": [asdict(one) for one in done.refused],
            "left_out": done.others,
        }
    )


__all__ = ["ECHO_EXAMPLES", "FETCH_EXAMPLES", "SEND_EXAMPLES", "echo", "fetch", "send"]
