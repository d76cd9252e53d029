"""A study from an archive to the disk, files from the disk to an archive, and whether an archive answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from calvaria.errors import InputError
from calvaria.io.archive.access import Access
from calvaria.io.archive.address import ArchiveAddress
from calvaria.io.archive.client import Client, Outcome
from calvaria.io.archive.dicomweb import DicomWeb
from calvaria.io.archive.dimse import Dimse
from calvaria.io.archive.http import Web
from calvaria.io.archive.link import hushed
from calvaria.io.archive.network import BrokenError, patiently
from calvaria.io.archive.outgoing import collected
from calvaria.io.archive.query import SeriesFound, StudyQuery, chosen_series, one_study
from calvaria.io.archive.staging import Staging, require_target, staged
from calvaria.io.dicom.headers import quiet
from calvaria.jobs import Countdown, Progress, unheard

SEARCHING = 0.02
"""Fraction of the whole that the search is shown as."""


@dataclass(frozen=True)
class Fetched:
    """What came.

    Args:
        path: the folder or zip.
        series: those that were fetched.
        slices: their instances.
        size_bytes: of all files, unpacked.
    """

    path: Path
    series: tuple[SeriesFound, ...]
    slices: int
    size_bytes: int


@dataclass(frozen=True)
class Sent:
    """What became of files that were sent.

    Args:
        outcomes: of each file.
        others: files that are not DICOM, which were left out.
    """

    outcomes: tuple[Outcome, ...]
    others: int

    @property
    def stored(self) -> tuple[Outcome, ...]:
        """What the archive has now."""
        return tuple(one for one in self.outcomes if one.reason is None)

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """What it has not."""
        return tuple(one for one in self.outcomes if one.reason is not None)


def fetch(
    archive: ArchiveAddress,
    query: StudyQuery,
    out: Path,
    *,
    access: Access | None = None,
    progress: Progress = unheard,
) -> Fetched:
    """Bring a study, or some series of it.

    Args:
        archive: where it is.
        query: which; it must match one study.
        out: a folder that is not there or empty, or a name that ends in ``.zip``; appears when all is there.
        access: how the archive is spoken to; None takes the defaults, without credentials.
        progress: called after each slice.

    Raises:
        ManyStudiesError: several studies match; it has them.
        InputError: none matches, the archive cannot be reached, refuses, or sends less than it announced; nothing is
            left then.
        FormatError: what it sends is no DICOM, or too much.
        MissingExtraError: the extra ``dicom`` is not installed.
    """
    access = access or Access()
    require_target(out)
    with _connected(archive, access) as client:
        progress("searching", 0.0)
        study = one_study(client.studies(query), query, archive.name)
        series = chosen_series(client.series(study.uid), query, archive.name)
        progress("searching", SEARCHING / 2)
        listed = {one: client.instances(study.uid, one.uid) for one in series}
        with staged(out) as (incoming, keep):
            announced = {one: frozenset(uids) for one, uids in listed.items()}
            staging = Staging(archive.name, study.uid, announced, incoming, keep)
            staging.told = _Told(staging, progress)
            for one in series:
                classes = frozenset(filter(None, listed[one].values()))
                with _counting(staging, one):
                    patiently(partial(client.retrieve, study.uid, one.uid, classes, staging), archive, access)
            staging.require_whole()
    return Fetched(out, tuple(series), staging.files, staging.size_bytes)


def send(archive: ArchiveAddress, path: Path, *, access: Access | None = None, progress: Progress = unheard) -> Sent:
    """Store files in an archive, each once: what is refused is not tried again.

    Args:
        archive: where it is.
        path: a folder of results (its ``dicom``), any folder or zip with DICOM files, or one.
        access: how the archive is spoken to; None takes the defaults, without credentials.
        progress: called after each file.

    Returns:
        What became of each file; that some were refused raises nothing.

    Raises:
        InputError: there is nothing to send, or the archive cannot be reached or refuses to talk.
        MissingExtraError: the extra ``dicom`` is not installed.
    """
    access = access or Access()
    outcomes: list[Outcome] = []
    with _connected(archive, access) as client, collected(path) as found:
        outcomes += [Outcome(name, "not sent: it is damaged, or deflated") for name in found.damaged]
        countdown = Countdown(len(found.files))
        progress("sending", 0.0)

        def told(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress(countdown.step("files"), countdown.done / countdown.whole)

        try:
            client.store(found.files, told)
        except (BrokenError, InputError) as error:
            done = {one.name for one in outcomes}
            if not countdown.done:
                raise InputError(f"{archive.name}: {error}" if isinstance(error, BrokenError) else str(error)) from None
            reason = str(error).removeprefix(f"{archive.name}: ")
            outcomes += [Outcome(one.name, f"{reason} (before it)") for one in found.files if one.name not in done]
        return Sent(tuple(outcomes), found.others)


def echo(archive: ArchiveAddress, *, access: Access | None = None) -> None:
    """Make sure that an archive answers: by C-ECHO, or by a search for one study.

    Raises:
        InputError: it does not; the line says why.
        MissingExtraError: the extra ``dicom`` is not installed.
    """
    with _connected(archive, access or Access()) as client:
        client.echo()


@contextmanager
def _connected(archive: ArchiveAddress, access: Access) -> Iterator[Client]:
    """Whoever speaks to it; with the libraries silent."""
    with quiet():
        if archive.is_web:
            yield DicomWeb(Web(archive, access))
            return
        with hushed():
            yield Dimse(archive, access)


@contextmanager
def _counting(staging: Staging, series: SeriesFound) -> Iterator[None]:
    """Let an error say how much of a series had come, if any had."""
    try:
        yield
    except InputError as error:
        came, wanted = len(staging.arrived[series.uid]), staging.wanted(series)
        if not came or "nothing is kept" in str(error):
            raise
        raise type(error)(f"{error} ({series.label}: {came} of {wanted} slices came; nothing is kept)") from None


class _Told:
    """Turns slices that arrived into progress."""

    def __init__(self, staging: Staging, progress: Progress) -> None:
        self._countdown = Countdown(max(1, sum(staging.wanted(one) for one in staging.announced)))
        self._progress = progress

    def __call__(self) -> None:
        text = self._countdown.step("slices")
        done = min(1.0, self._countdown.done / self._countdown.whole)
        self._progress(text, SEARCHING + (1 - SEARCHING) * done)


__all__ = ["Fetched", "Sent", "echo", "fetch", "send"]
