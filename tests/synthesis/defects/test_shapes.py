"""Formulas of shapes: analytic truths, numpy beside torch, and the shapes of the packaged benchmark unchanged."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.skull import head
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL
from calvaria.synthesis.defects import prisms
from calvaria.synthesis.defects.formulas import polygon, roughness
from calvaria.synthesis.defects.prisms import PrismSpec
from calvaria.synthesis.defects.sampling import sample_defect
from calvaria.synthesis.defects.shapes import BLEND_MM, GRAIN_MM, KINDS, DefectSpec
from calvaria.synthesis.defects.specs import ALL_KINDS, MultipleSpec, spec_from_json

SEEDS = st.integers(0, 2**32)
SQUARE = ((-10.0, -10.0), (10.0, -10.0), (10.0, 10.0), (-10.0, 10.0))
TOP: dict[str, Any] = {
    "kind": "craniotomy",
    "centre_mm": (0.0, 0.0, 80.0),
    "normal": (0.0, 0.0, 1.0),
    "across": (1.0, 0.0, 0.0),
    "bend_mm": 80.0,
    "outline_mm": SQUARE,
}


def on_sphere(a: NDArray[np.floating], b: NDArray[np.floating], radius: float = 80.0) -> NDArray[np.floating]:
    """(N, 3) the points of the sphere of `TOP`'s bend that lie at outline coordinates (a, b)."""
    length, turn = np.hypot(a, b), np.arctan2(b, a)
    angle = length / 80.0
    away = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], axis=1)
    return away * radius


# --- the shapes of the packaged benchmark ---------------------------------------------------------------------------


def published_field(spec: DefectSpec, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The formula with which the packaged defects were drawn, in single precision, as it stood then."""

    def ball(x: float, y: float, z: float, r: float) -> NDArray[np.float32]:
        f = np.float32
        return np.asarray(np.sqrt((points[0] - f(x)) ** 2 + (points[1] - f(y)) ** 2 + (points[2] - f(z)) ** 2) - f(r))

    field = ball(*spec.balls_mm[0])
    for other in spec.balls_mm[1:]:
        distance = ball(*other)
        overlap = np.maximum(np.float32(BLEND_MM) - np.abs(field - distance), np.float32(0))
        field = np.minimum(field, distance) - overlap * overlap * np.float32(0.25 / BLEND_MM)
    if spec.ragged_mm > 0:
        band = np.flatnonzero(np.abs(field) < 4.0 * spec.ragged_mm)
        rng = np.random.default_rng(spec.ragged_seed)
        waves = rng.normal(scale=1.0 / (np.sqrt(2.0) * GRAIN_MM), size=(48, 3)).astype(np.float32)
        phases = rng.uniform(0.0, 2.0 * np.pi, size=48).astype(np.float32)
        noise = np.zeros(len(band), np.float32)
        for wave, phase in zip(waves, phases, strict=True):
            near = points[:, band]
            noise += np.cos(wave[0] * near[0] + wave[1] * near[1] + wave[2] * near[2] + phase)
        noise *= np.float32(np.sqrt(2.0 / 48))
        field[band] += np.float32(spec.ragged_mm) * np.clip(noise, -4.0, 4.0)
    return np.asarray(np.maximum(field, LANDMARK_NORMAL.astype(np.float32) @ points - np.float32(LANDMARK_MM)))


@given(st.sampled_from(KINDS), SEEDS)
@settings(max_examples=30)
def test_balls_are_what_they_were_when_the_benchmark_was_drawn(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = sample_defect(kind, rng)
    assert isinstance(spec, DefectSpec)
    points = rng.uniform(*spec.bounds_mm(), (20000, 3)).astype(np.float32)
    before, now = published_field(spec, points.T.copy()), spec.field_mm(points)
    # The landmark plane's dot product may round otherwise, by one unit in the last place of 100 mm.
    assert np.abs(before - now).max() <= 2e-5
    assert np.array_equal(before[np.abs(before) > 1e-4] < 0, now[np.abs(before) > 1e-4] < 0)


# --- one formula for numpy and torch --------------------------------------------------------------------------------


@given(st.sampled_from(ALL_KINDS), SEEDS)
@settings(max_examples=40)
def test_numpy_and_torch_have_one_field(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = sample_defect(kind, rng)
    points = np.ascontiguousarray(rng.uniform(*spec.bounds_mm(), (4000, 3)).T.astype(np.float32))
    one, other = spec.field(points), spec.field(torch.from_numpy(points))
    assert other.dtype == torch.float32
    # Where a limit's rounding decides whether the outline is asked at all, values differ, but not the side.
    assert np.mean(np.abs(one - other.numpy()) < 1e-3) > 0.999
    sure = np.abs(one) > 1e-3
    assert np.array_equal(one[sure] < 0, other.numpy()[sure] < 0)


# --- polygons and noise ---------------------------------------------------------------------------------------------


def test_the_distance_to_a_square_is_that_of_geometry() -> None:
    a, b = np.array([0.0, 10.0, 15.0, 13.0, -4.0, 3.0]), np.array([0.0, 0.0, 0.0, 14.0, 8.0, -30.0])
    np.testing.assert_allclose(polygon(a, b, SQUARE), [-10, 0, 5, 5, -2, 20], atol=1e-9)
    np.testing.assert_allclose(polygon(a, b, SQUARE[::-1]), [-10, 0, 5, 5, -2, 20], atol=1e-9)


@given(SEEDS, st.integers(3, 9))
@settings(max_examples=30)
def test_a_star_shaped_polygon_holds_what_lies_within_its_radius(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 0.3, count)) / count
    radii = rng.uniform(8, 20, count)
    corners = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    a, b = rng.uniform(-25, 25, (2, 300))
    distance = polygon(a, b, [(float(x), float(y)) for x, y in corners])
    # Independently: a ray from the middle through the point, and where it meets the edge of its sector.
    turn = np.mod(np.arctan2(b, a) - angles[0], 2 * np.pi) + angles[0]
    first = np.searchsorted(angles, turn, side="right") - 1
    p, q = corners[first], corners[(first + 1) % count]
    way = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    edge = q - p
    reach = (p[:, 0] * edge[:, 1] - p[:, 1] * edge[:, 0]) / (way[:, 0] * edge[:, 1] - way[:, 1] * edge[:, 0])
    inside = np.hypot(a, b) < reach
    assert np.array_equal(distance[np.abs(distance) > 1e-6] < 0, inside[np.abs(distance) > 1e-6])
    steps = np.linspace(0, 1, 100)[:, None, None]
    dense = (corners + (np.roll(corners, -1, axis=0) - corners) * steps).reshape(-1, 2)
    nearest = np.hypot(a[:, None] - dense[:, 0], b[:, None] - dense[:, 1]).min(axis=1)
    assert (np.abs(distance) <= nearest + 1e-6).all()
    assert (np.abs(distance) >= nearest - 0.25).all()  # half the step along the longest edge


def test_the_roughness_has_unit_variance_and_the_grain_it_says() -> None:
    points = np.random.default_rng(0).uniform(-200, 200, (3, 40000)).astype(np.float32)
    here, there = roughness(points, 1), roughness(points + np.float32([[2 * GRAIN_MM], [0], [0]]), 1)
    assert here.std() == pytest.approx(1.0, rel=0.05)
    # White noise smoothed by sigma: correlation exp(-d^2 / 4 sigma^2); 48 waves show it to about a seventh.
    assert np.corrcoef(here, there)[0, 1] == pytest.approx(math.exp(-1.0), abs=0.2)


# --- the model head -------------------------------------------------------------------------------------------------


@given(st.floats(-180, 180), st.floats(-20, 90))
def test_points_of_the_model_head_lie_on_it(azimuth: float, elevation: float) -> None:
    point = head.on_head(azimuth, elevation)
    normal = head.normals(point)
    assert np.linalg.norm(normal) == pytest.approx(1.0)
    assert head.below_surface(point[:, None])[0] == pytest.approx(0.0, abs=1e-9)
    assert head.below_surface((point - 2.0 * normal)[:, None])[0] == pytest.approx(2.0, rel=0.05)
    assert head.below_surface((point + 2.0 * normal)[:, None])[0] == pytest.approx(-2.0, rel=0.05)
    assert 50 < head.bend_radius_mm(point, normal) < 111  # the ellipsoid's radii of curvature: 56 to 111 mm


def test_the_bend_at_the_pole_is_the_mean_of_both_curvatures() -> None:
    a, b, c = head.HEAD_HALF_AXES_MM
    top = head.HEAD_CENTRE_MM + np.array([0, 0, c])
    assert head.bend_radius_mm(top, (0.0, 0.0, 1.0)) == pytest.approx(2 / (c / a**2 + c / b**2))


# --- prisms ---------------------------------------------------------------------------------------------------------


@given(SEEDS)
def test_a_prism_holds_the_outline_on_its_sphere(seed: int) -> None:
    a, b = np.random.default_rng(seed).uniform(-25, 25, (2, 200))
    spec = PrismSpec(**TOP, kerf_mm=1.5)
    wall = polygon(a, b, SQUARE) - 1.5
    inside = spec.field_mm(on_sphere(a, b)) < 0
    sure = np.abs(wall) > 1e-3
    assert np.array_equal(inside[sure], wall[sure] < 0)
    np.testing.assert_allclose(spec.on_plane(on_sphere(a, b)), np.stack([a, b], axis=1), atol=1e-6)


def test_the_walls_run_towards_the_middle_and_the_prism_ends_below_the_surface() -> None:
    spec = PrismSpec(**TOP, depth_mm=20.0)
    a, b = np.array([9.0, 9.0, 9.0, 11.0, 0.0]), np.zeros(5)
    points = np.concatenate([on_sphere(a[:3], b[:3], radius) for radius in (76.0, 70.0, 66.0)])
    assert (spec.field_mm(points) < 0).all()
    assert spec.field_mm(on_sphere(a[3:4], b[3:4], 70.0))[0] > 0
    assert spec.field_mm(np.array([[0.0, 0.0, 59.0]]))[0] > 0  # 21 mm below the top at z = 80
    assert spec.field_mm(np.array([[0.0, 0.0, -60.0]]))[0] > 0  # the other side of the head


def test_burr_holes_corners_and_the_midline() -> None:
    burr = PrismSpec(**TOP, burrs_mm=((10.0, 10.0, 7.0),))
    at = on_sphere(np.array([14.0, 15.5]), np.array([14.0, 15.5]))
    assert (burr.field_mm(at) < 0).tolist() == [True, False]
    rounded = PrismSpec(**TOP, corner_mm=5.0)
    assert (rounded.field_mm(on_sphere(np.array([13.0, 14.0]), np.array([13.0, 14.0]))) < 0).tolist() == [True, False]
    halved = PrismSpec(**(TOP | {"centre_mm": (1e-3, 0.0, 80.0)}), midline_mm=4.0)
    x = on_sphere(np.array([-6.0, 2.0, 6.0]), np.zeros(3))
    assert (halved.field_mm(x) < 0).tolist() == [False, False, True]
    assert PrismSpec(**TOP, corner_mm=2.0, kerf_mm=1.0).outline_area_cm2() == pytest.approx(
        (400 + 80 * 3 + math.pi * 9) / 100
    )


@given(SEEDS)
@settings(max_examples=25)
def test_a_sawn_edge_wavers_little_and_moves_no_limit(seed: int) -> None:
    rough = PrismSpec(**TOP, ragged_mm=0.5, ragged_seed=seed)
    a = np.random.default_rng(seed).uniform(-13, 13, (2, 2000))
    inside, wall = rough.field_mm(on_sphere(*a)) < 0, polygon(a[0], a[1], SQUARE)
    assert inside[wall < -2.0].all()
    assert not inside[wall > 2.0].any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "ball"}, "a prism's kind is one of craniotomy, hemicraniectomy, bifrontal; got 'ball'"),
        ({"outline_mm": SQUARE[:2]}, "three or more vertices"),
        ({"outline_mm": ((0.0, 0.0, 1.0),) * 3}, "three or more vertices"),
        ({"outline_mm": ((0.0, math.nan), *SQUARE)}, "three or more vertices"),
        ({"burrs_mm": ((0.0, 0.0, 0.0),)}, r"burr holes are \(a, b, radius > 0\)"),
        ({"burrs_mm": ((0.0, 0.0),)}, "burr holes are"),
        ({"normal": (0.0, 0.0, 2.0)}, "unit vectors at right angles"),
        ({"across": (0.0, 0.0, 1.0)}, "unit vectors at right angles"),
        ({"bend_mm": 0.0}, "bend_mm is a length"),
        ({"depth_mm": 0.0}, "depth_mm is a length"),
        ({"kerf_mm": -1.0}, "kerf_mm is a length of at least 0"),
        ({"ragged_mm": math.inf}, "ragged_mm is a length"),
        ({"bend_mm": 6.0}, "too far round the head"),
    ],
)
def test_a_bad_prism_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PrismSpec(**(TOP | values))


def test_the_shell_of_a_prism_is_what_its_two_ends_say() -> None:
    assert prisms.MIDDLE_MM - prisms.HALF_SHELL_MM == -prisms.INWARD_MM
    assert prisms.MIDDLE_MM + prisms.HALF_SHELL_MM == prisms.OUTWARD_MM


# --- several, and JSON ----------------------------------------------------------------------------------------------


def test_several_are_inside_where_one_is() -> None:
    one, other = DefectSpec("ball", ((60.0, 0.0, 30.0, 10.0),)), PrismSpec(**TOP)
    both = MultipleSpec((one, other))
    points = np.random.default_rng(0).uniform(-90, 90, (3000, 3))
    assert np.array_equal(both.field_mm(points), np.minimum(one.field_mm(points), other.field_mm(points)))
    low, high = both.bounds_mm()
    for part in both.parts:
        assert (part.bounds_mm()[0] >= low).all()
        assert (part.bounds_mm()[1] <= high).all()
    for bad in ({"parts": (one,)}, {"parts": (one, other), "kind": "ball"}):
        with pytest.raises(InputError, match="'multiple' has two parts or more"):
            MultipleSpec(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"kind": "craniotomy"}',
        '{"kind": "multiple"}',
        '{"kind": "multiple", "parts": [3, 4]}',
        '{"kind": "multiple", "parts": 5}',
        '{"kind": "orbital", "balls_mm": [[0, 0, 0, 1]]}',
        json.dumps(TOP | {"normal": [1.0, 0.0]}),
        json.dumps(TOP | {"more": 1}),
    ],
)
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"spec|kind is one of"):
        spec_from_json(text)
