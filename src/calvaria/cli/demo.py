"""``calvaria demo``: the whole way on a made-up skull that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.options import DeviceOption, Json, Preview, Quiet, Verbose, require_cpu
from calvaria.cli.screen import Screen
from calvaria.results.case import FILE_NAMES, run_case
from calvaria.results.settings import Settings
from calvaria.results.staging import require_room, staged
from calvaria.results.summary import summary_lines, timing_lines

SAMPLE_NAMES = ("defective.nrrd", "truth.nrrd")
"""The made-up defective skull, and the piece that was cut out of it."""

EXAMPLES = """\b
Examples:
  calvaria demo
  calvaria demo -o out --seed 3
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def demo(
    context: typer.Context,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the results.")] = Path(
        "calvaria-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Which skull is drawn.")] = 0,
    device: DeviceOption = "auto",
    preview: Preview = True,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Try the whole way on a made-up skull.

    The skull is drawn from the shape model: it looks like one, and is nobody's. A piece is cut out, given back,
    and held against what was cut out: figures, a picture, and the files of reconstruct.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_cpu(device)
    require_room(output, [*SAMPLE_NAMES, *FILE_NAMES])
    with screen.progress() as progress:
        from calvaria.io import write_volume
        from calvaria.synthesis.sample import sample_case

        progress("drawing a skull", 0.0)
        defective, truth = sample_case(seed=seed)
        with staged(output, SAMPLE_NAMES, last=SAMPLE_NAMES[-1]) as folder:
            for name, volume in zip(SAMPLE_NAMES, (defective, truth), strict=True):
                write_volume(folder / name, volume)
        record = run_case(output / SAMPLE_NAMES[0], output, Settings(preview=preview), progress, reference=truth)
    screen.say(f"a skull drawn from the shape model (seed {seed}), with a piece of {truth.volume_ml:.1f} ml cut out")
    for line in [*summary_lines(record), *(timing_lines(record) if verbose else [])]:
        screen.say(line)
    for name in sorted([*SAMPLE_NAMES, *record.files]):
        screen.say(str(output / name))
    if preview:
        screen.say(f"look at {output / 'preview.png'}")
    screen.say("research software, not a medical device")
    screen.json(record.to_json())
