"""A whole simulated clinical set: cases from real skulls, written in the very form that the clinical loader reads.

No clinical set is public, so cases of the same form are made (Kodym, Spanel, Herout 2021: implants of constant
thickness with clearance along the rim): a large one-sided defect in a real skull, and an implant designed for it by
:mod:`calvaria.implant`. What differs from real cases is said in the folder that is written.

The folder that is left::

    OUT/cases.csv            the table (calvaria.clinical.table)
    OUT/simulated.csv        what each case is: source, defect, implant, convention, and whether it must be refused
    OUT/README.txt           that all this is simulated, from which skulls, under which licence
    OUT/ID/skull.*           mask or CT of the defective skull
    OUT/ID/implant.*         mesh or mask
    OUT/ID/patch.*           mesh or mask; not for every case
    OUT/ID/truth/            masks of patch and implant on the source skull's grid, as they were made
    OUT/ID/simulated.json    all parameters
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from calvaria.clinical.simulate_ct import sample_ct
from calvaria.clinical.simulate_files import CONVENTIONS, FAULTS, SimulatedCase, make_files, read_complete
from calvaria.datasets.catalog import SkullCase
from calvaria.errors import InputError
from calvaria.files import atomic_folder, write_csv, write_text
from calvaria.implant.settings import ImplantSettings
from calvaria.io.result import sha256_of, write_result_json
from calvaria.jobs import Progress, counted
from calvaria.skull.canonical import locate
from calvaria.skull.proportions import (
    Population,
    Proportions,
    factors_between,
    population,
    proportions,
)
from calvaria.synthesis.defects import ALL_KINDS

SCHEMA = 1
TABLE, TRUTH_TABLE, README, RECORD = "cases.csv", "simulated.csv", "README.txt", "simulated.json"

DEFECT_KINDS = ("hemicraniectomy", "craniotomy", "parietotemporal")
"""Kinds of defect that are cut by default: on one side, and more of them large and low than in SkullBreak."""

THICKNESS_MM = (3.0, 5.0)
"""Constant thickness is drawn from here: cleared implants have 3 to 6 mm, typically 4 (K231834, K250334)."""

CLEARANCE_MM = (0.5, 1.5)
"""Gap to the bone at the outer surface, drawn from here: no figure is published, common practice is 0.3 to 1 mm and
more towards soft tissue."""

BEVEL_DEG = (0.0, 22.0)
"""How far the rim leans inwards, drawn from here, so that it rests on no undercut (Ridwan-Pramana 2016)."""

README_TEXT = """SIMULATED CASES, NOT PATIENTS' IMPLANTS

Skulls: {source}. Defects were cut out of complete real skulls and implants
designed for them by a program ({program}); no surgeon made or checked any of it.
What is simpler than in a clinic: the edges are cut, not healed; implants follow the true outer surface
of the bone that was there; CTs are made from masks.

The skulls of AutoImplant 2020 / SkullFix descend from the CQ500 head CTs and carry the licence
CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/); so does everything in this folder that comes from
them. Cite: Li et al. 2021 (IEEE TMI 40:2329), Kodym et al. 2021 (Data in Brief 35:106902), Chilamkurthy et al. 2018.

{table} is the table for: calvaria data import-clinical {table} -o FOLDER
{truth} says what each case is, and which must be refused.
"""


@dataclass(frozen=True)
class SimulationSettings:
    """What set is made.

    Args:
        count: good cases.
        seed: the same seed and skulls give the same set.
        kinds: kinds of defect, each case has one of them.
        ct_share: part of the cases whose skull is a CT.
        mask_share: part of the cases whose implant is a mask.
        patch_share: part of the cases with a patch, too.
        faults: whether one bad case of each of ``FAULTS`` is added.

    Raises:
        InputError: no case, an unknown kind, or a share not from 0 to 1.
    """

    count: int = 6
    seed: int = 0
    kinds: tuple[str, ...] = DEFECT_KINDS
    ct_share: float = 0.25
    mask_share: float = 0.2
    patch_share: float = 0.5
    faults: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"at least one case is simulated; got {self.count}")
        unknown = [kind for kind in self.kinds if kind not in ALL_KINDS]
        if unknown or not self.kinds:
            raise InputError(f"kinds of defects are {', '.join(ALL_KINDS)}; got {', '.join(unknown) or 'none'}")
        shares = (self.ct_share, self.mask_share, self.patch_share)
        if not all(0 <= share <= 1 for share in shares):
            raise InputError(f"the shares of CTs, masks and patches are from 0 to 1; got {shares}")


def sample_case(number: int, settings: SimulationSettings, fault: str = "") -> SimulatedCase:
    """Draw a case; its number and the seed say which.

    Bad cases are meshes in LPS mm in a mask, so that nothing but their fault can be wrong with them.
    """
    rng = np.random.default_rng([settings.seed, number])
    drawn = SimulatedCase(
        id=f"sim-{number:03d}",
        defect_kind=settings.kinds[int(rng.integers(len(settings.kinds)))],
        defect_seed=int(rng.integers(2**31)),
        implant=sample_implant(rng),
        convention=CONVENTIONS[number % len(CONVENTIONS)],
        as_mask=bool(rng.random() < settings.mask_share),
        with_patch=bool(rng.random() < settings.patch_share),
        ct=sample_ct(rng) if rng.random() < settings.ct_share else None,
    )
    if not fault:
        return drawn
    return replace(drawn, id=f"bad-{fault}", convention="lps", as_mask=False, with_patch=False, ct=None, fault=fault)


def sample_implant(rng: np.random.Generator) -> ImplantSettings:
    """Draw how an implant is made: thickness, clearance and bevel, evenly from their ranges."""
    thickness, clearance, bevel = (
        round(float(rng.uniform(*limits)), 2) for limits in (THICKNESS_MM, CLEARANCE_MM, BEVEL_DEG)
    )
    return ImplantSettings(thickness_mm=thickness, clearance_mm=clearance, bevel_deg=bevel)


def simulate_clinical(
    skulls: Sequence[SkullCase],
    output: str | Path,
    settings: SimulationSettings,
    *,
    target: Population | None = None,
    source: str = "AutoImplant 2020 (SkullFix)",
    progress: Progress | None = None,
) -> list[SimulatedCase]:
    """Write a simulated clinical set; goes on where it was interrupted.

    Args:
        skulls: cases with complete skulls; others are left out. Each person is used once before any is used again.
        output: folder of the set; made if it is not there.
        settings: how many, of what kinds.
        target: if given, the skulls are rescaled first, all by the same three factors, so that the mean proportions of
            those that are used become this population's.
        source: what the skulls are called in the README.
        progress: called with the cases done and the time left.

    Returns:
        What was drawn, good cases first.

    Raises:
        InputError: there is no complete skull, a skull cannot be used, or the folder cannot be written to.
    """
    chosen = _chosen(skulls, settings)
    cases = [sample_case(n, settings) for n in range(settings.count)]
    if settings.faults:
        cases += [sample_case(settings.count + n, settings, fault) for n, fault in enumerate(FAULTS)]
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: this folder cannot be made ({error.strerror}); choose another") from error
    used = [chosen[n % len(chosen)] for n in range(len(cases))]
    factors = None if target is None else factors_between(_measured(used), target)
    pairs = list(zip(cases, used, strict=True))
    for case, skull in counted(pairs, len(pairs), progress):
        _write_case(output / case.id, case, skull, factors)
    _write_tables(output, pairs, source)
    return cases


def _chosen(skulls: Sequence[SkullCase], settings: SimulationSettings) -> list[SkullCase]:
    """Complete skulls in a drawn order, one a person."""
    persons: dict[str, SkullCase] = {}
    for skull in sorted(skulls, key=lambda one: one.id):
        if skull.complete is not None:
            persons.setdefault(skull.person, skull)
    if not persons:
        raise InputError("there is no complete skull to cut a defect out of")
    order = np.random.default_rng([settings.seed]).permutation(len(persons))
    return [list(persons.values())[n] for n in order]


def _measured(skulls: Sequence[SkullCase]) -> Population:
    found: list[Proportions] = []
    for skull in {one.id: one for one in skulls}.values():
        complete = read_complete(skull)
        found.append(proportions(complete, locate(complete)))
    return population(found)


def _write_case(home: Path, case: SimulatedCase, skull: SkullCase, factors: tuple[float, ...] | None) -> None:
    """Make a case's folder, unless it is present and the same."""
    key = {
        "schema": SCHEMA,
        "case": json.loads(json.dumps(asdict(case))),
        "source": skull.id,
        "source_sha256": sha256_of(skull.complete or ""),
        "factors": None if factors is None else list(factors),
    }
    try:
        if json.loads((home / RECORD).read_text(encoding="utf-8"))["made_from"] == key:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of another run: made anew
    with atomic_folder(home) as part:
        record = make_files(part, case, skull, factors)
        write_result_json(part / RECORD, {"made_from": key, "simulated": True, **record})


def _write_tables(output: Path, cases: Sequence[tuple[SimulatedCase, SkullCase]], source: str) -> None:
    from calvaria import __version__

    rows, truths = [], []
    for case, skull in cases:
        shown = "" if case.fault == "empty-id" else case.id
        implant = "gone.stl" if case.fault == "missing-file" else "implant.nii.gz" if case.as_mask else "implant.stl"
        patch = f"{case.id}/patch.ply" if case.with_patch else ""
        kind = "mask" if case.ct is None else "ct"
        row = [shown, f"{case.id}/skull.nrrd", kind, f"{case.id}/{implant}", patch, skull.person, "simulated"]
        rows += [row] * (2 if case.fault == "duplicate-id" else 1)
        form = "mask" if case.as_mask else case.convention
        made = (case.implant.thickness_mm, case.implant.clearance_mm, case.implant.bevel_deg)
        truths.append([case.id, skull.id, skull.person, case.defect_kind, form, *made, case.fault])
    write_csv(output / TABLE, ["id", "skull", "kind", "implant", "patch", "person", "notes"], rows)
    heading = ["id", "source", "person", "defect", "written_as", "thickness_mm", "clearance_mm", "bevel_deg", "fault"]
    write_csv(output / TRUTH_TABLE, heading, truths)
    text = README_TEXT.format(source=source, program=f"calvaria {__version__}", table=TABLE, truth=TRUTH_TABLE)
    write_text(output / README, text)


__all__ = [
    "CONVENTIONS",
    "DEFECT_KINDS",
    "FAULTS",
    "SimulatedCase",
    "SimulationSettings",
    "sample_case",
    "sample_implant",
    "simulate_clinical",
]
