"""A text engraved on the inner side of an implant, readable by who looks at that side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from calvaria.implant.parts import Part
from calvaria.implant.places import Places
from calvaria.implant.solids import cut, largest, pose, to_mesh, to_solid, way_out
from calvaria.types import F64, BoolArray
from calvaria.volume.mesh import Mesh

if TYPE_CHECKING:
    from manifold3d import CrossSection, Manifold

LETTER_MM = 5.0
"""Height of a capital letter; our choice: read without a lens."""

DEPTH_MM = 0.4
"""Of the letters; our choice: survives polishing, leaves the strength of the body."""

SPACING = 1.1
"""Letters stand so much wider than printed: on a dome's inner side they come nearer to each other by 5 %."""

LINE_MM = 8.0
"""From line to line."""

BELOW_MM, ABOVE_MM = 1.5, 5.5
"""How far letters reach below and above the line that they stand on."""

EDGE_MM = 5.0
"""Between letters and outlines, as for holes."""

WALL_MM = 2.0
"""Between letters and the rim's wall."""

MIN_THICKNESS_MM = 2.0
"""Thinner places are not engraved."""

MAX_LINES = 3
"""A longer text than fits in one line is broken into up to so many."""

FONT_PX = 200
"""Size at which letters are drawn before their outlines are taken: 0.04 mm a pixel."""

OUTLINE_MM = 0.01
"""How far a letter's outline may be simplified."""

CANDIDATE_MM = 4.0
"""Spacing of the middles that are tried."""

TURNS = 12
"""Directions of the lines that are tried, upright first."""

SAMPLE_MM = 1.5
"""Spacing of the points that stand for the area of a letter."""

OPENING_MM = 0.8
"""How far the cutters begin outside of the body."""


@dataclass(frozen=True, eq=False)
class Lettering:
    """A text laid out on a part.

    Args:
        cutters: one solid a letter, world mm.
        area_mm: (N, 3) points on the outer surface all over the text's area, `SAMPLE_MM` apart.
    """

    cutters: tuple[Manifold, ...]
    area_mm: F64


def engraved(part: Part, text: str) -> tuple[Part, tuple[str, ...]]:
    """A part with a text on its inner side.

    Args:
        part: an implant; its body stays as it is.
        text: what to engrave; an empty one leaves the part as it is.

    Returns:
        The part with its mesh engraved, or as it was where the text has no room, and a note that says so.
    """
    letters, notes = lettering(part, text)
    return (part if letters is None else engrave(part, letters)), notes


def engrave(part: Part, letters: Lettering) -> Part:
    """The part with its mesh engraved."""
    return replace(part, mesh=to_mesh(largest(cut(to_solid(part.mesh), letters.cutters))))


def lettering(part: Part, text: str) -> tuple[Lettering | None, tuple[str, ...]]:
    """Lay a text out on a part's inner side, as near to the middle and as upright (world +z) as it fits.

    Returns:
        The letters and no note; or None and a note why there is no mark; None and none for a text without letters.
    """
    if not text.strip():
        return None, ()
    unknown = sorted({letter for letter in text if _unknown(letter)})
    if unknown:
        return None, (f"{part.name}: no mark: the font has no {' '.join(unknown)}; write it in plain letters",)
    places = Places(part)
    free = _free(places)
    for count in range(1, MAX_LINES + 1):
        lines = _broken(text, count)
        found = _position(places, free, lines)
        if found is not None:
            return _laid_out(places, lines, *found), ()
    return None, (f"{part.name}: no mark: {text!r} in letters of {LETTER_MM:g} mm has no room on it; shorten it",)


def _free(places: Places) -> BoolArray:
    """(I, J) cells of the sheet where a letter may be."""
    shape = places.part.sheet.hole.shape
    cells = np.argwhere(np.ones(shape, np.bool_)).astype(np.float64)
    return places.fit(cells, 0.0, edge_mm=EDGE_MM, wall_mm=WALL_MM, thick_mm=MIN_THICKNESS_MM).reshape(shape)


def _broken(text: str, count: int) -> list[str]:
    """A text in so many lines about equally long, broken at spaces where there are any near."""
    import textwrap

    for width in range(-(-len(text) // count), len(text) + 1):
        lines = textwrap.wrap(text, width)
        if len(lines) <= count:
            return lines
    return [text]


def _position(places: Places, free: BoolArray, lines: list[str]) -> tuple[F64, F64, F64] | None:
    """Where lines fit: (2,) cell of their middle, (2,) cells per mm rightwards and upwards; None where nowhere."""
    wide = max(_width_mm(line) for line in lines)
    high = LINE_MM * (len(lines) - 1) + BELOW_MM + ABOVE_MM
    x = np.linspace(-wide / 2, wide / 2, int(np.ceil(wide / places.cell_mm)) + 1)
    y = np.linspace(-high / 2, high / 2, int(np.ceil(high / places.cell_mm)) + 1)
    xy = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    step = max(round(CANDIDATE_MM / places.cell_mm), 1)
    offset = np.rint(places.middle).astype(int) % step
    middles = offset + step * np.argwhere(free[offset[0] :: step, offset[1] :: step])
    order = np.argsort(np.linalg.norm(middles - places.middle, axis=1), kind="stable")
    for middle in middles[order].astype(np.float64):
        for turn in sorted(np.linspace(-np.pi, np.pi, TURNS, endpoint=False), key=abs):
            right, up = _directions(places, middle, float(turn))
            at = np.rint(middle + xy[:, :1] * right + xy[:, 1:] * up).astype(int)
            if ((at >= 0) & (at < free.shape)).all() and free[at[:, 0], at[:, 1]].all():
                return middle, right, up
    return None


def _directions(places: Places, middle: F64, turn: float) -> tuple[F64, F64]:
    """(2,) cells per mm to the right and upwards, seen from the inner side, for letters turned by an angle."""
    sheet = places.part.sheet
    near, normals = sheet.at(middle + np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]))
    normal = normals[0]
    north = np.array([0.0, 0.0, 1.0]) if abs(normal[2]) < 0.9 else np.array([0.0, -1.0, 0.0])
    up = north - (north @ normal) * normal
    up /= np.linalg.norm(up)
    right = np.cross(normal, up)  # who looks at the inner side looks along the normal
    up, right = np.cos(turn) * up - np.sin(turn) * right, np.cos(turn) * right + np.sin(turn) * up
    inverse = np.linalg.pinv(np.stack([near[1] - near[2], near[3] - near[4]], axis=1) / 2)
    return inverse @ right, inverse @ up


def _laid_out(places: Places, lines: list[str], middle: F64, right: F64, up: F64) -> Lettering:
    """The letters of lines about a middle, each in the tangent plane of the inner surface below it."""
    sheet = places.part.sheet
    cutters, area = [], []
    for number, line in enumerate(lines):
        base = LINE_MM * ((len(lines) - 1) / 2 - number) - (ABOVE_MM - BELOW_MM) / 2
        start = -_width_mm(line) / 2
        for letter in line:
            wide = _advance_mm(letter)
            at = _along(places, middle + base * up, right, start + wide / 2)
            grid = np.meshgrid(
                np.linspace(-wide / 2, wide / 2, int(np.ceil(wide / SAMPLE_MM)) + 1),
                np.linspace(-BELOW_MM, ABOVE_MM, int(np.ceil((BELOW_MM + ABOVE_MM) / SAMPLE_MM)) + 1),
            )
            cells = at + grid[0].reshape(-1, 1) * right + grid[1].reshape(-1, 1) * up
            area.append(sheet.at(cells)[0])
            if not _glyph(letter).is_empty():
                centre = at + LETTER_MM / 2 * up
                frame, origin = _inner_plane(places.part, centre, right)
                shape = _glyph(letter).translate((0.0, -LETTER_MM / 2)).extrude(DEPTH_MM + OPENING_MM)
                cutters.append(shape.translate((0.0, 0.0, -DEPTH_MM)).transform(pose(frame, origin)))
            start += wide
    return Lettering(tuple(cutters), np.concatenate(area))


def _along(places: Places, start: F64, right: F64, distance_mm: float) -> F64:
    """(2,) cell at a distance along the surface from a cell, rightwards."""
    steps = np.linspace(0.0, 1.5 * distance_mm, 60) if distance_mm else np.zeros(1)
    cells = start + steps[:, None] * right
    lengths = np.linalg.norm(np.diff(places.part.sheet.at(cells)[0], axis=0), axis=1)
    run = np.concatenate([[0.0], np.cumsum(lengths)])
    return np.asarray(start + np.interp(abs(distance_mm), run, steps) * right)


def _inner_plane(part: Part, cell: F64, right: F64) -> tuple[F64, F64]:
    """(3, 3) rows right, up, towards the viewer, and (3,) origin of the plane that touches the inner surface."""
    reach = LETTER_MM / 4
    up = np.array([-right[1], right[0]])
    around = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * reach
    points, normals = part.sheet.at(cell + around[:, :1] * right + around[:, 1:] * up)
    near = _near(part.body, points[0], 4 * LETTER_MM)
    depth = np.array([way_out(near, point, -normal) for point, normal in zip(points, normals, strict=True)])
    asked = Places(part).thickness_mm(cell[None])
    depth = np.where(np.isfinite(depth), depth, asked)
    inner = points - depth[:, None] * normals
    viewer = np.cross(inner[1] - inner[2], inner[3] - inner[4])
    viewer *= -np.sign(viewer @ normals[0]) / np.linalg.norm(viewer)
    across = inner[1] - inner[2]
    across = across - (across @ viewer) * viewer
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(viewer, across), viewer]), np.asarray(inner.mean(axis=0))


def _near(mesh: Mesh, point: F64, radius_mm: float) -> Mesh:
    """The triangles of a mesh with a corner near a point."""
    close = np.linalg.norm(mesh.vertices_mm - point, axis=1) < radius_mm
    found = mesh.faces[close[mesh.faces].any(axis=1)]
    used, faces = np.unique(found, return_inverse=True)
    return Mesh(mesh.vertices_mm[used], faces.reshape(-1, 3))


def _width_mm(line: str) -> float:
    return sum(_advance_mm(letter) for letter in line)


@lru_cache(maxsize=256)
def _advance_mm(letter: str) -> float:
    """What a letter takes up along the line."""
    font, scale, _ = _font()
    return float(font.getlength(letter)) * scale * SPACING


@lru_cache(maxsize=256)
def _glyph(letter: str) -> CrossSection:
    """A letter's area, mm: x from its middle, y from the line that it stands on; empty for a space."""
    from manifold3d import CrossSection, FillRule
    from skimage import measure

    find_contours: Callable[..., Any] = measure.find_contours
    font, scale, base = _font()
    middle = MARGIN_PX + font.getlength(letter) / 2
    rings = []
    for contour in find_contours(_bitmap(letter), 0.5):
        rings.append(np.stack([contour[:, 1] - middle, base + MARGIN_PX - contour[:, 0]], axis=1)[:-1] * scale)
    return CrossSection(rings, FillRule.EvenOdd).simplify(OUTLINE_MM) if rings else CrossSection()


MARGIN_PX = FONT_PX // 4
"""Around a letter when it is drawn."""


def _bitmap(letter: str) -> F64:
    """A letter drawn large, 0 to 1."""
    from PIL import Image, ImageDraw

    font, _, _ = _font()
    size = (int(font.getlength(letter)) + 2 * MARGIN_PX, FONT_PX * 3 // 2 + 2 * MARGIN_PX)
    image = Image.new("L", size)
    ImageDraw.Draw(image).text((MARGIN_PX, MARGIN_PX), letter, fill=255, font=font)
    return np.asarray(image, np.float64) / 255


def _unknown(letter: str) -> bool:
    """Whether the font has no such letter: it then draws the one for what is missing."""
    return letter != MISSING and np.array_equal(_bitmap(letter), _bitmap(MISSING))


MISSING = "\uffff"
"""What no font has."""


@lru_cache(maxsize=1)
def _font() -> tuple[Any, float, float]:
    """Pillow's own font, mm per pixel, and the row of the line that letters stand on."""
    from PIL import ImageFont

    font = ImageFont.load_default(FONT_PX)
    _, top, _, bottom = font.getbbox("H")
    return font, LETTER_MM / (bottom - top), bottom


__all__ = ["Lettering", "engrave", "engraved", "lettering"]
