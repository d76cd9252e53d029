"""A record of result.json in lines for a reader."""

from __future__ import annotations

from typing import Any


def summary_lines(record: dict[str, Any]) -> list[str]:
    """A record in lines for a reader."""
    lines = []
    if record["patch"]["empty"]:
        lines.append("no defect found: the patch is empty, the completed skull is the input's bone")
    for number, hole in enumerate(record["holes"], 1):
        lines.append(f"hole {number}: {hole['volume_ml']:.1f} ml, {hole['area_cm2']:.1f} cm2")
    if not record["patch"]["empty"]:
        lines.append(f"patch: {record['patch']['volume_ml']:.1f} ml")
    if "scores" in record:
        lines.append("against the truth: " + score_line(record["scores"]))
    expected, reason = record["confidence"]["expected_dsc"], record["confidence"]["reason"]
    lines.append(f"expected accuracy: {'unknown' if expected is None else f'DSC {expected:.2f}'} ({reason})")
    memory = record["peak_memory_mb"]
    used = "" if memory is None else f", {memory:.0f} MB"
    lines.append(f"took {record['seconds']['total']:.1f} s{used}")
    return lines


def score_line(scores: dict[str, Any]) -> str:
    """The three official scores of one case.

    >>> score_line({"dsc": 0.94, "bdsc": 0.96, "hd95_mm": 1.35})
    'DSC 0.940, bDSC 0.960, HD95 1.35 mm'
    """
    # result.json has null for the distance to an empty patch, which is infinite
    distance = "infinite" if scores["hd95_mm"] is None else f"{scores['hd95_mm']:.2f} mm"
    # ... and for a border Dice that is not defined, as no bone lies near
    border = "n/a" if scores["bdsc"] is None else f"{scores['bdsc']:.3f}"
    return f"DSC {scores['dsc']:.3f}, bDSC {border}, HD95 {distance}"


def timing_lines(record: dict[str, Any]) -> list[str]:
    """The seconds of every stage, for -v."""
    seconds = record["seconds"]
    steps = {name: value for name, value in seconds.items() if name not in {"stages", "total"}}
    lines = [f"  {name}: {value:.2f} s" for name, value in steps.items()]
    return lines + [f"    {name}: {value:.2f} s" for name, value in seconds["stages"].items()]
