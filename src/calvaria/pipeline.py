"""The whole way, once: from a head with a hole to the missing bone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from threadpoolctl import threadpool_limits

from calvaria.errors import InputError, naming
from calvaria.jobs import Progress, unheard
from calvaria.models import ModelInfo, find
from calvaria.models.registry import SHAPE_PRIOR
from calvaria.reconstruction.account import OWN_STAGES, REFINING_STAGES, Clock, ModelUsed, PoseReport, Report
from calvaria.reconstruction.account import PLAIN_STAGES as STAGES
from calvaria.reconstruction.box import box_grid, box_to_world
from calvaria.reconstruction.checks import gates
from calvaria.reconstruction.confidence import Confidence, judge
from calvaria.reconstruction.directed import Posed, complete_asked, off_kept, what_is_open
from calvaria.reconstruction.doubts import require_known_bone, scan_end_doubts, unseen, within_scan
from calvaria.reconstruction.engines import load_engine, load_prior
from calvaria.reconstruction.given_patch import mask_of_patch, on_skull, prior_for
from calvaria.reconstruction.holes import Hole, holes_in, left_open_line, place_of
from calvaria.reconstruction.openings import added_by
from calvaria.reconstruction.own_bone.scans import OwnScan, put_in
from calvaria.reconstruction.postprocess import MIN_PIECE_ML, SPECK_ML, surface_of, to_patch
from calvaria.reconstruction.protocol import MAX_MISFIT_MM, Completion, Engine, SoftField, Surveyor
from calvaria.reconstruction.seen import Seen, see
from calvaria.reconstruction.shape_prior.engine import ShapePrior
from calvaria.reconstruction.told import on_posture, warnings_on
from calvaria.reconstruction.uncertainty import Uncertainty
from calvaria.reconstruction.word import UserWord
from calvaria.refinement.refine import TRUST, Refinement, Trust
from calvaria.refinement.refine import refine as refine_patch
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.checks import size_doubts
from calvaria.skull.partial import Scan
from calvaria.symmetry.plane import Plane
from calvaria.types import BoolArray
from calvaria.volume import Volume

if TYPE_CHECKING:
    from calvaria.implant.design import Memory
    from calvaria.implant.parts import Design, Part
    from calvaria.implant.settings import ImplantSettings
    from calvaria.metrics import Scores

MIN_HOLE_ML = 5.0
"""Holes of less missing bone are left open by default (of less than 2 ml beside a larger one): many are natural."""

Kind = Literal["auto", "mask", "ct"]
"""What a volume holds; "auto" tells by its values."""

Device = Literal["auto", "cpu", "cuda"]
"""Where a network runs."""

GIVEN = "the patch was given, not predicted: its accuracy is not known"
"""The reason for no expected accuracy."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What `reconstruct` gives back; all volumes are masks on the input's grid.

    Args:
        patch: the missing bone; empty if no defect was found.
        completed: defective skull and patch together.
        defective: the bone that is there: the input, or what was segmented out of a CT.
        plane: the mid-sagittal plane, world mm.
        frame: the canonical frame of this skull.
        holes: what was filled, largest first.
        confidence: what accuracy to expect, or why none can be said.
        report: model and its hash, pose, seconds of each stage, warnings.
        refinement: what was done to the engine's patch, where that was asked for and there is one.
        unrefined: the engine's patch, where ``patch`` is the refined one.
        soft: the engine's answer, in the common box of ``frame``, of which ``patch`` is cut; None of a refined patch,
            and of one of own bone.
        scan: the CT that bone was segmented out of, where that was the input.
        open_places: mask on a grid of its own: roughly the bone that is missing in openings that were left; None where
            there are none.
        uncertainty: how far the completed surface may lie elsewhere; None of a refined patch, of an engine that cannot
            say, without a hole, and beyond what was tested (`Confidence.beyond`).
    """

    patch: Volume
    completed: Volume
    defective: Volume
    plane: Plane
    frame: CanonicalFrame
    holes: tuple[Hole, ...]
    confidence: Confidence
    report: Report
    refinement: Refinement | None = None
    unrefined: Volume | None = None
    soft: SoftField | None = None
    scan: Scan | None = None
    open_places: Volume | None = None
    uncertainty: Uncertainty | None = None


@dataclass(frozen=True, eq=False)
class Refined(Reconstruction):
    """What `refine` gives back: as a reconstruction, but the patch was given.

    Args:
        refinement: what was done to it.
        unrefined: the patch as it was given, without the bone that is there; equal to ``patch`` where it was left so.
    """

    refinement: Refinement
    unrefined: Volume


def reconstruct(
    volume: Volume,
    *,
    engine: str = SHAPE_PRIOR,
    kind: Kind = "auto",
    device: Device = "auto",
    threshold_hu: float | None = None,
    min_hole_ml: float = MIN_HOLE_ML,
    refine: bool = False,
    word: UserWord | None = None,
    pre_op: Volume | None = None,
    flap: Volume | None = None,
    own_name: str | None = None,
    progress: Progress = unheard,
    name: str = "the volume",
) -> Reconstruction:
    """Give back the missing bone of a skull.

    Args:
        volume: a bone mask (two values) or a CT in HU.
        engine: name of the model that completes the skull, or its weights file.
        kind: what the volume is; "auto" tells by its values.
        device: where a network runs; the shape prior runs on the CPU.
        threshold_hu: bone of a CT ends at it, HU; None: half way up its edge, see `calvaria.skull.segment`.
        min_hole_ml: holes of less missing bone are left open and told; but by default 2 ml count beside a larger one.
        refine: whether the patch is then refined, as `refine` does with a given one.
        word: what the user knows: what to fill and what to leave open, bone that does not count, the plane.
        pre_op: a scan of the same head from before the operation, CT or mask: the patch is its bone where it fits.
        flap: a scan of the removed piece, CT or mask: it is put into the hole, and the kerf around it is closed.
        own_name: of the file of either; messages on it begin with it.
        progress: called when a stage begins.
        name: of the file or case; messages on the volume begin with it.

    Returns:
        The patch and everything known about it. A skull without a defect gives an empty patch, and a warning says so.

    Raises:
        InputError: the volume is neither mask nor CT, or shows no skull; a threshold is given for a mask; or there is
            no such model or device, or it cannot fill holes as small as that; or the user's word cannot be followed:
            a mask is empty, elsewhere or all in bone, nothing is open where was pointed at, or the model is none that
            can be pointed at something; or the scan from before is another person's, the removed piece does not fit,
            or both are given, or one together with ``refine``.
    """
    word = word or UserWord()
    own = OwnScan.asked(pre_op, flap, own_name, refine=refine)
    completer = _filling(load_engine(engine, device), engine, min_hole_ml)
    if word.points_at_something and not isinstance(completer, ShapePrior):
        raise InputError(
            f"the model {engine!r} finds holes in its own way: what to fill (a mask of the hole, seeds, a box) can be "
            f"said to a shape prior only, such as {SHAPE_PRIOR}"
        )
    prior = load_prior() if refine and not isinstance(completer, ShapePrior) else None
    clock = Clock(progress, REFINING_STAGES if refine else STAGES if own is None else OWN_STAGES)
    with _alone(), naming(name):
        asked = _Asked(kind, threshold_hu, min_hole_ml, name, word, own)
        return _reconstruct(volume, completer, prior, find(engine), clock=clock, asked=asked)


def refine(
    volume: Volume,
    patch: Volume,
    *,
    engine: str = SHAPE_PRIOR,
    kind: Kind = "auto",
    threshold_hu: float | None = None,
    device: Device = "auto",
    trust: Trust = "auto",
    progress: Progress = unheard,
    name: str = "the volume",
    patch_name: str = "the patch",
) -> Refined:
    """Displace a given patch smoothly to where the rest of the head says it belongs; see `calvaria.refinement`.

    The patch may come from anywhere: a network, a surgeon's sketch, an old implant, another program. On another grid it
    is resampled; bone that is there is taken off it; of a completed skull, what lies beyond the bone is the patch.

    Args:
        volume: the defective skull: a bone mask (two values) or a CT in HU.
        patch: the missing bone: a mask (two values) on any grid.
        engine: the shape prior that completes the skull for comparison, by name or weights file.
        kind: what the skull's volume is; "auto" tells by its values.
        threshold_hu: bone of a CT ends at it, HU; None: half way up its edge, see `calvaria.skull.segment`.
        device: "auto" or "cpu": the shape prior runs on the CPU.
        trust: what is believed more where patch and shape prior differ. "patch": it is only evened by symmetry and the
            bone around the hole; "prior": the shape prior pulls at any patch; "auto": as "prior", but a patch that
            agrees with the shape prior is left as it is.
        progress: called when a stage begins.
        name: of the skull's file or case; messages on it begin with it.
        patch_name: of the patch's file; messages on it begin with it.

    Returns:
        The refined patch and everything known about it. Where the shape prior sees no hole at the patch, or cannot be
        trusted, the patch is refined without it, and a warning says so.

    Raises:
        InputError: the volume is neither mask nor CT, or shows no skull; the patch is no mask, is empty, lies away from
            the head or all in its bone; a threshold is given for a mask; or there is no such shape prior, device or
            trust.
    """
    if trust not in TRUST:
        raise InputError(f"a refinement's trust is one of {', '.join(TRUST)}; got {trust!r}")
    completer = load_engine(engine, device)
    if not isinstance(completer, ShapePrior):
        raise InputError(f"the model {engine!r} is no shape prior; name one, such as {SHAPE_PRIOR}")
    with naming(patch_name):
        given = mask_of_patch(patch)
    clock = Clock(progress, REFINING_STAGES)
    with _alone():
        with naming(name):
            seen = see(volume, completer, clock.stage, kind=kind, threshold_hu=threshold_hu, name=name)
        with naming(patch_name), clock.stage("given"):
            given, notes = on_skull(given, seen.defective, seen.frame)
        with naming(name):
            return _refine(seen, given, notes, completer=completer, model=find(engine), clock=clock, trust=trust)


@contextmanager
def _alone() -> Iterator[None]:
    """The linear algebra of this process kept to one thread."""
    # Two threads load parts of scipy; racing for the package itself, one was seen to fail (KeyError: 'scipy').
    import_module("scipy.linalg")
    # Linear algebra that shares its work by itself waits by spinning, beside the engine's own two threads
    # (benchmarks/threads_speed.py).
    with threadpool_limits(1, user_api="blas"):
        yield


def _filling(completer: Engine, name: str, min_hole_ml: float) -> Engine:
    """The engine, told which holes to leave."""
    if not MIN_PIECE_ML <= min_hole_ml < math.inf:
        raise InputError(f"the smallest hole to fill must be {MIN_PIECE_ML} ml or more; got {min_hole_ml} ml")
    if min_hole_ml == MIN_HOLE_ML:
        return completer
    if not isinstance(completer, Surveyor):
        raise InputError(f"the smallest hole to fill cannot be set for {name!r}, which finds holes in its own way")
    return completer.with_min_hole_ml(min_hole_ml)


@dataclass(frozen=True)
class _Asked:
    """What `reconstruct` was asked for, as its arguments of the same names."""

    kind: Kind
    threshold_hu: float | None
    min_hole_ml: float
    name: str
    word: UserWord
    own: OwnScan | None = None


def _reconstruct(
    volume: Volume, completer: Engine, prior: ShapePrior | None, model: ModelInfo, *, clock: Clock, asked: _Asked
) -> Reconstruction:
    """The stages of `reconstruct`, one after the other."""
    seen = see(
        volume,
        completer,
        clock.stage,
        kind=asked.kind,
        threshold_hu=asked.threshold_hu,
        name=asked.name,
        word=asked.word,
    )
    defective, word = seen.defective, asked.word
    posed = Posed(seen.skull, seen.frame, seen.surface)
    chosen = complete_asked(completer, posed, defective, word, clock.stage)
    whole = chosen.done
    require_known_bone(whole.soft)
    frame, least_ml = whole.frame, SPECK_ML if word.points_at_something else asked.min_hole_ml
    done = whole._replace(soft=within_scan(whole.soft, whole.field, frame, defective.grid, least_ml))
    chosen = replace(chosen, done=done)
    with clock.stage("patch"), ThreadPoolExecutor(1) as beside:
        dropped = added_by(whole.soft, whole.field) & ~added_by(done.soft, done.field)
        told = beside.submit(
            what_is_open, completer, chosen, dropped, defective, asked.min_hole_ml, directed=word.points_at_something
        )
        patch = to_patch(done.soft, frame, defective, chosen.within, narrow=word.points_at_something)
        patch = off_kept(patch, word)
        if word.points_at_something and not patch.mask.any():
            raise InputError("no bone is missing where was pointed at: the patch would be empty; check the coordinates")
        rest, places = told.result()
    refinement, unrefined, notes = None, None, (*seen.notes, *chosen.lines)
    if "refinement" in clock.begins and patch.mask.any():
        with clock.stage("refinement"):
            compared = done if prior is None else prior.reconstruct(seen.skull, seen.frame, seen.surface)
            refinement, lines = _displaced(seen, patch, frame, compared, clock)
            unrefined, patch, notes = patch, _off(refinement.patch, defective), notes + lines
            # Moved or not, the user's word holds.
            patch = _as_said(patch, chosen.within, word)
    own = None
    if asked.own is not None:
        with clock.stage("own"):
            own = put_in(asked.own, completer.template, done, seen.surface, defective, min_hole_ml=least_ml)
            patch, rest, notes = _as_said(own.patch, chosen.within, word), own.unfilled(rest), notes + own.notes
    holes = _placed(patch, frame)
    ends = scan_end_doubts(frame, done.soft, defective.grid)
    unlike = size_doubts(frame, defective.grid)
    lines = unlike + ends
    moved = own is not None or (refinement is not None and not refinement.report.declined)
    surface = None if completer.calibration is None or moved else completer.calibration.surface
    uncertainty = Uncertainty.of(done.soft, frame, surface, sum(hole.area_cm2 for hole in holes))
    voxel_mm = max(defective.grid.spacing_mm)
    confidence = judge(done, holes, completer.calibration, uncertainty, voxel_mm=voxel_mm, unseen=ends)
    confidence = (confidence if own is None else own.confidence(confidence)).doubted(unlike)
    lines += unseen(defective, frame, lines) + tuple(left_open_line(one) for one in rest if not one.meant)
    report = clock.report(
        model,
        frame,
        (*notes, *warnings_on(frame, holes, confidence, lines, asked.min_hole_ml)),
        left_open=rest,
        checks=gates(done, rest, defective.grid, confidence),
        own_bone=None if own is None else own.report,
    )
    completed = defective.with_data(defective.mask | patch.mask)
    found = (patch, completed, defective, frame.plane, frame, holes, confidence, report)
    left = Volume(places, box_grid().moved(box_to_world(frame))) if places.any() else None
    soft = None if moved else done.soft
    # Beyond what was tested nobody knows what the engine's own spread means.
    known = None if confidence.outer_within_mm is None else uncertainty
    return Reconstruction(*found, refinement, unrefined, soft, seen.scan, left, known)


def _refine(
    seen: Seen,
    given: Volume,
    notes: tuple[str, ...],
    *,
    completer: ShapePrior,
    model: ModelInfo,
    clock: Clock,
    trust: Trust,
) -> Refined:
    """The stages of `refine` that follow when the patch is on the skull."""
    defective = seen.defective
    done = completer.reconstruct(seen.skull, seen.frame, seen.surface, clock.stage)  # the stages hole and completion
    # The pose that was settled with a completion which cannot be a skull's is no better than the one before.
    frame = done.frame if done.soft.misfit_mm <= MAX_MISFIT_MM else seen.frame
    with clock.stage("refinement"):
        refinement, lines = _displaced(seen, given, frame, done, clock, trust=trust)
        patch = _off(refinement.patch, defective)
    holes = _placed(patch, frame)
    lines = (*notes, *lines, *size_doubts(frame, defective.grid), *on_posture(frame))
    report = clock.report(model, frame, (*seen.notes, *lines))
    completed = defective.with_data(defective.mask | patch.mask)
    found = (patch, completed, defective, frame.plane, frame, holes, Confidence(None, GIVEN), report)
    return Refined(*found, refinement, given, scan=seen.scan)


def _displaced(
    seen: Seen, patch: Volume, frame: CanonicalFrame, done: Completion, clock: Clock, *, trust: Trust = "auto"
) -> tuple[Refinement, tuple[str, ...]]:
    """A patch refined, and why the shape prior was left out of it, if it was without being asked for."""
    prior, lines = (None, ()) if trust == "patch" else prior_for(done, patch)
    progress = clock.within("refinement")
    refined = refine_patch(seen.defective, patch, frame, prior, TRUST[trust], surface=seen.surface, progress=progress)
    return refined, lines


def _off(patch: Volume, defective: Volume) -> Volume:
    """A patch that keeps off the bone, whatever moved it."""
    return patch.with_data(patch.mask & ~defective.mask) if (patch.mask & defective.mask).any() else patch


def _as_said(patch: Volume, within: BoolArray | None, word: UserWord) -> Volume:
    """A patch that was moved or made of other bone, where the user lets it be."""
    return off_kept(patch if within is None else patch.with_data(patch.mask & within), word)


def _placed(patch: Volume, frame: CanonicalFrame) -> tuple[Hole, ...]:
    """The pieces of a patch, with their positions on the head."""
    return tuple(replace(hole, place=place_of(hole.centre_mm, frame)) for hole in holes_in(patch))


def design(
    result: Reconstruction,
    settings: ImplantSettings | None = None,
    *,
    learned: str | None = None,
    device: Device = "auto",
    progress: Progress = unheard,
    memory: Memory | None = None,
    formed: Callable[[tuple[Part, ...]], object] = lambda parts: None,
) -> Design:
    """Design the implants for what was missing; see `calvaria.implant`.

    Args:
        result: of `reconstruct` or `refine`.
        settings: thickness, clearance, rim, details; see `calvaria.implant.settings.ImplantSettings`.
        learned: a cascade, by name or weights file, whose implant branch says what the implants are; None: parameters.
        device: where that runs.
        progress: called now and then.
        memory: new, or from an earlier design for this result: what the settings did not change is not found again.
        formed: called with the implants when they have their shape, before they are measured.

    Returns:
        An implant for each hole, in world LPS mm, and all that was measured of them.

    Raises:
        InputError: nothing is missing, there is no bone around a hole, or nothing is left of an implant after what was
            asked for; or the model has no implant branch, or finds no hole.
    """
    from calvaria.implant.design import design as design_implants
    from calvaria.implant.learned import learned_solid, require_learned

    with _alone():
        solid = None
        if learned is not None:
            solid = learned_solid(require_learned(learned, device), result.defective, result.frame, result.soft)
        outer = None if result.soft is None else surface_of(result.soft, result.frame)
        return design_implants(
            result.defective,
            result.patch,
            result.frame.to_world,
            settings,
            outer=outer,
            scan=result.scan,
            learned=solid,
            progress=progress,
            memory=memory,
            formed=formed,
        )


def evaluate(patch: Volume, truth: Volume, defective: Volume) -> Scores:
    """Score a patch by the challenge's definitions; see `calvaria.metrics.score`."""
    from calvaria.metrics import score

    return score(patch, truth, defective)


__all__ = [
    "MIN_HOLE_ML",
    "OWN_STAGES",
    "REFINING_STAGES",
    "STAGES",
    "Device",
    "Kind",
    "ModelUsed",
    "PoseReport",
    "Reconstruction",
    "Refined",
    "Report",
    "UserWord",
    "design",
    "evaluate",
    "reconstruct",
    "refine",
]
