"""Implants of real skulls, held against voxels and meshes that had no part in the design; and of a patient's CT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import real_skulls

from calvaria.benchmarks.implants import common_ml, insertable
from calvaria.implant.design import design
from calvaria.implant.parts import Check, Design
from calvaria.implant.settings import ImplantSettings
from calvaria.volume import extract_surface, voxelise

PARIETOTEMPORAL, HEMICRANIECTOMY, ACROSS = "parietotemporal", "hemicraniectomy", "official"


def made(real_data: Path, kind: str, settings: ImplantSettings) -> Design:
    """An implant for a hole in the first validation person, whose missing bone is known."""
    defective, truth, frame = real_skulls.with_hole(real_data, kind)
    return design(defective, truth, frame.to_world, settings)


def found(made: Design) -> dict[str, Check]:
    return {check.name: check for check in made.checks}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (PARIETOTEMPORAL, ImplantSettings(perforations=True, plate_seats=4, suture_holes=True, mark="L 1")),
        (ACROSS, ImplantSettings(thickness_mm=3.0, clearance_mm=1.0, bevel_deg=15.0)),
        (HEMICRANIECTOMY, ImplantSettings(temporal_relief_mm=3.0, flatten=0.3)),
    ],
)
def test_an_implant_of_a_real_skull_is_solid_clear_of_bone_and_can_be_put_in(real_data, kind, settings):
    out = made(real_data, kind, settings)
    (part,) = out.parts
    checks = found(out)
    assert not out.failed, [check for check in out.checks if check.verdict == "fail"]
    assert part.mesh.is_closed
    assert len(part.mesh.shells) == 1
    assert common_ml(part, out.bone) == 0
    assert insertable(part, out.bone, settings.travel_mm)
    # The other way round it would have to come through the head.
    assert not insertable(replace(part, direction=-part.direction), out.bone, settings.travel_mm)
    assert checks["thickness as asked"].value > 95
    assert checks["clearance as asked"].value > 90
    voxels = voxelise(part.body, out.bone.grid)
    assert part.body.volume_ml == pytest.approx(voxels.volume_ml, rel=0.005)


def test_a_flange_lies_on_the_bone_of_a_real_skull(real_data):
    settings = ImplantSettings(flange_width_mm=7.0, flange_mm=1.2, plate_seats=5, thickness="bone")
    out = made(real_data, PARIETOTEMPORAL, settings)
    (part,) = out.parts
    assert not out.failed, [check for check in out.checks if check.verdict == "fail"]
    assert part.mesh.genus >= 4  # its screw holes
    assert insertable(part, out.bone, settings.travel_mm)
    assert common_ml(part, out.bone) == 0


def test_the_field_and_the_mask_give_the_same_outer_surface(real_data):
    from calvaria.pipeline import design as design_result
    from calvaria.pipeline import reconstruct

    result = reconstruct(real_skulls.with_hole(real_data, PARIETOTEMPORAL)[0], kind="mask")
    soft, hard = (design_result(one) for one in (result, replace(result, soft=None)))
    assert (soft.surface_from, hard.surface_from) == ("field", "mask")
    sheet = hard.parts[0].sheet
    height, _ = soft.parts[0].sheet.above(sheet.points_mm[sheet.hole])
    assert np.abs(height).mean() < 0.05
    assert soft.parts[0].mesh.volume_ml == pytest.approx(hard.parts[0].mesh.volume_ml, rel=0.005)


def test_a_patients_ct_gets_an_implant(real_data):
    from calvaria.pipeline import design as design_result

    out = design_result(real_skulls.patient(real_data))
    assert not out.failed, [check for check in out.checks if check.verdict == "fail"]
    for part in out.parts:
        assert insertable(part, out.bone, 30.0)
        assert not extract_surface(out.bone).is_empty
        assert common_ml(part, out.bone) == 0
