"""Made-up heads with a hole, what the engine makes of them, and scans of the same bone elsewhere."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tests.heads import SIDE, Ball, Head, family_engine, rigid, scan, truth_of

from calvaria.reconstruction.own_bone.pre_op import OldSkull
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import locate
from calvaria.volume import Volume
from calvaria.volume.distance import distance_to
from calvaria.volume.volume import bounding_box

STEP = (1.6, 1.6, 1.6)
LONG = Ball((66.0, -22.0, 30.0), 18.0)
"""With it the hole is no round one, in which a piece could be turned."""

WHOLE = Head(22)
HEAD = Head(22, (SIDE, LONG))
POSE = rigid((10, -15, 12), (30, -20, 80))


@lru_cache(maxsize=1)
def defective() -> Volume:
    """The head with its hole."""
    return scan(HEAD, None, STEP)


@lru_cache(maxsize=1)
def truth() -> Volume:
    """What is missing."""
    return truth_of(HEAD, defective())


@lru_cache(maxsize=1)
def surface() -> BoneSurface:
    """Of the bone that is there."""
    return BoneSurface.of(defective())


@lru_cache(maxsize=1)
def done() -> Completion:
    """What the engine makes of it."""
    return family_engine().reconstruct(defective(), locate(defective(), family_engine().template), surface())


@lru_cache(maxsize=4)
def old_skull(head: Head = WHOLE, *, half: bool = False) -> OldSkull:
    """A head elsewhere; or half of it, of a scan that ends in the middle of what is missing."""
    whole = scan(head, POSE, STEP)
    middle = int(whole.grid.to_index(POSE[:3, :3] @ SIDE.centre_mm + POSE[:3, 3])[2])
    seen = whole.crop(
        (slice(0, whole.shape[0]), slice(0, whole.shape[1]), slice(middle if half else 0, whole.shape[2]))
    )
    frame = locate(whole, family_engine().template)
    return OldSkull(BoneSurface.of(seen), frame, seen.grid)


def piece(kerf_mm: float, pose: NDArray[np.float64], patch: Volume | None = None) -> Volume:
    """The removed piece in a pose of its own, a kerf smaller than the hole all around."""
    patch = truth() if patch is None else patch
    box = bounding_box(patch.mask, (4, 4, 4))
    assert box is not None
    near = distance_to(defective().crop(box), limit_mm=kerf_mm + 2)
    cut = Volume(patch.mask[box] & (near > kerf_mm), patch.grid.crop(box))
    return Volume(cut.data, cut.grid.moved(pose))
