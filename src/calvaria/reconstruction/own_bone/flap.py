"""The removed piece, scanned apart in any pose: put into the hole by rim and surface, and told how well it fits.

The engine's completion says roughly where: its body and the piece are laid onto each other from every side and turn.
Then the skull itself says exactly where: the piece's tables go on those of the rim, and the kerf is even all around.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.box import box_grid, box_to_world
from calvaria.reconstruction.own_bone.fill import FITTING_MM, OwnBone
from calvaria.reconstruction.own_bone.rigid import Pairs, Points, lay_onto, pairs, points_of, turned
from calvaria.reconstruction.own_bone.walls import TABLE, Around, Hole, Walls, holes_of
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.surface import BoneSurface
from calvaria.types import F64, BoolArray
from calvaria.volume.gather import trilinear_at
from calvaria.volume.gauss_newton import Linear, descend
from calvaria.volume.rotation import rotation_vector

TURNS = 24
"""Turns within the hole that are tried on each side: 15 degrees apart, nearer than the descents reach."""

BODY_STAGES = ((30.0, 8.0, 12), (15.0, 4.0, 12))
"""As `rigid.STAGES`, from a start to the body of the completion."""

CLOSE_STAGES = ((8.0, 3.0, 20),)
"""The same for the best of them."""

FOLLOWED, APART_RAD = 3, 0.15
"""So many of the best poses are followed to the end, turned against each other by more than the second."""

SOME_POINTS, FITTED_FLAP_POINTS, JUDGED_FLAP_POINTS = 400, 6000, 20_000
"""Points of the piece in the search, in the fit and in its figures."""

ROUGH_MM = 3.0
"""Distance at which a point of the piece counts half as far off in the search."""

MAX_KERF_MM = 6.0
"""Wider gaps are no kerf: a saw takes 1 to 3 mm, and rims resorb."""

FLAP_REACH_MM = 11.0
"""The piece's tables are compared with the rim's over gaps of so much, as the chord between them runs."""

FIT_STAGES = ((2.0, 15), (1.0, 15), (0.5, 20))
"""Difference at which a pair has lost three quarters of its weight, mm, and steps: the fit to the rim."""

SIDE_WEIGHT, BODY_WEIGHT, BODY_PART = 0.5, 0.02, 3.0
"""What the kerf's evenness counts and what the completion does, a part of whose distance is
looked at, where the rim's tables count 1."""

MAX_FLAP_STEP = np.array([0.1] * 3 + [3.0] * 4)
SETTLED_FLAP_STEP = np.array([1e-5] * 3 + [1e-3] * 4)

MIN_RIM_SHARE = 0.38
"""Share of the rim that the piece has to meet within ``FITTING_MM``. Pieces of the same person with kerfs of 1 to 3 mm
have 0.45 to 0.72, others and mirrored ones at most 0.32 (`calvaria.benchmarks.own_bone`)."""

MAX_IN_BONE = 0.06
"""Share of the piece that may lie in bone that is there: own ones have none, a piece 4 mm too large 0.07 to 0.15."""

DEEP_MM = 0.7
"""Less deep in bone is rounding of two scans."""

RIM_EDGE_MM = 8.0
"""The rim's tables count so far from the hole."""


@dataclass(frozen=True)
class FlapFit:
    """How well the removed piece fits into the hole.

    Args:
        kerf_mm: gap between piece and rim, the median along the rim.
        kerf_p95_mm: 95th percentile of it.
        step_mm: step between the piece's tables and the rim's, mean.
        step_p95_mm: 95th percentile of it.
        meeting: share of the rim's tables that go on in the piece's within ``FITTING_MM``.
        in_bone: share of the piece that would lie in bone that is there.
        to_skull: (4, 4) rows: world of the piece's scan -> world of the skull, mm.
    """

    kerf_mm: float
    kerf_p95_mm: float
    step_mm: float
    step_p95_mm: float
    meeting: float
    in_bone: float
    to_skull: tuple[tuple[float, ...], ...]


def lay_flap(piece: BoneSurface, done: Completion, skull: BoneSurface) -> tuple[OwnBone, FlapFit]:
    """Put the removed piece into the hole, and refuse what fits into none.

    Args:
        piece: surface of its bone, in any pose.
        done: the engine's completion, with a hole.
        skull: surface of the bone that is there.

    Returns:
        The piece in its place, and how well it fits.

    Raises:
        InputError: there is no hole; or the piece fits into none.
    """
    bone, fit = best_fit(piece, done, skull)
    _require_fitting(fit, piece, holes_of(done))
    return bone, fit


def best_fit(piece: BoneSurface, done: Completion, skull: BoneSurface) -> tuple[OwnBone, FlapFit]:
    """The best position of a piece, whosever it is; arguments as for `lay_flap`.

    Raises:
        InputError: there is no hole.
    """
    holes = holes_of(done)
    if not holes:
        raise InputError("no hole was found in the skull that a removed piece could be put into; leave it out")
    points = points_of(piece)
    found = [_placed(points, piece, hole, skull, done) for hole in holes]
    pose, fit = max(found, key=lambda one: one[1].meeting - one[1].in_bone)
    return OwnBone(piece, np.asarray(np.linalg.inv(pose)), _everywhere, has_rim=False), fit


def _require_fitting(fit: FlapFit, piece: BoneSurface, holes: list[Hole]) -> None:
    """Raise where the piece fits into no hole.

    Raises:
        InputError: it does not.
    """
    if fit.meeting >= MIN_RIM_SHARE and fit.in_bone <= MAX_IN_BONE:
        return
    piece_ml = float(piece.fraction.data.sum()) * piece.fraction.grid.voxel_volume_mm3 / 1000
    sizes = " and ".join(f"{hole.volume_ml:.0f}" for hole in holes)
    raise InputError(
        f"the piece ({piece_ml:.0f} ml) does not fit into the hole ({sizes} ml): at best {fit.meeting:.0%} of the rim "
        f"goes on in it within {FITTING_MM:g} mm (wanted: {MIN_RIM_SHARE:.0%}), with steps of {fit.step_mm:.1f} mm, "
        f"and {fit.in_bone:.0%} of it would lie in bone; is it this patient's, and of this side? Else leave it out"
    )


def _everywhere(points_mm: F64) -> BoolArray:
    """A piece's scan shows all of it."""
    return np.ones(len(points_mm), bool)


def _placed(
    points: Points, piece: BoneSurface, hole: Hole, skull: BoneSurface, done: Completion
) -> tuple[F64, FlapFit]:
    """The best pose of the piece in a hole, (4, 4) piece -> skull, and its figures."""
    body = points_of(hole.body)
    tried = []
    some = points.thinned(SOME_POINTS)
    for start in _starts(points, hole):
        pose = lay_onto(some, hole.body, start, BODY_STAGES)
        tried.append((_apart(some, body.thinned(SOME_POINTS), piece, hole.body, pose), pose))
    tried.sort(key=lambda one: one[0])
    best = _different([pose for _, pose in tried])
    around = Around.of(hole, done)
    rim = Walls.of(skull, np.eye(4), around)
    fitted = []
    for rough in best:
        close = lay_onto(points.thinned(2000), hole.body, rough, CLOSE_STAGES)
        own = Walls.of(piece, close, around)
        pose = _to_rim(own, rim, hole.body, close)
        fitted.append((pose, _judged(own, piece, pose, rim, done)))
    return max(fitted, key=lambda one: one[1].meeting - one[1].in_bone)


def _different(poses: list[F64]) -> list[F64]:
    """The first of poses that are turned against each other: many starts run to one."""
    kept: list[F64] = []
    for pose in poses:
        if all(np.linalg.norm(rotation_vector(pose[:3, :3] @ one[:3, :3].T)) > APART_RAD for one in kept):
            kept.append(pose)
        if len(kept) == FOLLOWED:
            break
    return kept


def _starts(points: Points, hole: Hole) -> list[F64]:
    """Poses of the piece in the hole: either side outwards, every turn."""
    centre = points.at_mm.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((points.at_mm - centre).T))
    own = axes.T[::-1].copy()
    own[1] = np.cross(own[2], own[0])
    starts = []
    for side in (1.0, -1.0):
        # Turned over about its long axis, the piece shows its other side.
        rows = own * np.array([[1.0], [side], [side]])
        for turn in 2 * np.pi * np.arange(TURNS) / TURNS:
            spun = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
            pose = np.eye(4)
            pose[:3, :3] = hole.axes.T @ spun @ rows
            pose[:3, 3] = hole.centre - pose[:3, :3] @ centre
            starts.append(pose)
    return starts


def _apart(points: Points, body: Points, piece: BoneSurface, hole: BoneSurface, pose: F64) -> float:
    """How unlike piece and body are in a pose, 0 to 1: points of each that lie far off the other."""
    there = _robust(points.moved(pose), hole)
    back = _robust(body.moved(np.asarray(np.linalg.inv(pose))), piece)
    return (there + back) / 2


def _robust(points: Points, surface: BoneSurface) -> float:
    if surface.tree is None or not len(points.at_mm):
        return 1.0
    apart, foot = surface.tree.query(points.at_mm, workers=2)
    facing = np.einsum("nk,nk->n", surface.normals[foot], points.normals) > 0.3
    square = (apart / ROUGH_MM) ** 2
    return float(np.where(facing, square / (square + 1), 1.0).mean())


def _chords(here: Points, tables: BoneSurface, limit_mm: float) -> tuple[BoolArray, F64, F64]:
    """Whether tables go on beyond points, by how much the two are off the chord between them, and across it."""
    count = len(here.at_mm)
    if tables.tree is None:
        return np.zeros(count, bool), np.zeros(count), np.zeros((count, 3))
    apart, foot = tables.tree.query(here.at_mm, distance_upper_bound=limit_mm, workers=2)
    found = np.isfinite(apart)
    foot = np.where(found, foot, 0)
    normals = tables.normals[foot]
    found &= np.einsum("nk,nk->n", normals, here.normals) > TABLE
    # Of a round surface the chord between two points is at right angles to the mean of their normals.
    mean = normals + here.normals
    mean /= np.linalg.norm(mean, axis=1, keepdims=True) + 1e-9
    step = np.einsum("nk,nk->n", here.at_mm - tables.points_mm[foot], mean)
    return found, np.where(found, step, 0.0), mean


def _to_rim(own: Walls, rim: Walls, body: BoneSurface, start: F64) -> F64:
    """The pose in which tables go on and the kerf is even; (4, 4)."""
    tables, faces = points_of(own.tables).thinned(FITTED_FLAP_POINTS), points_of(own.faces).thinned(FITTED_FLAP_POINTS)
    state = (start, 1.5)
    for robust_mm, iterations in FIT_STAGES:
        centre = tables.moved(state[0]).at_mm.mean(axis=0) if len(tables.at_mm) else np.zeros(3)

        def linear(at: tuple[F64, float], centre: F64 = centre, robust_mm: float = robust_mm) -> Linear:
            here, cut = tables.moved(at[0]), faces.moved(at[0])
            on, step, across = _chords(here, rim.tables, FLAP_REACH_MM)
            gap = _gaps(cut, rim.faces)
            two = pairs(here, body, 4 * robust_mm + 2)
            off = np.concatenate([step, -gap.off_mm - at[1], two.off_mm / BODY_PART])
            jacobian = np.concatenate(
                [
                    _by_pose(here, across, centre, 0.0),
                    -_by_pose(cut, gap.normals, centre, 1.0),
                    _by_pose(here, two.normals, centre, 0.0) / BODY_PART,
                ]
            )
            weight = np.concatenate([1.0 * on, SIDE_WEIGHT * gap.found, BODY_WEIGHT * two.found])
            return Linear(off, jacobian, weight)

        def move(at: tuple[F64, float], step: F64, centre: F64 = centre) -> tuple[F64, float]:
            return turned(step[:6], centre) @ at[0], float(np.clip(at[1] + step[6], 0.0, MAX_KERF_MM))

        state = descend(
            state,
            linear,
            move,
            iterations=iterations,
            robust=robust_mm,
            largest=MAX_FLAP_STEP,
            settled=SETTLED_FLAP_STEP,
        )
    return state[0]


def _gaps(cut: Points, faces: BoneSurface) -> Pairs:
    """The rim's faces before those of the piece, which face the other way; they lie off by minus the gap."""
    return pairs(Points(cut.at_mm, -cut.normals, cut.weight), faces, MAX_KERF_MM)


def _by_pose(points: Points, normals: F64, centre: F64, kerf: float) -> F64:
    """(N, 7) how distances along normals change by rotation, shift and kerf."""
    kerfs = np.full((len(normals), 1), kerf)
    return np.concatenate([np.cross(points.at_mm - centre, normals), normals, kerfs], axis=1)


def _judged(own: Walls, piece: BoneSurface, pose: F64, rim: Walls, done: Completion) -> FlapFit:
    """The figures of a pose."""
    gap = _gaps(points_of(own.faces).thinned(JUDGED_FLAP_POINTS).moved(pose), rim.faces)
    kerf, kerf_p95 = _median_p95(np.maximum(-gap.off_mm[gap.found], 0.0))
    on, steps, _ = _chords(points_of(own.tables).thinned(JUDGED_FLAP_POINTS).moved(pose), rim.tables, FLAP_REACH_MM)
    step = np.abs(steps[on])
    mean = float(step.mean()) if len(step) else np.inf
    rows = tuple(tuple(row) for row in pose.round(6).tolist())
    return FlapFit(
        round(kerf, 2),
        round(kerf_p95, 2),
        round(mean, 3),
        round(_median_p95(step)[1], 3),
        round(_meeting(own, pose, rim), 3),
        round(_in_bone(piece, pose, done), 3),
        rows,
    )


def _median_p95(values: F64) -> tuple[float, float]:
    if not len(values):
        return np.inf, np.inf
    middle, high = np.percentile(values, [50, 95])
    return float(middle), float(high)


def _meeting(own: Walls, pose: F64, rim: Walls) -> float:
    """Share of the rim's tables next to the hole that go on in the piece's."""
    edge = points_of(rim.tables, rim.apart_mm < RIM_EDGE_MM).thinned(JUDGED_FLAP_POINTS)
    if not len(edge.at_mm):
        return 0.0
    there = edge.moved(np.asarray(np.linalg.inv(pose)))
    found, step, _ = _chords(there, own.tables, FLAP_REACH_MM + RIM_EDGE_MM)
    return float((found & (np.abs(step) < FITTING_MM)).mean())


def _in_bone(piece: BoneSurface, pose: F64, done: Completion) -> float:
    """Share of the piece that lies deep in bone that is there."""
    index = np.argwhere(piece.fraction.data > 0.5)
    index = index[:: max(1, len(index) // JUDGED_FLAP_POINTS)]
    points = piece.fraction.grid.to_world(index) @ pose[:3, :3].T + pose[:3, 3]
    box = box_grid().moved(box_to_world(done.frame))
    read = trilinear_at(done.field.distance_mm.reshape(-1), box.shape, box.to_index(points).T)
    return float((read < -DEEP_MM).mean()) if len(points) else 0.0


__all__ = ["FlapFit", "best_fit", "lay_flap"]
