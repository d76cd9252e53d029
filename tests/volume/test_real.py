"""The tools of this layer on a real skull with its missing bone: sizes and shapes that generated masks do not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calvaria.io import write_mesh
from calvaria.volume import (
    Grid,
    Volume,
    bounding_box,
    coarsen,
    extract_surface,
    fill_holes,
    largest_component,
    resample_mask,
    signed_distance,
    voxelise,
)


@pytest.fixture(scope="module")
def patch(real_data: Path) -> Volume:
    """The missing bone of one case, cut to its box."""
    nrrd = pytest.importorskip("nrrd")
    data, header = nrrd.read(str(real_data / "autoimplant2020" / "training_set" / "implant" / "000.nrrd"))
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"], float).T
    affine[:3, 3] = header["space origin"]
    whole = Volume(data > 0, Grid(data.shape, affine))
    box = bounding_box(whole.mask, (5, 5, 5))
    assert box is not None
    return whole.crop(box)


def test_a_real_patch_comes_back_from_its_surface(patch: Volume) -> None:
    mesh = extract_surface(patch)
    assert mesh.is_closed
    assert mesh.volume_ml == pytest.approx(patch.volume_ml, rel=0.02)
    np.testing.assert_array_equal(voxelise(mesh, patch.grid).data, patch.data)


def test_a_real_patch_is_one_piece_of_bone(patch: Volume) -> None:
    assert largest_component(patch).volume_ml > 0.99 * patch.volume_ml
    assert fill_holes(patch).volume_ml < 1.02 * patch.volume_ml


def test_a_real_patch_goes_to_an_oblique_grid_of_1_mm_and_back(patch: Volume) -> None:
    turn = np.eye(4)
    turn[:3, :3] = [[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]]
    middle = patch.grid.to_world((np.array(patch.shape) - 1) / 2)
    reach = float(np.linalg.norm(patch.grid.corners_mm() - middle, axis=1).max())
    n = int(2 * reach) + 3
    turn[:3, 3] = middle - turn[:3, :3] @ np.full(3, (n - 1) / 2)
    there = resample_mask(patch, Grid((n, n, n), turn))
    back = resample_mask(there, patch.grid)
    assert there.volume_ml == pytest.approx(patch.volume_ml, rel=0.01)
    dice = 2 * (back.data & patch.data).sum() / (back.data.sum() + patch.data.sum())
    assert dice > 0.96


def test_coarse_shares_and_distances_of_a_real_patch_agree_about_its_size(patch: Volume) -> None:
    coarse = coarsen(patch, 1.6)
    assert coarse.data.sum() * coarse.grid.voxel_volume_mm3 / 1000 == pytest.approx(patch.volume_ml, rel=0.01)
    assert (signed_distance(patch, limit_mm=3.0) < 0).sum() == patch.data.sum()


@pytest.mark.parametrize("spacing_mm", [None, 1.0])
def test_a_real_patch_is_printed_as_one_solid_of_its_volume(
    patch: Volume, spacing_mm: float | None, tmp_path: Path
) -> None:
    trimesh = pytest.importorskip("trimesh")
    if spacing_mm is not None:
        n = tuple(int(np.ceil(n * s / spacing_mm)) for n, s in zip(patch.shape, patch.grid.spacing_mm, strict=True))
        affine = patch.affine.copy()
        affine[:3, :3] *= spacing_mm / np.array(patch.grid.spacing_mm)
        patch = resample_mask(patch, Grid(n, affine))  # type: ignore[arg-type]
    body = largest_component(patch, connectivity=6)
    write_mesh(tmp_path / "patch.stl", extract_surface(body, smooth_mm=0.5))
    solid = trimesh.load(tmp_path / "patch.stl")
    assert solid.is_watertight and solid.is_winding_consistent and solid.body_count == 1
    assert solid.volume / 1000 == pytest.approx(fill_holes(body).volume_ml, rel=0.005)
