"""What a design leaves for the next one for the same skull: a moved slider finds nothing twice.

Nothing here changes what is designed: a value is taken again only where all that it was made of is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from calvaria.implant.settings import PANELS, ImplantSettings

if TYPE_CHECKING:
    from calvaria.implant.around import Around
    from calvaria.implant.body import Laid
    from calvaria.implant.measured import Measured
    from calvaria.implant.parts import Part
    from calvaria.implant.site import Site
    from calvaria.volume.mesh import Mesh
    from calvaria.volume.volume import Volume

DETAILS = frozenset(PANELS["Details"])
"""Parameters of what is cut out of a body when it is done; all others are the body's."""

AT_THE_RIM = frozenset({"clearance_mm", "widening_mm", "bevel_deg", "split", "max_triangles", "mesh_error_mm"})
"""Parameters of a body that move none of the nodes on which it is designed."""

Value = TypeVar("Value")


class Lately(Generic[Value]):
    """Values by what they were made of; only those of the last design are held."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Value] = {}
        self._asked: set[Hashable] = set()

    def of(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key: held, or made and held."""
        self._asked.add(key)
        if key not in self._held:
            self._held[key] = make()
        return self._held[key]

    def forget(self) -> None:
        """Let go of what nobody asked for since this was called last.

        >>> lately = Lately()
        >>> lately.of("a", lambda: 1), lately.forget(), lately.of("b", lambda: 2), lately.forget()
        (1, None, 2, None)
        >>> lately.of("a", lambda: 3), lately.of("b", lambda: 4)
        (3, 2)
        """
        self._held = {key: value for key, value in self._held.items() if key in self._asked}
        self._asked = set()


@dataclass(eq=False)
class Hole:
    """What is known of one hole.

    Args:
        smooth_mm: the smoothing that it was found with.
        site: bone and outer surface.
        far: see `insertion.far_field`; it asks nothing of the outer surface.
        around: bone as the checks see it.
        host: the bone around it as a mesh; None while that was not made.
        laid: nodes on which bodies were designed.
        bodies: implants before their details, and notes.
        measured: what was found of those.
    """

    smooth_mm: float
    site: Site
    far: Volume
    around: Around
    host: Mesh | None = None
    laid: Lately[Laid] = field(default_factory=Lately)
    bodies: Lately[tuple[list[Part], list[str]]] = field(default_factory=Lately)
    measured: Lately[Measured] = field(default_factory=Lately)

    def forget(self) -> None:
        """Hold no more than what the last design asked for."""
        for one in (self.laid, self.bodies, self.measured):
            one.forget()


@dataclass(eq=False)
class Memory:
    """What is known of a skull and its patch.

    Args:
        holes: by their number, from 0.
        count: how many there are; None while that was not counted.
        fractions: bone of a scan around the implants, by the length of their way.
        spare_mm: bone is looked at so much wider than the first implant needs, for those that follow.
    """

    holes: dict[int, Hole] = field(default_factory=dict)
    count: int | None = None
    fractions: Lately[Volume | None] = field(default_factory=Lately)
    spare_mm: float = 12.0

    def forget(self) -> None:
        """Hold no more than what the last design asked for."""
        self.fractions.forget()
        for hole in self.holes.values():
            hole.forget()


def key_of(settings: ImplantSettings, without: frozenset[str]) -> tuple[Any, ...]:
    """The values of all parameters but some.

    >>> one, other = ImplantSettings(plate_seats=2), ImplantSettings(plate_seats=3)
    >>> key_of(one, DETAILS) == key_of(other, DETAILS), key_of(one, AT_THE_RIM) == key_of(other, AT_THE_RIM)
    (True, False)
    """
    return tuple(getattr(settings, one.name) for one in fields(settings) if one.name not in without)


__all__ = ["AT_THE_RIM", "DETAILS", "Hole", "Lately", "Memory", "key_of"]
