"""An implant whose every measure is known: a spherical cap in a ball with a round window around +x."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from calvaria.implant.parts import Design, Outline, Part, Relief, Sheet
from calvaria.implant.settings import ImplantSettings
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid, Volume, extract_surface

OUTER_MM, INNER_MM, WINDOW_DEG = 80.0, 73.0, 28.0
THICKNESS_MM, CLEARANCE_MM = 4.0, 0.7
CELL_RAD = 0.0125


@lru_cache(maxsize=3)
def ball_with_hole(spacing_mm: float = 1.0, window_deg: float = WINDOW_DEG) -> tuple[Volume, Volume]:
    """A shell about the head's centre with a round window around +x, and what filled it."""
    count = int(2 * OUTER_MM / spacing_mm) + 6
    grid = Grid.isotropic((count,) * 3, spacing_mm, HEAD_CENTRE_MM - (count - 1) / 2 * spacing_mm)
    arm = grid.centres_mm() - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=-1)
    shell = (radius <= OUTER_MM) & (radius >= INNER_MM)
    window = arm[..., 0] > np.cos(np.radians(window_deg)) * np.maximum(radius, 1.0)
    return Volume(shell & ~window, grid), Volume(shell & window, grid)


def sphere_sheet() -> Sheet:
    """The ball's surface over the window and 12 mm around it."""
    half = int(np.radians(WINDOW_DEG + 9) / CELL_RAD)
    axes = np.eye(3)
    index = np.stack(np.meshgrid(*(np.arange(-half, half + 1),) * 2, indexing="ij"), axis=-1) * CELL_RAD
    angle = np.hypot(index[..., 0], index[..., 1])
    across = index * (np.sin(angle) / np.maximum(angle, 1e-9))[..., None]
    normals = np.stack([np.cos(angle), across[..., 0], across[..., 1]], axis=-1)
    points = HEAD_CENTRE_MM + OUTER_MM * normals
    return Sheet(points, normals, angle < np.radians(WINDOW_DEG), HEAD_CENTRE_MM, axes, np.full(2, -half), CELL_RAD)


def edge_deg() -> float:
    """Angle from +x at which the implant ends."""
    return WINDOW_DEG - float(np.degrees(CLEARANCE_MM / OUTER_MM))


@lru_cache(maxsize=1)
def cap() -> Design:
    """The design of that implant: its walls are radial, its clearance grows not with depth but for the cone."""
    bone, _ = ball_with_hole()
    step = 0.7
    grid = Grid.isotropic((40, 130, 130), step, HEAD_CENTRE_MM + np.array([60.0, -64.5 * step, -64.5 * step]))
    arm = grid.centres_mm() - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=-1)
    angle = np.arccos(arm[..., 0] / radius)
    edge = np.radians(edge_deg())
    field = np.maximum.reduce([radius - OUTER_MM, OUTER_MM - THICKNESS_MM - radius, (angle - edge) * radius])
    mesh = extract_surface(Volume(field.astype(np.float32), grid), 0.0, inside_above=False)
    sheet = sphere_sheet()
    turn = np.linspace(0, 2 * np.pi, 236, endpoint=False)
    ring = np.stack([np.full_like(turn, np.cos(edge)), np.sin(edge) * np.cos(turn), np.sin(edge) * np.sin(turn)], 1)
    away = np.stack([np.full_like(turn, -np.sin(edge)), np.cos(edge) * np.cos(turn), np.cos(edge) * np.sin(turn)], 1)
    thick = np.full(len(turn), OUTER_MM - INNER_MM)
    outline = Outline(HEAD_CENTRE_MM + OUTER_MM * ring, ring, away, thick)
    body = mesh.vertices_mm - HEAD_CENTRE_MM
    wall = np.abs(np.arccos(body[:, 0] / np.linalg.norm(body, axis=1)) - edge) < 0.004
    part = Part(
        "implant",
        mesh,
        mesh,
        np.array([-1.0, 0.0, 0.0]),
        sheet,
        (outline,),
        np.full(sheet.hole.shape, THICKNESS_MM),
        np.where(wall, CLEARANCE_MM, np.nan),
        Relief(0.0, 0.0),
    )
    return Design((part,), extract_surface(bone, smooth_mm=0.7), bone, np.eye(4), ImplantSettings())
