"""Meshes drawn without a graphics card: what each pixel sees, and how edges are lit."""

import numpy as np
import pytest
from manifold3d import Manifold

from calvaria.report.mesh_raster import SUPERSAMPLING, look, mesh_camera, render_meshes, solid
from calvaria.report.render import BACKGROUND
from calvaria.report.views import VIEWS, View
from calvaria.volume.mesh import Mesh

FRONT = VIEWS["front"].axes()
RED, BLUE = (200, 40, 40), (40, 60, 200)


def mesh_of(body: Manifold) -> Mesh:
    found = body.to_mesh64()
    return Mesh(np.array(found.vert_properties)[:, :3], np.array(found.tri_verts).astype(np.int64))


def sphere(radius_mm: float = 30.0, count: int = 96) -> Mesh:
    return mesh_of(Manifold.sphere(radius_mm, count))


def box(size: tuple[float, float, float] = (20.0, 20.0, 20.0)) -> Mesh:
    return mesh_of(Manifold.cube(size, True))


def test_a_sphere_is_seen_where_it_is_and_as_it_curves():
    ball = sphere()
    camera = mesh_camera(FRONT, ball.vertices_mm, (120, 120))
    hits, _ = look([solid(ball, RED)], camera)
    assert len(hits.flat) * camera.pixel_mm**2 == pytest.approx(np.pi * 30**2, rel=0.005)
    assert np.linalg.norm(hits.index, axis=0) == pytest.approx(30.0, abs=0.1)
    assert hits.depth_mm.min() == pytest.approx(-30.0, abs=0.05)
    outwards = hits.index / np.linalg.norm(hits.index, axis=0)
    assert (np.einsum("kn,kn->n", camera.axes @ outwards, hits.normal) > 0.999).all()
    assert (hits.depth_mm < 0.5).all()  # the far side is hidden


def test_the_nearer_mesh_hides_the_other_whichever_comes_first():
    near, far = solid(box(), RED).moved((0, -30, 0)), solid(box((40, 20, 40)), BLUE)
    camera = mesh_camera(FRONT, far.vertices_mm, (80, 80), 0.1)
    for order in ([near, far], [far, near]):
        hits, colours = look(order, camera)
        red = colours[:, 0] > 100
        assert red.sum() * camera.pixel_mm**2 == pytest.approx(400, rel=0.03)
        assert (~red).sum() * camera.pixel_mm**2 == pytest.approx(1200, rel=0.03)
        assert hits.depth_mm[red] == pytest.approx(-40, abs=1e-3)
        assert hits.depth_mm[~red] == pytest.approx(-10, abs=1e-3)


def test_neighbouring_triangles_leave_no_gap_between_them():
    plate = mesh_of(Manifold.cube((40, 2, 40), True).refine_to_length(0.7).rotate((3.0, 11.0, 7.0)))
    camera = mesh_camera(View("", (0.2, 1, -0.3)).axes(), plate.vertices_mm, (150, 150), -0.4)
    hits, _ = look([solid(plate, RED)], camera)
    width, height = camera.size_px
    assert len(hits.flat) == width * height  # it fills the picture


def test_through_a_hole_one_sees_what_lies_behind():
    plate = mesh_of(Manifold.cube((40, 4, 40), True) - Manifold.cylinder(20, 5, 5, 48, True).rotate((90, 0, 0)))
    behind = solid(box((60, 4, 60)), BLUE).moved((0, 20, 0))
    camera = mesh_camera(FRONT, plate.vertices_mm, (101, 101))
    alone, both = (look(shown, camera) for shown in ([solid(plate, RED)], [solid(plate, RED), behind]))
    width, _ = camera.size_px
    row, column = np.divmod(alone[0].flat, width)
    assert np.hypot(row - (width - 1) / 2, column - (width - 1) / 2).min() * camera.pixel_mm == pytest.approx(
        5, abs=0.3
    )
    middle = both[0].flat == (width // 2) * width + width // 2
    assert both[1][middle].tolist() == [list(BLUE)]
    assert both[0].depth_mm[middle] == pytest.approx(18)


def test_an_edge_is_lit_from_each_side_and_a_gentle_bend_as_one_surface():
    cube = solid(box(), RED)
    normals = cube.normals[cube.faces]
    face = np.cross(*(cube.vertices_mm[cube.faces[:, k]] - cube.vertices_mm[cube.faces[:, 0]] for k in (1, 2)))
    face /= np.linalg.norm(face, axis=1, keepdims=True)
    assert normals == pytest.approx(np.repeat(face[:, None], 3, axis=1), abs=1e-5)
    ball = sphere()
    drawn = solid(ball, RED)
    assert len(drawn.vertices_mm) == len(ball.vertices_mm)  # none is doubled
    assert drawn.normals == pytest.approx(ball.vertices_mm / 30, abs=0.03)


def test_colours_of_vertices_run_into_one_another():
    plate = solid(box((40, 4, 40)), RED)
    left = plate.vertices_mm[:, 0] < 0  # the front view shows the right at the left
    plate = plate.painted(np.where(left[:, None], RED, BLUE))
    hits, colours = look([plate], mesh_camera(FRONT, plate.vertices_mm, (60, 60)))
    share = (hits.index[0] + 20) / 40
    assert colours == pytest.approx(RED + share[:, None] * np.subtract(BLUE, RED), abs=0.6)


def test_a_picture_has_its_size_and_the_background_where_nothing_is():
    drawn = solid(sphere(), RED)
    camera = mesh_camera(FRONT, drawn.vertices_mm, (90, 60))
    assert camera.size_px == (90 * SUPERSAMPLING, 60 * SUPERSAMPLING)
    picture = render_meshes([drawn], camera)
    assert picture.shape == (60, 90, 3)
    assert picture[0, 0].tolist() == list(BACKGROUND)
    assert picture[30, 45, 0] > 2 * picture[30, 45, 2]
    for nothing in ([], [solid(Mesh.empty(), RED)], [drawn.moved((500, 0, 0))]):
        assert (render_meshes(nothing, camera) == BACKGROUND).all()
