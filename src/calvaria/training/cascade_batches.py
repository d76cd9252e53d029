"""Mini-batches of the cascade: kept cases as their networks are shown them, whole and coarse, and a window of each.

Half of a mini-batch are patches, half implants, where both are learned; a case that comes again is mirrored every other
time, and its window lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calvaria.errors import InputError
from calvaria.reconstruction.networks.cascade_inputs import coarse_input, mirrored
from calvaria.reconstruction.networks.forms import BRANCHES, Branch
from calvaria.reconstruction.networks.windows import Triple, cut_window
from calvaria.symmetry.plane import Plane
from calvaria.training.cascade_cases import CascadeCases, Kept
from calvaria.training.sketches import TRAIN, VALIDATION
from calvaria.types import F32, U8
from calvaria.volume.blocks import block_means

JITTER_SHARE = 0.125
"""A window's middle lies so far, as a share of its edge, from a voxel of the patch or of the implant, at most."""


class CascadeBatch(dict[str, Tensor]):
    """Samples of both branches.

    ``maps`` (B, C, X, Y, Z) float32, what the coarse network is shown; ``truth`` and ``known`` (B, 1, X, Y, Z) float32
    on the coarse grid; ``window``, ``window_truth`` and ``window_known`` (B, 1, W, W, W) uint8, in 255ths; ``start``
    (B, 3) first voxel of the window on the full grid; ``head`` (B,) place in `BRANCHES` of the head that learns; behind
    the prior also ``window_depth``, as ``window``.
    """


class CascadeSource:
    """Makes mini-batches of kept cases.

    Args:
        cases: made and kept.
        batch: samples in a mini-batch; of both branches the first half are patches, the other implants.
    """

    device = torch.device("cpu")

    def __init__(self, cases: CascadeCases, batch: int) -> None:
        self.cases, self.batch = cases, batch

    def make(self, numbers: Sequence[int]) -> CascadeBatch:
        """The mini-batch of some sample numbers."""
        return batched([self._sample(number) for number in numbers])

    def _sample(self, number: int) -> dict[str, Any]:
        batch, place = divmod(number, self.batch)
        branches = self.cases.branches
        each = self.batch // len(branches)
        branch = branches[place // each]
        index, count = batch * each + place % each, self.cases.recipe.data.count
        kept = self.cases.read(TRAIN, branch, index % count)
        if index // count % 2:  # shown again
            kept = kept.mirrored()
        rng = np.random.default_rng([self.cases.recipe.data.seed, 2, number])
        start = window_start(rng, kept, self.cases.recipe.data.window)
        return sample_of(kept, branch, self.cases, start)


def window_start(rng: np.random.Generator | None, kept: Kept, size: int) -> Triple:
    """First voxel of a window: about a voxel of what is learned, or, without chance, about its middle; on the grid."""
    voxels = np.flatnonzero(kept.truth)
    middle = np.array(kept.truth.shape) / 2
    if len(voxels) and rng is not None:
        one = int(voxels[rng.integers(len(voxels))])
        jitter = rng.uniform(-JITTER_SHARE, JITTER_SHARE, 3) * size
        middle = np.array(np.unravel_index(one, kept.truth.shape)) + jitter
    elif len(voxels):
        middle = np.array(np.unravel_index(voxels, kept.truth.shape)).mean(axis=1)
    last = np.array(kept.truth.shape) - size
    x, y, z = (int(n) for n in np.clip(np.rint(middle - size / 2), 0, last))
    return x, y, z


def sample_of(kept: Kept, branch: Branch, cases: CascadeCases, start: Triple) -> dict[str, Any]:
    """What of a case goes into a mini-batch, see `CascadeBatch`.

    Args:
        kept: the case.
        branch: which head learns.
        cases: where it comes from, with the recipe and the coarse grid.
        start: first voxel of the window.
    """
    form, zoom, size = cases.recipe.form, cases.recipe.data.zoom, cases.recipe.data.window
    seen, truth, known = (block_means(one, (zoom, zoom, zoom)) for one in (kept.bone, kept.truth, kept.known))
    maps: dict[str, F32] = {"skull": seen}
    if form.mirror != "none":
        maps["mirror"] = mirrored(seen, cases.coarse, form.mirror, Plane(kept.plane[:3], float(kept.plane[3])))
    maps |= {name: getattr(kept, name) for name in form.further}
    cut = (size, size, size)
    window, there, sure = (cut_window(one, start, cut) for one in (kept.bone, kept.truth, kept.known))
    target = soft_window(kept, start, size) if form.soft else 255 * there.astype(np.uint8)
    further = {}
    if form.behind:
        if kept.depth is None:
            raise InputError("these cases were kept without the depth of the prior's completion; name another folder")
        further["window_depth"] = cut_window(kept.depth, start, cut)[None]
    return {
        **further,
        "maps": coarse_input(form, maps),
        "truth": (truth if form.soft else (truth > 0.5).astype(np.float32))[None],
        "known": known[None],
        "window": 255 * window.astype(np.uint8)[None],
        "window_truth": target[None],
        "window_known": 255 * sure.astype(np.uint8)[None],
        "start": np.array(start, np.int64),
        "head": np.int64(BRANCHES.index(branch)),
    }


def soft_window(kept: Kept, start: Triple, size: int) -> U8:
    """How much of each voxel of a window is missing, in 255ths, from masks of yes and no.

    The mask averaged over a voxel and its neighbours: its half level is the mask's surface. Towards bone nothing is
    taken off: missing bone and bone are one there.
    """
    wide, from_ = (size + 2,) * 3, tuple(n - 1 for n in start)
    truth, bone = (cut_window(one, from_, wide).astype(np.float32) for one in (kept.truth, kept.bone))  # type: ignore[arg-type]
    near = _smoothed(truth)
    there = np.where((near > 0) & (bone[1:-1, 1:-1, 1:-1] == 0), _smoothed(np.maximum(truth, bone)), 0)
    # Beside bone that is no part of a rim, the bone's own edge is none of what is missing.
    there = np.where(truth[1:-1, 1:-1, 1:-1] > 0, there, np.minimum(there, near))
    out: U8 = np.rint(255 * there).astype(np.uint8)
    return out


def _smoothed(values: F32) -> F32:
    """A quarter, a half, a quarter along each axis; a voxel less on every side."""
    for axis in range(3):
        n = values.shape[axis]
        low, middle, high = (values.take(range(k, n - 2 + k), axis) for k in range(3))
        values = ((low + 2 * middle + high) / 4).astype(np.float32)
    return values


def batched(samples: Sequence[Mapping[str, Any]]) -> CascadeBatch:
    """Samples side by side."""
    return CascadeBatch({name: torch.from_numpy(np.stack([one[name] for one in samples])) for name in samples[0]})


def watched_batch(cases: CascadeCases, number: int) -> CascadeBatch:
    """A validation case of each branch, its window about the middle of what is missing."""
    samples = []
    for branch in cases.branches:
        kept = cases.read(VALIDATION, branch, number)
        start = window_start(None, kept, cases.recipe.data.window)
        samples.append(sample_of(kept, branch, cases, start))
    return batched(samples)


__all__ = ["CascadeBatch", "CascadeSource", "batched", "sample_of", "soft_window", "watched_batch", "window_start"]
