"""The engines by name: whatever completes a skull, behind one signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from calvaria.errors import InputError
from calvaria.models import ModelInfo, find, load_arrays
from calvaria.models.registry import SHAPE_PRIOR
from calvaria.reconstruction.networks.cascade_engine import CASCADE, CascadeEngine, CascadeSpec, load_runs
from calvaria.reconstruction.networks.engine import KIND, NetworkEngine, NetworkSpec, load_run
from calvaria.reconstruction.protocol import Engine
from calvaria.reconstruction.shape_prior.engine import ShapePrior
from calvaria.reconstruction.shape_prior.model import ShapeModel
from calvaria.reconstruction.shape_prior.tables import TableModel
from calvaria.skull.template import load_template, template_from

Loader = Callable[[ModelInfo, str], Engine]
"""(a model of the loader's kind, "auto", "cpu" or "cuda") -> its engine."""


def _shape_prior(info: ModelInfo, device: str) -> ShapePrior:
    if device == "cuda":
        raise InputError("--device cuda: the shape prior runs on the CPU only; use --device auto or cpu")
    arrays = load_arrays(info)
    model, tables = ShapeModel.from_arrays(arrays), TableModel.from_arrays(arrays)
    return ShapePrior(model, template_from(arrays), tables=tables, calibration=info.calibration)


def _network(info: ModelInfo, device: str) -> NetworkEngine:
    spec = NetworkSpec.of(info)
    prior = load_prior() if spec.channels > 1 else None
    return NetworkEngine(spec, load_run(info, spec, device), load_template(), prior, calibration=info.calibration)


def _cascade(info: ModelInfo, device: str) -> CascadeEngine:
    spec = CascadeSpec.of(info)
    prior = load_prior() if spec.form.prior else None
    return CascadeEngine(spec, *load_runs(info, spec, device), load_template(), prior, calibration=info.calibration)


LOADERS: Mapping[str, Loader] = {"shape-prior": _shape_prior, KIND: _network, CASCADE: _cascade}
"""By the kind that the registry names; a new kind of engine is one line here, and one in the tests of the contract."""


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
    if info.kind not in LOADERS:
        known = " or ".join(LOADERS)
        raise InputError(f"the model {name!r} is of kind {info.kind!r}; a model that completes skulls is a {known}")
    return LOADERS[info.kind](info, device)


def load_prior(name: str = SHAPE_PRIOR) -> ShapePrior:
    """A shape prior, with what it alone can do: sketch, or complete a hole whose outline is known.

    Raises:
        InputError: as for `load_engine`, or the model is of another kind.
    """
    engine = load_engine(name, "cpu")
    if not isinstance(engine, ShapePrior):
        raise InputError(f"the model {name!r} is no shape prior; name one, such as {SHAPE_PRIOR}")
    return engine
