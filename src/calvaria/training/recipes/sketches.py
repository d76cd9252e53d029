"""The recipe of the shape prior's sketches of training cases."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from calvaria.training.recipes.fields import key_of, require_counts, setting
from calvaria.training.recipes.reconstruction import training_cases
from calvaria.training.recipes.settings import WORK

if TYPE_CHECKING:
    from calvaria.synthesis.batched.cases import CaseSettings


@dataclass(frozen=True, kw_only=True)
class SketchRecipe:
    """What sketches are made of.

    Args:
        cache: A training cache, from `calvaria data cache`.
        output: The sketches, .safetensors.
        work: For what may be resumed after an interruption.
        count: Training cases.
        validation_cases: Validation cases.
        coarsen: Cache voxels along a training voxel.
        folds: Of the training persons.
        seed: Of the training that they are for.
        jobs: Processes.
        cases: what training cases are like.

    Raises:
        InputError: a count below 1, or fewer than two folds.
    """

    cache: Path = setting(metavar="FILE")
    output: Path = setting(option=("-o", "--output"), metavar="FILE")
    work: Path = setting(WORK, metavar="FOLDER")
    count: int = setting(1000, metavar="N")
    validation_cases: int = setting(20, metavar="N")
    coarsen: int = setting(2, metavar="N")
    folds: int = setting(4, metavar="N")
    seed: int = setting(0, metavar="N")
    jobs: int = setting(1, metavar="N")
    cases: CaseSettings = field(default_factory=training_cases)

    def __post_init__(self) -> None:
        require_counts(self, "count", "validation_cases", "coarsen", "jobs")
        require_counts(self, "folds", least=2)

    def key(self) -> str:
        """Hash of what decides which cases there are."""
        from calvaria.synthesis.defects import soundness

        decides = {"cases": asdict(self.cases), "seed": self.seed, "coarsen": self.coarsen, "folds": self.folds}
        # Another rule of what a sound defect is draws other defects from the same seed.
        return key_of({**decides, "soundness": soundness.VERSION})


__all__ = ["SketchRecipe"]
