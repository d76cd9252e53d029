"""What recipes are made of: frozen dataclasses of groups of settings, their fields, and their hash.

The command line makes its options from a recipe (:mod:`calvaria.cli.from_dataclass`): the name of a field is the
option's name, its type the option's type, and what the class's docstring says of it the option's help. A field's name
is the only one of its kind in a recipe, so that `made` and `changed` find it in whichever group it lies.

Nothing here, nor in the other modules of this folder, loads torch or numpy: ``--help`` is answered at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from calvaria.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)

KEY_LENGTH = 12
"""Characters of a hash that are kept."""


def setting(
    default: Any = MISSING, *, option: str | tuple[str, ...] | None = "", metavar: str = "", learned: bool = True
) -> Any:
    """A field of a recipe.

    Args:
        default: its value where none is given; none: it must be given.
        option: how the command line spells it, if not as the field; None: the command line does not offer it.
        metavar: what stands for the value in the help; empty: the command line's own word for the type.
        learned: whether it decides what is learned, and so belongs into the recipe's hash.
    """
    spelled = (option,) if isinstance(option, str) and option else option
    return field(default=default, metadata={"option": spelled, "metavar": metavar, "learned": learned})


def groups_of(recipe: type[DataclassInstance]) -> dict[str, DataclassInstance]:
    """The groups of settings of a recipe, as they are by default."""
    defaults = {one.name: one.default for one in fields(recipe) if one.metadata.get("option", ()) is not None}
    return {name: value for name, value in defaults.items() if is_dataclass(value) and not isinstance(value, type)}


def made(recipe: type[R], **values: Any) -> R:
    """A recipe of some values, each in the group that has a field of its name; the others are as by default.

    Raises:
        InputError: values that make no sense.
        TypeError: no group has such a field.
    """
    return recipe(**_grouped(recipe, groups_of(recipe), values))


def changed(recipe: R, **values: Any) -> R:
    """A recipe with some values changed, each in the group that has a field of its name.

    Raises:
        InputError: values that make no sense.
        TypeError: no group has such a field.
    """
    now = {name: getattr(recipe, name) for name in groups_of(type(recipe))}
    return replace(recipe, **_grouped(type(recipe), now, values))


def _grouped(
    recipe: type[DataclassInstance], groups: Mapping[str, DataclassInstance], values: Mapping[str, Any]
) -> dict[str, Any]:
    own = {one.name for one in fields(recipe)}
    out = {name: value for name, value in values.items() if name in own}
    for name, group in groups.items():
        part = {one.name: values[one.name] for one in fields(group) if one.name in values and one.name not in own}
        if part:
            out[name] = replace(out.get(name, group), **part)
    known = own.union(*({one.name for one in fields(group)} for group in groups.values()))
    if unknown := sorted(values.keys() - known):
        raise TypeError(f"{recipe.__name__} has no {', '.join(unknown)}")
    return out


def learned(settings: DataclassInstance) -> dict[str, Any]:
    """What decides what is learned, of settings and of the groups in them."""
    out = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        if one.metadata.get("learned", True):
            out[one.name] = learned(value) if is_dataclass(value) and not isinstance(value, type) else value
    return out


def key_of(told: Mapping[str, Any]) -> str:
    """Short hash of values that JSON can write, or whose text says what they are."""
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:KEY_LENGTH]


def require_counts(settings: DataclassInstance, *names: str, least: int = 1) -> None:
    """Raise where one of some fields is below 1, or below another limit.

    Raises:
        InputError: it is.
    """
    for name in names:
        if getattr(settings, name) < least:
            raise InputError(f"{name} is {least} or more; got {getattr(settings, name)}")


def require_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise where a value is none of the choices.

    Raises:
        InputError: it is none.
    """
    if value not in choices:
        raise InputError(f"{name} is one of {', '.join(choices)}; got {value!r}")


__all__ = ["changed", "groups_of", "key_of", "learned", "made", "require_counts", "require_one_of", "setting"]
