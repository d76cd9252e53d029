"""Deformations of a cache's skulls as they are stored, and the new heads that they make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tests.synthesis.shells import cache_of, deformations_of

from calvaria.datasets.cache import SkullCache
from calvaria.errors import FormatError, InputError
from calvaria.synthesis.between import (
    FORMAT,
    Blend,
    Deformations,
    build_deformations,
    deformation_grids,
    mean_skull,
    mirror,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> SkullCache:
    return cache_of(tmp_path_factory.mktemp("cache"))


def write(path: Path, shape: tuple[int, ...], layout: str = FORMAT) -> Path:
    """A file of one skull's deformation, all zeros."""
    arrays = {"velocity": np.zeros(shape, np.int8), "step_mm": np.ones(1, np.float32)}
    arrays["misfit_mm"] = np.zeros(1, np.float32)
    save_file(arrays, path, metadata={"calvaria": json.dumps({"format": layout, "ids": ["train-0"]})})
    return path


def test_the_form_of_its_own_leaves_a_head_where_it_is(cache: SkullCache, tmp_path: Path) -> None:
    forms = deformations_of(tmp_path, cache)
    own = forms.displacement([Blend(1, (1,), (False,), (1.0,))])
    other = forms.displacement([Blend(1, (1, 2), (False, False), (0.0, 1.0))])
    assert own.grid is deformation_grids().flow
    assert tuple(own.values_mm.shape) == (1, 3, *own.grid.shape)
    inner = (np.abs(own.grid.centres_mm()) < 45).all(axis=-1)
    assert float(own.values_mm[0][:, inner].abs().max()) < 0.05
    assert float(other.values_mm[0][:, inner].abs().max()) > 2.0  # 5 and -4 % wider


def test_blends_of_several_heads_are_those_of_each(cache: SkullCache, tmp_path: Path) -> None:
    forms = deformations_of(tmp_path, cache)
    blends = [Blend(0, (0, 1), (False, True), (0.4, 0.6)), Blend(2, (2, 3), (False, False), (0.7, 0.3))]
    both = forms.displacement(blends).values_mm
    for row, blend in enumerate(blends):
        torch.testing.assert_close(both[row : row + 1], forms.displacement([blend]).values_mm)


def test_mirroring_twice_is_nothing() -> None:
    field = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mirror(mirror(field)), field)
    assert not torch.equal(mirror(field), field)


def test_the_mean_skull_is_known_everywhere_and_symmetric() -> None:
    mean = mean_skull()
    assert tuple(mean.distance_mm.shape[2:]) == deformation_grids().flow.shape
    assert bool((mean.known == 1).all())
    assert float(mean.distance_mm.min()) < 0 < float(mean.distance_mm.max())
    torch.testing.assert_close(mean.distance_mm, mean.distance_mm.flip(2), atol=1e-3, rtol=0)
    assert bool(((mean.bone > 0.5) == (mean.distance_mm < 0)).all())


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((1, 3, 4, 5, 6), FORMAT, r"velocities of \(1, 3, 4, 5, 6\) where \(1, 3, 20, 25, 17\) are wanted"),
        ((2, 3, 20, 25, 17), FORMAT, r"velocities of \(2, 3, 20, 25, 17\) where \(1, 3, 20, 25, 17\) are wanted"),
        ((1, 3, 20, 25, 17), "forms-0", "layout 'forms-0', this version reads 'calvaria-deformations-1'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(shape: tuple[int, ...], layout: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "forms.safetensors", shape, layout)
    with pytest.raises(FormatError, match=rf"forms.safetensors: no deformations \({message}\); make them anew"):
        Deformations(path)


def test_a_missing_file_and_a_wrong_name_are_refused(cache: SkullCache, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; make it with: calvaria data deformations"):
        Deformations(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"the file's name ends in \.safetensors"):
        build_deformations(cache.path, tmp_path / "forms.npz")
