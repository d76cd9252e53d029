"""One page of synthetic defects on real skulls: every kind, and every change of the rim, drawn as surfaces.

Usage: ``python benchmarks/defects_page.py FOLDER PAGE.jpg [--skulls 3] [--seed 1]``, FOLDER holding complete skulls
(masks). For each skull: each kind seen straight on, the patch in orange; then close by, one hole as it was cut and as
each change of the rim leaves it.
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from calvaria.benchmarks.script import run_while_read
from calvaria.io import read_mask
from calvaria.report import Layer, View, render_surfaces
from calvaria.report.views import view_onto
from calvaria.skull.canonical import locate
from calvaria.synthesis.defects import ALL_KINDS, cut_defect, defect_area_cm2
from calvaria.synthesis.defects.ageing import apply_rims
from calvaria.synthesis.defects.rim_changes import RIM_KINDS, sample_rim
from calvaria.volume import Box, Volume, bounding_box
from calvaria.volume.distance import reach_voxels

BONE, PATCH, INK = (224, 216, 198), (240, 134, 46), (232, 234, 238)
CELL_PX, HEAD_MM, NEAR_MM = 300, 230.0, 110.0
MARGIN_MM = 12.0
RIM_ON = "craniotomy"
COLUMNS = 5

Picture = NDArray[np.uint8]


def cell(picture: Picture, text: str) -> Picture:
    """A picture with a line of text at its top."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((8, 6), text, fill=INK)
    return np.asarray(image)


def draw(defective: Volume, patch: Volume, frame: NDArray[np.float64]) -> Picture:
    """A head straight onto its patch."""
    view = view_onto(patch, defective, frame[:3, :3])
    layers = [Layer(defective, BONE), Layer(patch, PATCH)]
    return render_surfaces(layers, view, CELL_PX, frame=frame, span_mm=HEAD_MM)


def draw_near(defective: Volume, box: Box, view: View, frame: NDArray[np.float64]) -> Picture:
    """The bone about a hole."""
    return render_surfaces([Layer(defective.crop(box), BONE)], view, CELL_PX, frame=frame, span_mm=NEAR_MM)


def kinds_row(skull: Volume, frame: NDArray[np.float64], seed: int) -> Picture:
    """Each kind, the patch in orange."""
    row = []
    for number, kind in enumerate(ALL_KINDS):
        _, defective, patch = cut_defect(skull, kind, np.random.default_rng([seed, number]), frame)
        text = f"{kind}: {patch.volume_ml:.0f} ml, {defect_area_cm2(patch, skull, frame):.0f} cm2"
        print(f"  {text}", flush=True)
        row.append(cell(draw(defective, patch, frame), text))
    return in_rows(row)


def in_rows(cells: list[Picture]) -> Picture:
    """Pictures of one size, `COLUMNS` in a row."""
    lacking = -len(cells) % COLUMNS
    cells = [*cells, *[np.broadcast_to(cells[0][-1, -1], cells[0].shape)] * lacking]
    rows = [np.concatenate(cells[n : n + COLUMNS], axis=1) for n in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)


def rims_row(skull: Volume, frame: NDArray[np.float64], seed: int) -> Picture:
    """One hole as it was cut, and as each change leaves it."""
    spec, defective, patch = cut_defect(skull, RIM_ON, np.random.default_rng(seed), frame)
    view = view_onto(patch, defective, frame[:3, :3])
    box = bounding_box(patch.mask, reach_voxels(patch.grid, MARGIN_MM)) or np.s_[:, :, :]
    row = [cell(draw_near(defective, box, view, frame), f"as cut: {patch.volume_ml:.1f} ml")]
    for kind in RIM_KINDS:
        rim = sample_rim(kind, np.random.default_rng(seed), spec)
        changed, missing = apply_rims(defective, patch, [rim], frame)
        text = f"{kind}: {missing.volume_ml:.1f} ml"
        print(f"  {text} ({rim})", flush=True)
        row.append(cell(draw_near(changed, box, view, frame), text))
    return in_rows(row)


def main() -> None:
    """Draw the page."""
    parser = argparse.ArgumentParser(description="one page of synthetic defects on real skulls")
    parser.add_argument("folder", type=Path, help="complete skulls (masks)")
    parser.add_argument("page", type=Path, help="the picture, .png or .jpg")
    parser.add_argument("--skulls", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for number, path in enumerate(sorted(options.folder.glob("*.nrrd"))[: options.skulls]):
        whole = read_mask(path)
        skull = whole.crop(bounding_box(whole.mask, (2, 2, 2)) or np.s_[:, :, :])
        frame = locate(skull).to_world
        print(path.name, flush=True)
        rows += [kinds_row(skull, frame, options.seed + number), rims_row(skull, frame, options.seed + number)]
    Image.fromarray(np.concatenate(rows)).save(options.page)


if __name__ == "__main__":
    sys.exit(run_while_read(main))
