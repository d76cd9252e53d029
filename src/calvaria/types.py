"""Names for the arrays that travel through the program."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.floating[Any]]
"""Floating point of any width."""

__all__ = ["F32", "F64", "U8", "BoolArray", "FloatArray"]
