"""What is known of a case that was run: the record that ``result.json`` holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from calvaria.results.settings import Settings

if TYPE_CHECKING:
    from calvaria.metrics import Scores
    from calvaria.pipeline import ModelUsed, PoseReport
    from calvaria.reconstruction.checks import Check
    from calvaria.reconstruction.confidence import Confidence
    from calvaria.reconstruction.holes import Hole, LeftOpen
    from calvaria.reconstruction.own_bone.scans import OwnBoneReport
    from calvaria.refinement.refine import RefinementReport
    from calvaria.results.dicom_out import DicomAsked

SCHEMA = 2
"""Version of the layout of result.json. 2: ``pose.canonical_to_world`` is rigid, its scales stand in ``pose.scale``
alone; ``parameters`` has ``threshold_hu`` and ``min_hole_ml``; ``left_open`` and each hole's ``place`` are new. What
was only added since leaves it at 2: ``refinement``, ``given_patch``, ``own_bone`` and ``own_scan``, where there are
such; ``parameters.refine``, ``parameters.trust`` and ``parameters.series``; ``input.geometry`` of a DICOM series;
``parameters.word`` and ``parameters.gate``, the ``reason`` of what was left open, ``checks``, ``dicom``."""

NOT_ALWAYS = ("scores", "refinement", "given_patch", "own_bone", "own_scan", "dicom")
"""These stand in result.json only where there is something to say."""


@dataclass(frozen=True)
class Input:
    """The input without a trace of whose it is: its name may be the patient's, so only the suffix is kept.

    Args:
        format: the file's suffix.
        shape: of the grid, voxels.
        spacing_mm: edge lengths of a voxel.
        sha256: of the file; of a DICOM series of its voxels and their affine.
        geometry: what is known of a DICOM series' geometry (`calvaria.io.dicom.DicomVolume`); None of other files.
    """

    format: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    sha256: str
    geometry: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields; ``geometry`` only where there is one."""
        return {name: value for name, value in asdict(self).items() if name != "geometry" or value is not None}


@dataclass(frozen=True)
class Patch:
    """The missing bone in figures.

    Args:
        empty: whether no defect was found.
        volume_ml: of all pieces.
    """

    empty: bool
    volume_ml: float


@dataclass(frozen=True)
class SymmetryPlane:
    """The mid-sagittal plane: the points x with n.x = d.

    Args:
        normal: unit n, world LPS.
        offset_mm: d.
    """

    normal: tuple[float, ...]
    offset_mm: float


@dataclass(frozen=True)
class Seconds:
    """Where the time went.

    Args:
        steps: read, load (of the program), reconstruct or refine, picture, write.
        stages: of the step ``reconstruct`` or ``refine``.
        total: all of it.
    """

    steps: dict[str, float]
    stages: dict[str, float]
    total: float

    def to_json(self) -> dict[str, Any]:
        """The steps and the whole side by side, the stages apart."""
        return {**self.steps, "stages": dict(self.stages), "total": self.total}


@dataclass(frozen=True)
class Record:
    """What is known of a case that was run.

    Args:
        versions: of calvaria, Python and what it computes with.
        input: the file that was read.
        parameters: what was asked for.
        patch: the missing bone.
        holes: those completed, largest first.
        left_open: openings of the vault that were found and not filled, each with its reason, largest first.
        plane: of symmetry.
        confidence: what accuracy to expect, or why none can be said.
        model: what completed the skull.
        pose: how the head lies.
        warnings: one line each, for the user to read.
        seconds: where the time went.
        peak_memory_mb: of the process, 10^6 bytes; None where the system does not tell.
        files: what lies in the folder, sorted.
        scores: against the truth, where it is known.
        refinement: what was done to the patch, where it was refined.
        given_patch: the patch's file, where the patch was given.
        checks: the gates of the reconstruction.
        own_bone: how the patient's own bone fits and how much of the patch it is, where it was given.
        own_scan: its file.
        dicom: what was asked for of DICOM, where something was.
        schema: version of the layout.
    """

    versions: dict[str, str]
    input: Input
    parameters: Settings
    patch: Patch
    holes: tuple[Hole, ...]
    left_open: tuple[LeftOpen, ...]
    plane: SymmetryPlane
    confidence: Confidence
    model: ModelUsed
    pose: PoseReport
    warnings: tuple[str, ...]
    seconds: Seconds
    peak_memory_mb: float | None
    files: tuple[str, ...]
    scores: Scores | None = None
    refinement: RefinementReport | None = None
    given_patch: Input | None = None
    checks: tuple[Check, ...] = ()
    own_bone: OwnBoneReport | None = None
    own_scan: Input | None = None
    dicom: DicomAsked | None = None
    schema: int = SCHEMA

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed, where they were to count."""
        return tuple(one for one in self.checks if one.verdict == "fail" and self.parameters.gate)

    def to_json(self) -> dict[str, Any]:
        """What result.json holds: plain values; some only where there are such, infinite ones as null."""
        from calvaria.io.result import json_ready

        record = asdict(self) | {"seconds": self.seconds.to_json(), "input": self.input.to_json()}
        if self.given_patch is not None:
            record["given_patch"] = self.given_patch.to_json()
        if self.own_scan is not None:
            record["own_scan"] = self.own_scan.to_json()
        for name in NOT_ALWAYS:
            if record[name] is None:
                del record[name]
        ready: dict[str, Any] = json_ready(record)
        return ready


def rounded_refinement(report: RefinementReport) -> RefinementReport:
    """A refinement in figures that mean something: um, ms, and five digits of what goes from 0 to 1."""
    return replace(
        report,
        symmetry_before=round(float(report.symmetry_before), 5),
        symmetry_after=round(float(report.symmetry_after), 5),
        mean_mm=round(float(report.mean_mm), 3),
        max_mm=round(float(report.max_mm), 3),
        jacobian_min=round(float(report.jacobian_min), 4),
        seconds=round(float(report.seconds), 3),
        apart_mm=None if report.apart_mm is None else round(float(report.apart_mm), 3),
        added_ml=round(float(report.added_ml), 4),
    )


__all__ = ["SCHEMA", "Input", "Patch", "Record", "Seconds", "SymmetryPlane", "rounded_refinement"]
