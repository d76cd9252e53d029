"""Binary STL files put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEADER = b"calvaria output. SPACE=LPS".ljust(80)
"""Slicer reads from it how the axes run."""


def join(sources: Sequence[Path], target: str) -> None:
    """Write all triangles of several files, of none too, into one."""
    triangles = [path.read_bytes()[84:] for path in sources]
    count = sum(map(len, triangles)) // 50
    with open(target, "wb") as file:
        file.write(HEADER + count.to_bytes(4, "little") + b"".join(triangles))
