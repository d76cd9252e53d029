"""What was found in a skull that is not its intact bone, in words and numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from calvaria.types import F64, BoolArray
from calvaria.volume.volume import Volume, indices_of

Kind = Literal["metal", "implant", "flap", "loose piece"]


@dataclass(frozen=True)
class ForeignPiece:
    """One thing that is not this skull's intact bone.

    Args:
        kind: metal, implant (plastic or cement), flap (bone, cut out and put back) or a loose piece of bone.
        ml: its volume, as far as it has the values of bone.
        area_cm2: on the vault's outer surface; 0 where it is not known.
        centre_mm: world LPS.
        hu: its typical value; None for bone.
        counted: it is counted as bone.
        shift_mm: a flap lies so far outside (negative: inside) of the vault's curve; None for others.
        angle_degrees: a flap is tilted by so much; None for others.
        kerf_mm: mean width of the gap around a flap; None for others.
    """

    kind: Kind
    ml: float
    area_cm2: float
    centre_mm: tuple[float, float, float]
    hu: float | None = None
    counted: bool = False
    shift_mm: float | None = None
    angle_degrees: float | None = None
    kerf_mm: float | None = None

    def record(self) -> dict[str, Any]:
        """For JSON: rounded, without what is not known."""
        out = asdict(self) | {"centre_mm": [round(v, 1) for v in self.centre_mm]}
        return {k: round(v, 2) if isinstance(v, float) else v for k, v in out.items() if v is not None}


@dataclass(frozen=True)
class Middle:
    """By which places are named.

    Args:
        low_mm: (3,) smallest world coordinates of the bone.
        high_mm: (3,) the largest.
    """

    low_mm: F64
    high_mm: F64

    @classmethod
    def of(cls, bone: Volume) -> Middle:
        """The middle of a mask that is not empty."""
        index = indices_of(bone.mask)
        ends = bone.grid.to_world(index[:: max(len(index) // 100_000, 1)])
        return cls(ends.min(axis=0), ends.max(axis=0))

    def place(self, centre_mm: F64) -> str:
        """Words and mm, as in "left, front, upper part; 60 -20 30 mm"."""
        x, y, z = centre_mm
        middle = (self.low_mm + self.high_mm) / 2
        words = ("left" if x > middle[0] else "right", "back" if y > middle[1] else "front")
        return f"{words[0]}, {words[1]}, {'upper' if z > middle[2] else 'lower'} part; {x:.0f} {y:.0f} {z:.0f} mm"


def triple(point: F64) -> tuple[float, float, float]:
    """(3,) as a tuple."""
    x, y, z = (float(v) for v in point)
    return x, y, z


def disc(radius: float) -> BoolArray:
    """A round footprint of so many pixels' radius."""
    n = int(np.ceil(radius))
    i, j = np.mgrid[-n : n + 1, -n : n + 1]
    return np.asarray(i * i + j * j <= radius * radius + 0.1)


__all__ = ["ForeignPiece", "Kind", "Middle", "disc", "triple"]
