"""Finding the holes of a skull: what a global fit of the shape model predicts and the scan lacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import BoxField, box_grid, vault
from calvaria.reconstruction.regression import jitters, trilinear
from calvaria.reconstruction.shape_model import TRUNCATION_MM, ShapeModel
from calvaria.skull.canonical import SPACING_MM

F32 = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

COARSE_MM = 4.8
"""Spacing of the global fit's points."""

ROUNDS = 6
"""The global fit is renewed so often, with what looks like a hole counting less each time."""

RIDGE = 0.1
"""Strength of the prior in the global fit: stronger than around a hole, for there is far more to be wrong about."""

PREDICTED_MM, ABSENT_MM = 1.5, 2.5
"""A coarse voxel belongs to a hole if bone is predicted within the first and none is there within the second."""

FORGIVE_MM = 2.5
"""Bone predicted by so much more than is there loses most of its weight: it is a hole, not evidence."""

SHARE = 0.15
"""Pieces smaller than this share of the largest are not believed by the coarse fit."""


class HoleFinder:
    """The global fit, prepared for one model."""

    def __init__(self, model: ShapeModel) -> None:
        """Read the model at the coarse points."""
        self.grid = box_grid(COARSE_MM)
        points = self.grid.to_world(np.stack(np.indices(self.grid.shape), axis=-1).reshape(-1, 3))
        self.read_field = trilinear(box_grid(), points)
        read = trilinear(model.grid, points)
        self.mean = read @ model.mean
        moved = [trilinear(model.grid, move(points)) @ model.mean - self.mean for move in jitters(3, seed=3)[1:]]
        self.features = np.concatenate([read @ model.modes, np.stack(moved, axis=1)], axis=1).astype(np.float32)

    def find(self, field: BoxField, smallest_ml: float) -> BoolArray:
        """The holes of a skull.

        Args:
            field: the skull in the common box.
            smallest_ml: predicted and absent bone below this is no hole.

        Returns:
            Bool on the box grid: roughly the missing bone, all holes; empty for a complete skull.
        """
        seen = self.read_field @ field.distance_mm.reshape(-1)
        known = self.read_field @ field.known.reshape(-1).astype(np.float32) > 0.99
        core, predicted = self._global(seen, known)
        rough = self._fine(core.astype(np.float32)) > 0.3
        surface = self._fine(predicted)
        return self._pieces(field, rough, surface, smallest_ml)

    def _global(self, seen: F32, known: BoolArray) -> tuple[BoolArray, F32]:
        """Coarse hole and predicted distance, by robust rounds of the global fit."""
        from scipy import ndimage

        target = np.clip(seen, -TRUNCATION_MM, TRUNCATION_MM)
        base = ((0.2 + np.exp(-np.abs(seen) / 6)) * known).astype(np.float32)
        weight, core = base, np.zeros(self.grid.shape, bool)
        for number in range(ROUNDS):
            predicted = self._fit(target, weight)
            lacking = np.minimum(predicted - target, 0)
            weight = base / (1 + (lacking / FORGIVE_MM) ** 2) ** 2
            if number == 0:
                continue
            hole = ((predicted < PREDICTED_MM) & (seen > ABSENT_MM) & known).reshape(self.grid.shape) & vault(COARSE_MM)
            labels, count = ndimage.label(hole)
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            sizes[0] = 0
            core = (sizes >= max(SHARE * sizes.max(), 6))[labels]
            if core.any():
                gap = ndimage.distance_transform_edt(~core, sampling=COARSE_MM).reshape(-1)
                own = np.abs(target) <= np.maximum(gap - 1.5 * COARSE_MM, 0) + 0.01
                weight = np.where(own, weight, weight * np.float32(0.02))
        return core, predicted

    def _fit(self, target: F32, weight: F32) -> F32:
        from scipy.linalg import solve

        root = np.sqrt(weight)
        design = self.features * root[:, None]
        system = (design.T @ design).astype(np.float64)
        count = len(system)
        system.flat[:: count + 1] += RIDGE * np.trace(system) / count
        right = (design.T @ (root * (target - self.mean))).astype(np.float64)
        return np.asarray(self.mean + self.features @ solve(system, right, assume_a="pos").astype(np.float32))

    def _fine(self, coarse: F32) -> F32:
        """A coarse volume on the box grid, trilinear."""
        from scipy import ndimage

        fine, volume = box_grid(), coarse.reshape(self.grid.shape).astype(np.float32)
        start = (fine.affine[:3, 3] - self.grid.affine[:3, 3]) / COARSE_MM
        step = np.full(3, SPACING_MM / COARSE_MM)
        return np.asarray(ndimage.affine_transform(volume, step, start, output_shape=fine.shape, order=1, mode="nearest"))

    @staticmethod
    def _pieces(field: BoxField, rough: BoolArray, surface: F32, smallest_ml: float) -> BoolArray:
        """Pieces of predicted, absent bone that the coarse fit saw too and that are large enough."""
        from scipy import ndimage

        missing = (surface < 0.5) & (field.distance_mm > 1.0) & field.known & vault()
        pieces = ndimage.binary_opening(missing) | (rough & missing)
        labels, count = ndimage.label(pieces)
        seen = np.bincount(labels.ravel(), weights=rough.ravel().astype(float), minlength=count + 1) > 0
        size_ml = np.bincount(labels.ravel(), minlength=count + 1) * SPACING_MM**3 / 1000
        keep = seen & (size_ml > smallest_ml)
        keep[0] = False
        return np.asarray(keep[labels])
