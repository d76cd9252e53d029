"""From volumes to a scene and back: a vault and its patch given by formulas, on grids of any axis order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.heads import Head, rigid, true_frame
from tests.strategies import axis_orders, flips, rotations

from calvaria.reconstruction.box import AIR_MM, BoxField, box_grid
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.refinement.build import COARSEST, FAR_MM, ROOM_MM, Ground, displaced, scene_grid
from calvaria.refinement.displacement import Displacement
from calvaria.skull.canonical import SPACING_MM, CanonicalFrame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid, Volume
from calvaria.volume.volume import bounding_box

RADIUS_MM, THICK_MM = 70.0, 8.0
TOP = np.array([0.0, 0.0, 1.0])
HOLE_MM, PATCH_MM = 32.0, 12.0
"""The hole at the vertex, and a patch that lies free in the middle of it."""

NEAR_MM = 52.0
"""Only so much of the head is drawn, about the hole."""


def shell_mm(points: NDArray[np.floating]) -> NDArray[np.float64]:
    far = np.linalg.norm(points - HEAD_CENTRE_MM, axis=-1)
    return np.maximum(far - RADIUS_MM, RADIUS_MM - THICK_MM - far)


def aside_mm(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """From the axis of the hole; far off below."""
    out = np.hypot(points[..., 0], points[..., 1])
    return np.where(points[..., 2] > HEAD_CENTRE_MM[2], out, 999.0)


def bone_mm(points: NDArray[np.floating]) -> NDArray[np.float64]:
    out = np.maximum(shell_mm(points), HOLE_MM - aside_mm(points))
    return np.maximum(out, aside_mm(points) - NEAR_MM)


def patch_mm(points: NDArray[np.floating], wide_mm: float = PATCH_MM) -> NDArray[np.float64]:
    return np.maximum(shell_mm(points), aside_mm(points) - wide_mm)


@lru_cache(maxsize=4)
def on_scene(what: str) -> NDArray[np.float32]:
    points = scene_grid().centres_mm()
    bone = bone_mm(points)
    out = {
        "bone": bone,
        "free": np.minimum(bone, patch_mm(points)),
        "full": np.minimum(bone, np.maximum(shell_mm(points), aside_mm(points) - HOLE_MM)),
    }[what]
    return out.clip(-FAR_MM, FAR_MM).astype(np.float32)


def canonical(grid: Grid, to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.linalg.inv(to_world)
    return grid.centres_mm() @ matrix[:3, :3].T + matrix[:3, 3]


def drawn(grid: Grid, to_world: NDArray[np.float64] | None = None, wide_mm: float = PATCH_MM) -> tuple[Volume, Volume]:
    """The bone and its patch on a grid."""
    points = canonical(grid, np.eye(4) if to_world is None else to_world)
    bone = bone_mm(points) < 0
    return Volume(bone, grid), Volume((patch_mm(points, wide_mm) < 0) & ~bone, grid)


def ground_of(defective: Volume, to_world: NDArray[np.float64] | None = None) -> Ground:
    frame = CanonicalFrame(np.eye(4) if to_world is None else to_world, np.ones(3), 0.0, ())
    return Ground(frame, defective, on_scene("bone"), None, np.ones(scene_grid().shape, bool))


def still_or_moved(vector_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Displacement:
    """The same all over the middle of the hole, and nothing beyond: bone would be read there."""
    field = np.ones((3, 7, 7, 9), np.float32) * np.float32(vector_mm)[:, None, None, None]
    return Displacement(field, Grid.isotropic((7, 7, 9), 6.4, (-19.2, -19.2, 50.0)))


@lru_cache(maxsize=2)
def opened(what: str = "free") -> tuple[object, NDArray[np.bool_]]:
    ground = ground_of(PLAIN[0])
    box = ground.box(on_scene(what))
    assert box is not None
    return box, ground.open(on_scene(what), box)


GRID = Grid.isotropic((70, 70, 36), 1.4, (-48.0, -47.0, 46.0))
PLAIN = drawn(GRID)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[Volume, Volume, NDArray[np.float64]]:
    """Bone and patch on a grid of any axis order, flips and spacing, of a head in any pose, and its pose."""
    spacing = np.array([draw(st.sampled_from([0.9, 1.3, 2.0])) for _ in range(3)])
    to_world = np.eye(4)
    to_world[:3, :3] = draw(rotations())
    to_world[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    # The grid lies as the head does, but for axes that are reordered and flipped.
    shape = tuple(int(n) for n in np.ceil(np.array([60.0, 60.0, 30.0]) / spacing))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-30.3, -29.8, 55.1)
    grid = Grid(shape, to_world @ affine)
    order, flipped = draw(axis_orders()), draw(flips())
    bone, patch = (one.permute(order).flip(flipped) for one in drawn(grid, to_world))
    return bone, patch, to_world


class TestSceneGrid:
    def test_it_is_symmetric_with_nodes_on_the_plane_and_on_multiples_of_the_coarsest_level(self):
        grid = scene_grid()
        ends = grid.corners_mm()
        assert ends[0, 0] == -ends[-1, 0]
        assert grid.to_index([0, 0, 0])[0] == (grid.shape[0] - 1) / 2
        assert all((n - 1) % COARSEST == 0 for n in grid.shape)
        assert grid.spacing_mm == pytest.approx((SPACING_MM,) * 3)


class TestDisplaced:
    @given(volumes())
    @settings(max_examples=15)
    def test_by_nothing_is_the_given_patch(self, given_volumes):
        bone, patch, to_world = given_volumes
        out = displaced(ground_of(bone, to_world), patch, on_scene("free"), still_or_moved(), opened()[1])
        assert patch.mask.any()
        np.testing.assert_array_equal(out.mask, patch.mask)
        assert out.grid is patch.grid

    @given(volumes(), st.tuples(*[st.sampled_from([-2.83, -1.21, 0.0, 0.37, 1.61])] * 2))
    @settings(max_examples=10)
    def test_by_the_same_everywhere_moves_by_that_much(self, given_volumes, aside):
        """Not by half a voxel exactly, which would belong to neither."""
        bone, patch, to_world = given_volumes
        move = np.array([*aside, 0.0])
        out = displaced(ground_of(bone, to_world), patch, on_scene("free"), still_or_moved(tuple(-move)), opened()[1])
        matrix = np.linalg.inv(to_world)
        here, there = (
            one.grid.to_world(np.argwhere(one.mask)) @ matrix[:3, :3].T + matrix[:3, 3] for one in (patch, out)
        )
        # A mask moves by the nearest whole number of voxels along each axis: by half a voxel less or more.
        np.testing.assert_allclose(there.mean(axis=0) - here.mean(axis=0), move, atol=0.5 * max(patch.grid.spacing_mm))
        assert out.volume_ml == pytest.approx(patch.volume_ml, rel=0.1)

    def test_by_whole_voxels_it_is_exactly_the_patch_moved(self):
        bone, patch = PLAIN
        move = (2 * 1.4, -3 * 1.4, 0.0)
        out = displaced(ground_of(bone), patch, on_scene("free"), still_or_moved(tuple(-v for v in move)), opened()[1])
        wanted = np.roll(patch.mask, (2, -3, 0), axis=(0, 1, 2))
        assert np.count_nonzero(out.mask != wanted) < 0.002 * np.count_nonzero(wanted)

    @pytest.mark.parametrize("move", [(8.0, 0.0, 0.0), (-6.0, 9.0, 0.0), (0.0, 0.0, -4.0)])
    def test_never_into_bone(self, move):
        bone, patch = drawn(GRID, wide_mm=HOLE_MM + 1)
        _, open_ = opened("full")
        out = displaced(ground_of(bone), patch, on_scene("full"), still_or_moved(move), open_)
        assert out.mask.any()
        assert (out.mask != patch.mask).any()
        assert not (out.mask & bone.mask).any()

    def test_what_lies_beyond_the_displacement_stays(self):
        bone, patch = PLAIN
        half = Displacement(np.zeros((3, 4, 7, 9), np.float32), Grid.isotropic((4, 7, 9), 6.4, (0.5, -19.2, 50.0)))
        half.vectors_mm[0] = -2.8
        out = displaced(ground_of(bone), patch, on_scene("free"), half, opened()[1])
        left_out = GRID.centres_mm()[..., 0] < 0.5
        assert (patch.mask & left_out).any()
        assert not (patch.mask & left_out & ~out.mask).any()
        assert (out.mask != patch.mask)[~left_out].any()

    def test_beyond_the_scene_it_stays(self):
        """Below the part of the head that is compared."""
        grid = Grid.isotropic((40, 40, 20), 1.5, (-30.0, -30.0, -130.0))
        index = np.indices(grid.shape)
        patch = Volume((index[0] > 10) & (index[0] < 25) & (index[1] > 9) & (index[1] < 28) & (index[2] < 15), grid)
        ground = ground_of(Volume(np.zeros(grid.shape, bool), grid))
        assert ground.completed_mm(patch) is not on_scene("bone")
        np.testing.assert_array_equal(ground.completed_mm(patch)[..., 30:], on_scene("bone")[..., 30:])
        out = displaced(ground, patch, on_scene("free"), still_or_moved((3.0, 0.0, 0.0)), opened()[1])
        np.testing.assert_array_equal(out.mask, patch.mask)

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_an_empty_patch_stays_empty_and_keeps_its_order(self, order):
        empty = PLAIN[1].with_data(np.zeros(GRID.shape, bool, order=order))
        out = displaced(ground_of(PLAIN[0]), empty, on_scene("free"), still_or_moved((1.0, 0, 0)), opened()[1])
        assert not out.mask.any()
        assert out.data.flags.f_contiguous == (order == "F")


class TestGround:
    def test_distances_are_those_of_the_formula(self):
        to_world = rigid((20, -10, 35), (30, -12, 100))
        grid = GRID.moved(to_world)
        bone, patch = drawn(grid, to_world)
        frame = CanonicalFrame(to_world, np.ones(3), 0.0, ())
        ground = Ground.of(bone, frame)
        assert ground.expected_mm is None
        assert ground.known.all()
        inside = scene_grid().centres_mm()
        # Where the nearest surface is smooth.
        sure = np.abs(on_scene("bone")) < 3
        sure &= (np.abs(aside_mm(inside) - HOLE_MM) > 6) & (aside_mm(inside) < 42)
        assert np.abs(ground.bone_mm - on_scene("bone"))[sure].max() < 0.8
        assert np.abs(ground.bone_mm - on_scene("bone"))[sure].mean() < 0.3
        completed = ground.completed_mm(patch)
        assert (completed <= ground.bone_mm).all()
        in_patch = patch_mm(inside) < -1
        assert (completed[in_patch] < 0).all()
        assert (ground.bone_mm[in_patch] > 0).all()
        np.testing.assert_array_equal(ground.completed_mm(patch.with_data(patch.mask & False)), ground.bone_mm)

    def test_a_cut_ends_what_is_known(self):
        frame = true_frame(Head(20, floor_mm=-14.0))
        ground = Ground.of(PLAIN[0], frame)
        height = scene_grid().centres_mm()[..., 2]
        np.testing.assert_array_equal(ground.known, height > -14.0)

    def test_what_the_shape_prior_expects_counts_in_its_region_alone(self):
        points = box_grid().centres_mm()
        soft = SoftField(np.full(box_grid().shape, -3, np.float32), aside_mm(points) < 10, 0.3)
        scale = (1.1, 1.0, 0.9)
        frame = CanonicalFrame(np.eye(4), np.array(scale), 0.0, ())
        field = BoxField(soft.distance_mm, soft.region, scale)
        ground = Ground.of(PLAIN[0], frame, Completion(frame, field, soft))
        assert ground.expected_mm is not None
        assert (ground.expected_mm <= ground.bone_mm).all()
        inside = aside_mm(scene_grid().centres_mm() / scale)
        top = scene_grid().centres_mm()[..., 2] < 80
        assert (ground.expected_mm[(inside < 8) & top] < 0).all()
        beyond = (inside > 13) & (scene_grid().centres_mm()[..., 2] > 20)
        np.testing.assert_array_equal(ground.expected_mm[beyond], np.minimum(ground.bone_mm, AIR_MM)[beyond])

    @pytest.mark.parametrize("what", ["free", "full"])
    def test_the_box_is_aligned_and_has_room(self, what):
        box, _ = opened(what)
        missing = (on_scene(what) < 0) & (on_scene("bone") > 0)
        inner = bounding_box(missing)
        assert inner is not None
        room = ROOM_MM / SPACING_MM
        for part, inside, count in zip(box, inner, scene_grid().shape, strict=True):
            assert part.start % COARSEST == 0
            assert (part.stop - 1) % COARSEST == 0
            assert part.start >= 0
            assert part.stop <= count
            assert part.start <= max(inside.start - room, 0) + 1e-9
            assert part.stop >= min(inside.stop + room, count) - 1e-9
            assert part.start >= inside.start - room - COARSEST - 1
            assert part.stop <= inside.stop + room + COARSEST + 1

    @pytest.mark.parametrize("corner", ["low", "high"])
    def test_a_box_at_the_end_of_the_grid_stays_on_it_with_room_for_three_coarse_nodes(self, corner):
        completed = on_scene("bone").copy()
        at = (slice(0, 2),) * 3 if corner == "low" else (slice(-2, None),) * 3
        completed[at] = -1
        box = ground_of(PLAIN[0]).box(completed)
        assert box is not None
        for part, count in zip(box, scene_grid().shape, strict=True):
            assert 0 <= part.start < part.stop <= count
            assert part.start % COARSEST == (part.stop - 1) % COARSEST == 0
            assert part.stop - part.start > 2 * COARSEST

    def test_where_nothing_is_missing_there_is_no_box(self):
        assert ground_of(PLAIN[0]).box(on_scene("bone")) is None

    def test_the_vault_is_open_in_the_hole_and_shut_over_bone(self):
        box, open_ = opened("free")
        points = scene_grid().centres_mm()
        far = np.linalg.norm(points - HEAD_CENTRE_MM, axis=-1)
        within = np.zeros(scene_grid().shape, bool)
        within[box] = True
        inside = within & (1.25 * aside_mm(points) < HOLE_MM - 4) & (far > 55) & (far < 80)
        assert np.count_nonzero(inside) > 1000
        assert open_[inside].all()
        over = within & (aside_mm(points) > HOLE_MM + 6) & (aside_mm(points) < NEAR_MM - 8) & (far > 55) & (far < 75)
        assert np.count_nonzero(over) > 1000
        assert not open_[over].any()
        assert not open_[on_scene("bone") < -SPACING_MM].any()
        assert not open_[~within].any()

    def test_beside_missing_bone_it_is_open_too(self):
        """A patch may lie over the rim's table: there it may move."""
        points = scene_grid().centres_mm()
        over = np.maximum(shell_mm(points) - 4, aside_mm(points) - HOLE_MM - 8)
        over = np.maximum(over, RADIUS_MM - np.linalg.norm(points - HEAD_CENTRE_MM, axis=-1))
        completed = np.minimum(on_scene("bone"), over).astype(np.float32)
        ground = ground_of(PLAIN[0])
        box = ground.box(completed)
        assert box is not None
        missing = ground.missing(completed)
        assert missing.any()
        assert ground.open(completed, box)[missing].all()
