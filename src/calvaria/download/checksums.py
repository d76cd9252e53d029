"""``checksums.json``: what was downloaded before, written at the first download and held against ever after.

::

    {"schema": 1, "files": {"training_set.zip": {"sha256": "...", "size_bytes": 1, "url": "https://...",
                                                 "published": "md5", "unpacked_to": "training_set"}}}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from calvaria.download.progress import BytesDone
from calvaria.errors import FormatError
from calvaria.files import write_text

FILE_NAME = "checksums.json"
"""The record's name; it lies in the folder of the files that it names."""

SCHEMA = 1

BLOCK_BYTES = 2**20
"""Read at once while hashing."""


@dataclass(frozen=True)
class Record:
    """What is known of a file that was downloaded.

    Args:
        sha256: of its bytes, 64 hexadecimal digits.
        size_bytes: its length.
        url: where it came from, without what follows the path; empty for files put there by hand.
        published: the kind of hash that its publisher states and that it was held against; None where there is none.
        unpacked_to: the folder beside it that holds what was in it, or None.
    """

    sha256: str
    size_bytes: int
    url: str
    published: str | None = None
    unpacked_to: str | None = None


def read_records(folder: Path) -> dict[str, Record]:
    """Records by file name; none where the folder has no ``checksums.json``.

    Raises:
        FormatError: the file is damaged, or of a later version.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise FormatError(f"{path}: schema {content['schema']}; this version reads {SCHEMA}: update calvaria")
        known = {field.name for field in fields(Record)}
        return {
            name: Record(**{k: v for k, v in entry.items() if k in known}) for name, entry in content["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: damaged ({error}); move it away, and the files are recorded anew") from error


def write_record(folder: Path, name: str, record: Record) -> None:
    """Add or replace one file's record; the file as a whole is replaced at once.

    Raises:
        FormatError: as :func:`read_records`.
        InputError: the disk refuses.
    """
    files = read_records(folder) | {name: record}
    content = {"schema": SCHEMA, "files": {key: asdict(files[key]) for key in sorted(files)}}
    write_text(folder / FILE_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def mark_unpacked(folder: Path, name: str, unpacked_to: str) -> Record:
    """Note where the content of a recorded archive lies; returns the record as it is then.

    Raises:
        KeyError: the archive has no record.
    """
    record = replace(read_records(folder)[name], unpacked_to=unpacked_to)
    write_record(folder, name, record)
    return record


def digests(path: Path, progress: BytesDone) -> dict[str, str]:
    """SHA-256 and MD5 of a file in one pass; MD5 is what the repositories publish.

    Args:
        path: the file; an empty one has digests too.
        progress: called with the bytes read and the size.

    Returns:
        "sha256" and "md5" to hexadecimal digits.
    """
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
            md5.update(block)
            done += len(block)
            progress(done, size)
    return {"sha256": sha256.hexdigest(), "md5": md5.hexdigest()}


__all__ = ["FILE_NAME", "Record", "digests", "mark_unpacked", "read_records", "write_record"]
