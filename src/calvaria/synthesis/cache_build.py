"""Making a training cache: each skull posed once, read on the training grid, and kept until all are there.

What is done stays in ``FILE.parts`` until the cache is written, so an interrupted run goes on where it was. A skull is
made anew only if its file, the resolution, or the model that poses and completes it has changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.datasets.cache import (
    BOTTOM_MM,
    FILLING,
    FORMAT,
    Bytes,
    Entry,
    Item,
    SkullCache,
    boxed,
    pack,
    training_grid,
    write_cache,
)
from calvaria.datasets.catalog import SkullCase
from calvaria.errors import CalvariaError, InputError
from calvaria.files import save_arrays
from calvaria.io import read_mask, sha256_of
from calvaria.jobs import Progress, counted, in_order
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.protocol import SoftField
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.volume import Volume, bounding_box, dilate_mm, resample_mask
from calvaria.volume.grid import Box

HIDDEN_MM = 4.0
"""Room around the bone that the prior gives back in a hole: 95 % of its surface errors are below half of this."""

LOST_SHARE = 0.01
"""A skull of whose bone more than this lies beside the grid gets a warning."""

ENGINE = "shape-prior"
"""What poses and completes skulls whose truth is not public."""


@dataclass(frozen=True)
class Job:
    """One skull to be made: the cases that show it, and its key.

    Args:
        cases: of one complete skull with any number of defects, or one defective skull.
        refine: of the grid.
        key: hash of the files and of how they are used.
        part: where the result is kept meanwhile.
    """

    cases: tuple[SkullCase, ...]
    refine: int
    key: str
    part: Path


@dataclass(frozen=True)
class Built:
    """What became of a cache.

    Args:
        path: the file.
        skulls: how many it holds.
        made: how many were made now; the others were there already.
        refused: case id -> why it could not be used.
    """

    path: Path
    skulls: int
    made: int
    refused: dict[str, str]


def build_cache(
    cases: Sequence[SkullCase],
    output: Path,
    *,
    refine: int = 1,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Built:
    """Make or renew the training cache of a set.

    Complete skulls are posed and read; a skull whose truth is not public is completed by the shape prior, which tells
    its pose and where bone may be missing unseen. Of a person with several files, the first complete one is used, or
    the first.

    Args:
        cases: of the set; bad ones are named in the result and left out.
        output: the file, ending in .safetensors.
        refine: 1 for the coarse cache (1.6 mm), 3 for the fine one (0.53 mm).
        jobs: processes.
        progress: called with "12 of 184 skulls, 3 min left" and the share done.

    Returns:
        What was done; nothing, where the file is already what it should be.

    Raises:
        InputError: no case is left, or the file's name does not end in .safetensors.
        WorkerDiedError: a process died; what is done is kept.
    """
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: a training cache ends in .safetensors")
    folder = output.with_name(output.name + ".parts")
    folder.mkdir(parents=True, exist_ok=True)
    refused: dict[str, str] = {}
    todo = _jobs(cases, refine, folder, refused)
    old = _old_rows(output, refine)
    fresh = [job for job in todo if job.key not in old and not job.part.exists()]
    made = 0
    for name, trouble in counted(in_order(_make, fresh, jobs), len(fresh), progress, "skulls"):
        if trouble:
            refused[name] = trouble
        made += not trouble
    kept = [job for job in todo if job.key in old or job.part.exists()]
    if not kept:
        shutil.rmtree(folder)
        raise InputError(f"no skull could be used: {_first(refused)}")
    if [job.key for job in kept] == list(old):
        shutil.rmtree(folder)
        return Built(output, len(kept), 0, refused)
    cache = SkullCache(output) if any(job.key in old for job in kept) else None
    items = [cache.item(old[job.key]) if cache and job.key in old else _load(job.part) for job in kept]
    bones = (cache.bones([old[job.key]])[0] if cache and job.key in old else _load_bone(job.part) for job in kept)
    write_cache(output, items, bones, refine)
    shutil.rmtree(folder)
    return Built(output, len(kept), made, refused)


def _jobs(cases: Sequence[SkullCase], refine: int, folder: Path, refused: dict[str, str]) -> list[Job]:
    """One job a person, in the order of the cases."""
    persons: dict[str, list[SkullCase]] = {}
    for case in cases:
        persons.setdefault(case.person, []).append(case)
    jobs = []
    for group in persons.values():
        first = next((case for case in group if case.complete is not None), group[0])
        same = tuple(case for case in group if case.complete == first.complete) if first.complete else (first,)
        try:
            key = _key(same, refine)
        except CalvariaError as error:
            refused[first.id] = str(error) if str(error).startswith(first.id) else f"{first.id}: {error}"
            continue
        jobs.append(Job(same, refine, key, folder / f"{key}.npz"))
    return jobs


def _key(cases: Sequence[SkullCase], refine: int) -> str:
    from calvaria.models import find

    digest = hashlib.sha256(f"{FORMAT} {refine} {find(ENGINE).sha256}".encode())
    for case in cases:
        files = (case.complete, case.patch) if case.complete else (case.defective,)
        digest.update(f"{case.id} {case.kind} {case.person}".encode())
        for path in files:
            if path is not None:
                digest.update(sha256_of(path).encode())
    if all(case.complete is None and case.defective is None for case in cases):
        raise InputError(f"{cases[0].id}: neither a complete nor a defective skull is present")
    return digest.hexdigest()[:32]


def _old_rows(output: Path, refine: int) -> dict[str, int]:
    """Rows of an earlier cache by their keys; none where there is no such file, or one that can't be read."""
    try:
        cache = SkullCache(output)
    except InputError:
        return {}
    return {entry.source: row for row, entry in enumerate(cache.entries)} if cache.refine == refine else {}


def _make(job: Job) -> tuple[str, str]:
    """One skull read, posed and packed into its part file; its first case's id, and why it failed or an empty line."""
    name = job.cases[0].id
    try:
        item, bone = prepare(job)
    except CalvariaError as error:
        return name, str(error) if str(error).startswith(name) else f"{name}: {error}"
    kinds = list(item.patches)
    boxes = {f"box_{n}": _box_array(item.patches[kind][0]) for n, kind in enumerate(kinds)}
    bits = {f"bits_{n}": item.patches[kind][1] for n, kind in enumerate(kinds)}
    hidden = {} if item.hidden is None else {"hidden_box": _box_array(item.hidden[0]), "hidden": item.hidden[1]}
    about = np.array(json.dumps({"entry": asdict(item.entry), "kinds": kinds}))
    save_arrays(job.part, about=about, bone=bone, frame=item.frame, **boxes, **bits, **hidden)
    return name, ""


def prepare(job: Job) -> tuple[Item, Bytes]:
    """Read one skull and bring it onto the training grid.

    Returns:
        What is known of it, and the packed bits of its bone.

    Raises:
        InputError: a file cannot be read, shows no skull, or its files do not fit together.
    """
    case = job.cases[0]
    skull, frame, soft = _complete(case) if case.complete is not None else _filled(case)
    to_canonical = np.linalg.inv(frame.to_world)
    grid = training_grid(job.refine)
    bone = resample_mask(Volume(skull.mask, skull.grid.moved(to_canonical)), grid)
    patches, hidden = {}, None
    for other in job.cases:
        if case.complete is not None and other.patch is not None:
            patches[other.kind] = boxed(_patch(other, skull, to_canonical, bone))
    if soft is not None:
        filling = to_patch(soft, frame, Volume(bone.mask, grid.moved(frame.to_world))).mask
        patches[FILLING] = boxed(filling)
        hidden = boxed(dilate_mm(Volume(filling, grid), HIDDEN_MM).mask & ~bone.mask)
    lost = _lost(skull, to_canonical)
    warnings = (f"{lost:.0%} of the bone lies beside the training grid",) if lost > LOST_SHARE else ()
    entry = Entry(case.id, case.person, case.complete is not None, job.key, round(lost, 4), warnings)
    return Item(entry, frame.to_world, patches, hidden), pack(bone.mask)


def _complete(case: SkullCase) -> tuple[Volume, CanonicalFrame, None]:
    skull = _cropped(read_mask(case.complete))  # type: ignore[arg-type] # not None here
    return skull, locate(skull), None


def _filled(case: SkullCase) -> tuple[Volume, CanonicalFrame, SoftField]:
    """A defective skull, its frame as found with the skull completed, and the patch that completes it."""
    engine = load_engine(ENGINE)
    skull = _cropped(read_mask(case.defective))  # type: ignore[arg-type] # not None here
    found = engine.reconstruct(skull, locate(skull, engine.template))
    return skull, found.frame, found.soft


def _cropped(skull: Volume) -> Volume:
    box = bounding_box(skull.mask)
    return skull if box is None else skull.crop(box)


def _patch(case: SkullCase, skull: Volume, to_canonical: NDArray[Any], bone: Volume) -> NDArray[Any]:
    """The patch on the training grid: what the complete skull has there and the defective one lacks."""
    patch = read_mask(case.patch)  # type: ignore[arg-type] # not None here
    here = resample_mask(patch, skull.grid)
    if here.mask.sum() < patch.mask.sum() or (here.mask & ~skull.mask).any():
        raise InputError(f"{case.id}: the patch is not part of the complete skull; run: calvaria data check")
    defective = Volume(skull.mask & ~here.mask, skull.grid.moved(to_canonical))
    return bone.mask & ~resample_mask(defective, bone.grid).mask


def _lost(skull: Volume, to_canonical: NDArray[Any]) -> float:
    """Share of the bone above the lower face that the grid does not hold."""
    index = np.argwhere(skull.mask[::2, ::2, ::2]) * 2
    points = skull.grid.moved(to_canonical).to_world(index)
    points = points[points[:, 2] > BOTTOM_MM]
    at = training_grid().to_index(points)
    inside = ((at > -0.5) & (at < np.array(training_grid().shape) - 0.5)).all(axis=1)
    return float(1 - inside.mean()) if len(points) else 1.0


def _box_array(box: Box) -> NDArray[Any]:
    return np.array([[s.start, s.stop] for s in box], np.int64)


def _stored_box(array: NDArray[Any]) -> Box:
    i, j, k = (slice(int(a), int(b)) for a, b in array)
    return i, j, k


def _load(part: Path) -> Item:
    with np.load(part) as arrays:
        about = json.loads(str(arrays["about"]))
        entry = Entry(**{**about["entry"], "warnings": tuple(about["entry"]["warnings"])})
        patches: dict[str, tuple[Box, Bytes]] = {
            kind: (_stored_box(arrays[f"box_{n}"]), arrays[f"bits_{n}"]) for n, kind in enumerate(about["kinds"])
        }
        hidden = (_stored_box(arrays["hidden_box"]), arrays["hidden"]) if "hidden" in arrays else None
        return Item(entry, arrays["frame"], patches, hidden)


def _load_bone(part: Path) -> Bytes:
    with np.load(part) as arrays:
        return np.asarray(arrays["bone"])


def _first(refused: dict[str, str]) -> str:
    return next(iter(refused.values()), "there are no cases")


__all__ = ["ENGINE", "Built", "Job", "build_cache", "prepare"]
