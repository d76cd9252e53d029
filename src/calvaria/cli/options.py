"""Options that several commands share: spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.errors import InputError
from calvaria.results import settings

Kind = settings.Kind
Device = settings.Device

Output = Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the results.")]
KindOption = Annotated[Kind, typer.Option("--kind", help="What the input is; auto tells by its values.")]
ThresholdHu = Annotated[
    float | None,
    typer.Option(
        "--threshold-hu",
        metavar="HU",
        help="Bone of a CT ends at it.  [default: half way up its edge, at 250 or above]",
    ),
]
MinHoleMl = Annotated[
    float,
    typer.Option(
        metavar="ML",
        help="Holes of less missing bone are left open and listed; by default 2 ml count beside a larger one. "
        "Burr holes have 0.5 to 2 ml.",
    ),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the engine runs; the shape prior needs no GPU.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also the seconds of each stage; tracebacks of errors.")]
Preview = Annotated[bool, typer.Option("--preview/--no-preview", help="Draw preview.png.")]
Orientation = Annotated[
    str | None,
    typer.Option(
        metavar="LPS",
        help="Where the voxel axes run, for files that do not say it: LPS means to the left, to the back, up.",
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        "--series",
        metavar="NUMBER",
        help="Which DICOM series, by number or UID; see calvaria dicom list.  [default: best]",
    ),
]
Study = Annotated[
    int | None,
    typer.Option(
        "--study",
        metavar="N",
        min=1,
        help="Which study, where the DICOM input holds several; see calvaria dicom list.  [default: each, as a case]",
    ),
]
OneStudy = Annotated[
    int | None,
    typer.Option(
        "--study", metavar="N", min=1, help="Which study, where the DICOM input holds several; see calvaria dicom list."
    ),
]
ByFolder = Annotated[
    bool,
    typer.Option(
        "--by-folder",
        help="Call the cases of several DICOM studies by their folders, which may be patients' names, and not study-1.",
    ),
]
Again = Annotated[
    bool, typer.Option("--again", help="Also run the cases of a folder whose results, of the same call, are there.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run the cases of a folder on the workers of a Dask scheduler, such as tcp://host:8786, which see the "
        "same files.",
    ),
]

PreOp = Annotated[
    Path | None,
    typer.Option(
        "--pre-op",
        metavar="FILE",
        help="A scan of this head from before the operation, CT or mask: the patch is its bone where it fits.",
    ),
]
Flap = Annotated[
    Path | None,
    typer.Option(
        "--flap",
        metavar="FILE",
        help="A scan of the removed piece, CT or mask, in any pose: it is put into the hole, its kerf closed.",
    ),
]

AutoImplant = Annotated[Path, typer.Option("--data", metavar="FOLDER", help="The AutoImplant 2020 (SkullFix) set.")]
TrainingCache = Annotated[
    Path, typer.Option("--cache", metavar="FILE", help="A training cache, from `calvaria data cache`.")
]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", min=0, metavar="M", help="Stop training after so many; the same command goes on."),
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Processes.")]


def require_cpu(device: Device) -> None:
    """Raise where a GPU is asked for and the shape prior would not use it.

    Raises:
        InputError: the device is cuda.
    """
    if device == "cuda":
        raise InputError("--device cuda: the shape prior runs on the CPU only; use --device auto or cpu")
