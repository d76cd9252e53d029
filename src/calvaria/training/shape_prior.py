"""The making of the shape prior: from a folder of skulls to one file of weights.

1. The mean skull, from the complete skulls (`training.template`).
2. Every skull is brought into the common box; complete ones are examples as they are.
3. A first model of these fills the holes of the skulls whose truth is not public; they become examples too.
4. How far every position lies from the outer and inner table of each skull.
5. Principal modes of all examples and their mirror images: of the distance to bone, and of those to the two tables.

Steps 2 to 4 keep a file a skull in a work folder and go on where they were interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calvaria.datasets.catalog import SkullCase, autoimplant2020
from calvaria.datasets.split import load_split
from calvaria.errors import InputError
from calvaria.files import atomic_path
from calvaria.io import read_mask
from calvaria.jobs import Progress, in_order, in_processes, unheard
from calvaria.models import ModelInfo, register, write_arrays
from calvaria.models.registry import LICENCE
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.shape_prior.engine import ShapePrior, distance_mm
from calvaria.reconstruction.shape_prior.model import (
    MAX_MODES,
    MODEL_SPACING_MM,
    MODEL_TRUNCATION_MM,
    ShapeModel,
    bone_depth,
)
from calvaria.reconstruction.shape_prior.modes import fit_modes
from calvaria.reconstruction.shape_prior.table_distances import known_within, table_distances_at
from calvaria.reconstruction.shape_prior.tables import TABLE_MODES, TableModel, table_misfit
from calvaria.reconstruction.surface import to_box
from calvaria.skull.canonical import SPACING_MM as FINE_MM
from calvaria.skull.canonical import coarse_bone, locate
from calvaria.skull.template import Template, template_from
from calvaria.training.recipes.shape_prior import ShapePriorRecipe
from calvaria.training.template import build_template
from calvaria.types import F32
from calvaria.volume import Volume

FILL_MM = 13.0
"""Around a hole, so far as truncated distances can feel it, the filled surface replaces the measured distance."""


SIDES = ("outer", "inner")
"""Names of the tables in the work folder, whose distances are kept in hundredths of a mm."""

LAYOUT = 3
"""Of the files in a work folder: what an earlier version left there is not gone on with."""


def build(recipe: ShapePriorRecipe, progress: Progress = unheard) -> ModelInfo:
    """Make the weights and enter them into the index beside them.

    The mean skull and the first model always come from the training persons, so that both choices of subjects share
    all poses, fields and fillings; ``subjects="all"`` adds the complete skulls of validation and test persons.

    Args:
        recipe: what from and where to.
        progress: told one line at every step.
    """
    train, cases = chosen(recipe.root, "train"), chosen(recipe.root, recipe.subjects)
    work, jobs = recipe.work / fingerprint(train), recipe.jobs
    work.mkdir(parents=True, exist_ok=True)
    whole, holed = _by_truth(train)
    progress(f"{len(whole)} complete skulls, {len(holed)} with a hole, for training", 0.0)
    template = _template(whole, work, jobs, progress)
    _fields(cases, work, template, jobs, progress)
    weights = work / "first.npz"
    if not weights.exists():
        progress("first model", PARTS["fields"])
        first = _model(whole, work)
        _save(weights, **first.to_arrays(), **template_arrays(template))
    _fill(holed, work, weights, jobs, progress)
    whole, holed = _by_truth(cases)
    cases = [*_some(whole, recipe.complete), *(holed if recipe.unlabelled != "none" else [])]
    _sides(cases, work, jobs, progress)
    model, wall = _model(cases, work, recipe.unlabelled), _wall(cases, work, recipe.unlabelled)
    counts = f"{model.count} modes, {wall.outer.count} of the outer and {wall.inner.count} of the inner table"
    progress(f"{model.subjects} subjects, {counts}", 1.0)
    return _write(recipe, model, wall, template)


PARTS = {"template": 0.2, "fields": 0.4, "filled": 0.6, "sides": 0.9}
"""How much of the whole is done, roughly, when a part is: the rest are the last model's modes."""


def chosen(root: Path, subjects: str) -> list[SkullCase]:
    """One case a person, complete ones first, of the training persons or of all."""
    cases = {case.id: case for case in autoimplant2020(root)}
    allowed = set(cases) if subjects == "all" else set(load_split("autoimplant2020").train)
    seen: set[str] = set()
    out = []
    for case in sorted(cases.values(), key=lambda c: (c.complete is None, c.id)):
        if case.id in allowed and case.person not in seen:
            seen.add(case.person)
            out.append(case)
    return out


def _by_truth(cases: Sequence[SkullCase]) -> tuple[list[SkullCase], list[SkullCase]]:
    """Cases whose complete skull is there, and the others."""
    return [c for c in cases if c.complete is not None], [c for c in cases if c.complete is None]


def fingerprint(cases: Sequence[SkullCase]) -> str:
    """Short hash of the names and sizes of the input files: another input or layout, another work folder."""
    digest = hashlib.sha256(f"{LAYOUT}\n".encode())
    for case in cases:
        for path in (case.complete, case.defective):
            if path is not None:
                digest.update(f"{case.id} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def _source(case: SkullCase) -> Volume:
    path = case.complete if case.complete is not None else case.defective
    if path is None:
        raise InputError(f"{case.id}: neither a complete nor a defective skull is there")
    return read_mask(path)


def _bone(case: SkullCase) -> Volume:
    return coarse_bone(_source(case))


def _template(cases: Sequence[SkullCase], work: Path, jobs: int, progress: Progress) -> Template:
    path = work / "template.npz"
    if not path.exists():
        progress("mean skull", 0.0)
        bones = list(in_order(_bone, cases, jobs))
        _save(path, **template_arrays(build_template(bones, jobs)))
    return template_from(dict(np.load(path)))


def template_arrays(template: Template) -> dict[str, NDArray[np.generic]]:
    """The template as 8-bit arrays; `skull.template.template_from` reads them."""
    return {
        "template_mean": np.round(np.clip(template.mean.data, 0, 1) * 255).astype(np.uint8),
        "template_weight": np.round(np.clip(template.weight.data, 0, 1) * 255).astype(np.uint8),
        "template_affine": template.mean.affine.copy(),
    }


def _save(path: Path, **arrays: NDArray[np.generic]) -> None:
    with atomic_path(path) as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type] # names of arrays, never "allow_pickle"


def _save_field(path: Path, field: BoxField) -> None:
    distance = np.round(field.distance_mm * 10).astype(np.int8)
    _save(path, distance=distance, known=np.packbits(field.known), scale=np.array(field.scale))


def load_field(path: Path) -> BoxField:
    """A skull in the common box, as the work folder keeps it (0.1 mm steps)."""
    arrays = np.load(path)
    shape = box_grid().shape
    known = np.unpackbits(arrays["known"], count=int(np.prod(shape))).astype(bool).reshape(shape)
    x, y, z = (float(factor) for factor in arrays["scale"])
    return BoxField(arrays["distance"].astype(np.float32) / 10, known, (x, y, z))


def _fields(cases: Sequence[SkullCase], work: Path, template: Template, jobs: int, progress: Progress) -> None:
    todo = [(case, work / f"{case.id}.npz") for case in cases if not (work / f"{case.id}.npz").exists()]
    done = in_processes(partial(_field, template), todo, jobs)
    _report((name for _, name in done), len(todo), "distance fields", progress, ("template", "fields"))


def _field(template: Template, task: tuple[SkullCase, Path]) -> str:
    case, path = task
    skull = _source(case)
    _save_field(path, to_box(skull, locate(skull, template)))
    return case.id


def _fill(cases: Sequence[SkullCase], work: Path, weights: Path, jobs: int, progress: Progress) -> None:
    todo = [case.id for case in cases if not (work / f"{case.id}.filled.npz").exists()]
    done = in_processes(partial(_fill_one, work, weights), todo, jobs)
    _report((name for _, name in done), len(todo), "holes filled", progress, ("fields", "filled"))


@lru_cache(maxsize=1)
def _first(weights: Path) -> ShapePrior:
    """The first model, loaded once in each worker process."""
    arrays = dict(np.load(weights))
    return ShapePrior(ShapeModel.from_arrays(arrays), template_from(arrays))


def _fill_one(work: Path, weights: Path, name: str) -> str:
    field = load_field(work / f"{name}.npz")
    filled = fill(field, _first(weights))
    if filled is not None:
        _save_field(work / f"{name}.filled.npz", filled)
    return name


def fill(field: BoxField, engine: ShapePrior) -> BoxField | None:
    """A skull with its holes filled by the prior, as an example for the next model; None if no hole is found.

    Where the hole could be felt (the nearest known surface is farther than the hole), the completed surface's distance
    replaces the measured one.
    """
    soft = engine.complete(field, read_mm=FILL_MM)
    if not soft.region.any():
        return None
    gap_mm = distance_mm(soft.region, 0.0)
    felt = (np.abs(field.distance_mm) > gap_mm - 0.01) & (gap_mm < FILL_MM)
    return BoxField(np.where(felt, soft.distance_mm, field.distance_mm).astype(np.float32), field.known, field.scale)


def _sides(cases: Sequence[SkullCase], work: Path, jobs: int, progress: Progress) -> None:
    todo = [
        (case.id, field, _sides_file(work, case))
        for case in cases
        if (field := _field_file(work, case)).exists() and not _sides_file(work, case).exists()
    ]
    done = in_processes(_sides_one, todo, jobs)
    _report((name for _, name in done), len(todo), "tables of the vault", progress, ("filled", "sides"))


def _sides_file(work: Path, case: SkullCase) -> Path:
    return work / f"{case.id}.sides.npz"


def _sides_one(task: tuple[str, Path, Path]) -> str:
    name, field, path = task
    points = box_grid(MODEL_SPACING_MM).centres_mm().reshape(-1, 3)
    sides = table_distances_at(load_field(field), points, MODEL_TRUNCATION_MM)
    found = zip(SIDES, (sides.outer_mm, sides.inner_mm), strict=True)
    _save(path, **{side: np.round(part * 100).astype(np.int16) for side, part in found})
    return name


def _some(cases: list[SkullCase], count: int | None) -> list[SkullCase]:
    """``count`` of the cases in an order drawn by a fixed seed, or all."""
    if count is None:
        return cases
    order = np.random.default_rng(SOME_SEED).permutation(len(cases))
    return [cases[n] for n in order[:count]]


SOME_SEED = 15
"""Which complete skulls are taken when not all are."""


def _model(cases: Sequence[SkullCase], work: Path, unlabelled: str = "none") -> ShapeModel:
    """The model of the cases' fields in the work folder."""
    loaded = [_example_field(work, case, unlabelled) for case in cases]
    fields = [field for field in loaded if field is not None]
    examples, known = np.stack([example(field) for field in fields]), np.stack([_known(field) for field in fields])
    depth = np.median([coarse_field(bone_depth(field.distance_mm, FINE_MM)) for field in fields], axis=0)
    depth = ((depth + depth[::-1]) / 2)[depth.shape[0] // 2 :].astype(np.float32)
    return ShapeModel.of(fit_modes(impute(examples, known), MODEL_SPACING_MM, MAX_MODES), depth)


def _known(field: BoxField) -> NDArray[np.bool_]:
    """Where a field says anything, on the model's grid."""
    return coarse_field(field.known.astype(np.float32)) > 0.99


def _wall(cases: Sequence[SkullCase], work: Path, unlabelled: str) -> TableModel:
    """The outer and inner tables of the same cases."""
    shells, sides, seen = [], [], []
    for case in cases:
        field = _example_field(work, case, unlabelled)
        if field is None:
            continue
        known, arrays = _known(field), np.load(_sides_file(work, case))
        both = np.stack([arrays[name].astype(np.float32).reshape(known.shape) / 100 for name in SIDES])
        shells.append(np.where(known, example(field), np.float32(MODEL_TRUNCATION_MM)))
        sides.append(both)
        seen.append(np.abs(both) <= known_within(known, field.scale, MODEL_SPACING_MM))
    outer, inner = (
        impute(np.stack([both[n] for both in sides]), np.stack([both[n] for both in seen])) for n in range(len(SIDES))
    )
    misfit = table_misfit(np.stack(shells), outer, inner, MODEL_SPACING_MM)
    return TableModel(
        fit_modes(outer, MODEL_SPACING_MM, TABLE_MODES), fit_modes(inner, MODEL_SPACING_MM, TABLE_MODES), misfit
    )


def _example_field(work: Path, case: SkullCase, unlabelled: str) -> BoxField | None:
    """A case's field as an example; None for a case that is none."""
    path = _field_file(work, case)
    if (case.complete is None and unlabelled == "none") or not path.exists():
        return None
    field = load_field(path)
    if case.complete is not None or unlabelled == "filled":
        return field
    holed = load_field(work / f"{case.id}.npz")
    return BoxField(field.distance_mm, field.known & ~_felt(field, holed), field.scale)


def _field_file(work: Path, case: SkullCase) -> Path:
    """The skull without its hole; not there if no hole was found in one that must have one."""
    return work / (f"{case.id}.npz" if case.complete is not None else f"{case.id}.filled.npz")


def _felt(filled: BoxField, holed: BoxField) -> NDArray[np.bool_]:
    """Where the filling changed the distance by more than the work folder's steps, and a voxel around."""
    return np.asarray(ndimage.binary_dilation(np.abs(filled.distance_mm - holed.distance_mm) > STEP_MM))


STEP_MM = 0.15
"""Distances in the work folder are rounded to 0.1 mm."""


def example(field: BoxField) -> F32:
    """Distances on the model's grid, truncated."""
    return coarse_field(np.clip(field.distance_mm, -MODEL_TRUNCATION_MM, MODEL_TRUNCATION_MM))


def coarse_field(values: F32) -> F32:
    """A field of the common box on the model's grid, trilinear."""
    fine, coarse = box_grid(), box_grid(MODEL_SPACING_MM)
    start = (coarse.affine[:3, 3] - fine.affine[:3, 3]) / FINE_MM
    step = np.full(3, MODEL_SPACING_MM / FINE_MM)
    return np.asarray(ndimage.affine_transform(values, step, start, output_shape=coarse.shape, order=1, mode="nearest"))


def impute(
    examples: F32, known: NDArray[np.bool_], modes: int = 40, rounds: int = 4, spacing_mm: float = MODEL_SPACING_MM
) -> F32:
    """What a scan does not show, filled by the modes fitted to what it shows (iterated principal components).

    Args:
        examples: (N, I, J, K) distances.
        known: the same shape, False where an example means nothing.
        modes: modes used.
        rounds: times that modes and fillings are renewed.
        spacing_mm: voxel edge of the grid.
    """
    out = examples.copy()
    share = np.maximum(known.sum(axis=0), 1)
    mean = (examples * known).sum(axis=0) / share
    cut = [n for n in range(len(out)) if not known[n].all()]
    for n in cut:
        out[n][~known[n]] = mean[~known[n]]
    rng = np.random.default_rng(0)
    for _ in range(rounds if cut else 0):
        model = fit_modes(out, spacing_mm, modes)
        for n in cut:
            seen, hidden = known[n].reshape(-1), ~known[n].reshape(-1)
            used = np.flatnonzero(seen & (rng.random(seen.size) < 0.15))
            design = model.rows(used, modes)
            system = design.T @ design
            system.flat[:: len(system) + 1] += 0.02 * np.trace(system) / len(system)
            weights = np.linalg.solve(system, design.T @ (out[n].reshape(-1)[used] - model.mean[used]))
            filled = model.mean + model.combine(weights[None].astype(np.float32))[0]
            out[n].reshape(-1)[hidden] = filled[hidden]
    return out


def _report(done: Iterable[str], total: int, what: str, progress: Progress, parts: tuple[str, str]) -> None:
    """Do what lies between two of the `PARTS`, and tell how far it is."""
    low, high = (PARTS[part] for part in parts)
    for number, name in enumerate(done, start=1):
        if number % NOTE_EVERY == 0 or number == total:
            progress(f"{what}: {number} of {total} ({name})", low + (high - low) * number / total)


NOTE_EVERY = 10
"""Skulls between two lines."""


def _write(recipe: ShapePriorRecipe, model: ShapeModel, wall: TableModel, template: Template) -> ModelInfo:
    made_from = {"set": "AutoImplant 2020", "people": recipe.subjects, "unlabelled": recipe.unlabelled}
    about = {"licence": LICENCE, "made_from": json.dumps(made_from)}
    arrays = {**model.to_arrays(), **wall.to_arrays(), **template_arrays(template)}
    write_arrays(recipe.output, arrays, about)
    return register(recipe.output, recipe.output.stem, "shape-prior", LICENCE)
