"""``calvaria data import-clinical``: a table of CTs, implants and patches, as masks in the canonical frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.options import Json, Output, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable

if TYPE_CHECKING:
    from calvaria.clinical.importing import ImportReport

EXAMPLES = """\b
Examples:
  calvaria data import-clinical cases.csv -o clinical
  calvaria data import-clinical cases.csv -o clinical --spacing-mm 0.4 --jobs 4
\b
The table has a line for each case and the columns id, skull, implant, patch, kind, person, convention, notes:
  id,skull,implant,patch
  p001,p001/head-ct.nii.gz,p001/implant.stl,
  p002,p002/skull.nrrd,p002/implant.stl,p002/patch.stl
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

SOME_REFUSED, ALL_REFUSED = 3, 2
"""Exit codes: done, but not every case passed its checks; nothing could be used."""


def import_clinical(
    context: typer.Context,
    *,
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="The cases, a CSV; see docs/data.md.")],
    output: Output,
    spacing_mm: Annotated[float, typer.Option(metavar="MM", help="Voxel edge of the aligned grid.")] = 0.8,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Cases at the same time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Bring in clinical cases: CT or mask, implant, patch.

    Meshes may be in any of the usual coordinates: which, is found by how they sit in the hole. Every case is checked;
    one that cannot be used is named, with the reason and the figures, and the rest go on. Goes on where it was
    interrupted. Exit code 3 if some cases were refused, 2 if all were.
    """
    from calvaria.clinical.importing import import_clinical as run

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable(output)
    with screen.progress() as progress:
        report = run(table, output, spacing_mm=spacing_mm, jobs=jobs, progress=progress)
    _show(report, screen)
    if report.refused:
        raise typer.Exit(SOME_REFUSED if report.done else ALL_REFUSED)


def _show(report: ImportReport, screen: Screen) -> None:
    for case, lines in report.warnings.items():
        for line in lines:
            screen.warn(line if line.startswith(case) else f"{case}: {line}")
    for refusal in report.refused:
        screen.error(f"{refusal.name}: {refusal.reason}")
    total = len(report.done) + len(report.refused)
    kept = f" ({report.kept} were there already)" if report.kept else ""
    screen.say(f"{len(report.done)} of {total} cases can be used{kept}; {len(report.refused)} were refused")
    if report.population is not None:
        mean, sd = report.population["mean"], report.population["sd"]
        sizes = (f"{name[:-3]} {mean[name]:.1f} ± {sd[name]:.1f} mm" for name in mean)
        screen.say(f"mean of {report.population['count']} skulls: {', '.join(sizes)}")
    screen.say(str(report.output / "report.json"))
    screen.json(
        {
            "output": str(report.output),
            "usable": list(report.done),
            "kept": report.kept,
            "refused": [{"case": one.name, "line": one.line, "reason": one.reason} for one in report.refused],
            "warnings": report.warnings,
            "population": report.population,
        }
    )
