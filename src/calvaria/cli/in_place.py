"""Options of a command that together stand for one of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Command = Callable[..., None]


def in_place_of(
    parameter: str, options: Iterable[inspect.Parameter], made: Callable[..., Any]
) -> Callable[[Command], Command]:
    """Give a command options in place of one of its parameters, which becomes what is made of them.

    Args:
        parameter: its name; those that stand after it in the command are given by name.
        options: by name, annotated as typer takes them.
        made: gives the parameter from their values, by name.
    """
    options = list(options)

    def decorate(command: Command) -> Command:
        def run(**given: Any) -> None:
            values = {one.name: given.pop(one.name) for one in options}
            command(**{parameter: made(**values)}, **given)

        hints = get_type_hints(command, include_extras=True)
        every: list[inspect.Parameter] = []
        for one in inspect.signature(command).parameters.values():
            every += options if one.name == parameter else [one.replace(annotation=hints[one.name])]
        signature = inspect.Signature(every)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in every}
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return decorate


def fields_as_options(kind: type[DataclassInstance]) -> Iterator[inspect.Parameter]:
    """The fields of a dataclass that are annotated as typer takes options, each with a default."""
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        yield inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name]
        )


__all__ = ["Command", "fields_as_options", "in_place_of"]
