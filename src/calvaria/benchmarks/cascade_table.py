"""The cascade's tables as they are printed: the published figures, ours beside them by holes, and the paired tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from calvaria.benchmarks.cascade import DESIGN, IMPLANT, PARAMETRIC, PATCH, PRIOR, Row
from calvaria.benchmarks.figures import compare_persons, finite, mean_sd_text, mean_text, pairs_of
from calvaria.benchmarks.refining_table import holes_of
from calvaria.clinical.loader import KIND as CLINICAL
from calvaria.metrics.statistics import PairedTest


class Patch(NamedTuple):
    """The paper's figures of patches on 75 clinical skulls: mean and sd of the outer surface, mean of the border."""

    outer_mm: float
    outer_sd: float
    border_mm: float


class Implant(NamedTuple):
    """The paper's figures of implants, mean and sd: Dice and surface error."""

    dsc: float
    dsc_sd: float
    msd_mm: float
    msd_sd: float


PATCHES: Mapping[str, Patch] = {
    "patch": Patch(0.98, 0.45, 0.96),
    "rescaled": Patch(0.83, 0.38, 0.94),
    "multi-branch": Patch(0.67, 0.37, 0.75),
}
"""Our name of the model -> its figures: the baseline patch model, the same on rescaled skulls, and the multi-branch."""

IMPLANTS: Mapping[str, Implant] = {
    "implant": Implant(0.85, 0.10, 0.77, 0.44),
    "multi-branch": Implant(0.88, 0.07, 0.65, 0.33),
}
"""Likewise: the baseline implant model and the multi-branch."""

ORDER = ("patch", "rescaled", "implant", "multi-branch")
"""Of the paper's models: each is tested against those before it."""

BARE = "bare"
"""The model without any addition, which those with one are tested against."""

PATCH_HEADING = (
    f"{'method':<28} {'n':>3}  {'DSC':<11} {'worst':<6} {'bDSC':<11} {'HD95 mm':<11} {'outer mm':<11} "
    f"{'border mm':<11} {'curvature mm^-4':<15} {'empty':>5} {'s':>6} {'CPU s':>6} {'MB':>6}"
)

IMPLANT_HEADING = (
    f"{'method':<28} {'n':>3}  {'Dice':<11} {'worst':<6} {'surface mm':<11} {'HD95 mm':<11} {'outer mm':<11} "
    f"{'empty':>5} {'checks':>6} {'failing':>7} {'s':>6} {'CPU s':>6} {'MB':>6}"
)

TEST_HEADING = (
    f"{'second against first':<40} {'figure':<15} {'persons':>7} {'gain':>10}  {'interval':<22} {'better':>6} "
    f"{'p t':>7} {'p sign':>7} {'p rank':>7}"
)

TESTED: Mapping[str, Sequence[tuple[str, str, bool]]] = {
    PATCH: (
        ("outer_mm", "outer mm", False),
        ("border_mm", "border mm", False),
        ("border_curvature_mse_mm4", "curvature mm^-4", False),
        ("dsc", "DSC", True),
    ),
    IMPLANT: (("dsc", "Dice", True), ("msd_mm", "surface mm", False)),
    DESIGN: (("dsc", "Dice", True), ("msd_mm", "surface mm", False)),
}
"""What of a row is tested: its field, how it is called, whether more is better."""


def table(rows: Sequence[Row]) -> list[str]:
    """Lines: patches by holes, then implants, each with what is published and the tests; at the end what failed."""
    lines = [
        "Means and sd over cases; of distances over those where something was found. Seconds: of a completion or a "
        "design, the pose not counted. MB: most of the process.",
    ]
    patches = [row for row in rows if row.what == PATCH]
    for holes in dict.fromkeys(holes_of(row.kind) for row in patches):
        some = [row for row in patches if holes_of(row.kind) == holes]
        lines += ["", f"patches, {holes}: {_persons(some)} persons", PATCH_HEADING]
        lines += [*_published_patches(holes), *_own(some, _patch_line), *_tests(some, PATCH)]
    for what, title in ((IMPLANT, "implants as they were learned"), (DESIGN, "implants as they are designed")):
        some = [row for row in rows if row.what == what]
        if some:
            lines += ["", f"{title}: {_persons(some)} persons", IMPLANT_HEADING]
            lines += [*(_published_implants() if what == IMPLANT else []), *_own(some, _implant_line)]
            lines += [*_failed_checks(some), *_tests(some, what)]
    failed = [row for row in rows if row.error]
    lines += [""] if failed else []
    return lines + [f"FAILED: {row.case} {row.kind} {row.method}, {row.what}: {row.error}" for row in failed]


def _persons(rows: Sequence[Row]) -> int:
    return len({row.person for row in rows})


def _published_patches(holes: str) -> list[str]:
    """The paper's rows, of clinical skulls, in the columns of ours."""
    if holes != CLINICAL:
        return []
    return [
        f"{f'Kodym 2021: {name}':<28} {75:>3}  {'':<11} {'':<6} {'':<11} {'':<11} "
        f"{f'{one.outer_mm:.2f} {one.outer_sd:.2f}':<11} {f'{one.border_mm:.2f}':<11}".rstrip()
        for name, one in PATCHES.items()
    ]


def _published_implants() -> list[str]:
    return [
        f"{f'Kodym 2021: {name}':<28} {75:>3}  {f'{one.dsc:.2f} {one.dsc_sd:.2f}':<11} {'':<6} "
        f"{f'{one.msd_mm:.2f} {one.msd_sd:.2f}':<11}".rstrip()
        for name, one in IMPLANTS.items()
    ]


def _own(rows: Sequence[Row], line: Callable[[str, Sequence[Row]], str]) -> list[str]:
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        some = [row for row in rows if row.method == method and not row.error]
        lines.append(line(method, some) if some else f"{method:<28} {0:>3}  all failed")
    return lines


def _patch_line(method: str, rows: Sequence[Row]) -> str:
    dsc, bdsc, hd95, outer, border = (
        mean_sd_text(finite(rows, name), digits)
        for name, digits in (("dsc", 3), ("bdsc", 3), ("hd95_mm", 2), ("outer_mm", 3), ("border_mm", 3))
    )
    bends = finite(rows, "border_curvature_mse_mm4")
    bend = f"{np.mean(bends):.2e}" if bends else ""
    return (
        f"{method:<28} {len(rows):>3}  {dsc:<11} {_worst(rows):<6} {bdsc:<11} {hd95:<11} {outer:<11} {border:<11} "
        f"{bend:<15} {_empty(rows):>5} {_costs(rows)}"
    )


def _implant_line(method: str, rows: Sequence[Row]) -> str:
    dsc, msd, hd95, outer = (
        mean_sd_text(finite(rows, name), digits)
        for name, digits in (("dsc", 3), ("msd_mm", 3), ("hd95_mm", 2), ("outer_mm", 3))
    )
    checks = finite(rows, "checks")
    # Of designs, how many failed a check.
    told = f"{np.mean(checks):>6.0f} {sum(bool(row.failed) for row in rows):>7}" if checks else f"{'':>6} {'':>7}"
    return (
        f"{method:<28} {len(rows):>3}  {dsc:<11} {_worst(rows):<6} {msd:<11} {hd95:<11} {outer:<11} "
        f"{_empty(rows):>5} {told} {_costs(rows)}"
    )


def _worst(rows: Sequence[Row]) -> str:
    values = finite(rows, "dsc")
    return f"{min(values):.3f}" if values else ""


def _empty(rows: Sequence[Row]) -> int:
    return sum(math.isinf(row.hd95_mm) for row in rows)


def _costs(rows: Sequence[Row]) -> str:
    wall, cpu = (mean_text(finite(rows, name), 2) for name in ("seconds", "cpu_seconds"))
    megabytes = finite(rows, "peak_mb")
    return f"{wall:>6} {cpu:>6} {f'{max(megabytes):.0f}' if megabytes else '':>6}"


def _failed_checks(rows: Sequence[Row]) -> list[str]:
    """Which checks of the designs failed, by method."""
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        found: dict[str, int] = {}
        for row in rows:
            for name in row.failed.split("; ") if row.method == method and row.failed else ():
                found[name] = found.get(name, 0) + 1
        if found:
            told = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
            lines.append(f"  failed checks, {method}: {told}")
    return lines


def _pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """What is tested: the paper's models against those before, all of them against what needs none and `BARE`."""
    base = [name for name in (PRIOR, PARAMETRIC, BARE) if name in methods]
    own = [name for name in methods if name not in base]
    ranked = [name for name in ORDER if name in own]
    rest = [name for name in own if name not in ranked]
    ladder = [(first, second) for number, second in enumerate(ranked) for first in ranked[:number]]
    other = [(first, second) for second in rest for first in ranked[-1:]]
    return [*ladder, *other, *((first, second) for first in base for second in own)]


def _tests(rows: Sequence[Row], what: str) -> list[str]:
    """One-sided tests of each pair of methods, with a heading if there are persons enough for any."""
    lines = []
    for first, second in _pairs(list(dict.fromkeys(row.method for row in rows))):
        cases = pairs_of(*([row for row in rows if row.method == name] for name in (first, second)))
        cases.sort(key=lambda pair: pair[0].person)
        for field, name, more_is_better in TESTED[what]:
            test = compare_persons(cases, field, higher_is_better=more_is_better)
            if test is not None:
                lines.append(_test_line(f"{second} against {first}", name, test))
    return ["gains (positive: better), one-sided: paired t, sign, Wilcoxon signed-rank", TEST_HEADING, *lines] * bool(
        lines
    )


def _test_line(pair: str, name: str, test: PairedTest) -> str:
    digits = ".2e" if name.startswith("curvature") else ".4f"
    interval = f"{test.low:+{digits}} to {test.high:+{digits}}"
    return (
        f"{pair:<40} {name:<15} {test.pairs:>7} {test.mean_gain:>+10{digits}}  {interval:<22} {test.better:>6} "
        f"{test.p_t:>7.4f} {test.p_sign:>7.4f} {test.p_wilcoxon:>7.4f}"
    )


__all__ = ["IMPLANTS", "ORDER", "PATCHES", "table"]
