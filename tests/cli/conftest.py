"""A command line whose engine is a stand-in: what is tested here is the glue."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.implant.shapes import ball_with_hole, cap

from calvaria.cli import main
from calvaria.errors import InputError
from calvaria.implant.parts import Check, Design
from calvaria.implant.settings import ImplantSettings
from calvaria.io import write_volume
from calvaria.metrics import score
from calvaria.pipeline import ModelUsed, PoseReport, Report
from calvaria.reconstruction.confidence import Confidence
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.own_bone.flap import FlapFit
from calvaria.reconstruction.own_bone.pre_op import PreOpFit
from calvaria.reconstruction.own_bone.scans import OwnBoneReport
from calvaria.reconstruction.word import UserWord
from calvaria.refinement.refine import Displacement, Refinement, RefinementReport
from calvaria.results.case import run_case
from calvaria.results.settings import Settings
from calvaria.volume import Grid, Volume, extract_surface

POSE = PoseReport(tuple(tuple(row) for row in np.eye(4).tolist()), (1.0, 1.0, 1.0), 0.1, 0)
"""A head that lies as the canonical frame does."""

GRID = Grid((24, 24, 20), np.diag([2.0, 2.0, 2.5, 1.0]))

MOVED = RefinementReport(False, "symmetry", 0.03123456, 0.024, 0.8, 3.1, 0.7, 1.25)
"""What the stand-in says of a refinement."""


ROWS = tuple(tuple(row) for row in np.eye(4).tolist())
PRE_OP = OwnBoneReport("pre-op", 0.97, 0.99, PreOpFit(0.05, 0.12, 0.98, ROWS, 12.0, 3.0))
FLAP = OwnBoneReport("flap", 0.97, 0.99, FlapFit(1.5, 2.0, 0.3, 0.8, 0.8, 0.0, ROWS))
"""What the stand-in says of own bone."""


@dataclass
class Run:
    """What one call of the command line left behind."""

    code: int
    out: str
    err: str


@dataclass
class Engine:
    """The stand-in for the pipeline: fills the hole of `shell` exactly; can be told to fail or to find nothing."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None
    empty: bool = False
    warnings: tuple[str, ...] = ()
    report: RefinementReport = MOVED
    checks: tuple[Check, ...] = ()

    def reconstruct(
        self,
        volume: Volume,
        *,
        engine: str = "shape-prior",
        kind: str = "auto",
        device: str = "auto",
        threshold_hu: float | None = None,
        min_hole_ml: float = 5.0,
        refine: bool = False,
        word: UserWord | None = None,
        progress: Callable[[str, float], None] | None = None,
        name: str = "the volume",
        **own: Any,
    ) -> SimpleNamespace:
        if own:
            self.calls.append({"own": own})
        self.calls.append(
            {
                "engine": engine,
                "kind": kind,
                "device": device,
                "threshold_hu": threshold_hu,
                "min_hole_ml": min_hole_ml,
                "refine": refine,
                "word": word,
                "grid": volume.grid,
            }
        )
        if self.error is not None:
            raise self.error
        if volume.data.max() > 1 and kind != "ct":
            raise InputError("no skull in it")
        if progress is not None:
            progress("fit", 0.5)
        defective = volume.with_data(volume.data > 0)
        return self._result(volume, defective, shell().mask & ~defective.mask & (not self.empty), refine, own)

    def refine(self, volume: Volume, patch: Volume, **asked: Any) -> SimpleNamespace:
        """Leaves the patch where it is, whatever its report says."""
        self.calls.append({**asked, "patch": patch, "grid": volume.grid})
        if self.error is not None:
            raise self.error
        asked["progress"]("refinement", 0.5)
        return self._result(volume, volume.with_data(volume.data > 0), patch.data > 0, True)

    def _result(
        self, volume: Volume, defective: Volume, mask: np.ndarray, refine: bool, own: dict[str, Any] | None = None
    ) -> SimpleNamespace:
        patch = volume.with_data(mask)
        still = Displacement(np.zeros((3, 2, 2, 2), np.float32), Grid.isotropic((2, 2, 2), 1.0))
        refined = refine and not self.empty
        hole = Hole(patch.volume_ml, np.float64(3.0), (1.0, 2.0, 3.0))
        return SimpleNamespace(
            patch=patch,
            completed=volume.with_data(defective.mask | patch.mask),
            defective=defective,
            plane=SimpleNamespace(normal=np.array([1.0, 0.0, 0.0]), offset_mm=23.0),
            frame=SimpleNamespace(to_world=np.eye(4)),
            holes=() if self.empty else (hole,),
            confidence=Confidence(None if self.empty else 0.94, "like the validation cases"),
            report=Report(
                ModelUsed("stand-in", "0" * 64, "none"),
                POSE,
                {"pose": 0.25, "fit": 0.5},
                tuple(self.warnings),
                checks=self.checks,
                own_bone=None if not own else (FLAP if "flap" in own else PRE_OP),
            ),
            refinement=Refinement(patch, still, self.report) if refined else None,
            unrefined=patch if refined else None,
            open_places=None,
            uncertainty=None,
        )

    def render_case(
        self,
        defective: Volume,
        patch: Volume | None,
        reference: Volume | None = None,
        frame: object = None,
        left_open: Volume | None = None,
        off_by: object = None,
    ) -> Image.Image:
        self.calls.append({"drawn": (defective, patch, reference)})
        return Image.new("RGB", (8, 8))

    def render_refinement(
        self, defective: Volume, before: Volume, after: Volume, displacement: object, frame: object = None
    ) -> Image.Image:
        self.calls.append({"moved": (defective, before, after, displacement)})
        return Image.new("RGB", (8, 8))


def shell() -> Volume:
    """A closed box of bone, two voxels thick."""
    data = np.zeros(GRID.shape, bool, order="F")
    data[4:20, 4:20, 4:16] = True
    data[6:18, 6:18, 6:14] = False
    return Volume(data, GRID)


def hole() -> Volume:
    """A piece of its lid."""
    data = np.zeros(GRID.shape, bool, order="F")
    data[9:15, 9:15, 14:16] = True
    return Volume(data, GRID)


def defective() -> Volume:
    return Volume(shell().mask & ~hole().mask, GRID)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The stand-in, in the pipeline's place."""
    stand_in = Engine()
    module = ModuleType("calvaria.pipeline")
    module.reconstruct = stand_in.reconstruct  # type: ignore[attr-defined]
    module.refine = stand_in.refine  # type: ignore[attr-defined]
    module.evaluate = score  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "calvaria.pipeline", module)
    monkeypatch.setattr("calvaria.report.render_case", stand_in.render_case, raising=False)
    monkeypatch.setattr("calvaria.report.render_refinement", stand_in.render_refinement)
    return stand_in


@lru_cache(maxsize=1)
def light_cap() -> Design:
    """The cap in bone of few triangles: every run of the stand-in writes them to a file."""
    return replace(cap(), host=extract_surface(ball_with_hole(4.0)[0]))


@dataclass
class Designer:
    """The stand-in for the design of implants: a spherical cap, whatever the skull; can be told to fail."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None
    parts: int = 1
    checks: tuple[Check, ...] = (
        Check("watertight", True, "", "yes", "pass", "a printer's need"),
        Check("clearance, least", np.float64(0.51234567), "mm", "at least 0.5", "pass", "our choice", "implant"),
        Check("outer step", 0.34, "mm", "at most 0.3", "warn", "our choice", "implant"),
    )
    notes: tuple[str, ...] = ()

    def of_result(
        self,
        result: Any,
        settings: ImplantSettings | None = None,
        *,
        progress: Callable[[str, float], None],
        **learned: str,
    ) -> Design:
        self.calls.append({"result": result})
        if learned:
            self.calls.append({"learned": learned})
        frame = result.frame.to_world
        made = self.of_patch(result.defective, result.patch, frame, settings or ImplantSettings(), progress=progress)
        return replace(made, surface_from="learned" if learned else "field")

    def of_patch(
        self,
        defective: Volume,
        patch: Volume,
        frame_to_world: np.ndarray,
        settings: ImplantSettings,
        *,
        progress: Callable[[str, float], None],
    ) -> Design:
        self.calls.append({"defective": defective, "patch": patch, "frame": frame_to_world, "settings": settings})
        if self.error is not None:
            raise self.error
        progress("body", 0.5)
        one = light_cap().parts[0]
        names = ["implant"] if self.parts == 1 else [f"implant-{n}" for n in range(1, self.parts + 1)]
        return replace(
            light_cap(),
            parts=tuple(replace(one, name=name) for name in names),
            bone=defective,
            frame_to_world=frame_to_world,
            settings=settings,
            checks=self.checks,
            mould=((one.mesh, one.mesh),) * self.parts if settings.mould else (),
            seconds={"body": 0.25},
            notes=self.notes,
        )

    def render(self, design: Design) -> Image.Image:
        self.calls.append({"drawn": design})
        return Image.new("RGB", (8, 8))

    def page(self, design: Design, record: dict[str, Any], picture: Image.Image) -> str:
        self.calls.append({"page": record})
        return f"<!doctype html><title>{record['verdict']}</title>"


@pytest.fixture
def designer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Designer:
    """The stand-in, in the place of what designs implants and draws them; with that for the pipeline."""
    stand_in = Designer()
    monkeypatch.setattr(sys.modules["calvaria.pipeline"], "design", stand_in.of_result, raising=False)
    monkeypatch.setattr("calvaria.implant.design.design", stand_in.of_patch, raising=False)
    for name, function in (("design_picture", "render_design"), ("design_page", "design_page")):
        module = ModuleType(f"calvaria.report.{name}")
        setattr(module, function, stand_in.render if function == "render_design" else stand_in.page)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return stand_in


@pytest.fixture
def finished(engine: Engine, designer: Designer, skull: Path, tmp_path: Path) -> Path:
    """A folder of results."""
    run_case(skull, tmp_path / "results", Settings(preview=False, kind="mask"))
    return tmp_path / "results"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Call the command line in this process."""

    def call(*words: object) -> Run:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Run(code, out, err)

    return call


@pytest.fixture
def skull(tmp_path: Path) -> Path:
    """A defective skull in a file whose name is a patient's."""
    path = tmp_path / "Erika Mustermann.nrrd"
    write_volume(path, defective())
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.nrrd"
    write_volume(path, hole())
    return path
