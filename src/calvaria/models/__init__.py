"""The shipped weights: what there is, and loading it."""

from calvaria.models.calibration import Calibration
from calvaria.models.registry import ModelInfo, available, find, load_arrays, load_shape_arrays, register, write_arrays

__all__ = [
    "Calibration",
    "ModelInfo",
    "available",
    "find",
    "load_arrays",
    "load_shape_arrays",
    "register",
    "write_arrays",
]
