"""A design in lines for a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calvaria.results.design_record import VERDICTS

if TYPE_CHECKING:
    from calvaria.implant.parts import Check
    from calvaria.results.design_record import DesignRecord, PartRecord
    from calvaria.results.record import Record


def design_lines(record: DesignRecord, *, every_check: bool = False) -> list[str]:
    """A design in lines for a reader.

    Args:
        record: what design.json holds.
        every_check: list the checks that passed too.
    """
    lines = [part_line(part) for part in record.parts]
    if record.checks:
        lines.append(f"checks: {count_words(record)}")
        lines += check_lines([one for one in record.checks if every_check or one.verdict != "pass"])
    lines.append(f"expected accuracy of the missing bone: {record.confidence.text} ({record.confidence.reason})")
    used = "" if record.peak_memory_mb is None else f", {record.peak_memory_mb:.0f} MB"
    lines.append(f"took {record.seconds.total:.1f} s{used}")
    return lines


def short_lines(record: DesignRecord) -> list[str]:
    """A design of a folder's many, in few words."""
    lines = [part_line(part) for part in record.parts]
    return [*lines, failed_line(record)] if record.failed else [*lines, f"checks: {count_words(record)}"]


def part_line(part: PartRecord) -> str:
    """An implant in a line."""
    from calvaria.implant.checks import DENSITIES

    mass = part.volume_ml * DENSITIES["PEEK"]
    return (
        f"{part.name}: {part.area_cm2:.1f} cm2, {part.thickness_mm:.1f} mm thick, {part.volume_ml:.1f} ml, "
        f"{mass:.1f} g in PEEK"
    )


def count_words(record: DesignRecord) -> str:
    """How many checks came out how."""
    verdicts = [check.verdict for check in record.checks]
    return ", ".join(f"{verdicts.count(one)} {one}" for one in VERDICTS if one in verdicts) or "none"


def check_lines(checks: list[Check]) -> list[str]:
    """A table of checks: verdict, name, value, limit, implant."""
    rows = [(one.verdict, one.name, value_words(one), limit_words(one), one.part) for one in checks]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip() for row in rows
    ]


def value_words(check: Check) -> str:
    """What was measured, with its unit."""
    value = check.value
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    # Four digits, and no exponent: 123456 triangles, 0.0004 ml.
    said = f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{said} {check.unit}".rstrip()


def limit_words(check: Check) -> str:
    """The limit with its unit, where it is a number's."""
    if not check.limit:
        return ""
    # "at least 95 within 0.2 mm" has its own unit.
    unit = f" {check.unit}" if check.unit and check.limit[-1:].isdigit() else ""
    return f"(limit: {check.limit}{unit})"


def failed_line(record: DesignRecord | Record) -> str:
    """The checks of a design or of a reconstruction that failed, in a line."""
    count = len(record.failed)
    said = "; ".join(
        f"{one.name}{f' of {one.part}' if one.part else ''}: {value_words(one)} {limit_words(one)}".rstrip()
        for one in record.failed
    )
    return f"{count} check{'s' if count > 1 else ''} failed: {said}"


__all__ = ["design_lines", "failed_line", "part_line", "short_lines"]
