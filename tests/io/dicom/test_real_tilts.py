"""A replica scanned with the gantry tilted one way and the other: the two scans must be one thing."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from skimage.measure import marching_cubes

from calvaria.io.dicom import list_series, read_dicom
from calvaria.volume import Grid, Volume

SURFACE_HU = 200.0
"""The replica's plastic has up to 800 HU."""

MAX_MEAN_MM = 0.5
"""Between the surfaces of two slices of 2.5 mm, after a rigid registration."""

ROUNDS = 15


@pytest.fixture(scope="module")
def tilted(real_data: Path) -> Path:
    path = real_data / "dicom" / "tilted.zip"
    if not path.is_file():
        pytest.skip(f"NO TILTED SCANS: {path} is not there")
    return path


def surface(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals of the largest thing in a scan, world mm; from every second row and column."""
    data = volume.data[::2, ::2]
    volume = Volume(data, Grid(data.shape, volume.affine @ np.diag([2.0, 2.0, 1.0, 1.0])))
    labels, _ = ndimage.label(volume.data > SURFACE_HU)
    largest = np.argmax(np.bincount(labels.ravel())[1:]) + 1
    near = ndimage.binary_dilation(labels == largest, iterations=2)
    vertices = marching_cubes(np.where(near, volume.data, -1000).astype(np.float32), SURFACE_HU)[0]
    smooth = ndimage.gaussian_filter(volume.data.astype(np.float32), 0.7)
    steepest = np.stack(np.gradient(smooth), -1)[tuple(np.rint(vertices).astype(int).T)]
    normals = steepest @ np.linalg.inv(volume.affine[:3, :3])
    return volume.grid.to_world(vertices), normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)


def seen(grid: Grid, points: np.ndarray) -> np.ndarray:
    """Which points lie within a scan's field of view."""
    index = grid.to_index(points)
    return ((index > 2) & (index < np.array(grid.shape) - 3)).all(axis=1)


def apart_mm(a: Volume, b: Volume) -> float:
    """Mean distance of b's surface from a's where both were scanned, after a rigid registration.

    Both are of points to the plane of the surface at the nearest point, which does not depend on how dense these are.
    """
    (points, normals), (others, _) = surface(a), surface(b)
    tree = cKDTree(points)
    others = others[:: max(1, len(others) // 100_000)]
    some = others[::10]
    pose = np.eye(4)
    for _ in range(ROUNDS):
        moved = some @ pose[:3, :3].T + pose[:3, 3]
        moved = moved[seen(a.grid, moved)]
        distance, nearest = tree.query(moved)
        close = distance < max(np.quantile(distance, 0.8), 1.0)
        moved, to, normal = moved[close], points[nearest[close]], normals[nearest[close]]
        rows = np.hstack([np.cross(moved, normal), normal])
        turn = np.linalg.lstsq(rows, -((moved - to) * normal).sum(axis=1), rcond=None)[0]
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = Rotation.from_rotvec(turn[:3]).as_matrix(), turn[3:]
        pose = step @ pose
    moved = others @ pose[:3, :3].T + pose[:3, 3]
    moved = moved[seen(a.grid, moved)]
    nearest = tree.query(moved)[1]
    return float(np.abs(((moved - points[nearest]) * normals[nearest]).sum(axis=1)).mean())


def by_simpleitk(tilted: Path, folder: Path, number: str) -> Volume:
    """The same series by SimpleITK, which knows no sheared grid."""
    with zipfile.ZipFile(tilted) as archive:
        archive.extractall(folder)
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(next(folder.rglob(f"S{number}0"))))
    image = SimpleITK.ReadImage(files)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    data = SimpleITK.GetArrayFromImage(image).T
    return Volume(data, Grid(data.shape, affine))


def test_two_opposite_tilts_lie_on_each_other(tilted):
    one, other = (read_dicom(tilted, number) for number in ("201", "301"))
    assert [one.geometry["tilt_degrees"], other.geometry["tilt_degrees"]] == [-18.5, 16.5]
    assert apart_mm(one.volume, other.volume) < MAX_MEAN_MM


def test_without_the_shear_they_do_not(tilted, tmp_path):
    one, other = (by_simpleitk(tilted, tmp_path, number) for number in ("201", "301"))
    assert np.array_equal(one.data, read_dicom(tilted, "201").volume.data)
    assert apart_mm(one, other) > 2 * MAX_MEAN_MM


def test_the_list_of_the_real_study(tilted, real_data):
    found = {one.number: one for one in list_series(tilted)}
    assert {number: one.problem is None for number, one in found.items()} == {
        "100": False,
        "201": True,
        "301": True,
        "401": False,
    }
    assert found["201"].chosen
    assert [found["201"].slices, found["301"].slices] == [54, 58]
    (thick,) = list_series(real_data / "dicom" / "thick.zip")
    assert (thick.slices, thick.spacing_mm, thick.tilt_degrees) == (28, (0.451171875, 0.451171875, 5.0), 0.0)
