"""Heads that are scanned for the benchmark: what is written, kept, cut, and what counts as this hole's answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calvaria.benchmarks import scan_heads as module
from calvaria.benchmarks.scan_heads import CT_VARIANTS, MASK, VARIANTS, Head, ScanTask, head_of, scan_tasks, study_of
from calvaria.errors import InputError
from calvaria.io import read_mask, write_volume
from calvaria.io.dicom import list_series, read_dicom
from calvaria.synthesis.scanner import Scanner
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_soft
from calvaria.volume.volume import Volume

SMALL = {"thin": Scanner(2.0, pixel_mm=2.0), "tilted": Scanner(4.0, pixel_mm=2.0, tilt_degrees=-18.0, kernel="sharp")}


def shell() -> tuple[Volume, Volume]:
    """A ball of bone with a hole at its top, and the bone of the hole."""
    grid = Grid.isotropic((76, 76, 76), 2.0, (-75.0, -75.0, -75.0))
    at = grid.centres_mm()
    radius = np.linalg.norm(at, axis=-1)
    whole = (radius > 58) & (radius < 66)
    hole = np.linalg.norm(at - [0, 0, 62.0], axis=-1) < 25
    return Volume(whole & ~hole, grid), Volume(whole & hole, grid)


def mask_task(kind: str = "bilateral") -> Any:
    return SimpleNamespace(case=SimpleNamespace(id="train-0", person="p0"), kind=kind)


class _Task(SimpleNamespace):
    """A task that can be a key."""

    __hash__ = object.__hash__


def scan_task(variant: str) -> ScanTask:
    return ScanTask("train-0", "p0", "bilateral", variant, TASK)  # type: ignore[arg-type]


TASK = _Task(case=SimpleNamespace(id="train-0", person="p0"), kind="bilateral")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The small head in the place of every skull; what was built."""
    found: list[Any] = []

    def build(task: Any) -> tuple[Volume, Volume]:
        found.append(task)
        return shell()

    module._head.cache_clear()
    monkeypatch.setattr(module, "build", build)
    monkeypatch.setattr(module, "VARIANTS", SMALL)
    return found


def test_every_head_comes_with_every_variant_and_first_as_a_mask(tmp_path):
    ct = tmp_path / "cranium.nrrd"
    ct.write_bytes(b"x")
    tasks = scan_tasks([mask_task(), mask_task("frontoorbital")], ct)
    assert [task.variant for task in tasks[: len(VARIANTS) + 1]] == [MASK, *VARIANTS]
    assert [task.key for task in tasks if task.source == ct][:4] == [
        ("cranium", "parietotemporal", name) for name in (MASK, *CT_VARIANTS)
    ]
    assert len(tasks) == 2 * (len(VARIANTS) + 1) + 3 * (len(CT_VARIANTS) + 1)
    assert len({task.key for task in tasks}) == len(tasks)


def test_only_some_variants_may_be_asked_for(tmp_path):
    ct = tmp_path / "cranium.nrrd"
    ct.write_bytes(b"x")
    assert [task.variant for task in scan_tasks([mask_task()], ct, ["5mm", "1mm"])] == [MASK, "1mm", "5mm"]
    assert {task.source for task in scan_tasks([mask_task()], ct, ["ct-5mm"])} == {ct}
    with pytest.raises(InputError, match=r"no such variant: 7mm; known are 1mm, 1mm-sharp, .*, as-scanned, ct-3mm"):
        scan_tasks([mask_task()], None, ["7mm"])
    with pytest.raises(InputError, match=r"none.nrrd: there is no such file"):
        scan_tasks([mask_task()], tmp_path / "none.nrrd")


@pytest.mark.parametrize("variant", SMALL)
def test_a_study_is_read_as_the_head_lies(built, variant):
    defective, _ = shell()
    with study_of(scan_task(variant), None) as folder:
        listed = list_series(folder)
        found = read_dicom(folder)
    assert [one.number for one in listed if one.chosen] == ["2"]
    assert next(one.problem for one in listed if one.number == "1") == "localizers only"
    assert found.geometry["kernel"] == ("H60s" if variant == "tilted" else "H30s")
    assert found.geometry["tilt_degrees"] == pytest.approx(SMALL[variant].tilt_degrees, abs=0.01)
    bone = resample_soft(defective, found.volume.grid).data
    assert found.volume.data[bone > 0.95].min() > 150  # spongy bone at its thinnest
    assert np.median(found.volume.data[bone == 0]) < 60
    assert not folder.exists()


def test_a_thin_scan_has_a_thick_derived_series_beside_it(built):
    with study_of(scan_task("thin"), None) as folder:
        listed = {one.number: one for one in list_series(folder)}
        thin, thick = read_dicom(folder).volume, read_dicom(folder, "3").volume
    assert listed["3"].spacing_mm[2] == pytest.approx(4.0)
    assert not listed["3"].chosen
    assert thick.data[30, 30, 10] == pytest.approx(thin.data[30, 30, 20:22].mean(), abs=0.51)
    assert thick.grid.to_world((0, 0, 10)) == pytest.approx(thin.grid.to_world((0, 0, 20.5)))


def test_kept_scans_are_not_made_again(built, tmp_path):
    keep = tmp_path / "new" / "scans"
    with study_of(scan_task("thin"), keep) as folder:
        first = read_dicom(folder).volume.data
    assert folder.is_dir()
    assert folder.name.startswith("train-0-bilateral-thin-")
    module._head.cache_clear()
    built.clear()
    with study_of(scan_task("thin"), keep) as again:
        assert again == folder
        assert np.array_equal(read_dicom(again).volume.data, first)
    assert not built


def test_other_settings_are_another_scan(built, tmp_path, monkeypatch):
    with study_of(scan_task("thin"), tmp_path) as folder:
        pass
    monkeypatch.setitem(module.VARIANTS, "thin", Scanner(2.2, pixel_mm=2.0))
    with study_of(scan_task("thin"), tmp_path) as other:
        assert other != folder


def test_the_same_scan_is_the_same_every_time(built):
    made = []
    for _ in range(2):
        module._head.cache_clear()
        with study_of(scan_task("thin"), None) as folder:
            made.append(read_dicom(folder).volume.data)
    assert np.array_equal(*made)


def ct_of_shell() -> Volume:
    """A real CT's stand-in: the whole ball of bone in a head of tissue with noise."""
    defective, patch = shell()
    radius = np.linalg.norm(defective.grid.centres_mm(), axis=-1)
    data = np.where(radius < 70, 40.0, -1000.0) + np.random.default_rng(0).normal(0, 10, radius.shape)
    data[defective.mask | patch.mask] = 1200
    return defective.with_data(np.rint(data).astype(np.int16))


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> ScanTask:
    """A task that cuts the shell's hole into its CT."""
    path = tmp_path / "cranium.nrrd"
    write_volume(path, ct_of_shell())
    module._head.cache_clear()
    monkeypatch.setattr(module, "_placed", lambda ct, bone, kind, name: shell()[1])
    return ScanTask("cranium", "cranium", "ball", "ct-5mm", path)


def test_a_hole_is_cut_into_a_real_ct(cut):
    head = head_of(cut)
    assert np.array_equal(head.patch.mask, shell()[1].mask)
    assert np.array_equal(head.defective.mask, shell()[0].mask)
    found, scanner = head.scans.ct("as-scanned")
    assert scanner.slice_mm == 2.0
    assert np.median(found.data[head.patch.mask]) == pytest.approx(40, abs=60)
    assert np.median(found.data[head.defective.mask]) == 1200
    assert not (head.defective.mask & head.patch.mask).any()


def test_it_is_read_as_thicker_slices_in_the_same_place(cut):
    head = head_of(cut)
    whole, _ = head.scans.ct("as-scanned")
    thick, scanner = head.scans.ct("ct-5mm")
    assert scanner.slice_mm == 5.0
    assert thick.grid.spacing_mm == pytest.approx((2.0, 2.0, 5.0))
    # Both begin at the same face.
    faces = [one.grid.to_world((0, 0, -0.5)) for one in (whole, thick)]
    assert faces[0] == pytest.approx(faces[1])
    ends = [one.grid.to_world((0, 0, one.shape[2] - 0.5))[2] for one in (whole, thick)]
    assert 0 <= ends[1] - ends[0] < 5.0  # nothing at the vertex is left out
    share = (thick.data[..., 5:-5].astype(float) > 620).mean()
    assert share == pytest.approx((whole.data[..., 12:-12] > 620).mean(), rel=0.15)


def test_where_a_hole_was_cut_is_kept(cut, tmp_path, monkeypatch):
    keep = tmp_path / "scans"
    head_of(cut, keep)
    kept = keep / "cranium-ball-hole.nrrd"
    assert np.array_equal(read_mask(kept).mask, shell()[1].mask)
    module._head.cache_clear()
    monkeypatch.setattr(module, "_placed", lambda *_: pytest.fail("placed again"))
    assert np.array_equal(head_of(cut, keep).patch.mask, shell()[1].mask)


def test_a_hole_keeps_off_those_that_the_ct_has(monkeypatch):
    _, own = shell()
    bone = own.with_data(shell()[0].mask | own.mask)
    low = Volume(np.flip(own.mask, 2).copy(), own.grid)  # the same at the bottom
    drawn = iter([own, low])
    monkeypatch.setattr(
        "calvaria.pipeline.reconstruct",
        lambda ct, kind, name: SimpleNamespace(patch=own, frame=SimpleNamespace(to_world=np.eye(4))),
    )
    monkeypatch.setattr("calvaria.synthesis.defects.cut_defect", lambda *_: (None, None, next(drawn)))
    assert module._placed(bone, bone, "ball", "cranium") is low
    monkeypatch.setattr("calvaria.synthesis.defects.cut_defect", lambda *_: (None, None, own))
    with pytest.raises(InputError, match="cranium: no ball hole lies 15 mm off the holes that the CT has; leave that"):
        module._placed(bone, bone, "ball", "cranium")


def test_other_holes_pieces_do_not_count():
    defective, patch = shell()
    other = np.zeros(patch.shape, bool)
    other[30:40, 30:40, 2:6] = True
    both = patch.with_data(patch.mask | other)
    own = Head(defective, patch, None, 5.0)  # type: ignore[arg-type]
    assert np.array_equal(own.of_this_hole(both).mask, patch.mask)
    assert not own.of_this_hole(patch.with_data(other)).mask.any()
    all_count = Head(defective, patch, None)  # type: ignore[arg-type]
    assert np.array_equal(all_count.of_this_hole(both).mask, both.mask)
