"""The spherical implant of `shapes`, in bone of finer voxels than those, and spoiled in one way each."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from tests.implant.shapes import INNER_MM, OUTER_MM, WINDOW_DEG, cap

from calvaria.implant.parts import Design, Part
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F64
from calvaria.volume import Grid, Mesh, Volume


@lru_cache(maxsize=1)
def fine_ball(spacing_mm: float = 0.5) -> Volume:
    """The side of the ball with the window."""
    low = HEAD_CENTRE_MM + np.array([50.0, -60.0, -60.0])
    count = int(120 / spacing_mm) + 1
    grid = Grid.isotropic((int(33 / spacing_mm), count, count), spacing_mm, low)
    arm = grid.centres_mm() - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=-1)
    shell = (radius <= OUTER_MM) & (radius >= INNER_MM)
    return Volume(shell & ~(arm[..., 0] > np.cos(np.radians(WINDOW_DEG)) * radius), grid)


@lru_cache(maxsize=1)
def fine_cap() -> Design:
    return replace(cap(), bone=fine_ball())


def the_cap() -> Part:
    return cap().parts[0]


def with_body(part: Part, vertices_mm: F64) -> Part:
    """The part with its vertices elsewhere."""
    mesh = Mesh(vertices_mm, part.body.faces)
    return replace(part, mesh=mesh, body=mesh)


def polar(points_mm: F64) -> tuple[F64, F64]:
    """Distance from the ball's centre, mm, and angle from +x, radians."""
    arm = points_mm - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=1)
    return radius, np.arccos(arm[:, 0] / radius)


def thinned(part: Part, by_mm: float, within_deg: float = 90.0) -> Part:
    """The inner side moved outwards, where it is nearer to the middle than an angle."""
    radius, angle = polar(part.body.vertices_mm)
    inner = (radius < OUTER_MM - 2.0) & (angle < np.radians(within_deg))
    scale = np.where(inner, 1 + by_mm / radius, 1.0)
    return with_body(part, HEAD_CENTRE_MM + (part.body.vertices_mm - HEAD_CENTRE_MM) * scale[:, None])


def in_design(part: Part) -> Design:
    """The fine cap's design with another part."""
    return replace(fine_cap(), parts=(part,))
