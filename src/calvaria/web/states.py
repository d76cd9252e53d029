"""How far a case is, and its design; what the session holds of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from calvaria.web.brought import Own
from calvaria.web.messages import Run

State = Literal["uploading", "waiting", "running", "choosing", "done", "failed", "cancelled"]


class RefusedError(Exception):
    """What was asked for is not done.

    Args:
        status: of HTTP.
        text: a sentence.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass
class DesignState:
    """How far a design is.

    Args:
        state: of the last wish.
        number: of it.
        text: why it failed.
        shape_s: seconds until the shape was there.
        seconds: until it was measured.
        summary: lines, warnings and checks of the last design that was measured.
        shown: number of the wish whose surface can be seen.
        made: number of the last design that was measured; 0 for none.
        made_with: what was asked for of it.
        files: of that, once they are written.
        implant: what was asked for last.
    """

    state: Literal["none", "designing", "measuring", "writing", "done", "failed"] = "none"
    number: int = 0
    text: str = ""
    shape_s: float | None = None
    seconds: float | None = None
    summary: dict[str, Any] | None = None
    shown: int = 0
    made: int = 0
    made_with: dict[str, Any] | None = None
    files: tuple[str, ...] = ()
    implant: dict[str, Any] | None = None


@dataclass
class CaseState:
    """A case.

    Args:
        id: random; also the name of its folder.
        number: in this session, from 1.
        folder: its own.
        created: seconds since 1970.
        own: which scan of the patient's own bone was brought beside, of how many files and bytes, if one was.
    """

    id: str
    number: int
    folder: Path
    created: float
    state: State = "uploading"
    stage: str = ""
    fraction: float = 0.0
    began: float = 0.0
    text: str = ""
    format: str = ""
    size_bytes: int = 0
    files: int = 0
    writing: int = 0
    suffix: str = ""
    notes: tuple[str, ...] = ()
    series: tuple[dict[str, Any], ...] = ()
    view: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    run: Run | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    design: DesignState = field(default_factory=DesignState)
    own: Own | None = None
    own_files: int = 0
    own_suffix: str = ""
    own_bytes: int = 0
    gone: bool = False

    @property
    def busy(self) -> bool:
        """Whether it waits, or is worked on."""
        return self.state in ("waiting", "running")


__all__ = ["CaseState", "DesignState", "RefusedError", "State"]
