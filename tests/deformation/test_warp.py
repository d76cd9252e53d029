"""Heads moved and bent: exact where the answer is known, never folded, and read only where there is bone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from calvaria.deformation import bend as bends
from calvaria.deformation.bend import Bend, basis, gradient_bound, knots_mm, mirrored, spline_on
from calvaria.deformation.flow import DisplacementFields
from calvaria.deformation.warp import Warp, warp_volumes
from calvaria.errors import GeometryError, InputError
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume.grid import Grid

GRID = Grid.isotropic((41, 50, 38), 4.0, (-80.0, -98.0, -60.0))
"""Symmetric about x = 0; no count divides by the cells' 4 voxels."""

SMALL = st.floats(-0.15, 0.15).map(lambda v: round(v, 3))


def uneven(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """A grid about the head's centre."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(HEAD_CENTRE_MM) - (np.array(shape) - 1) / 2 * spacing
    return Grid(shape, affine)


def triples(part: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, float, float]]:
    return st.tuples(part, part, part)


@st.composite
def affine_warps(draw: st.DrawFn, *, sheared: bool = True) -> Warp:
    return Warp(
        flip=draw(st.booleans()),
        scale=draw(triples(st.floats(0.8, 1.25))),
        shear=draw(triples(SMALL)) if sheared else (0.0, 0.0, draw(SMALL)),
        rotation_deg=draw(triples(st.floats(-40.0, 40.0))),
        shift_mm=draw(triples(st.floats(-15.0, 15.0))),
    )


def heads(count: int = 2, channels: int = 3) -> torch.Tensor:
    """Noise with empty parts."""
    noise = np.random.default_rng(0).random((count, channels, *GRID.shape), np.float32)
    noise[:, :, :, :20, 10:] = 0
    return torch.from_numpy(noise)


def some_points(count: int = 200, reach_mm: float = 80.0) -> np.ndarray:
    return np.random.default_rng(1).uniform(-reach_mm, reach_mm, (count, 3))


# ---- maps


@given(affine_warps(), st.integers(0, 1000), st.floats(0, 6), st.floats(0, 3))
@settings(max_examples=25)
def test_a_map_and_its_inverse_undo_one_another(warp: Warp, seed: int, shape_mm: float, asymmetry_mm: float) -> None:
    bent = Warp(warp.flip, Bend(seed, shape_mm, asymmetry_mm), warp.scale, warp.shear, warp.rotation_deg, warp.shift_mm)
    points = some_points()
    np.testing.assert_allclose(bent.moved_mm(bent.source_mm(points)), points, atol=1e-4)
    np.testing.assert_allclose(bent.source_mm(bent.moved_mm(points)), points, atol=1e-4)


def test_scale_rotation_and_shift_do_what_they_say() -> None:
    def moved(warp: Warp, *from_centre_mm: float) -> np.ndarray:
        return warp.moved_mm([np.add(HEAD_CENTRE_MM, from_centre_mm)])[0] - HEAD_CENTRE_MM

    np.testing.assert_allclose(moved(Warp(scale=(2, 1, 1)), 10, 5, 0), [20, 5, 0])
    np.testing.assert_allclose(moved(Warp(rotation_deg=(0, 0, 90)), 10, 0, 3), [0, 10, 3], atol=1e-12)
    np.testing.assert_allclose(moved(Warp(shear=(0.5, 0, 0)), 0, 10, 0), [5, 10, 0])
    np.testing.assert_allclose(moved(Warp(shear=(0, 0, 0.5)), 0, 0, 10), [0, 5, 10])
    np.testing.assert_allclose(moved(Warp(shift_mm=(1, 2, 3)), 0, 0, 0), [1, 2, 3])
    np.testing.assert_allclose(moved(Warp(flip=True, shift_mm=(1, 0, 0)), 10, 0, 0), [-9, 0, 0])


@given(affine_warps(sheared=False), st.integers(0, 1000))
@settings(max_examples=25)
def test_the_symmetry_plane_goes_with_the_head(warp: Warp, seed: int) -> None:
    bent = Warp(warp.flip, Bend(seed, 3.0), warp.scale, warp.shear, warp.rotation_deg, warp.shift_mm)
    points = some_points()
    there, mirror_there = bent.moved_mm(points), bent.moved_mm(points * [-1, 1, 1])
    np.testing.assert_allclose(bent.plane.reflect(there), mirror_there, atol=1e-3)
    middle = bent.moved_mm(points * [0, 1, 1])
    np.testing.assert_allclose(bent.plane.distance_mm(middle), 0, atol=1e-3)


def test_a_sheared_head_has_no_plane() -> None:
    with pytest.raises(GeometryError, match=r"sheared by \(0.1, 0.0, 0.0\) has no symmetry plane"):
        _ = Warp(shear=(0.1, 0.0, 0.0)).plane


# ---- splines and bends


@given(st.floats(12.0, 60.0))
def test_the_basis_is_that_of_cubic_splines(knot_mm: float) -> None:
    knots = knots_mm(knot_mm)
    middle = knots.size // 2
    at = np.linspace(-1.9, 1.9, 31) * knot_mm
    one = BSpline.basis_element(np.arange(-2, 3) * knot_mm, extrapolate=False)
    np.testing.assert_allclose(basis(at, knot_mm)[:, middle], one(at), atol=1e-12)
    np.testing.assert_allclose(basis(np.linspace(-200, 200, 77), knot_mm).sum(axis=1), 1)


def test_a_linear_spline_is_linear() -> None:
    control = np.stack(np.meshgrid(*[knots_mm(40.0)] * 3, indexing="ij"))
    x, y, z = (np.linspace(-60, 60, 7) + middle for middle in HEAD_CENTRE_MM)
    values = spline_on(control, 40.0, [x, y, z])
    np.testing.assert_allclose(values[0, :, 2, 5], x - HEAD_CENTRE_MM[0], atol=1e-9)
    np.testing.assert_allclose(values[2, 1, 3, :], z - HEAD_CENTRE_MM[2], atol=1e-9)
    assert gradient_bound(control, 40.0) == pytest.approx(1.0)


@given(st.integers(0, 10**6), st.floats(0.0, 12.0), st.floats(0.0, 6.0), st.sampled_from([25.0, 40.0, 60.0]))
@settings(max_examples=25)
def test_space_never_folds(seed: int, shape_mm: float, asymmetry_mm: float, knot_mm: float) -> None:
    displacement = Bend(seed, shape_mm, asymmetry_mm, knot_mm).displacement()
    points, step = some_points(2000, 110.0), 1.0
    gradient = np.stack(
        [(displacement.at(points + step * e) - displacement.at(points - step * e)) / (2 * step) for e in np.eye(3)],
        axis=-1,
    )
    assert np.abs(gradient).sum(axis=2).max() < bends.MAX_GRADIENT
    assert np.linalg.det(np.eye(3) + gradient).min() > 0


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_the_bound_holds_and_is_tight_to_a_factor(seed: int) -> None:
    control = np.random.default_rng(seed).standard_normal((3, 7, 7, 7))
    along = [np.linspace(-115, 115, 47) + middle for middle in HEAD_CENTRE_MM]
    slopes = np.gradient(spline_on(control, 40.0, along), 5.0, axis=(1, 2, 3))
    steepest = np.abs(np.stack(slopes)).sum(axis=0).max()
    assert steepest <= gradient_bound(control, 40.0) < 3.0 * steepest


def test_both_parts_have_their_parity_and_size() -> None:
    mirror = np.array([-1.0, 1.0, 1.0])
    points = some_points(2000, 70.0)
    for shape_mm, asymmetry_mm, sign in ((1.0, 0.0, 1.0), (0.0, 1.0, -1.0)):
        sizes = []
        for seed in range(12):
            displacement = Bend(seed, shape_mm, asymmetry_mm).displacement()
            moved = displacement.at(points)
            np.testing.assert_allclose(displacement.at(points * mirror), sign * moved * mirror, atol=1e-9)
            sizes.append((moved**2).mean())
        # Less at the plane, where one component of each part vanishes, and two are larger: 10 % of slack.
        assert np.sqrt(np.mean(sizes)) == pytest.approx(1.0, rel=0.1)
    control = np.random.default_rng(0).standard_normal((2, 3, 7, 7, 7))
    np.testing.assert_array_equal(mirrored(mirrored(control)), control)


def test_the_table_is_fine_enough() -> None:
    bend = Bend(4, 2.0, 0.5)
    points = some_points(50, 90.0)
    exact = [spline_on(bend.control_mm(), 40.0, [p[:1], p[1:2], p[2:]]).ravel() for p in points]
    np.testing.assert_allclose(bend.displacement().at(points), exact, atol=0.1)


# ---- volumes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool])
def test_nothing_to_do_gives_the_same_bits(dtype: torch.dtype) -> None:
    volumes = (heads() * 2).to(dtype)
    for warp in (Warp(), Warp(bend=Bend(3))):
        out = warp_volumes(volumes, GRID, [warp, warp])
        assert out.dtype == dtype
        assert torch.equal(out, volumes)


def test_a_mirror_image_is_a_flip() -> None:
    volumes = heads()
    assert torch.equal(warp_volumes(volumes, GRID, [Warp(flip=True)] * 2), volumes.flip(2))


@given(triples(st.integers(-45, 60)), triples(st.sampled_from([1.0, 1.5, 4.0])), st.booleans())
@settings(max_examples=30)
def test_a_shift_by_whole_voxels_copies_them(
    steps: tuple[int, int, int], spacing: tuple[float, float, float], flip: bool
) -> None:
    grid = uneven((9, 8, 7), spacing)
    volume = torch.from_numpy(np.random.default_rng(0).random((1, 9, 8, 7), np.float32))
    i, j, k = steps
    shift = (i * spacing[0], j * spacing[1], k * spacing[2])
    moved = warp_volumes(volume, grid, [Warp(flip=flip, shift_mm=shift)])[0].numpy()
    padded = np.pad((volume.flip(1) if flip else volume)[0].numpy(), 70)
    assert np.array_equal(moved, np.roll(padded, steps, (0, 1, 2))[70:79, 70:78, 70:77])


@given(affine_warps(), triples(st.floats(1.0, 5.0)))
@settings(max_examples=20)
def test_a_linear_picture_is_read_exactly_in_mm(warp: Warp, spacing: tuple[float, float, float]) -> None:
    grid = uneven((17, 14, 15), spacing)
    slope, base = np.array([0.01, -0.02, 0.03]), 40.0
    picture = torch.from_numpy((grid.centres_mm() @ slope + base).astype(np.float32))
    out = warp_volumes(picture[None], grid, [warp])[0].numpy()
    source = warp.source_mm(grid.centres_mm().reshape(-1, 3))
    index = grid.to_index(source).reshape(*grid.shape, 3)
    inside = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=-1)
    beyond = ((index <= -1) | (index >= np.array(grid.shape))).any(axis=-1)
    wanted = (source @ slope + base).reshape(grid.shape)
    np.testing.assert_allclose(out[inside], wanted[inside], atol=1e-3)
    assert (out[beyond] == 0).all()


@given(affine_warps(), st.integers(0, 100))
@settings(max_examples=20)
def test_cells_that_are_skipped_hold_nothing(warp: Warp, seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = np.zeros(GRID.shape, np.float32)
    volume[tuple(rng.integers(0, GRID.shape, (12, 3)).T)] = 1  # lone voxels: each lies in few cells
    out = warp_volumes(torch.from_numpy(volume)[None], GRID, [warp])[0].numpy()
    index = GRID.to_index(warp.source_mm(GRID.centres_mm().reshape(-1, 3)))
    wanted = map_coordinates(volume, index.T, order=1, mode="grid-constant", cval=0.0).reshape(GRID.shape)
    np.testing.assert_allclose(out, wanted, atol=1e-3)


def test_a_bent_picture_is_read_where_the_map_says() -> None:
    warp = Warp(bend=Bend(2, 2.0, 0.5), rotation_deg=(3.0, -5.0, 8.0), scale=(1.05, 0.95, 1.0))
    grid = Grid.isotropic((54, 72, 56), 1.6, (-42.4, -56.8, -20.0))
    slope = np.array([0.6, -0.3, 0.5])
    picture = torch.from_numpy((grid.centres_mm() @ slope + 200.0).astype(np.float32))
    out = warp_volumes(picture[None], grid, [warp])[0].numpy()
    source = warp.source_mm(grid.centres_mm().reshape(-1, 3))
    index = grid.to_index(source)
    inside = ((index > 0.5) & (index < np.array(grid.shape) - 1.5)).all(axis=1)  # beyond, the air mixes in
    assert inside.sum() > 50_000
    off_mm = np.abs(out.ravel() - (source @ slope + 200.0))[inside]  # of a slope below 1 a mm
    assert off_mm.max() < 0.1


def test_a_turned_ball_stays_a_ball_and_a_moved_one_arrives() -> None:
    grid = Grid.isotropic((61, 61, 61), 2.0, (-60.0, -60.0, -50.0))
    points = grid.centres_mm()
    from_centre = np.linalg.norm(points - HEAD_CENTRE_MM, axis=-1)
    ball = torch.from_numpy(from_centre < 30)
    turned = warp_volumes(ball[None], grid, [Warp(rotation_deg=(20.0, -35.0, 50.0))])[0]
    assert turned.dtype == torch.bool
    assert np.count_nonzero(turned.numpy()) == pytest.approx(np.count_nonzero(ball.numpy()), rel=0.01)
    assert np.abs(from_centre[(turned ^ ball).numpy()] - 30).max() < 2.0  # a voxel
    at = np.array([12.0, -20.0, 14.0])
    small = torch.from_numpy(np.clip(11 - np.linalg.norm(points - at, axis=-1), 0, 1).astype(np.float32))
    warp = Warp(True, Bend(9, 2.0, 1.0), (1.1, 0.9, 1.05), (0.1, -0.1, 0.05), (10.0, 20.0, -15.0), (4.0, -6.0, 3.0))
    moved = warp_volumes(small[None], grid, [warp])[0].numpy()
    centre = (points * moved[..., None]).sum(axis=(0, 1, 2)) / moved.sum()
    np.testing.assert_allclose(centre, warp.moved_mm([at])[0], atol=0.25)


def test_every_head_goes_its_own_way_and_its_channels_together() -> None:
    volumes = heads()
    warps = [Warp(bend=Bend(1, 2.0)), Warp(rotation_deg=(5.0, 0.0, 0.0))]
    out = warp_volumes(volumes, GRID, warps)
    for item, warp in enumerate(warps):
        for channel in range(3):
            alone = warp_volumes(volumes[item : item + 1, channel], GRID, [warp])[0]
            assert torch.equal(out[item, channel], alone)


def test_nothing_stays_nothing_and_everything_may_leave() -> None:
    empty = torch.zeros((1, *GRID.shape), dtype=torch.bool)
    assert not warp_volumes(empty, GRID, [Warp(rotation_deg=(5.0, 0.0, 0.0))]).any()
    full = torch.ones((1, *GRID.shape))
    assert not warp_volumes(full, GRID, [Warp(shift_mm=(0.5, 500.0, 0.3))]).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_reads_the_same() -> None:
    volumes, warps = heads(), [Warp(bend=Bend(1, 2.0)), Warp(rotation_deg=(5.0, 0.0, 0.0))]
    there = warp_volumes(volumes.cuda(), GRID, warps).cpu()
    torch.testing.assert_close(there, warp_volumes(volumes, GRID, warps), atol=1e-3, rtol=0)


# ---- errors


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": (0.0, 1.0, 1.0)}, "scales lie between 0.25 and 4; got"),
        ({"scale": (1.0, float("nan"), 1.0)}, "scales lie between"),
        ({"shear": (0.0, 0.0, 1.0)}, "shears lie between"),
        ({"shift_mm": (0.0, 0.0, float("inf"))}, "rotation and shift are finite"),
    ],
)
def test_a_map_out_of_proportion_is_refused(values: dict[str, tuple[float, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Warp(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape_mm": -1.0}, "at least 0 mm; got -1.0 and 0.0"),
        ({"asymmetry_mm": float("nan")}, "at least 0 mm"),
        ({"knot_mm": 5.0}, "10 to 110 mm apart; got 5.0"),
    ],
)
def test_a_bad_bend_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Bend(0, **values)


def test_tensors_that_do_not_fit_are_refused() -> None:
    volume = torch.zeros((1, *GRID.shape))
    with pytest.raises(GeometryError, match=r"\(B, \[C,\] X, Y, Z\) volumes on a grid of \(41, 50, 38\)"):
        warp_volumes(volume[:, :-1], GRID, [Warp()])
    with pytest.raises(GeometryError, match="a grid along the canonical axes is wanted"):
        warp_volumes(volume, GRID.flip((0,)), [Warp()])
    with pytest.raises(InputError, match="got 2 for 1 heads"):
        warp_volumes(volume, GRID, [Warp(), Warp()])
    with pytest.raises(InputError, match=r"soft bone \(floating\) or masks \(bool\) are wanted; got torch.uint8"):
        warp_volumes(volume.to(torch.uint8), GRID, [Warp()])


def test_a_form_that_does_not_belong_to_a_head_is_refused():
    grid = Grid.isotropic((4, 4, 4), 2.0)
    forms = DisplacementFields(torch.zeros(2, 3, 4, 4, 4), grid)
    with pytest.raises(InputError, match="one form a head is wanted; got 2 for 1 heads"):
        warp_volumes(torch.zeros(1, 4, 4, 4), grid, [Warp()], forms)


def test_a_form_is_read_on_its_own_grid():
    """A shift by a form that lies on a coarser, larger grid than the head."""
    grid, coarse = Grid.isotropic((12, 12, 12), 1.0), Grid.isotropic((5, 5, 5), 8.0, (-10.0, -10.0, -10.0))
    head = torch.zeros(1, 12, 12, 12)
    head[0, 5:7, 4, 8] = 1.0
    shift = torch.tensor([1.0, -2.0, 3.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 5, 5, 5)
    moved = warp_volumes(head, grid, [Warp()], DisplacementFields(shift, coarse))
    torch.testing.assert_close(moved, head.roll((-1, 2, -3), (1, 2, 3)), atol=1e-5, rtol=0)
