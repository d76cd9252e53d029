"""Whether a set is whole: every file read, every case checked against itself and against the others.

A problem means that a case cannot be used as it lies; a note is worth knowing and stops nothing.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from calvaria.datasets.catalog import FoundSet, SkullCase, skull_name
from calvaria.datasets.content import DIGITS, mask_digest, skull_file
from calvaria.datasets.layouts import IMAGES, MESHES
from calvaria.errors import CalvariaError, InputError, one_line
from calvaria.io import extension_of, read_as_mask, read_mesh, sha256_of
from calvaria.io.headers import read_grid
from calvaria.jobs import DIED, Progress, counted, in_order
from calvaria.skull.canonical import MIN_BONE_ML, locate
from calvaria.volume import Grid, Volume, bounding_box

Depth = Literal["headers", "voxels", "anatomy"]
"""How deep a check goes: headers and bytes only; every voxel; also whether the skull has a calvaria."""
DEPTHS: tuple[Depth, ...] = ("headers", "voxels", "anatomy")

SPACING_MM = (0.1, 6.0)
"""Spacings outside this are no head CT's, or not in mm."""

LONGEST_MM = (100.0, 320.0)
"""The longest side of the box around a skull, mm; a head is 150 to 260 mm long, whatever its scan leaves out."""

PATCH_ML = (0.5, 500.0)
"""Volumes of a patch: from a large burr hole to half a calvaria."""

UNION_SHARE = 0.01
"""Share of the complete skull that may differ from defective skull and patch together. Sets whose rims were healed
artificially differ a little at the rim; a patch of another skull differs by several times this."""


@dataclass(frozen=True)
class CaseCheck:
    """What was found about one case.

    Args:
        id: the case.
        problems: one line each; empty for a case that can be used.
        notes: one line each.
        seconds: wall time.
        digests: "complete", "defective", "patch", "implant" -> digest of the voxels, or of the bytes.
    """

    id: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SetCheck:
    """What was found about a set.

    Args:
        found: the set.
        cases: each case, in the order of the set.
        missing: ids of the published set that are not there, where its ids are known.
        strays: images and meshes below the folder that belong to no case.
    """

    found: FoundSet
    cases: tuple[CaseCheck, ...]
    missing: tuple[str, ...] = ()
    strays: tuple[Path, ...] = ()

    @property
    def damaged(self) -> tuple[CaseCheck, ...]:
        """The cases with a problem."""
        return tuple(case for case in self.cases if case.problems)

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """For each part of the published set: cases that are there, and cases that there should be."""
        ids = {case.id for case in self.cases}
        parts = self.found.data_set.parts
        return {part.ids: (sum(name.startswith(part.ids) for name in ids), part.cases) for part in parts}


def check_set(found: FoundSet, depth: Depth = "voxels", jobs: int = 1, progress: Progress | None = None) -> SetCheck:
    """Check every case of a set.

    Args:
        found: the set, from `calvaria.datasets.catalog.find_set`.
        depth: "headers": there, with grids that agree, and hashed; "voxels": read whole and compared; "anatomy": also
            posed, which names skulls without a calvaria.
        jobs: processes.
        progress: called with the cases done and the time left.

    Raises:
        InputError: an unknown depth.
    """
    if depth not in DEPTHS:
        raise InputError(f"a check goes to the depth of {', '.join(DEPTHS)}; got {depth!r}")
    checks = in_order(partial(check_case, depth=depth), found.cases, jobs, lost=_lost)
    done = list(counted(checks, len(found.cases), progress))
    ids = {case.id for case in found.cases}
    missing = [name for part in found.data_set.parts for name in part.expected if name not in ids]
    present = {part.ids for part in found.data_set.parts if any(name.startswith(part.ids) for name in ids)}
    missing = [name for name in missing if any(name.startswith(prefix) for prefix in present)]
    return SetCheck(found, tuple(_compared(found.cases, done)), tuple(missing), tuple(strays(found)))


def check_case(case: SkullCase, depth: Depth = "voxels") -> CaseCheck:
    """Check one case by itself; arguments as in `check_set`, nothing is raised for a bad case."""
    start = time.perf_counter()
    found = _Findings(case)
    if skull_file(case) is None:
        found.problems.append("there is neither a complete nor a defective skull")
    if depth == "headers":
        found.read_headers()
    else:
        masks = found.read_masks()
        if not found.problems:
            _compare(masks, found)
        if depth == "anatomy" and not found.problems:
            with found.catching():
                locate(masks["complete" if "complete" in masks else "defective"])
    seconds = time.perf_counter() - start
    return CaseCheck(case.id, tuple(found.problems), tuple(found.notes), seconds, found.digests)


def strays(found: FoundSet) -> Iterator[Path]:
    """Images and meshes below a set's folder that belong to none of its cases, in order."""
    used = {path for case in found.cases for path in case.files.values()}
    for path in sorted(found.root.rglob("*")):
        name = path.name.lower()
        if name.endswith(IMAGES + MESHES) and not name.startswith(".") and path not in used and path.is_file():
            yield path


@dataclass
class _Findings:
    """What is found about a case, as it is found."""

    case: SkullCase
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """What the block raises becomes a problem."""
        try:
            yield
        except CalvariaError as error:
            self.problems.append(one_line(error))
        except MemoryError:
            self.problems.append("out of memory; use fewer --jobs")

    def read_headers(self) -> None:
        """Grids and bytes of every file."""
        grids: dict[str, Grid] = {}
        for role, path in self.case.files.items():
            with self.catching():
                self.digests[role] = sha256_of(path)[:DIGITS]
                if extension_of(path) not in MESHES:
                    grids[role] = read_grid(path)
        self.compare_grids(grids)

    def read_masks(self) -> dict[str, Volume]:
        """The masks that can be read; an implant is read too, for whether it can be."""
        masks: dict[str, Volume] = {}
        for role, path in self.case.files.items():
            with self.catching():
                if role == "implant" and extension_of(path) in MESHES:
                    read_mesh(path)
                    self.digests[role] = sha256_of(path)[:DIGITS]
                else:
                    masks[role] = read_as_mask(path)
                    self.digests[role] = mask_digest(masks[role])
        self.compare_grids({role: mask.grid for role, mask in masks.items()})
        return masks

    def compare_grids(self, grids: Mapping[str, Grid]) -> None:
        """All masks of a case lie on the grid of its skull, with a spacing that a head CT has."""
        skull = next((role for role in ("complete", "defective") if role in grids), None)
        if skull is None:
            return
        spacing = grids[skull].spacing_mm
        if not all(SPACING_MM[0] <= s <= SPACING_MM[1] for s in spacing):
            text = " x ".join(f"{s:.3g}" for s in spacing)
            self.problems.append(f"{skull}: voxels of {text} mm; wanted {SPACING_MM[0]} to {SPACING_MM[1]} mm")
        for role, grid in grids.items():
            if role != "implant":  # what is made has a grid of its own
                with self.catching():
                    grids[skull].require_same(grid, f"{skull} and {role}")


def _compare(masks: Mapping[str, Volume], found: _Findings) -> None:
    """Sizes that a skull and a patch have, and masks that add up."""
    skull = "complete" if "complete" in masks else "defective"
    volume_ml, longest = masks[skull].volume_ml, _longest_mm(masks[skull])
    if volume_ml < MIN_BONE_ML:
        found.problems.append(f"{skull}: {volume_ml:.0f} ml of bone; a skull has more than {MIN_BONE_ML:.0f} ml")
    if not LONGEST_MM[0] <= longest <= LONGEST_MM[1]:
        low, high = LONGEST_MM
        found.problems.append(f"{skull}: its bone is {longest:.0f} mm long; a head's is {low:.0f} to {high:.0f} mm")
    if "patch" not in masks:
        return
    patch = masks["patch"]
    if not PATCH_ML[0] <= patch.volume_ml <= PATCH_ML[1]:
        found.problems.append(f"patch: {patch.volume_ml:.1f} ml; wanted {PATCH_ML[0]} to {PATCH_ML[1]:.0f} ml")
    if "defective" in masks:
        shared = np.count_nonzero(patch.mask & masks["defective"].mask)
        if shared:
            found.problems.append(
                f"patch and defective skull overlap in {shared} voxels; they share none by definition"
            )
    if "complete" in masks:
        complete = masks["complete"].mask
        parts = patch.mask | masks["defective"].mask if "defective" in masks else patch.mask | complete
        off = int(np.count_nonzero(parts ^ complete))
        if off:
            text = (
                f"complete skull and its parts differ in {off} voxels ({100 * off / np.count_nonzero(complete):.2g} %)"
            )
            (found.problems if off > UNION_SHARE * np.count_nonzero(complete) else found.notes).append(text)


def _longest_mm(mask: Volume) -> float:
    """The longest side of the box around the bone, along the voxel axes."""
    box = bounding_box(mask.mask)
    if box is None:
        return 0.0
    return max(float((side.stop - side.start) * step) for side, step in zip(box, mask.grid.spacing_mm, strict=True))


def _lost(case: SkullCase) -> CaseCheck:
    """What is said of a case whose process died."""
    return CaseCheck(case.id, (f"not checked: {DIED}",), (), 0.0, {})


def _compared(cases: Sequence[SkullCase], checks: Sequence[CaseCheck]) -> Iterator[CaseCheck]:
    """The checks with what only shows beside the others: an id twice, a skull twice, a file that the others have."""
    times = Counter(case.id for case in cases)
    first: dict[str, SkullCase] = {}
    usual = _usual_roles(cases)
    for case, check in zip(cases, checks, strict=True):
        problems, notes = list(check.problems), list(check.notes)
        if not case.id.strip():
            problems.append("the id is empty; give its file a name")
        if times[case.id] > 1:
            where = ", ".join(str(path) for path in case.files.values())
            problems.append(f"{times[case.id]} cases have this id; this one is {where or 'without a file'}")
        digest = check.digests.get("complete", check.digests.get("defective"))
        other = first.setdefault(digest, case) if digest else case
        if skull_name(other) != skull_name(case):
            if other.person == case.person:
                notes.append(f"the same skull as {other.id}, known as one person")
            else:
                problems.append(f"the same skull as {other.id}, which counts as another person")
        lacking = usual[_part(case)] - set(case.files)
        notes += [f"no {role}, which most cases of its part have" for role in sorted(lacking)]
        yield replace(check, problems=tuple(problems), notes=tuple(notes))


def _part(case: SkullCase) -> str:
    """What the ids of a part of a set begin with: everything before the first digit."""
    return re.split(r"\d", case.id, maxsplit=1)[0]


def _usual_roles(cases: Sequence[SkullCase]) -> dict[str, set[str]]:
    """For each part of the set, the files that more than half of its cases have."""
    parts: dict[str, list[SkullCase]] = {}
    for case in cases:
        parts.setdefault(_part(case), []).append(case)
    return {
        part: {role for role, n in Counter(role for c in members for role in c.files).items() if 2 * n > len(members)}
        for part, members in parts.items()
    }


__all__ = ["DEPTHS", "CaseCheck", "Depth", "SetCheck", "check_case", "check_set", "strays"]
