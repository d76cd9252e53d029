"""Room on the disk: asked for before it is used."""

from __future__ import annotations

import shutil
from pathlib import Path

from calvaria.errors import InputError

SPARE_BYTES = 200 * 10**6
"""Left free on the disk in any case: a full disk stops more than this program."""


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder lies on; the folder need not exist yet.

    Raises:
        OSError: the disk does not say.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def require_room(folder: Path, wanted_bytes: int, what: str) -> None:
    """Raise where the disk is too full.

    Args:
        folder: where it is to go; it need not exist yet.
        wanted_bytes: how much is still to be written.
        what: what is to be written, for the message.

    Raises:
        InputError: fewer than ``wanted_bytes`` and 200 MB to spare are free.
    """
    free = free_bytes(folder)
    if wanted_bytes + SPARE_BYTES > free:
        raise InputError(
            f"{folder}: {what} needs {wanted_bytes / 1e9:.2f} GB, with {SPARE_BYTES / 1e9:.1f} GB left to spare; "
            f"{free / 1e9:.2f} GB are free: make room, or give another folder"
        )


__all__ = ["SPARE_BYTES", "free_bytes", "require_room"]
