"""``calvaria design``: from the missing bone of one skull, or of every skull in a folder, to implants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

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
from calvaria.cli.implant_options import changed, with_implant_options
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
    Quiet,
    Scheduler,
    Series,
    Study,
    ThresholdHu,
    Verbose,
)
from calvaria.cli.screen import Screen
from calvaria.cli.word_options import HELP, Gate, require_one_head, with_word_options
from calvaria.errors import InputError, QualityError
from calvaria.files import require_writable
from calvaria.implant.settings import ImplantSettings
from calvaria.results.design_record import DesignRecord, read_asked
from calvaria.results.design_summary import design_lines, failed_line, short_lines
from calvaria.results.designing import designable, run_design
from calvaria.results.dicom_out import archive_for
from calvaria.results.finished import is_finished
from calvaria.results.folder import run_each
from calvaria.results.kept import Wanted
from calvaria.results.names import Case, is_dicom
from calvaria.results.own_files import OwnFiles, require_one_case
from calvaria.results.settings import Settings
from calvaria.results.summary import timing_lines
from calvaria.results.table import DESIGNS

EXAMPLES = """\b
Examples:
  calvaria design head-ct.nii.gz -o out
  calvaria design results/007 -o results/007 --thickness-mm 5 --clearance-mm 0.5
  calvaria design skull.nrrd -o out --perforations --suture-holes --plate-seats 4
  calvaria design skull.nrrd -o again --settings out/design.json
  calvaria design results/ -o implants/ --jobs 2 --mould
  calvaria design skull.nrrd -o out --model runs/cascade.safetensors --implant learned
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

OF_RECONSTRUCTION = (
    *("kind", "threshold_hu", "min_hole_ml", "orientation", "series", "study", "model", "refine", "gate"),
    *HELP,
)
"""Options that say how the missing bone is found."""


@with_implant_options
@with_word_options
def design(
    context: typer.Context,
    *,
    output: Output,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT",
            readable=False,  # said by us, in one line
            help="A CT or bone mask (DICOM folder or zip, NRRD, NIfTI, MHA, STL), a folder that reconstruct or "
            "refine wrote, or a folder of either.",
        ),
    ] = None,
    source_option: Annotated[
        Path | None, typer.Option("-i", "--input", metavar="INPUT", help="The same, spelled as an option.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A design.json: the same implant again, but for the options that stand beside."
        ),
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
    implant_from: Annotated[
        Literal["parametric", "learned"] | None,
        typer.Option(
            "--implant",
            help="What an implant is made of: its parameters, or what a cascade of --model has learned of implants.",
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Draw preview.png, design.png and report.html.")
    ] = True,
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
    changes: dict[str, Any],
) -> None:
    """Design an implant for the missing bone of a skull, and check it.

    Writes implant.stl, implant.3mf, implant.nrrd (in the input's format), host.stl (the bone around the hole, to print
    and try), design.json, design.png and report.html into OUT, beside what reconstruct writes; implant-1.stl and so on
    where there are several; mould-lower.stl and mould-upper.stl with --mould. Of a folder of cases
    also designs.csv; those that this call has made before are kept. Exits 3, with all files there, when a
    check failed.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    path = the_input(source, source_option, "design")
    asked = None if settings is None else read_asked(settings)
    implant = changed(ImplantSettings() if asked is None else asked.implant, changes)
    given = [name for name in _given(context) if name not in HELP]
    found = {"engine" if name == "model" else name: context.params[name] for name in given}
    base = Settings() if asked is None else asked.reconstruction
    wanted = replace(base, **found, preview=preview, device=device, word=replace(base.word, **word))
    learned = implant_from == "learned" or (implant_from is None and asked is not None and asked.learned)
    back = dicom_asked(dicom, deidentify)
    require_scheduler(scheduler)
    require_writable(output)  # before a folder is looked through
    cases = [] if is_finished(path) else several(path, wanted.series, wanted.study, screen, by_folder=by_folder)
    if not cases and path.is_dir() and not is_finished(path) and not is_dicom(path):
        archive_for(path.name, None, back)  # folders of files are none of DICOM
        cases = designable(path)
    own = OwnFiles.asked(pre_op, flap)
    if cases:
        require_one_head(wanted.word)
        require_one_case(own, path)
        if any(is_finished(case.path) for case in cases):
            _require_none(context, path)
        asked_of_all = Wanted(wanted, implant, back, learned)
        _run_cases(context, cases, output, asked_of_all, jobs=jobs, again=again, scheduler=scheduler)
        return
    require_alone(scheduler, path)
    if is_finished(path):
        _require_none(context, path)
    with screen.progress() as progress:
        record = run_design(path, output, wanted, implant, progress, dicom=back, own=own, learned=learned)
    _tell(record, output, path, screen)


def _given(context: typer.Context) -> list[str]:
    """Those options on the reconstruction that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in OF_RECONSTRUCTION}
    return [name for name, source in sources.items() if source is not None and source.name != "DEFAULT"]


def _require_none(context: typer.Context, path: Path) -> None:
    """Raise where the missing bone is known, but is asked for in another way.

    Raises:
        InputError: it is.
    """
    for name in _given(context):
        raise InputError(
            f"--{name.replace('_', '-')}: the missing bone in {path} is known; leave this out, or run calvaria "
            "reconstruct with it first"
        )


def _tell(record: DesignRecord, output: Path, path: Path, screen: Screen) -> None:
    """Say what was made of one case, and that a check failed.

    Raises:
        QualityError: one did.
    """
    for text in record.warnings:
        screen.warn(text)
    for line in design_lines(record, every_check=screen.verbose):
        screen.say(line)
    if screen.verbose:
        for line in timing_lines(record):
            screen.say(line)
    for name in record.files:
        screen.say(str(output / name))
    screen.json(record.to_json())
    if record.failed:
        raise QualityError(f"{path.name}: {failed_line(record)}; the files are in {output}, marked in design.json")


def _run_cases(
    context: typer.Context,
    cases: Sequence[Case],
    output: Path,
    wanted: Wanted,
    *,
    jobs: int,
    again: bool,
    scheduler: str | None,
) -> None:
    """Design for each case.

    Raises:
        typer.Exit: a case failed.
        QualityError: a check of a case did.
    """
    screen: Screen = context.obj
    left, kept = parted(cases, output, wanted, screen, again=again)
    run = partial(
        run_design,
        settings=wanted.settings if scheduler is None else wanted.settings.with_whole_paths(),
        implant=wanted.implant or ImplantSettings(),
        dicom=wanted.dicom,
        learned=wanted.learned,
    )
    with screen.progress() as progress:
        came = heard(run_each(left, output, run, jobs, progress, scheduler=scheduler), screen, short_lines)
    outcomes = by_name([*came, *kept])
    tabled(outcomes, output / DESIGNS, screen)
    told(outcomes, output, screen)
    bad = [outcome.name for outcome in outcomes if outcome.record is not None and outcome.record.failed]
    if bad:
        raise QualityError(f"{len(bad)} of {len(outcomes)} designs failed a check: {', '.join(bad)}; see design.json")


__all__ = ["EXAMPLES", "design"]
