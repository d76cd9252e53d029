#!/usr/bin/env python-real
"""3D Slicer module: an implant for the hole in a skull, and its checks."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

from calvaria_slicer.asked import options, search
from calvaria_slicer.module import call, one_of
from calvaria_slicer.stl import join

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

IMPLANT = (
    "thickness_mm",
    "clearance_mm",
    "flange_width_mm",
    "temporal_relief_mm",
    "perforations",
    "suture_holes",
    "plate_seats",
)
"""Parameters that are options of calvaria."""

COLUMNS = ("part", "name", "verdict", "value", "unit", "limit")
"""Of the table of checks."""


def words(asked: argparse.Namespace) -> list[str]:
    """What calvaria is called with; pictures are drawn where files are kept."""
    found = ["design", asked.skull, *search(asked), *options(asked, IMPLANT)]
    found += ["--thickness", "bone"] if asked.bone_thickness else []
    return found if asked.folder else [*found, "--no-preview"]


def deliver(asked: argparse.Namespace, folder: Path) -> None:
    """The files that Slicer reads back: all implants as one model, and the checks, bad ones first."""
    (record,) = one_of(folder, "design.json")
    found = json.loads(record.read_text(encoding="utf-8"))
    join([folder / f"{part['name']}.stl" for part in found["parts"]], asked.implant)
    bad_first = sorted(found["checks"], key=lambda one: ("fail", "warn", "pass").index(one["verdict"]))
    with open(asked.checks, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows([_text(one[name]) for name in COLUMNS] for one in bad_first)


def _text(value: object) -> str:
    """A value as it is read."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(call(__file__, words, deliver, sys.argv[1:]))
