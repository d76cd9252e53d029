"""The picture of a case: the result beside the reference and the defect, from the sides that show the hole."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.files import atomic_path
from calvaria.report.raycast import Camera, Hits, cast, prepare, recast
from calvaria.report.render import BACKGROUND, Lit, camera_for, fitting, layer_shares, lighting, shade
from calvaria.report.scene import Colour, Layer, Scene, build_scenes
from calvaria.report.views import VIEWS, View, frame_axes, view_onto
from calvaria.types import F32
from calvaria.volume.components import largest_component
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

BONE: Colour = (224, 216, 198)
"""Ivory: the defective skull."""

PATCH: Colour = (240, 134, 46)
"""Orange: the patch."""

REFERENCE: Colour = (72, 160, 214)
"""Blue: the reference; distinguished from orange by the colour-blind too."""

LEFT_OPEN: Colour = (198, 92, 190)
"""Magenta: what is missing in openings that were left."""

FACED_COSINE = 0.6
"""An opening that was left is shown by a view within 53 degrees of the one straight onto it."""

INK: Colour = (232, 234, 238)
FAINT: Colour = (150, 156, 166)

CELL_PX = 340
GAP_PX = 6
HEADER_PX = 40
FOOTER_PX = 46

COLUMNS = 4
SAME_VIEW_COSINE = 0.9
"""A named view within 26 degrees of the view onto the patch would show the same again."""

RULER_MM = 50


SURE: Colour = (70, 110, 190)
DOUBTFUL: Colour = (215, 60, 45)
"""A patch that may be off by nothing is blue, ..."""

DOUBTFUL_MM = 2.0
"""... one that may be off by this or more is red."""

PATCH_SHARE = 0.05
"""Where the patch has less of the surface than this, its colour does not show."""

OffBy = Callable[[NDArray[np.floating]], NDArray[np.floating]]
"""Points (N, 3), world mm -> how far the patch may be off there, mm."""


@dataclass(frozen=True)
class _Row:
    title: str
    note: str
    added: Layer | None
    off_by: OffBy | None = None


def render_case(
    defective: Volume,
    patch: Volume | None,
    reference: Volume | None = None,
    frame: ArrayLike | None = None,
    left_open: Volume | None = None,
    *,
    off_by: OffBy | None = None,
) -> Image:
    """A sheet of pictures of one case.

    Rows: the result (defective skull and patch), how far the patch may be off, the reference if there is one, the
    openings that were left, and the defective skull alone.
    Columns: straight onto the patch, and three named views that show it and the head best. All pictures have one
    scale. An empty patch is said in words.

    Args:
        defective: mask of the defective skull.
        patch: mask of the patch, on any grid; None or empty: no defect was found.
        reference: mask of the true patch, on any grid, where it is known.
        frame: (4, 4) canonical -> world LPS mm: a tilted head is shown upright; None: as it lies in the world.
        left_open: mask, on any grid, of what is missing in openings that were not filled.
        off_by: how far the patch may be off, where that can be said.

    Returns:
        An RGB image, about 1400 pixels wide.

    Raises:
        InputError: a volume is not a mask, or the defective skull is empty.
        GeometryError: ``frame`` is not a proper map.
    """
    axes = frame_axes(frame)
    found = patch if patch is not None and patch.mask.any() else None
    known = reference if reference is not None and reference.mask.any() else None
    left = left_open if left_open is not None and left_open.mask.any() else None
    rows = _rows(found, known, left, off_by, compared=reference is not None)
    skull = Layer(defective.with_data(defective.mask), BONE, "defective skull")
    # Rows that show the same in other colours share a scene.
    added = list({id(row.added): row.added for row in rows if row.added}.values())
    with ThreadPoolExecutor(1) as beside:
        chosen = beside.submit(_views, defective, known if found is None else found, left, axes)
        scenes = build_scenes(skull, added)
        if scenes is None:
            raise InputError("the defective skull is empty: there is nothing to draw")
        views = chosen.result()
    base, of = scenes[0], {id(layer): scene for layer, scene in zip(added, scenes[1:], strict=True)}
    shown = [of[id(row.added)] if row.added else base for row in rows]
    pictures = _pictures(base, shown, rows, [view.axes() @ axes.T for view in views])
    return _sheet(rows, views, *pictures)


def doubt_colours(off_by_mm: NDArray[np.floating]) -> F32:
    """(N, 3) colours, 0-255, from blue (0) to red (`DOUBTFUL_MM` and more)."""
    share = np.clip(np.asarray(off_by_mm, np.float32) / np.float32(DOUBTFUL_MM), 0, 1)[:, None]
    return np.asarray(share * np.array(DOUBTFUL, np.float32) + (1 - share) * np.array(SURE, np.float32), np.float32)


def save_png(path: str | Path, image: Image | NDArray[np.uint8]) -> Path:
    """Write a picture; written beside and renamed, so a file is whole or not there.

    Args:
        path: ends in ``.png``; its folder exists.
        image: a Pillow image, or (H, W, 3) uint8.

    Returns:
        The path.

    Raises:
        InputError: another ending, a folder that is not there, an array that is no picture, or the disk refuses.
    """
    from PIL import Image as Pillow

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path.name}: pictures are written as PNG; let the name end in .png")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"{path.name}: a picture is (H, W, 3) uint8; got {image.shape} {image.dtype}")
        image = Pillow.fromarray(image)
    with atomic_path(path) as part:
        image.save(part, format="PNG")
    return path


def choose_views(defective: Volume, aim: Volume | None, axes: NDArray[np.float64]) -> list[View]:
    """Onto the patch; then front or back, the side, and the top, whichever face it and show something else."""
    if aim is None:
        return [VIEWS[name] for name in ("front", "left", "top", "oblique")]
    onto = view_onto(aim, defective, axes)
    away = onto.axes()[2]
    facing = {name: float(VIEWS[name].axes()[2] @ away) for name in ("front", "back", "left", "right", "top")}
    face, side = max("front", "back", key=facing.__getitem__), max("left", "right", key=facing.__getitem__)
    names = [name for name in (face, side, "top") if facing[name] < SAME_VIEW_COSINE]
    if len(names) < COLUMNS - 1:
        names.append("front" if face == "back" else "oblique")
    return [onto, *(VIEWS[name] for name in names)]


def _views(defective: Volume, aim: Volume | None, left: Volume | None, axes: NDArray[np.float64]) -> list[View]:
    """The views of the columns; none of an empty skull."""
    if not defective.data.any():
        return []
    views = choose_views(defective, aim, axes)
    return views if left is None else _showing(left, defective, axes, views)


def _showing(left: Volume, defective: Volume, axes: NDArray[np.float64], views: list[View]) -> list[View]:
    """The views, the last but for one onto what was left open if none of them shows it."""
    largest = largest_component(left)
    onto = view_onto(largest, defective, axes, "left open")
    if max(float(view.axes()[2] @ onto.axes()[2]) for view in views) > FACED_COSINE:
        return views
    return [*views[: COLUMNS - 1], onto]


def _rows(
    found: Volume | None, known: Volume | None, left: Volume | None, off_by: OffBy | None, *, compared: bool
) -> list[_Row]:
    if found is None:
        rows = [_Row("result", "no defect found", None)]
    else:
        patch = Layer(found, PATCH, "patch")
        rows = [_Row("result", f"patch {found.volume_ml:.1f} ml", patch)]
        if off_by is not None:
            note = f"blue 0 mm, red {DOUBTFUL_MM:g} mm or more"
            rows.append(_Row("may be off by", note, patch, off_by))
    if known is not None:
        rows.append(_Row("reference", f"{known.volume_ml:.1f} ml", Layer(known, REFERENCE, "reference")))
    elif compared:
        rows.append(_Row("reference", "empty: no bone is missing", None))
    if left is not None:
        rows.append(_Row("left open", f"{left.volume_ml:.1f} ml", Layer(left, LEFT_OPEN, "left open")))
    if any(row.added for row in rows):
        rows.append(_Row("defective skull", "", None))
    return rows


def _pictures(
    base: Scene, scenes: Sequence[Scene], rows: Sequence[_Row], directions: Sequence[NDArray[np.float64]]
) -> tuple[list[list[NDArray[np.uint8]]], float]:
    """Pictures by row and column, and their common span in mm."""
    distinct = {id(scene): scene for scene in (base, *scenes)}
    with ThreadPoolExecutor(min(COLUMNS, os.cpu_count() or 1)) as pool:
        ready = dict(zip(distinct, pool.map(prepare, distinct.values()), strict=True))
        bare, surfaces = ready[id(base)], [ready[id(scene)] for scene in scenes]
        fits = list(pool.map(lambda axes: fitting(list(ready.values()), axes), directions))
    span = max(fit[1] for fit in fits)

    def column(axes: NDArray[np.float64], centre: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
        camera = camera_for(axes, centre, span, CELL_PX)
        hits = cast(bare, camera)
        met: dict[int, tuple[Hits, Lit | None]] = {}
        cells = []
        for scene, surface, row in zip(scenes, surfaces, rows, strict=True):
            if id(scene) not in met:
                new = hits if scene is base else recast(surface, camera, hits, scene.layers[-1][0])
                met[id(scene)] = new, lighting(scene, new, camera) if new.flat.size else None
            seen, lit = met[id(scene)]
            painted = None if row.off_by is None else _doubt_colours(scene, seen, camera, row.off_by)
            cells.append(shade(scene, seen, camera, CELL_PX, colours=painted, lit=lit))
        return cells

    # The loops over rays lie in numpy and scipy, which let other threads run.
    with ThreadPoolExecutor(min(COLUMNS, os.cpu_count() or 1)) as pool:
        columns = list(pool.map(column, directions, (centre for centre, _ in fits)))
    return [list(row) for row in zip(*columns, strict=True)], span


def _doubt_colours(scene: Scene, hits: Hits, camera: Camera, off_by: OffBy) -> F32:
    """(N, 3) colours of a surface whose last layer is coloured by how far it may be off."""
    share = layer_shares(scene, hits, camera)
    colours = share @ np.array([colour for _, colour in scene.layers], np.float32)
    on_patch = share[:, -1] > PATCH_SHARE
    mapped = doubt_colours(off_by(scene.grid.to_world(hits.index[:, on_patch].T)))
    mix = share[on_patch, -1:]
    bone = np.array(scene.layers[0][1], np.float32)
    colours[on_patch] = mix * mapped + (1 - mix) * bone
    return np.asarray(colours, np.float32)


def _sheet(
    rows: Sequence[_Row], views: Sequence[View], pictures: Sequence[Sequence[NDArray[np.uint8]]], span_mm: float
) -> Image:
    from PIL import Image as Pillow
    from PIL import ImageDraw

    step = CELL_PX + GAP_PX
    size = (len(views) * step + GAP_PX, HEADER_PX + len(rows) * step + FOOTER_PX)
    sheet = Pillow.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, view in enumerate(views):
        left = GAP_PX + column * step
        draw.text((left + CELL_PX / 2, HEADER_PX / 2 + 4), view.name, INK, font(18), anchor="mm")
        for row, cells in enumerate(pictures):
            top = HEADER_PX + row * step
            sheet.paste(Pillow.fromarray(cells[column]), (left, top))
            for letter, x in zip(view.letters(), (left + 10, left + CELL_PX - 10), strict=True):
                draw.text((x, top + CELL_PX / 2), letter, FAINT, font(14), anchor="mm")
    for number, row_ in enumerate(rows):
        top = HEADER_PX + number * step
        draw.text((GAP_PX + 8, top + 4), row_.title, INK, font(17))
        draw.text((GAP_PX + 8, top + 26), row_.note, _note_colour(row_), font(14))
    _footer(draw, rows, size, CELL_PX / span_mm)
    return sheet


def _note_colour(row: _Row) -> Colour:
    if row.off_by is not None:
        return FAINT
    return row.added.colour if row.added else (PATCH if row.note else FAINT)


def _footer(draw: ImageDraw, rows: Sequence[_Row], size: tuple[int, int], pixels_per_mm: float) -> None:
    """What the colours mean, and a ruler: the projection is parallel, so it holds everywhere."""
    middle = size[1] - FOOTER_PX / 2
    x = GAP_PX + 8.0
    entries = [
        (BONE, "defective skull"),
        *((row.added.colour, row.added.name) for row in rows if row.added and not row.off_by),
    ]
    for colour, name in entries:
        draw.rounded_rectangle((x, middle - 7, x + 14, middle + 7), 3, fill=colour)
        draw.text((x + 22, middle), name, INK, font(14), anchor="lm")
        x += 46 + draw.textlength(name, font(14))
    length = RULER_MM * pixels_per_mm
    right = size[0] - GAP_PX - 12
    draw.line((right - length, middle + 6, right, middle + 6), INK, 2)
    for end in (right - length, right):
        draw.line((end, middle + 2, end, middle + 10), INK, 2)
    draw.text((right - length / 2, middle - 6), f"{RULER_MM} mm", INK, font(13), anchor="mm")


def font(size: int) -> FreeTypeFont:
    """The font of all sheets, in pixels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)  # type: ignore[return-value]  # With a size it is a FreeType font.
