"""``calvaria data cache`` and ``calvaria data deformations``: what training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.options import Jobs, Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria data cache autoimplant2020 -o coarse.safetensors
  calvaria data cache autoimplant2020 -o fine.safetensors --refine 3 --jobs 2
"""

DEFORMATION_EXAMPLES = """\b
Examples:
  calvaria data deformations coarse.safetensors -o deformations.safetensors --jobs 2
"""


def cache(
    context: typer.Context,
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="A data set.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The cache, .safetensors.")],
    data_set: Annotated[
        str, typer.Option("--set", metavar="NAME", help="Its layout; auto tells by its files.")
    ] = "auto",
    refine: Annotated[
        int, typer.Option(min=1, max=4, metavar="N", help="1: voxels of 1.6 mm; 2: 0.8; 3: 0.53; 4: 0.4.")
    ] = 1,
    jobs: Jobs = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pack the skulls of a set for training.

    Every skull in the canonical frame, one bit a voxel, in one file.

    About 3 s a complete skull, 10 s one with a hole (it is completed first) and a core. An interrupted run goes on; a
    second one makes only what has changed. The file descends from the skulls: their licence holds for it.
    """
    from calvaria.datasets.catalog import read_set
    from calvaria.synthesis.cache_build import build_cache

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    with screen.progress() as progress:
        built = build_cache(read_set(data_set, root), output, refine=refine, jobs=jobs, progress=progress)
    for why in built.refused.values():
        screen.warn(why)
    size_mb = built.path.stat().st_size / 1e6
    left_out = f", {len(built.refused)} left out" if built.refused else ""
    screen.say(f"{built.path}: {built.skulls} skulls, {built.made} made now{left_out}; {size_mb:.1f} MB")
    screen.json({"file": str(built.path), "skulls": built.skulls, "made": built.made, "refused": built.refused})


def deformations(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="CACHE", help="A coarse training cache.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The deformations, .safetensors.")],
    jobs: Jobs = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Lay skulls over the mean skull.

    Then skulls between skulls can be made.

    About 8 s a skull and core. An interrupted run goes on where it was. Needs the extra "train".
    """
    from calvaria.synthesis.between import build_deformations

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    with screen.progress() as progress:
        found, made = build_deformations(source, output, jobs=jobs, progress=progress)
    off = float(found.misfit_mm.mean())
    size_mb = output.stat().st_size / 1e6
    screen.say(f"{output}: {len(found)} skulls, {made} made now, {off:.2f} mm off on average; {size_mb:.1f} MB")
    screen.json({"file": str(output), "skulls": len(found), "made": made, "mean_misfit_mm": off})
