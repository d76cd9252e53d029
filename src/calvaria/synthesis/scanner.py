"""CTs of skulls that are known as masks: tissue in Hounsfield units, seen through a scanner's blur, slices and noise.

What a mask cannot tell is made up from it: the cortex is as deep as `CORTEX_MM` and dense, spongy bone between is less
so, soft tissue fills the head and covers it, cavities in bone hold air. A hole holds soft tissue, as in a patient.
The slices are those of a real scanner: each the mean over its thickness, perpendicular to itself, at true positions
along the table, of which a tilted gantry makes a sheared grid. Where a mask ends within the head, so does the scan;
corners of tilted slices that reach beyond show what lies at the mask's end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.errors import InputError
from calvaria.types import F32, BoolArray
from calvaria.volume.components import fill_holes
from calvaria.volume.distance import reach_voxels, signed_distance
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.morphology import erode_mm
from calvaria.volume.resample import coarsen, resample
from calvaria.volume.volume import Volume, bounding_box, indices_of

AIR_HU, FAT_HU, MUSCLE_HU, BRAIN_HU = -1000, -90, 45, 35

CORTEX_HU, SPONGY_HU = 1350.0, 550.0
"""Means of adult skulls: 1200 to 1500, and 300 to 800."""

CORTEX_MM = (1.3, 1.7, 2.1)
"""Depth of the inner and outer table: density falls to that of spongy bone in as many steps."""

VARIATION = 0.18
"""Standard deviation of density from place to place, as a share: temporal squama and petrous bone differ by far more
than this, plates of one bone by less."""

VARIATION_MM, VARIATION_STEP_MM = 8.0, 4.0
"""Standard deviation of the blur that makes places alike, and the step of the grid on which it is drawn."""

SCALP_MM = 6.5
"""Soft tissue over bone, of which the outer half is fat and skin."""

CLOSED_MM, CLOSED_STEP_MM = 24.0, 2.0
"""The head is the skull closed by a ball of so much, over holes, orbits and the foramen magnum; on blocks."""

AIR_MM = 8.0
"""Of air around the head within the field of view."""

MAX_BEYOND_MM = 60.0
"""Tilted slices show at most so much beyond a mask's end, and air from there on."""

FWHM = 2.355
"""Of a Gaussian, over its standard deviation."""

PART_MM = 0.6
"""The mean over a slice's thickness is taken of planes at most about so far apart."""


@dataclass(frozen=True)
class Kernel:
    """How a reconstruction kernel shows an edge.

    Args:
        fwhm_mm: full width of a point at half its height, within the slice; half as wide along the table.
        overshoot: of an edge, as a share of its height: sharp kernels draw a rim beside dense bone.
        noise_hu: standard deviation, in slices of 1 mm; thicker ones have less by the square root.
        grain_mm: standard deviation of the blur that makes the noise's grain.
        name: as a scanner writes it.
    """

    fwhm_mm: float
    overshoot: float
    noise_hu: float
    grain_mm: float
    name: str


KERNELS = {"soft": Kernel(1.3, 0.0, 12.0, 0.7, "H30s"), "sharp": Kernel(0.7, 0.06, 55.0, 0.3, "H60s")}


@dataclass(frozen=True)
class Scanner:
    """How a head is scanned.

    Args:
        slice_mm: thickness of the slices.
        step_mm: from slice to slice along the table; None: as thick as they are.
        pixel_mm: pixel edge.
        tilt_degrees: of the gantry, about the axis from left to right; at most 30.
        kernel: name of one of ``KERNELS``.

    Raises:
        InputError: a length is not positive, the tilt too much, or there is no such kernel.
    """

    slice_mm: float = 1.0
    step_mm: float | None = None
    pixel_mm: float = 0.49
    tilt_degrees: float = 0.0
    kernel: str = "soft"

    def __post_init__(self) -> None:
        if not (self.slice_mm > 0 and self.step > 0 and self.pixel_mm > 0 and abs(self.tilt_degrees) <= 30):
            raise InputError(
                f"a scan needs slices and pixels of more than 0 mm and a tilt up to 30 degrees; got {self}"
            )
        if self.kernel not in KERNELS:
            raise InputError(f"no such kernel: {self.kernel}; known are {', '.join(KERNELS)}")

    @property
    def step(self) -> float:
        """From slice to slice along the table, mm."""
        return self.slice_mm if self.step_mm is None else self.step_mm


def tissue_hu(skull: Volume, rng: np.random.Generator, head: Volume | None = None) -> Volume:
    """What a head holds, in Hounsfield units, without blur or noise.

    Args:
        skull: the bone that is there, a mask; upright or nearly so.
        rng: draws how density varies.
        head: the skull without its holes, a mask on the same grid, which gives the head's outline; None: ``skull``.

    Returns:
        int16 HU on the grid, cropped or made wider so that it holds the head and a rim of air; where bone is cut at the
        upper or lower end, it ends there.

    Raises:
        InputError: the mask is empty.
        GeometryError: the two masks lie on different grids.
    """
    whole = skull if head is None else head
    skull.grid.require_same(whole.grid, "skull and head")
    part, whole = _around(skull, whole.mask), _around(whole, whole.mask)
    depth = resample(_outline(whole), part.grid).data
    out = np.full(part.shape, AIR_HU, np.int16)
    out[depth < SCALP_MM] = FAT_HU
    out[depth < SCALP_MM / 2] = MUSCLE_HU
    out[depth < 0] = BRAIN_HU
    out[fill_holes(part).mask & ~part.mask] = AIR_HU
    out[part.mask] = np.rint(_bone_hu(part, rng))
    return Volume(out, part.grid)


def _around(skull: Volume, head: BoolArray) -> Volume:
    """A mask where a head and its scalp are, in C order; no further than where the head is cut at the top or bottom."""
    # The outline is known to a block.
    reach = reach_voxels(skull.grid, SCALP_MM + 2 * CLOSED_STEP_MM)
    box = bounding_box(head)
    if box is None:
        raise InputError("the mask is empty: there is no head to scan")
    ends = [[True, True], [True, True], [True, True]]
    up = _upward(skull.grid)
    ends[up] = [box[up].start > 0, box[up].stop < skull.shape[up]]
    (a, b), (c, d), (e, f) = ((n * wide[0], n * wide[1]) for n, wide in zip(reach, ends, strict=True))
    part = skull.crop(box).pad((a, c, e), (b, d, f), False)
    return Volume(np.ascontiguousarray(part.mask), part.grid)


def _bone_hu(bone: Volume, rng: np.random.Generator) -> F32:
    """(N,) HU of the voxels of a mask, in C order."""
    share = np.zeros(np.count_nonzero(bone.mask), np.float32)
    for depth in CORTEX_MM:
        share += erode_mm(bone, depth).mask[bone.mask]
    density = CORTEX_HU + (SPONGY_HU - CORTEX_HU) * share / len(CORTEX_MM)
    found: F32 = (density * (1 + _variation(bone, rng))).astype(np.float32)
    return found


def _variation(bone: Volume, rng: np.random.Generator) -> F32:
    """(N,) smooth random shares about 0 at the voxels of a mask, in C order."""
    from scipy.ndimage import gaussian_filter

    steps = VARIATION_STEP_MM / np.array(bone.grid.spacing_mm)
    i, j, k = (int(np.ceil((n - 1) / step)) + 2 for n, step in zip(bone.shape, steps, strict=True))
    field = gaussian_filter(rng.standard_normal((i, j, k), np.float32), VARIATION_MM / VARIATION_STEP_MM)
    field *= VARIATION / field.std()
    at = indices_of(bone.mask).T / steps[:, None].astype(np.float32)
    return trilinear_at(field.ravel(), (i, j, k), at.astype(np.float32))


def _outline(skull: Volume) -> Volume:
    """How far each place lies outside of the closed head, mm, negative inside; float32, on coarse blocks."""
    coarse = coarsen(skull, CLOSED_STEP_MM)
    room = int(np.ceil((CLOSED_MM + 2 * CLOSED_STEP_MM) / min(coarse.grid.spacing_mm)))
    bone = coarse.with_data(coarse.data > 0.3)
    bone = _longer(bone, (room, room), _open_ends(bone)).pad((room,) * 3, (room,) * 3, False)
    swollen = bone.with_data(signed_distance(bone) <= CLOSED_MM)
    closed = (signed_distance(fill_holes(swollen)) < -CLOSED_MM) | bone.mask
    return bone.with_data(signed_distance(bone.with_data(closed)))


def _upward(grid: Grid) -> int:
    """The axis that runs up or down."""
    return int(np.argmax(np.abs(grid.affine[2, :3])))


def _open_ends(shown: Volume) -> tuple[bool, bool]:
    """Whether something that is shown, a mask, reaches the first and the last layer along the axis that runs up."""
    layers = np.moveaxis(shown.mask, _upward(shown.grid), 0)
    return bool(layers[0].any()), bool(layers[-1].any())


def _layers_beyond(grid: Grid, slices: Grid, slice_mm: float) -> tuple[int, int]:
    """How many layers of a grid lie before its first and after its last one, out to where slices reach."""
    up = _upward(grid)
    step = grid.spacing_mm[up]
    at = grid.to_index(slices.corners_mm())[:, up]
    rim = slice_mm / step + 1
    before, after = (
        int(np.ceil(np.clip(n + rim, 0, MAX_BEYOND_MM / step))) for n in (-at.min(), at.max() - grid.shape[up] + 1)
    )
    return before, after


def _longer(volume: Volume, layers: tuple[int, int], ends: tuple[bool, bool]) -> Volume:
    """A volume that goes on beyond its first and last layer, where it is cut there, as it ends."""
    before, after = (count * end for count, end in zip(layers, ends, strict=True))
    width = [(before, after) if axis == _upward(volume.grid) else (0, 0) for axis in range(3)]
    (a, b), (c, d), (e, f) = width
    return Volume(np.pad(volume.data, width, mode="edge"), volume.grid.pad((a, c, e), (b, d, f)))


def scan(tissue: Volume, scanner: Scanner, rng: np.random.Generator) -> Volume:
    """The CT that a scanner makes of a head.

    Args:
        tissue: HU, upright in world LPS mm or nearly so. Beyond its grid there is air, or, where it is cut through the
            head, no slice.
        scanner: slices, tilt, kernel.
        rng: draws the noise.

    Returns:
        int16 HU; its grid is sheared where the gantry is tilted.
    """
    from scipy.ndimage import gaussian_filter

    kernel = KERNELS[scanner.kernel]
    ends = _open_ends(tissue.with_data(tissue.data > (AIR_HU + FAT_HU) / 2))
    grid = slices_over(tissue.grid, scanner, ends)
    seen = _longer(_blurred(tissue, kernel), _layers_beyond(tissue.grid, grid, scanner.slice_mm), ends)
    found = sliced(seen, grid, scanner.slice_mm).data
    grain = kernel.grain_mm / scanner.pixel_mm
    noise = gaussian_filter(rng.standard_normal(grid.shape, np.float32), (grain, grain, 0))
    found += noise * np.float32(kernel.noise_hu / np.sqrt(scanner.slice_mm) / noise.std())
    return Volume(np.clip(np.rint(found), -1024, 3071).astype(np.int16), grid)


def sliced(image: Volume, grid: Grid, slice_mm: float) -> Volume:
    """An image read as slices: each the mean over its thickness, perpendicular to itself.

    Args:
        image: HU; beyond its grid there is air.
        grid: columns, rows, slices, which may be tilted.
        slice_mm: thickness of the slices.

    Returns:
        float32 HU on ``grid``.
    """
    normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
    normal /= np.linalg.norm(normal)
    parts = max(int(np.ceil(slice_mm / PART_MM)), 1)
    total = np.zeros(grid.shape, np.float32)
    for part in range(parts):
        aside = ((part + 0.5) / parts - 0.5) * slice_mm
        shifted = grid.affine.copy()
        shifted[:3, 3] += aside * normal
        total += resample(image, Grid(grid.shape, shifted), fill=AIR_HU).data
    total /= parts
    return Volume(total, grid)


def _blurred(tissue: Volume, kernel: Kernel) -> Volume:
    """What the kernel makes of tissue before it is cut into slices, float32."""
    from scipy.ndimage import gaussian_filter

    # Blur of the slice's plane; tilted by at most 30 degrees, the grid's own planes are near enough to it.
    sigma = kernel.fwhm_mm / FWHM / np.array(tissue.grid.spacing_mm)
    sigma[_upward(tissue.grid)] *= 0.5
    seen = gaussian_filter(tissue.data, sigma, output=np.float32, truncate=3.0, mode="nearest")
    if kernel.overshoot:
        wide = gaussian_filter(seen, np.sqrt(3) * sigma, truncate=3.0, mode="nearest")  # twice as wide as what is seen
        seen += np.float32(_gain(kernel.overshoot)) * (seen - wide)
    return tissue.with_data(seen)


def _gain(overshoot: float) -> float:
    """How much of the difference to a blur twice as wide makes an edge overshoot by a share of its height."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    x = np.linspace(0.0, 8.0, 801)
    edge, wide = ndtr(x), ndtr(x / 2)
    return float(brentq(lambda gain: (edge + gain * (edge - wide)).max() - 1 - overshoot, 0.0, 10.0))


def slices_over(grid: Grid, scanner: Scanner, ends: tuple[bool, bool] = (False, False)) -> Grid:
    """The scanner's slices over a head, with `AIR_MM` around it.

    Args:
        grid: of the head, in world LPS mm, upright or nearly so.
        scanner: slices and tilt.
        ends: whether the head goes on beyond the grid's first and last layer along the axis that runs up: in the middle
            of the head the first or last slice then lies within the grid.

    Returns:
        Columns, rows, slices; from left to right, front to back, feet to head. Sheared where tilted.
    """
    corners = grid.to_world(np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T)
    low, high = corners.min(axis=0) - AIR_MM, corners.max(axis=0) + AIR_MM
    angle = np.deg2rad(scanner.tilt_degrees)
    width = int(np.ceil((high[0] - low[0]) / scanner.pixel_mm))
    depth = int(np.ceil((high[1] - low[1]) / np.cos(angle) / scanner.pixel_mm))
    # Tilted slices reach lower and higher in front and behind than in the middle of the head, where they are counted.
    rise = np.tan(abs(angle)) * (high[1] - low[1]) / 2
    first, last = low[2] - rise, high[2] + rise
    axis = _upward(grid)
    middle = (np.array(grid.shape) - 1) / 2
    faces = []
    for end, at in zip(ends, (-0.5, grid.shape[axis] - 0.5), strict=True):
        middle[axis] = at
        faces.append((float(grid.to_world(middle)[2]), end))
    (bottom, cut_below), (top, cut_above) = sorted(faces)
    first = bottom + scanner.slice_mm / 2 if cut_below else first
    last = top - scanner.slice_mm / 2 if cut_above else last
    affine = np.eye(4)
    affine[:3, 0] = (scanner.pixel_mm, 0, 0)
    affine[:3, 1] = scanner.pixel_mm * np.array((0, np.cos(angle), np.sin(angle)))
    affine[:3, 2] = (0, 0, scanner.step)
    centre = np.array(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, first))
    affine[:3, 3] = centre - affine[:3, 0] * (width - 1) / 2 - affine[:3, 1] * (depth - 1) / 2
    return Grid((width, depth, max(int((last - first) / scanner.step + 1e-9) + 1, 1)), affine)


__all__ = ["KERNELS", "Kernel", "Scanner", "scan", "sliced", "slices_over", "tissue_hu"]
