"""Solids: what goes in comes out, far from the origin too; fewer triangles within a bound; lines through bodies."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from tests.implant.shapes import cap

from calvaria.errors import InputError
from calvaria.implant import solids
from calvaria.volume import Grid, Mesh, Volume, extract_surface

FAR_MM = np.array([1000.0, -2000.0, 500.0])


def ball(radius_mm=20.0, step=1.0, centre=(0.0, 0.0, 0.0)):
    count = int(2 * radius_mm / step) + 6
    grid = Grid.isotropic((count,) * 3, step, np.asarray(centre) - (count - 1) / 2 * step)
    field = np.linalg.norm(grid.centres_mm() - np.asarray(centre), axis=-1) - radius_mm
    return extract_surface(Volume(field, grid), 0.0, inside_above=False)


def box(size):
    low = np.stack(np.meshgrid([0.0, size[0]], [0.0, size[1]], [0.0], indexing="ij"), axis=-1)[:, :, 0]
    return solids.to_mesh(solids.between(low, low + np.array([0.0, 0.0, size[2]])))


def test_a_mesh_comes_back_as_it_went_in():
    mesh = ball()
    back = solids.to_mesh(solids.to_solid(mesh))
    assert back.is_closed
    assert back.volume_ml == pytest.approx(mesh.volume_ml, rel=1e-12)
    assert np.array_equal(np.unique(back.vertices_mm, axis=0), np.unique(mesh.vertices_mm, axis=0))


def test_a_metre_from_the_origin_nothing_is_lost():
    mesh = ball()
    far = Mesh(mesh.vertices_mm + FAR_MM, mesh.faces)
    hole = solids.rod(np.array([-30.0, 1.0, 2.0]), np.array([30.0, 1.0, 2.0]), 1.0)
    here = solids.to_mesh(solids.cut(solids.to_solid(mesh), [hole]))
    there = solids.to_mesh(solids.cut(solids.to_solid(far), [hole.translate(tuple(FAR_MM))]))
    assert there.is_closed
    assert there.genus == here.genus == 1
    assert there.volume_ml == pytest.approx(here.volume_ml, rel=1e-9)
    # In float32 a coordinate of 2 m would be off by up to 1e-4 mm.
    assert cKDTree(here.vertices_mm).query(there.vertices_mm - FAR_MM)[0].max() < 1e-6


def test_what_is_no_solid_is_refused():
    with pytest.raises(InputError, match=r"a solid needs a closed mesh; this one is empty"):
        solids.to_solid(Mesh.empty())
    mesh = ball(5.0)
    with pytest.raises(InputError, match=r"closed mesh; this one has 3 open edges \(manifold3d: NotManifold\)"):
        solids.to_solid(Mesh(mesh.vertices_mm, mesh.faces[1:]))
    with pytest.raises(InputError, match=r"outward normals; this one encloses -0\.51\d? ml: flip it"):
        solids.to_solid(mesh.flipped())


def off_mm(mesh, other):
    """How far the vertices of a mesh lie from another's surface, at most: through its nearest triangles."""
    corners = other.vertices_mm[other.faces]
    size = np.linalg.norm(corners - corners.mean(axis=1, keepdims=True), axis=2).max()
    near = cKDTree(corners.mean(axis=1)).query_ball_point(mesh.vertices_mm, size + 0.3)
    which = np.repeat(np.arange(len(near)), [len(k) for k in near])
    faces = np.concatenate([np.asarray(k, int) for k in near])
    foot = trimesh.triangles.closest_point(corners[faces], mesh.vertices_mm[which])
    least = np.full(len(near), np.inf)
    np.minimum.at(least, which, np.linalg.norm(foot - mesh.vertices_mm[which], axis=1))
    return least.max()


@pytest.mark.parametrize(("bound", "left"), [(0.005, 0.9), (0.03, 0.5)])
def test_a_simplified_mesh_stays_within_its_bound(bound, left):
    mesh = ball(step=0.7)
    found, error = solids.simplified(mesh, 4, bound)  # a budget that no bound meets
    assert error <= bound
    assert len(found.faces) < left * len(mesh.faces)
    assert found.is_closed
    assert len(found.shells) == 1
    assert found.volume_ml == pytest.approx(mesh.volume_ml, rel=2e-3)
    assert off_mm(mesh, found) <= error
    assert off_mm(found, mesh) <= error


def test_simplifying_stops_at_the_budget():
    mesh = cap().parts[0].mesh
    modest, small = solids.simplified(mesh, 45_000, 0.2), solids.simplified(mesh, 12_000, 0.2)
    assert len(modest[0].faces) <= 45_000
    assert len(small[0].faces) <= 12_000
    assert modest[1] < small[1] < 0.1
    assert solids.simplified(mesh, len(mesh.faces) + 1, 0.2)[1] == pytest.approx(solids.FINEST_MM)


def test_the_finest_of_all_bounds_that_meets_the_budget_is_found():
    mesh = ball(step=1.0)
    bounds = solids._tolerances(solids.FINEST_MM, 0.03)
    counts = [solids.to_solid(mesh).simplify(bound).num_tri() for bound in bounds]
    assert len(set(counts)) == len(counts) == 4 and counts == sorted(counts, reverse=True)
    for budget in (*counts, counts[1] + 1, counts[-1] - 1, 10**6):
        wanted = next((number for number, count in enumerate(counts) if count <= budget), len(counts) - 1)
        found, error = solids.simplified(mesh, budget, 0.03)
        assert (len(found.faces), error) == (counts[wanted], bounds[wanted])


def test_a_mesh_is_closed_still_once_rounded_as_files_round_it():
    mesh, _ = solids.simplified(cap().parts[0].mesh, 100_000, 0.03)
    rounded, same = np.unique(mesh.vertices_mm.astype(np.float32), axis=0, return_inverse=True)
    assert Mesh(rounded.astype(float), same.reshape(-1)[mesh.faces]).is_closed


def test_a_mesh_is_simplified_as_far_as_its_volume_bears():
    thin = box([30.0, 30.0, 0.02])
    found, error = solids.simplified(thin, 4, 0.2)
    assert error < 0.02
    assert found.volume_ml == pytest.approx(thin.volume_ml, rel=2e-3)
    assert found.is_closed


@pytest.mark.parametrize(("budget", "error"), [(3, 0.1), (100, 0.0), (100, -1.0), (100, float("nan"))])
def test_impossible_budgets_are_refused(budget, error):
    with pytest.raises(InputError, match=r"simplified to 4 triangles or more, within a positive error; got"):
        solids.simplified(ball(3.0), budget, error)


def test_rods_and_slabs_have_their_volumes():
    straight = solids.rod(np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 7.0]), 2.0)
    assert straight.volume() == pytest.approx(np.pi * 4 * 5, rel=0.01)
    cone = solids.rod(np.zeros(3), np.array([6.0, 0.0, 0.0]), 2.0, 1.0)
    assert cone.volume() == pytest.approx(np.pi * 6 / 3 * (4 + 2 + 1), rel=0.01)
    bent = solids.round_rod(np.array([[0.0, 0, 0], [10.0, 0, 0], [10.0, 10.0, 0]]), 1.0)
    assert bent.volume() == pytest.approx(np.pi * 20 + 4 / 3 * np.pi, rel=0.04)
    assert box([2.0, 3.0, 4.0]).volume_ml == pytest.approx(0.024)


def test_the_largest_piece_is_kept():
    both = solids.to_solid(ball(6.0)) + solids.to_solid(ball(3.0, centre=(20.0, 0.0, 0.0)))
    assert solids.largest(both).volume() == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)


def test_lines_through_a_ball_are_as_long_as_its_chords():
    mesh = ball(20.0, 0.7)
    points = np.stack(np.meshgrid(*(np.arange(-24.0, 24.1, 3.1),) * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    low, high, count = solids.spans(mesh, points)
    far = np.hypot(*points.T)
    assert np.isnan(low[far > 20.1]).all()
    assert (count[far > 20.1] == 0).all()
    within = far < 19
    half = np.sqrt(400 - far[within] ** 2)
    assert high[within] == pytest.approx(half, abs=0.05)
    assert low[within] == pytest.approx(-half, abs=0.05)
    assert np.median(count[within]) == 2


def test_large_triangles_are_found_as_small_ones_are():
    low, high, _ = solids.spans(box([100.0, 90.0, 5.0]), np.array([[1.0, 1.0], [99.0, 50.0], [101.0, 50.0]]))
    assert low[:2].tolist() == [0.0, 0.0]
    assert high[:2] == pytest.approx([5.0, 5.0])
    assert np.isnan(low[2])


def test_the_way_out_is_the_thickness():
    mesh = cap().parts[0].body
    start = cap().parts[0].outline[0].points_mm.mean(axis=0)
    start = np.array([0.0, *start[1:]]) + np.array([cap().parts[0].sheet.points_mm[..., 0].max(), 0.3, 0.4])
    assert solids.way_out(mesh, start, np.array([-1.0, 0.0, 0.0])) == pytest.approx(4.0, abs=0.05)
    assert np.isnan(solids.way_out(mesh, start, np.array([1.0, 0.0, 0.0])))
