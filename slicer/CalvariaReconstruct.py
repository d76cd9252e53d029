#!/usr/bin/env python-real
"""3D Slicer module: the missing bone of a skull with a hole in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from calvaria_slicer.asked import options, search
from calvaria_slicer.module import call, copy_image, one_of
from calvaria_slicer.stl import join

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def words(asked: argparse.Namespace) -> list[str]:
    """What calvaria is called with; a picture is drawn where files are kept."""
    found = ["reconstruct", asked.skull, *search(asked), *options(asked, ["refine"])]
    return found if asked.folder else [*found, "--no-preview"]


def deliver(asked: argparse.Namespace, folder: Path) -> None:
    """The files that Slicer reads back; a patch without bone has no surface."""
    copy_image(one_of(folder, "patch.n*")[0], asked.patch)
    copy_image(one_of(folder, "completed.n*")[0], asked.completed)
    join(sorted(folder.glob("patch.stl")), asked.surface)


if __name__ == "__main__":
    sys.exit(call(__file__, words, deliver, sys.argv[1:]))
