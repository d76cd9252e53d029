"""``calvaria evaluate``: a patch against the truth, or a folder of patches against a folder of truths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.cases import Case, case_name, find_cases, find_patches, is_mesh, match
from calvaria.cli.options import Json, Orientation, Quiet, Verbose
from calvaria.cli.screen import Screen, one_line
from calvaria.errors import CalvariaError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from calvaria.volume import Volume

COLUMNS = ("dsc", "bdsc", "hd95_mm", "sdsc_1mm", "msd_mm", "volume_error_percent", "border_mm", "gap_mm")
"""Metrics of the table of several cases; one case, JSON and CSV have them all."""

EXAMPLES = """\b
Examples:
  calvaria evaluate out/patch.nrrd truth.nrrd --defective skull.nrrd
  calvaria evaluate out/patch.stl truth.nrrd --defective skull.nrrd
  calvaria evaluate results/ implants/ --defective skulls/ --csv scores.csv
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def evaluate(
    context: typer.Context,
    *,
    patch: Annotated[Path, typer.Argument(metavar="PATCH", help="The patch (a mask, or a closed mesh), or a folder.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Mask of the bone that was missing, or a folder.")],
    defective: Annotated[
        Path, typer.Option("--defective", metavar="SKULL", help="Mask of the defective skull, or a folder.")
    ],
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write all metrics, a row a case, for compare.")
    ] = None,
    orientation: Orientation = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score a patch against the bone that was really missing.

    DSC, border DSC (10 mm) and HD95 by the definitions of the AutoImplant challenge, and every other metric in use; -v
    says how each is defined. Files of folders belong together by what stands before the first dot of their names;
    PATCH may be the output of reconstruct.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    folders = [path.is_dir() for path in (patch, truth, defective)]
    if any(folders) and not all(folders):
        raise InputError("PATCH, TRUTH and --defective must be three files or three folders")
    if not any(folders):
        scores = {case_name(patch): score_files(patch, truth, defective, orientation)}
        _write(csv, scores)
        _show(scores, {}, screen)
        return
    scores, failed = _score_folders(patch, truth, defective, orientation, screen)
    _write(csv, scores)
    _show(scores, failed, screen)
    if failed:
        screen.error(f"{len(failed)} of {len(failed) + len(scores)} cases failed: {', '.join(failed)}")
        raise typer.Exit(2)


def score_files(patch: Path, truth: Path, defective: Path, orientation: str | None = None) -> dict[str, float]:
    """All metrics of one case, from three files on one grid; a patch that is a mesh is brought onto it.

    Raises:
        InputError: a file cannot be read or is no mask, or the grids differ.
    """
    from calvaria.io import read_as_mask, read_mask
    from calvaria.metrics import measure

    reference = _read_patch(truth, orientation)
    prediction = read_as_mask(patch, reference.grid) if is_mesh(patch) else _read_patch(patch, orientation)
    return measure(prediction, reference, read_mask(defective, orientation=orientation))


def _read_patch(path: Path, orientation: str | None) -> Volume:
    """A mask that may be empty: where an engine found nothing, that is scored too, and not left out of a mean."""
    from calvaria.io import read_mask, read_volume

    volume = read_volume(path, orientation=orientation)
    if volume.data.any():
        return read_mask(path, orientation=orientation)
    return volume.with_data(volume.data != 0)


def _score_folders(
    patch: Path, truth: Path, defective: Path, orientation: str | None, screen: Screen
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """The scores by case, and one line for each case that has none."""
    patches, truths, skulls = match(find_patches(patch), find_cases(truth), find_cases(defective))
    unused = sorted(set(truths) - set(patches))
    if unused:
        screen.warn(f"{len(unused)} truths have no patch and are not scored: {', '.join(unused)}")
    scores: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    with screen.progress() as progress:
        for done, name in enumerate(sorted(patches)):
            progress(name, done / len(patches))
            try:
                missing, skull = _partner(truths, name, truth), _partner(skulls, name, defective)
                scores[name] = score_files(patches[name].path, missing, skull, orientation)
            except CalvariaError as error:
                failed[name] = one_line(error)
                screen.error(f"{name}: {failed[name]}")
    return scores, failed


def _partner(cases: dict[str, Case], name: str, folder: Path) -> Path:
    if name not in cases:
        raise InputError(f"no file of that name in {folder.name}")
    return cases[name].path


def summarise(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, sample standard deviation, median and worst of each metric over the cases; empty for fewer than two.

    An infinite distance (one of the two is empty) stays infinite in the mean: it is not left out. Where a metric is not
    defined for a case, neither is its mean.

    >>> summarise({"a": {"dsc": 0.5}, "b": {"dsc": 1.0}})["mean"]
    {'dsc': 0.75}
    """
    if len(scores) < 2:
        return {}
    import numpy as np

    from calvaria.metrics import METRICS

    rows: dict[str, dict[str, float]] = {"mean": {}, "sd": {}, "median": {}, "worst": {}}
    for key in next(iter(scores.values())):
        values = np.array([case[key] for case in scores.values()])
        finite = bool(np.isfinite(values).all())
        rows["mean"][key] = float(values.mean())
        rows["sd"][key] = float(values.std(ddof=1)) if finite else float("nan")
        rows["median"][key] = _median(values)
        worst = values.argmin() if METRICS[key].better == "higher" else np.abs(values).argmax()
        rows["worst"][key] = float(values[worst])
    return rows


def _median(values: NDArray[np.float64]) -> float:
    """The median, also of infinite values; of two middle ones the larger, where only that is infinite."""
    ordered = sorted(values.tolist())
    if any(math.isnan(value) for value in ordered):
        return math.nan
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _write(path: Path | None, scores: dict[str, dict[str, float]]) -> None:
    if path is not None and scores:
        from calvaria.io.scores import write_scores

        write_scores(path, scores)


def _show(scores: dict[str, dict[str, float]], failed: dict[str, str], screen: Screen) -> None:
    rows = summarise(scores)
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
        table.add_row(metric.title, format(value, metric.form), *words)
    return table


def _table(scores: dict[str, dict[str, float]], rows: dict[str, dict[str, float]]) -> Table:
    from rich import box
    from rich.table import Table

    from calvaria.metrics import METRICS

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("case")
    for key in COLUMNS:
        table.add_column(METRICS[key].title, justify="right")
    for number, (name, values) in enumerate(scores.items(), 1):
        cells = [format(values[key], METRICS[key].form) for key in COLUMNS]
        table.add_row(name, *cells, end_section=number == len(scores))
    for name, figures in rows.items():
        table.add_row(name, *(format(figures[key], METRICS[key].form) for key in COLUMNS))
    return table
