"""Every shape of a synthetic defect under one name: balls, prisms, and several of them in one skull."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calvaria.errors import InputError
from calvaria.synthesis.defects.prisms import PRISM_KINDS, PrismSpec
from calvaria.synthesis.defects.shapes import KINDS, DefectSpec
from calvaria.types import FloatArray
from calvaria.volume.namespace import Array, namespace_of

MULTIPLE = "multiple"
"""Kind of a spec that holds several."""

ALL_KINDS = (*KINDS, *PRISM_KINDS, MULTIPLE)
"""Every kind of synthetic defect."""

Part = DefectSpec | PrismSpec
"""A shape that is cut as one: its patch is one piece."""


@dataclass(frozen=True)
class MultipleSpec:
    """Several defects in one skull.

    Args:
        parts: at least two shapes.
        kind: "multiple".

    Raises:
        InputError: fewer than two shapes, or another kind.
    """

    parts: tuple[Part, ...]
    kind: str = MULTIPLE

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or self.kind != MULTIPLE:
            raise InputError(f"a spec of kind {MULTIPLE!r} has two parts or more; got {self.kind!r}, {len(self.parts)}")

    def to_json(self) -> str:
        """The spec as one line of JSON; :meth:`from_json` gives it back exactly."""
        return json.dumps({"kind": self.kind, "parts": [json.loads(part.to_json()) for part in self.parts]})

    @classmethod
    def from_json(cls, text: str) -> MultipleSpec:
        """The spec that :meth:`to_json` wrote.

        Raises:
            InputError: the text is not a spec.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            parts = tuple(_part_from(json.dumps(part)) for part in values.pop("parts"))
            return cls(parts, **values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a spec of several defects: {error}; see MultipleSpec.to_json") from None

    def field_mm(self, points_mm: ArrayLike) -> FloatArray:
        """(N,) float32 mm at (N, 3) canonical points: the smallest of the parts' fields, negative inside any."""
        field: FloatArray = self.field(np.ascontiguousarray(np.asarray(points_mm, dtype=np.float32).T))
        return field

    def field(self, points: Array) -> Array:
        """The same at (3, N) float32 points, a numpy array or a torch tensor: (N,) of the same kind."""
        field = self.parts[0].field(points)
        for part in self.parts[1:]:
            field = namespace_of(points).minimum(field, part.field(points))
        return field

    def bounds_mm(self) -> FloatArray:
        """(2, 3) canonical mm: a box that holds all parts."""
        boxes = np.stack([part.bounds_mm() for part in self.parts])
        bounds: FloatArray = np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])
        return bounds


Spec = DefectSpec | PrismSpec | MultipleSpec
"""The shape of a synthetic defect: ``kind``, ``parts``, ``field_mm``, ``field``, ``bounds_mm``, ``to_json``."""


def spec_from_json(text: str) -> Spec:
    """The spec of any kind that its ``to_json`` wrote.

    Raises:
        InputError: the text is not a spec.
    """
    return MultipleSpec.from_json(text) if _kind_in(text) == MULTIPLE else _part_from(text)


def _part_from(text: str) -> Part:
    return PrismSpec.from_json(text) if _kind_in(text) in PRISM_KINDS else DefectSpec.from_json(text)


def _kind_in(text: str) -> str:
    try:
        return str(json.loads(text)["kind"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a defect spec: {error!r}; see the spec's to_json") from None


__all__ = ["ALL_KINDS", "MULTIPLE", "MultipleSpec", "Part", "Spec", "spec_from_json"]
