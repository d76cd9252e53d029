"""Fixtures of the file tests."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest


@dataclass
class Peak:
    """Most memory that Python and numpy held at once, MB."""

    mb: float = 0.0


@pytest.fixture
def peak_memory() -> Callable[[], AbstractContextManager[Peak]]:
    """A context that measures what its block allocates."""

    @contextmanager
    def measure() -> Iterator[Peak]:
        peak = Peak()
        tracemalloc.start()
        try:
            yield peak
        finally:
            peak.mb = tracemalloc.get_traced_memory()[1] / 1e6
            tracemalloc.stop()

    return measure
