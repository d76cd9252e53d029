"""Slices grouped into stacks that make one volume each, and judged: which can be used, and why others cannot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from calvaria.errors import FormatError, GeometryError
from calvaria.io.dicom.choice import AXIAL_COSINE, rank
from calvaria.io.dicom.headers import CT_CLASSES, Frame, is_localizer
from calvaria.io.dicom.layout import SAME_PLACE_MM, Layout, axes_of, layout_of
from calvaria.io.dicom.pixels import digest

MIN_SLICES = 20
"""Fewer slices than this show no skull."""

STRAY_SHARE = 0.2
"""Slices of another orientation or size are left out of a series where they are fewer than this share of the rest."""

MAX_COMPARED = 400
"""So many slices at repeated positions have their pixels compared; more are phases."""

SAME_DIRECTION_ATOL = 1e-3
"""Between components of directions: 0.06 degrees."""

MAX_VOXELS = 2**30
"""As for other images: ten times a large head CT."""

PHASES: tuple[tuple[str, Callable[[Frame], object]], ...] = (
    ("acquisition", lambda frame: frame.acquisition),
    ("phase", lambda frame: frame.temporal),
    ("kernel", lambda frame: frame.kernel),
    ("image type", lambda frame: frame.image_type),
)
"""What may tell apart images at one position."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one series that lie over each other.

    Args:
        number: what the series is called: its number, with one of its own after a dot where it is several volumes.
        frames: sorted along the normal where there is a layout.
        layout: where they lie; None where it cannot be used.
        problem: why it cannot be used; None where it can.
        notes: what was left out of it, or is doubtful.
        left_out: how many images of which kind were left out.
    """

    number: str
    frames: tuple[Frame, ...]
    layout: Layout | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def axial(self) -> bool:
        """Whether the slices lie across the body's axis."""
        return self.layout is not None and bool(abs(axes_of(self.frames[0].orientation or ())[2, 2]) >= AXIAL_COSINE)

    @property
    def rank(self) -> tuple[float, ...]:
        """See `calvaria.io.dicom.choice.rank`; only of one that can be used."""
        if self.layout is None:
            raise GeometryError(f"series {self.number} cannot be used: {self.problem}")
        return rank(
            axial=self.axial,
            extent_mm=float(self.layout.at_mm[-1]),
            original="ORIGINAL" in self.frames[0].image_type[:1],
            step_mm=self.layout.gaps_mm[1],
            kernel=self.frames[0].kernel,
            slices=len(self.frames),
        )


def stacks_of(frames: Sequence[Frame]) -> list[Stack]:
    """The stacks of a study in order of their numbers; reads pixels of slices that lie at one place.

    Args:
        frames: of all images.
    """
    series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        series[frame.series_uid].append(frame)
    found = [list(_stacks_of_series(group)) for group in series.values()]
    return _numbered(found)


def _numbered(found: list[list[Stack]]) -> list[Stack]:
    """All stacks with names that differ within each study."""
    by_number: dict[tuple[int, int], list[Stack]] = defaultdict(list)
    studies: dict[object, int] = {}
    for stacks in found:
        first = stacks[0].frames[0]
        by_number[studies.setdefault(first.study, len(studies)), first.series_number or 0] += stacks
    return [
        replace(stack, number=f"{number}.{n}" if len(stacks) > 1 else str(number))
        for (_, number), stacks in sorted(by_number.items())
        for n, stack in enumerate(stacks, 1)
    ]


def _stacks_of_series(frames: list[Frame]) -> Iterator[Stack]:
    """One series' stacks."""
    images = [frame for frame in frames if not is_localizer(frame.image_type)]
    slices = [frame for frame in images if frame.uids[0] in CT_CLASSES] or images
    left_out = {"localizers": len(frames) - len(images), "pictures": len(images) - len(slices)}
    notes = [f"{count} {what} in the series were left out" for what, count in left_out.items() if count]
    images = slices
    problem = "localizers only" if not images else _problem_of_all(images)
    if problem is not None:
        yield Stack("", tuple(images or frames), problem=problem)
        return
    groups = sorted(_alike(images), key=len, reverse=True)
    main = [group for group in groups if len(group) >= MIN_SLICES and len(group) > STRAY_SHARE * len(groups[0])]
    main = main or groups[:1]
    stray = len(images) - sum(map(len, main))
    left_out["other_orientation_or_size"] = stray
    if stray:
        notes.append(f"{stray} slices of another orientation or size in the series were left out")
    for group in main:
        yield from _judged_phases(group, notes, left_out)


def _problem_of_all(images: Sequence[Frame]) -> str | None:
    """Why a series cannot be used, whatever its slices' places are."""
    return _not_ct(images) or _mixed(images) or _not_placed(images) or _not_hu(images)


def _not_ct(images: Sequence[Frame]) -> str | None:
    for frame in images:
        if frame.modality != "CT":
            return f"{frame.modality or 'no modality'}, not CT"
    if any(frame.uids[0] not in CT_CLASSES for frame in images):
        return "pictures made from a CT (secondary capture or other), not its slices"
    return None


def _mixed(images: Sequence[Frame]) -> str | None:
    for what, values in (
        ("patients", {frame.person for frame in images}),
        ("studies", {frame.uids[2] for frame in images}),
        ("frames of reference", {frame.uids[4] for frame in images}),
    ):
        if len(values) > 1:
            return f"slices of {len(values)} {what} under one series UID; export the series again"
    return None


def _not_placed(images: Sequence[Frame]) -> str | None:
    for what, missing in (
        ("ImagePositionPatient", [frame.position is None for frame in images]),
        ("ImageOrientationPatient", [frame.orientation is None for frame in images]),
        ("PixelSpacing", [frame.spacing_mm is None for frame in images]),
    ):
        if any(missing):
            return f"{sum(missing)} of {len(images)} slices have no {what}: where they lie is not known"
    if any(min(frame.spacing_mm or (0.0,)) <= 0 for frame in images):
        return "PixelSpacing is zero or negative"
    return None


def _not_hu(images: Sequence[Frame]) -> str | None:
    for frame in images:
        allocated, stored, high = frame.bits
        if frame.samples != 1 or not frame.photometric.startswith("MONOCHROME"):
            return f"pictures in colour ({frame.photometric}), not HU"
        if allocated not in (8, 16, 32) or not 0 < stored <= allocated or high != stored - 1:
            return f"pixels of {stored} bits in {allocated} (high bit {high}), which are not read"
        if frame.has_lut:
            return "a modality LUT in place of slope and intercept, which is not read"
        if frame.rescale is not None and frame.rescale[0] == 0:
            return "RescaleSlope is zero"
    return None


def _alike(images: Sequence[Frame]) -> list[list[Frame]]:
    """Images in groups of one orientation, size and spacing."""
    groups: list[list[Frame]] = []
    keys: list[np.ndarray] = []
    for frame in images:
        key = np.array([*(frame.orientation or ()), *frame.shape, *(frame.spacing_mm or ())])
        for n, other in enumerate(keys):
            if np.abs(key - other).max() <= SAME_DIRECTION_ATOL:
                groups[n].append(frame)
                break
        else:
            keys.append(key)
            groups.append([frame])
    return groups


def _judged_phases(frames: list[Frame], notes: list[str], left_out: dict[str, int]) -> Iterator[Stack]:
    """The stacks of images of one orientation: one, or one for each phase."""
    try:
        axes_of(frames[0].orientation or ())
        frames, copies = _without_copies(frames)
    except (FormatError, GeometryError) as error:
        yield Stack("", tuple(frames), problem=str(error))
        return
    left_out = {**left_out, "duplicates": copies}
    notes = [*notes, *([f"{copies} slices that were there twice were left out"] if copies else [])]
    repeated = _repeated(frames)
    if not repeated:
        yield _judged(frames, notes, left_out)
        return
    for name, key in PHASES:
        parts: dict[object, list[Frame]] = defaultdict(list)
        for frame in frames:
            parts[key(frame)].append(frame)
        if len(parts) > 1 and not any(_repeated(part) for part in parts.values()):
            for part in parts.values():
                yield _judged(part, [*notes, f"the series holds {len(parts)} volumes, told apart by {name}"], left_out)
            return
    yield Stack(
        "",
        tuple(frames),
        problem=f"different images at {len(repeated)} positions (phases or copies) that no tag tells apart; "
        "export one of them alone",
    )


def _repeated(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Images at one place, where there are several."""
    normal = axes_of(frames[0].orientation or ())[2]
    points = np.array([frame.position for frame in frames], np.float64)
    order = np.argsort(points @ normal, kind="stable")
    groups: list[list[int]] = [[int(order[0])]]
    for n in order[1:]:
        if np.abs(points[n] - points[groups[-1][0]]).max() < SAME_PLACE_MM:
            groups[-1].append(int(n))
        else:
            groups.append([int(n)])
    return [[frames[n] for n in group] for group in groups if len(group) > 1]


def _without_copies(frames: list[Frame]) -> tuple[list[Frame], int]:
    """The images without those that are there twice, and how many these were."""
    groups = _repeated(frames)
    if not groups or sum(map(len, groups)) > MAX_COMPARED:
        return frames, 0
    copies: set[int] = set()
    for group in groups:
        seen: set[str] = set()
        for frame in group:
            mark = digest(frame)
            if mark in seen:
                copies.add(id(frame))
            seen.add(mark)
    return [frame for frame in frames if id(frame) not in copies], len(copies)


def _judged(frames: list[Frame], notes: list[str], left_out: dict[str, int]) -> Stack:
    """One stack with its layout, or with what is wrong with it."""
    voxels = len(frames) * frames[0].shape[0] * frames[0].shape[1]
    try:
        layout = layout_of(
            [frame.position or () for frame in frames],
            axes_of(frames[0].orientation or ()),
            [frame.thickness_mm for frame in frames],
            min(frames[0].spacing_mm or (1.0,)),
            MIN_SLICES,
        )
        if max(voxels, voxels // len(frames) * layout.count) > MAX_VOXELS:
            raise GeometryError(f"{voxels / 1e9:.1f} billion voxels; at most 1 billion are read")
    except GeometryError as error:
        return Stack("", tuple(frames), problem=str(error), notes=tuple(notes), left_out=left_out)
    ordered = tuple(frames[n] for n in layout.order)
    return Stack("", ordered, layout, notes=tuple(notes), left_out=left_out)


__all__ = ["MIN_SLICES", "Stack", "stacks_of"]
