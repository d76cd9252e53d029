"""The files of a design, and the record of it that stands beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria import __version__
from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import Progress
from calvaria.results.case import Clock, peak_memory_mb, versions
from calvaria.results.design_record import DesignRecord, Insertion, PartRecord
from calvaria.results.dicom_out import Archive, DicomAsked, dicom_files, picture_in, write_dicom
from calvaria.results.names import DESIGN
from calvaria.results.record import Input
from calvaria.results.settings import Settings

if TYPE_CHECKING:
    from calvaria.implant.parts import Check, Design, Part
    from calvaria.reconstruction.confidence import Confidence
    from calvaria.types import BoolArray
    from calvaria.volume import Grid, Volume

AXES = "Coordinates are LPS in mm: x to the patient's left, y to the back, z up"
"""3MF has no word for it."""

WARNING = "Research software, not a medical device"


@dataclass(frozen=True, eq=False)
class Origin:
    """What a design was made for.

    Args:
        input: what is recorded of the skull's file.
        settings: what its missing bone was asked for with; ``preview`` says whether the design is drawn.
        confidence: what accuracy to expect of the missing bone.
        warnings: of the missing bone.
        ending: the suffix of the image that is written.
        failed: gates of the reconstruction that failed; they are checks of the design too.
        made_of: one hash of the files that a known patch was read from; "" where it was not known.
    """

    input: Input
    settings: Settings
    confidence: Confidence
    warnings: tuple[str, ...]
    ending: str
    failed: tuple[Check, ...] = ()
    made_of: str = ""


def fill_design(
    folder: Path,
    design: Design,
    origin: Origin,
    clock: Clock,
    progress: Progress,
    *,
    bone: DicomBone | None = None,
) -> DesignRecord:
    """Write the files of a design, design.json last, into a folder that is there; what lies in it stays.

    Args:
        folder: where to.
        design: what was made.
        origin: what it was made for.
        clock: of the steps so far.
        progress: called with the stage and the fraction done.
        bone: patch, completed skull and the scan whose archive all of it goes to as DICOM, if that is asked for.

    Returns:
        What design.json holds.
    """
    progress("files", 0.0)
    files = {part.name: _write_part(folder, design, number) for number, part in enumerate(design.parts)}
    _write_common(folder, design, origin.ending)
    own = [name for names in files.values() for name in names] + [f"implant{origin.ending}", "host.stl", DESIGN]
    own += ["design.png", "report.html"] if origin.settings.preview else []
    own += dicom_files([part.name for part in design.parts], origin.settings.preview) if bone is not None else []
    clock.lap("export")

    asked = None if bone is None else DicomAsked(bone.archive.deidentify)

    def record() -> DesignRecord:
        return replace(_record(design, origin, files, sorted(own), clock), dicom=asked, made_of=origin.made_of)

    if origin.settings.preview:
        progress("pictures", 0.2)
        _draw(folder, design, record())
        clock.lap("report")
    if bone is not None:
        _write_dicom(folder, design, bone)
        clock.lap("dicom")
    made = record()
    _write_json(folder / DESIGN, made)
    return made


@dataclass(frozen=True, eq=False)
class DicomBone:
    """What goes to an archive beside the implants.

    Args:
        archive: which.
        patch: the missing bone, on the scan's grid.
        completed: the skull with it.
    """

    archive: Archive
    patch: Volume
    completed: Volume


def _write_dicom(folder: Path, design: Design, bone: DicomBone) -> None:
    write_dicom(
        folder,
        bone.archive,
        patch=bone.patch,
        completed=bone.completed,
        implants=[(part.name, part.mesh) for part in design.parts],
        implant_mask=_mask(design.parts, design.bone.grid),
        picture=picture_in(folder / "design.png"),
        marked=bool(design.settings.mark),
    )


def _write_part(folder: Path, design: Design, number: int) -> list[str]:
    """The files of one implant, and of its mould where one was asked for; returns their names."""
    from calvaria.io import write_3mf, write_mesh

    part = design.parts[number]
    write_mesh(folder / f"{part.name}.stl", part.mesh)
    write_3mf(folder / f"{part.name}.3mf", [(part.name, part.mesh)], _metadata(part, design.settings))
    names = [f"{part.name}.3mf", f"{part.name}.stl"]
    if design.mould:
        ending = part.name.removeprefix("implant")  # "" or "-1"
        for half, mesh in zip(("lower", "upper"), design.mould[number], strict=True):
            names.append(f"mould-{half}{ending}.stl")
            write_mesh(folder / names[-1], mesh)
    return sorted(names)


def _metadata(part: Part, settings: ImplantSettings) -> dict[str, str]:
    """What the 3MF file says of an implant; the mark, which may be a name, is left out."""
    made = ", ".join(f"{name}={_said(value)}" for name, value in settings.to_json().items() if name != "mark")
    way = ", ".join(f"{x:.3f}" for x in part.direction)
    return {
        "Title": f"Cranial {part.name}",
        "Application": f"calvaria {__version__}",
        "Description": f"{AXES}. It is put in along ({way}). Made with {made}. {WARNING}.",
    }


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _write_common(folder: Path, design: Design, ending: str) -> None:
    """The bone around the holes, and all implants as a mask on the input's grid."""
    from calvaria.io import write_mesh, write_volume

    write_mesh(folder / "host.stl", design.host)
    write_volume(folder / f"implant{ending}", _mask(design.parts, design.bone.grid))


def _mask(parts: tuple[Part, ...], grid: Grid) -> Volume:
    """The voxels whose centres lie in an implant."""
    import numpy as np

    from calvaria.volume import Volume, voxelise

    mask: BoolArray = np.zeros(grid.shape, np.bool_, order="F")
    for part in parts:
        mask |= voxelise(part.mesh, grid).mask
    return Volume(mask, grid)


def _draw(folder: Path, design: Design, record: DesignRecord) -> None:
    """The picture, and the page with everything."""
    from calvaria.files import write_text
    from calvaria.report.design_page import design_page
    from calvaria.report.design_picture import render_design

    picture = render_design(design)
    picture.save(folder / "design.png")
    write_text(folder / "report.html", design_page(design, record.to_json(), picture))


def _write_json(path: Path, record: DesignRecord) -> None:
    from calvaria.io import write_result_json

    write_result_json(path, record.to_json())


def _record(design: Design, origin: Origin, files: dict[str, list[str]], own: list[str], clock: Clock) -> DesignRecord:
    """The record of a design that is all but written."""
    return DesignRecord(
        versions=versions("manifold3d"),
        input=origin.input,
        reconstruction=origin.settings,
        parameters=design.settings,
        parts=tuple(
            _part_record(part, _thickness_mm(design, number), files[part.name], design.settings.travel_mm)
            for number, part in enumerate(design.parts)
        ),
        checks=tuple(_plain(check) for check in (*origin.failed, *design.checks)),
        files=tuple(own),
        confidence=origin.confidence,
        surface_from=design.surface_from,
        seconds=clock.seconds(design.seconds),
        warnings=tuple(dict.fromkeys((*origin.warnings, *design.notes))),
        peak_memory_mb=peak_memory_mb(),
    )


def _part_record(part: Part, thickness_mm: float, files: list[str], travel_mm: float) -> PartRecord:
    """An implant in figures that mean something: um, 0.1 mm3, and nine digits of a direction."""
    from calvaria.implant.measure import outer_area_mm2
    from calvaria.implant.parts import Relief

    relief = part.relief
    return PartRecord(
        name=part.name,
        files=tuple(files),
        insertion=Insertion(tuple(round(float(x), 9) + 0.0 for x in part.direction), float(travel_mm)),
        relief=Relief(
            round(float(relief.depth_mm), 3), round(float(relief.volume_ml), 4), round(float(relief.narrow_ml), 4)
        ),
        area_cm2=round(outer_area_mm2(part) / 100, 2),
        thickness_mm=round(thickness_mm, 3),
        volume_ml=round(float(part.mesh.volume_ml), 4),
        triangles=len(part.mesh.faces),
    )


def _thickness_mm(design: Design, number: int) -> float:
    """The median thickness of an implant: measured, or where it was not, what was asked for."""
    import numpy as np

    part = design.parts[number]
    found = design.maps[number].thickness_mm if design.maps else part.thickness_mm[part.sheet.hole]
    found = found[np.isfinite(found)]
    return float(np.median(found if found.size else part.thickness_mm))


def _plain(check: Check) -> Check:
    """A check whose value JSON has, with figures that mean something: four decimals; what is no number as None."""
    import numpy as np

    value: Any = check.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        value = round(value, 4) + 0.0 if math.isfinite(value) else None
    return replace(check, value=value)


__all__ = ["DicomBone", "Origin", "fill_design"]
