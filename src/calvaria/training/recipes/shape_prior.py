"""The recipe of the shape prior: which skulls are its examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from calvaria.errors import InputError
from calvaria.training.recipes.fields import require_counts, require_one_of, setting
from calvaria.training.recipes.settings import WORK

Subjects = Literal["train", "all"]
"""Whose skulls are examples."""

Unlabelled = Literal["filled", "left-out", "none"]
"""How skulls whose truth is not public join the examples."""

MIN_EXAMPLES = 5
"""Examples below which there is nothing to learn."""


@dataclass(frozen=True, kw_only=True)
class ShapePriorRecipe:
    """What the shape prior is made from.

    Args:
        root: The AutoImplant 2020 (SkullFix) set.
        output: The weights, .safetensors; the index of their folder gets the entry.
        work: For what may be resumed after an interruption.
        subjects: train: the training persons of the split; all: everybody (for shipping).
        complete: Only so many of the complete skulls, drawn by a fixed seed, the fewer among the more; default: all.
        unlabelled: Skulls with a hole and no truth: filled (by the first model), left-out (their holes are, and told by
            the other examples' modes), or none of them.
        jobs: Processes.

    Raises:
        InputError: an unknown choice, or too few examples.
    """

    root: Path = setting(option="--data", metavar="FOLDER")
    output: Path = setting(option=("-o", "--output"), metavar="FILE")
    work: Path = setting(WORK, metavar="FOLDER")
    subjects: str = setting("train", metavar="WHICH")
    complete: int | None = setting(None, metavar="N")
    unlabelled: str = setting("filled", metavar="WAY")
    jobs: int = setting(2, metavar="N")

    def __post_init__(self) -> None:
        require_one_of("subjects", self.subjects, get_args(Subjects))
        require_one_of("unlabelled", self.unlabelled, get_args(Unlabelled))
        require_counts(self, "jobs")
        if self.complete is not None and self.complete < MIN_EXAMPLES:
            raise InputError(f"a shape model needs {MIN_EXAMPLES} complete skulls or more; got {self.complete}")


__all__ = ["MIN_EXAMPLES", "ShapePriorRecipe", "Subjects", "Unlabelled"]
