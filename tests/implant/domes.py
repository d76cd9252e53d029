"""Domes cut from spheres, of any size, thickness and bevel: implants that take no time to make."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from manifold3d import Manifold

from calvaria.implant.parts import Outline, Part, Relief, Sheet
from calvaria.implant.solids import pose, to_mesh, to_solid, upright_frame
from calvaria.skull.head import HEAD_CENTRE_MM

RADIUS_MM = 80.0
CELL_RAD = 0.0125
SIDES = 256
INSET_MM = 0.02
DIRECTION = np.array([-1.0, 0.0, 0.0])


@lru_cache(maxsize=8)
def dome(edge_deg: float = 50.0, thickness_mm: float = 4.0, bevel_deg: float = 0.0, bone_mm: float = 7.0) -> Part:
    """A part of a sphere about +x whose wall is radial, or leans further inwards by an angle."""
    edge, lean = np.radians(edge_deg), np.radians(edge_deg + bevel_deg)
    apex = apex_mm(edge, lean)
    mesh = to_mesh(solid(edge, lean, RADIUS_MM - thickness_mm, 0.0))
    arm = mesh.vertices_mm - HEAD_CENTRE_MM
    wall = np.abs(np.hypot(arm[:, 1], arm[:, 2]) * np.cos(lean) - (arm[:, 0] - apex) * np.sin(lean)) < 0.02
    sheet = sphere(edge)
    return Part(
        "implant",
        mesh,
        mesh,
        DIRECTION,
        sheet,
        (ring(edge, bone_mm),),
        np.full(sheet.hole.shape, thickness_mm),
        np.where(wall, 0.7, np.nan),
        Relief(0.0, 0.0),
    )


def apex_mm(edge: float, lean: float) -> float:
    """Where the cone of the wall begins, from the head's centre along +x."""
    return float(RADIUS_MM * (np.cos(edge) - np.sin(edge) / np.tan(lean)))


def solid(edge: float, lean: float, inner_mm: float, inset_mm: float) -> Manifold:
    """A dome whose surface lies all over so far inside: angles in rad to its edge, and of its wall from +x."""
    apex = apex_mm(edge, lean) + inset_mm / np.sin(lean)
    cone = Manifold.cylinder(100.0, 1e-3, 100.0 * np.tan(lean), SIDES).translate((0.0, 0.0, apex))
    shell = Manifold.sphere(RADIUS_MM - inset_mm, SIDES) - Manifold.sphere(inner_mm + inset_mm, SIDES)
    return (shell ^ cone).transform(pose(upright_frame(np.array([1.0, 0.0, 0.0])), HEAD_CENTRE_MM))


def removed(part: Part, bevel_deg: float = 0.0) -> list[Manifold]:
    """The pieces that were cut out of a dome, less what lies within `INSET_MM` of its surface.

    Surfaces that both have in common would leave slivers without volume all over.
    """
    edge = float(np.arccos(part.outline[0].normals[0, 0]))
    inner = RADIUS_MM - float(np.nanmax(part.thickness_mm))
    core = solid(edge, edge + np.radians(bevel_deg), inner, INSET_MM)
    return [piece for piece in (core - to_solid(part.mesh)).decompose() if piece.volume() > 1e-2]


def sphere(edge: float) -> Sheet:
    """The sphere's outer surface over a dome and 12 mm around it."""
    half = int((edge + 0.15) / CELL_RAD)
    index = np.stack(np.meshgrid(*(np.arange(-half, half + 1),) * 2, indexing="ij"), axis=-1) * CELL_RAD
    angle = np.hypot(index[..., 0], index[..., 1])
    across = index * (np.sin(angle) / np.maximum(angle, 1e-9))[..., None]
    normals = np.stack([np.cos(angle), across[..., 0], across[..., 1]], axis=-1)
    points = HEAD_CENTRE_MM + RADIUS_MM * normals
    return Sheet(points, normals, angle < edge + 0.009, HEAD_CENTRE_MM, np.eye(3), np.full(2, -half), CELL_RAD)


def ring(edge: float, bone_mm: float) -> Outline:
    """The dome's edge on the sphere, 1 mm between its points."""
    turn = np.linspace(0, 2 * np.pi, int(2 * np.pi * RADIUS_MM * np.sin(edge)), endpoint=False)
    one, other = np.cos(turn), np.sin(turn)
    normals = np.stack([np.full_like(turn, np.cos(edge)), np.sin(edge) * one, np.sin(edge) * other], 1)
    away = np.stack([np.full_like(turn, -np.sin(edge)), np.cos(edge) * one, np.cos(edge) * other], 1)
    return Outline(HEAD_CENTRE_MM + RADIUS_MM * normals, normals, away, np.full(len(turn), bone_mm))
