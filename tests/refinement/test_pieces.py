"""What no displacement can bring, of a vault with a round hole that is filled in part."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from tests.heads import rigid

from calvaria.refinement.build import FAR_MM, Ground, scene_grid
from calvaria.refinement.pieces import MIN_LACKING_ML, lacking
from calvaria.skull.canonical import SPACING_MM, CanonicalFrame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid, Volume
from calvaria.volume.grid import Box

RADIUS_MM, THICK_MM, HOLE_MM = 70.0, 8.0, 26.0
AXIS = np.array([0.8, 0.0, 0.6])
TO_WORLD = rigid((10, 20, -30), (5, 80, -40))
GRID = Grid.isotropic((72, 72, 72), 1.5, HEAD_CENTRE_MM + RADIUS_MM * AXIS - 53.0).moved(TO_WORLD)


def shell_mm(points: NDArray[np.float64], in_mm: float = 0.0) -> NDArray[np.float64]:
    far = np.linalg.norm(points - HEAD_CENTRE_MM, axis=-1) + in_mm
    return np.maximum(far - RADIUS_MM, RADIUS_MM - THICK_MM - far)


def aside_mm(points: NDArray[np.float64]) -> NDArray[np.float64]:
    off = points - HEAD_CENTRE_MM
    far = np.maximum(np.linalg.norm(off, axis=-1), 1e-6)
    return RADIUS_MM * np.arccos(np.clip(off @ AXIS / far, -1, 1))


def patch_mm(points: NDArray[np.float64], what: str = "whole") -> NDArray[np.float64]:
    plug = np.maximum(shell_mm(points, 4.0 if what == "pushed in" else 0.0), aside_mm(points) - HOLE_MM)
    middle = np.linalg.norm(points - HEAD_CENTRE_MM - (RADIUS_MM - THICK_MM / 2) * AXIS, axis=-1)
    cuts = {"half": points[..., 1], "without its middle": 10 - middle, "without a speck": 2 - middle}
    return np.maximum(plug, cuts[what]) if what in cuts else plug


@lru_cache(maxsize=1)
def points() -> NDArray[np.float64]:
    return scene_grid().centres_mm()


@lru_cache(maxsize=1)
def bone_mm() -> NDArray[np.float32]:
    return np.maximum(shell_mm(points()), HOLE_MM - aside_mm(points())).clip(-FAR_MM, FAR_MM).astype(np.float32)


@lru_cache(maxsize=1)
def expected() -> tuple[Volume, Ground]:
    """The patch as the shape prior expects it on the input's grid, and all that is known of the skull."""
    matrix = np.linalg.inv(TO_WORLD)
    here = GRID.centres_mm() @ matrix[:3, :3].T + matrix[:3, 3]
    bone = np.maximum(shell_mm(here), HOLE_MM - aside_mm(here)) < 0
    patch = Volume(np.asfortranarray((patch_mm(here) < 0) & ~bone), GRID)
    whole = np.minimum(bone_mm(), patch_mm(points())).clip(-FAR_MM, FAR_MM).astype(np.float32)
    frame = CanonicalFrame(TO_WORLD, np.ones(3), 0.0, ())
    return patch, Ground(frame, Volume(bone, GRID), bone_mm(), whole, np.ones(scene_grid().shape, bool))


def found(what: str) -> Volume | None:
    patch, ground = expected()
    completed = np.minimum(bone_mm(), patch_mm(points(), what)).clip(-FAR_MM, FAR_MM).astype(np.float32)
    box = ground.box(completed)
    assert box is not None
    return lacking(ground, completed, box, patch)


def of_the_head(out: Volume) -> NDArray[np.float64]:
    """(N, 3) canonical mm of its voxels."""
    matrix = np.linalg.inv(TO_WORLD)
    return out.grid.to_world(np.argwhere(out.mask)) @ matrix[:3, :3].T + matrix[:3, 3]


@pytest.mark.parametrize("what", ["whole", "pushed in", "without a speck"])
def test_a_patch_that_covers_the_hole_lacks_nothing(what):
    """Flat or proud, it can be moved; a speck is left to the displacement."""
    assert found(what) is None


def test_half_a_patch_lacks_the_other_half():
    out = found("half")
    assert out is not None
    assert out.grid is GRID
    there = of_the_head(out)
    patch, _ = expected()
    assert not (out.mask & ~patch.mask).any()
    # A node more on every side joins it to what is there.
    assert there[:, 1].min() > -3 * SPACING_MM
    wanted = of_the_head(patch)[of_the_head(patch)[:, 1] > 1.5]
    missed = len(wanted) - np.count_nonzero(there[:, 1] > 1.5)
    assert missed < 0.03 * len(wanted)
    assert 0.48 * patch.volume_ml < out.volume_ml < 0.62 * patch.volume_ml


def test_a_ball_from_the_middle_is_lacking():
    out = found("without its middle")
    assert out is not None
    middle = HEAD_CENTRE_MM + (RADIUS_MM - THICK_MM / 2) * AXIS
    far = np.linalg.norm(of_the_head(out) - middle, axis=1)
    # A node more on every side, along all three axes.
    assert far.max() < 10 + 2 * np.sqrt(3) * SPACING_MM
    patch, _ = expected()
    ball = np.linalg.norm(of_the_head(patch) - middle, axis=1) < 10
    assert np.count_nonzero(far < 10) > 0.97 * np.count_nonzero(ball)
    # About its volume and that of the layer around it, which grows with the square of the radius.
    ml = np.count_nonzero(ball) * GRID.voxel_volume_mm3 / 1000
    assert ml < out.volume_ml < ml * ((10 + 1.5 * SPACING_MM) / 10) ** 2
    assert ml > MIN_LACKING_ML


def test_what_is_lacking_joins_what_is_there():
    out = found("without its middle")
    assert out is not None
    patch, _ = expected()
    matrix = np.linalg.inv(TO_WORLD)
    here = GRID.centres_mm() @ matrix[:3, :3].T + matrix[:3, 3]
    given = (patch_mm(here, "without its middle") < 0) & patch.mask
    gap = patch.mask & ~given & ~out.mask
    assert np.count_nonzero(gap) < 0.01 * np.count_nonzero(patch.mask)
    assert (binary_dilation(out.mask) & given).any()


def test_its_memory_order_is_the_expected_ones():
    out = found("half")
    assert out is not None
    assert out.data.flags.f_contiguous


def test_without_an_expectation_nothing_is_lacking():
    patch, ground = expected()
    blind = Ground(ground.frame, ground.defective, ground.bone_mm, None, ground.known)
    box: Box = (slice(40, 129), slice(0, 129), slice(0, 105))
    assert lacking(blind, bone_mm(), box, patch) is None


def test_beyond_the_box_nothing_is_looked_for():
    patch, ground = expected()
    assert lacking(ground, bone_mm(), (slice(0, 33), slice(0, 33), slice(0, 33)), patch) is None
    whole = lacking(ground, bone_mm(), (slice(0, 129), slice(0, 153), slice(0, 105)), patch)
    assert whole is not None
    assert whole.volume_ml > 0.97 * patch.volume_ml
