"""Where a mesh belongs: which coordinates its file speaks in, found by how it sits in the skull's hole.

Meshes of implants come without a word about their frame: LPS or RAS, from the scanner's origin or the volume's corner,
in voxels, metres or millimetres, axes in the order of some array. Each of these conventions puts the mesh somewhere. It
belongs where it lies in the head's outer surface, over missing bone, with bone all around its rim and none in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calvaria.errors import InputError
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL, CanonicalFrame, canonical_grid
from calvaria.skull.head import HEAD_CENTRE_MM, HEAD_HALF_AXES_MM
from calvaria.types import F64, FloatArray
from calvaria.volume.distance import signed_distance
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_mask
from calvaria.volume.rotation import across
from calvaria.volume.volume import Volume

UNITS_MM = {"": 1.0, "-cm": 10.0, "-m": 1000.0}
"""Suffix of a convention's name -> millimetres in a unit of the file."""

CONTACT_MM = 4.0
"""Bone this near to a rim touches it: clearance of up to 1.5 mm, scar tissue, and a field of 1.6 mm voxels."""

GAP_MM = (-4.0, 12.0)
"""Gaps are cut at these before their spread is taken: bone that is deeper or further away says no more."""

UNEVEN_MM = 3.0
"""A gap that varies by this standard deviation halves the fit. It is 0.1 to 0.4 mm where an implant was made for the
hole, and grows by 0.4 to 0.6 mm for each mm that it lies beside it."""

SHELL_MM = 22.0
"""A point belongs to the vault if it lies this near to the model head; real vaults lie within 15 mm of it."""

RAY_MM = 10.0
"""Bone is looked for so far above and below a point, along the ray from the head centre: the vault is 3-10 mm
thick."""

SECTORS = 24
"""Directions about the centre in which the rim is examined."""

MAX_POINTS = 4000
"""Points of a mesh that are used."""

MIN_FIT = 0.5
"""A mesh that sits worse does not belong there. Implants and patches simulated in three real skulls sit at 0.88 to 1;
shifted by 6 mm at 0.44 to 0.53, by 10 mm at 0.18 to 0.20, by 30 mm below 0.18, and on the other side at 0."""

CLEAR = 0.15
"""The best position must fit better than any other by this, or a person has to say which is right; 6 mm cost 0.4."""

LENGTH_MM = (20.0, 260.0)
"""Longest side of what may sit in a hole: cleared implants have 25 to 250 mm (K250334). It tells units apart: the same
mesh read in metres instead of millimetres is a dot, which sits well in any hole."""

SAME_POSITION_MM = 6.0
"""Two conventions that move a mesh less apart than this, on average, mean one position; the better one is taken."""

TWIN_MM, TWIN_FIT = 1.0, 0.1
"""Conventions further apart than this that fit no worse than this are named in a warning."""

VAULT_DIRECTIONS = 2000
"""Rays through the vault on which bone is looked for."""

STEP_MM = 1.6
"""Step along rays: the voxel of the field."""


@dataclass(frozen=True)
class Sit:
    """How something sits in a skull; all but the last are shares, 0 to 1.

    Args:
        over_hole: part of its volume with no bone above or below.
        contact: part of the directions about its centre in which its rim meets bone.
        on_shell: part of its volume where a skull's vault is.
        in_bone: part of its volume inside bone.
        uneven_mm: standard deviation of the gap between rim and bone over those directions.
    """

    over_hole: float
    contact: float
    on_shell: float
    in_bone: float
    uneven_mm: float = 0.0

    @property
    def fit(self) -> float:
        """All in one: 1 sits perfectly, 0 does not belong there."""
        even = 1.0 / (1.0 + (self.uneven_mm / UNEVEN_MM) ** 2)
        return self.over_hole * self.contact * self.on_shell * (1.0 - self.in_bone) * even

    def __str__(self) -> str:
        """The figures as they are said in messages."""
        return (
            f"fit {self.fit:.2f}: {self.over_hole:.0%} over missing bone, rim at bone in {self.contact:.0%} of the "
            f"directions with a gap uneven by {self.uneven_mm:.1f} mm, {self.on_shell:.0%} in the skull's vault, "
            f"{self.in_bone:.0%} inside bone"
        )


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The bone around a hole, as a field in the canonical frame.

    Args:
        distance: signed distance to bone (mm, negative inside) on the canonical grid.
        to_canonical: (4, 4) world LPS mm -> canonical mm.
        scale: (3,) size of this head over the mean head.
    """

    distance: Volume
    to_canonical: F64
    scale: F64

    @classmethod
    def of(cls, skull: Volume, frame: CanonicalFrame) -> Surroundings:
        """The field of a defective skull.

        Args:
            skull: mask, world LPS.
            frame: its canonical frame.
        """
        bone = resample_mask(skull, canonical_grid().moved(frame.to_world))
        distance = signed_distance(Volume(bone.mask, canonical_grid()))
        return cls(Volume(distance, canonical_grid()), frame.to_canonical, frame.scale)

    def at(self, points_mm: FloatArray) -> FloatArray:
        """Signed distance at (..., 3) canonical points, mm; what lies outside the field is as far as its edge."""
        from scipy.ndimage import map_coordinates

        index = self.distance.grid.to_index(points_mm)
        values: FloatArray = map_coordinates(self.distance.data, np.moveaxis(index, -1, 0), order=1, mode="nearest")
        return values

    def sit(self, points_mm: F64) -> Sit:
        """How something sits.

        Args:
            points_mm: (N, 3) world mm, evenly spread over its volume; at least one.
        """
        points = points_mm @ self.to_canonical[:3, :3].T + self.to_canonical[:3, 3]
        beyond = self._beyond_mm(points)
        distance = self.at(points)
        on_shell = np.abs(beyond) < SHELL_MM
        gaps = _gaps(points - HEAD_CENTRE_MM * self.scale, distance)
        covered = (self._along_rays(points) < 0).any(axis=1)
        return Sit(
            over_hole=float((on_shell & ~covered).mean()),
            contact=float((gaps < CONTACT_MM).mean()),
            on_shell=float(on_shell.mean()),
            in_bone=float((distance < 0).mean()),
            uneven_mm=float(np.clip(gaps, *GAP_MM).std()),
        )

    def vault_share(self) -> float:
        """Part of the vault, over all directions above the landmark plane, where there is bone."""
        n = np.arange(VAULT_DIRECTIONS) + 0.5
        z, turn = 1 - 2 * n / VAULT_DIRECTIONS, np.pi * (1 + np.sqrt(5)) * n  # evenly over the sphere (golden angle)
        radius = np.sqrt(1 - z * z)
        ball = np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)
        points = HEAD_CENTRE_MM + ball * HEAD_HALF_AXES_MM
        above = points @ LANDMARK_NORMAL < LANDMARK_MM
        around = self._along_rays(points[above] * self.scale, SHELL_MM)
        return float((around < 0).any(axis=1).mean())

    def _beyond_mm(self, points: F64) -> F64:
        """How far canonical points lie beyond the model head, mm, along the ray from its centre."""
        radial = points / self.scale - HEAD_CENTRE_MM
        rho = np.linalg.norm(radial / HEAD_HALF_AXES_MM, axis=1)
        return np.asarray(np.linalg.norm(radial, axis=1) * (1 - 1 / np.maximum(rho, 1e-6)))

    def _along_rays(self, points: F64, reach_mm: float = RAY_MM) -> FloatArray:
        """(N, S) signed distances on the ray through each point, up to a reach above and below."""
        radial = points - HEAD_CENTRE_MM * self.scale
        direction = radial / np.maximum(np.linalg.norm(radial, axis=1, keepdims=True), 1e-6)
        steps = np.arange(-reach_mm, reach_mm + STEP_MM, STEP_MM)
        return self.at(points[:, None, :] + steps[:, None] * direction[:, None, :])


def _gaps(radial: F64, distance: FloatArray) -> F64:
    """(SECTORS,) least distance to bone, mm, in each direction about points' centre, seen from the head centre."""
    centre = radial.mean(axis=0)
    out = centre / max(float(np.linalg.norm(centre)), 1e-6)
    side, other = across(out)
    rest = radial - centre
    angle = np.arctan2(rest @ other, rest @ side)
    sector = np.floor((angle / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    nearest = np.full(SECTORS, np.inf)
    np.minimum.at(nearest, sector, distance)
    return nearest


def mesh_conventions(grid: Grid) -> dict[str, F64]:
    """Every convention of mesh coordinates that is tried, as a map to world LPS mm.

    Args:
        grid: the skull's own grid, as its file has it.

    Returns:
        Name -> (4, 4). ``lps`` and ``ras``: world coordinates; with ``-corner``: from the centre of the first voxel
        instead of the world's origin; ``box``: mm along the volume's axes from that voxel; ``index``: in voxels;
        ``-flip``: the second axis counted from its other end, as in pictures; ``-zyx``: axes in the order of an array
        that was read the other way; ``-cm`` and ``-m``: lengths in that unit.
    """
    corner = np.eye(4)
    corner[:3, 3] = grid.affine[:3, 3]
    ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    # 1 / spacing: from mm along an axis to voxels.
    box = grid.affine @ np.diag([*(1 / np.array(grid.spacing_mm)), 1.0])
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = grid.shape[1] - 1
    box_flip = flip.copy()
    box_flip[1, 3] *= grid.spacing_mm[1]
    zyx = np.eye(4)[[2, 1, 0, 3]]
    in_mm = {
        "lps": np.eye(4),
        "ras": ras,
        "lps-corner": corner,
        "ras-corner": corner @ ras,
        "box": box,
        "box-flip": box @ box_flip,
        "box-zyx": box @ zyx,
    }
    known = {
        name + unit: to @ np.diag([mm, mm, mm, 1.0]) for unit, mm in UNITS_MM.items() for name, to in in_mm.items()
    }
    return known | {"index": grid.affine.copy(), "index-flip": grid.affine @ flip, "index-zyx": grid.affine @ zyx}


def mask_conventions(mask: Grid, skull: Grid) -> dict[str, F64]:
    """Where a mask may belong, as maps of its world to the skull's.

    Args:
        mask: its grid, as its file has it.
        skull: the skull's.

    Returns:
        ``header``: where its file says; ``skull-grid``, only for a mask of the skull's shape and another position:
        voxel upon voxel of the skull, its own header having been lost.
    """
    known = {"header": np.eye(4)}
    if mask.shape == skull.shape and not mask.same_as(skull):
        known["skull-grid"] = skull.affine @ mask.inverse
    return known


@dataclass(frozen=True, eq=False)
class Placement:
    """Where something belongs.

    Args:
        convention: its name.
        to_world: (4, 4) coordinates of the file -> world LPS mm.
        sit: how it sits there.
        second: the best other position, and how it would sit; None if there is none worth a word.
        twin: a convention that means nearly the same position and fits about as well, and how far apart the two are,
            mm.
    """

    convention: str
    to_world: F64
    sit: Sit
    second: tuple[str, Sit] | None = None
    twin: tuple[str, float] | None = None

    def doubts(self, name: str) -> tuple[str, ...]:
        """What a user should know about the choice."""
        if self.twin is None:
            return ()
        other, apart_mm = self.twin
        return (
            f"{name}: taken as {self.convention}, but {other} fits about as well, {apart_mm:.1f} mm away; if you know "
            "which is right, name it in the table's column convention",
        )


def place(points: F64, conventions: Mapping[str, F64], surroundings: Surroundings, name: str) -> Placement:
    """Find the convention by which something sits in the hole.

    Args:
        points: (N, 3) coordinates as in the file, evenly spread over the volume; at least one.
        conventions: name -> (4, 4) to world mm; the first of those that mean the same position gives the name.
        surroundings: the skull.
        name: of the file, for messages.

    Returns:
        The best placement.

    Raises:
        InputError: it sits nowhere, or two positions are about as good. The figures are in the message.
    """
    points = points[:: max(1, len(points) // MAX_POINTS)]
    placed = {key: points @ to[:3, :3].T + to[:3, 3] for key, to in conventions.items()}
    placed = {key: at for key, at in placed.items() if LENGTH_MM[0] <= np.ptp(at, axis=0).max() <= LENGTH_MM[1]}
    if not placed:
        sides = " x ".join(f"{side:.4g}" for side in np.ptp(points, axis=0))
        raise InputError(
            f"{name}: it measures {sides} of its file's units, which is no implant or patch in voxels, mm, cm or m: "
            f"one has a longest side of {LENGTH_MM[0]:g} to {LENGTH_MM[1]:g} mm"
        )
    sits = {key: surroundings.sit(at) for key, at in placed.items()}
    best = max(sits, key=lambda key: sits[key].fit)  # the first of equals

    apart = {key: float(np.linalg.norm(at - placed[best], axis=1).mean()) for key, at in placed.items()}
    if sits[best].fit < MIN_FIT:
        raise InputError(
            f"{name}: does not sit in the hole by any of {len(sits)} conventions; best is {best} ({sits[best]}), "
            f"{MIN_FIT} is wanted; check that it belongs to this skull"
        )
    others = [key for key in sits if apart[key] > SAME_POSITION_MM and sits[key].fit > 0]
    second = max(others, key=lambda key: sits[key].fit, default=None)
    if second is not None and sits[best].fit < sits[second].fit + CLEAR:
        raise InputError(
            f"{name}: sits about as well by two conventions, {best} ({sits[best]}) and {second} ({sits[second]}); name "
            "the right one in the table's column convention"
        )
    twins = [
        key for key in sits if TWIN_MM < apart[key] <= SAME_POSITION_MM and sits[key].fit > sits[best].fit - TWIN_FIT
    ]
    twin = max(twins, key=lambda key: sits[key].fit, default=None)
    return Placement(
        best,
        conventions[best],
        sits[best],
        None if second is None else (second, sits[second]),
        None if twin is None else (twin, apart[twin]),
    )


__all__ = ["Placement", "Sit", "Surroundings", "mask_conventions", "mesh_conventions", "place"]
