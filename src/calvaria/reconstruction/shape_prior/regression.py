"""Regression on the shape model: a surface observed where bone is known, predicted where it is missing.

A Gaussian process whose covariance is the model's: mean and modes, each seen through several slightly moved boxes
(jitters). These give the regression the directions of pose and size and multiply the variety of the examples; without
them a large hole loses 0.05 DSC.

A covariance of some hundred skulls also holds chance: distant points that happened to vary together. So it is
localised, multiplied by a Gaussian of the distance between two points, as in ensemble Kalman filters (Houtekamer and
Mitchell 2001, doi:10.1175/1520-0493(2001)129<0123:ASEKFF>2.0.CO;2) and in localised shape models (Luthi et al. 2018,
doi:10.1109/TPAMI.2017.2739743), as if the two sides of the head lay over each other. The Gaussian is interpolated
between anchors, which makes a prediction at any number of points one weighted sum of the modes for each anchor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.shape_prior.cholesky import factor_lower
from calvaria.reconstruction.shape_prior.modes import Modes
from calvaria.types import F32, F64
from calvaria.volume.grid import Grid
from calvaria.volume.rotation import rotation_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Item = TypeVar("Item")
Made = TypeVar("Made")

Reading = Callable[[Grid, NDArray[np.floating]], "csr_matrix"]
"""Gives the (P, V) weights by which a volume on a grid is read at points."""

LOCAL_MM = 100.0
"""Length of the Gaussian that localises the model's covariance."""

ANCHOR_MM = 40.0
"""Spacing of the anchors between which that Gaussian is interpolated."""

CELL_MM = 80.0
"""A prediction is made in cells of this edge: few anchors matter to each, and two threads share them."""

JITTER_SCALE, JITTER_DEG, JITTER_MM = 0.04, 4.0, 3.0
"""Standard deviations of a jitter's scale (each axis), rotation and shift (each component)."""


@dataclass(frozen=True, eq=False)
class Jitter:
    """A slightly moved box: a point x is read at ``(x * scale + shift_mm) @ rotation``."""

    scale: F64
    shift_mm: F64
    rotation: F64

    def __call__(self, points_mm: NDArray[np.floating]) -> F64:
        """Where the model is read for (N, 3) points of the box."""
        return np.asarray((points_mm * self.scale + self.shift_mm) @ self.rotation)


def jitters(pairs: int, seed: int = 1) -> list[Jitter]:
    """The unmoved box and ``pairs`` pairs of moved ones, each with its mirror image.

    The set is closed under mirroring, so a mirrored skull gets exactly the mirrored completion.

    >>> len(jitters(4))
    9
    """
    rng = np.random.default_rng(seed)
    out = [Jitter(np.ones(3), np.zeros(3), np.eye(3))]
    for _ in range(pairs):
        scale = np.exp(JITTER_SCALE * rng.standard_normal(3))
        shift = JITTER_MM * rng.standard_normal(3)
        rotation = np.radians(JITTER_DEG) * rng.standard_normal(3)
        out.append(Jitter(scale, shift, rotation_matrix(rotation)))
        # Mirrored about x = 0: the shift along x changes its sign, and so do the rotations about y and z.
        out.append(Jitter(scale, shift * [-1.0, 1.0, 1.0], rotation_matrix(rotation * [1.0, -1.0, -1.0])))
    return out


def trilinear(grid: Grid, points_mm: NDArray[np.floating]) -> csr_matrix:
    """Sparse (P, V) weights that read a flat, C-ordered volume on an axis-aligned grid at P points.

    Points outside the grid read its nearest edge.
    """
    from scipy.sparse import csr_matrix

    _, ny, nz = grid.shape
    index = (points_mm - grid.affine[:3, 3]) / np.asarray(grid.spacing_mm)
    # A hair below the last voxel, so that its upper neighbour exists.
    index = np.clip(index, 0, np.array(grid.shape) - 1.0001)
    low = index.astype(np.int32)
    part = (index - low).astype(np.float32)
    # Offsets of a cell's 8 corners in the flat volume.
    corners = np.array([(i * ny + j) * nz + k for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.int32)
    columns = (low @ np.array([ny * nz, nz, 1], np.int32))[:, None] + corners
    # (P, 2) weights of the lower and the upper neighbour along each axis; the corners' are their products.
    x, y, z = np.stack([1 - part, part], axis=-1).transpose(1, 0, 2)
    weights = x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]
    # Every row has 8 entries, so the sparse matrix is put together without sorting.
    ends = np.arange(0, 8 * len(low) + 1, 8, dtype=np.int32)
    return csr_matrix((weights.ravel(), columns.ravel(), ends), shape=(len(low), grid.size))


def cubic(grid: Grid, points_mm: NDArray[np.floating]) -> csr_matrix:
    """Sparse (P, V) weights that read a flat, C-ordered volume on an axis-aligned grid at P points.

    Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711): a straight line between two voxels loses the crest in
    the middle of thin bone. Points outside the grid's outermost layer but one read there.
    """
    from scipy.sparse import csr_matrix

    _, ny, nz = grid.shape
    index = (points_mm - grid.affine[:3, 3]) / np.asarray(grid.spacing_mm)
    # Two neighbours are needed on either side.
    index = np.clip(index, 1, np.array(grid.shape) - 2.0001)
    low = index.astype(np.int32)
    t = (index - low).astype(np.float32)
    # Keys' kernel with a = -1/2, which reproduces quadratic fields.
    ends = ((2 - t) * t - 1) * t / 2, (t - 1) * t * t / 2  # of the voxels before and behind
    inner = ((3 * t - 5) * t * t + 2) / 2
    # (P, 4) weights along each axis; they sum to 1, which gives the third.
    x, y, z = np.stack([ends[0], inner, 1 - inner - ends[0] - ends[1], ends[1]], axis=-1).transpose(1, 0, 2)
    weights = x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]
    around = np.arange(-1, 3, dtype=np.int32)
    corners = ((around[:, None, None] * ny + around[:, None]) * nz + around).ravel()
    columns = (low @ np.array([ny * nz, nz, 1], np.int32))[:, None] + corners
    rows = np.arange(0, 64 * len(low) + 1, 64, dtype=np.int32)
    return csr_matrix((weights.ravel(), columns.ravel(), rows), shape=(len(low), grid.size))


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted surface that can be read anywhere in the box.

    Args:
        model: the shape model.
        moves: the jitters.
        anchors: (K,) indices of the anchors that have observations near them.
        weights: (K, J, 1 + M) weights of mean and modes in each jitter, for each of these anchors.
        misfit_mm: weighted root mean square of what the model leaves unexplained.
        posterior: how sure it is, where that was asked for; holds much memory.
    """

    model: Modes
    moves: list[Jitter]
    anchors: NDArray[np.int64]
    weights: F32
    misfit_mm: float
    posterior: Posterior | None = None

    def at(self, points_mm: NDArray[np.floating], exact_mm: float = 0.0) -> F32:
        """Signed distance, mm, at (N, 3) points of the box.

        Args:
            points_mm: where, scaled canonical mm.
            exact_mm: distances below this, whatever their sign, are read by cubic convolution, others trilinear.
        """
        out = np.zeros(len(points_mm), np.float32)

        def read(piece: NDArray[np.int64]) -> None:
            found = self._read(points_mm[piece], trilinear)
            # Cubic reading takes eight times the voxels: only where the surface may lie.
            near = np.abs(found) < exact_mm
            if near.any():
                found[near] = self._read(points_mm[piece][near], cubic)
            out[piece] = found

        by_two(read, _pieces(points_mm))
        return out

    def _read(self, points_mm: NDArray[np.floating], how: Reading) -> F32:
        # The points' own anchors, (N, L), are not those of the observations.
        share, anchors = _shares(points_mm)
        count, modes = len(self.moves), self.weights.shape[2] - 1
        # (L, J, 1 + M): the observations' weights, carried over to these anchors by the Gaussian between them.
        here = np.tensordot(_taper(anchors, self.anchors), self.weights, 1)
        # The mean's features are centred over the jitters.
        here[:, :, 0] -= here[:, :, 0].mean(axis=1, keepdims=True)
        reads, source = _reads(self.model, self.moves, points_mm, modes, how)
        out = np.zeros(len(points_mm), np.float32)
        for number, read in enumerate(reads):
            # (N, L + 1): the field of each anchor as this jitter sees it; the last column is the plain mean.
            seen = read @ np.column_stack([source @ here[:, number].T, source[:, 0]])
            out += np.einsum("nk,nk->n", seen[:, :-1], share) + seen[:, -1] / count
        return out


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the observations leave open of the model.

    Args:
        model: the shape model.
        moves: the jitters.
        modes: number of modes that are used.
        factor: (P, P) lower Cholesky factor of the observations' covariance.
        features: (P, F) of the observed points.
        share: (P, K) of each point, of each anchor.
        anchors: (K,) which anchors these are.
    """

    model: Modes
    moves: list[Jitter]
    modes: int
    factor: F32
    features: F32
    share: F32
    anchors: NDArray[np.int64]

    def sd_at(self, points_mm: NDArray[np.floating]) -> F32:
        """Posterior standard deviation of the signed distance, mm, at (N, 3) points of the box.

        That of the shape and that of the pose, which the jitters stand for, together (Rasmussen and Williams 2006,
        equation 2.26). On the surface it is how far the surface may lie elsewhere along its normal, if the model's
        covariance is right.
        """
        from scipy.linalg import solve_triangular

        reads, source = _reads(self.model, self.moves, points_mm, self.modes, trilinear)
        features, _ = _features(reads, source)
        share, anchors = _shares(points_mm)
        # (N, P) the localised covariance of these points with those that were observed.
        across = features @ self.features.T
        across *= (share @ _taper(anchors, self.anchors)) @ self.share.T
        halves = np.array_split(across, 2)

        def explained(some: F32) -> F32:
            solved = solve_triangular(self.factor, some.T, lower=True, check_finite=False)
            return np.asarray(np.einsum("pn,pn->n", solved, solved), np.float32)

        left = np.einsum("nf,nf->n", features, features) - np.concatenate(by_two(explained, halves))
        return np.asarray(np.sqrt(np.maximum(left, 0.0)), np.float32)


def fit(
    model: Modes,
    moves: list[Jitter],
    points_mm: F32,
    target_mm: F32,
    noise_mm: F32,
    *,
    modes: int,
    posterior: bool = False,
) -> Fit:
    """Fit the model to distances at points.

    Args:
        model: the shape model.
        moves: jitters; the first is the unmoved box.
        points_mm: (P, 3) points of the box.
        target_mm: (P,) signed distances there.
        noise_mm: (P,) observation noise, a standard deviation.
        modes: number of modes that are used; all if the model has fewer.
        posterior: keep what is needed to say how sure the fit is.
    """
    from scipy.linalg import cho_solve

    count, modes = len(moves), min(modes, len(model.parity))
    reads, source = _reads(model, moves, points_mm, modes, trilinear)
    flat, mean = _features(reads, source)
    share, anchors = _shares(points_mm)
    system = _lower(flat, share @ _taper(anchors, anchors), share)
    variance = noise_mm**2
    # Observation noise belongs to each point alone: the diagonal.
    system.flat[:: len(system) + 1] += variance
    # Single precision takes half the time; what it costs a prediction is below 0.001 mm.
    factor_lower(system)
    # Its transpose, which lies in memory as LAPACK wants it: no copy.
    solved = cho_solve((system.T, False), target_mm - mean, check_finite=False)
    # A residual of a Gaussian process is its noise variance times the solution; weighted by 1 / variance.
    misfit = float(np.sqrt((solved**2 * variance).sum() / (1 / variance).sum()))
    # (K, J (1 + M)): summed over the points, so that the cost of a prediction does not depend on their number.
    weights = (share * solved[:, None]).T @ flat / np.float32(np.sqrt(count))
    kept = Posterior(model, moves, modes, system, flat, share, anchors) if posterior else None
    return Fit(model, moves, anchors, weights.reshape(len(anchors), count, -1), misfit, kept)


def by_two(work: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """What is made of each item, in order, by two threads."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, items))


def _lower(flat: F32, tapered: F32, share: F32) -> F32:
    """(P, P) the localised covariance of P points; only the lower triangle is meaningful.

    Args:
        flat: (P, F) features.
        tapered: (P, K) the shares times the Gaussian between anchors.
        share: (P, K) how much of each point belongs to each anchor.
    """
    middle = len(flat) // 2
    out = np.empty((len(flat), len(flat)), np.float32)

    def fill(rows: slice, columns: slice) -> None:
        # Element by element: the model's covariance times the Gaussian of the distance.
        np.multiply(flat[rows] @ flat[columns].T, tapered[rows] @ share[columns].T, out=out[rows, columns])

    # The upper right quarter is not computed: the factorisation never reads it.
    first, second = slice(0, middle), slice(middle, None)
    # The square below takes as long as both triangles: half the work for each of two threads.
    with ThreadPoolExecutor(1) as beside:
        square = beside.submit(fill, second, first)
        fill(first, first)
        fill(second, second)
        square.result()
    return out


def _reads(
    model: Modes, moves: list[Jitter], points_mm: NDArray[np.floating], modes: int, how: Reading
) -> tuple[list[csr_matrix], F32]:
    """How each jitter reads the model at (P, 3) points: J sparse (P, V) weights, and (V, 1 + M) mean and modes.

    Only the voxels that are read are there: a tenth of the box around a hole.
    """
    from scipy.sparse import csr_matrix

    reads = [how(model.grid, move(points_mm)) for move in moves]
    needed = np.zeros(model.grid.size, bool)
    for read in reads:
        needed[read.indices] = True
    # Flat voxel index -> row of `source`.
    row = np.cumsum(needed, dtype=np.int32) - 1
    source = np.column_stack([model.mean[needed], model.rows(np.flatnonzero(needed), modes)])
    shape = (len(points_mm), len(source))
    return [csr_matrix((read.data, row[read.indices], read.indptr), shape=shape) for read in reads], source


def _features(reads: list[csr_matrix], source: F32) -> tuple[F32, F32]:
    """(P, J (1 + M)) features of points whose products are the model's covariance, and (P,) the prior's mean."""
    # (P, J, 1 + M): mean and modes at each point as each jitter sees them.
    features = np.stack(by_two(lambda read: read @ source, reads), axis=1)
    mean = features[:, :, 0].mean(axis=1)
    # Only how the mean changes from jitter to jitter is a feature; the average over them is the prior's mean.
    features[:, :, 0] -= mean[:, None]
    # Averaged over the jitters, the features' products are the covariance of the whole set.
    features /= np.float32(np.sqrt(len(reads)))
    return features.reshape(len(features), -1), mean


def _shares(points_mm: NDArray[np.floating]) -> tuple[F32, NDArray[np.int64]]:
    """How much of each point belongs to each anchor, (P, K), and which anchors these are.

    Scaled so that a point's localised variance is the model's own.
    """
    read = trilinear(box_grid(ANCHOR_MM), points_mm)
    anchors = np.unique(read.indices)
    # (P, K): only anchors that some point belongs to.
    share = read[:, anchors].toarray()
    # Between anchors the interpolated Gaussian of a point with itself is below 1: a prediction would shrink there.
    share /= np.sqrt(np.einsum("pk,kl,pl->p", share, _taper(anchors, anchors), share, optimize=True))[:, None]
    return share, anchors


def _pieces(points_mm: NDArray[np.floating]) -> list[NDArray[np.int64]]:
    """Which of (P, 3) points lie in one cell, for all cells that hold any, the largest first."""
    if not len(points_mm):
        return []
    # One whole number for each cell: of the three indices none reaches 500.
    cells = np.rint(np.asarray(points_mm) / CELL_MM).astype(np.int64) @ np.array([10**6, 10**3, 1])
    # Sorted by cell, the points of a cell are one run; the largest first keeps two threads equally busy.
    order = np.argsort(cells, kind="stable")
    return sorted(np.split(order, np.flatnonzero(np.diff(cells[order])) + 1), key=len, reverse=True)


def _taper(some: NDArray[np.int64], others: NDArray[np.int64]) -> F32:
    """(K, L) Gaussian of the distance between anchors."""
    centres = box_grid(ANCHOR_MM).centres_mm().reshape(-1, 3)
    # Mirrored points count as one: the other side helps to predict this one.
    centres[:, 0] = np.abs(centres[:, 0])
    square = ((centres[some][:, None] - centres[others]) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-square / (2 * LOCAL_MM**2)), np.float32)
