"""Folders in which results come together until they are whole, and what killed runs have left of such.

Who fills one holds a lock in it, which the system lets go when its process ends, however it ends. A lock tells nothing
across machines that share a disk, where it may be kept on each for itself: so a folder also says on which machine it is
held, and only there does a free lock mean that nobody fills it. Of other machines' folders only those go in which
nothing has happened for days.
"""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from calvaria.errors import one_line

LOCK, HOLDER, FILES = "lock", "held-by", "files"
"""What lies in such a folder: the lock, the machine on which it is held, and the folder to fill."""

MAX_IDLE_DAYS = 7.0
"""A folder that is not known to be held, and in which nothing has changed for so long, is left over."""

DAY_S = 86_400

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Tells machines of one name apart, and a machine from itself before it was started anew (Linux)."""


@contextmanager
def unfinished(parent: Path, name: str) -> Iterator[Path]:
    """A folder to fill, in a hidden one that is gone at the end and is held until then.

    Args:
        parent: where it lies; is there.
        name: of what it is to become.

    Raises:
        OSError: the disk refuses.
    """
    from filelock import FileLock

    folder = Path(tempfile.mkdtemp(prefix=f".{name}-unfinished-", dir=parent))
    lock = FileLock(folder / LOCK)
    try:
        files = folder / FILES
        files.mkdir()
        with suppress(OSError, NotImplementedError):  # a disk without locks: what is left of it goes after days
            lock.acquire(timeout=0)
        if lock.is_locked:  # not before: whoever reads of this machine finds the lock held
            (folder / HOLDER).write_text(_machine(), encoding="utf-8")
        yield files
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, name: str | None = None) -> None:
    """Take away the hidden folders that killed runs have left, and none that is held; what cannot go stays.

    Args:
        parent: where they lie; need not be there.
        name: of what they were to become; None: whatever that was.
    """
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}-unfinished-\w+", re.DOTALL)
    with suppress(OSError):
        for left in list(parent.iterdir()):
            if pattern.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
                _take_away(left)


def _take_away(left: Path) -> None:
    """Remove a folder, if nobody fills it."""
    from filelock import FileLock

    try:
        holder = (left / HOLDER).read_text(encoding="utf-8")
    except FileNotFoundError:
        holder = ""
    except (OSError, UnicodeDecodeError):  # another user's
        return
    if holder == _machine():
        lock = FileLock(left / LOCK)
        try:
            lock.acquire(timeout=0)
        except (OSError, NotImplementedError):  # it is held
            return
        try:
            shutil.rmtree(left, ignore_errors=True)
        finally:
            lock.release()
        shutil.rmtree(left, ignore_errors=True)  # where an open file cannot go
    elif _idle_days(left) > MAX_IDLE_DAYS:
        shutil.rmtree(left, ignore_errors=True)


def _idle_days(folder: Path) -> float:
    """How long nothing has changed in a folder; 0 where that cannot be told."""
    try:
        newest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return 0.0
    return (time.time() - newest) / DAY_S


@cache
def _machine() -> str:
    """What tells this machine from others, from its start to its end."""
    try:
        start = BOOT_ID.read_text(encoding="ascii")
    except OSError:
        start = f"{uuid.getnode():x}"
    return one_line(f"{socket.gethostname()} {start}")


__all__ = ["sweep", "unfinished"]
