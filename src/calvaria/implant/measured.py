"""All that is measured of one implant's body, side by side where one figure asks nothing of another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from calvaria.implant import measure
from calvaria.implant.around import Around
from calvaria.implant.body import SEAT_MM
from calvaria.implant.parts import Maps, Part
from calvaria.implant.rim import Rim, rim_of
from calvaria.implant.settings import ImplantSettings
from calvaria.reconstruction.surface import BoneSurface
from calvaria.types import F64
from calvaria.volume.volume import Volume

FLANGE_BLEND_MM = 8.0
"""A flange runs out over the body within this, about."""

FLANGE_SHARE = 0.5
"""Part of its thickness that a flange has everywhere."""

USUAL_GAP_MM = 1.0
"""With a wider clearance than this, the bone beside an implant begins later."""

USUAL_STEP_MM = 3.0
"""Outer surface of bone further off the implant's than this, and what was asked for, does not go on from it."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found of a body.

    Args:
        surface: of the bone around it.
        maps: thickness and clearance.
        wall_mm: the thinnest wall.
        passage: the way in.
        rim: how bone goes on beside it.
        apart_mm: from the mirrored other side; None where there is none.
    """

    surface: BoneSurface
    maps: Maps
    wall_mm: float
    passage: measure.Passage
    rim: Rim
    apart_mm: float | None


def measured(
    part: Part, settings: ImplantSettings, *, bone: Volume, fraction: Volume, frame_to_world: F64, around: Around
) -> Measured:
    """Measure a body.

    Args:
        part: it.
        settings: what was asked for.
        bone: the defective skull, a mask.
        fraction: the bone that is measured against: the mask, or finer.
        frame_to_world: (4, 4) canonical mm -> world LPS mm.
        around: the bone around its hole.
    """
    surface = around.surface(part, fraction, settings.travel_mm)
    thick = max(least_wall_mm(settings) + 1.0, float(np.nanmax(part.thickness_mm)))
    gap = max(settings.clearance_mm - USUAL_GAP_MM, 0.0)
    with ThreadPoolExecutor(2) as pool:  # the longest first
        rim = pool.submit(rim_of, part, surface, USUAL_STEP_MM + raised_mm(settings), gap)
        passage = pool.submit(measure.collision, part, surface, settings.travel_mm, around.way)
        wall = pool.submit(measure.thinnest_wall, part.body, thick)
        maps = pool.submit(measure.maps, part, surface, band_mm(settings))
        apart = pool.submit(measure.symmetry_mm, part, bone, frame_to_world)
        return Measured(surface, maps.result(), wall.result(), passage.result(), rim.result(), apart.result())


def band_mm(settings: ImplantSettings) -> float:
    """Along the edge, where a flange is as thick as it was asked for, not as the body."""
    return settings.flange_width_mm + FLANGE_BLEND_MM if settings.flange_width_mm > 0 else 0.0


def least_wall_mm(settings: ImplantSettings) -> float:
    """The thinnest wall that was asked for: a flange may be thinner than the body."""
    # Bumps of the bone, and its slope along the way in, are taken out of a flange from below.
    flange = FLANGE_SHARE * settings.flange_mm if settings.flange_width_mm > 0 else np.inf
    return float(min(settings.min_wall_mm, flange))


def raised_mm(settings: ImplantSettings) -> float:
    """By how much the outer surface may lie off the head's own, as it was asked for."""
    flange = settings.flange_mm + SEAT_MM if settings.flange_width_mm > 0 else 0.0
    return settings.offset_mm + settings.temporal_relief_mm + flange


__all__ = ["Measured", "band_mm", "least_wall_mm", "measured", "raised_mm"]
