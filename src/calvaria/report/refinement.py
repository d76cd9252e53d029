"""The picture of a refinement: the patch before, the patch after, and how far its surface has moved, in colour."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.report.errors import colour_bar, colour_range, painted
from calvaria.report.raycast import Camera, Hits, Surface, cast, prepare, recast
from calvaria.report.render import BACKGROUND, Picture, camera_for, fitting, layer_shares, shade
from calvaria.report.scene import Layer, Scene, build_scenes
from calvaria.report.sheet import BONE, FAINT, INK, PATCH, choose_views, font
from calvaria.report.views import View, frame_axes
from calvaria.types import F64
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = ("before", "after", "moved outwards (+) or inwards (-)")

CELL_PX, GAP_PX, HEADER_PX, NOTE_PX, BAR_PX = 340, 6, 40, 24, 100

VIEWS_SHOWN = 2
"""Rows: straight onto the patch, and the named view that shows it best."""

MIN_RANGE_MM = 1.0
"""The colours reach to at least this displacement, so that hardly moved does not look like far moved."""

MOSTLY = 0.5
"""The colours' range is taken from points of which the patch has more than this share."""


class Moves(Protocol):
    """A displacement u: the refined patch has at x what the given one had at x + u(x)."""

    def at(self, points_mm: NDArray[np.floating]) -> F64:
        """(N, 3) world mm, at (N, 3) world points."""


def render_refinement(
    defective: Volume, before: Volume, after: Volume, displacement: Moves, frame: ArrayLike | None = None
) -> Image:
    """A sheet that shows what a refinement did.

    Columns: the skull with the given patch, with the refined one, and the refined one coloured by how far its surface
    has moved along its outward normal: ivory where it stayed (or moved along itself), red outwards, blue inwards.
    Rows: straight onto the patch, and from the side. All pictures of a row have one scale.

    Args:
        defective: mask of the defective skull.
        before: mask of the given patch, on any grid; not empty.
        after: mask of the refined patch; not empty.
        displacement: what was done.
        frame: (4, 4) canonical -> world LPS mm: a tilted head is shown upright; None: as it lies in the world.

    Returns:
        An RGB image, about 1140 pixels wide.

    Raises:
        InputError: a volume is no mask, or is empty.
        GeometryError: ``frame`` is not a proper map.
    """
    for volume, name in ((defective, "defective skull"), (before, "given patch"), (after, "refined patch")):
        if not volume.mask.any():
            raise InputError(f"the {name} is empty: there is nothing to draw")
    axes = frame_axes(frame)
    layers = [Layer(patch, PATCH, name) for patch, name in ((before, "given patch"), (after, "refined patch"))]
    scenes = build_scenes(Layer(defective, BONE, "defective skull"), layers)
    if scenes is None:
        raise InputError("the defective skull is empty: there is nothing to draw")
    views = choose_views(defective, after, axes)[:VIEWS_SHOWN]
    # The loops over rays lie in numpy and scipy, which let other threads run.
    with ThreadPoolExecutor(min(len(scenes), os.cpu_count() or 1)) as pool:
        surfaces = list(pool.map(prepare, scenes))
        shots = list(pool.map(partial(_shot, scenes, surfaces), [view.axes() @ axes.T for view in views]))
        moved = [_Moved(scenes[-1], shot.after, shot.camera, displacement) for shot in shots]
        reach = colour_range(np.concatenate(list(pool.map(_Moved.of_patch_mm, moved))), MIN_RANGE_MM)
        pictures = list(pool.map(partial(_row, scenes, reach), shots, moved))
    return _sheet(views, pictures, reach)


@dataclass(frozen=True, eq=False)
class _Shot:
    """What a camera's rays meet of the skull with either patch."""

    camera: Camera
    before: Hits
    after: Hits


@dataclass(frozen=True, eq=False)
class _Moved:
    """How far what rays have met came from."""

    scene: Scene
    hits: Hits
    camera: Camera
    displacement: Moves

    def outwards_mm(self, on: NDArray[np.intp]) -> F64:
        """(M,) displacement along the outward normal, of hits given by (M,) numbers."""
        came_from = self.displacement.at(self.scene.grid.to_world(self.hits.index.T[on]))  # (M, 3)
        normals = self.hits.normal.T[on] @ self.camera.axes  # (M, 3) in the world
        return np.asarray(-(came_from * normals).sum(axis=1))

    def of_patch_mm(self) -> F64:
        """(M,) the same of all hits on the patch."""
        share = layer_shares(self.scene, self.hits, self.camera)[:, -1]
        return self.outwards_mm(np.flatnonzero(share > MOSTLY))


def _shot(scenes: Sequence[Scene], surfaces: Sequence[Surface], axes: NDArray[np.float64]) -> _Shot:
    """From one direction; the first scene is the skull alone, the others show it with either patch."""
    camera = camera_for(axes, *fitting(surfaces, axes), CELL_PX)
    bare = cast(surfaces[0], camera)
    before, after = (
        recast(surface, camera, bare, scene.layers[-1][0])
        for surface, scene in zip(surfaces[1:], scenes[1:], strict=True)
    )
    return _Shot(camera, before, after)


def _row(scenes: Sequence[Scene], reach: float, shot: _Shot, moved: _Moved) -> list[Picture]:
    """The pictures of one direction, as `COLUMNS` has them."""
    _, given, refined = scenes
    return [
        shade(given, shot.before, shot.camera, CELL_PX),
        shade(refined, shot.after, shot.camera, CELL_PX),
        painted(refined, shot.after, shot.camera, CELL_PX, values=moved.outwards_mm, reach=reach),
    ]


def _sheet(views: Sequence[View], pictures: Sequence[Sequence[Picture]], reach: float) -> Image:
    from PIL import Image as Pillow
    from PIL import ImageDraw

    step, height = CELL_PX + GAP_PX, CELL_PX + GAP_PX + NOTE_PX
    size = (len(COLUMNS) * step + GAP_PX + BAR_PX, HEADER_PX + len(views) * height)
    sheet = Pillow.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(COLUMNS):
        left = GAP_PX + column * step
        draw.text((left + CELL_PX / 2, HEADER_PX / 2 + 4), name, INK, font(18), anchor="mm")
        for line, cells in enumerate(pictures):
            sheet.paste(Pillow.fromarray(cells[column]), (left, HEADER_PX + line * height + NOTE_PX))
    for line, view in enumerate(views):
        draw.text((GAP_PX + 8, HEADER_PX + line * height + 4), view.name, FAINT, font(14))
    corner = (len(COLUMNS) * step + GAP_PX + 14, HEADER_PX + NOTE_PX + 30)
    colour_bar(draw, reach, "mm", corner, CELL_PX - 60)
    return sheet


__all__ = ["Moves", "render_refinement"]
