"""The recipe of the reconstruction networks: supervised by the overlap, and if wanted by symmetry (Wodzinski et al.).

The first paper trains each of its five networks by the Dice loss with AdamW at 0.001, and then again with the symmetry
loss added (eq. 2). Everything else is left open there, and is named here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from calvaria.errors import InputError
from calvaria.training.recipes.fields import key_of, learned, require_counts, require_one_of, setting
from calvaria.training.recipes.settings import NetworkRecipe

if TYPE_CHECKING:
    from calvaria.synthesis.batched.cases import CaseSettings

Window = Literal["skull", "calvaria", "patch"]
"""Where symmetry is asked for; see :mod:`calvaria.training.objectives`."""


def training_cases() -> CaseSettings:
    """What training cases are like: the usual ones, but for blends, which need deformations."""
    from calvaria.synthesis.batched.cases import CaseSettings  # it loads torch

    return CaseSettings(blend_chance=0.0)


@dataclass(frozen=True)
class ArchitectureSettings:
    """Which network is trained.

    Args:
        network: runet, swinunetr, unetr, attentionunet, segresnet, or your own by its dotted name.
        size: small, for a CPU, or full.
    """

    network: str = setting("runet", metavar="NAME")
    size: str = setting("small", metavar="SIZE")


@dataclass(frozen=True)
class DataSettings:
    """What the network is shown.

    Args:
        coarsen: Voxels of the cache along an edge of a training voxel; 2 is 3.2 mm of a coarse cache, for a CPU.
        prior: Show it the shape prior's sketches of these cases too, from `calvaria train sketches`.
        seed: Of everything that is drawn.
        kept_cases: Folder in which cases are kept once they are made, for the next training on the same ones.

    Raises:
        InputError: ``coarsen`` is below 1.
    """

    coarsen: int = setting(2, metavar="N")
    prior: Path | None = setting(None, metavar="FILE", learned=False)
    seed: int = setting(0, metavar="N")
    kept_cases: Path | None = setting(None, metavar="FOLDER", learned=False)

    def __post_init__(self) -> None:
        require_counts(self, "coarsen")


@dataclass(frozen=True)
class LossSettings:
    """What is learned from, beside the overlap with the true patch.

    Args:
        alpha: Weight of the symmetry loss; 0: without (eq. 2 of the paper: 1).
        alpha_rise: Steps over which that weight rises from 0; 0: it is there from the first.
        window: Where symmetry is asked for: skull, calvaria or patch.
        symmetry: The symmetry network, by name or file.
        cross_entropy: Weight of the cross entropy beside the Dice loss.

    Raises:
        InputError: a weight below 0, or an unknown window.
    """

    alpha: float = setting(0.0, metavar="A")
    alpha_rise: int = setting(0, metavar="STEPS")
    window: str = setting("calvaria", metavar="WINDOW")
    symmetry: str = setting("symmetry-vit", metavar="NAME")
    cross_entropy: float = setting(0.0, metavar="W")

    def __post_init__(self) -> None:
        if min(self.alpha, self.alpha_rise, self.cross_entropy) < 0:
            raise InputError(
                f"alpha, alpha_rise and cross_entropy are 0 or more; got {self.alpha}, {self.alpha_rise} and "
                f"{self.cross_entropy}"
            )
        require_one_of("the window", self.window, get_args(Window))


@dataclass(frozen=True, kw_only=True)
class ReconstructionRecipe(NetworkRecipe):
    """What a reconstruction network is made from.

    Args:
        architecture: which network.
        data: what it is shown.
        loss: what it learns from.
        cases: what training cases are like.

    Raises:
        InputError: values that do not go together.
    """

    architecture: ArchitectureSettings = ArchitectureSettings()
    data: DataSettings = DataSettings()
    loss: LossSettings = LossSettings()
    cases: CaseSettings = field(default_factory=training_cases)

    @property
    def name(self) -> str:
        """Of the model, and of its files: such as "runet-prior-sym"."""
        network = self.architecture.network.rpartition(".")[2].lower()
        parts = [network, "prior" if self.data.prior else "", "sym" if self.loss.alpha else ""]
        return "-".join(filter(None, parts))

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 1 if self.data.prior is None else 2

    @property
    def described(self) -> str:
        """The network and its size."""
        return f"{self.architecture.network}, {self.architecture.size}"

    @property
    def lighter(self) -> str:
        """What to change where the memory does not suffice."""
        return "a smaller --batch, --size small or a larger --coarsen"

    def key(self) -> str:
        """Hash of all that decides what is learned: of the prior's sketches, whether there are any."""
        return key_of({**learned(self), "prior": self.data.prior is not None})


__all__ = ["ArchitectureSettings", "DataSettings", "LossSettings", "ReconstructionRecipe", "Window", "training_cases"]
