"""Where the viewer stands: named views, and views made for one patch.

A view is a direction of looking and an up direction, both in LPS axes (+x left, +y posterior, +z superior): the
world's own, or those of a frame, so that a head that lay tilted in the scanner is shown upright. The patient is
seen as by a person who stands there: in the front view the patient's left is at the picture's right.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import GeometryError, InputError
from calvaria.volume.volume import Volume

Vector = tuple[float, float, float]

PARALLEL_COSINE = 0.94
"""An up direction closer than 20 degrees to the line of sight says too little about what is up."""

RADIAL_COSINE = 0.64
"""A plate's normal further than 50 degrees from the line to the centre of the braincase is not trusted."""

SAMPLED_VOXELS = 200_000
"""Centres and main axes of a mask are taken from about this many of its voxels."""

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
"""What lies at the positive and at the negative end of each LPS axis."""

_LETTER_COSINE = 0.8
"""A picture's side gets an anatomical letter when that axis is within about 37 degrees of it."""


@dataclass(frozen=True)
class View:
    """A direction to look in.

    Args:
        name: what stands over the picture.
        direction: from the viewer to the head; any length but 0.
        up: what is up in the picture; the part across ``direction`` counts.

    Raises:
        GeometryError: a direction is zero or not finite, or both are parallel.
    """

    name: str
    direction: Vector
    up: Vector = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        across = np.cross(self.direction, self.up)
        if not (np.isfinite(across).all() and np.linalg.norm(across) > 1e-6):
            raise GeometryError(
                f"view {self.name!r}: direction {self.direction} and up {self.up} must span a plane; turn one of them"
            )

    def axes(self) -> NDArray[np.float64]:
        """(3, 3) orthonormal rows: right in the picture, down in the picture, away from the viewer."""
        away = np.asarray(self.direction, dtype=np.float64)
        away = away / np.linalg.norm(away)
        right = np.cross(away, np.asarray(self.up, dtype=np.float64))
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(away, right), away])

    def letters(self) -> tuple[str, str]:
        """Anatomical letters of the picture's left and right side; empty where the side is no clear direction."""
        right = self.axes()[0]
        axis = int(np.argmax(np.abs(right)))
        if abs(right[axis]) < _LETTER_COSINE:
            return "", ""
        positive, negative = _LETTERS[axis]
        return (negative, positive) if right[axis] > 0 else (positive, negative)


VIEWS = MappingProxyType(
    {
        view.name: view
        for view in (
            View("front", (0, 1, 0)),
            View("back", (0, -1, 0)),
            View("left", (-1, 0, 0)),
            View("right", (1, 0, 0)),
            View("top", (0, 0, -1), up=(0, -1, 0)),
            View("bottom", (0, 0, 1), up=(0, -1, 0)),
            View("oblique", (-0.62, 0.68, -0.40)),
        )
    }
)
"""The named views. ``oblique`` looks from the patient's left, front and top."""


def named_view(view: View | str) -> View:
    """The view itself, or the one of that name.

    Raises:
        InputError: no view has this name; the message lists those that exist.
    """
    if isinstance(view, View):
        return view
    if view not in VIEWS:
        raise InputError(f"there is no view named {view!r}; choose one of {', '.join(VIEWS)}")
    return VIEWS[view]


def frame_axes(frame: ArrayLike | None) -> NDArray[np.float64]:
    """The rotation of a frame, freed of scale and shear.

    Args:
        frame: (4, 4) canonical -> world LPS mm, or None for the world itself.

    Returns:
        (3, 3) orthonormal; columns are the frame's axes in the world.

    Raises:
        GeometryError: not a finite, invertible 4 x 4 matrix, or one that mirrors.
    """
    if frame is None:
        return np.eye(3)
    matrix = np.asarray(frame, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError(f"a frame is a finite 4 x 4 matrix; got shape {matrix.shape}")
    left, scale, right = np.linalg.svd(matrix[:3, :3])
    if scale[-1] <= 1e-9 * max(scale[0], 1e-300) or np.linalg.det(matrix[:3, :3]) < 0:
        raise GeometryError("a frame must not mirror or flatten the head: its determinant has to be positive")
    return np.asarray(left @ right)


def view_onto(patch: Volume, skull: Volume, axes: NDArray[np.float64] | None = None, name: str = "defect") -> View:
    """The view straight onto a patch.

    Along the normal of the patch as a plate (its thinnest main axis), from outside. A patch that is no plate, or one
    whose normal does not point away from the centre of the braincase, is seen along the line from that centre.

    Args:
        patch: mask, not empty.
        skull: mask of the bone around it; where it is empty the patch is seen from the front.
        axes: (3, 3) columns of the frame that the view is meant in; None: the world.
        name: of the view.

    Raises:
        InputError: the patch is empty.
    """
    axes = np.eye(3) if axes is None else axes
    points = _points_mm(patch) @ axes
    if not len(points):
        raise InputError("the patch is empty: there is nothing to look at")
    centre = points.mean(axis=0)
    skull_points = _points_mm(skull) @ axes
    outward = centre - _braincase_centre(skull_points) if len(skull_points) else np.array([0.0, -1.0, 0.0])
    outward = outward / max(float(np.linalg.norm(outward)), 1e-9)
    normal = np.linalg.eigh((points - centre).T @ (points - centre))[1][:, 0]
    cosine = float(normal @ outward)
    if abs(cosine) > RADIAL_COSINE:
        outward = normal * np.sign(cosine)
    if np.linalg.norm(outward) < 0.5:
        outward = np.array([0.0, -1.0, 0.0])
    up = (0.0, 0.0, 1.0) if abs(outward[2]) < PARALLEL_COSINE else (0.0, -1.0, 0.0)
    x, y, z = (-float(v) for v in outward)
    return View(name, (x, y, z), up)


def _braincase_centre(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The centre of the braincase: of the bone's extent across, and 8 cm (or half the height) under its top."""
    low, high = points.min(axis=0), points.max(axis=0)
    centre = (low + high) / 2
    centre[2] = high[2] - min(80.0, float(high[2] - low[2]) / 2)
    return np.asarray(centre)


def _points_mm(volume: Volume) -> NDArray[np.float64]:
    """(N, 3) world mm of an even sample of the voxels of a mask."""
    flat = np.flatnonzero(volume.mask.ravel(order="K"))
    flat = flat[:: max(len(flat) // SAMPLED_VOXELS, 1)]
    order = np.argsort([-abs(s) for s in volume.mask.strides], kind="stable")
    index = np.stack(np.unravel_index(flat, tuple(volume.shape[a] for a in order)), axis=-1)
    return volume.grid.to_world(index[:, np.argsort(order)])
