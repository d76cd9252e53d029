"""Seconds of an implant in the page of ``calvaria serve``: the first one, and another for each slider that is moved.

::

    python benchmarks/redesign_speed.py --data autoimplant2020
    python benchmarks/redesign_speed.py --data autoimplant2020 --kind hemicraniectomy --limit 1 --files

Test persons with their holes; each is reconstructed and designed as a worker of the page does it, and then one slider
after the other is moved and stays there. Counted are seconds from the wish to the shape that is shown, and to the
implant that is checked; the same designs are made by a worker that remembers nothing, and beside the seconds stands how
far its implants lie off (0: they are the same). With ``--files``, what a saved zip costs besides.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from calvaria.benchmarks.cases import build, tasks_of
from calvaria.benchmarks.script import run_while_read
from calvaria.implant.memory import Memory
from calvaria.implant.parts import Part
from calvaria.implant.settings import ImplantSettings
from calvaria.io import write_volume
from calvaria.pipeline import Reconstruction, design
from calvaria.results.settings import Settings
from calvaria.volume import Volume
from calvaria.web.asked import Asked
from calvaria.web.brought import FILES
from calvaria.web.messages import Design as Wish
from calvaria.web.messages import Designed, Failed, News, Reconstructed, Run, Shaped, Write, Written
from calvaria.web.work import Desk

MOVES: tuple[dict[str, Any], ...] = (
    {"thickness_mm": 4.5},
    {"thickness_mm": 5.0},
    {"clearance_mm": 1.0},
    {"bevel_deg": 10.0},
    {"flatten": 0.3},
    {"perforations": True},
    {"pitch_mm": 12.0},
    {"perforations": False, "plate_seats": 4},
)
"""Each on top of those before."""


class Page:
    """One case at a desk, and when it told what."""

    def __init__(self, folder: Path, defective: Volume) -> None:
        (folder / FILES).mkdir(parents=True)
        write_volume(folder / FILES / "00001.nrrd", defective)
        self.news: list[tuple[float, News]] = []
        self.desk = Desk(lambda one: self.news.append((time.perf_counter(), one)))
        self.run = Run(folder, Asked(Settings(preview=False)))
        self.desk.do(self.run)
        self.told(Reconstructed)
        self.number = 0

    def told(self, kind: type) -> float:
        """When it told that last.

        Raises:
            SystemExit: it told of a failure.
        """
        for _, one in self.news:
            if isinstance(one, Failed):
                sys.exit(one.text)
        return max(when for when, one in self.news if isinstance(one, kind))

    def prepared(self) -> tuple[float, float, float]:
        """Seconds of what an idle worker does before anybody asks, wall twice, and processor seconds."""
        began, worked = time.perf_counter(), time.process_time()
        self.desk.prepare()
        seconds = time.perf_counter() - began
        return seconds, seconds, time.process_time() - worked

    def wish(self, settings: ImplantSettings) -> tuple[float, float, float]:
        """Seconds to the shape and to the checks, wall, and processor seconds."""
        self.number += 1
        began, worked = time.perf_counter(), time.process_time()
        self.desk.do(Wish(self.run, settings, self.number))
        return self.told(Shaped) - began, self.told(Designed) - began, time.process_time() - worked

    def written(self, settings: ImplantSettings) -> float:
        """Seconds of its files."""
        began = time.perf_counter()
        self.desk.do(Write(self.run, settings, self.number))
        return self.told(Written) - began


def off_mm(one: tuple[Part, ...], other: tuple[Part, ...]) -> float:
    """How far the vertices of implants lie apart; infinite where their triangles differ."""
    apart = [0.0]
    for a, b in zip(one, other, strict=True):
        same = np.array_equal(a.mesh.faces, b.mesh.faces)
        apart.append(float(np.abs(a.mesh.vertices_mm - b.mesh.vertices_mm).max()) if same else np.inf)
    return max(apart)


def stages(result: Reconstruction, memory: Memory, settings: ImplantSettings) -> tuple[dict[str, float], float, float]:
    """Seconds by stage with a memory, of a design without, and how far the implants lie apart."""
    kept = design(result, settings, memory=memory)
    began = time.perf_counter()
    fresh = design(result, settings)
    seconds = time.perf_counter() - began
    if [one.value for one in kept.checks] != [one.value for one in fresh.checks]:
        sys.stdout.write(f"the checks differ: {settings}\n")
    return kept.seconds, seconds, off_mm(kept.parts, fresh.parts)


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description="seconds of an implant in the page")
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--kind", action="append", help="kinds of holes; default: official and hemicraniectomy")
    parser.add_argument("--limit", type=int, default=2, help="persons")
    parser.add_argument("--files", action="store_true", help="count the files of the last implant, too")
    options = parser.parse_args()
    say = sys.stdout.write
    for kind in options.kind or ("official", "hemicraniectomy"):
        walls: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        laps: dict[str, list[float]] = defaultdict(list)
        fresh, apart, areas = [], [0.0], []
        for task in tasks_of(options.data, "test", (kind,), options.limit):
            with tempfile.TemporaryDirectory(prefix="calvaria-") as name:
                page = Page(Path(name) / "case", build(task)[0])
                held = page.desk.held
                if held is None:
                    sys.exit(f"{task.case.id}: nothing is held")
                areas.append(sum(hole.area_cm2 for hole in held.record.holes))
                settings, memory = ImplantSettings(), Memory()
                walls["prepared, before any wish"].append(page.prepared())
                walls["first wish"].append(page.wish(settings))
                design(held.result, settings, memory=memory)
                for move in MOVES:
                    settings = replace(settings, **move)
                    walls[", ".join(f"{name} {value}" for name, value in move.items())].append(page.wish(settings))
                    seconds, alone, off = stages(held.result, memory, settings)
                    for stage, one in seconds.items():
                        laps[stage].append(one)
                    fresh.append(alone)
                    apart.append(off)
                if options.files:
                    walls["files of the last"].append((0.0, page.written(settings), 0.0))
        say(f"{kind}: n = {len(areas)}, {min(areas):.0f} to {max(areas):.0f} cm2\n")
        say(f"{'moved':<36}{'shape s':>9}{'worst':>8}{'checked s':>11}{'worst':>8}{'processor s':>13}\n")
        for what, rows in walls.items():
            mean, worst = np.mean(rows, axis=0), np.max(rows, axis=0)
            say(f"{what:<36}{mean[0]:>9.2f}{worst[0]:>8.2f}{mean[1]:>11.2f}{worst[1]:>8.2f}{mean[2]:>13.2f}\n")
        said = ", ".join(f"{name} {np.mean(one):.2f}" for name, one in laps.items())
        say(f"by stage, mean s: {said}\n")
        say(f"without a memory: {np.mean(fresh):.2f} s (at most {max(fresh):.2f})\n")
        say(f"implants with and without lie {max(apart):.3g} mm apart\n")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
