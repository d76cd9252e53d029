"""What speaks of where a patch belongs, on ellipsoidal shells about the head centre, where every answer is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calvaria.refinement.energy import Evidence
from calvaria.refinement.evidence import RIM_REACH_MM, SPHERE_MM, asymmetry, directions, rim_evidence, tables_along
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid

GRID = Grid.isotropic((81, 93, 85), 2.0, (-80.0, -92.0, -72.0))
OUTER_MM = np.array([70.0, 84.0, 74.0])
INNER_MM = OUTER_MM - [6.0, 7.0, 6.5]
AXIS = np.array([0.9, 0.1, 0.42]) / np.linalg.norm([0.9, 0.1, 0.42])
"""Where the hole is: on the left side of the vault."""

HOLE_MM = 22.0
"""Its radius on the sphere on which angles are measured."""

READING_MM = 0.03
"""A table curved with 60 mm and more, read between nodes of 2 mm: 2^2 / 8 / 60 along each of two axes."""

WEIGHT = 10.0

AWAY_MM = 4.0
"""Nearer to the hole, the depth of bone is that below the cut, not below its tables."""


def radius(half_axes_mm: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / np.linalg.norm(rays / half_axes_mm, axis=-1)


@lru_cache(maxsize=1)
def polar() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(I, J, K) distances of the grid's nodes from the head centre, and (I, J, K, 3) directions."""
    off = GRID.centres_mm() - HEAD_CENTRE_MM
    far = np.maximum(np.linalg.norm(off, axis=-1), 1e-6)
    rays = off / far[..., None]
    rays[far < 1e-5] = AXIS
    return far, rays


def inwards_mm(rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far inside the hole a direction lies, on the sphere; negative over bone."""
    return np.asarray(HOLE_MM - SPHERE_MM * np.arccos(np.clip(rays @ AXIS, -1, 1)))


@lru_cache(maxsize=1)
def shell() -> NDArray[np.float32]:
    """Signed radial distance to the whole shell."""
    far, rays = polar()
    return np.maximum(far - radius(OUTER_MM, rays), radius(INNER_MM, rays) - far).astype(np.float32)


def holed(whole: NDArray[np.float32]) -> NDArray[np.float32]:
    far, rays = polar()
    return np.maximum(whole, inwards_mm(rays) * far / SPHERE_MM).astype(np.float32)


@lru_cache(maxsize=1)
def rim() -> Evidence:
    nodes = (np.abs(shell()) < 4) & (inwards_mm(polar()[1]) > -6)
    return rim_evidence(holed(shell()), shell(), GRID, nodes, WEIGHT)


def test_directions_are_spread_evenly():
    rays = directions(3000)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)
    np.testing.assert_allclose(rays.mean(axis=0), 0, atol=1e-3)
    alike = rays @ rays.T
    np.fill_diagonal(alike, -1)
    nearest = np.arccos(alike.max(axis=1))
    evenly = np.sqrt(4 * np.pi / 3000)
    assert evenly * 0.8 < nearest.min() <= nearest.max() < evenly * 1.2


class TestTables:
    @pytest.mark.parametrize("far_mm", [12.0, 3.0])
    def test_of_an_ellipsoid_they_are_its_radii(self, far_mm):
        rays = directions(800)
        found = tables_along(np.minimum(shell(), np.float32(far_mm)), GRID, rays, far_mm)
        assert found.present.all()
        np.testing.assert_allclose(found.outer_mm, radius(OUTER_MM, rays), atol=READING_MM)
        np.testing.assert_allclose(found.inner_mm, radius(INNER_MM, rays), atol=READING_MM)

    def test_rays_through_the_hole_meet_nothing(self):
        rays = directions(3000)
        found = tables_along(holed(shell()), GRID, rays)
        sure = np.abs(inwards_mm(rays)) > 2
        np.testing.assert_array_equal(found.present[sure], inwards_mm(rays)[sure] < 0)
        assert np.count_nonzero(~found.present) > 30

    def test_without_bone_no_ray_meets_any(self):
        found = tables_along(np.full(GRID.shape, 12.0, np.float32), GRID, directions(50))
        assert not found.present.any()
        assert np.isfinite(found.outer_mm).all()
        assert np.isfinite(found.inner_mm).all()

    def test_of_two_plates_it_is_the_outer_one(self):
        far, _ = polar()
        within = np.maximum(far - 55, 50 - far).astype(np.float32)
        found = tables_along(np.minimum(shell(), within), GRID, directions(200))
        np.testing.assert_allclose(found.outer_mm, radius(OUTER_MM, directions(200)), atol=READING_MM)
        np.testing.assert_allclose(found.inner_mm, radius(INNER_MM, directions(200)), atol=READING_MM)

    def test_of_solid_bone_the_inner_one_is_where_the_search_begins(self):
        far, _ = polar()
        found = tables_along((far - 70).astype(np.float32), GRID, directions(200))
        np.testing.assert_allclose(found.outer_mm, 70, atol=READING_MM)
        assert (found.inner_mm < 37).all()


NEAR_MM = 4.0
"""Half the width over which the narrowest levels smear a surface, and more."""


class TestRim:
    def true_mm(self) -> NDArray[np.float64]:
        far, rays = polar()
        return np.maximum(far - radius(OUTER_MM, rays), radius(INNER_MM, rays) - far)

    @pytest.mark.parametrize(("low", "high", "error_mm"), [(0, 2, 0.15), (2, 4, 0.2), (4, 6, 0.3)])
    def test_near_the_rim_the_tables_run_on_where_they_are(self, low, high, error_mm):
        inside = inwards_mm(polar()[1])
        # Next to the surface, where a target counts: farther off, an error of the angle counts for more.
        there = (rim().weight > 0) & (inside >= low) & (inside < high) & (np.abs(self.true_mm()) < NEAR_MM)
        assert np.count_nonzero(there) > 100
        assert np.abs(rim().distance_mm - self.true_mm())[there].max() < error_mm

    def test_a_hole_as_thick_as_its_rim_is_neither_thinned_nor_pulled_inwards(self):
        """Edges that are rounded by the grid must not tell how the tables run on."""
        inside = inwards_mm(polar()[1])
        off = (rim().distance_mm - self.true_mm())[(rim().weight > 0) & (inside > 0) & (inside < 4)]
        assert abs(off.mean()) < 0.1

    def test_its_weight_falls_from_the_rim_inwards(self):
        inside, weight = inwards_mm(polar()[1]), rim().weight
        assert weight.max() == pytest.approx(WEIGHT, rel=0.05)
        assert weight.max() <= WEIGHT
        wanted = np.abs(shell()) < 4
        means = [weight[wanted & (inside >= low) & (inside < low + 2)].mean() for low in range(0, 10, 2)]
        assert (np.diff(means) < 0).all()
        assert means[0] > WEIGHT / 2
        assert not weight[wanted & (inside > RIM_REACH_MM)].any()

    def test_only_where_it_is_wanted(self):
        inside = inwards_mm(polar()[1])
        assert not rim().weight[(np.abs(shell()) >= 4) | (inside <= -6)].any()
        assert not rim().weight[inwards_mm(-polar()[1]) > -40].any()
        assert rim().name == "rim"

    def test_its_weight_scales(self):
        nodes = (np.abs(shell()) < 2) & (inwards_mm(polar()[1]) > 0)
        twice = rim_evidence(holed(shell()), shell(), GRID, nodes, 2 * WEIGHT)
        np.testing.assert_allclose(twice.weight[nodes], 2 * rim().weight[nodes], rtol=1e-6)
        np.testing.assert_allclose(twice.distance_mm[nodes], rim().distance_mm[nodes], atol=1e-5)

    def test_a_rough_expectation_does(self):
        """It only shows where bone is missing."""
        proud = np.where(inwards_mm(polar()[1]) > 0, shell() - 1, shell()).astype(np.float32)
        nodes = (np.abs(shell()) < 4) & (inwards_mm(polar()[1]) > -6)
        found = rim_evidence(holed(shell()), proud, GRID, nodes, WEIGHT)
        np.testing.assert_allclose(found.distance_mm, rim().distance_mm, atol=0.1)

    def test_without_a_hole_there_is_none(self):
        found = rim_evidence(shell(), shell(), GRID, np.abs(shell()) < 4, WEIGHT)
        assert not found.weight.any()
        assert not found.distance_mm.any()

    def test_without_bone_there_is_none(self):
        found = rim_evidence(np.full(GRID.shape, 12, np.float32), shell(), GRID, np.abs(shell()) < 4, WEIGHT)
        assert not found.weight.any()

    def test_where_it_is_wanted_nowhere_there_is_none(self):
        assert not rim_evidence(holed(shell()), shell(), GRID, np.zeros(GRID.shape, bool), WEIGHT).weight.any()

    def test_a_turned_head_has_the_turned_rim(self):
        """About z: the hole from the left to the back; rays are not turned with it, so up to their spacing."""
        far, rays = polar()
        turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
        ball = np.maximum(far - 70, 64 - far).astype(np.float32)
        weights = []
        for about in (rays, rays @ turn):
            inside = inwards_mm(about)
            found = rim_evidence(np.maximum(ball, inside * far / 80).astype(np.float32), ball, GRID, ball < 2, 1.0)
            ring = (ball < 0) & (inside > 2) & (inside < 4)
            weights.append(found.weight[ring].mean())
            assert np.abs(found.distance_mm - ball)[ring].max() < 0.1
        assert weights[0] == pytest.approx(weights[1], rel=0.1)


class TestAsymmetry:
    WIDER_MM = 1.5
    """The left half is so much wider than the right one."""

    def lopsided(self) -> NDArray[np.float32]:
        far, _ = polar()
        outer = 70.75 + self.WIDER_MM / 2 * np.tanh((GRID.centres_mm()[..., 0]) / 15)
        return np.maximum(far - outer, outer - 6 - far).astype(np.float32)

    def found(self, whole: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What is carried over, and where it was wanted."""
        inside = inwards_mm(polar()[1])
        near = (np.abs(whole) < 4) & (inside > 0)
        return asymmetry(holed(whole), inside < -AWAY_MM, near, GRID), near

    def test_of_a_wider_left_half_it_is_about_as_much_in_the_hole(self):
        """Smoothed, for real heads' asymmetry is noisy: half of it at least, and never much more than all."""
        whole = self.lopsided()
        out, near = self.found(whole)
        far, _ = polar()
        outer = near & (np.abs(whole) < 1) & (far > 69)
        inner = near & (np.abs(whole) < 1) & (far < 67)
        exact = whole - whole[::-1]
        assert exact[outer].mean() == pytest.approx(-self.WIDER_MM, abs=0.05)
        assert -1.1 * self.WIDER_MM < out[outer].mean() < -0.5 * self.WIDER_MM
        assert -1.2 * self.WIDER_MM < out[outer].min() <= out[outer].max() < 0
        assert 0.3 * self.WIDER_MM < out[inner].mean() < 1.1 * self.WIDER_MM  # farther out there is less deep
        # And the comparison is the better for it.
        assert np.abs(exact - out)[near].mean() < 0.7 * np.abs(exact)[near].mean()

    def test_it_is_exactly_antisymmetric(self):
        out, _ = self.found(self.lopsided())
        assert out.dtype == np.float32
        assert out.any()
        np.testing.assert_array_equal(out, -out[::-1])

    def test_of_the_mirror_image_it_is_the_opposite(self):
        whole = self.lopsided()
        inside = inwards_mm(polar()[1])
        near = (np.abs(whole) < 4) & (inside > 0)
        out = asymmetry(holed(whole), inside < -AWAY_MM, near, GRID)
        mirrored = asymmetry(holed(whole)[::-1].copy(), (inside < -AWAY_MM)[::-1], near[::-1], GRID)
        # Points are thinned in the order of the array, so others are chosen.
        off = np.abs(mirrored[::-1] - out)[near]
        assert off.mean() < 0.05 * self.WIDER_MM
        assert off.max() < 0.2 * self.WIDER_MM

    def test_of_an_even_head_there_is_none(self):
        out, _ = self.found(shell())
        assert np.abs(out).max() < 1e-5

    def test_where_it_is_not_wanted_it_is_nought(self):
        out, near = self.found(self.lopsided())
        assert not out[~(near | near[::-1])].any()
        whole = self.lopsided()
        assert not asymmetry(holed(whole), np.ones(GRID.shape, bool), np.zeros(GRID.shape, bool), GRID).any()

    def test_where_no_bone_is_known_it_is_nought(self):
        whole = self.lopsided()
        near = (np.abs(whole) < 4) & (inwards_mm(polar()[1]) > 0)
        assert not asymmetry(holed(whole), np.zeros(GRID.shape, bool), near, GRID).any()
