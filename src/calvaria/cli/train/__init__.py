"""``calvaria train``: from public skulls to weights."""

from __future__ import annotations

import typer

from calvaria.cli.train import cascade, reconstruction, shape_prior, sketches, symmetry

EXAMPLES = """\b
Examples:
  calvaria train shape-prior --data autoimplant2020 -o weights/shape-prior.safetensors
  calvaria train shape-prior --data autoimplant2020 --subjects all -o weights/shape-prior.safetensors
  calvaria train shape-prior --data autoimplant2020 --complete 20 --unlabelled none -o curve/20.safetensors
  calvaria train symmetry --encoder vit --cache coarse.safetensors -o weights/symmetry-vit.safetensors
  calvaria train reconstruction --network runet --alpha 1 --cache coarse.safetensors -o runs/runet-sym.safetensors
  calvaria train cascade --cache fine.safetensors --clinical clinical -o runs/cascade.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

app = typer.Typer(help="Make weights from skulls.", epilog=EXAMPLES, no_args_is_help=True, rich_markup_mode=None)
app.command("shape-prior", epilog=shape_prior.EXAMPLES)(shape_prior.shape_prior)
app.command("symmetry", epilog=symmetry.EXAMPLES)(symmetry.symmetry)
app.command("sketches", epilog=sketches.EXAMPLES)(sketches.sketches)
app.command("reconstruction", epilog=reconstruction.EXAMPLES)(reconstruction.reconstruction)
app.command("cascade", epilog=cascade.EXAMPLES)(cascade.cascade)


@app.callback()
def _group() -> None:
    """Make weights from skulls."""


__all__ = ["app"]
