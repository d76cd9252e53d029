"""One patch of one patient, displaced smoothly by all that speaks of where it belongs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from calvaria.errors import InputError
from calvaria.jobs import Progress, unheard
from calvaria.metrics.overlap import dice
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.surface import BoneSurface
from calvaria.refinement.build import Ground, displaced, scene_grid
from calvaria.refinement.descend import LEVELS, Level, descend
from calvaria.refinement.displacement import PAPER_LAMBDA, Displacement, paper_stiffness
from calvaria.refinement.energy import Energy, Evidence, Scene
from calvaria.refinement.evidence import asymmetry, rim_evidence
from calvaria.refinement.pieces import lacking
from calvaria.skull.canonical import SIZE, SPACING_MM, CanonicalFrame
from calvaria.types import F32, BoolArray
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import Volume, bounding_box

NEAR_MM = 2.0
"""Surfaces are compared at nodes so near to either of them."""

MIN_INTACT = 0.5
"""The mirror image says how good a patch is where more than this share of the patch's surface has one."""

SAME_DICE = 0.98
"""A patch that overlaps the shape prior's own by so much is that patch."""

CLIP_MM = 4.0
"""Distances between surfaces count as no more than this."""


@dataclass(frozen=True)
class Settings:
    """How a patch is refined; the defaults were chosen on validation persons, see docs/refinement.md.

    Args:
        stiffness: lambda of the diffusive regularisation, in the units of Wodzinski et al.
        symmetry: weight of the symmetry loss where nothing better speaks.
        symmetry_beside_prior: ... where the shape prior does, which knows about symmetry already.
        even_out: take the head's own asymmetry, as the bone around the hole shows it, out of the comparison.
        rim: weight, at the rim, of how outer and inner table run on.
        prior: weight of the surface that the shape prior expects.
        fill: add pieces that the shape prior expects and the patch lacks altogether.
        agreement_mm: a patch that lies no farther than this from what the shape prior expects is left as it is: the
            evidence is no better than the patch. The prior's own patches lie 0.1 to 0.3 mm from it, being voxels. 0: no
            patch is left for that, not even the prior's own.
        mirror_agreement_mm: the same without the shape prior, of the other side's mirror image without the head's own
            asymmetry, where most of the patch has an intact other side.
        levels: of the descent, coarse to fine.
    """

    stiffness: float = PAPER_LAMBDA
    symmetry: float = 1.0
    symmetry_beside_prior: float = 1.0
    even_out: bool = True
    rim: float = 10.0
    prior: float = 20.0
    fill: bool = True
    agreement_mm: float = 0.3
    mirror_agreement_mm: float = 0.7
    levels: tuple[Level, ...] = LEVELS

    def __post_init__(self) -> None:
        agreements = (self.agreement_mm, self.mirror_agreement_mm)
        weights = (self.symmetry, self.symmetry_beside_prior, self.rim, self.prior, *agreements)
        if not (self.stiffness > 0 and min(weights) >= 0 and np.isfinite([self.stiffness, *weights]).all()):
            raise InputError(
                "a refinement wants a stiffness above 0, and weights and an agreement of 0 or more; got "
                f"{self.stiffness}, {', '.join(map(str, weights))}"
            )
        steps = [level.step for level in self.levels]
        # A displacement goes from one level to the next as it is, or at half the step.
        halved = all(fine in {coarse, coarse / 2} for coarse, fine in pairwise(steps))
        if not steps or not {1, 2, 4}.issuperset(steps) or not halved:
            raise InputError(
                "a refinement wants levels with steps of 4, 2 or 1 nodes, coarse to fine, none left out between; got "
                f"{', '.join(map(str, steps)) or 'none'}"
            )


PAPER = Settings(
    even_out=False,
    rim=0.0,
    prior=0.0,
    symmetry_beside_prior=1.0,
    fill=False,
    agreement_mm=0.0,
    mirror_agreement_mm=0.0,
)
"""Reg-SN as published (Wodzinski et al., section 2.4): the symmetry loss of the whole skull and nothing else."""

Trust = Literal["auto", "patch", "prior"]
"""What is believed more where patch and shape prior differ; "auto": whichever the agreement of the two speaks for."""

TRUST: Mapping[Trust, Settings] = {
    "auto": Settings(),
    "patch": Settings(prior=0.0, fill=False),
    "prior": Settings(agreement_mm=0.0),
}
"""Patch: the shape prior neither pulls nor adds, rim and symmetry do. Prior: it pulls at every patch."""


@dataclass(frozen=True)
class RefinementReport:
    """What a refinement did, in figures.

    Args:
        declined: whether the patch was left as it was.
        reason: why it was left, or by what it was moved; one line.
        symmetry_before: symmetry loss (SL, 0 to 1) of the skull with the given patch.
        symmetry_after: ... with the refined one.
        mean_mm: displacement of the refined patch's surface, mean.
        max_mm: ... largest.
        jacobian_min: smallest Jacobian determinant of x + u(x); above 0: nothing folds.
        seconds: it took.
        apart_mm: how far the given patch lay from what the shape prior expects, mean over the surface; None without it.
        added_ml: pieces that the patch lacked and that were added.
    """

    declined: bool
    reason: str
    symmetry_before: float
    symmetry_after: float
    mean_mm: float
    max_mm: float
    jacobian_min: float
    seconds: float
    apart_mm: float | None = None
    added_ml: float = 0.0


@dataclass(frozen=True, eq=False)
class Refinement:
    """A refined patch.

    Args:
        patch: a mask on the defective skull's grid; the given one where it was declined.
        displacement: what was done to it, in world mm.
        report: in figures.
    """

    patch: Volume
    displacement: Displacement
    report: RefinementReport


def refine(
    defective: Volume,
    patch: Volume,
    frame: CanonicalFrame,
    prior: Completion | None = None,
    settings: Settings | None = None,
    *,
    surface: BoneSurface | None = None,
    progress: Progress = unheard,
) -> Refinement:
    """Displace a patch by symmetry, by how the surface runs on across the rim, and by the shape prior.

    Args:
        defective: mask of the bone that is there.
        patch: mask of the missing bone on the same grid, from anywhere; may be empty.
        frame: canonical frame of the skull; its plane is that of symmetry.
        prior: the shape prior's completion of the same skull, if there is one.
        settings: of the method.
        surface: of the defective skull, if it has been found already.
        progress: called now and then.

    Returns:
        The refined patch, which has no voxel in the bone. The given patch where there is nothing to refine, or nothing
        that would know better: the report says so.

    Raises:
        GeometryError: the two lie on different grids.
        InputError: one of them is no mask.
    """
    began, chosen = time.perf_counter(), settings or Settings()
    defective.grid.require_same(patch.grid, "defective skull and patch")
    progress("refinement", 0.0)
    if not (chosen.prior or chosen.fill):
        prior = None
    ground = Ground.of(defective, frame, prior, surface)
    given = _off_bone(patch, defective)
    if given is None:
        return _left(patch, began, "there is no patch to refine")
    completed = ground.completed_mm(given)
    progress("refinement", 0.2)
    box = ground.box(completed)
    if box is None:
        return _left(given, began, BEYOND)
    apart = (
        None if ground.expected_mm is None else _apart_mm(ground.bone_mm[box], ground.expected_mm[box], completed[box])
    )
    before = _loss(ground, completed, box)
    expected = None if prior is None else to_patch(prior.soft, prior.frame, defective)
    if expected is not None and apart is not None and chosen.prior and chosen.agreement_mm:
        if apart <= chosen.agreement_mm:
            line = f"it lies {apart:.2f} mm from what the shape prior expects, which knows no better than that"
            return _left(given, began, line, before, apart)
        # The mean distance also counts what the prior expects where nothing is missing.
        if dice(given.mask, expected.mask) >= SAME_DICE:
            return _left(given, began, "it is what the shape prior expects, which knows no better", before, apart)
    added_ml = 0.0
    if chosen.fill and expected is not None:
        lacked = lacking(ground, completed, box, expected)
        if lacked is not None:
            both = given.with_data(given.mask | lacked.mask)
            added_ml, given = both.volume_ml - given.volume_ml, both
            completed = ground.completed_mm(given)
    scene = _scene(ground, completed, box, chosen)
    if ground.expected_mm is None:
        off_mm = _off_mirror_mm(ground, completed, scene)
        if off_mm is not None and off_mm <= chosen.mirror_agreement_mm:
            line = f"it lies {off_mm:.2f} mm from the other side's mirror image, which knows no better than that"
            return _left(given, began, line, before)
    progress("refinement", 0.4)
    local, stiffer = _moved(scene, box, chosen)
    progress("refinement", 0.9)
    refined = displaced(ground, given, completed, local, scene.open)
    completed = ground.completed_mm(refined)
    moved = np.linalg.norm(local.at(scene_grid().to_world(np.argwhere(_surface(ground, completed)))), axis=1)
    report = RefinementReport(
        declined=False,
        reason=_reason(chosen, ground, added_ml, stiffer),
        symmetry_before=before,
        symmetry_after=_loss(ground, completed, box),
        mean_mm=float(moved.mean()) if len(moved) else 0.0,
        max_mm=float(moved.max()) if len(moved) else 0.0,
        jacobian_min=float(local.jacobians().min()),
        seconds=time.perf_counter() - began,
        apart_mm=apart,
        added_ml=added_ml,
    )
    return Refinement(refined, replace(local, grid=local.grid.moved(frame.to_world)), report)


BEYOND = "it lies beyond the part of the head that is compared"


def _off_bone(patch: Volume, defective: Volume) -> Volume | None:
    """The patch without what lies in bone; None if nothing is left."""
    box = bounding_box(patch.mask)
    if box is None:
        return None
    both = patch.mask[box] & defective.mask[box]
    if not both.any():
        return patch
    out = patch.mask.copy(order="K")
    out[box] &= ~both
    return patch.with_data(out) if out[box].any() else None


def _scene(ground: Ground, completed: F32, box: Box, chosen: Settings) -> Scene:
    """All that speaks of where the patch belongs."""
    from scipy.ndimage import binary_dilation

    open_ = ground.open(completed, box)
    compared = (ground.known & ground.known[::-1]).astype(np.float32)
    evidence, symmetry, uneven = [], chosen.symmetry, None
    whole = completed if ground.expected_mm is None else ground.expected_mm
    if ground.expected_mm is not None and chosen.prior:
        symmetry = chosen.symmetry_beside_prior
        evidence.append(Evidence("prior", ground.expected_mm, np.full(completed.shape, chosen.prior, np.float32)))
    if chosen.rim:
        near = open_ & (np.minimum(whole, completed) < CLIP_MM)
        evidence.append(rim_evidence(ground.bone_mm, whole, scene_grid(), near, chosen.rim))
    if chosen.even_out and symmetry:
        missing = ground.missing(completed)
        # Next to the hole a distance may be one to the cut, not to a table.
        away = ~binary_dilation(open_, iterations=2)
        uneven = asymmetry(ground.bone_mm, away, open_ & (np.abs(completed) < CLIP_MM) | missing, scene_grid())
        # An opening that nobody fills is no asymmetry.
        bare = open_ & (np.minimum(whole, completed) > CLIP_MM) & (ground.bone_mm[::-1] < 0)
        compared = compared * ~(bare | bare[::-1])
    return Scene(ground.bone_mm, completed, open_, compared.astype(np.float32), SPACING_MM, evidence, symmetry, uneven)


def _moved(scene: Scene, box: Box, chosen: Settings) -> tuple[Displacement, float]:
    """The displacement of least energy, in canonical mm, and how many times as stiff as asked for it had to be."""
    stiffness = paper_stiffness(chosen.stiffness, SIZE, (SIZE * SPACING_MM) ** 3)
    found = descend(scene, box, stiffness, chosen.levels)
    field = np.pad(found.field, ((0, 0), (1, 1), (1, 1), (1, 1)))
    low = scene_grid().crop(box).to_world([0, 0, 0])
    grid = Grid.isotropic((field.shape[1], field.shape[2], field.shape[3]), SPACING_MM * found.step, low)
    return Displacement(field, grid), found.stiffness / stiffness


def _surface(ground: Ground, completed: F32) -> BoolArray:
    """Nodes next to the patch's surface."""
    near: BoolArray = (np.abs(completed) < SPACING_MM) & (ground.bone_mm > SPACING_MM)
    return near


def _apart_mm(bone_mm: F32, expected_mm: F32, completed_mm: F32) -> float:
    """How far the patch's surface lies from the expected one, mean over both, mm; infinite where there is neither."""
    near = (bone_mm > SPACING_MM) & ((np.abs(expected_mm) < NEAR_MM) | (np.abs(completed_mm) < NEAR_MM))
    return float(np.minimum(np.abs(expected_mm - completed_mm)[near], CLIP_MM).mean()) if near.any() else np.inf


def _off_mirror_mm(ground: Ground, completed: F32, scene: Scene) -> float | None:
    """How far the patch's surface lies from the other side's mirror image, without the head's own asymmetry, mean, mm.

    None where asymmetry is not taken out, or less than half of the patch has an intact other side.
    """
    if scene.asymmetry_mm is None:
        return None
    surface, mirror = _surface(ground, completed), ground.bone_mm[::-1]
    intact = surface & (np.abs(mirror) < CLIP_MM)
    if not np.count_nonzero(intact) > MIN_INTACT * np.count_nonzero(surface):
        return None
    off = completed - mirror - scene.asymmetry_mm
    return float(np.abs(off[intact]).mean())


def _loss(ground: Ground, completed: F32, box: Box) -> float:
    """SL of the whole skull with a patch, at the finest level."""
    compared = (ground.known & ground.known[::-1]).astype(np.float32)
    scene = Scene(ground.bone_mm, completed, completed < ground.bone_mm, compared, SPACING_MM)
    energy = Energy(scene, box, 1, LEVELS[-1].width_mm)
    return energy.symmetry_loss(np.zeros((3, *energy.shape), np.float32))


def _reason(chosen: Settings, ground: Ground, added_ml: float, stiffer: float) -> str:
    names = []
    if ground.expected_mm is not None and chosen.prior:
        names.append("the shape prior")
    if chosen.rim:
        names.append("the rim")
    names.append("symmetry")
    line = "moved by " + (", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0])
    if added_ml:
        line += f"; {added_ml:.1f} ml that it lacked were added"
    if stiffer > 1:
        line += f"; {stiffer:.0f} times as stiff, so that nothing folds"
    return line


def _left(patch: Volume, began: float, reason: str, loss: float = 0.0, apart: float | None = None) -> Refinement:
    """The patch as it was."""
    still = Displacement(np.zeros((3, 2, 2, 2), np.float32), Grid.isotropic((2, 2, 2), 1.0))
    seconds = time.perf_counter() - began
    return Refinement(patch, still, RefinementReport(True, reason, loss, loss, 0.0, 0.0, 1.0, seconds, apart))


__all__ = ["PAPER", "TRUST", "Displacement", "Refinement", "RefinementReport", "Settings", "Trust", "refine"]
