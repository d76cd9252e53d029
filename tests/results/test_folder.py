"""Several cases at once: what becomes of one that dies, and what is told of the whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from calvaria.results import folder as batch
from calvaria.results.names import Case
from calvaria.results.settings import Settings


def die(case: Case, **settings: object) -> batch.Outcome:
    """What a worker does whose process is killed; `b` comes through."""
    if case.name == "a":
        os.kill(os.getpid(), signal.SIGKILL)
    return batch.Outcome(case.name)


def test_a_worker_that_died_is_a_line_about_its_case(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "_attempt", die)
    cases = [Case(name, Path(f"{name}.nrrd")) for name in ("a", "b", "c")]
    told: list[tuple[str, float]] = []
    outcomes = list(batch.run_cases(cases, tmp_path, Settings(), 2, lambda *state: told.append(state)))
    found = {outcome.name: outcome for outcome in outcomes}
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"].record is None
    assert found["a"].exit_code == 1
    assert found["a"].error is not None
    assert (
        "a worker process died, probably for want of memory; run the case alone or with fewer --jobs"
        in found["a"].error
    )
    assert told == [(f"{n} of 3 cases", n / 3) for n in range(4)]


def test_running_out_of_memory_costs_only_the_one_case(engine, skull, tmp_path):
    engine.error = MemoryError()
    cases = [Case(name, skull) for name in ("a", "b")]
    outcomes = list(batch.run_cases(cases, tmp_path / "out", Settings(), 1, lambda stage, fraction: None))
    assert [(o.name, o.exit_code) for o in outcomes] == [("a", 1), ("b", 1)]
    assert all("out of memory" in (o.error or "") for o in outcomes)


def test_progress_names_the_case_and_never_goes_back(engine, skull, tmp_path):
    seen: list[tuple[str, float]] = []
    cases = [Case(name, skull) for name in ("a", "b", "c")]
    list(batch.run_cases(cases, tmp_path / "out", Settings(), 1, lambda *state: seen.append(state)))
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(stage.startswith("b (2 of 3): ") for stage, _ in seen)


@pytest.mark.parametrize("jobs", [1, 4])
def test_one_case_runs_here_whatever_jobs_says(engine, skull, tmp_path, jobs):
    cases = [Case("a", skull)]
    (outcome,) = batch.run_cases(cases, tmp_path / "out", Settings(preview=False), jobs, lambda stage, fraction: None)
    assert outcome.exit_code == 0
    assert engine.calls
