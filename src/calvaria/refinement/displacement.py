"""A dense displacement of a patch: its diffusive regularisation, its coordinates, and whether it folds.

The field u lives on the nodes of a grid, in mm along the grid's axes, and is zero on the border of the grid and beyond.
What is refined has at x what the given one has at x + u(x).

**Regularisation.** Wodzinski et al. (eq. 3) weigh a diffusive penalty by 1e5. Their public registration code takes the
mean over the volume of the squared forward differences, averaged over the three axes, of a field in sampling units: -1
to 1 from one face of the volume to the other. A gradient of du/dx (mm per mm) in a volume of N voxels is 2/N du/dx
there, so

    lambda Reg(u) = lambda (2 / N)^2 / 9 mean(|grad u|^2)

with the mean over the volume, and |grad u|^2 summed over axes and components: `paper_stiffness`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.types import F32, F64
from calvaria.volume.grid import Grid

PAPER_LAMBDA = 1e5
"""Weight of the regularisation in Wodzinski et al., in their units."""


def paper_stiffness(weight: float, voxels: int, volume_mm3: float) -> float:
    """The paper's weight of its mean over a volume as the weight of an integral in mm.

    Args:
        weight: lambda, such as 1e5.
        voxels: N, along an edge of the whole volume.
        volume_mm3: of the whole volume.

    Returns:
        s, mm^-3: lambda Reg(u) = s * integral of |grad u|^2 over the volume, u and x in mm.

    >>> round(paper_stiffness(1e5, 128, 128**3 * 1.6**3) * 1e7, 3)
    3.158
    """
    return weight * (2 / voxels) ** 2 / 9 / volume_mm3


def roughness(field: NDArray[np.floating], spacing_mm: float) -> tuple[float, NDArray[np.floating]]:
    """The integral of |grad u|^2 of a field that is zero beyond its grid, and its gradient.

    Args:
        field: (3, I, J, K) mm, at the inner nodes of a grid.
        spacing_mm: of the nodes.

    Returns:
        mm^3, and (3, I, J, K) mm^2: its derivative by each value.
    """
    total, slope = 0.0, np.zeros_like(field)
    for axis in (1, 2, 3):
        width = [(0, 0)] * 4
        width[axis] = (1, 1)
        step = np.diff(np.pad(field, width), axis=axis)
        total += float(np.vdot(step, step))
        slope -= 2 * np.diff(step, axis=axis)
    # Squared differences over the squared step, times the volume of a node.
    return total * spacing_mm, slope * field.dtype.type(spacing_mm)


SHORTEST_MM = 6.4
"""Waves shorter than this are left out of a displacement: bone is not bent so sharply, and fewer are found sooner."""


class Smoothness:
    """Fields in the coordinates in which the regularisation is half the sum of squares: their sine waves, weighted.

    A descent in these coordinates is one in the metric of the regularisation (Sobolev gradients): the many directions
    along which it is stiff and the few along which it is not are equally curved. The sine transform diagonalises the
    Laplacian of fields that are zero beyond the grid.

    Args:
        shape: (I, J, K) inner nodes.
        spacing_mm: of the nodes.
        stiffness: s of `paper_stiffness`.
    """

    def __init__(self, shape: tuple[int, int, int], spacing_mm: float, stiffness: float) -> None:
        self.shape = shape
        self._kept = tuple(min(n, int(2 * (n + 1) * spacing_mm / SHORTEST_MM)) for n in shape)
        lines = [
            2 - 2 * np.cos(np.pi * np.arange(1, kept + 1) / (n + 1)) for n, kept in zip(shape, self._kept, strict=True)
        ]
        laplacian = lines[0][:, None, None] + lines[1][:, None] + lines[2]
        # Twice s |grad u|^2 is the curvature along each sine wave.
        self._root = (1 / np.sqrt(2 * stiffness * spacing_mm * laplacian)).astype(np.float32)

    def field(self, waves: F32) -> F32:
        """(3, I, J, K) mm of (3, A, B, C) coordinates, the waves that are kept."""
        width = [(0, 0), *((0, n - kept) for n, kept in zip(self.shape, self._kept, strict=True))]
        weighted: F32 = waves * self._root
        return _sines(np.pad(weighted, width))

    def slope(self, of_field: F32) -> F32:
        """The derivative by the coordinates, from that by the field: the transpose of `field`."""
        out: F32 = self._low(_sines(of_field)) * self._root
        return out

    def waves(self, field: F32) -> F32:
        """The coordinates of a field, of which what is too short is left out."""
        out: F32 = self._low(_sines(field)) / self._root
        return out

    def _low(self, waves: F32) -> F32:
        i, j, k = self._kept
        return waves[:, :i, :j, :k]


def _sines(values: F32) -> F32:
    from scipy.fft import dstn

    # Orthonormal, its own inverse and its own transpose.
    out: F32 = dstn(values, type=1, axes=(1, 2, 3), norm="ortho", workers=2)
    return out


@dataclass(frozen=True, eq=False)
class Displacement:
    """A dense displacement u: the refined patch has at x what the given one has at x + u(x).

    Args:
        vectors_mm: (3, I, J, K) float32, components along the grid's axes, mm.
        grid: of the nodes, axes at right angles; zero beyond them.
    """

    vectors_mm: F32
    grid: Grid

    def at(self, points_mm: NDArray[np.floating]) -> F64:
        """(N, 3) world mm, at (N, 3) world points; 0 beyond the grid."""
        from calvaria.volume.gather import trilinear_at

        table = np.ascontiguousarray(np.moveaxis(self.vectors_mm, 0, -1)).reshape(-1, 3)
        local = trilinear_at(table, self.grid.shape, self.grid.to_index(points_mm).T)
        axes = self.grid.affine[:3, :3] / np.asarray(self.grid.spacing_mm)
        return np.asarray(local @ axes.T, np.float64)

    def jacobians(self) -> F64:
        """(I, J, K) determinants of the derivative of x + u(x): above 0 where nothing folds, 1 where nothing moves."""
        return jacobians(self.vectors_mm, self.grid.spacing_mm[0])


def jacobians(field: F32, spacing_mm: float) -> F64:
    """(I, J, K) determinants of the derivative of x + u(x), of a (3, I, J, K) field on an isotropic grid, mm."""
    parts = [np.gradient(u.astype(np.float64), spacing_mm) for u in field]
    (a, b, c), (d, e, f), (g, h, i) = parts
    # Written out: a thousand times faster than a determinant for each node.
    a, e, i = a + 1, e + 1, i + 1
    return np.asarray(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def finer(field: F32) -> F32:
    """A field at the inner nodes of a grid of half the spacing, trilinear.

    Args:
        field: (3, I, J, K), zero on the border beyond it.

    Returns:
        (3, 2 I + 1, 2 J + 1, 2 K + 1).
    """
    out = np.pad(field, ((0, 0), (1, 1), (1, 1), (1, 1)))
    for axis in (1, 2, 3):
        low = np.moveaxis(out, axis, 0)
        both = np.zeros((2 * len(low) - 1, *low.shape[1:]), np.float32)
        both[::2], both[1::2] = low, (low[1:] + low[:-1]) / 2
        out = np.moveaxis(both, 0, axis)
    return np.ascontiguousarray(out[:, 1:-1, 1:-1, 1:-1])
