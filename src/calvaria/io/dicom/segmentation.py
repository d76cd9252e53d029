"""Masks as a DICOM object: a binary segmentation on the scan's own slices, oblique and tilted ones included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calvaria import __version__
from calvaria.errors import GeometryError, InputError, naming
from calvaria.files import PathLike
from calvaria.io.dicom.modules import (
    BODY_PART,
    PRODUCT,
    REQUIRED,
    SERIAL,
    add_common,
    add_references,
    add_related_series,
    instance,
    new_uid,
    pydicom_is_here,
    save,
    unsaid,
)
from calvaria.io.dicom.source import DicomSource, SliceRef

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from calvaria.volume import Grid, Volume

MAX_COSINE = 1e-4
"""Rows and columns of a slice are at right angles when the cosine between them is below it, as `Grid.is_orthogonal`."""

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class of the slices that stand for the scan while the segmentation is made."""


@dataclass(frozen=True)
class SegmentKind:
    """How a mask is called in an archive.

    Args:
        category: coded: value, scheme, meaning.
        type: coded.
        colour: recommended, CIELab as 0 to 65535 each.
        description: for people.
    """

    category: tuple[str, str, str]
    type: tuple[str, str, str]
    colour: tuple[int, int, int]
    description: str


_ANATOMY = ("91723000", "SCT", "Anatomical Structure")
_OBJECT = ("260787004", "SCT", "Physical object")
_FAMILY = ("123111", "DCM", "Deformable Models")
_SKULL = ("89546000", "SCT", "Skull")

SEGMENTS = {
    "completed": SegmentKind(_ANATOMY, _SKULL, (58000, 33300, 36500), "Skull with the missing bone"),
    "patch": SegmentKind(_ANATOMY, ("272673000", "SCT", "Bone"), (40000, 49000, 46000), "Missing bone of the skull"),
    "implant": SegmentKind(_OBJECT, ("40388003", "SCT", "Implant"), (45000, 26000, 22000), "Cranial implant, designed"),
}
"""The masks that can be segments, by name; ``implant-2`` is an ``implant``."""


def write_segmentation(
    path: PathLike,
    masks: Mapping[str, Volume],
    source: DicomSource,
    *,
    description: str = "Skull reconstruction",
) -> None:
    """Write masks as one DICOM SEG: one bit a voxel, frames without any voxel left out.

    Every frame has its own position, so a tilted (sheared) stack is stored as it is, and names the slice of the scan
    that it lies on. Where the scan was resampled (``source.resampled``) there is no such slice: the frames have the
    grid's positions, and only the series is named.

    Args:
        path: the file; replaced if it is there.
        masks: segments by name, in the order of their numbers: names of `SEGMENTS`, with ``-1``, ``-2``, ... after
            them where there are several. All on one grid, slices along the last axis; they may overlap or be empty.
        source: the scan, with one slice for each of the grid's, unless it was resampled.
        description: of the series, at most 64 characters.

    Raises:
        InputError: there is no mask, a name is unknown, or the disk refuses.
        GeometryError: the masks differ in grid, the grid has another number of slices than the scan, or its rows and
            columns are not at right angles.
        MissingExtraError: highdicom is not installed.
    """
    pydicom_is_here()
    from pydicom.uid import ExplicitVRLittleEndian

    with naming(Path(path).name):
        kinds = [_kind(name) for name in masks]
        grid = _common_grid(masks, source)
        frames = _frames(list(masks.values()), grid, transposed=_is_transposed(grid, source))
        slices: Sequence[SliceRef | None] = [None] * grid.shape[2] if source.resampled else source.slices
        with unsaid():
            dataset = _made(frames, list(zip(masks, kinds, strict=True)), source)
        add_common(dataset, source, what="segmentation", series_uid=new_uid(), description=description)
        dataset.BodyPartExamined = BODY_PART
        _add_sources(dataset, frames.uids, slices, source)
        save(path, dataset, ExplicitVRLittleEndian)


@dataclass(frozen=True, eq=False)
class _Frames:
    """Masks as frames, and where these lie.

    Args:
        pixels: (K, rows, columns, segments) uint8.
        orientation: direction of a row (its columns), then of a column.
        pixel_spacing_mm: between rows, between columns.
        step_mm: between slices, along their normal.
        positions_mm: (K, 3) of the first voxel of each slice.
        uids: what stands for each slice of the scan while the object is made.
    """

    pixels: NDArray[np.uint8]
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    step_mm: float
    positions_mm: NDArray[np.float64]
    uids: tuple[str, ...]


def _kind(name: str) -> SegmentKind:
    kind = SEGMENTS.get(name.partition("-")[0])
    if kind is None:
        raise InputError(f"a segment is called one of {', '.join(SEGMENTS)} (or implant-1, ...); got {name!r}")
    return kind


def _common_grid(masks: Mapping[str, Volume], source: DicomSource) -> Grid:
    """The grid of all masks.

    Raises:
        InputError: there is no mask.
        GeometryError: they differ, or do not lie on the scan's slices.
    """
    if not masks:
        raise InputError("a segmentation has at least one mask; got none")
    first, *others = masks.values()
    for other in others:
        first.grid.require_same(other.grid, "the masks of a segmentation")
    grid: Grid = first.grid
    if len(source.slices) != grid.shape[2] and not source.resampled:
        raise GeometryError(
            f"the masks have {grid.shape[2]} slices, the scan {len(source.slices)}; give masks on the scan's own grid"
        )
    across, along = (grid.affine[:3, axis] / grid.spacing_mm[axis] for axis in (0, 1))
    if abs(float(across @ along)) > MAX_COSINE:
        raise GeometryError(
            f"rows and columns of a DICOM slice are at right angles; those of the grid have a cosine of "
            f"{float(across @ along):.4f}; resample the masks, or let the slices be the last axis"
        )
    return grid


def _is_transposed(grid: Grid, source: DicomSource) -> bool:
    """Whether the grid's first axis runs down the scan's columns, as its header says; without one, along its rows."""
    with unsaid():
        orientation = source.header.get("ImageOrientationPatient")
        row = None if not orientation else np.array([float(x) for x in orientation[:3]])
    if row is None or source.resampled:
        return False
    across, along = (abs(float(row @ grid.affine[:3, axis])) / grid.spacing_mm[axis] for axis in (0, 1))
    return along > across


def _frames(masks: Sequence[Volume], grid: Grid, *, transposed: bool) -> _Frames:
    """Slices along the last axis; a row runs along the first one, or along the second where they are transposed."""
    columns, rows = (1, 0) if transposed else (0, 1)
    across, down = (grid.affine[:3, axis] / grid.spacing_mm[axis] for axis in (columns, rows))
    # Exactly at right angles: some readers compare with a tight tolerance.
    down = down - across * float(across @ down)
    down /= np.linalg.norm(down)
    pixels = np.zeros((grid.shape[2], grid.shape[rows], grid.shape[columns], len(masks)), np.uint8)
    for number, mask in enumerate(masks):
        pixels[..., number] = np.transpose(mask.mask, (2, rows, columns))
    index = np.zeros((grid.shape[2], 3))
    index[:, 2] = np.arange(grid.shape[2])
    return _Frames(
        pixels=pixels,
        orientation=(*(float(x) for x in across), *(float(x) for x in down)),
        pixel_spacing_mm=(grid.spacing_mm[rows], grid.spacing_mm[columns]),
        step_mm=abs(float(np.cross(across, down) @ grid.affine[:3, 2])),
        positions_mm=grid.to_world(index),
        uids=tuple(new_uid() for _ in range(grid.shape[2])),
    )


def _made(frames: _Frames, segments: Sequence[tuple[str, SegmentKind]], source: DicomSource) -> Dataset:
    """The object as highdicom makes it, for slices and a patient without any value that could be said in a message."""
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    rows, columns = frames.pixel_spacing_mm
    made: Dataset = hd.seg.Segmentation(
        source_images=_stand_ins(frames, source),
        pixel_array=frames.pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_described(number, *segment) for number, segment in enumerate(segments, 1)],
        series_instance_uid=new_uid(),
        series_number=1,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        device_serial_number=SERIAL,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        pixel_measures=hd.PixelMeasuresSequence((rows, columns), frames.step_mm, frames.step_mm),
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", frames.orientation),
        plane_positions=[hd.PlanePositionSequence("PATIENT", position) for position in frames.positions_mm],
        omit_empty_frames=True,
        content_label="CALVARIA",
        content_description="Skull reconstruction",
    )
    return made


def _described(number: int, name: str, kind: SegmentKind) -> Any:
    import highdicom as hd

    described = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=hd.sr.CodedConcept(*kind.category),
        segmented_property_type=hd.sr.CodedConcept(*kind.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=PRODUCT, version=__version__, family=hd.sr.CodedConcept(*_FAMILY)
        ),
        anatomic_regions=[hd.sr.CodedConcept(*_SKULL)],
    )
    described.RecommendedDisplayCIELabValue = list(kind.colour)
    described.SegmentDescription = kind.description
    return described


def _stand_ins(frames: _Frames, source: DicomSource) -> list[Dataset]:
    """Headers of slices at the frames' places, of nobody."""
    from pydicom.dataset import Dataset

    made = []
    series = new_uid()
    for uid, position in zip(frames.uids, frames.positions_mm, strict=True):
        one = Dataset()
        for keyword in REQUIRED:
            setattr(one, keyword, "")
        one.SOPClassUID, one.SOPInstanceUID = CT_IMAGE, uid
        one.StudyInstanceUID, one.SeriesInstanceUID = source.study_uid, series
        one.FrameOfReferenceUID, one.PositionReferenceIndicator = source.frame_uid, ""
        one.Modality = "CT"
        one.Rows, one.Columns = frames.pixels.shape[1:3]
        one.PixelSpacing = [_decimal(x) for x in frames.pixel_spacing_mm]
        one.SliceThickness = one.SpacingBetweenSlices = _decimal(frames.step_mm)
        one.ImageOrientationPatient = [_decimal(x) for x in frames.orientation]
        one.ImagePositionPatient = [_decimal(x) for x in position]
        made.append(one)
    return made


def _decimal(value: float) -> Any:
    """A number in the 16 characters that DICOM has for it."""
    from pydicom.valuerep import DS, format_number_as_ds

    return DS(format_number_as_ds(float(value)))


@unsaid()
def _add_sources(dataset: Dataset, uids: Sequence[str], slices: Sequence[SliceRef | None], source: DicomSource) -> None:
    """Let frames and object name the scan's slices in the place of those that stood for them."""
    for keyword in ("SourceImageSequence", "ReferencedSeriesSequence"):
        if keyword in dataset:
            del dataset[keyword]
    found = dict(zip(uids, slices, strict=True))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in frame.get("DerivationImageSequence", ()):
            for item in derivation.SourceImageSequence:
                # The frames of several segments on one slice share an item, which then has its name already.
                ref = found.get(item.ReferencedSOPInstanceUID)
                if ref is not None:
                    item.update(instance(ref))
        if source.resampled and "DerivationImageSequence" in frame:
            del frame.DerivationImageSequence
    used = [ref for ref in slices if ref is not None]
    if used:
        add_references(dataset, source, used)
    else:
        add_related_series(dataset, source)


__all__ = ["SEGMENTS", "SegmentKind", "write_segmentation"]
