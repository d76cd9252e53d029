"""What the server and its worker processes say to each other; plain values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calvaria.implant.settings import ImplantSettings
from calvaria.web.asked import Asked


@dataclass(frozen=True)
class Look:
    """Say what was brought: which file it is, and which series it holds.

    Args:
        folder: the case's.
    """

    folder: Path


@dataclass(frozen=True)
class Run:
    """Reconstruct a case.

    Args:
        folder: the case's.
        asked: what is asked for.
    """

    folder: Path
    asked: Asked


@dataclass(frozen=True)
class Design:
    """Design implants for a case; it is reconstructed again where the worker does not hold it.

    Args:
        run: how it was reconstructed.
        implant: what is asked for of the implants.
        number: of this wish, counted up: of several that wait only the last is done.
    """

    run: Run
    implant: ImplantSettings
    number: int


@dataclass(frozen=True)
class Write:
    """Write the files of a design; it is made again where the worker does not hold it.

    Args:
        run: how the case was reconstructed.
        implant: what was asked for of the implants.
        number: of that wish.
    """

    run: Run
    implant: ImplantSettings
    number: int


Task = Look | Run | Design | Write


@dataclass(frozen=True)
class Told:
    """A stage begins: its name, and the fraction of the whole that is done."""

    stage: str
    fraction: float


@dataclass(frozen=True)
class Looked:
    """What was brought.

    Args:
        format: such as "NRRD" or "DICOM".
        series: those of a DICOM input that can be chosen among; empty of other files.
        notes: what is doubtful of the files.
    """

    format: str
    series: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Viewed:
    """Something to look at is there.

    Args:
        view: of the page: names of files, and how voxels lie in the world.
    """

    view: dict[str, Any]


@dataclass(frozen=True)
class Reconstructed:
    """A case is done.

    Args:
        summary: what the page says of it.
    """

    summary: dict[str, Any]


@dataclass(frozen=True)
class Shaped:
    """Implants have their shape; they are being measured.

    Args:
        number: of the wish.
        seconds: that took.
    """

    number: int
    seconds: float


@dataclass(frozen=True)
class Designed:
    """Implants were measured.

    Args:
        number: of the wish.
        seconds: all that took.
        summary: what the page says of them.
        implant: what was asked for.
    """

    number: int
    seconds: float
    summary: dict[str, Any]
    implant: ImplantSettings


@dataclass(frozen=True)
class Written:
    """The files of a design are there.

    Args:
        number: of the wish.
        files: their names.
    """

    number: int
    files: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """What was asked for last cannot be done; the worker goes on.

    Args:
        text: a sentence.
        number: of the wish, of a design.
    """

    text: str
    number: int | None = None


@dataclass(frozen=True)
class Idle:
    """The worker waits for a task.

    Args:
        serial: of the task that it did last; 0 before the first.
    """

    serial: int


News = Told | Looked | Viewed | Reconstructed | Shaped | Designed | Written | Failed | Idle

__all__ = [
    "Design",
    "Designed",
    "Failed",
    "Idle",
    "Look",
    "Looked",
    "News",
    "Reconstructed",
    "Run",
    "Shaped",
    "Task",
    "Told",
    "Viewed",
    "Write",
    "Written",
]
