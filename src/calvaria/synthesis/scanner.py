"""CTs of skulls that are known as masks: tissue in Hounsfield units, seen through a scanner's blur, slices and noise.

What a mask cannot tell is made up from it: the cortex is as deep as `CORTEX_MM` and dense, spongy bone between is less
so, soft tissue fills the head and covers it, cavities in bone hold air. A hole holds soft tissue, as in a patient.
The slices are those of a real scanner: each the mean over its thickness, perpendicular to itself, at true positions
along the table, of which a tilted gantry makes a sheared grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.types import F32
from calvaria.volume.grid import Grid
from calvaria.volume.resample import coarsen, resample
from calvaria.volume.volume import Volume

AIR_HU, FAT_HU, MUSCLE_HU, BRAIN_HU = -1000.0, -90.0, 45.0, 35.0

CORTEX_HU, SPONGY_HU = 1350.0, 550.0
"""Means of adult skulls: 1200 to 1500, and 300 to 800."""

CORTEX_MM = 1.3
"""Depth of the inner and outer table."""

VARIATION = 0.18
"""Standard deviation of density from place to place, as a share: temporal squama and petrous bone differ by far more
than this, plates of one bone by less."""

VARIATION_MM = 12.0

SCALP_MM = 6.5
"""Soft tissue over bone, of which the outer half is fat and skin."""

CLOSED_MM = 24.0
"""The head is the skull closed by a ball of so much: over holes, orbits and the foramen magnum."""


@dataclass(frozen=True)
class Kernel:
    """How a reconstruction kernel shows an edge.

    Args:
        fwhm_mm: full width of a point at half its height, within the slice.
        overshoot: of an edge, as a share of its height: sharp kernels draw a rim beside dense bone.
        noise_hu: standard deviation, in slices of 1 mm; thicker ones have less by the square root.
        grain_mm: width of the noise's grain.
    """

    fwhm_mm: float
    overshoot: float
    noise_hu: float
    grain_mm: float


KERNELS = {"soft": Kernel(1.3, 0.0, 12.0, 0.7), "sharp": Kernel(0.7, 0.12, 55.0, 0.3)}


@dataclass(frozen=True)
class Scanner:
    """How a head is scanned.

    Args:
        slice_mm: thickness of the slices.
        step_mm: from slice to slice along the table; None: as thick as they are.
        pixel_mm: pixel edge.
        tilt_degrees: of the gantry, about the axis from left to right.
        kernel: name of one of ``KERNELS``.
    """

    slice_mm: float = 1.0
    step_mm: float | None = None
    pixel_mm: float = 0.49
    tilt_degrees: float = 0.0
    kernel: str = "soft"


def tissue_hu(skull: Volume, rng: np.random.Generator, head: Volume | None = None) -> Volume:
    """What a head holds, in Hounsfield units, on its own grid; without blur or noise.

    Args:
        skull: the bone that is there, a mask; cropped to the head is quicker.
        rng: draws how density varies.
        head: the skull without its holes, on the same grid, for the outline; None: ``skull``.

    Returns:
        float32 HU.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    grid = skull.grid
    inside, over = _outline(skull if head is None else head)
    # (I, J, K) mm of soft tissue above: 0 in the head, then up through scalp and skin to the air.
    depth = resample(over, grid, fill=10 * SCALP_MM).data
    out = np.full(grid.shape, AIR_HU, np.float32)
    out[depth < SCALP_MM] = FAT_HU
    out[depth < SCALP_MM / 2] = MUSCLE_HU
    out[resample(inside, grid).data > 0.5] = BRAIN_HU
    out[binary_fill_holes(skull.mask) & ~skull.mask] = AIR_HU
    within = distance_transform_edt(skull.mask, sampling=grid.spacing_mm)[skull.mask]
    share = np.clip((within - CORTEX_MM) / 0.8, 0, 1).astype(np.float32)
    density = CORTEX_HU + (SPONGY_HU - CORTEX_HU) * share
    out[skull.mask] = density * (1 + _variation(grid, rng)[skull.mask])
    return Volume(out, grid)


def scan(tissue: Volume, scanner: Scanner, rng: np.random.Generator) -> Volume:
    """The CT that a scanner makes of a head.

    Args:
        tissue: HU, float32, upright in world LPS mm; beyond its grid there is air.
        scanner: slices, tilt, kernel.
        rng: draws the noise.

    Returns:
        int16 HU; its grid is sheared where the gantry is tilted.
    """
    from scipy.ndimage import gaussian_filter

    kernel = KERNELS[scanner.kernel]
    grid = slices_over(tissue.grid, scanner)
    # Blur of the slice's plane; tilted by at most 30 degrees, the grid's own planes are near enough to it.
    sigma = kernel.fwhm_mm / 2.355 / np.array(tissue.grid.spacing_mm)
    along = int(np.argmax(np.abs(tissue.grid.affine[2, :3])))
    sigma[along] *= 0.5
    seen = gaussian_filter(tissue.data, sigma, truncate=3.0)
    if kernel.overshoot:
        seen += kernel.overshoot * (seen - gaussian_filter(seen, 2 * sigma, truncate=3.0)) * 2
    normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
    normal /= np.linalg.norm(normal)
    parts = max(round(scanner.slice_mm / 0.4), 1)
    total = np.zeros(grid.shape, np.float32)
    for part in range(parts):
        aside = ((part + 0.5) / parts - 0.5) * scanner.slice_mm
        shifted = grid.affine.copy()
        shifted[:3, 3] += aside * normal
        total += resample(Volume(seen, tissue.grid), Grid(grid.shape, shifted), fill=AIR_HU).data
    total /= parts
    grain = kernel.grain_mm / scanner.pixel_mm
    noise = gaussian_filter(rng.standard_normal(grid.shape, np.float32), (grain, grain, 0))
    total += noise * np.float32(kernel.noise_hu / np.sqrt(scanner.slice_mm) / noise.std())
    return Volume(np.clip(np.rint(total), -1024, 3071).astype(np.int16), grid)


def slices_over(grid: Grid, scanner: Scanner) -> Grid:
    """The scanner's slices over a field of view, a margin of 8 mm around it.

    Args:
        grid: of the head, in world LPS mm.
        scanner: slices and tilt.

    Returns:
        Columns, rows, slices; from left to right, front to back, feet to head. Sheared where tilted.
    """
    corners = grid.to_world(np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T)
    low, high = corners.min(axis=0) - 8, corners.max(axis=0) + 8
    angle = np.deg2rad(scanner.tilt_degrees)
    step = scanner.slice_mm if scanner.step_mm is None else scanner.step_mm
    affine = np.eye(4)
    affine[:3, 0] = (scanner.pixel_mm, 0, 0)
    affine[:3, 1] = scanner.pixel_mm * np.array((0, np.cos(angle), np.sin(angle)))
    affine[:3, 2] = (0, 0, step)
    deep = high[1] - low[1]
    # The rows run from front to back through the middle of the head; tilted slices begin lower and end higher.
    rise = np.tan(abs(angle)) * deep / 2
    affine[:3, 3] = (low[0], low[1], low[2] - rise - np.tan(angle) * deep / 2)
    if angle < 0:
        affine[2, 3] = low[2] - rise + np.tan(-angle) * deep / 2
    shape = (
        int(np.ceil((high[0] - low[0]) / scanner.pixel_mm)),
        int(np.ceil(deep / np.cos(angle) / scanner.pixel_mm)),
        int(np.ceil((high[2] - low[2] + 2 * rise) / step)),
    )
    return Grid(shape, affine)


def _outline(skull: Volume) -> tuple[Volume, Volume]:
    """Where the head's inside is (0 to 1), and how far each place lies outside of its bone, on coarse blocks."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    coarse = coarsen(skull, 2.0)
    room = int(np.ceil((CLOSED_MM + 4) / min(coarse.grid.spacing_mm)))
    coarse = coarse.pad((room,) * 3, (room,) * 3)
    bone, step = coarse.data > 0.3, coarse.grid.spacing_mm
    swollen = distance_transform_edt(~bone, sampling=step) <= CLOSED_MM
    closed = distance_transform_edt(binary_fill_holes(swollen), sampling=step) > CLOSED_MM
    closed |= bone
    over = distance_transform_edt(~closed, sampling=step).astype(np.float32)
    return Volume(closed.astype(np.float32), coarse.grid), Volume(over, coarse.grid)


def _variation(grid: Grid, rng: np.random.Generator) -> F32:
    """(I, J, K) smooth random shares about 0."""
    from scipy.ndimage import gaussian_filter, zoom

    steps = [max(round(4.0 / s), 1) for s in grid.spacing_mm]
    coarse = [-(-n // s) + 1 for n, s in zip(grid.shape, steps, strict=True)]
    field = gaussian_filter(rng.standard_normal(coarse, np.float32), VARIATION_MM / 4 / 1.5)
    field *= VARIATION / field.std()
    wide: F32 = zoom(field, [n / c for n, c in zip(grid.shape, coarse, strict=True)], order=1)
    return wide


__all__ = ["KERNELS", "Kernel", "Scanner", "scan", "slices_over", "tissue_hu"]
