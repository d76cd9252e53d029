"""The picture of a design: the implants in place and on their way in, their maps, and their inner side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.report.design_scene import (
    UNKNOWN,
    Scale,
    clearance_on,
    clearance_scale,
    directions_of,
    mean_direction,
    part_colour,
    rest_of_skull,
    thickness_on,
    thickness_scale,
)
from calvaria.report.design_sheet import Panel, design_sheet
from calvaria.report.mesh_raster import Solid, lit, look, mesh_camera, render_meshes, solid
from calvaria.report.raycast import Camera
from calvaria.report.render import BACKGROUND, Picture
from calvaria.report.scene import Colour
from calvaria.report.sheet import BONE, FAINT, INK, REFERENCE, font
from calvaria.report.views import PARALLEL_COSINE, View, frame_axes
from calvaria.types import F64
from calvaria.volume.mesh import Mesh
from calvaria.volume.rotation import across

if TYPE_CHECKING:
    from PIL.Image import Image

    from calvaria.implant.parts import Design, Maps, Part

CELL_PX = (500, 430)
"""Width and height of a picture on the sheet."""

PLOT_PX, BAR_PX = 120, 92

EXPLODED_MM = 25.0
"""How far an implant is drawn out, against its way in."""

ARROW_MM, ARROW_GAP_MM, SHAFT_MM, HEAD_MM = 26.0, 5.0, 1.3, 3.6
"""Length of the arrow, its distance from the implant, radii of its shaft and of its head."""

BESIDE_MM = 22.0
"""So much of the bone around an implant is shown with it on its way in."""

RIBBON_MM = 5.0
"""The clearance is also painted on what lies within this of the rim's walls, which from outside are seen edge-on."""

NO_MAP = "not measured: the design has no map of it"


def render_design(design: Design) -> Image:
    """A sheet of pictures of a design.

    For each side that implants are put in from, two rows. First: in place, seen along the way in; the same on the
    whole head; drawn out by 25 mm, with an arrow the way it goes in. Second: the implants alone, coloured by thickness
    and by clearance from outside, and their inner side. Under the clearance, the least and the most of it along the
    rim. Where the design has no maps, the pictures say so.

    Args:
        design: with at least one implant.

    Returns:
        An RGB image, about 1530 pixels wide.

    Raises:
        InputError: there is no implant in the design.
        GeometryError: the design's frame is not a proper map.
    """
    if not design.parts:
        raise InputError("there is no implant in this design: there is nothing to draw")
    stage = _Stage.of(design)
    groups = directions_of(design)
    makers: list[Callable[[], Panel]] = []
    for group in groups:
        side = _Side(stage, tuple(group))
        makers += [side.in_place, side.on_the_head, side.drawn_out, side.thickness, side.clearance, side.inner]
    # The work lies in numpy, which lets other threads run.
    with ThreadPoolExecutor(min(len(makers), os.cpu_count() or 1)) as pool:
        panels = list(pool.map(lambda make: make(), makers))
    return design_sheet(design, panels, CELL_PX)


@dataclass(frozen=True, eq=False)
class _Stage:
    """A design made ready to be drawn."""

    design: Design
    axes: F64
    host: Solid
    rest: Solid
    parts: tuple[Solid, ...]
    bodies: tuple[Solid, ...]

    @classmethod
    def of(cls, design: Design) -> _Stage:
        axes = frame_axes(design.frame_to_world)
        meshes = [design.host, rest_of_skull(design), *(part.mesh for part in design.parts)]
        colours: list[Colour] = [BONE, BONE, *(part_colour(n) for n in range(len(design.parts)))]
        others = [part.body for part in design.parts if part.body is not part.mesh]
        with ThreadPoolExecutor(2) as pool:
            solids = list(pool.map(solid, [*meshes, *others], [*colours, *([UNKNOWN] * len(others))]))
        parts, more = solids[2 : len(meshes)], iter(solids[len(meshes) :])
        bodies = [
            one.painted(UNKNOWN) if part.body is part.mesh else next(more)
            for part, one in zip(design.parts, parts, strict=True)
        ]
        return cls(design, axes, solids[0], solids[1], tuple(parts), tuple(bodies))


@dataclass(frozen=True, eq=False)
class _Side:
    """The pictures of the implants that are put in from about the same side."""

    stage: _Stage
    group: tuple[int, ...]

    def in_place(self) -> Panel:
        view = self._along()
        camera = self._camera(view, self._points(), 0.07)
        return self._panel("in place", "seen along the way in", [*self._bone, *self.stage.parts], camera, view)

    def on_the_head(self) -> Panel:
        view = self._from_beside(0.55)
        points = np.concatenate([one.vertices_mm for one in [*self._bone, *self.stage.parts]])
        camera = self._camera(view, points)
        return self._panel("on the head", "", [*self._bone, *self.stage.parts], camera, view)

    def drawn_out(self) -> Panel:
        view = self._from_beside(1.5)
        shown = [*self._bone, *(one for n, one in enumerate(self.stage.parts) if n not in self.group)]
        points = [self._bone_beside()]
        for part, one in self._members():
            moved = one.moved(-EXPLODED_MM * part.direction)
            arrow = solid(_arrow(moved.vertices_mm.astype(np.float64), part.direction), REFERENCE)
            shown += [moved, arrow]
            points += [moved.vertices_mm, arrow.vertices_mm]
        camera = self._camera(view, np.concatenate(points), 0.04)
        title = "the way in" if len(self.group) == 1 else "the ways in"
        return self._panel(title, f"drawn out by {EXPLODED_MM:g} mm", shown, camera, view)

    def thickness(self) -> Panel:
        view, (width, height) = self._along(), CELL_PX
        camera = self._camera(view, self._points(), size_px=(width - BAR_PX, height))
        maps, bodies = self._maps(), [self.stage.bodies[n] for n in self.group]
        if maps is None:
            return self._panel("thickness", NO_MAP, bodies, camera, view)
        scale = thickness_scale(self.stage.design)
        values = [thickness_on(one.thickness_mm[body.origin], body) for one, body in zip(maps, bodies, strict=True)]
        painted = [body.painted(scale.colours_of(v)) for v, body in zip(values, bodies, strict=True)]
        note = _range([one.thickness_mm for one in maps])
        return Panel("thickness", note, render_meshes(painted, camera), camera, view, scale)

    def clearance(self) -> Panel:
        view = self._along()
        bodies, maps = [self.stage.bodies[n] for n in self.group], self._maps()
        width, height = CELL_PX
        camera = self._camera(view, self._points(), border=0.14, size_px=(width - BAR_PX, height - PLOT_PX))
        if maps is None:
            return self._panel("clearance", NO_MAP, bodies, camera, view)
        scale = clearance_scale(self.stage.design)
        values = [clearance_on(one.clearance_mm[body.origin], body) for one, body in zip(maps, bodies, strict=True)]
        painted = [body.painted(scale.colours_of(v)) for v, body in zip(values, bodies, strict=True)]
        hits, own = look(painted, camera)
        walls = np.concatenate([body.vertices_mm[np.isfinite(v)] for v, body in zip(values, bodies, strict=True)])
        known = np.concatenate([v[np.isfinite(v)] for v in values])
        if len(known):
            _ribbon(hits.index.T, own, walls, known, scale)
        picture = lit(hits, own, camera)
        plot = _rim_plot([part for part, _ in self._members()], maps, scale)
        return Panel("clearance", _range([one.clearance_mm for one in maps]), picture, camera, view, scale, plot)

    def inner(self) -> Panel:
        along = self._along()
        x, y, z = along.direction
        view = View("inner side", (-x, -y, -z), along.up)
        camera = self._camera(view, self._points())
        return self._panel("inner side", "", [one for _, one in self._members()], camera, view)

    @property
    def _bone(self) -> list[Solid]:
        return [self.stage.host, self.stage.rest]

    def _members(self) -> list[tuple[Part, Solid]]:
        return [(self.stage.design.parts[n], self.stage.parts[n]) for n in self.group]

    def _maps(self) -> list[Maps] | None:
        maps = self.stage.design.maps
        return [maps[n] for n in self.group] if len(maps) == len(self.stage.design.parts) else None

    def _points(self) -> NDArray[np.float32]:
        return np.concatenate([one.vertices_mm for _, one in self._members()])

    def _bone_beside(self) -> NDArray[np.float32]:
        """Of the bone, what lies in a box around the implants."""
        points, host = self._points(), self.stage.host.vertices_mm
        low, high = points.min(axis=0) - BESIDE_MM, points.max(axis=0) + BESIDE_MM
        return np.concatenate([points, host[((host > low) & (host < high)).all(axis=1)]])

    def _along(self) -> View:
        """From outside, along the way in."""
        way = self.stage.axes.T @ mean_direction(self.stage.design, self.group)
        return _view(way)

    def _from_beside(self, turn: float) -> View:
        """From outside and the front (for implants at the front: and the side), a little from above."""
        way = self.stage.axes.T @ mean_direction(self.stage.design, self.group)
        middle = self.stage.axes.T @ (self._points().mean(axis=0) - self.stage.design.frame_to_world[:3, 3])
        front = np.array([0.0, -1.0, 0.35])
        side = np.array([1.0 if middle[0] >= 0 else -1.0, -0.3, 0.35])
        towards = front if abs(way @ front) < 0.75 * float(np.linalg.norm(front)) else side
        towards = towards - (towards @ way) * way
        return _view(way - turn * towards / np.linalg.norm(towards))

    def _camera(
        self,
        view: View,
        points: NDArray[np.float32],
        border: float = 0.1,
        size_px: tuple[int, int] | None = None,
    ) -> Camera:
        """That holds some points, in a whole cell unless it is smaller."""
        return mesh_camera(view.axes() @ self.stage.axes.T, points, size_px or CELL_PX, border)

    def _panel(self, title: str, note: str, shown: Sequence[Solid], camera: Camera, view: View) -> Panel:
        return Panel(title, note, render_meshes(shown, camera), camera, view)


def _view(direction: F64) -> View:
    away = direction / np.linalg.norm(direction)
    x, y, z = (float(v) for v in away)
    return View("", (x, y, z), (0.0, 0.0, 1.0) if abs(z) < PARALLEL_COSINE else (0.0, -1.0, 0.0))


def _range(values: Sequence[F64]) -> str:
    """The least and the most of some maps, in words."""
    known = np.concatenate([one[np.isfinite(one)] for one in values])
    return f"{known.min():.2f} to {known.max():.2f} mm" if len(known) else "measured nowhere"


def _arrow(points_mm: F64, direction: F64) -> Mesh:
    """An arrow the way an implant goes in, outside of it."""
    along = points_mm @ direction
    flat = points_mm - along[:, None] * direction
    middle = (flat.min(axis=0) + flat.max(axis=0)) / 2
    near = np.linalg.norm(flat - middle, axis=1)
    tip = middle + (along[near <= max(12.0, float(near.min()))].min() - ARROW_GAP_MM) * direction
    side, other = across(direction)
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)[:, None]
    ring = np.cos(turns) * side + np.sin(turns) * other  # (24, 3), clockwise seen along the arrow
    neck = 2.6 * HEAD_MM
    stations = ((ARROW_MM, SHAFT_MM), (neck, SHAFT_MM), (neck, HEAD_MM))
    rings = [tip - back * direction + radius * ring for back, radius in stations]
    vertices = np.concatenate([*rings, [tip - ARROW_MM * direction, tip]])
    this = np.arange(len(turns))
    after, start, end = np.roll(this, -1), len(vertices) - 2, len(vertices) - 1
    faces = [np.stack([np.full_like(this, start), after, this], axis=1)]
    for step in range(len(rings) - 1):
        a, b = step * len(turns), (step + 1) * len(turns)
        faces += [np.stack([a + this, a + after, b + after], axis=1), np.stack([a + this, b + after, b + this], axis=1)]
    last = (len(rings) - 1) * len(turns)
    faces.append(np.stack([last + this, last + after, np.full_like(this, end)], axis=1))
    return Mesh(vertices, np.concatenate(faces))


def _ribbon(
    places: NDArray[np.float32], colours: NDArray[np.float32], walls: NDArray[np.float32], values: F64, scale: Scale
) -> None:
    """Paint, in place, what lies near the rim's walls with their colours, fading."""
    from scipy.spatial import cKDTree

    apart, nearest = cKDTree(walls).query(places, distance_upper_bound=RIBBON_MM, workers=2)
    near = np.flatnonzero(np.isfinite(apart))
    share = np.clip(2.5 - 2.5 * apart[near] / RIBBON_MM, 0, 1)[:, None]
    colours[near] += (share * (scale.colours_of(values[nearest[near]]) - colours[near])).astype(np.float32)


def _rim_plot(parts: Sequence[Part], maps: Sequence[Maps], scale: Scale) -> Picture:
    """The least and the most clearance along the rims, unrolled, one after the other."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    width = CELL_PX[0]
    plot = Pillow.new("RGB", (width, PLOT_PX), BACKGROUND)
    draw = ImageDraw.Draw(plot)
    left, right, top, bottom = 52, width - 18, 14, PLOT_PX - 24
    most = scale.values[-1]
    lines = [line for part, one in zip(parts, maps, strict=True) for line in _along_rim(part, one)]
    whole = float(sum(line[0][-1] for line in lines))
    if not lines:
        draw.text((width / 2, PLOT_PX / 2), "its course along the rim is not known", FAINT, font(14), anchor="mm")
        return np.asarray(plot)

    def place(mm: float, value: float) -> tuple[float, float]:
        share = min(max(value / most, 0.0), 1.0)
        return left + mm / max(whole, 1e-9) * (right - left), bottom - share * (bottom - top)

    for value in (0.0, most):
        draw.line((*place(0, value), *place(whole, value)), (58, 62, 70))
        draw.text((left - 6, place(0, value)[1]), f"{value:.3g}", FAINT, font(12), anchor="rm")
    start = 0.0
    for along, least, largest in lines:
        low, high = ([place(start + mm, v) for mm, v in zip(along, values, strict=True)] for values in (least, largest))
        draw.polygon([*low, *high[::-1]], fill=(96, 84, 66))
        for points in (low, high):
            draw.line(points, (236, 206, 160), 1)
        start += float(along[-1])
        if start < whole:
            draw.line((*place(start, 0), *place(start, most)), (58, 62, 70))
    asked = scale.mark_mm or 0.0
    for dash in range(left, right, 12):
        draw.line((dash, place(0, asked)[1], min(dash + 6, right), place(0, asked)[1]), INK)
    draw.text((left - 6, place(0, asked)[1]), f"{asked:.3g}", INK, font(12), anchor="rm")
    draw.text((right, bottom + 12), f"{whole:.0f} mm along the rim", FAINT, font(12), anchor="rm")
    draw.text((left, bottom + 12), "mm: from the least to the most over its depth", FAINT, font(12), anchor="lm")
    return np.asarray(plot)


def _along_rim(part: Part, maps: Maps) -> list[tuple[F64, F64, F64]]:
    """For each outline: (R + 1,) mm along it, the least and the most clearance of the wall beneath."""
    from scipy.spatial import cKDTree

    rim = np.flatnonzero(np.isfinite(maps.clearance_mm))
    edges = [outline.points_mm for outline in part.outline if len(outline.points_mm) > 2]
    if not len(rim) or not edges:
        return []
    _, foot = cKDTree(np.concatenate(edges)).query(part.body.vertices_mm[rim])
    total = sum(len(edge) for edge in edges)
    least, most = np.full(total, np.inf), np.full(total, -np.inf)
    np.minimum.at(least, foot, maps.clearance_mm[rim])
    np.maximum.at(most, foot, maps.clearance_mm[rim])
    lines, start = [], 0
    for edge in edges:
        own = slice(start, start + len(edge))
        start += len(edge)
        known = np.flatnonzero(np.isfinite(least[own]))
        if not len(known):
            continue
        steps = np.linalg.norm(np.diff(edge, axis=0, append=edge[:1]), axis=1)
        along, at = np.append(0.0, np.cumsum(steps)), np.arange(len(edge) + 1)
        low, high = (np.interp(at, known, v[own][known], period=len(edge)) for v in (least, most))
        lines.append((along, low, high))
    return lines


__all__ = ["render_design"]
