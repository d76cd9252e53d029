"""Solid surfaces of masks: one closed shell a piece, of the mask's volume; trimesh looks on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from tests.strategies import mask_volumes

from calvaria.errors import InputError
from calvaria.io import read_mask
from calvaria.volume import Grid, Volume
from calvaria.volume.components import fill_holes, label
from calvaria.volume.resample import coarsen
from calvaria.volume.solid import shell_count, solid_surface

SPACINGS = [(0.45, 0.45, 0.45), (0.5, 0.5, 1.0), (1.0, 1.0, 1.0), (0.9, 0.9, 1.5)]


def cap(spacing: tuple[float, float, float], thickness_mm: float = 6.0, radius_mm: float = 80.0) -> Volume:
    """A patch-like plate: part of a shell, 80 mm across."""
    shape = tuple(int(n / s) + 4 for n, s in zip((86, 86, 34), spacing, strict=True))
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    points = grid.centres_mm() - [43.0, 43.0, -52.0]
    radius = np.linalg.norm(points, axis=-1)
    across = np.linalg.norm(points[..., :2], axis=-1)
    return Volume((radius < radius_mm) & (radius > radius_mm - thickness_mm) & (across < 40), grid)


def oracle(mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices_mm, mesh.faces)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("thickness_mm", [3.0, 6.0])
def test_a_plate_is_one_closed_shell_of_its_own_volume(spacing, thickness_mm):
    mask = cap(spacing, thickness_mm)
    seen = oracle(solid_surface(mask, 0.5))
    assert seen.is_watertight
    assert len(seen.split(only_watertight=False)) == 1
    assert seen.volume / 1000 == pytest.approx(mask.volume_ml, rel=0.005)


def test_crumbs_at_edges_and_corners_go_with_the_mask_s_pieces_and_cavities_are_filled():
    data = np.zeros((30, 30, 30), bool)
    data[5:25, 5:25, 5:25] = True
    data[10:13, 10:13, 10:13] = False
    mask = Volume(data, Grid.isotropic(data.shape, 1.0))
    mesh = solid_surface(mask, 0.5)
    assert shell_count(mesh) == 1
    assert mesh.volume_ml == pytest.approx(8.0, rel=0.005)


def test_two_pieces_are_two_shells_and_pieces_at_a_corner_do_not_become_one_by_smoothing_away():
    data = np.zeros((40, 20, 20), bool)
    data[4:14, 4:14, 4:14] = True
    data[24:34, 4:14, 4:14] = True
    mesh = solid_surface(Volume(data, Grid.isotropic(data.shape, 1.0)), 0.5)
    assert shell_count(mesh) == 2
    assert len(oracle(mesh).split()) == 2
    assert mesh.volume_ml == pytest.approx(2.0, rel=0.005)


def test_a_neck_that_smoothing_would_tear_is_kept():
    data = np.zeros((40, 20, 20), bool)
    data[4:14, 4:14, 4:14] = data[24:34, 4:14, 4:14] = True
    data[14:24, 8:9, 8:9] = True  # one voxel thick: gone when smoothed by one
    mesh = solid_surface(Volume(data, Grid.isotropic(data.shape, 1.0)), 1.0)
    assert shell_count(mesh) == 1
    assert mesh.volume_ml > 1.98


def test_nothing_has_no_surface_and_no_mask_is_refused():
    nothing = Volume(np.zeros((4, 4, 4), bool), Grid.isotropic((4, 4, 4), 1.0))
    assert solid_surface(nothing, 0.5).is_empty
    assert shell_count(solid_surface(nothing)) == 0
    with pytest.raises(InputError, match="the surface of a solid is that of a mask; the volume holds float64"):
        solid_surface(nothing.with_data(np.zeros((4, 4, 4))))


@given(mask_volumes())
def test_any_mask_s_solid_is_closed_and_has_no_more_shells_than_pieces(mask: Volume):
    mesh = solid_surface(mask, 0.4)
    pieces = label(fill_holes(mask).mask, connectivity=6)[1]
    assert mesh.is_closed
    assert shell_count(mesh) <= pieces
    assert (mesh.volume_ml > 0) == bool(mask.mask.any())


def test_real_patches_print_as_one_shell_each(real_data: Path):
    for number in ("000", "004"):
        whole = read_mask(real_data / "autoimplant2020" / "training_set" / "implant" / f"{number}.nrrd")
        for spacing_mm in (None, 1.0):
            mask = whole if spacing_mm is None else whole.with_data(whole.mask)
            if spacing_mm is not None:
                soft = coarsen(whole, spacing_mm)
                mask = soft.with_data(soft.data > 0.5)
            seen = oracle(solid_surface(mask, 0.5))
            assert seen.is_watertight
            assert len(seen.split(only_watertight=False)) == label(mask.mask, connectivity=6)[1]
            assert seen.volume / 1000 == pytest.approx(mask.volume_ml, rel=0.005)
