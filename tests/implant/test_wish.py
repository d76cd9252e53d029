"""What is asked of an implant on the lattice of the outer surface."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from tests.implant.shapes import INNER_MM, OUTER_MM, ball_with_hole

from calvaria.implant.settings import ImplantSettings
from calvaria.implant.site import Site, area_cm2, site_of
from calvaria.implant.wish import own_thickness, shaped, temporal, wish_of
from calvaria.skull.head import HEAD_CENTRE_MM

WINDOW_DEG = 18.0


@lru_cache(maxsize=1)
def site() -> Site:
    return site_of(*ball_with_hole(1.0, WINDOW_DEG), np.eye(4), 8.0)


def edges() -> tuple[np.ndarray, np.ndarray]:
    """Lattice points next to the hole's edge, and how far up the edge faces there, -1 to 1."""
    rim = np.abs(site().edge_mm) < 0.6
    arm = site().sheet.points_mm[rim] - HEAD_CENTRE_MM
    up = arm[:, 2] / np.hypot(arm[:, 1], arm[:, 2])
    return rim, up


def test_the_hole_is_the_window():
    cap_cm2 = 2 * np.pi * (OUTER_MM / 10) ** 2 * (1 - np.cos(np.radians(WINDOW_DEG)))
    assert area_cm2(site(), site().edge_mm) == pytest.approx(cap_cm2, rel=0.05)
    arm = site().sheet.points_mm - HEAD_CENTRE_MM
    angle = np.degrees(np.arccos(arm[..., 0] / np.linalg.norm(arm, axis=-1)))
    expected_mm = np.radians(angle - WINDOW_DEG) * OUTER_MM
    near = np.abs(expected_mm) < 8.0
    assert np.abs(site().edge_mm - expected_mm)[near].mean() < 0.5


def test_only_a_lower_edge_at_the_side_of_the_head_is_relieved():
    rim, up = edges()
    share = temporal(site(), np.eye(4))[rim]
    assert share[up < -0.9].min() > 0.8
    assert share[up > 0.0].max() < 0.1
    # The same hole where the vault's top would be has no edge under the muscle: z is across the plane there.
    top = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    top[:3, 3] = HEAD_CENTRE_MM - top[:3, :3] @ HEAD_CENTRE_MM
    assert temporal(site(), top)[rim].max() < 0.1


def test_relief_moves_the_edge_and_widens_the_gap_by_what_was_asked():
    rim, up = edges()
    plain, _ = wish_of(site(), np.eye(4), ImplantSettings())
    wish, notes = wish_of(site(), np.eye(4), ImplantSettings(temporal_relief_mm=3.0))
    assert notes == ()
    moved, wider = ((a - b)[rim] for a, b in ((wish.edge_mm, plain.edge_mm), (wish.clearance_mm, plain.clearance_mm)))
    assert moved == pytest.approx(wider, abs=1e-5)
    assert moved[up < -0.9].mean() == pytest.approx(3.0, abs=0.4)
    assert np.abs(moved[up > 0.2]).max() < 0.3
    top = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    top[:3, 3] = HEAD_CENTRE_MM - top[:3, :3] @ HEAD_CENTRE_MM
    _, notes = wish_of(site(), top, ImplantSettings(temporal_relief_mm=3.0))
    assert notes == ("no edge of the hole lies under the temporal muscle: there is nothing to relieve",)


def test_the_bones_own_thickness_is_that_of_the_shell():
    inside = site().edge_mm < -3.0
    assert own_thickness(site())[inside] == pytest.approx(OUTER_MM - INNER_MM, abs=0.4)


def test_an_offset_sinks_the_surface_along_its_normals():
    sunk = shaped(site(), ImplantSettings(offset_mm=2.0)).sheet
    height, _ = site().sheet.above(sunk.points_mm[sunk.hole])
    assert height == pytest.approx(-2.0, abs=0.02)


def test_flattening_leaves_the_rim_where_it_is():
    flat = shaped(site(), ImplantSettings(flatten=0.5)).sheet
    height, _ = site().sheet.above(flat.points_mm.reshape(-1, 3))
    edge = site().edge_mm.ravel()
    assert np.abs(height[edge > -0.5]).max() < 0.1
    middle = edge < -20.0
    # Half of the height of the cap over the plane of its rim.
    assert -height[middle] == pytest.approx(OUTER_MM * (1 - np.cos(np.radians(WINDOW_DEG))) / 2, abs=0.3)
    assert (height < 0.05).all()


def test_points_find_their_feet_on_the_sheet():
    sheet = site().sheet
    rng = np.random.default_rng(0)
    rows, columns = (rng.integers(20, n - 20, 500) for n in sheet.hole.shape)
    wanted = rng.uniform(-8, 4, 500)
    points = sheet.points_mm[rows, columns] + wanted[:, None] * sheet.normals[rows, columns]
    height, foot = sheet.above(points)
    assert height == pytest.approx(wanted, abs=0.01)
    assert (foot == rows * sheet.hole.shape[1] + columns).mean() > 0.98
