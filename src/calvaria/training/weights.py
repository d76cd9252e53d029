"""The end of a training: the averaged weights on disk, with their card and their entry in the index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from calvaria.files import write_text
from calvaria.models import ModelInfo, register, write_arrays
from calvaria.models.registry import LICENCE
from calvaria.models.runtime import convert, has_openvino
from calvaria.training.loop import Trained
from calvaria.training.recipes.settings import NetworkRecipe


def write_network(
    recipe: NetworkRecipe,
    network: torch.nn.Module,
    trained: Trained,
    *,
    kind: str,
    spec: Mapping[str, Any],
    card: str,
    parts: Iterable[tuple[torch.nn.Module, tuple[int, ...], Path]],
) -> ModelInfo:
    """Write a network that was trained, and where OpenVINO is installed its parts for the CPU.

    Args:
        recipe: what it was trained by; says where to.
        network: untrained; gets the weights.
        trained: what the training has led to.
        kind: of the model.
        spec: what is needed to make the network again, JSON-ready: for the header of its file.
        card: the model card, Markdown.
        parts: of the network, or itself: the module, the shape of its input (C, X, Y, Z), and the name beside which its
            converted files lie.

    Returns:
        The model.
    """
    network.load_state_dict(trained.weights)
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    about = {**spec, "recipe": recipe.key(), "step": trained.step}
    write_arrays(recipe.output, weights, {"calvaria": json.dumps(about, sort_keys=True)})
    write_text(recipe.output.with_suffix(".md"), card)
    others = (
        [file for part, shape, path in parts for file in convert(part, torch.zeros(1, *shape), path)]
        if has_openvino()
        else []
    )
    return register(recipe.output, recipe.name, kind, LICENCE, others)


__all__ = ["write_network"]
