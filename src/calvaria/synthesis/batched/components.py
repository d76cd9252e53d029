"""Connected components of small masks as tensors, on the CPU or a GPU alike."""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor


def pieces(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Number the pieces of a mask that are connected by faces.

    On the CPU by scipy, elsewhere by :func:`hooked`, with the same result.

    Args:
        mask: (X, Y, Z) bool; may be empty.

    Returns:
        (X, Y, Z) int32 labels, 0 outside the mask and 1, 2, ... on its pieces in order of their first voxel; and
        (P + 1,) int64 how many voxels of the mask have each label, so that the first is 0.
    """
    if mask.device.type != "cpu":
        return hooked(mask)
    labels = torch.zeros(mask.shape, dtype=torch.int32)
    count = ndimage.label(mask.numpy(), output=labels.numpy())
    return labels, torch.bincount(labels[mask], minlength=count + 1)


def hooked(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same by tensor operations alone.

    Labels hook onto smaller ones across faces and are then shortened to their roots, in rounds (FastSV: Zhang, Azad
    and Hu 2020); the work goes with the voxels of the mask, not of the box.
    """
    labels = torch.zeros(mask.shape, dtype=torch.int32, device=mask.device)
    count = int(mask.sum())
    if count == 0:
        return labels, torch.zeros(1, dtype=torch.int64, device=mask.device)
    number = torch.full(mask.shape, -1, dtype=torch.int64, device=mask.device)
    each = torch.arange(count, device=mask.device)
    number[mask] = each
    _, names, sizes = torch.unique(_settle(each, *_faces(number)), return_inverse=True, return_counts=True)
    labels[mask] = names.to(torch.int32) + 1
    return labels, torch.cat([sizes.new_zeros(1), sizes])


def _faces(number: Tensor) -> tuple[Tensor, Tensor]:
    """(E,) and (E,) the numbers of each two voxels that share a face."""
    first, second = [], []
    for axis in range(3):
        length = number.shape[axis] - 1
        low, high = number.narrow(axis, 0, length), number.narrow(axis, 1, length)
        both = (low >= 0) & (high >= 0)
        first.append(low[both])
        second.append(high[both])
    return torch.cat(first), torch.cat(second)


def _settle(number: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The smallest number of each voxel's piece."""
    parent, grand = number, number
    both = torch.cat([first, second])
    while True:
        # Each voxel, and the one it hangs on, takes the smallest grandparent that it sees across a face.
        least = torch.minimum(grand[first], grand[second]).repeat(2)
        parent = parent.scatter_reduce(0, parent[both], least, "amin").scatter_reduce(0, both, least, "amin")
        parent = torch.minimum(parent, grand)
        settled = parent[parent]
        if torch.equal(settled, grand):
            return grand
        grand = settled


__all__ = ["hooked", "pieces"]
