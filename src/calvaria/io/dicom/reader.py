"""One CT series as a volume on its own grid, with where it comes from and what is to be known of its geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError, naming
from calvaria.files import PathLike
from calvaria.io.dicom.choice import is_elsewhere, sharpness
from calvaria.io.dicom.headers import Frame, quiet, read_header
from calvaria.io.dicom.layout import Layout, axes_of
from calvaria.io.dicom.pixels import AIR_HU, NATIVE, TISSUE_HU, is_whole, stored_slices, to_hu
from calvaria.io.dicom.places import Place, opened
from calvaria.io.dicom.scan import Scan, scan
from calvaria.io.dicom.series import Stack, stacks_of
from calvaria.io.dicom.source import DicomSource, SliceRef
from calvaria.io.dicom.studies import grouped, in_study
from calvaria.types import F64
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

MAX_REASONS = 4
"""So many series are named with what is wrong with them, where none can be used."""


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """A series as it was read.

    Args:
        volume: HU, int16 where that loses nothing, else float32; (columns, rows, slices), Fortran order; the last axis
            along the slices, whose normal it follows. A tilted gantry shears the affine.
        source: where it comes from; says who the patient is, so it belongs in no record.
        geometry: what result.json says of it: no identity, ready for JSON.
    """

    volume: Volume
    source: DicomSource = field(repr=False)
    geometry: dict[str, Any]


@dataclass(frozen=True)
class SeriesInfo:
    """A series in a list; nothing in it says whose it is.

    Args:
        number: to choose it by.
        modality: such as CT.
        slices: their number.
        size: columns and rows of a slice.
        spacing_mm: between columns, rows, slices; None where it is not known.
        tilt_degrees: between the stack and the slices' normal; None where it is not known.
        kernel: of the reconstruction; empty where it is not known.
        problem: why it cannot be used; None where it can.
        notes: what was left out of it, or is doubtful.
        chosen: whether it is the one that is read.
        study: that it belongs to, counted from 1 in order of the files' names.
    """

    number: str
    modality: str
    slices: int
    size: tuple[int, int]
    spacing_mm: tuple[float, float, float] | None
    tilt_degrees: float | None
    kernel: str
    problem: str | None
    notes: tuple[str, ...]
    chosen: bool
    study: int = 1


def list_series(path: PathLike, notes: list[str] | None = None) -> list[SeriesInfo]:
    """What a folder, a zip, a medium or a file holds.

    Args:
        path: the folder, with any folders in it; a zip; a DICOMDIR; a DICOM file.
        notes: gets a line for whatever is wrong with the files.

    Raises:
        InputError: there is no such path, it cannot be read, or holds no DICOM image.
        FormatError: a zip is damaged, or of a kind that is not read.
        MissingExtraError: pydicom is not installed.
    """
    with quiet(), opened(path) as places, naming(_name(path)):
        stacks = _found(scan(places), notes)
        numbers = _numbers(stacks, places)
        best: dict[int, Stack] = {}
        for study, stack in zip(numbers, stacks, strict=True):
            if stack.layout is None or is_elsewhere(stack.frames[0].body_part):
                continue
            if study not in best or stack.rank < best[study].rank:
                best[study] = stack
        listed = sorted(zip(numbers, stacks, strict=True), key=lambda one: one[0])
        return [_info(stack, study, chosen=stack is best.get(study)) for study, stack in listed]


def _numbers(stacks: Sequence[Stack], places: Sequence[Place]) -> list[int]:
    """The number of the study of each stack."""
    if len({frame.study for stack in stacks for frame in stack.frames}) == 1:
        return [1] * len(stacks)
    number_of = {id(place): number for number, group in enumerate(grouped(places), 1) for place in group}
    return [number_of.get(id(stack.frames[0].place), 0) for stack in stacks]


def read_dicom(
    path: PathLike, series: str | None = None, notes: list[str] | None = None, *, study: int | None = None
) -> DicomVolume:
    """Read one CT series of a folder, a zip, a medium or a file.

    Slices lie where their ImagePositionPatient says. Even ones are kept as they are, on a grid that a tilted gantry
    shears. Uneven ones are resampled along the stack; up to 5 % missing slices are filled that way.

    Args:
        path: the folder, with any folders in it; a zip; a DICOMDIR; a DICOM file, of one frame or enhanced.
        series: number as `list_series` has it, or UID; None chooses the one that shows the skull best.
        notes: gets a line for whatever was chosen, left out, made up or is doubtful. Lines do not say who it is.
        study: number as `list_series` has it; None where there is only one that can be used.

    Raises:
        InputError: there is no such path or series, or none that can be used, with the reason.
        FormatError: a file or the zip is damaged.
        GeometryError: the series cannot be made a volume.
        MissingExtraError: pydicom, or a decoder, is not installed.
    """
    said: list[str] = [] if notes is None else notes
    with quiet(), opened(path) as places, naming(_name(path)):
        stacks = _found(scan(in_study(places, study)), said)
        stack = _chosen(stacks, series, said)
        with naming(f"series {stack.number}"):
            return _read(stack, said)


def _name(path: PathLike) -> str:
    from pathlib import Path

    return Path(path).name or str(path)


def _found(found: Scan, notes: list[str] | None) -> list[Stack]:
    """The stacks among what was found, and lines on damage.

    Raises:
        InputError: there are none.
    """
    damage = [f"{count} x {text}" for text, count in found.damaged.most_common(3)]
    if not found.frames:
        what = "; ".join(damage) or f"no DICOM image among {found.others} files"
        raise InputError(f"{what}; give a folder, a zip or a file of a CT series")
    if notes is not None and damage:
        notes.append(f"{sum(found.damaged.values())} files were left out: {'; '.join(damage)}")
    return stacks_of(found.frames)


def _chosen(stacks: list[Stack], series: str | None, notes: list[str]) -> Stack:
    """The series that was asked for, or the best.

    Raises:
        InputError: there is none.
    """
    named = [stack for stack in stacks if series in (None, stack.number, stack.frames[0].series_uid)]
    if series is not None and not named:
        named = [stack for stack in stacks if stack.number.split(".")[0] == series]
    listed = ", ".join(stack.number for stack in stacks[:12])
    if not named:
        raise InputError(f"no series of this number or UID; there are {listed}: see calvaria dicom list")
    usable = [stack for stack in named if stack.layout is not None]
    if not usable:
        reasons = "; ".join(f"series {one.number}: {one.problem}" for one in named[:MAX_REASONS])
        more = f"; and {len(named) - MAX_REASONS} more" if len(named) > MAX_REASONS else ""
        raise InputError(f"no CT series that can be used ({reasons}{more})")
    usable = _of_heads(usable, notes, asked=series is not None)
    studies = len({stack.frames[0].study for stack in usable})
    if studies > 1:
        raise InputError(f"{studies} studies that can be used; choose one with --study, see calvaria dicom list")
    if series is not None and len(usable) > 1:
        numbers = ", ".join(stack.number for stack in usable)
        raise InputError(f"series {named[0].number.split('.')[0]} is several volumes; choose with --series: {numbers}")
    best = min(usable, key=lambda stack: stack.rank)
    if len(usable) > 1:
        notes.append(
            f"series {best.number} was taken of {len(usable)} that can be used: {_said(best)}; calvaria dicom list "
            "shows the others, --series takes another"
        )
    return best


def _of_heads(usable: list[Stack], notes: list[str], *, asked: bool) -> list[Stack]:
    """Those that are not said to show another part of the body; one that was asked for is taken all the same.

    Raises:
        InputError: all are, and none was asked for.
    """
    elsewhere = {stack.number: stack.frames[0].body_part for stack in usable if is_elsewhere(stack.frames[0].body_part)}
    if asked:
        notes += [f"series {number} is of the {part} by BodyPartExamined" for number, part in elsewhere.items()]
        return usable
    if len(elsewhere) == len({stack.number for stack in usable}):
        parts = "; ".join(f"series {number}: {part}" for number, part in list(elsewhere.items())[:MAX_REASONS])
        raise InputError(
            f"no series of a head, by BodyPartExamined ({parts}); if one is all the same, take it with --series"
        )
    return [stack for stack in usable if not is_elsewhere(stack.frames[0].body_part)]


def _said(stack: Stack) -> str:
    """Why it is the best, in figures."""
    if stack.layout is None:
        return str(stack.problem)
    kernel = stack.frames[0].kernel
    kind = {"soft": "soft or standard", "sharp": "sharp", "unknown": "unknown"}[sharpness(kernel)]
    plane = "axial" if stack.axial else "not axial"
    return (
        f"{plane}, {len(stack.frames)} slices {stack.layout.gaps_mm[1]:.2f} mm apart, kernel {kernel or '-'} ({kind})"
    )


def _info(stack: Stack, study: int, *, chosen: bool) -> SeriesInfo:
    first, layout = stack.frames[0], stack.layout
    spacing = None
    if layout is not None and first.spacing_mm is not None:
        spacing = (first.spacing_mm[1], first.spacing_mm[0], round(layout.gaps_mm[1], 4))
    return SeriesInfo(
        number=stack.number,
        modality=first.modality,
        slices=len(stack.frames),
        size=(first.shape[1], first.shape[0]),
        spacing_mm=spacing,
        tilt_degrees=None if layout is None else layout.tilt_degrees,
        kernel=first.kernel,
        problem=stack.problem,
        notes=(*stack.notes, *([f"of the {first.body_part}"] if is_elsewhere(first.body_part) else [])),
        chosen=chosen,
        study=study,
    )


def _read(stack: Stack, notes: list[str]) -> DicomVolume:
    """The voxels of a stack that can be used."""
    frames, layout = stack.frames, stack.layout
    if layout is None:
        raise InputError(str(stack.problem))
    notes += stack.notes
    slices, padding = _hu(frames)
    if padding is not None and padding > TISSUE_HU:
        notes.append(f"padding of {padding:g} HU was set to air ({AIR_HU} HU)")
    notes += _doubts(frames)
    if not layout.even:
        slices = _resampled(slices, layout, frames[0])
        notes.append(_on_gaps(layout))
    grid = Grid((slices.shape[2], slices.shape[1], slices.shape[0]), _affine(frames[0], layout))
    refs = tuple(SliceRef(one.uids[0], one.uids[1], one.number) for one in frames) if layout.even else ()
    first = frames[0].uids
    source = DicomSource(first[2], first[3], first[4], refs, read_header(frames[0].place), not layout.even)
    return DicomVolume(Volume(slices.T, grid), source, _geometry(stack, layout, grid))


def _hu(frames: Sequence[Frame]) -> tuple[NDArray[Any], float | None]:
    """(slices, rows, columns) HU, and what padding would have been."""
    rows, columns = frames[0].shape
    padding: float | None = None
    if is_whole(frames):
        # 16 stored bits and an intercept of -1024 may not fit; what is in the file nearly always does.
        shape = (len(frames), rows, columns)
        wide = max(frame.bits[1] for frame in frames) > 15 or any((frame.rescale or (1, 0))[0] != 1 for frame in frames)
        out: NDArray[Any] = np.zeros(shape, np.int32 if wide else np.int16)
    else:
        out = np.zeros((len(frames), rows, columns), np.float32)
    for n, pixels in stored_slices(frames):
        found = to_hu(pixels, frames[n], out[n])
        padding = found if padding is None else max(padding, found) if found is not None else padding
    if out.dtype == np.int32:
        fits = out.min() >= -32768 and out.max() <= 32767
        out = out.astype(np.int16 if fits else np.float32)
    return out, padding


def _doubts(frames: Sequence[Frame]) -> list[str]:
    first = frames[0]
    lines = []
    if any(frame.rescale is None for frame in frames):
        lines.append("slices without RescaleSlope and RescaleIntercept: their stored values are taken as HU")
    if first.unit not in ("", "HU", "US"):  # US: unspecified, which some scanners write for HU
        lines.append(f"the values are in {first.unit} by RescaleType, and are taken as HU")
    if first.photometric == "MONOCHROME1":
        lines.append("the series is to be shown inverted (MONOCHROME1); HU are taken as they are stored")
    return lines


def _on_gaps(layout: Layout) -> str:
    low, _, high = layout.gaps_mm
    missing = f", {layout.missing} missing ones made up between their neighbours" if layout.missing else ""
    return (
        f"uneven slices ({low:.2f} to {high:.2f} mm apart) were resampled to {layout.step_mm:.2f} mm along the "
        f"stack{missing}"
    )


def _resampled(slices: NDArray[Any], layout: Layout, first: Frame) -> NDArray[Any]:
    """Even slices, linear between the given ones at their true places."""
    down_mm, along_mm = first.spacing_mm or (1.0, 1.0)
    whole = slices.dtype.kind == "i"

    def placed(k: int) -> NDArray[np.float32]:
        image: NDArray[np.float32] = slices[k].astype(np.float32)
        aside = layout.aside_mm[k]
        if not aside.any():
            return image
        from scipy import ndimage

        shift = (aside[1] / down_mm, aside[0] / along_mm)
        moved: NDArray[np.float32] = ndimage.shift(image, shift, order=1, cval=AIR_HU)
        return moved

    out = np.zeros((layout.count, *slices.shape[1:]), slices.dtype)
    wanted = np.linspace(0, layout.at_mm[-1], layout.count)
    before = np.clip(np.searchsorted(layout.at_mm, wanted, side="right") - 1, 0, len(layout.at_mm) - 2)
    for n, (at, k) in enumerate(zip(wanted, before, strict=True)):
        share = np.float32((at - layout.at_mm[k]) / (layout.at_mm[k + 1] - layout.at_mm[k]))
        value = placed(int(k)) * (1 - share) + placed(int(k) + 1) * share
        out[n] = np.rint(value) if whole else value
    return out


def _affine(first: Frame, layout: Layout) -> F64:
    """(4, 4) index of column, row, slice -> world mm."""
    down_mm, along_mm = first.spacing_mm or (1.0, 1.0)
    axes = axes_of(first.orientation or ())
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = axes[0] * along_mm, axes[1] * down_mm, layout.step
    affine[:3, 3] = first.position or (0.0, 0.0, 0.0)
    return affine


def _geometry(stack: Stack, layout: Layout, grid: Grid) -> dict[str, Any]:
    """What is to be known of a series' geometry; no identity."""
    first = stack.frames[0]
    thick = [frame.thickness_mm for frame in stack.frames if frame.thickness_mm is not None]
    return {
        "series": stack.number,
        "slices_read": len(stack.frames),
        "slices": layout.count,
        "pixel_mm": [round(one, 6) for one in grid.spacing_mm[:2]],
        "step_mm": round(layout.step_mm, 6),
        "gaps_mm": [round(one, 4) for one in layout.gaps_mm],
        "thickness_mm": round(float(np.median(thick)), 4) if thick else None,
        "tilt_degrees": layout.tilt_degrees,
        "axial": stack.axial,
        "even": layout.even,
        "missing_slices": layout.missing,
        "left_out": {name: count for name, count in stack.left_out.items() if count},
        "kernel": first.kernel or None,
        "sharpness": sharpness(first.kernel),
        "patient_position": first.patient_position or None,
        "compressed": first.syntax not in NATIVE,
        "original": "ORIGINAL" in first.image_type[:1],
    }


__all__ = ["DicomVolume", "SeriesInfo", "list_series", "read_dicom"]
