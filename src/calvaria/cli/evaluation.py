"""Scoring cases from their files, and the folder that an evaluation leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria import __version__
from calvaria.cli.screen import Screen, json_ready, one_line
from calvaria.errors import CalvariaError, InputError, MissingExtraError
from calvaria.results.folder import limit_threads
from calvaria.results.names import is_mesh

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from calvaria.skull.canonical import CanonicalFrame
    from calvaria.volume import Volume

Scores = dict[str, dict[str, float]]

TABLE, RECORD, PAGE, FIGURE = "scores.csv", "scores.json", "report.html", "distributions.png"
"""Names in the folder, beside ``errors-CASE.png`` and ``errors-CASE.ply``."""


@dataclass(frozen=True)
class Files:
    """The three files of a case, and how they are read.

    Args:
        patch: a mask or a closed mesh.
        truth: mask of the bone that was missing.
        defective: mask of the defective skull.
        orientation: where the voxel axes run, for files that do not say it.
        symmetry: whether the mid-sagittal plane is looked for.
    """

    patch: Path
    truth: Path
    defective: Path
    orientation: str | None = None
    symmetry: bool = False

    def read(self) -> tuple[Volume, Volume, Volume]:
        """Patch, truth and defective skull on one grid; a patch that is a mesh is brought onto it.

        Raises:
            InputError: a file cannot be read or is no mask.
        """
        from calvaria.io import read_as_mask, read_mask

        truth = _read_patch(self.truth, self.orientation)
        patch = (
            read_as_mask(self.patch, truth.grid) if is_mesh(self.patch) else _read_patch(self.patch, self.orientation)
        )
        return patch, truth, read_mask(self.defective, orientation=self.orientation)


def score_files(files: Files) -> dict[str, float]:
    """All metrics of one case.

    Raises:
        InputError: a file cannot be read or is no mask, or the grids differ.
    """
    from calvaria.metrics import measure

    patch, truth, defective = files.read()
    mirror = _frame(truth, defective).plane.reflect if files.symmetry else None
    return measure(patch, truth, defective, mirror)


def score_all(cases: Mapping[str, Files], jobs: int) -> Iterator[tuple[str, dict[str, float] | str]]:
    """Score cases, as they are done: the metrics, or one line that says what is wrong."""
    if jobs == 1 or len(cases) < 2:
        for name, files in cases.items():
            yield name, _attempt(files)
        return
    workers = min(jobs, len(cases))
    threads = max(1, (os.cpu_count() or 1) // workers)
    # spawn: a fork copies locks held by numpy's threads.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=limit_threads, initargs=(threads,))
    try:
        running = {pool.submit(_attempt, files): name for name, files in cases.items()}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Folder:
    """What is to be left of an evaluation.

    Args:
        path: the folder; made if it is not there.
        drawn: cases that get a picture of their errors, in this order.
        mesh: whether they get a coloured mesh, too.
    """

    path: Path
    drawn: Sequence[str]
    mesh: bool = False


def write_folder(
    folder: Folder, scores: Scores, failed: Mapping[str, str], files: Mapping[str, Files], screen: Screen
) -> None:
    """Write table, record, pictures and page.

    Args:
        folder: what, and where.
        scores: case -> metric -> value.
        failed: case -> why it has no scores.
        files: of each case.
        screen: told of the progress; warned where a figure is left out for want of a package.

    Raises:
        InputError: the disk refuses.
        MissingExtraError: a mesh is wanted and the package for it is not installed.
    """
    from calvaria.io import atomic_path
    from calvaria.io.scores import write_scores
    from calvaria.report import evaluation_page

    output = folder.path
    _make(output)
    write_scores(output / TABLE, scores)
    _write_record(output / RECORD, scores, failed)
    pictures: dict[str, Image] = {}
    with screen.progress() as progress:
        for number, name in enumerate(folder.drawn):
            progress(f"drawing {name}", number / len(folder.drawn))
            picture = _draw(output, name, files[name], folder.mesh)
            if picture is None:
                screen.warn(f"{name}: the true patch is empty; there are no errors to draw")
            else:
                pictures[name] = picture
    spread = _distributions(output, scores, screen) if len(scores) > 1 else None
    with atomic_path(output / PAGE) as part:
        part.write_text(evaluation_page(scores, pictures, spread, failed), encoding="utf-8")


def kind_of(name: str) -> str:
    """The kind of defect in a case's name, as the sets' folders and ours have it; "all" without one.

    >>> kind_of("train-004-frontoorbital"), kind_of("007")
    ('frontoorbital', 'all')
    """
    from calvaria.synthesis.defects.shapes import KINDS

    found = [kind for kind in (*KINDS, "official") if kind in name.lower()]
    return max(found, key=len) if found else "all"


def _attempt(files: Files) -> dict[str, float] | str:
    try:
        return score_files(files)
    except CalvariaError as error:
        return one_line(error)
    except MemoryError:
        return "out of memory: use fewer --jobs"


def _read_patch(path: Path, orientation: str | None) -> Volume:
    """A mask that may be empty: where an engine found nothing, that is scored too, and not left out of a mean."""
    from calvaria.io import read_mask, read_volume

    volume = read_volume(path, orientation=orientation)
    if volume.data.any():
        return read_mask(path, orientation=orientation)
    return volume.with_data(volume.data != 0)


def _frame(truth: Volume, defective: Volume) -> CanonicalFrame:
    """The canonical frame of the complete skull, the same whatever the prediction."""
    from calvaria.skull.canonical import locate

    return locate(defective.with_data(defective.mask | truth.mask))


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: this folder cannot be made ({error.strerror}); choose another -o") from error


def _write_record(path: Path, scores: Scores, failed: Mapping[str, str]) -> None:
    from calvaria.io.result import write_result_json
    from calvaria.metrics import METRICS, summarise

    record: dict[str, Any] = {
        "calvaria": __version__,
        "cases": [{"case": name, "scores": values} for name, values in scores.items()],
        "summary": {name: asdict(one) for name, one in summarise(scores).items()},
        "failed": dict(failed),
        "definitions": {name: METRICS[name].definition for name in next(iter(scores.values()))},
    }
    write_result_json(path, json_ready(record))


def _distributions(output: Path, scores: Scores, screen: Screen) -> NDArray[np.uint8] | None:
    from calvaria.report import distributions, save_png

    try:
        picture = distributions(scores, {name: kind_of(name) for name in scores})
    except MissingExtraError as error:
        screen.warn(f"no {FIGURE}: {error}")
        return None
    save_png(output / FIGURE, picture)
    return picture


def _draw(output: Path, name: str, files: Files, mesh: bool) -> Image | None:
    """The picture of a case's errors, drawn and written; None for a case without a true patch."""
    from calvaria.io import write_mesh
    from calvaria.report import colour_range, error_colours, error_mesh, render_errors, save_png

    patch, truth, defective = files.read()
    if not truth.mask.any():
        return None
    frame = _frame(truth, defective).to_world if files.symmetry else None
    picture = render_errors(patch, truth, defective, frame, title=name)
    flat = name.replace("/", "-")
    save_png(output / f"errors-{flat}.png", picture)
    if mesh and patch.mask.any():
        surface, errors = error_mesh(patch, truth, defective)
        colours = error_colours(errors.values, colour_range(errors.values))
        write_mesh(output / f"errors-{flat}.ply", surface, values=errors.values, colours=colours)
    return picture


__all__ = ["Files", "Folder", "kind_of", "score_all", "score_files", "write_folder"]
