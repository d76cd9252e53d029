"""What was given, and what accuracy to expect of it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import Head, dice, family_engine, scan
from tests.reconstruction.own_bone.parts import POSE, STEP, defective, done, surface, truth

from calvaria.errors import InputError
from calvaria.reconstruction.confidence import Confidence
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.own_bone.flap import FlapFit
from calvaria.reconstruction.own_bone.pre_op import PreOpFit
from calvaria.reconstruction.own_bone.scans import OwnBoneReport, OwnPatch, OwnScan, put_in
from calvaria.volume import Grid, Volume

SMALL = Volume(np.ones((2, 2, 2), bool), Grid.isotropic((2, 2, 2), 1.0))
ROWS = ((1.0, 0.0, 0.0, 0.0),)


def test_one_scan_is_taken_and_called_by_its_file():
    assert OwnScan.asked(None, None, None, refine=True) is None
    old, piece = OwnScan.asked(SMALL, None, None, refine=False), OwnScan.asked(None, SMALL, "a.stl", refine=False)
    assert old is not None
    assert piece is not None
    assert (old.which, old.name) == ("pre-op", "the scan from before")
    assert (piece.which, piece.name) == ("flap", "a.stl")


def test_both_or_a_refinement_beside_are_refused():
    with pytest.raises(InputError, match="give one of them; the first shows more"):
        OwnScan.asked(SMALL, SMALL, None, refine=False)
    with pytest.raises(InputError, match="not refined by symmetry: leave --refine out"):
        OwnScan.asked(SMALL, None, None, refine=True)


def patch_with(report: OwnBoneReport, *, empty: bool = False) -> OwnPatch:
    return OwnPatch(SMALL.with_data(SMALL.data & (not empty)), report, ())


def test_more_is_expected_of_own_bone_that_fits_better_and_of_more_of_it():
    def expected(mean_mm: float, share: float, engine: float | None) -> float:
        report = OwnBoneReport("pre-op", share, 1.0, PreOpFit(mean_mm, 0.3, 0.95, ROWS, 1.0, 1.0))
        found = patch_with(report).confidence(Confidence(engine, "engine's"))
        assert "are the patient's own bone" in found.reason
        assert found.expected_dsc is not None
        return found.expected_dsc

    assert expected(0.05, 1.0, None) > expected(0.3, 1.0, None) > 0.9
    assert expected(0.05, 1.0, 0.94) > expected(0.05, 0.5, 0.94) > 0.94
    assert expected(0.05, 0.5, 0.94) > expected(0.05, 0.5, None)


def test_a_wider_kerf_and_an_empty_patch_change_what_is_expected():
    def report(kerf_mm: float) -> OwnBoneReport:
        return OwnBoneReport("flap", 0.9, 0.8, FlapFit(kerf_mm, 2.0, 0.3, 0.8, 0.8, 0.0, ROWS))

    engine = Confidence(0.94, "engine's")
    narrow, wide = (patch_with(report(mm)).confidence(engine).expected_dsc for mm in (1.0, 3.0))
    assert narrow is not None
    assert wide is not None
    assert narrow > wide
    assert patch_with(report(1.0), empty=True).confidence(engine) == engine


def test_an_opening_that_own_bone_fills_is_none_that_is_left():
    mask = np.zeros((40, 40, 40), bool)
    mask[10:14, 10:14, 10:14] = True
    report = OwnBoneReport("pre-op", 1.0, 1.0, PreOpFit(0.1, 0.3, 0.95, ROWS, 1.0, 1.0))
    patch = OwnPatch(Volume(mask, Grid.isotropic(mask.shape, 1.0)), report, ())
    near, far, outside = (Hole(1.0, 1.0, centre) for centre in ((12.0, 12, 16), (30.0, 30, 30), (-50.0, 9, 9)))
    assert patch.unfilled((near, far, outside)) == (far, outside)
    assert patch.unfilled(()) == ()


def test_a_mask_from_before_is_put_in_and_doubts_are_told():
    own = OwnScan(scan(Head(22), POSE, STEP), "pre-op", "old.nrrd")
    found = put_in(own, family_engine().template, done(), surface(), defective(), min_hole_ml=5.0)
    assert dice(found.patch, truth()) > 0.96
    assert found.report.scan == "pre-op"
    assert found.notes == ()


def test_what_is_wrong_with_it_is_said_of_its_file():
    own = OwnScan(scan(Head(21), POSE, STEP), "pre-op", "old.nrrd")
    with pytest.raises(InputError, match=r"^old\.nrrd: this seems to be another person's"):
        put_in(own, family_engine().template, done(), surface(), defective(), min_hole_ml=5.0)
