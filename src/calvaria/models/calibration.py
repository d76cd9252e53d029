"""What a model's patches were worth where the truth was known: stored with the model, since it holds for no other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calvaria.errors import FormatError

LEVELS = (0.68, 0.9, 0.95)
"""Probabilities at which the error of a completed surface is known."""


MEASURES = ("dsc", "bdsc", "hd95_mm", "outer_mm")
"""Metrics that are expected of a patch: Dice, border Dice, 95 % Hausdorff distance, mean distance of outer surfaces."""

OVERLAPS = ("dsc", "bdsc")
"""Those of which 1 is best; 0 is of the others."""

SHOWN = {
    "dsc": ("DSC", ".2f", ""),
    "bdsc": ("bDSC", ".2f", ""),
    "hd95_mm": ("HD95", ".1f", " mm"),
    "outer_mm": ("outer surface", ".1f", " mm"),
}
"""Title, format and unit of each in a line of text."""

FEATURES = ("1", "ln misfit mm", "ln area cm2", "frontal share", "ln voxel mm")
"""What a regression weighs."""

LIMITS = ("worst_misfit_mm", "largest_cm2", "thickest_mm")
"""Figures up to which a regression was fitted."""

SHARE_WITHIN = 0.9
"""So many true values lie in an expectation's interval."""

MIN_MISFIT_MM, MIN_VOXEL_MM = 0.05, 1.0
"""Smaller ones count as these: no logarithm without an end, and thinner slices than 1 mm show no more of a skull."""

MAX_LOG_LOSS = 10.0
"""Larger losses, 20 m of distance, count as this: far beyond all that was tested, nothing overflows."""


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
class Cues:
    """What is known of a completion before the truth is, and tells how good it may be.

    Args:
        misfit_mm: how far the completed surface is off the known bone around the hole.
        area_cm2: of all holes together.
        frontal_share: share of the patch in the frontal floor, 0 to 1.
        voxel_mm: longest edge of the scan's voxels.
    """

    misfit_mm: float
    area_cm2: float
    frontal_share: float
    voxel_mm: float

    @property
    def features(self) -> tuple[float, ...]:
        """What a regression weighs, one number for each of `FEATURES`."""
        misfit, area = max(self.misfit_mm, MIN_MISFIT_MM), max(self.area_cm2, 1.0)
        return 1.0, math.log(misfit), math.log(area), self.frontal_share, math.log(max(self.voxel_mm, MIN_VOXEL_MM))


@dataclass(frozen=True)
class Expected:
    """A figure of accuracy before the truth is known.

    Args:
        name: one of `MEASURES`, which are named as the metrics are.
        value: as likely too good as too bad.
        low: the true value is at least this ...
        high: ... and at most this, in `SHARE_WITHIN` of all cases.
    """

    name: str
    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The measure with its limits, as shown to readers."""
        title, form, unit = SHOWN[self.name]
        return f"{title} {self.value:{form}}{unit} ({self.low:{form}} to {self.high:{form}})"


@dataclass(frozen=True)
class Regression:
    """One measure of accuracy from the cues of a case.

    What is expected is the logarithm of the loss: of what a Dice coefficient lacks of 1, of a distance itself. So no
    expectation lies beyond 1 or below 0, and an interval is the wider the worse the case.

    Args:
        weights: of `FEATURES`.
        low: from so far below the expected logarithm ...
        high: ... to so far above it lies the true one, in `SHARE_WITHIN` of cases of persons left out of the fit.
    """

    weights: tuple[float, ...]
    low: float
    high: float

    def log_loss(self, cues: Cues) -> float:
        """The expected logarithm of the loss."""
        return math.fsum(weight * value for weight, value in zip(self.weights, cues.features, strict=True))

    def expected(self, name: str, cues: Cues, widened: float = 1.0) -> Expected:
        """The measure ``name``, its interval ``widened`` on the logarithmic scale."""
        middle = self.log_loss(cues)
        ends = [measure_of(name, middle + widened * end) for end in (-self.low, self.high)]
        return Expected(name, measure_of(name, middle), min(ends), max(ends))

    def to_entry(self) -> dict[str, Any]:
        """As it stands in an index of models."""
        return {"weights": list(self.weights), "low": self.low, "high": self.high}

    @classmethod
    def from_entry(cls, name: str, entry: Any) -> Regression:
        """What `to_entry` gave of a measure.

        Raises:
            FormatError: it is none.
        """
        if not isinstance(entry, Mapping) or set(entry) != {"weights", "low", "high"}:
            raise FormatError(f"a calibration's {name} holds weights, low and high; got {entry!r}")
        weights = entry["weights"]
        if not isinstance(weights, list) or len(weights) != len(FEATURES) or not all(map(_is_number, weights)):
            raise FormatError(f"a calibration's {name} has {len(FEATURES)} numbers as weights; got {weights!r}")
        if not all(_is_number(entry[end]) and entry[end] >= 0 for end in ("low", "high")):
            raise FormatError(f"a calibration's {name} has a low and a high of 0 or more; got {entry!r}")
        return cls(tuple(float(w) for w in weights), float(entry["low"]), float(entry["high"]))


def loss_of(name: str, value: float) -> float:
    """What a measure lacks of a perfect one: positive, but for perfect ones."""
    return 1.0 - value if name in OVERLAPS else value


def measure_of(name: str, log_loss: float) -> float:
    """The measure whose loss has this logarithm; no overlap is below 0."""
    loss = math.exp(min(log_loss, MAX_LOG_LOSS))
    return max(1.0 - loss, 0.0) if name in OVERLAPS else loss


@dataclass(frozen=True)
class Calibration:
    """How good a patch may be, from how its engine fitted; made by ``python -m calvaria.benchmarks.confidence``.

    Args:
        measures: a regression for each of `MEASURES`.
        worst_misfit_mm: no case it was fitted to had a larger misfit.
        largest_cm2: ... nor a larger hole ...
        thickest_mm: ... nor longer voxels.
        origin: which cases it was fitted to, in a few words.
        surface: what the engine's own spread along the surface means; None if that was not measured.
    """

    measures: Mapping[str, Regression]
    worst_misfit_mm: float
    largest_cm2: float
    thickest_mm: float
    origin: str = ""
    surface: SurfaceCalibration | None = None

    def beyond(self, cues: Cues) -> str | None:
        """In what a case goes beyond those it was fitted to; None where it does not."""
        if cues.misfit_mm > self.worst_misfit_mm:
            return f"the bone around the hole is unlike that of known skulls ({cues.misfit_mm:.2f} mm off)"
        if cues.area_cm2 > self.largest_cm2:
            return f"the hole ({cues.area_cm2:.0f} cm2) is larger than any that was tested ({self.largest_cm2:.0f} cm2)"
        if cues.voxel_mm > self.thickest_mm * (1 + 1e-6):
            return f"the slices ({cues.voxel_mm:.1f} mm) are thicker than any that were tested"
        return None

    def expected(self, cues: Cues, widened: float = 1.0) -> tuple[Expected, ...]:
        """Every measure of a case, in the order of `MEASURES`."""
        return tuple(self.measures[name].expected(name, cues, widened) for name in MEASURES)

    def to_entry(self) -> dict[str, Any]:
        """As it stands in an index of models, JSON-ready."""
        entry: dict[str, Any] = {
            "measures": {name: self.measures[name].to_entry() for name in MEASURES},
            **{name: getattr(self, name) for name in LIMITS},
            "origin": self.origin,
        }
        return entry if self.surface is None else entry | {"surface": asdict(self.surface)}

    @classmethod
    def from_entry(cls, entry: Any) -> Calibration:
        """What `to_entry` gave.

        Raises:
            FormatError: it is none: a figure is missing, too many or no number.
        """
        names = {"measures", *LIMITS}
        if not isinstance(entry, Mapping) or set(entry) - {"origin", "surface"} != names:
            given = ", ".join(sorted(entry)) if isinstance(entry, Mapping) else repr(entry)
            raise FormatError(f"a calibration holds {', '.join(sorted(names))}; got {given}")
        for name in LIMITS:
            if not _is_number(entry[name]):
                raise FormatError(f"a calibration's {name} is a number; got {entry[name]!r}")
        found = entry["measures"]
        if not isinstance(found, Mapping) or set(found) != set(MEASURES):
            raise FormatError(f"a calibration's measures are {', '.join(MEASURES)}; got {found!r}")
        return cls(
            {name: Regression.from_entry(name, found[name]) for name in MEASURES},
            **{name: float(entry[name]) for name in LIMITS},
            origin=str(entry.get("origin", "")),
            surface=None if entry.get("surface") is None else SurfaceCalibration.from_entry(entry["surface"]),
        )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


__all__ = [
    "FEATURES",
    "LEVELS",
    "MEASURES",
    "SHARE_WITHIN",
    "Calibration",
    "Cues",
    "Expected",
    "Regression",
    "SurfaceCalibration",
    "loss_of",
    "measure_of",
]
