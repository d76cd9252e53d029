"""Flaps and loose pieces: bone of the vault that a gap all around divides from the rest.

A flap is cut out with a kerf of 1 to 3 mm between burr holes. Put back in place it is as good as skull. Sunk, lifted or
tilted it is not, though its edges may touch. Sutures are narrower, and reach from one side of the vault to the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calvaria.skull.foreign.pieces import disc
from calvaria.skull.foreign.shell import DEPTHS_MM, PIXEL, Shell, terms
from calvaria.types import F32, F64, BoolArray

BONE_HU = 250.0

KERF_PIXELS = 3.5
"""Half the width of the widest kerf, in pixels of the map (11 mm); what is wider is a hole."""

KERF_SHARE, THICK_KERF_SHARE = 0.18, 0.42
"""On a kerf there is at least this share less bone than on both sides; the second in thick slices, between which
interpolation makes rings about the vertex of up to 0.3."""

THICK_MM = 2.6
"""Slices farther apart are thick ones."""

STEP_MM = 1.5
"""Where the outer surface jumps by so much from pixel to pixel but one (3.2 mm), bone is divided, too."""

SOLID_HU, MAX_SOLID_HU = 150.0, 1500.0
"""Values above the first, up to the second, are summed along a ray: how much bone there is."""

MIN_SOLID_HU_MM = 500.0
"""With less than this around, there is a hole and no kerf."""

CLOSED_PIXELS = 2.5
"""A kerf that is interrupted (a plate over it, a bridge) is closed over twice as many pixels."""

AREA_CM2 = (8.0, 170.0)
"""A flap's area."""

MAX_CUT_SHARE = 0.12
"""A piece that the scan or the map cuts off along more of its edge is not judged."""

MIN_KERF_SHARE = 0.7
"""A flap has a kerf, or a hole, on at least this share of its edge."""

MAX_SUTURE_MM = 0.7
"""A gap that is narrower on average is a suture or a fracture, unless there is a step all along it."""

STEP_SHARE, DEEP_SHARE = 0.85, 0.32
"""All along means on at least the first share of the edge; a kerf takes the second of the bone on half of it."""

TERRACES = 3.0
"""In thick slices the vault's top is a staircase: the edge of a flap spans more slices than this."""

RIM_PIXELS = 3.0
"""Width of a flap's rim."""

CURVE_DEGREE = 8
"""Of the polynomial through the rest of the vault, which says where a flap should lie."""

ASIDE_PIXELS = 3.0
"""Bone nearer to a flap is not asked: its edge may be worn."""

IN_PLACE_MM, IN_PLACE_DEGREES = 3.0, 8.0
"""A flap that lies farther off the curve, or is tilted more, is not in place."""

MAX_OTHER_SHARE = 0.3
"""More of it on rays through an implant: it is that implant."""

MIN_ROUND = 0.5
"""Area over that of a disc of the same perimeter: flaps have 0.8 to 1, thin bone between sutures 0.2 to 0.4."""

MAX_SHIFT_MM, MAX_ANGLE_DEGREES = 22.0, 35.0
"""Beyond these the vault's curve is no guide: a piece of the base, or of a skull whose cap was sawn off."""

LOOSE_SHARE = 0.3
"""A flap of which less was connected to the skull is a separate piece."""

BLOOMING_HU = 1900.0
"""Near values above this, what looks like a loose piece is metal's bloom."""

MIN_DROPPED_CM2 = 2.0
"""Smaller pieces that are not connected are not spoken of."""


class Flap(NamedTuple):
    """A piece of vault on its own.

    Args:
        where: (P, P) its rays.
        area_cm2: on the outer surface.
        kerf_mm: mean width of the gap around it; None where it was not connected and lies apart.
        shift_mm: above the vault's curve (negative: below).
        angle_degrees: between it and the curve.
        connected: share of it that was counted as bone.
    """

    where: BoolArray
    area_cm2: float
    kerf_mm: float | None
    shift_mm: float
    angle_degrees: float
    connected: float

    @property
    def in_place(self) -> bool:
        """Whether it is as good as skull."""
        return abs(self.shift_mm) <= IN_PLACE_MM and self.angle_degrees <= IN_PLACE_DEGREES

    @property
    def loose(self) -> bool:
        """Whether it hangs on nothing."""
        return self.connected < LOOSE_SHARE


class _Layers(NamedTuple):
    """What a vault looks like, (P, P) each."""

    peak: F32
    height: F32
    deficit: F32
    jumps: BoolArray
    apart: BoolArray
    counted: BoolArray


def flaps_of(
    shell: Shell, slice_mm: float = 1.0, other: BoolArray | None = None, metal_hu: float = 2500.0
) -> list[Flap]:
    """The flaps of a vault, and its pieces that were not connected, the largest first; none in ordinary ones.

    Args:
        shell: the vault.
        slice_mm: the scan's widest spacing.
        other: (P, P) rays of implants, which are no bone; None for none.
        metal_hu: above this lies metal, which does not connect bone.
    """
    from scipy.ndimage import label

    layers = _layers(shell, slice_mm, metal_hu)
    other = np.zeros(shell.known.shape, bool) if other is None else other
    closed = _closed(layers.apart, CLOSED_PIXELS) & shell.known
    rest, number = label(shell.known & ~closed)
    areas = np.bincount(rest.ravel(), shell.pixel_cm2.ravel(), number + 1)
    areas[0] = 0
    main = int(np.argmax(areas))
    found = []
    for one in np.argsort(-areas, kind="stable"):
        if one in (0, main) or not AREA_CM2[0] <= areas[one] <= AREA_CM2[1]:
            continue
        own = rest == one
        if other[own].mean() > MAX_OTHER_SHARE:
            continue
        flap = _flap(own, rest == main, layers, shell, slice_mm)
        if flap is not None:
            found.append(flap)
    return found + _dropped(layers, [*(flap.where for flap in found), other], rest == main, shell)


def _layers(shell: Shell, slice_mm: float, metal_hu: float) -> _Layers:
    from scipy.ndimage import gaussian_filter

    light = gaussian_filter(shell.hu, (0.5, 0.5, 0.5), truncate=2.0)
    peak, height, deficit = light.max(axis=2), _height(light), _deficit(light)
    jumps = _jumps(height)
    apart: BoolArray = np.asarray(jumps | (peak < BONE_HU))
    apart |= peak > metal_hu
    apart |= deficit > (KERF_SHARE if slice_mm < THICK_MM else THICK_KERF_SHARE)
    counted: BoolArray = np.any(shell.counted, axis=2)
    return _Layers(peak, height, deficit, jumps, apart, counted)


def _deficit(light: F32) -> F32:
    """(P, P) how much less bone each ray meets than those on both sides of a narrow gap, as a share."""
    from scipy.ndimage import grey_closing

    solid = np.clip(light - SOLID_HU, 0, MAX_SOLID_HU - SOLID_HU).sum(axis=2) * (DEPTHS_MM[1] - DEPTHS_MM[0])
    around = grey_closing(solid, footprint=disc(KERF_PIXELS))
    out: F32 = np.where(around > MIN_SOLID_HU_MM, 1 - solid / np.maximum(around, 1), 0).astype(np.float32)
    return out


def _jumps(height: F32) -> BoolArray:
    """(P, P) where the outer surface jumps."""
    filled = np.nan_to_num(height, nan=-30.0)
    out = np.zeros(height.shape, bool)
    out[1:-1] |= np.abs(filled[2:] - filled[:-2]) > STEP_MM
    out[:, 1:-1] |= np.abs(filled[:, 2:] - filled[:, :-2]) > STEP_MM
    return out


def _closed(mask: BoolArray, radius: float) -> BoolArray:
    from scipy.ndimage import binary_dilation, binary_erosion

    wide = binary_dilation(np.pad(mask, 4), disc(radius))
    return np.asarray(binary_erosion(wide, disc(radius))[4:-4, 4:-4])


def _height(light: F32) -> F32:
    """(P, P) mm of the outermost bone above the smooth surface; NaN where there is none. Between samples."""
    bone = light > BONE_HU
    last = bone.shape[2] - 1 - bone[:, :, ::-1].argmax(axis=2)
    above = np.minimum(last + 1, bone.shape[2] - 1)
    i, j = np.indices(last.shape)
    inner, outer = light[i, j, last], light[i, j, above]
    share = np.clip((inner - BONE_HU) / np.maximum(inner - outer, 1), 0, 1)
    out = DEPTHS_MM[last] + share * (above > last)
    return np.where(bone.any(axis=2), out, np.nan).astype(np.float32)


def _flap(own: BoolArray, main: BoolArray, layers: _Layers, shell: Shell, slice_mm: float) -> Flap | None:
    """What one region is; None where it is no flap."""
    from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes, distance_transform_edt, maximum_filter

    own = binary_fill_holes(own)
    edge = binary_dilation(own, disc(1.0)) & ~own
    if not _like_a_flap(own, edge, layers, shell, slice_mm):
        return None
    around = binary_dilation(own, disc(2 * CLOSED_PIXELS)) & ~binary_erosion(own, disc(2.0)) & shell.known
    # Blur keeps what is missing across a gap: its integral is the width.
    mm = PIXEL * float(np.median(shell.surface_mm[own]))
    kerf = mm * float(layers.deficit[around & (layers.deficit > 0.08)].sum()) / max(_perimeter(own), 1.0)
    stepped = (binary_dilation(layers.jumps, disc(2.0)) & edge).sum() >= STEP_SHARE * edge.sum()
    deep = np.median(maximum_filter(layers.deficit, 5)[edge]) >= DEEP_SHARE
    if not stepped and (kerf < MAX_SUTURE_MM or not deep):
        return None
    shift, angle = _shift(own, main, layers.height, shell)
    if abs(shift) > MAX_SHIFT_MM or angle > MAX_ANGLE_DEGREES:
        return None
    # Its rim, worn by blur, up to the middle of the kerf.
    near = distance_transform_edt(~own)
    whole = own | (shell.known & (near <= KERF_PIXELS + 1) & (near < distance_transform_edt(~main)))
    return Flap(whole, float(shell.pixel_cm2[own].sum()), kerf, shift, angle, float(layers.counted[own].mean()))


def _like_a_flap(own: BoolArray, edge: BoolArray, layers: _Layers, shell: Shell, slice_mm: float) -> bool:
    """Whether a region is compact, wholly seen, divided on most of its edge, and no step of a staircase of slices."""
    from scipy.ndimage import binary_dilation

    if slice_mm > THICK_MM:
        at = np.argwhere(edge).astype(np.float64)
        if np.ptp(shell.points_mm(at, np.zeros(len(at)))[:, 2]) < TERRACES * slice_mm:
            return False
    seen = np.count_nonzero(edge & ~shell.known) <= MAX_CUT_SHARE * edge.sum()
    compact = 4 * np.pi * own.sum() >= MIN_ROUND * _perimeter(own) ** 2
    divided = np.count_nonzero(binary_dilation(layers.apart, disc(1.0)) & edge) >= MIN_KERF_SHARE * edge.sum()
    return bool(seen and compact and divided)


def _perimeter(own: BoolArray) -> float:
    """Pixels along the edge of a region, of its smooth outline: steps along two axes are 4 / pi too many."""
    steps = sum(np.count_nonzero(np.diff(np.pad(own, 1).astype(np.int8), axis=axis)) for axis in (0, 1))
    return float(steps * np.pi / 4)


def _shift(own: BoolArray, main: BoolArray, height: F32, shell: Shell) -> tuple[float, float]:
    """By how many mm a region lies above where the rest of the vault lets one expect it, and the angle, degrees."""
    from scipy.ndimage import binary_dilation, binary_erosion

    radius = shell.surface_mm + height
    rest = main & np.isfinite(height) & ~binary_dilation(own, disc(ASIDE_PIXELS))
    # Every fourth ray is enough for a smooth curve.
    every = np.zeros(own.shape, bool)
    every[::2, ::2] = True
    rest &= every
    # Across a large gap the curve is a guess: a flap's rim says more than its middle.
    flap = own & np.isfinite(height) & ~binary_erosion(own, disc(RIM_PIXELS))
    if rest.sum() < 300 or flap.sum() < 20:
        return 0.0, 0.0
    matrix, values = terms(_unit(rest), CURVE_DEGREE), radius[rest].astype(np.float64)
    weight = np.ones(len(values))
    for _ in range(4):
        curve = np.linalg.lstsq(matrix * weight[:, None], values * weight, rcond=None)[0]
        weight = 1 / np.sqrt(1 + (values - matrix @ curve) ** 2)
    over = radius[flap] - terms(_unit(flap), CURVE_DEGREE) @ curve
    places = np.argwhere(flap).astype(np.float64)
    apart_mm = (places - places.mean(axis=0)) * PIXEL * float(np.median(radius[flap]))
    plane = np.column_stack([np.ones(len(places)), apart_mm])
    weight = np.ones(len(over))
    for _ in range(4):
        tilt = np.linalg.lstsq(plane * weight[:, None], over * weight, rcond=None)[0]
        weight = 1 / np.sqrt(1 + (over - plane @ tilt) ** 2)
    return float(np.median(over)), float(np.degrees(np.arctan(np.linalg.norm(tilt[1:]))))


def _unit(where: BoolArray) -> F64:
    """(N, 2) places of pixels, -1 to 1 across the map."""
    half = (where.shape[0] - 1) / 2
    out: F64 = np.argwhere(where) / half - 1
    return out


def _dropped(layers: _Layers, found: list[BoolArray], main: BoolArray, shell: Shell) -> list[Flap]:
    """Bone of the vault, apart from flaps and implants, that was not connected to the skull."""
    from scipy.ndimage import binary_dilation, binary_opening, label

    # Metal's bloom is no bone.
    peak = layers.peak
    metal = binary_dilation(peak > BLOOMING_HU, disc(3.0))
    left = shell.known & (peak > BONE_HU) & ~metal & ~binary_dilation(layers.counted, disc(1.0)) & (layers.height > -14)
    for one in found:
        left &= ~binary_dilation(one, disc(2.0))
    pieces, number = label(binary_opening(left, disc(1.5)))
    areas = np.bincount(pieces.ravel(), shell.pixel_cm2.ravel(), number + 1)
    out = []
    for number in np.flatnonzero(areas[1:] >= MIN_DROPPED_CM2) + 1:
        own = pieces == number
        shift, angle = _shift(own, main, layers.height, shell)
        out.append(Flap(own, float(areas[number]), None, shift, angle, 0.0))
    return sorted(out, key=lambda one: -one.area_cm2)


__all__ = ["Flap", "flaps_of"]
