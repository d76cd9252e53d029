"""The gates of a reconstruction: what is measured of every patch, and from where on it must not be used as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calvaria.reconstruction.confidence import Confidence
from calvaria.reconstruction.doubts import BEYOND_ML, beyond_scan_ml
from calvaria.reconstruction.holes import NATURAL, REST, LeftOpen
from calvaria.reconstruction.openings import added_by, voxel_ml
from calvaria.reconstruction.protocol import Completion
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.checks import usual_ratios
from calvaria.volume.grid import Grid

Verdict = Literal["pass", "warn", "fail"]

MAX_BEYOND_ML = 0.5
"""A patch of which more than this lies where the scan shows nothing fails; less than `BEYOND_ML` is rounding."""

MAX_REST_CM2 = 1.0
"""An opening of more than this, 11 mm across, is no drill hole for a suture."""


OUTER = "expected error of the outer surface"

DOUBTFUL_OUTER_MM, MAX_OUTER_MM = 1.5, 2.5
"""Above the first an expected error of the outer surface is worth a warning, above the second the check has failed."""

DOUBTFUL_MEAN_MM, MAX_MEAN_MM = 1.0, 1.5
"""The same of its mean over the patch; published methods have 0.7 on average."""


@dataclass(frozen=True)
class Check:
    """One thing that was measured of a reconstruction or of an implant.

    Args:
        name: what, in a few words.
        value: measured; None where it could not be.
        unit: of value and limit.
        limit: as it is read, such as "at least 1.5" or "0".
        verdict: pass, warn or fail.
        source: what the limit is based on.
        part: the implant's name; "" for the design as a whole.
    """

    name: str
    value: float | str | bool | None
    unit: str
    limit: str
    verdict: Verdict
    source: str
    part: str = ""


def gates(
    done: Completion, rest: Sequence[LeftOpen], grid: Grid, confidence: Confidence | None = None
) -> tuple[Check, ...]:
    """Everything that decides whether a reconstruction passes.

    Args:
        done: the completion, of which the patch is cut.
        rest: what was left open.
        grid: of the scan, whole.
        confidence: what accuracy is expected, where something is.
    """
    return (*_outer(confidence), *_beyond(done, grid), *_sizes(done.frame), _open_rest(rest))


def _outer(confidence: Confidence | None) -> Iterator[Check]:
    if confidence is None:
        return
    within_mm = confidence.outer_within_mm
    if within_mm is not None:
        verdict = _verdict(within_mm, DOUBTFUL_OUTER_MM, MAX_OUTER_MM)
        limit = f"at most {MAX_OUTER_MM:g} on 90 % of the patch"
        yield Check(OUTER, within_mm, "mm", limit, verdict, "a step of 2 to 3 mm is seen and felt")
    for one in confidence.expected:
        if one.name == "outer_mm":
            verdict = _verdict(one.value, DOUBTFUL_MEAN_MM, MAX_MEAN_MM)
            source = "published methods have 0.7 on average"
            yield Check(f"{OUTER}, mean", one.value, "mm", f"at most {MAX_MEAN_MM:g}", verdict, source)


def _verdict(value: float, doubtful: float, most: float) -> Verdict:
    return "fail" if value > most else ("warn" if value > doubtful else "pass")


def _beyond(done: Completion, grid: Grid) -> Iterator[Check]:
    added = added_by(done.soft, done.field)
    if not added.any():
        return
    outside_ml = beyond_scan_ml(done.frame, done.soft, grid)
    unknown_ml = float(np.count_nonzero(added & ~done.field.known)) * voxel_ml(done.frame)
    value = round(outside_ml + unknown_ml, 3)
    verdict = _verdict(value, BEYOND_ML, MAX_BEYOND_ML)
    yield Check(
        "patch beyond the scan's end",
        value,
        "ml",
        f"at most {MAX_BEYOND_ML:g}",
        verdict,
        "what no scan shows is a guess",
    )


def _sizes(frame: CanonicalFrame) -> Iterator[Check]:
    for name, value, (low, high) in usual_ratios(frame):
        verdict: Verdict = "pass" if low <= value <= high else "fail"
        yield Check(f"pose, {name}", round(value, 4), "", f"{low:g} to {high:g}", verdict, "85 complete skulls")


def _open_rest(rest: Sequence[LeftOpen]) -> Check:
    """What stays open and should not; small by the setting or not all in the scan, it is only worth a warning."""
    counted = [one for one in rest if not one.meant]
    largest = max(counted, key=lambda one: one.area_cm2, default=None)
    value = 0.0 if largest is None else round(float(largest.area_cm2), 3)
    verdict: Verdict = "pass"
    if value > MAX_REST_CM2:
        failed = any(one.area_cm2 > MAX_REST_CM2 and one.reason in {NATURAL, REST} for one in counted)
        verdict = "fail" if failed else "warn"
    return Check(
        "largest opening left", value, "cm2", f"at most {MAX_REST_CM2:g}", verdict, "a burr hole has 1 to 2 cm2"
    )


__all__ = ["Check", "Verdict", "gates"]
