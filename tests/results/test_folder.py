"""Several cases at once: what becomes of one that dies, and how cores are shared."""

from __future__ import annotations

import os
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from calvaria.results import folder as batch
from calvaria.results.case import Settings
from calvaria.results.names import Case


def test_a_worker_that_died_is_a_line_about_its_case():
    future: Future[batch.Outcome] = Future()
    future.set_exception(BrokenProcessPool("terminated abruptly"))
    outcome = batch._outcome(future, Case("a", Path("a.nrrd")))
    assert (outcome.name, outcome.record, outcome.exit_code) == ("a", None, 1)
    assert outcome.error is not None
    assert "fewer --jobs" in outcome.error


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


def test_workers_share_the_cores_unless_the_user_decided(monkeypatch):
    for name in batch.THREAD_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    batch.limit_threads(2)
    try:
        assert [os.environ[name] for name in batch.THREAD_LIMITS] == ["7", "2", "2"]
    finally:
        for name in batch.THREAD_LIMITS:
            os.environ.pop(name, None)


@pytest.mark.parametrize("jobs", [1, 4])
def test_one_case_runs_here_whatever_jobs_says(engine, skull, tmp_path, jobs):
    cases = [Case("a", skull)]
    (outcome,) = batch.run_cases(cases, tmp_path / "out", Settings(preview=False), jobs, lambda stage, fraction: None)
    assert outcome.exit_code == 0
    assert engine.calls
