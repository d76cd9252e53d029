"""Options of a command, made from a dataclass of settings: names, types, defaults and help stand in one place.

A field's name is the option's name, its type the option's type, and its line under ``Args:`` in the class's docstring
the option's help. Fields that are dataclasses themselves are groups: their fields are options too. What a field's
metadata may say besides, see :func:`calvaria.training.recipes.fields.setting`; fields whose default is made by a
function are no options.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from calvaria.cli.in_place import Command, in_place_of
from calvaria.training.recipes.fields import groups_of, made

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)

ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
"""A line of ``Args:`` and the lines that go on from it."""


def with_options_of(recipe: type[R]) -> Callable[[Command], Command]:
    """Give a command the options of a recipe in place of its parameter ``recipe``, which becomes what they say.

    Args:
        recipe: a dataclass; its groups have no field in common with it, or with each other.
    """
    return in_place_of("recipe", options_of(recipe), partial(made, recipe))


def options_of(recipe: type[DataclassInstance]) -> Iterator[inspect.Parameter]:
    """The options of a recipe, and of its groups, as parameters of a function; those that must be given first."""
    groups = groups_of(recipe)
    own = [_option(recipe, one, one.default) for one in fields(recipe) if one.name not in groups and _offered(one)]
    yield from sorted(own, key=lambda one: one.default is not inspect.Parameter.empty)
    for group in groups.values():
        for one in fields(group):
            if _offered(one):
                yield _option(type(group), one, getattr(group, one.name))


def _offered(one: Field[Any]) -> bool:
    return one.default_factory is MISSING and one.metadata.get("option", ()) is not None


def _option(owner: type, one: Field[Any], default: Any) -> inspect.Parameter:
    names, metavar = one.metadata.get("option") or (f"--{one.name.replace('_', '-')}",), one.metadata.get("metavar")
    said = typer.Option(*names, metavar=metavar or None, help=help_of(owner).get(one.name))
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[_type_of(owner, one), said],
    )


def _type_of(owner: type, one: Field[Any]) -> Any:
    """A field's type; only this field's: those of others may be heavy to load."""
    home = next(base for base in owner.__mro__ if one.name in inspect.get_annotations(base))
    alone = type("Alone", (), {"__annotations__": {one.name: one.type}})
    return get_type_hints(alone, vars(sys.modules[home.__module__]))[one.name]


def help_of(owner: type) -> dict[str, str]:
    """What the docstrings of a class and of the classes that it extends say of each field."""
    said: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        args = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
        said.update((name, " ".join(text.split())) for name, text in ENTRY.findall(args))
    return said


__all__ = ["help_of", "options_of", "with_options_of"]
