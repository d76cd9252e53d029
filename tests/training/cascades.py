"""What trainings of the cascade are tested on: a made-up clinical set, and recipes of small networks."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.synthesis.shells import head, points_mm

from calvaria.clinical.importing import INDEX_COLUMNS
from calvaria.clinical.loader import CASES, INDEX
from calvaria.datasets.cache import training_grid
from calvaria.io.images import write_volume
from calvaria.training.recipes.cascade import CascadeRecipe
from calvaria.training.recipes.fields import made
from calvaria.volume.volume import Volume


@cache
def side_hole() -> np.ndarray:
    """A box at one side of the vault."""
    points = points_mm()
    return (points[..., 0] > 30) & (np.abs(points[..., 1]) < 30) & (points[..., 2] > 20)


@cache
def inside_of_it() -> np.ndarray:
    """The same, with a gap around."""
    points = points_mm()
    return (points[..., 0] > 34) & (np.abs(points[..., 1]) < 26) & (points[..., 2] > 24)


def implant_of(bone: np.ndarray) -> np.ndarray:
    """What lies in the hole, with a gap around."""
    return bone & inside_of_it()


def clinical_set(folder: Path, persons: Sequence[str], *, implants: bool = True, masks: bool = True) -> Path:
    """What `import_clinical` leaves of such cases, without its reports.

    Args:
        folder: is made.
        persons: of the cases, in their order.
        implants: whether they have implants; patches otherwise.
        masks: whether anything stands in their files.
    """
    rows = []
    for number, person in enumerate(persons):
        home = folder / CASES / f"c{number}"
        home.mkdir(parents=True)
        names = ("defective", "implant" if implants else "patch")
        bone = head((1.0 + 0.02 * number, 1.0, 1.0)) if masks else None
        for name in names:
            path = home / f"{name}.nrrd"
            if bone is None:
                path.touch()
            else:
                mask = bone & ~side_hole() if name == "defective" else implant_of(bone)
                write_volume(path, Volume(mask, training_grid()))
        row = dict.fromkeys(INDEX_COLUMNS, "") | {"id": f"c{number}", "person": person}
        rows.append(row | {name: f"{CASES}/c{number}/{name}.nrrd" for name in names})
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / INDEX).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, INDEX_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder


def recipe_of(cache: Path, clinical: Path | None, folder: Path, **values: Any) -> CascadeRecipe:
    """A recipe of small networks on 28 x 36 x 24 coarse voxels."""
    small = {
        "form": "cascade-published",
        "width": 2,
        "depth": 3,
        "window": 24,
        "count": 2,
        "steps": 4,
        "batch": 2,
        "warmup": 1,
        "interval_steps": 2,
        "validation_cases": 1,
    }
    return made(
        CascadeRecipe,
        cache=cache,
        clinical=clinical,
        work=folder / "work",
        output=folder / "weights" / "cascade.safetensors",
        **(small | values),
    )
