"""Robust Gauss-Newton: a pose moved step by step until two volumes differ least, holes and all.

A point whose difference is far beyond ``robust`` loses its weight (Geman and McClure's function, differentiated): what
only one of two volumes shows does not pull.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.types import F64

Pose = TypeVar("Pose")


@dataclass(frozen=True, eq=False)
class Linear:
    """Differences at points, and how they change with the pose's P parameters.

    Args:
        off: (N,) differences.
        jacobian: (N, P) their derivatives.
        weight: (N,) what each point counts, 0 where nothing is known.
    """

    off: NDArray[np.floating]
    jacobian: F64
    weight: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Normal:
    """The normal equations of one step, for a prior to add to.

    Args:
        matrix: (P, P); changed in place.
        right: (P,); changed in place.
        total: sum of all weights.
    """

    matrix: NDArray[np.floating]
    right: NDArray[np.floating]
    total: float


def descend(
    pose: Pose,
    linear: Callable[[Pose], Linear],
    move: Callable[[Pose, F64], Pose],
    *,
    iterations: int,
    robust: float | None,
    largest: ArrayLike,
    settled: ArrayLike,
    prior: Callable[[Normal, Pose], None] | None = None,
) -> Pose:
    """Gauss-Newton steps on a robust sum of squared differences.

    Args:
        pose: where to begin; of any type.
        linear: the differences at a pose.
        move: a pose moved by a step of P parameters.
        iterations: at most so many steps.
        robust: difference at which a point has lost three quarters of its weight; None for plain least squares.
        largest: (P,) a step is shortened as a whole until no parameter changes by more; inf for no limit.
        settled: (P,) a step in which every parameter changes by less is the last; inf for those that do not matter.
        prior: adds to the normal equations; without it they are damped by a millionth of their mean.

    Returns:
        The pose moved; ``pose`` itself where no point weighs anything, or none changes with the pose.
    """
    largest, settled = np.asarray(largest, np.float64), np.asarray(settled, np.float64)
    for _ in range(iterations):
        now = linear(pose)
        weight = now.weight if robust is None else now.weight / (1 + (now.off / robust) ** 2) ** 2
        weight = np.asarray(weight, np.float64)
        weighted = (now.jacobian * weight[:, None]).T
        normal = Normal(
            np.asarray(weighted @ now.jacobian, np.float64),
            np.asarray(weighted @ now.off, np.float64),
            float(weight.sum()),
        )
        if normal.total <= 0 or (prior is None and np.trace(normal.matrix) <= 0):
            break
        (prior or _damp)(normal, pose)
        step = -np.linalg.solve(normal.matrix, normal.right)
        step /= max(1.0, float((np.abs(step) / largest).max()))
        pose = move(pose, step)
        if (np.abs(step) < settled).all():
            break
    return pose


def _damp(normal: Normal, _: object) -> None:
    """A millionth of the mean diagonal: only felt where no point says anything of a direction."""
    size = len(normal.right)
    normal.matrix[...] += 1e-6 * np.trace(normal.matrix) * np.eye(size) / size


__all__ = ["Linear", "Normal", "descend"]
