"""The symmetry network that ships: the plane of the packaged sample and of real skulls, however they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calvaria.benchmarks.pose import placed
from calvaria.io import read_mask
from calvaria.symmetry.estimate import PlaneEstimate, estimate_plane
from calvaria.synthesis.sample import sample_case
from calvaria.volume import Volume, bounding_box

DEG, MM = 4.0, 2.0
"""How far the network may lie off the optimiser. On validation persons 95 % lie nearer (docs/symmetry.md)."""


def agreed(skull: Volume) -> PlaneEstimate:
    """What network and optimiser say together, after looking at how far the network alone is off."""
    both = estimate_plane(skull)
    assert both.apart_deg is not None
    assert both.apart_mm is not None
    assert both.apart_deg < DEG
    assert both.apart_mm < MM
    return both


def test_the_plane_of_the_packaged_sample_is_found_by_the_network_alone() -> None:
    defective, _ = sample_case()
    found = agreed(defective)
    assert found.trusted
    assert abs(found.plane.normal[0]) > 0.98  # the sample stands upright


def test_a_turned_sample_has_a_turned_plane() -> None:
    defective, _ = sample_case()
    turned, move = placed(defective, np.random.default_rng(3))
    there, here = agreed(turned), agreed(defective)
    assert there.plane.angle_deg(here.plane.moved(move)) < 1.0
    assert there.plane.apart_mm(here.plane.moved(move), there.centre_mm) < 1.0


@pytest.mark.parametrize("number", ["014", "027"])
def test_the_plane_of_a_real_skull_with_a_hole_is_that_of_the_complete_one(real_data: Path, number: str) -> None:
    folder = real_data / "autoimplant2020" / "training_set"
    complete, patch = (read_mask(folder / name / f"{number}.nrrd") for name in ("complete_skull", "implant"))
    box = bounding_box(complete.mask)
    assert box is not None
    complete, patch = complete.crop(box), patch.crop(box)
    whole, holed = agreed(complete), agreed(complete.with_data(complete.mask & ~patch.mask))
    assert whole.trusted
    assert holed.trusted
    assert holed.plane.angle_deg(whole.plane) < 1.5
    assert holed.plane.apart_mm(whole.plane, whole.centre_mm) < 1.0
