"""What can be asked of an implant, each parameter with its range and what its default is based on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from calvaria.errors import InputError

Thickness = Literal["constant", "bone"]
"""Of the body: one thickness everywhere, or the missing bone's own."""

Split = Literal["auto", "never"]
"""Whether an implant that cannot be put in as one piece is made in two."""

K231834 = "510(k) K231834, PEEK cranial implants: 3 to 6 mm"
K250334 = "510(k) K250334, milled PEEK: 2 to 10 mm, typically 4 mm"
K121818 = "510(k) K121818, PEKK: also tested at 1 mm; printers' advice is 1 to 1.5 mm"
K121102 = "510(k) K121102, PEEK: holes of 2 mm, 10 mm apart, on order"
K121153 = "510(k) K121153, PEEK kit: suture holes on the surgeon's order"
NOUT = "Nout and Mommaerts 2018, doi 10.1007/s10006-017-0668-4"
RIDWAN = "Ridwan-Pramana et al. 2016: a rim that rests on bone is loaded a hundredth as much"
OURS = "our choice: no published figure"


def _within(default: Any, low: float, high: float, *about: str) -> Any:
    """A parameter with its range (inclusive), and about it: its unit, where its default comes from, its help."""
    unit, source, text = about
    return field(default=default, metadata={"low": low, "high": high, "unit": unit, "source": source, "help": text})


@dataclass(frozen=True)
class ImplantSettings:
    """How an implant is made; every field's metadata holds its range, unit, source and one line of help.

    Raises:
        InputError: a value out of its range; several that do not go together.
    """

    # The outer surface.
    offset_mm: float = _within(0.0, 0.0, 5.0, "mm", OURS, "How far the outer surface lies below the head's own.")
    smooth_mm: float = _within(
        5.0, 2.0, 30.0, "mm", OURS, "Waves of the outer surface shorter than about this are smoothed away."
    )
    temporal_relief_mm: float = _within(
        0.0, 0.0, 8.0, "mm", f"3 mm where wanted: {NOUT}", "Extra space at the lower edge under the temporal muscle."
    )
    flatten: float = _within(
        0.0, 0.0, 1.0, "", NOUT, "How far the dome is flattened to ease closure: 0 not at all, 1 to a membrane."
    )
    # The body.
    thickness: Thickness = field(
        default="constant", metadata={"source": K231834, "help": "One thickness everywhere, or the missing bone's own."}
    )
    thickness_mm: float = _within(4.0, 2.0, 10.0, "mm", K250334, "Thickness of the body, where it is constant.")
    min_wall_mm: float = _within(1.0, 0.8, 4.0, "mm", K121818, "Parts of the body thinner or narrower are taken away.")
    # The rim.
    clearance_mm: float = _within(0.7, 0.2, 4.0, "mm", OURS, "Gap to the bone at the outer surface.")
    widening_mm: float = _within(0.0, 0.0, 3.0, "mm", OURS, "How much wider the gap is at the inner surface.")
    bevel_deg: float = _within(0.0, 0.0, 45.0, "degrees", RIDWAN, "How far the rim leans inwards, besides the bone.")
    flange_width_mm: float = _within(0.0, 0.0, 15.0, "mm", RIDWAN, "How far a flange overlaps the bone; 0: none.")
    flange_mm: float = _within(1.0, 0.5, 3.0, "mm", OURS, "Thickness of the flange.")
    # Putting it in.
    travel_mm: float = _within(30.0, 10.0, 60.0, "mm", OURS, "The way in that is kept free of bone.")
    split: Split = field(
        default="auto", metadata={"source": OURS, "help": "Make two pieces where one cannot be put in, or never."}
    )
    # Details.
    perforations: bool = field(default=False, metadata={"source": K121102, "help": "Drill holes all over."})
    perforation_mm: float = _within(2.0, 1.0, 5.0, "mm", K121102, "Diameter of these holes.")
    pitch_mm: float = _within(10.0, 4.0, 30.0, "mm", K121102, "Distance between these holes.")
    suture_holes: bool = field(default=False, metadata={"source": K121153, "help": "Drill holes for sutures."})
    suture_mm: float = _within(1.5, 1.0, 3.0, "mm", OURS, "Diameter of the suture holes.")
    plate_seats: int = _within(0, 0, 12, "", OURS, "Recesses for fixation plates along the rim, where bone is thick.")
    mark: str = field(
        default="", metadata={"source": OURS, "help": "Text engraved on the inner side; no name unless given."}
    )
    # The mould.
    mould: bool = field(default=False, metadata={"source": OURS, "help": "Also make a two-part mould for PMMA."})
    # The mesh.
    max_triangles: int = _within(100_000, 2_000, 2_000_000, "", OURS, "No more triangles than this, if it can be.")
    mesh_error_mm: float = _within(0.03, 0.001, 0.2, "mm", OURS, "What fewer triangles may cost.")

    def __post_init__(self) -> None:
        for one in fields(self):
            if "low" not in one.metadata:
                self._require_kind(one.name, type(one.default))
                continue
            value, low, high = getattr(self, one.name), float(one.metadata["low"]), float(one.metadata["high"])
            # Whole numbers may be too large for a float.
            if isinstance(value, bool) or not (isinstance(value, int | float) and abs(value) < MAX_NUMBER):
                raise InputError(f"{one.name} must be a number; got {value!r}")
            if isinstance(one.default, int) and value != int(value):
                raise InputError(f"{one.name} must be a whole number; got {value}")
            if not low <= value <= high:
                unit = f" {one.metadata['unit']}" if one.metadata["unit"] else ""
                raise InputError(f"{one.name} must be {low:g} to {high:g}{unit}; got {value:g}")
        self._require_choices()

    def _require_kind(self, name: str, kind: type) -> None:
        """What is a text or a yes or no in the defaults must be one."""
        if not isinstance(getattr(self, name), kind):
            wanted = "true or false" if kind is bool else "text"
            raise InputError(f"{name} must be {wanted}; got {getattr(self, name)!r}")

    def _require_choices(self) -> None:
        """What is no number."""
        for name, choices in (("thickness", ("constant", "bone")), ("split", ("auto", "never"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        if self.thickness == "constant" and self.min_wall_mm > self.thickness_mm:
            raise InputError(
                f"no wall is thicker than the body: min_wall_mm is {self.min_wall_mm:g}, thickness_mm "
                f"{self.thickness_mm:g}"
            )
        if self.perforations and MIN_PITCH * self.pitch_mm - self.perforation_mm < self.min_wall_mm:
            raise InputError(
                f"perforations of {self.perforation_mm:g} mm, {self.pitch_mm:g} mm apart, leave no wall of "
                f"{self.min_wall_mm:g} mm between them; make pitch_mm "
                f"{(self.perforation_mm + self.min_wall_mm) / MIN_PITCH:.1f} or more"
            )
        if len(self.mark) > MAX_MARK or not self.mark.isprintable():
            raise InputError(f"a mark has up to {MAX_MARK} printable characters; got {self.mark!r}")

    def to_json(self) -> dict[str, Any]:
        """All parameters by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> ImplantSettings:
        """The settings of a design.json's ``parameters``.

        Raises:
            InputError: a parameter that there is not, or a value out of range.
        """
        unknown = sorted(set(found) - {one.name for one in fields(cls)})
        if unknown:
            raise InputError(f"an implant has no parameter {', '.join(unknown)}")
        return cls(**found)


PANELS = {
    "Outer surface": ("offset_mm", "smooth_mm", "temporal_relief_mm", "flatten"),
    "Body": ("thickness", "thickness_mm", "min_wall_mm"),
    "Rim": ("clearance_mm", "widening_mm", "bevel_deg", "flange_width_mm", "flange_mm"),
    "Putting it in": ("travel_mm", "split"),
    "Details": (
        "perforations",
        "perforation_mm",
        "pitch_mm",
        "suture_holes",
        "suture_mm",
        "plate_seats",
        "mark",
        "mould",
    ),
    "Mesh": ("max_triangles", "mesh_error_mm"),
}
"""Parameters as they are offered together."""

MAX_NUMBER = 1e12
"""No parameter comes near."""

MIN_PITCH = 0.9
"""Perforations lie at least this part of the pitch apart: a flat pattern does not lie on a dome without strain."""

MAX_MARK = 24
"""Characters of a mark: more do not fit on a small implant."""

__all__ = ["MAX_MARK", "MIN_PITCH", "PANELS", "ImplantSettings", "Split", "Thickness"]
