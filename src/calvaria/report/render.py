"""Pictures of bone without a graphics card: surfaces of masks, lit and coloured.

Parallel projection, so a millimetre is a millimetre all over the picture and in all pictures of one span.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.report.raycast import Camera, Hits, Surface, cast, prepare
from calvaria.report.scene import Colour, Layer, Scene, build_scene
from calvaria.report.views import View, frame_axes, named_view
from calvaria.types import F32

Picture = NDArray[np.uint8]

Lit = tuple[F32, F32]
"""(N,) factor for the surface's own colour at each hit, and (N,) mirrored light from 0 to 1."""

BACKGROUND: Colour = (22, 24, 29)
"""Nearly black, a little blue."""

SUPERSAMPLING = 1.5
"""Rays per pixel along each side, before the picture is averaged down."""

BORDER = 0.06
"""Part of the picture's side left free on each side of what is shown."""

LIGHT = (-0.42, -0.62, -0.66)
"""Towards the main light, in the camera's axes: up, left and before the head."""

AMBIENT, MAIN, HEADLIGHT, SHEEN = 0.17, 0.50, 0.36, 0.10
"""Shares of the light: from all sides, from the main light, from the viewer, and mirrored."""

NEAR_SHADE_MM, FAR_SHADE_MM = 2.5, 11.0
"""Radii over which a point that lies behind its surroundings is shaded."""

FULL_SHADE = 0.62
"""The darkest that surroundings can make a point."""

SMOOTH_MM, SMOOTH_PER_SPACING = 1.8, 2.0
"""Normals are averaged over about this radius in the picture, or this many of the data's widest spacings ..."""

SMOOTH_COSINES = (0.92, 0.985)
"""... not at all where that turns them by more than 23 degrees, fully where by less than 10."""

FULL_RISE = 0.9
"""Surroundings that rise this part of their radius before the tangent plane shade fully."""

SHADE_PIXEL_MM = 1.4
"""The surroundings are averaged on pixels of about this size."""

DEPTH_CUE = 0.22
"""Share of the light lost from the nearest to the furthest point."""


def render_surfaces(
    layers: Sequence[Layer],
    view: View | str,
    size_px: int = 480,
    *,
    frame: ArrayLike | None = None,
    background: Colour = BACKGROUND,
    span_mm: float | None = None,
) -> Picture:
    """A square picture of the surface of some masks.

    Args:
        layers: on any grids, also on different ones. Where they overlap, the one with more bone at a point colours it.
        view: a view, or the name of one in ``VIEWS``.
        size_px: side of the picture.
        frame: (4, 4) canonical -> world LPS mm, in which the view is meant; None: the world itself.
        background: colour where no bone is.
        span_mm: side of the picture in mm; None: what is shown fits, with a border.

    Returns:
        (size_px, size_px, 3) uint8, rows from the top. Only background when all layers are empty.

    Raises:
        InputError: a view of no known name, a size under 16 pixels, a span that is not positive, a layer that
            holds no mask.
        GeometryError: ``frame`` is not a proper map.
    """
    if size_px < 16:
        raise InputError(f"a picture has at least 16 pixels a side; got {size_px}")
    if span_mm is not None and not span_mm > 0:
        raise InputError(f"a picture's span is a positive length in mm; got {span_mm:g}")
    axes = frame_axes(frame)
    scene = build_scene(layers)
    if scene is None:
        return np.full((size_px, size_px, 3), background, np.uint8)
    surface = prepare(scene)
    directions = named_view(view).axes() @ axes.T
    centre, span = fitting([surface], directions)
    fitted = camera_for(directions, centre, span if span_mm is None else span_mm, size_px)
    return shade(scene, cast(surface, fitted), fitted, size_px, background)


def camera_for(directions: NDArray[np.float64], centre_mm: NDArray[np.float64], span_mm: float, size_px: int) -> Camera:
    """The camera of a square picture: more rays than pixels, so that edges come out smooth.

    Args:
        directions: (3, 3) rows in the world: right, down, away from the viewer.
        centre_mm: (3,) world point in the middle.
        span_mm: side of the picture.
        size_px: side of the picture.
    """
    fine = round(size_px * SUPERSAMPLING)
    return Camera(centre_mm, directions, span_mm / fine, (fine, fine))


def shade(
    scene: Scene,
    hits: Hits,
    camera: Camera,
    size_px: int,
    background: Colour = BACKGROUND,
    *,
    colours: F32 | None = None,
    lit: Lit | None = None,
) -> Picture:
    """Light and colour what rays have met.

    Args:
        scene: what is shown, with its colours.
        hits: on the surface of the scene; may be none.
        camera: that the hits were cast with.
        size_px: side of the picture, at most the camera's.
        background: colour where nothing is hit.
        colours: (N, 3) the surface's own colour at each hit, 0-255; None: those of the layers.
        lit: from `lighting` of the same scene, hits and camera, where there is more than one picture of them.

    Returns:
        (size_px, size_px, 3) uint8.
    """
    from PIL import Image

    width, height = camera.size_px
    picture = np.empty((height * width, 3), np.float32)
    picture[:] = background
    if hits.flat.size:
        diffuse, mirrored = lighting(scene, hits, camera) if lit is None else lit
        own = _colours(scene, hits, camera) if colours is None else colours
        picture[hits.flat] = own * diffuse[:, None] + 255.0 * mirrored[:, None]
    pixels = np.clip(picture, 0, 255).astype(np.uint8).reshape(height, width, 3)
    return np.asarray(Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.BOX))


def lighting(scene: Scene, hits: Hits, camera: Camera) -> Lit:
    """The light on what rays have met, whatever its colour; arguments as for `shade`, with a hit at least."""
    smooth_mm = max(SMOOTH_MM, SMOOTH_PER_SPACING * scene.detail_mm)
    return light(_smoothed(hits, camera, smooth_mm), hits, camera)


def fitting(surfaces: Sequence[Surface], directions: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Centre (world mm) and span (mm) of the square picture that holds all of some surfaces, border included.

    Args:
        surfaces: at least one, all on one working grid.
        directions: (3, 3) rows in the world: right, down, away from the viewer.

    Returns:
        Those of the whole working grid where all that is there is too thin to be drawn.
    """
    grid = surfaces[0].grid
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    drawn = [surface.shell for surface in surfaces if surface.shell.shape[1]]
    if not drawn:
        return middle, float(np.ptp(grid.corners_mm(), axis=0).max())
    camera = Camera(middle, directions, 1.0, (1, 1))
    # Every voxel counts: the piece that a sample leaves out may be the one at the picture's edge.
    places = [camera.project(grid, shell)[:2] for shell in drawn]
    low = np.min([place.min(axis=1) for place in places], axis=0).astype(np.float64)
    high = np.max([place.max(axis=1) for place in places], axis=0).astype(np.float64)
    centre = middle + ((low + high) / 2) @ directions[:2]
    return centre, float((high - low).max()) / (1 - 2 * BORDER)


def light(normal: F32, hits: Hits, camera: Camera) -> Lit:
    """What light comes back from a surface.

    Args:
        normal: (3, N) unit normals to light it by, in the camera's axes.
        hits: on the surface.
        camera: that they were cast with.

    Returns:
        (N,) factor for the surface's own colour, and (N,) mirrored light from 0 to 1.
    """
    towards = np.array(LIGHT, np.float32)
    towards /= np.linalg.norm(towards)
    facing = np.maximum(-normal[2], 0.0)
    # Wrapped around a little, as from a large lamp: no hard edge between light and dark.
    main = np.clip((towards @ normal + 0.25) / 1.25, 0.0, 1.0)
    halfway = towards + np.array([0, 0, -1], np.float32)
    halfway /= np.linalg.norm(halfway)
    mirrored = np.maximum(halfway @ normal, 0.0) ** 24
    shade = _surroundings(hits, camera)
    near, far = hits.depth_mm.min(), hits.depth_mm.max()
    cue = 1.0 - DEPTH_CUE * (hits.depth_mm - near) / max(far - near, 1e-6)
    return (AMBIENT + MAIN * main + HEADLIGHT * facing) * shade * cue, SHEEN * mirrored * shade * cue


def _smoothed(hits: Hits, camera: Camera, radius_mm: float) -> F32:
    """(3, N) normals without the terraces that voxels leave on nearly flat surfaces; edges and details keep theirs."""
    from scipy.ndimage import gaussian_filter

    width, height = camera.size_px
    mean = np.zeros((3, height, width), np.float32)
    for axis in range(3):
        mean[axis].flat[hits.flat] = hits.normal[axis]
        gaussian_filter(mean[axis], radius_mm / camera.pixel_mm, output=mean[axis], truncate=2.0)
    smooth = mean.reshape(3, -1)[:, hits.flat]
    smooth /= np.maximum(np.linalg.norm(smooth, axis=0), 1e-9)
    low, high = SMOOTH_COSINES
    part = np.clip((np.einsum("an,an->n", smooth, hits.normal) - low) / (high - low), 0.0, 1.0)
    mixed: F32 = hits.normal + part * (smooth - hits.normal)
    mixed /= np.maximum(np.linalg.norm(mixed, axis=0), 1e-9)
    return mixed


def _surroundings(hits: Hits, camera: Camera) -> F32:
    """(N,) 1 for a free point, down to 1 - FULL_SHADE for one whose surroundings rise before its tangent plane."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    width, height = camera.size_px
    coarse = max(round(SHADE_PIXEL_MM / camera.pixel_mm), 1)
    shape = (-(-height // coarse), -(-width // coarse))
    row, column = np.divmod(hits.flat, width)
    cell = (row // coarse) * shape[1] + column // coarse
    place = np.stack([column * camera.pixel_mm, row * camera.pixel_mm, hits.depth_mm])
    sums = [np.bincount(cell, w, shape[0] * shape[1]).reshape(shape) for w in (np.ones(cell.shape), *place)]
    shade = np.zeros(hits.flat.shape, np.float32)
    for radius_mm in (NEAR_SHADE_MM, FAR_SHADE_MM):
        sigma = radius_mm / (camera.pixel_mm * coarse)
        weight, *means = (gaussian_filter(s, sigma, truncate=2.5) for s in sums)
        rise = np.zeros(hits.flat.shape, np.float32)
        for mean, normal, own in zip(means, hits.normal, place, strict=True):
            small = Image.fromarray((mean / np.maximum(weight, 1e-6)).astype(np.float32))
            large = small.resize((shape[1] * coarse, shape[0] * coarse), Image.Resampling.BILINEAR)
            rise += normal * (np.asarray(large)[row, column] - own)
        shade += np.clip(rise / (FULL_RISE * radius_mm), 0.0, 1.0)
    return np.asarray(1.0 - FULL_SHADE * np.minimum(shade, 1.0), np.float32)


def _colours(scene: Scene, hits: Hits, camera: Camera) -> F32:
    """(N, 3) the layers' own colours, mixed over about a step where two meet."""
    colours = np.array([colour for _, colour in scene.layers], np.float32)
    return layer_shares(scene, hits, camera) @ colours


def layer_shares(scene: Scene, hits: Hits, camera: Camera) -> F32:
    """(N, layers) how much each layer has of the surface at each hit; mixed over about a step where two meet."""
    if len(scene.layers) == 1:
        return np.ones((hits.flat.size, 1), np.float32)
    turn = (scene.grid.inverse[:3, :3] @ camera.axes.T) * (0.7 * min(scene.grid.spacing_mm))
    inside = hits.index - turn.astype(np.float32) @ hits.normal
    weights = np.stack([field.at(inside) for field, _ in scene.layers]) ** 3
    weights /= np.maximum(weights.sum(axis=0), 1e-9)
    return np.asarray(weights.T, np.float32)
