"""A half file: what has arrived, where it comes from, and by what to tell that it is still the same file there.

``NAME.part`` holds the bytes, ``NAME.part.json`` the address and what the server said of the file (RFC 9110, 8.8:
validators). Without the second the first is worth nothing: it begins anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from calvaria.files import write_text


@dataclass(frozen=True)
class Source:
    """Where a half file comes from, and by what to tell that it is still the same file there.

    Args:
        url: the address that was asked, before any redirect.
        etag: the server's mark of these very bytes; "W/..." marks only their meaning.
        last_modified: the server's date of the file.
        size_bytes: the whole file's length, or None where nobody says it.
    """

    url: str
    etag: str | None
    last_modified: str | None
    size_bytes: int | None

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` takes: a strong ETag, else the date, else None."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def range_headers(self, done: int, url: str) -> dict[str, str]:
        """Ask an address for what is missing behind ``done`` bytes; for the whole file, if it has changed there."""
        asked = {"Range": f"bytes={done}-"}
        if self.validator and self.url == url:
            asked["If-Range"] = self.validator
        return asked

    def same_file(self, other: Source) -> bool:
        """Whether nothing that both say differs; some servers send a range whatever ``If-Range`` says."""
        names = ("etag", "last_modified", "size_bytes") if self.url == other.url else ("size_bytes",)
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        return all(one == two for one, two in pairs if one is not None and two is not None)


class Part:
    """``NAME.part`` and ``NAME.part.json``: what has arrived, and where it comes from."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".part")
        self._note = path.with_name(path.name + ".part.json")

    def length(self) -> int:
        """Bytes that have arrived; 0 where there is nothing."""
        return self.path.stat().st_size if self.path.exists() else 0

    def trusted(self, url: str, size_bytes: int | None, *, hashed: bool) -> Source | None:
        """What is known of the half file, or None where it cannot be gone on with and must begin anew.

        Args:
            url: the address that would be asked for the rest.
            size_bytes: the published length, or None.
            hashed: a published hash will tell whether the two pieces belong together. Without one, the server must
                have given something to tell a changed file by, and must be the same.
        """
        try:
            source = Source(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        if source.size_bytes is not None and self.length() > source.size_bytes:
            return None
        if size_bytes not in (None, source.size_bytes):
            return None
        return source if hashed or (source.url == url and source.validator) else None

    def begin(self, source: Source, start: int) -> None:
        """Note the source, and cut the half file to what the answer goes on from."""
        self.path.touch()
        os.truncate(self.path, start)  # first: a new note must never stand beside old bytes
        write_text(self._note, json.dumps(asdict(source)) + "\n")

    def become(self, path: Path) -> None:
        """Give the half file its own name: it is whole."""
        self.path.replace(path)
        self._note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take both files away."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


__all__ = ["Part", "Source"]
