"""One file from the net: whole, checked and recorded, or not there at all.

Nothing bears the file's own name before its size and hashes are right. Hashes are those that its publisher states, and
the one that was recorded in ``checksums.json`` at the first download.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from calvaria.download.checksums import FILE_NAME, Record, digests, read_records, write_record
from calvaria.download.part import Part
from calvaria.download.progress import FileProgress, untold
from calvaria.download.transfer import HASH_DIGITS, Patience, RemoteFile, Transfer
from calvaria.download.web import host_of
from calvaria.errors import FormatError, InputError


@dataclass(frozen=True)
class Fetched:
    """A file that is there, whole and checked.

    Args:
        path: the file.
        record: its size, hash and source, as it stands in ``checksums.json``.
        was_there: nothing had to be downloaded.
    """

    path: Path
    record: Record
    was_there: bool = False


def fetch(
    remote: RemoteFile,
    folder: Path,
    *,
    progress: FileProgress = untold,
    patience: Patience | None = None,
    reserve_bytes: int = 0,
) -> Fetched:
    """Download a file, or go on with what an earlier call began; nothing is done where it is already whole.

    Args:
        remote: the file and where it is.
        folder: where it goes; made, with its parents, if it is not there.
        progress: called with every piece that arrives.
        patience: when to give up; None takes the defaults.
        reserve_bytes: room that must stay on the disk besides, for what is inside.

    Raises:
        InputError: the address leads nowhere, the server gives up, refuses or sends something else, the disk is too
            full; what has arrived is kept. Or a file of that name lies there that nothing is known of.
        FormatError: size or hash differ from what is published or was recorded.
    """
    path = folder / remote.name
    part = Part(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = read_records(folder).get(remote.name)
        if path.exists():
            return _already_there(path, remote, record, progress)
        url = Transfer(remote, part, progress, patience or Patience(), reserve_bytes).run()
        checked, wrong = _compare(part.path, remote, record, progress, url)
        if wrong:
            part.remove()
            raise FormatError(
                f"{remote.name}: {wrong}: damaged on the way, or changed at {host_of(url)}; it was removed: try again; "
                f"if it has changed there and you trust that, take {remote.name} out of {FILE_NAME}"
            )
        write_record(folder, remote.name, checked)  # first: a file without a record could not be trusted later
        part.become(path)
    except OSError as error:  # errors of the network have become others by now: this is the disk
        raise InputError(f"{path}: the disk refuses: {error.strerror or error}") from error
    return Fetched(path, checked)


def adopt(path: Path, progress: FileProgress = untold) -> Fetched:
    """Take over a file that was downloaded by hand: record it, or hold it against its record.

    Raises:
        FormatError: it differs from what was recorded.
        InputError: there is no such file, or the disk refuses.
    """
    try:
        return _already_there(path, None, read_records(path.parent).get(path.name), progress)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _already_there(path: Path, remote: RemoteFile | None, record: Record | None, progress: FileProgress) -> Fetched:
    """The file as it lies there, if that is what it should be; without ``remote`` it is taken as it is."""
    if not path.is_file():
        raise InputError(f"{path}: wanted a file there")
    if record is None and remote is not None and not remote.hashed:
        raise InputError(
            f"{path}: exists, but no hash of it is published or recorded, so it cannot be checked: "
            "give its --sha256, or move it away and it is downloaded anew"
        )
    checked, wrong = _compare(path, remote, record, progress, record.url if record else "")
    if wrong:
        raise FormatError(f"{path}: {wrong}: it was changed or damaged here: move it away, and it is downloaded anew")
    if record is None:
        write_record(path.parent, path.name, checked)
    return Fetched(path, record or checked, was_there=True)


def _compare(
    path: Path, remote: RemoteFile | None, record: Record | None, progress: FileProgress, url: str
) -> tuple[Record, str]:
    """What is to be recorded of a file, and in which way it is not what is published or was recorded (empty: none)."""
    size = path.stat().st_size
    found = digests(path, lambda done, whole: progress("checking", done, whole))
    published = {kind: text for kind in HASH_DIGITS if (text := getattr(remote, kind, None))}
    wanted = [(kind, text, "published") for kind, text in published.items()]
    if record:
        wanted.append(("sha256", record.sha256, "recorded at the first download"))
    wrong = [f"{kind} {found[kind]}, {source} is {text}" for kind, text, source in wanted if text != found[kind]]
    if remote and remote.size_bytes not in (None, size):
        wrong.insert(0, f"{size} bytes, published are {remote.size_bytes}")
    source = urlsplit(url)._replace(query="", fragment="").geturl()  # a query may hold a key
    unpacked = record.unpacked_to if record else None
    return Record(found["sha256"], size, source, next(iter(published), None), unpacked), "; ".join(wrong[:1])


__all__ = ["Fetched", "Patience", "RemoteFile", "adopt", "fetch"]
