"""``calvaria data split``: a split by person, drawn or checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calvaria.cli.data.sets import Folders, SetName, heading
from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError, QualityError
from calvaria.files import require_writable_file

if TYPE_CHECKING:
    from calvaria.datasets.catalog import SkullCase
    from calvaria.datasets.split import Split

EXAMPLES = """\b
Examples:
  calvaria data split skullbreak -o split.json
  calvaria data split skullbreak skullfix --duplicates duplicates.json --test 0.2 --validation 0.1 -o split.json
  calvaria data split skullbreak --check split.json
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def split(
    context: typer.Context,
    *,
    folders: Folders,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The split file, .json.")
    ] = None,
    check: Annotated[
        str | None, typer.Option("--check", metavar="FILE", help="Check this split (a file, or a packaged one's name).")
    ] = None,
    test: Annotated[float, typer.Option(min=0, metavar="N", help="Persons to report on; below 1, their share.")] = 15,
    validation: Annotated[
        float, typer.Option(min=0, metavar="N", help="Persons to choose settings on; below 1, their share.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and cases give the same split.")] = 20261120,
    duplicates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Persons found by `calvaria data duplicates`.")
    ] = None,
    set_name: SetName = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw a split by person, or check one.

    It is written with its seed and the digests of its inputs.

    All skulls of a person, and all defects of a skull, are on one side. A split that leaks is refused with the two
    cases. With --check: exit code 3 where the files are not those that the split was drawn from.
    """
    from calvaria.datasets.catalog import find_sets, joined

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if (output is None) == (check is None):
        raise InputError("give either -o FILE to draw a split or --check FILE to check one")
    if output is not None:
        require_writable_file(output, parents=False)
    sets = find_sets(folders, set_name)
    for found in sets.values():
        screen.say(heading(found))
    cases = joined(sets)
    groups = _groups(duplicates, cases, next(iter(sets)) if len(sets) == 1 else None)
    if output is not None:
        _draw(output, cases, groups, {"test": test, "validation": validation, "seed": seed}, screen)
    else:
        _check(str(check), cases, groups, screen)


def _draw(
    output: Path, cases: Sequence[SkullCase], groups: Sequence[Sequence[str]], sizes: dict[str, Any], screen: Screen
) -> None:
    from calvaria.datasets.persons import with_groups
    from calvaria.datasets.split import draw_split
    from calvaria.io import atomic_path

    digests, failed = _digests(cases, screen)
    usable = [case for case in with_groups(cases, groups) if case.id not in failed]
    drawn = draw_split(usable, digests=digests, **sizes)
    with atomic_path(output) as part:
        part.write_text(drawn.to_json(), encoding="utf-8")
    _say(drawn, screen)
    screen.say(str(output))
    screen.json({**_record(drawn), "failed": failed})
    if failed:
        screen.error(f"{len(failed)} of {len(cases)} cases are left out: {', '.join(failed)}")
        raise typer.Exit(2)


def _check(name: str, cases: Sequence[SkullCase], groups: Sequence[Sequence[str]], screen: Screen) -> None:
    from calvaria.datasets.split import load_split, verify_split

    loaded = load_split(name)
    digests, failed = _digests(cases, screen)
    differences = [*verify_split(loaded, cases, groups, digests), *(f"{n}: {why}" for n, why in failed.items())]
    _say(loaded, screen)
    for line in differences:
        screen.say(f"  {line}")
    if not loaded.inputs:
        screen.say("  the file holds no digests of its inputs: that the skulls are the same was not checked")
    screen.json({**_record(loaded), "differences": differences, "inputs_checked": bool(loaded.inputs)})
    if differences:
        raise QualityError(f"{name}: {len(differences)} differences from the files; the split itself does not leak")
    screen.say("nobody is on two sides, and the cases are those of the split")


def _digests(cases: Sequence[SkullCase], screen: Screen) -> tuple[dict[str, str], dict[str, str]]:
    from calvaria.datasets.split import digests_of

    with screen.progress() as progress:
        digests, failed = digests_of(cases, progress)
    for case, problem in failed.items():
        screen.error(f"{case}: {problem}")
    return digests, failed


def _groups(path: Path | None, cases: Sequence[SkullCase], label: str | None) -> list[tuple[str, ...]]:
    """The groups of a file of duplicates in the names of these cases.

    Args:
        path: the file, or None.
        cases: of all sets.
        label: what the file may have before the names, where there is one set only.

    Raises:
        InputError: the file speaks of none of the cases.
    """
    from calvaria.datasets.catalog import skull_name
    from calvaria.datasets.duplicates import load_groups

    if path is None:
        return []
    groups = [tuple(name.removeprefix(f"{label}:") for name in group) for group in load_groups(path)]
    names = {name for case in cases for name in (case.id, case.person, skull_name(case))}
    if groups and not any(name in names for group in groups for name in group):
        raise InputError(
            f"{path.name}: none of its names, such as {groups[0][0]}, is a case here; "
            "run calvaria data duplicates on the same folders"
        )
    return groups


def _say(drawn: Split, screen: Screen) -> None:
    from calvaria.datasets.split import SIDES

    for side in SIDES:
        screen.say(f"  {side}: {len(drawn.side(side))} cases")
    screen.say(f"  seed {drawn.seed}, sha256 {drawn.sha256}")


def _record(drawn: Split) -> dict[str, Any]:
    from calvaria.datasets.split import SIDES

    sides = {side: drawn.side(side) for side in SIDES}
    return {"seed": drawn.seed, "sha256": drawn.sha256, "same_person": drawn.same_person, **sides}
