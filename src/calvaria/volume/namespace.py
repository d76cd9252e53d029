"""Formulas written once for numpy arrays and torch tensors: which module's functions take an array."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
"""A numpy array or a torch tensor."""


def namespace_of(points: Array) -> Any:
    """The module whose functions take these points: numpy or torch."""
    if isinstance(points, np.ndarray):
        return np
    import torch

    return torch


__all__ = ["Array", "namespace_of"]
