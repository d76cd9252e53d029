"""A whole set: found out what belongs to it, downloaded, checked, unpacked; each file by itself, so that one may fail.

::

    FOLDER/training_set.zip      as downloaded
    FOLDER/training_set/         what was in it
    FOLDER/checksums.json        hashes, sources, what is unpacked where
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, urlsplit

from calvaria.datasets.catalog import DataSet, public_set
from calvaria.download.checksums import Record, mark_unpacked, read_records
from calvaria.download.deposits import is_deposit, look_up
from calvaria.download.disk import require_room
from calvaria.download.fetch import adopt, fetch
from calvaria.download.part import Part
from calvaria.download.transfer import Patience, RemoteFile
from calvaria.download.unpack import Limits, archive_stem, is_archive, unpack
from calvaria.errors import InputError
from calvaria.jobs import Progress, unheard


@dataclass(frozen=True)
class Plan:
    """What is to be downloaded, and what must be known before.

    Args:
        name: of the set, the deposit or the file.
        title: in a line.
        licence: None where it is not known.
        citation: what to cite; empty where nothing is known.
        page: where a person finds it.
        note: what is uncertain or must be done by hand; may be empty.
        files: what can be downloaded; none for sets that only a person can get.
        elsewhere: names of files that the repository only links to.
        is_set: it has a name of its own, by which it can also be taken from a folder (``local_plan``).
    """

    name: str
    title: str
    licence: str | None
    citation: str
    page: str
    note: str = ""
    files: tuple[RemoteFile, ...] = ()
    elsewhere: tuple[str, ...] = ()
    is_set: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Args:
        name: of the file.
        record: its size, hash and source; None where it failed.
        was_there: nothing had to be downloaded.
        unpacked: the folder with what was in it, or None.
        error: one line, or None.
    """

    name: str
    record: Record | None = None
    was_there: bool = False
    unpacked: Path | None = None
    error: str | None = None


def plan_for(
    word: str, *, sha256: str | None = None, name: str | None = None, patience: Patience | None = None
) -> Plan:
    """What a name, a deposit or an address stands for; a repository is asked for its files.

    Args:
        word: a set ("skullfix"), a deposit ("figshare:14161307", "zenodo:NUMBER"), or an address.
        sha256: the hash the file at the address must have.
        name: the name the file at the address is to get; None takes the last part of the address.
        patience: when to give up asking.

    Raises:
        InputError: there is no such set or deposit, the address is none, a hash or a name is given for what is no
            address, or the repository cannot be reached.
        FormatError: the repository's answer is not of the form that is known.
    """
    if "://" in word:
        name = name or unquote(urlsplit(word).path.rstrip("/").rpartition("/")[2])
        if not name:
            raise InputError(f"{word}: no file name at its end; give one with --name")
        return Plan(name, name, None, "", word, files=(RemoteFile(name, word, sha256=sha256),))
    if sha256 or name:
        raise InputError(f"{word}: --sha256 and --name go with an address; a set's files have their own")
    if is_deposit(word):
        deposit = look_up(word, patience)
        return Plan(
            word,
            deposit.title,
            deposit.licence,
            deposit.citation,
            deposit.page,
            files=deposit.files,
            elsewhere=deposit.elsewhere,
        )
    known = public_set(word)
    files = tuple(RemoteFile(address.name, address.url) for address in known.addresses)
    plan = _plan_of(known, files)
    if known.deposit is None:
        return plan
    try:
        deposit = look_up(known.deposit, patience)
    except InputError as error:
        raise type(error)(f"{error}: {by_hand(known, 'FOLDER')}") from error
    stated = f"{known.deposit} states {deposit.licence}." if deposit.licence not in (None, known.licence) else ""
    return replace(
        plan,
        licence=known.licence or deposit.licence,
        note=" ".join(filter(None, (known.fetch_note, stated))),
        files=files + deposit.files,
        elsewhere=deposit.elsewhere,
    )


def by_hand(known: DataSet | Plan, folder: Path | str) -> str:
    """What a person can do where the program cannot."""
    again = f"calvaria data fetch {known.name} --local -o {folder}"
    return f"get the archives by hand at {known.page}, put them into {folder}, and run: {again}"


def local_plan(word: str, folder: Path) -> Plan:
    """The same set, with the archives that a person has put into a folder in place of what the net has.

    Raises:
        InputError: there is no such set, or no archive in the folder.
    """
    known = public_set(word)
    names = sorted(path.name for path in folder.iterdir() if is_archive(path)) if folder.is_dir() else []
    if not names:
        raise InputError(f"{folder}: no archive (.zip, .tar ...) there; put those of {known.page} into it")
    files = tuple(RemoteFile(name, known.page) for name in names)
    return _plan_of(known, files)


def _plan_of(known: DataSet, files: tuple[RemoteFile, ...]) -> Plan:
    return Plan(
        known.name,
        known.description,
        known.licence,
        known.cite,
        known.page,
        known.fetch_note,
        files=files,
        is_set=True,
    )


def chosen(files: Sequence[RemoteFile], pattern: str | None) -> tuple[RemoteFile, ...]:
    """The files whose names match a pattern such as ``craniotomy*``, in any case; all without one.

    Raises:
        InputError: none does; the message has some of the names.
    """
    if pattern is None:
        return tuple(files)
    found = tuple(file for file in files if fnmatchcase(file.name.casefold(), pattern.casefold()))
    if not found:
        names = ", ".join(file.name for file in files[:8])
        raise InputError(f"--only {pattern}: no file of that name; there are {names}{' ...' if len(files) > 8 else ''}")
    return found


def acquire(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    local: bool = False,
    unpacking: bool = True,
    limits: Limits | None = None,
    patience: Patience | None = None,
    progress: Progress = unheard,
) -> Iterator[Outcome]:
    """Download, check and unpack files one after the other; what is whole already is left as it is.

    Args:
        files: what to bring.
        folder: where it goes.
        local: download nothing; the files lie in the folder.
        unpacking: unpack archives, each into a folder of its own name.
        limits: how far an archive may grow.
        patience: when to give up a download.
        progress: called with what is being done to which file, and the fraction of all bytes that have arrived.

    Yields:
        What became of each file, as soon as it is known. A file that fails does not stop the others.

    Raises:
        InputError: the disk has no room for all of it; nothing is begun.
    """
    if not local:
        require_room(folder, _still_wanted(files, folder, unpacking), f"downloading {len(files)} files")
    weights = _weights(files)
    for number, (file, weight) in enumerate(zip(files, weights, strict=True)):
        label = f"{number + 1} of {len(files)} {file.name}"
        tell = _Teller(progress, label, sum(weights[:number]), weight)
        try:
            yield _one(file, folder, tell, local=local, unpacking=unpacking, limits=limits, patience=patience)
        except InputError as error:
            yield Outcome(file.name, error=str(error))


def _weights(files: Sequence[RemoteFile]) -> list[float]:
    """Each file's share of the whole: by its size, where all sizes are published, else one as much as the other."""
    sizes = [file.size_bytes for file in files]
    known = [float(size) for size in sizes if size is not None]
    if len(known) < len(sizes) or not sum(known):
        return [1 / len(sizes)] * len(sizes)
    return [size / sum(known) for size in known]


@dataclass(frozen=True)
class _Teller:
    """Turns the bytes of one file into the progress of all.

    Args:
        progress: called with the text and the fraction.
        label: which file it is.
        before: the share of the files before it.
        weight: its own share.
    """

    progress: Progress
    label: str
    before: float
    weight: float

    def __call__(self, what: str, done: int, size: int | None) -> None:
        share = min(done / size, 1.0) if size else 0.0
        arrived = share if what == "downloading" else 1.0  # what comes behind it takes seconds
        text = f"{share:.0%}" if size else f"{done / 1e6:.0f} MB"
        self.progress(f"{self.label}: {what} {text}", min(self.before + self.weight * arrived, 1.0))


def _one(
    file: RemoteFile,
    folder: Path,
    tell: _Teller,
    *,
    local: bool,
    unpacking: bool,
    limits: Limits | None,
    patience: Patience | None,
) -> Outcome:
    """One file, whole, checked and unpacked."""
    target = folder / archive_stem(Path(file.name))
    wanted = unpacking and is_archive(Path(file.name))
    record = read_records(folder).get(file.name)
    done = record is not None and record.unpacked_to == target.name and target.is_dir()
    if record is not None and wanted and done and not (folder / file.name).exists():
        return Outcome(file.name, record, True, target)  # the archive was deleted to save room
    if local:
        fetched = adopt(folder / file.name, tell)
    else:
        room = (file.size_bytes or 0) if wanted and not done else 0
        fetched = fetch(file, folder, progress=tell, patience=patience, reserve_bytes=room)
    if wanted and not done:
        unpack(folder / file.name, target, limits=limits, progress=lambda n, whole: tell("unpacking", n, whole))
        fetched = replace(fetched, record=mark_unpacked(folder, file.name, target.name))
    return Outcome(file.name, fetched.record, fetched.was_there, target if wanted else None)


def _still_wanted(files: Sequence[RemoteFile], folder: Path, unpacking: bool) -> int:
    """Bytes that are still to be written, as far as sizes are published: what is missing, and as much again unpacked.

    That is the least: images are compressed inside archives too. ``unpack`` asks again when it knows.
    """
    wanted, records = 0, read_records(folder)
    for file in files:
        path, size = folder / file.name, file.size_bytes or 0
        record = records.get(file.name)
        unpacked = record is not None and record.unpacked_to is not None and (folder / record.unpacked_to).is_dir()
        if not unpacked:
            wanted += size * (unpacking and is_archive(path))
            wanted += 0 if path.exists() else max(size - Part(path).length(), 0)
    return wanted


__all__ = ["Outcome", "Plan", "acquire", "by_hand", "chosen", "local_plan", "plan_for"]
