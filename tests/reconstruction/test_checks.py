"""The gates: on figures that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calvaria.models.calibration import Expected
from calvaria.reconstruction.box import AIR_MM, BoxField, box_grid
from calvaria.reconstruction.checks import gates
from calvaria.reconstruction.confidence import Confidence
from calvaria.reconstruction.holes import REASONS, LeftOpen
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.skull.canonical import SPACING_MM, CanonicalFrame
from calvaria.volume import Grid

WHOLE = Grid.isotropic((260, 260, 260), 1.0, (-130.0, -130.0, -130.0))


def completed(scale=(1.0, 1.0, 1.0), known_above_mm: float = -500.0, count: int = 400) -> Completion:
    """Air all around, and ``count`` voxels of missing bone from the vertex on."""
    grid = box_grid()
    air = np.full(grid.shape, np.float32(AIR_MM))
    region = np.zeros(grid.shape, bool)
    region[54, : count // 10, 80:90] = True
    known = grid.centres_mm()[..., 2] > known_above_mm
    soft = SoftField(np.where(region, np.float32(-1.0), air), region, 0.1)
    return Completion(CanonicalFrame(np.eye(4), np.array(scale), 0.05, ()), BoxField(air, known, scale), soft)


def verdicts(done: Completion, rest=(), grid: Grid = WHOLE) -> dict[str, str]:
    return {check.name: check.verdict for check in gates(done, rest, grid)}


def test_a_usual_patch_passes_all():
    assert set(verdicts(completed()).values()) == {"pass"}
    assert len(verdicts(completed())) == 5


@pytest.mark.parametrize(("shown", "verdict"), [(260, "pass"), (40, "fail")])
def test_a_patch_beyond_the_grid_fails(shown, verdict):
    i, j, _ = WHOLE.shape
    grid = Grid.isotropic((i, j, 130 + shown), 1.0, (-130.0, -130.0, -130.0))
    check = gates(completed(), (), grid)[0]
    assert (check.name, check.verdict, check.limit) == ("patch beyond the scan's end", verdict, "at most 0.5")
    assert check.value == pytest.approx(0 if verdict == "pass" else 400 * SPACING_MM**3 / 1000, abs=1e-3)


@pytest.mark.parametrize(("above", "verdict"), [(-500.0, "pass"), (500.0, "fail")])
def test_a_patch_where_the_scan_shows_nothing_fails(above, verdict):
    assert verdicts(completed(known_above_mm=above))["patch beyond the scan's end"] == verdict


def test_without_a_patch_nothing_lies_beyond():
    assert "patch beyond the scan's end" not in verdicts(completed(count=0))


@pytest.mark.parametrize(
    ("scale", "name"),
    [
        ((1.0, 1.0, 0.8), "pose, height for length and width"),
        ((1.25, 1.0, 1.118), "pose, width for length"),
        ((0.8, 0.8, 0.8), "pose, size"),
    ],
)
def test_scales_out_of_range_fail(scale, name):
    assert next(key for key, verdict in verdicts(completed(scale)).items() if verdict == "fail") == name


def opening(reason: str, area_cm2: float = 1.2) -> LeftOpen:
    return LeftOpen(0.6, area_cm2, (0.0, 0.0, 80.0), "midline parietal", reason)


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("kept open by the user", "pass"),
        ("not pointed at", "pass"),
        ("too small", "warn"),
        ("beyond the scan's end", "warn"),
        ("natural opening", "fail"),
        ("rest of a hole that was filled", "fail"),
    ],
)
def test_what_stays_open_fails_unless_it_was_meant(reason, verdict):
    assert reason in REASONS
    assert verdicts(completed(), [opening(reason)])["largest opening left"] == verdict
    assert verdicts(completed(), [opening(reason, 0.9)])["largest opening left"] == "pass"


@pytest.mark.parametrize(
    ("within", "mean", "wanted"),
    [
        (1.4, 0.6, ("pass", "pass")),
        (1.6, 1.2, ("warn", "warn")),
        (2.6, 1.6, ("fail", "fail")),
        (None, 1.6, (None, "fail")),
        (1.4, None, ("pass", None)),
    ],
)
def test_an_outer_surface_that_is_expected_far_off_fails(within, mean, wanted):
    expected = () if mean is None else (Expected("dsc", 0.9, 0.8, 0.95), Expected("outer_mm", mean, 0.3, 3.0))
    told = Confidence(0.9, "", outer_within_mm=within, expected=expected)
    found = {check.name: check.verdict for check in gates(completed(), (), WHOLE, told)}
    name = "expected error of the outer surface"
    assert (found.get(name), found.get(f"{name}, mean")) == wanted
