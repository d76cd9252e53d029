"""A given patch on its way through the pipeline, and the engine's own; what refines it is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.heads import SIDE, Head, dice, family_engine, rigid, scan, true_frame, truth_of

import calvaria
from calvaria import pipeline
from calvaria.cli import main
from calvaria.errors import InputError
from calvaria.io import read_mask, write_mesh, write_volume
from calvaria.models import ModelInfo
from calvaria.pipeline import GIVEN, REFINING_STAGES, STAGES, Refined, reconstruct, refine
from calvaria.reconstruction import seen
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.protocol import MAX_MISFIT_MM, Completion, SoftField
from calvaria.reconstruction.shape_prior.engine import ShapePrior
from calvaria.reconstruction.surface import BoneSurface
from calvaria.refinement.refine import TRUST, Displacement, Refinement, RefinementReport, Settings, Trust
from calvaria.skull.canonical import CanonicalFrame
from calvaria.volume import Grid, Volume, extract_surface

HEAD = Head(20, (SIDE,))
POSE = rigid((5, -5, 10), (20, -10, 60))
DEFECTIVE = scan(HEAD, POSE, (3.0, 3.0, 3.0))
TRUTH = truth_of(HEAD, DEFECTIVE, POSE)
REPORT = RefinementReport(False, "moved by a stand-in", 0.04, 0.03, 1.0, 2.0, 0.9, 0.1)


class Prior(ShapePrior):
    """A shape prior that knows its answer: the whole vault as its region, or nothing."""

    def __init__(self, *, misfit_mm: float = 0.3, finds: bool = True) -> None:
        self.template = None  # type: ignore[assignment]  # the pose is a stand-in's
        self.soft = SoftField(np.zeros(box_grid().shape, np.float32), np.full(box_grid().shape, finds, bool), misfit_mm)

    def prepare(self) -> None:
        pass

    def reconstruct(self, skull: Volume, frame: CanonicalFrame, surface: Any = None, stage: Any = None) -> Completion:
        for name in ("hole", "completion"):
            with stage(name):
                pass
        settled = CanonicalFrame(frame.to_world @ rigid(shift_mm=(1, 0, 0)), frame.scale, frame.cost, frame.cuts)
        return Completion(settled, BoxField(self.soft.distance_mm, self.soft.region, (1.0, 1.0, 1.0)), self.soft)


@dataclass
class Mover:
    """Stands for what refines: one voxel along the first axis, over the bone if it is there."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        defective: Volume,
        patch: Volume,
        frame: CanonicalFrame,
        prior: Completion | None = None,
        settings: Settings | None = None,
        *,
        surface: BoneSurface | None = None,
        progress: Callable[[str, float], None],
    ) -> Refinement:
        self.calls.append({"patch": patch, "frame": frame, "prior": prior, "settings": settings})
        progress("level 1", 0.5)
        still = Displacement(np.zeros((3, 2, 2, 2), np.float32), Grid.isotropic((2, 2, 2), 1.0))
        return Refinement(patch.with_data(np.roll(patch.mask, 1, axis=0)), still, REPORT)


@pytest.fixture
def mover(monkeypatch: pytest.MonkeyPatch) -> Mover:
    """The stand-in for what refines, and one for the search of the pose."""
    stand_in = Mover()
    info = ModelInfo("shape-prior", "shape-prior", Path("none"), "0" * 64, "none", "", 0)
    monkeypatch.setattr(pipeline, "refine_patch", stand_in)
    monkeypatch.setattr(pipeline, "find", lambda name: info)
    monkeypatch.setattr(seen, "locate", lambda skull, template: true_frame(HEAD, POSE))
    use(monkeypatch, Prior())
    return stand_in


def use(monkeypatch: pytest.MonkeyPatch, engine: object) -> None:
    monkeypatch.setattr(pipeline, "load_engine", lambda name, device: engine)


class TestGiven:
    def test_the_patch_is_moved_and_all_around_it_is_given_back(self, mover):
        told: list[tuple[str, float]] = []
        result = refine(DEFECTIVE, TRUTH, progress=lambda stage, share: told.append((stage, share)))
        assert isinstance(result, Refined)
        moved = np.roll(TRUTH.mask, 1, axis=0)
        assert (moved & DEFECTIVE.mask).any()  # the stand-in pushes it into the bone
        np.testing.assert_array_equal(result.patch.mask, moved & ~DEFECTIVE.mask)
        np.testing.assert_array_equal(result.completed.mask, result.patch.mask | DEFECTIVE.mask)
        np.testing.assert_array_equal(result.unrefined.mask, TRUTH.mask)
        np.testing.assert_array_equal(result.defective.mask, DEFECTIVE.mask)
        assert result.patch.grid is DEFECTIVE.grid
        assert result.refinement.report == REPORT
        assert result.holes[0].place == "left parietal"
        assert (result.confidence.expected_dsc, result.confidence.reason) == (None, GIVEN)
        assert result.report.warnings == ()
        self.check_progress(told, result)

    def check_progress(self, told: list[tuple[str, float]], result: Refined) -> None:
        stages = ["bone", "pose", "given", "hole", "completion", "refinement", "done"]
        assert list(dict.fromkeys(stage for stage, _ in told)) == stages
        assert [share for _, share in told] == sorted(share for _, share in told)
        assert ("refinement", (REFINING_STAGES["refinement"] + 1) / 2) in told
        assert set(result.report.seconds) == set(stages) - {"done"}

    def test_the_shape_priors_completion_and_pose_are_handed_on(self, mover):
        result = refine(DEFECTIVE, TRUTH)
        (call,) = mover.calls
        assert call["prior"] is not None
        assert call["frame"] is call["prior"].frame is result.frame
        np.testing.assert_allclose(result.plane.normal, result.frame.plane.normal)
        assert result.report.model.name == "shape-prior"

    @pytest.mark.parametrize("trust", ["auto", "patch", "prior"])
    def test_what_is_trusted_reaches_what_refines_and_a_trusted_patch_sees_no_prior(self, mover, trust: Trust):
        refine(DEFECTIVE, TRUTH, trust=trust)
        assert mover.calls[0]["settings"] == TRUST[trust]
        assert (mover.calls[0]["prior"] is None) is (trust == "patch")

    def test_a_trusted_patch_is_not_warned_about_a_prior_that_cannot_be_used(self, mover, monkeypatch):
        use(monkeypatch, Prior(finds=False))
        assert refine(DEFECTIVE, TRUTH, trust="patch").report.warnings == ()
        assert len(refine(DEFECTIVE, TRUTH, trust="prior").report.warnings) == 1

    def test_another_word_for_what_is_trusted_is_refused_before_anything_is_loaded(self, mover, monkeypatch):
        monkeypatch.setattr(pipeline, "load_engine", lambda *asked: pytest.fail("loaded"))
        with pytest.raises(InputError, match="a refinement's trust is one of auto, patch, prior; got 'both'"):
            refine(DEFECTIVE, TRUTH, trust="both")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("engine", "line"),
        [
            (Prior(finds=False), "the shape prior finds no hole in the skull"),
            (Prior(misfit_mm=MAX_MISFIT_MM + 1), "the bone is 2.5 mm unlike that of known skulls"),
        ],
    )
    def test_without_a_usable_completion_it_is_refined_all_the_same_with_a_warning(
        self, mover, monkeypatch, engine, line
    ):
        use(monkeypatch, engine)
        result = refine(DEFECTIVE, TRUTH)
        assert mover.calls[0]["prior"] is None
        assert [warning.partition(":")[0] for warning in result.report.warnings] == [line]
        if engine.soft.misfit_mm > MAX_MISFIT_MM:  # the pose that came of it is not used
            np.testing.assert_allclose(result.frame.to_world, true_frame(HEAD, POSE).to_world)

    def test_a_skull_without_a_hole_is_no_error(self, mover, monkeypatch):
        use(monkeypatch, Prior(finds=False))
        whole = replace(HEAD, holes=()).on(DEFECTIVE.grid, POSE)
        bump = whole.with_data(np.roll(whole.mask, 2, axis=0) & ~whole.mask & TRUTH.with_data(grown(TRUTH)).mask)
        result = refine(whole, bump)
        assert result.patch.mask.any()
        assert "finds no hole" in result.report.warnings[0]

    def test_notes_on_the_patch_are_warnings(self, mover):
        completed = DEFECTIVE.with_data(DEFECTIVE.mask | TRUTH.mask)
        result = refine(DEFECTIVE, completed)
        assert dice(result.unrefined, TRUTH) > 0.97
        assert result.report.warnings[0].startswith("the patch holds the bone of the skull: its ")

    def test_errors_begin_with_the_file_that_they_are_about(self, mover):
        empty = TRUTH.with_data(np.zeros(TRUTH.shape, bool))
        with pytest.raises(InputError, match=r"^p\.nrrd: the patch is empty"):
            refine(DEFECTIVE, empty, name="s.nrrd", patch_name="p.nrrd")
        with pytest.raises(InputError, match=r"^p\.nrrd: this is the skull itself"):
            refine(DEFECTIVE, DEFECTIVE, name="s.nrrd", patch_name="p.nrrd")
        with pytest.raises(InputError, match=r"^s\.nrrd: the mask is empty"):
            refine(empty, TRUTH, name="s.nrrd", patch_name="p.nrrd")

    def test_only_a_shape_prior_compares(self, mover, monkeypatch):
        use(monkeypatch, object())
        with pytest.raises(InputError, match="the model 'runet' is no shape prior; name one, such as shape-prior"):
            refine(DEFECTIVE, TRUTH, engine="runet")

    def test_it_is_public(self):
        assert calvaria.refine is refine
        assert calvaria.Refined is Refined


def grown(mask: Volume) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return binary_dilation(mask.mask, iterations=2)


class TestReconstruct:
    @pytest.fixture
    def family(self, mover, monkeypatch):
        """The made-up heads' own shape prior."""
        use(monkeypatch, family_engine())
        return mover

    def test_the_engines_patch_is_refined_with_its_own_completion(self, family):
        told: list[tuple[str, float]] = []
        defective = scan(HEAD, POSE)
        plain = reconstruct(defective)
        assert plain.refinement is None
        assert plain.unrefined is None
        assert not family.calls
        result = reconstruct(defective, refine=True, progress=lambda stage, share: told.append((stage, share)))
        assert result.unrefined is not None
        assert result.refinement is not None
        np.testing.assert_array_equal(result.unrefined.mask, plain.patch.mask)
        moved = np.roll(plain.patch.mask, 1, axis=0) & ~defective.mask
        np.testing.assert_array_equal(result.patch.mask, moved)
        np.testing.assert_array_equal(result.completed.mask, moved | defective.mask)
        assert family.calls[0]["prior"].frame is result.frame
        assert result.confidence.expected_dsc == plain.confidence.expected_dsc
        assert list(dict.fromkeys(stage for stage, _ in told)) == [*list(STAGES)[:-1], "refinement", "done"]
        assert [share for _, share in told] == sorted(share for _, share in told)
        assert "refinement" in result.report.seconds

    def test_an_empty_patch_is_left_alone(self, family):
        result = reconstruct(scan(replace(HEAD, holes=()), POSE), refine=True)
        assert not result.patch.mask.any()
        assert result.refinement is None
        assert not family.calls

    def test_beside_a_network_the_shape_prior_completes_the_skull_too(self, family, monkeypatch):
        class Network:
            """The same answer from something that is no shape prior."""

            def __getattr__(self, name: str) -> Any:
                return getattr(family_engine(), name)

        prior = Prior()
        asked: list[str] = []
        monkeypatch.setattr(prior, "reconstruct", lambda *given: asked.append("prior") or given_by(*given))

        def given_by(skull: Volume, frame: CanonicalFrame, surface: Any) -> Completion:
            return Completion(frame, BoxField(prior.soft.distance_mm, prior.soft.region, (1.0, 1.0, 1.0)), prior.soft)

        use(monkeypatch, Network())
        monkeypatch.setattr(pipeline, "load_prior", lambda: prior)
        result = reconstruct(scan(HEAD, POSE), refine=True)
        assert asked == ["prior"]
        assert family.calls[0]["prior"].soft is prior.soft
        assert family.calls[0]["frame"] is result.frame


BAD = {
    "a CT": "a patch is a mask of two values, such as 0 and 1; this one holds more, from -1000 to 2000",
    "nothing": "the patch is empty: no voxel is set",
    "the skull": "this is the skull itself: nothing of it is missing bone",
    "another frame": "nothing of the patch lies on the skull's grid (the patch has ",
    "far away": "the patch lies outside of the head (its centre lies at (",
}


def bad_patch(kind: str) -> Volume:
    if kind == "a CT":
        values = np.linspace(-1000, 2000, TRUTH.data.size).reshape(TRUTH.shape)
        return TRUTH.with_data(values.astype(np.int16))
    if kind == "nothing":
        return TRUTH.with_data(np.zeros(TRUTH.shape, np.uint8))
    if kind == "the skull":
        return DEFECTIVE
    return Volume(TRUTH.data, TRUTH.grid.moved(rigid(shift_mm=(1000.0 if kind == "another frame" else 60.0, 0, 0))))


@pytest.mark.usefixtures("small_pictures")
class TestCommand:
    """`calvaria refine` on the pipeline itself."""

    @pytest.fixture
    def skull(self, tmp_path):
        path = tmp_path / "skull.nrrd"
        write_volume(path, DEFECTIVE.pad((40, 0, 0), (40, 0, 0), False))
        return path

    @pytest.mark.parametrize("form", ["image", "mesh"])
    def test_a_patch_of_either_form_comes_out_refined_with_its_pictures(self, mover, skull, tmp_path, form):
        patch = tmp_path / {"image": "patch.nii.gz", "mesh": "patch.ply"}[form]
        if form == "image":
            write_volume(patch, TRUTH)
        else:
            write_mesh(patch, extract_surface(TRUTH))
        out = tmp_path / "out"
        assert main(["refine", str(skull), str(patch), "-o", str(out), "--quiet"]) == 0
        assert {path.name for path in out.iterdir()} == {
            "completed.nrrd",
            "patch.nrrd",
            "patch.stl",
            "preview.png",
            "refinement.png",
            "result.json",
        }
        bone, made, completed = (read_mask(path) for path in (skull, out / "patch.nrrd", out / "completed.nrrd"))
        assert made.grid.same_as(bone.grid)
        assert not (made.mask & bone.mask).any()
        np.testing.assert_array_equal(completed.mask, made.mask | bone.mask)

    @pytest.mark.parametrize("kind", list(BAD))
    def test_a_patch_that_cannot_be_one_is_one_line(self, mover, skull, tmp_path, capsys, kind):
        patch = tmp_path / "patch.nrrd"
        write_volume(patch, bad_patch(kind))
        assert main(["refine", str(skull), str(patch), "-o", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"calvaria: patch.nrrd: {BAD[kind]}")
        assert err.count("\n") == 1
        assert not (tmp_path / "out").exists()
        assert not mover.calls
