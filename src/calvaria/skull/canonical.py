"""The canonical frame: every skull in one pose, however it was scanned.

Canonical mm: +x left, +y posterior, +z superior, the mid-sagittal plane at x = 0, the vertex near z = +80. The pose is
found by registering smoothed bone to a symmetric mean skull (rigid, three scales as nuisance), from several starts,
coarse to fine, with robust weights so that a hole does not pull the pose; then the best symmetry plane of the upper
skull sets yaw, roll and the left-right offset. What lies beyond a cut edge of the scan is unknown, not air.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.skull.edges import CutPlane, cut_planes
from calvaria.skull.starts import all_orientations, near_orientations, nods, start_shift, surface_points
from calvaria.symmetry.optimise import Comparison, plane_at
from calvaria.symmetry.plane import Plane, onto_plane
from calvaria.types import F64, BoolArray
from calvaria.volume.gauss_newton import Linear, Normal, descend
from calvaria.volume.grid import Grid
from calvaria.volume.resample import coarsen
from calvaria.volume.rotation import rotation_matrix, rotation_vector
from calvaria.volume.sampler import Sampler, lattice
from calvaria.volume.volume import Volume, bounding_box

if TYPE_CHECKING:
    from calvaria.skull.template import Template


SPACING_MM = 1.6
"""Voxel edge of the canonical grid."""

SIZE = 128
"""Voxels along each axis of the canonical grid."""

COARSE_MM = 3.0
"""Bone is averaged to about this before it is registered."""

REGION_MM = ((-84.0, 84.0), (-104.0, 104.0), (-16.0, 86.0))
"""Where skulls are compared: the calvaria, which every head scan shows; the face differs and is often cut."""

LEVELS = ((8.0, 9.0), (5.0, 8.0), (3.0, 7.0))
"""Smoothing of the bone and spacing of the compared points, mm, coarse to fine."""

PLANE_SPACING_MM = 5.0
"""Spacing of the points at which the two sides of the vault are compared."""

GOOD_COST = 0.22
"""Mean robust mismatch below which a pose is accepted; wrong poses of real skulls lie above 0.3."""

MIN_LIKENESS = 0.5
"""Correlation with the mean skull below which something is no skull. Skulls with holes have 0.9, the top quarter
of one 0.8; a solid cube, a ball and noise 0.1."""

COARSE_SCORE_POINTS = 1000
"""Number of points of the coarse score by which the many starts are compared before the best are registered."""

CANDIDATE_MARGIN = 0.04
"""Candidates whose mismatch is within this of the best are followed to the finest level and compared there: a head
without its forehead mismatches by 0.13 in the right pose and back to front, at the finest level by 0.13 and 0.14."""

MISSING_SHARE = 0.5
"""Where poses are compared, bone that the mean skull has and the scan lacks counts so much less than bone that no skull
has there: holes explain the first, nothing explains the second. Counted alike, a head without half of its vault has
0.131 at the finest level in its pose and 0.160 on its side, but 0.148 and 0.145 while blurred, and one without its
forehead 0.114 and 0.112; so they have 0.068 and 0.100, and 0.076 and 0.087."""

MAX_CANDIDATES = 8
"""... but so many of them at most; the right pose of a head without its forehead was the sixth."""

SIZE_COST = 0.5
"""What an unusual size adds to a pose's mismatch there, times the sum of its squared log scales: a wrong pose stretches
the head until it fits."""

ROTATION_PRIOR = np.array([0.002, 0.02, 0.02])
"""Pull towards the start's orientation while the pose is still rough: pitch is free, roll and yaw are held."""

MAX_STEP = np.array([0.15] * 3 + [8.0] * 3 + [np.inf] * 3)
SETTLED_STEP = np.array([3e-4] * 3 + [0.03] * 3 + [np.inf] * 3)
"""Rotation (radians), shift (mm) and log scale of one step of a descent: the largest that is taken, and the smallest
after which the descent goes on."""

LANDMARK_NORMAL = np.array([0.0, -0.3328, -0.9430])
LANDMARK_MM = 38.0
"""The landmark plane on the mean skull, auditory meatus (y = +5, z = -42) to supraorbital notch (y = -80, z = -12):
``normal . x = offset``, the normal pointing down. SkullBreak's skulls end there; the vault lies above."""

MAX_FACES = 3
"""So many flat faces of a skull are tried as the end of its scan; nearly all skulls have one."""

DOUBTFUL_COST = 0.1
"""Mismatch above which none of the flat faces may be the scan's end; five in six skulls with holes lie below."""

FACING_DOWN = -0.5
"""A flat face ends the scan if its normal's canonical z is below this: scans end below the head, at any usual tilt."""

MEAN_ACROSS_MM = 155.0
"""Geometric mean of a head's length and width, as `across_mm` measures it; 144 to 169 in 109 skulls, with holes too."""

USUAL_ACROSS = (0.88, 1.12)
"""... over the mean. A head that fits badly and measures less or more is registered again at the size it measures: the
descent starts from the mean skull's size, and from 0.65 or 1.15 times that it turns the head rather than scale it."""

BETTER_COST = 0.85
"""The pose at the measured size is accepted if its mismatch is below this share of the first."""

MIN_BONE_ML = 100.0
"""Less bone than this is no skull; the smallest adult calvaria holds several times as much."""


def canonical_grid() -> Grid:
    """The common grid: 128^3 voxels of 1.6 mm centred on the canonical origin; mirroring is a flip of axis 0."""
    half = SPACING_MM * (SIZE - 1) / 2
    return Grid.isotropic((SIZE, SIZE, SIZE), SPACING_MM, (-half, -half, -half))


@dataclass(frozen=True, eq=False)
class CanonicalFrame:
    """Where a skull's canonical frame lies in its world.

    Args:
        to_world: (4, 4) rigid, canonical mm -> world LPS mm.
        scale: (3,) size of this skull over the mean skull along x, y, z.
        cost: robust mismatch to the mean skull, 0 (equal) to 1.
        cuts: planes (canonical mm) beyond which the scan shows nothing.
        held: a mid-sagittal plane (world mm) that was given, and is kept wherever the pose is found again.
    """

    to_world: F64
    scale: F64
    cost: float
    cuts: tuple[CutPlane, ...]
    held: Plane | None = None

    @property
    def to_canonical(self) -> F64:
        """(4, 4) world LPS mm -> canonical mm."""
        return np.asarray(np.linalg.inv(self.to_world), np.float64)

    @property
    def plane(self) -> Plane:
        """The mid-sagittal plane in world mm."""
        return plane_at(self.to_world)

    def onto(self, plane: Plane) -> CanonicalFrame:
        """The frame turned and shifted as little as possible until its x = 0 is a plane (world mm), which it keeps."""
        to_world = onto_plane(self.to_world, plane)
        change = np.asarray(np.linalg.inv(to_world) @ self.to_world, np.float64)
        return replace(self, to_world=to_world, cuts=tuple(cut.moved(change) for cut in self.cuts), held=plane)

    def known(self, points_mm: F64) -> NDArray[np.bool_]:
        """Whether (..., 3) canonical points lie on the scanned side of every cut."""
        inside = np.ones(points_mm.shape[:-1], bool)
        for cut in self.cuts:
            inside &= points_mm @ cut.normal < cut.offset_mm
        return inside


def locate(mask: Volume, template: Template | None = None) -> CanonicalFrame:
    """Find the canonical frame of a skull, complete or with holes.

    Args:
        mask: bone, at any position and orientation.
        template: the mean skull; the shipped one by default.

    Returns:
        The frame; ``cost`` says how well the mean skull fits.

    Raises:
        InputError: there is too little bone for a skull, or it resembles no skull in any pose.
    """
    if template is None:
        from calvaria.skull.template import load_template

        template = load_template()
    # All of the search runs on blocks of 3 mm; the smallest blur of the registration is as wide.
    bone = coarse_bone(mask)
    faces = cut_planes(bone)
    pose = _at_measured_size(_best_over(faces, bone, template), bone, template)
    if pose.likeness < MIN_LIKENESS:
        raise InputError(
            f"the bone does not resemble a skull in any pose (likeness {pose.likeness:.2f}, skulls have more than "
            f"{MIN_LIKENESS:.1f}): give a head with its calvaria, as a bone mask or a CT"
        )
    return finish(bone, faces, pose)


def _best_over(faces: tuple[CutPlane, ...], bone: Volume, template: Template) -> Pose:
    """The best pose over what the scan's end may be.

    Over the hole of a hemicraniectomy the hull is as flat as at the end of a scan, and larger: taken for the end, it
    turned heads by 50 to 180 degrees. Such poses mismatch by a third more than the right one.
    """
    # Without any flat face the scan is taken to show the whole head.
    ends: list[tuple[CutPlane, ...]] = [(face,) for face in faces[:MAX_FACES]] or [()]
    best = min((register(bone, end, template) for end in ends), key=lambda pose: pose.total)
    # The face of a hole hides the bone beyond it: what fits badly is tried without any end.
    if faces and best.cost > DOUBTFUL_COST:
        best = min(best, register(bone, (), template), key=lambda pose: pose.total)
    return best


def _at_measured_size(first: Pose, bone: Volume, template: Template) -> Pose:
    """The pose, or a better one of a head whose size is not that of the mean skull's kind: a child's, a wrong spacing.

    The scales then tell the true size, which `calvaria.skull.checks` judges.
    """
    size = across_mm(bone, first.rotation) / MEAN_ACROSS_MM
    fits = first.cost <= DOUBTFUL_COST and first.likeness >= MIN_LIKENESS
    if fits or size == 0 or USUAL_ACROSS[0] < size < USUAL_ACROSS[1]:
        return first
    # The same voxels in a world scaled to the mean size; nothing is resampled.
    usual = Volume(bone.data, bone.grid.moved(np.diag([1 / size, 1 / size, 1 / size, 1.0])))
    again = _best_over(cut_planes(usual), usual, template)
    if again.cost >= BETTER_COST * first.cost:
        return first
    # Back to the true world, the size in the pose's scales.
    return replace(again, shift=again.shift * size, log_scale=again.log_scale + np.log(size))


def across_mm(bone: Volume, rotation: F64) -> float:
    """How far bone reaches across the head: the geometric mean of its extents along canonical x and y.

    Nearly the same if the pose has confused the head's axes, and unlike the scales not biased to the mean skull's.

    Args:
        bone: bone fraction, as from `coarse_bone`.
        rotation: (3, 3) canonical -> world.

    Returns:
        World mm; the outermost five hundredth of the bone at each end are not counted. 0 where there is no bone.
    """
    # (N, 3) blocks that are mostly bone; x and y only, since a scan may end at any height.
    index = np.argwhere(bone.data > 0.4)
    if not len(index):
        return 0.0
    low, high = np.percentile(bone.grid.to_world(index) @ rotation[:, :2], [0.2, 99.8], axis=0)
    return float(np.sqrt(np.prod(high - low)))


def relocate(
    bone: Volume, frame: CanonicalFrame, template: Template, absent: Callable[[F64], BoolArray] | None = None
) -> CanonicalFrame:
    """The frame of a skull completed in the meantime, starting from its frame with the holes.

    A hole rotates and shifts the best pose by up to a few degrees and millimetres, however robust the weights. But what
    completes it was drawn in the old pose, and keeps to its plane: the plane is found by the bone that is there.

    Args:
        bone: bone fraction on voxels of about `COARSE_MM`, of the completed skull.
        frame: as found with the holes; its scan ends are kept, and a plane that it holds.
        template: the mean skull.
        absent: (N, 3) world mm -> whether the bone there was completed; None: all of it counts.
    """
    cuts = tuple(cut.moved(frame.to_world) for cut in frame.cuts)
    levels = [Level.build(bone, cuts, template, sigma, spacing) for sigma, spacing in LEVELS]
    # One start only: the pose is nearly right, and its orientation is held only weakly.
    pose = Pose(frame.to_world[:3, :3], frame.to_world[:3, 3], np.log(frame.scale))
    pose = levels[0].descend(pose, 8, 1e-3, 0.1, pose.rotation, 0.1)
    found = finish(bone, cuts, levels[0].with_cost(_refined(pose, levels[1:])), absent)
    return found if frame.held is None else found.onto(frame.held)


def coarse_bone(mask: Volume) -> Volume:
    """Bone fraction (float32, 0 to 1) in blocks of about 3 mm around the bone.

    Raises:
        InputError: there is too little bone for a skull.
    """
    box = bounding_box(mask.mask)
    if box is None or mask.volume_ml < MIN_BONE_ML:
        raise InputError(f"there are {mask.volume_ml:.0f} ml of bone; a skull has more than {MIN_BONE_ML:.0f} ml")
    return coarsen(mask.crop(box), COARSE_MM)


@dataclass(frozen=True, eq=False)
class Pose:
    """A candidate: world = rotation @ (exp(log_scale) * canonical) + shift.

    Args:
        rotation: (3, 3) canonical -> world.
        shift: (3,) world mm of the canonical origin.
        log_scale: (3,) natural logarithm of this skull's size over the mean skull's along canonical x, y, z.
        cost: mean robust mismatch, 0 to 1.
        likeness: correlation with the mean skull where both are known.
        blame: the mismatch of which what a hole explains, missing bone, counts `MISSING_SHARE` only; of the finest
            level that the pose was followed to.
    """

    rotation: F64
    shift: F64
    log_scale: F64
    cost: float = 1.0
    likeness: float = 1.0
    blame: float = 1.0

    @property
    def total(self) -> float:
        """By which poses are compared: the blame plus the penalty of an unusual size."""
        return self.blame + SIZE_COST * float(self.log_scale @ self.log_scale)


def register(
    bone: Volume, cuts: tuple[CutPlane, ...], template: Template, rotations: list[F64] | None = None, keep: int = 4
) -> Pose:
    """The best pose over several starts, coarse to fine.

    Args:
        bone: bone fraction, from `coarse_bone`.
        cuts: scan edges in world mm.
        template: the mean skull.
        rotations: start orientations; by default those within about 55 degrees of the header's, and every way a head
            can lie, for the header's "up" may be wrong: real skulls rotated back to front mismatch by 0.08, less than
            many an upright one.
        keep: starts of each kind that are registered, the best by their coarse score.
    """
    levels = [Level.build(bone, cuts, template, sigma, spacing) for sigma, spacing in LEVELS]
    first = levels[0]
    scoring = first.thinned(COARSE_SCORE_POINTS)
    surface = surface_points(bone)
    rough: list[Pose] = []
    # Each kind keeps its own best starts: among all of them, wrong ones could crowd out those near the header's.
    for starts in (near_orientations(), all_orientations()) if rotations is None else (rotations,):
        tried = [scoring.with_cost(Pose(r, start_shift(surface, r), np.zeros(3))) for r in starts]
        tried.sort(key=lambda p: p.cost)
        rough += [first.settle(start) for start in spread(tried, keep)]
    if rotations is None:
        # Nearly all heads lie as the header says, nodding at most; without a forehead a dozen others score better.
        rough += [first.settle(Pose(r, start_shift(surface, r), np.zeros(3))) for r in nods()]
    rough.sort(key=lambda p: p.blame)
    # Blurred, a head with a hole may look alike from front and back: near ties are decided at the finest level.
    candidates = spread([pose for pose in rough if pose.blame < rough[0].blame + CANDIDATE_MARGIN], MAX_CANDIDATES)
    fine = [_refined(pose, levels[1:]) for pose in candidates]
    # The cost of a pose is that of the first level: the limits above were measured there.
    finest = min(fine, key=lambda pose: pose.total)
    best = first.with_cost(finest)
    return replace(best, likeness=first.likeness(best), blame=finest.blame)


def _refined(pose: Pose, levels: list[Level]) -> Pose:
    """A settled pose followed through the finer levels, with its mismatch at the last."""
    for level, robust in zip(levels, (0.1, 0.15), strict=True):
        pose = level.descend(pose, 10, 5e-4, robust, pose.rotation, 0.1)
    return levels[-1].with_cost(pose)


def finish(
    bone: Volume, faces: tuple[CutPlane, ...], pose: Pose, absent: Callable[[F64], BoolArray] | None = None
) -> CanonicalFrame:
    """Set yaw, roll and offset by the symmetry plane, and put the frame together; ``absent`` as for `relocate`.

    The hull of a skull with a large hole is flat over the hole too; only faces that look down end the scan.
    """
    to_world = np.eye(4)
    # Rigid: the scales are kept beside it, so that canonical mm stay the skull's own.
    to_world[:3, :3], to_world[:3, 3] = pose.rotation, pose.shift
    cuts = tuple(face for face in faces if face.normal @ pose.rotation[:, 2] < FACING_DOWN)
    sampler = Sampler.smooth(bone, LEVELS[-1][0], cuts)
    # The mean skull knows the midline less exactly than the skull's own two sides do.
    compared = Comparison.of(sampler, REGION_MM, PLANE_SPACING_MM)
    if absent is not None:
        compared = compared.without(to_world, absent)
    to_world = compared.descend(to_world)
    to_canonical = np.asarray(np.linalg.inv(to_world), np.float64)
    moved = tuple(cut.moved(to_canonical) for cut in cuts)
    return CanonicalFrame(to_world, np.exp(pose.log_scale), pose.cost, moved)


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of the registration: the skull as a sampler, the template as values at points."""

    sampler: Sampler
    points: F64
    values: NDArray[np.floating]
    weights: NDArray[np.floating]

    @classmethod
    def build(
        cls, bone: Volume, cuts: tuple[CutPlane, ...], template: Template, sigma_mm: float, spacing_mm: float
    ) -> Level:
        """Smooth the skull by ``sigma_mm`` and read the equally smoothed template at points ``spacing_mm`` apart."""
        points = lattice(REGION_MM, spacing_mm)
        values, weights = template.at(points, sigma_mm)
        # Points that no subject of the template shows are left out.
        used = weights > 0
        return cls(Sampler.smooth(bone, sigma_mm, cuts), points[used], values[used], weights[used])

    def thinned(self, count: int) -> Level:
        """The level with ``count`` of its points, evenly drawn by a fixed seed."""
        chosen = np.random.default_rng(0).permutation(len(self.points))[:count]
        return Level(self.sampler, self.points[chosen], self.values[chosen], self.weights[chosen])

    def with_cost(self, pose: Pose) -> Pose:
        """The pose with its mean robust mismatch; points beyond the scan count one half."""
        values, ok = self.sampler.values(self._world(pose))
        square = (values - self.values) ** 2
        # Geman-McClure: from a difference of 0.1 on a point counts ever less, so that a hole adds a bounded amount.
        each = self.weights * np.where(ok, square / (square + 0.01), 0.5) / self.weights.sum()
        missing = float(each[ok & (values < self.values)].sum())
        cost = float(each.sum())
        blame = cost - (1 - MISSING_SHARE) * missing
        return Pose(pose.rotation, pose.shift, pose.log_scale, cost, blame=blame)

    def likeness(self, pose: Pose) -> float:
        """Correlation of skull and template at the points that the scan shows; 0 where one of them is flat."""
        values, ok = self.sampler.values(self._world(pose))
        # Unlike the mismatch, only over what the scan shows: how much it shows is another question.
        weights = self.weights * ok
        if weights.sum() <= 0:
            return 0.0
        (a, both), (_, b) = np.cov(values, self.values, aweights=weights)
        return float(both / np.sqrt(a * b)) if a * b > 0 else 0.0

    def settle(self, start: Pose) -> Pose:
        """The pose that a start runs to, plain steps first, then robust ones, with its mismatch."""
        # Robust weights from the start would ignore all that does not fit yet, and stay where they are.
        rough = self.descend(start, 10, 1e-3, None, start.rotation)
        return self.with_cost(self.descend(rough, 8, 1e-3, 0.1, start.rotation))

    def _world(self, pose: Pose) -> F64:
        return np.asarray((self.points * np.exp(pose.log_scale)) @ pose.rotation.T + pose.shift)

    def descend(  # noqa: PLR0917 - the parameters of one descent, always given together
        self, pose: Pose, iterations: int, scale_prior: float, robust: float | None, held: F64, held_share: float = 1.0
    ) -> Pose:
        """Gauss-Newton steps on the mismatch, with weak pulls to unit scale and to the orientation ``held``."""

        def linear(at: Pose) -> Linear:
            scaled = self.points * np.exp(at.log_scale)
            radial = scaled @ at.rotation.T
            value, ok, gradient = self.sampler(radial + at.shift)
            # (N, 9): by rotation about the world axes, by shift, and by the logarithm of each scale.
            jacobian = np.concatenate([np.cross(radial, gradient), gradient, (gradient @ at.rotation) * scaled], axis=1)
            return Linear(value - self.values, jacobian, self.weights * ok)

        def prior(normal: Normal, at: Pose) -> None:
            total = normal.total
            # The last term only matters where the bone has no edge along an axis, as in something that is no skull.
            normal.matrix[...] += 1e-4 * np.diag(np.diag(normal.matrix)) + 1e-9 * total * np.eye(9)
            # In units of the sum of squares, so that the pulls do not depend on the number of points.
            pull = ROTATION_PRIOR * held_share * total
            normal.matrix[:3, :3] += np.diag(pull)
            normal.right[:3] += pull * rotation_vector(at.rotation @ held.T)
            # Towards the mean skull's size: with a large hole, a wrong pose could stretch the head until it fits.
            normal.matrix[6:, 6:] += scale_prior * total * np.eye(3)
            normal.right[6:] += scale_prior * total * at.log_scale

        def move(at: Pose, step: F64) -> Pose:
            # Rotations are composed, not added: steps stay small, the sum of them does not.
            return Pose(rotation_matrix(step[:3]) @ at.rotation, at.shift + step[3:6], at.log_scale + step[6:])

        start = Pose(pose.rotation, pose.shift, pose.log_scale)
        return descend(
            start,
            linear,
            move,
            iterations=iterations,
            robust=robust,
            largest=MAX_STEP,
            settled=SETTLED_STEP,
            prior=prior,
        )


def spread(poses: list[Pose], count: int, apart_rad: float = 0.3) -> list[Pose]:
    """The first ``count`` poses whose rotations differ by at least ``apart_rad``."""
    kept: list[Pose] = []
    for pose in poses:
        if all(np.linalg.norm(rotation_vector(pose.rotation @ k.rotation.T)) > apart_rad for k in kept):
            kept.append(pose)
        if len(kept) == count:
            break
    return kept
