"""Gives back the missing bone of a skull with a hole in it, from a CT or a bone mask.

Three lines do the main job, and a fourth the implant::

    import calvaria

    case = calvaria.read("skull.nrrd")
    result = calvaria.reconstruct(case)  # .patch, .completed, .plane, .confidence, .report
    implant = calvaria.design(result)  # .parts with their meshes, .host, .checks

The names below load what they need when they are first used, so that ``import calvaria`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calvaria.errors import (
        CalvariaError,
        FormatError,
        GeometryError,
        InputError,
        MissingExtraError,
        QualityError,
    )
    from calvaria.implant.parts import Design
    from calvaria.implant.settings import ImplantSettings
    from calvaria.io import read_mask, write_mesh
    from calvaria.io import read_volume as read
    from calvaria.io import write_volume as write
    from calvaria.metrics import Scores
    from calvaria.pipeline import Reconstruction, Refined, design, evaluate, reconstruct, refine
    from calvaria.reconstruction.word import UserWord
    from calvaria.symmetry.estimate import PlaneEstimate, estimate_plane
    from calvaria.volume import Grid, Mesh, Volume

__version__ = "0.1.0"

_HOMES = {
    "CalvariaError": ("calvaria.errors", "CalvariaError"),
    "FormatError": ("calvaria.errors", "FormatError"),
    "GeometryError": ("calvaria.errors", "GeometryError"),
    "InputError": ("calvaria.errors", "InputError"),
    "MissingExtraError": ("calvaria.errors", "MissingExtraError"),
    "QualityError": ("calvaria.errors", "QualityError"),
    "Design": ("calvaria.implant.parts", "Design"),
    "Grid": ("calvaria.volume", "Grid"),
    "ImplantSettings": ("calvaria.implant.settings", "ImplantSettings"),
    "Mesh": ("calvaria.volume", "Mesh"),
    "PlaneEstimate": ("calvaria.symmetry.estimate", "PlaneEstimate"),
    "Reconstruction": ("calvaria.pipeline", "Reconstruction"),
    "Refined": ("calvaria.pipeline", "Refined"),
    "Scores": ("calvaria.metrics", "Scores"),
    "UserWord": ("calvaria.reconstruction.word", "UserWord"),
    "Volume": ("calvaria.volume", "Volume"),
    "design": ("calvaria.pipeline", "design"),
    "estimate_plane": ("calvaria.symmetry.estimate", "estimate_plane"),
    "evaluate": ("calvaria.pipeline", "evaluate"),
    "read": ("calvaria.io", "read_volume"),
    "read_mask": ("calvaria.io", "read_mask"),
    "reconstruct": ("calvaria.pipeline", "reconstruct"),
    "refine": ("calvaria.pipeline", "refine"),
    "write": ("calvaria.io", "write_volume"),
    "write_mesh": ("calvaria.io", "write_mesh"),
}
"""Public name -> (module, name there)."""

__all__ = [
    "CalvariaError",
    "Design",
    "FormatError",
    "GeometryError",
    "Grid",
    "ImplantSettings",
    "InputError",
    "Mesh",
    "MissingExtraError",
    "PlaneEstimate",
    "QualityError",
    "Reconstruction",
    "Refined",
    "Scores",
    "UserWord",
    "Volume",
    "__version__",
    "design",
    "estimate_plane",
    "evaluate",
    "read",
    "read_mask",
    "reconstruct",
    "refine",
    "write",
    "write_mesh",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'calvaria' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
