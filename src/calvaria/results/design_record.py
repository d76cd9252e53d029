"""What is known of a design: the record that ``design.json`` holds, and the settings that it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calvaria.errors import FormatError, naming
from calvaria.implant.settings import ImplantSettings
from calvaria.results.dicom_out import DicomAsked
from calvaria.results.read_back import (
    as_written,
    confidence_from,
    input_from,
    read_json,
    require_schema,
    settings_from,
    texts_from,
)
from calvaria.results.record import Input, Seconds
from calvaria.results.settings import Settings

if TYPE_CHECKING:
    from calvaria.implant.parts import Check, Relief, Verdict
    from calvaria.reconstruction.confidence import Confidence

SCHEMA = 1
"""Version of the layout of design.json."""

NOT_ALWAYS = ("dicom", "made_of")
"""These stand in design.json only where there is something to say."""

VERDICTS: tuple[Verdict, ...] = ("pass", "warn", "fail")
"""From good to bad."""


@dataclass(frozen=True)
class Insertion:
    """The way an implant is put in.

    Args:
        direction_lps: unit vector, world LPS: the way it moves when it is put in.
        travel_mm: so much of that way was kept free of bone.
    """

    direction_lps: tuple[float, ...]
    travel_mm: float


@dataclass(frozen=True)
class PartRecord:
    """One implant in figures.

    Args:
        name: "implant", or "implant-1" and so on.
        files: its own, sorted.
        insertion: the way in.
        relief: what was taken away so that it can be put in.
        area_cm2: of its outer side.
        thickness_mm: in the middle, half of it being thicker.
        volume_ml: with all details.
        triangles: of its mesh.
    """

    name: str
    files: tuple[str, ...]
    insertion: Insertion
    relief: Relief
    area_cm2: float
    thickness_mm: float
    volume_ml: float
    triangles: int


@dataclass(frozen=True)
class DesignRecord:
    """What is known of a design.

    Args:
        versions: of calvaria, Python and what it computes with.
        input: the skull's file, as in result.json.
        reconstruction: what the missing bone was asked for with, as in result.json.
        parameters: of the implant, all of them.
        parts: the implants, that of the largest hole first.
        checks: all that was measured.
        files: what the design left in the folder, sorted.
        confidence: what accuracy to expect of the missing bone, or why none can be said.
        surface_from: where the outer surface comes from: the engine's "field", the patch's "mask", or an implant
            that was "learned".
        seconds: where the time went; the stages are the design's.
        warnings: one line each, for the user to read; those of the reconstruction too.
        peak_memory_mb: of the process, 10^6 bytes; None where the system does not tell.
        dicom: what was asked for of DICOM, where something was.
        made_of: one hash of the files that a known patch was read from; "" where it was not known.
        schema: version of the layout.
    """

    versions: dict[str, str]
    input: Input
    reconstruction: Settings
    parameters: ImplantSettings
    parts: tuple[PartRecord, ...]
    checks: tuple[Check, ...]
    files: tuple[str, ...]
    confidence: Confidence
    surface_from: Literal["field", "mask", "learned"]
    seconds: Seconds
    warnings: tuple[str, ...]
    peak_memory_mb: float | None
    dicom: DicomAsked | None = None
    made_of: str = ""
    schema: int = SCHEMA

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.verdict == "fail")

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks; pass where there is none."""
        return max((check.verdict for check in self.checks), key=VERDICTS.index, default="pass")

    def to_json(self) -> dict[str, Any]:
        """What design.json holds: plain values, figures that there are not as null.

        ``insertion`` stands at the top where there is one implant; that of each stands in ``parts``.
        """
        from calvaria.io.result import json_ready

        record = asdict(self) | {
            "seconds": self.seconds.to_json(),
            "verdict": self.verdict,
            "input": self.input.to_json(),
        }
        for name in NOT_ALWAYS:
            if not record[name]:
                del record[name]
        if len(self.parts) == 1:
            record["insertion"] = record["parts"][0]["insertion"]
        ready: dict[str, Any] = json_ready(record)
        return ready

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> DesignRecord:
        """The record that a design.json holds.

        Raises:
            FormatError: it has another schema, or lacks something, or something in it is of another kind.
            InputError: a parameter is out of its range.
        """
        require_schema(found, SCHEMA)
        with as_written():
            return _record(found)


@dataclass(frozen=True)
class Asked:
    """What a design.json says that was asked for.

    Args:
        implant: its ``parameters``.
        reconstruction: its ``reconstruction``; as by default where it has none.
        learned: whether the implant was a learned one.
    """

    implant: ImplantSettings
    reconstruction: Settings
    learned: bool = False


def read_asked(path: Path) -> Asked:
    """The settings of a design.json, to make the same design again.

    Of the file only ``parameters`` must be there; parameters that it lacks are as by default.

    Raises:
        InputError: there is no such file, or it has a parameter that there is not, or a value out of its range.
        FormatError: it holds no JSON, or no parameters.
    """
    found = read_json(path)
    with naming(path.name):
        if "schema" in found:
            require_schema(found, SCHEMA)
        parameters = found.get("parameters")
        if not isinstance(parameters, dict):
            raise FormatError("it has no parameters of an implant; give a design.json that calvaria design wrote")
        base = settings_from(found.get("reconstruction", {}))
        return Asked(ImplantSettings.from_json(parameters), base, found.get("surface_from") == "learned")


def _record(found: Mapping[str, Any]) -> DesignRecord:
    from calvaria.implant.parts import Check

    seconds = dict(found["seconds"])
    return DesignRecord(
        versions=dict(found["versions"]),
        input=input_from(found["input"]),
        reconstruction=settings_from(found["reconstruction"]),
        parameters=ImplantSettings.from_json(found["parameters"]),
        parts=tuple(_part(one) for one in found["parts"]),
        checks=tuple(Check(**one) for one in found["checks"]),
        files=texts_from(found["files"]),
        confidence=confidence_from(found["confidence"]),
        surface_from=found["surface_from"],
        seconds=Seconds(stages=seconds.pop("stages"), total=seconds.pop("total"), steps=seconds),
        warnings=texts_from(found["warnings"]),
        peak_memory_mb=found["peak_memory_mb"],
        dicom=DicomAsked(**found["dicom"]) if found.get("dicom") is not None else None,
        made_of=str(found.get("made_of", "")),
    )


def _part(found: Mapping[str, Any]) -> PartRecord:
    from calvaria.implant.parts import Relief

    way = found["insertion"]
    return PartRecord(
        name=found["name"],
        files=texts_from(found["files"]),
        insertion=Insertion(tuple(way["direction_lps"]), way["travel_mm"]),
        relief=Relief(**found["relief"]),
        area_cm2=found["area_cm2"],
        thickness_mm=found["thickness_mm"],
        volume_ml=found["volume_ml"],
        triangles=found["triangles"],
    )


__all__ = ["SCHEMA", "VERDICTS", "Asked", "DesignRecord", "Insertion", "PartRecord", "read_asked"]
