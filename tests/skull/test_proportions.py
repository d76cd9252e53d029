"""Height, length and breadth: of ellipsoids with known axes, of skulls with holes, after rescaling."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.heads import SIDE, Head, rigid, scan, true_frame

from calvaria.datasets.catalog import autoimplant2020
from calvaria.errors import FormatError, InputError
from calvaria.io import read_mask
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.skull.edges import CutPlane
from calvaria.skull.proportions import (
    FACTORS,
    Population,
    Proportions,
    factors_between,
    population,
    proportions,
    read_population,
    rescale_to,
    write_population,
)
from calvaria.volume import Grid, Volume

HALF_MM = np.array([71.0, 93.0, 78.0])
MEATUS_Z_MM = -42.06
"""Height of the landmark plane above y = 5 mm, where the meatus lies."""

BLUNT_MM = 0.4
"""What is left out at an end (a speck's worth of bone) and rounding to voxels at both ends."""

REST = CanonicalFrame(np.eye(4), np.ones(3), 0.0, ())
factors = st.tuples(*[st.floats(0.85, 1.2)] * 3)


def ellipsoid(spacing_mm: float = 1.0, half=HALF_MM) -> Volume:
    """A solid ellipsoid about the canonical origin."""
    count = (np.ceil(2 * half / spacing_mm) + 4).astype(int)
    grid = Grid.isotropic(tuple(count), spacing_mm, -(count - 1) / 2 * spacing_mm)
    x, y, z = (grid.affine[a, 3] + spacing_mm * np.arange(n) for a, n in enumerate(count))
    rho = (x[:, None, None] / half[0]) ** 2 + (y[:, None] / half[1]) ** 2 + (z / half[2]) ** 2
    return Volume(rho <= 1, grid)


def sizes(found: Proportions) -> np.ndarray:
    return np.array([found.breadth_mm, found.length_mm, found.height_mm])


def test_an_ellipsoid_has_its_axes():
    found = proportions(ellipsoid(), REST)
    np.testing.assert_allclose(sizes(found), [*2 * HALF_MM[:2], HALF_MM[2] - MEATUS_Z_MM], atol=2 * BLUNT_MM + 0.5)


def test_the_voxels_size_does_not_matter():
    coarse, fine = (proportions(ellipsoid(spacing), REST) for spacing in (2.0, 1.0))
    np.testing.assert_allclose(sizes(coarse), sizes(fine), atol=1.5)


@given(factors)
@settings(max_examples=15)
def test_a_rescaled_skull_is_measured_as_such(by):
    skull = ellipsoid(2.0)
    grown, frame = rescale_to(skull, REST, by)
    # 10 mm3 of specks are a little more or fewer voxels after it.
    np.testing.assert_allclose(sizes(proportions(grown, frame)), sizes(proportions(skull, REST)) * by, atol=1.0)


@given(factors, st.tuples(*[st.floats(-20, 20)] * 3))
@settings(max_examples=8)
def test_neither_pose_nor_grid_matter(by, degrees):
    pose = rigid(degrees, (10, 20, -30))
    skull = ellipsoid(2.0)
    posed = CanonicalFrame(pose, np.ones(3), 0.0, ())
    moved = Volume(skull.data, skull.grid.moved(pose))
    np.testing.assert_allclose(sizes(proportions(moved, posed)), sizes(proportions(skull, REST)), atol=1e-6)
    grown, frame = rescale_to(moved, posed, by)
    back, rest = rescale_to(grown, frame, 1 / np.array(by))
    assert back.grid.same_as(moved.grid, 1e-6)
    np.testing.assert_allclose(rest.scale, 1.0)


def test_a_hole_on_one_side_changes_nothing():
    whole, holed = (scan(Head(20, holes), None, (2.0, 2.0, 2.0)) for holes in ((), (SIDE,)))
    frame = true_frame(Head(20))
    np.testing.assert_allclose(sizes(proportions(holed, frame)), sizes(proportions(whole, frame)), atol=1.0)


def test_a_speck_is_not_measured():
    skull = ellipsoid(1.0)
    wide = skull.pad((0, 30, 30), (0, 30, 30))
    wide.mask[80, 5, 120] = True
    np.testing.assert_allclose(sizes(proportions(wide, REST)), sizes(proportions(skull, REST)), atol=0.6)


def test_what_has_no_vault_is_no_calvaria():
    low = ellipsoid(2.0)
    low = low.with_data(low.mask & (low.grid.centres_mm()[..., 2] < -75))
    with pytest.raises(InputError, match="no bone above the landmark plane"):
        proportions(low, REST)


def test_a_cut_moves_with_the_skull():
    cut = CutPlane(np.array([0.0, 0.6, -0.8]), 50.0)
    _, frame = rescale_to(ellipsoid(4.0), CanonicalFrame(np.eye(4), np.ones(3), 0.0, (cut,)), (0.9, 1.1, 1.2))
    on_plane = np.array([10.0, 30.0, -40.0])
    assert cut.normal @ on_plane == pytest.approx(cut.offset_mm)
    grown = frame.cuts[0]
    assert grown.normal @ (on_plane * [0.9, 1.1, 1.2]) == pytest.approx(grown.offset_mm)
    assert np.linalg.norm(grown.normal) == pytest.approx(1.0)


def test_a_population_is_mean_and_deviation():
    found = population([Proportions(180.0, 140.0, 120.0), Proportions(190.0, 150.0, 126.0)])
    assert (found.count, found.mean) == (2, Proportions(185.0, 145.0, 123.0))
    assert found.sd == Proportions(*np.round(np.array([10, 10, 6]) / np.sqrt(2), 3))
    assert population([Proportions(1.0, 2.0, 3.0)]).sd == Proportions(0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="at least one skull"):
        population([])


def of(length: float, breadth: float, height: float) -> Population:
    return population([Proportions(length, breadth, height)])


def test_factors_bring_one_mean_to_the_other():
    assert factors_between(of(180, 140, 120), of(198, 133, 126)) == pytest.approx((0.95, 1.1, 1.05))
    with pytest.raises(InputError, match=r"three factors from 0.7 to 1.4"):
        factors_between(of(180, 140, 120), of(18, 14, 12))


@pytest.mark.parametrize("bad", [(1, 1), (1, 1, 0.1), (1, 1, np.nan), (1, 1, 9)])
def test_heads_are_not_rescaled_beyond_heads(bad):
    with pytest.raises(InputError, match=f"from {FACTORS[0]} to {FACTORS[1]} along x, y, z"):
        rescale_to(ellipsoid(8.0), REST, bad)


def test_a_population_comes_back_from_its_file(tmp_path):
    found = population([Proportions(180.1, 140.2, 120.3), Proportions(190.0, 150.0, 126.0)])
    write_population(tmp_path / "population.json", found)
    assert read_population(tmp_path / "population.json") == found


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("count"),
        lambda values: values["mean"].pop("length_mm"),
        lambda values: values["mean"].update(length_mm="long"),
        lambda values: values["mean"].update(length_mm=0),
        lambda values: values["mean"].update(length_mm=float("nan")),
    ],
)
def test_a_file_that_is_no_population_is_refused(tmp_path, change):
    path = tmp_path / "population.json"
    write_population(path, of(180, 140, 120))
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"population.json: (not a population|the mean proportions)"):
        read_population(path)
    path.write_text("nothing")
    with pytest.raises(FormatError, match="import-clinical writes one"):
        read_population(path)


def test_a_real_skull_grows_by_what_it_is_scaled_by(real_data):
    case = next(case for case in autoimplant2020(real_data / "autoimplant2020") if case.id == "train-005")
    skull = read_mask(case.complete)
    skull = Volume(skull.mask[::3, ::3, ::2], Grid((171, 171, 106), skull.affine @ np.diag([3.0, 3.0, 2.0, 1.0])))
    frame = locate(skull)
    before = sizes(proportions(skull, frame))
    by = np.array([1.05, 0.95, 1.04])
    grown, known = rescale_to(skull, frame, by)
    np.testing.assert_allclose(sizes(proportions(grown, known)), before * by, rtol=5e-3)
    # And when its frame is found anew, but for what the pose and the landmarks are found by.
    np.testing.assert_allclose(sizes(proportions(grown, locate(grown))), before * by, rtol=2.5e-2)
