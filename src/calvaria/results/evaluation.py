"""Scoring cases from their files, and the folder that an evaluation leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria import __version__
from calvaria.errors import CalvariaError, MissingExtraError, one_line
from calvaria.files import atomic_path, require_writable
from calvaria.jobs import Progress, in_processes, unheard
from calvaria.results.names import find_cases, find_patches, is_dicom, is_mesh, match
from calvaria.results.reading import read_case
from calvaria.results.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from calvaria.skull.canonical import CanonicalFrame
    from calvaria.volume import Volume

Scores = dict[str, dict[str, float]]

TABLE, RECORD, PAGE, FIGURE = "scores.csv", "scores.json", "report.html", "distributions.png"
FILE_NAMES = (TABLE, RECORD, PAGE, FIGURE)
"""Names in the folder, beside ``errors-CASE.png`` and ``errors-CASE.ply``."""


@dataclass(frozen=True)
class Files:
    """The three files of a case, and how they are read.

    Args:
        patch: a mask or a closed mesh.
        truth: mask of the bone that was missing.
        defective: mask of the defective skull, or its CT as DICOM.
        orientation: where the voxel axes run, for files that do not say it.
        symmetry: whether the mid-sagittal plane is looked for.
        series: which one of the DICOM, by number or UID; None: the best.
        study: which one of the DICOM; None: the only one.
    """

    patch: Path
    truth: Path
    defective: Path
    orientation: str | None = None
    symmetry: bool = False
    series: str | None = None
    study: int | None = None

    def read(self) -> tuple[Volume, Volume, Volume]:
        """Patch, truth and defective skull on one grid; a patch that is a mesh is brought onto it.

        Raises:
            InputError: a file cannot be read or is no mask.
        """
        from calvaria.io import read_as_mask

        truth = _read_patch(self.truth, self.orientation)
        patch = (
            read_as_mask(self.patch, truth.grid) if is_mesh(self.patch) else _read_patch(self.patch, self.orientation)
        )
        return patch, truth, self._skull()

    def with_whole_paths(self) -> Files:
        """The same, named from the root: a process elsewhere has another folder."""
        paths = (self.patch.absolute(), self.truth.absolute(), self.defective.absolute())
        return replace(self, patch=paths[0], truth=paths[1], defective=paths[2])

    def _skull(self) -> Volume:
        """The bone of the defective skull."""
        from calvaria.io import read_mask

        asked = Settings(orientation=self.orientation, series=self.series, study=self.study)
        if not is_dicom(self.defective) and self.series is None and self.study is None:
            return read_mask(self.defective, orientation=self.orientation)
        read = read_case(self.defective, asked, [])
        from calvaria.skull.bone import bone_of

        return bone_of(read.volume, read.kind("auto"), name=self.defective.name).bone


@dataclass(frozen=True)
class Matched:
    """Files of folders that belong together.

    Args:
        files: case -> its three files, in order of name.
        failed: case -> why it cannot be scored.
        unused: truths without a patch.
    """

    files: dict[str, Files]
    failed: dict[str, str]
    unused: list[str]


def match_files(patch: Path, truth: Path, defective: Path) -> Matched:
    """The files of each case in three folders; `calvaria.results.names.match` says which belong together.

    Raises:
        InputError: a folder holds no image, or two of one name.
    """
    patches, truths, skulls = match(find_patches(patch), find_cases(truth), find_cases(defective))
    files: dict[str, Files] = {}
    failed: dict[str, str] = {}
    for name in sorted(patches):
        lacking = [folder.name for cases, folder in ((truths, truth), (skulls, defective)) if name not in cases]
        if lacking:
            failed[name] = f"no file of that name in {lacking[0]}"
        else:
            files[name] = Files(patches[name].path, truths[name].path, skulls[name].path)
    return Matched(files, failed, sorted(set(truths) - set(patches)))


def score_files(files: Files) -> dict[str, float]:
    """All metrics of one case.

    Raises:
        InputError: a file cannot be read or is no mask, or the grids differ.
    """
    from calvaria.metrics import measure

    patch, truth, defective = files.read()
    mirror = _frame(truth, defective).plane.reflect if files.symmetry else None
    return measure(patch, truth, defective, mirror)


@dataclass(frozen=True)
class Cluster:
    """Other machines that score.

    Args:
        scheduler: the address of a Dask scheduler whose workers see the same files under the same names.
        shared: a folder, made where it is not there, that this machine and all workers see.
    """

    scheduler: str
    shared: Path


def score_all(
    cases: Mapping[str, Files], jobs: int = 1, *, cluster: Cluster | None = None
) -> Iterator[tuple[str, dict[str, float] | str]]:
    """Score cases.

    Args:
        cases: name -> its files.
        jobs: how many are scored at the same time, each in a process of its own.
        cluster: who scores them; ``jobs`` does not count then.

    Yields:
        Each name, in the order in which they are done, with the metrics, or one line that says what is wrong.

    Raises:
        MissingExtraError: Dask is not installed.
        InputError: no scheduler answers.
    """
    if cluster is None:
        for (name, _), found in in_processes(_attempt, list(cases.items()), jobs, lost=_lost):
            yield name, found
        return
    from calvaria.results.cluster import on_scheduler

    if cases:
        whole = [(name, files.with_whole_paths()) for name, files in cases.items()]
        come = on_scheduler(_attempt, whole, cluster.scheduler, cluster.shared, lambda case, why: why)
        for (name, _), found in come:
            yield name, found


@dataclass(frozen=True)
class Folder:
    """What is to be left of an evaluation.

    Args:
        path: the folder; made if it is not there.
        drawn: cases that get a picture of their errors, in this order.
        mesh: whether they get a coloured mesh, too.
        groups: case -> the group whose distribution it is drawn in; those that are not named are "all".
    """

    path: Path
    drawn: Sequence[str]
    mesh: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)


def write_folder(
    folder: Folder,
    scores: Scores,
    failed: Mapping[str, str],
    files: Mapping[str, Files],
    progress: Progress = unheard,
) -> list[str]:
    """Write table, record, pictures and page.

    Args:
        folder: what, and where.
        scores: case -> metric -> value.
        failed: case -> why it has no scores.
        files: of each case.
        progress: called with which case is drawn.

    Returns:
        A line for each figure that is left out, and why.

    Raises:
        InputError: the disk refuses.
        MissingExtraError: a mesh is wanted and the package for it is not installed.
    """
    from calvaria.io.scores import write_scores
    from calvaria.report import evaluation_page

    output = folder.path
    require_writable(output)
    output.mkdir(parents=True, exist_ok=True)
    write_scores(output / TABLE, scores)
    _write_record(output / RECORD, scores, failed)
    left_out = []
    pictures: dict[str, Image] = {}
    for number, name in enumerate(folder.drawn):
        progress(f"drawing {name}", number / len(folder.drawn))
        picture = _draw(output, name, files[name], folder.mesh)
        if picture is None:
            left_out.append(f"{name}: the true patch is empty; there are no errors to draw")
        else:
            pictures[name] = picture
    spread = None
    if len(scores) > 1:
        try:
            spread = _distributions(output, scores, folder.groups)
        except MissingExtraError as error:
            left_out.append(f"no {FIGURE}: {error}")
    with atomic_path(output / PAGE) as part:
        part.write_text(evaluation_page(scores, pictures, spread, failed), encoding="utf-8")
    return left_out


def _attempt(case: tuple[str, Files]) -> dict[str, float] | str:
    try:
        return score_files(case[1])
    except CalvariaError as error:
        return one_line(error)
    except MemoryError:
        return "out of memory: use fewer --jobs"


def _lost(case: tuple[str, Files]) -> str:
    """What is said of a case whose process died."""
    return "a worker process died, probably for want of memory; use fewer --jobs"


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


def _write_record(path: Path, scores: Scores, failed: Mapping[str, str]) -> None:
    from calvaria.io.result import json_ready, write_result_json
    from calvaria.metrics import METRICS, summarise

    record: dict[str, Any] = {
        "calvaria": __version__,
        "cases": [{"case": name, "scores": values} for name, values in scores.items()],
        "summary": {name: asdict(one) for name, one in summarise(scores).items()},
        "failed": dict(failed),
        "definitions": {name: METRICS[name].definition for name in next(iter(scores.values()))},
    }
    write_result_json(path, json_ready(record))


def _distributions(output: Path, scores: Scores, groups: Mapping[str, str]) -> NDArray[np.uint8]:
    from calvaria.report import distributions, save_png

    picture = distributions(scores, {name: groups.get(name, "all") for name in scores})
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


__all__ = ["Cluster", "Files", "Folder", "Matched", "match_files", "score_all", "score_files", "write_folder"]
