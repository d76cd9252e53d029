"""Rays against fields whose surface is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calvaria.report.raycast import Camera, cast, prepare, recast
from calvaria.report.render import camera_for, fitting
from calvaria.report.scene import MARGIN_STEPS, MAX_STEPS, Layer, build_scene, build_scenes
from calvaria.report.views import VIEWS
from calvaria.volume import Grid, Volume

GREY, RED = (200, 200, 200), (220, 30, 30)


def ball_layer(centre: tuple[float, float, float], radius: float, colour: tuple[int, int, int] = GREY) -> Layer:
    grid = Grid.isotropic((60, 56, 64), 1.0, (-30, -28, -32))
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Layer(Volume(np.linalg.norm(points - centre, axis=-1) < radius, grid), colour)


@pytest.mark.parametrize("seed", range(4))
def test_hits_lie_on_the_ball_and_normals_point_outwards(seed: int) -> None:
    scene = build_scene([ball_layer((0, 0, 0), 20)])
    assert scene is not None
    axes = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    camera = Camera(np.zeros(3), axes, 0.8, (64, 64))
    hits = cast(prepare(scene), camera)
    points = scene.grid.to_world(hits.index.T)
    radius = np.linalg.norm(points, axis=1)
    # The surface is drawn somewhat outside the half-way level, see LEVEL.
    assert abs(radius.mean() - 20) < 0.35
    assert radius.std() < 0.25
    np.testing.assert_allclose(points @ axes[2], hits.depth_mm, atol=1e-3)
    assert (points @ axes[2] < 4).all()  # at the limb a ray may graze it a little behind the middle
    cosine = np.einsum("na,na->n", points @ axes.T / radius[:, None], hits.normal.T)
    assert np.percentile(cosine, 2) > 0.95
    assert hits.flat.size == pytest.approx(np.pi * 20**2 / 0.8**2, rel=0.04)


def test_every_ray_finds_the_nearest_of_two_walls() -> None:
    data = np.zeros((40, 60, 40), bool)
    data[:, 10:13] = True
    data[:, 40:43] = True
    data[10:30, 10:13, 10:30] = False
    scene = build_scene([Layer(Volume(data, Grid.isotropic((40, 60, 40), 1.0)), GREY)])
    assert scene is not None
    axes = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    hits = cast(prepare(scene), Camera(np.array([19.5, 0, 19.5]), axes, 1.0, (38, 38)))
    assert hits.flat.size == 38 * 38
    depth = np.zeros(38 * 38)
    depth[hits.flat] = hits.depth_mm
    through = depth.reshape(38, 38)[12:26, 12:26]
    assert np.abs(through - 39.5).max() < 0.3
    around = np.concatenate([depth.reshape(38, 38)[1:6].ravel(), depth.reshape(38, 38)[-6:-1].ravel()])
    assert np.abs(around - 9.5).max() < 0.3


def test_recasting_the_part_that_changed_gives_the_same_as_casting_all() -> None:
    scenes = build_scenes(ball_layer((0, 0, 0), 20), [ball_layer((9, -14, 6), 8, RED)])
    assert scenes is not None
    scene, more = scenes
    camera = Camera(np.zeros(3), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), 0.9, (60, 60))
    surface = prepare(more)
    whole = cast(surface, camera)
    part = recast(surface, camera, cast(prepare(scene), camera), more.layers[-1][0])
    np.testing.assert_array_equal(part.flat, whole.flat)
    np.testing.assert_allclose(part.depth_mm, whole.depth_mm, atol=0.02)
    np.testing.assert_allclose(part.normal, whole.normal, atol=0.02)


def test_a_layer_added_later_is_the_same_as_one_given_at_once() -> None:
    bone, spot = ball_layer((0, 0, 0), 20), ball_layer((9, -9, 6), 8, RED)
    scenes, at_once = build_scenes(bone, [spot]), build_scene([bone, spot])
    assert scenes is not None and at_once is not None
    later = scenes[1]
    points = at_once.grid.to_world(np.moveaxis(np.indices(at_once.grid.shape), 0, -1)).reshape(-1, 3)
    found = later.surface.at(later.grid.to_index(points).T)
    np.testing.assert_allclose(found, at_once.surface.data.ravel(), atol=0.02)


def test_adding_to_nothing_and_adding_nothing() -> None:
    empty = Layer(Volume(np.zeros((3, 3, 3), bool), Grid.isotropic((3, 3, 3), 1.0)), GREY)
    bone = ball_layer((0, 0, 0), 20)
    assert build_scene([empty]) is None
    assert build_scenes(empty, [bone]) is None
    scenes = build_scenes(bone, [empty])
    assert scenes is not None and scenes[0] is scenes[1]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("away", [(26, 0, 0), (-26, 0, 0), (0, -30, 0), (0, 30, 0), (0, 0, 40), (0, 0, -40)])
def test_layers_that_reach_beyond_the_first_are_drawn_whole(view: str, away: tuple[float, float, float]) -> None:
    """Two balls apart, the second on a grid of its own that ends where the ball does."""
    radius = 9.0
    grid = Grid.isotropic((19, 19, 19), 1.0, np.array(away) - radius)
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    spot = Layer(Volume(np.linalg.norm(points - away, axis=-1) < radius, grid), RED)
    scenes = build_scenes(ball_layer((0, 0, 0), 16), [spot])
    assert scenes is not None
    axes = VIEWS[view].axes()
    surfaces = [prepare(scene) for scene in scenes]
    camera = camera_for(axes, *fitting(surfaces, axes), 120)
    seen = np.zeros(np.prod(camera.size_px), bool)
    seen[cast(surfaces[1], camera).flat] = True
    seen = seen.reshape(camera.size_px)
    assert not (seen[[0, -1]].any() or seen[:, [0, -1]].any())  # with a border: the picture holds it all
    # Independently: a pixel is covered where the line of sight passes a ball's middle within its radius.
    row, column = np.indices(seen.shape)
    across = [(n - (size - 1) / 2) * camera.pixel_mm for n, size in zip((column, row), camera.size_px, strict=True)]
    covered = np.zeros(seen.shape, bool)
    for centre, size in (((0, 0, 0), 16.0), (away, radius)):
        right, down, _ = axes @ (np.array(centre) - camera.centre_mm)
        covered |= np.hypot(across[0] - right, across[1] - down) < size
    assert np.count_nonzero(seen ^ covered) < 0.06 * np.count_nonzero(covered)


def test_layers_far_apart_cost_no_more_than_a_few_times_one_head() -> None:
    near, far = ball_layer((0, 0, 0), 20), ball_layer((0, 0, 0), 20, RED)
    shift = np.eye(4)
    shift[0, 3] = 100_000.0
    far = Layer(Volume(far.volume.data, far.volume.grid.moved(shift)), RED)
    scene = build_scene([near, far])
    assert scene is not None
    assert max(scene.grid.shape) <= MAX_STEPS + 2 * MARGIN_STEPS
    index = scene.grid.to_index([[0.0, 0, 0], [100_000.0, 0, 0]])
    assert (index > -0.5).all() and (index < np.array(scene.grid.shape) - 0.5).all()


def test_a_camera_that_looks_past_everything_hits_nothing() -> None:
    scene = build_scene([ball_layer((0, 0, 0), 20)])
    assert scene is not None
    hits = cast(
        prepare(scene), Camera(np.array([500.0, 0, 0]), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), 1, (32, 32))
    )
    assert hits.flat.size == 0
    assert hits.normal.shape == (3, 0)
