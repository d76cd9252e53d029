"""What a model's patches were worth where the truth was known: stored with the model, since it holds for no other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from calvaria.errors import FormatError

LEVELS = (0.68, 0.9, 0.95)
"""Probabilities at which the error of a completed surface is known."""


@dataclass(frozen=True)
class SurfaceCalibration:
    """What an engine's own spread means; made by ``python -m calvaria.benchmarks.uncertainty``.

    Args:
        outer: the true outer surface lies within so many of the engine's standard deviations, with the probabilities
            of `LEVELS`.
        inner: the same of the inner surface.
        origin: which cases it was fitted to, in a few words.
    """

    outer: tuple[float, float, float]
    inner: tuple[float, float, float]
    origin: str = ""

    @classmethod
    def from_entry(cls, entry: Any) -> SurfaceCalibration:
        """What stands in an index of models.

        Raises:
            FormatError: it is none: three rising numbers for each table are wanted.
        """
        if not isinstance(entry, Mapping) or set(entry) - {"origin"} != {"outer", "inner"}:
            raise FormatError(f"a surface's calibration holds outer and inner; got {entry!r}")
        found = {name: tuple(entry[name]) for name in ("outer", "inner") if isinstance(entry[name], list | tuple)}
        for name in ("outer", "inner"):
            values = found.get(name, ())
            whole = len(values) == len(LEVELS) and all(type(v) in (int, float) and math.isfinite(v) for v in values)
            if not whole or not 0 < values[0] <= values[1] <= values[2]:
                raise FormatError(f"a surface's calibration has three rising numbers for {name}; got {entry[name]!r}")
        return cls(found["outer"], found["inner"], str(entry.get("origin", "")))


@dataclass(frozen=True)
class Calibration:
    """Expected Dice of a patch, from how its engine fitted; made by ``python -m calvaria.benchmarks.confidence``.

    Expected DSC: intercept + per_misfit_mm * misfit + per_log_area * ln(area in cm2) + per_frontal * frontal share.

    Args:
        intercept: see above.
        per_misfit_mm: see above; the misfit is that of the completed surface to the known bone around the hole, mm.
        per_log_area: see above; areas under 1 cm2 count as 1.
        per_frontal: see above; the share of the patch that lies in the frontal floor, 0 to 1.
        spread_dsc: root mean square difference of true and expected DSC on subjects left out of the fit.
        worst_misfit_mm: no case it was fitted to had a larger misfit.
        largest_cm2: ... nor a larger hole.
        origin: which cases it was fitted to, in a few words.
        surface: what the engine's own spread along the surface means; None if that was not measured.
    """

    intercept: float
    per_misfit_mm: float
    per_log_area: float
    per_frontal: float
    spread_dsc: float
    worst_misfit_mm: float
    largest_cm2: float
    origin: str = ""
    surface: SurfaceCalibration | None = None

    def expected_dsc(self, misfit_mm: float, area_cm2: float, frontal_share: float) -> float:
        """The regression itself, without any limits: it may lie outside 0 to 1."""
        log_area = math.log(max(area_cm2, 1.0))
        expected = self.intercept + self.per_misfit_mm * misfit_mm + self.per_log_area * log_area
        return expected + self.per_frontal * frontal_share

    def to_entry(self) -> dict[str, Any]:
        """As it stands in an index of models, JSON-ready."""
        entry = asdict(self)
        return entry if self.surface is not None else {name: entry[name] for name in entry if name != "surface"}

    @classmethod
    def from_entry(cls, entry: Any) -> Calibration:
        """What `to_entry` gave.

        Raises:
            FormatError: it is none: a figure is missing, too many or no number.
        """
        names = [field.name for field in fields(cls) if field.name not in ("origin", "surface")]
        if not isinstance(entry, Mapping) or set(entry) - {"origin", "surface"} != set(names):
            given = ", ".join(sorted(entry)) if isinstance(entry, Mapping) else repr(entry)
            raise FormatError(f"a calibration holds {', '.join(names)}; got {given}")
        for name in names:
            value = entry[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise FormatError(f"a calibration's {name} is a number; got {value!r}")
        surface = None if entry.get("surface") is None else SurfaceCalibration.from_entry(entry["surface"])
        return cls(**{name: float(entry[name]) for name in names}, origin=str(entry.get("origin", "")), surface=surface)


__all__ = ["LEVELS", "Calibration", "SurfaceCalibration"]
