"""Whether an implant is what was asked for, can be made and can be put in: each thing measured, with limit and source.

A failed check means that the implant must not be made as it is; a warning, that somebody should look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from calvaria.implant import measure
from calvaria.implant.around import Around
from calvaria.implant.measured import Measured, least_wall_mm, measured, raised_mm
from calvaria.implant.memory import DETAILS, Lately, key_of
from calvaria.implant.parts import Check, Design, Maps, Part, Verdict
from calvaria.implant.settings import K250334, NOUT, OURS, ImplantSettings
from calvaria.reconstruction.surface import BoneSurface
from calvaria.types import F64
from calvaria.volume.mesh import Mesh
from calvaria.volume.volume import Volume

MIN_SHARE = 0.95
"""Of the rim, or of the body, that must be as it was asked for."""

WITHIN_MM = 0.2
"""How near to what was asked for clearance and thickness must be there."""

MAX_CLEARANCE_LACK_MM = 0.3
"""An implant whose clearance falls short by more than this anywhere is refused ..."""

VOXEL_SHARE = 0.5
"""... but no limit is tighter than this part of the scan's widest voxel, which is how well bone itself is known."""

MAX_THICKNESS_LACK_MM, REST = 0.5, 0.01
"""A body thinner by more than this than asked for, off its rim and but for this part of it, is worth a look: where bone
was cut askew, its inner table reaches farther in than the rim's thickness."""

WALL_TOLERANCE_MM = 0.1
"""A wall is measured to about this."""

MIN_PASSAGE_MM = 0.1
"""Clearance on the way in below which the implant would rub on bone."""

MAX_RELIEF_SHARE = 0.05
"""More of the body's volume taken away for the way in than this is worth a look."""

MAX_NARROW_SHARE = 0.02
"""More left out for being too narrow than this part of the body is worth a look."""

STEP_MM, MAX_STEP_MM = 0.3, 1.0
"""Step from implant to bone along the rim, 95th percentile: what is sought, and what is refused."""

MAX_BEND = 10.0
"""Difference of curvature across the rim, 1/m, median: nearly that of a head itself (radius 80 mm: 12.5)."""

MAX_ASYMMETRY_MM = 5.0
"""Mean distance from the mirrored other side: healthy heads differ by 1 to 3 mm."""

LARGE_CM2, VERY_LARGE_CM2 = 25.0, 100.0
"""Areas from which a hole should be closed, and from which a custom implant is advised."""

SMALLEST_MM, LARGEST_MM = 25.0, 250.0
"""Widths and lengths that are cleared."""

PRINTER_MM = (193.0, 145.0, 145.0)
"""Build volume of a desktop resin printer, longest side first."""

DENSITIES = {"PEEK": 1.30, "PMMA": 1.18, "PEKK": 1.28, "Ti-6Al-4V": 4.43}
"""g/cm3."""

CLEARANCE_LEAST, CLEARANCE_MEAN, CLEARANCE_SHARE = "clearance, smallest", "clearance, mean", "clearance as asked"
THICKNESS_SHARE, WATERTIGHT, OUTER_STEP = "thickness as asked", "watertight", "outer step at the rim"
"""Names of checks that others look up."""

MARREIROS = "Marreiros et al. 2016, IJCARS 11:2217"
DENSITY_SOURCES = {name: "handbook value" for name in DENSITIES} | {"PEKK": "510(k) K121818: 1.25 to 1.31"}
PRINTER = "our choice: a desktop resin printer of 145 x 145 x 193 mm"
UNCUT_STEP = "our choice; uncut bone on seven such lines of four skulls: 0.1 to 0.9 mm, most at the temples"
UNCUT_BEND = "our choice; uncut bone on seven such lines of four skulls: 3 to 8"
MEANING = "by definition"


class _Given(NamedTuple):
    """What the checks of one part look at."""

    part: Part
    settings: ImplantSettings
    found: Measured

    @property
    def maps(self) -> Maps:
        """Thickness and clearance."""
        return self.found.maps

    @property
    def surface(self) -> BoneSurface:
        """Of the bone around it."""
        return self.found.surface


class Seen(NamedTuple):
    """What is known already of the bone around a part's hole, and of its body."""

    around: Around
    measured: Lately[Measured]


@dataclass(frozen=True)
class _Tell:
    """Makes the checks of one part."""

    part: str

    def __call__(  # noqa: PLR0917  # in the order of a check's fields
        self,
        name: str,
        value: float | str | bool | None,
        unit: str = "",
        limit: str = "",
        verdict: Verdict = "pass",
        source: str | None = None,
    ) -> Check:
        source = source if source is not None else OURS if limit else "measured"
        value = None if isinstance(value, float) and not np.isfinite(value) else value
        return Check(
            name, round(value, 4) if isinstance(value, float) else value, unit, limit, verdict, source, self.part
        )


def check(design: Design, seen: Sequence[Seen] | None = None) -> Design:
    """The design with all that was measured of it, and the maps.

    Args:
        design: its parts finished; earlier checks and maps are replaced.
        seen: for each part, what an earlier design left.
    """
    found, maps = [], []
    known = seen or [Seen(Around(), Lately()) for _ in design.parts]
    for part, (around, bodies) in zip(design.parts, known, strict=True):

        def anew(part: Part = part, around: Around = around) -> Measured:
            return measured(
                part,
                design.settings,
                bone=design.bone,
                fraction=_measured(design),
                frame_to_world=design.frame_to_world,
                around=around,
            )

        # Holes, seats and marks leave the body as it was.
        given = _Given(part, design.settings, bodies.of((id(part.body), key_of(design.settings, DETAILS)), anew))
        maps.append(given.maps)
        found += [*_made(given), *_fitting(given), *_apart(part, design.parts)]
        found += [*_shaped(given), *_sized(part)]
    return replace(design, checks=tuple(found), maps=tuple(maps))


def _made(given: _Given) -> Iterable[Check]:
    """The mesh and the body: whether it is one solid, as thick as asked for."""
    tell, mesh = _Tell(given.part.name), given.part.mesh
    closed = watertight(mesh)
    yield tell(WATERTIGHT, closed, "", "yes", "pass" if closed else "fail", MEANING)
    pieces = len(mesh.shells)
    yield tell("components", pieces, "", "1", "pass" if pieces == 1 else "fail", MEANING)
    yield from _thickness(given, tell)
    yield _wall(given, tell)


def _measured(design: Design) -> Volume:
    """Bone in the scan's own voxels, or as finely as its values tell."""
    return design.bone if design.fraction is None else design.fraction


def watertight(mesh: Mesh) -> bool:
    """Whether a mesh bounds a solid: closed, oriented, outwards, and a manifold for the library that cuts solids."""
    import manifold3d

    if mesh.is_empty or not mesh.is_closed or mesh.volume_ml <= 0:
        return False
    return bool(_solid(mesh).status() == manifold3d.Error.NoError)


def _solid(mesh: Mesh) -> Any:
    import manifold3d

    vertices, faces = np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces.astype(np.uint64))
    return manifold3d.Manifold(manifold3d.Mesh64(vertices, faces))


def _thickness(given: _Given, tell: _Tell) -> Iterable[Check]:
    """Off the rim."""
    part, thick = given.part, given.maps.thickness_mm
    seen = np.isfinite(thick)
    source = K250334 if given.settings.thickness == "constant" else OURS
    if not seen.any():
        yield tell("thickness, smallest", None, "mm", "measured somewhere", "warn", source)
        return
    lack = measure.asked_thickness(part, part.body.vertices_mm[seen]) - thick[seen]
    weights, wall = measure.vertex_areas(part.body)[seen], least_wall_mm(given.settings)
    least, worst = (_quantile(values, weights, share) for values, share in ((thick[seen], REST), (lack, 1 - REST)))
    verdict: Verdict = "warn" if worst > MAX_THICKNESS_LACK_MM else "pass"
    verdict = "fail" if least < wall - WALL_TOLERANCE_MM else verdict
    limit = f"at least {wall:g}, and at most {MAX_THICKNESS_LACK_MM:g} below what was asked, on {100 - 100 * REST:g} %"
    yield tell("thickness, smallest", least, "mm", limit, verdict, source)
    yield tell("thickness, largest", float(thick[seen].max()), "mm", "", "pass", source)
    share = share_within(lack, weights)
    yield _share(THICKNESS_SHARE, share, tell, "fail")


def _quantile(values: F64, weights: F64, share: float) -> float:
    """The value below which a share of the weights lies."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, share * total[-1])), len(values) - 1)])


def share_within(off_mm: F64, weights: F64) -> float:
    """Share of weights where something is within `WITHIN_MM` of what was asked for; NaN without any."""
    total = float(weights.sum())
    return float(weights[np.abs(off_mm) <= WITHIN_MM].sum()) / total if total > 0 else float("nan")


def _share(name: str, share: float, tell: _Tell, otherwise: Verdict) -> Check:
    limit = f"at least {100 * MIN_SHARE:g} within {WITHIN_MM:g} mm"
    good: Verdict = "pass" if share >= MIN_SHARE else otherwise
    return tell(name, 100 * share, "%", limit, good)


def _wall(given: _Given, tell: _Tell) -> Check:
    """The thinnest place of the body, its rim too, but for a spot."""
    least, wall = least_wall_mm(given.settings), given.found.wall_mm
    good: Verdict = "pass" if wall >= least - WALL_TOLERANCE_MM else "fail"
    return tell("thinnest wall", wall, "mm", f"at least {least:g}", good)


def _fitting(given: _Given) -> Iterable[Check]:
    """The implant in its hole and on its way there."""
    part, settings, tell = given.part, given.settings, _Tell(given.part.name)
    way = given.found.passage
    yield tell("overlap with bone", way.overlap_ml, "ml", "0", "pass" if way.overlap_ml == 0 else "fail", MEANING)
    yield from _clearance(given, tell)
    least = min(settings.clearance_mm, _least_asked(part)) - _lack(given.surface)
    # A flange lies on bone.
    lowest, least = (0.0, 0.0) if settings.flange_width_mm else (MIN_PASSAGE_MM, least)
    verdict: Verdict = "fail" if way.clearance_mm < lowest else "warn" if way.clearance_mm < least else "pass"
    limit = f"at least {lowest:g} over {settings.travel_mm:g} mm"
    yield tell("insertion path, smallest clearance", way.clearance_mm, "mm", limit, verdict)
    relief, volume = part.relief, max(part.body.volume_ml, 1e-9)
    much = relief.volume_ml > MAX_RELIEF_SHARE * volume
    limit = f"at most {100 * MAX_RELIEF_SHARE:g} % of the body"
    yield tell("relief for insertion, depth", relief.depth_mm, "mm")
    yield tell("relief for insertion, volume", relief.volume_ml, "ml", limit, "warn" if much else "pass")
    much = relief.narrow_ml > MAX_NARROW_SHARE * volume
    limit = f"at most {100 * MAX_NARROW_SHARE:g} % of the body"
    yield tell("left out as too narrow", relief.narrow_ml, "ml", limit, "warn" if much else "pass")


def _lack(surface: BoneSurface) -> float:
    """How much clearance may fall short, mm."""
    return max(MAX_CLEARANCE_LACK_MM, VOXEL_SHARE * max(surface.fraction.grid.spacing_mm))


def _least_asked(part: Part) -> float:
    asked = part.asked_mm[~np.isnan(part.asked_mm)]
    return float(asked.min()) if len(asked) else float("inf")


def _clearance(given: _Given, tell: _Tell) -> Iterable[Check]:
    """Along the rim, where some was asked for and bone is there."""
    part, found = given.part, given.maps.clearance_mm
    rim = np.isfinite(found) & ~np.isnan(part.asked_mm)
    if not rim.any():
        yield tell(CLEARANCE_LEAST, None, "mm", "measured somewhere", "warn")
        return
    asked, found, weights = part.asked_mm[rim], found[rim], measure.vertex_areas(part.body)[rim]
    lack = _lack(given.surface)
    short = bool((asked - found).max() > lack)
    limit = f"at most {lack:.2g} below what was asked"
    yield tell(CLEARANCE_LEAST, float(found.min()), "mm", limit, "fail" if short else "pass")
    yield tell(CLEARANCE_MEAN, float(np.average(found, weights=np.maximum(weights, 1e-9))), "mm")
    yield tell("clearance, largest", float(found.max()), "mm")
    yield _share(CLEARANCE_SHARE, share_within(found - asked, weights), tell, "warn")


def _apart(part: Part, parts: Sequence[Part]) -> Iterable[Check]:
    """Two implants never share a place; nothing is said where there is one."""
    others = [other for other in parts if other is not part]
    if not others or not all(watertight(one.mesh) for one in parts):
        return
    shared = sum(float((_solid(part.mesh) ^ _solid(other.mesh)).volume()) for other in others) / 1000
    verdict: Verdict = "pass" if shared == 0 else "fail"
    yield _Tell(part.name)("overlap with other implants", shared, "ml", "0", verdict, MEANING)


def _shaped(given: _Given) -> Iterable[Check]:
    """How the outer surface goes on from bone to implant, and how it compares with the other side."""
    settings, tell = given.settings, _Tell(given.part.name)
    wanted, rim = raised_mm(settings), given.found.rim
    step = percentile(rim.step_mm)
    verdict: Verdict = "pass" if step is None or step <= STEP_MM + wanted else "warn"
    # Voxels are steps.
    largest = max(MAX_STEP_MM, *given.surface.fraction.grid.spacing_mm) + wanted
    verdict = "fail" if step is not None and step > largest else verdict
    limit = f"at most {STEP_MM + wanted:g} on 95 % of the rim"
    yield tell(OUTER_STEP, step, "mm", limit, verdict, UNCUT_STEP)
    bend = percentile(rim.curvature, 50)
    limit = f"median at most {MAX_BEND:g}"
    verdict = "warn" if (bend or 0) > MAX_BEND else "pass"
    yield tell("change of curvature at the rim", bend, "1/m", limit, verdict, UNCUT_BEND)
    apart = given.found.apart_mm
    verdict = "warn" if (apart or 0) > MAX_ASYMMETRY_MM + wanted else "pass"
    limit = f"at most {MAX_ASYMMETRY_MM + wanted:g} from the mirrored other side"
    yield tell("symmetry of the completed head", apart, "mm", limit, verdict)


def percentile(values: F64, percent: float = 95.0) -> float | None:
    """A percentile of absolute values; None where there is none."""
    seen = np.abs(values[np.isfinite(values)])
    return float(np.percentile(seen, percent)) if len(seen) else None


def _sized(part: Part) -> Iterable[Check]:
    """What it measures and weighs."""
    tell = _Tell(part.name)
    area = measure.outer_area_mm2(part) / 100
    size = "small" if area < LARGE_CM2 else "large" if area < VERY_LARGE_CM2 else "very large"
    yield tell("outer area", area, "cm2", "", "pass", f"{NOUT}: closed above {LARGE_CM2:g} cm2")
    advice = f"{MARREIROS}: made to measure above {VERY_LARGE_CM2:g} cm2"
    yield tell("size class", size, "", "", "pass", advice)
    yield tell("volume", part.mesh.volume_ml, "ml")
    extents = measure.extents_mm(part.mesh)
    cleared = extents[0] <= LARGEST_MM and extents[1] >= SMALLEST_MM
    limit = f"{SMALLEST_MM:g} to {LARGEST_MM:g} long and wide"
    text = " x ".join(f"{one:.1f}" for one in extents)
    yield tell("length, width, height", text, "mm", limit, "pass" if cleared else "warn", K250334)
    fits = all(one <= room for one, room in zip(extents, PRINTER_MM, strict=True))
    limit = " x ".join(f"{one:g}" for one in PRINTER_MM)
    yield tell("fits a printer", fits, "", f"within {limit} mm", "pass" if fits else "warn", PRINTER)
    for material, density in DENSITIES.items():
        yield tell(f"mass in {material}", part.mesh.volume_ml * density, "g", "", "pass", DENSITY_SOURCES[material])


__all__ = [
    "CLEARANCE_LEAST",
    "CLEARANCE_MEAN",
    "CLEARANCE_SHARE",
    "DENSITIES",
    "MIN_SHARE",
    "OUTER_STEP",
    "PRINTER_MM",
    "STEP_MM",
    "THICKNESS_SHARE",
    "WATERTIGHT",
    "Seen",
    "check",
    "percentile",
    "share_within",
    "watertight",
]
