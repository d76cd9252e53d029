"""The cases that a cascade learns from, made once and kept: synthetic with patches, clinical with implants.

A case at full resolution takes seconds, so each of the first so many is made once, and shown again and again. What is
kept are bits: the bone, what is learned of it, where that is known; and the plane, which takes long to find.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import count
from multiprocessing import parent_process
from pathlib import Path
from typing import cast

import numpy as np
import torch

from calvaria.clinical.loader import INDEX, read_clinical
from calvaria.datasets.cache import SkullCache, pack, unpack
from calvaria.datasets.catalog import SkullCase, person_of
from calvaria.datasets.split import load_split
from calvaria.deformation.flow import coarser
from calvaria.deformation.warp import Triple, warp_volumes
from calvaria.errors import InputError
from calvaria.files import atomic_path
from calvaria.io.images import read_mask
from calvaria.io.result import sha256_of
from calvaria.jobs import Progress, counted, in_order, unheard
from calvaria.reconstruction.box import box_to_world
from calvaria.reconstruction.engines import load_prior
from calvaria.reconstruction.networks.cascade_inputs import DEPTH_MM, MIDDLE, doubt_on, skull_plane
from calvaria.reconstruction.networks.forms import BRANCHES, Branch
from calvaria.reconstruction.repose import missing_depth, missing_share, settle
from calvaria.skull.canonical import locate
from calvaria.skull.proportions import factors_between, population, proportions, read_population
from calvaria.synthesis.augmentation.draw import NOTHING, sample_augmentation
from calvaria.synthesis.batched.cases import CaseMaker, CaseSettings
from calvaria.synthesis.defects import soundness
from calvaria.training.folds import FoldPriors, train_rows
from calvaria.training.recipes.cascade import CascadeRecipe
from calvaria.training.recipes.fields import key_of
from calvaria.training.sketches import TRAIN, VALIDATION, case_maker
from calvaria.types import F32, F64, U8, BoolArray
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume

Task = tuple[str, str, int]
"""(side or "field", branch, number)."""

VERSION = 2
"""Of what is kept; another one is made anew."""

FOLDS = 8
"""Of the training persons, where the prior is shown: fitted to seven eighths of them it is nearly as good as to all."""

NOTE_EVERY = 20
"""Cases between two lines."""

HELD_SHARE = 0.1
"""Of a clinical set whose persons are none of the split, this share is watched and not learned from."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A case at full resolution, canonical mm.

    Args:
        bone: (I, J, K) the defective skull.
        truth: patch or implant, where no bone is.
        known: where it is known.
        plane: (4,) unit normal towards +x and offset, of the mid-sagittal plane as it was estimated.
        prior: (X, Y, Z) on the coarse grid, how much the shape prior holds for missing; None where it was not asked.
        doubt: how far off it expects to be, see `doubt_on`.
        depth: (I, J, K) uint8, in 255ths, how deep the prior's completion holds a voxel to lie in missing bone, see
            `missing_depth`; of networks that stand behind it.
    """

    bone: BoolArray
    truth: BoolArray
    known: BoolArray
    plane: F64
    prior: F32 | None = None
    doubt: F32 | None = None
    depth: U8 | None = None

    def mirrored(self) -> Kept:
        """The case's mirror image."""
        # n_x changes its sign, and so does the whole plane, so that it points to +x again.
        plane = self.plane * np.array([1.0, -1.0, -1.0, -1.0])
        prior, doubt = (None if one is None else one[::-1] for one in (self.prior, self.doubt))
        depth = None if self.depth is None else self.depth[::-1]
        return Kept(self.bone[::-1], self.truth[::-1], self.known[::-1], plane, prior, doubt, depth)


class CascadeCases:
    """Makes and keeps the cases of a recipe.

    Args:
        recipe: which.

    Raises:
        InputError: the cache's grid does not divide, it holds nobody of the split's training persons, or the clinical
            set has no implant of a person that may be learned from.
    """

    def __init__(self, recipe: CascadeRecipe) -> None:
        self.recipe, self.cache = recipe, SkullCache(recipe.cache)
        data = recipe.data
        self.grid: Grid = self.cache.grid
        if any(n % data.zoom for n in self.grid.shape):
            raise InputError(f"zoom: the cache's {self.grid.shape} voxels do not divide by {data.zoom}")
        if data.window > min(self.grid.shape):
            raise InputError(f"window: the cache's {self.grid.shape} voxels are fewer than {data.window}")
        self.coarse = coarser(self.grid, data.zoom)
        self.settings = as_they_are(recipe.cases) if recipe.form.behind else recipe.cases
        self.clinical: dict[str, list[SkullCase]] = {}
        if data.clinical is not None and data.branch != "patch":
            self.clinical = clinical_sides(data.clinical)
        self.folder = data.kept_cases or recipe.work / f"cascade-cases-{self._key()}"
        self._makers: dict[str, CaseMaker] = {}

    def _key(self) -> str:
        """Hash of what decides what the cases are."""
        recipe, data = self.recipe, self.recipe.data
        clinical = "" if data.clinical is None or data.branch == "patch" else sha256_of(data.clinical / INDEX)
        told = {
            "cases": asdict(self.settings),
            "seed": data.seed,
            "cache": sha256_of(recipe.cache),
            "clinical": clinical,
        }
        form = recipe.form
        shown = {"zoom": data.zoom, "prior": form.prior, "doubt": form.doubt, "depth": form.behind}
        match = "" if data.match is None else sha256_of(data.match)
        return key_of({**told, **shown, "match": match, "version": VERSION, "soundness": soundness.VERSION})

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Those that learn."""
        branch = self.recipe.data.branch
        return BRANCHES if branch == "both" else (cast(Branch, branch),)

    def read(self, side: str, branch: Branch, number: int) -> Kept:
        """A case; made where it was not yet."""
        path = self._path(side, branch, number)
        if not path.exists():
            self._keep(path, self._made(side, branch, number))
        shape = self.grid.shape
        with np.load(path) as file:
            bone, truth, known = (unpack(file[name], shape) for name in ("bone", "truth", "known"))
            prior, doubt = (file[n].astype(np.float32) / 255 if n in file else None for n in ("prior", "doubt"))
            return Kept(bone, truth, known, file["plane"], prior, doubt, file.get("depth"))

    def tasks(self) -> list[Task]:
        """What is still to be made, the priors' fields first."""
        fields: list[Task] = []
        if self.recipe.form.prior:
            fields = [("field", "", row) for row in self._priors.missing()]
        sides = ((TRAIN, self.recipe.data.count), (VALIDATION, self.recipe.validation.validation_cases))
        cases = [(side, branch, n) for side, many in sides for branch in self.branches for n in range(many)]
        return fields + [task for task in cases if not self._path(*task).exists()]

    def do(self, task: Task) -> None:
        """Make one of them."""
        side, branch, number = task
        if side == "field":
            self._priors.write_field(number)
        else:
            self._keep(self._path(side, branch, number), self._made(side, cast(Branch, branch), number))

    def _path(self, side: str, branch: str, number: int) -> Path:
        return self.folder / f"{side}-{branch}-{number}.npz"

    def _keep(self, path: Path, case: Kept) -> None:
        bits = {name: pack(getattr(case, name)) for name in ("bone", "truth", "known")}
        asked = {name: getattr(case, name) for name in ("prior", "doubt") if getattr(case, name) is not None}
        bytes_ = {name: np.round(255 * one).astype(np.uint8) for name, one in asked.items()}
        if case.depth is not None:
            bytes_["depth"] = case.depth
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez_compressed(file, plane=case.plane, **(bits | bytes_))

    def _made(self, side: str, branch: Branch, number: int) -> Kept:
        bone, truth, known, person = (self._synthetic if branch == "patch" else self._clinical)(side, number)
        skull = Volume(bone, self.grid)
        plane = MIDDLE if self.recipe.form.behind else skull_plane(skull)  # behind the prior no mirror image is shown
        kept = Kept(bone, truth & ~bone, known, np.array([*plane.normal, plane.offset_mm]))
        return self._with_prior(kept, skull, person) if self.recipe.form.prior else kept

    def _synthetic(self, side: str, number: int) -> tuple[BoolArray, BoolArray, BoolArray, str]:
        if side not in self._makers:
            cases = replace(self.settings, rescale=self.factors)
            self._makers[side] = case_maker(self.cache, cases, side, self.recipe.data.seed)
        made = self._makers[side].make([number])
        bone, truth, known = (one[0, 0].numpy() > 0.5 for one in (made.shown, made.patch, made.weight))
        return bone, truth, known, self.cache.entries[made.rows[0]].person

    def _clinical(self, side: str, number: int) -> tuple[BoolArray, BoolArray, BoolArray, str]:
        """A clinical case as it is, and further ones bent, turned and shifted as synthetic ones are."""
        cases = self.clinical[side]
        case, turn = cases[number % len(cases)], number // len(cases)
        masks = [resample_mask(read_mask(path), self.grid).mask for path in (case.defective, case.implant) if path]
        if turn and side == TRAIN:
            rng = np.random.default_rng([self.recipe.data.seed, 1, number])
            warp = sample_augmentation(rng, self.settings.augmentation).warp
            with torch.no_grad():
                moved = warp_volumes(torch.from_numpy(np.stack(masks))[None], self.grid, [warp])[0]
            masks = list(moved.numpy())
        bone, truth = masks
        return bone, truth, np.ones(self.grid.shape, bool), case.person

    @cached_property
    def factors(self) -> Triple:
        """By what the cache's skulls are rescaled to the population of ``match`` (K4)."""
        match, kept = self.recipe.data.match, self.folder / "factors.json"
        if match is None:
            return (1.0, 1.0, 1.0)
        if not kept.exists():  # measured once: it takes a second a skull
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(kept) as part:
                part.write_text(json.dumps(factors_to(match, self.cache)), encoding="utf-8")
        x, y, z = json.loads(kept.read_text(encoding="utf-8"))
        return (x, y, z)

    @cached_property
    def _priors(self) -> FoldPriors:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FoldPriors(self.cache, self.folder, FOLDS)

    def _with_prior(self, kept: Kept, skull: Volume, person: str) -> Kept:
        """A case with what the prior makes of its skull, whose person that has not seen."""
        learned = {self.cache.entries[row].person for row in train_rows(self.cache)}
        prior = self._priors.of(person) if person in learned else load_prior()
        nothing, form = np.zeros(self.coarse.shape, np.float32), self.recipe.form
        if not skull.data.any():
            unknown = np.zeros(skull.shape, np.uint8) if form.behind else None
            return replace(kept, prior=nothing, doubt=nothing if form.doubt else None, depth=unknown)
        frame, field, soft = settle(skull, locate(skull, prior.template), prior)
        if form.doubt or form.behind:
            soft = prior.complete(field, soft)
        kept = replace(kept, prior=missing_share(soft, frame, skull.mask, skull.grid, self.recipe.data.zoom))
        if form.doubt:
            kept = replace(kept, doubt=doubt_on(self.coarse, soft.spread, box_to_world(frame)))
        if form.behind:
            depth = missing_depth(soft, frame, skull.mask, skull.grid, DEPTH_MM)
            kept = replace(kept, depth=np.rint(255 * depth).astype(np.uint8))
        return kept


def as_they_are(cases: CaseSettings) -> CaseSettings:
    """The same holes in heads as they are, for what corrects the shape prior.

    A head that was bent, stretched or made thicker is none of those that the prior knows, which completes it a bit too
    small: that is nothing to learn, for no patient's head is like that.
    """
    return replace(cases, blend_chance=0.0, unlabelled_share=0.0, augmentation=NOTHING)


def clinical_sides(folder: Path) -> dict[str, list[SkullCase]]:
    """The implants of a clinical set: those that are learned from, and those that are watched.

    Of persons of the public set's split, as simulated cases show, its training persons are learned from, its validation
    persons watched, and its test persons left out. Of others a few are watched.

    Args:
        folder: what `import_clinical` wrote.

    Raises:
        InputError: it holds no usable case, no implant, or none that may be learned from.
    """
    cases = read_clinical(folder)
    if not cases:
        raise InputError(f"{folder}: the clinical set has no usable case; its refused.csv says why")
    with_implant = [case for case in cases if case.implant is not None]
    if not with_implant:
        raise InputError(f"{folder}: none of the {len(cases)} clinical cases has an implant; implants are learned from")
    split = load_split()
    test, watched, learned = ({person_of(one) for one in side} for side in (split.test, split.validation, split.train))
    others = sorted(
        {case.person for case in with_implant} - test - watched - learned,
        key=lambda person: hashlib.sha256(person.encode()).hexdigest(),
    )
    watched |= set(others[: max(1, round(HELD_SHARE * len(others)))] if len(others) > 1 else ())
    sides = {
        TRAIN: [case for case in with_implant if case.person not in test | watched],
        VALIDATION: [case for case in with_implant if case.person in watched],
    }
    if not sides[TRAIN]:
        raise InputError(
            f"{folder}: none of the {len(with_implant)} cases with an implant shows a training person; those of "
            "validation and test persons are not learned from"
        )
    sides[VALIDATION] = sides[VALIDATION] or sides[TRAIN][:1]
    return sides


def factors_to(match: Path, cache: SkullCache) -> Triple:
    """By what the training persons' complete skulls grow along x, y, z until their mean is a population's.

    Args:
        match: population.json of `calvaria data import-clinical`.
        cache: of skulls.

    Raises:
        InputError: a factor is out of all proportion, or there is no complete skull.
    """
    target = read_population(match)
    measured = []
    for row in train_rows(cache):
        if cache.entries[row].complete:
            skull = Volume(cache.bone(row), cache.grid)
            measured.append(proportions(skull, locate(skull)))
    return factors_between(population(measured), target)


_CASES: list[CascadeCases] = []
"""Those of this process."""


def _begin(recipe: CascadeRecipe) -> None:
    if parent_process() is not None:
        torch.set_num_threads(1)
    _CASES[:] = [CascadeCases(recipe)]


def _work(task: Task) -> None:
    _CASES[0].do(task)


def prepare(cases: CascadeCases, progress: Progress = unheard) -> None:
    """Make all cases that are not there yet; goes on where it was interrupted.

    Args:
        cases: which.
        progress: told a line now and then, with the time left.
    """
    tasks, recipe = cases.tasks(), cases.recipe
    # A case is sketched by its fold's prior, which takes every person's field.
    for what, some in (
        ("skulls in the common box", [task for task in tasks if task[0] == "field"]),
        ("cases made", [task for task in tasks if task[0] != "field"]),
    ):
        done = in_order(_work, some, recipe.data.jobs, begin=partial(_begin, recipe))
        for _ in counted(done, len(some), now_and_then(progress, len(some)), what):
            pass


def now_and_then(progress: Progress, whole: int) -> Progress:
    """Tells each `NOTE_EVERY`th line, and the last."""
    calls = count()

    def tell(line: str, share: float) -> None:
        if next(calls) % NOTE_EVERY == 0 or (whole and share >= 1):
            progress(line, share)

    return tell


__all__ = ["CascadeCases", "Kept", "clinical_sides", "factors_to", "prepare"]
