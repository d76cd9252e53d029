"""Implants for one skull, from a file or a folder of results to a folder of files: what ``calvaria design`` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from calvaria.errors import InputError, naming
from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import Progress, unheard
from calvaria.results.case import (
    FILE_NAMES,
    Clock,
    fill,
    reconstructed,
    require_dicom,
    require_place,
    written_ending,
)
from calvaria.results.design_files import DicomBone, Origin, fill_design
from calvaria.results.design_record import DesignRecord
from calvaria.results.dicom_out import DicomAsked, archive_for, require_unmarked
from calvaria.results.finished import is_finished, read_finished
from calvaria.results.kept import made_of
from calvaria.results.names import (
    DESIGN,
    RESULT,
    Case,
    find_cases,
    find_results,
    image_suffix,
    is_dicom,
    names_of_design,
    names_of_dicom,
)
from calvaria.results.own_files import OwnFiles, require_unknown
from calvaria.results.settings import Settings
from calvaria.results.staging import staged
from calvaria.results.word import with_hashes

RECONSTRUCTED = 0.5
"""Where the progress bar is when the missing bone is known, if it was not before."""

DESIGNED = 0.8
"""Share of the rest that is over when the design is made; then come files and pictures."""


def run_design(
    source: Path,
    output: Path,
    settings: Settings,
    implant: ImplantSettings,
    progress: Progress = unheard,
    *,
    dicom: DicomAsked | None = None,
    study: int | None = None,
    own: OwnFiles | None = None,
    learned: bool = False,
) -> DesignRecord:
    """Design the implants of one skull and write them, their pictures, their report and design.json.

    Args:
        source: a CT or a mask of a skull, or its bone as a closed mesh, which is reconstructed first and whose results
            are written too; or a folder that ``reconstruct`` or ``refine`` wrote.
        output: folder for the results, which may be the folder of results itself; nothing half written is ever in it.
        settings: what is asked for of the reconstruction; of a folder of results only ``preview`` counts.
        implant: what is asked for of the implants.
        progress: called with the stage and the fraction done.
        dicom: what is asked for of DICOM; None: nothing.
        study: which one of several in the source; None: as the settings have it.
        own: what only this patient has, for the reconstruction.
        learned: the implants are what the model's implant branch says, not what parameters make of the missing bone.

    Returns:
        What design.json holds. A check that failed stands in it; the files are there all the same.

    Raises:
        CalvariaError: the source cannot be read or used, it has no hole, no implant of this kind fits into it, or the
            folder cannot be written to: this before any reading; or a learned implant is asked for of a model that has
            none, or of a folder of results.
    """
    progress("read", 0.0)
    if is_finished(source) or (source.is_dir() and not is_dicom(source)):
        archive_for(source.name, None, dicom)  # results do not say whose they are
        require_unknown(own, source)
        if learned:
            raise InputError(
                f"{source.name}: a learned implant comes from the skull itself, not from results: give the skull's file"
            )
        return _of_results(source, output, settings, implant, progress)
    require_dicom(source, dicom)
    require_unmarked(dicom is not None and dicom.deidentify, bool(implant.mark))
    if learned:
        from calvaria.implant.learned import require_its_own_shape, require_learned

        require_its_own_shape(implant)
        require_learned(settings.engine, settings.device)
    return _of_file(source, output, settings.of_study(study), implant, progress, dicom=dicom, own=own, learned=learned)


def designable(folder: Path) -> list[Case]:
    """The cases of a folder: its images, or else the folders of results in it.

    Raises:
        InputError: there is neither; or it is what is left of a folder of results.
    """
    if all(any(folder.glob(f"{name}.*")) for name in ("patch", "completed")):
        raise InputError(f"{folder}: a patch and a completed skull, but no {RESULT}: run calvaria reconstruct again")
    try:
        return find_cases(folder)
    except InputError:
        found = find_results(folder)
        # Two images of one name are not mended by results that lie there too.
        if not found or any(image_suffix(path) for path in folder.iterdir()):
            raise
        return found


def _of_results(
    source: Path, output: Path, settings: Settings, implant: ImplantSettings, progress: Progress
) -> DesignRecord:
    """The design for a patch that is known; beside it nothing is written."""
    clock = Clock()
    names = names_of_design(output)
    require_place(output, names=names)
    if not is_finished(source):
        raise InputError(f"{source}: this folder holds no {RESULT}; give one that calvaria reconstruct wrote")
    if is_finished(output) and not output.samefile(source):
        raise InputError(f"{output}: results of another run lie there; give {source} itself or a new folder with -o")
    with naming(str(source)):
        read_of = made_of(source)  # before it is read: what changes meanwhile is not taken for what was read
        found = read_finished(source)
        clock.lap("read")
        from calvaria.implant.design import design

        clock.lap("load")
        made = design(
            found.defective, found.patch, found.frame_to_world, implant, progress=_between(progress, 0.05, DESIGNED)
        )
        clock.lap("design")
    drawn = replace(found.settings, preview=settings.preview)
    origin = Origin(found.input, drawn, found.confidence, found.warnings, found.ending, found.failed, read_of)
    with staged(output, names, last=DESIGN) as folder:
        record = fill_design(folder, made, origin, clock, _between(progress, DESIGNED, 1.0))
    progress("done", 1.0)
    return record


def _of_file(
    source: Path,
    output: Path,
    settings: Settings,
    implant: ImplantSettings,
    progress: Progress,
    *,
    dicom: DicomAsked | None,
    own: OwnFiles | None = None,
    learned: bool = False,
) -> DesignRecord:
    """The reconstruction of a skull and the design, written together or not at all."""
    clock = Clock()
    names = [*FILE_NAMES, *names_of_dicom(output), *names_of_design(output)]
    require_place(output, source, *([own.path] if own is not None and own.path is not None else []), names=names)
    settings = with_hashes(settings, source)
    notes: list[str] = []
    first, then = _between(progress, 0.0, RECONSTRUCTED), _between(progress, RECONSTRUCTED, 1.0)
    result, inputs = reconstructed(source, settings, clock=clock, notes=notes, progress=first, own=own)
    if not result.patch.mask.any():
        raise InputError(
            f"{source.name}: no defect of {settings.min_hole_ml:g} ml or more was found, so there is no implant to "
            "design; --min-hole-ml looks for smaller ones"
        )
    with staged(output, names, last=(RESULT, DESIGN)) as folder:
        before = fill(folder, result, inputs, settings, clock=clock, notes=notes, progress=first)
        from calvaria.pipeline import design

        with naming(source.name):
            way = {"learned": settings.engine, "device": settings.device} if learned else {}
            made = design(result, implant, **way, progress=_between(then, 0.0, DESIGNED))  # type: ignore[arg-type]
        clock.lap("design")
        origin = Origin(
            before.input,
            before.parameters,
            before.confidence,
            before.warnings,
            written_ending(inputs.source),
            before.failed,
        )
        archive = archive_for(source.name, inputs.dicom, dicom)
        bone = None if archive is None else DicomBone(archive, result.patch, result.completed)
        record = fill_design(folder, made, origin, clock, _between(then, DESIGNED, 1.0), bone=bone)
    progress("done", 1.0)
    return record


def _between(progress: Progress, start: float, end: float) -> Progress:
    """A part's own progress as its share of the whole."""
    return lambda stage, fraction: progress(stage, start + (end - start) * fraction)


__all__ = ["designable", "run_design"]
