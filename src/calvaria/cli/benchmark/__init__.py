"""``calvaria benchmark``: the papers' tables, each by one command."""

from __future__ import annotations

import typer

from calvaria.cli.benchmark import cascade, implants, scans, table1, table2, table3, table4

EXAMPLES = """\b
Examples:
  calvaria benchmark table1 --data autoimplant2020 -o planes.csv
  calvaria benchmark table2 --data autoimplant2020 --cache coarse.safetensors -o table2.csv
  calvaria benchmark table3 --data autoimplant2020 -o table3.csv
  calvaria benchmark table4 --data autoimplant2020 -o table4.csv
  calvaria benchmark cascade --clinical clinical-test -o cascade.csv
  calvaria benchmark implants --data autoimplant2020 -o implants.csv
  calvaria benchmark scans --data autoimplant2020 -o scans.csv --keep scans
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

app = typer.Typer(
    help="The papers' tables, implants of many holes, and simulated scans, each by one command.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("table1", epilog=table1.EXAMPLES)(table1.table1)
app.command("table2", epilog=table2.EXAMPLES)(table2.table2)
app.command("table3", epilog=table3.EXAMPLES)(table3.table3)
app.command("table4", epilog=table4.EXAMPLES)(table4.table4)
app.command("cascade", epilog=cascade.EXAMPLES)(cascade.cascade)
app.command("implants", epilog=implants.EXAMPLES)(implants.implants)
app.command("scans", epilog=scans.EXAMPLES)(scans.scans)


@app.callback()
def _group() -> None:
    """The papers' tables, implants of many holes, and simulated scans, each by one command."""


__all__ = ["app"]
