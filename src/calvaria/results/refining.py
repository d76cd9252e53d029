"""A given patch of one skull, from two files to a folder of results: what ``calvaria refine`` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calvaria.jobs import Progress, unheard
from calvaria.results.case import (
    Clock,
    Inputs,
    engine_share,
    publish,
    require_dicom,
    require_place,
)
from calvaria.results.dicom_out import DicomAsked, archive_for
from calvaria.results.names import is_mesh
from calvaria.results.reading import input_of, read_case, read_input
from calvaria.results.record import Record
from calvaria.results.settings import Settings

if TYPE_CHECKING:
    from calvaria.volume import Grid, Volume


def run_refine(
    source: Path,
    patch: Path,
    output: Path,
    settings: Settings,
    progress: Progress = unheard,
    *,
    dicom: DicomAsked | None = None,
) -> Record:
    """Refine one patch and write it, the completed skull, the surface, pictures and result.json.

    Args:
        source: the defective skull: a CT, a mask, or its bone as a closed mesh.
        patch: the missing bone: a mask on any grid, or a closed mesh; or the completed skull.
        output: folder for the results; nothing half written is ever in it.
        settings: what is asked for; ``refine`` is recorded as True whatever it says.
        progress: called with the stage and the fraction done.
        dicom: what is asked for of DICOM; None: nothing.

    Returns:
        What result.json holds.

    Raises:
        CalvariaError: a file cannot be read or used, or the folder cannot be written to: this before any reading.
    """
    clock = Clock()
    progress("read", 0.0)
    require_place(output, source, patch)
    require_dicom(source, dicom)
    notes: list[str] = []
    read = read_case(source, settings, notes)
    volume = read.volume
    given = _read_patch(patch, volume.grid, settings.orientation, notes)
    clock.lap("read")
    from calvaria.pipeline import refine  # after reading: a bad file is reported at once

    clock.lap("load")
    result = refine(
        volume,
        given,
        engine=settings.engine,
        kind=read.kind(settings.kind),
        threshold_hu=settings.threshold_hu,
        device=settings.device,
        trust=settings.trust,
        progress=engine_share(progress),
        name=source.name,
        patch_name=patch.name,
    )
    clock.lap("refine")
    inputs = Inputs(source, input_of(source, volume, read.geometry), input_of(patch, given), dicom=read.dicom)
    archive = archive_for(source.name, read.dicom, dicom)
    return publish(
        result, inputs, output, settings.refining(), clock=clock, notes=notes, progress=progress, archive=archive
    )


def _read_patch(path: Path, grid: Grid, orientation: str | None, notes: list[str]) -> Volume:
    """An image as it is, a closed mesh as a mask on the skull's grid; what is doubtful of it in ``notes``."""
    if is_mesh(path):
        from calvaria.io import read_as_mask

        return read_as_mask(path, grid)
    doubts: list[str] = []
    volume = read_input(path, orientation, doubts)
    notes += [f"the patch: {line}" for line in doubts]
    return volume


__all__ = ["run_refine"]
