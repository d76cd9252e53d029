"""The training cache: what goes in comes out, an interrupted run goes on, and what has changed is made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calvaria.datasets.cache import (
    COARSE_SHAPE,
    Entry,
    Item,
    SkullCache,
    boxed,
    pack,
    training_grid,
    unpack,
    write_cache,
)
from calvaria.datasets.catalog import SkullCase, autoimplant2020
from calvaria.errors import FormatError, InputError
from calvaria.jobs import WorkerDiedError
from calvaria.skull.canonical import locate
from calvaria.skull.template import load_template
from calvaria.synthesis import cache_build
from calvaria.synthesis.cache_build import Job, build_cache
from calvaria.volume import bounding_box

SHAPE = training_grid().shape


def mask_of(seed: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[20:90, 30:110, 10:80] = np.random.default_rng(seed).random((70, 80, 70)) < 0.3
    return mask


def item_of(seed: int, *, complete: bool = True) -> Item:
    mask, part = mask_of(seed), np.zeros(SHAPE, bool)
    part[40:50, 35:60, 60:75] = mask[40:50, 35:60, 60:75]
    patches = {"official": boxed(part), "bilateral": boxed(np.roll(part, 5, axis=1))} if complete else {}
    entry = Entry(f"case-{seed}", f"person-{seed}", complete, f"key-{seed}", 0.0, ("odd",) if seed else ())
    return Item(entry, np.eye(4) * (seed + 1), patches, None if complete else boxed(part))


def write(path: Path, items: list[Item]) -> None:
    """Items with the bone of their numbers."""
    seeds = [int(item.entry.id.split("-")[1]) for item in items]
    write_cache(path, items, (pack(mask_of(seed)) for seed in seeds), 1)


@given(arrays(bool, st.tuples(*[st.integers(1, 9)] * 3)))
def test_packing_keeps_every_bit(mask: np.ndarray) -> None:
    packed = pack(mask)
    assert packed.nbytes == -(-mask.size // 8)
    assert np.array_equal(unpack(packed, mask.shape), mask)


@pytest.mark.parametrize("refine", [1, 2, 3, 4])
def test_the_training_grids_share_their_outer_faces_and_mirror_by_a_flip(refine: int) -> None:
    grid = training_grid(refine)
    half = np.array(grid.spacing_mm) / 2
    assert np.allclose(grid.to_world([0, 0, 0]) - half, [-89.6, -115.2, -64.0])
    assert np.allclose(grid.to_world(np.array(grid.shape) - 1) + half, [89.6, 115.2, 89.6])
    assert grid.shape == tuple(n * refine for n in COARSE_SHAPE)


def test_a_grid_that_divides_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="divided by 1 or more; got 0"):
        training_grid(0)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    items = [item_of(0), item_of(1, complete=False), item_of(2)]
    write(tmp_path / "c.safetensors", items)
    cache = SkullCache(tmp_path / "c.safetensors")
    assert cache.entries == tuple(item.entry for item in items)
    assert len(cache) == 3
    for row, item in enumerate(items):
        assert np.array_equal(cache.bone(row), mask_of(row))
        assert np.array_equal(cache.item(row).frame, item.frame)
        assert list(cache.item(row).patches) == list(item.patches)
    part = np.zeros(SHAPE, bool)
    part[40:50, 35:60, 60:75] = mask_of(2)[40:50, 35:60, 60:75]
    assert np.array_equal(cache.patch(2, "official"), part)
    assert np.array_equal(cache.patch(2, "bilateral"), np.roll(part, 5, axis=1))
    assert not cache.hidden(0).any()
    part[40:50, 35:60, 60:75] = mask_of(1)[40:50, 35:60, 60:75]
    assert np.array_equal(cache.hidden(1), part)
    assert np.array_equal(cache.bones(), np.stack([pack(mask_of(seed)) for seed in range(3)]))
    assert np.array_equal(cache.bones([2, 0]), np.stack([pack(mask_of(2)), pack(mask_of(0))]))


def test_another_library_reads_the_file_too(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    write(tmp_path / "c.safetensors", [item_of(0)])
    assert load_file(tmp_path / "c.safetensors")["bone"].shape == (1, training_grid().size // 8)


def test_a_skull_without_a_patch_says_so(tmp_path: Path) -> None:
    write(tmp_path / "c.safetensors", [item_of(0)])
    with pytest.raises(InputError, match=r"case-0: no defect of kind 'ball' in the cache; known: official, bilateral"):
        SkullCache(tmp_path / "c.safetensors").patch(0, "ball")


def test_rows_are_found_by_id_and_a_wrong_list_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "c.safetensors", [item_of(0), item_of(1)])
    cache = SkullCache(tmp_path / "c.safetensors")
    assert cache.index_of(["case-1", "elsewhere"]) == [1]
    with pytest.raises(InputError, match=r"c\.safetensors: none of the 1 cases is in this cache; it holds 2"):
        cache.index_of(["elsewhere"])


def test_missing_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such training cache; make one with: calvaria data cache"):
        SkullCache(tmp_path / "none.safetensors")
    write(tmp_path / "c.safetensors", [item_of(0)])
    whole = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    (tmp_path / "old.safetensors").write_bytes(whole.replace(b"calvaria-skulls-1", b"calvaria-skulls-0"))
    for name in ("cut", "old"):
        with pytest.raises(FormatError, match=rf"{name}\.safetensors: not a training cache .*; make it anew"):
            SkullCache(tmp_path / f"{name}.safetensors")


@pytest.fixture
def files(tmp_path: Path) -> list[SkullCase]:
    """Four cases of three persons; what is in the files does not matter here."""
    cases = []
    for name, person in [("train-000", "a"), ("train-001", "b"), ("train-002", "a"), ("test-000", "c")]:
        path = tmp_path / f"{name}.nrrd"
        path.write_bytes(name.encode())
        complete = path if name.startswith("train") else None
        cases.append(SkullCase(name, person, complete, None, None if complete else path))
    return cases


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the skulls that were made; posing them is left out."""
    names: list[str] = []

    def prepare(job: Job) -> tuple[Item, np.ndarray]:
        case = job.cases[0]
        if b"bad" in (case.complete or case.defective).read_bytes():  # type: ignore[union-attr]
            raise InputError(f"{case.id}: no skull")
        names.append(case.id)
        item = Item(Entry(case.id, case.person, case.complete is not None, job.key), np.eye(4), {}, None)
        return item, pack(mask_of(0))

    monkeypatch.setattr(cache_build, "prepare", prepare)
    return names


def test_each_person_is_made_once_and_a_second_run_makes_nothing(
    tmp_path: Path, files: list[SkullCase], made: list[str]
) -> None:
    told: list[tuple[str, float]] = []
    built = build_cache(files, tmp_path / "c.safetensors", progress=lambda *what: told.append(what))
    assert (built.skulls, built.made, built.refused) == (3, 3, {})
    assert made == ["train-000", "train-001", "test-000"]
    assert told[-1] == ("3 of 3 skulls", 1.0)
    before = (tmp_path / "c.safetensors").read_bytes()
    assert build_cache(files, tmp_path / "c.safetensors").made == 0
    assert (tmp_path / "c.safetensors").read_bytes() == before
    assert not (tmp_path / "c.safetensors.parts").exists()


@pytest.mark.usefixtures("dying_workers")
def test_a_process_that_dies_stops_the_run_and_what_is_done_is_kept(tmp_path: Path, files: list[SkullCase]) -> None:
    (tmp_path / "c.safetensors.parts").mkdir()
    (tmp_path / "c.safetensors.parts" / "done.npz").write_bytes(b"")
    with pytest.raises(WorkerDiedError, match="use fewer jobs"):
        build_cache(files, tmp_path / "c.safetensors", jobs=2)
    assert [path.name for path in (tmp_path / "c.safetensors.parts").iterdir()] == ["done.npz"]
    assert not (tmp_path / "c.safetensors").exists()


def test_only_what_has_changed_is_made_anew(tmp_path: Path, files: list[SkullCase], made: list[str]) -> None:
    build_cache(files, tmp_path / "c.safetensors")
    made.clear()
    files[1].complete.write_bytes(b"another skull")  # type: ignore[union-attr]
    built = build_cache(files, tmp_path / "c.safetensors")
    assert (made, built.made, built.skulls) == (["train-001"], 1, 3)
    made.clear()
    assert build_cache(files[:2], tmp_path / "c.safetensors").skulls == 2
    assert made == []
    assert len(build_cache(files, tmp_path / "c.safetensors", refine=2).refused) == 0
    assert len(made) == 3


def test_a_bad_case_is_named_and_the_rest_go_on(tmp_path: Path, files: list[SkullCase], made: list[str]) -> None:
    files[1].complete.write_bytes(b"bad")  # type: ignore[union-attr]
    files.append(SkullCase("gone", "d", tmp_path / "gone.nrrd"))
    files.append(SkullCase("nothing", "e"))
    built = build_cache(files, tmp_path / "c.safetensors")
    assert (built.skulls, built.made) == (2, 2)
    assert built.refused["train-001"] == "train-001: no skull"
    assert "gone.nrrd: there is no such file" in built.refused["gone"]
    assert built.refused["nothing"] == "nothing: neither a complete nor a defective skull is present"
    assert [entry.id for entry in SkullCache(tmp_path / "c.safetensors").entries] == ["train-000", "test-000"]


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path, files: list[SkullCase], made: list[str]) -> None:
    for case in files:
        (case.complete or case.defective).write_bytes(b"bad")  # type: ignore[union-attr]
    with pytest.raises(InputError, match="no skull could be used: train-000: no skull"):
        build_cache(files, tmp_path / "c.safetensors")
    assert not list(tmp_path.glob("c.safetensors*"))
    with pytest.raises(InputError, match=r"c\.bin: a training cache ends in \.safetensors"):
        build_cache(files, tmp_path / "c.bin")


def test_an_interrupted_run_goes_on(
    tmp_path: Path, files: list[SkullCase], made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(what: str, share: float) -> None:
        if what.startswith("2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(files, tmp_path / "c.safetensors", progress=interrupt)
    assert not (tmp_path / "c.safetensors").exists()
    assert made == ["train-000", "train-001"]
    assert build_cache(files, tmp_path / "c.safetensors").made == 1
    assert made == ["train-000", "train-001", "test-000"]


def test_a_real_skull_lies_in_its_frame_and_its_patch_is_exact(tmp_path: Path, real_data: Path) -> None:
    case = next(c for c in autoimplant2020(real_data / "autoimplant2020") if c.id == "train-004")
    build_cache([case], tmp_path / "c.safetensors")
    cache = SkullCache(tmp_path / "c.safetensors")
    bone, patch = cache.bone(0), cache.patch(0, "official")
    from calvaria.io import read_mask

    voxel_ml = training_grid().voxel_volume_mm3 / 1000
    assert patch.sum() * voxel_ml == pytest.approx(read_mask(case.patch).volume_ml, rel=0.03)  # type: ignore[arg-type]
    assert not (patch & ~bone).any()
    vault = bone[:, :, 50:]
    assert 2 * (vault & vault[::-1]).sum() / (2 * vault.sum()) > 0.5  # upright, the midline in the middle
    assert cache.entries[0].lost < 0.01
    whole = read_mask(case.complete)  # type: ignore[arg-type]
    frame = locate(whole.crop(bounding_box(whole.mask)), load_template())  # type: ignore[arg-type]
    points = whole.grid.to_world(np.argwhere(whole.mask)[::7])
    highest_mm = ((points - frame.to_world[:3, 3]) @ frame.to_world[:3, :3])[:, 2].max()
    top_mm = training_grid().to_world([0, 0, np.flatnonzero(bone.any(axis=(0, 1))).max()])[2]
    assert top_mm == pytest.approx(highest_mm, abs=training_grid().spacing_mm[2])
    assert highest_mm == pytest.approx(80 * frame.scale[2], abs=8)  # the vertex of the mean head lies at about +80 mm
