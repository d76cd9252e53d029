"""The recipe of the symmetry network: unsupervised, by the symmetry loss alone (Wodzinski et al., section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from calvaria.errors import InputError
from calvaria.training.recipes.fields import require_counts, require_one_of, setting
from calvaria.training.recipes.settings import NetworkRecipe, OptimisationSettings, ValidationSettings

if TYPE_CHECKING:
    from calvaria.synthesis.augmentation.draw import AugmentationSettings

Encoder = Literal["vit", "resnet"]
"""The encoders of :mod:`calvaria.symmetry.network`."""

MAX_TURN_DEG = 70.0
"""Largest rotation that a plane's parameters can hold, with room to spare."""


def training_heads() -> AugmentationSettings:
    """How heads and scans are varied before they are posed: bent, thresholded otherwise, and cut at the lower edge."""
    from calvaria.synthesis.augmentation.draw import NOTHING  # it loads torch

    return replace(
        NOTHING,
        flip_chance=0.5,
        shape_mm=2.0,
        asymmetry_mm=0.5,
        threshold_chance=0.3,
        end_chance=0.5,
        end_mm=(-64.0, -20.0),
    )


@dataclass(frozen=True)
class PoseSettings:
    """How heads are turned, flipped, moved and scaled.

    Args:
        flips: chance of a flip of each axis.
        usual_share: share of heads that are turned as patients usually lie, the rest by anything up to ``most_deg``.
        usual_deg: standard deviation of the usual rotation about a random axis.
        most_deg: largest rotation.
        shift_mm: standard deviation of a shift along each axis.
        size_sd: of the head as a whole, as a share.
        scale_sd: of each canonical axis besides, as a share.

    Raises:
        InputError: a chance outside 0 to 1, or an angle that a plane's parameters cannot hold.
    """

    flips: tuple[float, float, float] = (0.5, 0.05, 0.02)
    usual_share: float = 0.6
    usual_deg: float = 6.0
    most_deg: float = 55.0
    shift_mm: float = 4.0
    size_sd: float = 0.05
    scale_sd: float = 0.03

    def __post_init__(self) -> None:
        if not all(0 <= chance <= 1 for chance in (*self.flips, self.usual_share)):
            raise InputError(f"chances lie between 0 and 1; got {self.flips} and {self.usual_share}")
        if not 0 <= self.most_deg <= MAX_TURN_DEG:
            raise InputError(f"heads are turned by 0 to {MAX_TURN_DEG:.0f} degrees; got {self.most_deg}")


@dataclass(frozen=True)
class SampleSettings:
    """What the symmetry network sees.

    Args:
        complete_only: Show it complete skulls only, as the paper does.
        reuse: Poses of each case on average.
        block: So many cases are at hand at a time.
        growing: Steps over which rotations grow to their limit, and over which coarse scales of the loss count in full.
        seed: Of everything that is drawn.
        poses: how heads lie.

    Raises:
        InputError: a count below 1.
    """

    complete_only: bool = setting(default=False)
    reuse: int = setting(16, metavar="N")
    block: int = setting(32, metavar="N")
    growing: int = setting(1000, metavar="STEPS")
    seed: int = setting(0, metavar="N")
    poses: PoseSettings = setting(PoseSettings(), option=None)

    def __post_init__(self) -> None:
        require_counts(self, "reuse", "block")
        require_counts(self, "growing", least=0)


@dataclass(frozen=True, kw_only=True)
class SymmetryRecipe(NetworkRecipe):
    """What a symmetry network is made from.

    Args:
        encoder: vit or resnet.
        samples: what it sees.
        heads: how heads and scans are varied.

    Raises:
        InputError: an unknown encoder, sheared heads, or values that do not go together.
    """

    optimisation: OptimisationSettings = OptimisationSettings(
        steps=5000, batch=8, rate=4e-4, min_rate_share=2.5e-3, decay=0.02, warmup=200, average=0.998
    )
    validation: ValidationSettings = ValidationSettings(interval_steps=500, validation_cases=48, keep="last")
    encoder: str = setting("vit", metavar="NAME")
    samples: SampleSettings = SampleSettings()
    heads: AugmentationSettings = field(default_factory=training_heads)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("the encoder", self.encoder, get_args(Encoder))
        if self.heads.shear_sd:
            raise InputError("a sheared head has no symmetry plane: shear_sd must be 0 here")

    @property
    def name(self) -> str:
        """Of the model, and of its files."""
        return f"symmetry-{self.encoder}" + ("-complete" if self.samples.complete_only else "")


__all__ = ["Encoder", "PoseSettings", "SampleSettings", "SymmetryRecipe", "training_heads"]
