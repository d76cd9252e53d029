"""``calvaria reconstruct``: the missing bone of one skull, or of every skull in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from calvaria.cli.cases import (
    by_name,
    heard,
    parted,
    require_alone,
    require_scheduler,
    several,
    tabled,
    the_input,
    told,
)
from calvaria.cli.dicom_options import Deidentify, Dicom, dicom_asked
from calvaria.cli.options import (
    Again,
    ByFolder,
    DeviceOption,
    Flap,
    Json,
    KindOption,
    MinHoleMl,
    Orientation,
    Output,
    PreOp,
    Preview,
    Quiet,
    Scheduler,
    Series,
    Study,
    ThresholdHu,
    Verbose,
)
from calvaria.cli.screen import Screen
from calvaria.cli.word_options import Gate, require_one_head, with_word_options
from calvaria.errors import QualityError
from calvaria.files import require_writable
from calvaria.results.case import run_case
from calvaria.results.dicom_out import DicomAsked, archive_for
from calvaria.results.folder import run_cases
from calvaria.results.kept import Wanted
from calvaria.results.names import Case, find_cases, is_dicom
from calvaria.results.own_files import OwnFiles, require_one_case
from calvaria.results.settings import Settings, Word
from calvaria.results.summary import failed_line, summary_lines, timing_lines
from calvaria.results.table import RESULTS

EXAMPLES = """\b
Examples:
  calvaria reconstruct skull.nrrd -o out
  calvaria reconstruct head-ct.nii.gz -o out --kind ct
  calvaria reconstruct study.zip -o out --series 201
  calvaria reconstruct skull.nrrd -o out --model my-network.safetensors --refine
  calvaria reconstruct export/ -o results/ --dicom --jobs 2
  calvaria reconstruct skull.nrrd -o out --seed 41,-22,68 --keep-open drain.nrrd
  calvaria reconstruct skull.nrrd -o out --pre-op ct-of-last-year.zip
  calvaria reconstruct cases/ -o results/ --jobs 2 --no-preview
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


@with_word_options
def reconstruct(
    context: typer.Context,
    *,
    output: Output,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT",
            readable=False,  # said by us, in one line
            help="A CT or bone mask (DICOM folder or zip, NRRD, NIfTI, MHA, STL), or a folder of those.",
        ),
    ] = None,
    source_option: Annotated[
        Path | None, typer.Option("-i", "--input", metavar="INPUT", help="The same, spelled as an option.")
    ] = None,
    kind: KindOption = "auto",
    threshold_hu: ThresholdHu = None,
    min_hole_ml: MinHoleMl = 5.0,
    orientation: Orientation = None,
    series: Series = None,
    study: Study = None,
    by_folder: ByFolder = False,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="What completes the skull: a model, or its weights file.")
    ] = "shape-prior",
    device: DeviceOption = "auto",
    refine: Annotated[
        bool, typer.Option("--refine", help="Refine the patch by symmetry and the bone around it; see calvaria refine.")
    ] = False,
    pre_op: PreOp = None,
    flap: Flap = None,
    preview: Preview = True,
    gate: Gate = True,
    dicom: Dicom = False,
    deidentify: Deidentify = False,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Cases of a folder that run at the same time.")] = 1,
    again: Again = False,
    scheduler: Scheduler = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    word: dict[str, Any],
) -> None:
    """Give back the missing bone of a skull.

    Writes patch, completed skull, patch.stl, preview.png and result.json into OUT, images in the input's
    format (NRRD, NIfTI or MHA) and on its grid; with --refine also refinement.png. A folder of cases gives one
    folder of results for each, and results.csv; those that the same call has made before are kept. So do several
    studies of DICOM: study-1, study-2 ... in order of the files' names.
    Exits 3, with all files there, when a check failed.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    path = the_input(source, source_option, "reconstruct")
    settings = Settings(
        model,
        kind,
        orientation,
        preview,
        device,
        threshold_hu,
        min_hole_ml,
        refine,
        series=series,
        study=study,
        word=Word(**word),
        gate=gate,
    )
    asked = dicom_asked(dicom, deidentify)
    require_scheduler(scheduler)
    require_writable(output)  # before a folder is looked through
    cases = several(path, series, study, screen, by_folder=by_folder)
    if not cases and path.is_dir() and not is_dicom(path):
        archive_for(path.name, None, asked)  # folders of files are none of DICOM
        cases = find_cases(path)
    own = OwnFiles.asked(pre_op, flap)
    if cases:
        require_one_head(settings.word)
        require_one_case(own, path)
        _run_cases(cases, output, settings, screen, jobs=jobs, asked=asked, again=again, scheduler=scheduler)
    else:
        require_alone(scheduler, path)
        _run_file(path, output, settings, screen, asked, own)


def _run_file(  # noqa: PLR0917 - one caller
    path: Path, output: Path, settings: Settings, screen: Screen, asked: DicomAsked | None, own: OwnFiles | None
) -> None:
    with screen.progress() as progress:
        record = run_case(path, output, settings, progress, dicom=asked, own=own)
    for text in record.warnings:
        screen.warn(text)
    for line in summary_lines(record):
        screen.say(line)
    if screen.verbose:
        for line in timing_lines(record):
            screen.say(line)
    for name in record.files:
        screen.say(str(output / name))
    screen.json(record.to_json())
    if record.failed:
        raise QualityError(f"{path.name}: {failed_line(record)}; the files are in {output}, marked in result.json")


def _run_cases(
    cases: Sequence[Case],
    output: Path,
    settings: Settings,
    screen: Screen,
    *,
    jobs: int,
    asked: DicomAsked | None,
    again: bool,
    scheduler: str | None,
) -> None:
    left, kept = parted(cases, output, Wanted(settings, dicom=asked), screen, again=again)
    with screen.progress() as progress:
        came = heard(
            run_cases(left, output, settings, jobs, progress, dicom=asked, scheduler=scheduler), screen, summary_lines
        )
    outcomes = by_name([*came, *kept])
    tabled(outcomes, output / RESULTS, screen)
    told(outcomes, output, screen)
    bad = [outcome.name for outcome in outcomes if outcome.record is not None and outcome.record.failed]
    if bad:
        raise QualityError(f"{len(bad)} of {len(outcomes)} cases failed a check: {', '.join(bad)}; see result.json")
