"""Finding the holes of a skull: what a global fit of the shape model predicts and the scan lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calvaria.reconstruction.box import BoxField, box_grid, on_box, vault
from calvaria.reconstruction.shape_prior.cover import covered_by, lies_open
from calvaria.reconstruction.shape_prior.model import MODEL_TRUNCATION_MM, ShapeModel, bone_depth, plate_lack
from calvaria.reconstruction.shape_prior.regression import jitters, trilinear
from calvaria.skull.canonical import SPACING_MM
from calvaria.types import F32, BoolArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


COARSE_MM = 4.8
"""Spacing of the global fit's points."""

ROUNDS = 6
"""Rounds of the global fit; in each, what looks like a hole gets less weight."""

RIDGE = 0.1
"""Strength of the prior in the global fit: stronger than around a hole, since the whole skull is predicted at once."""

PREDICTED_MM, ABSENT_MM = 1.5, 2.5
"""A coarse voxel belongs to a hole if bone is predicted within the first distance and none is present within the
second."""

FORGIVE_MM = 2.5
"""Where predicted bone exceeds the bone present by this much, a point loses most of its weight: it is a hole."""

SHARE = 0.15
"""The coarse fit ignores pieces smaller than this share of the largest."""


OPEN_MM = 5.0
"""A hole is at least so wide that bone is this far from its middle: 10 mm across, less than a burr hole."""

COVERED = 0.8
"""Bone present covers less than this share of a hole from outside: a tenth of true holes, half of those that are first
outlined together with a frontal sinus, all of bone that is merely thin."""

OPEN_SHARE = 0.3
"""A small piece is a hole if no bone lies outside or inside of this share of it: most holes have 0.9 and more,
oblique ones of 2 to 4 ml 0.40 and more, bone of healthy heads that is merely thinner or lower than predicted 0.25 and
less."""

MIN_REPORTED_ML = 0.4
"""Smaller openings are not reported: a burr hole of 12 mm has 0.6."""

LATER_ROUNDS = 2
"""Rounds of the global fit once the large holes are completed."""

PLATE = 0.5
"""A plate keeps at least this share of its usual depth where the coarse prediction thins out."""


class HoleFinder:
    """The global fit, prepared for one model."""

    def __init__(self, model: ShapeModel) -> None:
        """Read the model at the coarse points."""
        self.grid = box_grid(COARSE_MM)
        points = self.grid.centres_mm().reshape(-1, 3)
        self.read_field = trilinear(box_grid(), points)
        # (P, V) weights that read a volume of the model at P coarse points.
        read = trilinear(model.grid, points)
        self.mean = read @ model.mean
        # The mean seen through moved boxes: the directions in which an error of the pose changes a skull.
        moved = [trilinear(model.grid, move(points)) @ model.mean - self.mean for move in jitters(3, seed=3)[1:]]
        # Piece by piece: unpacked, all modes at once would take some hundred MB.
        modes = [_read_modes(read[start : start + 4096], model) for start in range(0, len(points), 4096)]
        self.usual = (read @ model.depth.reshape(-1)).reshape(self.grid.shape)
        # (P, M + 6) features: the modes and the moved means.
        self.features = np.concatenate([np.concatenate(modes), np.stack(moved, axis=1)], axis=1).astype(np.float32)

    def find(
        self, field: BoxField, min_hole_ml: float, *, open_ml: float = np.inf, beside_ml: float = np.inf
    ) -> BoolArray:
        """The holes of a skull.

        Args:
            field: the skull in the common box.
            min_hole_ml: predicted and absent bone below this is no hole.
            open_ml: ... unless the vault is open there and the piece is larger than this.
            beside_ml: ... or than this, where there is a hole elsewhere.

        Returns:
            Bool on the box grid: roughly the missing bone, all holes; empty for a complete skull.
        """
        core, predicted = self._global(*self._seen(field))
        # Below a half, so that interpolation does not shrink the coarse hole.
        rough = self._fine(core.astype(np.float32)) > 0.3
        surface = self._fine(predicted)
        pieces = self._pieces(field, rough, surface)
        return real_holes(pieces, rough, field, min_hole_ml, open_ml=open_ml, beside_ml=beside_ml)

    def left_open(self, field: BoxField, completed_mm: F32, sketched_mm: F32 | None = None) -> BoolArray:
        """Openings of the vault that a completion has left, small ones too.

        Args:
            field: the skull in the common box.
            completed_mm: float32 on its grid, signed distance to the completed skull, exact near the surface.
            sketched_mm: the same of a sketch of other holes, which were left; without it large ones pull the fit.

        Returns:
            Bool on the box grid: roughly what is missing; empty for a complete skull.
        """
        from scipy import ndimage

        # Signed distances: the union of two solids is their minimum.
        whole = BoxField(np.minimum(field.distance_mm, completed_mm), field.known, field.scale)
        predicted = self._predicted(whole, sketched_mm)
        missing = (predicted < 0.5) & (whole.distance_mm > 1.0) & field.known & vault()
        # Slivers along surfaces that merely lie elsewhere go.
        missing = ndimage.binary_opening(missing)
        # No seed and an infinite limit for closed pieces: only pieces that are open count.
        return real_holes(missing, np.zeros_like(missing), whole, np.inf, open_ml=MIN_REPORTED_ML)

    def openings(self, field: BoxField, sketched_mm: F32) -> BoolArray:
        """Where the head's wall is open, however small or narrow: slits too, of which `find` knows nothing.

        Args:
            field: the skull in the common box.
            sketched_mm: float32 on its grid, signed distance to a sketch of the large holes.

        Returns:
            Bool on the box grid: predicted and absent bone with no bone outside or inside of it. Natural openings and
            gaps of thin bone are among it.
        """
        predicted = self._predicted(field, sketched_mm)
        missing = (predicted < 0.5) & (field.distance_mm > 0) & field.known & vault()
        return lies_open(missing, field.distance_mm < 0)

    def _predicted(self, field: BoxField, sketched_mm: F32 | None) -> F32:
        """Distance to the predicted skull on the box grid, from the skull and a sketch of what it lacks."""
        seen = field.distance_mm if sketched_mm is None else np.minimum(field.distance_mm, sketched_mm)
        _, predicted = self._global(*self._seen(BoxField(seen, field.known, field.scale)), LATER_ROUNDS)
        return self._fine(predicted)

    def _seen(self, field: BoxField) -> tuple[F32, BoolArray]:
        """(P,) distance at the coarse points, and whether the scan shows them."""
        # Interpolated: only points all of whose neighbours are known.
        known = self.read_field @ field.known.reshape(-1).astype(np.float32) > 0.99
        return self.read_field @ field.distance_mm.reshape(-1), known

    def _global(self, seen: F32, known: BoolArray, rounds: int = ROUNDS) -> tuple[BoolArray, F32]:
        """Coarse hole and predicted distance, by robust rounds of the global fit."""
        from scipy import ndimage

        target = np.clip(seen, -MODEL_TRUNCATION_MM, MODEL_TRUNCATION_MM)
        # Points near bone say most; far ones keep a little, so that no bone is predicted in open air.
        base = ((0.2 + np.exp(-np.abs(seen) / 6)) * known).astype(np.float32)
        weight, core = base, np.zeros(self.grid.shape, bool)
        if not known.any():
            return core, np.asarray(self.mean, np.float32)
        for number in range(rounds):
            predicted = self._fit(target, weight)
            # Only predicted bone that is absent is doubted; additional bone is no hole.
            lacking = np.minimum(predicted - target, 0)
            weight = base / (1 + (lacking / FORGIVE_MM) ** 2) ** 2
            # The first fit is still pulled into the hole by all of its points.
            if number == 0:
                continue
            plates = self._with_plates(predicted)
            hole = ((plates < PREDICTED_MM) & (seen > ABSENT_MM) & known).reshape(self.grid.shape) & vault(COARSE_MM)
            # Small pieces are noise of the fit: none under a share of the largest, or under 6 voxels.
            labels, count = ndimage.label(hole)
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            sizes[0] = 0
            core = (sizes >= max(SHARE * sizes.max(), 6))[labels]
            if core.any():
                # A point nearer to the hole than to known bone may have its nearest surface in the hole.
                gap = ndimage.distance_transform_edt(~core, sampling=COARSE_MM).reshape(-1)
                own = np.abs(target) <= np.maximum(gap - 1.5 * COARSE_MM, 0) + 0.01
                weight = np.where(own, weight, weight * np.float32(0.02))
        return core, self._with_plates(predicted)

    def _with_plates(self, predicted: F32) -> F32:
        """The prediction, lowered where examples that disagree have blurred a plate away (see `keep_plates`)."""
        volume = predicted.reshape(self.grid.shape)
        return (volume - plate_lack(bone_depth(volume, COARSE_MM), self.usual, PLATE)).reshape(-1)

    def _fit(self, target: F32, weight: F32) -> F32:
        from scipy.linalg import solve

        # Weighted ridge regression: square roots of the weights on either side of the normal equations.
        root = np.sqrt(weight)
        design = self.features * root[:, None]
        # Products of float32 matrices are fast; the solution needs the digits of float64.
        system = (design.T @ design).astype(np.float64)
        count = len(system)
        # In units of the mean diagonal element, so that the strength does not depend on weights or voxels.
        system.flat[:: count + 1] += RIDGE * np.trace(system) / count
        right = (design.T @ (root * (target - self.mean))).astype(np.float64)
        return np.asarray(self.mean + self.features @ solve(system, right, assume_a="pos").astype(np.float32))

    def _fine(self, coarse: F32) -> F32:
        """A coarse volume on the box grid, trilinear."""
        return on_box(coarse.reshape(self.grid.shape).astype(np.float32), COARSE_MM)

    @staticmethod
    def _pieces(field: BoxField, rough: BoolArray, surface: F32) -> BoolArray:
        """Predicted, absent bone, without slivers."""
        from scipy import ndimage

        # Half a mm of tolerance for the coarse prediction, a whole one for the bone present.
        missing = (surface < 0.5) & (field.distance_mm > 1.0) & field.known & vault()
        # The opening drops slivers along the bone; in the coarse hole even thin plates stay.
        return np.asarray(ndimage.binary_opening(missing) | (rough & missing))


def real_holes(
    missing: BoolArray,
    seed: BoolArray,
    field: BoxField,
    min_hole_ml: float,
    *,
    open_ml: float = np.inf,
    beside_ml: float = np.inf,
) -> BoolArray:
    """The pieces of predicted, absent bone that are holes.

    Args:
        missing: predicted and absent, on the box grid.
        seed: a piece must share a voxel with this.
        field: the skull; somewhere in a hole the nearest bone is `OPEN_MM` away, while a surface that merely lies
            elsewhere than predicted leaves slivers along the bone. And a hole is open to the outside: a piece behind
            intact bone means that the bone of most subjects is thicker.
        min_hole_ml: smaller pieces are dropped.
        open_ml: ... but pieces larger than this are kept if no bone lies outside or inside of them; they need no seed,
            since the coarse fit does not see them.
        beside_ml: the same limit where another piece is a hole already: a skull that was opened has burr holes, too.
    """
    from scipy import ndimage

    labels, count = ndimage.label(missing)
    # (count + 1,) from here on: one value for each piece, the background first.
    touched = np.bincount(labels[seed], minlength=count + 1) > 0
    size = np.bincount(labels.ravel())
    size_ml = size * SPACING_MM**3 / 1000
    wide = np.bincount(labels[field.distance_mm > OPEN_MM], minlength=count + 1) > 0
    keep = touched & (size_ml > min_hole_ml) & wide
    keep[0] = False
    # Following rays is the slowest test, so only pieces that passed the others are asked.
    pieces = keep[labels]
    covered = np.bincount(labels[covered_by(pieces, field.distance_mm < 0)], minlength=count + 1)
    keep &= covered < COVERED * size
    # Burr holes: too small for the coarse fit, but open like nothing else in the vault.
    small = wide & (size_ml > (min(open_ml, beside_ml) if keep.any() else open_ml)) & ~keep
    small[0] = False
    if small.any():
        openly = np.bincount(labels[lies_open(small[labels], field.distance_mm < 0)], minlength=count + 1)
        keep |= small & (openly >= OPEN_SHARE * size)
    return np.asarray(keep[labels])


def _read_modes(read: csr_matrix, model: ShapeModel) -> F32:
    """All modes at some points, unpacking only the voxels that they touch."""
    from scipy.sparse import csr_matrix

    # Columns renumbered to the voxels that are read: (P, V) -> (P, touched voxels).
    voxels, column = np.unique(read.indices, return_inverse=True)
    small = csr_matrix((read.data, column, read.indptr), shape=(read.shape[0], len(voxels)))
    return np.asarray(small @ model.rows(voxels.astype(np.int64), model.count))
