"""Implants of simple patches: thickness, clearance, bevel, pose, and what cannot be designed."""

import numpy as np
import pytest
from tests.clinical.head import GRID, POSE, SPEC, inside, skull
from tests.clinical.head import implant as head_implant

from calvaria.errors import GeometryError, InputError
from calvaria.implant import design
from calvaria.implant.design import ImplantSpec, design_implant
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid, Volume, distance_to

OUTER_MM, INNER_MM, WINDOW_DEG = 80.0, 73.0, 28.0


def ball_with_hole(spacing_mm: float = 1.0) -> tuple[Volume, Volume]:
    """A shell about the head's centre with a round window around +x, and what filled it."""
    count = int(2 * OUTER_MM / spacing_mm) + 6
    grid = Grid.isotropic((count,) * 3, spacing_mm, HEAD_CENTRE_MM - (count - 1) / 2 * spacing_mm)
    arm = grid.centres_mm() - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=-1)
    shell = (radius <= OUTER_MM) & (radius >= INNER_MM)
    window = arm[..., 0] > np.cos(np.radians(WINDOW_DEG)) * np.maximum(radius, 1.0)
    return Volume(shell & ~window, grid), Volume(shell & window, grid)


@pytest.mark.parametrize(("thickness", "clearance", "bevel"), [(4.0, 1.0, 0.0), (3.0, 1.5, 0.3), (5.0, 0.5, 0.2)])
def test_an_implant_in_a_ball_has_its_thickness_and_its_clearance(thickness, clearance, bevel):
    bone, hole = ball_with_hole()
    mesh = design_implant(bone, hole, ImplantSpec(thickness, clearance, bevel), np.eye(4))
    assert mesh.is_closed
    arm = mesh.vertices_mm - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=1)
    angle = np.degrees(np.arccos(arm[:, 0] / radius))
    faces_mm = radius[angle < WINDOW_DEG - 8]  # well inside the rim
    outer, inner = faces_mm[faces_mm > OUTER_MM - 1.5], faces_mm[faces_mm < OUTER_MM - 1.5]
    assert np.median(outer) == pytest.approx(OUTER_MM, abs=0.3)
    assert np.median(outer) - np.median(inner) == pytest.approx(thickness, abs=0.3)
    assert outer.std() < 0.2
    assert inner.std() < 0.2
    depth = np.median(outer) - radius
    wall = (angle > WINDOW_DEG - 8) & (depth > 0.3 * thickness) & (depth < 0.7 * thickness)
    gap = np.radians(WINDOW_DEG - angle[wall]) * radius[wall]
    slope, start = np.polyfit(depth[wall], gap, 1)
    assert start == pytest.approx(clearance, abs=0.5)  # in voxels of 1 mm
    assert slope == pytest.approx(bevel, abs=0.12)
    area_cm2 = (
        2 * np.pi * (OUTER_MM / 10) ** 2 * (1 - np.cos(np.radians(WINDOW_DEG - np.degrees(clearance / OUTER_MM))))
    )
    assert 0.8 * area_cm2 * thickness / 10 < mesh.volume_ml < 1.02 * area_cm2 * thickness / 10


def test_an_implant_keeps_off_the_bone_of_a_head():
    gap = distance_to(skull(), limit_mm=10.0)[inside(head_implant(), GRID)]
    # From voxel centre to voxel centre; bone begins about half a voxel before its first centre.
    assert gap.min() >= SPEC.clearance_mm
    assert head_implant().is_closed


def test_an_implant_may_lie_in_any_pose(monkeypatch):
    monkeypatch.setattr(design, "STEP_MM", 1.0)
    bone, hole = ball_with_hole(1.5)
    turn = POSE.copy()
    meshes = [
        design_implant(Volume(bone.data, bone.grid.moved(p)), Volume(hole.data, hole.grid.moved(p)), SPEC, p)
        for p in (np.eye(4), turn)
    ]
    assert meshes[1].volume_ml == pytest.approx(meshes[0].volume_ml, rel=0.03)


def test_what_cannot_be_designed_is_refused(monkeypatch):
    monkeypatch.setattr(design, "STEP_MM", 1.5)
    bone, hole = ball_with_hole(3.0)
    with pytest.raises(InputError, match="the patch is empty"):
        design_implant(bone, hole.with_data(np.zeros(hole.shape, bool)), SPEC, np.eye(4))
    with pytest.raises(InputError, match="nothing is left of a patch of"):
        design_implant(bone, hole, ImplantSpec(4.0, 60.0, 0.0), np.eye(4))
    with pytest.raises(GeometryError, match="patch and defective skull must lie on one grid"):
        design_implant(bone, hole.crop((slice(5, 50), slice(0, 50), slice(0, 50))), SPEC, np.eye(4))
    for bad in ((0.0, 1.0, 0.0), (4.0, -1.0, 0.0), (4.0, 1.0, -0.1)):
        with pytest.raises(InputError, match="an implant needs a thickness"):
            ImplantSpec(*bad)
