"""Bone from CTs: phantoms whose bone is known, a real patient, and what is no CT."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from scipy.spatial.transform import Rotation

from calvaria.errors import InputError
from calvaria.io import read_volume
from calvaria.skull.kinds import ct_offset_hu, kind_of
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
    assert ct_offset_hu(raw) != 0
    assert kind_of(raw) == "ct"
    np.testing.assert_array_equal(segment_bone(raw).bone.mask, segment_bone(ct).bone.mask)


def test_padding_outside_the_field_of_view_does_no_harm() -> None:
    ct, _ = phantom()
    padded = ct.data.copy()
    padded[:8], padded[-8:] = -3024, -3024
    assert ct_offset_hu(ct.with_data(padded)) == 0
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
    assert ct_offset_hu(ct) == 0
    for data in (bone.data, bone.data.astype(np.uint8), bone.data * np.float32(255), np.zeros(bone.shape, np.int16)):
        assert kind_of(bone.with_data(data)) == "mask"
        assert ct_offset_hu(bone.with_data(data)) != 0
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
    assert ct_offset_hu(volume) != 0
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


def dry(spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> tuple[Volume, Volume]:
    """A CT of the skull without anything soft."""
    ct, bone = phantom(spacing)
    return ct.with_data(np.where(ct.data > 200, ct.data, -1000).astype(np.int16)), bone


@pytest.mark.parametrize("offset", [0, 1024])
def test_a_dry_skull_is_refused_until_it_is_stated(offset: int) -> None:
    ct, bone = dry()
    ct = ct.with_data(np.clip(ct.data + offset, -1024 if not offset else 0, None))
    with pytest.raises(InputError, match=r"^a: values from .* say --kind ct if it is a CT"):
        segment_bone(ct, name="a")
    found = segment_bone(ct, 450, name="a", stated=True)
    assert dice(found.bone, bone) > 0.95  # without the head rest, which does not touch it
    assert len(found.notes) == 2
    assert found.notes[1].startswith("there is no head of soft tissue: taken for a dry skull or a replica")
    assert f"taken for HU{' + 1024' if offset else ''}" in found.notes[0]


def test_a_ct_of_a_living_head_is_the_same_when_it_is_stated() -> None:
    ct, _ = phantom((3, 3, 3))
    stated, told = segment_bone(ct, stated=True), segment_bone(ct)
    np.testing.assert_array_equal(stated.bone.mask, told.bone.mask)
    assert stated.notes == told.notes == ()
    assert stated.threshold_hu == told.threshold_hu == BONE_HU


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("probability", r"no value is above 300 HU \(the highest is 0\.8\d*\), so no bone: this looks like a probab"),
        ("labels", r"no value is above 300 HU \(the highest is 7\), so no bone: this looks like a label map"),
        ("window", r"no value is above 300 HU \(the highest is 255\), so no bone: this looks like a windowed 8-bit"),
        ("nan", "the values contain NaN"),
        ("complex", "the values are of type complex64"),
    ],
)
def test_a_stated_ct_that_can_show_no_bone_is_refused(kind: str, message: str) -> None:
    with pytest.raises(InputError, match=r"^head\.nrrd: .*" + message):
        segment_bone(no_ct(kind), name="head.nrrd", stated=True)


def test_a_windowed_picture_is_cut_where_it_is_said() -> None:
    ct, bone = phantom((3, 3, 3))
    window = ct.with_data(((ct.data + 1000.0) / 2000 * 255).clip(0, 255).astype(np.uint8))
    found = segment_bone(window, 184, stated=True)  # 443 HU
    assert dice(found.bone, bone) > 0.9


@pytest.mark.parametrize("threshold", [20.0, 5000.0, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match=r"^the CT: a bone threshold lies from 100 to 1500 HU; got"):
        segment_bone(phantom((4, 4, 4))[0], threshold)


def with_ball(ct: Volume, centre_mm: tuple[float, float, float], radius_mm: float, hu: float) -> Volume:
    near = np.linalg.norm(ct.grid.centres_mm() - centre_mm, axis=-1) < radius_mm
    return ct.with_data(np.where(near, hu, ct.data).astype(ct.data.dtype))


@pytest.mark.parametrize("offset", [0, 1024])
@pytest.mark.parametrize(
    ("centre", "hu", "words", "fate"),
    [
        ((60, 0, 15), 3071, r"left, \w+, upper part; 60 0 15 mm", "taken out of the bone, with the bloom"),
        ((-60, -10, -10), 2800, r"right, front, lower part; -60 -10 -10 mm", "taken out of the bone, with the bloom"),
        ((0, 78, 0), 2200, r"back, \w+ part; -?0 78 -?0 mm", "counted as bone: .*take it out"),
    ],
)
def test_metal_in_the_bone_is_told_with_its_place(
    centre: tuple[float, float, float], hu: float, words: str, fate: str, offset: int
) -> None:
    ct, _ = phantom()
    (note,) = segment_bone(raised(with_ball(ct, centre, 10.0, hu), offset)).notes
    found = re.match(rf"(\d\.\d) ml as dense as metal \(over 2000 HU; .*{words}\) were {fate}", note)
    assert found, note
    assert float(found.group(1)) == pytest.approx(4.2, abs=0.3)  # 4/3 pi of a cm


def raised(ct: Volume, offset: int) -> Volume:
    return ct.with_data(np.clip(ct.data + offset, 0, None)) if offset else ct


def test_a_clip_and_a_filling_are_no_matter() -> None:
    ct, _ = phantom()
    assert segment_bone(with_ball(ct, (60, 0, 20), 3.5, 3071)).notes == ()  # 0.2 ml
    assert segment_bone(with_ball(ct, (60, 0, 20), 7.0, 2300)).notes == ()  # 1.4 ml of something dense


def test_metal_where_the_teeth_are_is_no_matter() -> None:
    ct, _ = phantom((3, 3, 3))
    jaw = (np.abs(ct.grid.centres_mm() - [0, -50, -75]) < [15, 15, 15]).all(axis=-1)
    low = ct.with_data(np.where(jaw, 3071, ct.data).astype(np.int16))
    told = segment_bone(low)
    top = told.bone.grid.to_world(np.argwhere(told.bone.mask))[:, 2].max()
    assert top - -75 > 130
    assert told.notes == ()
    behind = (np.abs(ct.grid.centres_mm() - [0, 50, -65]) < [15, 15, 15]).all(axis=-1)
    assert len(segment_bone(ct.with_data(np.where(behind, 3071, ct.data).astype(np.int16))).notes) == 1


def test_many_pieces_of_metal_are_counted() -> None:
    ct, _ = phantom()
    for x, y in ((50, 50), (-50, 50), (50, -50), (-50, -50), (0, 75)):
        ct = with_ball(ct, (x, y, 10), 9.0, 3000)
    notes = segment_bone(ct).notes
    assert len(notes) == 4
    assert notes[-1] == "2 more pieces as dense as metal were looked at in the same way"


def body(length_mm: float) -> Volume:
    """A head on a neck and a trunk with a spine and ribs of about its length."""
    ct, _ = phantom((3, 3, 3))
    more = int(length_mm / 3)
    grid = ct.grid.pad((0, 0, more), (0, 0, 0))
    data = np.full(grid.shape, int(AIR), np.int16)
    data[:, :, more:] = ct.data
    x, y, z = np.moveaxis(grid.centres_mm(), -1, 0)
    trunk = (z < -60) & ((x / 95) ** 2 + (y / 80) ** 2 < 1)
    data[trunk] = BRAIN
    data[(z < -55) & (np.hypot(x, y - 40) < 18)] = BONE
    data[trunk & ((x / 95) ** 2 + (y / 80) ** 2 > 0.8) & (np.sin(z / 6) > 0.5)] = BONE
    data[trunk & (np.abs(x) < 95) & (np.abs(y - 40) < 5) & (np.sin(z / 6) > 0.5)] = BONE
    return Volume(data, grid)


def test_a_body_is_to_be_cropped_to_the_head() -> None:
    with pytest.raises(InputError, match=r"^a: the connected bone is \d{3} mm long, a skull at most .*crop it"):
        segment_bone(body(600), name="a")


def test_a_neck_is_told() -> None:
    (note,) = segment_bone(body(140)).notes
    assert re.match(r"the bone is (2[89]|3[0-4])\d mm long, more than a skull: crop it to the head", note)


def test_the_real_patient(real_data: Path) -> None:
    ct = read_volume(real_data / "clinical-ct" / "cranium.nrrd")
    assert kind_of(ct) == "ct"
    found = segment_bone(ct)
    assert found.notes == ()
    bone = found.bone
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
