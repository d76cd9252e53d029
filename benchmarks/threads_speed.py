"""What it costs to leave linear algebra its own threads while a skull is completed.

::

    python benchmarks/threads_speed.py                  # the packaged sample
    python benchmarks/threads_speed.py skull.nrrd --repeats 5

`calvaria.reconstruct` keeps it to one thread, beside the engine's own two. Both ways take turns in one process; wall
time and processor time, medians.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np

from calvaria import pipeline
from calvaria.benchmarks.script import run_while_read
from calvaria.io import read_mask
from calvaria.synthesis.sample import sample_case
from calvaria.volume import Volume


def timed(skull: Volume, *, limited: bool) -> tuple[float, float]:
    """TableModel time and processor time of a reconstruction, s."""
    start, worked = time.perf_counter(), time.process_time()
    if limited:
        pipeline.reconstruct(skull)
    else:
        with patch.object(pipeline, "threadpool_limits", lambda *_, **__: nullcontext()):
            pipeline.reconstruct(skull)
    return time.perf_counter() - start, time.process_time() - worked


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description="one thread of linear algebra against all")
    parser.add_argument("skull", type=Path, nargs="?", help="a bone mask; default: the packaged sample")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    skull = sample_case()[0] if options.skull is None else read_mask(options.skull)
    timed(skull, limited=True)  # a first run loads and prepares
    rounds = [[timed(skull, limited=limited) for limited in (True, False)] for _ in range(options.repeats)]
    one, all_of_them = np.median(rounds, axis=0)
    sys.stdout.write(f"one thread of linear algebra: {one[0]:.1f} s, processor {one[1]:.1f} s\n")
    sys.stdout.write(f"as many as it likes: {all_of_them[0]:.1f} s, processor {all_of_them[1]:.1f} s\n")
    sys.stdout.write(f"ratio: {all_of_them[0] / one[0]:.2f}, processor {all_of_them[1] / one[1]:.2f}\n")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
