"""The files that show what only this patient has: a scan from before the operation, or one of the removed piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria.errors import InputError

if TYPE_CHECKING:
    from calvaria.volume import Volume


@dataclass(frozen=True)
class OwnFiles:
    """What was given beside the skull.

    Args:
        pre_op: the head before the operation: CT, mask, closed mesh, DICOM folder or zip.
        flap: the removed piece, likewise.

    Raises:
        InputError: both are given.
    """

    pre_op: Path | None = None
    flap: Path | None = None

    def __post_init__(self) -> None:
        if self.pre_op is not None and self.flap is not None:
            raise InputError(
                "--pre-op and --flap: give one of them; a scan from before shows the removed piece as well"
            )

    @classmethod
    def asked(cls, pre_op: Path | None, flap: Path | None) -> OwnFiles | None:
        """What was given on a command line, or None.

        Raises:
            InputError: both are given, or the one is not there.
        """
        files = cls(pre_op, flap)
        for option, path in (("--pre-op", pre_op), ("--flap", flap)):
            if path is not None and not path.exists():
                raise InputError(f"{option} {path}: there is no such file or folder")
        return files if files.path is not None else None

    @property
    def path(self) -> Path | None:
        """The one that was given."""
        return self.pre_op or self.flap

    def read(self, read: Callable[[Path], Volume]) -> dict[str, Any]:
        """The arguments of `calvaria.pipeline.reconstruct` that these files are.

        Args:
            read: reads one.

        Raises:
            CalvariaError: it cannot be read.
        """
        path = self.path
        if path is None:
            return {}
        return {"flap" if self.pre_op is None else "pre_op": read(path), "own_name": path.name}


def require_unknown(own: OwnFiles | None, folder: Path) -> None:
    """Raise where own bone is given for a patch that is known already.

    Raises:
        InputError: it is.
    """
    if own is not None:
        option = "--flap" if own.pre_op is None else "--pre-op"
        raise InputError(
            f"{option}: the missing bone in {folder} is known; leave this out, or run calvaria reconstruct with it "
            "first"
        )


def require_one_case(own: OwnFiles | None, folder: Path) -> None:
    """Raise where one patient's own bone is given for a folder of cases.

    Raises:
        InputError: it is.
    """
    if own is not None:
        option = "--flap" if own.pre_op is None else "--pre-op"
        raise InputError(
            f"{option} is one patient's, and {folder} is a folder of cases: give that patient's file alone"
        )


__all__ = ["OwnFiles", "require_one_case", "require_unknown"]
