"""``calvaria models``: the models that ship with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen

if TYPE_CHECKING:
    from calvaria.models import ModelInfo

EXAMPLES = """\b
Examples:
  calvaria models
  calvaria models --json
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def models(context: typer.Context, *, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the models at hand.

    With size, licence and hash; -v prints their cards.
    """
    from rich import box
    from rich.table import Table

    from calvaria.models import available

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    found = available()
    table = Table("name", "kind", "MB", "licence", "sha256", box=box.SIMPLE_HEAD)
    for model in found:
        table.add_row(model.name, model.kind, f"{model.size_bytes / 1e6:.1f}", model.licence, model.sha256[:12])
    screen.show(table)
    if verbose:
        for model in found:
            screen.say(f"{model.name}\n\n{model.card}\n")
    screen.json([described(model) for model in found])


def described(model: ModelInfo) -> dict[str, Any]:
    """A model as JSON."""
    return {
        "name": model.name,
        "kind": model.kind,
        "licence": model.licence,
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "file": model.path.name,
    }
