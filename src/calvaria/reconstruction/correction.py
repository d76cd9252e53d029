"""A small network that corrects the shape prior's completion of a hole.

The prior is a linear model of some two hundred modes of a smooth field; what it misses is in part the same in many
heads, and in part told by what it misses elsewhere: at the hole's own rim and on the other side of the head. The
network is shown both and gives, in mm, what is to be added to the completed distance. It is a U-Net (Ronneberger et al.
2015) of four levels, run in numpy; `training.correction` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.reconstruction import layers
from calvaria.reconstruction.box import box_grid
from calvaria.volume.grid import Box
from calvaria.volume.volume import bounding_box

F32 = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

PREFIX = "correction."
"""Before the names of the network's arrays in the prior's file."""

SHOWN_MM, ROOM = 2.5, (6, 6, 6)
"""The network corrects up to so far around the hole's outline, and is shown so many voxels more."""

LEVELS = 3
"""Times that the volume is halved on the way down."""

MOST_MM = 3.0
"""No distance is corrected by more."""

SIDE = 5
"""The channel that is a place along the left-right axis: it changes its sign in the mirror."""

CHANNELS = 11


class Completion(NamedTuple):
    """A hole's completion by the prior, and what is known beside it; all on the box grid or a crop of it.

    Args:
        values: completed distances, read at least up to `SHOWN_MM` around the outline.
        distance_mm: the skull's own.
        known: where those mean something.
        gap_mm: distance to the hole's outline.
        depth: usual depth of bone.
        opposite_mm: the skull's own distances at the mirrored places.
        opposite_known: where those mean something, and lie outside the hole.
        opposite_fit: what the prior's fit gives at the mirrored places, around the outline.
    """

    values: F32
    distance_mm: F32
    known: BoolArray
    gap_mm: F32
    depth: F32
    opposite_mm: F32
    opposite_known: BoolArray
    opposite_fit: F32

    def crop(self, box: Box) -> Completion:
        """The same in a box."""
        return Completion._make(part[box] for part in self)


def shown_box(gap_mm: F32) -> Box | None:
    """What the network is shown; None without a hole."""
    return bounding_box(gap_mm <= SHOWN_MM, ROOM)


def channels(part: Completion, box: Box) -> F32:
    """(`CHANNELS`, X, Y, Z) what the network is shown of a completion that was cropped to a box of the box grid."""
    near = part.gap_mm <= SHOWN_MM
    both = part.opposite_known & near
    # What the same fit misses on the other side of the head, where it can be seen.
    missed = np.where(both, np.clip(part.opposite_mm, -3, 3) - np.clip(part.opposite_fit, -3, 3), 0)
    place = box_grid().crop(box).centres_mm()
    return np.stack(
        [
            np.clip(np.where(near, part.values, part.distance_mm), -6, 6) / 3,
            np.clip(part.distance_mm, -6, 6) / 3,
            np.clip(part.gap_mm, 0, 6) / 3,
            part.known,
            part.depth / 3,
            place[..., 0] / 60,
            place[..., 1] / 80,
            (place[..., 2] - 20) / 50,
            np.clip(missed, -2, 2),
            both,
            np.clip(part.opposite_mm, -6, 6) / 3,
        ]
    ).astype(np.float32)


class Correction:
    """The network.

    Args:
        arrays: its weights by name, as `training.correction` names them.

    Raises:
        InputError: one is missing.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self._arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        lacking = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
        lacking = [name for name in lacking if name not in self._arrays]
        if lacking:
            raise InputError(f"these weights are no correction: {lacking[0]} is missing; install them again")

    @classmethod
    def found_in(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Correction | None:
        """The correction in the arrays of a prior's file; None where there is none."""
        own = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
        return cls(own) if own else None

    def __call__(self, completion: Completion) -> F32:
        """The completed distances with the correction added, around the outline."""
        box = shown_box(completion.gap_mm)
        if box is None:
            return completion.values
        shown = channels(completion.crop(box), box)
        # The mirrored skull as well, so that left and right are alike.
        mirrored = shown[:, ::-1].copy()
        mirrored[SIDE] *= -1
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(self._run, (shown, mirrored))
        out = completion.values.copy()
        out[box] += np.where(completion.gap_mm[box] <= SHOWN_MM, (one + other[::-1]) / 2, np.float32(0))
        return out

    def _run(self, shown: F32) -> F32:
        """(X, Y, Z) mm to be added, for (`CHANNELS`, X, Y, Z)."""
        step = 2**LEVELS
        x = np.pad(shown, [(0, 0), *((0, -n % step) for n in shown.shape[1:])], mode="edge")
        a = layers.leaky(self._layer(layers.conv, layers.leaky(self._layer(layers.conv, x, "i")), "i2"))
        b = self._block(self._layer(layers.halved, a, "d1"), "b")
        c = self._block(self._layer(layers.halved, b, "d2"), "c")
        d = self._block(self._layer(layers.halved, c, "d3"), "e")
        c = self._block(self._layer(layers.doubled, d, "u3") + c, "f")
        b = self._block(self._layer(layers.doubled, c, "u2") + b, "g")
        a = layers.leaky(self._layer(layers.conv, self._layer(layers.doubled, b, "u1") + a, "h"))
        added = MOST_MM * np.tanh(self._layer(layers.point, a, "o")[0])
        i, j, k = shown.shape[1:]
        return np.asarray(added[:i, :j, :k], np.float32)

    def _block(self, x: F32, name: str) -> F32:
        for conv, norm in (("one", "n1"), ("two", "n2")):
            x = self._layer(layers.conv, x, f"{name}.{conv}")
            x = layers.leaky(self._layer(layers.normed, x, f"{name}.{norm}"))
        return x

    def _layer(self, layer: Callable[[F32, F32, F32], F32], x: F32, name: str) -> F32:
        return layer(x, self._arrays[f"{name}.weight"], self._arrays[f"{name}.bias"])


LAYERS = (
    *("i", "i2", "d1", "d2", "d3", "u3", "u2", "u1", "h", "o"),
    *(f"{block}.{part}" for block in "bcefg" for part in ("one", "n1", "two", "n2")),
)
"""Names of the layers: in, down, up, out, and the blocks between."""


__all__ = ["CHANNELS", "PREFIX", "SHOWN_MM", "SIDE", "Completion", "Correction", "channels", "shown_box"]
