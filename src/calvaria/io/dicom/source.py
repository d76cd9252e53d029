"""Where a volume comes from, for results that go back to the archive; kept apart from all records.

Nothing of it may stand in a log, a message or a record: it says who the patient is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class SliceRef:
    """One slice of a volume as it was stored.

    Args:
        sop_class_uid: of its instance.
        sop_instance_uid: of its instance.
        frame: number of the frame, from 1, in a multi-frame instance; None for a single-frame one.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class DicomSource:
    """Where a volume comes from.

    Args:
        study_uid: of the study.
        series_uid: of the series.
        frame_uid: frame of reference.
        slices: along the volume's last axis; empty where the voxels were resampled (``resampled``).
        header: one instance's patient, study, frame of reference and equipment modules, without its pixels.
        resampled: whether the volume's slices are not those of the scan.
    """

    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    frame_uid: str = field(repr=False)
    slices: tuple[SliceRef, ...] = field(repr=False)
    header: Dataset = field(repr=False)
    resampled: bool = False


__all__ = ["DicomSource", "SliceRef"]
