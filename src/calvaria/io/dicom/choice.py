"""Which series of a study shows the skull best: thin, axial, as the scanner made it, soft before sharp."""

from __future__ import annotations

import re
from typing import Literal

Sharpness = Literal["soft", "sharp", "unknown"]

SHARP_FROM = 50
"""Siemens's kernels have a number that grows with sharpness: H30s and Hr40 are soft, H60s and Hr68 are for bone."""

STEPS_MM = (1.3, 2.1, 3.1)
"""Series are as good as each other between these steps: 0.6 mm of a sharp kernel are not better than 1 mm of a soft."""

HEAD_MM = (120.0, 350.0)
"""A series that shows the head and not the body extends so far along its normal."""

AXIAL_COSINE = 0.7
"""Between the normal and the body's axis; a gantry tilts by 30 degrees at most."""

# Parts of what scanners write for the body part; one of a head beside it makes it a head's.
_ELSEWHERE = (
    *("ABDOMEN", "ABD", "PELVIS", "CHEST", "THORAX", "LUNG", "HEART", "CARDIAC", "LIVER", "KIDNEY", "COLON"),
    *("LSPINE", "TSPINE", "SSPINE", "COCCYX", "SHOULDER", "CLAVICLE", "ARM", "ELBOW", "HAND", "WRIST", "FINGER"),
    *("HIP", "LEG", "KNEE", "FOOT", "ANKLE", "TOE", "CALF", "THIGH", "EXTREMITY", "BREAST"),
)
_HEAD = ("HEAD", "SKULL", "BRAIN", "NECK", "FACE", "JAW", "ORBIT", "SINUS", "CSPINE", "WHOLE", "CRANI")
_SHARP_NAMES = ("BONE", "EDGE", "LUNG", "SHARP", "DETAIL", "ULTRA", "INNER", "CHST")
_SOFT_NAMES = ("SOFT", "STANDARD", "STND", "SMOOTH", "BRAIN")
_PHILIPS = {
    **dict.fromkeys(("A", "B", "C", "UA", "UB", "UC", "EB", "SA", "SB"), "soft"),
    **dict.fromkeys(("D", "E", "L", "YA", "YB", "YC", "YD", "EC"), "sharp"),
}


def sharpness(kernel: str) -> Sharpness:
    """What a kernel is for, by its name at the makers that are common.

    >>> [sharpness(name) for name in ("H60s", "Hr40f/3", "BONEPLUS", "STANDARD", "FC30", "FC21", "UB", "?")]
    ['sharp', 'soft', 'sharp', 'soft', 'sharp', 'soft', 'soft', 'unknown']
    """
    name = kernel.upper().split("/")[0].strip()
    if any(word in name for word in _SHARP_NAMES):
        return "sharp"
    if any(word in name for word in _SOFT_NAMES):
        return "soft"
    if name in _PHILIPS:
        return "soft" if _PHILIPS[name] == "soft" else "sharp"
    canon = re.fullmatch(r"FC(\d\d)", name)
    if canon:
        return "sharp" if int(canon[1]) // 10 in (3, 5, 8) else "soft"
    siemens = re.match(r"[A-Z]{1,2}(\d\d)", name)
    if siemens:
        return "sharp" if int(siemens[1]) >= SHARP_FROM else "soft"
    return "unknown"


def is_elsewhere(body_part: str) -> bool:
    """Whether a part of the body, as BodyPartExamined names it, is none that a head's scan bears.

    >>> [is_elsewhere(part) for part in ("HEART", "CHESTABDPELVIS", "HEAD", "HEADNECKCHEST", "WHOLEBODY", "")]
    [True, True, False, False, False, False]
    """
    return any(word in body_part for word in _ELSEWHERE) and not any(word in body_part for word in _HEAD)


def rank(
    *, axial: bool, extent_mm: float, original: bool, step_mm: float, kernel: str, slices: int
) -> tuple[float, ...]:
    """What series are sorted by; the least is the best.

    Args:
        axial: whether its slices lie across the body's axis.
        extent_mm: from the first slice to the last.
        original: whether the scanner made it, rather than a program out of another series.
        step_mm: from slice to slice.
        kernel: of the reconstruction.
        slices: their number.
    """
    is_head = HEAD_MM[0] <= extent_mm <= HEAD_MM[1]
    sharp = ("soft", "unknown", "sharp").index(sharpness(kernel))
    return (not axial, not is_head, not original, sum(step_mm > one for one in STEPS_MM), sharp, step_mm, -slices)


__all__ = ["AXIAL_COSINE", "Sharpness", "is_elsewhere", "rank", "sharpness"]
