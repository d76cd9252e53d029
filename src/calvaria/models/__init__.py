"""The shipped weights: what there is, and loading it."""

from calvaria.models.registry import ModelInfo, available, find, load_arrays, load_shape_arrays, register, write_arrays

__all__ = ["ModelInfo", "available", "find", "load_arrays", "load_shape_arrays", "register", "write_arrays"]
