"""What the commands about sets share: the folders, which set they hold, and how a set is described."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from calvaria.datasets.catalog import DataSet, FoundSet

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the set.")]
Folders = Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="The folders of one set or several.")]
SetName = Annotated[str, typer.Option("--set", metavar="NAME", help="Which set it is; auto tells by its layout.")]


def described(data_set: DataSet) -> dict[str, str]:
    """What is said about a set wherever it is named."""
    return {
        "set": data_set.name,
        "title": data_set.title,
        "licence": data_set.terms,
        "cite": data_set.citation,
        "doi": data_set.doi,
    }


def heading(found: FoundSet) -> str:
    """One line: which set, how many cases and persons, under which licence."""
    persons = len({case.person for case in found.cases})
    one = found.data_set
    return f"{found.root}: {one.title}, {len(found.cases)} cases of {persons} persons; licence: {one.terms}"


def counted(counts: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """The parts of a published set as JSON."""
    return {part: {"there": there, "published": published} for part, (there, published) in counts.items()}
