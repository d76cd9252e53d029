"""Designed implants on heads whose surface is known, CTs made from masks, and the set that is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.clinical.head import AXES, HEAD, POSE, inside
from tests.heads import Head, dice, grid_around, scan, true_frame

from calvaria.clinical import simulate_files, simulate_set
from calvaria.clinical.mesh_coordinates import mesh_conventions
from calvaria.clinical.simulate_ct import CtSpec, sample_ct, synthesise_ct
from calvaria.clinical.simulate_set import (
    BEVEL_DEG,
    CLEARANCE_MM,
    CONVENTIONS,
    DEFECT_KINDS,
    FAULTS,
    THICKNESS_MM,
    SimulationSettings,
    sample_case,
    sample_implant,
    simulate_clinical,
)
from calvaria.clinical.table import read_table
from calvaria.datasets.catalog import SkullCase
from calvaria.errors import InputError
from calvaria.implant import body
from calvaria.io import read_mask, read_mesh, read_volume
from calvaria.skull.kinds import ct_offset_hu
from calvaria.skull.proportions import Proportions, population, proportions
from calvaria.skull.segment import segment_bone
from calvaria.volume import Grid, Volume


def test_what_is_drawn_lies_in_its_ranges():
    rng = np.random.default_rng(0)
    specs = [sample_implant(rng) for _ in range(50)]
    for values, law in (
        ([s.thickness_mm for s in specs], THICKNESS_MM),
        ([s.clearance_mm for s in specs], CLEARANCE_MM),
        ([s.bevel_deg for s in specs], BEVEL_DEG),
    ):
        assert law[0] <= min(values) < max(values) <= law[1]
    assert 1.0 <= sample_ct(rng).slice_mm <= 1.5
    assert sample_implant(np.random.default_rng(3)) == sample_implant(np.random.default_rng(3))


def test_a_ct_shows_air_tissue_and_the_bone():
    bone = scan(Head(20), None, (2.5, 2.5, 2.5)).pad((7, 7, 0), (7, 7, 7))
    ct = synthesise_ct(bone, CtSpec(2.5, 2.5, 12.0, seed=5))
    assert ct.data.dtype == np.int16
    assert ct_offset_hu(ct) == 0
    corner = ct.data[:8, :8, -8:]
    assert corner.mean() == pytest.approx(-1000, abs=5)
    assert corner.std() == pytest.approx(12, rel=0.2)
    middle = np.rint(ct.grid.to_index([0, 0, 40])).astype(int)
    assert ct.data[tuple(slice(m - 4, m + 4) for m in middle)].mean() == pytest.approx(40, abs=10)
    found = segment_bone(ct).bone
    truth = scan(Head(20), None, (2.5, 2.5, 2.5))
    assert dice(found, Head(20).on(ct.grid)) > 0.9
    assert found.volume_ml == pytest.approx(truth.volume_ml, rel=0.15)
    again = synthesise_ct(bone, CtSpec(2.5, 2.5, 12.0, seed=5))
    assert np.array_equal(ct.data, again.data)


def test_a_ct_keeps_the_field_of_view():
    bone = HEAD.on(grid_around(POSE, (4.0, 4.0, 4.0), AXES), POSE)
    ct = synthesise_ct(bone, CtSpec(3.0, 5.0, 0.0))
    assert ct.grid.spacing_mm == pytest.approx((3.0, 3.0, 5.0))
    np.testing.assert_allclose(ct.grid.to_world([-0.5] * 3), bone.grid.to_world([-0.5] * 3))
    ends = bone.grid.to_index(ct.grid.to_world(np.array(ct.shape) - 0.5)) - (np.array(bone.shape) - 0.5)
    assert (ends <= 1e-6).all()
    assert (ends > -2).all()


def test_a_ct_needs_a_head():
    nothing = Volume(np.zeros((20, 20, 20), bool), Grid.isotropic((20, 20, 20), 3.0))
    with pytest.raises(InputError, match=r"too little bone for a head around it: 0\.0 ml"):
        synthesise_ct(nothing, CtSpec())
    for bad in ((0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, -1.0)):
        with pytest.raises(InputError, match="positive voxels and noise of 0 HU or more"):
            CtSpec(*bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "at least one case"),
        ({"kinds": ("cube",)}, "kinds of defects are .*got cube"),
        ({"kinds": ()}, "got none"),
        ({"ct_share": 1.5}, "from 0 to 1"),
        ({"patch_share": float("nan")}, "from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(SimulationSettings(), **change)


def test_cases_are_drawn_by_number_and_seed():
    settings = SimulationSettings(count=40, seed=3)
    cases = [sample_case(n, settings) for n in range(40)]
    assert cases == [sample_case(n, settings) for n in range(40)]
    assert {case.convention for case in cases} == set(CONVENTIONS)
    assert {case.defect_kind for case in cases} == set(DEFECT_KINDS)
    assert {case.as_mask for case in cases} == {case.with_patch for case in cases} == {True, False}
    assert {case.ct is None for case in cases} == {True, False}
    assert sample_case(0, replace(settings, seed=4)) != cases[0]
    bad = sample_case(41, settings, "shifted")
    assert (bad.id, bad.convention, bad.as_mask, bad.ct, bad.fault) == ("bad-shifted", "lps", False, None, "shifted")


COMPLETE = replace(HEAD, holes=())
COARSE = grid_around(POSE, (3.0, 3.0, 3.0), AXES)


@pytest.fixture
def skulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SkullCase]:
    """Two files of one person and one of another; frames are known, and defects are those of `tests.heads`."""
    from calvaria.io import write_volume

    write_volume(tmp_path / "complete.nrrd", COMPLETE.on(COARSE, POSE))
    monkeypatch.setattr(body, "STEP_MM", 1.0)
    monkeypatch.setattr(simulate_files, "STEP_MM", 1.5)
    for module in (simulate_set, simulate_files):
        monkeypatch.setattr(module, "locate", lambda mask: true_frame(HEAD, POSE))
    paths = {"a": "p", "b": "p", "c": "q"}
    return [SkullCase(name, person, tmp_path / "complete.nrrd") for name, person in paths.items()]


SMALL = SimulationSettings(count=2, seed=2, kinds=("parietotemporal",), ct_share=0, mask_share=0, patch_share=1)


def test_a_set_is_what_the_loader_reads(skulls, tmp_path):
    out = tmp_path / "out"
    cases = simulate_clinical(skulls, out, replace(SMALL, faults=True))
    assert [case.fault for case in cases] == ["", "", *FAULTS]
    table = read_table(out / "cases.csv")
    assert {row.id for row in table.rows} == {
        "sim-000",
        "sim-001",
        *(f"bad-{f}" for f in FAULTS if f not in ("empty-id", "duplicate-id", "missing-file")),
    }
    assert sorted(one.id for one in table.refused) == ["", "bad-duplicate-id", "bad-duplicate-id", "bad-missing-file"]
    assert table.rows[0].person in ("p", "q")
    text = (out / "README.txt").read_text()
    assert "CC BY-NC-SA 4.0" in text
    assert "SIMULATED" in text
    record = json.loads((out / "sim-000" / "simulated.json").read_text())
    assert record["simulated"] is True
    truth, bone = read_mask(out / "sim-000" / "truth" / "patch.nrrd"), read_mask(out / "sim-000" / "skull.nrrd")
    assert np.array_equal(truth.mask | bone.mask, COMPLETE.on(COARSE, POSE).mask)
    assert not (truth.mask & bone.mask).any()
    assert read_mesh(out / "bad-open-mesh" / "implant.stl", require_closed=False).open_edges > 0
    assert read_mask(out / "bad-no-calvaria" / "skull.nrrd").volume_ml < 0.7 * bone.volume_ml
    swollen, right = (read_mesh(out / f"bad-{f}" / "implant.stl").volume_ml for f in ("overlapping", "missing-file"))
    assert swollen > right


@pytest.mark.parametrize("form", ["mesh", "mask", "ct"])
def test_an_implant_comes_in_the_form_that_is_asked_for(skulls, tmp_path, monkeypatch, form):
    monkeypatch.setattr(simulate_set, "sample_ct", lambda rng: CtSpec(2.5, 2.5, 10.0))
    shares = {"mask_share": float(form == "mask"), "ct_share": float(form == "ct")}
    settings = replace(SMALL, **shares)
    cases = simulate_clinical(skulls, tmp_path / "out", settings)
    folder = tmp_path / "out" / cases[1].id
    scan_grid = read_volume(folder / "skull.nrrd").grid
    truth = read_mask(folder / "truth" / "implant.nrrd")
    if form == "mask":
        assert read_mask(folder / "implant.nii.gz").grid.same_as(truth.grid, 1e-3)
        return
    assert cases[1].convention == "ras"
    assert b"SPACE" not in (folder / "implant.stl").read_bytes()[:80]
    mesh = read_mesh(folder / "implant.stl").moved(mesh_conventions(scan_grid)["ras"])
    assert dice(Volume(inside(mesh, truth.grid), truth.grid), truth) > 0.99
    assert (ct_offset_hu(read_volume(folder / "skull.nrrd")) == 0) == (form == "ct")


def test_a_set_goes_on_where_it_was_and_is_the_same_again(skulls, tmp_path, monkeypatch):
    calls = []
    make = simulate_set.make_files

    def counted(folder, case, *rest):
        if len(calls) == 1:
            calls.append("interrupted")
            raise KeyboardInterrupt
        calls.append(case.id)
        return make(folder, case, *rest)

    monkeypatch.setattr(simulate_set, "make_files", counted)
    with pytest.raises(KeyboardInterrupt):
        simulate_clinical(skulls, tmp_path / "out", SMALL)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sim-000"]
    simulate_clinical(skulls, tmp_path / "out", SMALL)
    assert calls == ["sim-000", "interrupted", "sim-001"]
    simulate_clinical(skulls, tmp_path / "again", SMALL)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()}
        for folder in (tmp_path / "out", tmp_path / "again")
    )
    assert first == second
    simulate_clinical(skulls, tmp_path / "out", replace(SMALL, seed=9))
    assert calls[-2:] == ["sim-000", "sim-001"]  # other parameters: made anew


def test_skulls_are_rescaled_to_a_population(skulls, tmp_path):
    frame = true_frame(HEAD, POSE)
    own = proportions(COMPLETE.on(COARSE, POSE), frame)
    target = population([Proportions(own.length_mm * 1.1, own.breadth_mm * 0.9, own.height_mm)])
    simulate_clinical(skulls, tmp_path / "out", replace(SMALL, count=1), target=target)
    record = json.loads((tmp_path / "out" / "sim-000" / "simulated.json").read_text())
    np.testing.assert_allclose(record["made_from"]["factors"], [0.9, 1.1, 1.0], rtol=1e-4)
    np.testing.assert_allclose(record["scale"], frame.scale * [0.9, 1.1, 1.0], atol=1e-3)
    truth = read_mask(tmp_path / "out" / "sim-000" / "truth" / "patch.nrrd")
    assert truth.grid.voxel_volume_mm3 == pytest.approx(COARSE.voxel_volume_mm3 * 0.99, rel=1e-4)


def test_a_set_needs_complete_skulls_and_a_folder(skulls, tmp_path):
    with pytest.raises(InputError, match="no complete skull"):
        simulate_clinical([SkullCase("t", "t")], tmp_path / "out", SMALL)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="this folder cannot be made"):
        simulate_clinical(skulls, tmp_path / "file" / "out", SMALL)


def test_every_person_is_used_once_before_any_is_used_again(skulls, tmp_path):
    assert sorted(case.id for case in simulate_set._chosen(skulls, SMALL)) == ["a", "c"]
