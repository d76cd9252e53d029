"""A made-up head with a hole, its patch and an implant, in files as a clinic would hand them over."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.heads import SIDE, Head, grid_around, rigid, true_frame, truth_of

from calvaria.clinical.mesh_coordinates import Surroundings, mesh_conventions
from calvaria.implant.design import design_bodies
from calvaria.implant.settings import ImplantSettings
from calvaria.io import write_mesh, write_volume
from calvaria.skull.canonical import CanonicalFrame
from calvaria.volume import Grid, Mesh, Volume, extract_surface

POSE = rigid((6, -4, 8), (12, -30, 40))
"""Canonical -> world."""

AXES = rigid((0, 12, 0))[:3, :3]
"""The scan's axes are tilted, as by a gantry."""

HEAD = Head(20, holes=(SIDE,))
FRAME = true_frame(HEAD, POSE)
TIGHT = grid_around(POSE, (1.8, 1.8, 2.2), AXES)
"""By chance, reading its first and third axis in the other order mirrors the hole upon itself, within 5 mm."""

GRID = TIGHT.pad((14, 0, 0), (6, 0, 0))
"""The same with room on both sides, where every convention means another place."""

SPEC = ImplantSettings(thickness_mm=4.0, clearance_mm=1.0, bevel_deg=11.0)


@lru_cache(maxsize=1)
def skull() -> Volume:
    return HEAD.on(GRID, POSE)


@lru_cache(maxsize=1)
def patch() -> Volume:
    return truth_of(HEAD, skull(), POSE)


@lru_cache(maxsize=1)
def implant() -> Mesh:
    return design_bodies(skull(), patch(), POSE, SPEC)[0].mesh


@lru_cache(maxsize=1)
def around() -> Surroundings:
    return Surroundings.of(skull(), FRAME)


def known_frame(*_: object) -> CanonicalFrame:
    """In the place of `locate`: the pose as the formula has it, at no cost."""
    return FRAME


def inside(mesh: Mesh, grid: Grid) -> NDArray[np.bool_]:
    from calvaria.volume import voxelise

    return voxelise(mesh, grid).mask


def write_files(folder: Path, convention: str = "lps") -> Path:
    """skull.nrrd, implant.stl and patch.ply in a folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    to_world = mesh_conventions(GRID)[convention]
    write_volume(folder / "skull.nrrd", skull())
    write_mesh(folder / "implant.stl", implant().moved(np.linalg.inv(to_world)))
    write_mesh(folder / "patch.ply", extract_surface(patch()).moved(np.linalg.inv(to_world)))
    return folder
