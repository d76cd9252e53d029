from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree
from tests.strategies import axis_orders, flips, grids, mask_volumes, shapes

from calvaria.errors import InputError
from calvaria.volume import Grid, Mesh, Volume, extract_surface, fill_holes, label, largest_component, voxelise

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
    assert smooth.volume_ml == pytest.approx(mask.volume_ml, rel=0.005)
    assert extract_surface(mask.with_data(np.zeros(grid.shape, bool)), smooth_mm=1.0).is_empty


def pieces(volume: Volume) -> int:
    return label(fill_holes(volume).mask, connectivity=6)[1]


@given(mask_volumes(grids(shape=shapes(1, 6))), st.sampled_from([0.2, 0.7, 2.0]))
def test_a_smoothed_surface_has_one_closed_shell_for_each_piece_of_any_mask(volume: Volume, smooth_mm: float) -> None:
    mesh = extract_surface(volume, smooth_mm=smooth_mm)
    assert mesh.is_closed
    assert len(mesh.shells) == pieces(volume)
    assert all(shell.is_closed and shell.volume_ml > 0 for shell in mesh.shells)


def of_patch_size(kind: str, grid: Grid) -> Volume:
    """A ball of 4 ml, a plate of 60 x 50 x 5 mm, or a cap of 60 mm across and 5 mm thick of a head's radius; one piece,
    without voxels that only just lie inside and touch nothing."""
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) - middle(grid)
    if kind == "ball":
        inside = np.linalg.norm(points, axis=-1) < 9.8
    elif kind == "plate":
        inside = (np.abs(points) < [30, 25, 2.5]).all(axis=-1)
    else:
        radius = np.linalg.norm(points - [0, 0, -75], axis=-1)
        inside = (np.abs(radius - 75) < 2.5) & (np.hypot(points[..., 0], points[..., 1]) < 30)
    return largest_component(Volume(inside, grid), connectivity=6)


@st.composite
def grids_around_a_patch(draw: st.DrawFn, spacing: st.SearchStrategy[tuple[float, float, float]]) -> Grid:
    """Grids of any directions that hold 66 mm along the world's axes, in no more voxels than that takes."""
    unit = draw(grids(shape=st.just((1, 1, 1)), spacing=spacing))
    reach = np.abs(unit.inverse[:3, :3]) @ [33.0, 33.0, 14.0]
    return unit.pad((0, 0, 0), tuple(2 * int(n) + 2 for n in np.ceil(reach)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ball", "plate", "cap"])
@settings(max_examples=12)
@given(
    grids_around_a_patch(
        st.sampled_from([(0.6, 0.6, 0.6), (1.0, 1.0, 1.0), (1.5, 1.5, 1.5), (0.5, 0.5, 1.5), (0.9, 0.9, 2.5)])
    ),
    st.sampled_from([0.5, 1.0]),
)
def test_a_smoothed_patch_keeps_its_volume_and_is_one_shell(kind: str, grid: Grid, smooth_mm: float) -> None:
    mask = of_patch_size(kind, grid)
    mesh = extract_surface(mask, smooth_mm=smooth_mm)
    assert mesh.is_closed and len(mesh.shells) == 1 and mesh.genus == 0
    assert mesh.volume_ml == pytest.approx(mask.volume_ml, rel=0.005)


@pytest.mark.parametrize("spacing", [(0.4, 0.4, 0.4), (0.43, 0.43, 0.625), (1.0, 1.0, 1.0), (1.5, 1.5, 1.5)])
def test_the_volume_is_kept_at_the_spacings_of_head_scans(spacing: tuple[float, float, float]) -> None:
    shape = tuple(int(n / s) + 3 for n, s in zip((62, 62, 14), spacing, strict=True))
    mask = of_patch_size("cap", Grid(shape, np.diag([*spacing, 1.0])))  # type: ignore[arg-type]
    body = trimesh_of(extract_surface(mask, smooth_mm=0.5))
    assert body.is_watertight and body.is_winding_consistent and body.body_count == 1
    assert body.volume / 1000 == pytest.approx(mask.volume_ml, rel=0.005)


def trimesh_of(mesh: Mesh) -> trimesh.Trimesh:
    """An independent judge."""
    return trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)


@pytest.mark.parametrize("smooth_mm", [0.5, 1.0, 3.0])
def test_thin_parts_neither_tear_nor_get_holes(smooth_mm: float) -> None:
    grid = Grid.isotropic((60, 40, 40), 0.5, (-15.0, -10.0, -10.0))
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    balls = np.minimum(*(np.linalg.norm(points - [x, 0, 0], axis=-1) for x in (-9, 9))) < 4
    bridge = (np.abs(points[..., 0]) < 9) & (np.abs(points[..., 1:]).max(axis=-1) < 0.3)  # one or two voxels wide
    sheet = (np.abs(points[..., 0]) < 9) & (np.abs(points[..., 1]) < 6) & (np.abs(points[..., 2]) < 0.3)
    for thin in (bridge, sheet):
        mask = Volume(balls | thin, grid)
        mesh = extract_surface(mask, smooth_mm=smooth_mm)
        assert mesh.is_closed and len(mesh.shells) == 1 and mesh.genus == 0
        assert mesh.volume_ml == pytest.approx(mask.volume_ml, rel=0.005)
        inside = voxelise(mesh, grid).mask
        assert (inside & thin & (np.abs(points[..., 0]) < 5)).sum() > 0.5 * (thin & (np.abs(points[..., 0]) < 5)).sum()


def test_crumbs_that_smoothing_tears_off_do_not_become_shells() -> None:
    mask = of_patch_size("plate", Grid.isotropic((66, 56, 14), 1.0))
    spiked = mask.mask.copy()
    spiked[2, 20:24, 7] = spiked[3, 22, 7] = True  # a hook at the rim, one voxel thick
    hooked = mask.with_data(spiked)
    assert pieces(hooked) == 1
    mesh = extract_surface(hooked, smooth_mm=0.7)
    assert len(mesh.shells) == 1 and mesh.is_closed
    assert mesh.volume_ml == pytest.approx(hooked.volume_ml, rel=0.005)


def test_cavities_are_filled_and_holes_are_kept() -> None:
    grid = Grid.isotropic((50, 50, 30), 0.8)
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) - middle(grid)
    away = np.linalg.norm(points, axis=-1)
    hollow, ball = Volume((away < 9) & (away > 5), grid), Volume(away < 9, grid)
    mesh = extract_surface(hollow, smooth_mm=0.5)
    assert len(mesh.shells) == 1 and mesh.volume_ml == pytest.approx(ball.volume_ml, rel=0.005)
    assert len(extract_surface(hollow).shells) == 2  # as it is, without smoothing
    ring = Volume(np.hypot(np.hypot(points[..., 0], points[..., 1]) - 12, points[..., 2]) < 4, grid)
    mesh = extract_surface(ring, smooth_mm=0.5)
    assert (len(mesh.shells), mesh.genus) == (1, 1)
    assert mesh.volume_ml == pytest.approx(ring.volume_ml, rel=0.005)


def test_holes_a_voxel_apart_stay_two_shells_with_their_own_volumes() -> None:
    mask = of_patch_size("plate", Grid.isotropic((66, 56, 14), 1.0))
    parted = mask.mask.copy()
    parted[20] = False
    mesh = extract_surface(mask.with_data(parted), smooth_mm=1.0)
    whole = np.count_nonzero(parted) / 1000
    small = np.count_nonzero(parted[:20]) / 1000
    assert sorted(shell.volume_ml for shell in mesh.shells) == pytest.approx([small, whole - small], rel=0.005)


def test_shells_and_handles_are_counted() -> None:
    assert Mesh.empty().shells == () and Mesh.empty().genus == 0
    cube = Mesh(CUBE, CUBE_FACES)
    assert cube.shells == (cube,) and cube.genus == 0
    two = Mesh(np.concatenate([CUBE, CUBE + 50.0]), np.concatenate([CUBE_FACES, CUBE_FACES[:, ::-1] + len(CUBE)]))
    assert [shell.volume_ml for shell in two.shells] == pytest.approx([1.0, -1.0])
    assert [len(shell.vertices_mm) for shell in two.shells] == [8, 8] and two.genus == 0
    frame = np.ones((5, 5, 3), bool)
    frame[1, 1] = frame[3, 3] = False
    assert extract_surface(Volume(frame, Grid.isotropic(frame.shape, 1.0))).genus == 2


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
