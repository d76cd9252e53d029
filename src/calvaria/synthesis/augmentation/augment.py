"""Other heads and other scans from the same skulls: parameters drawn first, then applied without any chance.

Geometry (a warp, another thickness) changes what is true, so the complete skull and its patch go through it together.
Artefacts (blur, thick slices, streaks, noise, a threshold, an end of the scan) are the scanner's: they touch the
defective skull that a network sees, never the truth. Synthetic defects are best cut in between, from the moved head:

    complete, _ = apply_geometry(complete, grid, drawn)
    ... cut the defects: defective, patch
    shown, seen = apply_artefacts(defective, grid, drawn)

:func:`apply_augmentations` does both to skulls whose patch is known already.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from calvaria.deformation.bend import Bend
from calvaria.deformation.flow import DisplacementFields
from calvaria.deformation.warp import Warp, check_volumes, warp_volumes
from calvaria.errors import InputError
from calvaria.synthesis.augmentation.artefacts import Artefacts, Noise, ScanEnd, Streaks, Threshold, scan_volumes
from calvaria.synthesis.augmentation.slices import Slices
from calvaria.synthesis.augmentation.thickness import Thickness, change_thickness
from calvaria.volume.grid import Grid

PARTS = {"threshold": Threshold, "slices": Slices, "streaks": Streaks, "noise": Noise, "end": ScanEnd}


@dataclass(frozen=True)
class Augmentation:
    """Everything that happens to one head.

    Args:
        warp: where it is moved and how it is bent.
        thickness: how its vault's thickness changes, or None.
        artefacts: what its scan suffers.
    """

    warp: Warp = field(default_factory=Warp)
    thickness: Thickness | None = None
    artefacts: Artefacts = field(default_factory=Artefacts)

    def to_json(self) -> str:
        """The parameters as one line of JSON; :meth:`from_json` gives them back exactly."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Augmentation:
        """The parameters that :meth:`to_json` wrote.

        Raises:
            InputError: the text is not an augmentation, or its values are not usable.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            warp, thickness, artefacts = (values.pop(name) for name in ("warp", "thickness", "artefacts"))
            if values:
                raise ValueError(f"unknown {sorted(values)}")
            bend = warp.pop("bend")
            parts = {name: part and PARTS[name](**_tuples(part)) for name, part in artefacts.items()}
            return cls(
                Warp(bend=bend and Bend(**bend), **_tuples(warp)),
                thickness and Thickness(**thickness),
                Artefacts(**parts),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not an augmentation: {error}; see Augmentation.to_json") from None


@dataclass(frozen=True, eq=False)
class AugmentedHeads:
    """Heads after geometry and artefacts.

    Args:
        complete: (B, X, Y, Z) complete skulls, the truth.
        patch: the missing bone within them.
        shown: the defective skulls as a network sees them.
        seen: bool, where the scans show something; a loss counts there only.
    """

    complete: Tensor
    patch: Tensor
    shown: Tensor
    seen: Tensor


def apply_geometry(
    complete: Tensor,
    grid: Grid,
    drawn: Sequence[Augmentation],
    patch: Tensor | None = None,
    forms: DisplacementFields | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Change heads' thickness, then bend and move them.

    Args:
        complete: (B, X, Y, Z) complete skulls in the canonical pose: soft bone (floating, 0 to 1) or bool. On masks,
            everything stays soft until one threshold at the end.
        grid: canonical mm.
        drawn: B augmentations; their artefacts are not looked at.
        patch: the patches within the skulls, of the same shape and dtype, or None.
        forms: what form each head takes before it is moved, see :func:`warp_volumes`.

    Returns:
        The complete skulls and the patches, of the same shape, dtype and device. Patch and skull never overlap and
        leave no seam: masks are cut where their shares together pass 0.5, and a voxel belongs to the larger share.
        Heads that nothing happens to come back bit by bit.

    Raises:
        GeometryError: a tensor does not lie on the grid.
        InputError: as many augmentations as heads are wanted; a dtype that is neither floating nor bool, or two.
    """
    check_volumes(complete, grid, len(drawn))
    if patch is not None and patch.dtype != complete.dtype:
        raise InputError(f"skull and patch are both soft or both masks; got {complete.dtype} and {patch.dtype}")
    masks = complete.dtype == torch.bool
    soft, part = complete, patch
    if masks:
        soft, part = complete.float(), None if patch is None else patch.float()
    soft, part = change_thickness(soft, grid, [one.thickness for one in drawn], part)
    warps = [one.warp for one in drawn]
    if part is None:
        soft = warp_volumes(soft, grid, warps, forms)
        return soft > 0.5 if masks else soft, None
    both = warp_volumes(torch.stack([soft, part], dim=1), grid, warps, forms)  # (B, 2, X, Y, Z)
    return split_bone(both[:, 0], both[:, 1]) if masks else (both[:, 0], both[:, 1].minimum(both[:, 0]))


def split_bone(complete: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of a complete skull and its patch from their soft shares: no overlap, and no seam between them.

    Args:
        complete: floating, shares of bone.
        patch: shares of the patch, part of these.

    Returns:
        Two bool tensors; the defective skull is the first without the second.
    """
    bone = complete > 0.5
    return bone, bone & (patch > 0.5 * complete)


def apply_artefacts(defective: Tensor, grid: Grid, drawn: Sequence[Augmentation]) -> tuple[Tensor, Tensor]:
    """Defective skulls as their scans show them: :func:`calvaria.synthesis.augmentation.artefacts.scan_volumes`.

    Args:
        defective: (B, X, Y, Z) soft bone (floating, 0 to 1) or bool.
        grid: canonical mm.
        drawn: B augmentations; only their artefacts are looked at.

    Returns:
        The skulls, of the same shape, dtype and device; and (B, X, Y, Z) bool, where the scan shows something.

    Raises:
        GeometryError: the tensor does not lie on the grid.
        InputError: as many augmentations as heads are wanted; the dtype is neither floating nor bool.
    """
    return scan_volumes(defective, grid, [one.artefacts for one in drawn])


def apply_augmentations(
    complete: Tensor, patch: Tensor, grid: Grid, drawn: Sequence[Augmentation], known: Tensor | None = None
) -> AugmentedHeads:
    """Geometry and artefacts of skulls whose patch is known already.

    Args:
        complete: (B, X, Y, Z) complete skulls in the canonical pose: soft bone (floating, 0 to 1) or bool.
        patch: the patches within them, of the same shape and dtype.
        grid: canonical mm.
        drawn: B augmentations.
        known: (B, X, Y, Z) bool, where the truth is known at all (a loss mask), or None for everywhere; moved with the
            head, and False where it is moved in from outside of the array.

    Returns:
        The moved truth, what the network sees, and where that counts.

    Raises:
        GeometryError: a tensor does not lie on the grid.
        InputError: as many augmentations as heads are wanted; a dtype that is neither floating nor bool, or two.
    """
    check_volumes(patch, grid, len(drawn))
    moved, part = apply_geometry(complete, grid, drawn, patch)
    if part is None:
        raise InputError("a patch is wanted beside the complete skull; use apply_geometry without one")
    defective = moved & ~part if moved.dtype == torch.bool else moved - part
    shown, seen = apply_artefacts(defective, grid, drawn)
    if known is not None:
        seen &= warp_volumes(known, grid, [one.warp for one in drawn])
    return AugmentedHeads(moved, part, shown, seen)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


__all__ = [
    "Augmentation",
    "AugmentedHeads",
    "apply_artefacts",
    "apply_augmentations",
    "apply_geometry",
    "split_bone",
]
