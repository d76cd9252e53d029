"""Where an implant ends on the outer surface: closed lines, with the bone beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calvaria.implant.parts import Outline, Sheet
from calvaria.implant.settings import ImplantSettings
from calvaria.implant.site import Site
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.gather import trilinear_at
from calvaria.volume.volume import Volume

DEPTH_MM = 0.5
"""The edge is looked for so far below the outer surface: its very edge is rounded by the grid."""

STEP_MM = 1.0
"""Between points of an outline."""

MIN_LENGTH_MM = 6.0
"""Shorter lines are no edges."""

BESIDE_MM = 6.0
"""Bone's thickness is measured so far from the edge, where a plate's screw would sit; of a flange under its middle."""

HIGHEST_MM, DEEPEST_MM, DEPTH_STEP_MM = 1.5, 14.0, 0.25
"""From how far above the outer surface to how far below it is looked for, and how finely."""

OUTSIDE = 2.0
"""Value of the field where there is no implant, mm."""

MAX_GAP_MM = 4.0
"""A wider gap ends it: what comes then is other bone."""


def outlines(site: Site, field: Volume, settings: ImplantSettings) -> tuple[Outline, ...]:
    """The edges of a body on its outer surface, or of its flange, the longest first.

    Args:
        site: the hole, with the implant's own outer surface.
        field: of the body, negative inside.
        settings: of its flange.
    """
    from skimage import measure

    find_contours: Callable[..., list[F64]] = measure.find_contours

    sheet = site.sheet
    values = _values(field, sheet, -DEPTH_MM)
    beside_mm = BESIDE_MM
    if settings.flange_width_mm:
        values = np.minimum(values, _values(field, sheet, settings.flange_mm / 2))
        beside_mm = -settings.flange_width_mm / 2
    values = np.pad(values, 1, constant_values=OUTSIDE)
    found = []
    for contour in find_contours(values, 0.0):
        if len(contour) < 4 or not np.allclose(contour[0], contour[-1]):
            continue
        cells = _even(contour[:-1] - 1.0, sheet)
        if len(cells) * STEP_MM >= MIN_LENGTH_MM:
            found.append(_outline(cells, site, values[1:-1, 1:-1], beside_mm))
    return tuple(sorted(found, key=lambda line: -len(line.points_mm)))


def covered(site: Site, field: Volume, hole: BoolArray) -> float:
    """Share of a part of the outer surface, (I, J) bool, under which there is a body."""
    return float(np.count_nonzero((_values(field, site.sheet, -DEPTH_MM) < 0) & hole) / max(int(hole.sum()), 1))


def _values(field: Volume, sheet: Sheet, height_mm: float) -> F32:
    """(I, J) a field at a height above a sheet; outside of the field's grid there is no implant."""
    index = field.grid.to_index((sheet.points_mm + height_mm * sheet.normals).reshape(-1, 3)).T
    values = OUTSIDE + trilinear_at(field.data.reshape(-1) - np.float32(OUTSIDE), field.shape, index)
    return values.reshape(sheet.hole.shape)


def _even(cells: F64, sheet: Sheet) -> F64:
    """A closed line of lattice positions resampled at equal distances on the surface, about `STEP_MM`."""
    closed = np.concatenate([cells, cells[:1]])
    points, _ = sheet.at(closed)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    count = max(4, round(along[-1] / STEP_MM))
    at = np.linspace(0.0, along[-1], count, endpoint=False)
    return np.stack([np.interp(at, along, closed[:, axis]) for axis in range(2)], axis=1)


def _outline(cells: F64, site: Site, values: F32, beside_mm: float) -> Outline:
    from scipy.ndimage import map_coordinates

    sheet = site.sheet
    points, normals = sheet.at(cells)
    ahead = np.roll(points, -2, axis=0) - np.roll(points, 2, axis=0)
    away = np.cross(ahead, normals)
    away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-12
    inner, outer = (
        map_coordinates(values, sheet.cells(points + step * away).T, order=1, mode="nearest") for step in (-1.0, 1.0)
    )
    if np.mean(outer - inner) < 0:
        away = -away
    return Outline(points, normals, away, _bone_beside(site, points + beside_mm * away))


def _bone_beside(site: Site, points: F64) -> F64:
    """(R,) how thick bone is under points near the outer surface: both tables and what lies between, mm."""
    foot, normals = site.sheet.at(site.sheet.cells(points))
    depths = np.arange(-HIGHEST_MM, DEEPEST_MM, DEPTH_STEP_MM)
    every = foot[:, None] - depths[:, None] * normals[:, None]
    held = site.smooth.holds(every.reshape(-1, 3)).reshape(len(foot), len(depths))
    return np.array([_first_run(row) * DEPTH_STEP_MM for row in held])


def _first_run(held: BoolArray) -> int:
    """How many steps the first bone reaches, over gaps such as the diploe's pores but no greater ones.

    >>> _first_run(np.array([False, True, True, False, True] + [False] * 30 + [True]))
    4
    """
    steps = np.flatnonzero(held)
    if not len(steps):
        return 0
    wide = np.flatnonzero(np.diff(steps) * DEPTH_STEP_MM > MAX_GAP_MM)
    last = steps[wide[0]] if len(wide) else steps[-1]
    return int(last - steps[0] + 1)


__all__ = ["covered", "outlines"]
