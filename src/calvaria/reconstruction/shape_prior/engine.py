"""The shape prior: a skull completed by a statistical model of other skulls. No training on a GPU, no network.

A global fit of the shape model predicts the whole skull; what it predicts and the scan lacks is the hole. Around the
hole the model is fitted again, only where the skull's own surface is known (`observations`). In the vault the outer and
the inner table are fitted too, each alone (`table_distances`), and the completion is the mean of both descriptions.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from calvaria.models.calibration import Calibration
from calvaria.reconstruction.box import (
    AIR_MM,
    BoxField,
    box_grid,
    frontal_floor,
    on_box,
    read_box,
    vault,
)
from calvaria.reconstruction.protocol import MAX_MISFIT_MM, Completion, SoftField, Spread, Stage
from calvaria.reconstruction.repose import settle
from calvaria.reconstruction.shape_prior.cover import behind_bone, lies_open, over_bone, without_covered
from calvaria.reconstruction.shape_prior.find import real_holes
from calvaria.reconstruction.shape_prior.model import (
    MIN_PLATE_DEPTH_MM,
    MODEL_TRUNCATION_MM,
    ShapeModel,
)
from calvaria.reconstruction.shape_prior.modes import Modes
from calvaria.reconstruction.shape_prior.observations import Around, Falloff, Observations, around, lattice
from calvaria.reconstruction.shape_prior.plates import REGION_MM, close_valleys, keep_plates, outside
from calvaria.reconstruction.shape_prior.regression import Fit, Jitter, by_two, fit, jitters
from calvaria.reconstruction.shape_prior.table_distances import known_within, ray_voxels, table_distances_at
from calvaria.reconstruction.shape_prior.tables import TableModel
from calvaria.reconstruction.surface import BoneSurface, crossings
from calvaria.skull.canonical import SPACING_MM, CanonicalFrame
from calvaria.skull.template import Template
from calvaria.types import F32, BoolArray
from calvaria.volume.distance import distance_to
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from calvaria.reconstruction.shape_prior.find import HoleFinder


MAX_POINTS, THINNER = 15000, 0.8
"""Around larger holes than those of the benchmarks (5000 to 10000 points, a third of them trusted) the lattice is
thinned, step by step, until no more points are left: time grows with their cube, memory with their square."""

READ_MM = 2.5
"""The completion is read so far around the hole's outline."""

EXACT_MM = 1.6
"""Nearer to the completed surface than this, distances are read by cubic convolution."""

MIRROR_ABSENT_MM = 2.5
"""Bone of the other side is missing on this one if no bone is within this distance: heads are not so symmetric that
less would mean anything."""

SLIVER_MM = 4.0
"""Errors of predicted surfaces stay below this."""

ROUGH_MOVES = 3
"""Jitters of a quick fit."""

MAX_BLEND_WEIGHT, BLEND_MISFIT_MM = 0.5, 0.5
"""Largest blend weight of the two tables; where their misfit is the second, the weight has fallen to 1/e of it."""

MIN_BLEND_WEIGHT, BLENDED_MM = 0.005, 2.0
"""Where the blend weight is smaller than the first, or the surface is farther away than the second, the two tables are
not predicted: at a weight of a half at most, a surface so far away would have to lie 4 mm elsewhere in them."""

ASYMMETRY_MM = 3.0
"""Bone of one side has a counterpart on the other within this distance."""

CLOSED_MM, MAX_DEEPENING_MM = -0.9, 1.4
"""The outside of the head is at least twice the first thick, so that no gap is left in it; a valley is deepened by the
second at most."""

LAMELLA_MM, MAX_LAMELLA_DEEPENING_MM = -0.7, 2.0
"""The same for the orbital roofs: they are thinner and vary more in position, so that their valleys are shallower."""

SPREAD_MM, MAX_SPREAD_POINTS = 5.0, 400
"""How sure a completion is, is asked for about so far apart, at no more points than these; it is smooth."""

FAR_MM = 40.0
"""Distances to a hole are cut off here."""


@dataclass(frozen=True)
class Settings:
    """Parameters of the shape prior; chosen on validation persons, see docs/shape-prior.md.

    Args:
        modes: modes used in the fit around the hole.
        pairs: pairs of jittered boxes used there.
        plate: plates keep at least this share of their usual thickness, see `keep_plates`.
        dense_mm: nearer to the hole than the first every point of the lattice is used, nearer than the second every
            fourth, farther every 32nd.
        rough_dense_mm: the same in quick fits.
        table_dense_mm: ... and in the fits of the two tables.
        noise_mm: observation noise at the hole's rim, a standard deviation.
        fade_mm: over this distance to the hole a point's weight falls to 1/e.
        mirror_mm: a point beside the hole's mirror image counts as if it lay this far from the hole.
        reach_mm: points farther from the hole are left out.
        rough_grow_mm: room given to the hole's outline in quick fits.
        grow_mm: ... and in the final one.
        min_hole_ml: predicted and absent bone below this is a natural opening, or none.
        open_ml: ... unless it is larger than this and the vault is open there, as in a burr hole.
        beside_ml: the same limit in a skull with a hole elsewhere, where natural openings are not all that there is.
        seed: of the jitters.
    """

    modes: int = 120
    pairs: int = 8
    plate: float = 0.5
    dense_mm: tuple[float, float] = (4.5, 10.0)
    rough_dense_mm: tuple[float, float] = (2.0, 8.0)
    table_dense_mm: tuple[float, float] = (3.0, 10.0)
    noise_mm: float = 0.25
    fade_mm: float = 3.0
    mirror_mm: float = 10.0
    reach_mm: float = 24.0
    rough_grow_mm: float = 5.0
    grow_mm: float = 3.3
    min_hole_ml: float = 5.0
    open_ml: float = np.inf
    beside_ml: float = 2.0
    seed: int = 1


class ShapePrior:
    """The engine: keeps its model and what can be prepared once; call `reconstruct` for each skull."""

    def __init__(
        self,
        model: ShapeModel,
        template: Template,
        settings: Settings | None = None,
        *,
        tables: TableModel | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        """Prepare the engine.

        Args:
            model: mean and modes.
            template: the mean skull that the model's examples were registered to.
            settings: by default those that the published figures were made with.
            tables: the outer and the inner table; without them a completion is that of the shape model alone.
            calibration: the accuracy of its patches, if that was measured.
        """
        self.tables = tables
        self.calibration = calibration
        self.model = model
        self.template = template
        self.settings = settings or Settings()

    def prepare(self) -> None:
        """Make what needs no skull, in about two seconds; otherwise the first skull waits for it."""
        _ = self.finder, self._depth, self._outside, lattice(self.model.spacing_mm), vault(), frontal_floor()
        if self.tables is not None:
            _ = self._blend_weight, ray_voxels()

    def with_min_hole_ml(self, min_ml: float) -> ShapePrior:
        """The same engine with another limit for holes; what is prepared is shared.

        Args:
            min_ml: less missing bone is left open, beside a larger hole too. Below the usual limit only where the vault
                is open.
        """
        usual = Settings().min_hole_ml
        open_ml = min_ml if min_ml < usual else np.inf
        other = copy(self)
        other.settings = replace(self.settings, min_hole_ml=max(min_ml, usual), open_ml=open_ml, beside_ml=open_ml)
        return other

    def left_open(self, field: BoxField, soft: SoftField, sketch: SoftField | None = None) -> BoolArray:
        """Openings that a completion has left, on the box grid; see `HoleFinder.left_open`."""
        return self.finder.left_open(field, _in_region(soft), None if sketch is None else _in_region(sketch))

    def openings(self, field: BoxField, sketch: SoftField) -> BoolArray:
        """Where the head's wall is open, however narrow, on the box grid; see `HoleFinder.openings`."""
        return self.finder.openings(field, _in_region(sketch))

    @cached_property
    def finder(self) -> HoleFinder:
        """The global fit, prepared for the model."""
        from calvaria.reconstruction.shape_prior.find import HoleFinder

        return HoleFinder(self.model)

    @cached_property
    def _depth(self) -> F32:
        """The usual depth of bone on the box grid."""
        return on_box(self.model.depth, self.model.spacing_mm)

    @cached_property
    def _blend_weight(self) -> F32:
        """The blend weight of the two tables on the box grid."""
        if self.tables is None:
            return np.zeros(box_grid().shape, np.float32)
        misfit_mm = on_box(self.tables.misfit, self.tables.outer.spacing_mm)
        share: F32 = np.float32(MAX_BLEND_WEIGHT) * np.exp(-((misfit_mm / np.float32(BLEND_MISFIT_MM)) ** 2))
        return share

    @cached_property
    def _outside(self) -> BoolArray:
        return outside(self.model)

    @cached_property
    def moves(self) -> list[Jitter]:
        """The jitters of the local fits."""
        return jitters(self.settings.pairs, self.settings.seed)

    def sketch(self, field: BoxField, before: SoftField | None = None) -> SoftField:
        """Find the holes of a skull and complete them roughly, in a fifth of the time of `complete`.

        Args:
            field: the skull in the common box.
            before: an earlier sketch, whose holes are outlined anew instead of searching the whole vault.
        """
        hole = self._found(field, before)
        return self._rough(field, hole) if hole.any() else _no_hole()

    def sketch_known(self, field: BoxField, hole: BoolArray, before: SoftField | None = None) -> SoftField:
        """As `sketch`, with a hole that is known beside those that are found.

        Args:
            field: the skull in the common box.
            hole: bool on the box grid, not empty.
            before: as for `sketch`.
        """
        return self._rough(field, hole | self._found(field, before))

    def outline(self, field: BoxField, hole: BoolArray) -> BoolArray:
        """A hole that is known roughly, outlined by what is predicted and absent in the open there.

        Args:
            field: the skull in the common box.
            hole: bool on the box grid, not empty; it stays part of the outline.
        """
        rough, bone = self._rough(field, hole), field.distance_mm < 0
        return hole | lies_open((rough.distance_mm < 0) & ~bone & rough.region & field.known, bone)

    def _found(self, field: BoxField, before: SoftField | None) -> BoolArray:
        """The holes of a skull, by themselves or by an earlier sketch."""
        if before is None:
            return self.finder.find(field, **self._limits_ml(1.0))
        return self._hole(field, before)

    def _limits_ml(self, share: float) -> dict[str, float]:
        """The limits of `real_holes`; a share of them where the outline is not the first."""
        names = ("min_hole_ml", "open_ml", "beside_ml")
        return {name: share * getattr(self.settings, name) for name in names}

    def complete(self, field: BoxField, sketch: SoftField | None = None, read_mm: float = READ_MM) -> SoftField:
        """Find the holes of a skull in the common box and complete it there.

        Args:
            field: the skull.
            sketch: a rough completion, outlined twice, if there is one already.
            read_mm: the completed surface is read so far around the hole's outline.
        """
        if sketch is None:
            sketch = self.sketch(field, self.sketch(field))
        if sketch.misfit_mm > MAX_MISFIT_MM:
            return sketch
        hole = self._hole(field, sketch)
        if not hole.any():
            return _no_hole()
        return self._only_holes(self.complete_known(field, distance_mm(hole, self.settings.grow_mm), read_mm), field)

    def reconstruct(
        self, skull: Volume, frame: CanonicalFrame, surface: BoneSurface | None = None, stage: Stage = nullcontext
    ) -> Completion:
        """Settle the pose by sketches, and complete the last of them.

        Arguments and errors as for `protocol.Engine.reconstruct`.
        """
        with stage("hole"):
            frame, field, sketch = settle(skull, frame, self, surface)
        with stage("completion"):
            return Completion(frame, field, self.complete(field, sketch))

    def _rough(self, field: BoxField, hole: BoolArray) -> SoftField:
        """A quick completion around a hole."""
        gap_mm = distance_mm(hole, self.settings.rough_grow_mm)
        chosen = self.settings
        fitted = self._fit(field, gap_mm, chosen.rough_dense_mm, self.moves[:ROUGH_MOVES], min(100, chosen.modes))
        if fitted.misfit_mm > MAX_MISFIT_MM:
            return replace(_no_hole(), misfit_mm=fitted.misfit_mm)
        values = self._plates(self._read(fitted, gap_mm, READ_MM), field, gap_mm)
        return SoftField(values, (gap_mm <= READ_MM) & vault(), fitted.misfit_mm)

    def _plates(self, values: F32, field: BoxField, gap_mm: F32) -> F32:
        """A completion whose plates are kept, without gaps in the outside of the head."""
        values = keep_plates(values, field, gap_mm, self._depth, self.settings.plate)
        return close_valleys(values, self._outer(field, gap_mm, values), CLOSED_MM, MAX_DEEPENING_MM)

    def _hole(self, field: BoxField, rough: SoftField) -> BoolArray:
        """The hole as a rough completion shows it: bone that is absent, but predicted or present on the other side."""
        from scipy import ndimage

        absent = (field.distance_mm > 0.3) & field.known & vault()
        predicted = (rough.distance_mm < 0) & rough.region
        mirrored = (field.distance_mm[::-1] < 0) & (field.distance_mm > MIRROR_ABSENT_MM)
        lacking, bone = predicted & absent, field.distance_mm < 0
        # Slivers are surfaces that merely lie elsewhere. A thin plate looks like one, but lies far from any bone.
        plate = lies_open(lacking & (field.distance_mm > SLIVER_MM) & self._outside, bone)
        missing = ndimage.binary_opening(lacking) | (mirrored & absent) | plate
        missing = without_covered(missing, bone)
        return real_holes(missing, missing & predicted, field, **self._limits_ml(0.67))

    def _only_holes(self, soft: SoftField, field: BoxField) -> SoftField:
        """The completion without what turned out to be no hole.

        In the frontal floor a lamella stays only if the other side has one, or lacks one too.
        """
        new_bone = (soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region
        added = without_covered(new_bone, field.distance_mm < 0)
        missing = added & (~frontal_floor() | (field.distance_mm[::-1] < ASYMMETRY_MM) | added[::-1])
        real = real_holes(missing, missing, field, **self._limits_ml(0.6))
        if not real.any():
            return _no_hole()
        return replace(soft, distance_mm=np.where(new_bone & ~real, AIR_MM, soft.distance_mm))

    def complete_known(self, field: BoxField, gap_mm: F32, read_mm: float = READ_MM) -> SoftField:
        """Complete a skull whose hole is known.

        Args:
            field: the skull.
            gap_mm: float32 on the box grid: distance to where missing bone may lie, mm; 0 within.
            read_mm: as for `complete`.
        """
        final = self._fit(field, gap_mm, self.settings.dense_mm, self.moves, self.settings.modes, posterior=True)
        values = self._plates(self._read(final, gap_mm, read_mm, EXACT_MM), field, gap_mm)
        values = close_valleys(values, self._lamellae(gap_mm), LAMELLA_MM, MAX_LAMELLA_DEEPENING_MM)
        region = (gap_mm <= REGION_MM) & vault()
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(_spread, final, values, field, region)
            observed = None if self.tables is None else self._observed_tables(values, field, gap_mm)
            spread = asked.result()
        final = replace(final, posterior=None)  # its memory is wanted for the tables
        if observed is not None:
            values = self._blended(values, observed, gap_mm, read_mm)
        return SoftField(values, region, final.misfit_mm, spread)

    def _observed_tables(self, values: F32, field: BoxField, gap_mm: F32) -> tuple[Observations, Observations]:
        """What is known of the outer and the inner table around the hole."""
        # Tables are those of a skull without a hole: the completion so far stands in for the missing bone.
        closed = np.where((gap_mm <= REGION_MM) & vault(), np.minimum(field.distance_mm, values), field.distance_mm)
        whole = BoxField(closed, field.known, field.scale)
        near = self._around(gap_mm, self.settings.table_dense_mm)
        # A distance that reaches beyond the scan may end at bone that the scan does not show.
        shown_mm = read_box(np.minimum(known_within(field.known, field.scale, SPACING_MM), FAR_MM), near.mm, 0.0)
        distances = table_distances_at(whole, near.mm, MODEL_TRUNCATION_MM)
        outer, inner = (
            near.observations(distance_mm, np.abs(distance_mm) <= shown_mm)
            for distance_mm in (distances.outer_mm, distances.inner_mm)
        )
        return outer, inner

    def _blended(self, values: F32, observed: tuple[Observations, Observations], gap_mm: F32, read_mm: float) -> F32:
        """A completion blended with that of the two tables, each fitted alone.

        The blend weight is a half where two tables describe bone well, and less where their usual misfit is large.
        """
        if self.tables is None:
            return values
        blended = (gap_mm <= read_mm) & (self._blend_weight > MIN_BLEND_WEIGHT) & (np.abs(values) < BLENDED_MM)
        points = box_grid().to_world(np.argwhere(blended)).astype(np.float32)

        def completed(table: tuple[Modes, Observations]) -> F32:
            modes, seen = table
            fitted = fit(modes, self.moves, seen.mm, seen.distance_mm, seen.noise_mm, modes=modes.count)
            return fitted.at(points, EXACT_MM)

        outer, inner = by_two(completed, zip((self.tables.outer, self.tables.inner), observed, strict=True))
        out = values.copy()
        # Bone lies where both distances are negative: their maximum is its signed distance.
        out[blended] += self._blend_weight[blended] * (np.maximum(outer, inner) - values[blended])
        return out

    def _outer(self, field: BoxField, gap_mm: F32, values: F32) -> BoolArray:
        """Where the outside of the head may be missing: neither behind intact bone nor in front of it."""
        near = self._outside & (gap_mm <= REGION_MM)
        near &= ~over_bone(near, (values < 0) & (gap_mm <= REGION_MM))
        return near & ~behind_bone(near, field.distance_mm < 0)

    def _lamellae(self, gap_mm: F32) -> BoolArray:
        """Where lamellae of the frontal floor may be missing: orbital roofs, which most subjects have."""
        return frontal_floor() & vault() & (gap_mm <= REGION_MM) & ~self._outside & (self._depth < MIN_PLATE_DEPTH_MM)

    def _around(self, gap_mm: F32, dense_mm: tuple[float, float]) -> Around:
        chosen = self.settings
        falloff = Falloff(chosen.noise_mm, chosen.fade_mm, chosen.mirror_mm, chosen.reach_mm)
        near = around(gap_mm, self.model.spacing_mm, dense_mm, falloff)
        while len(near.mm) > MAX_POINTS and dense_mm[1] > self.model.spacing_mm:
            dense_mm = (dense_mm[0] * THINNER, dense_mm[1] * THINNER)
            near = around(gap_mm, self.model.spacing_mm, dense_mm, falloff)
        return near

    def _fit(
        self,
        field: BoxField,
        gap_mm: F32,
        dense_mm: tuple[float, float],
        moves: list[Jitter],
        modes: int,
        *,
        posterior: bool = False,
    ) -> Fit:
        """The shape model fitted around the hole."""
        near = self._around(gap_mm, dense_mm)
        observed = near.observations(read_box(field.distance_mm, near.mm, 0.0), _known_at(field, near.mm))
        observations = observed.mm, observed.distance_mm, observed.noise_mm
        return fit(self.model, moves, *observations, modes=modes, posterior=posterior)

    def _read(self, final: Fit, gap_mm: F32, read_mm: float, exact_mm: float = 0.0) -> F32:
        """The completed surface on the box grid, around the hole; air elsewhere. ``exact_mm`` as for `Fit.at`."""
        out = np.full(gap_mm.shape, AIR_MM, np.float32)
        near = gap_mm <= read_mm
        points = box_grid().to_world(np.argwhere(near)).astype(np.float32)
        out[near] = final.at(points, exact_mm)
        return out


def _spread(final: Fit, values: F32, field: BoxField, region: BoolArray) -> Spread | None:
    """How sure a fit is along the surface that it predicts; None where it predicts none."""
    surface = crossings(np.where(region & (field.distance_mm > 0), values, np.float32(AIR_MM)), 0.0)
    points = box_grid().to_world(surface.T)
    if final.posterior is None or not len(points):
        return None
    step = SPREAD_MM
    while True:  # one point a cell, coarser until there are few enough
        _, first = np.unique(np.floor(points / step).astype(int), axis=0, return_index=True)
        if len(first) <= MAX_SPREAD_POINTS:
            break
        step *= 1.2
    chosen = points[np.sort(first)].astype(np.float32)
    return Spread(chosen, final.posterior.sd_at(chosen))


def _known_at(field: BoxField, points_mm: F32) -> BoolArray:
    """Whether the scan shows points of the box."""
    return read_box(field.known.astype(np.float32), points_mm, 0.0) > 0.99


def _in_region(soft: SoftField) -> F32:
    """The distances of a completion; air where it says nothing."""
    return np.where(soft.region, soft.distance_mm, np.float32(AIR_MM))


def _no_hole() -> SoftField:
    shape = box_grid().shape
    return SoftField(np.full(shape, AIR_MM, np.float32), np.zeros(shape, bool), 0.0)


def distance_mm(hole: BoolArray, grow_mm: float) -> F32:
    """Distance to a hole grown by ``grow_mm``, on the box grid; 0 inside, `FAR_MM` from there on."""
    distance = distance_to(Volume(hole, box_grid()), limit_mm=FAR_MM + grow_mm) - np.float32(grow_mm)
    return np.asarray(np.maximum(distance, 0), np.float32)
