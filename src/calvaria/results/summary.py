"""A record in lines for a reader."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from calvaria.results.design_summary import failed_line

if TYPE_CHECKING:
    from calvaria.metrics import Scores
    from calvaria.reconstruction.own_bone.scans import OwnBoneReport
    from calvaria.refinement.refine import RefinementReport
    from calvaria.results.design_record import DesignRecord
    from calvaria.results.record import Record


def summary_lines(record: Record) -> list[str]:
    """A record in lines for a reader."""
    from calvaria.reconstruction.holes import left_open_line

    lines = []
    if record.patch.empty:
        limit = f"no defect of {record.parameters.min_hole_ml:g} ml or more found"
        lines.append(f"{limit}: the patch is empty, the completed skull is the input's bone")
    for number, hole in enumerate(record.holes, 1):
        lines.append(f"hole {number}: {hole.volume_ml:.1f} ml, {hole.area_cm2:.1f} cm2")
    if not record.patch.empty:
        lines.append(f"patch: {record.patch.volume_ml:.1f} ml")
    # What the user did not decide stands among the warnings already.
    told = (left_open_line(one) for one in record.left_open)
    lines += [line for line in told if line not in record.warnings]
    if record.refinement is not None:
        lines.append(refinement_line(record.refinement))
    if record.own_bone is not None:
        lines.append(own_bone_line(record.own_bone))
    if record.scores is not None:
        lines.append("against the truth: " + score_line(record.scores))
    lines.append(f"expected accuracy: {record.confidence.text} ({record.confidence.reason})")
    if record.confidence.outer_within_mm is not None:
        lines.append(f"outer surface: expected within {record.confidence.outer_within_mm:.1f} mm on 90 % of the patch")
    if record.checks:
        verdicts = [one.verdict for one in record.checks]
        lines.append(f"checks: {', '.join(f'{verdicts.count(one)} {one}' for one in sorted(set(verdicts)))}")
    used = "" if record.peak_memory_mb is None else f", {record.peak_memory_mb:.0f} MB"
    lines.append(f"took {record.seconds.total:.1f} s{used}")
    return lines


def score_line(scores: Scores) -> str:
    """The three official scores of one case.

    >>> from calvaria.metrics import Scores
    >>> score_line(Scores(dsc=0.94, bdsc=0.96, hd95_mm=1.35, volume_error_percent=2.0, overlap_voxels=0))
    'DSC 0.940, bDSC 0.960, HD95 1.35 mm'
    """
    # Infinite is the distance to an empty patch; a border Dice is not defined where no bone lies near.
    distance = f"{scores.hd95_mm:.2f} mm" if math.isfinite(scores.hd95_mm) else "infinite"
    border = "n/a" if math.isnan(scores.bdsc) else f"{scores.bdsc:.3f}"
    return f"DSC {scores.dsc:.3f}, bDSC {border}, HD95 {distance}"


def refinement_line(report: RefinementReport) -> str:
    """What a refinement did, or why it did nothing."""
    if report.declined:
        return f"left as it was: {report.reason}"
    symmetry = f"{report.symmetry_before:.3f} -> {report.symmetry_after:.3f}"
    moved = f"{report.mean_mm:.1f} mm on average, {report.max_mm:.1f} mm at most"
    return f"refined: moved by {moved}; symmetry loss {symmetry} ({report.reason})"


def own_bone_line(report: OwnBoneReport) -> str:
    """How much of the patch is the patient's own bone, and how it fits."""
    from calvaria.reconstruction.own_bone.pre_op import PreOpFit

    fit = report.fit
    if isinstance(fit, PreOpFit):
        where = f"surfaces of both scans {fit.mean_mm:.2f} mm apart, {fit.agreeing:.0%} of the vault within 0.5 mm"
    else:
        where = f"kerf {fit.kerf_mm:.1f} mm, step at the rim {fit.step_mm:.1f} mm"
    return f"own bone ({report.scan}): {report.share:.0%} of the patch, {report.rim_share:.0%} of the rim met; {where}"


def timing_lines(record: Record | DesignRecord) -> list[str]:
    """The seconds of every stage, for -v."""
    lines = [f"  {name}: {seconds:.2f} s" for name, seconds in record.seconds.steps.items()]
    return lines + [f"    {name}: {seconds:.2f} s" for name, seconds in record.seconds.stages.items()]


__all__ = ["failed_line", "own_bone_line", "refinement_line", "score_line", "summary_lines", "timing_lines"]
