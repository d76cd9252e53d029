"""Bad starts of plates and domes whose figures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.heads import rigid

from calvaria.benchmarks.bad_starts import BAD_STARTS, FLAT_MM, HOLE_RADIUS_MM, SHIFT_MM, flat, half, holed, shifted
from calvaria.errors import GeometryError
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid, Volume

VOXEL_MM = 0.8
GRID = Grid.isotropic((120, 120, 84), VOXEL_MM, (-48.0, -48.0, 22.0))
CENTRES = GRID.centres_mm() - HEAD_CENTRE_MM
RADIUS = np.linalg.norm(CENTRES, axis=-1)
OUTER_MM, THICK_MM, HOLE_MM = 72.0, 6.0, 30.0
ASIDE = np.hypot(CENTRES[..., 0], CENTRES[..., 1])
SHELL = (RADIUS <= OUTER_MM) & (RADIUS > OUTER_MM - THICK_MM)


def frame(to_world=None):
    return CanonicalFrame(np.eye(4) if to_world is None else to_world, np.ones(3), 0.0, ())


TRUTH, DEFECTIVE = Volume(SHELL & (ASIDE < HOLE_MM), GRID), Volume(SHELL & (ASIDE >= HOLE_MM), GRID)
NOTHING = Volume(np.zeros(GRID.shape, bool), GRID)


def middle(volume, within=None):
    """World mm of the mean of a mask's voxels."""
    mask = volume.mask if within is None else volume.mask & within
    return GRID.to_world(np.argwhere(mask)).mean(axis=0)


@pytest.mark.parametrize("name", BAD_STARTS)
def test_each_keeps_off_the_bone_leaves_its_arguments_alone_and_can_be_empty(name):
    before = TRUTH.mask.copy()
    patch = BAD_STARTS[name](TRUTH, DEFECTIVE, frame())
    assert not (patch.mask & DEFECTIVE.mask).any()
    assert patch.mask.any()
    assert (patch.mask != TRUTH.mask).any()
    assert (TRUTH.mask == before).all()
    assert not BAD_STARTS[name](NOTHING, DEFECTIVE, frame()).mask.any()


def test_a_flat_one_lies_5_mm_inwards_in_the_middle_and_meets_the_rim():
    patch = flat(TRUTH, DEFECTIVE, frame())
    shares = {"middle": ASIDE < 4, "halfway": abs(ASIDE - 15) < 2, "rim": (ASIDE > 28.5) & (ASIDE < HOLE_MM)}
    radii = {name: RADIUS[patch.mask & where].mean() for name, where in shares.items()}
    usual = OUTER_MM - THICK_MM / 2
    assert radii["middle"] == pytest.approx(usual - FLAT_MM, abs=VOXEL_MM / 2)
    assert radii["halfway"] == pytest.approx(usual - 0.75 * FLAT_MM, abs=0.4)  # a parabola
    assert radii["rim"] == pytest.approx(usual, abs=0.6)
    thick_mm = (patch.mask & (ASIDE < 4)).sum() / (TRUTH.mask & (ASIDE < 4)).sum() * THICK_MM
    assert thick_mm == pytest.approx(THICK_MM, abs=0.5)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (0, 0, 90), (20, -30, 50)])
def test_a_shifted_one_is_moved_backwards_and_up_in_the_heads_own_frame(degrees):
    to_world = rigid(degrees, (3, 2, 1))
    patch = shifted(TRUTH, NOTHING, frame(to_world))
    moved = to_world[:3, :3].T @ (middle(patch) - middle(TRUTH))
    # Faces along the grid move by whole voxels.
    assert moved == pytest.approx([0.0, SHIFT_MM / math.sqrt(2), SHIFT_MM / math.sqrt(2)], abs=VOXEL_MM / 2)
    assert patch.volume_ml == pytest.approx(TRUTH.volume_ml, rel=0.02)


def test_a_holed_one_lacks_a_ball_in_its_middle_and_nothing_else():
    patch = holed(TRUTH, DEFECTIVE, frame())
    gone = Volume(TRUTH.mask & ~patch.mask, GRID)
    assert not (patch.mask & ~TRUTH.mask).any()
    at = middle(gone)
    assert np.hypot(*at[:2]) < 1.0
    # A ball in the middle of a plate of thickness t: pi t (r^2 - t^2 / 12), less where its middle lies at a face.
    through = math.pi * THICK_MM * (HOLE_RADIUS_MM**2 - THICK_MM**2 / 3) / 1000
    assert through * 0.9 < gone.volume_ml < math.pi * THICK_MM * HOLE_RADIUS_MM**2 / 1000


def test_half_of_it_is_the_hind_half_or_the_upper_one_of_a_high_patch():
    patch = half(TRUTH, DEFECTIVE, frame())
    assert patch.volume_ml == pytest.approx(TRUTH.volume_ml / 2, rel=0.05)
    assert CENTRES[patch.mask][:, 1].min() > -1.3
    back = frame(rigid((90, 0, 0)))  # what was on top now lies at the back or in front
    high = half(TRUTH, DEFECTIVE, back)
    up = CENTRES[TRUTH.mask] @ back.to_world[:3, 2]
    kept = CENTRES[high.mask] @ back.to_world[:3, 2]
    assert high.volume_ml == pytest.approx(TRUTH.volume_ml / 2, rel=0.05)
    assert kept.min() >= np.median(up)


def test_two_grids_are_an_error():
    other = Volume(DEFECTIVE.data, GRID.moved(rigid((0, 0, 0), (1, 0, 0))))
    with pytest.raises(GeometryError, match="true patch and defective skull must lie on one grid"):
        flat(TRUTH, other, frame())
