"""How much heads and scans are varied: the settings, and parameters drawn by them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from calvaria.deformation.bend import Bend
from calvaria.deformation.warp import Triple, Warp
from calvaria.errors import InputError
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.synthesis.augmentation.artefacts import LEVELS, Artefacts, Noise, ScanEnd, Streaks, Threshold
from calvaria.synthesis.augmentation.augment import Augmentation
from calvaria.synthesis.augmentation.slices import Slices
from calvaria.synthesis.augmentation.thickness import MAX_MM, Thickness

Range = tuple[float, float]

CUT_SD = 3.0
"""Normal distributions are cut at this many standard deviations."""

TILT_DEG = ((-12.0, 9.0), (0.0, 3.0))
"""Mean and standard deviation of a scan's pitch and roll against the canonical frame. The lower ends of eight
AutoImplant skulls, which lie in the slices' planes, had pitches from +1 to -31 degrees, mean -13, and rolls up to 8."""

METAL_HALF_AXES_MM = (70.0, 88.0, 70.0)
METAL_HEIGHT = (-0.6, 0.9)
"""Metal (plates, clips, shunt valves) lies on an ellipsoid about the outer vault, at these shares of its height."""


@dataclass(frozen=True)
class AugmentationSettings:
    """How much is varied. Chances are probabilities; ranges are drawn from evenly; ``sd`` are of normal distributions.

    Args:
        flip_chance: the head is mirrored about x = 0.
        rotation_sd_deg: rotation about each axis.
        shift_sd_mm: shift along each axis.
        size_sd: of the head as a whole, as a share.
        scale_sd: of each axis besides, as a share.
        shear_sd: each shear, as a tangent; 0 where the symmetry plane must stay one (the symmetry network).
        shape_mm: largest standard deviation of the deformation that moves left and right alike; drawn evenly from 0.
        asymmetry_mm: largest standard deviation of the deformation that moves them oppositely; drawn evenly from 0. At
            0.5 mm a symmetric head's two sides come to differ by 0.75 mm, as those of real heads do (see docs/data.md).
        thickness_chance: the vault gets thicker or thinner.
        thickness_sd_mm: by how much.
        threshold_chance: another blur and threshold.
        blur_mm: range of the blur's standard deviation.
        level: range of the threshold, in dense bone's brightness.
        slices_chance: thick slices.
        slice_mm: range of their thickness.
        streaks_chance: metal.
        streaks: range of the strongest ray's brightness, in dense bone's.
        noise_chance: noise.
        noise: range of its standard deviation, in dense bone's brightness.
        end_chance: the scan ends within the grid.
        end_mm: range of the end's canonical z.

    Raises:
        InputError: a chance outside 0 to 1, a negative sd, a range upside down or out of what its artefact allows.
    """

    flip_chance: float = 0.5
    rotation_sd_deg: float = 4.0
    shift_sd_mm: float = 3.0
    size_sd: float = 0.03
    scale_sd: float = 0.02
    shear_sd: float = 0.02
    shape_mm: float = 2.0
    asymmetry_mm: float = 0.5
    thickness_chance: float = 0.5
    thickness_sd_mm: float = 0.8
    threshold_chance: float = 0.5
    blur_mm: Range = (0.3, 1.2)
    level: Range = (0.3, 0.7)
    slices_chance: float = 0.25
    slice_mm: Range = (2.5, 5.0)
    streaks_chance: float = 0.1
    streaks: Range = (0.2, 0.6)
    noise_chance: float = 0.25
    noise: Range = (0.05, 0.25)
    end_chance: float = 0.25
    end_mm: Range = (-60.0, -20.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                if not (len(value) == 2 and -np.inf < value[0] <= value[1] < np.inf):
                    raise InputError(f"{field.name} is a range from low to high; got {value}")
            elif field.name.endswith("_chance") and not 0 <= value <= 1:
                raise InputError(f"{field.name} is a probability from 0 to 1; got {value}")
            elif not 0 <= value < np.inf:
                raise InputError(f"{field.name} is at least 0; got {value}")
        if not LEVELS[0] <= self.level[0] <= self.level[1] <= LEVELS[1]:
            raise InputError(f"level lies within {LEVELS[0]} to {LEVELS[1]} of bone; got {self.level}")
        if min(self.blur_mm[0], self.streaks[0], self.noise[0]) < 0 or self.slice_mm[0] <= 0:
            raise InputError("blur_mm, streaks and noise begin at 0 or above, slice_mm above 0")


NOTHING = AugmentationSettings(
    flip_chance=0.0,
    rotation_sd_deg=0.0,
    shift_sd_mm=0.0,
    size_sd=0.0,
    scale_sd=0.0,
    shear_sd=0.0,
    shape_mm=0.0,
    asymmetry_mm=0.0,
    thickness_chance=0.0,
    threshold_chance=0.0,
    slices_chance=0.0,
    streaks_chance=0.0,
    noise_chance=0.0,
    end_chance=0.0,
)
"""Nothing is varied: to switch on single parts with ``dataclasses.replace``."""

FOR_SYMMETRY = AugmentationSettings(rotation_sd_deg=12.0, shift_sd_mm=8.0, shear_sd=0.0)
"""For the symmetry network: turned further, and never sheared, so that each head has a symmetry plane
(:attr:`calvaria.deformation.warp.Warp.plane`)."""


def sample_augmentation(rng: np.random.Generator, settings: AugmentationSettings | None = None) -> Augmentation:
    """Draw what happens to one head.

    Every number is drawn whether it is used or not: with one state of the generator, switching an artefact on or off
    leaves all other parameters as they are.

    Args:
        rng: where chance comes from; the same state gives the same parameters.
        settings: how much is varied; the defaults where None.

    Returns:
        The parameters.
    """
    settings = AugmentationSettings() if settings is None else settings
    return Augmentation(_warp(rng, settings), _thickness(rng, settings), _artefacts(rng, settings))


def _warp(rng: np.random.Generator, settings: AugmentationSettings) -> Warp:
    flip = _happens(rng, settings.flip_chance)
    bend = Bend(_seed(rng), settings.shape_mm * float(rng.random()), settings.asymmetry_mm * float(rng.random()))
    size, scales = 1 + settings.size_sd * _normal(rng), [1 + settings.scale_sd * _normal(rng) for _ in range(3)]
    return Warp(
        flip=flip,
        bend=None if bend.is_none else bend,
        scale=(size * scales[0], size * scales[1], size * scales[2]),
        shear=_normals(rng, settings.shear_sd),
        rotation_deg=_normals(rng, settings.rotation_sd_deg),
        shift_mm=_normals(rng, settings.shift_sd_mm),
    )


def _thickness(rng: np.random.Generator, settings: AugmentationSettings) -> Thickness | None:
    happens, seed = _happens(rng, settings.thickness_chance), _seed(rng)
    change = float(np.clip(settings.thickness_sd_mm * _normal(rng), -MAX_MM, MAX_MM))
    return Thickness(change, seed=seed) if happens else None


def _artefacts(rng: np.random.Generator, settings: AugmentationSettings) -> Artefacts:
    pitch, roll = (mean + sd * _normal(rng) for mean, sd in TILT_DEG)  # one scan: slices and end lie alike
    threshold = (
        _happens(rng, settings.threshold_chance),
        Threshold(_within(rng, settings.blur_mm), _within(rng, settings.level)),
    )
    slices = (
        _happens(rng, settings.slices_chance),
        Slices(_within(rng, settings.slice_mm), pitch, roll, float(rng.random())),
    )
    streaks = (
        _happens(rng, settings.streaks_chance),
        Streaks(_metal_mm(rng), _within(rng, settings.streaks), int(rng.integers(6, 25)), _seed(rng)),
    )
    noise = _happens(rng, settings.noise_chance), Noise(_within(rng, settings.noise), _seed(rng))
    end = _happens(rng, settings.end_chance), ScanEnd(_within(rng, settings.end_mm), pitch, roll)
    return Artefacts(
        threshold=threshold[1] if threshold[0] else None,
        slices=slices[1] if slices[0] else None,
        streaks=streaks[1] if streaks[0] else None,
        noise=noise[1] if noise[0] else None,
        end=end[1] if end[0] else None,
    )


def _metal_mm(rng: np.random.Generator) -> Triple:
    """Canonical mm: a point on the vault."""
    height, azimuth = _within(rng, METAL_HEIGHT), _within(rng, (-np.pi, np.pi))
    width = np.sqrt(1 - height**2)
    direction = (width * np.sin(azimuth), -width * np.cos(azimuth), height)
    x, y, z = (c + a * float(d) for c, a, d in zip(HEAD_CENTRE_MM.tolist(), METAL_HALF_AXES_MM, direction, strict=True))
    return x, y, z


def _happens(rng: np.random.Generator, chance: float) -> bool:
    return bool(rng.random() < chance)


def _within(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


def _normal(rng: np.random.Generator) -> float:
    return float(np.clip(rng.standard_normal(), -CUT_SD, CUT_SD))


def _normals(rng: np.random.Generator, sd: float) -> Triple:
    return sd * _normal(rng), sd * _normal(rng), sd * _normal(rng)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


__all__ = ["FOR_SYMMETRY", "NOTHING", "AugmentationSettings", "sample_augmentation"]
