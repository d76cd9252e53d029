"""Options of the commands that can give their results back as DICOM."""

from __future__ import annotations

from typing import Annotated

import typer

from calvaria.results.dicom_out import DicomAsked

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


def dicom_asked(dicom: bool, deidentify: bool) -> DicomAsked | None:
    """What the two options ask for together; None for nothing. The second asks for DICOM by itself."""
    return DicomAsked(deidentify) if dicom or deidentify else None


__all__ = ["Deidentify", "Dicom", "dicom_asked"]
