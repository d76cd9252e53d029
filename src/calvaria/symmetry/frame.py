"""Input and output of the symmetry network: a cube of bone about the head's centre, and a plane as a graph over it.

The input is a cube of 240 mm, 96 voxels along each edge, in world orientation about the centre of the bone. The
output are three parameters (u, v, w) of the plane's height over the sagittal axes:

    x = (10 mm) (u y / (23 mm) + v z / (13 mm) + w),        x, y, z in mm from the cube's centre

A plane has three degrees of freedom; four parameters (normal and offset from the world's origin) have one too
many, and an offset from a far origin trades against the angles: for a head 500 mm off, half a degree moves the plane by
4 mm. About the middle of the head tilt and offset do not interact. A rotation slides the round vault mostly along
itself, so the loss rises far less for a degree than for a millimetre; two lever arms of 23 and 13 mm make it equally
curved along all three parameters. The condition number of its minimum in the calvaria is 3 (median of 10 persons); with
one lever arm of 65 mm, the bone's own, it is 33, and a network in training learned the offset long before the angles;
with normal and offset unscaled it is 90,000 (``python -m calvaria.benchmarks.symmetry_loss``). There is no
normalisation, no wrap-around and no ambiguous sign between -90 and 90 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.symmetry.plane import Plane
from calvaria.types import F64
from calvaria.volume.grid import Grid
from calvaria.volume.resample import coarsen
from calvaria.volume.volume import Volume, bounding_box

SIZE = 96
"""Voxels along each edge of the cube."""

SPACING_MM = 2.5
"""Edge of such a voxel: a cube of 240 mm holds every head in any tilt."""

UNIT_MM = 10.0
"""How far one unit of the last parameter moves the plane."""

ARMS_MM = (23.0, 13.0)
"""How far behind and above the centre one unit of the first two parameters moves the plane by as much."""

HEIGHT_MM = 150.0
"""Bone farther below the top than this is left out: the network learned on heads without jaw and neck."""

COARSE_MM = 2.0
"""Bone is averaged to about this before it is resampled into the cube."""

HALF = 0.5
"""Bone fraction from which a coarse voxel counts as bone when a head's top and centre are found."""

SOME_VOXELS = 20_000
"""A head's top and centre are computed from about this many of its voxels."""


def network_grid(centre_mm: Sequence[float] | F64 = (0.0, 0.0, 0.0)) -> Grid:
    """The cube about a centre, world orientation."""
    half = SPACING_MM * (SIZE - 1) / 2
    return Grid.isotropic((SIZE, SIZE, SIZE), SPACING_MM, np.asarray(centre_mm, np.float64) - half)


def plane_of(numbers: Sequence[float] | NDArray[np.floating], centre_mm: F64) -> Plane:
    """The plane of three parameters."""
    u, v, w = (float(n) * UNIT_MM for n in numbers)
    normal = np.array([1.0, -u / ARMS_MM[0], -v / ARMS_MM[1]])
    return Plane(normal, float(normal @ centre_mm) + w)


def numbers_of(plane: Plane, centre_mm: F64) -> F64:
    """The three parameters of a plane.

    Raises:
        InputError: the plane holds the x axis: it is no graph over y and z.
    """
    normal = plane.normal
    if abs(normal[0]) < 1e-6:
        raise InputError("a plane that contains the left-right axis has no such parameters")
    tilt = -normal[1:] / normal[0] * np.array(ARMS_MM)
    offset = (plane.offset_mm - normal @ centre_mm) / normal[0]
    return np.array([*tilt, offset]) / UNIT_MM


def coarse_bone(mask: Volume) -> Volume:
    """Bone fractions in blocks of about 2 mm around the bone: all that the network needs of a mask.

    With a voxel of air on every side: values end at the outermost centres, and the head would lose a millimetre at its
    top, back and sides.

    Raises:
        InputError: there is no bone.
    """
    box = bounding_box(mask.mask)
    if box is None:
        raise InputError("there is no bone: the mask is empty")
    return coarsen(mask.crop(box), COARSE_MM).pad((1, 1, 1), (1, 1, 1))


def head_frame(bone: Volume, rotation: F64) -> F64:
    """(4, 4) cube mm -> world mm: a cube along given axes about the bone's centre.

    Args:
        bone: bone fractions.
        rotation: (3, 3) whose columns are the cube's axes in the world; the third points up.

    Raises:
        InputError: there is no bone.
    """
    seen = np.flatnonzero(bone.data > HALF)
    if not len(seen):
        raise InputError("there is no bone: all fractions are below a half")
    if len(seen) > SOME_VOXELS:  # drawn, as every n-th could fall in step with the array
        seen = seen[np.random.default_rng(0).integers(len(seen), size=SOME_VOXELS)]
    index = np.stack(np.unravel_index(seen, bone.shape), axis=1)
    some = bone.grid.to_world(index) @ rotation
    near = some[:, 2] > some[:, 2].max() - HEIGHT_MM
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = rotation, rotation @ some[near].mean(axis=0)
    return frame


def cube_of(bone: Volume, frame: F64) -> NDArray[np.float32]:
    """The network's input for a skull.

    Args:
        bone: bone fractions of about 2 mm.
        frame: (4, 4) cube mm -> world mm, rigid, from `head_frame`.

    Returns:
        (96, 96, 96) float32 fractions, trilinear; 0 more than 150 mm below the top.
    """
    from scipy import ndimage

    cube = network_grid()
    to_index = bone.grid.inverse @ frame @ cube.affine
    ends = cube.to_index(bone.grid.moved(np.linalg.inv(frame)).corners_mm())
    low = np.clip(np.floor(ends.min(axis=0)), 0, SIZE).astype(int)
    high = np.clip(np.ceil(ends.max(axis=0)) + 1, low, SIZE).astype(int)
    whole = np.zeros((SIZE, SIZE, SIZE), np.float32)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    start = to_index[:3, :3] @ low + to_index[:3, 3]
    if (high > low).all():  # elsewhere there is no bone
        linear = to_index[:3, :3]
        if np.count_nonzero(linear) == 3 and linear.diagonal().all():
            linear = linear.diagonal()  # the axes are parallel: the same values in half the time
        ndimage.affine_transform(bone.data, linear, start, output=whole[inside], order=1, prefilter=False)
    seen = np.flatnonzero((whole > HALF).any(axis=(0, 1)))
    if len(seen):
        whole[:, :, : max(0, seen[-1] - int(HEIGHT_MM / SPACING_MM))] = 0.0
    return whole


__all__ = [
    "ARMS_MM",
    "SIZE",
    "SPACING_MM",
    "UNIT_MM",
    "coarse_bone",
    "cube_of",
    "head_frame",
    "network_grid",
    "numbers_of",
    "plane_of",
]
