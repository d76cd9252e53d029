"""An engine that is a trained network: the missing bone's probability in the canonical frame, read back into the box.

The network was trained on its own grid, in canonical mm; the common box is scaled to the mean skull. Its answer for the
mirrored skull is mirrored and averaged with the first: left and right are then exactly alike, and the patch is better.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError, MissingExtraError
from calvaria.models import Calibration, ModelInfo, load_arrays
from calvaria.models.registry import load_about
from calvaria.models.runtime import Run, has_openvino, run_in_openvino
from calvaria.reconstruction.box import AIR_MM, BoxField, box_grid, read_box
from calvaria.reconstruction.protocol import Completion, Sketcher, SoftField, Stage
from calvaria.reconstruction.repose import complete_iteratively, missing_share, settle
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.template import Template
from calvaria.types import F32
from calvaria.volume.components import label
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

KIND = "reconstruction-network"
"""What the registry calls such models."""

REGION = 0.2
"""Bone may be missing from this probability on: its surface, at a half, then has a voxel of field on either side."""

MIN_ML = 1.0
"""Less missing bone than this is a natural opening, or none."""

CACHE_MM = 1.6
"""The training cache's voxels: bone was thresholded there, then averaged."""


@dataclass(frozen=True)
class NetworkSpec:
    """The description of a network in its weights file.

    Args:
        network: its name in the zoo, or a dotted name.
        size: its size.
        channels: of its input.
        grid: of its input, canonical mm; x = 0 lies in the middle of the first axis.
    """

    network: str
    size: str
    channels: int
    grid: Grid

    @classmethod
    def of(cls, model: ModelInfo) -> NetworkSpec:
        """Read it from the file's header.

        Raises:
            InputError: the file is no reconstruction network's.
        """
        try:
            about: dict[str, Any] = json.loads(load_about(model)["calvaria"])
            i, j, k = (int(n) for n in about["shape"])
            grid = Grid((i, j, k), np.array(about["affine"], np.float64))
            return cls(str(about["network"]), str(about["size"]), int(about["channels"]), grid)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{model.path.name}: is no reconstruction network of this version ({error})") from None


class Prior(Sketcher, Protocol):
    """Makes the second channel of a network's input: its sketches, as in training."""

    def prepare(self) -> None:
        """As for an engine."""


class NetworkEngine:
    """A trained network as an engine.

    Args:
        spec: its description.
        run: the network itself.
        template: the mean skull that poses are registered to.
        prior: sketches the second channel of a network that has one; the pose is then settled by its
            sketches, and the network runs in the last pose alone.
        calibration: the accuracy of its patches, if that was measured.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        run: Run,
        template: Template,
        prior: Prior | None = None,
        *,
        calibration: Calibration | None = None,
    ) -> None:
        self.spec, self.template, self.calibration = spec, template, calibration
        self._run, self._prior = run, prior

    def prepare(self) -> None:
        """The prior's part, if there is one; the network is loaded with the engine."""
        if self._prior is not None:
            self._prior.prepare()

    def complete(self, field: BoxField, sketch: SoftField | None = None) -> SoftField:
        """Complete a skull in a pose.

        Args:
            field: the skull in the common box.
            sketch: the prior's, drawn anew from an earlier one, if there is one already; networks without a prior
                are not shown it.
        """
        from scipy.special import expit

        grid = self.spec.grid
        seen = bone_on(grid, field)
        channels = [seen]
        if self._prior is not None:
            sketch = self._prior.sketch(field, self._prior.sketch(field)) if sketch is None else sketch
            channels.append(sketch_on(grid, field, sketch))
        x = np.stack(channels)[None]  # (1, C, X, Y, Z)
        one, other = (expit(self._run(np.ascontiguousarray(shown)))[0, 0] for shown in (x, x[:, :, ::-1]))
        missing = without_small_components((one + other[::-1]) / 2, grid)
        return soft_field(missing, seen, grid, field)

    def reconstruct(
        self, skull: Volume, frame: CanonicalFrame, surface: BoneSurface | None = None, stage: Stage = nullcontext
    ) -> Completion:
        """Settle the pose and complete the skull there; arguments and errors as for `protocol.Engine.reconstruct`."""
        if self._prior is None:
            return complete_iteratively(skull, frame, self.complete, self.template, surface=surface, stage=stage)
        with stage("hole"):
            frame, field, sketch = settle(skull, frame, self._prior, surface)
        with stage("completion"):
            return Completion(frame, field, self.complete(field, sketch))


def bone_on(grid: Grid, field: BoxField) -> F32:
    """How much of each voxel of a network's grid is bone; 0 where the scan shows nothing.

    Args:
        grid: in canonical mm.
        field: the skull in the scaled box.
    """
    fine, parts = _finer(grid)
    i, j, k = grid.shape
    seen: F32 = bone_mask_on(fine, field).reshape(i, parts, j, parts, k, parts).mean(axis=(1, 3, 5), dtype=np.float32)
    return seen


def sketch_on(grid: Grid, field: BoxField, sketch: SoftField) -> F32:
    """How much of each voxel of a network's grid is missing bone according to a sketch."""
    fine, parts = _finer(grid)
    frame = CanonicalFrame(np.eye(4), np.array(field.scale), 0.0, ())  # the box in canonical mm
    return missing_share(sketch, frame, bone_mask_on(fine, field), fine, parts)


def bone_mask_on(grid: Grid, field: BoxField) -> NDArray[np.bool_]:
    """Where the skull is at a grid's voxel centres, canonical mm; nowhere beyond the box or where nothing is known."""
    distance: F32 = np.where(field.known, field.distance_mm, np.float32(AIR_MM)).astype(np.float32)
    points = grid.centres_mm().reshape(-1, 3) / np.asarray(field.scale)
    return read_box(distance, points, AIR_MM).reshape(grid.shape) < 0


def _finer(grid: Grid) -> tuple[Grid, int]:
    """The grid with voxels of about `CACHE_MM`, and how many of them lie along an edge of the grid's own."""
    parts = max(1, round(grid.spacing_mm[0] / CACHE_MM))
    i, j, k = (n * parts for n in grid.shape)
    first = grid.to_world([(1 / parts - 1) / 2] * 3)
    return Grid.isotropic((i, j, k), grid.spacing_mm[0] / parts, first), parts


def without_small_components(missing: F32, grid: Grid) -> F32:
    """The probability without pieces of missing bone that are too small to be a hole."""
    pieces, count = label(missing > REGION)
    if not count:
        return np.zeros_like(missing)
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    sizes_ml = np.bincount(pieces.reshape(-1), weights=missing.reshape(-1)) * voxel_ml
    large = sizes_ml >= MIN_ML
    large[0] = False
    return np.where(large[pieces], missing, np.float32(0))


def soft_field(missing: F32, seen: F32, grid: Grid, field: BoxField) -> SoftField:
    """A probability on the network's grid as a soft field in the box.

    Bone and missing bone share the voxels of the rim, so that their sum has its half level on the completed skull's
    surface; how far a point lies from it is read from how much of the voxel is bone.
    """
    whole = np.minimum(missing + seen, 1)
    points = box_grid().centres_mm().reshape(-1, 3) * np.asarray(field.scale)
    index = grid.to_index(points).T
    shape = box_grid().shape
    share, probability = (trilinear_at(v.reshape(-1), grid.shape, index).reshape(shape) for v in (whole, missing))
    region = probability > REGION
    distance = np.where(region, (0.5 - share) * np.float32(grid.spacing_mm[0]), np.float32(AIR_MM))
    return SoftField(distance.astype(np.float32), region, 0.0)


def load_run(model: ModelInfo, spec: NetworkSpec, device: str = "auto") -> Run:
    """The network on the device: torch on a GPU, OpenVINO on a CPU, torch there where OpenVINO is missing.

    Args:
        model: whose weights.
        spec: what it is.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: a GPU is asked for and torch sees none, or the weights do not fit.
        MissingExtraError: neither OpenVINO nor torch is installed.
    """
    if device == "cuda" or (device == "auto" and sees_gpu()):
        return run_in_torch(model, spec, "cuda")
    if has_openvino() and model.others:
        return run_in_openvino(model)
    return run_in_torch(model, spec, "cpu")


def run_in_torch(model: ModelInfo, spec: NetworkSpec, device: str = "cpu") -> Run:
    """The network in torch; arguments and errors as for `load_run`."""

    def make() -> Any:
        from calvaria.reconstruction.networks.zoo import make_network

        return make_network(spec.network, spec.grid.shape, size=spec.size, channels=spec.channels)

    return run_of(network_in_torch(model, make, spec.network, device), device)


def network_in_torch(model: ModelInfo, make: Callable[[], Any], what: str, device: str) -> Any:
    """A network with its weights, ready to be asked.

    Args:
        model: whose weights.
        make: makes the network; imports what it needs.
        what: it is, for the message.
        device: "cpu" or "cuda".

    Raises:
        InputError: a GPU is asked for and torch sees none, or the weights do not fit.
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            f"{model.name!r} is a network: pip install 'calvaria[networks]' (a CPU) or 'calvaria[train]' (a GPU)"
        ) from None
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; use --device auto or cpu")
    network = make()
    try:
        network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in load_arrays(model).items()})
    except RuntimeError as error:
        found = str(error).splitlines()[0]
        raise InputError(f"{model.path.name}: the weights are not those of {what}: {found}") from None
    return network.to(device).eval()


def run_of(network: Any, device: str) -> Run:
    """Asks a network, or a part of one, in numpy."""
    import torch

    def run(x: F32) -> F32:
        with torch.no_grad():
            out: F32 = network(torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(device)).float().cpu().numpy()
        return out

    return run


def sees_gpu() -> bool:
    """Whether torch is installed and sees a GPU; torch is not loaded where no driver is."""
    from importlib.util import find_spec
    from pathlib import Path

    if find_spec("torch") is None or not (Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists()):
        return False
    import torch

    return bool(torch.cuda.is_available())


__all__ = [
    "KIND",
    "NetworkEngine",
    "NetworkSpec",
    "bone_mask_on",
    "bone_on",
    "load_run",
    "run_in_torch",
    "sees_gpu",
    "sketch_on",
    "soft_field",
    "without_small_components",
]
