"""What no displacement can bring: missing bone that a patch does not reach at all."""

from __future__ import annotations

import numpy as np

from calvaria.reconstruction.rays import meets_bone
from calvaria.refinement.build import SHUT_MM, Ground, scene_grid
from calvaria.skull.canonical import SPACING_MM
from calvaria.types import F32
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume, indices_of

MIN_LACKING_ML = 0.2
"""Less is left to the displacement."""


def lacking(ground: Ground, completed_mm: F32, box: Box, expected: Volume) -> Volume | None:
    """The part of an expected patch before and behind which there is neither bone nor patch.

    A patch that is too flat or proud covers the hole, as seen from the head centre, and can be displaced; one that is
    broken, too small or moved aside leaves part of it open.

    Args:
        ground: the skull.
        completed_mm: on the scene's grid, signed distance to bone and patch.
        box: of that grid, around both patches.
        expected: mask of the patch that the shape prior expects, on the input's grid.

    Returns:
        A mask; None where nothing much is lacking.
    """
    from scipy.ndimage import binary_dilation

    near = np.zeros(completed_mm.shape, bool)
    near[box] = True
    if ground.expected_mm is None:
        return None
    wanted = near & (completed_mm > 0) & (ground.expected_mm < 0)
    steps = np.arange(-SHUT_MM, SHUT_MM + 0.1, SPACING_MM / 2)
    open_ = wanted & ~meets_bone(wanted, completed_mm < 0, steps, scene_grid())
    if np.count_nonzero(open_) * SPACING_MM**3 / 1000 < MIN_LACKING_ML:
        return None
    # A node more on every side, so that what is added joins what is there.
    reach = binary_dilation(open_, np.ones((3, 3, 3)))
    index = indices_of(expected.mask)
    to_scene = scene_grid().inverse @ ground.frame.to_canonical @ expected.affine
    node = np.rint(index @ to_scene[:3, :3].T + to_scene[:3, 3]).astype(int)
    inside = ((node >= 0) & (node < np.array(reach.shape))).all(axis=1)
    index, node = index[inside], node[inside]
    out = np.zeros(expected.shape, bool, order="F" if expected.data.flags.f_contiguous else "C")
    out[tuple(index[reach[tuple(node.T)]].T)] = True
    return expected.with_data(out)


__all__ = ["lacking"]
