"""Generated grids and masks: every axis order, flips, oblique, sheared and anisotropic affines."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import Volume

ORDERS = tuple(permutations(range(3)))


def axis_orders() -> st.SearchStrategy[tuple[int, int, int]]:
    """Every order of three axes."""
    return st.sampled_from(ORDERS)  # type: ignore[arg-type]


def flips() -> st.SearchStrategy[tuple[int, ...]]:
    """Every set of axes to flip."""
    return st.sampled_from([tuple(a for a in range(3) if n >> a & 1) for n in range(8)])


def shapes(least: int = 1, most: int = 9) -> st.SearchStrategy[tuple[int, int, int]]:
    """Grid shapes, axes of different length likely."""
    return st.tuples(*[st.integers(least, most)] * 3)


def spacings(least: float = 0.3, most: float = 3.0) -> st.SearchStrategy[tuple[float, float, float]]:
    """Spacings in mm, equal along all axes or not."""
    one = st.floats(least, most).map(lambda v: round(v, 3))
    return st.one_of(one.map(lambda v: (v, v, v)), st.tuples(one, one, one))


@st.composite
def rotations(draw: st.DrawFn) -> NDArray[np.float64]:
    """(3, 3) rotations: none, by a few degrees, or any."""
    most = draw(st.sampled_from([0.0, 15.0, 180.0]))
    degrees = [draw(st.floats(-most, most)) for _ in range(3)]
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


@st.composite
def shears(draw: st.DrawFn) -> NDArray[np.float64]:
    """(3, 3) upper triangular maps with ones on the diagonal, tilts up to 30 degrees, as of a tilted gantry."""
    shear = np.eye(3)
    for row, column in ((0, 1), (0, 2), (1, 2)):
        shear[row, column] = np.tan(np.radians(draw(st.floats(-30.0, 30.0))))
    return shear


@st.composite
def grids(
    draw: st.DrawFn,
    shape: st.SearchStrategy[tuple[int, int, int]] | None = None,
    spacing: st.SearchStrategy[tuple[float, float, float]] | None = None,
    *,
    oblique: bool = True,
    sheared: bool = True,
) -> Grid:
    """Grids with axes in any order and direction, even or uneven, oblique and sheared unless forbidden.

    Origins lie within 300 mm of the world's.
    """
    axes = np.eye(3)[:, draw(axis_orders())]
    axes = axes * [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    if oblique and draw(st.booleans()):
        axes = draw(rotations()) @ axes
    if sheared and draw(st.booleans()):
        axes = axes @ draw(shears())
        axes = axes / np.linalg.norm(axes, axis=0)
    affine = np.eye(4)
    affine[:3, :3] = axes * draw(spacing if spacing is not None else spacings())
    affine[:3, 3] = [draw(st.floats(-300.0, 300.0)) for _ in range(3)]
    return Grid(draw(shape if shape is not None else shapes()), affine)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, int, int]) -> Box:
    """Boxes inside an array that hold at least one voxel."""
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    i, j, k = (slice(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True))
    return i, j, k


@st.composite
def mask_volumes(draw: st.DrawFn, grid: st.SearchStrategy[Grid] | None = None) -> Volume:
    """Masks on any grid: noise of any density, empty and full ones among them, in either memory order."""
    place = draw(grid if grid is not None else grids())
    mask: NDArray[Any] = draw(hnp.arrays(np.bool_, place.shape))
    return Volume(np.asfortranarray(mask) if draw(st.booleans()) else mask, place)
