"""Every skull laid over the mean skull by a smooth, invertible deformation (log-demons, Vercauteren et al. 2008).

First by how much bone there is in a neighbourhood, which brings walls near each other, then by the signed distance to
the bone's surface, which brings outside to outside and inside to inside. A step moves each point against the difference
along the gradient; steps are averaged over a neighbourhood, by how much each point knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from calvaria.datasets.cache import SPACING_MM
from calvaria.deformation.flow import centres, exponential, flow, flow_grid, lattice, on_grid, read
from calvaria.types import BoolArray

LIMIT_MM = 10.0
"""Distances are cut off here."""

FLOOR_MM = -45.0
"""Below this the skull base and the face differ too much to be laid over each other; the deformation only follows."""

NEAR_MM = 4.0
"""How far from a surface a distance counts: more would tie inside and outside of thick bone together."""

ALIEN_MM = 9.0
"""Distances that differ by more do not belong to one surface."""

FLOW_MM = SPACING_MM * 2
"""Voxel edge of the grid that the deformation is found on."""

STIFF_MM = 3.8
"""Standard deviation of the smoothing of the whole velocity after each step."""

UNSURE = 0.02
"""Knowledge of a neighbourhood below which its step is shortened."""

DOUBT = 8
"""Power of the blurred known part by which blurred bone is believed: where a quarter of it comes from what is not
known, it counts a tenth."""

REFITS = 3
"""Times that what the lattice failed to hold is added: 0.03 mm rms are left, 0.16 without."""


@dataclass(frozen=True)
class Stage:
    """A part of the way.

    Args:
        blur_mm: bone is blurred so far and compared; 0 compares distances.
        reach_mm: standard deviation of the neighbourhood over which steps are averaged.
        steps: how many.
    """

    blur_mm: float
    reach_mm: float
    steps: int


STAGES = (Stage(12.8, 20.0, 8), Stage(8.0, 14.0, 8), Stage(0.0, 12.0, 8), Stage(0.0, 9.0, 8))


@dataclass(frozen=True, eq=False)
class Surface:
    """A skull as the registration sees it, on `flow_grid()`.

    Args:
        distance_mm: (1, 1, X, Y, Z) signed distance to the bone's surface, negative in bone, cut off.
        bone: (1, 1, X, Y, Z) share of bone.
        known: (1, 1, X, Y, Z) 1 where the skull is known, 0 where bone may be missing unseen.
        felt: (1, 1, X, Y, Z) 1 where the distance is to a known surface: what may be missing lies farther away.
    """

    distance_mm: Tensor
    bone: Tensor
    known: Tensor
    felt: Tensor


def surface_of(bone: BoolArray, hidden: BoolArray | None = None) -> Surface:
    """A skull of the coarse training grid, ready for registration.

    Args:
        bone: mask on `training_grid()`, holes filled as well as can be: blurred, their lack would be felt far around.
        hidden: where bone was missing: there the skull is not believed.
    """
    from scipy import ndimage

    distance = _distance(bone)
    known = felt = np.ones(bone.shape, np.float32)
    if hidden is not None and hidden.any():
        known = 1 - hidden.astype(np.float32)
        felt = (ndimage.distance_transform_edt(~hidden) * SPACING_MM > np.abs(distance)).astype(np.float32)
    return Surface(*(_halved(array) for array in (distance, bone.astype(np.float32), known, felt)))


def _halved(values: NDArray[np.float32]) -> Tensor:
    return functional.avg_pool3d(torch.from_numpy(values)[None, None], 2)


def _distance(bone: BoolArray) -> NDArray[np.float32]:
    """Signed distance to the voxels' faces, mm, cut off."""
    from scipy import ndimage

    inner, outer = (ndimage.distance_transform_edt(mask) - 0.5 for mask in (bone, ~bone))
    signed = np.where(bone, -inner, outer) * SPACING_MM
    return np.asarray(np.clip(signed, -LIMIT_MM, LIMIT_MM), np.float32)


def mean_skull() -> Surface:
    """The mean skull of the shipped shape prior: what every skull is laid over."""
    from calvaria.models import load_shape_arrays
    from calvaria.reconstruction.shape_prior.model import ShapeModel

    model = ShapeModel.from_arrays(load_shape_arrays())
    mean = torch.from_numpy(model.mean.reshape(model.grid.shape).copy())[None, None]
    distance = on_grid(mean, model.grid, flow_grid())
    ones = torch.ones_like(distance)
    return Surface(distance, torch.sigmoid(-distance / 0.8), ones, ones)


def register(skull: Surface, mean: Surface) -> Tensor:
    """The velocity field whose flow takes the mean skull's points to a skull's.

    Args:
        skull: where the flow shall end.
        mean: where it begins.

    Returns:
        (1, 3, x, y, z) on `lattice()`, mm: with u its flow, ``skull(p + u(p))`` is close to ``mean(p)``.
    """
    device = skull.bone.device
    points = centres(flow_grid(), str(device))[None]
    floor = (points[:, 2:] > FLOOR_MM).float()
    velocity = torch.zeros_like(points)
    for stage in STAGES:
        fixed, moving = (_blurred(s, stage.blur_mm) for s in (mean, skull))
        believed = blur(skull.known, stage.blur_mm) ** DOUBT if stage.blur_mm else skull.felt
        for _ in range(stage.steps):
            path = points + exponential(velocity)
            known = floor * read(believed, flow_grid(), path)
            step, weight = _step(fixed, read(moving, flow_grid(), path), stage.blur_mm)
            weight = weight * known
            sure = blur(weight, stage.reach_mm) + UNSURE
            velocity = blur(velocity + blur(step * weight, stage.reach_mm) / sure, STIFF_MM)
    return to_lattice(velocity)


def _blurred(surface: Surface, blur_mm: float) -> Tensor:
    return blur(surface.bone, blur_mm) if blur_mm else surface.distance_mm


def _step(fixed: Tensor, moving: Tensor, blur_mm: float) -> tuple[Tensor, Tensor]:
    """Where each point should go, mm, and how much it knows of that, 0 to 1."""
    off, slope = moving - fixed, _gradient(moving)
    steep = (slope**2).sum(dim=1, keepdim=True)
    if blur_mm:  # a share of bone over mm: steps are held below some mm by the difference itself
        usual = steep.mean()
        step = -off * slope / (steep + off**2 / 36 + 0.1 * usual)
        return step, steep / (steep + 0.3 * usual + off**2 / 16)
    step = -off * slope / (steep + 0.3)  # distances: the slope is 1 but for ridges
    close = torch.minimum(moving.abs(), fixed.abs())
    return step, torch.exp(-((close / NEAR_MM) ** 2)) * (off.abs() < ALIEN_MM)


def _gradient(values: Tensor) -> Tensor:
    """(1, 3, X, Y, Z) a mm; the outermost voxels see their neighbours across the border, where no skull is."""
    parts = [(values.roll(-1, axis) - values.roll(1, axis)) / (2 * FLOW_MM) for axis in (2, 3, 4)]
    return torch.cat(parts, dim=1)


def blur(values: Tensor, sigma_mm: float, spacing_mm: float = FLOW_MM) -> Tensor:
    """A Gaussian along each axis; beyond the border the outermost values go on."""
    sigma = sigma_mm / spacing_mm
    reach = int(3 * sigma) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=values.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    channels = values.shape[1]
    for axis in range(3):
        shape, pad = [1, 1, 1], [0] * 6
        shape[axis] = 2 * reach + 1
        pad[2 * (2 - axis) : 2 * (2 - axis) + 2] = reach, reach
        weight = kernel.reshape(1, 1, *shape).expand(channels, 1, *shape)
        values = functional.conv3d(functional.pad(values, pad, mode="replicate"), weight, groups=channels)
    return values


def to_lattice(velocity: Tensor) -> Tensor:
    """The lattice's velocity that comes nearest to one on `flow_grid()`."""
    sigma = 0.45 * lattice().spacing_mm[0]

    def thinned(field: Tensor) -> Tensor:
        return on_grid(blur(field, sigma), flow_grid(), lattice())

    out = thinned(velocity)
    for _ in range(REFITS):
        out = out + thinned(velocity - on_grid(out, lattice(), flow_grid()))
    return out


def misfit_mm(velocity: Tensor, skull: Surface, mean: Surface) -> Tensor:
    """How far the deformed mean skull's surface lies off a skull's, at the mean skull's surface voxels above the floor.

    Returns:
        (N,) mm: the skull's distance where the mean skull's is zero, corrected for the voxel centres' own distance.
    """
    points = centres(flow_grid(), str(velocity.device))[None]
    path = points + flow(velocity)
    off = (read(skull.distance_mm, flow_grid(), path) - mean.distance_mm).abs()
    surface = (mean.distance_mm.abs() < FLOW_MM / 2) & (points[:, 2:] > FLOOR_MM)
    surface &= read(skull.known, flow_grid(), path) > 0.99
    return off[surface]


__all__ = ["STAGES", "Stage", "Surface", "blur", "mean_skull", "misfit_mm", "register", "surface_of", "to_lattice"]
