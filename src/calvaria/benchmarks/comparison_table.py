"""Table 4 as it is printed: the published rows, ours beside them, and every figure of ours in full."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from calvaria.benchmarks.cases import OFFICIAL
from calvaria.benchmarks.comparison import SKULLBREAK, SKULLFIX, STAND_IN, Method, Outcome, label_of
from calvaria.benchmarks.table import Row, summary

UNKNOWN = "unknown"
NOT_MEASURED = "not measured here"


class Figures(NamedTuple):
    """What a method reached on one set: means over its cases; NaN where none was published."""

    dsc: float
    bdsc: float
    hd95_mm: float

    @property
    def text(self) -> str:
        """As the paper prints it: two decimals."""
        return " / ".join("n/a" if math.isnan(value) else f"{value:.2f}" for value in self)


class Published(NamedTuple):
    """A row of the paper's table 4; the number before a method is the paper's reference.

    Args:
        method: what it is.
        skullbreak: on the official test set; None where the paper has n/a.
        skullfix: likewise.
        training: device hours.
        inference: of a case.
    """

    method: str
    skullbreak: Figures | None
    skullfix: Figures | None
    training: str = UNKNOWN
    inference: str = UNKNOWN


PUBLISHED: tuple[Published, ...] = (
    Published(
        "Proposed, segmentation-based",
        Figures(0.90, 0.91, 1.68),
        Figures(0.93, 0.92, 1.44),
        "below 500 A100 GPU h",
        "< 5 s, A6000",
    ),
    Published(
        "Proposed, registration-based",
        Figures(0.94, 0.94, 1.31),
        Figures(0.95, 0.95, 1.28),
        "below 500 A100 GPU h",
        "< 15 s, A6000",
    ),
    Published(
        "[37] Wodzinski 2024, heavy augmentation",
        Figures(0.95, 0.95, 1.13),
        Figures(0.97, 0.96, 1.07),
        "above 100,000 GPU h",
    ),
    Published("[22] Mahdi 2021, U-Net", Figures(0.80, 0.81, 3.42), Figures(0.90, 0.93, 3.59)),
    Published("[22] Yang", Figures(0.80, 0.89, 3.52), None),
    Published("[34] Wodzinski 2021, linking datasets", Figures(0.90, 0.93, 1.60), Figures(0.93, 0.95, 1.48)),
    Published("[38] Yu 2021, PCA-Skull", None, Figures(0.80, 0.77, 3.68)),
    Published("[16] Kroviakov 2021, sparse CNN", None, Figures(0.85, 0.95, 2.65)),
    Published("[26] Pathak 2021, V-Net", None, Figures(0.90, 0.95, 2.02)),
    Published("[35] Wodzinski 2023, point-cloud transformer", Figures(0.87, 0.85, 1.91), Figures(0.90, 0.89, 1.71)),
    Published(
        "[8] Friedrich 2023, pcdiff (own split)",
        Figures(0.87, 0.89, 2.45),
        Figures(0.90, 0.93, 1.69),
        inference="1142 to 1210 s, A100",
    ),
    Published("[36] Wodzinski 2022, framework", Figures(0.89, 0.93, 1.60), Figures(0.93, 0.95, 1.47)),
    Published("[18] Li 2023, sparse CNN", None, Figures(0.88, 0.96, 4.11)),
    Published("[25] Mazzocchetti 2024, occupancy nets", Figures(0.85, 0.89, 2.39), Figures(0.90, 0.93, 1.86)),
    Published("[12] Kesornsri 2024, CraNeXt", Figures(0.86, math.nan, 2.12), None),
)
"""Every row of the paper's table 4, in its order. pcdiff was scored by its authors on skulls of the training sets, not
on the official test sets."""

TRAINING = {"shape-prior": "below 1 CPU h"}
"""Of our models, by name: what making them takes. `calvaria train shape-prior` says 10 to 20 minutes on 2 cores."""

STAND_IN_NOTE = (
    "STAND-IN: these are not the official test sets. The persons are those of our own split of the AutoImplant 2020 "
    "training set; each has a hole of each of the five SkullBreak kinds, cut by this program (SkullBreak column), and "
    "the set's own SkullFix-type hole (SkullFix column). It cannot be ranked among the published rows."
)

HEADING = f"{'method':<46} {'SkullBreak':<19} {'SkullFix':<19} {'training':<21} a case"


def table4(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines: all published rows, ours beside them, and ours in full.

    Args:
        outcomes: a method each; rows that failed are counted and named, not averaged.
    """
    lines = ["Table 4: DSC / bDSC / HD95 in mm, means. As published, on the official test sets:", HEADING]
    for one in PUBLISHED:
        lines.append(_line(one.method, _text(one.skullbreak), _text(one.skullfix), one.training, one.inference))
    ours, details, failed = [], [], []
    for outcome in outcomes:
        for mark, on_break, on_fix in _columns(outcome.rows):
            rows = [*on_break, *on_fix]
            cells = (_mean_text(on_break), _mean_text(on_fix))
            training = TRAINING.get(outcome.method.name, NOT_MEASURED)
            ours.append(_line(f"{outcome.method.name}, {mark}", *cells, training, _seconds(rows)))
        for label in dict.fromkeys(label_of(row.case) for row in outcome.rows):
            details += ["", *_in_full(outcome.method, label, [r for r in outcome.rows if label_of(r.case) == label])]
        failed += [row for row in outcome.rows if row.error]
    if ours:
        lines += ["", "Ours, here:", HEADING, *ours]
    if any(label_of(row.case) == STAND_IN for outcome in outcomes for row in outcome.rows):
        lines += ["", STAND_IN_NOTE]
    lines += [*details, *([""] if failed else [])]
    lines += [f"FAILED: {row.case} {row.kind} {row.model}: {row.error}" for row in failed]
    return lines


def _columns(rows: Iterable[Row]) -> list[tuple[str, list[Row], list[Row]]]:
    """What the rows are printed as, each with those of the SkullBreak and those of the SkullFix column."""
    own: dict[str, list[Row]] = {STAND_IN: [], SKULLBREAK: [], SKULLFIX: []}
    for row in rows:
        own[label_of(row.case)].append(row)
    found = [
        (
            "STAND-IN",
            [row for row in own[STAND_IN] if row.kind != OFFICIAL],
            [row for row in own[STAND_IN] if row.kind == OFFICIAL],
        ),
        ("official test sets", own[SKULLBREAK], own[SKULLFIX]),
    ]
    return [one for one in found if one[1] or one[2]]


def _in_full(method: Method, label: str, rows: Sequence[Row]) -> list[str]:
    """How many, and n, failures, mean, sd, worst and median of each kind."""
    failures, persons = sum(bool(row.error) for row in rows), len({row.person for row in rows})
    where = "STAND-IN" if label == STAND_IN else f"official {label} test set"
    empty = sum(row.hd95_mm == math.inf for row in rows)
    heading = (
        f"{method.name} (weights {method.weights}), {where}: {persons} persons, {len(rows)} cases, "
        f"{failures} failed, {empty} patches empty"
    )
    return [heading, *summary(rows).splitlines()]


def _mean_text(rows: Iterable[Row]) -> str:
    """Means of the rows that did not fail."""
    rows = list(rows)
    good = [row for row in rows if not row.error]
    if not good:
        return "all failed" if rows else "n/a"
    return Figures(
        float(np.mean([row.dsc for row in good])),
        float(np.mean([row.bdsc for row in good])),
        float(np.mean([row.hd95_mm for row in good])),
    ).text


def _seconds(rows: Iterable[Row]) -> str:
    """Processor seconds a case, measured."""
    good = [row.cpu_seconds for row in rows if not row.error]
    return f"{np.mean(good):.1f} CPU s" if good else NOT_MEASURED


def _text(figures: Figures | None) -> str:
    return "n/a" if figures is None else figures.text


def _line(method: str, skullbreak: str, skullfix: str, training: str, inference: str) -> str:
    return f"{method:<46} {skullbreak:<19} {skullfix:<19} {training:<21} {inference}"


__all__ = ["PUBLISHED", "TRAINING", "Figures", "Published", "table4"]
