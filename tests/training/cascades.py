"""What trainings of the cascade are tested on: a made-up clinical set, and recipes of small networks."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.synthesis.shells import head

from calvaria.clinical.importing import INDEX_COLUMNS
from calvaria.clinical.loader import CASES, INDEX
from calvaria.datasets.cache import training_grid
from calvaria.io.images import write_volume
from calvaria.training.recipes.cascade import CascadeRecipe
from calvaria.training.recipes.fields import made
from calvaria.volume.volume import Volume


def side_hole() -> np.ndarray:
    """A box at one side of the vault."""
    points = training_grid().centres_mm()
    return (points[..., 0] > 30) & (np.abs(points[..., 1]) < 30) & (points[..., 2] > 20)


def implant_of(bone: np.ndarray) -> np.ndarray:
    """What lies in the hole, with a gap around."""
    points = training_grid().centres_mm()
    inner = (points[..., 0] > 34) & (np.abs(points[..., 1]) < 26) & (points[..., 2] > 24)
    return bone & inner


def clinical_set(folder: Path, persons: Sequence[str], *, implants: bool = True) -> Path:
    """What `import_clinical` leaves of such cases, without its reports."""
    rows = []
    for number, person in enumerate(persons):
        bone = head((1.0 + 0.02 * number, 1.0, 1.0))
        home = folder / CASES / f"c{number}"
        home.mkdir(parents=True)
        parts = {"defective": bone & ~side_hole(), "implant" if implants else "patch": implant_of(bone)}
        for name, mask in parts.items():
            write_volume(home / f"{name}.nrrd", Volume(mask, training_grid()))
        row = dict.fromkeys(INDEX_COLUMNS, "") | {"id": f"c{number}", "person": person}
        rows.append(row | {name: f"{CASES}/c{number}/{name}.nrrd" for name in parts})
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
