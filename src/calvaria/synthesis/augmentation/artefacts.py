"""What a scanner and a threshold do to bone: blur, thick slices, streaks, noise, another threshold, an end of the scan.

Soft bone (the share of bone in a voxel) stands for the picture: it is blurred, streaked, made noisy and averaged over
slices; then the threshold is taken and its edges made as sharp as they were. Everything happens to the network's input
alone; the truth stays what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calvaria.deformation.warp import Triple, check_volumes
from calvaria.errors import InputError
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.synthesis.augmentation.slices import Slices, through_slices
from calvaria.synthesis.augmentation.thickness import axes_mm
from calvaria.volume.grid import Grid

LEVELS = (0.1, 0.9)
"""A threshold lies between these shares of dense bone's brightness."""

NOISE_SHAPE = (61, 67, 59)
"""Noise is drawn in a block of so many voxels (primes, so that it fits no grid) and repeated: no network sees 9 cm."""

STREAK_DECAY_MM = 60.0
"""Streaks are half as strong this far from the metal."""

STREAK_WIDTH_MM = 1.2
STREAK_SPREAD_DEG = (1.0, 4.0)
"""A ray's standard deviation across: at the metal, and how it grows with the way from there."""

STREAK_HEIGHT_MM = 6.0
"""Standard deviation, along z, of the slices that metal spoils: a clip's or a crown's height."""

SHARPER_FROM, SHARPER = 0.1, 4.0
"""Where rays are this bright, the threshold's edge is so much sharper besides: a faint ray is air, not thin bone."""

FAR = 60.0
"""Squared distances in standard deviations are cut here, before the exponential underflows in float32."""

NO_BLUR_MM = 0.05
"""A blur of less is none: far below a voxel."""

KERNEL_SIGMAS = 4.0
"""Where a Gaussian is cut off."""


@dataclass(frozen=True)
class Threshold:
    """Partial volume, and a threshold that is not half of dense bone.

    Args:
        blur_mm: standard deviation of the picture's blur.
        level: share of dense bone's brightness that counts as bone. A high one eats thin plates, a low one fattens.

    Raises:
        InputError: a negative blur, or a level outside `LEVELS`.
    """

    blur_mm: float = 0.7
    level: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.blur_mm < np.inf:
            raise InputError(f"a picture's blur is at least 0 mm; got {self.blur_mm}")
        if not LEVELS[0] <= self.level <= LEVELS[1]:
            raise InputError(f"a threshold lies between {LEVELS[0]} and {LEVELS[1]} of bone; got {self.level}")


@dataclass(frozen=True)
class Streaks:
    """Bright and dark rays from a piece of metal, within the slices that show it.

    Args:
        centre_mm: where the metal lies, canonical mm.
        strength: brightness of the strongest ray near the metal, in dense bone's.
        rays: how many.
        seed: which rays.

    Raises:
        InputError: a negative strength, or no ray.
    """

    centre_mm: Triple
    strength: float = 0.5
    rays: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.strength < np.inf:
            raise InputError(f"streaks have a strength of at least 0; got {self.strength}")
        if self.rays < 1:
            raise InputError(f"streaks have at least one ray; got {self.rays}")


@dataclass(frozen=True)
class Noise:
    """Noise of the picture, voxel by voxel: it roughens surfaces and speckles thin bone.

    It counts where a voxel is neither bone nor air: a scan's noise is far below the step between the two.

    Args:
        strength: standard deviation in voxels that are half bone, in dense bone's brightness.
        seed: which noise.

    Raises:
        InputError: a negative strength.
    """

    strength: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.strength < np.inf:
            raise InputError(f"noise has a strength of at least 0; got {self.strength}")


@dataclass(frozen=True)
class ScanEnd:
    """The lower end of the scan: nothing is seen below a plane.

    Args:
        height_mm: canonical z of the plane below the head centre.
        pitch_deg: turned about x: positive rises towards the back.
        roll_deg: turned about y: positive rises towards the left.

    Raises:
        InputError: a plane tilted by 60 degrees or more.
    """

    height_mm: float
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.height_mm) and max(abs(self.pitch_deg), abs(self.roll_deg)) < 60):
            raise InputError(
                "a scan ends at a finite height, tilted by less than 60 degrees; "
                f"got {self.height_mm} mm, {self.pitch_deg} and {self.roll_deg} degrees"
            )

    def seen_on(self, grid: Grid, device: torch.device | str = "cpu") -> Tensor:
        """(X, Y, Z) bool: the voxels above the plane."""
        x, y, z = (torch.from_numpy(at).float().to(device) for at in axes_mm(grid))
        pitch, roll = np.tan(np.radians([self.pitch_deg, self.roll_deg])).tolist()
        end = self.height_mm + roll * (x - HEAD_CENTRE_MM[0])[:, None] + pitch * (y - HEAD_CENTRE_MM[1])  # (X, Y)
        return torch.gt(z, end[:, :, None])


@dataclass(frozen=True)
class Artefacts:
    """What one scan suffers; None is not there."""

    threshold: Threshold | None = None
    slices: Slices | None = None
    streaks: Streaks | None = None
    noise: Noise | None = None
    end: ScanEnd | None = None

    @property
    def is_scan(self) -> bool:
        """Whether the picture itself is touched, not only its extent."""
        return any(part is not None for part in (self.threshold, self.slices, self.streaks, self.noise))


def scan_volumes(defective: Tensor, grid: Grid, scans: Sequence[Artefacts]) -> tuple[Tensor, Tensor]:
    """Defective skulls as a worse scan and threshold would show them.

    Args:
        defective: (B, X, Y, Z) soft bone (floating, 0 to 1) or bool.
        grid: canonical mm.
        scans: B sets of artefacts; one without any leaves a head as it is, bit by bit.

    Returns:
        The skulls, of the same shape, dtype and device; and (B, X, Y, Z) bool, where the scan shows something: False
        below its end. A loss counts there only; the truth is left whole.

    Raises:
        GeometryError: the tensor does not lie on the grid.
        InputError: as many sets as heads are wanted; the dtype is neither floating nor bool.
    """
    check_volumes(defective, grid, len(scans))
    seen = torch.ones(defective.shape, dtype=torch.bool, device=defective.device)
    shown = []
    for item, scan in enumerate(scans):
        head = _scanned(defective[item], grid, scan) if scan.is_scan else defective[item]
        if scan.end is not None:
            seen[item] = scan.end.seen_on(grid, defective.device)
            head = head * seen[item]
        shown.append(head)
    return torch.stack(shown), seen


def _scanned(head: Tensor, grid: Grid, scan: Artefacts) -> Tensor:
    """One head, (X, Y, Z), through the scanner."""
    taken = scan.threshold or Threshold(0.0, 0.5)
    picture = head.float()
    if taken.blur_mm > NO_BLUR_MM:
        picture = blurred(picture, grid, taken.blur_mm)
    if scan.noise is not None:
        doubt = picture.sub(0.5).square_().mul_(-4).add_(1).clamp_(min=0)  # 1 at half, 0 in bone and in air
        picture = picture + noise_on(scan.noise, grid, head.device).mul_(doubt)
    rays = None if scan.streaks is None else rays_on(scan.streaks, grid, head.device)
    if rays is not None:
        picture = picture + rays
    # An edge blurred by sigma rises by 1 / (sqrt(2 pi) sigma); it shall rise within a voxel, as soft bone does. And
    # whatever the level, air becomes 0 and bone 1.
    gain = np.sqrt(2 * np.pi) * taken.blur_mm / float(np.mean(grid.spacing_mm))
    gain = max(gain, 0.5 / taken.level, 0.5 / (1 - taken.level))
    if scan.slices is not None:
        soft = through_slices(picture, grid, scan.slices, taken.level, gain)
    else:
        soft = picture.sub(taken.level).mul_(gain)
        if rays is not None:
            soft.mul_(rays.abs_().div_(SHARPER_FROM).clamp_(max=1).mul_(SHARPER).add_(1))
        soft.add_(0.5).clamp_(0, 1)
    return soft > 0.5 if head.dtype == torch.bool else soft.to(head.dtype)


def blurred(picture: Tensor, grid: Grid, sigma_mm: float) -> Tensor:
    """(X, Y, Z) smoothed by a Gaussian; at the array's faces over what lies inside: beyond it is unknown, not air."""
    # Products with banded matrices: several times quicker than convolutions on a CPU.
    x, y, z = (
        _gaussian(n, sigma_mm / step).to(picture.device) for n, step in zip(grid.shape, grid.spacing_mm, strict=True)
    )
    across = y @ (picture @ z.T)
    return (x @ across.flatten(1)).reshape(picture.shape)


def _gaussian(count: int, sigma: float) -> Tensor:
    """(N, N) float32: each row a Gaussian of ``sigma`` voxels; rows sum to one."""
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) / sigma
    rows = np.where(apart <= KERNEL_SIGMAS, np.exp(-0.5 * np.minimum(apart, KERNEL_SIGMAS) ** 2), 0.0)
    return torch.from_numpy(rows / rows.sum(axis=1, keepdims=True)).float()


def rays_on(streaks: Streaks, grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """(X, Y, Z) float32: what the rays add to the picture."""
    x, y, z = axes_mm(grid)
    across, back = x[:, None] - streaks.centre_mm[0], y - streaks.centre_mm[1]
    distance = np.hypot(across, back)
    rng = np.random.default_rng(streaks.seed)
    fan = np.zeros_like(distance)
    for angle, spread, sign in zip(
        rng.uniform(-np.pi, np.pi, streaks.rays),
        np.radians(rng.uniform(*STREAK_SPREAD_DEG, streaks.rays)),
        rng.choice([-1.0, 1.0], streaks.rays),
        strict=True,
    ):
        ahead, aside = (
            across * np.cos(angle) + back * np.sin(angle),
            back * np.cos(angle) - across * np.sin(angle),
        )
        width = np.hypot(STREAK_WIDTH_MM, np.maximum(ahead, 0) * spread)
        fan += sign * (ahead > 0) * np.exp(-0.5 * np.minimum((aside / width) ** 2, FAR))
    fan *= streaks.strength / (1 + distance / STREAK_DECAY_MM)
    along = np.exp(-0.5 * np.minimum(((z - streaks.centre_mm[2]) / STREAK_HEIGHT_MM) ** 2, FAR))
    flat, up = torch.from_numpy(fan).float().to(device), torch.from_numpy(along).float().to(device)
    return flat[:, :, None] * up


def noise_on(noise: Noise, grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """(X, Y, Z) float32: white noise, the same on every device."""
    block = np.random.default_rng(noise.seed).standard_normal(NOISE_SHAPE, np.float32) * np.float32(noise.strength)
    repeats = [-(-n // size) for n, size in zip(grid.shape, NOISE_SHAPE, strict=True)]
    i, j, k = grid.shape
    return torch.from_numpy(block).to(device).tile(repeats)[:i, :j, :k]


__all__ = [
    "Artefacts",
    "Noise",
    "ScanEnd",
    "Streaks",
    "Threshold",
    "blurred",
    "noise_on",
    "rays_on",
    "scan_volumes",
]
