"""What limits the patch: the pose, the hole's outline, the plate's position, its thickness.

::

    python -m calvaria.benchmarks.limits --data ROOT --split validation --jobs 2

Every case is solved again with knowledge that no patient offers: the pose of the complete skull, the outline of the
true patch, both. What remains then is shape. The truth itself, brought to the model's grid and back, shows what the
grids cost. Along rays from the head centre the outer surface and the thickness of the patch are compared with the true
ones, near the rim and in the middle. Distances are in the mean head's mm.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from calvaria.benchmarks.cases import BENCHMARK_KINDS, KINDS_HELP, Task, build, tasks_of
from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.script import run_while_read
from calvaria.jobs import Countdown, in_order
from calvaria.metrics import score
from calvaria.reconstruction.box import AIR_MM, BoxField, box_grid
from calvaria.reconstruction.engines import load_prior
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.protocol import SoftField
from calvaria.reconstruction.shape_prior.engine import distance_mm
from calvaria.reconstruction.shape_prior.model import MODEL_SPACING_MM
from calvaria.reconstruction.shape_prior.plates import REGION_MM
from calvaria.reconstruction.shape_prior.regression import cubic
from calvaria.reconstruction.surface import to_box
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.training.shape_prior import example
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.gather import trilinear_at
from calvaria.volume.volume import bounding_box

HELP = ("none", "pose", "outline", "pose and outline", "the truth")
"""What the engine is given: each is a column of the table."""

RIM_MM = 6.0
"""Nearer to the bone present than this is the rim, farther is the middle."""

ROUGH_MM = 3.3
"""Room around a given outline, as around a found one."""

MIN_RAY_MM, MAX_RAY_MM, STEP_MM = 35.0, 125.0, 0.25
"""Rays are read from the first to the second distance from the head's centre, where they start."""

MAX_RAYS = 4000


def limits_of(task: Task, model: str) -> tuple[list[float], F64]:
    """Solve one case with each kind of help.

    Returns:
        DSC for each of `HELP`, and, for help with both, (2, 3): for the rim and the middle, the mean error of the outer
        surface, its mean absolute error, and the mean absolute error of the thickness, mm (NaN where there is none).
    """
    engine = load_prior(model)
    defective, truth = build(task)
    box = bounding_box(defective.mask)
    skull = defective if box is None else defective.crop(box)
    complete = defective.with_data(defective.mask | truth.mask)
    found, field, completed = engine.reconstruct(skull, locate(skull, engine.template))
    ideal = locate(complete, engine.template)
    ideal_field = to_box(skull, ideal)

    def dsc(soft: SoftField, frame: CanonicalFrame) -> float:
        return score(to_patch(soft, frame, defective), truth, defective).dsc

    missing = to_box(truth, ideal)
    gap_mm = distance_mm(missing.distance_mm < 0, ROUGH_MM)
    found_gap_mm = distance_mm(to_box(truth, found).distance_mm < 0, ROUGH_MM)
    outlined = [engine.complete_known(field, found_gap_mm), engine.complete_known(ideal_field, gap_mm)]
    whole = to_box(complete, ideal)
    figures = [
        dsc(completed, found),
        dsc(engine.complete(ideal_field), ideal),
        dsc(outlined[0], found),
        dsc(outlined[1], ideal),
        dsc(on_model_grid(whole, gap_mm <= REGION_MM), ideal),
    ]
    return figures, plate_errors(outlined[1], ideal_field, whole, missing)


def on_model_grid(whole: BoxField, region: BoolArray) -> SoftField:
    """A complete skull as the model's grid holds it: the answer of a perfect model."""
    values = np.full(region.shape, AIR_MM, np.float32)
    points = box_grid().to_world(np.argwhere(region))
    values[region] = cubic(box_grid(MODEL_SPACING_MM), points) @ example(whole).reshape(-1)
    return SoftField(values, region, 0.0)


def plate_errors(soft: SoftField, seen: BoxField, complete: BoxField, truth: BoxField) -> F64:
    """Errors of the plate along rays, see `limits_of`; all fields in one frame."""
    merged = np.where(soft.region, np.minimum(soft.distance_mm, seen.distance_mm), seen.distance_mm)
    missing = truth.distance_mm < 0
    points = box_grid().to_world(np.argwhere(missing)) - HEAD_CENTRE_MM
    points = points[:: max(1, len(points) // MAX_RAYS)]
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    true_outer, true_thick = _plate(complete.distance_mm, directions)
    outer, thick = _plate(merged, directions)
    both = np.isfinite(outer) & np.isfinite(true_outer)
    ends = HEAD_CENTRE_MM + directions[both] * (true_outer - true_thick / 2)[both, None]
    off, thickness = (outer - true_outer)[both], np.abs(thick - true_thick)[both]
    rim = _read(seen.distance_mm, ends) < RIM_MM
    out = np.full((2, 3), np.nan)
    for row, part in enumerate((rim, ~rim)):
        if part.any():
            out[row] = off[part].mean(), np.abs(off[part]).mean(), thickness[part].mean()
    return out


def _plate(distance: F32, directions: F64) -> tuple[F64, F64]:
    """(N,) distance of the outer table from the head centre along rays and thickness of bone there; NaN without."""
    along = np.arange(MIN_RAY_MM, MAX_RAY_MM, STEP_MM)
    points = HEAD_CENTRE_MM + directions[:, None] * along[:, None]
    inside = (_read(distance, points.reshape(-1, 3)) < 0).reshape(len(directions), -1)
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    # Counted from the outermost bone inwards, up to the first gap.
    reached = np.arange(inside.shape[1]) <= last[:, None]
    gap = (reached & ~inside)[:, ::-1].argmax(axis=1)
    first = np.where((reached & ~inside).any(axis=1), inside.shape[1] - gap, 0)
    found = inside.any(axis=1)
    return np.where(found, along[last], np.nan), np.where(found, (last - first + 1) * STEP_MM, np.nan)


def _read(distance: F32, points_mm: F64) -> F32:
    index = np.clip(box_grid().to_index(points_mm), 0, np.array(box_grid().shape) - 1.001)
    return trilinear_at(distance.reshape(-1), box_grid().shape, index.T)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.limits", description="what limits accuracy")
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--split", default="validation", choices=("test", "validation"))
    parser.add_argument("--model", default="shape-prior")
    parser.add_argument("--kinds", default=",".join(BENCHMARK_KINDS), help=KINDS_HELP)
    parser.add_argument("--limit", type=int, help="only the first so many persons")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    tasks = tasks_of(options.data, options.split, tuple(options.kinds.split(",")), options.limit, tell=tell)
    found, clock = [], Countdown(len(tasks))
    for task, one in zip(tasks, in_order(partial(limits_of, model=options.model), tasks, options.jobs), strict=True):
        found.append(one)
        tell(f"[{clock.step()}] {task.case.id} {task.kind}")
    tell(f"{'mean DSC, given':<16} {'n':>3} " + " ".join(f"{name:>17}" for name in HELP))
    for kind in (*dict.fromkeys(task.kind for task in tasks), "all"):
        rows = np.array([f for task, (f, _) in zip(tasks, found, strict=True) if kind in {task.kind, "all"}])
        tell(f"{kind:<16} {len(rows):>3} " + " ".join(f"{v:17.4f}" for v in rows.mean(axis=0)))
    plates = np.array([plate for _, plate in found])
    for row, part_name in enumerate(("rim", "middle")):
        part = plates[~np.isnan(plates[:, row, 0]), row]
        plate, outer, thick = np.abs(part).mean(axis=0)
        tell(
            f"{part_name} ({len(part)} cases): the plate as a whole {plate:.2f} mm in or out, "
            f"its outer surface {outer:.2f} mm off, its thickness {thick:.2f} mm off (means of absolute errors)"
        )


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["HELP", "limits_of", "plate_errors"]
