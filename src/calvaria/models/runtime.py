"""Trained networks on a CPU, by OpenVINO: the fastest way there, and one that needs no torch.

A network is converted once, where it is trained, and stored as two files beside its weights, each with its hash in the
index. Nothing is converted, written or asked for over the network when a skull is completed.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calvaria.errors import InputError, MissingExtraError
from calvaria.models.registry import ModelInfo
from calvaria.types import F32

Run = Callable[[F32], F32]
"""(B, C, X, Y, Z) -> (B, C', X, Y, Z), float32."""

ENDINGS = (".xml", ".bin")
"""Of the two files: the network's form and its weights."""


def run_in_openvino(model: ModelInfo) -> Run:
    """A converted network, ready to be run on the CPU in 32 bits.

    Raises:
        InputError: the network was not converted, or a file is not the one that the index names.
        MissingExtraError: OpenVINO is not installed.
    """
    ov = openvino()
    files = converted_files(model.path)
    for path in files:
        if path.name not in model.others:
            raise InputError(f"{model.name}: was not converted for the CPU; train it again with OpenVINO installed")
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
        if found != model.others[path.name]:
            raise InputError(f"{path}: missing, damaged or not the registered file; train or install the model again")
    # Left alone, OpenVINO computes in 16 bits where the processor can: results would differ from machine to machine.
    compiled = ov.Core().compile_model(files[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(x: F32) -> F32:
        out: F32 = compiled(np.ascontiguousarray(x, np.float32))[0]
        return out

    return run


def convert(network: Any, example: Any, path: Path) -> tuple[Path, Path]:
    """Store a torch module for OpenVINO, in 32 bits, beside its weights file.

    Args:
        network: the module.
        example: an input tensor; the stored network takes this shape only.
        path: of the weights file.

    Returns:
        The two files.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    import torch

    ov = openvino()
    form, weights = converted_files(path)
    with warnings.catch_warnings():  # on what is deprecated within torch itself
        warnings.simplefilter("ignore")
        # Exported, not traced: a traced SwinUNETR loses a shape on the way.
        converted = ov.convert_model(torch.export.export(network.eval(), (example,)))
    ov.save_model(converted, form, compress_to_fp16=False)
    return form, weights


def converted_files(path: Path) -> tuple[Path, Path]:
    """The two files beside a weights file."""
    form, weights = (path.with_suffix(ending) for ending in ENDINGS)
    return form, weights


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None


def openvino() -> Any:
    """OpenVINO, silenced.

    Importing it would tell a server of its maker's so, from a thread of its own: not on a hospital's machine.

    Raises:
        MissingExtraError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it then takes its own stub
    try:
        import openvino as ov
    except ImportError:
        raise MissingExtraError(
            "networks run on a CPU by OpenVINO, which is not installed: pip install 'calvaria[networks]'"
        ) from None
    return ov


__all__ = ["Run", "convert", "converted_files", "has_openvino", "openvino", "run_in_openvino"]
