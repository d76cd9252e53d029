"""From a soft field that is known everywhere to a patch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates
from tests.heads import EDGE, FLOOR_MM, SIDE, Ball, Head, dice, grid_around, rigid, scan, true_frame, truth_of
from tests.strategies import grids, rotations, shapes, spacings

from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.postprocess import MIN_PIECE_ML, below_zero, to_patch, without_flakes
from calvaria.reconstruction.protocol import SoftField
from calvaria.skull.canonical import CanonicalFrame
from calvaria.volume import Grid, Volume, label


def perfect(head: Head, grow_mm: float = 3.0) -> SoftField:
    """The answer of an engine that knows the complete head."""
    points = box_grid().centres_mm().reshape(-1, 3) * head.scale
    complete = Head(head.number, even=head.even)
    region = np.zeros(len(points), bool)
    for hole in head.holes:
        region |= np.linalg.norm(points - hole.centre_mm, axis=1) < hole.radius_mm + grow_mm
    shape = box_grid().shape
    return SoftField(complete.field_mm(points).reshape(shape), region.reshape(shape), 0.0)


POSES = {"upright": np.eye(4), "leaning": rigid((20, -35, 60), (30, 40, 50))}


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.4, 1.4, 3.0)], ids=["even", "slices"])
def test_a_perfect_answer_gives_the_missing_bone(pose, spacing):
    head = Head(20, (SIDE,))
    defective = scan(head, pose, spacing)
    patch = to_patch(perfect(head), true_frame(head, pose), defective)
    truth = truth_of(head, defective, pose)
    assert dice(patch, truth) > 0.95
    assert not (patch.mask & defective.mask).any()
    assert patch.grid is defective.grid


def test_the_rim_is_closed():
    head = Head(20, (SIDE,))
    defective = scan(head)
    patch, truth = to_patch(perfect(head), true_frame(head), defective), truth_of(head, defective)
    at_rim = truth.mask & binary_dilation(defective.mask)
    assert np.count_nonzero(at_rim & ~patch.mask) < 0.05 * np.count_nonzero(at_rim)
    # Nothing hangs over the bone beside the hole.
    outside = patch.mask & ~binary_dilation(truth.mask, iterations=2)
    assert not outside.any()


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_memory_order_is_that_of_the_input(order):
    head = Head(20, (SIDE,))
    defective = scan(head)
    defective = defective.with_data(np.asarray(defective.data, order=order))
    flags = to_patch(perfect(head), true_frame(head), defective).data.flags
    assert flags.f_contiguous if order == "F" else flags.c_contiguous


def test_nothing_is_set_beyond_the_end_of_the_scan():
    head = Head(20, (EDGE,), FLOOR_MM)
    grid = grid_around()
    defective = head.on(grid)
    patch = to_patch(perfect(head), true_frame(head), defective)
    heights = grid.to_world(np.argwhere(patch.mask))[:, 2]
    assert patch.volume_ml > 3
    assert heights.min() >= FLOOR_MM
    whole = Head(20, floor_mm=FLOOR_MM).on(grid)
    assert dice(patch, whole.with_data(whole.mask & ~defective.mask)) > 0.9


def test_an_empty_region_gives_an_empty_patch():
    soft = perfect(Head(20))
    defective = scan(Head(20))
    patch = to_patch(soft, true_frame(Head(20)), defective)
    assert not patch.mask.any()
    assert patch.grid.same_as(defective.grid)


def test_a_region_outside_the_scan_gives_an_empty_patch():
    head = Head(20, (SIDE,))
    far = Volume(np.ones((10, 10, 10), bool), Grid.isotropic((10, 10, 10), 2.0, (4000.0, 0.0, 0.0)))
    assert not to_patch(perfect(head), true_frame(head), far).mask.any()


def test_where_all_is_bone_there_is_nothing_to_add():
    head = Head(20, (SIDE,))
    defective = scan(head)
    full = defective.with_data(np.ones(defective.shape, bool))
    assert not to_patch(perfect(head), true_frame(head), full).mask.any()


def slab(thickness: int, spacing_mm: float = 0.5) -> np.ndarray:
    """A plate of 20 mm with a skirt of one voxel all around it, 10 mm wide."""
    n = int(40 / spacing_mm)
    out = np.zeros((n, n, 20), bool)
    q = n // 4
    out[2:-2, 2:-2, 10] = True
    out[q:-q, q:-q, 10 : 10 + thickness] = True
    return out


@given(st.integers(0, 10**6), rotations(), grids(shapes(9, 40), spacings(0.4, 2.5)))
def test_a_field_is_negative_where_its_trilinear_values_are(seed, turn, grid):
    rng = np.random.default_rng(seed)
    shape = (21, 24, 18)
    to_world = np.eye(4)
    to_world[:3, :3], to_world[:3, 3] = turn, grid.to_world((np.array(grid.shape) - 1) / 2)
    place = Grid.isotropic(shape, 1.6, -0.8 * (np.array(shape) - 1)).moved(to_world)
    values = gaussian_filter(rng.standard_normal(shape), 1.5).astype(np.float32) + np.float32(rng.uniform(-0.05, 0.2))
    index = np.moveaxis(place.to_index(grid.centres_mm()), -1, 0)
    inside = ((index >= 0) & (index <= np.array(shape).reshape(3, 1, 1, 1) - 1)).all(axis=0)
    expected = map_coordinates(values, index, order=1, mode="nearest")
    found = below_zero(Volume(values, place), grid)
    assert not found[~inside].any()
    clear = inside & (np.abs(expected) > 1e-5)
    np.testing.assert_array_equal(found[clear], expected[clear] < 0)


def test_flakes_go_and_the_body_keeps_its_edge():
    mask = slab(8)
    kept = without_flakes(Volume(mask, Grid.isotropic(mask.shape, 0.5)))
    body = mask.copy()
    body[:, :, 10] = mask[:, :, 12]
    assert not (body & ~kept).any()  # corners and edges stay
    assert not (kept & ~mask).any()
    reach = np.argwhere(kept & ~body)
    far = np.maximum(20 - reach[:, :2], reach[:, :2] - 59).max(axis=1) if len(reach) else np.zeros(1)
    assert far.max() * 0.5 <= 2.0


def test_a_flake_alone_leaves_nothing():
    mask = np.zeros((60, 60, 10), bool)
    mask[5:-5, 5:-5, 4] = True
    assert not without_flakes(Volume(mask, Grid.isotropic(mask.shape, 0.5))).any()


@pytest.mark.parametrize(("edge", "kept"), [(7, False), (9, True)])
def test_small_loose_pieces_go(edge, kept):
    mask = np.zeros((60, 30, 30), bool)
    mask[3 : 3 + edge, 3 : 3 + edge, 3 : 3 + edge] = True
    mask[30:50, 5:25, 5:25] = True
    found = without_flakes(Volume(mask, Grid.isotropic(mask.shape, 1.0)))
    assert (edge**3 / 1000 >= MIN_PIECE_ML) is kept
    assert found[5, 5, 5] == kept
    assert found[30:50, 5:25, 5:25].all()


@pytest.mark.parametrize("touch", [(1, 1, 0), (1, 1, 1)], ids=["edge", "corner"])
def test_crumbs_that_touch_by_an_edge_or_a_corner_only_go(touch):
    mask = np.zeros((60, 30, 30), bool)
    mask[5:40, 5:25, 5:25] = True
    crumb = np.array([39, 24, 24]) + touch
    box = tuple(slice(c, c + 4) if t else slice(c - 3, c + 1) for c, t in zip(crumb, touch, strict=True))
    mask[box] = True
    found = without_flakes(Volume(mask, Grid.isotropic(mask.shape, 1.0)))
    assert label(mask)[1] == 1
    assert label(found, connectivity=6)[1] == 1
    assert found.sum() == 35 * 20 * 20


def test_a_body_at_the_arrays_edge_is_kept_whole():
    mask = np.ones((20, 20, 6), bool)
    assert without_flakes(Volume(mask, Grid.isotropic(mask.shape, 1.0))).all()


def test_an_empty_mask_stays_empty():
    assert not without_flakes(Volume(np.zeros((4, 5, 6), bool), Grid.isotropic((4, 5, 6), 1.0))).any()


def test_the_field_is_read_in_the_skulls_own_size():
    head = Head(20, (Ball((0.0, 0.0, 80.0), 20.0),))
    wrong = CanonicalFrame(np.eye(4), 1.1 * head.scale, 0.0, ())
    defective = scan(head)
    truth = truth_of(head, defective)
    assert dice(to_patch(perfect(head), true_frame(head), defective), truth) > 0.93
    assert dice(to_patch(perfect(head), wrong, defective), truth) < 0.5
