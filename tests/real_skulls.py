"""Real skulls as several tests use them: each is read, cut, located or completed once a process. Nobody changes them.

``root`` is the folder that the fixture ``real_data`` gives.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from calvaria.benchmarks.cases import build, tasks_of
from calvaria.io import read_mask, read_volume
from calvaria.pipeline import Reconstruction, reconstruct
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.volume import Volume


@lru_cache(maxsize=1)
def complete(root: Path, number: str) -> tuple[Volume, CanonicalFrame]:
    """A complete skull, and how it lies."""
    skull = read_mask(root / "autoimplant2020" / "training_set" / "complete_skull" / f"{number}.nrrd")
    return skull, locate(skull)


@lru_cache(maxsize=1)
def with_hole(root: Path, kind: str) -> tuple[Volume, Volume, CanonicalFrame]:
    """The first validation person's skull with a hole of a kind, what filled it, and how the skull lies."""
    (task,) = tasks_of(root, "validation", (kind,), 1)
    defective, truth = build(task)
    return defective, truth, locate(defective)


@lru_cache(maxsize=1)
def patient(root: Path) -> Reconstruction:
    """What comes of the CT of a patient with a frontal hole."""
    return reconstruct(read_volume(root / "clinical-ct" / "cranium.nrrd"))
