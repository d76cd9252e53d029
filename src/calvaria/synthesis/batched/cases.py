"""Training cases from a cache of skulls: each drawn as a plan, then made on the training device.

A case is a skull of the cache, its form blended with other subjects', moved, deformed, given another thickness, cut
open, its rim aged, and scanned badly. The plan of case n depends on the seed and on n alone: any case can be made
again, in any order, in any process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from calvaria.datasets.cache import FILLING, SkullCache
from calvaria.deformation.warp import Triple, warp_volumes
from calvaria.errors import InputError
from calvaria.synthesis.augmentation.augment import Augmentation, apply_artefacts, apply_geometry
from calvaria.synthesis.augmentation.draw import AugmentationSettings, sample_augmentation
from calvaria.synthesis.batched.ageing_torch import apply_rims
from calvaria.synthesis.batched.cutting_torch import draw_defects
from calvaria.synthesis.between import Blend, Deformations, sample_blend
from calvaria.synthesis.defects.rim_changes import RIM_KINDS, Rim, sample_rim
from calvaria.synthesis.defects.specs import Spec
from calvaria.volume.grid import Grid

OFFICIAL = "official"
"""Kind of the defect that comes with the set."""

KINDS: Mapping[str, float] = {
    OFFICIAL: 2.0,
    "bilateral": 2.0,
    "frontoorbital": 2.0,
    "parietotemporal": 2.0,
    "random_1": 2.0,
    "random_2": 2.0,
    "craniotomy": 1.0,
    "hemicraniectomy": 1.0,
    "multiple": 1.0,
}
"""How often each kind of defect is cut: the public sets' six twice as often as the others."""

TRIES = 10
"""Other skulls that are tried where a defect finds no sound position."""


@dataclass(frozen=True)
class CaseSettings:
    """What training cases are like.

    Args:
        kinds: kind of defect -> weight; "official" is the one that comes with the set, and falls to another kind on
            skulls that have none. Empty: complete skulls without a defect.
        rim_chance: chance of each change of the rim.
        blend_chance: a skull takes its form from a blend of subjects; needs deformations.
        own_share: mean weight of its own form then.
        augmentation: how much heads and scans are varied.
        unlabelled_share: share of cases from skulls whose truth is not known, with a further defect; where their own
            bone may be missing, no loss counts.
        rescale: factors along x, y, z that bring the set's mean head to the size of the population that it shall stand
            for (Kodym et al. 2021, section 3), see :func:`calvaria.skull.proportions.factors_between`.
    """

    kinds: Mapping[str, float] = field(default_factory=lambda: dict(KINDS))
    rim_chance: float = 0.2
    blend_chance: float = 0.5
    own_share: float = 0.5
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    unlabelled_share: float = 0.3
    rescale: Triple = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("rim_chance", "blend_chance", "own_share", "unlabelled_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} lies between 0 and 1; got {getattr(self, name)}")
        if not all(0.5 < factor < 2 for factor in self.rescale):
            raise InputError(f"heads are rescaled by factors between 0.5 and 2; got {self.rescale}")
        if any(weight < 0 for weight in self.kinds.values()) or (self.kinds and not any(self.kinds.values())):
            raise InputError(f"weights of kinds are at least 0, one of them above; got {dict(self.kinds)}")


@dataclass(frozen=True)
class Plan:
    """Everything that is drawn before a case is made.

    Args:
        row: the skull's row in the cache.
        augmentation: what happens to head and scan.
        blend: whose form it takes; None for its own.
        kind: kind of the defect; None for none.
        rims: kinds of changes of the rim.
        seed: of the defect's position and shape, and of the rim, which are drawn on the device until they are sound.
    """

    row: int
    augmentation: Augmentation
    blend: Blend | None = None
    kind: str | None = None
    rims: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Cases:
    """A batch of training cases; (B, 1, X, Y, Z) on the device.

    Args:
        shown: float32, the defective skulls as their scans show them: 0 or 1.
        patch: float32, the missing bone.
        complete: float32, the complete skulls; of a skull whose truth is not known, with the prior's completion.
        weight: float32, 1 where the truth is known and seen, 0 elsewhere.
        rows: (B,) rows in the cache.
        kinds: of the defects; "" for none.
    """

    shown: Tensor
    patch: Tensor
    complete: Tensor
    weight: Tensor
    rows: tuple[int, ...]
    kinds: tuple[str, ...]


class CaseMaker:
    """Draws and makes training cases."""

    def __init__(
        self,
        cache: SkullCache,
        ids: Sequence[str],
        settings: CaseSettings | None = None,
        *,
        seed: int = 0,
        deformations: Deformations | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Load the skulls' bits onto the device: 0.2 MB a coarse skull.

        Args:
            cache: of skulls.
            ids: whose cases are made: one side of a split, and nobody else.
            settings: what cases are like.
            seed: the same seed and number give the same case.
            deformations: of the same skulls, for blends; None: there are none.
            device: where cases are made.

        Raises:
            InputError: none of the ids is in the cache, or blends are wanted and fewer than two of them have forms.
        """
        self.settings = settings or CaseSettings()
        self.grid: Grid = cache.grid
        self.device = torch.device(device)
        self.cache, self.seed = cache, seed
        self.rows = cache.index_of(ids)
        self._bits = {row: torch.from_numpy(cache.bones([row])[0].copy()).to(self.device) for row in self.rows}
        self._labelled = [row for row in self.rows if cache.entries[row].complete]
        self._unlabelled = [row for row in self.rows if not cache.entries[row].complete]
        self._forms = {} if deformations is None else _forms(cache, self.rows, deformations)
        self.deformations = deformations.to(self.device) if deformations is not None else None
        if self.settings.blend_chance and deformations is not None and len(self._forms) < 2:
            raise InputError("skulls between skulls need the deformations of two skulls at least; make them anew")

    def plan(self, number: int) -> Plan:
        """The plan of case ``number``."""
        rng, settings = np.random.default_rng([self.seed, number]), self.settings
        from_unlabelled = bool(rng.random() < settings.unlabelled_share)
        pool = (self._unlabelled if from_unlabelled else self._labelled) or self.rows
        row = int(pool[rng.integers(len(pool))])
        blended = self._forms and rng.random() < settings.blend_chance and row in self._forms
        blend = sample_blend(rng, self._forms[row], list(self._forms.values()), settings.own_share) if blended else None
        kind = None
        if settings.kinds:
            weights = np.array(list(settings.kinds.values()))
            kind = str(list(settings.kinds)[rng.choice(len(weights), p=weights / weights.sum())])
        if kind == OFFICIAL and OFFICIAL not in self.cache.item(row).patches:
            kind = "random_1"
        rims = tuple(name for name in RIM_KINDS if rng.random() < settings.rim_chance)
        drawn = sample_augmentation(rng, settings.augmentation)
        x, y, z = (a * b for a, b in zip(drawn.warp.scale, settings.rescale, strict=True))
        drawn = replace(drawn, warp=replace(drawn.warp, scale=(x, y, z)))
        return Plan(row, drawn, blend, kind, rims, int(rng.integers(2**31)))

    def make(self, numbers: Sequence[int]) -> Cases:
        """Make the cases of some numbers.

        Raises:
            InputError: for ten skulls in a row no sound defect was found: they do not lie in their frames.
        """
        with torch.no_grad():
            plans = [self.plan(number) for number in numbers]
            made = [self._one(plan) for plan in plans]
        shown, patch, complete, weight = (
            torch.stack([volumes[n] for _, volumes in made])[:, None].float() for n in range(4)
        )
        rows, kinds = tuple(row for row, _ in made), tuple(plan.kind or "" for plan in plans)
        return Cases(shown, patch, complete, weight, rows, kinds)

    def _one(self, plan: Plan) -> tuple[int, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """One case, of its own skull, or of the next one where the defect finds no sound position."""
        for turn in range(TRIES):
            row = self.rows[(self.rows.index(plan.row) + turn) % len(self.rows)]
            blend = plan.blend if turn == 0 else None
            try:
                return row, self._made(row, plan, blend)
            except InputError as error:
                trouble = error
        raise InputError(f"{self.cache.entries[plan.row].id} and {TRIES - 1} other skulls: {trouble}")

    def _made(self, row: int, plan: Plan, blend: Blend | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng(plan.seed)
        official = plan.kind == OFFICIAL
        complete, hidden, own = self._skull(row, official)
        form = None if blend is None or self.deformations is None else self.deformations.displacement([blend])
        drawn = [plan.augmentation]
        complete, own = apply_geometry(complete, self.grid, drawn, own, form)
        unknown = None if hidden is None else warp_volumes(hidden, self.grid, [plan.augmentation.warp], form)
        known = complete if unknown is None else complete & ~unknown
        patch = torch.zeros_like(complete) if own is None else own
        spec: Spec | None = None
        if plan.kind is not None and not official:
            specs, cuts = draw_defects(known, self.grid, rng, {plan.kind: 1.0})
            patch, spec = cuts.patch, specs[0]
        defective = known & ~patch
        if spec is not None and plan.rims:
            defective, patch = apply_rims(defective, patch, self.grid, [_rims(plan.rims, rng, spec)])
        shown, seen = apply_artefacts(defective, self.grid, drawn)
        weight = seen if unknown is None else seen & ~unknown
        return shown[0], patch[0], complete[0], weight[0]

    def _skull(self, row: int, official: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(1, X, Y, Z) bool: the skull, where its bone is not known, and its official patch if that is wanted."""
        bone = unpack_bits(self._bits[row], self.grid.shape)[None]
        if self.cache.entries[row].complete:
            own = torch.from_numpy(self.cache.patch(row, OFFICIAL)).to(self.device)[None] if official else None
            return bone, None, own
        filling = torch.from_numpy(self.cache.patch(row, FILLING)).to(self.device)[None]
        hidden = torch.from_numpy(self.cache.hidden(row)).to(self.device)[None]
        return bone | filling, hidden | filling, None


def _forms(cache: SkullCache, rows: Sequence[int], deformations: Deformations) -> dict[int, int]:
    """Rows of the cache that have a deformation, and its row there."""
    there = deformations.rows_of([cache.entries[row].id for row in rows])
    return {row: there[cache.entries[row].id] for row in rows if cache.entries[row].id in there}


def _rims(names: Sequence[str], rng: np.random.Generator, spec: Spec) -> list[Rim]:
    """Changes of the rim; fragments only where the hole has room for one."""
    drawn = []
    for name in names:
        with suppress(InputError):
            drawn.append(sample_rim(name, rng, spec))
    return drawn


def unpack_bits(packed: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Packed bits (uint8, as :func:`calvaria.datasets.cache.pack` gives them) as a bool volume, on their device."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = (packed[:, None] >> places) & 1
    return bits.reshape(-1)[: shape[0] * shape[1] * shape[2]].reshape(shape).bool()


__all__ = ["KINDS", "OFFICIAL", "CaseMaker", "CaseSettings", "Cases", "Plan", "unpack_bits"]
