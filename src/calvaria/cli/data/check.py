"""``calvaria data check``: what is present, what is missing, what is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from calvaria.cli.data.sets import Folder, SetName, counted, described, heading
from calvaria.cli.options import Jobs, Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError, QualityError

if TYPE_CHECKING:
    from calvaria.datasets.check import SetCheck

EXAMPLES = """\b
Examples:
  calvaria data check autoimplant2020
  calvaria data check skullbreak --headers
  calvaria data check clinical/ --anatomy --jobs 2 --json
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

MAX_NAMED = 12
"""Names that are listed in a line of text; --json has them all."""


def check(
    context: typer.Context,
    *,
    folder: Folder,
    set_name: SetName = "auto",
    headers: Annotated[bool, typer.Option("--headers", help="Quick: headers and bytes only, no voxels.")] = False,
    anatomy: Annotated[
        bool, typer.Option("--anatomy", help="Also pose every skull: names those without a calvaria.")
    ] = (False),
    jobs: Jobs = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check every file of a set.

    Readable, binary, on one grid, adding up, of a head's size, nobody twice.

    A damaged case is named and counted, the others go on; the exit code is then 3. What only is missing from the
    published set is said and is no damage.
    """
    from calvaria.datasets.catalog import find_set
    from calvaria.datasets.check import check_set

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if headers and anatomy:
        raise InputError("--headers reads no voxels, --anatomy needs them; choose one")
    found = find_set(folder, set_name)
    screen.say(heading(found))
    with screen.progress() as progress:
        result = check_set(found, "headers" if headers else "anatomy" if anatomy else "voxels", jobs, progress)
    _say(result, screen)
    screen.json(_record(result))
    if result.damaged:
        raise QualityError(f"{folder}: {len(result.damaged)} of {len(result.cases)} cases have a problem")


def _say(result: SetCheck, screen: Screen) -> None:
    for case in result.cases:
        for problem in case.problems:
            screen.say(f"  {case.id}: PROBLEM: {problem}")
        for note in case.notes:
            screen.say(f"  {case.id}: note: {note}")
    for part, (there, published) in result.counts.items():
        screen.say(f"  {part}...: {there} of {published} published cases")
    if result.missing:
        screen.say(f"  missing: {_named(result.missing)}")
    if result.strays:
        names = [str(path.relative_to(result.found.root)) for path in result.strays]
        screen.say(f"  {len(names)} files belong to no case: {_named(names)}")
    seconds = sum(case.seconds for case in result.cases)
    screen.say(
        f"{len(result.cases) - len(result.damaged)} of {len(result.cases)} cases are whole; "
        f"{seconds / max(len(result.cases), 1):.2f} s a case"
    )


def _named(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _record(result: SetCheck) -> dict[str, Any]:
    return {
        **described(result.found.data_set),
        "counts": counted(result.counts),
        "damaged": len(result.damaged),
        "missing": result.missing,
        "strays": [str(path.relative_to(result.found.root)) for path in result.strays],
        "cases": [
            {"id": one.id, "problems": one.problems, "notes": one.notes, "digests": one.digests, "seconds": one.seconds}
            for one in result.cases
        ],
    }
