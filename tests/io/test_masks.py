"""A mask from an image or a mesh."""

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.io import read_as_mask, write_mesh, write_volume
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh
from calvaria.volume.volume import Volume

trimesh = pytest.importorskip("trimesh")


def sphere(radius=10.0, middle=(5.0, -6.0, 7.0)):
    shape = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Mesh(np.array(shape.vertices) + middle, np.array(shape.faces))


def ball(grid, radius, middle):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    return np.linalg.norm(grid.to_world(index) - middle, axis=-1) < radius


@pytest.mark.parametrize("extension", [".stl", ".ply"])
def test_a_mesh_is_voxelised_on_a_grid_around_it(extension, tmp_path):
    write_mesh(tmp_path / f"a{extension}", sphere())
    mask = read_as_mask(tmp_path / f"a{extension}")
    assert mask.is_mask
    assert mask.grid.spacing_mm == (0.5, 0.5, 0.5)
    assert mask.volume_ml == pytest.approx(sphere().volume_ml, rel=0.005)
    off = mask.data != ball(mask.grid, 10.0, (5, -6, 7))
    assert np.count_nonzero(off) < 0.02 * np.count_nonzero(mask.data)
    for axis in range(3):  # an empty layer at either end
        ends = np.moveaxis(mask.data, axis, 0)
        assert not ends[0].any()
        assert not ends[-1].any()


def test_a_mesh_is_voxelised_on_the_grid_that_is_given(tmp_path):
    write_mesh(tmp_path / "a.stl", sphere())
    affine = np.diag([-0.7, 0.5, 0.9, 1.0])
    affine[:3, 3] = [25, -20, -10]
    grid = Grid((60, 60, 40), affine)
    mask = read_as_mask(tmp_path / "a.stl", grid)
    assert mask.grid is grid
    assert mask.volume_ml == pytest.approx(sphere().volume_ml, rel=0.01)


def test_an_image_keeps_its_grid_or_goes_to_the_one_given(tmp_path):
    grid = Grid.isotropic((40, 40, 40), 1.0)
    volume = Volume(ball(grid, 10.0, (20, 20, 20)), grid)
    write_volume(tmp_path / "a.nii.gz", volume)
    own = read_as_mask(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(own.data, volume.data)
    same = read_as_mask(tmp_path / "a.nii.gz", grid)
    assert same.grid is grid
    np.testing.assert_array_equal(same.data, volume.data)
    finer = Grid.isotropic((70, 70, 70), 0.5, (2.3, 2.3, 2.3))
    other = read_as_mask(tmp_path / "a.nii.gz", finer)
    assert other.grid is finer
    assert other.volume_ml == pytest.approx(volume.volume_ml, rel=0.02)


def test_nothing_on_the_grid_is_refused(tmp_path):
    far = Grid.isotropic((10, 10, 10), 1.0, (500, 500, 500))
    write_mesh(tmp_path / "a.stl", sphere())
    write_volume(tmp_path / "a.nrrd", Volume(np.ones((5, 5, 5), bool), Grid.isotropic((5, 5, 5), 1.0)))
    for name in ("a.stl", "a.nrrd"):
        with pytest.raises(InputError, match=rf"^{name}: nothing of it lies on the grid"):
            read_as_mask(tmp_path / name, far)


def test_a_mesh_that_is_open_absurd_or_at_no_spacing_is_refused(tmp_path):
    mesh = sphere()
    write_mesh(tmp_path / "open.stl", Mesh(mesh.vertices_mm, mesh.faces[1:]))
    with pytest.raises(InputError, match=r"^open\.stl: the mesh must be closed"):
        read_as_mask(tmp_path / "open.stl")
    write_mesh(tmp_path / "vast.stl", sphere(radius=10_000.0))
    write_mesh(tmp_path / "large.stl", sphere(radius=400.0))
    with pytest.raises(InputError, match=r"^large\.stl: a mesh of 800 x 800 x 800 mm at 0\.5 mm has too many"):
        read_as_mask(tmp_path / "large.stl")
    with pytest.raises(InputError, match=r"^vast\.stl: a mesh in mm .* is 2e\+04 x .* large; export"):
        read_as_mask(tmp_path / "vast.stl")
    write_mesh(tmp_path / "a.stl", mesh)
    for spacing in (0.0, -1.0, np.nan):
        with pytest.raises(InputError, match=r"^a\.stl: the spacing must be a positive number of mm"):
            read_as_mask(tmp_path / "a.stl", spacing_mm=spacing)
    with pytest.raises(InputError, match="there is no such file"):
        read_as_mask(tmp_path / "none.stl")


def test_what_the_voxeliser_refuses_is_said_with_the_name(tmp_path, monkeypatch):
    def refuse(*_):
        raise InputError("no, thank you")

    write_mesh(tmp_path / "a.stl", sphere())
    monkeypatch.setattr("calvaria.io.masks.voxelise", refuse)
    with pytest.raises(InputError, match=r"^a\.stl: no, thank you$"):
        read_as_mask(tmp_path / "a.stl")


@pytest.mark.parametrize(("unit", "mm"), [("inches", 25.4), ("m", 1000.0), ("um", 0.001)])
def test_a_head_in_another_unit_than_mm_is_refused_with_a_guess(tmp_path, unit, mm):
    write_mesh(tmp_path / "a.stl", sphere(radius=90.0 / mm))
    for grid in (None, Grid.isotropic((10, 10, 10), 1.0)):
        with pytest.raises(InputError, match=rf"^a\.stl: a mesh in mm .* in {unit} it would be a head's: exp"):
            read_as_mask(tmp_path / "a.stl", grid)
