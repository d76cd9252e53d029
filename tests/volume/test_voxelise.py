from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.strategies import grids, mask_volumes, shapes
from tests.volume.test_mesh import CUBE, CUBE_FACES

from calvaria.errors import InputError
from calvaria.volume import Grid, Mesh, Volume, extract_surface, voxelise


def convex(points: np.ndarray) -> Mesh:
    """The hull of points, faces outward."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    a, b, c = points[hull.simplices].transpose(1, 0, 2)
    turned = (np.cross(b - a, c - a) * (a - points.mean(axis=0))).sum(axis=1) < 0
    return Mesh(points, np.where(turned[:, None], hull.simplices[:, ::-1], hull.simplices))


def inside_planes(mesh: Mesh, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether points lie inside a convex mesh, and whether that is beyond doubt."""
    a, b, c = mesh.vertices_mm[mesh.faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    height = (points @ normals.T - (normals * a).sum(axis=1)).max(axis=-1)
    return height < 0, np.abs(height) > 1e-6


@given(grids(shape=shapes(1, 14), spacing=st.just((1.3, 0.9, 1.1))), st.randoms(use_true_random=False))
def test_the_voxels_of_a_convex_body_are_those_behind_all_its_planes(grid: Grid, random: object) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    mesh = convex(grid.to_world((np.array(grid.shape) - 1) / 2) + rng.normal(size=(12, 3)) * rng.uniform(1, 6))
    wanted, sure = inside_planes(mesh, grid.to_world(np.stack(np.indices(grid.shape), axis=-1)))
    for body in (mesh, mesh.flipped()):
        np.testing.assert_array_equal(voxelise(body, grid).data[sure], wanted[sure])


@given(mask_volumes(grids(shape=shapes(1, 8))))
def test_voxelising_a_mask_s_surface_gives_the_mask_back(volume: Volume) -> None:
    np.testing.assert_array_equal(voxelise(extract_surface(volume), volume.grid).data, volume.data)


@settings(max_examples=30)
@given(st.lists(st.integers(-2, 8), min_size=12, max_size=12), st.permutations(range(12)))
@example([-1, 5, 6, 5, 4, 0, 1, 0, 4, 0, 0, 5], list(range(12)))  # flat, through a centre but for rounding
def test_edges_and_vertices_on_voxel_centres_do_no_harm(corners: list[int], order: list[int]) -> None:
    # Corners, edges and whole faces of this tetrahedron lie exactly on lines of voxels.
    points = np.array(corners, float).reshape(4, 3)
    volume = np.linalg.det(points[1:] - points[0]) / 6
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    grid = Grid.isotropic((12, 12, 12), 1.0, (-3.0, -3.0, -3.0))
    found = voxelise(Mesh(points, faces), grid)
    if abs(volume) < 1e-9:
        assert not found.data.any()
        return
    wanted, sure = inside_planes(
        Mesh(points, faces if volume > 0 else faces[:, ::-1]),
        grid.to_world(np.stack(np.indices(grid.shape), axis=-1)),
    )
    np.testing.assert_array_equal(found.data[sure], wanted[sure])


def test_boxes_side_by_side_share_no_voxel_and_leave_none_out() -> None:
    grid = Grid.isotropic((12, 12, 12), 1.0)
    found = np.zeros(grid.shape, int)
    for corner in np.ndindex(2, 2, 2):
        found += voxelise(Mesh(CUBE / 2 + np.array(corner) * 5.0, CUBE_FACES), grid).data
    np.testing.assert_array_equal(found[:10, :10, :10], 1)
    assert found.sum() == 1000


def test_overlapping_shells_are_joined_and_a_cavity_stays_open() -> None:
    grid = Grid.isotropic((30, 30, 30), 1.0)

    def joined(*parts: Mesh) -> Mesh:
        counts = np.cumsum([0, *(len(p.vertices_mm) for p in parts)])
        faces = [p.faces + n for p, n in zip(parts, counts, strict=False)]
        return Mesh(np.vstack([p.vertices_mm for p in parts]), np.vstack(faces))

    one, two = Mesh(CUBE + 2.5, CUBE_FACES), Mesh(CUBE + 7.5, CUBE_FACES)
    both = voxelise(joined(one, two), grid)
    np.testing.assert_array_equal(both.data, voxelise(one, grid).data | voxelise(two, grid).data)
    hollow = joined(Mesh(CUBE * 2 + 2.5, CUBE_FACES), Mesh(CUBE + 7.5, CUBE_FACES).flipped())
    assert voxelise(hollow, grid).data.sum() == 20**3 - 10**3


@given(grids(shape=st.just((16, 12, 18)), spacing=st.just((0.9, 1.2, 0.8))))
def test_a_sphere_has_its_volume_on_any_grid(grid: Grid) -> None:
    fine = Grid.isotropic((24, 24, 24), 1.0)
    away = np.linalg.norm(np.stack(np.indices(fine.shape), axis=-1) - 11.5, axis=-1) - 9.0
    sphere = extract_surface(Volume(away, fine), 0.0, inside_above=False)
    pose = np.eye(4)
    pose[:3, :3] *= 0.4
    pose[:3, 3] = grid.to_world((np.array(grid.shape) - 1) / 2) - 0.4 * 11.5
    moved = sphere.moved(pose)
    assert voxelise(moved, grid).volume_ml == pytest.approx(moved.volume_ml, rel=0.1)


@pytest.mark.parametrize("slab_voxels", [1, 100, 10**9])
def test_work_in_slabs_and_chunks_changes_nothing(slab_voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid.isotropic((9, 10, 11), 1.0)
    mask = np.random.default_rng(4).random(grid.shape) < 0.5
    mesh = extract_surface(Volume(mask, grid))
    module = sys.modules["calvaria.volume.voxelise"]  # the package shows the function under that name
    monkeypatch.setattr(module, "SLAB_VOXELS", slab_voxels)
    monkeypatch.setattr(module, "CHUNK_FACES", 7)
    np.testing.assert_array_equal(voxelise(mesh, grid).data, mask)


def test_what_lies_outside_the_grid_is_left_out() -> None:
    grid = Grid.isotropic((6, 6, 6), 1.0)
    whole = voxelise(Mesh(CUBE * 10 - 50, CUBE_FACES), grid)
    assert whole.data.all()
    assert not voxelise(Mesh(CUBE + 100, CUBE_FACES), grid).data.any()
    below = voxelise(Mesh(CUBE - [0, 0, 7.5], CUBE_FACES), grid)
    assert below.data[:, :, :3].all() and not below.data[:, :, 3:].any()


def test_two_cubes_that_share_an_edge_are_one_body() -> None:
    grid = Grid.isotropic((24, 24, 14), 1.0)
    other = CUBE + np.array([10.0, 10.0, 0.0])
    vertices, number = np.unique(np.vstack([CUBE, other]), axis=0, return_inverse=True)
    both = Mesh(vertices, number.reshape(-1)[np.vstack([CUBE_FACES, CUBE_FACES + len(CUBE)])])
    assert not both.is_closed  # the shared edge joins four triangles
    apart = voxelise(Mesh(CUBE, CUBE_FACES), grid).data | voxelise(Mesh(other, CUBE_FACES), grid).data
    np.testing.assert_array_equal(voxelise(both, grid).data, apart)
    assert apart.sum() == 2 * 10**3


def test_an_empty_mesh_has_no_voxels() -> None:
    assert not voxelise(Mesh.empty(), Grid.isotropic((3, 3, 3), 1.0)).data.any()


def test_an_open_mesh_is_refused() -> None:
    with pytest.raises(InputError, match=r"a mesh of 11 triangles is not closed \(3 edges are .*\); repair it first"):
        voxelise(Mesh(CUBE, CUBE_FACES[1:]), Grid.isotropic((3, 3, 3), 1.0))
