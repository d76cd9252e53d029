"""A case that stays in memory after its reconstruction: another implant for it costs only the design."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from calvaria.errors import InputError, naming
from calvaria.implant.memory import Memory
from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import Progress, unheard
from calvaria.results.case import Clock, Inputs, publish, reconstructed, require_dicom, require_place, written_ending
from calvaria.results.design_files import DicomBone, Origin, fill_design
from calvaria.results.design_record import DesignRecord
from calvaria.results.dicom_out import Archive, DicomAsked, archive_for, require_unmarked
from calvaria.results.names import DESIGN, names_of_design, names_of_dicom
from calvaria.results.own_files import OwnFiles
from calvaria.results.record import Record
from calvaria.results.settings import Settings
from calvaria.results.staging import staged
from calvaria.results.word import with_hashes

if TYPE_CHECKING:
    from calvaria.implant.parts import Design, Part
    from calvaria.pipeline import Reconstruction

NO_HOLE = "no hole was found in this skull: the patch is empty, so there is no implant to design"


@dataclass(frozen=True, eq=False)
class Made:
    """A design that is not written yet.

    Args:
        design: the implants with all that was measured of them.
        clock: of the steps so far.
    """

    design: Design
    clock: Clock


@dataclass(frozen=True, eq=False)
class HeldCase:
    """A finished reconstruction with all that further designs need.

    Args:
        result: of the reconstruction.
        inputs: what it was made of.
        record: what its result.json holds.
        archive: the scan whose archive results go to as DICOM, where that was asked for.
        output: its folder of results.
        memory: what designs leave for those that follow; see `calvaria.implant.design.design`.
    """

    result: Reconstruction
    inputs: Inputs
    record: Record
    archive: Archive | None
    output: Path
    memory: Memory = field(default_factory=Memory)

    @classmethod
    def run(
        cls,
        source: Path,
        output: Path,
        settings: Settings,
        progress: Progress = unheard,
        *,
        dicom: DicomAsked | None = None,
        own: OwnFiles | None = None,
    ) -> HeldCase:
        """Reconstruct one file and write what `calvaria.results.case.run_case` writes.

        Raises:
            CalvariaError: as there.
        """
        clock = Clock()
        progress("read", 0.0)
        require_place(output, source, *([own.path] if own is not None and own.path is not None else []))
        require_dicom(source, dicom)
        settings = with_hashes(settings, source)
        notes: list[str] = []
        result, inputs = reconstructed(source, settings, clock=clock, notes=notes, progress=progress, own=own)
        archive = archive_for(source.name, inputs.dicom, dicom)
        record = publish(result, inputs, output, settings, clock=clock, notes=notes, progress=progress, archive=archive)
        return cls(result, inputs, record, archive, output)

    def design(
        self,
        implant: ImplantSettings,
        progress: Progress = unheard,
        formed: Callable[[tuple[Part, ...]], object] = lambda parts: None,
    ) -> Made:
        """Design the implants; nothing is written.

        Args:
            implant: what is asked for of them.
            progress: called with the stage and the fraction done.
            formed: called with the implants as soon as they have their shape, before they are measured.

        Raises:
            CalvariaError: there is no hole, no implant of this kind fits into it, or it is to bear letters while its
                DICOM files are to say nothing of the patient.
        """
        if self.record.patch.empty:
            raise InputError(f"{NO_HOLE}; point at the hole, or ask for smaller ones")
        require_unmarked(self.archive is not None and self.archive.deidentify, bool(implant.mark))
        from calvaria.pipeline import design

        clock = Clock()
        with naming(self.inputs.source.name):
            made = design(self.result, implant, progress=progress, memory=self.memory, formed=formed)
        clock.lap("design")
        return Made(made, clock)

    def write(self, made: Made, progress: Progress = unheard) -> DesignRecord:
        """Write the files of a design beside the reconstruction's: all of them, or none.

        Returns:
            What design.json holds.

        Raises:
            InputError: the folder cannot be written to.
        """
        before, archive = self.record, self.archive
        origin = Origin(
            before.input,
            before.parameters,
            before.confidence,
            before.warnings,
            written_ending(self.inputs.source),
            before.failed,
        )
        bone = None if archive is None else DicomBone(archive, self.result.patch, self.result.completed)
        names = [*names_of_design(self.output), *(names_of_dicom(self.output) if archive is not None else ())]
        with staged(self.output, names, last=DESIGN) as folder:
            return fill_design(folder, made.design, origin, made.clock, progress, bone=bone)


__all__ = ["HeldCase", "Made"]
