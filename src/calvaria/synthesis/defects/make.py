"""A data set of synthetic defects from a folder of complete skulls, in SkullBreak's layout.

::

    OUT/complete_skull/NAME.nrrd
    OUT/defective_skull/KIND/NAME.nrrd
    OUT/implant/KIND/NAME.nrrd             the missing bone; here: the patch
    OUT/specs.json                         settings, hashes, frames, and the spec of every defect

Further defects of a kind lie in ``KIND_2``, ``KIND_3``. Each skull has seeds of its own, made of the seed, its name and
the kind, so the same settings give the same files whatever the order, the number of processes and interruptions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calvaria import __version__
from calvaria.errors import CalvariaError, InputError, one_line
from calvaria.io import read_mask, sha256_of, write_result_json, write_volume
from calvaria.jobs import DIED, Progress, counted, in_processes
from calvaria.skull.canonical import GOOD_COST, CanonicalFrame, locate
from calvaria.skull.proportions import (
    FACTORS,
    Population,
    factors_between,
    population,
    proportions,
    rescale_to,
)
from calvaria.synthesis.defects.ageing import apply_rims
from calvaria.synthesis.defects.cutting import cut_defect, defect_area_cm2
from calvaria.synthesis.defects.rim_changes import RIM_KINDS, rim_to_json, sample_rim
from calvaria.synthesis.defects.specs import ALL_KINDS
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume, bounding_box

AS_THEY_ARE = (1.0, 1.0, 1.0)
"""Heads keep their size."""

SCHEMA = 1
"""Version of the layout of ``specs.json``, whose names are sorted."""

COMPLETE, DEFECTIVE, PATCH, SPECS = "complete_skull", "defective_skull", "implant", "specs.json"
"""Names in the folder that is written: SkullBreak's own, and the record beside them."""

WORK = ".making"
"""Folder inside the output for the skulls in work; gone when all is done."""

SKULLBREAK_KINDS = ("bilateral", "frontoorbital", "parietotemporal", "random_1", "random_2")
"""What is made unless something else is asked for."""


@dataclass(frozen=True)
class Settings:
    """What is made of each skull.

    Args:
        kinds: kinds of defects.
        per_kind: so many of each kind.
        rims: changes of the rim; each defect gets one of them, drawn evenly. None: rims stay as they were cut.
        seed: where all chance comes from.
        rescale: factors along the canonical x, y, z that bring the set to another population's size (Kodym et al. 2021,
            section 3), see `factors_to`.

    Raises:
        InputError: an unknown kind or change, one that is named twice, fewer than one defect a kind, or a factor that
            makes no head.
    """

    kinds: tuple[str, ...] = SKULLBREAK_KINDS
    per_kind: int = 1
    rims: tuple[str, ...] = ()
    seed: int = 0
    rescale: tuple[float, float, float] = AS_THEY_ARE

    def __post_init__(self) -> None:
        if not all(FACTORS[0] <= factor <= FACTORS[1] for factor in self.rescale):
            raise InputError(f"heads are rescaled by {FACTORS[0]:g} to {FACTORS[1]:g}; got {self.rescale}")
        for what, given, known in (("kind", self.kinds, ALL_KINDS), ("change of the rim", self.rims, RIM_KINDS)):
            unknown = sorted(set(given) - set(known))
            if unknown:
                raise InputError(f"there is no {what} {unknown[0]!r}; known are {', '.join(known)}")
            if len(set(given)) < len(given):
                raise InputError(f"each {what} is named once; got {', '.join(given)}")
        if not self.kinds or self.per_kind < 1:
            raise InputError(f"at least one kind and one defect of each; got {len(self.kinds)} and {self.per_kind}")

    def folders(self) -> dict[str, tuple[str, int]]:
        """Folder -> kind and number of the defects in it."""
        return {
            kind if number == 1 else f"{kind}_{number}": (kind, number)
            for kind in self.kinds
            for number in range(1, self.per_kind + 1)
        }


@dataclass
class Made:
    """What became of the skulls.

    Args:
        skulls: name -> its record, as in ``specs.json``; those that were there already included.
        kept: names of those that were there already.
        failed: name -> one line that says why nothing was made of it.
        bugs: names among those that failed by an error of ours.
    """

    skulls: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    bugs: list[str] = field(default_factory=list)


def factors_to(
    target: Population, skulls: Mapping[str, Path], progress: Progress | None = None
) -> tuple[float, float, float]:
    """Factors that bring the mean head of some skulls to the mean head of a population.

    Args:
        target: the population.
        skulls: name -> file of a complete skull; those that cannot be posed are left out.
        progress: called with the skulls measured and the time left.

    Returns:
        Along canonical x, y, z.

    Raises:
        InputError: no skull could be posed, or the populations differ too much.
    """
    found = []
    for path in counted(skulls.values(), len(skulls), progress, "skulls measured"):
        with suppress(CalvariaError):  # the skull is named when its defects are to be made
            skull = read_mask(path)
            found.append(proportions(skull, locate(skull)))
    if not found:
        raise InputError("no skull could be posed, so there is no mean head to rescale")
    return factors_between(population(found), target)


def make_defects(
    skulls: Mapping[str, Path],
    output: Path,
    settings: Settings | None = None,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    tell: Callable[[str, str], None] | None = None,
) -> Made:
    """Write a data set of synthetic defects.

    What a former run with the same settings made of the same files is kept, so an interrupted run goes on where it was.

    Args:
        skulls: name -> file of a complete skull (a mask).
        output: the folder; made, with its parents, if it is not there.
        settings: what is made of each skull; None: SkullBreak's five kinds.
        jobs: skulls that are worked on at the same time, each in a process of its own.
        progress: called with the skulls done and the time left.
        tell: called with the name of each skull that failed, and why, at once.

    Returns:
        What became of each skull. A skull that cannot be used is named there, and leaves no file; the rest go on.

    Raises:
        InputError: there is no skull, ``output`` cannot be written to, or holds a data set of other settings.
    """
    settings = settings or Settings()
    if not skulls:
        raise InputError("no complete skull was given: nothing to cut defects from")
    made = _resume(skulls, output, settings)
    left = {name: path for name, path in sorted(skulls.items()) if name not in made.skulls}
    work = partial(_attempt, output=output, settings=settings)
    come = in_processes(work, list(left.items()), jobs, lost=lambda _: _Failure(DIED, bug=True))
    try:
        with closing(come):  # before the folder goes in which it works
            for (name, _), outcome in counted(come, len(skulls), progress, "skulls", done=len(made.kept)):
                if isinstance(outcome, _Failure):
                    made.failed[name] = outcome.text
                    made.bugs += [name] if outcome.bug else []
                    if tell is not None:
                        tell(name, outcome.text)
                else:
                    _publish(output, name, settings)
                    made.skulls[name] = outcome
                    _write_specs(output, settings, made.skulls)
    finally:
        shutil.rmtree(output / WORK, ignore_errors=True)
    return made


@dataclass(frozen=True)
class _Failure:
    text: str
    bug: bool = False


_Outcome = dict[str, Any] | _Failure


def _resume(skulls: Mapping[str, Path], output: Path, settings: Settings) -> Made:
    """What is there already and still right; makes the folder."""
    record = output / SPECS
    try:
        output.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(output / WORK, ignore_errors=True)
        (output / WORK).mkdir()
        stored = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    except OSError as error:
        raise InputError(f"{output}: cannot write the data set there: {error.strerror}; give another folder") from error
    except ValueError:
        raise InputError(f"{record}: not the record of a data set; give another folder, or remove the file") from None
    if stored is None:
        return Made()
    if not isinstance(stored, dict) or stored.get("settings") != _plain_settings(settings):
        raise InputError(f"{output}: holds a data set of other settings; give another folder, or the same settings")
    found: dict[str, dict[str, Any]] = stored.get("skulls", {})
    kept = {
        name: entry
        for name, entry in found.items()
        if _is_whole(output, name, settings) and (name not in skulls or _same_input(skulls[name], entry))
    }
    if len(kept) < len(found):
        _forget(sorted(set(found) - set(kept)), output, settings, kept)
    return Made(kept, sorted(set(kept) & set(skulls)))


def _forget(names: list[str], output: Path, settings: Settings, kept: Mapping[str, Any]) -> None:
    """Take away what was made of files that have changed: if nothing can be made of the new, no old one must stay."""
    _write_specs(output, settings, kept)
    for name in names:
        for place in _files(name, settings):
            (output / place).unlink(missing_ok=True)


def _is_whole(output: Path, name: str, settings: Settings) -> bool:
    return all((output / place).is_file() for place in _files(name, settings))


def _same_input(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        return sha256_of(path) == entry.get("sha256")
    except InputError:
        return False  # and what is wrong with it will be said when it is read


def _files(name: str, settings: Settings) -> list[str]:
    """Every file of a skull, below the output; the complete skull last."""
    pairs = [f"{part}/{folder}/{name}.nrrd" for folder in settings.folders() for part in (DEFECTIVE, PATCH)]
    return [*pairs, f"{COMPLETE}/{name}.nrrd"]


def _publish(output: Path, name: str, settings: Settings) -> None:
    """Move the files of a finished skull to their places; the record is written after this."""
    for place in _files(name, settings):
        (output / place).parent.mkdir(parents=True, exist_ok=True)
        (output / WORK / name / place).replace(output / place)


def _write_specs(output: Path, settings: Settings, skulls: Mapping[str, Any]) -> None:
    record = {"schema": SCHEMA, "calvaria": __version__, "settings": _plain_settings(settings), "skulls": dict(skulls)}
    write_result_json(output / SPECS, record)


def _plain_settings(settings: Settings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain


def _attempt(skull: tuple[str, Path], output: Path, settings: Settings) -> _Outcome:
    """Make all files of a skull in a folder of its own below the work folder; what goes wrong becomes its outcome."""
    name, path = skull
    try:
        return _make(name, path, output / WORK / name, settings)
    except CalvariaError as error:
        return _Failure(one_line(error), bug=error.exit_code == 1)
    except MemoryError:
        return _Failure("out of memory: use fewer jobs", bug=True)
    except Exception as error:  # one skull's bug must not cost the others their results
        return _Failure(f"this is a bug, please report it: {type(error).__name__}: {one_line(error)}", True)


def _make(name: str, path: Path, work: Path, settings: Settings) -> dict[str, Any]:
    digest, whole = sha256_of(path), read_mask(path)
    box = bounding_box(whole.mask)
    if box is None:
        raise InputError(f"{path.name}: the mask is empty: no voxel is bone")
    complete = whole.crop(box)  # what is cut, and the time it takes, do not hang on the air around
    located = locate(complete)
    if located.cost > GOOD_COST:
        raise InputError(
            f"{path.name}: unlike a complete skull (mismatch {located.cost:.2f} > {GOOD_COST:.2f}): defects cannot be "
            "placed on it; leave it out"
        )
    frame = np.round(located.to_world, 6)
    if settings.rescale != AS_THEY_ARE:
        whole = _rescaled(whole, located, settings.rescale)
        box = bounding_box(whole.mask) or box
        complete = whole.crop(box)
    defects = {}
    for folder, (kind, number) in settings.folders().items():
        rng = np.random.default_rng(_seed(settings.seed, name, kind, number))
        defective, patch, defects[folder] = _defect(complete, kind, settings, rng, frame)
        for part, mask in ((DEFECTIVE, defective), (PATCH, patch)):
            _write(work / part / folder / f"{name}.nrrd", whole, box, mask)
    _write(work / COMPLETE / f"{name}.nrrd", whole, box, complete)
    return {"file": path.name, "sha256": digest, "frame_to_world": frame.tolist(), "defects": defects}


def _rescaled(skull: Volume, frame: CanonicalFrame, factors: tuple[float, float, float]) -> Volume:
    """A skull of other proportions, on its grid grown evenly, so that the axes stay at right angles."""
    grown, _ = rescale_to(skull, frame, factors)
    even = frame.to_world @ np.diag([*[max(factors)] * 3, 1.0]) @ frame.to_canonical
    return resample_mask(grown, skull.grid.moved(even))


def _defect(
    complete: Volume, kind: str, settings: Settings, rng: np.random.Generator, frame: np.ndarray
) -> tuple[Volume, Volume, dict[str, Any]]:
    """One defect and its record; figures are of the patch as it is written."""
    spec, defective, patch = cut_defect(complete, kind, rng, frame)
    rims = [sample_rim(str(rng.choice(settings.rims)), rng, spec)] if settings.rims else []
    defective, patch = apply_rims(defective, patch, rims, frame)
    return (
        defective,
        patch,
        {
            "spec": json.loads(spec.to_json()),
            "rims": [json.loads(rim_to_json(rim)) for rim in rims],
            "volume_ml": round(patch.volume_ml, 3),
            "area_cm2": round(defect_area_cm2(patch, complete, frame), 2),
        },
    )


def _write(path: Path, whole: Volume, box: tuple[slice, slice, slice], part: Volume) -> None:
    """Write a mask that fills a box of a grid, on the whole grid."""
    data = np.zeros(whole.shape, bool, order="F")
    data[box] = part.mask
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, whole.with_data(data))


def _seed(seed: int, name: str, kind: str, number: int) -> int:
    """A seed of its own for every skull, kind and number."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}/{kind}/{number}".encode()).digest()[:8], "big")


__all__ = ["COMPLETE", "DEFECTIVE", "PATCH", "SKULLBREAK_KINDS", "SPECS", "Made", "Settings", "make_defects"]
