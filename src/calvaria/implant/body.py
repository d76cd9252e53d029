"""The implant's body as one field on a fine grid: below 0 inside, and closed triangles from it.

The grid's last axis points the way the implant comes out. What may be in the way on the way in is then a running
minimum along that axis: at each node, the least distance to bone that a piece of the implant there ever has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.implant.insertion import FAR_STEP_MM, far_mm
from calvaria.implant.memory import AT_THE_RIM, DETAILS, Lately, key_of
from calvaria.implant.parts import Relief
from calvaria.implant.settings import ImplantSettings
from calvaria.implant.site import RIM_MM, Site, area_cm2
from calvaria.implant.wish import Wish
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.grid import Grid
from calvaria.volume.rotation import across
from calvaria.volume.volume import Volume

STEP_MM = 0.5
"""Voxel edge of the grid that a body is designed on."""

BLOCK = 4
"""Nodes along the edge of the blocks that are looked at or passed over as one."""

ABOVE_MM = 3.0
"""Bone is measured finely up to so far above the outer surface."""

SLACK_MM = 0.5
"""The implant may reach beyond the missing bone by so much, where no bone stops it."""

SEAT_MM = 0.3
"""Between a flange and the bone that it lies on."""

BLEND_MM = 8.0
"""A flange runs out over the implant within this, so that there is no step."""

OUTSIDE = 2.0
"""Value of the field where nothing is looked at, mm."""

EDGE_DEG, MIN_EDGE_DEG = 50.0, 20.0
"""An edge of the rim is at least so sharp by itself, where the bone was cut askew by 40 degrees, and after a bevel."""

SHELL_MM, BALLS = 0.8, 8
"""Nodes that have so much more room than the smallest are centres of balls; so many of the nearest are looked at."""

GRAIN_MM = 0.05
"""By so much the balls about nodes of the grid fall short of all balls."""

STEEP = 0.3
"""mm over which the clearance goes from that of the wall to that of a flange's seat."""


@dataclass(frozen=True, eq=False)
class Body:
    """A body as a field.

    Args:
        field: signed, about mm, negative inside; exact near the surface.
        near_mm: least distance to bone on the way in, on the same grid.
        seat_mm: distance to bone where the implant ends up.
        relief: what the way in and the smallest wall took away.
    """

    field: Volume
    near_mm: F32
    seat_mm: F32
    relief: Relief


def build_body(
    site: Site,
    far: Volume,
    wish: Wish,
    direction: F64,
    settings: ImplantSettings,
    *,
    cut: tuple[F64, float] | None = None,
    laid: Lately[Laid] | None = None,
) -> Body:
    """The body of an implant.

    Args:
        site: the hole.
        far: coarse distance to bone, see `insertion.far_field`.
        wish: what it covers.
        direction: (3,) unit, world, the way it moves when it is put in.
        settings: the other parameters.
        cut: a plane ``normal . x <= offset`` that it stays behind, world mm.
        laid: nodes of earlier bodies for the same site; those of this one are left in it.

    Raises:
        InputError: nothing is left of it.
    """
    key = (key_of(settings, DETAILS | AT_THE_RIM), direction.tobytes(), None if cut is None else cut[0].tobytes())
    known = (laid or Lately()).of(key, lambda: Laid.of(site, far, wish, direction, settings))
    grid, seat, near = known.grid, known.seat_mm, known.near_mm
    nodes = replace(known.nodes, clearance=wish.clearance_mm.reshape(-1)[known.nodes.foot])
    flat_near, flat_seat = near.reshape(-1)[nodes.flat], seat.reshape(-1)[nodes.flat]
    asked = asked_mm(nodes.height, nodes.thickness, nodes.clearance, settings)
    layer = _layer(nodes, settings, None if site.solid is None else site.solid.distance_mm(nodes.points))
    if cut is not None:
        layer = np.maximum(layer, (nodes.points @ cut[0] - cut[1]).astype(np.float32))
    room = _reachable(flat_near - asked, nodes, settings.min_wall_mm / 2)
    values = _without_feathers(np.maximum(layer, -room), nodes, settings)
    field = np.full(grid.shape, OUTSIDE, np.float32)
    field.reshape(-1)[nodes.flat] = values
    narrow = int(np.count_nonzero((values >= 0) & (layer < 0) & (flat_near >= asked)))
    main = _main_piece(field)
    if main is None:
        raise InputError(
            f"nothing is left of an implant over a hole of {area_cm2(site, wish.edge_mm):.1f} cm2 with a clearance of "
            f"{settings.clearance_mm:g} mm"
        )
    field[(field < 0) & ~main] = STEP_MM / 4
    voxel_ml = STEP_MM**3 / 1000
    undercut = (layer < 0) & (flat_seat >= asked) & (flat_near < asked)
    # A node that stood free and alone counts for nothing: only what hangs on the body is taken from it.
    depth = float((flat_seat - asked)[undercut].max()) if undercut.any() else 0.0
    relief = Relief(max(depth, 0.0), float(undercut.sum() * voxel_ml), float(narrow * voxel_ml))
    return Body(Volume(field, grid), near, seat, relief)


@dataclass(frozen=True, eq=False)
class Laid:
    """What a body is designed on, whatever its rim.

    Args:
        grid: its last axis points the way out.
        nodes: near the layer in which the implant lies.
        seat_mm: (I, J, K) distance to bone.
        near_mm: (I, J, K) least distance to bone on the way in.
    """

    grid: Grid
    nodes: _Nodes
    seat_mm: F32
    near_mm: F32

    @classmethod
    def of(cls, site: Site, far: Volume, wish: Wish, direction: F64, settings: ImplantSettings) -> Laid:
        """Lay it; arguments as for `build_body`."""
        grid = _grid(site, wish, direction, settings)
        nodes = _Nodes.of(site, wish, grid, settings)
        seat = _distances(site, far, grid, nodes)
        near = np.minimum.accumulate(seat[:, :, ::-1], axis=2)[:, :, ::-1]
        np.minimum(near, _beyond(far, grid, settings.travel_mm)[:, :, None], out=near)
        return cls(grid, nodes, seat, near)


def asked_mm(height_mm: F32, thickness_mm: F32, clearance_mm: F32, settings: ImplantSettings) -> F32:
    """The gap to bone that is asked for at points by their height above the outer surface (negative: below)."""
    depth = np.clip(-height_mm, 0.0, thickness_mm)
    lean = np.tan(np.radians(settings.bevel_deg))
    wall = clearance_mm + settings.widening_mm * depth / np.maximum(thickness_mm, 1e-3) + lean * depth
    if not settings.flange_width_mm:
        return np.asarray(wall, np.float32)
    share = np.clip(height_mm / STEEP, 0.0, 1.0)
    return np.asarray(wall * (1 - share) + SEAT_MM * share, np.float32)


def _grid(site: Site, wish: Wish, direction: F64, settings: ImplantSettings) -> Grid:
    """A grid around the body whose last axis points the way out."""
    up = -direction
    axes = np.stack([*across(up), up], axis=1)
    here = wish.edge_mm < SLACK_MM + settings.flange_width_mm + 1.0
    points, normals = site.sheet.points_mm[here], site.sheet.normals[here]
    deep = wish.thickness_mm[here][:, None] + 2.0
    ends = np.concatenate([points - deep * normals, points + _highest(wish, settings) * normals]) @ axes
    low, high = ends.min(axis=0) - 2 * STEP_MM, ends.max(axis=0) + 2 * STEP_MM
    count = np.ceil((high - low) / (STEP_MM * BLOCK)).astype(int) * BLOCK
    affine = np.eye(4)
    affine[:3, :3] = axes * STEP_MM
    affine[:3, 3] = axes @ low
    return Grid((int(count[0]), int(count[1]), int(count[2])), affine)


def _highest(wish: Wish, settings: ImplantSettings) -> float:
    """How far above the outer surface nodes are needed: there is bone to keep clear of, or a flange, mm."""
    flange = settings.flange_mm + SEAT_MM + float(wish.bulge_mm.max()) if settings.flange_width_mm else 0.0
    return ABOVE_MM + flange


@dataclass(frozen=True, eq=False)
class _Nodes:
    """The grid's nodes near the layer in which the implant lies.

    Args:
        flat: (N,) flat indices.
        points: (N, 3) world mm.
        height: (N,) above the outer surface.
        foot: (N,) flat number of the nearest point of the sheet's lattice.
        edge: (N,) signed distance of that to the implant's edge.
        thickness: (N,) asked for there.
        clearance: (N,) asked for there.
        bulge: (N,) of a flange there.
    """

    flat: NDArray[np.intp]
    points: F64
    height: F32
    foot: NDArray[np.intp]
    edge: F32
    thickness: F32
    clearance: F32
    bulge: F32

    @classmethod
    def of(cls, site: Site, wish: Wish, grid: Grid, settings: ImplantSettings) -> _Nodes:
        reach = SLACK_MM + settings.flange_width_mm + 1.5
        deepest, highest = float(wish.thickness_mm.max()) + 1.0, _highest(wish, settings)
        half = STEP_MM * BLOCK * np.sqrt(3) / 2
        coarse = np.stack(np.meshgrid(*(np.arange(0, n, BLOCK) for n in grid.shape), indexing="ij"), axis=-1).reshape(
            -1, 3
        )
        height, foot = site.sheet.above(grid.to_world(coarse + (BLOCK - 1) / 2))
        edge = wish.edge_mm.reshape(-1)[foot]
        near = (height > -deepest - half) & (height < highest + half) & (edge < reach + half)
        # Far from the rim nothing above the outer surface is needed.
        near &= (height < 1.0 + half) | (edge > -RIM_MM - half)
        steps = np.indices((BLOCK,) * 3).reshape(3, -1).T
        index = (coarse[near][:, None] + steps[None]).reshape(-1, 3)
        points = grid.to_world(index)
        height, foot = site.sheet.above(points)
        normals = site.sheet.normals.reshape(-1, 3)[foot]
        edge = _between(wish.edge_mm, site.sheet.cells(points - height[:, None] * normals))
        return cls(
            np.ravel_multi_index(tuple(index.T), grid.shape),
            points,
            height.astype(np.float32),
            foot,
            edge,
            wish.thickness_mm.reshape(-1)[foot],
            wish.clearance_mm.reshape(-1)[foot],
            wish.bulge_mm.reshape(-1)[foot],
        )


def _between(table: F32, cells: F64) -> F32:
    """Values of an (I, J) table at fractional cells."""
    from scipy.ndimage import map_coordinates

    out: F32 = map_coordinates(table, cells.T, order=1, mode="nearest").astype(np.float32)
    return out


def _layer(nodes: _Nodes, settings: ImplantSettings, solid_mm: F32 | None = None) -> F32:
    """The field of body and flange as if there were no bone; ``solid_mm``: distances to what the body is to be."""
    if solid_mm is None:
        body = np.maximum.reduce([nodes.height, -nodes.thickness - nodes.height, nodes.edge - SLACK_MM])
    else:
        body = np.maximum(nodes.height, solid_mm)  # bumps on its outer surface are smoothed away
    width = settings.flange_width_mm
    if not width:
        return np.asarray(body, np.float32)
    share = np.clip((nodes.edge + BLEND_MM) / (BLEND_MM - 2.0), 0.0, 1.0)
    top = (settings.flange_mm + SEAT_MM + nodes.bulge) * share**2 * (3 - 2 * share)
    flange = np.maximum.reduce(
        [nodes.height - top, -np.float32(STEP_MM) - nodes.height, nodes.edge - width, -BLEND_MM - nodes.edge]
    )
    return np.asarray(np.minimum(body, flange), np.float32)


def _distances(site: Site, far: Volume, grid: Grid, nodes: _Nodes) -> F32:
    """Distance to bone at all nodes: fine next to the rim, coarse and a little too small elsewhere."""
    i, j, k = (n // 2 for n in grid.shape)
    coarse = grid.to_world(2.0 * np.moveaxis(np.indices((i, j, k)), 0, -1).reshape(-1, 3) + 0.5)
    rough = (far_mm(far, coarse) - FAR_STEP_MM / 2).reshape(i, j, k)
    out = np.repeat(np.repeat(np.repeat(rough, 2, axis=0), 2, axis=1), 2, axis=2)
    close = (np.abs(nodes.edge) < RIM_MM) | (nodes.edge > 0)
    out.reshape(-1)[nodes.flat[close]] = site.rim.distance_mm(nodes.points[close])
    return out


def _beyond(far: Volume, grid: Grid, travel_mm: float) -> F32:
    """(I, J) least distance to bone above each column, on the rest of the way, coarse and a little small."""
    i, j, k = grid.shape
    columns = np.moveaxis(np.indices((i // 2, j // 2)), 0, -1).reshape(-1, 2) * 2.0 + 0.5
    top = grid.to_world(np.column_stack([columns, np.full(len(columns), k - 1.0)]))
    out = np.full(len(top), np.inf, np.float32)
    for step in np.arange(FAR_STEP_MM, travel_mm, FAR_STEP_MM):
        np.minimum(out, far_mm(far, top + step * grid.affine[:3, 2] / STEP_MM), out=out)
    return np.repeat(np.repeat(out.reshape(i // 2, j // 2) - np.float32(FAR_STEP_MM / 2), 2, axis=0), 2, axis=1)


def _reachable(room_mm: F32, nodes: _Nodes, radius_mm: float) -> F32:
    """Room to the bone, less where it is so narrow that no ball of a radius comes there from wider places.

    The implant would have a spur there, into a pore or a notch of the bone. A ball about a node, as large as the node's
    room, is room; all such balls of the radius and more are what is left (an opening by the ball).

    Args:
        room_mm: (N,) distance to bone less the clearance.
        nodes: where.
        radius_mm: half of the smallest wall.
    """
    from scipy.spatial import cKDTree

    wide = (room_mm >= radius_mm) & (room_mm < radius_mm + SHELL_MM)
    tight = np.flatnonzero((room_mm > -2 * STEP_MM) & (room_mm < radius_mm))
    if not wide.any() or not len(tight):
        return room_mm
    tree = cKDTree(nodes.points[wide], balanced_tree=False, compact_nodes=False)
    reach = radius_mm + 2 * STEP_MM
    off, found = tree.query(nodes.points[tight], k=BALLS, distance_upper_bound=reach, workers=2)
    balls = np.append(room_mm[wide], np.float32(0.0))
    out = room_mm.copy()
    out[tight] = np.minimum(room_mm[tight], (balls[found] - np.minimum(off, reach)).max(axis=1) + GRAIN_MM)
    return out


def _main_piece(field: F32) -> BoolArray | None:
    labels, count = label(field < 0, connectivity=6)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _without_feathers(values: F32, nodes: _Nodes, settings: ImplantSettings) -> F32:
    """The field of the body without what is thinner or narrower than the smallest wall.

    That is what no ball of the wall's diameter reaches from within (an opening by it). An opening alone would also
    round every edge; so only what reaches farther from the balls than an edge of `edge_deg` does is taken away.
    """
    from scipy.spatial import cKDTree

    radius = settings.min_wall_mm / 2
    near = nodes.edge > -RIM_MM
    core = near & (values <= -radius) & (values > -radius - SHELL_MM)
    slight = near & (values < 2 * STEP_MM) & (values > -radius)
    if settings.flange_width_mm:
        # A flange has its own thickness, in which no ball may have room.
        slight &= nodes.height < -STEP_MM
    thin = np.flatnonzero(slight)
    if not core.any() or not len(thin):
        return values
    tree = cKDTree(nodes.points[core], balanced_tree=False, compact_nodes=False)
    reach = 6 * radius
    off, found = tree.query(nodes.points[thin], k=BALLS, distance_upper_bound=reach, workers=2)
    balls = np.append(-values[core], np.float32(0.0))
    beyond = (np.minimum(off, reach) - balls[found]).min(axis=1) - GRAIN_MM
    half_edge = np.radians(max(MIN_EDGE_DEG, EDGE_DEG - settings.bevel_deg) / 2)
    usual = radius / np.sin(half_edge) - radius
    seeds = (values[thin] < 0) & (beyond > usual)
    if not seeds.any():
        return values
    around = usual + 2 * STEP_MM
    off, _ = cKDTree(nodes.points[thin[seeds]]).query(nodes.points[thin], distance_upper_bound=2 * around, workers=2)
    out = values.copy()
    out[thin] = np.maximum(values[thin], np.minimum(beyond, around - np.minimum(off, 2 * around)))
    return out


__all__ = ["STEP_MM", "Body", "Laid", "asked_mm", "build_body"]
