"""The benchmark on small model skulls, with engines that answer well, badly or not at all."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from calvaria.benchmarks import cases, reconstruction
from calvaria.benchmarks.cases import BENCHMARK_KINDS, CLINICAL_KINDS, Task, build, place, tasks_of
from calvaria.benchmarks.reconstruction import (
    Answer,
    main,
    run_benchmark,
    run_task,
    save_pictures,
    solve_as_command,
    solve_here,
    worst_of,
)
from calvaria.benchmarks.table import Row, append_row, read_rows, summary, write_rows
from calvaria.datasets.catalog import SkullCase
from calvaria.datasets.split import load_split
from calvaria.errors import FormatError, InputError
from calvaria.io import read_mask, write_volume
from calvaria.jobs import DIED
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume


def head() -> tuple[Volume, Volume]:
    """A complete model skull of 7 mm on a 4 mm grid in the canonical frame, and an official defect at its back."""
    low = np.array([-80.0, -98.0, -44.0])
    grid = Grid.isotropic((41, 50, 34), 4.0, low)
    x, y, z = np.moveaxis(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)
    shells = [(x / (72 - s)) ** 2 + (y / (90 - s)) ** 2 + ((z - 10) / (70 - s)) ** 2 <= 1 for s in (0, 8)]
    bone = shells[0] & ~shells[1]
    return Volume(bone, grid), Volume(bone & (y > 50) & (abs(x) < 30) & (z > 20), grid)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the public one: one model skull under the names of all test persons."""
    root = tmp_path_factory.mktemp("data") / "autoimplant2020"
    complete, implant = head()
    for folder, volume in (("complete_skull", complete), ("implant", implant)):
        (root / "training_set" / folder).mkdir(parents=True)
        first = root / "training_set" / folder / "first.nrrd"
        write_volume(first, volume)
        for name in load_split().test:
            (root / "training_set" / folder / f"{name.removeprefix('train-')}.nrrd").write_bytes(first.read_bytes())
        first.unlink()
    return root


@pytest.fixture(autouse=True)
def _model_frames(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The model skull lies in the canonical frame; the packaged defects are made for the real ones."""
    monkeypatch.setattr(cases, "_placed", dict)
    monkeypatch.setattr(cases, "canonical_frame", lambda complete: np.eye(4))
    yield


def rows_equal(a: Row, b: Row) -> bool:
    return repr(a) == repr(b)  # NaN is not equal to itself


def perfect(defective: Volume) -> Answer:
    complete, _ = head()
    return Answer(complete.with_data(complete.mask & ~defective.mask), 0.5, 0.4, 100.0, 1)


def test_tasks_are_every_person_with_every_kind(data: Path) -> None:
    tasks = tasks_of(data.parent, "test")
    assert len(tasks) == 15 * 6
    assert [task.kind for task in tasks[:6]] == list(BENCHMARK_KINDS)
    assert {task.case.id for task in tasks} == set(load_split().test)
    assert [t.case.id for t in tasks_of(data, "test", ("ball",), limit=2)] == list(load_split().test[:2])


def test_wrong_calls_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="no such kind of defect: temporal; known are official, bilateral"):
        tasks_of(data, "test", ("temporal",))
    with pytest.raises(InputError, match="10 skulls of the validation split are missing, such as train-"):
        tasks_of(data, "validation")
    hidden = Task(SkullCase("test-003", "train-018", None, None, None), "official")
    with pytest.raises(InputError, match="test-003: there is no complete skull"):
        build(hidden)
    case = tasks_of(data, "test", limit=1)[0].case
    with pytest.raises(InputError, match="there is no implant file, so no official defect"):
        build(Task(SkullCase(case.id, case.person, case.complete, None, None), "official"))


@pytest.mark.parametrize("kind", BENCHMARK_KINDS)
def test_the_same_task_gives_the_same_defect(data: Path, kind: str) -> None:
    task = tasks_of(data, "test", (kind,), limit=1)[0]
    (defective, patch), (_, again) = build(task), build(task)
    assert np.array_equal(patch.mask, again.mask)
    assert np.array_equal(defective.mask ^ patch.mask, head()[0].mask)
    assert patch.mask.any()


def test_placed_defects_are_used_whatever_the_frame_is_now(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of(data, "test", ("official", "bilateral"), limit=1)
    before = build(tasks[1])[1]
    stored = place(tasks, lambda complete: np.eye(4))
    assert list(stored[tasks[0].case.id]["defects"]) == ["bilateral"]
    monkeypatch.undo()
    cases._placed.cache_clear()
    monkeypatch.setattr(cases, "PLACED", tmp_path / "placed.json")
    (tmp_path / "placed.json").write_text(json.dumps(stored))
    after = build(tasks[1], locate=lambda complete: np.full((4, 4), np.nan))[1]
    cases._placed.cache_clear()
    assert np.array_equal(before.mask, after.mask)


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of placed defects of one's own."""
    monkeypatch.undo()  # of the fixture that hides the packaged one
    cases._placed.cache_clear()
    monkeypatch.setattr(cases, "PLACED", tmp_path / "placed.json")
    yield tmp_path / "placed.json"
    cases._placed.cache_clear()


def test_what_was_placed_stays_and_new_kinds_are_drawn_in_its_frame(data: Path) -> None:
    tasks = tasks_of(data, "test", ("bilateral", "multiple", "bifrontal"), limit=2)
    moved = np.eye(4)
    moved[:3, 3] = 0.4, -0.2, 0.3
    known = place(tasks[:1], lambda complete: moved)
    before, lines = json.dumps(known), []
    stored = place(tasks, lambda complete: np.eye(4), known, lines.append)
    assert json.dumps(known) == before
    (first, one), (second, other) = stored.items()
    assert (first, second) == (tasks[0].case.id, tasks[3].case.id)
    assert json.dumps({first: one}).startswith(before.removesuffix("}}}"))  # to the byte, before what is new
    assert list(one["defects"]) == list(other["defects"]) == ["bilateral", "multiple", "bifrontal"]
    assert (one["frame_to_world"], other["frame_to_world"]) == (moved.tolist(), np.eye(4).tolist())
    assert lines[:2] == [f"{first} multiple: placed", f"{first} bifrontal: placed"]
    assert len(lines) == 5
    assert place(tasks, lambda complete: np.full((4, 4), np.nan), stored) == stored


def test_placed_defects_of_every_sort_are_cut(data: Path, placed: Path) -> None:
    tasks = tasks_of(data, "test", CLINICAL_KINDS, limit=1)
    placed.write_text(json.dumps(place(tasks, lambda complete: np.eye(4))))
    cases._placed.cache_clear()
    complete, _ = head()
    for task in tasks:
        _, patch = build(task, lambda volume: np.full((4, 4), np.nan), complete)
        assert patch.mask.any()
    assert np.array_equal(cases.frame_of(tasks[0].case, complete), np.eye(4))


def test_a_kind_that_a_skull_does_not_take_is_left_out_with_a_word(
    data: Path, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of(data, "test", ("bilateral", "bifrontal"), limit=1)
    monkeypatch.setattr("calvaria.synthesis.defects.cutting.ATTEMPTS", 0)
    lines: list[str] = []
    stored = place(tasks[1:], lambda complete: np.eye(4), tell=lines.append)
    assert stored[tasks[0].case.id]["defects"] == {"bifrontal": None}
    name = tasks[0].case.id
    assert lines == [f"{name} bifrontal: the skull takes no sound one"]
    placed.write_text(json.dumps(stored))
    cases._placed.cache_clear()
    lines.clear()
    assert tasks_of(data, "test", ("bilateral", "bifrontal"), limit=1, tell=lines.append) == tasks[:1]
    assert tasks_of(data, "test", ("bilateral", "bifrontal"), limit=1) == tasks[:1]
    assert lines == [f"{name} bifrontal: left out, the skull takes no sound one"]
    with pytest.raises(InputError, match=f"{name}: the skull takes no sound bifrontal defect; leave that kind out"):
        build(tasks[1])


def test_the_command_adds_to_the_file_and_changes_nothing_in_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = cases.tasks_of
    monkeypatch.setattr(cases, "tasks_of", lambda root, side, kinds: some(root, "test", kinds, limit=1))
    path = tmp_path / "placed.json"
    cases.main([str(data), "-o", str(path), "--kinds", "official,craniotomy"])
    first = path.read_text()
    cases.main([str(data), "-o", str(path), "--kinds", "craniotomy,multiple"])
    assert path.read_text().startswith(first.removesuffix("}}\n}\n"))
    name = some(data, "test", limit=1)[0].case.id
    assert list(json.loads(path.read_text())[name]["defects"]) == ["craniotomy", "multiple"]
    assert capsys.readouterr().out == f"{name} craniotomy: placed\n{name} multiple: placed\n"


def test_names_stand_for_several_kinds(data: Path) -> None:
    def kinds(*names: str) -> list[str]:
        return [task.kind for task in tasks_of(data, "test", names, limit=1)]

    assert kinds("clinical") == ["hemicraniectomy", "bifrontal", "multiple", "craniotomy"]
    assert kinds("all") == [*BENCHMARK_KINDS, *CLINICAL_KINDS]
    assert kinds("craniotomy", "clinical", "official") == [*("craniotomy", *CLINICAL_KINDS[:3]), "official"]


def test_the_packaged_file_holds_every_kind_of_every_validation_and_test_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    split = load_split()
    persons = cases._placed()
    assert set(persons) == {name for name in (*split.validation, *split.test) if name.startswith("train-")}
    for kinds in persons.values():
        assert list(kinds) == [*BENCHMARK_KINDS[1:], *CLINICAL_KINDS]
        assert all(kind == placed[0].kind for kind, placed in kinds.items() if placed is not None)


def test_a_perfect_engine_scores_one(data: Path, tmp_path: Path) -> None:
    tasks = tasks_of(data, "test", ("official", "ball"), limit=2)
    lines: list[str] = []
    rows = run_benchmark(tasks, tmp_path / "r.csv", "fake", perfect, tell=lines.append)
    assert [(row.case, row.kind) for row in rows] == [(t.case.id, t.kind) for t in tasks]
    assert all((r.dsc, r.bdsc, r.hd95_mm, r.overlap_voxels, r.holes, r.error) == (1, 1, 0, 0, 1, "") for r in rows)
    assert all((r.volume_error_percent, r.outer_mm) == (0, 0) for r in rows)
    assert lines[-1].startswith("[4 of 4] ")
    assert "DSC 1.0000" in lines[-1]
    assert read_rows(tmp_path / "r.csv")[0].seconds == 0.5


def test_a_failing_case_is_named_and_the_rest_goes_on(data: Path, tmp_path: Path) -> None:
    tasks = tasks_of(data, "test", ("official", "random_1", "random_2"), limit=1)
    calls: list[int] = []

    def stumble(defective: Volume) -> Answer:
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("oh\nno")
        return perfect(defective)

    rows = run_benchmark(tasks, tmp_path / "r.csv", "fake", stumble)
    assert [row.error for row in rows] == ["", "ZeroDivisionError: oh no", ""]
    assert math.isnan(rows[1].dsc)
    # What was done is kept; what failed is tried again.
    lines: list[str] = []
    again = run_benchmark(tasks, tmp_path / "r.csv", "fake", stumble, tell=lines.append)
    assert len(calls) == 4
    assert lines[0] == "2 of 3 cases are in r.csv already"
    assert [row.error for row in again] == ["", "", ""]
    assert len(read_rows(tmp_path / "r.csv")) == 3


@pytest.mark.usefixtures("dying_workers")
def test_cases_whose_process_died_are_named_and_run_again(data: Path, tmp_path: Path) -> None:
    tasks = tasks_of(data, "test", ("official", "random_1"), limit=1)
    rows = run_benchmark(tasks, tmp_path / "r.csv", "fake", perfect, jobs=2)
    assert [row.error for row in rows] == [DIED, DIED]
    again = run_benchmark(tasks, tmp_path / "r.csv", "fake", perfect, jobs=1)
    assert [row.error for row in again] == ["", ""]


def test_another_model_gets_rows_of_its_own(data: Path, tmp_path: Path) -> None:
    tasks = tasks_of(data, "test", ("official",), limit=1)
    for model in ("one", "two"):
        run_benchmark(tasks, tmp_path / "r.csv", model, perfect)
    assert [row.model for row in read_rows(tmp_path / "r.csv")] == ["one", "two"]


def test_an_error_of_ours_is_quoted_without_its_class(data: Path) -> None:
    def refuse(defective: Volume) -> Answer:
        raise InputError("this is no skull")

    task = tasks_of(data, "test", limit=1)[0]
    assert run_task(task, "fake", refuse).error == "this is no skull"


def test_solving_here_times_the_call_and_counts_the_holes() -> None:
    complete, patch = head()
    answer = solve_here(complete, lambda volume: SimpleNamespace(patch=patch, holes=(1, 2)))
    assert (answer.patch, answer.holes) == (patch, 2)
    assert 0 <= answer.seconds < 5
    assert answer.peak_mb > 10
    assert solve_here(complete, lambda volume: SimpleNamespace(patch=patch)).holes == -1


FAKE_COMMAND = """
    import json, pathlib, sys
    arguments = sys.argv[1:]
    out = pathlib.Path(arguments[arguments.index("-o") + 1])
    if "{mode}" == "refuse":
        sys.exit("reading\\nerror: skull.nrrd: no skull")
    out.mkdir()
    (out / "patch.nrrd").write_bytes(pathlib.Path(arguments[0]).read_bytes())
    empty = "{mode}" == "empty"
    (out / "result.json").write_text(json.dumps({{"patch": {{"empty": empty}}, "holes": [] if empty else [1]}}))
"""


def command(folder: Path, mode: str) -> tuple[str, str]:
    script = folder / "fake.py"
    script.write_text(textwrap.dedent(FAKE_COMMAND.format(mode=mode)))
    return sys.executable, str(script)


def test_the_real_command_is_measured_from_outside(tmp_path: Path) -> None:
    complete, _ = head()
    answer = solve_as_command(complete, "m", command(tmp_path, "echo"))
    assert np.array_equal(answer.patch.mask, complete.mask)  # this fake gives back what it got
    assert answer.patch.grid.same_as(complete.grid)
    assert (answer.holes, answer.peak_mb > 1, answer.cpu_seconds > 0) == (1, True, True)
    nothing = solve_as_command(complete, "m", command(tmp_path, "empty"))
    assert not nothing.patch.mask.any()
    assert nothing.holes == 0


def test_a_failing_command_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exit code 1: error: skull\.nrrd: no skull"):
        solve_as_command(head()[0], "m", command(tmp_path, "refuse"))


def test_two_jobs_give_all_rows(data: Path, tmp_path: Path) -> None:
    tasks = tasks_of(data, "test", ("official",), limit=3)
    solve = partial(solve_as_command, model="m", command=command(tmp_path, "echo"))
    rows = run_benchmark(tasks, tmp_path / "r.csv", "m", solve, jobs=2)
    assert [row.case for row in rows] == [task.case.id for task in tasks]
    assert all(row.error == "" and row.dsc == 0 and row.overlap_voxels > 0 for row in rows)


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    rows = [
        Row("a", "p", "official", "m", 30.5, 0.9, 0.91, math.inf, -2.5, 0, 1.0, 0.5, 300.0, 1),
        Row("b", "p", "ball", "m", error='it said: "no", twice'),
    ]
    path = tmp_path / "r.csv"
    write_rows(path, rows[:1])
    append_row(path, rows[1])
    assert all(rows_equal(a, b) for a, b in zip(read_rows(path), rows, strict=True))
    with path.open("a") as file:
        file.write("c,p,official,m,12.")  # cut off while it was written
    assert len(read_rows(path)) == 2
    assert read_rows(tmp_path / "none.csv") == []


def test_a_file_of_before_there_was_an_outer_surface_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    write_rows(path, [Row("a", "p", "official", "m", dsc=0.5, outer_mm=0.25)])
    now = path.read_text()
    head, line = now.splitlines()
    assert head.endswith(",expected_dsc,outer_mm,error")
    cells = zip(head.split(","), line.split(","), strict=True)
    kept = [(name, value) for name, value in cells if name not in {"outer_mm", "voxel_mm"}]
    path.write_text("".join(",".join(part) + "\n" for part in zip(*kept, strict=True)))
    old = read_rows(path)
    assert (old[0].dsc, old[0].error) == (0.5, "")
    assert math.isnan(old[0].outer_mm)
    write_rows(path, old)
    assert path.read_text() == now.replace("0.25", "nan")


def test_a_foreign_file_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("name,age\nx,3\n")
    with pytest.raises(FormatError, match=r"r\.csv: the columns are not those of a benchmark"):
        run_benchmark(tasks_of(data, "test", limit=1), path, "m", perfect)
    assert path.read_text().startswith("name,age")
    write_rows(path, [Row("a", "p", "official", "m", dsc=0.5)])
    path.write_text(path.read_text().replace("0.5", "half"))
    with pytest.raises(FormatError, match=r"r\.csv: a line is damaged"):
        read_rows(path)


def test_the_table_has_mean_sd_worst_and_median() -> None:
    def row(kind: str, dsc: float, hd95: float) -> Row:
        bias = {0.8: 3.0, 0.9: 1.0, 1.0: -1.0, 0.5: -1.0}.get(dsc, 0.0)
        return Row("a", "p", kind, "m", 30, dsc, dsc, hd95, bias, 0, 2.0, 1.0, 300, 1, outer_mm=0.5)

    rows = [row("official", d, 1.0) for d in (0.8, 0.9, 1.0)] + [row("bilateral", 0.0, math.inf), row("ball", 0.5, 1)]
    header, official, bilateral, ball, both = summary([*rows, Row("b", "p", "official", "m", error="bad")]).splitlines()
    assert "HD95 mm" in header
    assert official.split()[:7] == ["official", "4", "1", "0.9000", "0.1000", "0.8000", "0.9000"]
    assert bilateral.split()[11:15] == ["inf", "nan", "inf", "inf"]
    assert ball.split()[:3] == ["ball", "1", "0"]
    assert both.split()[:5] == ["all", "synthetic", "2", "0", "0.2500"]
    assert header.split()[-10:-4] == ["volume", "%", "mean", "sd", "outer", "mm"]
    assert official.split()[15:18] == ["+1.00", "2.00", "0.500"]
    assert ball.split()[15:18] == ["-1.00", "nan", "0.500"]
    assert len(summary([]).splitlines()) == 1
    assert summary([Row("b", "p", "official", "m", error="bad")]).splitlines()[1].split() == ["official", "1", "1"]


def test_the_worst_cases_are_drawn(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    tasks = tasks_of(data, "test", ("official", "ball"), limit=1)
    rows = [Row(t.case.id, "p", t.kind, "m", dsc=dsc) for t, dsc in zip(tasks, (0.9, 0.7), strict=True)]
    rows.append(Row("c", "p", "ball", "m", error="bad"))
    assert [row.dsc for row in worst_of(rows, 5)] == [0.7, 0.9]
    seen: list[int] = []

    def draw(defective: Volume, patch: Volume, reference: Volume) -> Image.Image:
        seen.append(int(np.count_nonzero(patch.mask ^ reference.mask)))
        if len(seen) == 2:
            raise InputError("no light")
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr("calvaria.report.render_case", draw)
    lines: list[str] = []
    paths = save_pictures(worst_of(rows, 5), tasks, tmp_path / "worst", perfect, lines.append)
    assert [path.name for path in paths] == [f"01-{tasks[1].case.id}-ball-dsc0.700.png"]
    assert seen == [0, 0]
    assert lines == [f"no picture of {tasks[0].case.id} official: no light"]


def test_the_command_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(defective: Volume, model: str) -> Answer:
        if model == "broken":
            raise InputError("there is no such model")
        if model == "stopped":
            raise KeyboardInterrupt
        return perfect(defective)

    monkeypatch.setattr(reconstruction, "solve_with", fake)
    output = tmp_path / "r.csv"
    call = ["--data", str(data), "-o", str(output), "--kinds", "official", "--limit", "2"]
    assert main([*call, "--model", "good", "--fresh"]) == 0
    said = capsys.readouterr().out
    assert "official           2    0" in said
    assert main([*call, "--model", "broken"]) == 3
    assert f"2 of 2 failed: {load_split().test[0]} official" in capsys.readouterr().out
    assert main([*call, "--model", "stopped"]) == 130
    assert "goes on from there" in capsys.readouterr().err
    assert main([*call, "--kinds", "none"]) == 2
    assert "error: no such kind of defect: none" in capsys.readouterr().err
    assert {row.model for row in read_rows(output)} == {"good"}


def test_a_real_official_case_is_complete_minus_implant(real_data: Path) -> None:
    task = tasks_of(real_data, "test", ("official",), limit=1)[0]
    defective, patch = build(task)
    assert task.case.complete is not None
    assert np.array_equal(defective.mask | patch.mask, read_mask(task.case.complete).mask)
    assert not (defective.mask & patch.mask).any()
