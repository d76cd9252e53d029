"""The patient's own bone as the patch: it where it is, the engine's completion in what it leaves open.

Where the old scan ends, where it has a hole of its own, where slices were too thick for a thin plate, and in the kerf
around a flap, the completion closes the gap. It is first drawn to the surfaces beside the gap, own and present, so that
no step is left, and the two are then blended over some millimetres by their signed distances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calvaria.reconstruction.box import AIR_MM, box_grid, box_to_world, vault
from calvaria.reconstruction.own_bone.rigid import Points, pairs, points_of
from calvaria.reconstruction.postprocess import EDGE_MM, MARGIN_MM, below_zero, without_flakes
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.surface import BoneSurface
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample
from calvaria.volume.sampler import known_mask
from calvaria.volume.volume import Volume, bounding_box

WORK_MM = 0.9
"""Voxel edge of the grid on which the patch is put together, about that on which surfaces are found."""

CORE_MM = 1.5
"""Own bone that keeps so far from all bone present is missing; nearer lies what two scans of one bone differ by."""

GROW_MM = 3.5
"""The patch lies this near to such bone, or to what the engine misses; so far a rim may taper."""

MIN_CORE_ML = 0.2
"""Smaller pieces of such bone are a thin plate that one of the scans does not show."""

COLUMN_MM = 6.0
"""Own bone covers what the engine predicts if it lies so near above or below; predictions are rarely farther off."""

OWN_PREDICTED_MM = 1.7
"""Gaps lie this near to a voxel of the box that the engine adds: about one of them."""

MIN_GAP_ML = 0.02
"""Smaller gaps are rounding."""

BLEND_MM = 2.0
"""Own bone is blended into the completion over so much of its edge."""

END_MM = 2.0
"""Nearer to the end of its scan own bone is not looked at: its cut face is no surface."""

FITTING_MM = 0.5
"""Own bone fits the rim where the two surfaces lie nearer to each other."""

OWN_RIM_MM, OWN_LOCAL_MM, AWAY_MM = 12.0, 8.0, 10.0
"""The rim is bone within the first of what is missing; its fit is the mean over the second; where it is bad, the
completion is believed up to the third from there."""

UNPAIRED_MM = 2.0
"""Rim without a partner counts as so far off."""

DRAWN_MM, DRAWN_NEIGHBOURS = 5.0, 24
"""The completion is drawn to the surfaces of bone by Gaussian weights so wide, of so many points near."""

HOLD = 0.3
"""Weight of leaving it where it is: far from all bone the completion stays."""


@dataclass(frozen=True, eq=False)
class OwnBone:
    """Bone of the same patient, in the world of its own scan.

    Args:
        surface: of the bone.
        from_skull: (4, 4) rigid: world of the skull -> world of the scan.
        shown: tells for (N, 3) points in the world of the scan whether it shows anything there.
        has_rim: whether it shows the bone around the hole as well.
    """

    surface: BoneSurface
    from_skull: F64
    shown: Callable[[F64], BoolArray]
    has_rim: bool = True

    @cached_property
    def to_skull(self) -> F64:
        """(4, 4) the other way."""
        return np.asarray(np.linalg.inv(self.from_skull))


@dataclass(frozen=True, eq=False)
class Filled:
    """A patch of own bone.

    Args:
        patch: a mask on the skull's grid, without a voxel in bone.
        share: of its volume that is own bone.
        rim_share: of the rim's surface that own bone meets within ``FITTING_MM``; 0 where nothing is missing.
    """

    patch: Volume
    share: float
    rim_share: float


def fill(own: OwnBone, done: Completion, post: BoneSurface, defective: Volume, min_hole_ml: float) -> Filled:
    """The missing bone, own wherever own bone is.

    Args:
        own: the patient's bone, in place.
        done: the engine's completion; its region may be empty.
        post: surface of the bone that is there.
        defective: its mask, on the input's grid.
        min_hole_ml: pieces of less missing bone are left out, unless the engine fills them.
    """
    scene = Scene.of(own, done)
    empty = Filled(defective.with_data(np.zeros_like(defective.mask)), 0.0, 0.0)
    if not scene.missing.any():
        return empty
    rim = rim_of(post, scene) if own.has_rim else points_of(post, np.zeros(len(post.points_mm), bool))
    off_mm = _off_rim(rim, own)
    rim_share = float((off_mm < FITTING_MM).mean()) if len(off_mm) else 0.0
    field, weight = _field(scene, own, post, rim, off_mm)
    patch = _cut(field, scene, done, defective, min_hole_ml)
    return Filled(patch, _own_share(patch, weight), rim_share)


@dataclass(frozen=True, eq=False)
class Scene:
    """Skull, completion and own bone around what is missing.

    Args:
        done: the engine's completion.
        box: the common box's grid in the world.
        core: bool on it: own bone far from all bone present.
        predicted: bool on it: what the engine adds.
        work: the fine grid around them.
        own_mm: float32 on ``work``: signed distance to own bone.
        prior_mm: float32 on ``work``: to the skull as the engine completed it.
    """

    done: Completion
    box: Grid
    core: BoolArray
    predicted: BoolArray
    work: Grid
    own_mm: F32
    prior_mm: F32

    @property
    def missing(self) -> BoolArray:
        """Bool on the box: what may be missing."""
        return self.core | self.predicted

    def close_to(self, voxels: BoolArray, reach_mm: float) -> BoolArray:
        """Bool on ``work``: what lies near to voxels of the box, none of it where there are none."""
        from scipy.ndimage import distance_transform_edt

        if not voxels.any():
            return np.zeros(self.work.shape, bool)
        apart = distance_transform_edt(~voxels, sampling=self.box.spacing_mm)
        near = Volume(np.minimum(apart, AIR_MM).astype(np.float32), self.box)
        return np.asarray(resample(near, self.work, fill=AIR_MM).data <= reach_mm)

    @classmethod
    def of(cls, own: OwnBone, done: Completion) -> Scene:
        """Look at what is missing."""
        place = box_to_world(done.frame)
        box = box_grid().moved(place)
        bone, soft = done.field.distance_mm, done.soft
        here = own.surface.distances(box.moved(own.from_skull), AIR_MM)
        core = _large((here < 0) & (bone > CORE_MM) & vault() & done.field.known, box)
        predicted = (soft.distance_mm < 0) & (bone > 0) & soft.region
        missing = core | predicted
        if not missing.any():
            nothing = np.zeros((1, 1, 1), np.float32)
            return cls(done, box, core, predicted, box, nothing, nothing)
        work = _fine(box, missing)
        own_mm = own.surface.distances(work.moved(own.from_skull), AIR_MM)
        # With the bone that is there, so that its tables run on across the rim, and slopes are those of the plate.
        completed = np.minimum(np.where(soft.region, soft.distance_mm, np.float32(AIR_MM)), bone)
        prior_mm = resample(Volume(np.minimum(completed, AIR_MM).astype(np.float32), box), work, fill=AIR_MM).data
        return cls(done, box, core, predicted, work, own_mm, prior_mm)


def _large(pieces: BoolArray, grid: Grid) -> BoolArray:
    labels, count = label(pieces)
    kept = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_volume_mm3 / 1000 >= MIN_CORE_ML
    kept[0] = False
    return np.asarray(kept[labels])


def _fine(box: Grid, missing: BoolArray) -> Grid:
    """Voxels of ``WORK_MM`` along the box's axes around what is missing."""
    spacing = np.asarray(box.spacing_mm)
    inner = bounding_box(missing)
    margin = (GROW_MM + MARGIN_MM + BLEND_MM) / spacing
    low = np.array([part.start for part in inner or ()]) - margin
    high = np.array([part.stop - 1 for part in inner or ()]) + margin
    i, j, k = (int(n) for n in np.ceil((high - low) * spacing / WORK_MM) + 1)
    affine = np.eye(4)
    affine[:3, :3] = box.affine[:3, :3] / spacing * WORK_MM
    affine[:3, 3] = box.to_world(low)
    return Grid((i, j, k), affine)


def rim_of(post: BoneSurface, scene: Scene) -> Points:
    """The surface of the bone present around what is missing, but for the rim's own face."""
    from scipy.ndimage import distance_transform_edt

    core = scene.core if scene.core.any() else scene.missing
    away = distance_transform_edt(~core, sampling=scene.box.spacing_mm).astype(np.float32)
    index = scene.box.to_index(post.points_mm).T
    apart = trilinear_at(away.reshape(-1), away.shape, index)
    # The cut face lies next to what is missing; tables begin beside it.
    return points_of(post, (apart > CORE_MM + 1.5) & (apart < OWN_RIM_MM))


def _off_rim(rim: Points, own: OwnBone) -> F64:
    """(N,) how far own bone's surface lies off the rim's, mm, as the mean around each of its points."""
    if not len(rim.at_mm):
        return np.zeros(0)
    from scipy.spatial import cKDTree

    here = rim.moved(own.from_skull)
    two = pairs(here, own.surface, UNPAIRED_MM)
    off = np.where(two.found, np.abs(two.off_mm), UNPAIRED_MM)
    some = rim.thinned(4000)
    chosen = np.sort(np.random.default_rng(0).permutation(len(rim.at_mm))[:4000]) if len(off) > 4000 else slice(None)
    near = off[chosen]
    tree = cKDTree(some.at_mm)
    apart, index = tree.query(rim.at_mm, k=min(16, len(near)), distance_upper_bound=OWN_LOCAL_MM)
    apart, index = apart.reshape(len(off), -1), index.reshape(len(off), -1)
    there = np.isfinite(apart)
    values = np.where(there, near[np.where(there, index, 0)], 0.0)
    # The median: single points without a partner are a suture or a vessel's groove.
    values = np.where(there, values, np.nan)
    return np.asarray(np.nanmedian(values, axis=1))


def _field(scene: Scene, own: OwnBone, post: BoneSurface, rim: Points, off_mm: F64) -> tuple[Volume, Volume]:
    """Signed distances to the completed bone on the fine grid, and how much of each is own bone's."""
    from scipy.ndimage import distance_transform_edt

    weight = np.ones(scene.work.shape, np.float32)
    gaps = _gaps(scene, own)
    bad = _marked(scene.work, rim.at_mm[off_mm > FITTING_MM])
    if gaps.any():
        apart = distance_transform_edt(~gaps, sampling=WORK_MM).astype(np.float32)
        weight = np.minimum(weight, _smooth((apart - WORK_MM) / BLEND_MM))
    if bad.any():
        apart = distance_transform_edt(~bad, sampling=WORK_MM).astype(np.float32)
        weight = np.minimum(weight, _smooth((apart - CORE_MM) / (AWAY_MM - CORE_MM)))
    # Where the engine completes nothing there is nothing to blend into.
    weight[~scene.close_to(scene.predicted, GROW_MM)] = 1.0
    field = scene.own_mm.copy()
    zone = (weight < 1) & (scene.prior_mm < COLUMN_MM)
    if zone.any():
        drawn = _drawn(scene, zone, _anchors(scene, own, post, weight))
        field[zone] = weight[zone] * field[zone] + (1 - weight[zone]) * drawn
    return Volume(field, scene.work), Volume(weight, scene.work)


def _smooth(x: F32) -> F32:
    """From 0 to 1 between 0 and 1, level at both ends."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def _gaps(scene: Scene, own: OwnBone) -> BoolArray:
    """What the engine predicts where no own bone lies, above or below, or where its scan shows nothing."""
    gaps = np.zeros(scene.work.shape, bool)
    index = np.argwhere((scene.prior_mm < 0) & scene.close_to(scene.predicted, OWN_PREDICTED_MM))
    if not len(index):
        return gaps
    points = scene.work.to_world(index)
    slope = _gradient(scene.prior_mm, index) @ (scene.work.affine[:3, :3] / WORK_MM).T
    slope /= np.linalg.norm(slope, axis=1, keepdims=True) + 1e-9
    open_ = np.ones(len(index), bool)
    for step in np.arange(-COLUMN_MM, COLUMN_MM + 0.1, WORK_MM / 2):
        at = scene.work.to_index(points[open_] + step * slope[open_]).T
        read = trilinear_at((scene.own_mm - AIR_MM).reshape(-1), scene.work.shape, at) + np.float32(AIR_MM)
        open_[open_] = read > 0
    open_ |= ~own.shown(points @ own.from_skull[:3, :3].T + own.from_skull[:3, 3])
    gaps[tuple(index[open_].T)] = True
    labels, count = label(gaps)
    kept = np.bincount(labels.ravel(), minlength=count + 1) * scene.work.voxel_volume_mm3 / 1000 >= MIN_GAP_ML
    kept[0] = False
    return np.asarray(kept[labels])


def _gradient(values: F32, index: np.ndarray) -> F64:
    """(N, 3) central differences of a field at voxels."""
    out = np.zeros((len(index), 3))
    for axis in range(3):
        ahead, behind = index.copy(), index.copy()
        ahead[:, axis] = np.minimum(ahead[:, axis] + 1, values.shape[axis] - 1)
        behind[:, axis] = np.maximum(behind[:, axis] - 1, 0)
        out[:, axis] = values[tuple(ahead.T)] - values[tuple(behind.T)]
    return out / (2 * WORK_MM)


def _marked(grid: Grid, points_mm: F64) -> BoolArray:
    """Voxels that hold a point."""
    out = np.zeros(grid.shape, bool)
    index = np.rint(grid.to_index(points_mm)).astype(int)
    index = index[((index >= 0) & (index < np.array(grid.shape))).all(axis=1)]
    out[tuple(index.T)] = True
    return out


def _anchors(scene: Scene, own: OwnBone, post: BoneSurface, weight: F32) -> Points:
    """Surface that the completion has to meet: own bone's where it is believed, and that of the bone present."""
    bone = points_of(post, _within(scene.work, post.points_mm))
    mine = points_of(own.surface)
    mine = Points(mine.at_mm, mine.normals, mine.weight).moved(own.to_skull)
    inside = _within(scene.work, mine.at_mm)
    mine = mine.where(inside)
    believed = weight[tuple(np.rint(scene.work.to_index(mine.at_mm)).astype(int).T)] > 0.5
    mine = mine.where(believed)
    both = Points(*(np.concatenate(parts) for parts in zip(_parts(bone), _parts(mine), strict=True)))
    # Only near the completion's own surface, and facing as it does: not a cut face, not the other table.
    index = np.rint(scene.work.to_index(both.at_mm)).astype(int)
    slope = _gradient(scene.prior_mm, index) @ (scene.work.affine[:3, :3] / WORK_MM).T
    facing = -np.einsum("nk,nk->n", slope, both.normals) > 0.7
    return both.where((np.abs(scene.prior_mm[tuple(index.T)]) < 3.0) & facing)


def _parts(points: Points) -> tuple[F64, F64, F64]:
    return points.at_mm, points.normals, points.weight


def _within(grid: Grid, points_mm: F64) -> BoolArray:
    index = np.rint(grid.to_index(points_mm))
    return np.asarray(((index >= 1) & (index < np.array(grid.shape) - 1)).all(axis=1))


def _drawn(scene: Scene, zone: BoolArray, anchors: Points) -> F32:
    """The completion in a zone, drawn to surfaces near: their distance to its own is spread and taken off."""
    from scipy.spatial import cKDTree

    values = scene.prior_mm[zone]
    if len(anchors.at_mm) < DRAWN_NEIGHBOURS:
        return values
    index = np.argwhere(zone)
    points = scene.work.to_world(index)
    at = scene.work.to_index(anchors.at_mm).T
    off = trilinear_at((scene.prior_mm - AIR_MM).reshape(-1), scene.work.shape, at) + np.float32(AIR_MM)
    slope = _gradient(scene.prior_mm, index) @ (scene.work.affine[:3, :3] / WORK_MM).T
    tree = cKDTree(anchors.at_mm)
    out = values.copy()
    # Outer and inner table each by their own: points on the side that the voxel is nearer to.
    for start in range(0, len(points), 50_000):
        part = slice(start, start + 50_000)
        apart, near = tree.query(points[part], k=DRAWN_NEIGHBOURS, workers=2)
        facing = np.einsum("nk,nmk->nm", slope[part], -anchors.normals[near]) > 0.3
        share = np.exp(-((apart / DRAWN_MM) ** 2) / 2) * facing
        out[part] -= ((share * off[near]).sum(axis=1) / (share.sum(axis=1) + HOLD)).astype(np.float32)
    return out


def _cut(field: Volume, scene: Scene, done: Completion, defective: Volume, min_hole_ml: float) -> Volume:
    """The patch on the input's grid."""
    out = np.zeros(defective.shape, bool, order="F" if defective.data.flags.f_contiguous else "C")
    distance = np.where(scene.close_to(scene.missing, GROW_MM), field.data, np.maximum(field.data, EDGE_MM)).astype(
        np.float32
    )
    ends = defective.grid.to_index(scene.work.corners_mm())
    low = np.clip(np.floor(ends.min(axis=0)), 0, defective.shape).astype(int)
    high = np.clip(np.ceil(ends.max(axis=0)) + 1, 0, defective.shape).astype(int)
    if (high <= low).any():
        return Volume(out, defective.grid)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part = defective.crop((i, j, k))
    missing = below_zero(Volume(distance, scene.work), part.grid) & ~part.mask
    if done.frame.cuts:
        missing &= known_mask(part, [cut.moved(done.frame.to_world) for cut in done.frame.cuts])
    kept = without_flakes(Volume(missing, part.grid))
    out[i, j, k] = _holes_of_size(kept, part.grid, scene, min_hole_ml)
    return Volume(out, defective.grid)


def _holes_of_size(pieces: BoolArray, grid: Grid, scene: Scene, min_hole_ml: float) -> BoolArray:
    """Pieces of enough missing bone, and those that the engine fills as well."""
    labels, count = label(pieces, connectivity=6)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_volume_mm3 / 1000
    kept = sizes >= min_hole_ml
    for number in np.flatnonzero(~kept[1:]) + 1:
        points = grid.to_world(np.argwhere(labels == number))
        index = np.rint(scene.box.to_index(points)).astype(int)
        index = index[((index >= 0) & (index < scene.predicted.shape)).all(axis=1)]
        kept[number] = scene.predicted[tuple(index.T)].any()
    kept[0] = False
    return np.asarray(kept[labels])


def _own_share(patch: Volume, weight: Volume) -> float:
    """How much of a patch is own bone."""
    box = bounding_box(patch.mask)
    if box is None:
        return 0.0
    part = patch.crop(box)
    index = np.argwhere(part.mask)
    points = part.grid.to_world(index[:: max(1, len(index) // 20_000)])
    read = trilinear_at((weight.data - 1).reshape(-1), weight.shape, weight.grid.to_index(points).T) + 1
    return float(read.mean())


__all__ = ["FITTING_MM", "Filled", "OwnBone", "Scene", "fill", "rim_of"]
