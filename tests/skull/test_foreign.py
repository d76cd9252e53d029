"""Metal, implants, flaps and loose pieces in made-up heads and in simulated CTs of real skulls."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.skull.foreign_phantoms import AXIS, Phantom

from calvaria.io import read_mask, read_volume
from calvaria.io.dicom import read_dicom
from calvaria.skull.foreign.find import without_foreign
from calvaria.skull.foreign.pieces import ForeignPiece
from calvaria.skull.segment import Segmentation, segment_bone
from calvaria.synthesis.scanner import Scanner, scan, tissue_hu
from calvaria.volume import Grid, Volume, bounding_box, resample_mask

THROUGH_MM = 7.5
"""Below the vault."""


def share(found: Segmentation, where: np.ndarray) -> float:
    """How much of a region is bone."""
    return float(found.bone.mask[where].mean())


class TestOrdinaryHeads:
    @pytest.mark.parametrize("noise", [10.0, 60.0])
    @pytest.mark.parametrize(
        ("spacing", "thick_mm"), [((1.2, 1.2, 1.2), 0), ((1.2, 1.2, 4.0), 0), ((1.2, 1.2, 1.0), 5)]
    )
    def test_nothing_is_said_and_nothing_taken(self, spacing, thick_mm, noise):
        ct = Phantom(spacing).scan(noise, thick_mm)
        whole, cut = segment_bone(ct), segment_bone(ct, 250.0)
        assert whole.notes == ()
        assert whole.foreign == ()
        assert without_foreign(ct, cut.bone, 0.0).bone is cut.bone

    def test_an_open_hole_is_no_matter(self):
        head = Phantom()
        found = segment_bone(head.fill(head.hole(), 38.0).scan())
        assert found.notes == ()
        assert share(found, head.hole(30)) < 0.05

    def test_the_real_patient_s_vault_is_left_alone(self, real_data: Path):
        ct = read_volume(real_data / "clinical-ct" / "cranium.nrrd")
        found = segment_bone(ct)
        assert found.notes == ()
        assert found.foreign == ()
        cut = segment_bone(ct, 250.0).bone
        assert without_foreign(ct, cut, 0.0).bone is cut


class TestMetal:
    def plated(self) -> Phantom:
        head = Phantom()
        head.fill(head.hole(), 38.0)
        return head.fill((head.depth > -1.6) & (head.depth <= 0) & (head.aside < 44), 5000.0)

    def test_a_plate_over_a_hole_is_taken_out_and_the_bone_beside_stays(self):
        head = self.plated()
        found = segment_bone(head.scan())
        (piece,) = (one for one in found.foreign if one.kind == "metal")
        (note,) = found.notes
        assert "as dense as metal (over 2000 HU; left, back, upper part;" in note
        assert "were taken out of the bone, with the bloom" in note
        assert not piece.counted
        assert np.linalg.norm(np.cross(piece.centre_mm, AXIS)) < 5
        assert share(found, (head.depth > -4) & (head.depth < 10) & (head.aside < 28)) < 0.02
        assert share(found, (head.depth > 2) & (head.depth < 6) & (head.aside > 38) & (head.aside < 44)) > 0.95

    def test_it_is_kept_where_the_threshold_was_chosen(self):
        head = self.plated()
        found = segment_bone(head.scan(), 250.0)
        assert found.foreign[0].counted
        assert "were counted as bone: if it is an implant or a plate, take it out" in found.notes[0]
        assert share(found, (head.depth > -1.6) & (head.depth <= 0) & (head.aside < 40)) > 0.95

    def test_a_screw_in_bone_leaves_no_hole(self):
        head = Phantom()
        found = segment_bone(head.fill((head.aside < 2.2) & (head.depth > -1.5) & (head.depth < 6), 5000.0).scan())
        assert share(found, (head.aside < 2.2) & (head.depth > 1) & (head.depth < 6)) == 1

    def test_pins_and_a_ring_outside_of_the_head_go(self):
        head = Phantom()
        head.fill((head.aside < 2.5) & (head.depth < 1.5) & (head.depth > -25), 5000.0)
        ring = (head.aside < 12) & (head.depth < -18) & (head.depth > -24) & (head.aside > 2)
        found = segment_bone(head.fill(ring, 900.0).scan())
        assert share(found, ring) == 0
        assert share(found, head.bone) > 0.95

    def test_a_drain_and_a_lead_leave_the_vault_as_it_is(self):
        head = Phantom()
        plain = segment_bone(head.scan()).bone
        head.fill((head.aside < 1.6) & (head.depth < 60) & (head.depth > THROUGH_MM), 450.0)
        found = segment_bone(head.scan())
        assert not any("implant" in note or "flap" in note for note in found.notes)
        assert np.count_nonzero(found.bone.mask ^ plain.mask) < 1e-3 * np.count_nonzero(plain.mask) + 400


class TestImplants:
    @pytest.mark.parametrize("hu", [130.0, 220.0, 400.0, 600.0])
    def test_a_plastic_plate_in_the_hole_is_taken_out(self, hu):
        head = Phantom()
        found = segment_bone(head.fill(head.hole(), hu).scan())
        (piece,) = found.foreign
        (note,) = found.notes
        assert piece.kind == "implant"
        assert piece.hu == pytest.approx(hu, rel=0.06)
        assert piece.area_cm2 == pytest.approx(np.pi * 3.4**2, rel=0.3)
        assert "lies in the vault: taken out of the bone" in note
        assert "its hole is to be filled" in note
        assert share(found, head.hole(29)) < 0.03
        assert share(found, head.bone & (head.aside > 42)) > 0.95

    def test_with_bubbles_of_air_it_is_still_one(self):
        head = Phantom()
        head.fill(head.hole(), 500.0)
        rng = np.random.default_rng(4)
        for centre in head.points[head.hole(30)][rng.integers(0, head.hole(30).sum(), 8)]:
            head.fill(np.linalg.norm(head.points - centre, axis=-1) < 1.5, -800.0)
        found = segment_bone(head.scan())
        assert [one.kind for one in found.foreign] == ["implant"]
        assert share(found, head.hole(28)) < 0.1

    def test_it_is_kept_where_the_threshold_was_chosen(self):
        head = Phantom()
        found = segment_bone(head.fill(head.hole(), 600.0).scan(), 250.0)
        assert "counted as bone where it is denser than the threshold" in found.notes[0]
        assert share(found, head.hole(29)) > 0.95

    def test_thin_bone_of_low_density_is_none(self):
        head = Phantom()
        thin = head.bone & (head.aside < 30)
        # A squama: half as thick, density falling smoothly to its middle.
        head.fill(thin & (head.depth > 3), 38.0)
        head.hu[thin & (head.depth <= 3)] *= (0.4 + 0.6 * (head.aside / 30))[thin & (head.depth <= 3)]
        found = segment_bone(head.scan())
        assert found.foreign == ()


class TestFlaps:
    def test_one_in_place_is_told_and_counted(self):
        head = Phantom((1.2, 1.2, 1.2)).flap(32, 2.5)
        found = segment_bone(head.scan())
        (piece,) = found.foreign
        (note,) = found.notes
        assert note.startswith("a bone flap lies in place (")
        assert note.endswith("counted as skull")
        assert piece.kerf_mm == pytest.approx(2.5, abs=0.8)
        assert abs(piece.shift_mm or 0) < 1.5
        assert share(found, head.hole(28)) > 0.95

    def test_one_in_place_that_is_not_connected_is_put_back(self):
        head = Phantom((1.2, 1.2, 1.2)).flap(32, 5.5)
        found = segment_bone(head.scan())
        assert found.notes[0].startswith("a bone flap lies in place (")
        assert share(found, head.hole(30)) > 0.9
        assert share(segment_bone(head.scan(), 250.0), head.hole(30)) == 0  # a chosen threshold changes nothing

    def test_a_loose_one_outside_is_taken_out(self):
        head = Phantom((1.2, 1.2, 1.2)).flap(32, 3.0, 7.0)
        found = segment_bone(head.scan())
        (piece,) = found.foreign
        assert not piece.counted
        assert (piece.shift_mm or 0) > 4
        assert "from the vault's curve (outside), tilted by" in found.notes[0]
        assert found.notes[0].endswith("left out of the skull, its hole is to be filled")
        assert share(found, (head.depth > -9) & (head.depth < 10) & (head.aside < 28)) < 0.02

    @pytest.mark.parametrize("shift", [-5.0, -8.0])
    def test_a_sunk_one_is_told(self, shift):
        found = segment_bone(Phantom((1.2, 1.2, 1.2)).flap(32, 2.0, shift).scan())
        (piece,) = found.foreign
        assert piece.shift_mm == pytest.approx(shift, abs=1.8)
        assert "from the vault's curve (inside), tilted by" in found.notes[0]

    def test_a_piece_that_is_not_connected_is_told(self):
        head = Phantom()
        head.fill(head.hole(36), 38.0)
        head.fill((head.depth > 0) & (head.depth < 5) & (head.aside < 13), 1100.0)
        found = segment_bone(head.scan())
        assert any("is not connected to the skull: left out of the skull" in note for note in found.notes) or any(
            note.startswith("a bone flap") for note in found.notes
        )


class TestDoubts:
    def test_values_that_were_cut_are_told(self):
        ct = Phantom().scan()
        (note,) = segment_bone(ct.with_data(np.minimum(ct.data, 1000))).notes
        assert note.startswith("the values are cut at 1000 HU (")

    def test_bone_of_low_density_is_told(self):
        head = Phantom()
        head.hu[head.bone] *= 0.36
        notes = segment_bone(head.scan()).notes
        assert any(note.startswith("the vault is thin or of low density (highest values of") for note in notes)

    def test_a_child_s_head_is_told(self):
        ct = Phantom().scan()
        small = Volume(ct.data, Grid(ct.shape, np.diag([0.8, 0.8, 0.8, 1.0]) @ ct.affine))
        (note,) = segment_bone(small).notes
        assert "adults' 74 to 86: a child's head is completed by a model of adult ones" in note


def test_a_piece_is_ready_for_json():
    piece = ForeignPiece("flap", 12.345, 40.0, (1.04, 2.0, 3.0), counted=True, shift_mm=-3.456)
    assert json.loads(json.dumps(piece.record())) == {
        "kind": "flap",
        "ml": 12.35,
        "area_cm2": 40.0,
        "centre_mm": [1.0, 2.0, 3.0],
        "counted": True,
        "shift_mm": -3.46,
    }


@pytest.fixture(scope="module")
def head(real_data: Path) -> tuple[Volume, Volume]:
    mask = read_mask(real_data / "autoimplant2020" / "training_set" / "complete_skull" / "004.nrrd")
    box = bounding_box(mask.mask)
    assert box is not None
    corners = mask.crop(box).grid.corners_mm()
    low, high = corners.min(axis=0) - 12, corners.max(axis=0) + 12
    low[2] = max(low[2], high[2] - 150)
    i, j, k = (int(n) for n in np.ceil(high - low))
    skull = resample_mask(mask, Grid.isotropic((i, j, k), 1.0, low))
    tissue = tissue_hu(skull, np.random.default_rng(4))
    return resample_mask(skull, tissue.grid), tissue


class TestRealSkulls:
    """Simulated CTs of real skulls, 2 mm slices."""

    @pytest.mark.parametrize("kernel", ["soft", "sharp"])
    def test_an_intact_one_is_left_alone(self, head, kernel):
        ct = scan(head[1], Scanner(2.0, pixel_mm=0.9, kernel=kernel), np.random.default_rng(0))
        found = segment_bone(ct)
        assert found.foreign == ()
        assert found.notes == ()

    def test_a_plastic_plate_is_taken_out(self, head):
        skull, tissue = head
        points = skull.grid.centres_mm()
        bone = points[skull.mask]
        middle = (bone.min(axis=0) + bone.max(axis=0)) / 2
        place = bone[np.argmax((bone - middle) @ AXIS)]
        hole = skull.mask & (np.linalg.norm(points - place, axis=-1) < 34)
        hu = tissue.data.copy()
        hu[hole] = 450
        ct = scan(tissue.with_data(hu), Scanner(2.0, pixel_mm=0.9), np.random.default_rng(0))
        found = segment_bone(ct)
        assert [one.kind for one in found.foreign] == ["implant"]
        gone = resample_mask(skull.with_data(hole), ct.grid).mask
        assert share(found, gone) < 0.3
        assert share(segment_bone(ct, 250.0), gone) > 0.9


def test_the_replica_is_a_dry_skull_without_anything_foreign(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    with zipfile.ZipFile(real_data / "dicom" / "tilted.zip") as packed:
        packed.extractall(tmp_path)
    found = segment_bone(read_dicom(tmp_path).volume, stated=True)
    assert found.foreign == ()
    assert (
        "there is no head of soft tissue: taken for a dry skull or a replica, its largest piece is used" in found.notes
    )
