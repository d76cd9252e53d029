"""One page of training cases as a network gets them: what it sees in grey, what it should answer in orange.

Usage: ``python benchmarks/cases_page.py CACHE PAGE.png [--deformations FILE] [--rows 4] [--columns 6] [--seed 1]``.
Where no loss counts, since bone may be missing unseen, is drawn in blue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.report import Layer, render_surfaces
from calvaria.report.views import view_onto
from calvaria.synthesis.batched.cases import CaseMaker
from calvaria.synthesis.between import Deformations
from calvaria.volume import Volume

BONE, PATCH, UNKNOWN, INK = (224, 216, 198), (240, 134, 46), (96, 150, 220), (232, 234, 238)
CELL_PX, HEAD_MM = 260, 225.0


def main() -> None:
    """Draw the page."""
    parser = argparse.ArgumentParser(description="one page of training cases")
    parser.add_argument("cache", type=Path)
    parser.add_argument("page", type=Path, help="the picture, .png")
    parser.add_argument("--deformations", type=Path)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cache = SkullCache(options.cache)
    forms = Deformations(options.deformations) if options.deformations else None
    maker = CaseMaker(cache, load_split().train, deformations=forms, seed=options.seed)
    cells = []
    for number in range(options.rows * options.columns):
        cases = maker.make([number])
        shown, patch, unknown = (
            Volume(mask[0, 0].numpy() > 0, cache.grid)
            for mask in (cases.shown, cases.patch, (1 - cases.weight) * cases.complete)
        )
        view = view_onto(patch, shown, np.eye(3))
        layers = [Layer(shown, BONE), Layer(patch, PATCH), Layer(unknown, UNKNOWN)]
        image = Image.fromarray(render_surfaces(layers, view, CELL_PX, span_mm=HEAD_MM))
        ImageDraw.Draw(image).text((6, 6), f"{cache.entries[cases.rows[0]].id} {cases.kinds[0]}", fill=INK)
        cells.append(np.asarray(image))
    lines = [np.concatenate(cells[n : n + options.columns], axis=1) for n in range(0, len(cells), options.columns)]
    Image.fromarray(np.concatenate(lines)).save(options.page)


if __name__ == "__main__":
    sys.exit(run_while_read(main))
