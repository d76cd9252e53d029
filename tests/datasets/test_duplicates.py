"""One head found again after a rigid motion, with a hole, mirrored, cut off; another head told apart."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.heads import BACK, SIDE, Ball, Head

from calvaria.datasets import duplicates
from calvaria.datasets.duplicates import SAME, Duplicates, Pair, Skull, find_duplicates, lay, load_groups, skulls_of
from calvaria.datasets.fingerprint import (
    FORMAT,
    Fingerprint,
    _save,
    fingerprint_grid,
    fingerprint_of,
    overlap,
)
from calvaria.datasets.layouts import SkullCase, autoimplant2020
from calvaria.datasets.neighbours import nearest, vectors
from calvaria.datasets.persons import connected
from calvaria.errors import FormatError, InputError
from calvaria.io.result import sha256_of
from calvaria.jobs import WorkerDiedError
from calvaria.skull.edges import CutPlane
from calvaria.volume import Grid, Volume
from calvaria.volume.rotation import rotation_matrix

Vector = tuple[float, float, float]
STILL: Vector = (0.0, 0.0, 0.0)


@lru_cache(maxsize=32)
def head(
    number: int,
    turn_deg: Vector = STILL,
    shift_mm: Vector = STILL,
    holes: tuple[Ball, ...] = (),
    floor_mm: float = -200.0,
    skew: float = 0.0,
) -> Fingerprint:
    """The fingerprint of a made-up head that lies turned and shifted in its frame; bone fades over one voxel.

    ``skew`` shears the head to one side, as in plagiocephaly: the other heads are nearly their own mirror images.
    """
    grid = fingerprint_grid()
    points = (grid.centres_mm().reshape(-1, 3) - shift_mm) @ rotation_matrix(np.radians(turn_deg))
    points[:, 0] += skew * points[:, 1]
    field = Head(number, holes, floor_mm).field_mm(points)
    share = np.clip(0.5 - field / 2.0, 0.0, 1.0).reshape(grid.shape)
    cuts = (CutPlane(np.array([0.0, 0.0, -1.0]), -floor_mm),) if floor_mm > -100 else ()
    return Fingerprint(Volume((np.round(share * 255) / 255).astype(np.float32), grid), cuts)


def test_a_head_lies_exactly_on_itself():
    found = overlap(head(0), head(0))
    assert found.dice == pytest.approx(1.0, abs=1e-6)
    assert found.compared == 1.0
    assert found.turn_deg == pytest.approx(0.0, abs=1e-3)


@settings(max_examples=3)
@given(
    st.tuples(*[st.floats(-6, 6)] * 3),
    st.tuples(*[st.floats(-5, 5)] * 3),
)
@example(STILL, (1.0, 1.0, 1.0))
@example((-2.2, 5.1, -0.3), (1.9, -3.9, -4.0))
def test_a_rigid_motion_is_found(turn_deg, shift_mm):
    found = overlap(head(0), head(0, turn_deg, shift_mm))
    # Half a voxel of 2 mm along all three axes, with no turn, is what interpolation takes worst: 0.964.
    assert found.dice > 0.96 > SAME
    # Of 118 draws the worst was 0.13 degrees off: a tenth of a voxel at the head's surface.
    assert found.turn_deg == pytest.approx(float(np.linalg.norm(turn_deg)), abs=0.2)
    assert found.shift_mm == pytest.approx(float(np.linalg.norm(shift_mm)), abs=0.1)


def test_holes_are_left_out():
    found = overlap(head(0, holes=(SIDE,)), head(0, (3.0, -2.0, 4.0), (2.0, 3.0, -1.0), holes=(BACK,)))
    assert found.dice > 0.97
    assert 0.7 < found.compared < 0.95


def test_what_a_scan_does_not_show_is_left_out():
    found = overlap(head(0), head(0, (2.0, 0.0, 1.0), floor_mm=10.0))
    assert found.dice > 0.95
    assert found.compared > 0.99


def test_other_heads_overlap_less():
    assert max(overlap(head(0), head(number)).dice for number in (1, 2)) < 0.9


def test_a_mirrored_head_is_found_as_such():
    one, copy = head(1, skew=0.06), head(1, (2.0, 1.0, 0.0), skew=0.06).mirrored
    assert overlap(one, copy).dice < SAME
    found, mirrored = lay(one, copy, mirrored=True)
    assert mirrored
    assert found.dice > 0.97


def test_the_better_way_round_is_taken():
    one, copy = head(1), head(1).mirrored  # nearly symmetric: the wrong guess is good enough to try the other
    assert lay(one, copy, mirrored=False)[1]
    assert not lay(one, one, mirrored=True)[1]


def test_mirroring_twice_changes_nothing():
    one = head(0, floor_mm=0.0)
    again = one.mirrored.mirrored
    assert np.array_equal(again.bone.data, one.bone.data)
    assert np.array_equal(again.cuts[0].normal, one.cuts[0].normal)


def test_nothing_overlaps_nothing():
    empty = Fingerprint(Volume(np.zeros(fingerprint_grid().shape, np.float32), fingerprint_grid()))
    for a, b in ((empty, empty), (head(0), empty), (empty, head(0))):
        found = overlap(a, b)
        assert found.dice == 0.0


def keep(work: Path, name: str, one: Fingerprint) -> Skull:
    """A file that stands for a skull, and its fingerprint where a search looks for it."""
    path = work.parent / f"{name}.nrrd"
    path.write_text(name)
    work.mkdir(exist_ok=True)
    _save(work / f"{sha256_of(path)[:32]}.v{FORMAT}.npz", one)
    return Skull(name, path)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Skull], Path]:
    """Five skulls of three people: a and e are one, b and d too, by a mirror image. Its work folder fills up."""
    work = tmp_path_factory.mktemp("crowd") / "work"
    prints = {
        "a": head(0),
        "b": head(1, skew=0.06),
        "c": head(2),
        "d": head(1, (0.6, 0.3, 0.0), skew=0.06).mirrored,
        "e": head(0, (0.9, -0.5, 0.8), (0.8, 1.0, -0.5), holes=(BACK,)),
    }
    return [keep(work, name, one) for name, one in prints.items()], work


def test_a_kept_fingerprint_comes_back(tmp_path):
    skull = keep(tmp_path / "work", "a", head(0, floor_mm=0.0))
    found = fingerprint_of(skull.path, tmp_path / "work")
    assert np.array_equal(found.bone.data, head(0, floor_mm=0.0).bone.data)
    assert found.sha256 == sha256_of(skull.path)
    assert found.cuts[0].offset_mm == head(0, floor_mm=0.0).cuts[0].offset_mm


def test_a_damaged_fingerprint_is_made_anew(tmp_path):
    skull = keep(tmp_path / "work", "a", head(0))
    for path in (tmp_path / "work").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"a\.nrrd: "):  # which needs the skull itself
        fingerprint_of(skull.path, tmp_path / "work")


def test_people_are_found(crowd):
    skulls, work = crowd
    shares: list[float] = []
    result = find_duplicates(skulls, work, neighbours=1, progress=lambda stage, share: shares.append(share))
    assert result.groups == (("a", "e"), ("b", "d"))
    assert result.failed == {}
    assert result.skulls == tuple("abcde")
    assert {pair.a: pair.mirrored for pair in result.pairs if pair.verdict == "same"} == {"a": False, "b": True}
    assert [pair.overlap for pair in result.pairs] == sorted((pair.overlap for pair in result.pairs), reverse=True)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_the_nearest_neighbour_of_a_skull_is_its_person(crowd):
    skulls, work = crowd
    close = nearest(vectors([skull.path for skull in skulls], work), 1)
    assert {(a, b) for a, b, _ in close} >= {(0, 4), (1, 3)}
    assert (1, 3, True) in close  # the others are nearly their own mirror images


@pytest.mark.parametrize("count", [0, 1])
def test_one_skull_or_none_has_no_pairs(crowd, count):
    skulls, work = crowd
    assert find_duplicates(skulls[:count], work).pairs == ()


def test_an_interrupted_search_goes_on(crowd, tmp_path, monkeypatch):
    skulls, shared = crowd
    work = shutil.copytree(shared, tmp_path / "work", ignore=shutil.ignore_patterns("overlaps*"))
    whole = find_duplicates(skulls, work, neighbours=1)
    kept = work / f"overlaps.v{FORMAT}.jsonl"
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:20])  # a line cut short
    calls: list[int] = []

    def interrupted(job):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(job)

    real = duplicates._laid
    monkeypatch.setattr(duplicates, "_laid", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_duplicates(skulls, work, neighbours=1)
    monkeypatch.setattr(duplicates, "_laid", real)
    assert find_duplicates(skulls, work, neighbours=1) == whole
    monkeypatch.setattr(duplicates, "_laid", lambda job: pytest.fail("laid again"))
    assert find_duplicates(skulls, work, neighbours=1) == whole


def test_two_processes_find_the_same(crowd, tmp_path):
    skulls, work = crowd
    alone = shutil.copytree(work, tmp_path / "work", ignore=shutil.ignore_patterns("overlaps*"))
    two = [skull for skull in skulls if skull.name in "ae"]
    found = find_duplicates(two, alone, jobs=2)
    assert found.groups == (("a", "e"),)
    assert found == find_duplicates(two, alone)


@pytest.mark.usefixtures("dying_workers")
def test_a_process_that_dies_is_one_line(crowd):
    skulls, work = crowd
    with pytest.raises(WorkerDiedError, match="use fewer jobs"):
        find_duplicates(skulls, work, jobs=2)


def test_a_bad_skull_is_named_and_the_rest_go_on(crowd):
    skulls, work = crowd
    bad = work.parent / "bad.nrrd"
    bad.write_text("no skull")
    result = find_duplicates([Skull("x", bad), *skulls], work, neighbours=1)
    assert result.groups == (("a", "e"), ("b", "d"))
    assert list(result.failed) == ["x"]
    assert result.failed["x"].startswith("bad.nrrd: ")


def test_a_copy_of_a_file_needs_no_registration(crowd, monkeypatch):
    skulls, work = crowd
    copy = work.parent / "copy.nrrd"
    copy.write_bytes(skulls[0].path.read_bytes())
    monkeypatch.setattr(duplicates, "overlap", lambda a, b: pytest.fail("laid on each other"))
    assert find_duplicates([skulls[0], Skull("copy", copy)], work).pairs == (Pair("a", "copy", 1.0, 1.0),)


def test_bad_calls_are_refused(crowd, tmp_path):
    skulls, work = crowd
    with pytest.raises(InputError, match="a: two skulls have this name"):
        find_duplicates([skulls[0], skulls[0]], work)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: cannot keep work there: .*; give another folder"):
        find_duplicates(skulls, tmp_path / "file")


def test_verdicts_and_groups():
    pairs = (
        Pair("a", "b", SAME, 0.9),
        Pair("b", "c", 0.99, 0.8),
        Pair("d", "e", 0.91, 1.0),
        Pair("f", "g", 0.99, 0.3),
        Pair("h", "i", 0.5, 1.0),
    )
    result = Duplicates(tuple("abcdefghi"), pairs)
    assert [pair.verdict for pair in pairs] == ["same", "same", "look", "look", "other"]
    assert result.groups == (("a", "b", "c"),)
    assert result.look_at == pairs[2:4]
    value = json.loads(result.to_json())
    assert value["highest_of_other_pairs"] == 0.5
    assert [row["verdict"] for row in value["pairs"]] == ["same", "same", "look", "look"]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh"))))
def test_linked_names_are_in_one_group(pairs):
    groups = connected(pairs)
    flat = [name for group in groups for name in group]
    assert len(flat) == len(set(flat))
    for a, b in pairs:
        assert a == b or any(a in group and b in group for group in groups)
    assert connected(reversed(pairs)) == groups


def test_the_file_comes_back_or_is_refused(tmp_path):
    path = tmp_path / "duplicates.json"
    Duplicates(("a", "b"), (Pair("a", "b", 1.0, 1.0),), {"x": "why"}).save(path)
    assert load_groups(path) == (("a", "b"),)
    with pytest.raises(InputError, match="there is no such file; calvaria data duplicates writes one"):
        load_groups(tmp_path / "none.json")
    for text in ("{", "[]", '{"groups": [["a"]]}', '{"version": 1, "groups": [[1]]}', '{"version": 1, "groups": 3}'):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"duplicates\.json: not a file of duplicates"):
            load_groups(path)


def test_the_defects_of_one_skull_are_one_skull():
    complete = Path("c.nrrd")
    cases = [SkullCase(f"train-000/{kind}", "train-000", complete, kind=kind) for kind in ("random_1", "random_2")]
    hidden = SkullCase("test-1", "test-1", defective=Path("d.nrrd"))
    assert skulls_of([*cases, hidden, SkullCase("nothing", "nothing")]) == [
        Skull("train-000", complete),
        Skull("test-1", Path("d.nrrd")),
    ]


def test_a_real_skull_is_found_again_with_its_hole(real_data, tmp_path):
    cases = {case.id: case for case in autoimplant2020(real_data / "autoimplant2020")}
    few = skulls_of([cases["train-018"], cases["test-003"]])
    result = find_duplicates(few, tmp_path / "work")
    assert result.groups == (("test-003", "train-018"),)
    assert result.pairs[0].overlap == pytest.approx(0.963, abs=0.005)


def test_mirroring_is_a_flip_of_the_grid():
    grid = fingerprint_grid()
    assert grid.corners_mm().min(axis=0)[0] == -grid.corners_mm().max(axis=0)[0]
    assert isinstance(grid, Grid)
