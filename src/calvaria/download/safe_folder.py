"""A new folder that takes what a stranger's archive holds: only inside, only plain names, only so much."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from calvaria.download.disk import require_room
from calvaria.errors import FormatError

BLOCK_BYTES = 2**18
"""Read and written at once."""

ROOM_EVERY_BYTES = 2**28
"""The disk's room is asked for again after so much."""

JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
"""What desktops add to archives: left out."""

WINDOWS_NAMES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)
"""Names that Windows keeps for devices, with any suffix."""


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to.

    Args:
        files: so many files and folders. SkullBreak has about 1,500.
        size_bytes: so much content. The largest public set's archives together hold about 200 GB.
        ratio: so many times the archive's own size. Deflate cannot do more than 1032; masks of real skulls, stored as
            plain int32, reach 940 (measured), so that a lower bound would refuse honest sets.
        ratio_from_bytes: the ratio is looked at from this content on: small archives may be all zeros.
    """

    files: int = 200_000
    size_bytes: int = 250 * 10**9
    ratio: float = 1032.0
    ratio_from_bytes: int = 100 * 10**6


@dataclass
class SafeFolder:
    """Writes what passes the rules, and counts it.

    Args:
        root: the new folder; nothing is written outside it.
        archive: the archive's name, for messages.
        packed_bytes: its size.
        limits: how far it may grow.
    """

    root: Path
    archive: str
    packed_bytes: int
    limits: Limits
    files: int = 0
    entries: int = 0
    size_bytes: int = 0
    _asked_bytes: int = 0
    _taken: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def expect(self, size_bytes: int) -> None:
        """Refuse at once what the archive itself says is too much, and what the disk has no room for."""
        self.require_within(size_bytes)
        require_room(self.root, size_bytes, f"unpacking {self.archive}")

    def add_folder(self, name: str) -> None:
        """Make a folder, with its parents."""
        self._count_entry()
        if parts := self._parts(name):
            self._claim(parts, is_folder=True)
            self.root.joinpath(*parts).mkdir(parents=True, exist_ok=True)

    def add_file(self, name: str, content: IO[bytes], written: Callable[[], None]) -> int:
        """Write a file block by block; returns its length. What desktops add is read and counted, but not kept."""
        self._count_entry()
        length = 0
        with ExitStack() as stack:
            file = None
            if parts := self._parts(name):
                self._claim(parts, is_folder=False)
                path = self.root.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(path.open("xb"))
                self.files += 1
            while block := content.read(BLOCK_BYTES):
                length += len(block)
                self._count_bytes(len(block))
                if file is not None:
                    file.write(block)
                written()
        return length

    def require_within(self, size_bytes: int) -> None:
        """Refuse more content than the limits allow.

        Raises:
            FormatError: it is more.
        """
        limits = self.limits
        if size_bytes > limits.size_bytes:
            found = f"more than {limits.size_bytes / 1e9:.3g} GB"
        elif size_bytes > max(limits.ratio_from_bytes, limits.ratio * self.packed_bytes):
            found = f"more than {limits.ratio:.0f} times its own size"
        else:
            return
        raise FormatError(f"{self.archive}: holds {found}, as no set of skulls does: unpack it by hand if you trust it")

    def _parts(self, name: str) -> tuple[str, ...]:
        """The parts of a path that stays inside; none for the top itself and for what is left out.

        Raises:
            FormatError: it leads outside, or is no name for a file on every system.
        """
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or any(_is_bad(part) for part in parts):
            raise FormatError(f"{self.archive}: {name[:200]!r} leads outside its folder, or is no name for a file")
        return () if any(part in JUNK or part.startswith("._") for part in parts) else parts

    def _claim(self, parts: tuple[str, ...], *, is_folder: bool) -> None:
        """Take a path.

        Raises:
            FormatError: it is there already, or another that differs only in case or in how letters are composed.
        """
        for depth in range(1, len(parts) + 1):
            wanted = ("/".join(parts[:depth]), is_folder or depth < len(parts))
            key = unicodedata.normalize("NFC", wanted[0]).casefold()
            twice = key in self._taken and not wanted[1]
            if self._taken.setdefault(key, wanted) != wanted or twice:
                raise FormatError(
                    f"{self.archive}: {wanted[0]!r} and {self._taken[key][0]!r} are the same file on some systems"
                )

    def _count_entry(self) -> None:
        self.entries += 1
        if self.entries > self.limits.files:
            raise FormatError(f"{self.archive}: holds more than {self.limits.files} files: unpack it by hand")

    def _count_bytes(self, count: int) -> None:
        self.size_bytes += count
        self.require_within(self.size_bytes)
        if self.size_bytes - self._asked_bytes > ROOM_EVERY_BYTES:
            require_room(self.root, 0, f"unpacking {self.archive}")
            self._asked_bytes = self.size_bytes


def _is_bad(part: str) -> bool:
    """Whether a part of a path leads elsewhere, or means something else, on some system."""
    stem = part.split(".", 1)[0].casefold().strip()
    odd = any(c in "\\:" or ord(c) < 32 or ord(c) == 127 for c in part)
    return odd or part[-1] in ". " or stem in WINDOWS_NAMES


__all__ = ["BLOCK_BYTES", "Limits", "SafeFolder"]
