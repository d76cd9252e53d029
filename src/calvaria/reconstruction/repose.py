"""The pose again, once a hole is roughly filled: a hole pulls the pose of the head, and the pose shapes the patch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import (
    HALF_X_MM,
    HALF_Y_MM,
    TOP_MM,
    TRUNCATION_MM,
    BoxField,
    box_grid,
    box_to_world,
    scale_of,
)
from calvaria.reconstruction.protocol import Engine, SoftField
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import CanonicalFrame, coarse_bone, relocate
from calvaria.types import F32
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.sampler import known_mask
from calvaria.volume.volume import Volume

SETTLED_MM = 1.5
"""A pose that moves the skull by less is not looked for again."""

FEWEST_TURNS, MOST_TURNS = 2, 3
"""How often the pose is renewed: a sketch that was drawn in the first pose fills the hole as that pose had it."""

OUTSIDE_MM = 9.0
"""Value of a moved field where the old box did not reach."""


def settle(
    skull: Volume, frame: CanonicalFrame, engine: Engine, surface: BoneSurface | None = None
) -> tuple[CanonicalFrame, BoxField, SoftField]:
    """Fill the holes roughly and find the pose again, in turns, until it stays.

    Args:
        skull: the bone that is there.
        frame: its canonical frame, found with the holes.
        engine: sketches the completion.
        surface: of the skull, if it has been found already.

    Returns:
        The frame, the skull in the common box of that frame, and the sketch there; for a skull without holes, the
        frame that was given.
    """
    surface, coarse = surface or BoneSurface.of(skull), coarse_bone(skull)
    field = surface.in_box(frame)
    sketch = engine.sketch(field)
    for turn in range(1, MOST_TURNS + 1):
        if not sketch.region.any():
            break
        before, frame = frame, relocate(filled(coarse, frame, sketch), frame, engine.template)
        last = turn == MOST_TURNS or (turn >= FEWEST_TURNS and displacement_mm(before, frame) < SETTLED_MM)
        with ThreadPoolExecutor(1) as beside:
            earlier = beside.submit(moved, sketch, before, frame)
            # The thin walls that are lost on the way by interpolation do not show in a sketch.
            field = surface.in_box(frame) if last else moved_field(field, before, frame)
            sketch = engine.sketch(field, earlier.result())
        if last:
            break
    return frame, field, sketch


def filled(bone: Volume, frame: CanonicalFrame, sketch: SoftField) -> Volume:
    """Bone fractions with a completion's bone added.

    Args:
        bone: bone fraction on any coarse grid.
        frame: the frame of the completion.
        sketch: the completion.
    """
    distance_mm = _at(sketch.distance_mm, sketch.region, bone.grid.centres_mm().reshape(-1, 3), frame)
    # A voxel's share of bone, from how far its centre lies within the surface.
    share = np.clip(0.5 - distance_mm / float(np.mean(bone.grid.spacing_mm)), 0.0, 1.0)
    return bone.with_data(np.maximum(bone.data, share.reshape(bone.shape)))


def missing_share(sketch: SoftField, frame: CanonicalFrame, bone: NDArray[np.bool_], grid: Grid, parts: int) -> F32:
    """How much of each block of voxels a sketch holds for missing bone.

    Args:
        sketch: the completion.
        frame: its frame, in the world of ``grid``.
        bone: (I, J, K) what is there.
        grid: of ``bone``.
        parts: voxels along an edge of a block; divides all counts.

    Returns:
        (I / parts, J / parts, K / parts) float32, 0 to 1.
    """
    distance_mm = _at(sketch.distance_mm, sketch.region, grid.centres_mm().reshape(-1, 3), frame)
    missing = (distance_mm.reshape(grid.shape) < 0) & ~bone
    i, j, k = (n // parts for n in grid.shape)
    share: F32 = missing.reshape(i, parts, j, parts, k, parts).mean(axis=(1, 3, 5), dtype=np.float32)
    return share


def displacement_mm(before: CanonicalFrame, after: CanonicalFrame) -> float:
    """How far the box's inner half moves between two frames of a skull, mean over its corners, mm."""
    half = np.array([HALF_X_MM, HALF_Y_MM, TOP_MM]) / 2
    corners = np.array(list(product((-1.0, 1.0), repeat=3))) * half
    world = [corners @ box_to_world(frame)[:3, :3].T + box_to_world(frame)[:3, 3] for frame in (before, after)]
    return float(np.linalg.norm(world[1] - world[0], axis=1).mean())


def moved(sketch: SoftField, before: CanonicalFrame, after: CanonicalFrame) -> SoftField:
    """A completion carried over into another frame of the same skull."""
    points = box_grid().moved(box_to_world(after)).centres_mm().reshape(-1, 3)
    distance = _at(sketch.distance_mm, sketch.region, points, before).reshape(box_grid().shape)
    return SoftField(distance, distance < OUTSIDE_MM, sketch.misfit_mm)


def moved_field(field: BoxField, before: CanonicalFrame, after: CanonicalFrame) -> BoxField:
    """A skull carried over into another frame by interpolation."""
    grid = box_grid().moved(box_to_world(after))
    distance = _read(field.distance_mm, grid.centres_mm().reshape(-1, 3), before, TRUNCATION_MM).reshape(grid.shape)
    known = known_mask(Volume(distance, grid), [cut.moved(after.to_world) for cut in after.cuts])
    return BoxField(distance, known, scale_of(after))


def _at(
    distance_mm: NDArray[np.float32],
    region: NDArray[np.bool_],
    points_mm: NDArray[np.float64],
    frame: CanonicalFrame,
) -> NDArray[np.float32]:
    """Distance of a sketch at (N, 3) world points; `OUTSIDE_MM` beyond the region."""
    values = np.where(region, np.minimum(distance_mm, OUTSIDE_MM), np.float32(OUTSIDE_MM))
    return _read(values, points_mm, frame, OUTSIDE_MM)


def _read(
    values: NDArray[np.float32], points_mm: NDArray[np.float64], frame: CanonicalFrame, outside: float
) -> NDArray[np.float32]:
    """Values on the box grid of a frame at (N, 3) world points, trilinear; ``outside`` beyond the grid."""
    to_index = np.linalg.inv(box_grid().moved(box_to_world(frame)).affine)
    index = to_index[:3, :3] @ points_mm.T + to_index[:3, 3:]
    # Shifted, since `trilinear_at` gives zero outside the grid.
    return trilinear_at((values - np.float32(outside)).reshape(-1), box_grid().shape, index) + np.float32(outside)
