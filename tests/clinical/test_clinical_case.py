"""One clinical case, from its files to the canonical frame, with everything that may be wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clinical.head import (
    FRAME,
    GRID,
    HEAD,
    POSE,
    implant,
    inside,
    known_frame,
    patch,
    skull,
    write_files,
)
from tests.heads import dice, grid_around, rigid

from calvaria.clinical import case as clinical_case
from calvaria.clinical import parts
from calvaria.clinical.case import ImportSettings, aligned_grid, load_case
from calvaria.clinical.simulate_ct import CtSpec, synthesise_ct
from calvaria.clinical.table import ClinicalRow
from calvaria.errors import InputError
from calvaria.io import write_mesh, write_volume
from calvaria.skull.canonical import CanonicalFrame, canonical_grid
from calvaria.volume import Grid, Mesh, Volume, dilate_mm, extract_surface, voxelise

COARSE = ImportSettings(1.6)


@pytest.fixture(autouse=True)
def _known_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clinical_case, "locate", known_frame)


@pytest.fixture
def row(tmp_path: Path) -> ClinicalRow:
    folder = write_files(tmp_path / "case")
    return ClinicalRow(2, "p1", folder / "skull.nrrd", "auto", folder / "implant.stl", folder / "patch.ply", "p1")


def alone(row: ClinicalRow, mesh: Mesh) -> ClinicalRow:
    """The case with another implant, and no patch."""
    assert row.implant is not None
    write_mesh(row.implant, mesh)
    return replace(row, patch=None)


def why(row: ClinicalRow, settings: ImportSettings = COARSE) -> str:
    with pytest.raises(InputError) as found:
        load_case(row, settings)
    return str(found.value)


@given(st.sampled_from([0.4, 0.8, 1.0, 1.6, 2.0]))
def test_the_aligned_grid_has_the_canonical_field(spacing):
    grid = aligned_grid(spacing)
    ends = grid.to_world(np.array([[-0.5] * 3, np.array(grid.shape) - 0.5]))
    np.testing.assert_allclose(ends, [[-102.4] * 3, [102.4] * 3], atol=spacing / 2 + 1e-9)
    np.testing.assert_allclose(ends.sum(axis=0), 0, atol=1e-9)  # mirror images are a flip


def test_at_the_canonical_spacing_it_is_the_canonical_grid():
    assert aligned_grid(1.6).same_as(canonical_grid())
    assert aligned_grid(0.4).shape == (512, 512, 512)


@pytest.mark.parametrize(
    "bad", [(0.1, 0.1), (5.0, 0.1), (float("nan"), 0.1), (0.8, 0.7), (0.8, -0.1), (0.8, 0.1, -1.0)]
)
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(InputError, match="is from 0"):
        ImportSettings(*bad)


@pytest.mark.parametrize("convention", ["lps", "ras", "box-flip", "index"])
def test_a_case_comes_into_the_canonical_frame(tmp_path, convention):
    folder = write_files(tmp_path / "case", convention)
    row = ClinicalRow(2, "p1", folder / "skull.nrrd", "auto", folder / "implant.stl", folder / "patch.ply", "p1")
    case = load_case(row, COARSE)
    world = aligned_grid(1.6).moved(POSE)
    assert dice(case.implant, Volume(inside(implant(), world), case.implant.grid)) > 0.97
    assert dice(case.patch, Volume(voxelise(extract_surface(patch()), world).mask, case.patch.grid)) > 0.97
    assert dice(case.defective, HEAD.on(aligned_grid(1.6))) > 0.9
    for part in (case.implant, case.patch):
        assert part.grid.same_as(case.defective.grid)
        assert not (part.mask & case.defective.mask).any()
    assert case.record["implant"]["convention"] == case.record["patch"]["convention"] == convention
    assert case.record["implant"]["form"] == "mesh"
    assert case.record["implant"]["sits"]["fit"] > 0.9
    np.testing.assert_allclose(case.record["pose"]["canonical_to_world"], FRAME.to_world, atol=1e-6)
    assert case.record["proportions"]["breadth_mm"] == pytest.approx(2 * 70 * FRAME.scale[0], abs=6)


def test_masks_are_placed_by_their_header_or_on_the_skulls_grid(row):
    body = Volume(inside(implant(), GRID), GRID)
    for grid, convention in ((GRID, "header"), (Grid.isotropic(GRID.shape, 1.0), "skull-grid")):
        path = row.skull.with_name("implant.nrrd")
        write_volume(path, body.with_data(body.mask) if grid is GRID else Volume(body.mask, grid))
        case = load_case(replace(row, implant=path, patch=None), COARSE)
        assert case.record["implant"]["convention"] == convention
        assert case.record["implant"]["form"] == "mask"
        assert dice(case.implant, Volume(inside(implant(), aligned_grid(1.6).moved(POSE)), case.implant.grid)) > 0.85
        assert case.patch is None


def test_a_ct_is_segmented(row):
    wide = HEAD.on(grid_around(POSE, (1.5, 1.5, 1.5)), POSE).pad((12, 12, 0), (12, 12, 12))
    write_volume(row.skull, synthesise_ct(wide, CtSpec(1.5, 1.5, 10.0)))
    case = load_case(replace(row, kind="ct"), COARSE)
    assert dice(case.defective, HEAD.on(aligned_grid(1.6))) > 0.85
    assert "a mask has two values, such as 0 and 1" in why(replace(row, kind="mask"))


def test_a_person_may_say_the_convention(row):
    assert load_case(replace(row, convention="lps"), COARSE).record["implant"]["convention"] == "lps"
    assert "by any of 1 conventions; best is ras" in why(replace(row, convention="ras"))
    assert "the convention 'left' is none of lps, ras, " in why(replace(row, convention="left"))


def test_what_lies_in_bone_is_cut_off_if_it_is_little(row):
    wide = dilate_mm(Volume(inside(implant(), GRID), GRID), 4.5)
    case = load_case(alone(row, extract_surface(wide)), ImportSettings(1.6, 0.5, 50.0))
    assert not (case.implant.mask & case.defective.mask).any()
    assert case.record["implant"]["cut_off_ml"] > 0.5
    assert "lay inside bone and were cut off" in case.warnings[0]
    assert "of it lie inside bone, at most 3 ml and 2% are accepted" in why(
        alone(row, extract_surface(wide)), ImportSettings(1.6, 0.02)
    )


def test_an_implant_elsewhere_is_refused_with_the_figures(row):
    shift = np.eye(4)
    shift[:3, 3] = 30 * FRAME.to_world[:3, 1]
    assert "implant.stl: does not sit in the hole" in why(alone(row, implant().moved(shift)))


def test_an_open_mesh_is_refused(row):
    half = implant().faces[len(implant().faces) // 3 :]
    assert "implant.stl: the mesh is open (" in why(alone(row, Mesh(implant().vertices_mm, half)))


def test_a_missing_triangle_is_put_in_and_said(row):
    case = load_case(alone(row, Mesh(implant().vertices_mm, implant().faces[1:])), COARSE)
    assert "the mesh was open (3 edges without a partner); small holes were closed" in case.warnings[0]


def test_a_surface_without_thickness_is_refused(row):
    flat = np.array([[0.0, 0, 0], [50, 0, 0], [0, 50, 0]])
    assert "encloses next to nothing" in why(alone(row, Mesh(flat, np.array([[0, 1, 2], [0, 2, 1]]))))


def test_a_volume_that_no_implant_has_is_refused(row, monkeypatch):
    monkeypatch.setattr(parts, "VOLUME_ML", (50.0, 400.0))
    assert "ml, 50 to 400 are accepted; check that it is the implant alone" in why(replace(row, patch=None))


def test_implant_and_patch_fill_one_hole(row, monkeypatch):
    other = voxelise(implant(), aligned_grid(1.6).moved(POSE)).mask
    masks = {
        "implant": Volume(other, aligned_grid(1.6)),
        "patch": Volume(np.roll(other, 40, axis=1), aligned_grid(1.6)),
    }

    class Named:
        name = "x.stl"

    with pytest.raises(InputError, match="only 0% of one lies at the other; they do not belong to the same hole"):
        clinical_case._require_together(masks, dict.fromkeys(masks, Named()))
    clinical_case._require_together({"implant": masks["implant"]}, {})


def test_a_skull_without_its_vault_is_refused(row):
    low = skull().with_data(skull().mask & (skull().grid.to_world(np.indices(GRID.shape).T).T[2] < 40))
    write_volume(row.skull, low)
    assert "of the vault is present, at least 40% is wanted" in why(row)


def test_an_empty_skull_is_refused(row):
    write_volume(row.skull, skull().with_data(np.zeros(GRID.shape, bool)))
    assert "skull.nrrd" in why(row)


def test_what_reaches_beyond_the_aligned_grid_is_said():
    grid = aligned_grid(1.6)
    mask = np.zeros(grid.shape, bool)
    mask[:10, 60:70, 60:70] = True
    bone = Volume(np.zeros(grid.shape, bool), grid)
    rest, warnings, removed_ml = clinical_case._without_bone(Volume(mask, grid), bone, "x.stl", COARSE)
    assert (rest.volume_ml, removed_ml) == (pytest.approx(4.096), 0.0)
    assert warnings == ("x.stl: it reaches the edge of the aligned grid and is cut off there",)


def test_a_pose_that_the_hole_misled_is_found_again(row, monkeypatch):
    wrong = CanonicalFrame(POSE @ rigid((0, 0, 25)), FRAME.scale, 0.2, ())
    given = [wrong, FRAME]
    monkeypatch.setattr(clinical_case, "locate", lambda mask: given.pop(0))
    case = load_case(row, COARSE)
    assert not given
    assert (
        case.warnings[0] == "the pose found with the hole was wrong by 25 degrees; found again in the completed skull"
    )
    assert case.record["implant"]["sits"]["fit"] > 0.9
    assert dice(case.defective, HEAD.on(aligned_grid(1.6))) > 0.9
