"""Heads of the training grid with nothing but a vault: ellipsoids of bone, open below; and caches of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from calvaria.datasets.cache import FILLING, Entry, Item, SkullCache, boxed, pack, training_grid, write_cache
from calvaria.synthesis.between import FORMAT, Deformations, deformation_grids

HALF_AXES_MM = np.array([70.0, 88.0, 70.0])


@cache
def points_mm() -> np.ndarray:
    """(I, J, K, 3) of the training grid."""
    return training_grid().centres_mm()


def head(scale: Sequence[float] = (1.0, 1.0, 1.0), wall_mm: float = 7.0) -> np.ndarray:
    """A shell about the middle of the head."""
    points = points_mm() - [0.0, 0.0, 5.0]
    axes = HALF_AXES_MM * scale
    outer, inner = (np.sqrt(((points / half) ** 2).sum(axis=-1)) for half in (axes, axes - wall_mm))
    return (outer < 1) & (inner > 1) & (points[..., 2] > -50)


@cache
def hole() -> np.ndarray:
    """A box at the back of the vault."""
    points = points_mm()
    return (np.abs(points[..., 0]) < 25) & (points[..., 1] > 40) & (points[..., 2] > 25)


def cache_of(folder: Path) -> SkullCache:
    """Three complete skulls, the first two with an official patch, and one with a hole and no truth."""
    bones = [head(), head((1.05, 0.97, 1.02)), head((0.96, 1.03, 1.0)), head((1.02, 1.0, 0.98))]
    items = [Item(Entry(f"train-{n}", f"train-{n}", True, f"key-{n}"), np.eye(4), {}, None) for n in range(3)]
    for n in (0, 1):
        items[n].patches["official"] = boxed(bones[n] & hole())
    filling = bones[3] & hole()
    hidden = hole() & ~(bones[3] & ~hole())
    items.append(Item(Entry("test-3", "test-3", False, "key-3"), np.eye(4), {FILLING: boxed(filling)}, boxed(hidden)))
    bones[3] &= ~hole()
    write_cache(folder / "cache.safetensors", items, (pack(bone) for bone in bones), 1)
    return SkullCache(folder / "cache.safetensors")


def deformations_of(folder: Path, cache: SkullCache) -> Deformations:
    """A stretch of its own for each skull of a cache."""
    points = np.moveaxis(deformation_grids().lattice.centres_mm(), -1, 0)
    stretch = np.array([[0.0, 0.0, 0.0], [0.05, -0.03, 0.02], [-0.04, 0.03, 0.0], [0.02, 0.0, -0.02]])
    fields = [one[:, None, None, None] * points for one in stretch]
    step = np.array([max(np.abs(f).max(), 1e-3) / 127 for f in fields], np.float32)
    codes = np.ascontiguousarray(  # safetensors writes the memory as it lies
        np.stack([np.round(f / s).astype(np.int8) for f, s in zip(fields, step, strict=True)])
    )
    about = {"format": FORMAT, "ids": [entry.id for entry in cache.entries]}
    arrays = {"velocity": codes, "step_mm": step, "misfit_mm": np.zeros(len(step), np.float32)}
    save_file(arrays, folder / "forms.safetensors", metadata={"calvaria": json.dumps(about)})
    return Deformations(folder / "forms.safetensors")
