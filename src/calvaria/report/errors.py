"""Pictures of where a patch is wrong: surfaces coloured by distance and by curvature, with colour bars.

As in figure 6 of Kodym et al. 2021, with the rays of `raycast` in place of triangles: the surface is where the smoothed
mask passes a level, and normals are those of the field. `error_mesh` gives the surface as triangles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError, MissingExtraError
from calvaria.metrics.maps import ErrorMap, ErrorMaps, error_maps
from calvaria.report.raycast import Camera, Hits, cast, prepare
from calvaria.report.render import BACKGROUND, camera_for, fitting, layer_shares, shade
from calvaria.report.scene import Colour, Layer, Scene, build_scene
from calvaria.report.sheet import BONE, FAINT, INK, PATCH, choose_views, font
from calvaria.report.views import View, frame_axes
from calvaria.types import F32, F64
from calvaria.volume.mesh import Mesh, extract_surface
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw


ANCHORS: tuple[Colour, ...] = (
    (18, 62, 148),
    (72, 146, 204),
    (232, 226, 214),
    (226, 120, 60),
    (150, 18, 38),
)
"""From the most negative to the most positive value: blue, ivory at 0, red; distinguished by the colour-blind too."""

SHOWN_SHARE, SHOWN_SHARE_CURVATURE = 95.0, 80.0
"""The colours reach to this percentile of the errors' sizes, rounded up; what lies beyond has the last colour.
Curvature goes over decades at edges, which would leave all else without colour."""

MIN_RANGE_MM, MIN_RANGE_VOXELS, MIN_RANGE_MM2 = 0.5, 2.0, 1e-3
"""Ranges of colours are not less, so that small errors, and the voxels' steps, do not look like large ones."""

CELL_PX, GAP_PX, HEADER_PX, NOTE_PX, BAR_PX = 340, 6, 40, 30, 120
VIEWS_SHOWN = 2
"""Views of the patch in its skull; a third column shows the patch alone from within."""

SMOOTH_MM = 0.5
"""Sigma of the Gaussian that takes the voxels' steps off an error mesh."""

MIN_SHARE = 0.01
"""Points of which the patch has less than this share are bone."""

KEPT = 0.2
"""Share of the triangles that decimation leaves."""


@dataclass(frozen=True, eq=False)
class _Shot:
    """A scene, and what the rays of a camera met in it."""

    scene: Scene
    camera: Camera
    hits: Hits


@dataclass(frozen=True, eq=False)
class _Row:
    title: str
    note: str
    values: ErrorMap
    patch: Volume
    reach: float
    unit: str


def render_errors(
    prediction: Volume, truth: Volume, defective: Volume, frame: ArrayLike | None = None, title: str = ""
) -> Image:
    """A sheet that shows where a patch is wrong.

    Rows: the prediction coloured by how far it stands beyond the true bone or within it; the truth coloured by how far
    the prediction stays behind it or goes beyond, where a missing part shows; the prediction coloured by the error of
    its Gaussian curvature, which shows steps and dents. Columns: onto the patch, from the side, and the patch alone
    from within. Ivory is right; red is too much bone (or too curved), blue too little.

    Args:
        prediction: mask of the predicted patch. May be empty.
        truth: mask of the true patch, on the same grid; not empty.
        defective: mask of the defective skull, on the same grid.
        frame: (4, 4) canonical -> world LPS mm: a tilted head is shown upright; None: as it lies in the world.
        title: stands over the sheet.

    Returns:
        An RGB image, about 1170 pixels wide.

    Raises:
        GeometryError: the three do not lie on one grid, or ``frame`` is not a proper map.
        InputError: one of them is no mask, or the truth is empty.
    """
    if not truth.mask.any():
        raise InputError("the true patch is empty: there is nothing to compare with")
    maps = error_maps(prediction, truth, defective)
    bone = defective.with_data(defective.mask & ~truth.mask)
    axes = frame_axes(frame)
    views = choose_views(bone, truth, axes)[:VIEWS_SHOWN]
    rows = _rows(prediction, truth, maps)
    shots = {id(row.patch): _shots(row.patch, bone, views, axes) for row in rows}
    pictures = [[_painted(shot, row) for shot in shots[id(row.patch)]] for row in rows]
    return _sheet(rows, views, pictures, title)


def error_mesh(prediction: Volume, truth: Volume, defective: Volume, decimate: bool = True) -> tuple[Mesh, ErrorMap]:
    """The predicted patch as triangles, with the error in mm at each vertex.

    Marching cubes on the smoothed mask, then quadric decimation to a fifth of the triangles.

    Args:
        prediction: mask of the predicted patch, not empty.
        truth: mask of the true patch, on the same grid.
        defective: mask of the defective skull, on the same grid.
        decimate: whether to take triangles away (needs the package ``fast-simplification``).

    Returns:
        The mesh, and the values at its vertices: positive where the prediction stands beyond the true bone.

    Raises:
        InputError: the prediction is empty, or a volume is no mask.
        MissingExtraError: triangles are to be taken away and the package for it is not installed.
        GeometryError: the three do not lie on one grid.
    """
    if not prediction.mask.any():
        raise InputError("the predicted patch is empty: it has no surface")
    mesh = extract_surface(prediction, smooth_mm=SMOOTH_MM)
    if decimate:
        mesh = _decimated(mesh)
    values = error_maps(prediction, truth, defective).prediction_mm.at(mesh.vertices_mm)
    return mesh, ErrorMap(mesh.vertices_mm, values)


def error_colours(values: Sequence[float] | NDArray[np.float64], reach: float) -> F32:
    """(N, 3) colours, 0-255, of values from -reach to reach; beyond, the last ones.

    >>> error_colours([0.0], 1.0).tolist()
    [[232.0, 226.0, 214.0]]
    """
    place = np.linspace(-reach, reach, len(ANCHORS))
    anchors = np.array(ANCHORS, np.float64)
    return np.stack([np.interp(values, place, channel) for channel in anchors.T], axis=-1).astype(np.float32)


def colour_range(values: NDArray[np.float64], least: float = MIN_RANGE_MM, share: float = SHOWN_SHARE) -> float:
    """1, 2 or 5 times a power of ten that holds so many percent of the values' sizes.

    >>> colour_range(np.array([0.1, -1.3, 1.7]), 0.5)
    2.0
    """
    wanted = max(float(np.percentile(np.abs(values), share)), least) if len(values) else least
    power = 10.0 ** np.floor(np.log10(wanted) + 1e-9)
    return float(next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= wanted * (1 - 1e-9)))


def require_decimation() -> None:
    """Raise, before any work, where meshes could not be decimated.

    Raises:
        MissingExtraError: the package for it is not installed.
    """
    try:
        import fast_simplification  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError(
            "meshes are decimated by fast-simplification: pip install 'calvaria[figures]'"
        ) from error


def _decimated(mesh: Mesh) -> Mesh:
    require_decimation()
    from fast_simplification import simplify

    middle = mesh.vertices_mm.mean(axis=0)  # single precision is enough near the middle
    vertices, faces = simplify(
        (mesh.vertices_mm - middle).astype(np.float32), mesh.faces.astype(np.int32), target_reduction=1 - KEPT
    )
    return Mesh(vertices.astype(np.float64) + middle, faces.astype(np.int64))


def _rows(prediction: Volume, truth: Volume, maps: ErrorMaps) -> list[_Row]:
    both = np.concatenate([maps.prediction_mm.values, maps.truth_mm.values])
    reach = colour_range(both, max(MIN_RANGE_MM, MIN_RANGE_VOXELS * max(truth.grid.spacing_mm)))
    rows = [
        _Row("prediction", _note(maps.prediction_mm, "mm", ".2f"), maps.prediction_mm, prediction, reach, "mm"),
        _Row("truth", _note(maps.truth_mm, "mm", ".2f"), maps.truth_mm, truth, reach, "mm"),
    ]
    curvature = maps.curvature_mm2
    if len(curvature.values):
        bend = colour_range(curvature.values, MIN_RANGE_MM2, SHOWN_SHARE_CURVATURE)
        note = _note(curvature, "1/mm^2", ".1e")
        rows.append(_Row("curvature", note, curvature, prediction, bend, "1/mm^2"))
    return [row for row in rows if row.patch.mask.any()]


def _note(values: ErrorMap, unit: str, form: str) -> str:
    if not len(values.values):
        return ""
    size = np.abs(values.values)
    return f"|error| mean {size.mean():{form}}, 95 % {np.percentile(size, 95):{form}} {unit}"


def _shots(patch: Volume, bone: Volume, views: Sequence[View], axes: NDArray[np.float64]) -> list[_Shot]:
    """What the rays of each column meet: the patch in its skull, and alone from within."""
    layer = Layer(patch.with_data(patch.mask), PATCH)
    whole, alone = build_scene([Layer(bone, BONE), layer]), build_scene([layer])
    if whole is None or alone is None:
        raise InputError("a patch without voxels cannot be drawn")
    onto = views[0]
    within = View("from within", tuple(-d for d in onto.direction), onto.up)  # type: ignore[arg-type]  # three numbers
    surfaces = {id(scene): prepare(scene) for scene in (whole, alone)}

    def shot(scene: Scene, view: View) -> _Shot:
        directions = view.axes() @ axes.T
        camera = camera_for(directions, *fitting([surfaces[id(scene)]], directions), CELL_PX)
        return _Shot(scene, camera, cast(surfaces[id(scene)], camera))

    # The loops over rays lie in numpy and scipy, which let other threads run.
    with ThreadPoolExecutor(min(len(views) + 1, os.cpu_count() or 1)) as pool:
        return list(pool.map(shot, [*[whole] * len(views), alone], [*views, within]))


def painted(
    scene: Scene, hits: Hits, camera: Camera, size_px: int, *, values: Callable[[NDArray[np.intp]], F64], reach: float
) -> NDArray[np.uint8]:
    """A picture whose last layer has the colours of some values, and whose other layers are bone.

    Args:
        scene: what is shown.
        hits: on its surface.
        camera: that they were cast with.
        size_px: side of the picture.
        values: (M,) at hits given by (M,) numbers.
        reach: the last colours stand for -reach and reach.

    Returns:
        (size_px, size_px, 3) uint8.
    """
    share = layer_shares(scene, hits, camera)[:, -1:]
    colours = np.broadcast_to(np.array(BONE, np.float32), (hits.flat.size, 3)).copy()
    on = np.flatnonzero(share[:, 0] > MIN_SHARE)
    colours[on] += share[on] * (error_colours(values(on), reach) - colours[on])
    return shade(scene, hits, camera, size_px, colours=colours)


def _painted(shot: _Shot, row: _Row) -> NDArray[np.uint8]:
    def errors(on: NDArray[np.intp]) -> F64:
        return row.values.at(shot.scene.grid.to_world(shot.hits.index.T[on]))

    return painted(shot.scene, shot.hits, shot.camera, CELL_PX, values=errors, reach=row.reach)


def _sheet(
    rows: Sequence[_Row], views: Sequence[View], pictures: Sequence[Sequence[NDArray[np.uint8]]], title: str
) -> Image:
    from PIL import Image as Pillow
    from PIL import ImageDraw

    step, height = CELL_PX + GAP_PX, CELL_PX + GAP_PX + NOTE_PX
    columns = [*(view.name for view in views), "patch from within"]
    sheet = Pillow.new("RGB", (len(columns) * step + GAP_PX + BAR_PX, HEADER_PX + len(rows) * height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(columns):
        left = GAP_PX + column * step
        draw.text((left + CELL_PX / 2, HEADER_PX / 2 + 4), name, INK, font(18), anchor="mm")
        for line, cells in enumerate(pictures):
            sheet.paste(Pillow.fromarray(cells[column]), (left, HEADER_PX + line * height + NOTE_PX))
    draw.text((sheet.width - 10, HEADER_PX / 2 + 4), title, FAINT, font(14), anchor="rm")
    for line, row in enumerate(rows):
        top = HEADER_PX + line * height
        draw.text((GAP_PX + 8, top + 4), row.title, INK, font(17))
        draw.text((GAP_PX + 18 + draw.textlength(row.title, font(17)), top + 7), row.note, FAINT, font(14))
        colour_bar(draw, row.reach, row.unit, (len(columns) * step + GAP_PX + 14, top + NOTE_PX + 30), CELL_PX - 60)
    return sheet


def colour_bar(draw: ImageDraw, reach: float, unit: str, corner: tuple[int, int], height: int) -> None:
    """A colour bar with five ticks, the most positive value on top.

    Args:
        draw: on the sheet.
        reach: it goes from -reach to reach.
        unit: stands over it.
        corner: left and top, pixels.
        height: pixels.
    """
    left, top = corner
    for offset, colour in enumerate(error_colours(np.linspace(reach, -reach, height), reach)):
        red, green, blue = (int(c) for c in colour)
        draw.line((left, top + offset, left + 18, top + offset), (red, green, blue))
    for part in np.linspace(0, 1, 5):
        value, at = reach * (1 - 2 * part), top + part * (height - 1)
        draw.line((left + 18, at, left + 23, at), FAINT)
        draw.text((left + 28, at), f"{value:+.3g}" if value else "0", INK, font(13), anchor="lm")
    draw.text((left, top - 12), unit, FAINT, font(13), anchor="lm")


__all__ = [
    "colour_bar",
    "colour_range",
    "error_colours",
    "error_mesh",
    "painted",
    "render_errors",
    "require_decimation",
]
