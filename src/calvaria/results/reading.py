"""What is read of a case: an image, a mesh or a DICOM series, with what the record says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria.errors import InputError
from calvaria.results.names import image_suffix, is_dicom, is_mesh
from calvaria.results.record import Input
from calvaria.results.settings import Kind, Settings

if TYPE_CHECKING:
    from calvaria.io.dicom import DicomSource
    from calvaria.volume import Volume


@dataclass(frozen=True, eq=False)
class CaseRead:
    """A skull's file as it was read.

    Args:
        volume: the voxels.
        geometry: what is recorded of a DICOM series' geometry; None of other files.
        dicom: where a DICOM series comes from; None of other files.
    """

    volume: Volume
    geometry: dict[str, Any] | None = None
    dicom: DicomSource | None = field(default=None, repr=False)

    def kind(self, asked: Kind) -> Kind:
        """What the volume is: DICOM is a CT by its modality, where it is not said otherwise."""
        return "ct" if self.dicom is not None and asked == "auto" else asked


def read_case(source: Path, settings: Settings, notes: list[str]) -> CaseRead:
    """A series of DICOM slices, an image as it is, or a closed mesh; what is doubtful of it in ``notes``.

    Raises:
        CalvariaError: it cannot be read.
    """
    if is_dicom(source):
        from calvaria.io.dicom import read_dicom

        found = read_dicom(source, settings.series, notes, study=settings.study)
        return CaseRead(found.volume, found.geometry, found.source)
    for option, value in (("--series", settings.series), ("--study", settings.study)):
        if value is not None:
            raise InputError(f"{source.name}: {option} is for DICOM, and this is none; leave it out")
    return CaseRead(read_input(source, settings.orientation, notes))


def read_input(source: Path, orientation: str | None, notes: list[str]) -> Volume:
    """An image as it is, what is doubtful of it in ``notes``; a closed mesh as a mask on a grid of its own.

    Raises:
        CalvariaError: the file cannot be read.
    """
    from calvaria.io import read_as_mask, read_volume

    if is_mesh(source):
        return read_as_mask(source)
    return read_volume(source, orientation=orientation, notes=notes)


def input_of(source: Path, volume: Volume, geometry: dict[str, Any] | None = None) -> Input:
    """What is recorded of a file, or a DICOM series with its geometry, and the volume that was read from it."""
    from calvaria.io import sha256_of
    from calvaria.io.result import sha256_of_volume

    return Input(
        format=(image_suffix(source) or source.suffix.lower()) if geometry is None else "DICOM",
        shape=volume.shape,
        spacing_mm=tuple(round(float(step), 6) for step in volume.grid.spacing_mm),
        sha256=sha256_of(source) if geometry is None else sha256_of_volume(volume),
        geometry=geometry,
    )


__all__ = ["CaseRead", "input_of", "read_case", "read_input"]
