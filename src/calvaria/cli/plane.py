"""``calvaria plane``: where the mid-sagittal plane of a skull lies, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calvaria.cli.cases import several
from calvaria.cli.options import (
    ByFolder,
    Json,
    KindOption,
    Orientation,
    Quiet,
    Series,
    Study,
    ThresholdHu,
    Verbose,
)
from calvaria.cli.screen import Screen
from calvaria.errors import CalvariaError, InputError, one_line
from calvaria.results.names import Case, case_name, find_cases, is_dicom
from calvaria.results.reading import read_case
from calvaria.results.settings import Settings

if TYPE_CHECKING:
    from calvaria.symmetry.estimate import PlaneEstimate

EXAMPLES = """\b
Examples:
  calvaria plane skull.nrrd
  calvaria plane study.zip --series 201
  calvaria plane skulls/ --json > planes.json
  calvaria plane lying.nrrd --up 0 -1 0
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def plane(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            readable=False,
            metavar="INPUT",
            help="A CT or bone mask (DICOM folder or zip, NRRD, NIfTI, MHA, STL), or a folder of those.",
        ),
    ],
    *,
    method: Annotated[
        str, typer.Option(metavar="HOW", help="network, optimise, or network+optimise.")
    ] = "network+optimise",
    model: Annotated[str, typer.Option(metavar="NAME", help="The symmetry network, by name or file.")] = "symmetry-vit",
    up: Annotated[
        tuple[float, float, float], typer.Option(metavar="X Y Z", help="Where the top of the head is, LPS; roughly.")
    ] = (0.0, 0.0, 1.0),
    kind: KindOption = "auto",
    threshold_hu: ThresholdHu = None,
    orientation: Orientation = None,
    series: Series = None,
    study: Study = None,
    by_folder: ByFolder = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the mid-sagittal plane of a skull, complete or with holes.

    Prints the plane as the points x with n.x = d, in world mm (LPS), and what speaks for or against it. Exit code 3 if
    a plane should not be trusted.
    """
    from calvaria.skull.bone import bone_of
    from calvaria.symmetry.estimate import METHODS, axes_of, estimate_plane

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if method not in METHODS:
        raise InputError(f"--method is one of {', '.join(METHODS)}; got {method!r}")
    axes_of(up)
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    cases = several(source, series, study, screen, by_folder=by_folder)
    if not cases:
        one = not source.is_dir() or is_dicom(source)
        cases = [Case(case_name(source), source, study)] if one else find_cases(source)
    alone = len(cases) == 1 and cases[0].path == source
    asked = Settings(kind=kind, orientation=orientation, threshold_hu=threshold_hu, series=series)
    found: list[dict[str, Any]] = []
    for case in cases:
        try:
            notes: list[str] = []
            read = read_case(case.path, asked.of_study(case.study), notes)
            segmented = bone_of(read.volume, read.kind(kind), threshold_hu, name=case.path.name)
            estimate = estimate_plane(segmented.bone, method, model=model, up=up)
        except CalvariaError as error:
            if alone:
                raise
            screen.error(f"{case.name}: {one_line(error)}")
            found.append({"case": case.name, "error": one_line(error)})
            continue
        found.append({"case": case.name, **plane_json(estimate)})
        for line in lines_of(estimate):
            screen.say(line if alone else f"{case.name}: {line}")
        for doubt in (*notes, *segmented.notes, *estimate.doubts):
            screen.warn(doubt if alone else f"{case.name}: {doubt}")
    screen.json(found[0] if alone else found)
    if any("error" in one for one in found):
        raise typer.Exit(2)
    if any(one["doubts"] for one in found):
        raise typer.Exit(3)


def plane_json(estimate: PlaneEstimate) -> dict[str, Any]:
    """An estimate as JSON."""
    return {
        "normal": estimate.plane.normal.round(6).tolist(),
        "offset_mm": round(estimate.plane.offset_mm, 4),
        "method": estimate.method,
        "symmetry_loss": round(estimate.residual, 4),
        "asymmetry_mm": round(estimate.asymmetry_mm, 3),
        "apart_deg": None if estimate.apart_deg is None else round(estimate.apart_deg, 3),
        "apart_mm": None if estimate.apart_mm is None else round(estimate.apart_mm, 3),
        "doubts": list(estimate.doubts),
    }


def lines_of(estimate: PlaneEstimate) -> list[str]:
    """An estimate in words."""
    x, y, z = estimate.plane.normal
    lines = [f"plane: normal {x:.4f} {y:.4f} {z:.4f}, offset {estimate.plane.offset_mm:.2f} mm"]
    agreed = f"symmetry loss {estimate.residual:.3f}, sides {estimate.asymmetry_mm:.1f} mm apart"
    if estimate.apart_deg is not None and estimate.apart_mm is not None:
        agreed += f"; network and optimiser {estimate.apart_deg:.1f} degrees and {estimate.apart_mm:.1f} mm apart"
    return [*lines, agreed]


__all__ = ["EXAMPLES", "lines_of", "plane", "plane_json"]
