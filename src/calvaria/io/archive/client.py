"""What every archive can be asked, whatever it speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from calvaria.io.archive.query import SeriesFound, StudyFound, StudyQuery
from calvaria.io.archive.staging import Staging


@dataclass(frozen=True)
class Outgoing:
    """A file that is sent.

    Args:
        name: for messages: as the user knows it.
        path: the file, with preamble and file meta group.
        size_bytes: its length.
        class_uid: SOP class.
        instance_uid: SOP instance.
        syntax: UID of the transfer syntax.
    """

    name: str
    path: Path = field(repr=False)
    size_bytes: int
    class_uid: str = field(repr=False)
    instance_uid: str = field(repr=False)
    syntax: str = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What an archive says of a file.

    Args:
        name: of the file.
        reason: why it was refused; None if it was stored.
        changed: stored, but with values that the archive changed or left out.
    """

    name: str
    reason: str | None = None
    changed: bool = False


class Client(Protocol):
    """An archive that is connected."""

    def echo(self) -> None:
        """Make sure that it answers."""

    def studies(self, query: StudyQuery) -> list[StudyFound]:
        """Studies that match; may be more than do."""

    def series(self, study_uid: str) -> list[SeriesFound]:
        """The series of a study."""

    def instances(self, study_uid: str, series_uid: str) -> dict[str, str]:
        """SOP classes, or empty, of a series' instances by their UIDs."""

    def retrieve(self, study_uid: str, series_uid: str, classes: frozenset[str], staging: Staging) -> None:
        """Bring a series; `BrokenError` where another try may bring the rest."""

    def store(self, files: Sequence[Outgoing], told: Told) -> None:
        """Send files, each once."""


class Told(Protocol):
    """Called with what became of each file."""

    def __call__(self, outcome: Outcome) -> None:
        """One more."""


REASONS = {
    0x0110: "it could not process it",
    0x0112: "it does not know the instance",
    0x0117: "it takes the instance's UID for invalid",
    0x0122: "it does not take this kind of object (SOP class)",
    0x0124: "it is not allowed to",
    0x0210: "it has the instance already",
    0x0211: "it does not know this operation",
    0x0212: "it takes the message for wrong",
}
"""What statuses and failure reasons mean (PS3.7 annex C)."""


def reason_of(status: int | None) -> str:
    """A status or failure reason in words.

    >>> reason_of(0xA700)
    'it is out of resources (status A700)'
    """
    if status is None:
        return "it does not say why"
    words = REASONS.get(status, "it does not say why")
    if status & 0xFF00 == 0xA700:
        words = "it is out of resources"
    elif status & 0xFF00 == 0xA900:
        words = "the object does not match its SOP class"
    elif status & 0xF000 == 0xC000:
        words = "it cannot understand the object"
    return f"{words} (status {status:04X})"


__all__ = ["Client", "Outcome", "Outgoing", "Told", "reason_of"]
