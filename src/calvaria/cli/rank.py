"""``calvaria rank``: several methods in order, as the AutoImplant challenge does it."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from calvaria.io.scores import Scores
    from calvaria.metrics import Standing

CHALLENGE = ("dsc", "bdsc", "hd95_mm")
"""What the challenge of 2021 ranked by."""

EXAMPLES = """\b
Examples:
  calvaria rank ours.csv theirs.csv another.csv
  calvaria rank *.csv --metric dsc --metric border_mm
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def rank(
    context: typer.Context,
    *,
    tables: Annotated[list[Path], typer.Argument(metavar="SCORES.csv...", help="One table a method, from evaluate.")],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="What counts; may be repeated. [default: dsc, bdsc, hd95_mm]"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rank methods by the mean of their ranks, as the AutoImplant challenge does.

    Each metric is averaged over the cases that all tables have; the methods get a rank in each metric, and the mean of
    these is the order. Beside it stands how far a method's place moves when the cases are drawn anew: methods whose
    ranges overlap much cannot be distinguished by these cases. A case for which one of the metrics is not defined in
    one of the tables is left out of all.
    """
    from calvaria.io.scores import read_scores
    from calvaria.metrics import METRICS, rank_methods

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    names = _names(tables)
    wanted = list(dict.fromkeys(metric or CHALLENGE))
    unknown = [name for name in wanted if name not in METRICS or METRICS[name].better == "zero"]
    if unknown:
        known = ", ".join(name for name, one in METRICS.items() if one.better != "zero")
        raise InputError(f"methods cannot be ranked by {unknown[0]!r}; there are {known}")
    scores = {name: read_scores(path) for name, path in zip(names, tables, strict=True)}
    cases = _common_cases(scores, screen)
    for name, table in scores.items():
        lacking = [key for key in wanted if key not in table[cases[0]]]
        if lacking:
            raise InputError(f"{name}: the table has no column {lacking[0]!r}")
    cases = _defined_cases(scores, cases, wanted, screen)
    values = {name: {key: [table[case][key] for case in cases] for key in wanted} for name, table in scores.items()}
    standings = rank_methods(values, {name: METRICS[name].better == "higher" for name in wanted})
    screen.say(f"{len(standings)} methods over {len(cases)} cases")
    screen.show(_table(standings, wanted))
    screen.json({"cases": len(cases), "methods": [asdict(standing) for standing in standings]})


def _names(tables: list[Path]) -> list[str]:
    """What the methods are called: the files' names, with their folders' where these are alike."""
    if len(tables) < 2:
        raise InputError("a ranking takes two tables at least, one a method")
    names = [path.stem for path in tables]
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{path.stem}" for path in tables]
    if len(set(names)) < len(names):
        raise InputError("two of the tables are the same, or called the same; give each method a name of its own")
    return names


def _common_cases(scores: dict[str, Scores], screen: Screen) -> list[str]:
    tables = list(scores.values())
    cases = [name for name in tables[0] if all(name in table for table in tables)]
    if not cases:
        raise InputError("the tables have no case in common")
    for method, table in scores.items():
        alone = len(table) - len(cases)
        if alone:
            screen.warn(f"{alone} cases of {method} are not in every table and do not count")
    return cases


def _defined_cases(scores: dict[str, Scores], cases: list[str], wanted: list[str], screen: Screen) -> list[str]:
    """The cases that have a value of every metric that counts, by every method; how many have not is said."""
    lacking = {
        key: [case for case in cases if any(math.isnan(table[case][key]) for table in scores.values())]
        for key in wanted
    }
    for key, some in lacking.items():
        if some:
            screen.warn(f"{key} is not defined for {len(some)} of {len(cases)} cases, which do not count")
    left = [case for case in cases if not any(case in some for some in lacking.values())]
    if not left:
        raise InputError(f"no case has a value of {', '.join(wanted)} in every table; choose others with --metric")
    return left


def _table(standings: list[Standing], metrics: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    from calvaria.metrics import METRICS

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("place", justify="right")
    table.add_column("method")
    table.add_column("mean rank", justify="right")
    table.add_column("95 % of draws", justify="right")
    for name in metrics:
        table.add_column(f"{METRICS[name].title} (rank)", justify="right")
    for one in standings:
        table.add_row(
            str(one.place),
            one.method,
            f"{one.mean_rank:.2f}",
            f"{one.low} to {one.high}",
            *(f"{METRICS[name].text(one.means[name])} ({one.ranks[name]:g})" for name in metrics),
        )
    return table
