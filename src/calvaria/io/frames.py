"""Whose left is meant: from the frame that a file speaks in to the program's LPS millimetres.

A frame's name has a letter for each coordinate, saying where it grows to: ``LPS`` (left, posterior, superior; DICOM,
ITK), ``RAS`` (NIfTI), ``LAS``. This is 3D Slicer's and nibabel's way; ITK's old three-letter codes say where an axis
comes *from* and mean the opposite. No other file of the program flips an axis because of a format.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import GeometryError, InputError
from calvaria.volume.grid import Grid

_AXIS_OF = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


def frame_to_lps(frame: str) -> NDArray[np.float64]:
    """(3, 3) signed permutation that takes a frame's coordinates to LPS.

    Args:
        frame: three letters, one of each pair L/R, P/A, S/I, in any case; e.g. ``"RAS"``.

    Raises:
        InputError: the letters do not name a frame.

    >>> frame_to_lps("RAS")
    array([[-1.,  0.,  0.],
           [ 0., -1.,  0.],
           [ 0.,  0.,  1.]])
    """
    letters = frame.upper()
    matrix = np.zeros((3, 3))
    for column, letter in enumerate(letters[:3]):
        axis, sign = _AXIS_OF.get(letter, (0, 0))
        matrix[axis, column] = sign
    if len(letters) != 3 or not np.array_equal(np.abs(matrix).sum(axis=1), np.ones(3)):
        raise InputError(
            f"orientation must be three letters, one of each pair L/R, P/A, S/I, such as LPS or RAS; got {frame!r}"
        )
    return matrix


def lps_grid(name: str, shape: tuple[int, ...], columns: ArrayLike, origin_mm: ArrayLike, frame: str) -> Grid:
    """The grid of a file, in LPS.

    Args:
        name: the file's name, for messages.
        shape: number of voxels along each axis.
        columns: (3, 3) steps between voxels in ``frame``, mm; column a belongs to axis a.
        origin_mm: (3,) centre of voxel (0, 0, 0) in ``frame``, mm.
        frame: what the three coordinates mean, see `frame_to_lps`.

    Raises:
        GeometryError: with the file's name: steps or origin are not finite, not positive or span no space.
    """
    affine = np.eye(4)
    turn = frame_to_lps(frame)
    # A signed permutation: every entry is one entry of the file or its negative, so nothing is rounded.
    axes = np.argmax(np.abs(turn), axis=1)
    signs = turn.sum(axis=1)
    with np.errstate(all="ignore"):
        affine[:3, :3] = np.asarray(columns, dtype=np.float64)[axes] * signs[:, None] + 0.0
        affine[:3, 3] = np.asarray(origin_mm, dtype=np.float64)[axes] * signs + 0.0
        try:
            return Grid((shape[0], shape[1], shape[2]), affine)
        except GeometryError as error:
            raise GeometryError(f"{name}: {error}") from error


def spacing_columns(name: str, spacing_mm: ArrayLike) -> NDArray[np.float64]:
    """(3, 3) steps along a frame's own axes, from spacings alone.

    Raises:
        GeometryError: a spacing is zero, negative or NaN.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise GeometryError(f"{name}: voxel spacing must be three positive numbers of mm; got {spacing.tolist()}")
    return np.diag(spacing)


def no_orientation(name: str, what_is_missing: str) -> GeometryError:
    """The error for a file that does not say which way its axes point."""
    return GeometryError(
        f"{name}: {what_is_missing}, so left and right are unknown; "
        'state it if you are sure, e.g. orientation="LPS" (--orientation LPS), or export the file again with it'
    )
