"""A family of made-up heads: bone shells with brow, face, base and openings, known everywhere as a formula.

A head is a function of canonical mm, so it can be drawn on any grid in any pose without resampling, and every member of
the family has the same anatomy with other proportions. The mean skull and the shape model are made from sixteen,
once a process and in seconds; heads with other numbers are unseen ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.shape_prior.engine import ShapePrior
from calvaria.reconstruction.shape_prior.model import MODEL_TRUNCATION_MM, ShapeModel, bone_depth
from calvaria.reconstruction.shape_prior.modes import fit_modes
from calvaria.reconstruction.shape_prior.table_distances import table_distances_at
from calvaria.reconstruction.shape_prior.tables import TableModel, table_misfit
from calvaria.reconstruction.surface import BoneSurface, to_box
from calvaria.skull.canonical import CanonicalFrame, Pose
from calvaria.skull.edges import CutPlane
from calvaria.skull.template import SIGMA_MM, Template
from calvaria.training.template import Subject, mean_of
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

MODEL_MM = 3.2
"""Voxel edge of the family's model: coarser than the shipped one's, and a third of the work."""

ALL = 99
"""More modes than the family has."""

PEOPLE = 16
"""Heads 0 to 15 make the model; others are unseen."""

SEMI_AXES_MM = np.array([70.0, 90.0, 80.0])
"""Half width, half length and height of the mean head's outer surface about the canonical origin."""

REACH_MM = ((-84.0, 84.0), (-108.0, 108.0), (-74.0, 90.0))
"""A box that holds every head."""


@dataclass(frozen=True)
class Ball:
    """Bone inside it is missing; canonical mm."""

    centre_mm: tuple[float, float, float]
    radius_mm: float


SIDE = Ball((58.0, 8.0, 46.0), 26.0)
BACK = Ball((0.0, 76.0, 45.0), 28.0)
BROW = Ball((-30.0, -78.0, 18.0), 22.0)
EDGE = Ball((66.0, 12.0, -2.0), 24.0)
"""Open to below where the scan ends at `FLOOR_MM`."""

FLOOR_MM = -14.0


@dataclass(frozen=True)
class Head:
    """One member of the family.

    Args:
        number: which; the same number is the same head.
        holes: balls of missing bone.
        floor_mm: the scan ends at this height; far below the head by default.
        even: left and right the same.
    """

    number: int
    holes: tuple[Ball, ...] = ()
    floor_mm: float = -200.0
    even: bool = False

    def numbers(self) -> F64:
        """(12,) shape coefficients, unit variance."""
        values = np.random.default_rng(1000 + self.number).standard_normal(12).clip(-2, 2)
        if self.even:
            values[9:] = 0
        return values

    @property
    def scale(self) -> F64:
        """(3,) size over the mean head."""
        return np.asarray(np.exp(0.035 * self.numbers()[:3]))

    def field_mm(self, points_mm: NDArray[np.floating]) -> F32:
        """Signed distance to the bone's surface, mm, negative inside, at (N, 3) canonical points; right at 0."""
        points = np.array(points_mm.T, np.float32, order="C")
        field = np.maximum(self._complete(*points), self.floor_mm - points[2])
        for hole in self.holes:
            x, y, z = (p - np.float32(c) for p, c in zip(points, hole.centre_mm, strict=True))
            field = np.maximum(field, hole.radius_mm - np.sqrt(x * x + y * y + z * z))
        return field

    def _complete(self, x: F32, y: F32, z: F32) -> F32:
        """The same without holes and cut."""
        v = self.numbers()
        x, y, z = (p / s for p, s in zip((x, y, z), self.scale.astype(np.float32), strict=True))
        depth, thickness, side = self._vault(x, y, z, v), 6.5 + 0.6 * v[7], np.abs(x)
        floor = -26.0 - 0.42 * y  # high over the orbits, low at the nape
        shell = np.maximum(-depth, depth - thickness - 0.013 * y - 0.005 * v[8] * z)
        parts = [
            np.maximum(shell, floor - 4 - z),  # vault
            np.maximum(np.maximum(-depth, np.abs(z - floor) - 4), 17 - np.hypot(x, y - 25)),  # base, with its foramen
            np.maximum(_ellipsoid(x, y, z, (0, -78, -3), (44, 12, 9)), depth - 4),  # brow
            np.maximum(_ellipsoid(x, y, z, (0, 86, -12), (22, 14, 9)), depth - 3),  # occiput
            _ellipsoid(side, y, z, (52, 22, -42), (11, 14, 18)),  # mastoids
            np.maximum(_ellipsoid(side, y, z, (34, 8, -24), (22, 8, 8)), -depth),  # petrous bones
            np.maximum(np.abs(_ellipsoid(x, y, z, (0, -60, -38), (43, 25, 30)) + 3) - 3, z - floor - 4),  # face
        ]
        return np.maximum(np.minimum.reduce(parts), -_ellipsoid(side, y, z, (30, -86, -28), (17, 22, 15)))  # orbits

    @staticmethod
    def _vault(x: F32, y: F32, z: F32, v: F64) -> F32:
        """Depth below the outer surface, mm: an ellipsoid with a narrow forehead, bent a little by the numbers."""
        a, b, c = SEMI_AXES_MM
        rho = np.maximum(np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2), 1e-3)
        ux, uy, uz = x / a / rho, y / b / rho, z / c / rho
        radius = 1 + 0.035 * uy * (1 - ux**2) - 0.05 * (uz * uy) ** 2 + 0.12 * ux**2 * uy + 0.06 * uz**2 * uy
        radius += 0.012 * (v[3] * uy * uz + v[4] * uy**3 + v[5] * ux**2 * uz + v[6] * uz**2 * uy)
        radius += 0.006 * ux * (v[9] * uy + v[10] * uz + v[11])
        return np.asarray(np.sqrt(x * x + y * y + z * z) * (radius / rho - 1), np.float32)

    def on(self, grid: Grid, to_world: F64 | None = None) -> Volume:
        """The head on a grid, posed by a (4, 4) rigid canonical -> world map."""
        return Volume(np.asfortranarray(self.field_on(grid, to_world) < 0), grid)

    def soft(self, grid: Grid, to_world: F64 | None = None) -> Volume:
        """Its bone fraction on a grid, without drawing it finely first."""
        share = 0.5 - self.field_on(grid, to_world) / np.float32(np.mean(grid.spacing_mm))
        return Volume(np.clip(share, 0, 1), grid)

    def field_on(self, grid: Grid, to_world: F64 | None = None) -> F32:
        """`field_mm` at a grid's voxel centres."""
        to_head = np.linalg.inv(np.eye(4) if to_world is None else to_world) @ grid.affine
        index = np.stack(np.indices(grid.shape, np.float32), axis=-1).reshape(-1, 3)
        points = index @ to_head[:3, :3].T.astype(np.float32) + to_head[:3, 3].astype(np.float32)
        return self.field_mm(points).reshape(grid.shape)


def _ellipsoid(x: F32, y: F32, z: F32, centre: tuple[float, ...], half: tuple[float, ...]) -> F32:
    """Signed distance to an ellipsoid along the axes, right to first order at its surface."""
    u, v, w = ((p - c) / h for p, c, h in zip((x, y, z), centre, half, strict=True))
    rho = np.sqrt(u * u + v * v + w * w)
    slope = np.sqrt((u / half[0]) ** 2 + (v / half[1]) ** 2 + (w / half[2]) ** 2)
    return np.asarray((rho - 1) * rho / np.maximum(slope, 1e-3), np.float32)


def rigid(degrees: ArrayLike = (0, 0, 0), shift_mm: ArrayLike = (0, 0, 0)) -> F64:
    """(4, 4) rotation about x, then y, then z, and a shift."""
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    out[:3, 3] = shift_mm
    return out


def grid_around(
    to_world: F64 | None = None, spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0), axes: F64 | None = None
) -> Grid:
    """The smallest grid with the given axes (columns, unit; the world's by default) that holds a posed head."""
    axes = np.eye(3) if axes is None else axes
    ends = np.array([(a, b, c) for a in REACH_MM[0] for b in REACH_MM[1] for c in REACH_MM[2]])
    posed = ends if to_world is None else ends @ to_world[:3, :3].T + to_world[:3, 3]
    along = posed @ np.linalg.inv(axes).T
    low, high = along.min(axis=0), along.max(axis=0)
    i, j, k = (int(n) for n in np.ceil((high - low) / spacing_mm) + 1)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = axes @ low
    return Grid((i, j, k), affine)


def scan(head: Head, to_world: F64 | None = None, spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> Volume:
    """A head in a pose on a grid along the world's axes."""
    return head.on(grid_around(to_world, spacing_mm), to_world)


def true_frame(head: Head, to_world: F64 | None = None) -> CanonicalFrame:
    """The frame as the formula has it."""
    cuts = (CutPlane(np.array([0.0, 0.0, -1.0]), -head.floor_mm),) if head.floor_mm > REACH_MM[2][0] else ()
    return CanonicalFrame(np.eye(4) if to_world is None else to_world, head.scale, 0.0, cuts)


@lru_cache(maxsize=16)
def boxed(head: Head) -> BoxField:
    """A head in the common box, by its true frame."""
    return to_box(scan(head), true_frame(head))


@lru_cache(maxsize=1)
def family_template() -> Template:
    """The mean of the family, every head by its true pose."""
    people = [
        Subject(head.soft(grid_around(None, (3.0, 3.0, 3.0))), (), Pose(np.eye(3), np.zeros(3), np.log(head.scale)))
        for head in map(Head, range(PEOPLE))
    ]
    return mean_of(people, SIGMA_MM, 1)


@lru_cache(maxsize=1)
def examples() -> NDArray[np.float32]:
    """(16, I, J, K) truncated distances of the family on the model's grid."""
    grid = box_grid(MODEL_MM)
    fields = []
    for head in map(Head, range(PEOPLE)):
        own = grid.moved(np.diag([*head.scale, 1.0]))
        share = 0.5 - head.field_on(own) / np.float32(MODEL_MM)
        fields.append(BoneSurface.of(Volume(share, own)).distances(own, MODEL_TRUNCATION_MM))
    return np.stack(fields)


@lru_cache(maxsize=1)
def family_model() -> ShapeModel:
    """All modes of the family."""
    depth = np.median([bone_depth(one, MODEL_MM) for one in examples()], axis=0)
    depth = ((depth + depth[::-1]) / 2)[depth.shape[0] // 2 :].astype(np.float32)
    return ShapeModel.of(fit_modes(examples(), MODEL_MM, ALL), depth)


@lru_cache(maxsize=1)
def family_engine() -> ShapePrior:
    """The shape prior on the family's model."""
    return ShapePrior(family_model(), family_template())


@lru_cache(maxsize=1)
def family_wall() -> TableModel:
    """The two sides of the family's walls."""
    points = box_grid(MODEL_MM).centres_mm().reshape(-1, 3)
    sides, limit = [], MODEL_TRUNCATION_MM
    for head in map(Head, range(PEOPLE)):
        distance = head.field_on(box_grid().moved(np.diag([*head.scale, 1.0]))).clip(-limit, limit)
        x, y, z = head.scale
        sides.append(table_distances_at(BoxField(distance, np.ones(distance.shape, bool), (x, y, z)), points, limit))
    outer, inner = (
        np.stack([getattr(one, name).reshape(box_grid(MODEL_MM).shape) for one in sides])
        for name in ("outer_mm", "inner_mm")
    )
    misfit = table_misfit(examples(), outer, inner, MODEL_MM)
    return TableModel(fit_modes(outer, MODEL_MM, ALL), fit_modes(inner, MODEL_MM, ALL), misfit)


@lru_cache(maxsize=1)
def walled_engine() -> ShapePrior:
    """The shape prior that also knows the wall's two sides, as the one that ships."""
    return ShapePrior(family_model(), family_template(), tables=family_wall())


def truth_of(head: Head, defective: Volume, to_world: F64 | None = None) -> Volume:
    """What the holes took from a head."""
    complete = replace(head, holes=()).on(defective.grid, to_world)
    return complete.with_data(complete.mask & ~defective.mask)


def dice(a: Volume, b: Volume) -> float:
    """Dice overlap of two masks on one grid."""
    both = np.count_nonzero(a.mask) + np.count_nonzero(b.mask)
    return float(2 * np.count_nonzero(a.mask & b.mask) / both) if both else 1.0
