"""The benchmark of symmetry planes: what is measured on a head whose plane is known, and how runs go on."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.heads import BACK, SIDE, Ball, Head, grid_around, rigid

from calvaria.benchmarks import planes as module
from calvaria.benchmarks.cases import Task
from calvaria.benchmarks.planes import (
    Overlaps,
    Row,
    angles_table,
    methods_of,
    rows_of,
    run,
    table1,
)
from calvaria.benchmarks.rows import read_table, write_table
from calvaria.errors import FormatError, InputError
from calvaria.symmetry.plane import Plane
from calvaria.volume import Volume

POSE = rigid((2, 5, -4), (30, -60, 20))
TRUE = Plane([1.0, 0.0, 0.0], 0.0).moved(POSE)


@lru_cache(maxsize=4)
def holed(hole: Ball) -> tuple[Volume, Volume]:
    """A symmetric head with a hole, and the patch."""
    grid = grid_around(POSE, (2.0, 2.0, 2.0))
    whole, defective = Head(20, even=True).on(grid, POSE), Head(20, (hole,), even=True).on(grid, POSE)
    return defective, whole.with_data(whole.mask & ~defective.mask)


def task(name: str = "train-007", kind: str = "official") -> Task:
    return Task(SimpleNamespace(id=name, person=name), kind)  # type: ignore[arg-type]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks give a made-up head; its pose is known, and a network that always says the middle of the cube."""
    monkeypatch.setattr(module, "build", lambda task: holed(SIDE))
    monkeypatch.setattr(module, "locate", lambda skull: SimpleNamespace(to_world=POSE, plane=TRUE))
    for place in ("calvaria.symmetry.estimate", "calvaria.benchmarks.planes"):
        monkeypatch.setattr(f"{place}.load_network", lambda name: lambda cube: np.zeros(3, np.float32))


def test_a_symmetric_heads_mirror_image_fills_a_hole_on_one_side() -> None:
    overlaps = Overlaps.of(*holed(SIDE))
    assert overlaps.mirror(TRUE) > 0.9
    assert overlaps.implant(TRUE) > 0.9


def test_reflection_cannot_fill_a_hole_across_the_midline_though_table_1_says_so() -> None:
    overlaps = Overlaps.of(*holed(BACK))
    assert overlaps.mirror(TRUE) < 0.1
    assert overlaps.implant(TRUE) > 0.9


def test_a_wrong_plane_reaches_less() -> None:
    overlaps = Overlaps.of(*holed(SIDE))
    off = Plane(TRUE.normal, TRUE.offset_mm + 6)
    assert overlaps.implant(off) < overlaps.implant(TRUE) - 0.3
    assert overlaps.mirror(off) < overlaps.mirror(TRUE) - 0.2


def test_a_skull_gives_a_row_for_each_method_input_and_turn(made_up: None) -> None:
    rows = rows_of(task(), "validation", ("symmetry-vit",), turns=1)
    assert len(rows) == 1 + 2 * 2 * len(methods_of(("symmetry-vit",)))
    first, *others = rows
    assert (first.method, first.deg, first.mm) == ("reference", 0.0, 0.0)
    assert first.implant_dsc > 0.9
    for row in others:
        assert not row.error
        assert math.isfinite(row.deg + row.mm + row.residual + row.seconds)
    for method in ("optimise", "pose"):
        found = [row for row in others if row.method == method and not row.turned]
        assert max(row.deg for row in found) < 0.8
        assert {row.input for row in found} == {"complete", "defective"}


def test_the_step_behind_a_network_is_told_from_the_network(made_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    off = lambda name: lambda cube: np.array([0.12, 0.0, 0.2], np.float32)  # noqa: E731 - 3 degrees, 2 mm at each look
    monkeypatch.setattr("calvaria.symmetry.estimate.load_network", off)
    monkeypatch.setattr(module, "load_network", off)
    rows = {r.method: r for r in rows_of(task(), "validation", ("n",), turns=0) if r.input == "complete"}
    assert rows["n"].deg < 0.5 * rows["n+bare"].deg
    assert rows["n+bare"].deg > 2.0


def test_a_method_that_fails_is_named_and_the_others_go_on(made_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise InputError("there is no model called 'x'")

    for place in ("calvaria.symmetry.estimate", "calvaria.benchmarks.planes"):
        monkeypatch.setattr(f"{place}.load_network", broken)
    rows = rows_of(task(), "validation", ("x",), turns=0)
    failed = [row for row in rows if row.error]
    assert {row.method for row in failed} == {"x", "x+bare", "x+optimise"}
    assert any("FAILED: train-007 official x" in line for line in angles_table(rows, "validation"))


def some_rows() -> list[Row]:
    made = Row(
        "train-007", "validation", "official", "complete", False, "optimise", 0.5, 0.2, 0.96, 0.2, 0.01, seconds=1.0
    )
    return [
        made,
        replace(made, method="reference", deg=0.0, mm=0.0),
        replace(made, input="defective", deg=1.5, trusted=False),
        replace(made, case="train-014", deg=2.5),
        replace(made, case="train-014", kind="random_1", deg=2.5),
    ]


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    write_table(tmp_path / "planes.csv", Row, some_rows())
    again = read_table(tmp_path / "planes.csv", Row, "planes")
    assert [str(row) for row in again] == [str(row) for row in some_rows()]
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match="not a table of planes"):
        read_table(tmp_path / "other.csv", Row, "planes")


def test_what_is_there_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, set[str]]] = []

    def rows(task: Task, split: str, models: tuple[str, ...], turns: int, held: frozenset[str]) -> list[Row]:
        methods = {"reference", *methods_of(models)} - held
        asked.append((task.case.id, methods))
        return [Row(task.case.id, split, task.kind, "complete", False, method) for method in sorted(methods)]

    monkeypatch.setattr(module, "rows_of", rows)
    said: list[str] = []
    tasks = [("test", task("train-001")), ("test", task("train-002"))]
    run(tasks[:1], tmp_path / "p.csv", ("n",), 0, tell=said.append)
    both = run(tasks, tmp_path / "p.csv", ("n",), 0, tell=said.append)
    everything = {"reference", "optimise", "pose", "n", "n+bare", "n+optimise"}
    assert asked == [("train-001", everything), ("train-002", everything)]
    assert {row.case for row in both} == {"train-001", "train-002"}
    all_rows = run(tasks, tmp_path / "p.csv", ("n", "another"), 0, tell=said.append)
    assert asked[2:] == [(case, {"another", "another+bare", "another+optimise"}) for case in ("train-001", "train-002")]
    assert len(all_rows) == 2 * (len(everything) + 3)


def test_a_method_that_failed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[frozenset[str]] = []

    def rows(task: Task, split: str, models: tuple[str, ...], turns: int, held: frozenset[str]) -> list[Row]:
        asked.append(held)
        error = "" if held else "no answer"
        methods = {"reference", *methods_of(models)} - held
        return [
            Row(task.case.id, split, task.kind, "complete", False, method, error=error if method == "n" else "")
            for method in sorted(methods)
        ]

    monkeypatch.setattr(module, "rows_of", rows)
    for _ in range(3):
        found = run([("test", task("train-001"))], tmp_path / "p.csv", ("n",), 0, tell=lambda _: None)
    assert asked == [frozenset(), frozenset({"reference", "optimise", "pose", "n+bare", "n+optimise"})]
    assert sorted(row.method for row in found) == ["n", "n+bare", "n+optimise", "optimise", "pose", "reference"]
    assert not any(row.error for row in found)


def test_held_methods_are_left_out(made_up: None) -> None:
    methods = frozenset({"reference", "optimise", "symmetry-vit+bare", "symmetry-vit+optimise"})
    rows = rows_of(task(), "validation", ("symmetry-vit",), turns=0, held=methods)
    assert [row.method for row in rows] == ["pose", "symmetry-vit"] * 2


def test_the_tables_hold_the_published_figures_and_ours() -> None:
    text = "\n".join(table1(some_rows()))
    assert "published, vit                       SkullFix     0.973                0.952                0.969" in text
    assert "optimise, complete                   official     -                    0.960 0.000 (2)" in text
    lines = angles_table(some_rows(), "validation")
    assert any("defective" in line and "1.50  1.50  1.50  1.50" in line for line in lines)
    assert any("complete" in line and "1.50  1.50  2.40  2.50" in line for line in lines)


def test_a_network_from_a_file_is_named_without_its_folder() -> None:
    rows = [replace(row, method="runs/a/own.safetensors+optimise") for row in some_rows() if row.method == "optimise"]
    lines = [*table1(rows), *angles_table(rows, "validation")]
    assert any(line.startswith("own+optimise, complete ") for line in lines)
    assert any(line.startswith("own+optimise ") and "complete" in line for line in lines)
    assert not any("runs" in line for line in lines)
