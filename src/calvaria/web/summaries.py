"""What the page says of a case and of a design: lines, warnings, checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from calvaria.results.design_summary import limit_words, value_words
from calvaria.results.summary import own_bone_line, summary_lines

if TYPE_CHECKING:
    from calvaria.implant.parts import Check, Design
    from calvaria.results.record import Record


def of_record(record: Record) -> dict[str, Any]:
    """A reconstruction: what result.json and the command line say of it."""
    from calvaria.io.result import json_ready

    confidence = record.confidence
    found: dict[str, Any] = json_ready(
        {
            "lines": summary_lines(record),
            "warnings": list(record.warnings),
            "checks": _checks(record.checks),
            "failed": bool(record.failed),
            "empty": record.patch.empty,
            "volume_ml": record.patch.volume_ml,
            "holes": [{"volume_ml": one.volume_ml, "area_cm2": one.area_cm2} for one in record.holes],
            "expected": [one.text for one in confidence.expected],
            "expected_reason": confidence.reason,
            "outer_within_mm": confidence.outer_within_mm,
            "own_bone": None if record.own_bone is None else own_bone_line(record.own_bone),
            "seconds": record.seconds.total,
            "files": list(record.files),
        }
    )
    return found


def of_design(design: Design, record: Record) -> dict[str, Any]:
    """A design that need not be written yet."""
    from calvaria.implant.checks import DENSITIES
    from calvaria.implant.measure import outer_area_mm2
    from calvaria.io.result import json_ready

    parts = []
    for part in design.parts:
        volume_ml = float(part.mesh.volume_ml)
        parts.append(
            f"{part.name}: {outer_area_mm2(part) / 100:.1f} cm², {volume_ml:.1f} ml, "
            f"{volume_ml * DENSITIES['PEEK']:.1f} g in PEEK"
        )
    checks = _checks((*record.failed, *design.checks))
    found: dict[str, Any] = json_ready({"lines": parts, "warnings": list(design.notes), "checks": checks})
    return found


def _checks(checks: Iterable[Check]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "value": value_words(_plain(one)).replace("cm2", "cm²"),
            "limit": limit_words(one).strip("()").removeprefix("limit: "),
            "verdict": one.verdict,
            "part": one.part,
            "source": one.source,
        }
        for one in checks
    ]


def _plain(check: Check) -> Check:
    """A check whose value is none of numpy's."""
    value: Any = check.value
    return replace(check, value=value.item()) if hasattr(value, "item") else check


__all__ = ["of_design", "of_record"]
