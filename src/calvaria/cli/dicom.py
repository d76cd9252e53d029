"""``calvaria dicom``: what a study from the scanner holds; from an archive and to it (`calvaria.cli.dicom_net`)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli import dicom_net
from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen

if TYPE_CHECKING:
    from calvaria.io.dicom import SeriesInfo

LIST_EXAMPLES = """\b
Examples:
  calvaria dicom list study/
  calvaria dicom list study.zip --json
"""

EXAMPLES = """\b
Examples:
  calvaria dicom list study/
  calvaria dicom list study.zip --json
  calvaria dicom fetch dicom://ORTHANC@localhost:4242 -o study.zip --accession 4711
  calvaria dicom send out https://pacs.example/dicom-web
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

app = typer.Typer(
    help="Studies from the scanner and the archive.", epilog=EXAMPLES, no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """Studies from the scanner and the archive."""


app.command("fetch", epilog=dicom_net.FETCH_EXAMPLES)(dicom_net.fetch)
app.command("send", epilog=dicom_net.SEND_EXAMPLES)(dicom_net.send)
app.command("echo", epilog=dicom_net.ECHO_EXAMPLES)(dicom_net.echo)


@app.command("list", epilog=LIST_EXAMPLES)
def list_(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder with any folders in it, a zip, a DICOMDIR or a DICOM file.")
    ],
    *,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the series of a study: which can be used, and which is.

    The one marked with * is what the other commands take; --series NUMBER takes another, --study N one of several
    studies. Nothing that is said tells whose study it is.
    """
    from rich import box
    from rich.table import Table

    from calvaria.io.dicom import list_series

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    notes: list[str] = []
    found = list_series(path, notes)
    for text in notes:
        screen.warn(text)
    studies = len({one.study for one in found}) > 1
    columns = (
        *(["study"] if studies else []),
        "",
        "number",
        "modality",
        "slices",
        "size",
        "spacing mm",
        "tilt degrees",
        "kernel",
        "usable",
    )
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for one in found:
        table.add_row(*([str(one.study)] if studies else []), *_row(one))
    screen.show(table)
    screen.json([asdict(one) | {"usable": one.problem is None} for one in found])


def _row(one: SeriesInfo) -> tuple[str, ...]:
    spacing = "-"
    if one.spacing_mm is not None:
        across, down, between = one.spacing_mm
        plane = f"{across:.3f}" if across == down else f"{across:.3f} x {down:.3f}"
        spacing = f"{plane} x {between:.2f}"
    notes = f"yes ({'; '.join(one.notes)})" if one.notes else "yes"
    return (
        "*" if one.chosen else "",
        one.number,
        one.modality or "-",
        str(one.slices),
        f"{one.size[0]} x {one.size[1]}",
        spacing,
        "-" if one.tilt_degrees is None else f"{one.tilt_degrees:.1f}",
        one.kernel or "-",
        notes if one.problem is None else f"no: {one.problem}",
    )


__all__ = ["EXAMPLES", "LIST_EXAMPLES", "app", "list_"]
