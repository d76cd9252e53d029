"""The recipe of the cascade (Kodym, Spanel and Herout 2021): patch and implant, coarse and at full resolution.

Published: 300,000 steps on mini-batches of two synthetic and two clinical samples, soft Dice; each step first the
coarse network on its own loss, then both on random windows. Here these are two steps of the optimiser, by turns, each
on a mini-batch of its own. Optimiser and learning rate are not published; they are the other networks'.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from calvaria.errors import InputError
from calvaria.reconstruction.networks.forms import Form, Mirror, form_called
from calvaria.training.recipes.fields import key_of, learned, require_counts, require_one_of, setting
from calvaria.training.recipes.settings import NetworkRecipe, OptimisationSettings

if TYPE_CHECKING:
    from calvaria.synthesis.batched.cases import CaseSettings

TURNED_DEG, SHIFTED_MM = 1.5, 1.5
"""Standard deviations of how heads are turned and shifted: by what poses are off that were settled by a sketch. The
other networks' heads are turned by more, where an array flipped left to right is no mirror image any more."""

Taught = Literal["both", "patch", "implant"]
"""Which heads learn: both, or one alone (the paper's baselines)."""

Targets = Literal["", "soft", "hard"]


def cascade_cases() -> CaseSettings:
    """What synthetic cases are like: the other networks', but in nearly the right pose."""
    from calvaria.synthesis.augmentation.draw import AugmentationSettings  # these load torch
    from calvaria.synthesis.batched.cases import CaseSettings

    turned = AugmentationSettings(rotation_sd_deg=TURNED_DEG, shift_sd_mm=SHIFTED_MM)
    return CaseSettings(blend_chance=0.0, augmentation=turned)


@dataclass(frozen=True)
class CascadeSettings:
    """Which cascade is trained.

    Args:
        form: cascade, this project's; cascade-published; or behind-prior, its fine network alone, which corrects the
            shape prior.
        mirror: The coarse network's second channel, for an ablation: flip, plane or none; the form's by default.
        targets: What is learned, for an ablation: soft or hard; the form's by default.
        prior: Show both networks how much of each voxel the shape prior holds for missing bone.
        doubt: And how far off it expects to be; takes its full completion, some seconds more a case.
        width: Channels at the first level; 12 is the published number.
        depth: Levels of each network.

    Raises:
        InputError: a name or a size that there is not.
    """

    form: str = setting("cascade", metavar="NAME")
    mirror: str = setting("", metavar="HOW")
    targets: str = setting("", metavar="KIND")
    prior: bool = setting(False)
    doubt: bool = setting(False)
    width: int = setting(12, metavar="N")
    depth: int = setting(4, metavar="N")

    def __post_init__(self) -> None:
        require_one_of("targets", self.targets, get_args(Targets))
        self.made()

    def made(self) -> Form:
        """The form with what is asked of it."""
        named = form_called(self.form)
        prior = self.prior or named.prior
        wanted = replace(named, prior=prior, doubt=self.doubt, width=self.width, depth=self.depth)
        if self.mirror:
            wanted = replace(wanted, mirror=cast(Mirror, self.mirror))
        return replace(wanted, soft=self.targets == "soft") if self.targets else wanted


@dataclass(frozen=True)
class CascadeDataSettings:
    """What the cascade learns from.

    Args:
        clinical: Clinical cases with implants, a folder of `calvaria data import-clinical`; of simulated ones those of
            the split's training persons.
        branch: Which heads learn: both, patch or implant.
        zoom: Voxels of the cache along a coarse voxel; the published 4 makes 3.2 mm of a cache of 0.8 mm.
        window: Voxels of the cache along a window's edge; published: 128.
        count: Cases of each branch, made once, kept, and shown again and again, mirrored every other time.
        match: Rescale the skulls of the cache to this population.json of import-clinical.
        seed: Of everything that is drawn.
        kept_cases: Folder in which cases are kept; by default one in the work folder, the same for every form.
        jobs: Processes that make the cases.

    Raises:
        InputError: a value out of range.
    """

    clinical: Path | None = setting(None, metavar="FOLDER", learned=False)
    branch: str = setting("both", metavar="NAME")
    zoom: int = setting(4, metavar="N")
    window: int = setting(64, metavar="N")
    count: int = setting(300, metavar="N")
    match: Path | None = setting(None, metavar="FILE", learned=False)
    seed: int = setting(0, metavar="N")
    kept_cases: Path | None = setting(None, metavar="FOLDER", learned=False)
    jobs: int = setting(1, metavar="N", learned=False)

    def __post_init__(self) -> None:
        require_counts(self, "count", "jobs")
        require_counts(self, "zoom", least=2)
        require_counts(self, "window", least=8)
        require_one_of("branch", self.branch, get_args(Taught))


@dataclass(frozen=True, kw_only=True)
class CascadeRecipe(NetworkRecipe):
    """What a cascade is made from.

    Args:
        network: which cascade.
        data: what it learns from.
        cases: what synthetic cases are like.

    Raises:
        InputError: values that do not go together, or implants are to be learned and there is no clinical set.
    """

    optimisation: OptimisationSettings = OptimisationSettings(batch=4)
    network: CascadeSettings = CascadeSettings()
    data: CascadeDataSettings = CascadeDataSettings()
    cases: CaseSettings = field(default_factory=cascade_cases)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.branch != "patch" and self.data.clinical is None:
            raise InputError(
                "implants are learned from clinical cases: give --clinical FOLDER (calvaria data simulate-clinical "
                "makes a set where there is none), or --branch patch"
            )
        if self.data.branch == "both" and self.optimisation.batch % 2:
            raise InputError(
                f"half of a mini-batch are patches, half implants: batch is even; got {self.optimisation.batch}"
            )
        least = 2 ** (self.form.depth + self.form.halved)
        if self.data.window < least:
            raise InputError(
                f"a network of {self.form.depth} levels wants windows of {least} voxels or more; got {self.data.window}"
            )

    @property
    def form(self) -> Form:
        """The cascade's."""
        return self.network.made()

    @property
    def name(self) -> str:
        """Of the model, and of its files: such as "cascade-prior-doubt"."""
        made, data = self.network, self.data
        branch = "" if data.branch == "both" else data.branch
        matched = "matched" if data.match else ""
        parts = [made.form, made.mirror, made.targets, "prior" * made.prior, "doubt" * made.doubt, branch, matched]
        return "-".join(filter(None, parts))

    @property
    def lighter(self) -> str:
        """What to change where the memory does not suffice."""
        return "a smaller --batch, a smaller --window or a larger --zoom"

    def key(self) -> str:
        """Hash of all that decides what is learned: of files, whether there are any."""
        return key_of({**learned(self), "clinical": bool(self.data.clinical), "match": bool(self.data.match)})


__all__ = ["CascadeDataSettings", "CascadeRecipe", "CascadeSettings", "Taught", "cascade_cases"]
