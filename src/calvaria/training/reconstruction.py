"""The recipe of the reconstruction networks: supervised by the overlap, and if wanted by symmetry (Wodzinski et al.).

The first paper trains each of its five networks by the Dice loss with AdamW at 0.001, and then again with the symmetry
loss added (eq. 2). Everything else is left open there, and is named here, in `Recipe`.

A training goes on where it stopped, on the same curve: the state on disk holds the weights, their average, the
optimiser and the schedule, and cases are drawn by their number.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from calvaria.datasets.cache import SkullCache
from calvaria.deformation.flow import coarser
from calvaria.errors import InputError, MissingExtraError
from calvaria.models import ModelInfo, register, write_arrays
from calvaria.models.registry import LICENCE
from calvaria.models.runtime import convert, has_openvino
from calvaria.reconstruction.networks.engine import KIND
from calvaria.reconstruction.networks.zoo import make_network
from calvaria.symmetry.training_term import WINDOWS
from calvaria.synthesis.batched.cases import CaseSettings
from calvaria.training.objectives import symmetry_term
from calvaria.training.sketches import LOOK, TRAIN, Sketches, SketchRecipe, case_maker
from calvaria.volume.grid import Grid

if TYPE_CHECKING:
    from calvaria.training.learner import Learner
    from calvaria.training.source import Batch

Note = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What a reconstruction network is made from.

    Args:
        cache: the training cache.
        work: folder for what may be resumed, for curves and pictures.
        output: the weights file to write, in a folder whose index gets the entry.
        network: a name of the zoo, or a dotted name.
        size: "small" or "full".
        coarsen: voxels of the cache along an edge of a training voxel: 2 is 3.2 mm of a coarse cache, for a CPU.
        alpha: weight of the symmetry term; 0 for none (eq. 2; the paper's is 1).
        alpha_rise: steps over which it rises from 0; 0: it is there from the first.
        prior: a file of the shape prior's sketches of these cases (:mod:`calvaria.training.sketches`): the network is
            shown them as a second channel; None: bone alone.
        window: where symmetry is asked for, see :mod:`calvaria.symmetry.training_term`.
        symmetry: name or file of the symmetry network.
        cross_entropy: weight of that term.
        steps: of the optimiser.
        batch: cases a step and process.
        rate: learning rate at its highest.
        decay: weight decay.
        warmup: steps until the rate is at its highest.
        clip: largest norm of the slopes.
        average: share of the averaged weights that stays at each step.
        precision: Lightning's name: "32-true", or "bf16-mixed".
        look_steps: steps between two looks at the validation cases, and between two states on disk; the last step is
            looked at.
        look_cases: validation cases, the same in each look.
        patience: looks without a better one after which training stops; 0: never.
        cases: what training cases are like.
        seed: of everything that is drawn.
        kept: a folder in which cases are kept once they are made, for the next training on the same ones; None: none.

    Raises:
        InputError: a number or a name that makes no sense.
    """

    cache: Path
    work: Path
    output: Path
    network: str = "runet"
    size: str = "small"
    coarsen: int = 2
    alpha: float = 0.0
    alpha_rise: int = 0
    prior: Path | None = None
    window: str = "calvaria"
    symmetry: str = "symmetry-vit"
    cross_entropy: float = 0.0
    steps: int = 3000
    batch: int = 2
    rate: float = 1e-3
    decay: float = 0.01
    warmup: int = 100
    clip: float = 1.0
    average: float = 0.99
    precision: str = "32-true"
    look_steps: int = 100
    look_cases: int = 20
    patience: int = 0
    cases: CaseSettings = field(default_factory=lambda: CaseSettings(blend_chance=0.0))
    seed: int = 0
    kept: Path | None = None

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("coarsen", "steps", "batch", "look_steps", "look_cases")}
        for name, value in counts.items():
            if value < 1:
                raise InputError(f"{name} is 1 or more; got {value}")
        if self.steps > self.look_steps and self.steps % self.look_steps:
            below = self.steps - self.steps % self.look_steps
            raise InputError(
                f"{self.steps} steps are no whole number of looks of {self.look_steps} steps; take {below} or "
                f"{below + self.look_steps}"
            )
        if min(self.alpha, self.cross_entropy, self.alpha_rise, self.patience, self.warmup) < 0:
            raise InputError("alpha, its rise, cross_entropy, warmup and patience are 0 or more")
        if self.rate <= 0 or self.clip <= 0 or not 0 <= self.average < 1:
            raise InputError(f"rate and clip are above 0, average from 0 to below 1; got {self}")
        if self.window not in WINDOWS:
            raise InputError(f"the window is one of {', '.join(WINDOWS)}; got {self.window!r}")

    @property
    def name(self) -> str:
        """Of the model, and of its files: such as "runet-prior-sym"."""
        parts = [self.network.rpartition(".")[2].lower(), "prior" if self.prior else "", "sym" if self.alpha else ""]
        return "-".join(filter(None, parts))

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 1 if self.prior is None else 2

    def key(self) -> str:
        """Hash of all that decides what is learned: a state of another recipe is not gone on from."""
        told = {k: v for k, v in asdict(self).items() if k not in ("cache", "work", "output", "prior", "kept")}
        told["prior"] = self.prior is not None
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:12]


def make_learner(recipe: Recipe) -> tuple[Learner, Grid]:
    """The network with its cases, ready to be trained, and the training grid.

    Raises:
        InputError: the cache holds nobody of the split's training persons or no validation person, or its grid does
            not divide.
        MissingExtraError: Lightning is not installed.
    """
    try:
        from calvaria.training.learner import Learner
    except ImportError as error:
        if (error.name or "").split(".")[0] != "lightning":
            raise
        raise MissingExtraError(
            "reconstruction networks are trained with Lightning: pip install 'calvaria[train]'"
        ) from None
    from calvaria.training.source import Source

    cache = SkullCache(recipe.cache)
    if any(n % recipe.coarsen for n in cache.grid.shape):
        raise InputError(f"coarsen: the cache's {cache.grid.shape} voxels do not divide by {recipe.coarsen}")
    grid = coarser(cache.grid, recipe.coarsen)
    sketches = None if recipe.prior is None else _sketches(recipe, recipe.prior, grid)
    maker = case_maker(cache, recipe.cases, TRAIN, recipe.seed)
    term = None
    if recipe.alpha:
        from calvaria.symmetry.runner import load_module

        term = symmetry_term(load_module(recipe.symmetry), grid, recipe.window)
    return Learner(recipe, grid, Source(maker, recipe, sketches), _watched(recipe, cache, sketches), term), grid


def _sketches(recipe: Recipe, path: Path, grid: Grid) -> Sketches:
    """The file of sketches, if it is of this training's cases."""
    sketches = Sketches(path)
    wanted = SketchRecipe(recipe.cache, path, path, coarsen=recipe.coarsen, cases=recipe.cases, seed=recipe.seed)
    if sketches.key != wanted.key() or sketches.shape != grid.shape:
        raise InputError(f"{path.name}: sketches of other cases (another seed, coarsen or recipe); make them anew")
    if sketches.look_cases < recipe.look_cases:
        raise InputError(
            f"{path.name}: {sketches.look_cases} validation cases; the recipe looks at {recipe.look_cases}"
        )
    return sketches


def _watched(recipe: Recipe, cache: SkullCache, sketches: Sketches | None) -> list[Batch]:
    """The validation cases: the training's kinds of defects, heads and scans as they are."""
    from calvaria.training.source import batch_of

    maker = case_maker(cache, recipe.cases, LOOK, recipe.seed)
    batches = []
    for number in range(recipe.look_cases):
        prior = None if sketches is None else sketches.read(LOOK, number)[None, None]
        batches.append(batch_of(maker.make([number]), recipe.coarsen, prior))
    return batches


def build(
    recipe: Recipe,
    note: Note,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    devices: int = 1,
    bar: bool = False,
) -> ModelInfo | None:
    """Train the network, or go on training it, and write the weights of the best look.

    Args:
        recipe: what from and where to.
        note: told a line now and then, with the time left.
        minutes: stop after so many, with the state kept; None: when all steps are done.
        device: "cpu" or "cuda".
        devices: GPUs, or processes on a CPU.
        bar: show a progress bar as well.

    Returns:
        The model; None where the time was over before, and in all processes but the first.

    Raises:
        InputError: the work folder holds a state of another recipe; the memory did not suffice; the loss became no
            number. In the last two cases the message names the state that was kept.
    """
    import lightning.pytorch as pl

    from calvaria.training.watching import TimeOver, callbacks_of, stopped_state

    learner, grid = make_learner(recipe)
    folder = recipe.work / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    last = _state_to_go_on_from(folder, recipe)
    done = folder / "done.json"
    if done.exists():
        return _write(recipe, grid, folder / "best.ckpt", json.loads(done.read_text(encoding="utf-8"))["dsc"])
    callbacks, watch = callbacks_of(recipe, folder, note, minutes)
    with _calm():
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=devices,
            strategy="ddp" if devices > 1 else "auto",
            precision=recipe.precision,  # type: ignore[arg-type]
            max_steps=recipe.steps,
            val_check_interval=min(recipe.look_steps, recipe.steps),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            gradient_clip_val=recipe.clip,
            callbacks=callbacks,
            logger=_logger(folder),
            log_every_n_steps=10,
            enable_progress_bar=bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        try:
            trainer.fit(learner, ckpt_path=last, weights_only=True)
        except TimeOver as over:
            if trainer.is_global_zero:
                note(f"the time is over at step {over.args[0]} of {recipe.steps}; the same command goes on from here")
            return None
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        except (RuntimeError, InputError) as error:
            raise stopped_state(error, recipe, folder) from error
    if not trainer.is_global_zero:
        return None
    done.write_text(json.dumps({"dsc": watch.best_dsc, "step": trainer.global_step}) + "\n", encoding="utf-8")
    return _write(recipe, grid, folder / "best.ckpt", watch.best_dsc)


def _state_to_go_on_from(folder: Path, recipe: Recipe) -> Path | None:
    told, last = folder / "recipe.json", folder / "last.ckpt"
    if last.exists():
        found = json.loads(told.read_text(encoding="utf-8"))["key"]
        if found != recipe.key():
            raise InputError(f"{folder}: trained by another recipe; delete it to begin anew, or name another --work")
        return last
    told.write_text(json.dumps({"key": recipe.key(), **asdict(recipe)}, indent=1, default=str) + "\n", encoding="utf-8")
    return None


def _logger(folder: Path) -> Any:
    """TensorBoard's files where it is installed; otherwise a table."""
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name="", version="curves")
    except ModuleNotFoundError:
        return CSVLogger(folder, name="", version="curves")


@contextmanager
def _calm() -> Iterator[None]:
    """Without Lightning's advice: on workers and on the GPUs that this machine has or has not."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*")
        try:
            yield
        finally:
            logger.setLevel(level)


def _write(recipe: Recipe, grid: Grid, best: Path, dsc: float) -> ModelInfo:
    """The averaged weights of the best look, with their card and their entry in the index."""
    state = torch.load(best, weights_only=True, map_location="cpu")
    network = make_network(recipe.network, grid.shape, size=recipe.size, channels=recipe.channels)
    network.load_state_dict({k.removeprefix("network."): v for k, v in state["state_dict"].items()})
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    about = {
        "network": recipe.network,
        "size": recipe.size,
        "channels": recipe.channels,
        "shape": list(grid.shape),
        "affine": grid.affine.tolist(),
        "recipe": recipe.key(),
        "step": int(state["global_step"]),
    }
    write_arrays(recipe.output, weights, {"calvaria": json.dumps(about, sort_keys=True)})
    recipe.output.with_suffix(".md").write_text(_card(recipe, grid, about, weights, dsc), encoding="utf-8")
    others = convert(network, torch.zeros(1, recipe.channels, *grid.shape), recipe.output) if has_openvino() else ()
    return register(recipe.output, recipe.name, KIND, LICENCE, others)


def _card(recipe: Recipe, grid: Grid, about: dict[str, Any], weights: dict[str, NDArray[Any]], dsc: float) -> str:
    count = sum(value.size for value in weights.values())
    symmetric = (
        f"symmetry term alpha {recipe.alpha:g} in the window {recipe.window!r}, plane by {recipe.symmetry}"
        if recipe.alpha
        else "no symmetry term"
    )
    further = ", and how much the shape prior holds for missing bone" if recipe.prior else ""
    return f"""# {recipe.name}

Gives the missing bone of a skull in the canonical frame: {recipe.network}, size {recipe.size}, {count:,} parameters.

- Input: {" x ".join(map(str, grid.shape))} voxels of {grid.spacing_mm[0]:.1f} mm, how much of each is bone{further}.
  Output: logits of missing bone.
- Trained on synthetic and official defects of the training persons of the split of AutoImplant 2020 (SkullFix).
  {recipe.steps} steps of {recipe.batch} cases; soft Dice loss, {symmetric}.
- Weights: the average at step {about["step"]}, the best of the looks at {recipe.look_cases} validation cases: mean DSC
  {dsc:.3f} on the training grid. Figures on whole scans: docs/networks.md.
- Made by `calvaria train reconstruction` (recipe {recipe.key()}).
- Research software, not a medical device.
- Licence: CC BY-NC-SA 4.0, as the skulls that it learned from (CQ500, via AutoImplant 2020).
"""


__all__ = ["KIND", "Recipe", "build", "make_learner"]
