"""``calvaria data import-clinical`` and ``simulate-clinical``: the glue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calvaria.clinical.importing import ImportReport
from calvaria.clinical.simulate_set import DEFECT_KINDS, FAULTS, sample_case
from calvaria.clinical.table import Refusal
from calvaria.datasets.catalog import SkullCase, person_of
from calvaria.datasets.split import load_split
from calvaria.errors import InputError
from calvaria.skull.proportions import Proportions, population, write_population

POPULATION = {
    "count": 2,
    "mean": {"length_mm": 180.0, "breadth_mm": 140.0, "height_mm": 120.0},
    "sd": {"length_mm": 5.0, "breadth_mm": 4.0, "height_mm": 3.0},
}


@pytest.fixture
def importer(monkeypatch):
    """The import, replaced by a report that can be chosen; notes how it was called."""

    class Importer:
        done: tuple[str, ...] = ("p1", "p2")
        refused: tuple[Refusal, ...] = ()
        calls: list[dict[str, object]] = []  # noqa: RUF012 - one a test

        def __call__(self, table, output, **options):
            self.calls.append({"table": table, **options})
            options["progress"]("1 of 2 cases", 0.5)
            warnings = {"p1": ["patch.stl: 0.10 ml (0.5%) lay inside bone and were cut off"]} if self.done else {}
            people = POPULATION if self.done else None
            return ImportReport(Path(output), self.done, 1, self.refused, warnings, people)

    stand_in = Importer()
    stand_in.calls = []
    monkeypatch.setattr("calvaria.clinical.importing.import_clinical", stand_in)
    return stand_in


def test_all_good_is_exit_code_0(run, importer):
    result = run("data", "import-clinical", "cases.csv", "-o", "out", "--spacing-mm", 1.2, "--jobs", 3)
    assert result.code == 0
    assert result.out.splitlines() == [
        "2 of 2 cases can be used (1 were there already); 0 were refused",
        "mean of 2 skulls: length 180.0 ± 5.0 mm, breadth 140.0 ± 4.0 mm, height 120.0 ± 3.0 mm",
        str(Path("out") / "report.json"),
    ]
    assert result.err == "calvaria: warning: p1: patch.stl: 0.10 ml (0.5%) lay inside bone and were cut off\n"
    call = importer.calls[0]
    assert (call["table"], call["spacing_mm"], call["jobs"]) == (Path("cases.csv"), 1.2, 3)


def test_some_refused_is_3_and_all_refused_is_2(run, importer):
    importer.refused = (Refusal("p3", 4, "the mesh is open"), Refusal("", 5, "the id is empty"))
    result = run("data", "import-clinical", "cases.csv", "-o", "out")
    assert result.code == 3
    assert "calvaria: p3: the mesh is open\ncalvaria: line 5: the id is empty\n" in result.err
    assert "2 of 4 cases can be used" in result.out
    importer.done = ()
    result = run("data", "import-clinical", "cases.csv", "-o", "out", "--json")
    assert result.code == 2
    record = json.loads(result.out)
    assert record["usable"] == []
    assert record["population"] is None
    assert record["refused"][0] == {"case": "p3", "line": 4, "reason": "the mesh is open"}


def test_a_table_that_is_not_there_is_one_line(run, tmp_path):
    result = run("data", "import-clinical", tmp_path / "none.csv", "-o", tmp_path / "out")
    assert result.code == 2
    assert result.err == f"calvaria: {tmp_path / 'none.csv'}: there is no such file\n"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def simulator(monkeypatch):
    """The simulation, replaced by its drawing of cases."""
    calls = []

    def simulate(skulls, output, settings, *, target=None, progress=None):
        calls.append((settings, target))
        progress("sim-000 (1 of 1)", 0.0)
        bad = FAULTS if settings.faults else ()
        return [sample_case(n, settings) for n in range(settings.count)] + [
            sample_case(settings.count + n, settings, fault) for n, fault in enumerate(bad)
        ]

    monkeypatch.setattr("calvaria.clinical.simulate_set.simulate_clinical", simulate)
    monkeypatch.setattr("calvaria.datasets.catalog.autoimplant2020", lambda root: [])
    return calls


def test_options_become_settings(run, simulator, tmp_path):
    write_population(tmp_path / "population.json", population([Proportions(180.0, 140.0, 120.0)]))
    words = ["--count", 3, "--seed", 7, "--kind", "ball", "--kind", "random_1", "--ct-share", 1, "--faults"]
    result = run(
        "data", "simulate-clinical", "--data", "set", "-o", "out", *words, "--match", tmp_path / "population.json"
    )
    assert result.code == 0
    assert result.out.splitlines() == [
        "3 cases, and 8 that must be refused; simulated, not patients' implants",
        str(Path("out") / "cases.csv"),
    ]
    settings, target = simulator[0]
    assert (settings.count, settings.seed, settings.kinds, settings.ct_share) == (3, 7, ("ball", "random_1"), 1.0)
    assert target.mean.length_mm == 180.0


def test_by_default_defects_are_those_of_clinics(run, simulator):
    record = json.loads(run("data", "simulate-clinical", "--data", "set", "-o", "out", "--json").out)
    assert record == {"output": "out", "cases": [f"sim-{n:03d}" for n in range(6)], "must_be_refused": []}
    assert simulator[0][0].kinds == DEFECT_KINDS


def test_a_kind_that_is_not_known_is_one_line(run, simulator):
    result = run("data", "simulate-clinical", "--data", "set", "-o", "out", "--kind", "cube")
    assert result.code == 2
    assert result.err.startswith("calvaria: kinds of defects are bilateral, ")


def test_what_the_simulation_refuses_is_exit_code_2(run, monkeypatch):
    def refuse(root):
        raise InputError(f"{root}: no AutoImplant 2020 skull found")

    monkeypatch.setattr("calvaria.datasets.catalog.autoimplant2020", refuse)
    result = run("data", "simulate-clinical", "--data", "set", "-o", "out")
    assert (result.code, result.err) == (2, "calvaria: set: no AutoImplant 2020 skull found\n")


def test_a_side_of_the_split_gives_its_persons_skulls(run, monkeypatch):
    split, used = load_split(), []
    skulls = [SkullCase(name, person_of(name)) for name in split.ids]
    monkeypatch.setattr("calvaria.datasets.catalog.autoimplant2020", lambda root: skulls)
    monkeypatch.setattr(
        "calvaria.clinical.simulate_set.simulate_clinical", lambda some, *_, **__: used.append(some) or []
    )
    for words in (["--side", "test"], ["--side", "train", "--side", "validation"], []):
        assert run("data", "simulate-clinical", "--data", "set", "-o", "out", *words).code == 0
    assert [sorted(skull.id for skull in some) for some in used] == [
        sorted(split.test),
        sorted(split.train + split.validation),
        sorted(split.ids),
    ]
    result = run("data", "simulate-clinical", "--data", "set", "-o", "out", "--side", "left")
    assert (result.code, len(used)) == (2, 3)
    assert result.err == "calvaria: a split has the sides train, validation, test; got 'left'\n"
