"""``calvaria evaluate``: a patch against the truth, or a folder of patches against a folder of truths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from calvaria.cli.cases import require_alone, require_scheduler
from calvaria.cli.options import Again, Json, OneStudy, Orientation, Quiet, Scheduler, Series, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.files import require_writable_file
from calvaria.results.evaluation import (
    FILE_NAMES,
    PAGE,
    Cluster,
    Files,
    Folder,
    match_files,
    score_all,
    score_files,
    write_folder,
)
from calvaria.results.names import case_name, is_dicom
from calvaria.results.scored import SCORED, Scored
from calvaria.results.staging import require_room

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("dsc", "bdsc", "hd95_mm", "sdsc_1mm", "msd_mm", "volume_error_percent", "border_mm", "gap_mm")
"""Metrics of the table of several cases; one case, JSON and CSV have them all."""

ROWS = ("mean", "sd", "median", "worst", "worst_case", "undefined")
"""What stands below the cases of the table; the last, how many cases have no value, only where some have none."""

EXAMPLES = """\b
Examples:
  calvaria evaluate out/patch.nrrd truth.nrrd --defective skull.nrrd
  calvaria evaluate out/patch.stl truth.nrrd --defective skull.nrrd -o evaluation --mesh
  calvaria evaluate out/patch.nrrd truth.nrrd --defective study.zip --series 201
  calvaria evaluate results/ implants/ --defective skulls/ -o evaluation --jobs 2
  calvaria evaluate results/ implants/ --defective skulls/ -o evaluation --scheduler tcp://host:8786
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


class Score(Protocol):
    """What scores several cases."""

    def __call__(self, cases: dict[str, Files], /) -> Iterator[tuple[str, dict[str, float] | str]]:
        """Give each name with the metrics, or one line that says what is wrong."""


def evaluate(
    context: typer.Context,
    *,
    patch: Annotated[Path, typer.Argument(metavar="PATCH", help="The patch (a mask, or a closed mesh), or a folder.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Mask of the bone that was missing, or a folder.")],
    defective: Annotated[
        Path,
        typer.Option(
            "--defective",
            metavar="SKULL",
            help="Mask of the defective skull, or its CT as DICOM (folder, zip); or a folder of masks.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="Also write tables, figures and a page (report.html)."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write all metrics, a row a case, for compare.")
    ] = None,
    draw: Annotated[
        int, typer.Option("--draw", metavar="N", min=0, help="With -o: draw the errors of so many of the worst cases.")
    ] = 5,
    mesh: Annotated[
        bool, typer.Option("--mesh", help="With -o: also write their patches as PLY, coloured by the error in mm.")
    ] = False,
    symmetry: Annotated[
        bool, typer.Option("--symmetry", help="Also measure the symmetry; finding the plane takes some seconds a case.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Cases of a folder that are scored at the same time.")] = 1,
    again: Again = False,
    scheduler: Scheduler = None,
    orientation: Orientation = None,
    series: Series = None,
    study: OneStudy = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score a patch against the bone that was really missing.

    DSC, border DSC (10 mm) and HD95 by the definitions of the AutoImplant challenge, and every other metric in use; -v
    says how each is defined. Files of folders belong together by what stands before the first dot of their names;
    PATCH may be the output of reconstruct. Kinds of defects (bilateral, frontoorbital ...) are recognised by the names.
    With -o, the scores of a folder's cases are kept where no file has changed since.
    """
    from calvaria.io.scores import write_scores
    from calvaria.metrics import worst_cases

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    folders = [path.is_dir() for path in (patch, truth)] + [defective.is_dir() and not is_dicom(defective)]
    if any(folders) and not all(folders):
        raise InputError("PATCH, TRUTH and --defective must be three files or three folders")
    _require_ready(output, csv, mesh=mesh)
    cluster = _cluster(scheduler, patch, output)
    failed: dict[str, str] = {}
    if any(folders):
        files, failed = _match(patch, truth, defective, screen)
    else:
        files = {case_name(patch): Files(patch, truth, defective)}
    files = {
        name: replace(one, orientation=orientation, symmetry=symmetry, series=series, study=study)
        for name, one in files.items()
    }
    if any(folders):
        scored = None if output is None else Scored(output, again=again)
        scores = _score(files, failed, partial(score_all, jobs=jobs, cluster=cluster), screen, scored)
    else:
        scores = {name: score_files(one) for name, one in files.items()}
    if csv is not None and scores:
        write_scores(csv, scores)
    if output is not None and scores:
        folder = Folder(output, worst_cases(scores, draw), mesh, {name: defect_kind(name) for name in scores})
        with screen.progress() as progress:
            left_out = write_folder(folder, scores, failed, files, progress)
        for text in left_out:
            screen.warn(text)
    _show(scores, failed, screen)
    if output is not None and scores:
        screen.say(str(output / PAGE))
    if failed:
        screen.error(f"{len(failed)} of {len(failed) + len(scores)} cases failed: {', '.join(failed)}")
        raise typer.Exit(2)


def _require_ready(output: Path | None, csv: Path | None, *, mesh: bool) -> None:
    """Raise, before any reading, where what is asked for could not be written."""
    if mesh and output is None:
        raise InputError("--mesh writes files: name a folder for them with -o")
    if mesh:
        from calvaria.report.errors import require_decimation

        require_decimation()
    if output is not None:
        require_room(output, (*FILE_NAMES, SCORED))
    if csv is not None:
        require_writable_file(csv, parents=False)


def _cluster(scheduler: str | None, patch: Path, output: Path | None) -> Cluster | None:
    """Who scores, where that is asked for.

    Raises:
        MissingExtraError: Dask is not installed.
        InputError: there is one case only, or no folder for what the machines share.
    """
    if scheduler is None:
        return None
    require_scheduler(scheduler)
    if not patch.is_dir():
        require_alone(scheduler, patch)
    if output is None:
        raise InputError("--scheduler: name a folder that this machine and all workers share with -o")
    return Cluster(scheduler, output)


def _match(patch: Path, truth: Path, defective: Path, screen: Screen) -> tuple[dict[str, Files], dict[str, str]]:
    """The files of each case, and one line for each case that lacks some; both are said."""
    found = match_files(patch, truth, defective)
    if found.unused:
        screen.warn(f"{len(found.unused)} truths have no patch and are not scored: {', '.join(found.unused)}")
    for name, why in found.failed.items():
        screen.error(f"{name}: {why}")
    return found.files, found.failed


def defect_kind(name: str) -> str:
    """The kind of defect in a case's name, as the sets' folders and ours have it; "all" without one.

    >>> defect_kind("train-004-frontoorbital"), defect_kind("007")
    ('frontoorbital', 'all')
    """
    from calvaria.synthesis.defects.shapes import KINDS

    found = [kind for kind in (*KINDS, "official") if kind in name.lower()]
    return max(found, key=len) if found else "all"


def _score(
    files: dict[str, Files], failed: dict[str, str], score: Score, screen: Screen, scored: Scored | None
) -> dict[str, dict[str, float]]:
    """The metrics of each case, in order of name; what fails is said, and added to ``failed``.

    Args:
        files: of each case.
        failed: case -> why it has no scores.
        score: gives the metrics of cases, or what is wrong with them, as they come.
        screen: where all is said.
        scored: what an earlier evaluation has left, to which the others are added.
    """
    scores = {} if scored is None else scored.kept(files)
    if scores:
        screen.say(f"{len(scores)} of {len(files)} cases are done already; --again runs them, too")
    left = {name: one for name, one in files.items() if name not in scores}
    with screen.progress() as progress:
        progress(f"0 of {len(left)} cases", 0.0)
        for done, (name, found) in enumerate(score(left), 1):
            progress(f"{done} of {len(left)} cases", done / len(left))
            if isinstance(found, str):
                failed[name] = found
                screen.error(f"{name}: {found}")
            else:
                scores[name] = found
                if scored is not None:
                    scored.add(name, found)
    return {name: scores[name] for name in files if name in scores}


def _show(scores: dict[str, dict[str, float]], failed: dict[str, str], screen: Screen) -> None:
    from calvaria.metrics import summarise

    summary = summarise(scores) if len(scores) > 1 else {}
    rows = {row: {name: getattr(one, row) for name, one in summary.items()} for row in ROWS} if summary else {}
    if len(scores) == 1:
        screen.show(_list(next(iter(scores.values())), screen.verbose))
    elif scores:
        screen.show(_table(scores, rows))
    cases = [{"case": name, "scores": values} for name, values in scores.items()]
    screen.json({"cases": cases, "summary": rows, "failed": failed})


def _list(values: dict[str, float], verbose: bool) -> Table:
    """All metrics of one case, one under the other."""
    from rich import box
    from rich.table import Table

    from calvaria.metrics import METRICS

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    if verbose:
        table.add_column("definition")
    for name, value in values.items():
        metric = METRICS[name]
        words = (f"{metric.definition} ({metric.source})",) if verbose else ()
        table.add_row(metric.title, metric.text(value), *words)
    return table


def _table(scores: dict[str, dict[str, float]], rows: dict[str, dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    from calvaria.metrics import METRICS

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("case")
    for key in COLUMNS:
        table.add_column(METRICS[key].title, justify="right")
    for number, (name, values) in enumerate(scores.items(), 1):
        cells = [METRICS[key].text(values[key]) for key in COLUMNS]
        table.add_row(name, *cells, end_section=number == len(scores))
    for name, figures in rows.items():
        if name == "undefined" and not any(figures[key] for key in COLUMNS):
            continue
        plain = name in ("worst_case", "undefined")
        cells = [str(figures[key]) if plain else METRICS[key].text(figures[key]) for key in COLUMNS]
        table.add_row(name.replace("_", " "), *cells)
    return table
