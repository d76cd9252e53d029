"""The files of one simulated clinical case: what is drawn for it, and what may be wrong with it on purpose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calvaria.clinical.mesh_coordinates import mesh_conventions
from calvaria.clinical.simulate_ct import CtSpec, synthesise_ct
from calvaria.datasets.catalog import SkullCase
from calvaria.errors import InputError
from calvaria.implant.design import design_bodies
from calvaria.implant.settings import ImplantSettings
from calvaria.io.images import read_mask, write_volume
from calvaria.io.meshes import write_mesh
from calvaria.skull.canonical import LANDMARK_NORMAL, CanonicalFrame, locate
from calvaria.skull.proportions import rescale_to
from calvaria.synthesis.defects import cut_defect
from calvaria.volume.distance import distance_to
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh, extract_surface, joined
from calvaria.volume.volume import Volume
from calvaria.volume.voxelise import voxelise

CONVENTIONS = ("lps", "ras", "lps-corner", "ras-corner", "box", "box-flip", "box-zyx", "index", "lps-m", "box-m")
"""Conventions that meshes are written in; a file of any but the first says nothing about it in its header."""

FAULTS = (
    "shifted",
    "wrong-side",
    "overlapping",
    "open-mesh",
    "no-calvaria",
    "empty-id",
    "duplicate-id",
    "missing-file",
)
"""What a bad case may have wrong; every one must be refused."""

SHIFT_MM = 30.0
"""How far a shifted implant lies behind its hole."""

SWELL_MM = 5.0
"""How much too large an overlapping implant is on all sides."""

STEP_MM = 0.6
"""Voxels in which it is swollen, and the smoothing of the surfaces that are written."""

NO_VAULT_MM = 15.0
"""A skull without calvaria keeps what lies below the landmark plane, and so much above it."""

LOST_SHARE = 0.15
"""Part of the triangles that an open mesh lacks, all on one side."""

NO_FRAME_HEADER = b"simulated implant".ljust(80)


@dataclass(frozen=True)
class SimulatedCase:
    """All that is drawn for a case; the same values on the same skull give the same files.

    Args:
        id: the case's name.
        defect_kind: one of ``ALL_KINDS``.
        defect_seed: which defect.
        implant: how it is made.
        convention: what the meshes' coordinates mean.
        as_mask: implant and patch are masks on the skull's grid instead of meshes.
        with_patch: whether the patch is handed over, too.
        ct: how the CT is taken; None where the skull is handed over as a mask.
        fault: one of ``FAULTS``, or "".
    """

    id: str
    defect_kind: str
    defect_seed: int
    implant: ImplantSettings
    convention: str
    as_mask: bool = False
    with_patch: bool = False
    ct: CtSpec | None = None
    fault: str = ""


def read_complete(skull: SkullCase) -> Volume:
    """The complete skull of a case.

    Raises:
        InputError: it has none, or its file cannot be read.
    """
    if skull.complete is None:
        raise InputError(f"{skull.id}: there is no complete skull")
    return read_mask(skull.complete)


def make_files(
    folder: Path, case: SimulatedCase, skull: SkullCase, factors: tuple[float, ...] | None
) -> dict[str, Any]:
    """Cut the defect, design the implant, spoil it if it is to be bad, and write all files of a case.

    Args:
        folder: an empty one.
        case: what was drawn.
        skull: a case with a complete skull.
        factors: by what the skull is rescaled along canonical x, y, z; None leaves it.

    Returns:
        What came of it, JSON-ready: the defect's spec, the frame, sizes.

    Raises:
        InputError: the skull cannot be read, or no defect of this kind can be cut out of it.
    """
    complete = read_complete(skull)
    frame = locate(complete)
    if factors is not None:
        complete, frame = rescale_to(complete, frame, factors)
    rng = np.random.default_rng(case.defect_seed)
    spec, defective, patch = cut_defect(complete, case.defect_kind, rng, frame.to_world)
    right = joined([part.mesh for part in design_bodies(defective, patch, frame.to_world, case.implant)])
    implant = _spoiled(right, case.fault, frame)
    if case.fault == "no-calvaria":
        defective = _without_vault(defective, frame)
    scan = defective if case.ct is None else synthesise_ct(defective, case.ct)
    write_volume(folder / "skull.nrrd", scan)
    (folder / "truth").mkdir()
    write_volume(folder / "truth" / "patch.nrrd", patch)
    write_volume(folder / "truth" / "implant.nrrd", voxelise(right, complete.grid))
    if case.as_mask:
        write_volume(folder / "implant.nii.gz", voxelise(implant, scan.grid))
    else:
        _write_mesh(folder / "implant.stl", implant, case.convention, scan.grid)
    if case.with_patch:
        _write_mesh(folder / "patch.ply", extract_surface(patch, smooth_mm=STEP_MM), "lps", scan.grid)
    return {
        "defect": json.loads(spec.to_json()),
        "canonical_to_world": frame.to_world.round(9).tolist(),
        "scale": frame.scale.round(4).tolist(),
        "patch_ml": round(patch.volume_ml, 3),
        "implant_ml": round(right.volume_ml, 3),
    }


def _spoiled(implant: Mesh, fault: str, frame: CanonicalFrame) -> Mesh:
    """An implant with what is wrong with it."""
    if fault == "shifted":
        shift = np.eye(4)
        shift[:3, 3] = SHIFT_MM * frame.to_world[:3, 1]
        return implant.moved(shift)
    if fault == "wrong-side":
        return implant.moved(frame.to_world @ np.diag([-1.0, 1.0, 1.0, 1.0]) @ frame.to_canonical)
    if fault == "overlapping":
        low, high = implant.vertices_mm.min(axis=0) - 2 * SWELL_MM, implant.vertices_mm.max(axis=0) + 2 * SWELL_MM
        i, j, k = (int(n) for n in np.ceil((high - low) / STEP_MM))
        body = voxelise(implant, Grid.isotropic((i, j, k), STEP_MM, low))
        return extract_surface(body.with_data(distance_to(body, limit_mm=2 * SWELL_MM) <= SWELL_MM), smooth_mm=STEP_MM)
    if fault == "open-mesh":
        order = np.argsort(implant.vertices_mm[implant.faces].mean(axis=1)[:, 2])
        return Mesh(implant.vertices_mm, implant.faces[np.sort(order[: round((1 - LOST_SHARE) * len(order))])])
    return implant


def _without_vault(skull: Volume, frame: CanonicalFrame) -> Volume:
    """What lies below the vault."""
    index = np.nonzero(skull.mask)
    to_canonical = frame.to_canonical @ skull.affine
    y, z = (sum(to_canonical[r, c] * index[c] for c in range(3)) + to_canonical[r, 3] for r in (1, 2))
    low = LANDMARK_NORMAL[1] * y + LANDMARK_NORMAL[2] * z > NO_VAULT_MM
    rest = np.zeros_like(skull.mask)
    rest[tuple(axis[low] for axis in index)] = True
    return skull.with_data(rest)


def _write_mesh(path: Path, mesh: Mesh, convention: str, grid: Grid) -> None:
    """A mesh in the coordinates of a convention; only world LPS says so in the file."""
    to_world = mesh_conventions(grid)[convention]
    write_mesh(path, mesh.moved(np.linalg.inv(to_world)))
    if convention != "lps" and path.suffix == ".stl":
        with path.open("r+b") as file:
            file.write(NO_FRAME_HEADER)


__all__ = ["CONVENTIONS", "FAULTS", "SimulatedCase", "make_files", "read_complete"]
