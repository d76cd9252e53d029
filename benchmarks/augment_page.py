"""One picture of every augmentation on a real skull: the surface, and a slice with the original's outline.

Usage: ``python benchmarks/augment_page.py DATA OUT.png [NUMBER]``; DATA holds ``autoimplant2020/``, NUMBER is one of
its training skulls (001 if not given). Geometry is drawn as strong as training has it at its most, or stronger where
said, so that it can be seen.
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import training_grid
from calvaria.deformation.bend import Bend
from calvaria.deformation.warp import Warp
from calvaria.io import read_volume
from calvaria.report import VIEWS, Layer, View, render_surfaces, save_png
from calvaria.report.sheet import font
from calvaria.skull.canonical import locate
from calvaria.synthesis.augmentation.artefacts import Artefacts, Noise, ScanEnd, Streaks, Threshold
from calvaria.synthesis.augmentation.augment import Augmentation, apply_augmentations
from calvaria.synthesis.augmentation.slices import Slices
from calvaria.synthesis.augmentation.thickness import Thickness
from calvaria.volume import Volume, resample_soft

Picture = NDArray[np.uint8]

BONE, PATCH, OUTLINE = (214, 206, 190), (206, 92, 60), (220, 60, 40)
CELL_PX, TITLE_PX, COLUMNS = 300, 26, 3
SPAN_MM = 235.0
AXIAL_MM, SAGITTAL_MM = 30.0, 4.0
"""Height and side of the slices that are shown: through the vault, and beside the midline."""

METAL_MM = (48.0, -58.0, 30.0)
FULL_SCAN = Artefacts(
    Threshold(0.9, 0.6),
    Slices(3.5, -14.0, 2.0, 0.4),
    Streaks(METAL_MM, 0.5, 14, 3),
    Noise(0.12, 1),
    ScanEnd(-35, -14, 2),
)

ROWS: dict[str, tuple[Augmentation, str, str]] = {
    "original": (Augmentation(), "oblique", "axial"),
    "mirrored": (Augmentation(Warp(flip=True)), "oblique", "axial"),
    "turned, scaled, sheared": (
        Augmentation(Warp(scale=(1.06, 0.95, 1.04), shear=(0.05, 0.0, 0.0), rotation_deg=(6.0, -5.0, 9.0))),
        "oblique",
        "axial",
    ),
    "bent alike, sd 2 mm": (Augmentation(Warp(bend=Bend(3, shape_mm=2.0))), "front", "axial"),
    "asymmetry, sd 0.5 mm": (Augmentation(Warp(bend=Bend(5, asymmetry_mm=0.5))), "front", "axial"),
    "asymmetry, sd 2 mm (not in training)": (Augmentation(Warp(bend=Bend(5, asymmetry_mm=2.0))), "front", "axial"),
    "inner table 2 mm in": (Augmentation(thickness=Thickness(2.0, 0.3, 1)), "oblique", "axial"),
    "inner table 2 mm out": (Augmentation(thickness=Thickness(-2.0, 0.3, 1)), "oblique", "axial"),
    "all geometry": (
        Augmentation(
            Warp(True, Bend(11, 2.0, 0.5), (1.03, 0.97, 1.0), (0.02, -0.02, 0.0), (3.0, -4.0, 5.0), (2.0, 3.0, -2.0)),
            Thickness(1.0, 0.3, 2),
        ),
        "oblique",
        "axial",
    ),
    "blur 1 mm, high threshold 0.7": (Augmentation(artefacts=Artefacts(Threshold(1.0, 0.7))), "left", "axial"),
    "blur 1 mm, low threshold 0.3": (Augmentation(artefacts=Artefacts(Threshold(1.0, 0.3))), "left", "axial"),
    "slices of 5 mm, pitch -12": (
        Augmentation(artefacts=Artefacts(slices=Slices(5.0, -12.0, 2.0))),
        "left",
        "sagittal",
    ),
    "streaks": (
        Augmentation(artefacts=Artefacts(Threshold(), streaks=Streaks(METAL_MM, 0.6, 16, 3))),
        "oblique",
        "metal",
    ),
    "noise 0.25": (Augmentation(artefacts=Artefacts(Threshold(), noise=Noise(0.25))), "left", "axial"),
    "end of the scan": (Augmentation(artefacts=Artefacts(end=ScanEnd(-25.0, -14.0, 3.0))), "left", "sagittal"),
    "a bad scan: all artefacts": (Augmentation(artefacts=FULL_SCAN), "left", "sagittal"),
}
"""Name -> what is done, the view of the surface, the slice."""


def load(data: Path, number: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A complete skull and its patch, (1, X, Y, Z) shares of bone on the training grid."""
    grid = training_grid()
    folder = data / "autoimplant2020" / "training_set"
    masks = [read_volume(folder / name / f"{number}.nrrd") for name in ("complete_skull", "implant")]
    masks = [mask.with_data(mask.data != 0) for mask in masks]
    to_canonical = locate(masks[0]).to_canonical
    soft = [resample_soft(Volume(mask.data, mask.grid.moved(to_canonical)), grid).data for mask in masks]
    return torch.from_numpy(soft[0])[None], torch.from_numpy(soft[1])[None]


def surface(shown: torch.Tensor, patch: torch.Tensor, view: View) -> Picture:
    """The skull grey, its patch coloured."""
    grid = training_grid()
    layers = [
        Layer(Volume(part[0].clamp(0, 1).numpy(), grid), colour) for part, colour in ((shown, BONE), (patch, PATCH))
    ]
    return render_surfaces(layers, view, CELL_PX, span_mm=SPAN_MM)


def plane_of(volume: torch.Tensor, which: str) -> NDArray[np.float32]:
    """A slice, rows from the top of the picture: front or top of the head up, its left to the right."""
    grid, data = training_grid(), volume[0].numpy()
    if which == "sagittal":
        i = round(float(grid.to_index([SAGITTAL_MM, 0.0, 0.0])[0]))
        return np.asarray(data[i].T[::-1])
    height = METAL_MM[2] if which == "metal" else AXIAL_MM
    k = round(float(grid.to_index([0.0, 0.0, height])[2]))
    return np.asarray(data[:, :, k].T)


def slice_picture(shown: torch.Tensor, patch: torch.Tensor, original: torch.Tensor, which: str) -> Picture:
    """What the network sees in grey, the patch coloured, the original's outline in red."""
    bone, part, before = (plane_of(volume, which) for volume in (shown, patch, original))
    up = max(1, CELL_PX // max(bone.shape))
    grey, part, edge = (np.kron(image, np.ones((up, up), np.float32)) for image in (bone, part, before > 0.5))
    rgb = np.repeat(255 * (1 - grey[..., None]), 3, axis=2)
    rgb = rgb * (1 - 0.7 * part[..., None]) + 0.7 * part[..., None] * np.array(PATCH)
    inner = edge.copy()
    inner[1:-1, 1:-1] = edge[1:-1, 1:-1] * edge[:-2, 1:-1] * edge[2:, 1:-1] * edge[1:-1, :-2] * edge[1:-1, 2:]
    rgb[(edge > 0) & (inner == 0)] = OUTLINE
    canvas = np.full((CELL_PX, CELL_PX, 3), 255, np.uint8)
    top, left = ((CELL_PX - n) // 2 for n in rgb.shape[:2])
    canvas[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb.clip(0, 255).astype(np.uint8)
    return canvas


def page(complete: torch.Tensor, patch: torch.Tensor, say: Callable[[str], None]) -> Image.Image:
    """All cells, ``COLUMNS`` a row."""
    lines = -(-len(ROWS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * 2 * CELL_PX, lines * (CELL_PX + TITLE_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    before = complete - patch
    for number, (name, (drawn, view, which)) in enumerate(ROWS.items()):
        heads = apply_augmentations(complete, patch, training_grid(), [drawn])
        part = heads.patch * heads.seen
        left, top = (number % COLUMNS) * 2 * CELL_PX, (number // COLUMNS) * (CELL_PX + TITLE_PX)
        draw.text((left + 8, top + 5), name, fill="black", font=font(15))
        for step, picture in enumerate(
            (surface(heads.shown, part, VIEWS[view]), slice_picture(heads.shown, part, before, which))
        ):
            sheet.paste(Image.fromarray(picture), (left + step * CELL_PX, top + TITLE_PX))
        say(name)
    return sheet


def main() -> None:
    """Draw the page."""
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        raise SystemExit(2)
    complete, patch = load(Path(sys.argv[1]), sys.argv[3] if len(sys.argv) == 4 else "001")
    print(save_png(sys.argv[2], page(complete, patch, lambda name: print(f"  {name}", flush=True))))


if __name__ == "__main__":
    sys.exit(run_while_read(main))
