"""The stand-in for the pipeline and its files, as the command line's tests have them."""

from __future__ import annotations

from tests.cli.conftest import engine, skull, truth

__all__ = ["engine", "skull", "truth"]
