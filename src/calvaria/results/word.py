"""What the user says of a skull, from files and figures to what the pipeline takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from calvaria.errors import InputError
from calvaria.results.names import is_mesh
from calvaria.results.settings import MaskFile, Settings, Word

if TYPE_CHECKING:
    from calvaria.reconstruction.word import UserWord
    from calvaria.volume import Grid, Volume


def with_hashes(settings: Settings, source: Path) -> Settings:
    """The same settings, with the files of the word found and their hashes taken.

    Args:
        settings: what is asked for; a record has only the names of files.
        source: the skull's file: a file that is given by its name may lie beside it.

    Raises:
        InputError: a file is not there, or it is not the one that a record was made with.
    """
    from calvaria.io import sha256_of

    def found(one: MaskFile) -> MaskFile:
        path = Path(one.path)
        if not path.is_file() and path.name == one.path and (source.parent / path).is_file():
            path = source.parent / path
        if not path.is_file():
            hint = "give it again: a record keeps only the names of masks" if one.sha256 else "a mask or a closed mesh"
            raise InputError(f"{one.path}: no such file; {hint}")
        digest = sha256_of(path)
        if one.sha256 and digest != one.sha256:
            raise InputError(
                f"{path.name}: this is not the mask that the record was made with (sha256 {digest[:12]}, wanted "
                f"{one.sha256[:12]}): give the one to use"
            )
        return MaskFile(str(path), digest)

    return replace(settings, word=settings.word.with_files(found))


def read_word(word: Word, grid: Grid, orientation: str | None) -> UserWord:
    """The word with its masks read.

    Args:
        word: from `with_hashes`.
        grid: of the skull, for meshes.
        orientation: where voxel axes run, for files that do not say it.

    Raises:
        CalvariaError: a file cannot be read, or a figure cannot be used.
    """
    import numpy as np

    from calvaria.reconstruction.word import UserWord
    from calvaria.symmetry.plane import Plane

    def read(one: MaskFile | None) -> Volume | None:
        return None if one is None else _read(Path(one.path), grid, orientation)

    kept = tuple(
        _read(Path(one.path), grid, orientation) if isinstance(one, MaskFile) else one for one in word.keep_open
    )
    return UserWord(
        hole=read(word.hole),
        seeds_mm=word.seed,
        box_mm=word.box,
        ignore=read(word.ignore),
        plane=None if word.plane is None else Plane(np.array(word.plane[:3]), word.plane[3]),
        keep_open=kept,
    )


def _read(path: Path, grid: Grid, orientation: str | None) -> Volume:
    from calvaria.io import read_as_mask, read_volume

    if is_mesh(path):
        return read_as_mask(path, grid)
    return read_volume(path, orientation=orientation)


__all__ = ["read_word", "with_hashes"]
