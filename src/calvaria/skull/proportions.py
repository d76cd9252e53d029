"""Height, length and breadth of skulls, their mean over a population, and skulls rescaled to another population.

Kodym, Spanel, Herout 2021 rescaled synthetic skulls so that their mean height, length and breadth are those of their
patients; it cut the error of what they trained by 15 %. The measures here are taken in the canonical frame, on the bone
above the landmark plane (which moves with the skull's own size), and scale exactly as the skull does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import FormatError, InputError
from calvaria.files import PathLike, atomic_path, require_file
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL, CanonicalFrame
from calvaria.skull.edges import CutPlane
from calvaria.types import F64
from calvaria.volume.volume import Volume

MEATUS_Y_MM = 5.0
"""Where the auditory meatus lies on the mean skull, canonical y; the landmark plane passes through it."""

MAX_OUTLIER_MM3 = 10.0
"""This volume of bone at an end is an outlier and not counted; with a head's curvature that is 0.2 mm."""

FACTORS = (0.7, 1.4)
"""Factors outside of this are no rescaling from one population of heads to another."""


@dataclass(frozen=True)
class Proportions:
    """The size of a calvaria in the canonical frame, mm.

    Args:
        length_mm: along y, glabella to opisthocranion: the bone's extent above the landmark plane.
        breadth_mm: along x: twice the extent of the wider side, for the other may have a hole.
        height_mm: along z, auditory meatus to vertex.
    """

    length_mm: float
    breadth_mm: float
    height_mm: float


@dataclass(frozen=True)
class Population:
    """Means and standard deviations of the proportions of several skulls.

    Args:
        count: how many skulls.
        mean: of each measure.
        sd: of each measure, of the sample (n - 1); 0 for one skull.
    """

    count: int
    mean: Proportions
    sd: Proportions


def proportions(skull: Volume, frame: CanonicalFrame) -> Proportions:
    """Measure a skull.

    A hole on one side changes nothing but the breadth's accuracy (it is that of the other side). A hole across the
    midline that takes the vertex, the glabella or the back makes the skull that much smaller: give the completed skull.

    Args:
        skull: mask, complete or completed; on any grid, world LPS.
        frame: its canonical frame; ``scale`` says where the landmark plane lies on this skull.

    Returns:
        Length, breadth and height.

    Raises:
        InputError: the volume is no mask, or there is no bone above the landmark plane.
    """
    index = np.nonzero(skull.mask.T)[::-1]
    to_canonical = frame.to_canonical @ skull.affine
    x, y, z = (sum(to_canonical[r, c] * index[c] for c in range(3)) + to_canonical[r, 3] for r in range(3))
    _, b, c = LANDMARK_NORMAL / frame.scale  # no part along x
    above = b * y + c * z < LANDMARK_MM
    if not above.any():
        raise InputError("there is no bone above the landmark plane (meatus to brow): this is no calvaria")
    # How far a voxel reaches beyond its centre along each canonical axis; for oblique ones, about.
    half_x, half_y, half_z = np.abs(to_canonical[:3, :3]).max(axis=1) / 2
    outliers = max(round(MAX_OUTLIER_MM3 / skull.grid.voxel_volume_mm3), 1)
    meatus_z = (LANDMARK_MM - b * MEATUS_Y_MM * frame.scale[1]) / c
    return Proportions(
        length_mm=round(_end(y[above], outliers) + _end(-y[above], outliers) + 2 * float(half_y), 3),
        breadth_mm=round(2 * (_end(np.abs(x[above]), outliers) + float(half_x)), 3),
        height_mm=round(_end(z[above], outliers) + float(half_z) - float(meatus_z), 3),
    )


def population(skulls: Sequence[Proportions]) -> Population:
    """Mean and standard deviation over skulls.

    Raises:
        InputError: there is no skull.

    >>> population([Proportions(180.0, 140.0, 120.0), Proportions(190.0, 150.0, 130.0)]).mean
    Proportions(length_mm=185.0, breadth_mm=145.0, height_mm=125.0)
    """
    if not skulls:
        raise InputError("a population needs at least one skull to be measured")
    values = np.array([astuple(one) for one in skulls])
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(3)
    mean, spread = (Proportions(*(round(float(v), 3) for v in row)) for row in (values.mean(axis=0), sd))
    return Population(len(values), mean, spread)


def factors_between(source: Population, target: Population) -> tuple[float, float, float]:
    """By what a population's skulls grow along canonical x, y, z until their mean proportions are the target's.

    Raises:
        InputError: a factor is outside ``FACTORS``: the two are not both heads, or were measured otherwise.
    """
    a, b = source.mean, target.mean
    factors = (b.breadth_mm / a.breadth_mm, b.length_mm / a.length_mm, b.height_mm / a.height_mm)
    _check_factors(factors)
    return factors


def rescale_to(skull: Volume, frame: CanonicalFrame, factors: ArrayLike) -> tuple[Volume, CanonicalFrame]:
    """A skull of other proportions: the same voxels, further apart along the canonical axes.

    Exact: nothing is resampled. Where the canonical axes do not run along the voxels' the new grid is sheared; every
    part of this program takes that, other programs may not (`resample_mask` brings it onto any grid).

    Args:
        skull: mask or image, world LPS; its data are shared, not copied.
        frame: its canonical frame; its origin stays where it is.
        factors: along canonical x, y, z.

    Returns:
        The skull and its frame, whose scale has grown by the factors.

    Raises:
        InputError: the factors are not three values within ``FACTORS``.
    """
    sizes = np.asarray(factors, dtype=np.float64)
    _check_factors(sizes)
    grow = frame.to_world @ np.diag([*sizes, 1.0]) @ frame.to_canonical
    cuts = tuple(_grown(cut, sizes) for cut in frame.cuts)
    return Volume(skull.data, skull.grid.moved(grow)), CanonicalFrame(
        frame.to_world, frame.scale * sizes, frame.cost, cuts
    )


def write_population(path: PathLike, found: Population) -> None:
    """Write a population as JSON, whole or not at all.

    Raises:
        InputError: the disk refuses.
    """
    with atomic_path(path) as part:
        part.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")


def read_population(path: PathLike) -> Population:
    """The population that :func:`write_population` wrote.

    Raises:
        InputError: there is no such file.
        FormatError: it holds no population.
    """
    path = require_file(path)
    try:
        values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        found = Population(int(values["count"]), Proportions(**values["mean"]), Proportions(**values["sd"]))
        sizes = np.array(astuple(found.mean), dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path.name}: not a population ({error}); calvaria data import-clinical writes one"
        ) from None
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise FormatError(
            f"{path.name}: the mean proportions must be positive numbers of mm; got {astuple(found.mean)}"
        )
    return found


def _end(along: NDArray[np.floating[Any]], outliers: int) -> float:
    """The largest of values without the outliers."""
    rank = max(len(along) - outliers, 0)
    return float(np.partition(along, rank)[rank])


def _check_factors(factors: ArrayLike) -> None:
    values = np.asarray(factors, dtype=np.float64)
    if values.shape != (3,) or not ((values >= FACTORS[0]) & (values <= FACTORS[1])).all():
        raise InputError(
            f"heads are rescaled by three factors from {FACTORS[0]} to {FACTORS[1]} along x, y, z; got "
            f"{values.round(3).tolist()}"
        )


def _grown(cut: CutPlane, sizes: F64) -> CutPlane:
    """A cut plane after the canonical axes have grown."""
    normal = cut.normal / sizes
    length = float(np.linalg.norm(normal))
    return CutPlane(normal / length, cut.offset_mm / length)


__all__ = [
    "Population",
    "Proportions",
    "factors_between",
    "population",
    "proportions",
    "read_population",
    "rescale_to",
    "write_population",
]
