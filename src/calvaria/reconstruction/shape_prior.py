"""The shape prior: a skull completed by what other skulls look like. No training on a GPU, no network.

A global fit of the shape model predicts the whole skull; what it predicts and the scan lacks is the hole. Around the
hole the model is fitted again, only where the skull's own surface is known: a signed distance near a hole already
tells where the missing surface lies, so a voxel counts only if its nearest known surface is nearer than the hole.
What the model leaves unexplained along the rim is carried into the hole by a Gaussian kernel, so that the patch is
flush with the bone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import BoxField, box_grid, vault
from calvaria.reconstruction.find import real_holes
from calvaria.reconstruction.regression import Fit, Jitter, fit, jitters, trilinear
from calvaria.reconstruction.shape_model import TRUNCATION_MM, ShapeModel, bone_depth
from calvaria.reconstruction.soft import SoftField
from calvaria.skull.canonical import SPACING_MM
from calvaria.skull.template import Template
from calvaria.volume.volume import bounding_box

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from calvaria.reconstruction.find import HoleFinder

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

READ_MM = 2.5
"""The completion is read so far around the hole's outline."""

REGION_MM = 0.8
"""... and believed so far: the outline has already been given room."""

AIR_MM = 9.0
"""Value of the soft field where nothing is predicted."""


@dataclass(frozen=True)
class Settings:
    """How the shape prior works; chosen on validation persons, see docs/shape-prior.md.

    Args:
        ridge: strength of the prior in the fit around the hole.
        modes: modes used there.
        pairs: pairs of jittered boxes used there.
        plate: a plate keeps at least this share of its usual thickness, see `keep_plates`.
        fade_mm: a voxel's weight falls by 1/e for so much distance to the hole.
        reach_mm: voxels farther from the hole are left out.
        kernel_mm: length over which the rim's residual is carried into the hole.
        kernel_noise: share of the residual taken for noise (a standard deviation, mm).
        grow_mm: room given to the hole's outline in each of the refining fits, the last being the final one.
        smallest_ml: predicted and absent bone below this is a natural opening, or none.
        seed: which jitters are drawn.
    """

    ridge: float = 0.01
    modes: int = 150
    pairs: int = 8
    plate: float = 0.55
    fade_mm: float = 6.0
    reach_mm: float = 24.0
    kernel_mm: float = 10.0
    kernel_noise: float = 0.3
    grow_mm: tuple[float, ...] = (5.0, 5.0, 3.3)
    smallest_ml: float = 5.0
    seed: int = 1


class ShapePrior:
    """The engine: keeps its model and what can be prepared once; call `complete` for each skull."""

    def __init__(self, model: ShapeModel, template: Template, settings: Settings | None = None) -> None:
        """Prepare the engine.

        Args:
            model: mean and modes.
            template: the mean skull that the model's examples were registered to.
            settings: by default those that the published figures were made with.
        """
        self.model = model
        self.template = template
        self.settings = settings or Settings()

    @cached_property
    def finder(self) -> HoleFinder:
        """The global fit, prepared for the model."""
        from calvaria.reconstruction.find import HoleFinder

        return HoleFinder(self.model)

    @cached_property
    def _depth(self) -> F32:
        """The usual depth of bone on the box grid."""
        from scipy import ndimage

        fine, coarse = box_grid(), self.model.grid
        start = (fine.affine[:3, 3] - coarse.affine[:3, 3]) / self.model.spacing_mm
        step = np.full(3, SPACING_MM / self.model.spacing_mm)
        return np.asarray(
            ndimage.affine_transform(self.model.depth, step, start, output_shape=fine.shape, order=1, mode="nearest")
        )

    @cached_property
    def moves(self) -> list[Jitter]:
        """The jitters of the local fits."""
        return jitters(self.settings.pairs, self.settings.seed)

    def complete(self, field: BoxField, read_mm: float = READ_MM) -> SoftField:
        """Find the holes of a skull in the common box and complete it there.

        Args:
            field: the skull.
            read_mm: the completed surface is read so far around the hole's outline.
        """
        hole = self.finder.find(field, self.settings.smallest_ml)
        for step, grow_mm in enumerate(self.settings.grow_mm):
            if not hole.any():
                break
            gap_mm = distance_mm(hole, grow_mm)
            last = step == len(self.settings.grow_mm) - 1
            if last:
                return self._only_holes(self.complete_known(field, gap_mm, read_mm), field)
            rough = self._fit(field, gap_mm, self.moves[:3], min(100, self.settings.modes))
            predicted = self._read(rough, None, gap_mm, READ_MM)
            predicted = keep_plates(predicted, field, gap_mm, self._depth, self.settings.plate)
            hole = self._refined(field, hole, predicted)
        return SoftField(np.full(field.distance_mm.shape, AIR_MM, np.float32), hole, 0.0)

    def _only_holes(self, soft: SoftField, field: BoxField) -> SoftField:
        """The completion without pieces that turned out to be no holes."""
        missing = (soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region
        real = real_holes(missing, missing, field, self.settings.smallest_ml * 0.6)
        if not real.any():
            return SoftField(np.full_like(soft.distance_mm, AIR_MM), np.zeros_like(soft.region), 0.0)
        return SoftField(np.where(missing & ~real, AIR_MM, soft.distance_mm), soft.region, soft.misfit_mm)

    def complete_known(self, field: BoxField, gap_mm: F32, read_mm: float = READ_MM) -> SoftField:
        """Complete a skull whose hole is known.

        Args:
            field: the skull.
            gap_mm: float32 on the box grid: 0 where missing bone may lie, elsewhere the distance to there, mm.
            read_mm: as for `complete`.
        """
        final = self._fit(field, gap_mm, self.moves, self.settings.modes)
        values = self._read(final, self._rim(field, gap_mm, final), gap_mm, read_mm)
        values = keep_plates(values, field, gap_mm, self._depth, self.settings.plate)
        return SoftField(values, (gap_mm <= REGION_MM) & vault(), final.misfit_mm)

    def _refined(self, field: BoxField, hole: BoolArray, predicted: F32) -> BoolArray:
        """The hole as a closer fit shows it: predicted, absent, and connected to what was found before."""
        from scipy import ndimage

        missing = ndimage.binary_opening((predicted < 0) & (field.distance_mm > 0.3) & field.known & vault())
        touched = missing & hole
        return real_holes(missing, touched, field, self.settings.smallest_ml * 0.67)

    def _trusted(self, field: BoxField, gap_mm: F32) -> tuple[F32, F32, F32]:
        """Points near the hole whose distance says nothing of the hole: positions, distances, distance to the hole."""
        points, read = lattice_readout(self.model.spacing_mm)
        gap = read @ gap_mm.reshape(-1)
        near = np.flatnonzero((gap > 0) & (gap < self.settings.reach_mm))
        read, gap = read[near], gap[near]
        target = np.clip(read @ field.distance_mm.reshape(-1), -TRUNCATION_MM, TRUNCATION_MM)
        known = read @ field.known.reshape(-1).astype(np.float32) > 0.99
        own = (np.abs(target) <= gap) & known
        return points[near][own], target[own], gap[own]

    def _fit(self, field: BoxField, gap_mm: F32, moves: list[Jitter], modes: int) -> Fit:
        points, target, gap = self._trusted(field, gap_mm)
        weight = np.exp(-gap / self.settings.fade_mm).astype(np.float32)
        return fit(self.model, moves, points, target, weight, ridge=self.settings.ridge, modes=modes)[0]

    def _rim(self, field: BoxField, gap_mm: F32, final: Fit) -> Kernel | None:
        """The residual along the rim, ready to be carried into the hole."""
        points, target, gap = self._trusted(field, gap_mm)
        rim = np.flatnonzero((gap < 10.0) & (np.abs(target) < 4.0))
        rim = rim[:: max(1, len(rim) // MOST_RIM_POINTS)]
        if len(rim) < 50:
            return None
        residual = target[rim] - final.at(points[rim])
        return Kernel.fit(points[rim], residual, self.settings.kernel_mm, self.settings.kernel_noise)

    def _read(self, final: Fit, rim: Kernel | None, gap_mm: F32, read_mm: float) -> F32:
        """The completed surface on the box grid, around the hole; air elsewhere."""
        out = np.full(gap_mm.shape, AIR_MM, np.float32)
        near = gap_mm <= read_mm
        points = box_grid().to_world(np.argwhere(near)).astype(np.float32)
        values = final.at(points)
        if rim is not None:
            values += rim.at(points)
        out[near] = values
        return out


THINNEST_MM = -0.8
"""Usual depths above this are thin lamellae that may well be absent."""

MOST_RIM_POINTS = 1500
"""Points of the rim whose residual is carried into the hole."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Kernel regression of residuals: smooth, and back to zero away from the points."""

    points_mm: F32
    weights: F32
    length_mm: float

    @classmethod
    def fit(cls, points_mm: F32, residual_mm: F32, length_mm: float, noise_mm: float) -> Kernel:
        """Fit residuals at (P, 3) points, taking ``noise_mm`` of each for noise."""
        from scipy.linalg import solve

        system = _gaussian(points_mm, points_mm, length_mm).astype(np.float64)
        system.flat[:: len(system) + 1] += noise_mm**2
        weights = solve(system, residual_mm.astype(np.float64), assume_a="pos")
        return cls(points_mm, weights.astype(np.float32), length_mm)

    def at(self, points_mm: F32) -> F32:
        """Values at (N, 3) points."""
        chunks = np.array_split(points_mm, max(1, len(points_mm) // 8000))
        return np.concatenate([_gaussian(chunk, self.points_mm, self.length_mm) @ self.weights for chunk in chunks])


def _gaussian(a: F32, b: F32, length_mm: float) -> F32:
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-np.maximum(square, 0) / (2 * np.float32(length_mm) ** 2)), np.float32)


def keep_plates(values: F32, field: BoxField, gap_mm: F32, depth: F32, share: float) -> F32:
    """Thicken the completion where it has thinned out or vanished.

    A sum of signed distances of thin shells that do not quite coincide never gets as negative as each of them: where
    the examples disagree by more than the bone's thickness, the sum stays positive and the plate has a gap, though its
    valley still shows where the plate runs. The valley is lowered to ``share`` of the usual depth, scaled by how thick
    this skull is around the hole.

    Args:
        values: completed distances on the box grid, `AIR_MM` where none were read.
        field: the skull.
        gap_mm: distance to the hole's outline.
        depth: usual depth of the nearest bone, mm, negative.
        share: part of the usual depth that is kept.

    Returns:
        The distances, lowered where needed.
    """
    inside = bounding_box(gap_mm < 16.0)
    if inside is None:
        return values
    near, gap, usual = field.distance_mm[inside], gap_mm[inside], depth[inside]
    merged = np.where(gap <= REGION_MM, values[inside], near)
    found = bone_depth(merged, SPACING_MM)
    rim = (near < 0) & (gap > 4.0) & (gap < 16.0) & (usual < -1.0)
    ratio = float(np.clip(np.median(found[rim] / usual[rim]), 0.4, 1.2)) if rim.any() else 0.6
    lack = np.clip(found - share * ratio * usual, 0.0, 4.0)
    out = values.copy()
    out[inside] -= np.where(usual < THINNEST_MM, lack, 0.0)
    return out


def distance_mm(hole: BoolArray, grow_mm: float) -> F32:
    """Distance to a hole grown by ``grow_mm``, on the box grid; 0 inside."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(~hole, sampling=SPACING_MM) - grow_mm
    return np.asarray(np.maximum(distance, 0), np.float32)


@lru_cache(maxsize=2)
def lattice_readout(spacing_mm: float) -> tuple[F32, csr_matrix]:
    """Every other voxel centre of the model's grid, as on a chessboard, and weights that read box fields there.

    The board is symmetric about x = 0, so that mirrored skulls are fitted at mirrored points.
    """
    grid = box_grid(spacing_mm)
    index = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    board = (np.abs(index[:, 0] - grid.shape[0] // 2) + index[:, 1] + index[:, 2]) % 2 == 0
    points = grid.to_world(index[board]).astype(np.float32)
    return points, trilinear(box_grid(), points)
