"""What a scan from before the operation, or one of the removed piece, is worth: on persons nobody was fitted on.

::

    python -m calvaria.benchmarks.own_bone --data ROOT -o own-bone.csv --cache scans/

Of one skull several CTs are simulated (`calvaria.synthesis.scanner`), each with a pose, slices and noise of its own:
the head with its hole, the whole head from before, the piece alone in air, a saw's kerf smaller than the hole. The
patch is scored on the truth's own grid. With ``--others`` the scans are those of other persons: how well these fit at
best is what refusals rest on. Rows that are in the file already are not computed again.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calvaria.benchmarks.cases import KINDS_HELP, Task, build, tasks_of
from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.benchmarks.script import run_while_read
from calvaria.errors import CalvariaError, one_line
from calvaria.files import atomic_path
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.own_bone import flap as flaps
from calvaria.reconstruction.own_bone import pre_op
from calvaria.reconstruction.own_bone.piece import piece_of
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.bone import bone_of
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.synthesis.scanner import AIR_HU, Scanner, scan, tissue_hu
from calvaria.types import F64
from calvaria.volume.distance import distance_to
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_mask
from calvaria.volume.rotation import rotation_matrix
from calvaria.volume.volume import Volume, bounding_box

KINDS = ("parietotemporal", "hemicraniectomy")

SCANS = {"pre-op 1 mm": 1.0, "pre-op 2.5 mm": 2.5, "flap": 1.0}
"""What is given beside the skull with its hole, and the thickness of its slices, mm."""

POST_MM = 1.0
"""Slices of the skull with its hole."""

TURN_DEGREES, SHIFT_MM = (10.0, 30.0), 40.0
"""The head from before is turned by so much, and shifted by up to the second along each axis; a piece lies anyhow."""

KERF_MM = (1.0, 3.0)
"""What a saw and resorption take off a removed piece."""

AROUND = 20
"""Voxels kept around a head."""


@dataclass(frozen=True)
class Row:
    """One patch of own bone, or the best fit of another person's.

    Args:
        case: whose skull.
        kind: of the hole.
        scan: what was given, of `SCANS`.
        owner: whose that was.
        dsc: Dice with the truth; NaN where nothing was filled.
        bdsc: border Dice.
        hd95_mm: 95th percentile of the surfaces' distance.
        volume_error_percent: of the patch.
        mean_mm: distance of the surfaces of both scans.
        p95_mm: 95th percentile.
        agreeing: share of the vault within half a millimetre.
        share: of the patch that is own bone.
        kerf_mm: around a piece, as it was found.
        step_mm: at the rim, mean.
        meeting: share of the rim that a piece meets.
        in_bone: share of a piece in bone.
        expected_dsc: as it was told.
        seconds: of the whole case.
        error: why there is no patch.
    """

    case: str
    kind: str
    scan: str
    owner: str
    dsc: float = math.nan
    bdsc: float = math.nan
    hd95_mm: float = math.nan
    volume_error_percent: float = math.nan
    mean_mm: float = math.nan
    p95_mm: float = math.nan
    agreeing: float = math.nan
    share: float = math.nan
    kerf_mm: float = math.nan
    step_mm: float = math.nan
    meeting: float = math.nan
    in_bone: float = math.nan
    expected_dsc: float = math.nan
    seconds: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes a row the only one of its sort."""
        return self.case, self.kind, self.scan, self.owner


class Work(NamedTuple):
    """A row to be made.

    Args:
        task: the skull and its hole.
        scan: what is given.
        owner: whose that is; the same hole is cut from it for its piece.
    """

    task: Task
    scan: str
    owner: Task

    @property
    def key(self) -> tuple[str, str, str, str]:
        """As of its row."""
        return self.task.case.id, self.task.kind, self.scan, self.owner.case.id


def works_of(tasks: Sequence[Task], *, others: bool) -> list[Work]:
    """Every task with every scan: the person's own, or those of all other persons."""
    works = []
    for task in tasks:
        owners = [one for one in tasks if one.kind == task.kind and (one.case.person != task.case.person) == others]
        works += [Work(task, name, owner) for name in SCANS for owner in owners]
    return works


def rng_of(*words: str) -> np.random.Generator:
    """A generator of its own for each task and scan."""
    return np.random.default_rng(zlib.crc32("/".join(words).encode()))


def cropped(task: Task) -> tuple[Volume, Volume, Volume]:
    """Defective skull, truth and whole skull of a task, around the head."""
    defective, truth = build(task)
    whole = defective.with_data(defective.mask | truth.mask)
    box = bounding_box(whole.mask, (AROUND,) * 3)
    return (defective, truth, whole) if box is None else (defective.crop(box), truth.crop(box), whole.crop(box))


def moved(volume: Volume, rng: np.random.Generator, turn_degrees: tuple[float, float]) -> Volume:
    """The same voxels in another pose."""
    axis = rng.standard_normal(3)
    move = np.eye(4)
    move[:3, :3] = rotation_matrix(np.radians(rng.uniform(*turn_degrees)) * axis / np.linalg.norm(axis))
    move[:3, 3] = rng.uniform(-SHIFT_MM, SHIFT_MM, 3)
    return Volume(volume.data, volume.grid.moved(move))


def post_ct(task: Task) -> Volume:
    """The CT of the head with its hole."""
    defective, _, whole = cropped(task)
    tissue = tissue_hu(defective, rng_of(task.case.id), whole)
    return scan(tissue, Scanner(POST_MM), rng_of(task.case.id, task.kind, "post"))


def pre_op_ct(task: Task, slice_mm: float) -> Volume:
    """The CT of the whole head, in another pose."""
    rng = rng_of(task.case.id, "pre", f"{slice_mm:g}")
    tissue = tissue_hu(cropped(task)[2], rng_of(task.case.id))
    return scan(moved(tissue, rng, TURN_DEGREES), Scanner(slice_mm), rng)


def flap_of(defective: Volume, truth: Volume, kerf_mm: float) -> Volume:
    """The removed piece: the truth without what lies nearer than a kerf to the bone around it, around the piece."""
    box = bounding_box(truth.mask, (AROUND,) * 3)
    if box is None:
        return truth
    near = distance_to(defective.crop(box), limit_mm=kerf_mm + 1)
    return Volume(truth.mask[box] & (near > kerf_mm), truth.grid.crop(box))


def flap_ct(task: Task, slice_mm: float) -> Volume:
    """The CT of the removed piece, in air and in any pose."""
    rng = rng_of(task.case.id, task.kind, "flap")
    defective, truth, _ = cropped(task)
    piece = flap_of(defective, truth, rng.uniform(*KERF_MM))
    bone = tissue_hu(piece, rng_of(task.case.id)).data
    tissue = piece.with_data(np.where(piece.mask, bone, np.float32(AIR_HU)))
    return scan(moved(tissue, rng, (0.0, 180.0)), Scanner(slice_mm), rng)


def kept(cache: Path | None, name: str, make: partial[Volume]) -> Volume:
    """A simulated scan, from a folder where it was made before."""
    path = None if cache is None else cache / f"{name.replace(' ', '-')}.npz"
    if path is not None and path.is_file():
        with np.load(path) as found:
            return Volume(found["data"], Grid(found["data"].shape, found["affine"]))
    made = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as writing, writing.open("wb") as file:
            np.savez_compressed(file, data=made.data, affine=made.affine)
    return made


def scans_of(work: Work, cache: Path | None) -> tuple[Volume, Volume]:
    """The CT of the skull with its hole, and that of what is given."""
    task, owner, slice_mm = work.task, work.owner, SCANS[work.scan]
    post = kept(cache, f"{task.case.id} {task.kind} post", partial(post_ct, task))
    if work.scan == "flap":
        return post, kept(cache, f"{owner.case.id} {owner.kind} flap", partial(flap_ct, owner, slice_mm))
    return post, kept(cache, f"{owner.case.id} {work.scan}", partial(pre_op_ct, owner, slice_mm))


def run_work(work: Work, cache: Path | None = None) -> Row:
    """Make one row. Whatever goes wrong is named in its ``error``."""
    row = Row(*work.key)
    try:
        if work.owner.case.id == work.task.case.id:
            return _filled(work, row, cache)
        return _fitted(work, row, cache)
    except Exception as error:  # one bad case must not end a run of hours; it is named, counted and shown
        text = str(error) if isinstance(error, CalvariaError) else f"{type(error).__name__}: {error}"
        return replace(row, error=one_line(text) or "unnamed")


def _filled(work: Work, row: Row, cache: Path | None) -> Row:
    """The patch of the person's own bone, scored."""
    from calvaria.metrics import score
    from calvaria.pipeline import reconstruct

    post, given = scans_of(work, cache)
    began = time.perf_counter()
    result = reconstruct(post, **{"flap" if work.scan == "flap" else "pre_op": given})  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    defective, truth, _ = cropped(work.task)
    patch = resample_mask(result.patch, truth.grid)
    scores = score(patch.with_data(patch.mask & ~defective.mask), truth, defective)
    report, expected = result.report.own_bone, result.confidence.expected_dsc
    row = replace(
        row,
        dsc=scores.dsc,
        bdsc=scores.bdsc,
        hd95_mm=scores.hd95_mm,
        volume_error_percent=scores.volume_error_percent,
        expected_dsc=math.nan if expected is None else expected,
        seconds=seconds,
    )
    return row if report is None else replace(_with_fit(row, report.fit), share=report.share)


def _fitted(work: Work, row: Row, cache: Path | None) -> Row:
    """The best fit of another person's scan."""
    post, given = scans_of(work, cache)
    engine = load_engine("shape-prior", "cpu")
    bone, surface, frame = _skull(post)
    if work.scan != "flap":
        _, old, old_frame = _skull(given)
        return _with_fit(row, pre_op.best_fit(pre_op.OldSkull(old, old_frame, given.grid), surface, frame)[1])
    done: Completion = engine.reconstruct(bone, frame, surface)
    return _with_fit(row, flaps.best_fit(piece_of(given), done, surface)[1])


def _skull(ct: Volume) -> tuple[Volume, BoneSurface, CanonicalFrame]:
    """Bone, surface and pose of a head."""
    segmented = bone_of(ct)
    box = bounding_box(segmented.bone.mask, (1, 1, 1))
    if box is None or segmented.scan is None:  # there is bone, of a CT
        raise ValueError("no CT of a head")
    part = segmented.bone.crop(box)
    return part, BoneSurface.of(segmented.scan.fraction(segmented.bone, box)), locate(part)


def _with_fit(row: Row, fit: pre_op.PreOpFit | flaps.FlapFit) -> Row:
    if isinstance(fit, pre_op.PreOpFit):
        return replace(row, mean_mm=fit.mean_mm, p95_mm=fit.p95_mm, agreeing=fit.agreeing)
    return replace(row, kerf_mm=fit.kerf_mm, step_mm=fit.step_mm, meeting=fit.meeting, in_bone=fit.in_bone)


def run(works: Sequence[Work], output: Path, cache: Path | None, *, jobs: int = 1, say: Tell = tell) -> list[Row]:
    """Make the rows that the file doesn't hold yet, and write the file as soon as one is made; all in their order."""
    done = {row.key: row for row in read_table(output, Row, "patches of own bone") if not row.error}
    todo = [work for work in works if work.key not in done]
    clock = Countdown(len(todo))
    for work, row in in_processes(partial(run_work, cache=cache), todo, jobs, lost=_lost):
        done[work.key] = row
        write_table(output, Row, done.values())
        figures = f"FAILED: {row.error}" if row.error else f"DSC {row.dsc:.4f} agreeing {row.agreeing:.2f}"
        say(f"[{clock.step()}] {row.case} {row.kind}, {row.scan} of {row.owner}: {figures}, meeting {row.meeting:.2f}")
    return [done[work.key] for work in works]


def _lost(work: Work) -> Row:
    return Row(*work.key, error=DIED)


def summary(rows: Sequence[Row]) -> str:
    """The tables: patches of own bone by kind and scan, and how well own and others' scans fit.

    Args:
        rows: any; failed ones are counted.
    """
    own = [row for row in rows if row.case == row.owner]
    lines = [f"{'hole':<18} {'scan':<15} {'n':>3} {'fail':>4}  DSC mean, worst    bDSC    HD95  vol %  expected   s"]
    for kind in dict.fromkeys(row.kind for row in own):
        for name in SCANS:
            some = [row for row in own if (row.kind, row.scan) == (kind, name)]
            good = [row for row in some if not row.error]
            if good:
                dsc, bdsc, hd95, volume, expected, seconds = (
                    np.array([getattr(row, field) for row in good])
                    for field in ("dsc", "bdsc", "hd95_mm", "volume_error_percent", "expected_dsc", "seconds")
                )
                lines.append(
                    f"{kind:<18} {name:<15} {len(some):>3} {len(some) - len(good):>4}  {dsc.mean():.4f} {dsc.min():.4f}"
                    f"   {bdsc.mean():.4f}  {hd95.mean():5.2f}  {volume.mean():+5.1f}  {_mean(expected):8.3f} "
                    f"{seconds.mean():5.1f}"
                )
    for name, field in (("agreeing", "agreeing"), ("mean mm", "mean_mm"), ("rim met", "meeting"), ("bone", "in_bone")):
        for whose, some in (("own", own), ("others", [row for row in rows if row.case != row.owner])):
            values = _known([getattr(row, field) for row in some])
            if len(values):
                lines.append(
                    f"{name}, {whose}: {len(values)} fits, {values.min():.3f} to {values.max():.3f}, median "
                    f"{np.median(values):.3f}"
                )
    return "\n".join(lines)


def _mean(values: F64) -> float:
    found = _known(values)
    return float(found.mean()) if len(found) else math.nan


def _known(values: Sequence[float] | F64) -> F64:
    found = np.asarray(values, np.float64)
    return found[np.isfinite(found)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m calvaria.benchmarks.own_bone", description="patches of the patient's own bone"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--split", default="validation", choices=("test", "validation", "train"))
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file, continued if it exists")
    parser.add_argument("--kinds", default=",".join(KINDS), help=KINDS_HELP)
    parser.add_argument("--limit", type=int, default=5, help="only the first so many persons")
    parser.add_argument("--others", action="store_true", help="also how well other persons' scans fit")
    parser.add_argument("--cache", type=Path, help="folder that keeps the simulated scans: each takes a minute to make")
    parser.add_argument("--jobs", type=int, default=1, help="cases at the same time")
    options = parser.parse_args(arguments)
    try:
        tasks = tasks_of(options.data, options.split, tuple(options.kinds.split(",")), options.limit, tell=tell)
        works = works_of(tasks, others=False) + (works_of(tasks, others=True) if options.others else [])
        rows = run(works, options.output, options.cache, jobs=options.jobs)
    except CalvariaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; the rows so far are in {options.output}, the same command goes on from there\n")
        return 130
    tell(summary(rows))
    return 3 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["KINDS", "SCANS", "Row", "Work", "flap_of", "main", "run", "run_work", "summary", "works_of"]
