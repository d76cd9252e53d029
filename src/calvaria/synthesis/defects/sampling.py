"""Synthetic defects drawn at random: how large they are and where they lie, for a head in the canonical frame.

Balls follow the generator that the authors of SkullBreak published (github.com/OldaKodym/BUT_autoimplant_public): one
of N(28, 8) mm radius, up to seven of N(16, 4) mm on its surface. Where each kind lies was not published: it is
modelled here on a head in the canonical frame (mm; +x left, +y posterior, +z superior; vertex near z = 80, brow near
y = -80, z = -15). Craniotomies are as long as the fifty of Rai 2019 (J Neurosci Rural Pract 10:413, 3.5 to 11.5 cm),
anywhere on the vault. Hemicraniectomies have the outline of surgical practice: well off the midline, 12 cm long or
longer, down to the temporal floor; of 118 craniectomies the median had 135 cm2 (PMC6008696). Bifrontal craniectomies
take the frontal bone across the midline: from a finger's breadth above the orbits to the coronal suture, from one
pterion to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calvaria.errors import InputError
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL
from calvaria.skull.head import HEAD_CENTRE_MM, HEAD_HALF_AXES_MM, bend_radius_mm, direction, normals, on_head
from calvaria.synthesis.defects.prisms import PrismSpec
from calvaria.synthesis.defects.shapes import KINDS, DefectSpec
from calvaria.synthesis.defects.specs import ALL_KINDS, MULTIPLE, MultipleSpec, Part, Spec
from calvaria.types import FloatArray

PRIMARY_RADIUS_MM = (28.0, 8.0, 20.0, 44.0)
SECONDARY_RADIUS_MM = (16.0, 4.0, 8.0, 24.0)
"""Mean, standard deviation, smallest and largest radius; the published generator does not cut the tails."""

MAX_SECONDARY_BALLS = 7

BILATERAL_WIDTH = 0.75
"""A bilateral defect has two more balls, left and right, of this many times the primary radius."""

DEPTH_SD_MM = 5.0
"""How far the primary ball's centre lies off the model head, along the radius."""

RAGGED_MM = 1.8
"""Standard deviation of the edge's roughness: about that of the published elastic warp at 0.4 mm."""

LOWEST_SINE = 0.15
"""Random defects are centred above this sine of elevation: z = 20 mm, as the published 32 mm above the landmarks."""

CRANIOTOMY_MM = (35.0, 115.0)
"""Length of a craniotomy (Rai 2019: 3.5 to 11.5 cm)."""

SMALL_CRANIOTOMY_MM, SMALL_RADIUS_MM = (35.0, 60.0), (14.0, 22.0)
"""Length of a craniotomy, and radius of a ball, that is one of several defects in a skull."""

ASPECT = (0.65, 1.0)
"""Width of a craniotomy over its length."""

ELLIPSES = 0.3
"""Part of the craniotomies whose outline is an ellipse; the others are rounded polygons of 4 to 6 corners."""

ELLIPSE_VERTICES = 24
"""An ellipse of 115 mm differs by less than 0.5 mm from its polygon."""

CORNER_MM = (4.0, 14.0)
"""Radius of a polygon's corners."""

BURR_DIAMETER_MM = (12.0, 16.0)
"""Burr holes; the usual perforator makes one of 14 mm."""

WITH_BURRS = 0.6
"""Part of the craniotomies that have burr holes."""

KERF_MM = (1.0, 2.0)
"""What the craniotome takes."""

SAWN_RAGGED_MM = 0.25
"""A sawn edge is nearly smooth: roughness of a wavering hand."""

SINUS_MM = (15.0, 25.0)
"""A hemicraniectomy's distance from the midline: it spares the superior sagittal sinus."""

MIN_LENGTH_MM, MAX_LENGTH_MM = 120.0, 155.0
"""A hemicraniectomy's length from front to back; 12 x 15 cm is advised after trauma."""

HEMI_CM2 = (100.0, 150.0)
"""Area of a hemicraniectomy's outline."""

HEMI_AZIMUTH_DEG, HEMI_ELEVATION_DEG = (78.0, 94.0), (26.0, 32.0)
"""Where the centre of its outline lies on the model head: over the ear, halfway up."""

FLOOR_GAP_MM = (0.0, 10.0)
"""How far above the landmark plane a hemicraniectomy ends: the temporal floor, at the root of the zygoma."""

TEMPORAL_Y_MM = -15.0
"""The temporal floor is reached here: a little before the ear."""

HEMI_OUTLINE = (
    (0.40, -0.22),
    (0.49, 0.04),
    (0.44, 0.33),
    (0.22, 0.48),
    (-0.14, 0.50),
    (-0.42, 0.33),
    (-0.50, 0.04),
    (-0.40, -0.20),
    (-0.18, -0.30),
    (0.02, -0.49),
    (0.20, -0.50),
)
"""Corners of its outline, the length to the front and the height each 1: frontal, parietal, above the ear, temporal."""

HEMI_VERTICES = 24
"""Vertices of the smooth curve through them."""

JITTER = 0.02
"""Standard deviation of these corners, of 1."""

BIFRONTAL_CM2 = (90.0, 165.0)
"""Area of a bifrontal craniectomy's outline."""

BIFRONTAL_AZIMUTH_DEG, BIFRONTAL_ELEVATION_DEG = (-3.0, 3.0), (25.0, 30.0)
"""Where the middle of its plane lies on the model head; seen from there, the brow is a straight line."""

BROW_GAP_MM = (8.0, 22.0)
"""How far above the landmark plane it begins, that is above the supraorbital rim."""

BREGMA_Y_MM = (-38.0, -16.0)
"""Where it ends on the midline: at the coronal suture, 12 to 13 cm from the nasion along the bone, or before it."""

BIFRONTAL_WIDTH_MM = (130.0, 170.0)
"""From side to side along the bone: the temporal lines lie about 14 cm apart, the pterions 16 cm."""

BIFRONTAL_SIDE = ((0.0, 0.30), (0.06, 0.44), (0.30, 0.50), (0.53, 0.47), (0.75, 0.41), (0.92, 0.28), (1.0, 0.11))
"""Corners of the left half of its outline, from the brow to the bregma: height and distance from the midline, of 1."""

SEVERAL = (2, 3)
"""Least and greatest number of defects of a skull with several."""

BRIDGE_MM = 10.0
"""Bone left between two defects of one skull, at least."""

MIXED = (*(kind for kind in KINDS if kind != "ball"), "craniotomy", "hemicraniectomy", MULTIPLE)
"""What a batch is mixed of where nothing else is said; a kind more would give other defects to the same seeds."""

TRIES = 1000
"""Draws of parameters that must fit together; one in two does."""


def sample_defect(kind: str, rng: np.random.Generator) -> Spec:
    """Draw a defect of a kind, for a head in the canonical frame.

    Args:
        kind: one of ``ALL_KINDS``.
        rng: where chance comes from; the same state gives the same spec.

    Returns:
        A spec. It knows no skull: whether the bone inside makes a sound patch is seen when it is applied, and
        :func:`calvaria.synthesis.defects.cut_defect` draws until it does.

    Raises:
        InputError: an unknown kind.
    """
    if kind not in ALL_KINDS:
        raise InputError(f"a defect's kind is one of {', '.join(ALL_KINDS)}; got {kind!r}")
    if kind in KINDS:
        return _balls(kind, rng)
    if kind == MULTIPLE:
        return _several(rng)
    if kind == "bifrontal":
        return _bifrontal(rng)
    return _hemicraniectomy(rng) if kind == "hemicraniectomy" else _craniotomy(rng, CRANIOTOMY_MM)


def sample_specs(rng: np.random.Generator, n: int, kinds: Mapping[str, float] | None = None) -> list[Spec]:
    """Draw defects of mixed kinds, as a training batch wants them.

    Args:
        rng: where chance comes from.
        n: how many; 0 gives an empty list.
        kinds: kind -> weight, need not sum to 1; None: those of ``MIXED``, equally often.

    Raises:
        InputError: an unknown kind, a negative weight, or no weight above 0.
    """
    weights = dict.fromkeys(MIXED, 1.0) if kinds is None else dict(kinds)
    unknown = sorted(set(weights) - set(ALL_KINDS))
    if unknown:
        raise InputError(f"a defect's kind is one of {', '.join(ALL_KINDS)}; got {unknown[0]!r}")
    share = np.array(list(weights.values()), float)
    if not (np.isfinite(share).all() and (share >= 0).all() and share.sum() > 0):
        raise InputError(f"weights of kinds are at least 0, one of them above; got {weights}")
    chosen = rng.choice(len(share), n, p=share / share.sum())
    return [sample_defect(list(weights)[index], rng) for index in chosen]


def _balls(kind: str, rng: np.random.Generator) -> DefectSpec:
    centre = _position(kind, rng)
    radius = _radius(PRIMARY_RADIUS_MM, rng)
    if kind == "ball":
        return DefectSpec(kind, (_ball(centre, radius),))
    balls = [_ball(centre, radius)]
    small = _radius(SECONDARY_RADIUS_MM, rng)
    if kind == "bilateral":  # wide across the midline
        balls += [_ball(centre + side * np.array([radius, 0.0, 0.0]), BILATERAL_WIDTH * radius) for side in (-1.0, 1.0)]
    for _ in range(int(rng.integers(0, MAX_SECONDARY_BALLS + 1))):
        away = rng.normal(size=3)
        balls.append(_ball(centre + radius * away / np.linalg.norm(away), small))
    return DefectSpec(kind, tuple(balls), RAGGED_MM, int(rng.integers(2**31)))


def _position(kind: str, rng: np.random.Generator) -> FloatArray:
    """(3,) canonical mm: the primary ball's centre."""
    side = rng.choice([-1.0, 1.0])
    if kind == "bilateral":
        azimuth, elevation = rng.normal(0.0, 10.0) + rng.choice([0.0, 180.0]), rng.uniform(35.0, 85.0)
    elif kind == "frontoorbital":
        azimuth, elevation = side * rng.uniform(12.0, 40.0), rng.uniform(2.0, 22.0)
    elif kind == "parietotemporal":
        azimuth, elevation = side * rng.uniform(70.0, 120.0), rng.uniform(2.0, 40.0)
    else:
        azimuth, elevation = _anywhere(rng)
    out = direction(azimuth, elevation)
    centre: FloatArray = HEAD_CENTRE_MM + HEAD_HALF_AXES_MM * out + rng.normal(0.0, DEPTH_SD_MM) * out
    return centre


def _anywhere(rng: np.random.Generator) -> tuple[float, float]:
    """Azimuth and elevation, degrees: anywhere on the vault, evenly over its area."""
    azimuth = rng.uniform(-180.0, 180.0)
    return azimuth, float(np.degrees(np.arcsin(rng.uniform(LOWEST_SINE, 1.0))))


def _radius(distribution: tuple[float, float, float, float], rng: np.random.Generator) -> float:
    mean, sd, smallest, largest = distribution
    return float(np.clip(rng.normal(mean, sd), smallest, largest))


def _ball(centre: FloatArray, radius: float) -> tuple[float, float, float, float]:
    x, y, z = _rounded(centre, 3)
    return x, y, z, round(radius, 3)


def _rounded(vector: FloatArray, digits: int) -> tuple[float, float, float]:
    x, y, z = (round(float(v), digits) for v in vector)
    return x, y, z


def _craniotomy(rng: np.random.Generator, length_mm: tuple[float, float]) -> PrismSpec:
    """A flap somewhere on the vault: a rounded polygon or an ellipse, with or without burr holes at its corners."""
    centre = on_head(*_anywhere(rng))
    length, aspect = rng.uniform(*length_mm), rng.uniform(*ASPECT)
    turn, kerf = rng.uniform(0.0, 2 * np.pi), rng.uniform(*KERF_MM)
    if rng.random() < ELLIPSES:
        corner, angles, radii = 0.0, np.arange(ELLIPSE_VERTICES) / ELLIPSE_VERTICES, np.ones(ELLIPSE_VERTICES)
    else:
        count = int(rng.integers(4, 7))
        corner = min(rng.uniform(*CORNER_MM), 0.25 * aspect * length)
        angles = (np.arange(count) + rng.uniform(-0.2, 0.2, count)) / count
        radii = rng.uniform(0.92, 1.08, count)
    corners = np.stack([np.cos(2 * np.pi * angles), aspect * np.sin(2 * np.pi * angles)], axis=1) * radii[:, None]
    corners *= (length / 2 - corner) / np.linalg.norm(corners, axis=1).max()
    burrs = _burrs(corners, corner, rng) if rng.random() < WITH_BURRS else ()
    return PrismSpec(
        "craniotomy",
        **_laid_on(centre, turn),
        outline_mm=_plane(corners),
        corner_mm=round(corner, 3),
        kerf_mm=round(kerf, 3),
        burrs_mm=burrs,
        ragged_mm=SAWN_RAGGED_MM,
        ragged_seed=int(rng.integers(2**31)),
    )


def _burrs(corners: FloatArray, corner_mm: float, rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Holes of one perforator on the outline's corners: on some or all of a polygon's, on up to four of an ellipse."""
    radius = rng.uniform(*BURR_DIAMETER_MM) / 2
    most = min(len(corners), 6) if len(corners) < ELLIPSE_VERTICES else 4
    count = int(rng.integers(1, most + 1))
    chosen = np.sort(rng.permutation(len(corners))[:count])
    if len(corners) >= ELLIPSE_VERTICES:  # evenly round
        chosen = (chosen[0] + np.arange(count) * len(corners) // count) % len(corners)
    out = []
    for a, b in corners[chosen]:
        grown = 1.0 + corner_mm / max(float(np.hypot(a, b)), 1e-6)
        out.append((round(float(a * grown), 3), round(float(b * grown), 3), round(float(radius), 3)))
    return tuple(out)


def _laid_on(centre: FloatArray, turn: float) -> dict[str, Any]:
    """The frame of a prism on the model head; turned by 0, its first axis runs to the front (up, on brow and nape)."""
    normal = normals(centre)
    ahead = np.array([0.0, -1.0, 0.0]) if abs(normal[1]) < np.sqrt(0.5) else np.array([0.0, 0.0, 1.0])
    front = ahead - (ahead @ normal) * normal
    front /= np.linalg.norm(front)
    across = np.cos(turn) * front + np.sin(turn) * np.cross(normal, front)
    return {
        "centre_mm": _rounded(centre, 3),
        "normal": _rounded(normal, 6),
        "across": _rounded(across, 6),
        "bend_mm": round(bend_radius_mm(centre, normal), 3),
    }


def _plane(vertices: FloatArray) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(a), 3), round(float(b), 3)) for a, b in vertices)


def _hemicraniectomy(rng: np.random.Generator) -> PrismSpec:
    """Half the vault: its top as far off the midline, its lowest corner as low, and as long, as surgeons cut."""
    for _ in range(TRIES):
        side = float(rng.choice([-1.0, 1.0]))
        middle = on_head(side * rng.uniform(*HEMI_AZIMUTH_DEG), rng.uniform(*HEMI_ELEVATION_DEG))
        frame = _laid_on(middle, 0.0)
        midline = rng.uniform(*SINUS_MM)
        length = rng.uniform(MIN_LENGTH_MM, MAX_LENGTH_MM)
        bare = PrismSpec("hemicraniectomy", **frame, outline_mm=((-1.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
        up = 1.0 if float(np.cross(frame["normal"], frame["across"])[2]) > 0 else -1.0
        ends = np.stack([_near_midline(side * midline, middle[1]), _at_floor(side, rng.uniform(*FLOOR_GAP_MM))])
        top, bottom = up * bare.on_plane(ends)[:, 1]
        corners = np.array(HEMI_OUTLINE) + rng.normal(0.0, JITTER, (len(HEMI_OUTLINE), 2))
        shape = _smooth_curve((corners - corners.min(axis=0)) / np.ptp(corners, axis=0))
        a = (shape[:, 0] - 0.5) * length
        # The curve is seldom shorter than its corners lie apart, but its vertices may leave out the outermost of them.
        a *= max(1.0, MIN_LENGTH_MM / float(np.ptp(a)))
        b = bottom + shape[:, 1] * (top - bottom)
        spec = PrismSpec(
            "hemicraniectomy",
            **frame,
            outline_mm=_plane(np.stack([a, up * b], axis=1)),
            kerf_mm=round(rng.uniform(*KERF_MM), 3),
            midline_mm=round(midline, 3),
            ragged_mm=SAWN_RAGGED_MM,
            ragged_seed=int(rng.integers(2**31)),
        )
        if HEMI_CM2[0] <= spec.outline_area_cm2() <= HEMI_CM2[1]:
            return spec
    raise InputError(f"no hemicraniectomy of {HEMI_CM2} cm2 in {TRIES} draws: the model head was changed")


def _bifrontal(rng: np.random.Generator) -> PrismSpec:
    """The frontal bone across the midline: from above the orbits to the coronal suture."""
    for _ in range(TRIES):
        middle = on_head(rng.uniform(*BIFRONTAL_AZIMUTH_DEG), rng.uniform(*BIFRONTAL_ELEVATION_DEG))
        frame = _laid_on(middle, 0.0)
        bare = PrismSpec("bifrontal", **frame, outline_mm=((-1.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
        ends = np.stack([_near_midline(0.0, rng.uniform(*BREGMA_Y_MM)), _above_brow(rng.uniform(*BROW_GAP_MM))])
        top, bottom = bare.on_plane(ends)[:, 0]
        half = np.array(BIFRONTAL_SIDE)
        corners = np.concatenate([half, half[::-1] * [1.0, -1.0]])
        shape = _smooth_curve(corners + rng.normal(0.0, JITTER, corners.shape))
        height, width = np.ptp(shape, axis=0)
        a = bottom + (shape[:, 0] - shape[:, 0].min()) / height * (top - bottom)
        b = shape[:, 1] / width * rng.uniform(*BIFRONTAL_WIDTH_MM)
        spec = PrismSpec(
            "bifrontal",
            **frame,
            outline_mm=_plane(np.stack([a, b], axis=1)),
            kerf_mm=round(rng.uniform(*KERF_MM), 3),
            ragged_mm=SAWN_RAGGED_MM,
            ragged_seed=int(rng.integers(2**31)),
        )
        if BIFRONTAL_CM2[0] <= spec.outline_area_cm2() <= BIFRONTAL_CM2[1]:
            return spec
    raise InputError(f"no bifrontal craniectomy of {BIFRONTAL_CM2} cm2 in {TRIES} draws: the model head was changed")


def _near_midline(x_mm: float, y_mm: float) -> FloatArray:
    """(3,) the point of the model head's top with these coordinates."""
    a, b, c = HEAD_HALF_AXES_MM
    rest = 1.0 - (x_mm / a) ** 2 - (y_mm / b) ** 2
    return np.array([x_mm, y_mm, HEAD_CENTRE_MM[2] + c * np.sqrt(rest)])


def _at_floor(side: float, gap_mm: float) -> FloatArray:
    """(3,) the point of the model head's side that lies so far above the landmark plane, before the ear."""
    z = (LANDMARK_MM - gap_mm - LANDMARK_NORMAL[1] * TEMPORAL_Y_MM) / LANDMARK_NORMAL[2]
    a, b, c = HEAD_HALF_AXES_MM
    rest = 1.0 - (TEMPORAL_Y_MM / b) ** 2 - ((z - HEAD_CENTRE_MM[2]) / c) ** 2
    return np.array([side * a * np.sqrt(rest), TEMPORAL_Y_MM, z])


def _above_brow(gap_mm: float) -> FloatArray:
    """(3,) the point of the model head's forehead, on the midline, that lies so far above the landmark plane."""
    _, b, c = HEAD_HALF_AXES_MM
    # On the profile y = -b cos t, z = centre + c sin t the landmark coordinate is A cos t + B sin t, up to a constant.
    cosine, sine = -LANDMARK_NORMAL[1] * b, LANDMARK_NORMAL[2] * c
    wanted = LANDMARK_MM - gap_mm - LANDMARK_NORMAL[2] * HEAD_CENTRE_MM[2]
    t = np.arctan2(sine, cosine) + np.arccos(wanted / np.hypot(cosine, sine))
    return np.array([0.0, -b * np.cos(t), HEAD_CENTRE_MM[2] + c * np.sin(t)])


def _smooth_curve(corners: FloatArray) -> FloatArray:
    """(HEMI_VERTICES, 2) points of the closed cubic spline through some corners."""
    from scipy.interpolate import CubicSpline

    closed = np.concatenate([corners, corners[:1]])
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    curve = CubicSpline(steps, closed, bc_type="periodic")
    points: FloatArray = curve(np.linspace(0.0, steps[-1], HEMI_VERTICES, endpoint=False))
    return points


def _several(rng: np.random.Generator) -> MultipleSpec:
    """Two or three small defects with bone between them."""
    wanted = int(rng.integers(SEVERAL[0], SEVERAL[1] + 1))
    parts: list[Part] = []
    for _ in range(TRIES):
        part = _small(rng)
        if all(_apart(part, other) for other in parts):
            parts.append(part)
        if len(parts) == wanted:
            return MultipleSpec(tuple(parts))
    raise InputError(f"no room for {wanted} defects in {TRIES} draws: the model head was changed")


def _small(rng: np.random.Generator) -> Part:
    if rng.random() < 0.5:
        return _craniotomy(rng, SMALL_CRANIOTOMY_MM)
    radius = rng.uniform(*SMALL_RADIUS_MM)
    return DefectSpec("random_1", (_ball(on_head(*_anywhere(rng)), radius),), RAGGED_MM, int(rng.integers(2**31)))


def _apart(one: Part, other: Part) -> bool:
    """Whether bone is left between two small defects, by balls about them."""
    (a, r), (b, s) = (_ball_about(part) for part in (one, other))
    return bool(np.linalg.norm(a - b) >= r + s + BRIDGE_MM)


def _ball_about(part: Part) -> tuple[FloatArray, float]:
    if isinstance(part, PrismSpec):
        return np.array(part.centre_mm), part.reach_mm()
    x, y, z, radius = part.balls_mm[0]
    return np.array([x, y, z]), radius + part.ragged_mm


__all__ = ["sample_defect", "sample_specs"]
