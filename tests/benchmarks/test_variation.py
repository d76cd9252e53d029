"""Modes of deformations: found again where they are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of, deformations_of

from calvaria.benchmarks import variation
from calvaria.benchmarks.variation import held_out, modes_of, surface_points
from calvaria.datasets.split import Split
from calvaria.deformation.flow import centres
from calvaria.deformation.registration import surface_of
from calvaria.synthesis.between import deformation_grids, mirror, skull_surface

GRIDS = deformation_grids()


@pytest.fixture(scope="module")
def family() -> torch.Tensor:
    """Twenty heads that differ in two ways: longer, and wider on one side."""
    x, y, _ = centres(GRIDS.lattice)
    longer = torch.stack([torch.zeros_like(x), 0.05 * y, torch.zeros_like(x)])
    uneven = torch.stack([0.03 * x.abs(), torch.zeros_like(x), torch.zeros_like(x)])
    weights = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32))
    return torch.einsum("nm,mcxyz->ncxyz", weights, torch.stack([longer, uneven]))


def test_two_ways_to_differ_are_two_modes(family: torch.Tensor, tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    mean = skull_surface(cache, 0)
    modes = modes_of(family, surface_points(mean, GRIDS), GRIDS)
    assert len(modes.variance) == 2
    assert modes.explaining(0.999) == 2
    assert modes.explaining(0.2) == 1
    off_mm = [held_out(modes, family[:1], mean, mean, count)[0] for count in (0, 1, 2)]
    assert off_mm[0] > off_mm[1] > off_mm[2]
    assert off_mm[2] < 0.01


def test_modes_know_mirror_images(family: torch.Tensor, tmp_path: Path) -> None:
    mean = skull_surface(cache_of(tmp_path), 0)
    modes = modes_of(family, surface_points(mean, GRIDS), GRIDS)
    mirrored = mirror(family[:1])
    # Nodes beyond the surface are not asked; within it the projection gives the mirrored head back.
    assert held_out(modes, mirrored, mean, mean, 2)[0] < 0.01


def test_the_table_names_its_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(tmp_path)
    split = Split(("train-0", "test-3"), ("train-1",), ("train-2",))
    monkeypatch.setattr(variation, "load_split", lambda name: split)
    monkeypatch.setattr(variation, "mean_skull", lambda: surface_of(cache.bone(0), cache.grid))
    lines = variation._lines(cache, deformations_of(tmp_path, cache), "any")
    assert lines[0] == "2 training persons and their mirror images, 2 persons held out"
    assert lines[-1].split()[0] == "own"
