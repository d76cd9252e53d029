"""Filling what the user points at: a mask, points or a box say where; how large or narrow it is does not matter."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.box import BoxField, vault
from calvaria.reconstruction.doubts import openings_within
from calvaria.reconstruction.holes import (
    BEYOND,
    KEPT_OPEN,
    NATURAL,
    NOT_POINTED_AT,
    REST,
    TOO_SMALL,
    LeftOpen,
    left_open,
)
from calvaria.reconstruction.openings import Openings, added_by, in_box, kept_open, nearer_to, pointed_at
from calvaria.reconstruction.protocol import Completion, Engine, SoftField, Stage, Surveyor
from calvaria.reconstruction.repose import settle, settle_by
from calvaria.reconstruction.shape_prior.engine import ShapePrior, distance_mm
from calvaria.reconstruction.shape_prior.plates import REGION_MM
from calvaria.reconstruction.surface import BoneSurface
from calvaria.reconstruction.word import UserWord, given_mask, middle_of, on_grid_of, said
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import BoolArray
from calvaria.volume.morphology import dilate_mm
from calvaria.volume.volume import Volume

BEYOND_MASK_MM = 0.5
"""A patch reaches beyond the mask that it fills by this at most: about a voxel's edge."""

PULLING_ML = 5.0
"""A smaller hole pulls no pose: the pose is settled by what else is missing."""

BESIDE_MM = 24.0
"""Other openings nearer than this to what is filled are not mistaken for the end of the bone."""

BESIDE_FILLED_MM = 2.0
"""An opening so near to a place that was filled is the rest of it."""

MIN_LISTED_ML = 0.1
"""Smaller parts of an opening are not listed."""


class Posed(NamedTuple):
    """A defective skull and its pose.

    Args:
        bone: mask, cropped to its bone.
        frame: found with the holes.
        surface: of the bone.
    """

    bone: Volume
    frame: CanonicalFrame
    surface: BoneSurface


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was completed by the user's word.

    Args:
        done: the completion; its region is what may be filled.
        kept: bool on the box grid: what stays open because the user said so.
        sketch: of all large holes, filled or not.
        lines: for the user.
        within: bool on the input's grid: the patch keeps to it; None: anywhere.
    """

    done: Completion
    kept: BoolArray
    sketch: SoftField | None = None
    lines: tuple[str, ...] = ()
    within: BoolArray | None = None


def complete_asked(
    completer: Engine, skull: Posed, defective: Volume, word: UserWord, stage: Stage = nullcontext
) -> Chosen:
    """Settle the pose and complete what is missing, by the user's word where there is one.

    Args:
        completer: the engine; a `ShapePrior` where the word points at something.
        skull: in the pose that was found with the holes.
        defective: its bone on the input's grid.
        word: what the user says.
        stage: entered with "hole" and "completion".

    Raises:
        InputError: a mask cannot be used, or nothing is open where was pointed at.
    """
    if word.points_at_something and isinstance(completer, ShapePrior):
        hole = hole_of(word, defective)
        chosen = complete_directed(completer, skull, word, hole, stage)
        return chosen if hole is None else replace(chosen, within=around(hole))
    return without_kept(completer, completer.reconstruct(*skull, stage), word)


def hole_of(word: UserWord, defective: Volume) -> Volume | None:
    """The place that the mask of a hole says, on the skull's grid and off its bone; None without a mask.

    Raises:
        InputError: it is no mask, is empty, lies elsewhere, or all in bone.
    """
    if word.hole is None:
        return None
    what = "the hole's mask"
    placed = on_grid_of(given_mask(word.hole, what), defective, what)
    place = placed.with_data(placed.mask & ~defective.mask)
    if not place.mask.any():
        raise InputError(
            f"{what}: all of its {placed.volume_ml:.1f} ml (around {said(middle_of(placed))} mm) lie in bone that is "
            "there: nothing is missing in it; check that both are in one frame, or take that bone away with ignore"
        )
    return place


def complete_directed(
    prior: ShapePrior, skull: Posed, word: UserWord, hole: Volume | None, stage: Stage = nullcontext
) -> Chosen:
    """Settle the pose and complete what the user points at, and nothing else.

    Args:
        prior: what completes it.
        skull: in the pose that was found with the holes.
        word: that points at something.
        hole: from `hole_of`.
        stage: entered with "hole" and "completion".

    Raises:
        InputError: nothing is open where was pointed at.
    """
    with stage("hole"):
        frame, field, sketch = _settled(prior, skull, hole)
        openings = Openings.of(prior.openings(field, sketch), frame)
        kept, lines = kept_open(openings, word)
        wanted = pointed_at(openings, word)
    with stage("completion"):
        known = np.zeros_like(wanted) if hole is None else in_box(hole, frame)
        if not known.any() and hole is not None:
            raise InputError(
                f"the hole's mask lies outside of the head, around {said(middle_of(hole))} mm: check its frame"
            )
        wanted, known = wanted & ~kept, known & ~kept
        if not (wanted.any() or known.any()):
            raise InputError("all that was pointed at is to be kept open: there is nothing to fill")
        outlined = known | (_outlined(prior, field, wanted, openings.all | kept) if wanted.any() else wanted)
        soft = _completed(prior, field, outlined, (openings.all & ~outlined) | kept, known)
    return Chosen(Completion(frame, field, soft), kept, sketch, lines)


def _settled(prior: ShapePrior, skull: Posed, hole: Volume | None) -> Completion:
    """The pose by all large holes: also those that stay open pull it."""
    if hole is None or hole.volume_ml < PULLING_ML:
        return settle(skull.bone, skull.frame, prior, skull.surface)

    def draw(field: BoxField, at: CanonicalFrame, before: SoftField | None) -> SoftField:
        place = in_box(hole, at)
        return prior.sketch_known(field, place, before) if place.any() else prior.sketch(field, before)

    return settle_by(skull.bone, skull.frame, draw, prior.template, skull.surface)


def _outlined(prior: ShapePrior, field: BoxField, wanted: BoolArray, every: BoolArray) -> BoolArray:
    """The openings that are wanted, outlined anew, without others that lie beside them."""
    found = prior.outline(field, wanted) & ~(every & ~wanted)
    # What hangs together with what is wanted; beside it there may be other openings.
    pieces = Openings.of(found, CanonicalFrame(np.eye(4), np.ones(3), 0.0, ()), 0.0)
    return pieces.pieces(np.unique(pieces.labels[wanted]))


def _completed(prior: ShapePrior, field: BoxField, hole: BoolArray, others: BoolArray, known: BoolArray) -> SoftField:
    """A hole completed; others near by are air of which nothing is concluded, and stay open."""
    grow_mm = prior.settings.grow_mm
    reach_mm = distance_mm(hole, grow_mm)
    beside = Openings.of(others, CanonicalFrame(np.eye(4), np.ones(3), 0.0, ()), 0.0)
    near = beside.pieces(np.unique(beside.labels[reach_mm < BESIDE_MM]))
    soft = prior.complete_known(field, distance_mm(hole | near, grow_mm) if near.any() else reach_mm)
    # A mask counts where it says, also below the vault.
    zone = vault() | (distance_mm(known, 2.0) <= 0) if known.any() else vault()
    region = (reach_mm <= REGION_MM) & zone & nearer_to(hole, others)
    return SoftField(soft.distance_mm, region, soft.misfit_mm)


def around(hole: Volume) -> BoolArray:
    """Where the patch of a mask may lie, bool on its grid: in it and up to `BEYOND_MASK_MM` beyond."""
    return dilate_mm(hole, BEYOND_MASK_MM).mask


def without_kept(completer: Engine, done: Completion, word: UserWord) -> Chosen:
    """A completion of what an engine found by itself, without what the user wants to be kept open."""
    frame, field, soft = done
    added = added_by(soft, field)
    if not word.keep_open:
        return Chosen(done, np.zeros_like(added))
    open_ = added | completer.openings(field, soft) if isinstance(completer, Surveyor) else added
    kept, lines = kept_open(Openings.of(open_, frame), word)
    region = soft.region & ~kept
    if (added & kept).any():
        rest = added & ~kept
        # What was drawn around the kept place goes with it.
        region &= nearer_to(rest, kept) if rest.any() else False
    return Chosen(Completion(frame, field, replace(soft, region=region)), kept, soft, lines)


def off_kept(patch: Volume, word: UserWord) -> Volume:
    """A patch without what lies in masks that are to be kept open."""
    for mask in word.keep_open:
        if isinstance(mask, Volume):
            what = "the mask of what to keep open"
            patch = patch.with_data(patch.mask & ~on_grid_of(given_mask(mask, what), patch, what).mask)
    return patch


def what_is_open(
    completer: Engine, chosen: Chosen, dropped: BoolArray, defective: Volume, min_hole_ml: float, *, directed: bool
) -> tuple[tuple[LeftOpen, ...], BoolArray]:
    """What was found and left open, largest first, with its reason; and where that is, bool on the box grid.

    Args:
        completer: the engine; of one that is no `Surveyor` only what was kept open is known.
        chosen: the completion.
        dropped: bool on the box grid: what was completed but goes on beyond the scan.
        defective: the bone on the scan's whole grid.
        min_hole_ml: what was asked for.
        directed: whether the user pointed at what is filled.
    """
    frame, field, soft = chosen.done
    found = completer.left_open(field, soft, chosen.sketch) if isinstance(completer, Surveyor) else dropped & False
    shown = openings_within(found, frame, defective.grid)
    pieces = Openings.of(shown | chosen.kept, frame, 0.0)
    kept = pieces.pieces(np.unique(pieces.labels[chosen.kept]))
    touching = pieces.pieces(np.unique(pieces.labels[distance_mm(soft.region, BESIDE_FILLED_MM) <= 0])) & ~kept
    groups = {
        KEPT_OPEN: kept,
        BEYOND: (found & ~shown & ~kept) | dropped,
        REST: touching,
        "": shown & ~kept & ~touching,
    }
    listed: list[LeftOpen] = []
    for reason, where in groups.items():
        for hole in left_open(where, frame):
            why = reason or _reason(hole.volume_ml, min_hole_ml, directed=directed)
            if hole.volume_ml >= MIN_LISTED_ML:
                listed.append(LeftOpen(hole.volume_ml, hole.area_cm2, hole.centre_mm, hole.place, why))
    everything = np.logical_or.reduce(list(groups.values()))
    return tuple(sorted(listed, key=lambda one: -one.volume_ml)), everything


def _reason(volume_ml: float, min_hole_ml: float, *, directed: bool) -> str:
    if directed:
        return NOT_POINTED_AT
    return TOO_SMALL if volume_ml < min_hole_ml else NATURAL


__all__ = [
    "Chosen",
    "Posed",
    "around",
    "complete_asked",
    "complete_directed",
    "hole_of",
    "off_kept",
    "what_is_open",
    "without_kept",
]
