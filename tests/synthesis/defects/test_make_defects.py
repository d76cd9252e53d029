"""A data set of synthetic defects: what is in it, that it repeats, resumes, and names the bad skulls."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calvaria.errors import CalvariaError, InputError
from calvaria.io import read_mask, sha256_of, write_volume
from calvaria.jobs import DIED
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.proportions import Proportions, population
from calvaria.synthesis.defects import apply_defect
from calvaria.synthesis.defects import make as module
from calvaria.synthesis.defects.ageing import apply_rims
from calvaria.synthesis.defects.make import SPECS, Made, Settings, make_defects
from calvaria.synthesis.defects.rim_changes import rim_from_json
from calvaria.synthesis.defects.specs import spec_from_json
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

SMALL = Settings(("ball", "craniotomy"), seed=3)


def shell(width: float) -> Volume:
    """A head of its own width, open below, in canonical mm, with air around."""
    grid = Grid.isotropic((60, 74, 52), 3.0, (-88.0, -109.0, -52.0))
    away = grid.centres_mm() - [0, 0, 10]
    outer, inner = ((away / [width - t, 90 - t, 70 - t]) ** 2 for t in (0, 8))
    bone = (outer.sum(axis=-1) <= 1) & (inner.sum(axis=-1) > 1)
    return Volume(np.asfortranarray(bone), grid)


def stand_in(mask: Volume) -> CanonicalFrame:
    """Where the shells lie: they are made in canonical mm."""
    return CanonicalFrame(np.eye(4), np.ones(3), 0.5 if mask.volume_ml < 200 else 0.1, ())


@pytest.fixture
def skulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Three heads; the pose is told by a stand-in."""
    monkeypatch.setattr(module, "locate", stand_in)
    folder = tmp_path / "skulls"
    folder.mkdir()
    for number, width in enumerate((70.0, 72.0, 75.0)):
        write_volume(folder / f"{number:03}.nrrd", shell(width))
    return {path.stem: path for path in sorted(folder.iterdir())}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_layout_is_skullbreaks_and_the_record_replays(skulls: dict[str, Path], tmp_path: Path) -> None:
    settings = Settings(("ball", "craniotomy"), 2, ("healing", "fragments"), 5)
    made = make_defects(skulls, tmp_path / "out", settings)
    assert made.failed == {}
    folders = {"ball", "ball_2", "craniotomy", "craniotomy_2"}
    assert {path.name for path in (tmp_path / "out" / "implant").iterdir()} == folders
    record = json.loads((tmp_path / "out" / SPECS).read_text(encoding="utf-8"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "complete_skull",
        "defective_skull",
        "implant",
        SPECS,
    ]
    seen = set()
    for name, path in skulls.items():
        entry = record["skulls"][name]
        assert (entry["file"], entry["sha256"]) == (path.name, sha256_of(path))
        complete = read_mask(tmp_path / "out" / "complete_skull" / f"{name}.nrrd")
        assert np.array_equal(complete.mask, read_mask(path).mask)
        for folder in folders:
            defective, patch = (
                read_mask(tmp_path / "out" / part / folder / f"{name}.nrrd") for part in ("defective_skull", "implant")
            )
            assert not (defective.mask & patch.mask).any()
            assert np.array_equal(defective.mask | patch.mask, complete.mask)
            one = entry["defects"][folder]
            assert one["volume_ml"] == pytest.approx(patch.volume_ml, abs=0.001)
            assert one["area_cm2"] > 5
            spec = spec_from_json(json.dumps(one["spec"]))
            rims = [rim_from_json(json.dumps(rim)) for rim in one["rims"]]
            frame = np.array(entry["frame_to_world"])
            replayed = apply_rims(*apply_defect(complete, spec, frame), rims, frame)
            assert np.array_equal(replayed[1].mask, patch.mask)
            seen.add((one["spec"]["kind"], spec.to_json()))
    assert len(seen) == 12  # no two alike


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_and_the_company(
    skulls: dict[str, Path], tmp_path: Path
) -> None:
    make_defects(skulls, tmp_path / "a", SMALL)
    make_defects(dict(reversed(skulls.items())), tmp_path / "b", SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    make_defects({"001": skulls["001"]}, tmp_path / "c", SMALL)
    alone = contents(tmp_path / "c")
    del alone[SPECS]
    assert alone.items() <= contents(tmp_path / "a").items()
    make_defects(skulls, tmp_path / "d", Settings(SMALL.kinds, seed=4))
    other = contents(tmp_path / "d")
    assert all(other[name] != data for name, data in alone.items() if not name.startswith("complete"))


class Threads(ThreadPoolExecutor):
    """Workers that see what a test has replaced; what a process does first is left out."""

    def __init__(self, jobs: int, *_: object) -> None:
        super().__init__(jobs)


def test_several_at_once_give_the_same_bytes(
    skulls: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_defects(skulls, tmp_path / "a", SMALL)
    monkeypatch.setattr("calvaria.jobs.ProcessPoolExecutor", Threads)
    made = make_defects(skulls, tmp_path / "b", SMALL, jobs=3)
    assert sorted(made.skulls) == ["000", "001", "002"]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def interrupt_at(count: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ctrl-C in the middle of the skull with this number; the list fills with what is made."""
    real: Callable[..., dict[str, Any]] = module._make
    asked: list[str] = []

    def make(name: str, path: Path, work: Path, settings: Settings) -> dict[str, Any]:
        asked.append(name)
        record = real(name, path, work, settings)
        if len(asked) == count:
            raise KeyboardInterrupt
        return record

    monkeypatch.setattr(module, "_make", make)
    return asked


def test_an_interrupted_run_leaves_nothing_half_and_goes_on(
    skulls: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_defects(skulls, tmp_path / "whole", SMALL)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        interrupt_at(2, patched)
        with pytest.raises(KeyboardInterrupt):
            make_defects(skulls, out, SMALL)
    there = contents(out)
    assert {Path(name).stem for name in there} == {"000", "specs"}
    asked = interrupt_at(99, monkeypatch)
    made = make_defects(skulls, out, SMALL)
    assert asked == ["001", "002"]
    assert made.kept == ["000"]
    assert contents(out) == contents(tmp_path / "whole")
    asked.clear()
    assert make_defects(skulls, out, SMALL).kept == ["000", "001", "002"]
    assert asked == []


def test_what_changed_or_went_missing_is_made_again(
    skulls: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    make_defects(skulls, out, SMALL)
    (out / "implant" / "ball" / "001.nrrd").unlink()
    write_volume(skulls["002"], shell(68.0))
    asked = interrupt_at(99, monkeypatch)
    make_defects(skulls, out, SMALL)
    assert asked == ["001", "002"]
    assert np.array_equal(read_mask(out / "complete_skull" / "002.nrrd").mask, shell(68.0).mask)
    skulls["002"].write_bytes(b"damaged")
    made = make_defects(skulls, out, SMALL)
    assert list(made.failed) == ["002"]
    assert not list(out.rglob("002.nrrd"))  # nothing is left of a skull that is no longer there
    assert sorted(json.loads((out / SPECS).read_text(encoding="utf-8"))["skulls"]) == ["000", "001"]


def test_skulls_of_another_call_stay_in_the_set(skulls: dict[str, Path], tmp_path: Path) -> None:
    first, second = {"000": skulls["000"]}, {"001": skulls["001"]}
    make_defects(first, tmp_path / "out", SMALL)
    made = make_defects(second, tmp_path / "out", SMALL)
    assert made.kept == []
    assert sorted(made.skulls) == ["000", "001"]


def test_bad_skulls_are_named_and_the_rest_go_on(skulls: dict[str, Path], tmp_path: Path) -> None:
    folder = skulls["000"].parent
    write_volume(folder / "empty.nrrd", shell(70.0).with_data(np.zeros((60, 74, 52), bool, order="F")))
    part = shell(70.0)
    write_volume(folder / "scrap.nrrd", part.with_data(part.mask & (part.grid.centres_mm()[..., 2] > 60)))
    (folder / "text.nrrd").write_text("no image", encoding="utf-8")
    bad = {name: folder / f"{name}.nrrd" for name in ("empty", "scrap", "text", "gone")}
    told: list[str] = []
    fractions: list[float] = []
    made = make_defects(
        skulls | bad,
        tmp_path / "out",
        SMALL,
        tell=lambda name, text: told.append(f"{name}: {text}"),
        progress=lambda stage, fraction: fractions.append(fraction),
    )
    assert sorted(made.skulls) == sorted(skulls)
    assert sorted(made.failed) == sorted(bad)
    assert len(told) == 4
    assert "empty" in made.failed["empty"]
    assert "unlike a complete skull (mismatch 0.50 > 0.22)" in made.failed["scrap"]
    assert "there is no such file" in made.failed["gone"]
    assert made.bugs == []
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.stem in bad]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ZeroDivisionError("by  zero"), "this is a bug, please report it: ZeroDivisionError: by zero"),
        (MemoryError(), "out of memory: use fewer jobs"),
        (CalvariaError("ours"), "ours"),
    ],
)
def test_an_error_of_ours_costs_one_skull_and_is_marked(
    skulls: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def cut(complete: Volume, *rest: object) -> None:
        raise error

    monkeypatch.setattr(module, "cut_defect", cut)
    made = make_defects({"000": skulls["000"]}, tmp_path / "out", SMALL)
    assert made.failed == {"000": text}
    assert made.bugs == ["000"]


@pytest.mark.usefixtures("dying_workers")
def test_a_worker_that_died_is_a_line_about_its_skull(skulls: dict[str, Path], tmp_path: Path) -> None:
    made = make_defects(skulls, tmp_path / "out", SMALL, jobs=2)
    assert made.failed == dict.fromkeys(skulls, DIED)
    assert sorted(made.bugs) == sorted(skulls)
    assert not (tmp_path / "out" / module.WORK).exists()


def test_a_folder_of_other_settings_or_none_at_all_is_refused(skulls: dict[str, Path], tmp_path: Path) -> None:
    one = {"000": skulls["000"]}
    make_defects(one, tmp_path / "out", SMALL)
    with pytest.raises(InputError, match="holds a data set of other settings"):
        make_defects(one, tmp_path / "out", Settings(("ball",), seed=3))
    (tmp_path / "out" / SPECS).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"specs\.json: not the record of a data set"):
        make_defects(one, tmp_path / "out", SMALL)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write the data set there"):
        make_defects(one, tmp_path / "file", SMALL)
    with pytest.raises(InputError, match="no complete skull was given"):
        make_defects({}, tmp_path / "new", SMALL)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kinds": ("orbital",)}, "there is no kind 'orbital'; known are bilateral"),
        ({"kinds": ("ball", "ball")}, "each kind is named once; got ball, ball"),
        ({"kinds": ()}, "at least one kind"),
        ({"per_kind": 0}, "one defect of each; got 5 and 0"),
        ({"rims": ("rusting",)}, "there is no change of the rim 'rusting'; known are healing"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**values)


def test_heads_are_rescaled_to_another_population(
    skulls: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_defects(skulls, tmp_path / "out", Settings(("ball",), seed=3, rescale=(1.1, 1.0, 0.95)))
    assert made.failed == {}
    before = read_mask(skulls["000"])
    after = read_mask(tmp_path / "out" / "complete_skull" / "000.nrrd")
    defective, patch = (
        read_mask(tmp_path / "out" / part / "ball" / "000.nrrd") for part in ("defective_skull", "implant")
    )
    assert np.array_equal(defective.mask | patch.mask, after.mask)
    assert not (defective.mask & patch.mask).any()

    def size_mm(skull: Volume) -> np.ndarray:
        return np.asarray(np.ptp(skull.grid.to_world(np.argwhere(skull.mask)), axis=0)) + 3.0

    assert size_mm(after) == pytest.approx(size_mm(before) * [1.1, 1.0, 0.95], abs=4.0)
    assert after.grid.is_orthogonal
    monkeypatch.setattr(module, "proportions", lambda skull, frame: Proportions(180.0, 140.0, 120.0))
    target = population([Proportions(189.0, 147.0, 114.0)] * 2)
    assert module.factors_to(target, skulls) == pytest.approx((1.05, 1.05, 0.95))
    (tmp_path / "bad.nrrd").write_text("no skull")
    with pytest.raises(InputError, match="no skull could be posed, so there is no mean head to rescale"):
        module.factors_to(target, {"bad": tmp_path / "bad.nrrd"})
    with pytest.raises(InputError, match="heads are rescaled by"):
        Settings(rescale=(3.0, 1.0, 1.0))


def test_nothing_made_yet_is_an_empty_answer() -> None:
    assert Made() == Made({}, [], {}, [])
