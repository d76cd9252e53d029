"""``calvaria evaluate``: a patch against the truth, or a folder of patches against a folder of truths."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calvaria.cli.cases import Case, case_name, find_cases, find_patches, is_mesh, match
from calvaria.cli.options import Json, Orientation, Quiet, Verbose
from calvaria.cli.screen import Screen, one_line
from calvaria.errors import CalvariaError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from calvaria.volume import Volume

COLUMNS = {
    "dsc": ("DSC", ".3f"),
    "bdsc": ("bDSC", ".3f"),
    "hd95_mm": ("HD95 mm", ".2f"),
    "volume_error_percent": ("volume error %", "+.1f"),
    "overlap_voxels": ("overlap voxels", ".0f"),
}
"""Score -> its heading and format."""

HIGHER_IS_BETTER = frozenset({"dsc", "bdsc"})
"""Of these the worst is the lowest; of the others, the furthest from 0."""

EXAMPLES = """\b
Examples:
  calvaria evaluate out/patch.nrrd truth.nrrd --defective skull.nrrd
  calvaria evaluate out/patch.stl truth.nrrd --defective skull.nrrd
  calvaria evaluate results/ implants/ --defective skulls/ --json
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
    orientation: Orientation = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score a patch against the bone that was really missing.

    DSC, border DSC (10 mm) and HD95 by the definitions of the AutoImplant challenge. Files of folders belong
    together by what stands before the first dot of their names; PATCH may be the output of reconstruct.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    folders = [path.is_dir() for path in (patch, truth, defective)]
    if any(folders) and not all(folders):
        raise InputError("PATCH, TRUTH and --defective must be three files or three folders")
    if not any(folders):
        scores = {case_name(patch): score_files(patch, truth, defective, orientation)}
        _show(scores, {}, screen)
        return
    scores, failed = _score_folders(patch, truth, defective, orientation, screen)
    _show(scores, failed, screen)
    if failed:
        screen.error(f"{len(failed)} of {len(failed) + len(scores)} cases failed: {', '.join(failed)}")
        raise typer.Exit(2)


def score_files(patch: Path, truth: Path, defective: Path, orientation: str | None = None) -> dict[str, Any]:
    """The scores of one case, from three files on one grid; a patch that is a mesh is brought onto it.

    Raises:
        InputError: a file cannot be read or is no mask, or the grids differ.
    """
    from calvaria.io import read_as_mask, read_mask
    from calvaria.pipeline import evaluate

    reference = _read_patch(truth, orientation)
    prediction = read_as_mask(patch, reference.grid) if is_mesh(patch) else _read_patch(patch, orientation)
    return asdict(evaluate(prediction, reference, read_mask(defective, orientation=orientation)))


def _read_patch(path: Path, orientation: str | None) -> Volume:
    """A mask that may be empty: where an engine found nothing, that is scored too, and not left out of a mean."""
    from calvaria.io import read_mask, read_volume

    volume = read_volume(path, orientation=orientation)
    if volume.data.any():
        return read_mask(path, orientation=orientation)
    return volume.with_data(volume.data != 0)


def _score_folders(
    patch: Path, truth: Path, defective: Path, orientation: str | None, screen: Screen
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The scores by case, and one line for each case that has none."""
    patches, truths, skulls = match(find_patches(patch), find_cases(truth), find_cases(defective))
    unused = sorted(set(truths) - set(patches))
    if unused:
        screen.warn(f"{len(unused)} truths have no patch and are not scored: {', '.join(unused)}")
    scores: dict[str, dict[str, Any]] = {}
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


def summarise(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, sample standard deviation and worst of each score over the cases; empty for fewer than two.

    An infinite distance (one of the two is empty) stays infinite in the mean: it is not left out.

    >>> summarise({"a": {"dsc": 0.5}, "b": {"dsc": 1.0}})["mean"]
    {'dsc': 0.75}
    """
    if len(scores) < 2:
        return {}
    import numpy as np

    rows: dict[str, dict[str, float]] = {"mean": {}, "sd": {}, "worst": {}}
    for key in next(iter(scores.values())):
        values = np.array([float(case[key]) for case in scores.values()])
        finite = bool(np.isfinite(values).all())
        rows["mean"][key] = float(values.mean())
        rows["sd"][key] = float(values.std(ddof=1)) if finite else float("nan")
        worst = values.argmin() if key in HIGHER_IS_BETTER else np.abs(values).argmax()
        rows["worst"][key] = float(values[worst])
    return rows


def _show(scores: dict[str, dict[str, Any]], failed: dict[str, str], screen: Screen) -> None:
    rows = summarise(scores)
    if scores:
        screen.show(_table(scores, rows))
    cases = [{"case": name, "scores": values} for name, values in scores.items()]
    screen.json({"cases": cases, "summary": rows, "failed": failed})


def _table(scores: dict[str, dict[str, Any]], rows: dict[str, dict[str, float]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("case")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    for number, (name, values) in enumerate(scores.items(), 1):
        cells = [format(values[key], form) for key, (_, form) in COLUMNS.items()]
        table.add_row(name, *cells, end_section=bool(rows) and number == len(scores))
    for name, figures in rows.items():
        table.add_row(name, *(format(figures[key], form) for key, (_, form) in COLUMNS.items()))
    return table
