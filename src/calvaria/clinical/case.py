"""One clinical case: from its files to masks in the canonical frame, checked on the way.

1. The bone of the skull, segmented if it is a CT; its canonical frame; is there a calvaria?
2. Implant and patch: closed? how large? by which convention do they sit in the hole?
3. The frame again, with the skull completed: a hole rotates it by up to a degree, or misleads it.
4. All rasterised on the aligned grid. What of an implant or patch lies in bone is cut off, if it is little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np

from calvaria.clinical.mesh_coordinates import Surroundings
from calvaria.clinical.parts import Part, read_part
from calvaria.clinical.table import ClinicalRow
from calvaria.errors import InputError
from calvaria.io.images import read_mask, read_volume
from calvaria.skull.canonical import SIZE, SPACING_MM, CanonicalFrame, locate
from calvaria.skull.kinds import kind_of
from calvaria.skull.proportions import proportions
from calvaria.skull.segment import segment_bone
from calvaria.types import BoolArray
from calvaria.volume.distance import distance_to, reach_voxels
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_mask
from calvaria.volume.rotation import rotation_vector
from calvaria.volume.volume import Volume, bounding_box

MIN_VAULT = 0.4
"""A skull with less of its vault than this, over all directions above the brow, is none that a patch can be fitted to;
one half of the head without bone leaves 0.5."""

MAX_OVERLAP, MAX_OVERLAP_ML = 0.05, 3.0
"""An implant or patch of which more than this share, or more than this, lies in bone is refused; less is cut off, and
said. A rim of 35 cm that reaches 0.5 mm into bone 7 mm thick is 1.2 ml: what thresholds of bone differ by."""

SAID_ML = 0.1
"""Less than this that was cut off stands in the record, but is no warning: rounding to voxels along the rim."""

MIN_TOGETHER = 0.5
"""At least this part of the smaller of implant and patch lies in the larger one, both made thicker by ``NEAR_MM``."""

NEAR_MM = 8.0
"""A patch may be thick and an implant thin, and one may lie deeper, but not by more than this."""

TURNED_DEG = 5.0
"""A first pose that is off by more was not only pulled by the hole, but wrong."""

BEYOND_MM = 20.0
"""An implant may reach so far beyond the box of the bone present: a hole may be where the skull is widest."""


@dataclass(frozen=True)
class ImportSettings:
    """How cases are brought in.

    Args:
        spacing_mm: voxel edge of the aligned grid.
        max_overlap: share of an implant or patch that may lie in bone, and is cut off.
        max_overlap_ml: and how much that may be.

    Raises:
        InputError: the spacing is not from 0.3 to 3 mm, or the share not from 0 to 0.5.
    """

    spacing_mm: float = 0.8
    max_overlap: float = MAX_OVERLAP
    max_overlap_ml: float = MAX_OVERLAP_ML

    def __post_init__(self) -> None:
        if not 0.3 <= self.spacing_mm <= 3.0:
            raise InputError(f"the aligned grid's spacing is from 0.3 to 3 mm; got {self.spacing_mm:g}")
        if not 0 <= self.max_overlap <= 0.5:
            raise InputError(f"the share that may lie in bone is from 0 to 0.5; got {self.max_overlap:g}")
        if not self.max_overlap_ml >= 0:
            raise InputError(f"what may lie in bone is from 0 ml; got {self.max_overlap_ml:g}")


@dataclass(frozen=True, eq=False)
class ClinicalCase:
    """A case in the canonical frame; all masks lie on one aligned grid, world mm of which are canonical mm.

    Args:
        defective: the bone present.
        implant: what was made, without what lay in bone; None if there is none.
        patch: the missing bone, likewise.
        frame: canonical mm -> world mm of the skull's file.
        record: JSON-ready: how the parts sat, what was done to them, sizes.
        warnings: what should be looked at.
    """

    defective: Volume
    implant: Volume | None
    patch: Volume | None
    frame: CanonicalFrame
    record: dict[str, Any]
    warnings: tuple[str, ...]


def aligned_grid(spacing_mm: float = SPACING_MM) -> Grid:
    """The canonical grid's field of 204.8 mm in voxels of another size; at 0.4 mm the 512^3 of SkullBreak.

    >>> aligned_grid(0.8).shape, aligned_grid(0.8).affine[:3, 3].round(3).tolist()
    ((256, 256, 256), [-102.0, -102.0, -102.0])
    """
    count = round(SIZE * SPACING_MM / spacing_mm)
    first = -(count - 1) / 2 * spacing_mm
    return Grid.isotropic((count, count, count), spacing_mm, (first, first, first))


def load_case(row: ClinicalRow, settings: ImportSettings) -> ClinicalCase:
    """Read, check and align a case.

    Args:
        row: its files.
        settings: spacing and limits.

    Returns:
        The case in the canonical frame.

    Raises:
        InputError: whatever cannot be used, with the file's name and the figures.
    """
    skull, grid = _read_skull(row)
    settled = _settled(row, skull, grid)
    frame, parts = settled.frame, settled.parts
    target = aligned_grid(settings.spacing_mm)
    world = target.moved(frame.to_world)
    bone = Volume(resample_mask(skull, world).mask, target)
    masks = {what: Volume(part.on(world).mask, target) for what, part in parts.items()}
    cut = {what: _without_bone(mask, bone, parts[what].name, settings) for what, mask in masks.items()}
    warnings = [*settled.warnings, *(text for what, part in parts.items() for text in (*part.warnings, *cut[what][1]))]
    _require_together({what: mask for what, (mask, _, _) in cut.items()}, parts)
    record: dict[str, Any] = {
        "defective_ml": round(bone.volume_ml, 3),
        "vault_share": round(settled.vault_share, 4),
        "pose": {
            "canonical_to_world": frame.to_world.round(9).tolist(),
            "scale": frame.scale.round(4).tolist(),
            "mismatch": round(frame.cost, 4),
            "scan_ends": len(frame.cuts),
        },
        "proportions": asdict(proportions(settled.completed, frame)),
        "grid": {"shape": list(target.shape), "spacing_mm": settings.spacing_mm},
    }
    for what, (mask, _, removed_ml) in cut.items():
        record[what] = parts[what].record() | {
            "volume_ml": round(mask.volume_ml, 3),
            "cut_off_ml": round(removed_ml, 3),
        }
    done = {what: mask for what, (mask, _, _) in cut.items()}
    return ClinicalCase(bone, done.get("implant"), done.get("patch"), frame, record, tuple(warnings))


def _read_skull(row: ClinicalRow) -> tuple[Volume, Grid]:
    """The bone, cut to its box, and the whole grid of the file."""
    name = row.skull.name
    volume = read_volume(row.skull)
    kind = kind_of(volume, name) if row.kind == "auto" else cast(Literal["mask", "ct"], row.kind)
    bone = segment_bone(volume, name=name, stated=row.kind == "ct").bone if kind == "ct" else read_mask(row.skull)
    box = bounding_box(bone.mask)
    if box is None:
        raise InputError(f"{name}: no voxel is bone")
    return bone.crop(box), volume.grid


@dataclass(frozen=True, eq=False)
class _Settled:
    """A skull whose frame is found, and the completed skull."""

    frame: CanonicalFrame
    vault_share: float
    parts: dict[str, Part]
    completed: Volume
    warnings: tuple[str, ...]


def _settled(row: ClinicalRow, skull: Volume, grid: Grid) -> _Settled:
    """Find the frame twice: with the hole, to place the parts, and in the completed skull.

    A large hole rotates the first frame by up to a degree, and the largest ones can mislead it altogether (seen with
    hemicraniectomies); where that was so, everything is placed again.
    """
    first = locate(skull)
    vault, parts = _placed(row, skull, grid, first)
    completed = _completed(skull, parts)
    frame = locate(completed)
    turned_deg = float(np.degrees(np.linalg.norm(rotation_vector(first.to_world[:3, :3].T @ frame.to_world[:3, :3]))))
    warnings: tuple[str, ...] = ()
    if turned_deg > TURNED_DEG:
        vault, parts = _placed(row, skull, grid, frame)
        completed = _completed(skull, parts)
        warnings = (
            f"the pose found with the hole was wrong by {turned_deg:.0f} degrees; found again in the completed skull",
        )
    return _Settled(frame, vault, parts, completed, warnings)


def _placed(row: ClinicalRow, skull: Volume, grid: Grid, frame: CanonicalFrame) -> tuple[float, dict[str, Part]]:
    """How much of the vault is present, and implant and patch where they belong."""
    around = Surroundings.of(skull, frame)
    vault = around.vault_share()
    if vault < MIN_VAULT:
        raise InputError(
            f"{row.skull.name}: only {vault:.0%} of the vault is present, at least {MIN_VAULT:.0%} is wanted; "
            "give a scan that shows the calvaria"
        )
    files = {"implant": row.implant, "patch": row.patch}
    return vault, {what: read_part(path, what, row, grid, around) for what, path in files.items() if path is not None}


def _completed(skull: Volume, parts: dict[str, Part]) -> Volume:
    """The skull completed by the patch, or else by the implant; the hole may reach beyond the bone's box."""
    part = parts.get("patch") or parts["implant"]
    reach = reach_voxels(skull.grid, BEYOND_MM)
    wide = skull.pad(reach, reach, fill=False)
    return wide.with_data(wide.mask | part.on(wide.grid).mask)


def _without_bone(
    part: Volume, bone: Volume, name: str, settings: ImportSettings
) -> tuple[Volume, tuple[str, ...], float]:
    """A part without what lies in bone, what to say about it, and how much that was, ml."""
    within: BoolArray = part.mask & bone.mask
    count = int(np.count_nonzero(part.mask))
    share = int(np.count_nonzero(within)) / max(count, 1)
    removed = part.with_data(within).volume_ml
    if count == 0:
        raise InputError(f"{name}: nothing of it lies on the aligned grid")
    if share > settings.max_overlap or removed > settings.max_overlap_ml:
        raise InputError(
            f"{name}: {removed:.1f} ml ({share:.1%}) of it lie inside bone, at most {settings.max_overlap_ml:g} ml "
            f"and {settings.max_overlap:.0%} are accepted; check that it belongs to this skull"
        )
    rest = part.with_data(part.mask & ~bone.mask)
    warnings = []
    if removed >= SAID_ML:
        warnings.append(f"{name}: {removed:.2f} ml ({share:.1%}) lay inside bone and were cut off")
    if any(np.take(part.mask, (0, -1), axis).any() for axis in range(3)):
        warnings.append(f"{name}: it reaches the edge of the aligned grid and is cut off there")
    return rest, tuple(warnings), removed


def _require_together(masks: dict[str, Volume], parts: dict[str, Part]) -> None:
    """Implant and patch belong to the same hole."""
    if len(masks) < 2:
        return
    small, large = sorted(masks.values(), key=lambda mask: mask.volume_ml)
    near = distance_to(large, limit_mm=NEAR_MM + 1.0) <= NEAR_MM
    together = float(near[small.mask].mean())
    if together < MIN_TOGETHER:
        names = " and ".join(part.name for part in parts.values())
        raise InputError(f"{names}: only {together:.0%} of one lies at the other; they do not belong to the same hole")


__all__ = ["ClinicalCase", "ImportSettings", "aligned_grid", "load_case"]
