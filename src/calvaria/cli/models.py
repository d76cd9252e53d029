"""``calvaria models``: the models that ship with the package, or those that were trained into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError

if TYPE_CHECKING:
    from calvaria.models import ModelInfo

EXAMPLES = """\b
Examples:
  calvaria models
  calvaria models --json
  calvaria models runs/ -v
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def models(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Where models were trained to; default: what ships.")
    ] = None,
    *,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the models at hand.

    With size, licence and hash; -v prints their cards.
    """
    from rich import box
    from rich.table import Table

    from calvaria.models import available

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    found = available() if folder is None else available(folder)
    if folder is not None and not found:
        raise InputError(f"{folder}: no models here; `calvaria train` writes them with an index.json beside")
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
