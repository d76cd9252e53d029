from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree
from tests.strategies import axis_orders, flips, grids, mask_volumes, shapes

from calvaria.errors import InputError
from calvaria.volume import Grid, Mesh, Volume, extract_surface

CUBE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]) * 10.0
CUBE_FACES = np.array(
    [
        *([0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4]),
        *([2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5]),
    ]
)


def distance_from_sphere(grid: Grid, centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    return np.linalg.norm(grid.to_world(np.stack(np.indices(grid.shape), axis=-1)) - centre_mm, axis=-1) - radius_mm


def middle(grid: Grid) -> np.ndarray:
    return grid.to_world((np.array(grid.shape) - 1) / 2)


def test_a_cube_has_its_volume_and_area_wherever_it_lies() -> None:
    for shift in (0.0, 1e5):
        cube = Mesh(CUBE + shift, CUBE_FACES)
        assert cube.is_closed
        assert cube.volume_ml == pytest.approx(1.0)
        assert cube.area_mm2 == pytest.approx(600.0)
    assert cube.flipped().volume_ml == pytest.approx(-1.0)
    assert cube.flipped().is_closed


@given(grids())
def test_a_moved_mesh_keeps_its_normals_outward(pose: Grid) -> None:
    moved = Mesh(CUBE, CUBE_FACES).moved(pose.affine)
    assert moved.volume_ml == pytest.approx(pose.voxel_volume_mm3)
    np.testing.assert_allclose(moved.vertices_mm, pose.to_world(CUBE))


def test_open_doubled_and_inconsistent_meshes_are_not_closed() -> None:
    assert not Mesh(CUBE, CUBE_FACES[1:]).is_closed
    one_turned = CUBE_FACES.copy()
    one_turned[0] = one_turned[0, ::-1]
    assert not Mesh(CUBE, one_turned).is_closed
    assert not Mesh(CUBE, np.vstack([CUBE_FACES, CUBE_FACES])).is_closed
    assert not Mesh(CUBE, np.array([[0, 0, 0]])).is_closed


def test_open_edges_are_those_that_are_walked_unevenly() -> None:
    assert Mesh.empty().open_edges == 0
    assert Mesh(CUBE, CUBE_FACES).open_edges == 0
    assert Mesh(CUBE, CUBE_FACES[1:]).open_edges == 3
    one_turned = CUBE_FACES.copy()
    one_turned[0] = one_turned[0, ::-1]
    assert Mesh(CUBE, one_turned).open_edges == 3
    assert Mesh(CUBE, np.vstack([CUBE_FACES, CUBE_FACES])).open_edges == 0  # as often there as back


def test_an_empty_mesh_is_closed_and_has_no_volume() -> None:
    empty = Mesh.empty()
    assert empty.is_empty and empty.is_closed
    assert empty.volume_ml == 0.0 and empty.area_mm2 == 0.0


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (np.zeros((3, 2)), np.zeros((1, 3), int), r"\(V, 3\) vertices and \(F, 3\) faces; got \(3, 2\) and"),
        (np.zeros((3, 3)), np.zeros((1, 4), int), r"and \(1, 4\)"),
        (np.zeros((3, 3)), np.zeros((1, 3)), "whole vertex numbers; got float64"),
        (np.full((3, 3), np.nan), np.zeros((1, 3), int), "vertices that are NaN or infinite"),
        (np.zeros((3, 3)), np.array([[0, 1, 3]]), "name vertices 0 to 2; got 0 to 3"),
        (np.zeros((3, 3)), np.array([[0, 1, -1]]), "name vertices 0 to 2; got -1 to 1"),
    ],
)
def test_an_unusable_mesh_says_why(vertices: np.ndarray, faces: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mesh(vertices, faces)


@given(mask_volumes(grids(shape=shapes(1, 7))))
def test_the_surface_of_any_mask_is_closed_and_outward(volume: Volume) -> None:
    mesh = extract_surface(volume)
    assert mesh.is_closed
    assert mesh.is_empty == (not volume.mask.any())
    if not mesh.is_empty:
        assert 0 < mesh.volume_ml <= volume.volume_ml * (1 + 1e-3)


@given(
    grids(shape=shapes(1, 6)).flatmap(
        lambda g: st.tuples(st.just(g), hnp.arrays(np.float32, g.shape, elements=st.sampled_from([-2, -1, 0, 0.5, 1])))
    ),
    st.sampled_from([-1.0, 0.0, 0.25]),
    st.booleans(),
)
def test_the_surface_of_any_field_is_closed_even_through_voxel_centres(
    field: tuple[Grid, np.ndarray], level: float, above: bool
) -> None:
    grid, values = field
    mesh = extract_surface(Volume(values, grid), level, inside_above=above)
    assert mesh.is_closed
    assert mesh.is_empty == (not ((values > level) if above else (values < level)).any())
    assert mesh.volume_ml >= 0


@given(grids(shape=st.just((24, 26, 22)), spacing=st.just((1.0, 0.9, 1.2))))
def test_the_surface_of_a_sphere_is_a_sphere_on_any_grid(grid: Grid) -> None:
    centre, radius = middle(grid), 7.0
    mesh = extract_surface(Volume(distance_from_sphere(grid, centre, radius), grid), 0.0, inside_above=False)
    away = np.linalg.norm(mesh.vertices_mm - centre, axis=1)
    np.testing.assert_allclose(away, radius, atol=0.1)
    assert mesh.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.03)
    assert mesh.area_mm2 == pytest.approx(4 * np.pi * radius**2, rel=0.03)
    a, b, c = mesh.vertices_mm[mesh.faces].transpose(1, 0, 2)
    outward = (np.cross(b - a, c - a) * ((a + b + c) / 3 - centre)).sum(axis=1)
    assert (outward > -1e-6).all()


def test_a_box_that_fills_the_array_ends_half_a_voxel_outside() -> None:
    grid = Grid((4, 5, 6), np.diag([1.0, -2.0, 0.5, 1.0]))
    for volume in (Volume(np.ones(grid.shape, bool), grid), Volume(np.full(grid.shape, 3.0), grid)):
        mesh = extract_surface(volume)
        np.testing.assert_allclose(mesh.vertices_mm.min(axis=0), [-0.5, -9.0, -0.25], atol=1e-3)
        np.testing.assert_allclose(mesh.vertices_mm.max(axis=0), [3.5, 1.0, 2.75], atol=1e-3)


@given(mask_volumes(grids(shape=shapes(2, 6))), axis_orders(), flips())
def test_surfaces_do_not_care_in_which_order_voxels_are_stored(
    volume: Volume, order: tuple[int, int, int], axes: tuple[int, ...]
) -> None:
    here, there = extract_surface(volume), extract_surface(volume.permute(order).flip(axes))
    if here.is_empty:
        assert there.is_empty
        return
    apart, _ = cKDTree(here.vertices_mm).query(there.vertices_mm)
    assert apart.max() < 1e-3 * max(volume.grid.spacing_mm)
    assert len(here.vertices_mm) == len(there.vertices_mm)


def test_smoothing_takes_the_steps_off_and_keeps_the_volume() -> None:
    grid = Grid((40, 40, 30), np.diag([0.8, 0.8, 1.1, 1.0]))
    mask = Volume(distance_from_sphere(grid, middle(grid), 11.0) < 0, grid)
    rough, smooth = extract_surface(mask), extract_surface(mask, smooth_mm=1.0)
    away = [np.linalg.norm(mesh.vertices_mm - middle(grid), axis=1).std() for mesh in (rough, smooth)]
    assert away[1] < 0.4 * away[0]
    assert smooth.is_closed
    assert smooth.volume_ml == pytest.approx(mask.volume_ml, rel=0.01)
    assert extract_surface(mask.with_data(np.zeros(grid.shape, bool)), smooth_mm=1.0).is_empty


@given(mask_volumes(grids(shape=shapes(1, 5))))
def test_smoothed_surfaces_are_closed_too(volume: Volume) -> None:
    mesh = extract_surface(volume, smooth_mm=0.7)
    assert mesh.is_closed and mesh.is_empty == (not volume.mask.any())


def test_infinite_distances_are_only_far_away() -> None:
    grid = Grid.isotropic((6, 6, 6), 1.0)
    field = np.full(grid.shape, np.inf)
    field[2:4, 2:4, 2:4] = -1.0
    mesh = extract_surface(Volume(field, grid), 0.0, inside_above=False)
    assert mesh.is_closed and not mesh.is_empty
    assert extract_surface(Volume(np.full(grid.shape, np.inf), grid), 0.0, inside_above=False).is_empty


def test_what_has_no_surface_says_so() -> None:
    grid = Grid.isotropic((2, 2, 2), 1.0)
    mask, image = Volume(np.ones(grid.shape, bool), grid), Volume(np.full(grid.shape, np.nan), grid)
    with pytest.raises(InputError, match=r"a mask lies at a level between 0 and 1; got 1.0"):
        extract_surface(mask, 1.0)
    with pytest.raises(InputError, match="must be a finite number; got nan"):
        extract_surface(image, float("nan"))
    with pytest.raises(InputError, match="the field has NaN values"):
        extract_surface(image)
    with pytest.raises(InputError, match="smoothing before a surface is for masks; the volume holds float64"):
        extract_surface(image, smooth_mm=1.0)
    with pytest.raises(InputError, match=r"smoothing must be 0 mm or more; got -1.0"):
        extract_surface(mask, smooth_mm=-1.0)
