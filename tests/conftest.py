"""What all tests share: loud numerical accidents, hypothesis profiles, and the way to the real skulls."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from hypothesis import HealthCheck, settings

from calvaria.cli.app import EXTRAS

CHECKOUT = Path(__file__).resolve().parents[1]

# A shell's background jobs ignore interruptions, and what they start inherits that; tests interrupt programs.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "calvaria",
    deadline=None,  # a busy machine is no failure; pytest-timeout catches what hangs
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("calvaria")


LACKING = tuple(name for name in EXTRAS if find_spec(name) is None)
"""Optional packages that are not installed here (`make test-lowest` runs the core alone)."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Files that cannot be read without a package that is not installed are skipped; `make test` has them all."""
    report = yield
    missed = [name for name in LACKING if f"No module named '{name}" in str(report.longrepr)]
    if report.failed and missed:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {missed[0]} is not installed")
    return report


@pytest.fixture(autouse=True)
def _loud_floats() -> Iterator[None]:
    """Overflow, division by zero and NaN made from numbers raise; underflow to zero is harmless."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_command_line() -> Iterator[None]:
    """The words and options of the command line are put together once, not at each of the thousand calls of `main`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real skulls (see CONTRIBUTING.md); the test is skipped where there is none.

    The environment variable CALVARIA_DATA names it; failing that, ``shared/data`` beside the checkout is taken.
    """
    named = os.environ.get("CALVARIA_DATA")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data"
    if named and not folder.is_dir():
        pytest.fail(f"CALVARIA_DATA names {folder}, which is not a folder")
    if not (folder / "autoimplant2020").is_dir():
        pytest.skip(f"NO REAL SKULLS: set CALVARIA_DATA to the folder that holds autoimplant2020/ (looked at {folder})")
    return folder


class _Dying(ThreadPoolExecutor):
    """A pool whose every process dies at its work."""

    def __init__(self, jobs: int, *_: object) -> None:
        super().__init__(jobs)

    def submit(self, *_: object, **__: object) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("terminated abruptly"))
        return future


@pytest.fixture
def dying_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that is started dies at once."""
    monkeypatch.setattr("calvaria.jobs.ProcessPoolExecutor", _Dying)


SMALL_PX = 120
"""Side of the pictures on a sheet, where a test is about something else."""


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets with an eighth of the pixels and all else as it is; tests of pictures themselves do not use this."""
    for name in ("errors", "refinement", "sheet"):
        monkeypatch.setattr(f"calvaria.report.{name}.CELL_PX", SMALL_PX)
    monkeypatch.setattr("calvaria.report.design_picture.CELL_PX", (200, 180))
    monkeypatch.setattr("calvaria.report.design_picture.PLOT_PX", 60)
    monkeypatch.setattr("calvaria.report.design_picture.BAR_PX", 40)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up heads' engine (`tests.heads`) in the pipeline, under the shipped one's name."""
    from tests.heads import family_engine

    from calvaria import pipeline
    from calvaria.models import ModelInfo

    info = ModelInfo("shape-prior", "shape-prior", Path("none"), "0" * 64, "none", "", 0)
    monkeypatch.setattr(pipeline, "load_engine", lambda name, device: family_engine())
    monkeypatch.setattr(pipeline, "find", lambda name: info)
