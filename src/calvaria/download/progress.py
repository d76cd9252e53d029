"""How far the bytes of one file have come; `calvaria.jobs.Progress` is for the whole."""

from __future__ import annotations

from collections.abc import Callable

BytesDone = Callable[[int, int | None], None]
"""Called with the bytes that are done and the whole, or None where nobody says it."""

FileProgress = Callable[[str, int, int | None], None]
"""Called with what is done ("downloading", "checking"), the bytes so far, and the size or None where nobody says it."""


def untold(*_: object) -> None:
    """Either of them that tells nobody."""


__all__ = ["BytesDone", "FileProgress", "untold"]
