"""The sheet that the pictures of a design stand on: titles, letters, rulers, colour bars, legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calvaria import __version__
from calvaria.report.design_scene import UNKNOWN, Scale, part_colour
from calvaria.report.mesh_raster import SUPERSAMPLING
from calvaria.report.raycast import Camera
from calvaria.report.render import BACKGROUND, Picture
from calvaria.report.scene import Colour
from calvaria.report.sheet import BONE, FAINT, INK, REFERENCE, font
from calvaria.report.views import View

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from calvaria.implant.parts import Design

GAP_PX, HEADER_PX, FOOTER_PX = 6, 62, 46

COLUMNS = 3

LABEL_SHADE = 0.62
"""How far what lies below a text is darkened."""

VERDICT_COLOURS: dict[str, Colour] = {"pass": (112, 190, 120), "warn": (236, 186, 72), "fail": (240, 96, 86)}
"""Of checks: green, amber, red; always with the word."""

RULERS_MM = (100, 50, 20, 10, 5)
MAX_RULER_PX = 120


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of the sheet, and what is written on it.

    Args:
        title: over it.
        note: under the title.
        picture: (H, W, 3).
        camera: that took it.
        view: that the camera looks in.
        scale: colours of its values; None: no colour bar.
        plot: (H, W, 3) to stand below it; None: none.
    """

    title: str
    note: str
    picture: Picture
    camera: Camera
    view: View
    scale: Scale | None = None
    plot: Picture | None = None


def design_sheet(design: Design, panels: Sequence[Panel], cell_px: tuple[int, int]) -> Image:
    """Pictures in rows of three, each in a cell of that width and height."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    width, height = cell_px
    rows = -(-len(panels) // COLUMNS)
    size = (COLUMNS * (width + GAP_PX) + GAP_PX, HEADER_PX + rows * (height + GAP_PX) + FOOTER_PX)
    sheet = Pillow.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, design, size[0])
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        corner = (GAP_PX + column * (width + GAP_PX), HEADER_PX + row * (height + GAP_PX))
        sheet.paste(Pillow.fromarray(panel.picture), corner)
        if panel.plot is not None:
            sheet.paste(Pillow.fromarray(panel.plot), (corner[0], corner[1] + panel.picture.shape[0]))
        _words(sheet, panel, corner)
    _footer(draw, design, size)
    return sheet


def _header(draw: ImageDraw, design: Design, width: int) -> None:
    """What the design is, and whether it passed its checks."""
    count, settings = len(design.parts), design.settings
    title = "Implant" if count == 1 else f"{count} implants"
    asked_mm = design.asked_thickness_mm
    own = "as thick as was learned" if design.surface_from == "learned" else "as thick as the bone"
    body = own if asked_mm is None else f"{asked_mm:g} mm thick"
    volume = sum(part.mesh.volume_ml for part in design.parts)
    draw.text((GAP_PX + 8, HEADER_PX / 2), title, INK, font(24), anchor="lm")
    left = GAP_PX + 30 + draw.textlength(title, font(24))
    facts = f"{volume:.1f} ml   {body}   clearance {settings.clearance_mm:g} mm asked"
    draw.text((left, HEADER_PX / 2 + 2), facts, FAINT, font(16), anchor="lm")
    text, worst = verdict(design)
    draw.text((width - GAP_PX - 12, HEADER_PX / 2), text, VERDICT_COLOURS.get(worst, FAINT), font(18), anchor="rm")


def verdict(design: Design) -> tuple[str, str]:
    """In words, and the worst verdict."""
    if not design.checks:
        return "not checked", ""
    names = {v: list(dict.fromkeys(c.name for c in design.checks if c.verdict == v)) for v in ("fail", "warn")}
    for worst, word in (("fail", "FAILED"), ("warn", "to be looked at")):
        if names[worst]:
            more = f" and {len(names[worst]) - 2} more" if len(names[worst]) > 2 else ""
            return f"{word}: {', '.join(names[worst][:2])}{more}", worst
    return f"all {len(design.checks)} checks passed", "pass"


def _words(sheet: Image, panel: Panel, corner: tuple[int, int]) -> None:
    """Title, anatomical letters, ruler and colour bar of a picture."""
    from PIL import ImageDraw

    left, top = corner
    height, width = panel.picture.shape[:2]
    _label(sheet, (left + 12, top + 10), panel.title, INK, (18, "la"))
    _label(sheet, (left + 12, top + 36), panel.note, FAINT, (14, "la"))
    sides = [*panel.view.letters(), *_upright(panel.view).letters()]
    places = ((12, height / 2), (width - 12, height / 2), (width / 2, 14), (width / 2, height - 14))
    for letter, (x, y) in zip(sides, places, strict=True):
        _label(sheet, (left + x, top + y), letter, FAINT, (15, "mm"))
    px_per_mm = 1 / (panel.camera.pixel_mm * SUPERSAMPLING)
    length = next((mm for mm in RULERS_MM if mm * px_per_mm <= MAX_RULER_PX), RULERS_MM[-1])
    x, y = left + 14, top + height - 14
    end = x + length * px_per_mm
    draw = ImageDraw.Draw(sheet)
    for colour, thick in ((BACKGROUND, 6), (INK, 2)):
        draw.line((x, y, end, y), colour, thick)
        for tick in (x, end):
            draw.line((tick, y - 4, tick, y + 4), colour, thick)
    _label(sheet, (end + 9, y), f"{length} mm", INK, (13, "lm"))
    if panel.scale:
        _bar(draw, panel.scale, (left + width + 6, top + 62), height - 90)


def _label(sheet: Image, at: tuple[float, float], text: str, colour: Colour, style: tuple[int, str]) -> None:
    """Text that can be read on bone too: what lies below it is darkened. The style is its size and anchor."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    if not text:
        return
    size, anchor = style
    draw = ImageDraw.Draw(sheet)
    left, top, right, bottom = draw.textbbox(at, text, font(size), anchor=anchor)
    box = (int(left) - 4, int(top) - 3, int(right) + 5, int(bottom) + 4)
    under = sheet.crop(box)
    sheet.paste(Pillow.blend(under, Pillow.new("RGB", under.size, BACKGROUND), LABEL_SHADE), box[:2])
    draw.text(at, text, colour, font(size), anchor=anchor)


def _upright(view: View) -> View:
    """The view whose left and right are this one's top and bottom."""
    x, y, z = (float(v) for v in view.axes()[0])
    return View(view.name, view.direction, (x, y, z))


def _bar(draw: ImageDraw, scale: Scale, corner: tuple[int, int], height: int) -> None:
    """A colour bar, the greatest value on top, with what was asked pointed out."""
    left, top = corner
    low, high = scale.values[0], scale.values[-1]
    for offset, colour in enumerate(scale.colours_of(np.linspace(high, low, height))):
        red, green, blue = (int(c) for c in colour)
        draw.line((left, top + offset, left + 16, top + offset), (red, green, blue))
    draw.text((left, top - 13), "mm", FAINT, font(13), anchor="lm")
    asked = scale.mark_mm
    for value in dict.fromkeys([low, *scale.values, high]):
        at = top + (high - value) / (high - low) * (height - 1)
        if asked is not None and abs(value - asked) * height < 16 * (high - low):
            continue
        draw.line((left + 16, at, left + 21, at), FAINT)
        draw.text((left + 26, at), f"{value:.3g}", INK, font(13), anchor="lm")
    if asked is not None:
        at = top + (high - asked) / (high - low) * (height - 1)
        draw.polygon([(left + 17, at), (left + 25, at - 5), (left + 25, at + 5)], fill=INK)
        draw.text((left + 29, at - 6), f"{asked:g}", INK, font(13), anchor="lm")
        draw.text((left + 29, at + 7), "asked", FAINT, font(12), anchor="lm")


def _footer(draw: ImageDraw, design: Design, size: tuple[int, int]) -> None:
    """What the colours mean, and what this is not."""
    middle, x = size[1] - FOOTER_PX / 2, GAP_PX + 8.0
    entries = [(BONE, "bone"), *((part_colour(n), part.name) for n, part in enumerate(design.parts))]
    for colour, name in [*entries, (REFERENCE, "the way it is put in"), (UNKNOWN, "no value there")]:
        draw.rounded_rectangle((x, middle - 7, x + 14, middle + 7), 3, fill=colour)
        draw.text((x + 22, middle), name, INK, font(14), anchor="lm")
        x += 46 + draw.textlength(name, font(14))
    text = f"calvaria {__version__}: research software, not a medical device"
    draw.text((size[0] - GAP_PX - 12, middle), text, FAINT, font(14), anchor="rm")


__all__ = ["VERDICT_COLOURS", "Panel", "design_sheet", "verdict"]
