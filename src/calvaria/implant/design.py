"""From the missing bone to implants: one for each hole, in two pieces where one could not be put in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.implant.around import Around
from calvaria.implant.body import Body, asked_mm, build_body
from calvaria.implant.bone import HALF, SmoothBone
from calvaria.implant.checks import Seen, check
from calvaria.implant.details import finished
from calvaria.implant.insertion import Way, far_field, find_way
from calvaria.implant.learned import Solid, require_its_own_shape
from calvaria.implant.memory import DETAILS, Hole, Memory, key_of
from calvaria.implant.mould import make_mould
from calvaria.implant.outline import covered, outlines
from calvaria.implant.parts import Design, Part
from calvaria.implant.settings import ImplantSettings
from calvaria.implant.site import Site, area_cm2, site_of
from calvaria.implant.solids import simplified
from calvaria.implant.wish import Wish, shaped, wish_of
from calvaria.jobs import Progress, unheard
from calvaria.skull.partial import Scan
from calvaria.types import F64
from calvaria.volume.components import label
from calvaria.volume.distance import reach_voxels
from calvaria.volume.gather import trilinear_at
from calvaria.volume.mesh import Mesh, extract_surface, joined
from calvaria.volume.volume import Volume, bounding_box

MIN_PIECE_ML = 0.5
"""Smaller pieces of a patch get no implant."""

SPLIT_BLOCKED = 0.03
"""Where bone is in the way of more than this share of the implant in the best direction, two pieces are made."""

CUTS = 4
"""So many planes are tried for the joint, evenly turned; the first cuts the longest extent across."""

MIN_COVERED = 0.3
"""An implant that covers less than this part of its hole is refused."""

JOINT_MM = 0.3
"""Between two pieces of one implant."""

FACE_MM = 0.35
"""Vertices nearer than this to the outer or the inner surface are not of the rim."""

BESIDE_MM = 1.5
"""A rim has bone beside it where bone lies nearer than its clearance and so much."""

RELIEVED_MM = 0.1
"""Vertices that bone farther out keeps off by more than this are relieved: their clearance is not the one asked for."""

MEASURED_MM = 15.0
"""Checks look at bone up to so far around the implants and their way."""

HOST_WIDTH_MM = 20.0
"""Bone is part of the host up to so far from the hole's edge, and so deep."""

HOST_MM = 0.05
"""What the surface of the host bone may be moved to have fewer triangles."""

HOST_TRIANGLES = 200_000
"""No more triangles than this of the host bone, if it can be."""

MIN_HOST_ML = 0.2
"""Loose bits of the host bone below this are left out."""


def design(
    defective: Volume,
    patch: Volume,
    frame_to_world: ArrayLike,
    settings: ImplantSettings | None = None,
    *,
    outer: tuple[F64, F64] | None = None,
    scan: Scan | None = None,
    learned: Solid | None = None,
    progress: Progress = unheard,
    memory: Memory | None = None,
    formed: Callable[[tuple[Part, ...]], object] = lambda parts: None,
) -> Design:
    """Design the implants for a skull whose missing bone is known.

    Args:
        defective: mask of the bone that is there.
        patch: mask of the missing bone on the same grid; an implant for each of its pieces.
        frame_to_world: (4, 4) canonical mm -> world LPS mm of this skull.
        settings: what is asked for.
        outer: (N, 3) points and (N, 3) outward unit normals on the completed skull, world mm, where there is something
            better than the masks' voxels, such as an engine's field.
        scan: the CT that the bone was segmented out of: where bone ends between voxels.
        learned: what the implants are to be, in place of a layer under the outer surface; that is then its own.
        progress: called now and then.
        memory: new, or from an earlier design for the same skull and patch: what the settings did not change is taken
            from it, and what this design found is left in it.
        formed: called with the implants when they have their shape, before they are measured.

    Returns:
        The implants with all that was measured of them.

    Raises:
        GeometryError: the grids differ.
        InputError: a volume is no mask, the patch is empty, there is no bone around it, or nothing is left of an
            implant after what was asked for; or a learned implant lies elsewhere, or is asked for in another shape.
    """
    chosen = settings or ImplantSettings()
    frame = np.asarray(frame_to_world, np.float64)
    wanted = patch
    if learned is not None:
        require_its_own_shape(chosen)
        patch.grid.require_same(defective.grid, "patch and defective skull")
        wanted, outer = learned.mask(defective, patch), learned.outer
    clock = _Clock()
    with ThreadPoolExecutor(1) as beside:
        # What surrounds the holes needs nothing of the implants.
        hosts: list[Future[Mesh]] = []
        given = _Given(defective, wanted, frame, outer, scan, learned, memory or Memory(spare_mm=0.0))

        def seen(site: Site, known: Mesh | None) -> None:
            hosts.append(beside.submit(_host, site) if known is None else beside.submit(lambda: known))

        bodies, lines, holes = _bodies(given, chosen, clock, progress, seen)
        parts, told = _detailed(bodies, chosen)
        formed(parts)
        progress("details", 0.7)
        clock.lap("details")
        mould, more = _moulds(parts) if chosen.mould else ((), [])
        told += more
        clock.lap("mould")
        progress("host", 0.8)
        for number, one in enumerate(hosts):
            given.memory.holes[number].host = one.result()
        host = joined([one.result() for one in hosts])
        clock.lap("host")
    progress("checks", 0.9)
    surface_from: Literal["field", "mask", "learned"] = "mask" if outer is None else "field"
    surface_from = surface_from if learned is None else "learned"
    notes = _once([*lines, *told])
    measured = given.memory.fractions.of(chosen.travel_mm, lambda: _around(scan, defective, patch, chosen.travel_mm))
    made = Design(
        parts, host, defective, frame, chosen, mould=mould, surface_from=surface_from, notes=notes, fraction=measured
    )
    checked = check(made, [Seen(hole.around, hole.measured) for hole in holes])
    given.memory.forget()
    clock.lap("checks")
    return replace(checked, seconds=clock.seconds)


def _detailed(bodies: Sequence[Part], settings: ImplantSettings) -> tuple[tuple[Part, ...], list[str]]:
    """The parts with holes, seats and mark, and what did not fit."""
    parts: list[Part] = []
    notes: list[str] = []
    for body in bodies:
        part, told = finished(body, settings)
        # Once more: where holes cut triangles, slivers are left.
        mesh, _ = simplified(part.mesh, settings.max_triangles, settings.mesh_error_mm)
        parts.append(replace(part, mesh=mesh))
        notes += told
    return tuple(parts), notes


def _moulds(parts: Sequence[Part]) -> tuple[tuple[tuple[Mesh, Mesh], ...], list[str]]:
    """A mould for each part; none at all where one cannot be made, and why."""
    try:
        return tuple(make_mould(part) for part in parts), []
    except InputError as error:
        return (), [f"no mould is made: {error}"]


def design_bodies(
    defective: Volume, patch: Volume, frame_to_world: ArrayLike, settings: ImplantSettings | None = None
) -> tuple[Part, ...]:
    """The implants alone, without details, mould, host and checks; arguments and errors as for `design`."""
    frame = np.asarray(frame_to_world, np.float64)
    found, _, _ = _bodies(_Given(defective, patch, frame), settings or ImplantSettings(), _Clock(), unheard)
    return found


def _around(scan: Scan | None, bone: Volume, patch: Volume, travel_mm: float) -> Volume | None:
    """Bone fractions wherever the implants are and pass, where a scan says them."""
    if scan is None:
        return None
    box = bounding_box(patch.mask, reach_voxels(patch.grid, travel_mm + MEASURED_MM))
    return None if box is None else scan.fraction(bone, box)


@dataclass(frozen=True, eq=False)
class _Given:
    """What implants are designed for; as the arguments of `design`."""

    defective: Volume
    patch: Volume
    frame: F64
    outer: tuple[F64, F64] | None = None
    scan: Scan | None = None
    learned: Solid | None = None
    memory: Memory = field(default_factory=lambda: Memory(spare_mm=0.0))


def _hole(given: _Given, number: int, pieces: list[Volume], smooth_mm: float) -> Hole:
    """What is known of a hole: remembered, or found and remembered.

    What was found for another smoothing or another learned solid is let go.
    """
    known = given.memory.holes.get(number)
    if known is None or known.smooth_mm != smooth_mm or known.site.solid is not given.learned:
        piece = (pieces or _pieces(given.patch))[number]
        site = site_of(given.defective, piece, given.frame, smooth_mm, outer=given.outer, scan=given.scan)
        site = replace(site, solid=given.learned)
        known = given.memory.holes[number] = Hole(smooth_mm, site, far_field(site), Around(given.memory.spare_mm))
    return known


def _bodies(
    given: _Given,
    settings: ImplantSettings,
    clock: _Clock,
    progress: Progress,
    seen: Callable[[Site, Mesh | None], object] = lambda site, host: None,
) -> tuple[tuple[Part, ...], tuple[str, ...], list[Hole]]:
    """The implants before their details, what the user should know, and the hole of each implant.

    ``seen`` is called with each hole.
    """
    patch, defective, frame = given.patch, given.defective, given.frame
    patch.grid.require_same(defective.grid, "patch and defective skull")
    pieces = _pieces(patch) if given.memory.count is None else []
    count = given.memory.count = given.memory.count or len(pieces)
    if not count:
        said = f"its pieces are all below {MIN_PIECE_ML:g} ml" if patch.mask.any() else "it is empty"
        raise InputError(f"the patch has nothing to design an implant for: {said}")
    parts: list[Part] = []
    holes: list[Hole] = []
    notes: list[str] = []
    for number in range(count):
        progress("implant", 0.7 * number / count)
        hole = _hole(given, number, pieces, settings.smooth_mm)
        seen(hole.site, hole.host)
        clock.lap("surface")
        found, lines = hole.bodies.of(key_of(settings, DETAILS), partial(_parts, hole, frame, settings, clock))
        parts += found
        holes += [hole] * len(found)
        notes += lines
    if len(parts) > 1:
        parts = [replace(part, name=f"implant-{number}") for number, part in enumerate(parts, 1)]
    return tuple(parts), _once(notes), holes


def _once(notes: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


class _Clock:
    """Seconds by step, added up over the implants."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def _pieces(patch: Volume) -> list[Volume]:
    """The pieces of a patch, largest first, each on the whole grid."""
    box = bounding_box(patch.mask)
    if box is None:
        return []
    labels, count = label(patch.mask[box], connectivity=6)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * patch.grid.voxel_volume_mm3 / 1000
    order = [n for n in np.argsort(-sizes, kind="stable") if sizes[n] >= MIN_PIECE_ML]
    out = []
    for n in order:
        mask = np.zeros(patch.shape, bool, order="F" if patch.data.flags.f_contiguous else "C")
        mask[box] = labels == n + 1
        out.append(patch.with_data(mask))
    return out


@dataclass(frozen=True, eq=False)
class _Plan:
    """One piece that is to be made: what it covers, how it goes in, and the plane that it stays behind."""

    wish: Wish
    way: Way
    cut: tuple[F64, float] | None = None


def _parts(hole: Hole, frame: F64, settings: ImplantSettings, clock: _Clock) -> tuple[list[Part], list[str]]:
    """The implant of one hole, in one piece or two."""
    own, far = shaped(hole.site, settings), hole.far
    wish, lines = wish_of(own, frame, settings)
    notes = list(lines)
    plan = _Plan(wish, find_way(own, far, wish, settings.travel_mm))
    plans = [plan]
    if plan.way.blocked > SPLIT_BLOCKED:
        said = f"in the best single direction bone is in the way of {plan.way.blocked:.0%} of the implant"
        halves = _halves(own, far, wish, settings) if settings.split == "auto" else []
        if halves and max(half.way.blocked for half in halves) < plan.way.blocked / 2:
            plans = halves
            notes.append(f"{said}: it is made in two pieces")
        else:
            notes.append(f"{said}: much of it had to be taken away")
    clock.lap("insertion")
    parts = []
    for one in plans:
        body = build_body(own, far, one.wish, one.way.direction, settings, cut=one.cut, laid=hole.laid)
        clock.lap("body")
        parts.append(_part(own, one.wish, body, one.way.direction, settings))
        clock.lap("mesh")
    return parts, notes


def _halves(site: Site, far: Volume, wish: Wish, settings: ImplantSettings) -> list[_Plan]:
    """The implant cut in two by the best of some planes through its middle, each half with its own way in."""
    points = site.sheet.points_mm[wish.edge_mm < 0]
    middle = points.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((points - middle).T))
    turns = np.arange(CUTS) * np.pi / CUTS
    tried = [
        _halves_of(site, far, wish, travel_mm=settings.travel_mm, middle=middle, across=across)
        for across in np.cos(turns)[:, None] * vectors[:, 2] + np.sin(turns)[:, None] * vectors[:, 1]
    ]
    return min(tried, key=lambda halves: max(half.way.blocked for half in halves))


def _halves_of(site: Site, far: Volume, wish: Wish, *, travel_mm: float, middle: F64, across: F64) -> list[_Plan]:
    """The halves on the two sides of a plane."""
    plans = []
    for side in (across, -across):
        off = (site.sheet.points_mm - middle) @ side
        half = replace(wish, edge_mm=np.maximum(wish.edge_mm, off.astype(np.float32)))
        way = find_way(site, far, half, travel_mm, away=side)
        plans.append(_Plan(half, way, (side, float(middle @ side) - JOINT_MM / 2)))
    return plans


def _part(site: Site, wish: Wish, body: Body, direction: F64, settings: ImplantSettings) -> Part:
    """The mesh of a body, and what was asked of it there."""
    share = covered(site, body.field, wish.edge_mm < 0)
    if share < MIN_COVERED:
        raise InputError(
            f"an implant would cover only {share:.0%} of a hole of {area_cm2(site, wish.edge_mm):.1f} cm2 after a "
            f"clearance of {settings.clearance_mm:g} mm; ask for less clearance"
        )
    raw = extract_surface(body.field, 0.0, inside_above=False)
    mesh, _ = simplified(_largest(raw), settings.max_triangles, settings.mesh_error_mm)
    asked = _asked(mesh.vertices_mm, site, wish, body, settings)
    lines = outlines(site, body.field, settings)
    thickness = wish.thickness_mm.astype(np.float64)
    return Part("implant", mesh, mesh, direction, site.sheet, lines, thickness, asked, body.relief)


def _largest(mesh: Mesh) -> Mesh:
    return max(mesh.shells, key=lambda shell: shell.volume_ml)


def _asked(vertices: F64, site: Site, wish: Wish, body: Body, settings: ImplantSettings) -> F64:
    """(V,) clearance asked for at vertices of the rim that have bone beside them; NaN elsewhere."""
    height, foot = site.sheet.above(vertices)
    thickness, clearance = wish.thickness_mm.ravel()[foot], wish.clearance_mm.ravel()[foot]
    asked = asked_mm(height.astype(np.float32), thickness, clearance, settings).astype(np.float64)
    near, seat = (_read(values, body.field, vertices) for values in (body.near_mm, body.seat_mm))
    rim = (height < -FACE_MM) & (height > -thickness + FACE_MM)
    return np.where(rim & (seat < asked + BESIDE_MM) & (seat - near < RELIEVED_MM), asked, np.nan)


def _read(values: NDArray[np.float32], like: Volume, points: F64) -> NDArray[np.float32]:
    index = like.grid.to_index(points).T
    return trilinear_at(np.ascontiguousarray(values).reshape(-1), like.shape, index)


def _host(site: Site) -> Mesh:
    """The bone around a hole, without what lies far away and without crumbs."""
    index = np.argwhere(site.bone.mask)
    points = site.bone.grid.to_world(index)
    cells = np.rint(site.sheet.cells(points)).astype(int)
    inside = ((cells >= 0) & (cells < np.array(site.edge_mm.shape))).all(axis=1)
    cells, index, points = cells[inside].T, index[inside], points[inside]
    radius, surface = (
        np.linalg.norm(at - site.sheet.centre_mm, axis=1) for at in (points, site.sheet.points_mm[*cells])
    )
    near = (site.edge_mm[*cells] < HOST_WIDTH_MM) & (radius > surface - HOST_WIDTH_MM)
    mask = np.zeros_like(site.bone.mask)
    mask[tuple(index[near].T)] = True
    box = bounding_box(mask)
    if box is None:
        return Mesh.empty()
    part = site.bone.crop(box).with_data(mask[box])
    if site.fraction is not None:
        share = site.fraction.crop(box).data
        part = part.with_data(np.where(mask[box] | (share < HALF), share, np.float32(0.0)))
    mesh = SmoothBone.of(part).mesh()
    shells = [shell for shell in mesh.shells if abs(shell.volume_ml) >= MIN_HOST_ML]
    return simplified(joined(shells), HOST_TRIANGLES, HOST_MM)[0]


__all__ = ["Memory", "design", "design_bodies"]
