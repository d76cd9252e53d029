"""The symmetry loss SL (Wodzinski et al., eq. 1): how far a volume is from its own mirror image.

SL(V, pi) = DiceLoss(V, R(V, pi)), with the Dice of soft volumes as in V-Net (Milletari et al. 2016), squares below:

    SL = 1 - 2 sum(V R) / (sum(V^2) + sum(R^2)) = sum((V - R)^2) / (sum(V^2) + sum(R^2))

For masks that is the paper's loss; for blurred bone, unlike the Dice without squares, it is 0 at perfect symmetry.
"""

from __future__ import annotations

from torch import Tensor

from calvaria.symmetry.reflection import read_volumes, reflect_points, reflect_volumes
from calvaria.volume.grid import Grid

EMPTY = 1e-6
"""Sum of squares below which a volume is empty: an empty volume is symmetric."""


def dice_loss(one: Tensor, other: Tensor, weight: Tensor | None = None) -> Tensor:
    """(B,) Dice losses of two batches of soft volumes or values, (B, ...); 0 where both are empty.

    Args:
        one: see above.
        other: the same shape.
        weight: of each voxel, broadcastable to their shape; None: all alike.
    """
    off, both = (one - other) ** 2, one**2 + other**2
    if weight is not None:
        off, both = off * weight, both * weight
    return off.flatten(1).sum(dim=1) / (both.flatten(1).sum(dim=1) + EMPTY)


def symmetry_loss(volumes: Tensor, grid: Grid, planes: Tensor, window: Tensor | None = None) -> Tensor:
    """SL of whole volumes, or of what a window shows of them.

    Args:
        volumes: (B, C, X, Y, Z), soft bone, 0 to 1.
        grid: of all of them.
        planes: (B, 4), of unit normals, world mm.
        window: (B or 1, 1, X, Y, Z) weights: where the two sides are compared, such as the calvaria without the face.

    Returns:
        (B,) 0 (equal) to 1 (nothing in common); differentiable in volumes and planes.
    """
    return dice_loss(volumes, reflect_volumes(volumes, grid, planes), window)


def symmetry_loss_at(volumes: Tensor, grid: Grid, planes: Tensor, points_mm: Tensor) -> Tensor:
    """SL at chosen points only: a window as a list of points, so many times cheaper than the volume.

    Args:
        volumes: (B, C, X, Y, Z), soft bone, 0 to 1.
        grid: of all of them.
        planes: (B, 4), of unit normals, world mm.
        points_mm: (B or 1, N, 3) world mm.

    Returns:
        (B,) as :func:`symmetry_loss`.
    """
    points = points_mm.expand(len(volumes), -1, -1)
    here = read_volumes(volumes, grid, points)
    return dice_loss(here, read_volumes(volumes, grid, reflect_points(points, planes)))


__all__ = ["dice_loss", "symmetry_loss", "symmetry_loss_at"]
