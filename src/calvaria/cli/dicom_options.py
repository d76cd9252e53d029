"""Options of the commands that can give their results back as DICOM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.errors import InputError

if TYPE_CHECKING:
    from calvaria.io.dicom.source import DicomSource
    from calvaria.results.dicom_out import Archive

Dicom = Annotated[
    bool,
    typer.Option(
        "--dicom/--no-dicom",
        help="Also write the results as DICOM (segmentation, implant, picture), which say who the patient is.",
    ),
]
Deidentify = Annotated[
    bool,
    typer.Option("--deidentify", help="Write the results as DICOM without patient and study, and with new UIDs."),
]


def archive_of(name: str, source: DicomSource | None, *, dicom: bool, deidentify: bool) -> Archive | None:
    """What is asked for of DICOM; None where nothing is.

    Args:
        name: of the input, for messages.
        source: where it comes from; None for an input that is not DICOM.
        dicom: whether results are to be written as DICOM.
        deidentify: whether they are, and nobody's.

    Raises:
        InputError: results as DICOM are asked for, but the input is none.
    """
    if not (dicom or deidentify):
        return None
    if source is None:
        asked = "--deidentify" if deidentify else "--dicom"
        raise InputError(f"{name}: {asked} needs a DICOM series as input, whose study the results go to; leave it out")
    from calvaria.results.dicom_out import Archive

    return Archive(source, deidentify)


__all__ = ["Deidentify", "Dicom", "archive_of"]
