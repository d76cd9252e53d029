"""Sizes and proportions that no adult's head has: refused, doubted, or taken."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.heads import SIDE, Head, family_template, scan

from calvaria.errors import InputError
from calvaria.io import read_mask
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.skull.checks import require_adult, require_head_sized, size_doubts
from calvaria.volume import Grid, Volume

GRID = Grid((200, 200, 100), np.diag([0.5, 0.5, 1.25, 1.0]))


def frame(x: float, y: float, z: float) -> CanonicalFrame:
    return CanonicalFrame(np.eye(4), np.array([x, y, z]), 0.05, ())


def stretched(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """The same voxels with their spacing along each axis multiplied, as a wrong header has it."""
    affine = volume.affine.copy()
    affine[:3, :3] *= np.array(factors)
    return Volume(volume.data, Grid(volume.shape, affine))


class TestSizes:
    def test_a_usual_head_is_not_doubted(self):
        require_adult(frame(1, 1, 1), GRID)
        assert size_doubts(frame(1, 1, 1), GRID) == ()

    @pytest.mark.parametrize(
        ("scale", "said"),
        [
            (
                (1, 1, 0.8),
                r"for its length and width the head is 0\.80 times as high as the mean \(heads have 0\.89 to 1",
            ),
            ((1, 1, 1.2), r"is 1\.20 times as high"),
            ((1.1, 0.9, 1), r"for its length the head is 1\.22 times as wide as the mean"),
            (
                (0.8, 0.8, 0.8),
                r"the head measures 110 x 147 x 95 mm \(width, length, height above the ears\), known adult",
            ),
            ((1.2, 1.2, 1.2), r"the head measures 165 x 220 x 142 mm"),
        ],
    )
    def test_an_unusual_one_is_and_the_spacing_named(self, scale, said):
        require_adult(frame(*scale), GRID)
        (line,) = size_doubts(frame(*scale), GRID)
        assert re.search(said, line)
        assert "check the voxel spacing (0.5 x 0.5 x 1.25 mm)" in line

    @pytest.mark.parametrize("scale", [(1, 1, 0.5), (1, 1, 1.7), (0.6, 0.6, 0.6), (2, 2, 1.6), (0.6, 1, 0.8)])
    def test_an_impossible_one_is_refused(self, scale):
        with pytest.raises(
            InputError,
            match=r"the head measures \d+ x \d+ x \d+ mm .* check the voxel spacing \(0\.5 x 0\.5 x 1\.25 mm\)",
        ):
            require_adult(frame(*scale), GRID)


class TestReach:
    def test_bone_that_reaches_farther_than_a_head_and_neck_is_refused(self):
        body = Volume(np.ones((30, 20, 80), bool), Grid.isotropic((30, 20, 80), 10.0))
        with pytest.raises(InputError, match=r"reaches over 300 x 200 x 800 mm.*crop the scan to the head"):
            require_head_sized(body)

    def test_bone_that_is_smaller_than_any_head_is_refused(self):
        small = Volume(np.ones((30, 20, 8), bool), Grid.isotropic((30, 20, 8), 2.0))
        with pytest.raises(InputError, match=r"reaches over 60 x 40 x 16 mm only.*spacing \(2 x 2 x 2 mm\)"):
            require_head_sized(small)

    def test_a_head_is_taken(self):
        require_head_sized(Volume(np.ones((30, 40, 30), bool), Grid.isotropic((30, 40, 30), 5.0)))


class TestMadeUpHeads:
    @pytest.mark.parametrize("size", [0.6, 1.5, 2.0])
    def test_the_size_is_measured_far_from_the_mean_skulls(self, size):
        head = scan(Head(21, (SIDE,)))
        usual = locate(head, family_template())
        found = locate(stretched(head, (size, size, size)), family_template())
        np.testing.assert_allclose(found.scale / usual.scale, size, rtol=0.03)
        with pytest.raises(InputError, match="adult ones"):
            require_adult(found, head.grid)

    @pytest.mark.parametrize("factor", [0.7, 0.8])
    def test_slices_too_near_are_doubted(self, factor):
        head = scan(Head(21, (SIDE,)))
        assert size_doubts(locate(head, family_template()), head.grid) == ()
        squeezed = stretched(head, (1, 1, factor))
        assert any("times as high" in line for line in size_doubts(locate(squeezed, family_template()), squeezed.grid))


@pytest.mark.parametrize("number", ["009", "012", "047"])
class TestRealSkulls:
    def test_wrong_headers_are_told(self, real_data: Path, number: str) -> None:
        skull = read_mask(real_data / "autoimplant2020" / "training_set" / "complete_skull" / f"{number}.nrrd")
        assert size_doubts(locate(skull), skull.grid) == ()
        for factors in ((1, 1, 0.7), (1, 1, 0.8), (1, 1, 1.2), (0.8, 0.8, 0.8), (1.2, 1.2, 1.2)):
            wrong = stretched(skull, factors)
            found = locate(wrong)
            require_adult(found, wrong.grid)
            assert size_doubts(found, wrong.grid), factors
        for factors in ((1, 1, 0.5), (0.6, 0.6, 0.6), (2, 2, 2)):
            wrong = stretched(skull, factors)
            with pytest.raises(InputError, match="check the voxel spacing"):
                require_adult(locate(wrong), wrong.grid)
