"""The options of an implant, made from its settings: names, ranges, defaults and help stand in one place."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import Field, fields, replace
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from calvaria.cli.in_place import Command, in_place_of
from calvaria.errors import InputError
from calvaria.implant.settings import PANELS, ImplantSettings

METAVARS = {"mm": "MM", "degrees": "DEG"}
"""What stands for a value with a unit."""


class InPanels(TyperCommand):
    """A command whose plain help groups the options by their panel; those of none come first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of the help."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                common = "Arguments" if one.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(one, "rich_help_panel", None) or common, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def with_implant_options(command: Command) -> Command:
    """Give a command the options of an implant in place of its parameter ``changes``.

    That becomes what was given of them, by name: what was not is not in it.
    """
    return in_place_of("changes", _options(), _given)(command)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def changed(settings: ImplantSettings, changes: dict[str, Any]) -> ImplantSettings:
    """The settings with what was given on the command line.

    Raises:
        InputError: a value out of its range, or that does not go with another; parameters are called as the options.
    """
    try:
        return replace(settings, **changes)
    except InputError as error:
        names = "|".join(one.name for one in fields(settings) if "_" in one.name)
        raise InputError(re.sub(rf"\b({names})\b", lambda found: _spelled(found[0]), str(error))) from error


def _options() -> Iterator[inspect.Parameter]:
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    hints = get_type_hints(ImplantSettings)
    for one in fields(ImplantSettings):
        said = typer.Option(
            _spelled(one.name) + (f"/--no-{one.name.replace('_', '-')}" if hints[one.name] is bool else ""),
            metavar=_metavar(one, hints[one.name]),
            help=f"{one.metadata['help']}  [{_limits(one)}]",
            rich_help_panel=panels[one.name],
        )
        kind = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(one.name, kind, default=None, annotation=Annotated[hints[one.name] | None, said])


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(one: Field[Any], kind: Any) -> str | None:
    if kind is float:
        return METAVARS.get(one.metadata["unit"], "SHARE")
    return {int: "N", str: "TEXT"}.get(kind)


def _limits(one: Field[Any]) -> str:
    """The range of a parameter and its default."""
    if isinstance(one.default, bool):
        return f"default: {'yes' if one.default else 'no'}"
    if "low" not in one.metadata:
        return f"default: {one.default or 'none'}"
    low, high, default = (f"{x:.15g}" for x in (one.metadata["low"], one.metadata["high"], one.default))
    unit = f" {one.metadata['unit']}" if one.metadata["unit"] else ""
    return f"{low} to {high}{unit}; default: {default}"


__all__ = ["PANELS", "InPanels", "changed", "with_implant_options"]
