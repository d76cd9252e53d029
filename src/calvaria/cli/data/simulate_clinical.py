"""``calvaria data simulate-clinical``: a made-up clinical set from real skulls, as import-clinical reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.options import AutoImplant, Json, Output, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable

EXAMPLES = """\b
Examples:
  calvaria data simulate-clinical --data autoimplant2020 -o simulated --count 20
  calvaria data simulate-clinical --data autoimplant2020 -o simulated --kind hemicraniectomy --ct-share 1
  calvaria data simulate-clinical --data autoimplant2020 -o simulated --match clinical/population.json
  calvaria data simulate-clinical --data autoimplant2020 -o simulated-test --side test --count 15 --patch-share 1
  calvaria data import-clinical simulated/cases.csv -o clinical
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def simulate_clinical(
    context: typer.Context,
    *,
    data: AutoImplant,
    output: Output,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Good cases.")] = 6,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same set.")] = 0,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Kind of defect; may be given several times.")
    ] = None,
    ct_share: Annotated[float, typer.Option(min=0, max=1, help="Part of the skulls that come as a CT.")] = 0.25,
    mask_share: Annotated[float, typer.Option(min=0, max=1, help="Part of the implants that come as a mask.")] = 0.2,
    patch_share: Annotated[float, typer.Option(min=0, max=1, help="Part of the cases with a patch, too.")] = 0.5,
    side: Annotated[
        list[str] | None,
        typer.Option(metavar="SIDE", help="Whose skulls: train, validation or test of the packaged split, or several."),
    ] = None,
    match: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rescale the skulls to this population.json of import-clinical."),
    ] = None,
    faults: Annotated[bool, typer.Option("--faults", help="Add bad cases that must be refused.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a clinical set from complete skulls: large one-sided defects and designed implants.

    Meshes are written in various coordinates on purpose; simulated.csv says which, and what must be refused. Goes on
    where it was interrupted.
    """
    from calvaria.clinical.simulate_set import DEFECT_KINDS, SimulationSettings
    from calvaria.clinical.simulate_set import simulate_clinical as run
    from calvaria.datasets.catalog import autoimplant2020
    from calvaria.datasets.split import of_sides
    from calvaria.skull.proportions import read_population

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable(output)
    kinds = tuple(kind) if kind else DEFECT_KINDS
    settings = SimulationSettings(count, seed, kinds, ct_share, mask_share, patch_share, faults)
    target = None if match is None else read_population(match)
    with screen.progress() as progress:
        skulls = autoimplant2020(data)
        if side:
            skulls = of_sides(skulls, side)
        cases = run(skulls, output, settings, target=target, progress=progress)
    bad = [case.id for case in cases if case.fault]
    screen.say(f"{len(cases) - len(bad)} cases, and {len(bad)} that must be refused; simulated, not patients' implants")
    screen.say(str(output / "cases.csv"))
    screen.json({"output": str(output), "cases": [case.id for case in cases], "must_be_refused": bad})
