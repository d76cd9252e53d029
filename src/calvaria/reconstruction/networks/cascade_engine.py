"""A trained cascade as an engine: the coarse network finds the hole, the fine one completes windows around it.

Full resolution exists around the hole alone: the skull as bits, the answers as bytes.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from calvaria.errors import InputError
from calvaria.models import Calibration, ModelInfo
from calvaria.models.registry import load_about
from calvaria.models.runtime import Run, has_openvino, run_in_openvino
from calvaria.reconstruction.box import AIR_MM, TRUNCATION_MM, BoxField, box_grid
from calvaria.reconstruction.networks.cascade_inputs import (
    DEPTH_MM,
    DEPTH_SLOPE,
    coarse_input,
    doubt_on,
    mirrored,
    prior_logit,
    skull_plane,
)
from calvaria.reconstruction.networks.engine import (
    CACHE_MM,
    REGION,
    Prior,
    bone_mask_on,
    bone_on,
    network_in_torch,
    run_of,
    sees_gpu,
    sketch_on,
    soft_field,
    without_small_components,
)
from calvaria.reconstruction.networks.forms import BRANCHES, FIRST_LOGIT, Branch, Form
from calvaria.reconstruction.networks.windows import Windows, upscaled_window
from calvaria.reconstruction.protocol import Completion, SoftField, Stage
from calvaria.reconstruction.repose import missing_depth, settle
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.template import Template
from calvaria.types import F32, U8, BoolArray
from calvaria.volume.distance import distance_to
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Box, Grid
from calvaria.volume.morphology import dilate_mm
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume

CASCADE = "cascade"
"""What the registry calls such models."""

WANTED_MARGIN_MM = 8.0
"""Windows reach so far beyond what the coarse network holds for missing: the rim, and what it missed."""

CLIP_MM = 3.2
"""The completed surface is told so far around the missing bone: two nodes of the common box."""

OVERLAP_SHARE = 0.25
"""Share of a window's edge by which neighbours overlap at least."""

SURE = 1e-3
"""Probabilities nearer to 0 or 1 than this say no more of where a surface is."""

CASCADE_STAGES = ("coarse", "fine")
"""The networks; their converted files are NAME-coarse and NAME-fine."""


class CompletingPrior(Prior, Protocol):
    """What prior and doubt come from: sketches the holes, and completes them with its spread."""

    def complete(self, field: BoxField, sketch: SoftField | None = None) -> SoftField:
        """As for an engine, from a sketch if there is one."""


@dataclass(frozen=True)
class CascadeSpec:
    """The description of a cascade in its weights file.

    Args:
        form: what it is shown, and its sizes.
        grid: of the coarse network, canonical mm; symmetric about x = 0.
        zoom: voxels of the full grid along a coarse one.
        window: voxels of the full grid along a window's edge.
        branches: those that it has learned.
    """

    form: Form
    grid: Grid
    zoom: int
    window: int
    branches: tuple[Branch, ...] = BRANCHES

    @classmethod
    def of(cls, model: ModelInfo) -> CascadeSpec:
        """Read it from the file's header.

        Raises:
            InputError: the file is no cascade's.
        """
        try:
            about: dict[str, Any] = json.loads(load_about(model)["calvaria"])
            i, j, k = (int(n) for n in about["shape"])
            grid = Grid((i, j, k), np.array(about["affine"], np.float64))
            branches = tuple(one for one in BRANCHES if about.get("branch", "both") in {"both", one})
            return cls(Form.of(about["form"]), grid, int(about["zoom"]), int(about["window"]), branches)
        except (KeyError, ValueError, TypeError, InputError) as error:
            raise InputError(f"{model.path.name}: is no cascade of this version ({error})") from None

    def told(self) -> dict[str, Any]:
        """JSON-ready, for the header."""
        told = {"shape": list(self.grid.shape), "affine": self.grid.affine.tolist()}
        branch = "both" if self.branches == BRANCHES else self.branches[0]
        return {"form": self.form.told(), "zoom": self.zoom, "window": self.window, "branch": branch, **told}

    @property
    def full(self) -> Grid:
        """The full grid, canonical mm."""
        return finer(self.grid, self.zoom)

    @property
    def overlap(self) -> int:
        """Voxels by which windows overlap at least."""
        return int(OVERLAP_SHARE * self.window)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a cascade says around a hole, at full resolution.

    Args:
        grid: a part of the full grid, canonical mm.
        bone: (I, J, K) the defective skull there.
        maps: (2, I, J, K) uint8, probability in 255ths of patch and implant, in the order of `BRANCHES`.
        corrected: of a network behind the shape prior, the prior's completion with what the network changes of it.
    """

    grid: Grid
    bone: BoolArray
    maps: U8
    corrected: SoftField | None = None

    def probability(self, branch: Branch) -> Volume:
        """float32, 0 to 1, of "patch" or "implant"; 0 where bone is."""
        found = self.maps[BRANCHES.index(branch)].astype(np.float32) / 255
        found[self.bone] = 0
        return Volume(found, self.grid)


class CascadeEngine:
    """A trained cascade as an engine.

    Args:
        spec: its description.
        coarse: the coarse network; None behind the prior.
        fine: the fine network.
        template: the mean skull that poses are registered to.
        prior: the shape prior, where the form is shown it; the pose is then settled by its sketches, otherwise by the
            coarse network's.
        calibration: the accuracy of its patches, if that was measured.
    """

    def __init__(
        self,
        spec: CascadeSpec,
        coarse: Run | None,
        fine: Run,
        template: Template,
        prior: CompletingPrior | None = None,
        *,
        calibration: Calibration | None = None,
    ) -> None:
        if spec.form.prior and prior is None:
            raise InputError("this cascade is shown the shape prior's answer, and was given no prior")
        self.spec, self.template, self.calibration = spec, template, calibration
        self._coarse, self._fine = coarse, fine
        self._prior = prior if spec.form.prior else None

    def prepare(self) -> None:
        """The prior's part, if there is one; the networks are loaded with the engine."""
        if self._prior is not None:
            self._prior.prepare()

    def sketch(self, field: BoxField, before: SoftField | None = None) -> SoftField:
        """The coarse network's patch, to settle the pose by; those with a prior settle it by the prior's.

        Raises:
            InputError: it has learned implants alone.
        """
        self._require_patches()
        maps = self._maps(field, None)
        probability = without_small_components(self._coarse_answer(maps)[0], self.spec.grid)
        return soft_field(probability, maps["skull"], self.spec.grid, field)

    def complete(
        self,
        field: BoxField,
        sketch: SoftField | None = None,
        skull: Volume | None = None,
        frame: CanonicalFrame | None = None,
    ) -> SoftField:
        """Complete a skull in a pose; arguments as for `answer`, error as for `sketch`."""
        self._require_patches()
        return self.soft_of(self.answer(field, sketch, skull, frame), field)

    def reconstruct(
        self, skull: Volume, frame: CanonicalFrame, surface: BoneSurface | None = None, stage: Stage = nullcontext
    ) -> Completion:
        """Settle the pose and complete the skull there, by the skull's own voxels; as `protocol.Engine.reconstruct`."""
        with stage("hole"):
            frame, field, sketch = settle(skull, frame, self._prior or self, surface)
        with stage("completion"):
            return Completion(frame, field, self.complete(field, sketch, skull, frame))

    def implant_field(self, skull: Volume, done: Completion) -> Volume | None:
        """The implant branch's answer for a skull that was reconstructed.

        Args:
            skull: the defective skull, on any grid.
            done: what `reconstruct` gave.

        Returns:
            Probability (float32, 0 to 1) on a part of the full grid in world mm: the implant's surface is at a half;
            None where there is no hole.
        """
        sketch = None if self._prior is None else self._prior.sketch(done.field, done.soft)
        return self.implant_of(self.answer(done.field, sketch, skull, done.frame), done.frame)

    def _require_patches(self) -> None:
        if "patch" not in self.spec.branches:
            raise InputError(
                "this cascade has learned implants alone, so it completes no skull; name a model that does, such as "
                "shape-prior"
            )

    def answer(
        self,
        field: BoxField,
        sketch: SoftField | None = None,
        skull: Volume | None = None,
        frame: CanonicalFrame | None = None,
    ) -> Answer | None:
        """Both branches around the hole, at full resolution.

        Args:
            field: the skull in the common box.
            sketch: the prior's, if there is one already.
            skull: its own voxels, read at full resolution; without them the box's are interpolated.
            frame: where ``skull`` lies; wanted with it.

        Returns:
            The answer; None where the coarse network finds nothing.
        """
        soft = self._prior_says(field, sketch)
        maps = self._maps(field, soft)
        coarse = self._coarse_answer(maps)
        wanted = np.zeros(self.spec.grid.shape, bool)
        for branch in self.spec.branches:  # a head that has learned nothing says anything
            found = coarse[BRANCHES.index(branch)]
            wanted |= without_small_components(found, self.spec.grid) > REGION
        if not wanted.any():
            return None
        wanted = dilate_mm(Volume(wanted, self.spec.grid), WANTED_MARGIN_MM).mask
        windows = Windows.over(wanted, self.spec.zoom, self.spec.window, self.spec.overlap)
        place = part_of(self.spec.full, windows.box)
        if skull is None or frame is None:
            bone = bone_mask_on(place, field)
        else:
            bone = resample_mask(skull, place.moved(frame.to_world)).mask
        further = [maps[name] for name in self.spec.form.further]
        if not self.spec.form.behind or soft is None:
            return Answer(place, bone, _in_bytes(self._fine_answer(windows, bone, [*coarse, *further])))
        depth = _depth(soft, field, bone, place)
        found = self._fine_answer(windows, bone, further, depth)
        patch = Volume(np.where(bone, 0, found[BRANCHES.index("patch")]), place)
        return Answer(place, bone, _in_bytes(found), _corrected(soft, field, depth, patch))

    def _prior_says(self, field: BoxField, sketch: SoftField | None) -> SoftField | None:
        """What the form is shown of the prior: its sketch, or its completion; None where it is shown nothing."""
        if self._prior is None:
            return None
        if sketch is None:
            sketch = self._prior.sketch(field, self._prior.sketch(field))
        full = self.spec.form.doubt or self.spec.form.behind
        return self._prior.complete(field, sketch) if full else sketch

    def _maps(self, field: BoxField, soft: SoftField | None) -> dict[str, F32]:
        """What the networks are shown on the coarse grid, by name."""
        form, grid = self.spec.form, self.spec.grid
        seen = bone_on(grid, field)
        maps = {"skull": seen}
        if form.mirror != "none":
            plane = {"plane": skull_plane(_cache_bone(grid, field))} if form.mirror == "plane" else {}
            maps["mirror"] = mirrored(seen, grid, form.mirror, **plane)
        if soft is not None:
            maps["prior"] = sketch_on(grid, field, soft)
            if form.doubt:
                maps["doubt"] = doubt_on(grid, soft.spread, np.diag([*field.scale, 1.0]))
        return maps

    def _coarse_answer(self, maps: dict[str, F32]) -> F32:
        """(2, X, Y, Z) probabilities, the mean of the skull's and of its mirror image's, or what the prior says."""
        if self._coarse is None:
            return np.stack([maps["prior"], np.zeros_like(maps["prior"])])
        return _both_ways(self._coarse, coarse_input(self.spec.form, maps))

    def _fine_answer(self, windows: Windows, bone: BoolArray, maps: list[F32], depth: F32 | None = None) -> F32:
        """(2, I, J, K) probabilities, blended from the windows; behind the prior from its depth, too."""
        size = (windows.size, windows.size, windows.size)
        total = np.zeros((len(BRANCHES), *bone.shape), np.float32)
        corner = tuple(part.start for part in windows.box)
        for start, weight in windows.each():
            here = tuple(slice(a - b, a - b + windows.size) for a, b in zip(start, corner, strict=True))
            own = [bone[here]] if depth is None else [bone[here], depth[here]]
            shown = np.stack([*own, *(upscaled_window(one, start, size, self.spec.zoom) for one in maps)])
            begun = None if depth is None else prior_logit(depth[here])
            total[(slice(None), *here)] += weight * _both_ways(self._fine, shown.astype(np.float32), begun)
        return np.clip(total, 0, 1)

    @staticmethod
    def implant_of(found: Answer | None, frame: CanonicalFrame) -> Volume | None:
        """The implant of an answer, as `implant_field` gives it."""
        if found is None:
            return None
        implant = found.probability("implant")
        return Volume(implant.data, implant.grid.moved(frame.to_world))

    @staticmethod
    def soft_of(found: Answer | None, field: BoxField) -> SoftField:
        """The patch of an answer, as a soft field in the box.

        Args:
            found: what `answer` gave.
            field: the skull in the common box.
        """
        box = box_grid()
        nothing = SoftField(np.full(box.shape, AIR_MM, np.float32), np.zeros(box.shape, bool), 0.0)
        if found is None:
            return nothing
        if found.corrected is not None:
            return found.corrected
        missing = without_small_components(found.probability("patch").data, found.grid)
        near = distance_to(Volume(missing > 0.5, found.grid), limit_mm=2 * CLIP_MM) <= CLIP_MM
        nodes = box.moved(np.diag([*field.scale, 1.0]))
        index = np.rint(found.grid.to_index(nodes.centres_mm().reshape(-1, 3))).astype(np.intp)
        inside = ((index >= 0) & (index < np.array(found.grid.shape))).all(axis=1)
        region = np.zeros(box.size, bool)
        region[inside] = near[tuple(index[inside].T)]
        region = region.reshape(box.shape)
        if not region.any():
            return nothing
        # Bone and missing bone meet within the rim's voxels: their sum has its half level on the completed surface.
        whole = np.minimum(missing + found.bone, 1).astype(np.float32)
        distance = BoneSurface.of(Volume(whole, found.grid), found.grid.spacing_mm[0]).distances(nodes, TRUNCATION_MM)
        near_mm = np.clip(distance, -CLIP_MM, CLIP_MM)  # what lies deeper is measured roughly
        return SoftField(np.where(region, near_mm, np.float32(AIR_MM)), region, 0.0)


def _both_ways(run: Run, x: F32, begun: F32 | None = None) -> F32:
    """(C, X, Y, Z) -> (2, X, Y, Z) probabilities: of what is shown, and of its mirror image mirrored back.

    Args:
        run: gives logits.
        x: what it is shown.
        begun: (X, Y, Z) logits that the patch's are added to.
    """
    from scipy.special import expit

    one, other = (np.array(run(np.ascontiguousarray(shown)[None])[0]) for shown in (x, x[:, ::-1]))
    other = other[:, ::-1]
    if begun is not None:
        for answer in (one, other):
            answer[BRANCHES.index("patch")] += begun
    mean: F32 = ((expit(one) + expit(other)) / 2).astype(np.float32)
    return mean


def _in_bytes(share: F32) -> U8:
    out: U8 = np.rint(255 * share).astype(np.uint8)
    return out


def _corrected(soft: SoftField, field: BoxField, depth: F32, patch: Volume) -> SoftField:
    """The prior's completion, moved by what a network has made of it.

    Args:
        soft: the prior's.
        field: the skull in the common box.
        depth: (I, J, K) of it, that the network's answer began with.
        patch: the network's probability, canonical mm, 0 in bone and where it was not asked.
    """
    from scipy.special import logit

    asked = patch.data > 0
    # Logits are distances from a surface: what was added to the prior's is how far the surface has moved.
    begun = np.clip(prior_logit(depth) + FIRST_LOGIT, logit(SURE), logit(1 - SURE))
    added = logit(np.clip(patch.data, SURE, 1 - SURE)) - begun
    outwards_mm = np.where(asked, np.clip(added / DEPTH_SLOPE, -DEPTH_MM, DEPTH_MM), 0).astype(np.float32)
    nodes = box_grid().moved(np.diag([*field.scale, 1.0])).centres_mm()[soft.region]
    distance = soft.distance_mm.copy()
    distance[soft.region] -= trilinear_at(outwards_mm.reshape(-1), patch.shape, patch.grid.to_index(nodes).T)
    return replace(soft, distance_mm=distance)


def _depth(soft: SoftField, field: BoxField, bone: BoolArray, grid: Grid) -> F32:
    """The depth of a completion on a grid in canonical mm as training cases keep it, in whole 255ths."""
    frame = CanonicalFrame(np.eye(4), np.array(field.scale), 0.0, ())
    bytes_ = np.rint(255 * missing_depth(soft, frame, bone, grid, DEPTH_MM))
    return (bytes_ / 255).astype(np.float32)


def finer(grid: Grid, zoom: int) -> Grid:
    """The grid with ``zoom`` voxels along each edge of a voxel."""
    i, j, k = (n * zoom for n in grid.shape)
    return Grid.isotropic((i, j, k), grid.spacing_mm[0] / zoom, grid.to_world([(1 / zoom - 1) / 2] * 3))


def part_of(grid: Grid, box: Box) -> Grid:
    """A part of a grid, which may reach beyond it."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world([part.start for part in box])
    i, j, k = (part.stop - part.start for part in box)
    return Grid((i, j, k), affine)


def _cache_bone(grid: Grid, field: BoxField) -> Volume:
    """The skull's mask on voxels of about `CACHE_MM` that fill a grid's."""
    fine = finer(grid, max(1, round(grid.spacing_mm[0] / CACHE_MM)))
    return Volume(bone_mask_on(fine, field), fine)


def load_runs(model: ModelInfo, spec: CascadeSpec, device: str = "auto") -> tuple[Run | None, Run]:
    """All networks on the device: torch on a GPU, OpenVINO on a CPU, torch there where OpenVINO is missing.

    Args:
        model: whose weights.
        spec: what it is.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: a GPU is asked for and torch sees none, or the weights do not fit.
        MissingExtraError: neither OpenVINO nor torch is installed.
    """
    if device == "cuda" or (device == "auto" and sees_gpu()):
        return runs_in_torch(model, spec, "cuda")
    if has_openvino() and model.others:
        runs = {
            stage: run_in_openvino(replace(model, path=stage_path(model.path, stage))) for stage in spec.form.stages
        }
        return runs.get("coarse"), runs["fine"]
    return runs_in_torch(model, spec, "cpu")


def stage_path(path: Any, stage: str) -> Any:
    """Beside which name a stage's converted files lie."""
    return path.with_name(f"{path.stem}-{stage}{path.suffix}")


def runs_in_torch(model: ModelInfo, spec: CascadeSpec, device: str = "cpu") -> tuple[Run | None, Run]:
    """The networks in torch; arguments and errors as for `load_runs`."""

    def make() -> Any:
        from calvaria.reconstruction.networks.cascade import CascadeNet

        return CascadeNet(spec.form)

    network = network_in_torch(model, make, "its form of the cascade", device)
    return None if spec.form.behind else run_of(network.coarse, device), run_of(network.fine, device)


__all__ = [
    "CASCADE",
    "CASCADE_STAGES",
    "Answer",
    "CascadeEngine",
    "CascadeSpec",
    "finer",
    "load_runs",
    "part_of",
    "runs_in_torch",
    "stage_path",
]
