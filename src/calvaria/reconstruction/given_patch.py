"""A patch that came from elsewhere: brought onto its skull's grid, and what is odd about it said.

Another program's answer, a surgeon's sketch, an old implant: nobody promises that such a patch lies on the skull's
grid, that it keeps off the bone, that it is a patch and not the completed skull, or that it belongs to this head.
"""

from __future__ import annotations

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.box import box_grid, box_to_world
from calvaria.reconstruction.postprocess import without_flakes
from calvaria.reconstruction.protocol import MAX_MISFIT_MM, Completion
from calvaria.skull.canonical import GOOD_COST, CanonicalFrame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.skull.kinds import require_numbers
from calvaria.types import F64, BoolArray
from calvaria.volume.distance import reach_voxels
from calvaria.volume.foreground import foreground_of, has_two_values, looks_inverted
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume, bounding_box, indices_of

MAX_GAP_MM = 20.0
"""A patch that keeps farther away from all bone closes no hole of this skull; a loose implant keeps a few mm."""

HEAD_REACH_MM = np.array([90.0, 112.0, 95.0])
"""A patch's centre lies nearer to the head's than this along x, y, z, on the mean skull, whose vault reaches 72, 96 and
85 mm from there: on the skull or within."""

TRACE_ML = 0.1
"""Less overlap with the bone is rounding at the rim, and not worth a warning."""

COMPLETED_SHARE = 0.5
"""A mask that holds more than this part of the bone, and more bone than anything else, is the completed skull."""

TREE_VOXELS, ASKED_VOXELS = 100_000, 20_000
"""The gap between patch and bone is measured with about so many voxels of the bone and of the patch."""


def mask_of_patch(patch: Volume) -> Volume:
    """The voxels that are set in a patch.

    Args:
        patch: booleans, or two values; see `calvaria.volume.foreground`.

    Returns:
        A mask on the same grid, not empty.

    Raises:
        InputError: it has other values, as a CT has; no voxel is set; or bone and background are exchanged.
    """
    if not patch.is_mask:
        require_numbers(patch, "the patch")
        if not has_two_values(patch.data):
            low, high = patch.data.min(), patch.data.max()
            hint = "it looks like a CT" if low < 0 else "it looks like a map of labels or of probabilities"
            raise InputError(
                f"a patch is a mask of two values, such as 0 and 1; this one holds more, from {low:g} to {high:g}: "
                f"{hint}; give the missing bone alone as a mask, or as a closed mesh"
            )
        patch = patch.with_data(foreground_of(patch.data))
    if not patch.mask.any():
        raise InputError("the patch is empty: no voxel is set; give the missing bone as a mask")
    if looks_inverted(patch.mask):
        share = np.count_nonzero(patch.mask) / patch.mask.size
        raise InputError(
            f"{share:.0%} of the volume and most of its border are set: patch and background seem to be exchanged; "
            "write the patch as 1 and the background as 0"
        )
    return patch


def on_skull(patch: Volume, defective: Volume, frame: CanonicalFrame) -> tuple[Volume, tuple[str, ...]]:
    """A given patch as missing bone of a skull.

    Args:
        patch: from `mask_of_patch`, on any grid. Of a completed skull, what lies beyond the bone is the patch.
        defective: mask of the bone that is there, not empty.
        frame: the skull's.

    Returns:
        A mask on the skull's grid that is not empty and has no voxel in the bone, and lines on what was changed.

    Raises:
        InputError: nothing of it lies on the skull's grid, it lies away from the head, or all of it is bone.
    """
    placed, notes = _on_grid(patch, defective)
    _require_near(placed, defective, frame)
    both = int(np.count_nonzero(placed.mask & defective.mask))
    new = placed.mask & ~defective.mask
    if both > COMPLETED_SHARE * np.count_nonzero(defective.mask) and both > np.count_nonzero(new):
        found = defective.with_data(_ordered(without_flakes(placed.with_data(new)), defective))
        if not found.mask.any():
            raise InputError(
                "this is the skull itself: nothing of it is missing bone; give the missing bone, or the completed skull"
            )
        line = f"the patch holds the bone of the skull: its {found.volume_ml:.1f} ml beyond the bone are taken"
        return found, (*notes, line)
    overlap_ml = both * defective.grid.voxel_volume_mm3 / 1000
    if not new.any():
        raise InputError(
            f"all of its {overlap_ml:.1f} ml lie in bone that is there: nothing of it is missing bone; check that "
            "patch and skull are in one frame"
        )
    if overlap_ml > TRACE_ML:
        notes = (*notes, f"{overlap_ml:.1f} ml of the patch lie in bone that is there, and are taken off it")
    return defective.with_data(_ordered(new, defective)), notes


def prior_for(done: Completion, patch: Volume) -> tuple[Completion | None, tuple[str, ...]]:
    """The shape prior's completion of a skull, if it says anything about a patch.

    Args:
        done: the completion.
        patch: mask, not empty.

    Returns:
        The completion and no line; or None and a line that says why.
    """
    without = "the patch is refined without the shape prior"
    if done.soft.misfit_mm > MAX_MISFIT_MM:
        return None, (f"the bone is {done.soft.misfit_mm:.1f} mm unlike that of known skulls: {without}",)
    if done.frame.cost > GOOD_COST:
        return None, (f"the head is unlike those known (mismatch {done.frame.cost:.2f}): {without}",)
    if not done.soft.region.any():
        return None, (f"the shape prior finds no hole in the skull: {without}",)
    index = np.rint(box_grid().moved(box_to_world(done.frame)).to_index(_points(patch.mask, patch.grid))).astype(int)
    index = index[((index >= 0) & (index < done.soft.region.shape)).all(axis=1)]
    if not done.soft.region[tuple(index.T)].any():
        return None, (f"the patch lies in none of the holes that the shape prior finds: {without}",)
    return done, ()


def _on_grid(patch: Volume, defective: Volume) -> tuple[Volume, tuple[str, ...]]:
    if patch.grid.same_as(defective.grid):
        return defective.with_data(patch.mask), ()
    grids = f"the patch has {_words(patch.grid)}, the skull {_words(defective.grid)}"
    placed = resample_mask(patch, defective.grid)
    if not placed.mask.any():
        raise InputError(
            f"nothing of the patch lies on the skull's grid ({grids}); check that both are in one frame, and in mm"
        )
    return placed, (f"{grids}: it was resampled onto the skull's grid",)


def _words(grid: Grid) -> str:
    """A grid in words: voxels, their size, and the position of the first."""
    shape, spacing = " x ".join(f"{n}" for n in grid.shape), " x ".join(f"{mm:.3g}" for mm in grid.spacing_mm)
    return f"{shape} voxels of {spacing} mm from ({', '.join(f'{mm:.1f}' for mm in grid.to_world((0, 0, 0)))})"


def _require_near(patch: Volume, defective: Volume, frame: CanonicalFrame) -> None:
    """Raise where a patch lies where no skull is."""
    centre = _points(patch.mask, patch.grid).mean(axis=0)
    where = f"its centre lies at ({', '.join(f'{mm:.0f}' for mm in centre)}) mm"
    check = "check that patch and skull are in one frame"
    mean_mm = (frame.to_canonical[:3, :3] @ centre + frame.to_canonical[:3, 3]) / frame.scale
    if (np.abs(mean_mm - HEAD_CENTRE_MM) > HEAD_REACH_MM).any():
        raise InputError(f"the patch lies outside of the head ({where}); {check}")
    if _gap_mm(patch, defective) > MAX_GAP_MM:
        raise InputError(f"no bone lies within {MAX_GAP_MM:.0f} mm of the patch ({where}); {check}")


def _gap_mm(patch: Volume, defective: Volume) -> float:
    """About the smallest distance between the voxels of two masks; infinite where it is beyond `MAX_GAP_MM`."""
    from scipy.spatial import cKDTree

    box = bounding_box(patch.mask, reach_voxels(patch.grid, MAX_GAP_MM))
    if box is None or not defective.mask[box].any():
        return np.inf
    part = defective.crop(box)
    tree = cKDTree(_points(part.mask, part.grid, TREE_VOXELS))
    distances, _ = tree.query(_points(patch.mask, patch.grid), distance_upper_bound=1.01 * MAX_GAP_MM)
    return float(distances.min())


def _points(mask: BoolArray, grid: Grid, at_most: int = ASKED_VOXELS) -> F64:
    """(N, 3) world mm of voxels of a mask, evenly chosen in the order of memory."""
    fortran = mask.strides[0] < mask.strides[2]
    index = indices_of(mask.T)[:, ::-1] if fortran else indices_of(mask)  # a copy in another order takes a second
    return grid.to_world(index[:: max(1, len(index) // at_most)])


def _ordered(mask: BoolArray, like: Volume) -> BoolArray:
    """A mask in the memory order of another."""
    return np.asarray(mask, order="F" if like.data.flags.f_contiguous else "C")


__all__ = ["mask_of_patch", "on_skull", "prior_for"]
