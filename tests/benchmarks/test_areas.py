"""Areas of the benchmarks' holes, on a model skull whose areas are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calvaria.benchmarks import areas, cases
from calvaria.benchmarks.areas import Row, main, measure, run, summary
from calvaria.benchmarks.cases import Task
from calvaria.datasets.catalog import SkullCase
from calvaria.io import write_volume
from calvaria.synthesis.defects import DefectSpec
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

RADIUS_MM, HOLE_MM = 70.0, 30.0
CAP_CM2 = np.pi * HOLE_MM**2 / 100
"""What a ball about a point of a sphere takes of its surface: pi r^2, whatever the sphere."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> SkullCase:
    """A ball's shell, and an implant that is its top."""
    folder = tmp_path_factory.mktemp("skull")
    grid = Grid.isotropic((73, 73, 73), 2.0, [-72.0, -72.0, -62.0])
    away = grid.centres_mm() - [0, 0, 10]
    rho = np.linalg.norm(away, axis=-1)
    shell = Volume((rho < RADIUS_MM) & (rho > RADIUS_MM - 7), grid)
    write_volume(folder / "skull.nrrd", shell)
    write_volume(folder / "implant.nrrd", shell.with_data(shell.mask & (away[..., 2] > RADIUS_MM - 19)))
    return SkullCase("train-1", "p1", folder / "skull.nrrd", folder / "implant.nrrd", None)


@pytest.fixture(autouse=True)
def _frames(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    spec = DefectSpec("ball", ((RADIUS_MM, 0.0, 10.0, HOLE_MM),))
    monkeypatch.setattr(cases, "_placed", lambda: {"train-1": {"ball": (spec, np.eye(4))}})
    yield


def test_areas_are_those_of_geometry(case: SkullCase) -> None:
    official, ball = measure([Task(case, "official"), Task(case, "ball")])
    assert isinstance(official, Row)
    assert isinstance(ball, Row)
    assert (official.kind, ball.kind) == ("official", "ball")
    assert official.area_cm2 == pytest.approx(2 * np.pi * RADIUS_MM * 19 / 100, rel=0.05)  # a cap
    assert ball.area_cm2 == pytest.approx(CAP_CM2, rel=0.06)


def test_the_file_is_continued_and_what_fails_is_named(case: SkullCase, tmp_path: Path) -> None:
    none, lines = replace(case, id="train-2", complete=None), list[str]()
    path = tmp_path / "new" / "areas.csv"
    rows, failed = run([Task(case, "ball"), Task(none, "ball")], path, tell=lines.append)
    assert [(row.case, row.kind) for row in rows] == [("train-1", "ball")]
    assert failed == ["train-2: there is no complete skull, so no area"]
    assert lines[0].startswith("[1 of 2")
    assert lines[0].endswith("train-1: ball 28 cm2")
    assert lines[1] == f"[2 of 2] FAILED: {failed[0]}"
    again, _ = run([Task(case, "official"), Task(case, "ball")], path, tell=lines.append)
    assert [row.kind for row in again] == ["official", "ball"]
    assert lines[2].startswith("[1 of 1] train-1: official ")
    assert again[1] == rows[0]


def test_the_table_has_quartiles_beside_the_published_areas() -> None:
    rows = [Row("a", "craniotomy", area, 40.0) for area in (10.0, 20.0, 30.0, 40.0, 50.0)]
    head, craniotomy, published = summary(rows).splitlines()
    assert head.split() == ["kind", "n", "min", "25", "%", "median", "75", "%", "max", "cm2", "mean", "ml"]
    assert craniotomy.split() == ["craniotomy", "5", "10.0", "20.0", "30.0", "40.0", "50.0", "40"]
    assert published.split() == ["118", "craniectomies", "118", "9.5", "134.8", "205.0", "(PMC6008696)"]


def test_the_command_line(
    case: SkullCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(root: Path, split: str, kinds: tuple[str, ...], limit: int, **more: object) -> list[Task]:
        return [Task(case if split == "test" else replace(case, complete=None), kind) for kind in kinds]

    call = ["--data", str(tmp_path), "-o", str(tmp_path / "areas.csv"), "--kinds", "ball"]
    assert main(call) == 2
    assert "error: " in capsys.readouterr().err
    monkeypatch.setattr(areas, "tasks_of", fake)
    monkeypatch.setattr(areas, "SPLITS", ("test",))
    assert main(call) == 0
    assert "\nball                 1 " in capsys.readouterr().out
    monkeypatch.setattr(areas, "SPLITS", ("validation",))
    assert main([*call[:-1], "official"]) == 3
