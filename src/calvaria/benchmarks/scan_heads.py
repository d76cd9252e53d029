"""Heads with a known hole as a scanner shows them: made from masks, or a real CT into which a hole is cut.

Each is written as a study of DICOM files, with a localizer and a thicker derived series beside the one that is meant.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calvaria.benchmarks.cases import Task, build, seed_of
from calvaria.errors import InputError
from calvaria.files import atomic_folder, require_file
from calvaria.io.dicom.slices import SeriesHeader, new_study, write_slices
from calvaria.synthesis.cut_ct import LEVEL, cut_ct, hole_of
from calvaria.synthesis.scanner import KERNELS, Scanner, scan, sliced, tissue_hu
from calvaria.volume.blocks import block_means
from calvaria.volume.components import label
from calvaria.volume.distance import distance_to
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

VERSION = 2
"""Of what is simulated; a higher one makes kept scans anew."""

MASK = "mask"
"""The variant that was not scanned: the defective skull itself."""

VARIANTS = {
    "1mm": Scanner(1.0),
    "1mm-sharp": Scanner(1.0, kernel="sharp"),
    "1.5mm-tilt-18": Scanner(1.5, tilt_degrees=-18.0),
    "2.5mm": Scanner(2.5),
    "2.5mm-sharp-tilt+18": Scanner(2.5, tilt_degrees=18.0, kernel="sharp"),
    "3mm": Scanner(3.0),
    "5mm": Scanner(5.0),
    "5mm-tilt+18": Scanner(5.0, tilt_degrees=18.0),
    "5mm-sharp-tilt-18": Scanner(5.0, tilt_degrees=-18.0, kernel="sharp"),
}
"""How heads made from masks are scanned."""

CT_VARIANTS: dict[str, float | None] = {"as-scanned": None, "ct-3mm": 3.0, "ct-5mm": 5.0}
"""Thickness of the slices that a real CT is read as; None: its own."""

CT_KINDS = ("parietotemporal", "random_1", "craniotomy")
"""Holes cut into a real CT."""

PLACES = 40
"""So many holes are drawn before a CT is given up."""

APART_MM = 15.0
"""A hole is cut so far from those that the CT has of its own, and is scored by the pieces within a third of that."""

DERIVED_MM, MIN_DERIVED = 5.0, 20
"""Thickness of the derived series in a study of thinner slices, and how many of them it needs."""


@dataclass(frozen=True)
class ScanTask:
    """One scan that is completed and scored.

    Args:
        case: name of the head.
        person: whose it is.
        kind: of hole.
        variant: how it was scanned, or "mask".
        source: the skull and its hole, or the file of a CT.
    """

    case: str
    person: str
    kind: str
    variant: str
    source: Task | Path

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the only one of its sort."""
        return self.case, self.kind, self.variant


class Head(NamedTuple):
    """What is known of a head.

    Args:
        defective: the bone that is there, a mask.
        patch: the missing bone, on the same grid.
        scans: makes its CT.
        apart_mm: an answer's pieces further from the patch than this are others' holes; None: all count.
    """

    defective: Volume
    patch: Volume
    scans: _FromMask | _FromCt
    apart_mm: float | None = None

    def of_this_hole(self, answer: Volume) -> Volume:
        """The pieces of an answer, on this grid, that belong to the hole."""
        if self.apart_mm is None:
            return answer
        pieces, count = label(answer.mask)
        near = distance_to(self.patch, limit_mm=2 * self.apart_mm) <= self.apart_mm
        kept = np.zeros(count + 1, bool)
        kept[np.unique(pieces[near])] = True
        kept[0] = False
        return answer.with_data(kept[pieces])


def scan_tasks(
    masks: Sequence[Task], ct: Path | None = None, variants: Sequence[str] = (), ct_kinds: Sequence[str] = CT_KINDS
) -> list[ScanTask]:
    """Every head with every variant, head by head, each first as a mask.

    Args:
        masks: skulls and their holes.
        ct: a real CT.
        variants: some of ``VARIANTS`` and ``CT_VARIANTS``; none: all.
        ct_kinds: holes that are cut into the CT.

    Raises:
        InputError: there is no such variant, or no such file.
    """
    known = (*VARIANTS, *CT_VARIANTS)
    unknown = [name for name in variants if name not in known]
    if unknown:
        raise InputError(f"no such variant: {', '.join(unknown)}; known are {', '.join(known)}")
    wanted = [name for name in VARIANTS if name in (variants or known)]
    own = [name for name in CT_VARIANTS if name in (variants or known)]
    tasks = [
        ScanTask(task.case.id, task.case.person, task.kind, variant, task)
        for task in masks
        for variant in (MASK, *wanted)
        if wanted
    ]
    if ct is not None and own:
        path = require_file(ct)
        tasks += [ScanTask(path.stem, path.stem, kind, name, path) for kind in ct_kinds for name in (MASK, *own)]
    return tasks


@dataclass(frozen=True, eq=False)
class _FromMask:
    """Makes CTs of a skull known as a mask."""

    name: tuple[str, str]
    defective: Volume
    patch: Volume

    @cached_property
    def tissue(self) -> Volume:
        whole = self.defective.with_data(self.defective.mask | self.patch.mask)
        rng = np.random.default_rng(seed_of(self.name[0], f"{self.name[1]}/tissue"))
        return tissue_hu(self.defective, rng, whole)

    def ct(self, variant: str) -> tuple[Volume, Scanner]:
        rng = np.random.default_rng(seed_of(self.name[0], f"{self.name[1]}/{variant}"))
        scanner = VARIANTS[variant]
        return scan(self.tissue, scanner, rng), scanner


@dataclass(frozen=True, eq=False)
class _FromCt:
    """Reads a real CT, with a hole cut into it, as other slices."""

    cut: Volume

    def ct(self, variant: str) -> tuple[Volume, Scanner]:
        thick = CT_VARIANTS[variant]
        pixel, _, step = self.cut.grid.spacing_mm
        if thick is None:
            return self.cut, Scanner(step, None, pixel)
        affine = self.cut.affine.copy()
        affine[:3, 2] *= thick / step
        # The first slice begins where the scan does; the last may reach beyond its end.
        affine[:3, 3] += (affine[:3, 2] - self.cut.affine[:3, 2]) / 2
        columns, rows, slices = self.cut.shape
        grid = Grid((columns, rows, math.ceil(slices * step / thick - 1e-6)), affine)
        thicker = sliced(self.cut, grid, thick).data
        return Volume(np.rint(thicker).astype(np.int16), grid), Scanner(thick, None, pixel)


def head_of(task: ScanTask, keep: Path | None = None) -> Head:
    """The head of a task, and what is known of it; the last one is held.

    Args:
        task: its variant does not matter.
        keep: where holes in a CT are kept, so that they stay where they are.

    Raises:
        InputError: a file cannot be read, or no hole can be placed.
    """
    return _head(task.case, task.person, task.kind, task.source, keep)


@lru_cache(maxsize=1)
def _head(case: str, person: str, kind: str, source: Task | Path, keep: Path | None) -> Head:
    if isinstance(source, Path):
        return _cut_head(source, kind, keep)
    defective, patch = build(source)
    return Head(defective, patch, _FromMask((person, kind), defective, patch))


def _cut_head(path: Path, kind: str, keep: Path | None) -> Head:
    """A CT with a hole cut into it. True bone is what is segmented out of the CT as it was."""
    from calvaria.io import read_mask, read_volume, write_volume
    from calvaria.skull.segment import segment_bone

    ct = read_volume(path)
    bone = segment_bone(ct, name=path.name).bone
    kept = None if keep is None else keep / f"{path.stem}-{kind}-hole.nrrd"
    if kept is not None and kept.is_file():
        missing = read_mask(kept)
    else:
        missing = _placed(ct, bone, kind, path.stem)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_volume(kept, missing)
    hole = hole_of(missing, bone.with_data(bone.mask & ~missing.mask))
    cut = cut_ct(ct, hole, np.random.default_rng(seed_of(path.stem, f"{kind}/tissue")))
    patch = bone.mask & (hole.data > LEVEL)
    return Head(bone.with_data(bone.mask & ~patch), bone.with_data(patch), _FromCt(cut), APART_MM / 3)


def _placed(ct: Volume, bone: Volume, kind: str, name: str) -> Volume:
    """The bone of a hole of a kind, away from the holes that a CT has.

    Raises:
        InputError: there is no room for one.
    """
    from calvaria.pipeline import reconstruct
    from calvaria.synthesis.defects import cut_defect

    found = reconstruct(ct, kind="ct", name=name)
    own = distance_to(found.patch, limit_mm=APART_MM + 1)
    rng = np.random.default_rng(seed_of(name, kind))
    for _ in range(PLACES):
        _, _, patch = cut_defect(bone, kind, rng, found.frame.to_world)
        if own[patch.mask].min() > APART_MM:
            return patch
    raise InputError(f"{name}: no {kind} hole lies {APART_MM:g} mm off the holes that the CT has; leave that kind out")


@contextmanager
def study_of(task: ScanTask, keep: Path | None) -> Iterator[Path]:
    """The DICOM folder of a scan, made if it is not kept already.

    Args:
        task: of a variant that is scanned.
        keep: folder in which studies are kept; None: it is gone at the end.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="calvaria-") as name:
            write_study(Path(name), *head_of(task).scans.ct(task.variant))
            yield Path(name)
        return
    path = keep / f"{task.case}-{task.kind}-{task.variant}-{_digest(task.variant)}"
    if not path.is_dir():
        keep.mkdir(parents=True, exist_ok=True)
        made = head_of(task, keep).scans.ct(task.variant)
        with atomic_folder(path) as folder:
            write_study(folder, *made)
    yield path


def _digest(variant: str) -> str:
    """What stands in a kept scan's name for how it was made."""
    scanner = VARIANTS.get(variant)
    how = CT_VARIANTS.get(variant) if scanner is None else (scanner, KERNELS[scanner.kernel])
    return hashlib.sha256(repr((how, VERSION)).encode()).hexdigest()[:8]


def write_study(folder: Path, ct: Volume, scanner: Scanner) -> None:
    """Write what a scanner leaves: a localizer, the slices, and a thicker series derived from thin ones."""
    study, kernel = new_study(), KERNELS[scanner.kernel].name
    localizer = SeriesHeader(1, scanner.pixel_mm, "", 0.0, ("ORIGINAL", "PRIMARY", "LOCALIZER"), "Localizer")
    write_slices(folder, _localizer(ct), localizer, study)
    header = SeriesHeader(2, scanner.slice_mm, kernel, scanner.tilt_degrees, description="Head")
    write_slices(folder, ct, header, study)
    factor = round(DERIVED_MM / scanner.slice_mm)
    if factor > 1 and ct.shape[2] // factor >= MIN_DERIVED:
        derived = ("DERIVED", "SECONDARY", "AXIAL")
        thick = SeriesHeader(3, factor * scanner.slice_mm, kernel, scanner.tilt_degrees, derived, "Head, thick")
        write_slices(folder, _thicker(ct, factor), thick, study)


def _localizer(ct: Volume) -> Volume:
    """The head from the front: means from front to back, one upright slice."""
    data = np.rint(ct.data.mean(axis=1, dtype=np.float32)).astype(np.int16)[:, ::-1, None]
    pixel, _, step = ct.grid.spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = np.array([[pixel, 0, 0], [0, 0, 1], [0, -step, 0]])
    affine[:3, 3] = ct.grid.to_world((0, ct.shape[1] // 2, ct.shape[2] - 1))
    return Volume(data, Grid((data.shape[0], data.shape[1], 1), affine))


def _thicker(ct: Volume, factor: int) -> Volume:
    """Means of so many slices each."""
    whole = ct.crop((slice(0, ct.shape[0]), slice(0, ct.shape[1]), slice(0, ct.shape[2] // factor * factor)))
    data = np.rint(block_means(whole.data, (1, 1, factor))).astype(np.int16)
    affine = ct.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (factor - 1) / 2
    affine[:3, 2] *= factor
    i, j, k = data.shape
    return Volume(data, Grid((i, j, k), affine))


__all__ = [
    "CT_KINDS",
    "CT_VARIANTS",
    "MASK",
    "VARIANTS",
    "Head",
    "ScanTask",
    "head_of",
    "scan_tasks",
    "study_of",
    "write_study",
]
