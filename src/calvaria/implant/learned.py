"""The implant that a cascade has learned to give: from its soft answer to the solid that a design starts from.

In place of a layer under the head's outer surface the design then takes this solid. All else is as always: it keeps
its clearance to bone, can be put in, has no wall that is too thin, and is held against the same checks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np

from calvaria.errors import InputError
from calvaria.implant.settings import ImplantSettings
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.networks.cascade_engine import CascadeEngine
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.reconstruction.surface import BoneSurface, to_box
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F32, F64
from calvaria.volume.distance import distance_to
from calvaria.volume.gather import trilinear_at
from calvaria.volume.resample import resample
from calvaria.volume.volume import Volume, bounding_box

Source = Literal["parametric", "learned"]
"""What an implant is made of: its parameters, or what a cascade has learned."""

LIMIT_MM = 12.0
"""Distances to the solid's surface are no more than this: thicker than any implant."""

FROM_PATCH_MM = 10.0
"""What lies farther than this from the missing bone belongs to no hole that is to be filled."""

NOT_LEARNED = ("offset_mm", "flatten", "temporal_relief_mm", "thickness", "thickness_mm")
"""Parameters that a learned implant does not have: its outer surface and its thickness are what was learned."""


@dataclass(frozen=True, eq=False)
class Solid:
    """An implant as a soft field.

    Args:
        probability: float32, 0 to 1, on any grid, world mm; the surface is at a half.
    """

    probability: Volume

    @cached_property
    def _surface(self) -> BoneSurface:
        return BoneSurface.of(self.probability)

    @property
    def outer(self) -> tuple[F64, F64]:
        """(N, 3) points of its surface, world mm, and (N, 3) unit normals out of it."""
        return self._surface.points_mm, -self._surface.normals

    @cached_property
    def distance(self) -> Volume:
        """Signed distance to its surface on its own grid, mm, negative inside."""
        return Volume(self._surface.distances(self.probability.grid, LIMIT_MM), self.probability.grid)

    def distance_mm(self, points_mm: F64) -> F32:
        """(N,) signed distances of (N, 3) points; the limit outside of the grid."""
        index = self.distance.grid.to_index(points_mm).T
        values = self.distance.data.reshape(-1) - np.float32(LIMIT_MM)
        return np.asarray(LIMIT_MM + trilinear_at(values, self.distance.shape, index), np.float32)

    def mask(self, defective: Volume, patch: Volume) -> Volume:
        """What of it lies at the missing bone and in no bone, on the skull's grid.

        Args:
            defective: mask of the bone that is there.
            patch: mask of the missing bone on the same grid.

        Raises:
            InputError: nothing does.
        """
        inside = resample(self.probability, defective.grid).data > 0.5
        near = distance_to(patch, limit_mm=2 * FROM_PATCH_MM) <= FROM_PATCH_MM
        found = inside & near & ~defective.mask
        if not found.any():
            raise InputError(
                "the learned implant does not lie at the missing bone: leave --implant learned out, or name another "
                "model"
            )
        return defective.with_data(found)


def require_learned(name: str, device: str = "auto") -> CascadeEngine:
    """The cascade of a name, that has learned implants.

    Raises:
        InputError: there is no such model, or it has no implant branch.
    """
    engine = load_engine(name, device)
    if not isinstance(engine, CascadeEngine) or "implant" not in engine.spec.branches:
        raise InputError(
            f"the model {name!r} has no implant branch: a learned implant wants a cascade that was trained with "
            "implants (calvaria train cascade)"
        )
    return engine


def require_its_own_shape(settings: ImplantSettings) -> None:
    """Raise where parameters are asked for that a learned implant does not have.

    Raises:
        InputError: one is.
    """
    for one in fields(ImplantSettings):
        if one.name in NOT_LEARNED and getattr(settings, one.name) != one.default:
            raise InputError(
                f"{one.name} is the parametric implant's: a learned implant has its own outer surface and thickness; "
                "leave it out, or --implant learned"
            )


def learned_solid(engine: CascadeEngine, defective: Volume, frame: CanonicalFrame, soft: SoftField | None) -> Solid:
    """What the implant branch gives for a skull.

    Args:
        engine: with an implant branch.
        defective: mask of the bone that is there.
        frame: the skull's pose.
        soft: the completion in that pose, if there is one.

    Raises:
        InputError: it finds no hole, or there is no bone.
    """
    box = bounding_box(defective.mask)
    if box is None:
        raise InputError("there is no bone to fit an implant to")
    skull = defective.crop(box)
    field = to_box(skull, frame)
    if soft is None:
        found = engine.implant_of(engine.answer(field, None, skull, frame), frame)
    else:
        found = engine.implant_field(skull, Completion(frame, field, soft))
    if found is None:
        raise InputError("the model's implant branch finds no hole in this skull; leave --implant learned out")
    return Solid(found)


__all__ = ["Solid", "Source", "learned_solid", "require_its_own_shape", "require_learned"]
