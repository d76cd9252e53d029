"""Openings of the head's wall in the common box, and which of them the user points at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.reconstruction.box import BoxField, box_grid, box_to_world
from calvaria.reconstruction.holes import holes_in, place_of
from calvaria.reconstruction.protocol import SoftField
from calvaria.reconstruction.word import Point, UserWord, given_mask, middle_of, said
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.distance import distance_to
from calvaria.volume.volume import Volume

SEED_MM = 15.0
"""A point belongs to the nearest opening within this distance: it may lie in the bone beside it, or in the brain."""

MIN_OPENING_ML = 0.1
"""Smaller openings are nothing that a point or a box can mean: gaps of thin bone."""

MEANT_SHARE = 0.5
"""Share of an opening in a box, or in a mask, from which it is meant."""

APART_MM = 60.0
"""Distances between openings are cut off here."""


@dataclass(frozen=True, eq=False)
class Openings:
    """The pieces of something in the common box.

    Args:
        labels: (I, J, K) int32 on the box grid, 0 where there is none, else 1, 2, ...
        count: how many.
        frame: the skull's.
    """

    labels: NDArray[np.int32]
    count: int
    frame: CanonicalFrame

    @classmethod
    def of(cls, open_: BoolArray, frame: CanonicalFrame, least_ml: float = MIN_OPENING_ML) -> Openings:
        """The connected pieces of at least so many ml."""
        labels, count = label(open_)
        sizes = np.bincount(labels.reshape(-1), minlength=count + 1) * voxel_ml(frame)
        kept = sizes >= least_ml
        kept[0] = False
        number = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
        return cls(number[labels], int(kept.sum()), frame)

    @property
    def all(self) -> BoolArray:
        """Where any is."""
        return self.labels > 0

    def at(self, point_mm: Point) -> int:
        """The number of the opening nearest to a world point, within `SEED_MM`; 0 where there is none."""
        apart, number = self._nearest(point_mm)
        return number if apart <= SEED_MM else 0

    def in_box(self, corners_mm: tuple[float, ...]) -> list[int]:
        """The numbers of those that lie in a box by at least half."""
        low, high = np.minimum(corners_mm[:3], corners_mm[3:]), np.maximum(corners_mm[:3], corners_mm[3:])
        index, world = self._voxels()
        inside: BoolArray = np.all((world >= low) & (world <= high), axis=1)
        return self._mostly(self.labels[tuple(index.T)], inside)

    def in_mask(self, mask: BoolArray) -> list[int]:
        """The numbers of those that lie in a mask on the box grid by at least half."""
        there = self.labels[self.all]
        return self._mostly(there, mask[self.all])

    def pieces(self, numbers: Iterable[int]) -> BoolArray:
        """Where some of them are, bool on the box grid."""
        return np.isin(self.labels, list(numbers)) & self.all

    def nearest_line(self, point_mm: Point | F64, what: str) -> str:
        """What lies nearest to a world point, in words; the point is called ``what``."""
        apart, number = self._nearest(point_mm)
        if not number:
            return "no opening was found in the whole vault"
        (hole, *_) = holes_in(Volume(self.labels == number, box_grid().moved(box_to_world(self.frame))))
        place = place_of(hole.centre_mm, self.frame)
        return (
            f"the nearest, {hole.volume_ml:.1f} ml, {place}, at {said(hole.centre_mm)}, is {apart:.0f} mm from {what}"
        )

    def _voxels(self) -> tuple[NDArray[np.intp], F64]:
        index = np.argwhere(self.all)
        return index, box_grid().moved(box_to_world(self.frame)).to_world(index)

    def _nearest(self, point_mm: Point | F64) -> tuple[float, int]:
        index, world = self._voxels()
        if not len(index):
            return np.inf, 0
        apart = np.linalg.norm(world - np.asarray(point_mm, np.float64), axis=1)
        nearest = int(apart.argmin())
        return float(apart[nearest]), int(self.labels[tuple(index[nearest])])

    def _mostly(self, numbers: NDArray[np.int32], meant: BoolArray) -> list[int]:
        whole = np.bincount(numbers, minlength=self.count + 1)
        part = np.bincount(numbers[meant], minlength=self.count + 1)
        return [n for n in range(1, self.count + 1) if part[n] >= MEANT_SHARE * whole[n]]


def pointed_at(openings: Openings, word: UserWord) -> BoolArray:
    """The openings that seeds and box point at, bool on the box grid.

    Raises:
        InputError: there is none where one is pointed at.
    """
    chosen: set[int] = set()
    for seed in word.seeds_mm:
        number = openings.at(seed)
        if not number:
            raise InputError(
                f"seed {said(seed)}: no opening lies within {SEED_MM:.0f} mm; {openings.nearest_line(seed, 'it')}; "
                "points are x, y, z in LPS mm"
            )
        chosen.add(number)
    if word.box_mm is not None:
        found = openings.in_box(word.box_mm)
        if not found:
            middle = (np.array(word.box_mm[:3]) + np.array(word.box_mm[3:])) / 2
            raise InputError(
                f"no opening lies in the box by at least half; {openings.nearest_line(middle, 'its middle')}"
            )
        chosen.update(found)
    return openings.pieces(chosen)


def kept_open(openings: Openings, word: UserWord) -> tuple[BoolArray, tuple[str, ...]]:
    """What is to stay open, bool on the box grid, and a line for each point or mask where nothing is open.

    Of a mask its own place is meant, and every opening that lies in it by at least half.
    """
    kept, lines = np.zeros(openings.labels.shape, bool), []
    for one in word.keep_open:
        if isinstance(one, Volume):
            mask = given_mask(one, "the mask of what to keep open")
            place = in_box(mask, openings.frame)
            found = openings.pieces(openings.in_mask(place)) | (openings.all & place)
            where = f"in the mask around {said(middle_of(mask))} mm"
        else:
            number = openings.at(one)
            found = openings.pieces([number] if number else [])
            where = f"within {SEED_MM:.0f} mm of {said(one)}"
        if not found.any():
            lines.append(f"keep open: nothing is open {where}, so nothing had to be kept open")
        kept |= found
    return kept, tuple(lines)


def in_box(mask: Volume, frame: CanonicalFrame) -> BoolArray:
    """Voxels of the box that hold something of a mask on any grid, be it finer or coarser."""
    grid = box_grid().moved(box_to_world(frame))
    out = np.zeros(grid.shape, bool)
    voxels = np.argwhere(mask.mask)
    index = np.rint(grid.to_index(mask.grid.to_world(voxels))).astype(np.intp)
    index = index[((index >= 0) & (index < grid.shape)).all(axis=1)]
    out[tuple(index.T)] = True
    if len(index) and 2 * max(mask.grid.spacing_mm) > min(grid.spacing_mm):
        # Between the centres of voxels that are not much finer: boxes' own centres, read in the mask.
        box = tuple(slice(max(low - 4, 0), high + 5) for low, high in zip(index.min(0), index.max(0), strict=True))
        asked = np.argwhere(np.ones_like(out[box])) + [part.start for part in box]
        there = np.rint(mask.grid.to_index(grid.to_world(asked))).astype(np.intp)
        valid = ((there >= 0) & (there < mask.shape)).all(axis=1)
        met = np.zeros(len(asked), bool)
        met[valid] = mask.mask[tuple(there[valid].T)]
        out[tuple(asked[met].T)] = True
    return out


def nearer_to(these: BoolArray, others: BoolArray) -> BoolArray:
    """Where one set of voxels of the box grid is at least as near as another."""
    if not others.any():
        return np.ones(these.shape, bool)
    near, far = (distance_to(Volume(one, box_grid()), limit_mm=APART_MM) for one in (these, others))
    return np.asarray(near <= far)


def added_by(soft: SoftField, field: BoxField) -> BoolArray:
    """The bone that a completion adds, bool on the box grid."""
    return np.asarray((soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region)


def voxel_ml(frame: CanonicalFrame) -> float:
    """Volume of a voxel of the box in the world."""
    return box_grid().voxel_volume_mm3 * float(np.prod(frame.scale)) / 1000


__all__ = ["SEED_MM", "Openings", "added_by", "in_box", "kept_open", "nearer_to", "pointed_at", "voxel_ml"]
