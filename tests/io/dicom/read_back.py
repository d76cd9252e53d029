"""A reader of DICOM segmentations made of pydicom alone, and the independent check of an object's definition."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from calvaria.volume import Grid

PLACE_ATOL_MM = 1e-4
"""How far from a voxel's centre a voxel of the file may lie: DICOM has 16 characters for a coordinate."""


def points_of(path: Path) -> dict[str, NDArray[np.float64]]:
    """(N, 3) world mm of each segment's voxels, by the segment's label: by positions of frames, as PS3.3 C.7.6.2."""
    found = pydicom.dcmread(path)
    labels = {one.SegmentNumber: one.SegmentLabel for one in found.SegmentSequence}
    shared = found.SharedFunctionalGroupsSequence[0]
    pixels = np.atleast_3d(found.pixel_array.reshape(-1, found.Rows, found.Columns))
    points: dict[str, list[NDArray[np.float64]]] = {label: [] for label in labels.values()}
    for frame, own in zip(pixels, found.PerFrameFunctionalGroupsSequence, strict=True):
        row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
        down_mm, across_mm = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
        start = np.array(own.PlanePositionSequence[0].ImagePositionPatient, float)
        i, j = np.nonzero(frame)
        number = (own if "SegmentIdentificationSequence" in own else shared).SegmentIdentificationSequence[0]
        points[labels[number.ReferencedSegmentNumber]].append(
            start + np.outer(j, row) * across_mm + np.outer(i, column) * down_mm
        )
    return {label: np.concatenate(parts) if parts else np.zeros((0, 3)) for label, parts in points.items()}


def on_grid(points_mm: NDArray[np.float64], grid: Grid) -> NDArray[np.bool_]:
    """A mask of the voxels that lie at the points; fails where a point is no voxel's centre."""
    index = grid.to_index(points_mm)
    nearest = np.rint(index).astype(int)
    np.testing.assert_allclose(grid.to_world(nearest), points_mm, atol=PLACE_ATOL_MM)
    mask = np.zeros(grid.shape, bool)
    mask[tuple(nearest.T)] = True
    return mask


def complaints(path: Path) -> str:
    """What dicom3tools' dciodvfy finds wrong; skips the test where it is not installed (Debian: dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools)")
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert lines, "dciodvfy names the object that it found"
    return "\n".join(line for line in lines if line.startswith("Error"))
