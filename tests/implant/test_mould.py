"""Moulds: two halves and the body fill the block; each half is drawn off freely; channels lead out, pins fit."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from manifold3d import CrossSection, Manifold
from scipy.spatial import ConvexHull
from tests.implant.domes import DIRECTION, RADIUS_MM, dome

from calvaria.errors import InputError
from calvaria.implant.details import detailed
from calvaria.implant.mould import (
    CHANNEL_MM,
    CHANNELS,
    MARGIN_MM,
    PIN_HEIGHT_MM,
    PIN_MM,
    PIN_PLAY_MM,
    make_mould,
)
from calvaria.implant.settings import ImplantSettings
from calvaria.implant.solids import pose, spans, to_mesh, to_solid, upright_frame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Mesh

OVERLAP_MM3 = 3.0
"""What is left where both halves and the body have surfaces in common: hundredths of a micrometre of 100 cm2."""

TOUCHING_MM3 = 0.2
"""Walls along the way touch while they move, by less than the halves are simplified: 250 mm of rim 4 mm high."""


def oval():
    """A dome with an oval plan whose walls are parallel to the direction: its rim goes up and down by 10 mm."""
    shell = Manifold.sphere(RADIUS_MM, 256) - Manifold.sphere(RADIUS_MM - 4, 256)
    plan = CrossSection.circle(1.0, 120).scale((62.0, 40.0)).extrude(100.0)
    world = pose(upright_frame(np.array([1.0, 0.0, 0.0])), HEAD_CENTRE_MM)
    mesh = to_mesh((shell ^ plan).transform(world))
    return replace(dome(40.0), mesh=mesh, body=mesh)


def tilted():
    part = dome(40.0)
    direction = np.array([-np.cos(0.3), np.sin(0.3) * 0.6, np.sin(0.3) * 0.8])
    return replace(part, direction=direction)


PARTS = {
    "large": lambda: dome(50.0),
    "small": lambda: dome(10.0, 3.0),
    "leaning wall": lambda: dome(28.0, 6.0, 40.0),
    "upright wall": oval,
    "tilted": tilted,
}


@lru_cache(maxsize=8)
def made(name):
    """A part and its mould, as solids."""
    part = PARTS[name]()
    lower, upper = make_mould(part)
    return part, lower, upper


def block_of(part, lower, upper):
    """The block's frame (rows, up last), its lowest and its highest corner in it."""
    corners = np.concatenate([lower.vertices_mm, upper.vertices_mm])
    up = -part.direction
    across = upright_frame(up)
    flat = corners @ across[:2].T
    hull = flat[ConvexHull(flat).vertices]
    sides = np.roll(hull, -1, axis=0) - hull
    # The smallest rectangle around it has one of its sides along one of the hull's.
    frames = [upright_frame(up, side @ across[:2]) for side in sides]
    frame = min(frames, key=lambda one: np.prod(np.ptp(corners @ one[:2].T, axis=0)))
    local = corners @ frame.T
    return frame, local.min(axis=0), local.max(axis=0)


@pytest.mark.parametrize("name", PARTS)
def test_both_halves_are_closed_and_in_one_piece(name):
    part, lower, upper = made(name)
    for half in (lower, upper):
        assert half.is_closed
        assert len(half.shells) == 1
        assert half.volume_ml > part.body.volume_ml
    up = -part.direction
    assert (lower.vertices_mm @ up).min() == pytest.approx((part.body.vertices_mm @ up).min() - MARGIN_MM, abs=0.01)
    assert (upper.vertices_mm @ up).max() == pytest.approx((part.body.vertices_mm @ up).max() + MARGIN_MM, abs=0.01)


@pytest.mark.parametrize("name", PARTS)
def test_halves_and_body_fill_the_block(name):
    part, lower, upper = made(name)
    frame, low, high = block_of(part, lower, upper)
    local = part.body.vertices_mm @ frame.T
    assert low == pytest.approx(local.min(axis=0) - MARGIN_MM, abs=0.02)
    assert high == pytest.approx(local.max(axis=0) + MARGIN_MM, abs=0.02)
    block_ml = np.prod(high - low) / 1000
    assert lower.volume_ml + upper.volume_ml + part.body.volume_ml == pytest.approx(block_ml, rel=0.01)
    assert to_solid(lower).min_gap(to_solid(upper), 1.0) == 0.0


@pytest.mark.parametrize("name", PARTS)
def test_no_half_overlaps_the_body_or_the_other(name):
    part, lower, upper = made(name)
    body, one, two = to_solid(part.body), to_solid(lower), to_solid(upper)
    assert (one ^ body).volume() < OVERLAP_MM3
    assert (two ^ body).volume() < OVERLAP_MM3
    assert (one ^ two).volume() < OVERLAP_MM3


@pytest.mark.parametrize("name", PARTS)
def test_each_half_is_drawn_off_without_a_collision(name):
    part, lower, upper = made(name)
    body, one, two = to_solid(part.body), to_solid(lower), to_solid(upper)
    for way_mm in (1.0, 3.0, 8.0, 20.0):
        away = -part.direction * way_mm
        assert (two.translate(tuple(away)) ^ body).volume() < TOUCHING_MM3
        assert (one.translate(tuple(-away)) ^ body).volume() < TOUCHING_MM3
        assert (two.translate(tuple(away)) ^ one).volume() < TOUCHING_MM3
    # The test can fail: the other way there is no way out.
    assert (two.translate(tuple(part.direction)) ^ body).volume() > 100
    assert (one.translate(tuple(-part.direction)) ^ body).volume() > 100


@pytest.mark.parametrize("name", PARTS)
def test_channels_lead_from_the_body_to_the_outside_in_the_upper_half_only(name):
    part, lower, upper = made(name)
    frame, low, high = block_of(part, lower, upper)
    turn = np.concatenate([frame, np.zeros((3, 1))], axis=1)
    size = high - low
    block = Manifold.cube(tuple(size - 0.04)).translate(tuple(low + 0.02))  # its sides meet no others
    empty = block - to_solid(lower).transform(turn) - to_solid(upper).transform(turn)
    empty = max(empty.simplify(0.005).decompose(), key=lambda one: one.volume())  # one with the room for the body
    low_end, high_end = low[:2] + 0.05, high[:2] - 0.05
    corners = np.array([low_end, [high_end[0], low_end[1]], high_end, [low_end[0], high_end[1]]])
    share = np.linspace(0, 1, 600, endpoint=False)[:, None, None]
    around = (corners + share * (np.roll(corners, -1, axis=0) - corners)).transpose(1, 0, 2).reshape(-1, 2)
    bottom, top, _ = spans(to_mesh(empty), around)
    is_open = np.nan_to_num(top - bottom) > CHANNEL_MM / 4
    assert np.count_nonzero(is_open & ~np.roll(is_open, 1)) == CHANNELS
    assert np.nanmax(top - bottom) == pytest.approx(CHANNEL_MM / 2, abs=0.35)  # half round; more where it is steep
    channels_ml = empty.volume() / 1000 - part.body.volume_ml
    assert channels_ml > 6 * np.pi * CHANNEL_MM**2 / 8 * (MARGIN_MM - 2) / 1000
    # None in the lower half: without its pins it and the body leave no room below the parting surface.
    flat = lower.vertices_mm @ frame.T
    sides = (np.abs(flat[:, :2] - low[:2]) < 1e-3).any(axis=1) | (np.abs(flat[:, :2] - high[:2]) < 1e-3).any(axis=1)
    rise = flat[sides & (flat[:, 2] > low[2] + 1)][:, 2]
    assert rise.min() > low[2] + MARGIN_MM - 1


def test_four_pins_stand_in_sockets_with_play():
    part, lower, upper = made("large")
    frame, low, high = block_of(part, lower, upper)
    one, two = (Mesh(half.vertices_mm @ frame.T, half.faces) for half in (lower, upper))
    inset = MARGIN_MM / 2
    corners = np.array([[x, y] for x in (low[0] + inset, high[0] - inset) for y in (low[1] + inset, high[1] - inset)])
    beside = corners + np.sign(corners.mean(axis=0) - corners) * (PIN_MM / 2 + 0.5)
    top, floor = spans(one, corners)[1], spans(one, beside)[1]
    assert top - floor == pytest.approx(PIN_HEIGHT_MM, abs=0.15)
    assert spans(two, corners)[0] - top == pytest.approx(PIN_PLAY_MM, abs=0.05)
    edge = corners + np.array([PIN_MM / 2 - 0.1, 0.0])
    assert (spans(one, edge)[1] - floor > 1.5).all()
    past = corners + np.array([PIN_MM / 2 + PIN_PLAY_MM / 2, 0.0])  # neither pin nor upper half
    assert (np.abs(spans(one, past)[1] - floor) < 0.15).all()
    assert (spans(two, past)[0] - floor > 1.5).all()


def test_perforations_do_not_matter_to_a_mould():
    part = dome(28.0)
    drilled, _ = detailed(part, ImplantSettings(perforations=True))
    one, two = make_mould(part), make_mould(drilled)
    assert [half.volume_ml for half in one] == pytest.approx([half.volume_ml for half in two], rel=1e-9)


def test_a_body_that_no_two_halves_release_is_refused():
    part = replace(dome(40.0), direction=np.array([0.0, 1.0, 0.0]))
    with pytest.raises(
        InputError, match=r"^implant: no mould: \d+\.\d cm2 of it lie over other parts .* leave the mould"
    ):
        make_mould(part)


def test_a_body_larger_than_implants_are_is_refused():
    part = dome(40.0)
    big = Mesh(part.body.vertices_mm * 3, part.body.faces)
    with pytest.raises(InputError, match=r"^implant: no mould: it is 309 mm long, moulds are made up to 250 mm; leave"):
        make_mould(replace(part, body=big, mesh=big))


def test_the_direction_is_up():
    part, lower, upper = made("large")
    assert (lower.vertices_mm @ -DIRECTION).mean() < (part.body.vertices_mm @ -DIRECTION).max()
    assert (upper.vertices_mm @ -DIRECTION).max() > (lower.vertices_mm @ -DIRECTION).max()
