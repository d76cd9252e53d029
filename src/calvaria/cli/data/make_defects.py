"""``calvaria data make-defects``: a data set of synthetic defects from complete skulls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.options import Json, Output, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.files import require_writable
from calvaria.results.names import find_cases

if TYPE_CHECKING:
    from calvaria.synthesis.defects.make import Made

EXAMPLES = """\b
Examples:
  calvaria data make-defects autoimplant2020 -o defects
  calvaria data make-defects skulls/ -o sawn --kind craniotomy --kind hemicraniectomy --per-kind 2 --jobs 2
  calvaria data make-defects skulls/ -o fitted --match clinical/population.json
  calvaria data make-defects skulls/ -o old --kind random_1 --rim healing --rim thinning --seed 7
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

INNER = ("training_set/complete_skull", "complete_skull")
"""Where data sets keep their complete skulls."""


def make_defects(
    context: typer.Context,
    *,
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Complete skulls (masks), or a set that has complete_skull/.")
    ],
    output: Output,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="bilateral, frontoorbital, parietotemporal, random_1, random_2 (these five by default), "
            "ball, craniotomy, hemicraniectomy, bifrontal or multiple; may be given several times.",
        ),
    ] = None,
    per_kind: Annotated[int, typer.Option(min=1, metavar="N", help="Defects of each kind in every skull.")] = 1,
    rim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANGE",
            help="healing, thinning, roughening or fragments: one of those given befalls each rim; rims stay as cut "
            "where none is given.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same files.")] = 0,
    match: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rescale the skulls to this population.json of import-clinical.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Skulls that are worked on at the same time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Cut synthetic defects out of skulls.

    They are written as SkullBreak is laid out.

    complete_skull/NAME.nrrd, defective_skull/KIND/NAME.nrrd, implant/KIND/NAME.nrrd (the exact patch), and specs.json
    with what was cut, where, and how large. Goes on where it was interrupted. A skull that cannot be used is named;
    the others go on.
    """
    from calvaria.skull.proportions import read_population
    from calvaria.synthesis.defects.make import AS_THEY_ARE, SKULLBREAK_KINDS, Settings, factors_to
    from calvaria.synthesis.defects.make import make_defects as run

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable(output)
    kinds = tuple(kind) if kind else SKULLBREAK_KINDS
    settings = Settings(kinds, per_kind, tuple(rim or ()), seed)  # before any work: a word that means nothing is said
    target = None if match is None else read_population(match)
    skulls = {case.name: case.path for case in find_cases(_inner(source))}
    with screen.progress() as progress:
        factors = AS_THEY_ARE if target is None else factors_to(target, skulls, progress)
        settings = replace(settings, rescale=factors)
        made = run(
            skulls,
            output,
            settings,
            jobs=jobs,
            progress=progress,
            tell=lambda name, text: screen.error(f"{name}: {text}"),
        )
    if target is not None:
        screen.say("heads rescaled by " + ", ".join(f"{f:.3f}" for f in factors) + " (breadth, length, height)")
    _show(made, output, len(skulls), len(settings.folders()), screen)
    if made.failed:
        screen.error(f"{len(made.failed)} of {len(skulls)} skulls failed: {', '.join(sorted(made.failed))}")
        raise typer.Exit(1 if made.bugs else 2)


def _inner(source: Path) -> Path:
    """The folder of complete skulls."""
    if not source.is_dir():
        raise InputError(f"{source}: there is no such folder; give one of complete skulls")
    return next((source / name for name in INNER if (source / name).is_dir()), source)


def _show(made: Made, output: Path, count: int, each: int, screen: Screen) -> None:
    done = count - len(made.failed)
    kept = f" ({len(made.kept)} were there already)" if made.kept else ""
    screen.say(f"{done} of {count} skulls, {done * each} defects{kept}: {output}")
    screen.json(
        {
            "output": str(output),
            "skulls": {name: made.skulls[name] for name in sorted(made.skulls)},
            "kept": made.kept,
            "failed": dict(sorted(made.failed.items())),
        }
    )
