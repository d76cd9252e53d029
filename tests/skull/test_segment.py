"""Bone from CTs: phantoms whose bone is known, a real patient, and what is no CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from scipy.spatial.transform import Rotation

from calvaria.errors import InputError
from calvaria.io import read_volume
from calvaria.skull.kinds import ct_offset_hu, kind_of, looks_like_ct
from calvaria.skull.segment import BONE_HU, segment_bone
from calvaria.volume import Grid, Volume

AIR, BRAIN, FAT, BONE, PLATE = -1000.0, 40.0, -90.0, 1000.0, 700.0


def phantom_grid(spacing: tuple[float, float, float], turn: NDArray[np.float64] | None = None) -> Grid:
    half = np.array([105, 120, 90])
    i, j, k = (int(n) for n in np.ceil(2 * half / spacing))
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array((i, j, k)) - 1) / 2)
    return Grid((i, j, k), affine)


def phantom(
    spacing: tuple[float, float, float] = (2.0, 2.0, 2.0),
    noise: float = 10.0,
    turn: NDArray[np.float64] | None = None,
    hole: bool = True,
    plate_gap_mm: float = 3.0,
) -> tuple[Volume, Volume]:
    """A CT of a head with a hole in its skull on a head rest, and its bone."""
    grid = phantom_grid(spacing, turn)
    points = np.moveaxis(np.indices(grid.shape), 0, -1) @ np.diag(grid.spacing_mm) - (
        (np.array(grid.shape) - 1) / 2 * grid.spacing_mm
    )
    radius = np.linalg.norm(points / [0.85, 1.1, 0.9], axis=-1)
    bone = (radius < 75) & (radius > 67)
    if hole:
        bone &= np.linalg.norm(points - [45, -50, 30], axis=-1) > 30
    hu = np.full(grid.shape, AIR)
    hu[radius < 82] = FAT
    hu[radius < 79] = BRAIN
    hu[bone] = BONE
    back = points[..., 1] - 82 * 1.1 - plate_gap_mm
    hu[(back > 0) & (back < 5)] = PLATE
    hu = gaussian_filter(hu, [0.5 / s for s in spacing])
    hu += np.random.default_rng(1).normal(0, noise, hu.shape)
    return Volume(np.round(hu).astype(np.int16), grid), Volume(bone, grid)


def dice(a: Volume, b: Volume) -> float:
    return float(2 * np.count_nonzero(a.mask & b.mask) / (np.count_nonzero(a.mask) + np.count_nonzero(b.mask)))


@pytest.mark.parametrize(
    ("spacing", "noise", "least"),
    [((2, 2, 2), 10, 0.95), ((1.5, 1.5, 4), 10, 0.93), ((2, 2, 2), 90, 0.90), ((2.5, 1.5, 2), 0, 0.93)],
)
def test_the_phantom_s_bone_is_found(spacing: tuple[float, float, float], noise: float, least: float) -> None:
    ct, bone = phantom(spacing, noise)
    found = segment_bone(ct, 450).bone
    assert found.grid is ct.grid
    assert found.is_mask
    assert dice(found, bone) > least


def test_the_default_threshold_takes_all_bone_and_its_soft_edge() -> None:
    ct, bone = phantom()
    found = segment_bone(ct).bone
    assert not (bone.mask & ~found.mask).sum() > 0.001 * bone.mask.sum()
    np.testing.assert_array_equal(found.mask, found.mask & (ct.data > BONE_HU))


def test_the_hole_stays_open() -> None:
    ct, bone = phantom()
    whole = phantom(hole=False)[1]
    hole = whole.mask & ~bone.mask
    assert np.count_nonzero(segment_bone(ct).bone.mask & hole) < 0.12 * np.count_nonzero(hole)  # its soft edge only


@pytest.mark.parametrize("gap_mm", [0.0, 3.0, 20.0])
def test_the_head_rest_is_left_out_even_where_it_touches_the_scalp(gap_mm: float) -> None:
    ct, bone = phantom(plate_gap_mm=gap_mm)
    found = segment_bone(ct).bone
    behind = np.nonzero(found.mask)[1].max() - np.nonzero(bone.mask)[1].max()
    assert behind <= 1
    assert label(found.mask, np.ones((3, 3, 3)))[1] == 1


def test_an_oblique_grid_in_either_memory_order_gives_the_same() -> None:
    straight = segment_bone(phantom()[0]).bone
    ct, _ = phantom(turn=Rotation.from_euler("xyz", [20, 40, -30], degrees=True).as_matrix())
    fortran = ct.with_data(np.asfortranarray(ct.data))
    np.testing.assert_array_equal(segment_bone(ct).bone.mask, straight.mask)
    found = segment_bone(fortran).bone
    np.testing.assert_array_equal(found.mask, straight.mask)
    assert found.mask.flags.f_contiguous


@pytest.mark.parametrize("axes", [(0,), (1, 2)])
def test_flipped_axes_give_the_flipped_mask(axes: tuple[int, ...]) -> None:
    ct, _ = phantom((3, 3, 3))
    found = segment_bone(ct.flip(axes)).bone.flip(axes)
    assert dice(found, segment_bone(ct).bone) > 0.999


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_a_file_without_its_rescale_intercept_is_recognised(kind: type[np.generic]) -> None:
    ct, _ = phantom()
    raw = ct.with_data(np.clip(ct.data + 1024, 0, None).astype(kind))
    assert ct_offset_hu(raw) == 1024
    assert not looks_like_ct(raw)
    assert kind_of(raw) == "ct"
    np.testing.assert_array_equal(segment_bone(raw).bone.mask, segment_bone(ct).bone.mask)


def test_padding_outside_the_field_of_view_does_no_harm() -> None:
    ct, _ = phantom()
    padded = ct.data.copy()
    padded[:8], padded[-8:] = -3024, -3024
    assert looks_like_ct(ct.with_data(padded))
    assert dice(segment_bone(ct.with_data(padded)).bone, segment_bone(ct).bone) > 0.999


def test_metal_in_the_teeth_and_a_cut_off_vertex_do_no_harm() -> None:
    ct, _ = phantom()
    metal = ct.data.copy()
    metal[50:54, 20:24, 20:24] = 3071
    cut = (slice(None), slice(None), slice(0, 70))
    found = segment_bone(ct.with_data(metal).crop(cut)).bone
    assert dice(found, segment_bone(ct).bone.crop(cut)) > 0.99


def test_a_piece_across_a_suture_stays_and_a_far_one_goes() -> None:
    ct, _ = phantom((1, 2, 2), noise=0)
    data = ct.data.copy()
    middle = data.shape[0] // 2
    data[middle] = np.where(data[middle] > 200, 60, data[middle])  # a suture, 1 mm wide, all the way round
    data[80:100, 50:60, 40:50] = 900  # a calcification in the brain
    found = segment_bone(ct.with_data(data)).bone
    assert not found.mask[80:100, 50:60, 40:50].any()
    halves = [np.count_nonzero(half) for half in (found.mask[:middle], found.mask[middle + 1 :])]
    assert min(halves) > 0.7 * max(halves)


def test_a_mask_and_a_ct_are_told_apart() -> None:
    ct, bone = phantom((4, 4, 4))
    assert kind_of(ct) == "ct"
    assert looks_like_ct(ct)
    for data in (bone.data, bone.data.astype(np.uint8), bone.data * np.float32(255), np.zeros(bone.shape, np.int16)):
        assert kind_of(bone.with_data(data)) == "mask"
        assert not looks_like_ct(bone.with_data(data))
    assert kind_of(bone.with_data(np.ones(bone.shape, np.uint8))) == "mask"


def test_one_voxel_of_a_third_value_is_seen() -> None:
    _, bone = phantom((1.6, 1.6, 1.6))
    data = bone.data.astype(np.uint8) * 3
    data[3, 5, 7] = 1
    with pytest.raises(InputError, match="label map"):
        kind_of(bone.with_data(data))


def no_ct(kind: str) -> Volume:
    ct, bone = phantom((4, 4, 4))
    soft = gaussian_filter(bone.data.astype(np.float32), 1)
    signal = np.where(ct.data > -500, 300 + 4 * gaussian_filter(ct.data.astype(np.float32), 1).clip(-90, 90), 5)
    data = {
        "probability": soft.clip(0, 1),
        "labels": (soft * 9).astype(np.uint8),
        "window": ((ct.data + 1000.0) / 1500 * 255).clip(0, 255).astype(np.uint8),
        "mr": np.abs(signal + np.random.default_rng(0).normal(0, 30, signal.shape)).astype(np.int16),
        "distance": (soft - 0.5) * 20,
        "one": np.full(bone.shape, 7),
        "nan": np.where(bone.data, np.nan, 0.0),
        "complex": ct.data.astype(np.complex64),
    }
    return ct.with_data(data[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("probability", r"head\.nrrd: this looks like a probability map .*threshold it"),
        ("labels", r"head\.nrrd: this looks like a label map"),
        ("window", r"head\.nrrd: this looks like a windowed 8-bit picture"),
        ("mr", r"head\.nrrd: values from .* without the peaks of a CT: an MR"),
        ("distance", r"head\.nrrd: values from .* neither a mask nor a head CT"),
        ("one", r"head\.nrrd: every voxel is 7; a bone mask \(two values\) or a head CT is wanted"),
        ("nan", r"head\.nrrd: the values contain NaN"),
        ("complex", r"head\.nrrd: a bone mask or a CT is wanted; the values are of type complex64"),
    ],
)
def test_what_is_neither_is_named(kind: str, message: str) -> None:
    volume = no_ct(kind)
    assert not looks_like_ct(volume)
    with pytest.raises(InputError, match=message):
        kind_of(volume, "head.nrrd")
    with pytest.raises(InputError, match=message):
        segment_bone(volume, name="head.nrrd")


def test_what_cannot_be_segmented_is_refused() -> None:
    ct, bone = phantom((3, 3, 3))
    with pytest.raises(InputError, match="from 100 to 1500 HU; got 20"):
        segment_bone(ct, 20)
    with pytest.raises(InputError, match="this is a mask: use it as the skull itself"):
        segment_bone(bone)
    rest_only = ct.data.copy()
    rest_only[:, :-16] = -1000
    rest_only[30:45, 20:40, 20:35] = 40
    with pytest.raises(InputError, match=r"x: no head found: the largest piece of tissue holds \d+ ml"):
        segment_bone(ct.with_data(rest_only), name="x")
    nothing = np.full_like(ct.data, -1000)
    nothing[30:32], nothing[32:34] = 40, 1000
    with pytest.raises(InputError, match="no head found"):
        segment_bone(ct.with_data(nothing))
    boneless = np.where((ct.data > 200) & (np.indices(ct.shape)[1] < 70), 40, ct.data)
    with pytest.raises(InputError, match=r"no skull found: 0\.0 ml above 1400 HU"):
        segment_bone(ct.with_data(boneless), 1400)


def test_the_real_patient(real_data: Path) -> None:
    ct = read_volume(real_data / "clinical-ct" / "cranium.nrrd")
    assert kind_of(ct) == "ct"
    bone = segment_bone(ct).bone
    pieces, _ = label(bone.mask, np.ones((3, 3, 3)))
    assert np.bincount(pieces.ravel())[1:].max() > 0.995 * np.count_nonzero(bone.mask)
    places = bone.grid.to_world(np.argwhere(bone.mask))
    extent = np.ptp(places, axis=0)
    # A head's size; with the head rest it would be 236 mm wide.
    assert 130 < extent[0] < 165
    assert 165 < extent[1] < 205
    assert 450 < bone.volume_ml < 700
    mirrored = np.abs(places[:, 0].max() + places[:, 0].min()) / 2
    assert mirrored < 30
