"""The stand-in for the pipeline and its files, as the command line's tests have them."""

from __future__ import annotations

from tests.cli.conftest import designer, engine, finished, skull, truth

__all__ = ["designer", "engine", "finished", "skull", "truth"]
