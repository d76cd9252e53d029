"""The training cache: every skull of a set in the canonical frame, one bit a voxel, in one file a resolution.

A safetensors file: it can be mapped into memory or read whole, and carried to another machine. With N skulls, P patches
and B bytes a skull it holds

========== ================= ==========================================================================================
bone       (N, B) uint8      the complete skull, or the bone present in one whose truth is not public; bits in C order
frame      (N, 4, 4) float64 canonical mm -> world LPS mm of the file that the skull came from
patch_of   (P,) int32        which skull each patch belongs to
*_box      (P or N, 6) int16 first voxel and voxel after the last, of each patch and each hidden part
*_start    (P or N + 1,)     where the bits of each box begin in ``patch`` and ``hidden``, bytes
patch      (...) uint8       bits of the patches that come with the set, each in its own box; for a skull whose truth is
                             not public, what the shape prior fills in, under the name "filling"
hidden     (...) uint8       bits of where bone may be missing unseen: left out of every loss; empty for complete skulls
========== ================= ==========================================================================================

and, as JSON in its header, who each skull is, the hash of the file it came from, and the grid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import FormatError, InputError
from calvaria.files import atomic_path
from calvaria.types import BoolArray
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import bounding_box

Bytes = NDArray[np.uint8]

FORMAT = "calvaria-skulls-1"
"""Name and version of the layout; another one is made anew."""

FILLING = "filling"
"""Name under which the shape prior's completion of a skull stands whose truth is not known."""

SPACING_MM = 1.6
"""Voxel edge of the coarse grid; finer ones divide it by a whole number, so that their voxels fill its voxels."""

COARSE_SHAPE = (112, 144, 96)
"""179 x 230 x 154 mm: the largest of the public heads, from the skull base to above the vertex. Every count divides by
16, as networks want it, and 184 skulls take 34 MiB."""

BOTTOM_MM = -64.0
"""Lower face of the grid: below the landmark plane but for the far occiput."""


def training_grid(refine: int = 1) -> Grid:
    """The grid of the training cache, in canonical mm; x = 0 lies between two voxels, so mirroring is a flip of axis 0.

    Args:
        refine: voxels of this grid along an edge of a coarse one: 1 for 1.6 mm, 2 for 0.8, 3 for 0.53, 4 for 0.4 mm.

    Raises:
        InputError: ``refine`` is less than 1.

    >>> training_grid(3).shape
    (336, 432, 288)
    """
    if refine < 1:
        raise InputError(f"the coarse voxels are divided by 1 or more; got {refine}")
    spacing = SPACING_MM / refine
    i, j, k = (n * refine for n in COARSE_SHAPE)
    corner = (-spacing * (i - 1) / 2, -spacing * (j - 1) / 2, BOTTOM_MM + spacing / 2)
    return Grid.isotropic((i, j, k), spacing, corner)


def pack(mask: BoolArray) -> Bytes:
    """Bits of a mask in C order, eight to a byte, the first in the lowest bit; the last byte is filled with zeros."""
    return np.packbits(np.ascontiguousarray(mask).reshape(-1), bitorder="little")


def unpack(packed: Bytes, shape: tuple[int, int, int]) -> BoolArray:
    """The mask that :func:`pack` packed."""
    bits = np.unpackbits(packed, count=int(np.prod(shape)), bitorder="little")
    return bits.reshape(shape).astype(bool)


@dataclass(frozen=True)
class Entry:
    """One skull of a cache.

    Args:
        id: of the case it came from; five defects of one skull share the first one's.
        person: the human being.
        complete: whether the skull is complete; otherwise some bone is missing and its truth is not known.
        source: hash of what the entry was made from, and how.
        lost: share of the skull's bone above the lower face that lies outside of the grid.
        warnings: what the user should know of this skull.
    """

    id: str
    person: str
    complete: bool
    source: str
    lost: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Item:
    """What a cache holds of one skull beside its bone.

    Args:
        entry: who it is.
        frame: (4, 4) canonical mm -> world LPS mm.
        patches: kind of defect -> the patch's box and the packed bits in it.
        hidden: the box and the packed bits of where bone may be missing unseen; None for a complete skull.
    """

    entry: Entry
    frame: NDArray[np.float64]
    patches: dict[str, tuple[Box, Bytes]]
    hidden: tuple[Box, Bytes] | None


class SkullCache:
    """A training cache on disk; nothing is read before it is asked for.

    Args:
        path: a file that :func:`calvaria.synthesis.cache_build.build_cache` wrote.

    Raises:
        FormatError: the file is damaged, or of another layout.
        InputError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such training cache; make one with: calvaria data cache ROOT -o FILE")
        try:
            file: Any = safe_open(self.path, framework="numpy")
            about = json.loads(file.metadata()["calvaria"])
            if about["format"] != FORMAT:
                raise ValueError(f"layout {about['format']!r}, this version reads {FORMAT!r}")
            self._file = file
            self.refine = int(about["refine"])
            self.entries = tuple(Entry(**{**e, "warnings": tuple(e["warnings"])}) for e in about["entries"])
            self._kinds: tuple[str, ...] = tuple(about["kinds"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{self.path.name}: not a training cache ({error}); make it anew") from None

    @property
    def grid(self) -> Grid:
        """Where the skulls lie, canonical mm."""
        return training_grid(self.refine)

    @cached_property
    def _tables(self) -> dict[str, NDArray[Any]]:
        names = ("frame", "patch_of", "patch_box", "patch_start", "hidden_box", "hidden_start")
        return {name: self._file.get_tensor(name) for name in names}

    def __len__(self) -> int:
        return len(self.entries)

    def __reduce__(self) -> tuple[type[SkullCache], tuple[Path]]:
        """A worker process opens the file itself."""
        return SkullCache, (self.path,)

    def index_of(self, ids: Sequence[str]) -> list[int]:
        """Rows of case ids; ids of other defects of a skull, and of persons held already, are passed over.

        Raises:
            InputError: no id of the list is in the cache.
        """
        rows = {entry.id: row for row, entry in enumerate(self.entries)}
        found = [rows[name] for name in ids if name in rows]
        if not found:
            raise InputError(f"{self.path.name}: none of the {len(ids)} cases is in this cache; it holds {len(rows)}")
        return found

    def bones(self, rows: Sequence[int] | None = None) -> Bytes:
        """(n, B) packed bits of some skulls, or of all."""
        if rows is None:
            return np.asarray(self._file.get_tensor("bone"))
        part = self._file.get_slice("bone")
        return np.stack([np.asarray(part[row]) for row in rows])

    def bone(self, row: int) -> BoolArray:
        """The skull on the cache's grid."""
        return unpack(self.bones([row])[0], self.grid.shape)

    def item(self, row: int) -> Item:
        """All that is known of a skull beside its bone."""
        tables = self._tables
        patches = {
            self._kinds[p]: (_box(tables["patch_box"][p]), self._bits("patch", int(p)))
            for p in np.flatnonzero(tables["patch_of"] == row)
        }
        start, end = tables["hidden_start"][row : row + 2]
        hidden = (_box(tables["hidden_box"][row]), self._bits("hidden", row)) if end > start else None
        return Item(self.entries[row], tables["frame"][row], patches, hidden)

    def hidden(self, row: int) -> BoolArray:
        """Where bone may be missing unseen; all False for a complete skull."""
        return self._spread(self.item(row).hidden)

    def patch(self, row: int, kind: str) -> BoolArray:
        """The patch of a defect that came with the set.

        Raises:
            InputError: the skull has no defect of that kind.
        """
        patches = self.item(row).patches
        if kind not in patches:
            known = ", ".join(patches) or "none"
            raise InputError(f"{self.entries[row].id}: no defect of kind {kind!r} in the cache; known: {known}")
        return self._spread(patches[kind])

    def _bits(self, name: str, row: int) -> Bytes:
        start, end = (int(v) for v in self._tables[f"{name}_start"][row : row + 2])
        return np.asarray(self._file.get_slice(name)[start:end])

    def _spread(self, part: tuple[Box, Bytes] | None) -> BoolArray:
        out = np.zeros(self.grid.shape, bool)
        if part is not None:
            box, bits = part
            i, j, k = (s.stop - s.start for s in box)
            out[box] = unpack(bits, (i, j, k))
        return out


def boxed(mask: BoolArray) -> tuple[Box, Bytes]:
    """The box around a mask's voxels and the packed bits in it; an empty box and no bytes for an empty mask."""
    box = bounding_box(mask)
    if box is None:
        nothing = slice(0, 0)
        return (nothing, nothing, nothing), np.zeros(0, np.uint8)
    return box, pack(mask[box])


def _box(row: NDArray[np.int16]) -> Box:
    a, b, c, d, e, f = (int(v) for v in row)
    return slice(a, d), slice(b, e), slice(c, f)


def write_cache(path: Path, items: Sequence[Item], bones: Iterable[Bytes], refine: int) -> None:
    """Write a cache; the file appears whole or not at all.

    Args:
        path: the file.
        items: the skulls, in order.
        bones: (B,) packed bits of each; asked for one after the other, so that they need not fit in memory together.
        refine: of their grid.
    """
    size = (training_grid(refine).size + 7) // 8
    patches = [(row, kind, *patch) for row, item in enumerate(items) for kind, patch in item.patches.items()]
    nothing: tuple[Box, Bytes] = boxed(np.zeros((1, 1, 1), bool))
    hidden = [item.hidden or nothing for item in items]
    arrays: dict[str, tuple[NDArray[Any], str]] = {
        "frame": (np.array([item.frame for item in items], np.float64).reshape(-1, 4, 4), "F64"),
        "patch_of": (np.array([row for row, *_ in patches], np.int32), "I32"),
        "patch_box": (_corners([box for *_, box, _ in patches]), "I16"),
        "patch_start": (_starts([bits for *_, bits in patches]), "I64"),
        "hidden_box": (_corners([box for box, _ in hidden]), "I16"),
        "hidden_start": (_starts([bits for _, bits in hidden]), "I64"),
        "patch": (_joined([bits for *_, bits in patches]), "U8"),
        "hidden": (_joined([bits for _, bits in hidden]), "U8"),
    }
    about = {
        "format": FORMAT,
        "refine": refine,
        "kinds": [kind for _, kind, *_ in patches],
        "entries": [asdict(item.entry) for item in items],
    }
    with atomic_path(path) as part:
        _write_safetensors(part, about, (len(items), size), bones, arrays)


def _write_safetensors(
    path: Path,
    about: dict[str, Any],
    shape: tuple[int, int],
    rows: Iterable[Bytes],
    arrays: dict[str, tuple[NDArray[Any], str]],
) -> None:
    """The file row by row: the library's own writer wants all of it in memory, 1 GB at 0.5 mm."""
    header: dict[str, Any] = {"__metadata__": {"calvaria": json.dumps(about)}}
    at = 0
    for name, (array, kind) in arrays.items():  # first, for they are aligned to 8 bytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    header["bone"] = {"dtype": "U8", "shape": list(shape), "data_offsets": [at, at + shape[0] * shape[1]]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array, _ in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())
        for row in rows:
            file.write(row.tobytes())


def _corners(boxes: Sequence[Box]) -> NDArray[np.int16]:
    rows = [[s.start for s in box] + [s.stop for s in box] for box in boxes]
    return np.array(rows, np.int16).reshape(-1, 6)


def _starts(parts: Sequence[Bytes]) -> NDArray[np.int64]:
    return np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)


def _joined(parts: Sequence[Bytes]) -> Bytes:
    return np.concatenate([np.zeros(0, np.uint8), *parts])


__all__ = [
    "COARSE_SHAPE",
    "FILLING",
    "FORMAT",
    "SPACING_MM",
    "Entry",
    "Item",
    "SkullCache",
    "boxed",
    "pack",
    "training_grid",
    "write_cache",
]
