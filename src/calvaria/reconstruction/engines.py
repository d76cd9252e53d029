"""The engines by name: whatever completes a skull, behind one signature."""

from __future__ import annotations

from functools import lru_cache

from calvaria.errors import InputError
from calvaria.models import find, load_arrays
from calvaria.models.registry import SHAPE_PRIOR
from calvaria.reconstruction.networks.engine import KIND, NetworkEngine, NetworkSpec, load_run
from calvaria.reconstruction.protocol import Engine
from calvaria.reconstruction.shape_prior.engine import ShapePrior
from calvaria.reconstruction.shape_prior.model import ShapeModel
from calvaria.reconstruction.shape_prior.wall import Wall
from calvaria.skull.template import load_template, template_from


@lru_cache(maxsize=2)
def load_engine(name: str, device: str = "auto") -> Engine:
    """The engine made from an installed model; loaded once a process.

    Args:
        name: as `calvaria models` lists it, or a weights file.
        device: "auto", "cpu" or "cuda"; the shape prior runs on the CPU.

    Raises:
        InputError: there is no such model, its file is damaged, this version cannot run its kind, or it cannot run on
            the device.
        MissingExtraError: it is a network, and nothing that runs it is installed.
    """
    info = find(name)
    if info.kind == "shape-prior":
        if device == "cuda":
            raise InputError("--device cuda: the shape prior runs on the CPU only; use --device auto or cpu")
        arrays = load_arrays(info)
        return ShapePrior(ShapeModel.from_arrays(arrays), template_from(arrays), wall=Wall.from_arrays(arrays))
    if info.kind == KIND:
        spec = NetworkSpec.of(info)
        prior = load_engine(SHAPE_PRIOR, "cpu") if spec.channels > 1 else None
        return NetworkEngine(spec, load_run(info, spec, device), load_template(), prior)
    raise InputError(f"the model {name!r} is of kind {info.kind!r}, which this version cannot run")
