"""Table 3 as it is printed: the published rows, ours beside them by holes, and the paired tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from calvaria.benchmarks.cases import BENCHMARK_KINDS, OFFICIAL
from calvaria.benchmarks.figures import compare_persons, finite, mean_sd_text, mean_text, pairs_of
from calvaria.benchmarks.networks import PRIOR, Published
from calvaria.benchmarks.refining import AS_IT_IS, REFINED, REG_SN, START, Row
from calvaria.metrics.statistics import PairedTest

FIVE = "five kinds"
"""The kinds of SkullBreak together."""


class Variant(NamedTuple):
    """A row of the paper's table 3: on the test sets of SkullBreak and SkullFix, and mean seconds a case."""

    broken: Published
    fixed: Published
    seconds: float


PUBLISHED: Mapping[tuple[str, str], Variant] = {
    ("runet", AS_IT_IS): Variant(Published(0.843, 0.743, 2.438, 0.787), Published(0.892, 0.881, 1.882, 0.554), 4.71),
    ("runet-sym", AS_IT_IS): Variant(
        Published(0.904, 0.902, 1.678, 0.539), Published(0.927, 0.923, 1.437, 0.389), 4.69
    ),
    ("runet", REG_SN): Variant(Published(0.931, 0.926, 1.379, 0.381), Published(0.941, 0.945, 1.342, 0.338), 14.31),
    ("runet-sym", REG_SN): Variant(Published(0.936, 0.932, 1.312, 0.372), Published(0.945, 0.951, 1.278, 0.334), 14.34),
}
"""(our name of the start, what is done with it) -> the paper's row: its baseline, Seg-SN, Reg-SN, and both."""

NAMES = {
    ("runet", AS_IT_IS): "baseline",
    ("runet-sym", AS_IT_IS): "Seg-SN",
    ("runet", REG_SN): "Reg-SN",
    ("runet-sym", REG_SN): "Seg-SN + Reg-SN",
}
"""What the paper calls them."""

COMPARED = ((AS_IT_IS, REG_SN), (AS_IT_IS, REFINED), (REG_SN, REFINED))
"""Pairs of ways that are tested, the second against the first."""

HEADING = (
    f"{'start and way':<28} {'n':>3}  {'DSC':<11} {'worst':<6} {'SDSC 1 mm':<11} {'bDSC':<11} {'HD95 mm':<11} "
    f"{'MSD mm':<11} {'border mm':<9} {'empty':>5} {'declined':>8} {'s':>6} {'CPU s':>6} {'MB':>6}"
)

TEST_HEADING = (
    f"{'start: second against first':<44} {'persons':>7} {'DSC':>8}  {'interval':<18} {'p':>6}  {'HD95 mm':>8} "
    f"{'p':>6}  {'border mm':>9} {'p':>6}  {'declined':>8}  largest loss of a case"
)


_PLAIN = {"border_mm": 3, "seconds": 2, "cpu_seconds": 2}
"""Figures whose mean alone is printed, with its digits."""


def table3(rows: Sequence[Row]) -> list[str]:
    """Lines: for each sort of holes the published figures and ours, then the tests; at the end what failed."""
    lines = [
        "Table 3: means and sd over cases, of HD95 and MSD over those whose patch is not empty. Seconds: of a start as "
        "it is, its completion; of a refinement, itself; published ones, of both together. MB: most of the process.",
    ]
    for holes in dict.fromkeys(holes_of(row.kind) for row in rows):
        some = [row for row in rows if holes_of(row.kind) == holes]
        lines += ["", f"{holes}: {len({row.person for row in some})} persons", HEADING]
        lines += [*_published_lines(holes), *_own_lines(some)]
        tests = _test_lines(some)
        if tests:
            lines += ["", f"{holes}: gains (positive: better), one-sided Wilcoxon signed-rank tests over persons"]
            lines += [TEST_HEADING, *tests]
    failed = [row for row in rows if row.error]
    lines += [""] if failed else []
    lines += [f"FAILED: {row.case} {row.kind} {row.start}, {row.way}: {row.error}" for row in failed]
    return lines


def holes_of(kind: str) -> str:
    """With which holes a kind is counted.

    >>> holes_of("random_1"), holes_of("official"), holes_of("hemicraniectomy")
    ('five kinds', 'official', 'hemicraniectomy')
    """
    return FIVE if kind in BENCHMARK_KINDS and kind != OFFICIAL else kind


def _published_lines(holes: str) -> list[str]:
    """The paper's rows, in the columns of ours; none of holes that it has not."""
    if holes not in {OFFICIAL, FIVE}:
        return []
    mark = "SkullFix" if holes == OFFICIAL else "SkullBreak"
    lines = []
    for key, variant in PUBLISHED.items():
        one = variant.fixed if holes == OFFICIAL else variant.broken
        lines.append(
            f"{f'{mark}: {NAMES[key]}':<28} {'':>3}  {one.dsc:<11.3f} {'':<6} {one.sdsc:<11.3f} {'':<11} "
            f"{one.hd95_mm:<11.3f} {one.msd_mm:<11.3f} {'':<9} {'':>5} {'':>8} {variant.seconds:>6.2f}"
        )
    return lines


def _own_lines(rows: Sequence[Row]) -> list[str]:
    lines = []
    for start, way in dict.fromkeys((row.start, row.way) for row in rows):
        some = [row for row in rows if (row.start, row.way) == (start, way) and not row.error]
        if not some:
            lines.append(f"{_named(start, way):<28} {0:>3}  all failed")
            continue
        dsc, sdsc, bdsc = (mean_sd_text(finite(some, name), 3) for name in ("dsc", "sdsc_1mm", "bdsc"))
        hd95, msd = mean_sd_text(finite(some, "hd95_mm"), 2), mean_sd_text(finite(some, "msd_mm"), 2)
        border, wall, cpu = (mean_text(finite(some, name), d) for name, d in _PLAIN.items())
        megabytes = f"{max(finite(some, 'peak_mb'), default=math.nan):.0f}".replace("nan", "")
        empty = sum(math.isinf(row.hd95_mm) for row in some)
        declined = "" if way == AS_IT_IS else f"{sum(row.declined for row in some)}"
        lines.append(
            f"{_named(start, way):<28} {len(some):>3}  {dsc:<11} {min(row.dsc for row in some):<6.3f} {sdsc:<11} "
            f"{bdsc:<11} {hd95:<11} {msd:<11} {border:<9} {empty:>5} {declined:>8} {wall:>6} {cpu:>6} "
            f"{megabytes:>6}"
        )
    return lines


def _test_lines(rows: Sequence[Row]) -> list[str]:
    """Each pair of ways of each start, and bad starts against the shape prior's, both refined."""
    starts = list(dict.fromkeys(row.start for row in rows))
    pairs = [(f"{start}: {b} against {a}", (start, a), (start, b)) for start in starts for a, b in COMPARED]
    if PRIOR in starts:
        bad = [start for start in starts if start.startswith(START)]
        pairs += [(f"{start} against {PRIOR}, {REFINED}", (PRIOR, REFINED), (start, REFINED)) for start in bad]
    return [line for name, first, second in pairs for line in _test_line(rows, name, first, second)]


def _test_line(rows: Sequence[Row], name: str, first: tuple[str, str], second: tuple[str, str]) -> list[str]:
    """A line if there are persons enough."""
    cases = pairs_of(*([row for row in rows if (row.start, row.way) == key] for key in (first, second)))
    dsc = compare_persons(cases, "dsc", higher_is_better=True)
    if dsc is None:
        return []
    hd95 = compare_persons(cases, "hd95_mm", higher_is_better=False)
    border = compare_persons(cases, "border_mm", higher_is_better=False)
    worst, case, kind = min((b.dsc - a.dsc, a.case, a.kind) for a, b in cases)
    loss = f"{-worst:.4f} ({case} {kind})" if worst < 0 else "none"
    return [
        f"{name:<44} {dsc.pairs:>7} {dsc.mean_gain:>+8.4f}  {f'{dsc.low:+.4f} to {dsc.high:+.4f}':<18} "
        f"{dsc.p_wilcoxon:>6.4f}  {_gain(hd95, 2):>8} {_p(hd95):>6}  {_gain(border, 3):>9} {_p(border):>6}  "
        f"{sum(b.declined for _, b in cases):>8}  {loss}"
    ]


def _named(start: str, way: str) -> str:
    return start if way == AS_IT_IS else f"{start} + {way}"


def _gain(test: PairedTest | None, digits: int) -> str:
    return "" if test is None else f"{test.mean_gain:+.{digits}f}"


def _p(test: PairedTest | None) -> str:
    return "" if test is None else f"{test.p_wilcoxon:.4f}"


__all__ = ["FIVE", "NAMES", "PUBLISHED", "Variant", "holes_of", "table3"]
