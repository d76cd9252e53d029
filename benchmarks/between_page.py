"""One page of skulls between skulls: each row one person's bone, in the form of blends of several people's.

Usage: ``python benchmarks/between_page.py CACHE DEFORMATIONS PAGE.png [--rows 3] [--columns 6] [--seed 1]``. The first
picture of a row is the person as scanned; the others say whose forms were blended, in percent; m: the mirror image.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.report import Layer, View, render_surfaces
from calvaria.synthesis.augmentation.augment import Augmentation, apply_geometry
from calvaria.synthesis.between import Blend, Deformations, sample_blend
from calvaria.volume import Volume

BONE, INK = (224, 216, 198), (232, 234, 238)
CELL_PX, HEAD_MM = 260, 220.0
VIEW = View("from the front left", (-0.75, 1.0, -0.35))

Picture = NDArray[np.uint8]


def cell(bone: NDArray[np.bool_], cache: SkullCache, text: str) -> Picture:
    """A skull, with two lines of text below."""
    picture = render_surfaces([Layer(Volume(bone, cache.grid), BONE)], VIEW, CELL_PX, span_mm=HEAD_MM)
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((6, CELL_PX - 30), text, fill=INK)
    return np.asarray(image)


def made(cache: SkullCache, forms: Deformations, blend: Blend, row: int) -> NDArray[np.bool_]:
    """The skull of a blend."""
    bone = torch.from_numpy(cache.bone(row))[None]
    return apply_geometry(bone, cache.grid, [Augmentation()], None, forms.displacement([blend]))[0][0].numpy()


def main() -> None:
    """Draw the page."""
    parser = argparse.ArgumentParser(description="one page of skulls between skulls")
    parser.add_argument("cache", type=Path)
    parser.add_argument("deformations", type=Path)
    parser.add_argument("page", type=Path, help="the picture, .png")
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cache, forms = SkullCache(options.cache), Deformations(options.deformations)
    rng = np.random.default_rng(options.seed)
    people = [cache.entries[n].id for n in cache.index_of(load_split().train) if cache.entries[n].complete]
    rows = forms.rows_of(people)
    picture = []
    for person in rng.choice(sorted(rows), options.rows, replace=False):
        at = cache.index_of([str(person)])[0]
        line = [cell(cache.bone(at), cache, str(person))]
        for _ in range(options.columns - 1):
            blend = sample_blend(rng, rows[str(person)], list(rows.values()), 0.3)
            parts = zip(blend.rows, blend.mirrored, blend.weights, strict=True)
            names = [f"{100 * w:.0f} {forms.ids[r].removeprefix('train-')}{'m' * m}" for r, m, w in parts]
            text = " + ".join(names[:2]) + ("\n + " + " + ".join(names[2:]) if names[2:] else "")
            line.append(cell(made(cache, forms, blend, at), cache, text))
        picture.append(np.concatenate(line, axis=1))
    Image.fromarray(np.concatenate(picture)).save(options.page)


if __name__ == "__main__":
    sys.exit(run_while_read(main))
