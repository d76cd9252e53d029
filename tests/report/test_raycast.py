"""Rays against fields whose surface is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calvaria.errors import GeometryError
from calvaria.report.raycast import Camera, cast, prepare, recast
from calvaria.report.scene import Layer, build_scene, with_layer
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
    added = ball_layer((9, -14, 6), 8, RED)
    scene = build_scene([ball_layer((0, 0, 0), 20)], room_for=[added])
    assert scene is not None
    more = with_layer(scene, added)
    assert more is not None
    camera = Camera(np.zeros(3), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), 0.9, (60, 60))
    surface = prepare(more)
    whole = cast(surface, camera)
    part = recast(surface, camera, cast(prepare(scene), camera), more.layers[-1][0])
    np.testing.assert_array_equal(part.flat, whole.flat)
    np.testing.assert_allclose(part.depth_mm, whole.depth_mm, atol=0.02)
    np.testing.assert_allclose(part.normal, whole.normal, atol=0.02)


def test_a_layer_added_later_is_the_same_as_one_given_at_once() -> None:
    bone, spot = ball_layer((0, 0, 0), 20), ball_layer((9, -9, 6), 8, RED)
    later, at_once = with_layer(build_scene([bone], room_for=[spot]), spot), build_scene([bone, spot])
    assert later is not None and at_once is not None
    points = at_once.grid.to_world(np.moveaxis(np.indices(at_once.grid.shape), 0, -1)).reshape(-1, 3)
    found = later.surface.at(later.grid.to_index(points).T)
    np.testing.assert_allclose(found, at_once.surface.data.ravel(), atol=0.02)


@pytest.mark.parametrize("towards", [(1, 0, 0), (0, -1, 0), (0, 0, 1), (-1, -1, 1)])
def test_a_layer_that_leaves_the_scene_is_not_cut_off_unseen(towards) -> None:
    bone, beyond = ball_layer((0, 0, 0), 20), ball_layer(tuple(18.0 * np.array(towards)), 10, RED)
    with pytest.raises(GeometryError, match="lies partly outside the scene; build the scene with room for it"):
        with_layer(build_scene([bone]), beyond)
    roomy = with_layer(build_scene([bone], room_for=[beyond]), beyond)
    alone = build_scene([beyond])
    assert roomy is not None and alone is not None
    points = alone.grid.centres_mm().reshape(-1, 3)
    shown = roomy.surface.at(roomy.grid.to_index(points).T)
    assert (shown > alone.surface.data.ravel() - 0.15).all()  # smoothed on another grid


def test_adding_to_nothing_and_adding_nothing() -> None:
    empty = Layer(Volume(np.zeros((3, 3, 3), bool), Grid.isotropic((3, 3, 3), 1.0)), GREY)
    bone = ball_layer((0, 0, 0), 20)
    assert build_scene([empty]) is None
    assert with_layer(None, empty) is None
    assert with_layer(None, bone) is not None
    scene = build_scene([bone])
    assert with_layer(scene, empty) is scene


def test_a_camera_that_looks_past_everything_hits_nothing() -> None:
    scene = build_scene([ball_layer((0, 0, 0), 20)])
    assert scene is not None
    hits = cast(
        prepare(scene), Camera(np.array([500.0, 0, 0]), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), 1, (32, 32))
    )
    assert hits.flat.size == 0
    assert hits.normal.shape == (3, 0)
