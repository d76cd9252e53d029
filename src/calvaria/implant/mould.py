"""A two-part mould for PMMA: where no printer makes implants, bone cement takes the shape between two printed halves.

The halves part along the rim. PMMA is pressed between them, what is too much leaves through channels in the upper half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import CalvariaError, InputError
from calvaria.implant.parts import Part
from calvaria.implant.places import spread
from calvaria.implant.solids import (
    SEGMENTS,
    cut,
    largest,
    prism,
    rod,
    round_rod,
    spans,
    to_mesh,
    to_solid,
    upright_frame,
)
from calvaria.types import F64, BoolArray
from calvaria.volume.mesh import Mesh

if TYPE_CHECKING:
    from manifold3d import Manifold

MARGIN_MM = 12.0
"""Of the block around the body; our choice: room for the pins, walls that bear being pressed together."""

MAX_SIZE_MM = 250.0
"""A larger body is none (510(k) K250334: 25 to 250 mm wide and long)."""

RASTER_MM = 1.0
"""Spacing of the parting surface's points."""

EDGE_STEP_MM = 0.5
"""Spacing of its points along the rim."""

MIN_GAP_MM = 0.7
"""Points of the raster nearer to the rim are left out, so that triangles have the rim for an edge."""

INSIDE_MM = 0.01
"""So far inside the rim the body's height there is measured: at the rim itself a line may miss it."""

EVEN_MM, EVEN_ROUNDS = 2.0, 20
"""Where the rim's wall is upright, the parting line is evened out along it, within the wall, so often."""

MAX_UNDERCUT = 0.01
"""Where more than this part of a body's plan lies over other parts of it, two halves cannot be drawn off."""

PIN_MM, PIN_HEIGHT_MM = 6.0, 5.0
"""Diameter and height of the locating pins, whose ends are round; our choice."""

PIN_PLAY_MM = 0.25
"""The sockets are wider by this, all around: what printers are off by."""

PIN_ROOT_MM = 8.0
"""How far a pin reaches into the lower half."""

CHANNELS, CHANNEL_MM = 6, 3.0
"""Number and diameter of the overflow channels: half round, in the upper half; our choice."""

CHANNEL_START_MM = 1.0
"""They begin so far inside the rim."""

CHANNEL_STEP_MM = 2.0
"""Between the points of a channel."""

CHANNEL_WALL_MM = 2.0
"""Between a channel and a pin's socket."""

SIMPLER_MM = 0.005
"""How far the halves may be simplified: far below a printer's layers."""

NOTHING_MM2 = 1.0
"""Specks in the body's outline that are smaller are none."""


CHANNEL_APART_MM = 8.0
"""Between the beginnings of two channels, along the rim."""

DIRECTION_MM = 3.0
"""The rim's direction is that between points so far ahead and behind."""


@dataclass(frozen=True, eq=False)
class Parting:
    """The surface between the halves: a height over the plane across the direction of insertion.

    Args:
        points: (V, 3) mm, in the block's frame.
        faces: (F, 3) counter-clockwise from above.
        rim: the outline of the body in projection, closed lines of (R, 2) points, the longest first; the body lies to
            the left.
        surface: the height at (N, 2) positions within the block.
    """

    points: F64
    faces: NDArray[np.int64]
    rim: tuple[F64, ...]
    surface: Callable[[F64], Any]

    def height(self, xy: F64) -> F64:
        """(N,) at (N, 2) positions, that of the nearest edge of the block beyond it."""
        low, high = self.points[:, :2].min(axis=0), self.points[:, :2].max(axis=0)
        return np.asarray(self.surface(np.clip(xy, low, high)))


def make_mould(part: Part) -> tuple[Mesh, Mesh]:
    """The two halves of a mould for an implant.

    It is made for the body, without perforations, seats and mark: PMMA is drilled afterwards.

    Args:
        part: an implant.

    Returns:
        The lower half, which takes the inner side and carries the pins, and the upper one, with sockets and overflow
        channels; both closed, world LPS mm, so that the body lies between them as the implant lies in the head.

    Raises:
        InputError: the body is too large, or cannot be drawn from two halves along its direction of insertion.
    """
    from manifold3d import Manifold, OpType

    middle = part.body.vertices_mm.mean(axis=0)
    frame = _frame(part.body.vertices_mm - middle, -np.asarray(part.direction, np.float64))
    body = Mesh((part.body.vertices_mm - middle) @ frame.T, part.body.faces)
    _require_size(part.name, body)
    low, high = body.vertices_mm.min(axis=0) - MARGIN_MM, body.vertices_mm.max(axis=0) + MARGIN_MM
    parting = _parting(part.name, body, low, high)
    filling = to_solid(body)
    floor, ceiling = parting.points.copy(), parting.points.copy()
    floor[:, 2], ceiling[:, 2] = low[2], high[2]
    lower = to_solid(prism(floor, parting.points, parting.faces))
    upper = to_solid(prism(parting.points, ceiling, parting.faces))
    pins = _pin_positions(parting, low, high)
    lower = Manifold.batch_boolean([lower, *(_pin(at, 0.0) for at in pins)], OpType.Add)
    sockets = [_pin(at, PIN_PLAY_MM) for at in pins]
    halves = cut(lower, [filling]), cut(upper, [filling, *sockets, *_channels(parting, pins, low, high)])
    one, two = (to_mesh(largest(half.simplify(SIMPLER_MM))) for half in halves)
    return Mesh(one.vertices_mm @ frame + middle, one.faces), Mesh(two.vertices_mm @ frame + middle, two.faces)


def _frame(body: F64, up: F64) -> F64:
    """(3, 3) rows: along and across (N, 3) points as they are seen from above, and up."""
    flat = body - (body @ up)[:, None] * up
    return upright_frame(up, np.linalg.eigh(flat.T @ flat)[1][:, -1])


def _require_size(name: str, body: Mesh) -> None:
    """That the body is no larger than implants are."""
    size = body.vertices_mm.max(axis=0) - body.vertices_mm.min(axis=0)
    if size.max() > MAX_SIZE_MM:
        raise InputError(
            f"{name}: no mould: it is {size.max():.0f} mm long, moulds are made up to {MAX_SIZE_MM:g} mm; "
            "leave the mould out"
        )


def _parting(name: str, body: Mesh, low: F64, high: F64) -> Parting:
    """The parting surface of a body in its block: half way through the body, and on from its rim to the block's sides.

    Where the body ends in projection, the surface runs through its very edge: nothing of either half hooks over it.
    """
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import Delaunay, cKDTree

    rings = _outlines(body)
    _require_drawable(name, body, rings)
    rim = np.concatenate(rings)
    raster = _raster(low, high)
    raster = raster[cKDTree(rim).query(raster)[0] > MIN_GAP_MM]
    inside = np.flatnonzero(_within(raster, rings))
    bottom, top, _ = spans(body, raster[inside])
    hit = ~np.isnan(bottom)
    flat = np.concatenate([raster, rim])
    z = np.full(len(flat), np.nan)
    z[inside[hit]] = (bottom + top)[hit] / 2
    z[len(raster) :] = np.concatenate([_rim_heights(body, ring) for ring in rings])
    mesh = Delaunay(flat)
    faces = np.asarray(mesh.simplices, np.int64)
    area = _twice_area(flat[faces])
    faces = np.where((area < 0)[:, None], faces[:, ::-1], faces)[np.abs(area) > 1e-9]
    z = _continued(flat, faces, z)
    return Parting(np.concatenate([flat, z[:, None]], axis=1), faces, rings, LinearNDInterpolator(mesh, z))


def _outlines(body: Mesh) -> tuple[F64, ...]:
    """The body's outline in projection, points `EDGE_STEP_MM` apart and at every corner; the longest line first."""
    from manifold3d import CrossSection, FillRule

    shadow = CrossSection(to_solid(body).project().to_polygons(), FillRule.Positive)
    rings = []
    for ring in shadow.to_polygons():
        area = abs(CrossSection([ring], FillRule.NonZero).area())
        if area < NOTHING_MM2:
            continue
        ahead = np.roll(ring, -1, axis=0)
        count = np.maximum(np.ceil(np.linalg.norm(ahead - ring, axis=1) / EDGE_STEP_MM), 1).astype(int)
        start, end = np.repeat(ring, count, axis=0), np.repeat(ahead, count, axis=0)
        share = np.concatenate([np.arange(n) / n for n in count])
        rings.append(start + share[:, None] * (end - start))
    return tuple(sorted(rings, key=len, reverse=True))


def _raster(low: F64, high: F64) -> F64:
    """(N, 2) points all over the block's plan, its sides included."""
    axes = [np.linspace(a, b, int(np.ceil((b - a) / RASTER_MM)) + 1) for a, b in zip(low[:2], high[:2], strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _within(points: F64, rings: tuple[F64, ...]) -> BoolArray:
    """(N,) whether points lie inside closed lines, a line within another being the edge of a hole."""
    from skimage import measure

    points_in_poly: Callable[..., Any] = measure.points_in_poly
    inside = np.zeros(len(points), np.bool_)
    for ring in rings:
        inside ^= points_in_poly(points, ring)
    return inside


def _require_drawable(name: str, body: Mesh, rings: tuple[F64, ...]) -> None:
    """That no part of the body lies over another: what faces upwards then covers its outline once."""
    upwards = np.maximum(_twice_area(body.vertices_mm[body.faces][:, :, :2]), 0.0).sum() / 2
    covered = abs(sum(_area(ring) for ring in rings))
    if upwards > (1 + MAX_UNDERCUT) * covered:
        raise InputError(
            f"{name}: no mould: {(upwards - covered) / 100:.1f} cm2 of it lie over other parts of it along the way it "
            "is put in, two halves cannot be drawn off; leave the mould out"
        )


def _twice_area(corners: F64) -> F64:
    """(N,) twice the areas of (N, 3, 2) triangles, positive counter-clockwise."""
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])


def _area(ring: F64) -> float:
    """Area in a closed line of (R, 2) points, positive counter-clockwise."""
    ahead = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * ahead[:, 1] - ring[:, 1] * ahead[:, 0]).sum()) / 2


def _inwards(ring: F64, reach: int) -> F64:
    """(R, 2) unit normals of a closed line, to its left, from points so many steps ahead and behind."""
    along = np.roll(ring, -reach, axis=0) - np.roll(ring, reach, axis=0)
    left = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return np.asarray(left / np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-9))


def _rim_heights(body: Mesh, ring: F64) -> F64:
    """(R,) heights on the body where it ends in projection: half way up, and as even along the rim as it allows."""
    from scipy.ndimage import gaussian_filter1d

    bottom, top, _ = spans(body, ring + INSIDE_MM * _inwards(ring, 1))
    known = np.flatnonzero(~np.isnan(bottom))
    if not known.size:
        raise CalvariaError("the rim of a body was not found on the body; please report it")
    bottom, top = (np.interp(np.arange(len(z)), known, z[known], period=len(z)) for z in (bottom, top))
    height = (bottom + top) / 2
    for _ in range(EVEN_ROUNDS):
        height = np.clip(gaussian_filter1d(height, EVEN_MM / EDGE_STEP_MM, mode="wrap"), bottom, top)
    return height


def _continued(flat: F64, faces: NDArray[np.int64], z: F64) -> F64:
    """Heights with those that are NaN filled in as a membrane would: harmonic, level across the block's sides."""
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import spsolve

    size = len(flat)
    stiffness = coo_array((size, size)).tocsr()
    area = _twice_area(flat[faces])
    for k in range(3):
        a, b, c = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        # The cotangent of the angle at c weighs the edge from a to b.
        weight = ((flat[a] - flat[c]) * (flat[b] - flat[c])).sum(axis=1) / area
        stiffness = stiffness + coo_array((np.concatenate([weight, weight]), (np.r_[a, b], np.r_[a, b])), (size, size))
        stiffness = stiffness - coo_array((np.concatenate([weight, weight]), (np.r_[a, b], np.r_[b, a])), (size, size))
    free, known = np.flatnonzero(np.isnan(z)), np.flatnonzero(~np.isnan(z))
    rows = stiffness.tocsr()[free]
    filled = z.copy()
    filled[free] = spsolve(rows[:, free].tocsc(), -(rows[:, known] @ z[known]))
    return filled


def _pin_positions(parting: Parting, low: F64, high: F64) -> F64:
    """(4, 3) on the parting surface in the block's corners."""
    inset = MARGIN_MM / 2
    x, y = (low[0] + inset, high[0] - inset), (low[1] + inset, high[1] - inset)
    flat = np.array([[one, other] for one in x for other in y])
    return np.concatenate([flat, parting.height(flat)[:, None]], axis=1)


def _pin(at: F64, play_mm: float) -> Manifold:
    """A pin with a round end, or its socket, which is wider all around."""
    from manifold3d import Manifold

    up = np.array([0.0, 0.0, 1.0])
    radius = PIN_MM / 2
    centre = at + (PIN_HEIGHT_MM - radius) * up
    stem = rod(at - PIN_ROOT_MM * up, centre, radius + play_mm)
    return stem + Manifold.sphere(radius + play_mm, SEGMENTS).translate(tuple(centre.tolist()))


def _channels(parting: Parting, pins: F64, low: F64, high: F64) -> list[Manifold]:
    """Round rods along the parting surface from the rim to the block's sides, about evenly around it."""
    ring = parting.rim[0]
    out = -_inwards(ring, max(round(DIRECTION_MM / EDGE_STEP_MM), 1))
    ahead = np.where(out > 0, high[:2] - ring, low[:2] - ring) / np.where(np.abs(out) > 1e-9, out, 1e-9)
    length = ahead.min(axis=1) + CHANNEL_MM
    # Free of pins, and of other parts of the rim.
    clear = np.ones(len(ring), np.bool_)
    for share in np.linspace(0.0, 1.0, 24):
        at = ring + (CHANNEL_MM + share * length)[:, None] * out
        apart = np.linalg.norm(at[:, None] - pins[None, :, :2], axis=2).min(axis=1)
        clear &= apart > (CHANNEL_MM + PIN_MM) / 2 + PIN_PLAY_MM + CHANNEL_WALL_MM
        clear &= ~_within(at, parting.rim)
    rods = []
    for k in spread(ring, clear, CHANNELS, CHANNEL_APART_MM):
        reach = length[k] + CHANNEL_START_MM
        steps = np.linspace(-CHANNEL_START_MM, length[k], int(np.ceil(reach / CHANNEL_STEP_MM)) + 1)
        flat = ring[k] + steps[:, None] * out[k]
        rods.append(round_rod(np.concatenate([flat, parting.height(flat)[:, None]], axis=1), CHANNEL_MM / 2))
    return rods


__all__ = ["make_mould"]
