"""``calvaria data``: what trains and tests: public sets, splits, defects, clinical tables, the training cache."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Public sets, splits, synthetic defects, clinical cases, the training cache.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Public sets, splits, synthetic defects, clinical cases, the training cache."""


__all__ = ["app"]
