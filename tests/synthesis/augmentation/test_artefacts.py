"""Artefacts of a scan where what they do can be worked out: half-spaces, slabs, lone rays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from calvaria.errors import GeometryError, InputError
from calvaria.synthesis.augmentation.artefacts import (
    STREAK_HEIGHT_MM,
    Artefacts,
    Noise,
    ScanEnd,
    Streaks,
    Threshold,
    blurred,
    noise_on,
    rays_on,
    scan_volumes,
)
from calvaria.synthesis.augmentation.slices import Slices, through_slices
from calvaria.volume.grid import Grid

GRID = Grid((31, 27, 40), np.array([[1.5, 0, 0, -22.5], [0, 2.0, 0, -26.0], [0, 0, 1.6, -30.0], [0, 0, 0, 1]]))

tilts = st.floats(-25.0, 25.0)
slice_laws = st.builds(Slices, st.floats(1.7, 8.0), tilts, tilts, st.floats(0, 1))
scans = st.builds(
    Artefacts,
    st.none() | st.builds(Threshold, st.floats(0, 1.5), st.floats(0.2, 0.8)),
    st.none() | slice_laws,
    st.none() | st.builds(Streaks, st.tuples(*[st.floats(-20, 20)] * 3), st.floats(0, 1), st.integers(1, 9)),
    st.none() | st.builds(Noise, st.floats(0, 0.4), st.integers(0, 99)),
    st.none() | st.builds(ScanEnd, st.floats(-20, 10), tilts, tilts),
)


def half_space(normal: tuple[float, float, float], offset_mm: float = 0.0) -> torch.Tensor:
    """(X, Y, Z) shares of bone where ``normal . x < offset``."""
    n = np.array(normal) / np.linalg.norm(normal)
    width = np.abs(n) @ GRID.spacing_mm
    share = np.clip(0.5 - (GRID.centres_mm() @ n - offset_mm) / width, 0, 1)
    return torch.from_numpy(share.astype(np.float32))


def blob(seed: int = 0) -> torch.Tensor:
    """(X, Y, Z) smooth shares of bone that reach from 0 to 1 and leave the edge of the array empty."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(GRID.shape), 3.0)
    share = np.clip(0.5 + 20 * noise, 0, 1).astype(np.float32)
    share[:3], share[-3:], share[:, :3], share[:, -3:], share[:, :, :6], share[:, :, -6:] = (0,) * 6
    return torch.from_numpy(share)


def one(head: torch.Tensor, scan: Artefacts) -> torch.Tensor:
    return scan_volumes(head[None], GRID, [scan])[0][0]


@given(scans, st.integers(0, 20))
@settings(max_examples=30)
def test_whatever_happens_bone_stays_a_share(scan: Artefacts, seed: int) -> None:
    head = blob(seed)
    shown, seen = scan_volumes(head[None], GRID, [scan])
    assert shown.dtype == torch.float32
    assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
    assert not shown[~seen].any()
    again, _ = scan_volumes(head[None], GRID, [scan])
    assert torch.equal(again, shown)
    mask, _ = scan_volumes(head[None] > 0.5, GRID, [scan])
    assert mask.dtype == torch.bool


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_no_artefact_gives_the_same_bits(dtype: torch.dtype) -> None:
    heads = torch.stack([blob(0), blob(1)]).to(dtype)
    shown, seen = scan_volumes(heads, GRID, [Artefacts(), Artefacts(Threshold(1.0, 0.7))])
    assert torch.equal(shown[0], heads[0])
    assert not torch.equal(shown[1], heads[1])
    assert seen.all()
    plain, _ = scan_volumes(heads, GRID, [Artefacts(Threshold(0.0, 0.5))] * 2)
    torch.testing.assert_close(plain, heads, atol=1e-6, rtol=0)


# ---- blur and threshold


@given(st.floats(0.4, 3.0))
@settings(max_examples=10)
def test_the_blur_is_a_gaussian_in_mm(sigma_mm: float) -> None:
    head = blob()
    wanted = gaussian_filter(head.numpy(), sigma_mm / np.array(GRID.spacing_mm), mode="constant", truncate=4.0)
    got = blurred(head, GRID, sigma_mm).numpy()
    within = np.s_[8:-8, 6:-6, 8:-8]  # scipy has air beyond the array
    np.testing.assert_allclose(got[within], wanted[within], atol=1e-3)
    np.testing.assert_allclose(blurred(torch.ones(GRID.shape), GRID, sigma_mm).numpy(), 1, atol=1e-5)


@given(st.floats(0.25, 0.75), st.floats(1.0, 2.0))
@settings(max_examples=15)
def test_a_threshold_moves_a_face_as_a_blurred_edge_says(level: float, blur_mm: float) -> None:
    face = half_space((0, 0, 1), 0.3)
    shown = one(face, Artefacts(Threshold(blur_mm, level)))[15, 13].numpy()  # a column along z, from -30 mm
    at = 1.6 * np.interp(0.5, shown[::-1], np.arange(40)[::-1]) - 30.0  # where its bone ends
    wide = np.hypot(blur_mm, 1.6 / np.sqrt(12))  # the face was a voxel wide before
    # A fifth of a voxel of slack: the ramp is clipped at 0 and 1 beside the face.
    assert at == pytest.approx(0.3 - wide * norm.ppf(level), abs=0.32)


@given(st.floats(0.2, 0.5), st.floats(0.0, 0.3), st.floats(0.0, 1.5))
@settings(max_examples=15)
def test_a_higher_threshold_shows_less(level: float, more: float, blur_mm: float) -> None:
    mask = blob() > 0.5
    low, high = (one(mask, Artefacts(Threshold(blur_mm, at))) for at in (level, level + more))
    assert not (high & ~low).any()


@pytest.mark.parametrize("level", [0.1, 0.3, 0.7, 0.9])
def test_air_stays_air_and_bone_bone_at_any_level(level: float) -> None:
    shown = one(half_space((1, 0, 0)), Artefacts(Threshold(0.5, level))).numpy()[:, 13, 20]
    assert shown[-10:].max() == 0
    assert shown[:10].min() == pytest.approx(1, abs=1e-5)


def test_a_high_threshold_eats_a_thin_plate_and_leaves_a_thick_one() -> None:
    z = np.abs(GRID.centres_mm()[..., 2])
    thin, thick = (torch.from_numpy(z <= half) for half in (0.9, 4.0))
    scan = Artefacts(Threshold(1.0, 0.7))
    assert not one(thin, scan).any()
    assert one(thick, scan)[15, 13, 19]


# ---- slices


@given(slice_laws)
@settings(max_examples=25)
def test_slices_keep_what_is_the_same_along_them(slices: Slices) -> None:
    full = torch.ones(GRID.shape)
    np.testing.assert_allclose(through_slices(full, GRID, slices).numpy(), 1, atol=1e-4)
    assert not through_slices(torch.zeros(GRID.shape), GRID, slices).any()


def test_level_slices_are_means_cut_at_the_threshold() -> None:
    head = blob()
    # Four voxels a slice, beginning at the lower face of voxel 0.
    phase = 0.125  # the centre of voxel 0 lies an eighth of a slice above its face
    slices = Slices(6.4, phase=phase)
    means = head.reshape(31, 27, 10, 4).mean(dim=3)
    cut = ((means - 0.5) * 3 + 0.5).clamp(0, 1).numpy()
    at = (np.arange(40) - 1.5) / 4  # in middles of slices
    wanted = np.stack([np.interp(at, np.arange(10), column) for column in cut.reshape(-1, 10)]).reshape(GRID.shape)
    got = through_slices(head, GRID, slices).numpy()
    np.testing.assert_allclose(got[:, :, 2:-2], wanted[:, :, 2:-2], atol=1e-5)


@given(tilts, tilts, st.floats(3.0, 6.0))
@settings(max_examples=15)
def test_a_face_along_the_slices_stays_flat(pitch_deg: float, roll_deg: float, thickness_mm: float) -> None:
    pitch, roll = np.tan(np.radians([pitch_deg, roll_deg]))
    bone = half_space((-roll, -pitch, 1.0), 1.0)
    shown = through_slices(bone, GRID, Slices(thickness_mm, pitch_deg, roll_deg))
    ends_mm = 1.6 * shown.sum(dim=2).numpy() - 30.8  # of each column's bone
    x, y = np.moveaxis(GRID.centres_mm()[:, :, 0, :2], -1, 0)
    off_mm = ends_mm - (roll * x + pitch * y)
    inside = np.abs(roll * x + pitch * y) < 15  # the face lies well within the array
    assert np.ptp(off_mm[inside]) < 1.0  # a level slice of this thickness would make steps of all of it
    assert abs(off_mm[inside].mean() - np.hypot(1, np.hypot(pitch, roll))) < thickness_mm / 2 + 0.5


def test_slices_make_steps_of_a_slope() -> None:
    slope = half_space((0, -0.3, 1.0))
    after = through_slices(slope, GRID, Slices(6.4))
    line = 0.3 * 2.0 * np.arange(27)  # mm, what each column ends above the first

    def off_mm(bone: torch.Tensor) -> float:
        return float(np.ptp(1.6 * bone.sum(dim=2)[15].numpy() - line))

    assert off_mm(slope) < 0.4  # the ramp of its own voxels
    assert 1.0 < off_mm(after) < 6.4


# ---- streaks and noise


def test_rays_start_at_the_metal_and_keep_to_its_slices() -> None:
    streaks = Streaks((0.0, 0.0, 2.0), 0.5, 1, 3)
    added = rays_on(streaks, GRID).numpy()
    points = GRID.centres_mm()
    strong = np.abs(added) > 0.05
    assert 0.1 < np.abs(added).max() <= 0.5
    assert np.abs(points[strong][:, 2] - 2.0).max() < 3 * STREAK_HEIGHT_MM
    angles = np.arctan2(points[strong][:, 1], points[strong][:, 0])
    middle = np.angle(np.exp(1j * angles).mean())
    far = np.linalg.norm(points[strong][:, :2], axis=1) > 10
    assert np.abs(np.angle(np.exp(1j * (angles - middle))))[far].max() < np.radians(30)  # one ray, one direction
    assert not rays_on(Streaks((0.0, 0.0, 2.0), 0.0, 5), GRID).any()


def test_bright_rays_add_bone_and_dark_ones_take_thin_bone() -> None:
    plate = torch.from_numpy((np.abs(GRID.centres_mm()[..., 2]) <= 1.7).astype(np.float32))
    shown = torch.stack(
        [one(plate, Artefacts(Threshold(1.0), streaks=Streaks((0.0, 0.0, 0.0), 0.9, 6, seed))) for seed in range(6)]
    )
    plain = one(plate, Artefacts(Threshold(1.0)))
    assert (shown > plain + 0.4).any()
    assert (shown < plain - 0.4).any()


def test_faint_rays_leave_no_grey_air() -> None:
    air = torch.zeros(GRID.shape)
    assert not one(air, Artefacts(streaks=Streaks((0.0, 0.0, 0.0), 0.3, 1, 1))).any()


def test_noise_touches_surfaces_only_and_has_its_size() -> None:
    face = half_space((0.3, 0.2, 1.0))
    shown = one(face, Artefacts(noise=Noise(0.1, 7)))
    sure = (face == 0) | (face == 1)
    assert torch.equal(shown[sure], face[sure])
    assert not torch.equal(shown, face)
    drawn = noise_on(Noise(0.2, 7), GRID)
    assert float(drawn.std()) == pytest.approx(0.2, rel=0.02)
    large = Grid.isotropic((130, 70, 60), 1.6)
    repeated = noise_on(Noise(0.2, 7), large)
    assert repeated.shape == large.shape
    assert torch.equal(repeated[:31, :27, :40], drawn)


# ---- the end of the scan


@given(st.floats(-20, 10), tilts, tilts)
@settings(max_examples=20)
def test_nothing_is_seen_below_the_end(height_mm: float, pitch_deg: float, roll_deg: float) -> None:
    end = ScanEnd(height_mm, pitch_deg, roll_deg)
    bone = torch.ones((1, *GRID.shape), dtype=torch.bool)
    shown, seen = scan_volumes(bone, GRID, [Artefacts(end=end)])
    assert torch.equal(shown, seen)
    x, y, z = np.moveaxis(GRID.centres_mm(), -1, 0)
    pitch, roll = np.tan(np.radians([pitch_deg, roll_deg]))
    above_mm = z - (height_mm + pitch * y + roll * x)
    clear = np.abs(above_mm) > 1e-3
    assert np.array_equal(seen[0].numpy()[clear], (above_mm > 0)[clear])


# ---- errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Threshold(-1.0), "blur is at least 0 mm; got -1"),
        (lambda: Threshold(0.0, 0.95), "between 0.1 and 0.9 of bone; got 0.95"),
        (lambda: Streaks((0, 0, 0), -0.1), "streaks have a strength of at least 0; got -0.1"),
        (lambda: Streaks((0, 0, 0), 0.1, 0), "at least one ray; got 0"),
        (lambda: Noise(float("nan")), "noise has a strength of at least 0; got nan"),
        (lambda: ScanEnd(0.0, 70.0), "tilted by less than 60 degrees; got 0.0 mm, 70.0 and 0.0"),
        (lambda: ScanEnd(float("inf")), "ends at a finite height"),
        (lambda: Slices(0.0), "a positive thickness in mm; got 0"),
        (lambda: Slices(5.0, 0.0, -61.0), "tilted by less than 60 degrees; got 0.0 and -61.0"),
    ],
)
def test_a_bad_artefact_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="got 2 for 1 heads"):
        scan_volumes(blob()[None], GRID, [Artefacts()] * 2)
    with pytest.raises(GeometryError, match="volumes on a grid"):
        scan_volumes(blob()[None, :-1], GRID, [Artefacts()])
