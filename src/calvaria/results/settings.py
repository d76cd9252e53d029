"""What is asked for when a case is run; light to import, so that the command line can name the choices."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

# The same words as in `calvaria.pipeline`, which loads numpy; --help must not.
Kind = Literal["auto", "mask", "ct"]
"""What the input holds; "auto" tells by its values."""

Device = Literal["auto", "cpu", "cuda"]
"""Where a network runs."""

Trust = Literal["auto", "patch", "prior"]
"""What a given patch is refined by: "auto" tells by how well it agrees with the shape prior."""


NUMBER_OF_SERIES = re.compile(r"\d{1,9}(\.\d{1,4})?")
"""A series by its number, which says nothing of the patient, and not by its UID."""


Point = tuple[float, float, float]
"""World LPS mm."""

Corners = tuple[float, float, float, float, float, float]
"""Two opposite corners of a box, world LPS mm."""


@dataclass(frozen=True)
class MaskFile:
    """A file that says a place: a mask, or a closed mesh.

    Args:
        path: of the file; in a record its name alone.
        sha256: of the file; empty before it was looked at.
    """

    path: str
    sha256: str = ""


@dataclass(frozen=True)
class Word:
    """What the user says of a skull; see `calvaria.reconstruction.word.UserWord`.

    Args:
        hole: fill this.
        seed: the opening at each of these points is filled.
        box: openings in it are filled.
        ignore: bone in it does not count.
        plane: nx, ny, nz and d of the mid-sagittal plane n.x = d.
        keep_open: what is open there is not filled: points and files.
    """

    hole: MaskFile | None = None
    seed: tuple[Point, ...] = ()
    box: Corners | None = None
    ignore: MaskFile | None = None
    plane: tuple[float, float, float, float] | None = None
    keep_open: tuple[Point | MaskFile, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """The names of what was said."""
        return tuple(one.name for one in fields(self) if getattr(self, one.name) not in {None, ()})

    def with_files(self, change: Callable[[MaskFile], MaskFile]) -> Word:
        """The same, each file changed."""
        return replace(
            self,
            hole=None if self.hole is None else change(self.hole),
            ignore=None if self.ignore is None else change(self.ignore),
            keep_open=tuple(change(one) if isinstance(one, MaskFile) else one for one in self.keep_open),
        )


@dataclass(frozen=True)
class Settings:
    """What is asked for; stands in result.json as ``parameters``.

    Args:
        engine: name of the model that completes the skull, or its weights file.
        kind: ``mask``, ``ct``, or ``auto`` to tell by the values.
        orientation: where the voxel axes run (``LPS``), for files that do not say it.
        preview: whether to draw preview.png.
        device: where a network runs.
        threshold_hu: bone of a CT ends at it, HU; None: half way up its edge.
        min_hole_ml: holes of less missing bone than this are left open, and listed.
        refine: whether the patch is refined.
        trust: what is believed more where a given patch and the shape prior differ.
        series: number or UID of the DICOM series that is read; None: the best.
        study: number of the study that is read, where there are several; None: the only one that can be used.
        word: what the user says of the skull.
        gate: whether a check that failed makes the command end with exit code 3.
    """

    engine: str = "shape-prior"
    kind: Kind = "auto"
    orientation: str | None = None
    preview: bool = True
    device: Device = "auto"
    threshold_hu: float | None = None
    min_hole_ml: float = 5.0
    refine: bool = False
    trust: Trust = "auto"
    series: str | None = None
    study: int | None = None
    word: Word = Word()
    gate: bool = True

    def without_folders(self) -> Settings:
        """The same, without what may say who it is: of files only their names, of a series no UID."""
        numbered = self.series is not None and NUMBER_OF_SERIES.fullmatch(self.series)
        word = self.word.with_files(lambda one: replace(one, path=Path(one.path).name))
        return replace(self, engine=Path(self.engine).name, series=self.series if numbered else None, word=word)

    def with_whole_paths(self) -> Settings:
        """The same, with files that are there named from the root: a process elsewhere has another folder."""
        word = self.word.with_files(lambda one: replace(one, path=_whole(one.path)))
        engine = _whole(self.engine) if self.engine.endswith(".safetensors") else self.engine
        return replace(self, engine=engine, word=word)

    def of_study(self, number: int | None) -> Settings:
        """The same, for one study of several; None changes nothing."""
        return self if number is None else replace(self, study=number)

    def refining(self) -> Settings:
        """The same, with the patch refined."""
        return replace(self, refine=True)


def _whole(path: str) -> str:
    return str(Path(path).absolute()) if Path(path).is_file() else path


__all__ = ["Corners", "Device", "Kind", "MaskFile", "Point", "Settings", "Trust", "Word"]
