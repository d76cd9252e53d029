"""The bone of a CT without what is not this patient's intact skull."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.skull.foreign.doubts import doubts_of
from calvaria.skull.foreign.flaps import Flap, flaps_of
from calvaria.skull.foreign.metal import DENSE_HU, MetalPiece, metal_in
from calvaria.skull.foreign.pieces import ForeignPiece, Kind, Middle, triple
from calvaria.skull.foreign.plates import plates_of
from calvaria.skull.foreign.shell import DEPTHS_MM, Shell, shell_of
from calvaria.types import F32, F64, BoolArray, FloatArray
from calvaria.volume.blocks import coarsen
from calvaria.volume.components import label
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume, indices_of

MAX_REPORTED = 3
"""Number of pieces of a kind that get a line each, the largest first."""

SMALL_METAL_ML = 0.5
"""Less metal than this, from which nothing is taken (a clip on bone, a screw in it), is not spoken of."""

PIECE_MM = 1.6
"""Bone pieces are one piece when they meet on blocks of about this size."""

FREE_SHARE = 0.25
"""A flap that touches the skull on less than this share of its edge is loose."""

OFF_MM = 3.0
"""A loose flap farther from the vault's curve than this is taken out."""


class Found(NamedTuple):
    """What is left of the bone, and what was found.

    Args:
        bone: mask on the grid that was given, not empty.
        notes: a line each for whoever reads the result.
        pieces: the same in numbers.
    """

    bone: Volume
    notes: tuple[str, ...] = ()
    pieces: tuple[ForeignPiece, ...] = ()


class _Part(NamedTuple):
    """Voxels: (N, 3) indices in the whole grid."""

    at: NDArray[np.intp]
    ml: float


def without_foreign(
    ct: Volume, bone: Volume, offset_hu: float, threshold_hu: float = 250.0, *, keep: bool = False
) -> Found:
    """Take metal, implants and loose flaps out of the bone, and put a flap in place back that was not connected.

    Args:
        ct: in HU + ``offset_hu``, upright in world LPS mm; cropped to the head is quicker.
        bone: mask on its grid, not empty: the connected bone of the head.
        offset_hu: what has to be taken from the values to have HU.
        threshold_hu: bone lies above it.
        keep: change nothing and only say what is there: the user chose what is bone.

    Returns:
        The bone (the same object where nothing is taken or added), notes, pieces; none for an ordinary head.
    """
    notes: list[str] = []
    pieces: list[ForeignPiece] = []
    taken, metal = metal_in(ct, bone, offset_hu)
    if metal:
        pieces += _of_metal(metal, Middle.of(bone), notes, keep=keep)
    if taken is not None and taken.any() and not keep:
        bone = _main(bone, bone.mask & ~taken)
    shell = shell_of(ct, bone, offset_hu)
    if shell is not None:
        work = _Work(ct, bone, threshold_hu + offset_hu, shell, keep=keep)
        work.plates()
        work.flaps()
        bone, notes, pieces = work.bone, notes + work.notes, pieces + work.pieces
    notes += doubts_of(ct, bone, offset_hu, shell)
    return Found(bone, tuple(notes), tuple(pieces))


def _main(bone: Volume, rest: BoolArray) -> Volume:
    """The largest connected piece of what is left; what hung on metal alone goes with it."""
    blocks = coarsen(Volume(rest, bone.grid), PIECE_MM)
    found, number = label(blocks.data > 0)
    if number < 2:
        return bone.with_data(rest)
    weight = np.bincount(found.ravel(), blocks.data.ravel(), number + 1)
    weight[0] = 0
    lost = (found > 0) & (found != int(np.argmax(weight)))
    index = indices_of(rest)
    steps = [max(1, round(PIECE_MM / s)) for s in bone.grid.spacing_mm]
    gone = index[lost[tuple((index // steps).T)]]
    rest[tuple(gone.T)] = False
    return bone.with_data(rest)


def _of_metal(metal: list[MetalPiece], middle: Middle, notes: list[str], *, keep: bool) -> list[ForeignPiece]:
    """Lines on metal, and its pieces."""
    told = [one for one in metal if one.ml >= SMALL_METAL_ML or one.taken_ml >= SMALL_METAL_ML / 2]
    for one in told[:MAX_REPORTED]:
        what = f"{one.ml:.1f} ml as dense as metal (over {DENSE_HU:g} HU; {middle.place(one.centre_mm)})"
        if keep or not one.taken_ml:
            notes.append(
                f"{what} were counted as bone: if it is an implant or a plate, take it out of the image first, or a "
                "hole that it covers is not found"
            )
        else:
            notes.append(
                f"{what} were taken out of the bone, with the bloom {one.taken_ml:.1f} ml; bone under it stays"
            )
    if len(told) > MAX_REPORTED:
        fate = "counted as bone" if keep else "looked at in the same way"
        notes.append(f"{len(told) - MAX_REPORTED} more pieces as dense as metal were {fate}")
    return [
        ForeignPiece("metal", one.ml, 0.0, triple(one.centre_mm), one.hu, counted=keep or not one.taken_ml)
        for one in told
    ]


class _Work:
    """The bone while plates and flaps are looked at, one after the other."""

    def __init__(self, ct: Volume, bone: Volume, level: float, shell: Shell, *, keep: bool) -> None:
        self.ct, self.bone, self.level, self.shell, self.keep = ct, bone, level, shell, keep
        self.implants = np.zeros(shell.known.shape, bool)
        self.notes: list[str] = []
        self.pieces: list[ForeignPiece] = []

    @cached_property
    def middle(self) -> Middle:
        """Of the bone; asked only where there is something to say."""
        return Middle.of(self.bone)

    def plates(self) -> None:
        """Take implants out."""
        for plate in plates_of(self.shell, max(self.ct.grid.spacing_mm)):
            self.implants |= plate.where
            part = self._voxels(plate.where, plate.low_mm, plate.high_mm, self.bone.mask)
            area = float(self.shell.pixel_cm2[plate.where].sum())
            centre = self._centre(plate.where, (plate.low_mm + plate.high_mm) / 2)
            what = f"an implant of about {plate.hu:.0f} HU, {area:.0f} cm2 ({self.middle.place(centre)})"
            if self.keep:
                how = f"counted as bone where it is denser than the threshold ({part.ml:.1f} ml)"
            else:
                self._set(part, False)
                how = (
                    f"taken out of the bone ({part.ml:.1f} ml of it were above the threshold): its hole is to be filled"
                )
            self.notes.append(f"{what} lies in the vault: {how}")
            self.pieces.append(ForeignPiece("implant", part.ml, area, triple(centre), plate.hu, counted=self.keep))

    def flaps(self) -> None:
        """Say what flaps there are; take loose ones out, and put those in place back."""
        found = flaps_of(self.shell, max(self.ct.grid.spacing_mm), self.implants)
        for flap in found[:MAX_REPORTED]:
            self._flap(flap)
        if len(found) > MAX_REPORTED:
            self.notes.append(f"{len(found) - MAX_REPORTED} more pieces of bone are divided from the skull")

    def _flap(self, flap: Flap) -> None:
        shape = flap.where.shape
        low, high = np.full(shape, DEPTHS_MM[0] - 1, np.float32), np.full(shape, DEPTHS_MM[-1], np.float32)
        own = self._voxels(flap.where, low, high, self.bone.mask)
        loose = flap.loose or self._touching(flap, own) < FREE_SHARE
        kind: Kind = "flap" if flap.kerf_mm is not None else "loose piece"
        counted = not flap.loose
        if kind == "flap" and not self.keep:
            if flap.loose and flap.in_place:
                own = self._voxels(flap.where, low, high, (self.ct.data > self.level) & ~self.bone.mask)
                self._set(own, True)
                counted = True
            elif loose and not flap.loose and abs(flap.shift_mm) > OFF_MM:
                self._set(own, False)
                counted = False
        centre = self._centre(flap.where, np.full(shape, flap.shift_mm - 3, np.float32))
        self.notes.append(_line(flap, self.middle.place(centre), counted=counted))
        self.pieces.append(
            ForeignPiece(
                kind,
                own.ml,
                flap.area_cm2,
                triple(centre),
                counted=counted,
                shift_mm=flap.shift_mm,
                angle_degrees=flap.angle_degrees,
                kerf_mm=flap.kerf_mm,
            )
        )

    def _touching(self, flap: Flap, own: _Part) -> float:
        """On which share of its edge a flap touches other bone."""
        if not len(own.at):
            return 0.0
        low, high = own.at.min(axis=0), own.at.max(axis=0)
        shape = np.array(self.bone.shape)
        start, stop = np.maximum(low - 1, 0), np.minimum(high + 2, shape)
        box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        mine = np.zeros([int(n) for n in stop - start], bool)
        mine[tuple((own.at - start).T)] = True
        rest = self.bone.mask[box] & ~mine
        faces = self.bone.grid.voxel_volume_mm3 / np.array(self.bone.grid.spacing_mm)
        contact = 0.0
        for axis, face in enumerate(faces):
            ahead, behind = ([slice(None)] * 3 for _ in range(2))
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            a, b = tuple(ahead), tuple(behind)
            contact += float(face) * (np.count_nonzero(mine[a] & rest[b]) + np.count_nonzero(mine[b] & rest[a]))
        # A disc of this area and volume; faces along the axes add up to 4 / pi of a smooth edge.
        area = flap.area_cm2 * 100
        edge = 2 * np.sqrt(np.pi * area) * (own.ml * 1000 / area) * 4 / np.pi
        return contact / max(float(edge), 1e-6)

    def _voxels(self, where: BoolArray, low_mm: F32, high_mm: F32, among: BoolArray) -> _Part:
        """The voxels of a mask that lie on rays of the map, between two heights."""
        pixels = np.argwhere(where).astype(np.float64)
        at = tuple(pixels.astype(int).T)
        ends = np.concatenate([self.shell.points_mm(pixels, one[at].astype(np.float64)) for one in (low_mm, high_mm)])
        index = self.ct.grid.to_index(ends)
        start = np.clip(np.floor(index.min(axis=0)) - 2, 0, among.shape).astype(int)
        stop = np.clip(np.ceil(index.max(axis=0)) + 3, 0, among.shape).astype(int)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        box: Box = (i, j, k)
        voxels = indices_of(among[box]) + start
        place, height = self.shell.place_of(self.ct.grid.to_world(voxels))
        near = np.rint(place).astype(int)
        on_map = ((near >= 0) & (near < where.shape[0])).all(axis=1)
        near = np.clip(near, 0, where.shape[0] - 1)
        row, column = near.T
        inside = on_map & where[row, column] & (height >= low_mm[row, column]) & (height <= high_mm[row, column])
        return _Part(voxels[inside], float(inside.sum() * self.ct.grid.voxel_volume_mm3 / 1000))

    def _centre(self, where: BoolArray, height_mm: FloatArray) -> F64:
        at = np.argwhere(where)
        points = self.shell.points_mm(at.astype(np.float64), height_mm[tuple(at.T)].astype(np.float64))
        centre: F64 = points.mean(axis=0)
        return centre

    def _set(self, part: _Part, value: bool) -> None:
        mask = self.bone.mask.copy(order="K")
        mask[tuple(part.at.T)] = value
        self.bone = self.bone.with_data(mask)


def _line(flap: Flap, place: str, *, counted: bool) -> str:
    """What a flap or a loose piece is, and what became of it."""
    how = "counted as skull" if counted else "left out of the skull"
    where = f"{flap.shift_mm:+.0f} mm from the vault's curve ({'outside' if flap.shift_mm > 0 else 'inside'})"
    if flap.kerf_mm is None:
        return f"a piece of bone, {flap.area_cm2:.0f} cm2 ({place}), {where}, is not connected to the skull: {how}"
    what = f"{flap.area_cm2:.0f} cm2, kerf of {flap.kerf_mm:.1f} mm; {place}"
    if flap.in_place:
        return f"a bone flap lies in place ({what}): {how}"
    lies = f"a bone flap ({flap.area_cm2:.0f} cm2; {place}) lies {where}, tilted by {flap.angle_degrees:.0f} degrees"
    if counted:
        return f"{lies}: {how}, on which it hangs; check whether it is to be replaced"
    return f"{lies}: {how}, its hole is to be filled"


__all__ = ["Found", "without_foreign"]
