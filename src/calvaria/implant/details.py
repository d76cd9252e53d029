"""Holes and seats in an implant: perforations, suture holes, seats for fixation plates, screw holes of a flange."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from calvaria.implant.mark import SAMPLE_MM, engrave, lettering
from calvaria.implant.parts import Outline, Part
from calvaria.implant.places import Places, run_mm, spread
from calvaria.implant.settings import ImplantSettings
from calvaria.implant.solids import between, cut, largest, rod, to_mesh, to_solid
from calvaria.types import F64

if TYPE_CHECKING:
    from manifold3d import Manifold

EDGE_MM = 5.0
"""From the edge of a perforation to every outline; our choice."""

MIN_THICKNESS_MM = 2.0
"""Thinner places are not drilled; the thinnest that is milled (510(k) K250334: 2 to 10 mm)."""

WALL_MM = 2.0
"""Between holes, and between a hole and the rim's wall at any depth; our choice."""

BEYOND_MM = 4.0
"""How far a drill goes beyond both surfaces."""

PITCH_ROUNDS = 6
"""Steps in which the pattern is relaxed until neighbours lie one pitch apart on the curved surface."""

SUTURE_INSET_MM = 5.0
"""From the outline to the row of suture holes; our choice."""

SUTURE_EDGE_MM = 3.0
"""From the edge of a suture hole to every outline, at least."""

SUTURE_STEP_MM = 20.0
"""Between the suture holes of the row; our choice."""

PAIR_MM = 6.0
"""Between the two suture holes in the middle, which lift the dura to the implant; our choice."""

SHIFTS_MM = (0.0, 2.0, -2.0, 4.0, -4.0, 6.0, -6.0, 8.0, -8.0)
"""Along the outline, tried one after the other where a suture hole does not fit."""

INSETS_MM = 6
"""Further in a suture hole is moved by up to so many mm where the rim leans inwards; by a flange's width besides."""

SEAT_BONE_MM = 3.0
"""A screw needs so much bone beside the rim."""

SEAT_LENGTH_MM, SEAT_WIDTH_MM, SEAT_DEPTH_MM = 8.0, 5.0, 0.8
"""Of a seat, from the outline inwards; its depth takes a titanium microplate (0.6 mm, from memory) and a little air."""

SEAT_APART_MM = 12.0
"""Between the middles of two seats, along the outline."""

PILOT_MM, PILOT_DEPTH_MM = 1.5, 3.0
"""Diameter and depth, from the outer surface, of the pilot hole in a seat: for screws of 2 mm; our choice."""

PILOT_INSETS_MM = (4.0, 5.0, 6.0)
"""From the outline to the pilot hole: further in where the rim leans inwards."""

MIN_FLOOR_MM = 0.8
"""A blind hole leaves so much below it, or goes through (resin printers: walls of 0.8 mm or more)."""

SCREW_MM = 2.2
"""Diameter of the screw holes in a flange: for screws of 2 mm; our choice."""

MIN_FLANGE_MM = 5.0
"""A narrower flange has no room for screw holes."""


@dataclass
class Drilling:
    """What is going to be cut, and what the user should read.

    Args:
        places: the part's room for more.
        settings: what is asked for.
    """

    places: Places
    settings: ImplantSettings
    cutters: list[Manifold] = field(default_factory=list)
    through: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def part(self) -> Part:
        """What is drilled."""
        return self.places.part

    def note(self, text: str) -> None:
        """Say something about the part."""
        self.notes.append(f"{self.part.name}: {text}")

    def drill(self, cells: F64, diameter_mm: float) -> None:
        """Holes along the normal, all the way through, at (N, 2) cells of the sheet."""
        points, normals = self.part.sheet.at(cells)
        depth = self.places.thickness_mm(cells) + BEYOND_MM
        for point, normal, deep in zip(points, normals, depth.tolist(), strict=True):
            self.cutters.append(rod(point + BEYOND_MM * normal, point - deep * normal, diameter_mm / 2))
        self.places.take(points, diameter_mm / 2)
        self.through += len(cells)


def finished(part: Part, settings: ImplantSettings) -> tuple[Part, tuple[str, ...]]:
    """A part with all that is asked for: the mark first, then seats and holes, which keep off the mark.

    Args:
        part: an implant as its body is.
        settings: what is asked for.

    Returns:
        The part with its mesh finished, its body as it was; notes on what did not fit.
    """
    letters, notes = lettering(part, settings.mark)
    if letters is None:
        drilled, more = detailed(part, settings)
    else:
        drilled, more = detailed(engrave(part, letters), settings, letters.area_mm)
    return drilled, notes + more


def detailed(part: Part, settings: ImplantSettings, avoid_mm: F64 | None = None) -> tuple[Part, tuple[str, ...]]:
    """A part with its perforations, suture holes and plate seats (screw holes, where it has a flange).

    Args:
        part: an implant.
        settings: what is asked for.
        avoid_mm: (N, 3) points on the outer surface over what holes keep 3 mm away from, such as a mark.

    Returns:
        The part with its mesh drilled, its body as it was; notes on what did not fit.
    """
    work = Drilling(Places(part), settings)
    if avoid_mm is not None:
        work.places.take(avoid_mm, 3.0 - WALL_MM + SAMPLE_MM / 2)
    if settings.plate_seats:
        _fix(work)
    if settings.suture_holes:
        _sutures(work)
    if settings.perforations:
        _perforate(work)
    if not work.cutters:
        return part, tuple(work.notes)
    solid = to_solid(part.mesh)
    drilled = largest(cut(solid, work.cutters))
    if drilled.genus() - solid.genus() != work.through:
        work.note(f"{work.through} holes should go through it; {drilled.genus() - solid.genus()} do")
    return replace(part, mesh=to_mesh(drilled)), tuple(work.notes)


def _fix(work: Drilling) -> None:
    """Seats for plates along the longest outline where bone is thick enough; in a flange, screw holes."""
    width = work.settings.flange_width_mm
    flange = width >= MIN_FLANGE_MM
    what = "screw holes" if flange else "plate seats"
    if 0 < width < MIN_FLANGE_MM:
        work.note(f"no screw holes: a flange of {width:g} mm is narrower than {MIN_FLANGE_MM:g} mm")
        return
    left = work.settings.thickness_mm - SEAT_DEPTH_MM
    if not flange and work.settings.thickness == "constant" and left < work.settings.min_wall_mm:
        work.note(f"no plate seats: {left:.1f} mm below them is less than min_wall_mm, {work.settings.min_wall_mm:g}")
        return
    outline = work.part.outline[0]
    thick = outline.bone_mm >= SEAT_BONE_MM
    inset = np.full(len(thick), width / 2) if flange else _pilot_insets(work, outline)
    wanted = work.settings.plate_seats
    chosen = spread(outline.points_mm, thick & np.isfinite(inset), wanted, SEAT_APART_MM)
    if len(chosen) < wanted:
        why = (
            f"elsewhere along the rim bone is thinner than {SEAT_BONE_MM:g} mm"
            if not thick.all()
            else "the rim has no room for more"
        )
        work.note(f"{len(chosen)} of {wanted} {what} fit: {why}")
    for index in chosen:
        start, out = outline.points_mm[index], outline.away[index]
        cell = work.part.sheet.cells((start - inset[index] * out)[None])
        if flange:
            work.drill(cell, SCREW_MM)
        else:
            _seat(work, outline, index, cell)


def _pilot_insets(work: Drilling, outline: Outline) -> F64:
    """(R,) how far inside each point of an outline a pilot hole can be; NaN where no seat can."""
    sheet, places = work.part.sheet, work.places
    found = np.full(len(outline.points_mm), np.nan)
    need = work.settings.min_wall_mm
    for inset in reversed(PILOT_INSETS_MM):
        points, normals = sheet.at(sheet.cells(outline.points_mm - inset * outline.away))
        deep = np.full(len(points), PILOT_DEPTH_MM)
        fine = places.to_rim_mm(points, normals, deep) >= need + PILOT_MM / 2
        found[fine & (places.to_taken_mm(points) >= PILOT_MM / 2 + need)] = inset
    for inset in np.arange(1.0, SEAT_LENGTH_MM + 1):
        cells = sheet.cells(outline.points_mm - inset * outline.away)
        thin = places.thickness_mm(cells) < SEAT_DEPTH_MM + need
        found[~places.within(cells) | thin] = np.nan
    return found


def _seat(work: Drilling, outline: Outline, index: int, pilot: F64) -> None:
    """One seat across the outline, its floor following the outer surface, and its pilot hole."""
    sheet, places = work.part.sheet, work.places
    start, out, normal = outline.points_mm[index], outline.away[index], outline.normals[index]
    u = np.linspace(-SEAT_LENGTH_MM, BEYOND_MM, 9)
    v = np.linspace(-SEAT_WIDTH_MM / 2, SEAT_WIDTH_MM / 2, 5)
    flat = start + u[:, None, None] * out + v[None, :, None] * np.cross(normal, out)
    foot, normals = (part.reshape(flat.shape) for part in sheet.at(sheet.cells(flat.reshape(-1, 3))))
    work.cutters.append(between(foot - SEAT_DEPTH_MM * normals, foot + BEYOND_MM * normals))
    (point,), (axis,) = sheet.at(pilot)
    thick = float(places.thickness_mm(pilot)[0])
    blind = thick - PILOT_DEPTH_MM >= MIN_FLOOR_MM
    deep = PILOT_DEPTH_MM if blind else thick + BEYOND_MM
    work.cutters.append(rod(point + axis, point - deep * axis, PILOT_MM / 2))
    work.through += not blind
    places.take(foot[:6, 2], SEAT_WIDTH_MM / 2)  # along its middle, out to the rim


def _sutures(work: Drilling) -> None:
    """A row along the longest outline, and two in the middle."""
    radius = work.settings.suture_mm / 2
    outline = work.part.outline[0]
    run, length = run_mm(outline.points_mm)
    count = max(round(length / SUTURE_STEP_MM), 1)
    insets = SUTURE_INSET_MM + np.arange(INSETS_MM + 1 + int(np.ceil(work.settings.flange_width_mm)))
    missed = 0
    for target in np.arange(count) * length / count:
        nearby = [int(np.abs(run - (target + shift) % length).argmin()) for shift in SHIFTS_MM]
        tried = np.concatenate([outline.points_mm[nearby] - inset * outline.away[nearby] for inset in insets])
        cells = work.part.sheet.cells(tried)
        fine = work.places.fit(cells, radius, edge_mm=SUTURE_EDGE_MM, wall_mm=WALL_MM, thick_mm=MIN_THICKNESS_MM)
        if fine.any():
            work.drill(cells[[fine.argmax()]], work.settings.suture_mm)
        else:
            missed += 1
    if missed:
        work.note(f"{count - missed} of {count} suture holes along the rim fit; elsewhere walls would be too thin")
    pair = _pair(work.places, radius)
    if pair is None:
        work.note("no suture holes in the middle: there is no room for two of them")
    else:
        work.drill(pair, work.settings.suture_mm)


def _pair(places: Places, radius_mm: float) -> F64 | None:
    """(2, 2) cells of two holes as near to the middle as they fit; None where nowhere."""
    cells = np.argwhere(places.part.sheet.hole).astype(np.float64)
    order = np.argsort(np.linalg.norm(cells - places.middle, axis=1), kind="stable")
    cells = cells[order]
    half = PAIR_MM / 2 / places.cell_mm
    best: tuple[int, F64] | None = None
    for side in (np.array([half, 0.0]), np.array([0.0, half])):
        both = np.ones(len(cells), np.bool_)
        for one in (cells - side, cells + side):
            at = np.flatnonzero(both)
            both[at] = places.fit(
                one[at], radius_mm, edge_mm=SUTURE_EDGE_MM, wall_mm=WALL_MM, thick_mm=MIN_THICKNESS_MM
            )
        if both.any() and (best is None or both.argmax() < best[0]):
            first = int(both.argmax())
            best = first, np.stack([cells[first] - side, cells[first] + side])
    return None if best is None else best[1]


def _perforate(work: Drilling) -> None:
    """Holes all over, in a hexagonal pattern."""
    cells = hexagonal(work.places, work.settings.pitch_mm)
    fine = work.places.fit(
        cells, work.settings.perforation_mm / 2, edge_mm=EDGE_MM, wall_mm=WALL_MM, thick_mm=MIN_THICKNESS_MM
    )
    if not fine.any():
        work.note(f"no perforation fits: it is too small or too thin ({MIN_THICKNESS_MM:g} mm are needed)")
    work.drill(cells[fine], work.settings.perforation_mm)


def hexagonal(places: Places, pitch_mm: float) -> F64:
    """(N, 2) cells of a hexagonal pattern inside a part's outlines, its neighbours one pitch apart in space.

    A flat pattern is laid on the sheet and relaxed there (least squares of all distances between neighbours).
    """
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import spsolve

    sheet = places.part.sheet
    step = pitch_mm / places.cell_mm
    most = int(np.ceil(max(sheet.hole.shape) / step * 1.2)) + 1
    a, b = (grid.ravel() for grid in np.meshgrid(*(np.arange(-most, most + 1),) * 2, indexing="ij"))
    cells = places.middle + step * np.stack([a + b / 2, b * np.sqrt(3) / 2], axis=1)
    own = places.within(cells)
    cells, a, b = cells[own], a[own], b[own]
    number = {pair: k for k, pair in enumerate(zip(a.tolist(), b.tolist(), strict=True))}
    links = [
        (k, number[other])
        for (i, j), k in number.items()
        for other in ((i + 1, j), (i, j + 1), (i - 1, j + 1))
        if other in number
    ]
    if not links:
        return np.asarray(cells)
    one, two = np.array(links).T
    row = np.arange(len(links))
    for _ in range(PITCH_ROUNDS):
        points, normals = sheet.at(cells)
        across = np.cross(normals, np.eye(3)[np.abs(normals).argmin(axis=1)])
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        frame = np.stack([across, np.cross(normals, across)], axis=1)  # (N, 2, 3) tangents
        apart = points[two] - points[one]
        length = np.linalg.norm(apart, axis=1)
        unit = (apart / length[:, None])[:, None]
        values = np.concatenate([-(frame[one] * unit).sum(-1), (frame[two] * unit).sum(-1)], axis=1)  # (L, 4)
        columns = np.stack([2 * one, 2 * one + 1, 2 * two, 2 * two + 1], axis=1)
        jacobian = coo_array((values.ravel(), (np.repeat(row, 4), columns.ravel())), (len(row), 2 * len(cells))).tocsr()
        # A little damping: the pattern as a whole may slide and turn.
        normal = (jacobian.T @ jacobian + 1e-3 * eye_array(2 * len(cells))).tocsc()
        move = spsolve(normal, jacobian.T @ (pitch_mm - length)).reshape(-1, 2)
        cells = sheet.cells(points + (move[..., None] * frame).sum(axis=1))
    return cells


__all__ = ["detailed", "finished", "hexagonal"]
