"""``calvaria data fetch``: public sets and other files, downloaded, checked and unpacked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.files import require_writable

if TYPE_CHECKING:
    from calvaria.datasets.catalog import DataSet
    from calvaria.download.acquire import Outcome, Plan
    from calvaria.download.checksums import Record
    from calvaria.download.transfer import RemoteFile

EXAMPLES = """\b
Examples:
  calvaria data fetch
  calvaria data fetch skullfix -o skullfix
  calvaria data fetch mug500 --only 'craniotomy*' -o mug500
  calvaria data fetch skullbreak --local -o skullbreak
  calvaria data fetch https://example.org/skulls.zip --sha256 0123...cdef -o skulls
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def fetch(
    context: typer.Context,
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A set, figshare:NUMBER, zenodo:NUMBER, or an address; without it, the sets are listed.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where it goes; by default ./NAME.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="PATTERN", help="Only files of such a name, like 'A00*'.")
    ] = None,
    list_files: Annotated[
        bool, typer.Option("--list", help="Say which files there are, and download nothing.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Download nothing: check and unpack what you have put into FOLDER.")
    ] = False,
    unpack: Annotated[bool, typer.Option("--unpack/--no-unpack", help="Unpack archives beside themselves.")] = True,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="What the file at an address must be.")
    ] = None,
    file_name: Annotated[
        str | None, typer.Option("--name", metavar="FILE", help="What to call the file at an address.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Download a public set, or any file.

    Goes on where it was interrupted, and does nothing where all is present. Sizes and hashes are held against those
    that are published, and against checksums.json, which is written at the first download. The licence is said before
    anything is downloaded: by using the files you agree to it.
    """
    from calvaria.download.acquire import acquire, chosen, local_plan, plan_for

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if name is None:
        _show_sets(screen)
        return
    with screen.progress() as progress:
        progress("asking what there is", 0.0)
        folder = output or Path("." if "://" in name else name.replace(":", "-"))
        if not list_files:
            require_writable(folder)
        plan = local_plan(name, folder) if local else plan_for(name, sha256=sha256, name=file_name)
    _say_terms(plan, screen)
    if not plan.files:
        raise InputError(f"{plan.name}: no address to download from is known: {_by_hand(plan, folder)}")
    files = chosen(plan.files, only)
    if list_files:
        _show_files(plan, files, screen)
        return
    outcomes: list[Outcome] = []
    try:
        with screen.progress() as progress:
            for outcome in acquire(files, folder, local=local, unpacking=unpack, progress=progress):
                outcomes.append(outcome)
                if outcome.record is None:
                    screen.error(str(outcome.error))
                else:
                    screen.say(_line(outcome, outcome.record, folder))
    except KeyboardInterrupt:
        screen.warn(f"what has arrived is kept in {folder}: the same command goes on from there")
        raise
    failed = {outcome.name: outcome.error for outcome in outcomes if outcome.error is not None}
    screen.json(
        _described(plan)
        | {"folder": str(folder), "files": [_as_json(o) for o in outcomes if not o.error]}
        | {"failed": failed}
    )
    if failed:
        screen.error(f"{len(failed)} of {len(outcomes)} files failed: {', '.join(failed)}: {_by_hand(plan, folder)}")
        raise typer.Exit(2)


def _say_terms(plan: Plan, screen: Screen) -> None:
    """Licence and source, before anything is downloaded."""
    screen.say(plan.title)
    screen.say(f"licence: {plan.licence or 'not known: ask whoever published it before you use it'}")
    if plan.citation:
        screen.say(f"cite: {plan.citation}")
    screen.say(f"from: {plan.page or plan.name}")
    if plan.note:
        screen.say(f"note: {plan.note}")
    if plan.elsewhere:
        screen.warn(f"{len(plan.elsewhere)} files are only linked there and left out: {', '.join(plan.elsewhere)}")


def _by_hand(plan: Plan, folder: Path) -> str:
    """What a person can do where the program cannot."""
    from calvaria.download.acquire import by_hand

    return by_hand(plan, folder) if plan.is_set else f"or download by hand from {plan.page or plan.name}"


def _line(outcome: Outcome, record: Record, folder: Path) -> str:
    """What became of a file, in words."""
    done = "present and correct" if outcome.was_there else "downloaded"
    unpacked = f", unpacked to {outcome.unpacked}" if outcome.unpacked else ""
    return f"{folder / outcome.name}: {record.size_bytes / 1e6:.1f} MB, {done}, sha256 {record.sha256}{unpacked}"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    record = asdict(outcome.record) if outcome.record else {}
    return {"name": outcome.name, "was_there": outcome.was_there} | record


def _described(plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "name": plan.name,
        "title": plan.title,
        "licence": plan.licence,
        "citation": plan.citation,
        "page": plan.page,
        "note": plan.note,
        "elsewhere": list(plan.elsewhere),
    }


def _show_sets(screen: Screen) -> None:
    """Every set that can be asked for by name."""
    from rich import box
    from rich.table import Table

    from calvaria.datasets.catalog import public_sets

    table = Table("name", "what", "licence", "from", box=box.SIMPLE_HEAD)
    for one in public_sets():
        table.add_row(one.name, one.description, one.licence or "not known", one.deposit or one.page)
    screen.show(table)
    screen.json([_set_as_json(one) for one in public_sets()])


def _set_as_json(one: DataSet) -> dict[str, Any]:
    """A public set as JSON."""
    return {
        "name": one.name,
        "title": one.description,
        "licence": one.licence,
        "citation": one.cite,
        "page": one.page,
        "deposit": one.deposit,
        "files": [asdict(address) for address in one.addresses],
        "note": one.fetch_note,
    }


def _show_files(plan: Plan, files: tuple[RemoteFile, ...], screen: Screen) -> None:
    """What a plan would download."""
    from rich import box
    from rich.table import Table

    table = Table("file", "MB", "published", box=box.SIMPLE_HEAD)
    for file in files:
        size = "not said" if file.size_bytes is None else f"{file.size_bytes / 1e6:.1f}"
        hashes = " ".join(f"{kind} {text}" for kind in ("sha256", "md5") if (text := getattr(file, kind)))
        table.add_row(file.name, size, hashes or "no hash")
    screen.show(table)
    known = sum(file.size_bytes or 0 for file in files)
    screen.say(
        f"{len(files)} files, {known / 1e9:.2f} GB" + (" and more" if any(f.size_bytes is None for f in files) else "")
    )
    screen.json(_described(plan) | {"files": [asdict(file) for file in files]})
