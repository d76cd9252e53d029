"""Errors of a plate along rays, on shells whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from calvaria.benchmarks.limits import on_model_grid, plate_errors
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.protocol import SoftField
from calvaria.skull.head import HEAD_CENTRE_MM

RADIUS = np.linalg.norm(box_grid().centres_mm() - HEAD_CENTRE_MM, axis=-1).astype(np.float32)
CAP = (box_grid().centres_mm() @ np.array([0.0, -0.6, 0.8])) > 50
KNOWN = np.ones(RADIUS.shape, bool)


def shell(outer_mm: float, thick_mm: float) -> np.ndarray:
    return np.maximum(RADIUS - outer_mm, outer_mm - thick_mm - RADIUS).astype(np.float32)


def errors(outer_mm: float, thick_mm: float) -> np.ndarray:
    """A cap of a shell of 75 mm, 8 mm thick, completed by one of another size."""
    truth = shell(75, 8)
    seen = np.where(CAP, np.maximum(truth, 0) + 9, truth).astype(np.float32)
    patch = np.where(CAP, truth, 9).astype(np.float32)
    soft = SoftField(shell(outer_mm, thick_mm), CAP, 0.1)
    return plate_errors(soft, BoxField(seen, KNOWN), BoxField(truth, KNOWN), BoxField(patch, KNOWN))


def test_a_perfect_plate_has_no_errors():
    found = errors(75, 8)
    middle = found[1]
    assert np.abs(middle).max() < 0.3


@pytest.mark.parametrize(("outer", "thick"), [(77, 8), (73.5, 8), (75, 6), (76, 5)])
def test_a_known_error_is_found(outer, thick):
    mean, absolute, thickness = errors(outer, thick)[1]
    assert mean == pytest.approx(outer - 75, abs=0.3)
    assert absolute == pytest.approx(abs(outer - 75), abs=0.3)
    assert thickness == pytest.approx(abs(thick - 8), abs=0.4)


def test_nothing_there_is_nan():
    patch = np.full(RADIUS.shape, 9, np.float32)
    patch[CAP] = -1
    empty = BoxField(np.full(RADIUS.shape, 9, np.float32), KNOWN)
    soft = SoftField(empty.distance_mm, CAP, 0.1)
    assert np.isnan(plate_errors(soft, empty, empty, BoxField(patch, KNOWN))).all()


def test_the_truth_comes_back_from_the_models_grid_but_for_what_the_grid_costs():
    soft = on_model_grid(BoxField(shell(75, 8), KNOWN), CAP)
    near = CAP & (np.abs(shell(75, 8)) < 2)
    wrong = np.abs(soft.distance_mm - shell(75, 8))[near]
    assert 0 < wrong.mean() < 0.05
    assert (soft.distance_mm[~CAP] > 8).all()
