"""Robust Gauss-Newton on problems whose answer is known."""

import numpy as np
import pytest

from calvaria.volume.gauss_newton import Linear, Normal, descend

X = np.linspace(-2.0, 2.0, 81)
TRUE = np.array([1.5, -0.5])


def line(measured, weight=None):
    """Differences of a straight line from what was measured."""

    def linear(pose):
        return Linear(
            pose[0] * X + pose[1] - measured,
            np.stack([X, np.ones_like(X)], axis=1),
            np.ones_like(X) if weight is None else weight,
        )

    return linear


def moved(pose, step):
    return pose + step


LOOSE = {"iterations": 40, "largest": [np.inf, np.inf], "settled": [1e-10, 1e-10]}


def test_a_linear_problem_is_solved_in_one_step():
    one = descend(
        np.zeros(2),
        line(TRUE[0] * X + TRUE[1]),
        moved,
        iterations=1,
        robust=None,
        largest=[9, 9],
        settled=[0, 0],
    )
    assert one == pytest.approx(TRUE, abs=1e-5)


def test_outliers_pull_plain_least_squares_and_not_the_robust_sum():
    measured = TRUE[0] * X + TRUE[1]
    measured[:12] += 5.0
    plain = descend(TRUE.copy(), line(measured), moved, robust=None, **LOOSE)
    robust = descend(TRUE.copy(), line(measured), moved, robust=0.2, **LOOSE)
    assert np.abs(plain - TRUE).max() > 0.3
    assert robust == pytest.approx(TRUE, abs=1e-3)


def test_a_step_is_shortened_as_a_whole():
    one = descend(
        np.zeros(2),
        line(TRUE[0] * X + TRUE[1]),
        moved,
        iterations=1,
        robust=None,
        largest=[0.3, np.inf],
        settled=[0, 0],
    )
    assert one == pytest.approx(TRUE * 0.3 / 1.5, abs=1e-5)


def test_it_stops_once_it_has_settled():
    calls = []

    def counted(pose):
        calls.append(pose)
        return line(TRUE[0] * X + TRUE[1])(pose)

    descend(np.zeros(2), counted, moved, robust=None, **LOOSE)
    assert len(calls) <= 3


def test_nothing_known_moves_nothing():
    start = np.array([0.25, 0.75])
    assert descend(start, line(X, np.zeros_like(X)), moved, robust=0.1, **LOOSE) is start


def test_a_prior_pulls_where_no_point_tells():
    def prior(normal: Normal, pose):
        normal.matrix[...] += normal.total * np.eye(2)
        normal.right[...] += normal.total * (pose - [0.0, 7.0])

    flat = line(np.zeros_like(X), np.full_like(X, 1e-9))
    assert descend(np.zeros(2), flat, moved, robust=None, prior=prior, **LOOSE)[1] == pytest.approx(3.5, abs=1e-6)
