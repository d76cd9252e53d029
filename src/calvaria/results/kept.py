"""What an earlier run has left of a case: kept, where the same call would make the same files again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from calvaria import __version__
from calvaria.errors import CalvariaError
from calvaria.implant.settings import ImplantSettings
from calvaria.results.dicom_out import DicomAsked
from calvaria.results.finished import is_finished
from calvaria.results.folder import Outcome
from calvaria.results.names import DESIGN, RESULT, Case, image_suffix, is_dicom
from calvaria.results.read_back import as_written, read_json, require_schema, settings_from, texts_from
from calvaria.results.record import SCHEMA
from calvaria.results.settings import Settings
from calvaria.results.staging import files_in
from calvaria.results.word import with_hashes

DETACHED = (".nhdr", ".mhd")
"""Headers whose voxels lie in a file of their own, of which no record has a hash: such a case is never kept."""

MADE_OF = (RESULT, "patch.*", "completed.*")
"""What a design for a patch that is known is made of."""


@dataclass(frozen=True)
class Kept:
    """The record of a case that an earlier run left.

    Args:
        found: what its result.json or design.json holds.
    """

    found: Mapping[str, Any]

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each."""
        return texts_from(self.found["warnings"])

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed, where they were to count."""
        gated = self.found["parameters"].get("gate", True)  # a design's always count
        return tuple(one["name"] for one in self.found["checks"] if one["verdict"] == "fail" and gated)

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        return dict(self.found)


@dataclass(frozen=True)
class Wanted:
    """What is asked for of every case of a folder.

    Args:
        settings: of the reconstruction.
        implant: of the implants, where such are to be designed.
        dicom: of DICOM.
        learned: the implants are what the model has learned of them.
    """

    settings: Settings
    implant: ImplantSettings | None = None
    dicom: DicomAsked | None = None
    learned: bool = False

    def kept(self, case: Case, output: Path) -> Kept | None:
        """What ``output/NAME`` holds of a case, if it is what this would make: no result is read but its record.

        The input's hash, the parameters, the version of the program and the model's hash must be those of the record,
        and every file that it lists must be there. A DICOM series is read for its hash, a file only hashed.
        """
        folder = output / case.name
        try:
            with as_written():
                return self._reconstruction(case, folder) if self.implant is None else self._design(case, folder)
        except CalvariaError:  # no record, one of another version, an input that cannot be read: running it will say so
            return None

    def _reconstruction(self, case: Case, folder: Path, *, dicom: bool = True) -> Kept | None:
        found = read_json(folder / RESULT)
        require_schema(found, SCHEMA)
        settings = with_hashes(self.settings.of_study(case.study), case.path)
        if any(found.get(name) is not None for name in ("given_patch", "own_bone", "own_scan")):
            return None  # more than this case's file went into it
        same = (
            _of_this_version(found)
            and found["model"]["sha256"] == self._model
            and settings_from(found["parameters"]) == settings.without_folders()
            and (not dicom or self._same_dicom(found))
            and _all_there(folder, found)
            and found["input"]["sha256"] == input_sha256(case, settings)
        )
        return Kept(found) if same else None

    def _design(self, case: Case, folder: Path) -> Kept | None:
        found = read_json(folder / DESIGN)
        known = is_finished(case.path)
        before = settings_from(found["reconstruction"])
        same = (
            _of_this_version(found)
            and ImplantSettings.from_json(found["parameters"]) == self.implant
            and before.preview == self.settings.preview
            and (found["surface_from"] == "learned") == self.learned
            and self._same_dicom(found)
            and _all_there(folder, found)
            and (
                found.get("made_of") == made_of(case.path)
                if known
                else self._reconstruction(case, folder, dicom=False) is not None
            )
        )
        return Kept(found) if same else None

    def _same_dicom(self, found: Mapping[str, Any]) -> bool:
        """Whether DICOM was asked for in the same way."""
        was = found.get("dicom")
        return (None if was is None else DicomAsked(**was)) == self.dicom

    @cached_property
    def _model(self) -> str:
        """The hash of the model's weights."""
        from calvaria.models.registry import find

        return find(self.settings.engine).sha256


def split(
    wanted: Wanted, cases: Sequence[Case], output: Path, *, again: bool = False
) -> tuple[list[Case], list[Outcome[Kept]]]:
    """The cases that are to be run, and what is kept of the others.

    Args:
        wanted: what is asked for.
        cases: all of them.
        output: the folder of the result folders.
        again: run all.
    """
    left: list[Case] = []
    kept: list[Outcome[Kept]] = []
    for case in cases:
        record = None if again else wanted.kept(case, output)
        if record is None:
            left.append(case)
        else:
            kept.append(Outcome(case.name, record, kept=True))
    return left, kept


def input_sha256(case: Case, settings: Settings) -> str:
    """The hash that a record has of an input; "" where none tells of all its voxels.

    Raises:
        CalvariaError: it cannot be read.
    """
    from calvaria.io import sha256_of

    if image_suffix(case.path) in DETACHED:
        return ""
    if not is_dicom(case.path):
        return sha256_of(case.path)
    from calvaria.io.result import sha256_of_volume
    from calvaria.results.reading import read_case

    return sha256_of_volume(read_case(case.path, settings, []).volume)


def made_of(folder: Path) -> str:
    """One hash of the files of a folder of results that a design is made of."""
    from calvaria.io import sha256_of

    mark = hashlib.sha256()
    for path in sorted(path for name in MADE_OF for path in folder.glob(name)):
        mark.update(f"{path.name} {sha256_of(path)}\n".encode())
    return mark.hexdigest()


def _of_this_version(found: Mapping[str, Any]) -> bool:
    return bool(found["versions"]["calvaria"] == __version__)


def _all_there(folder: Path, found: Mapping[str, Any]) -> bool:
    return set(texts_from(found["files"])) <= set(files_in(folder))


__all__ = ["Kept", "Wanted", "input_sha256", "made_of", "split"]
