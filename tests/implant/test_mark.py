"""The mark: readable from the inner side, as deep as said, one body left; what has no room is said."""

import numpy as np
import pytest
from manifold3d import Manifold, OpType
from PIL import Image, ImageDraw, ImageFont
from tests.implant.domes import RADIUS_MM, dome, removed
from tests.implant.shapes import cap

from calvaria.implant import mark
from calvaria.implant.mark import DEPTH_MM, LETTER_MM, engraved, lettering
from calvaria.implant.solids import to_mesh, way_out
from calvaria.skull.head import HEAD_CENTRE_MM

PIXEL_MM = 0.1


def cut_out(part):
    """The letters' solids, but for their outermost 0.02 mm."""
    return Manifold.batch_boolean(removed(part), OpType.Add)


def seen_from_inside(part):
    """(H, W) what is engraved, as seen from the head's centre with +z up: a slice just above the letters' floor."""
    # Who looks along +x with +z up has -y to the right.
    to_viewer = np.array([[0.0, -1, 0], [0, 0, 1.0], [-1.0, 0, 0]])
    rows = np.concatenate([to_viewer, -(to_viewer @ HEAD_CENTRE_MM)[:, None]], axis=1)
    flat = cut_out(part).transform(rows).project()
    polygons = flat.to_polygons()
    low = np.min([polygon.min(axis=0) for polygon in polygons], axis=0)
    high = np.max([polygon.max(axis=0) for polygon in polygons], axis=0)
    size = np.ceil((high - low) / PIXEL_MM).astype(int) + 2
    image = np.zeros(size[::-1], bool)
    for polygon in polygons:  # even-odd: a hole's outline lies within the letter's
        one = Image.new("1", tuple(size.tolist()))
        at = (polygon - low) / PIXEL_MM
        ImageDraw.Draw(one).polygon([(float(x), float(size[1] - y)) for x, y in at], fill=1)
        image ^= np.asarray(one)
    return image


def written(letter):
    """The same letter as Pillow writes it."""
    font = ImageFont.load_default(200)
    _, high, _, low = font.getbbox("H")
    image = Image.new("L", (300, 300))
    ImageDraw.Draw(image).text((20, 0), letter, fill=255, font=font)
    size = round(300 * LETTER_MM / (low - high) / PIXEL_MM)
    return cropped(np.asarray(image.resize((size, size), Image.Resampling.BOX)) > 127)


def cropped(image):
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def alike(one, other):
    """Overlap of two pictures (Dice), at the best of a few shifts."""
    size = np.maximum(one.shape, other.shape) + 8
    best = 0.0
    fixed = np.zeros(size, bool)
    fixed[4 : 4 + one.shape[0], 4 : 4 + one.shape[1]] = one
    for i in range(9):
        for j in range(9):
            moved = np.zeros(size, bool)
            part = moved[i : i + other.shape[0], j : j + other.shape[1]]
            part[:] = other[: part.shape[0], : part.shape[1]]
            best = max(best, 2 * (fixed & moved).sum() / (fixed.sum() + moved.sum()))
    return best


def legibility(image, text):
    """How well a picture's letters, from the left, are those of a text; the mean."""
    from scipy.ndimage import find_objects, label

    found, count = label(image, np.ones((3, 3)))
    assert count == len(text)
    letters = sorted(zip(find_objects(found), range(1, count + 1), strict=True), key=lambda one: one[0][1].start)
    return np.mean([alike(found[box] == k, written(own)) for (box, k), own in zip(letters, text, strict=True)])


@pytest.mark.parametrize("text", ["FP2", "Rg 47"])
def test_who_looks_at_the_inner_side_can_read_it(text):
    part, notes = engraved(dome(28.0), text)
    assert notes == ()
    found = seen_from_inside(part)
    letters = text.replace(" ", "")
    assert legibility(found, letters) > 0.85
    assert legibility(found[:, ::-1], letters) < 0.7  # not as in a mirror
    assert legibility(found[::-1, ::-1], letters) < 0.7  # nor upside down


@pytest.mark.parametrize("kind", ["dome", "voxels"])
def test_letters_are_as_deep_as_said_and_nothing_breaks(kind):
    part = dome(28.0) if kind == "dome" else cap().parts[0]
    done, notes = engraved(part, "ABO 8")
    assert notes == ()
    assert done.mesh.is_closed
    assert len(done.mesh.shells) == 1
    assert done.mesh.genus == 0
    assert done.body is part.body
    area = sum(mark._glyph(letter).area() for letter in "ABO 8")
    assert 1000 * (part.mesh.volume_ml - done.mesh.volume_ml) == pytest.approx(area * DEPTH_MM, rel=0.1)
    floor = np.linalg.norm(done.mesh.vertices_mm - HEAD_CENTRE_MM, axis=1)
    inside = (floor > RADIUS_MM - 4 + 0.1) & (floor < RADIUS_MM - 0.5)
    inside &= done.mesh.vertices_mm[:, 0] > HEAD_CENTRE_MM[0] + 74.0  # away from the rim
    assert floor[inside].min() > RADIUS_MM - 4 + 0.25
    assert floor[inside].max() == pytest.approx(RADIUS_MM - 4 + DEPTH_MM, abs=0.1)


def test_letters_of_a_long_text_lie_on_the_curved_surface():
    done, notes = engraved(dome(50.0), "ABCDEFGHIJKLMNOPQRSTUVWX")
    assert notes == ()
    pieces = cut_out(done).decompose()
    assert len(pieces) == 24
    for piece in pieces:
        radius = np.linalg.norm(to_mesh(piece).vertices_mm - HEAD_CENTRE_MM, axis=1)
        assert radius.max() == pytest.approx(RADIUS_MM - 4 + DEPTH_MM, abs=0.15)


def test_a_text_too_long_for_a_line_is_broken():
    letters, notes = lettering(dome(20.0), "AB CDEF GH IJ")
    assert notes == ()
    heights = np.array([to_mesh(cutter).vertices_mm[:, 2].mean() for cutter in letters.cutters])
    lines = np.sort(heights)
    assert (np.diff(lines) > 5).sum() >= 1
    assert np.all(np.diff(heights) < 2.0)  # the first line on top


def test_a_text_that_has_no_room_is_left_out_and_said():
    part = dome(9.0)
    assert engraved(part, "IMPLANT 12") == (
        part,
        ("implant: no mark: 'IMPLANT 12' in letters of 5 mm has no room on it; shorten it",),
    )
    thin = dome(28.0, 1.5)
    assert engraved(thin, "A")[0] is thin


def test_letters_that_the_font_has_not_are_refused_by_a_note():
    part = dome(28.0)
    assert engraved(part, "Ж7漢") == (
        part,
        ("implant: no mark: the font has no Ж 漢; write it in plain letters",),
    )


@pytest.mark.parametrize("text", ["", "   "])
def test_no_text_is_no_mark(text):
    part = dome(28.0)
    assert engraved(part, text) == (part, ())


def test_the_area_of_a_mark_covers_its_letters():
    part = dome(28.0)
    letters, _ = lettering(part, "XY 1")
    assert len(letters.cutters) == 3
    on_sphere = np.linalg.norm(letters.area_mm - HEAD_CENTRE_MM, axis=1)
    assert on_sphere == pytest.approx(RADIUS_MM, abs=0.02)
    for cutter in letters.cutters:
        corners = to_mesh(cutter).vertices_mm - HEAD_CENTRE_MM
        above = RADIUS_MM * corners / np.linalg.norm(corners, axis=1, keepdims=True) + HEAD_CENTRE_MM
        near = np.linalg.norm(above[:, None] - letters.area_mm[None], axis=2).min(axis=1)
        assert near.max() < 1.5 / np.sqrt(2) + 0.3
    assert np.isfinite(way_out(part.body, letters.area_mm[0], part.direction))
