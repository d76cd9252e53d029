"""Refining the pose once a hole is roughly completed: a hole pulls the pose, and the pose shapes the patch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import product

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import (
    AIR_MM,
    HALF_X_MM,
    HALF_Y_MM,
    TOP_MM,
    TRUNCATION_MM,
    BoxField,
    box_grid,
    box_to_world,
    read_box,
    scale_of,
)
from calvaria.reconstruction.postprocess import reached
from calvaria.reconstruction.protocol import Completion, Sketcher, SoftField, Stage
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import CanonicalFrame, coarse_bone, relocate
from calvaria.skull.template import Template
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.distance import distance_to
from calvaria.volume.grid import Grid
from calvaria.volume.sampler import known_mask
from calvaria.volume.volume import Volume

SETTLED_MM = 1.5
"""Once the pose moves the skull by less than this, it has settled."""

CARRIED_MM = 0.75
"""... and where it moves the skull by less than this at last, a sketch is carried over, not drawn again."""

MIN_ITERATIONS, MAX_ITERATIONS = 2, 3
"""How often the pose is refined: a sketch made in the first pose completes the hole as that pose suggests."""

BESIDE_HOLE_MM = 8.0
"""Bone nearer to a hole than this does not count for the plane: smoothed bone reaches so far."""

MAX_COMPLETIONS = 3
"""Completions of one skull by an engine without sketches: one in the first pose, one in the pose found with it, and a
third where the second moves the pose again."""


def settle(skull: Volume, frame: CanonicalFrame, sketcher: Sketcher, surface: BoneSurface | None = None) -> Completion:
    """Complete the holes roughly and find the pose again, by turns, until it has settled.

    Args:
        skull: the defective skull.
        frame: its canonical frame, found with the holes.
        sketcher: sketches the completion.
        surface: of the skull, if it has been found already.

    Returns:
        The frame, the skull in the common box of that frame, and the sketch there; for a skull without holes, the
        frame that was given.

    Raises:
        InputError: there is too little bone for a skull.
    """
    return settle_by(skull, frame, lambda field, _, before: sketcher.sketch(field, before), sketcher.template, surface)


def settle_by(
    skull: Volume,
    frame: CanonicalFrame,
    draw: Callable[[BoxField, CanonicalFrame, SoftField | None], SoftField],
    template: Template,
    surface: BoneSurface | None = None,
) -> Completion:
    """As `settle`, by a function of the skull in the box, its frame, and an earlier sketch in that frame."""
    # Once for all poses: only what is sampled from them changes.
    coarse, surface = coarse_bone(skull), surface or BoneSurface.of(skull)
    # The first sketch only has to say where holes are: the pose changes yet.
    field = surface.in_box(frame, exact=False)
    sketch, last = draw(field, frame, None), False
    for iteration in range(1, MAX_ITERATIONS + 1):
        if not sketch.region.any():
            break
        before = frame
        frame = relocate(filled(coarse, frame, sketch), frame, template, absent_in(field, frame, sketch))
        move_mm = displacement_mm(before, frame)
        last = iteration == MAX_ITERATIONS or (iteration >= MIN_ITERATIONS and move_mm < SETTLED_MM)
        # The sketch moves on a second thread while the skull is sampled.
        with ThreadPoolExecutor(1) as beside:
            earlier = beside.submit(moved, sketch, before, frame)
            # Interpolation loses thin bone, which a sketch does not show anyway; the last field must be exact.
            field = surface.in_box(frame) if last else moved_field(field, before, frame)
            sketch = earlier.result()
            if not (last and move_mm < CARRIED_MM):
                sketch = draw(field, frame, sketch)
        if last:
            break
    return Completion(frame, field if last else surface.in_box(frame), sketch)


def complete_iteratively(
    skull: Volume,
    frame: CanonicalFrame,
    complete: Callable[[BoxField], SoftField],
    template: Template,
    *,
    surface: BoneSurface | None = None,
    stage: Stage = nullcontext,
) -> Completion:
    """Complete a skull, find the pose by it, and complete it there: for engines without sketches.

    The first completion is made in the pose that the hole pulled, and serves as a sketch for the second; the second is
    the answer, unless it moves the pose by more than `SETTLED_MM`. No skull is completed twice in one pose.

    Args:
        skull: the defective skull.
        frame: its canonical frame, found with the holes.
        complete: completes it in a pose.
        template: the mean skull that poses are registered to.
        surface: of the skull, if it has been found already.
        stage: entered with each stage's name; the first completion finds the hole.

    Returns:
        The last completion; for a skull without holes, in the frame that was given.

    Raises:
        InputError: there is too little bone for a skull.
    """
    coarse, surface = coarse_bone(skull), surface or BoneSurface.of(skull)
    with stage("hole"):
        done = _completed(surface, frame, complete)
    with stage("completion"):
        for count in range(1, MAX_COMPLETIONS):
            if not done.soft.region.any():
                break
            absent = absent_in(done.field, done.frame, done.soft)
            frame = relocate(filled(coarse, done.frame, done.soft), done.frame, template, absent)
            move_mm = displacement_mm(done.frame, frame)
            # In the same pose the answer would be the same.
            if move_mm == 0 or (count > 1 and move_mm < SETTLED_MM):
                break
            done = _completed(surface, frame, complete)
    return done


def _completed(surface: BoneSurface, frame: CanonicalFrame, complete: Callable[[BoxField], SoftField]) -> Completion:
    field = surface.in_box(frame)
    return Completion(frame, field, complete(field))


def filled(bone: Volume, frame: CanonicalFrame, sketch: SoftField) -> Volume:
    """Bone fractions of the completed skull.

    Args:
        bone: bone fraction on any coarse grid.
        frame: the frame of the completion.
        sketch: the completion.
    """
    distance_mm = _at(sketch.distance_mm, sketch.region, bone.grid.centres_mm().reshape(-1, 3), frame)
    # A voxel's share of bone, from how far its centre lies within the surface.
    share = np.clip(0.5 - distance_mm / float(np.mean(bone.grid.spacing_mm)), 0.0, 1.0)
    return bone.with_data(np.maximum(bone.data, share.reshape(bone.shape)))


def absent_in(field: BoxField, frame: CanonicalFrame, sketch: SoftField) -> Callable[[F64], BoolArray]:
    """Tells whether (N, 3) world points lie in a hole, or so near to it that its bone blurs into them.

    Args:
        field: the skull in the common box.
        frame: of the box.
        sketch: the completion there.
    """
    grid = box_grid()
    hole = (sketch.distance_mm < 0) & (field.distance_mm > 0) & sketch.region
    gap_mm = distance_to(Volume(hole, grid), limit_mm=2 * BESIDE_HOLE_MM)
    placed = grid.moved(box_to_world(frame))
    return lambda world_mm: np.asarray(read_box(gap_mm, world_mm, 2 * BESIDE_HOLE_MM, placed) < BESIDE_HOLE_MM)


def missing_share(sketch: SoftField, frame: CanonicalFrame, bone: NDArray[np.bool_], grid: Grid, parts: int) -> F32:
    """How much of each block of voxels is missing bone according to a sketch.

    Args:
        sketch: the completion.
        frame: its frame, in the world of ``grid``.
        bone: (I, J, K) the defective skull.
        grid: of ``bone``.
        parts: voxels along an edge of a block; divides all counts.

    Returns:
        (I / parts, J / parts, K / parts) float32, 0 to 1.
    """
    distance_mm = _at(sketch.distance_mm, sketch.region, grid.centres_mm().reshape(-1, 3), frame)
    missing = (distance_mm.reshape(grid.shape) < 0) & ~bone
    # (I, J, K) -> six axes, three of them within the blocks, over which the mean is taken.
    i, j, k = (n // parts for n in grid.shape)
    share: F32 = missing.reshape(i, parts, j, parts, k, parts).mean(axis=(1, 3, 5), dtype=np.float32)
    return share


def missing_depth(
    sketch: SoftField, frame: CanonicalFrame, bone: NDArray[np.bool_], grid: Grid, reach_mm: float
) -> F32:
    """How deep each voxel's centre lies in missing bone according to a completion.

    Args:
        sketch: the completion.
        frame: its frame, in the world of ``grid``.
        bone: (I, J, K) the defective skull.
        grid: of ``bone``.
        reach_mm: how far from the surface depth is told.

    Returns:
        (I, J, K) float32: a half on the completed surface, 1 at ``reach_mm`` and more below it, 0 as far above it, in
        bone, and where the completion says nothing.
    """
    out = np.zeros(grid.shape, np.float32)
    box = reached(sketch.region, frame, grid)
    if box is not None:
        part = grid.crop(box)
        distance_mm = _at(sketch.distance_mm, sketch.region, part.centres_mm().reshape(-1, 3), frame)
        depth = np.clip(0.5 - distance_mm.reshape(part.shape) / (2 * reach_mm), 0, 1)
        out[box] = np.where(bone[box], 0, depth)
    return out


def displacement_mm(before: CanonicalFrame, after: CanonicalFrame) -> float:
    """How far the box's inner half moves between two frames of a skull, mean over its corners, mm."""
    # Corners halfway to the box's own lie about as far out as the skull.
    half = np.array([HALF_X_MM, HALF_Y_MM, TOP_MM]) / 2
    corners = np.array(list(product((-1.0, 1.0), repeat=3))) * half
    world = [corners @ box_to_world(frame)[:3, :3].T + box_to_world(frame)[:3, 3] for frame in (before, after)]
    return float(np.linalg.norm(world[1] - world[0], axis=1).mean())


def moved(sketch: SoftField, before: CanonicalFrame, after: CanonicalFrame) -> SoftField:
    """A completion carried over into another frame of the same skull."""
    grid = box_grid()
    distance = np.full(grid.shape, AIR_MM, np.float32)
    box = reached(sketch.region, before, grid.moved(box_to_world(after)))
    if box is not None:
        part = grid.crop(box).moved(box_to_world(after))
        points = part.centres_mm().reshape(-1, 3)
        distance[box] = _at(sketch.distance_mm, sketch.region, points, before).reshape(part.shape)
    # `_at` gives `AIR_MM` beyond the old region, so the new one is what lies below.
    return SoftField(distance, distance < AIR_MM, sketch.misfit_mm)


def moved_field(field: BoxField, before: CanonicalFrame, after: CanonicalFrame) -> BoxField:
    """A skull carried over into another frame by interpolation."""
    source, grid = box_grid().moved(box_to_world(before)), box_grid().moved(box_to_world(after))
    points = grid.centres_mm().reshape(-1, 3)
    distance = read_box(field.distance_mm, points, TRUNCATION_MM, source).reshape(grid.shape)
    # Not carried over but made anew: interpolated, its edge would blur.
    known = known_mask(Volume(distance, grid), [cut.moved(after.to_world) for cut in after.cuts])
    return BoxField(distance, known, scale_of(after))


def _at(
    distance_mm: NDArray[np.float32],
    region: NDArray[np.bool_],
    points_mm: NDArray[np.float64],
    frame: CanonicalFrame,
) -> NDArray[np.float32]:
    """Distance of a sketch at (N, 3) world points; `AIR_MM` beyond the region."""
    # Beyond the region a field means nothing; with air there, interpolation at its edge stays a distance.
    values = np.where(region, np.minimum(distance_mm, AIR_MM), np.float32(AIR_MM))
    return read_box(values, points_mm, AIR_MM, box_grid().moved(box_to_world(frame)))
