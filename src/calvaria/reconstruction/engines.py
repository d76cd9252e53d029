"""The engines by name: whatever completes a skull, behind one signature."""

from __future__ import annotations

from functools import lru_cache

from calvaria.errors import InputError
from calvaria.models import find, load_arrays
from calvaria.reconstruction.shape_model import ShapeModel
from calvaria.reconstruction.shape_prior import ShapePrior
from calvaria.reconstruction.soft import Engine
from calvaria.skull.template import template_from


@lru_cache(maxsize=2)
def load_engine(name: str) -> Engine:
    """The engine made from an installed model; loaded once a process.

    Raises:
        InputError: there is no such model, its file is damaged, or this version cannot run its kind.
    """
    info = find(name)
    if info.kind == "shape-prior":
        arrays = load_arrays(info)
        return ShapePrior(ShapeModel.from_arrays(arrays), template_from(arrays))
    raise InputError(f"the model {name!r} is of kind {info.kind!r}, which this version cannot run")
