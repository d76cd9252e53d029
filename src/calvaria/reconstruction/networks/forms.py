"""The forms of the cascade, by name: what its networks are shown, and their sizes. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from calvaria.errors import InputError

Mirror = Literal["flip", "plane", "none"]
"""The second channel: the array flipped left to right, as published; reflected about the estimated plane; not there."""

Branch = Literal["patch", "implant"]

FIRST_LOGIT = -4.0
"""Added to a network's output. One voxel in fifty is missing bone or fewer; a network whose first answer is a half
everywhere takes several hundred steps to learn that alone: after 60 steps on one batch the Dice loss of RUNet was 0.88,
and 0.03 with this."""

LATER = frozenset({"behind"})
"""What weights of earlier versions do not tell."""

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
        behind: whether there is no coarse network: the fine one stands behind the shape prior, is shown its completion
            at full resolution, and says what to correct of it.
        width: channels at the first level; each of the next has twice as many.
        depth: levels.

    Raises:
        InputError: a mirror of another name, doubt without the prior, a size out of range, or a network behind the
            prior that is not shown it, or is shown a mirror image.
    """

    mirror: Mirror = "flip"
    prior: bool = False
    doubt: bool = False
    soft: bool = False
    halved: bool = False
    behind: bool = False
    width: int = 12
    depth: int = 4

    def __post_init__(self) -> None:
        if self.mirror not in get_args(Mirror):
            raise InputError(f"mirror is one of {', '.join(get_args(Mirror))}; got {self.mirror!r}")
        if self.doubt and not self.prior:
            raise InputError("doubt is the shape prior's; it goes with the prior only")
        if self.behind and (not self.prior or self.mirror != "none"):
            raise InputError("behind the shape prior a network is shown the prior, and no mirror image")
        if self.width < 1 or not 2 <= self.depth <= 6:
            raise InputError(f"width is 1 channel or more, depth 2 to 6 levels; got {self.width} and {self.depth}")

    @property
    def stages(self) -> tuple[str, ...]:
        """The networks, in the order in which they run."""
        return ("fine",) if self.behind else ("coarse", "fine")

    @property
    def coarse_channels(self) -> int:
        """Of the coarse network's input: the skull, its mirror image, the prior, its doubt."""
        return len(self.parts)

    @property
    def fine_channels(self) -> int:
        """Of the fine network's input: the skull, both coarse answers or the prior's depth, the prior, its doubt."""
        return 1 + (1 if self.behind else len(BRANCHES)) + len(self.further)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the maps on the coarse grid are called, in order."""
        own = () if self.behind else ("skull", *(["mirror"] if self.mirror != "none" else []))
        return (*own, *self.further)

    @property
    def further(self) -> tuple[str, ...]:
        """Which of the maps both networks are shown."""
        return (*(["prior"] if self.prior and not self.behind else []), *(["doubt"] if self.doubt else []))

    def told(self) -> dict[str, Any]:
        """JSON-ready; `of` takes it."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Form:
        """What `told` gave; an earlier version did not tell what only later ones have.

        Raises:
            InputError: it is none.
        """
        names = {field.name for field in fields(cls)}
        if set(told) | LATER != names:
            raise InputError(f"a form of the cascade has {', '.join(sorted(names))}; got {', '.join(sorted(told))}")
        return cls(**told)


FORMS: Mapping[str, Form] = {
    "cascade-published": Form(),
    "cascade": Form(mirror="plane", soft=True, halved=True),
    "behind-prior": Form(mirror="none", prior=True, soft=True, halved=True, behind=True),
}
"""By the name of the model. The second is this project's; prior and doubt are added where there are sketches. The third
is its fine network alone."""


def form_called(name: str) -> Form:
    """The form of a name.

    Raises:
        InputError: there is none.
    """
    if name not in FORMS:
        raise InputError(f"the cascade's forms are {', '.join(FORMS)}; got {name!r}")
    return FORMS[name]


__all__ = ["BRANCHES", "FORMS", "Branch", "Form", "Mirror", "form_called"]
