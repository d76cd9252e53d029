"""The forms of the cascade, by name: what its networks are shown, and their sizes. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from calvaria.errors import InputError

Mirror = Literal["flip", "plane", "none"]
"""The second channel: the array flipped left to right, as published; reflected about the estimated plane; not there."""

Branch = Literal["patch", "implant"]

BRANCHES: tuple[Branch, ...] = get_args(Branch)
"""The heads of each network, in the order of their channels."""


@dataclass(frozen=True)
class Form:
    """What a cascade is.

    Args:
        mirror: what its coarse network is shown beside the skull.
        prior: whether both are shown how much of each voxel the shape prior holds for missing bone.
        doubt: whether both are shown how far off the prior expects to be.
        soft: whether they learn how much of a voxel is missing, rather than yes or no.
        halved: whether the first step of each network halves its resolution, as RUNet's does: a fifth of the work.
        width: channels at the first level; each of the next has twice as many.
        depth: levels.

    Raises:
        InputError: a mirror of another name, doubt without the prior, or a size out of range.
    """

    mirror: Mirror = "flip"
    prior: bool = False
    doubt: bool = False
    soft: bool = False
    halved: bool = False
    width: int = 12
    depth: int = 4

    def __post_init__(self) -> None:
        if self.mirror not in get_args(Mirror):
            raise InputError(f"mirror is one of {', '.join(get_args(Mirror))}; got {self.mirror!r}")
        if self.doubt and not self.prior:
            raise InputError("doubt is the shape prior's; it goes with the prior only")
        if self.width < 1 or not 2 <= self.depth <= 6:
            raise InputError(f"width is 1 channel or more, depth 2 to 6 levels; got {self.width} and {self.depth}")

    @property
    def coarse_channels(self) -> int:
        """Of the coarse network's input: the skull, its mirror image, the prior, its doubt."""
        return 1 + (self.mirror != "none") + self.prior + self.doubt

    @property
    def fine_channels(self) -> int:
        """Of the fine network's input: the skull, both coarse answers, the prior, its doubt."""
        return 1 + len(BRANCHES) + self.prior + self.doubt

    @property
    def parts(self) -> tuple[str, ...]:
        """What the coarse input's channels are called, in order."""
        return ("skull", *(["mirror"] if self.mirror != "none" else []), *self.further)

    @property
    def further(self) -> tuple[str, ...]:
        """What both networks are shown beside skull and coarse answers."""
        return (*(["prior"] if self.prior else []), *(["doubt"] if self.doubt else []))

    def told(self) -> dict[str, Any]:
        """JSON-ready; `of` takes it."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Form:
        """What `told` gave.

        Raises:
            InputError: it is none.
        """
        names = {field.name for field in fields(cls)}
        if set(told) != names:
            raise InputError(f"a form of the cascade has {', '.join(sorted(names))}; got {', '.join(sorted(told))}")
        return cls(**told)


FORMS: Mapping[str, Form] = {
    "cascade-published": Form(),
    "cascade": Form(mirror="plane", soft=True, halved=True),
}
"""By the name of the model. The second is this project's; prior and doubt are added where there are sketches."""


def form_called(name: str) -> Form:
    """The form of a name.

    Raises:
        InputError: there is none.
    """
    if name not in FORMS:
        raise InputError(f"the cascade's forms are {', '.join(FORMS)}; got {name!r}")
    return FORMS[name]


__all__ = ["BRANCHES", "FORMS", "Branch", "Form", "Mirror", "form_called"]
