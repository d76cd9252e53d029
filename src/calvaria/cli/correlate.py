"""``calvaria correlate``: which metrics agree with an expert's eye?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.files import require_writable
from calvaria.results.names import paired

if TYPE_CHECKING:
    from rich.table import Table

    from calvaria.metrics import Correlation

EXAMPLES = """\b
Examples:
  calvaria correlate scores.csv expert.csv
  calvaria correlate scores.csv experts.csv --score surgeon_2 -o figures
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

TITLES = {"whole": "the whole patch", "border": "the border", "symmetry": "symmetry"}
"""Of the parts of the table, in the order in which they stand."""

FIGURE = "correlations.png"


def correlate(
    context: typer.Context,
    *,
    metrics: Annotated[Path, typer.Argument(metavar="SCORES.csv", help="Metrics of each case, from evaluate --csv.")],
    expert: Annotated[
        Path, typer.Argument(metavar="EXPERT.csv", help="A table with a column 'case' and one for each expert.")
    ],
    score: Annotated[
        str | None, typer.Option("--score", metavar="COLUMN", help="Take this column; without it, the mean of all.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Also draw the scatter plots here.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Correlate every metric with the scores that an expert gave to the same cases.

    A higher score is better. Pearson's coefficient is of the values, Spearman's of the ranks, each with its 95 %
    interval: where higher values of a metric are better, agreement is positive, else negative. Metrics of the whole
    patch and of its border stand apart: they see different failures.
    """
    from calvaria.io.scores import read_scores

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if output is not None:
        require_writable(output)
    values, given = read_scores(metrics), _given(expert, score)
    cases, left_out = paired(metrics.name, values, expert.name, given)
    for text in left_out:
        screen.warn(text)
    scores = [given[name] for name in cases]
    if min(scores) == max(scores):
        raise InputError(f"{expert.name}: every case has the same score; there is nothing to agree with")
    columns = _columns(values, cases)
    found = _correlations(columns, scores, screen)
    screen.say(f"{len(cases)} cases; a metric agrees with the expert where its coefficient has the sign of 'good'")
    screen.show(_table(found))
    screen.json({"cases": len(cases), "metrics": {name: asdict(one) for name, one in found.items()}})
    if output is not None:
        _draw(output, {name: columns[name] for name in found}, scores, found, screen)


def _given(path: Path, column: str | None) -> dict[str, float]:
    """Case -> score: of one column, or the mean of all."""
    from calvaria.io.scores import read_scores

    table = read_scores(path)
    columns = list(next(iter(table.values())))
    if column is not None and column not in columns:
        raise InputError(f"{path.name}: no column of numbers is called {column!r}; there are {', '.join(columns)}")
    chosen = columns if column is None else [column]
    scores = {name: sum(row[key] for key in chosen) / len(chosen) for name, row in table.items()}
    for name, value in scores.items():
        if not math.isfinite(value):
            raise InputError(f"{path.name}: the score of {name} is not a finite number; give one, or delete the row")
    return scores


def _columns(values: Mapping[str, Mapping[str, float]], cases: list[str]) -> dict[str, list[float]]:
    """Metric -> its values over the cases, for all metrics that the table has."""
    from calvaria.metrics import METRICS

    columns = {name: [values[case][name] for case in cases] for name in METRICS if name in values[cases[0]]}
    if not columns:
        raise InputError(f"the table holds no metric; its columns should be called {', '.join(METRICS)}")
    return columns


def _correlations(columns: dict[str, list[float]], scores: list[float], screen: Screen) -> dict[str, Correlation]:
    from calvaria.metrics import METRICS
    from calvaria.metrics import correlate as correlate_values
    from calvaria.metrics.correlation import MIN_CASES

    found: dict[str, Correlation] = {}
    for name, column in columns.items():
        # Where neither more nor less is better, it is the size that counts.
        values = [abs(value) for value in column] if METRICS[name].better == "zero" else column
        there = [value for value in values if not math.isnan(value)]
        if len(set(there)) < 2:
            screen.warn(f"{name} is the same for all cases, or defined for none, and is left out")
        elif len(there) < MIN_CASES <= len(values):
            screen.warn(f"{name} is not defined for {len(values) - len(there)} of {len(values)} cases and is left out")
        else:
            found[name] = correlate_values(values, scores)
    if not found:
        raise InputError("no metric differs between the cases; there is nothing to correlate")
    return found


def _table(found: dict[str, Correlation]) -> Table:
    from rich import box
    from rich.table import Table

    from calvaria.metrics import METRICS
    from calvaria.metrics.catalog import shown

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    for heading in ("good", "cases", "Pearson", "95 % interval", "p", "Spearman", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for scope, title in TITLES.items():
        names = [name for name in found if METRICS[name].scope == scope]
        if names:
            table.add_row(f"[bold]{title}[/bold]")
        for name in names:
            one, metric = found[name], METRICS[name]
            table.add_row(
                f"|{metric.title}|" if metric.better == "zero" else metric.title,
                "+" if metric.better == "higher" else "-",
                str(one.cases),
                shown(one.pearson, "+.2f"),
                f"{shown(one.pearson_low, '+.2f')} to {shown(one.pearson_high, '+.2f')}",
                shown(one.p_pearson, ".2g"),
                shown(one.spearman, "+.2f"),
                f"{shown(one.spearman_low, '+.2f')} to {shown(one.spearman_high, '+.2f')}",
                shown(one.p_spearman, ".2g"),
            )
    return table


def _draw(
    output: Path, columns: dict[str, list[float]], scores: list[float], found: dict[str, Correlation], screen: Screen
) -> None:
    from calvaria.report import save_png, scatter

    output.mkdir(parents=True, exist_ok=True)
    path = save_png(output / FIGURE, scatter(columns, scores, found))
    screen.say(str(path))
