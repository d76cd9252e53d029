"""``calvaria train reconstruction``: a network that gives the missing bone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.models import described
from calvaria.cli.options import WORK, Device, Json, Minutes, Quiet, TrainingCache, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria data cache autoimplant2020 -o coarse.safetensors
  calvaria train reconstruction --cache coarse.safetensors -o runs/runet.safetensors --dry-run
  calvaria train reconstruction --network runet --alpha 1 --cache coarse.safetensors -o runs/runet-sym.safetensors
  calvaria train reconstruction --network segresnet --minutes 10 --cache coarse.safetensors -o runs/seg.safetensors
  calvaria train reconstruction --network my_package.nets.MyNet --cache coarse.safetensors -o runs/mine.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def reconstruction(
    context: typer.Context,
    *,
    cache: TrainingCache,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The weights, .safetensors.")],
    network: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="runet, swinunetr, unetr, attentionunet, segresnet, or your own by its dotted name."
        ),
    ] = "runet",
    size: Annotated[str, typer.Option(metavar="SIZE", help="small, for a CPU, or full.")] = "small",
    coarsen: Annotated[
        int | None, typer.Option(metavar="N", help="Cache voxels along a training voxel; 1: the cache's own grid.")
    ] = None,
    alpha: Annotated[
        float, typer.Option(metavar="A", help="Weight of the symmetry loss; 0: without (eq. 2 of the paper: 1).")
    ] = 0.0,
    alpha_rise: Annotated[
        int | None, typer.Option(metavar="N", help="Steps over which that weight rises from 0.")
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Show it the shape prior's sketches too, from `calvaria train sketches`."),
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="WINDOW", help="Where symmetry is asked for: skull, calvaria or patch.")
    ] = None,
    symmetry: Annotated[str | None, typer.Option(metavar="NAME", help="The symmetry network, by name or file.")] = None,
    cross_entropy: Annotated[
        float | None, typer.Option(metavar="W", help="Weight of the cross entropy beside the Dice loss.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Of the optimiser.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Cases a step and process.")] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Learning rate at its highest.")] = None,
    precision: Annotated[str | None, typer.Option(metavar="NAME", help="32-true or bf16-mixed.")] = None,
    patience: Annotated[
        int | None, typer.Option(metavar="N", help="Looks without a better one after which it stops; 0: never.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of everything that is drawn.")] = None,
    work: Annotated[Path, typer.Option(metavar="FOLDER", help="For what may be resumed, curves and pictures.")] = WORK,
    minutes: Minutes = None,
    device: Annotated[Device, typer.Option(help="Where it is trained.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="GPUs, or processes on a CPU.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say steps, memory and time of the whole, after a few steps.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a reconstruction network, with or without the symmetry loss.

    Goes on where it was interrupted, on the same curve. Needs torch and Lightning: pip install 'calvaria[train]'; all
    networks but runet need MONAI as well: pip install 'calvaria[zoo]'.
    """
    import sys

    from calvaria.training.reconstruction import Recipe, build
    from calvaria.training.symmetry import device_of

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if not dry_run:
        require_writable_file(output)
    given = {
        "coarsen": coarsen,
        "alpha_rise": alpha_rise,
        "prior": prior,
        "window": window,
        "symmetry": symmetry,
        "cross_entropy": cross_entropy,
        "steps": steps,
        "batch": batch,
        "rate": rate,
        "precision": precision,
        "patience": patience,
        "seed": seed,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    recipe = Recipe(cache, work, output, network, size, alpha=alpha, **chosen)  # type: ignore[arg-type]
    where = device_of(device)
    if dry_run:
        from calvaria.training.rehearsal import rehearse

        found = rehearse(recipe, where)
        for line in found.lines():
            screen.say(line)
        screen.json(found.as_json())
        return
    bar = sys.stderr.isatty() and not quiet
    info = build(recipe, screen.say, minutes=minutes, device=where, devices=devices, bar=bar)
    if info is not None:
        screen.say(f"{info.path}: {info.size_bytes / 1e6:.1f} MB, sha256 {info.sha256}, licence {info.licence}")
        screen.json(described(info))


__all__ = ["EXAMPLES", "reconstruction"]
