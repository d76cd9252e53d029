"""``calvaria compare``: is the second of two methods better, over the same cases?"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.results.names import paired

if TYPE_CHECKING:
    from rich.table import Table

    from calvaria.io.scores import Scores
    from calvaria.metrics import PairedTest

EXAMPLES = """\b
Examples:
  calvaria compare mirror.csv shape-prior.csv
  calvaria compare a.csv b.csv --metric dsc --metric hd95_mm --json
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def compare(
    context: typer.Context,
    *,
    first: Annotated[Path, typer.Argument(metavar="A.csv", help="Scores of the first method, from evaluate --csv.")],
    second: Annotated[Path, typer.Argument(metavar="B.csv", help="Scores of the second, over the same cases.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="Only this metric; may be repeated.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Test whether method B is better than method A.

    Cases are paired by name. Every p value is one-sided: the chance of such a gain if B were no better than A, by the
    paired t-test, Wilcoxon's signed-rank test and the sign test; the last column is Wilcoxon's after Holm's correction
    over all metrics shown. A gain is positive where B is better, with its 95 % bootstrap interval. A case for which a
    metric is not defined in A or B is left out of that metric.
    """
    from calvaria.io.scores import read_scores
    from calvaria.metrics import METRICS, compare_all

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    a, b = read_scores(first), read_scores(second)
    pairs, left_out = paired(first.name, a, second.name, b)
    for text in left_out:
        screen.warn(text)
    cases = _defined(a, b, pairs, _directions(a, b, pairs, metric), screen)
    if not cases:
        raise InputError("no metric is left that both tables have for enough cases")
    ours, theirs = ({name: [scores[case][name] for case in cases[name]] for name in cases} for scores in (a, b))
    found = compare_all(ours, theirs, {name: METRICS[name].better == "higher" for name in cases})
    screen.say(f"{len(pairs)} pairs; hypothesis: {second.stem} (B) is better than {first.stem} (A)")
    screen.show(_table(found))
    screen.json({"pairs": len(pairs), "metrics": {name: asdict(test) for name, test in found.items()}})


def _directions(a: Scores, b: Scores, pairs: list[str], wanted: list[str] | None) -> list[str]:
    """Metrics that can be compared: both tables have them, and one direction is better."""
    from calvaria.metrics import METRICS

    unknown = [name for name in wanted or () if name not in METRICS]
    if unknown:
        raise InputError(f"there is no metric {unknown[0]!r}; there are {', '.join(METRICS)}")
    both = [name for name in METRICS if name in a[pairs[0]] and name in b[pairs[0]]]
    return [name for name in both if METRICS[name].better != "zero" and (not wanted or name in wanted)]


def _defined(a: Scores, b: Scores, pairs: list[str], names: list[str], screen: Screen) -> dict[str, list[str]]:
    """Metric -> the cases that have a value of it in both tables; what is left out is said, with its count."""
    from calvaria.metrics.statistics import MIN_PAIRS

    cases: dict[str, list[str]] = {}
    for name in names:
        there = [case for case in pairs if not (math.isnan(a[case][name]) or math.isnan(b[case][name]))]
        lacking = len(pairs) - len(there)
        if lacking and len(there) < MIN_PAIRS:
            screen.warn(f"{name} is not defined for {lacking} of {len(pairs)} cases and is left out")
            continue
        if lacking:
            screen.warn(f"{name} is not defined for {lacking} of {len(pairs)} cases, which do not count for it")
        cases[name] = there
    return cases


def _table(found: dict[str, PairedTest]) -> Table:
    from rich import box
    from rich.table import Table

    from calvaria.metrics import METRICS
    from calvaria.metrics.catalog import shown

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    headings = (
        "pairs",
        "A",
        "B",
        "gain",
        "95 % interval",
        "better / worse",
        "effect d",
        "t",
        "Wilcoxon",
        "sign",
        "Holm",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, test in found.items():
        text = METRICS[name].text
        table.add_row(
            METRICS[name].title,
            str(test.pairs),
            text(test.mean_first),
            text(test.mean_second),
            text(test.mean_gain, "+"),
            f"{text(test.low, '+')} to {text(test.high, '+')}",
            f"{test.better} / {test.worse}",
            shown(test.effect, ".2f"),
            *(shown(p, ".2g") for p in (test.p_t, test.p_wilcoxon, test.p_sign, test.p_adjusted)),
        )
    return table
