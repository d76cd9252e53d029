"""What only this patient has, from its scan to the patch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar, cast

import numpy as np

from calvaria.errors import InputError, naming
from calvaria.models.calibration import Expected
from calvaria.reconstruction.confidence import Confidence
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.own_bone.fill import FITTING_MM, OwnBone, fill
from calvaria.reconstruction.own_bone.flap import FlapFit, lay_flap
from calvaria.reconstruction.own_bone.piece import piece_of
from calvaria.reconstruction.own_bone.pre_op import OldSkull, PreOpFit, lay_pre_op
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.bone import bone_of
from calvaria.skull.canonical import locate
from calvaria.skull.checks import require_head_sized
from calvaria.skull.template import Template
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume, bounding_box

AnyHole = TypeVar("AnyHole", bound=Hole)

Which = Literal["pre-op", "flap"]
"""A scan of the head from before the operation, or one of the removed piece."""

NAMES: dict[Which, str] = {"pre-op": "the scan from before", "flap": "the removed piece"}
"""As messages call them, where there is no file."""

DSC_AT_0, DSC_PER_MM, DSC_SPREAD = 0.986, -0.13, 0.01
"""Expected Dice of a patch of bone from an old scan: at a mean distance of 0 mm of the surfaces that both scans show,
and its change with that; and how far true values lie off. From `calvaria.benchmarks.own_bone`."""

FLAP_DSC, FLAP_PER_KERF_MM, FLAP_SPREAD = 0.985, -0.0035, 0.012
"""The same of a removed piece, by the width of its kerf."""

LIMITS_SD = 1.64
"""So many spreads to either side hold nine tenths of normally distributed values."""

ENGINE_DSC = 0.85
"""What is expected of the engine's share of the patch where it says nothing itself."""

FILLED_MM = 3.0
"""An opening is filled where own bone lies so near to its centre."""

MIN_SHARE, MIN_RIM = 0.9, 0.9
"""Less own bone in the patch, or less of the rim that it meets, is worth a warning."""


@dataclass(frozen=True, eq=False)
class OwnScan:
    """What was given of the patient's own bone.

    Args:
        volume: a CT or a mask.
        which: of the head from before, or of the removed piece.
        name: of the file; messages on it begin with it.
    """

    volume: Volume
    which: Which
    name: str

    @classmethod
    def asked(cls, pre_op: Volume | None, flap: Volume | None, name: str | None, *, refine: bool) -> OwnScan | None:
        """What was given, or None.

        Raises:
            InputError: both were, or the patch is to be refined as well.
        """
        given = pre_op if flap is None else flap
        if given is None:
            return None
        if pre_op is not None and flap is not None:
            raise InputError(
                "a scan from before and one of the removed piece are given: give one of them; the first shows more"
            )
        if refine:
            raise InputError("a patch of the patient's own bone is not refined by symmetry: leave --refine out")
        which: Which = "pre-op" if flap is None else "flap"
        return cls(given, which, name or NAMES[which])


@dataclass(frozen=True)
class OwnBoneReport:
    """How well the patient's own bone fits.

    Args:
        scan: which it was.
        share: of the patch that is own bone; the rest is the model's.
        rim_share: share of the rim's surface that it meets within half a millimetre.
        fit: the figures of its position.
    """

    scan: Which
    share: float
    rim_share: float
    fit: PreOpFit | FlapFit


@dataclass(frozen=True, eq=False)
class OwnPatch:
    """The missing bone, own as far as there is own bone.

    Args:
        patch: mask on the skull's grid.
        report: its figures.
        notes: what is doubtful, a line each.
    """

    patch: Volume
    report: OwnBoneReport
    notes: tuple[str, ...]

    def unfilled(self, openings: tuple[AnyHole, ...]) -> tuple[AnyHole, ...]:
        """Those of the engine's openings that this patch leaves open, too."""
        centres = self.patch.grid.to_index(np.array([one.centre_mm for one in openings]).reshape(-1, 3))
        reach = np.ceil(FILLED_MM / np.asarray(self.patch.grid.spacing_mm))
        kept = []
        for one, centre in zip(openings, centres, strict=True):
            low, high = np.maximum(centre - reach, 0).astype(int), np.maximum(centre + reach + 1, 0).astype(int)
            around = self.patch.mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            if not around.any():
                kept.append(one)
        return tuple(kept)

    def confidence(self, engine: Confidence) -> Confidence:
        """What accuracy to expect: that of own bone by its fit, and the engine's for the rest.

        Args:
            engine: what is expected of the engine's patch.
        """
        if not self.patch.mask.any():
            return engine
        report = self.report
        if isinstance(report.fit, PreOpFit):
            own, spread = DSC_AT_0 + DSC_PER_MM * report.fit.mean_mm, DSC_SPREAD
        else:
            own, spread = FLAP_DSC + FLAP_PER_KERF_MM * report.fit.kerf_mm, FLAP_SPREAD
        rest = ENGINE_DSC if engine.expected_dsc is None else engine.expected_dsc
        expected = float(np.clip(report.share * own + (1 - report.share) * rest, 0.0, 1.0))
        low, high = (round(float(np.clip(expected + sign * LIMITS_SD * spread, 0.0, 1.0)), 3) for sign in (-1, 1))
        expected = round(expected, 3)
        reason = (
            f"{report.share:.0%} of the patch are the patient's own bone, from simulated scans that fit as well; true "
            f"values lie +-{spread:.3f}"
        )
        measures = (Expected("dsc", expected, low, high),)
        return replace(engine, expected_dsc=expected, reason=reason, expected=measures, beyond="")


def put_in(
    own: OwnScan, template: Template, done: Completion, skull: BoneSurface, defective: Volume, *, min_hole_ml: float
) -> OwnPatch:
    """Lay the patient's own bone onto the skull and fill what is missing with it.

    Args:
        own: what was given.
        template: the mean skull to which poses are registered.
        done: the engine's completion of the skull.
        skull: surface of the bone that is there.
        defective: its mask, on the input's grid.
        min_hole_ml: pieces of less missing bone are left out.

    Raises:
        InputError: it shows no bone, is another person's, or does not fit.
    """
    with naming(own.name):
        bone, fit, notes = _laid(own, template, done, skull)
    filled = fill(bone, done, skull, defective, min_hole_ml)
    rim_share = fit.meeting if isinstance(fit, FlapFit) else filled.rim_share
    report = OwnBoneReport(own.which, round(filled.share, 3), round(rim_share, 3), fit)
    if filled.patch.mask.any():
        notes += _doubts(report)
    return OwnPatch(filled.patch, report, notes)


def _laid(
    own: OwnScan, template: Template, done: Completion, skull: BoneSurface
) -> tuple[OwnBone, PreOpFit | FlapFit, tuple[str, ...]]:
    if own.which == "flap":
        return *lay_flap(piece_of(own.volume), done, skull), ()
    old, notes = _old_skull(own, template)
    return *lay_pre_op(old, skull, done.frame), notes


def _old_skull(own: OwnScan, template: Template) -> tuple[OldSkull, tuple[str, ...]]:
    """The skull before the operation; what is as large as its scan is let go."""
    segmented = bone_of(own.volume, name=own.name)
    bone, scan = segmented.bone, segmented.scan
    box = cast(Box, bounding_box(bone.mask, (1, 1, 1)))  # there is bone
    part = bone.crop(box)
    require_head_sized(part)
    frame = locate(part, template)
    surface = BoneSurface.of(part if scan is None else scan.fraction(bone, box))
    return OldSkull(surface, frame, bone.grid), tuple(f"{NAMES['pre-op']}: {line}" for line in segmented.notes)


def _doubts(report: OwnBoneReport) -> tuple[str, ...]:
    """What is doubtful of a patch of own bone, a line each."""
    lines = []
    if report.share < MIN_SHARE:
        lines.append(f"only {report.share:.0%} of the patch are the patient's own bone: the rest is the model's")
    if report.scan == "pre-op" and report.rim_share < MIN_RIM:
        lines.append(
            f"only {report.rim_share:.0%} of the rim lie within {FITTING_MM:g} mm of the bone from before: the model "
            "fills what lies beside the rest"
        )
    return tuple(lines)


__all__ = ["NAMES", "OwnBoneReport", "OwnPatch", "OwnScan", "put_in"]
