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
    over all metrics shown. A gain is positive where B is better, with its 95 % bootstrap interval.
    """
    from calvaria.io.scores import read_scores
    from calvaria.metrics import compare_all

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    a, b = read_scores(first), read_scores(second)
    pairs, left_out = paired(first.name, a, second.name, b)
    for text in left_out:
        screen.warn(text)
    better, dropped = _directions(a, b, pairs, metric)
    for name, count in dropped.items():
        screen.warn(f"{name} is not defined for {count} of {len(pairs)} cases and is left out")
    if not better:
        raise InputError("no metric is left that both tables have for every case")
    ours, theirs = ({name: [scores[case][name] for case in pairs] for name in better} for scores in (a, b))
    found = compare_all(ours, theirs, better)
    screen.say(f"{len(pairs)} pairs; hypothesis: {second.stem} (B) is better than {first.stem} (A)")
    screen.show(_table(found))
    screen.json({"pairs": len(pairs), "metrics": {name: asdict(test) for name, test in found.items()}})


def _directions(
    a: Scores, b: Scores, pairs: list[str], wanted: list[str] | None
) -> tuple[dict[str, bool], dict[str, int]]:
    """Metrics that can be compared -> whether higher is better, and those that some case lacks -> how many do."""
    from calvaria.metrics import METRICS

    unknown = [name for name in wanted or () if name not in METRICS]
    if unknown:
        raise InputError(f"there is no metric {unknown[0]!r}; there are {', '.join(METRICS)}")
    better, dropped = {}, {}
    for name, metric in METRICS.items():
        if name not in a[pairs[0]] or name not in b[pairs[0]] or (wanted and name not in wanted):
            continue
        if metric.better == "zero":  # neither more nor less is better
            continue
        lacking = sum(math.isnan(a[case][name]) or math.isnan(b[case][name]) for case in pairs)
        if lacking:
            dropped[name] = lacking
        else:
            better[name] = metric.better == "higher"
    return better, dropped


def _table(found: dict[str, PairedTest]) -> Table:
    from rich import box
    from rich.table import Table

    from calvaria.metrics import METRICS

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    headings = ("A", "B", "gain", "95 % interval", "better / worse", "effect d", "t", "Wilcoxon", "sign", "Holm")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, test in found.items():
        form = METRICS[name].form
        table.add_row(
            METRICS[name].title,
            format(test.mean_first, form),
            format(test.mean_second, form),
            format(test.mean_gain, f"+{form}"),
            f"{test.low:+{form}} to {test.high:+{form}}",
            f"{test.better} / {test.worse}",
            f"{test.effect:.2f}",
            *(f"{p:.2g}" for p in (test.p_t, test.p_wilcoxon, test.p_sign, test.p_adjusted)),
        )
    return table
