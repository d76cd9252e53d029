"""``calvaria refine``: a given patch of one skull, displaced to where the rest of the head says it belongs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.dicom_options import Deidentify, Dicom, dicom_asked
from calvaria.cli.options import (
    DeviceOption,
    Json,
    KindOption,
    OneStudy,
    Orientation,
    Output,
    Quiet,
    Series,
    ThresholdHu,
    Verbose,
    require_cpu,
)
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.results.names import is_dicom
from calvaria.results.refining import run_refine
from calvaria.results.settings import Settings, Trust
from calvaria.results.summary import summary_lines, timing_lines

EXAMPLES = """\b
Examples:
  calvaria refine skull.nrrd patch.nrrd -o out
  calvaria refine head-ct.nii.gz sketch.stl -o out --kind ct
  calvaria refine skull.nrrd completed-by-another-program.nrrd -o out
  calvaria refine study.zip sketch.stl -o out --dicom
  calvaria refine skull.nrrd planned-by-an-expert.stl -o out --trust patch
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def refine(
    context: typer.Context,
    skull: Annotated[
        Path,
        typer.Argument(
            metavar="SKULL", help="The defective skull: a CT or bone mask (DICOM folder or zip, NRRD, NIfTI, MHA, STL)."
        ),
    ],
    patch: Annotated[
        Path, typer.Argument(metavar="PATCH", help="The missing bone: a mask or a closed mesh (STL, PLY, OBJ).")
    ],
    *,
    output: Output,
    kind: KindOption = "auto",
    threshold_hu: ThresholdHu = None,
    orientation: Orientation = None,
    series: Series = None,
    study: OneStudy = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The shape prior that completes the skull for comparison.")
    ] = "shape-prior",
    device: DeviceOption = "auto",
    trust: Annotated[
        Trust,
        typer.Option(
            help="What is believed more: the patch, which only symmetry and the bone around the hole then even, or the "
            "shape prior, which then pulls at any patch; auto leaves a patch that agrees with the shape prior as it is."
        ),
    ] = "auto",
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Draw preview.png and refinement.png.")
    ] = True,
    dicom: Dicom = False,
    deidentify: Deidentify = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Refine a patch that comes from anywhere: another program, a sketch, an old implant.

    The patch is displaced smoothly, as far as symmetry, the bone around the hole and the shape of heads ask for it; a
    good one is left as it is. Writes the files of reconstruct and refinement.png into OUT.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_cpu(device)
    for path in (skull, patch):
        if path == patch or not is_dicom(path):
            _require_file(path)
    asked = Settings(model, kind, orientation, preview, device, threshold_hu, refine=True, trust=trust)
    settings = replace(asked, series=series, study=study)
    with screen.progress() as progress:
        record = run_refine(skull, patch, output, settings, progress, dicom=dicom_asked(dicom, deidentify))
    for text in record.warnings:
        screen.warn(text)
    for line in [*summary_lines(record), *(timing_lines(record) if verbose else [])]:
        screen.say(line)
    for name in record.files:
        screen.say(str(output / name))
    screen.json(record.to_json())


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give one skull and one patch, each a file")
    if not path.exists():
        raise InputError(f"{path}: no such file")


__all__ = ["EXAMPLES", "refine"]
