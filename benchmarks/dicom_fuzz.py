"""Damaged copies of made-up CT series: whatever is in a file, reading gives a volume or an error of calvaria's own.

Usage: ``python -m benchmarks.dicom_fuzz --count 5000 --seed 0``, in the checkout (it takes its series from the tests).
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.dicom_files import Series, compressed, enhanced, slices_of

from calvaria.benchmarks.script import run_while_read
from calvaria.errors import CalvariaError
from calvaria.io.dicom import find_studies, list_series, read_dicom

WAYS = ("cut", "flip", "zeros", "length", "swap", "insert", "zip")
"""How a file is damaged."""

HEADER_BYTES = 1400
"""Most of the damage goes where the header is."""


@dataclass(frozen=True)
class Found:
    """What became of the copies.

    Args:
        outcomes: how many were read, and how many raised which error.
        crashes: those that raised another, with the number of the copy.
        slowest_s: processor time of the slowest.
    """

    outcomes: Counter[str]
    crashes: list[str]
    slowest_s: float


def originals() -> list[list[bytes]]:
    """Small series of several kinds, each as its files."""
    small = Series(slices=21, shape=(8, 8))
    kinds = [
        slices_of(small),
        slices_of(Series(slices=21, shape=(8, 8), syntax="1.2.840.10008.1.2")),
        slices_of(Series(slices=21, shape=(8, 8), syntax="1.2.840.10008.1.2.2", tilt_degrees=12.0)),
        [enhanced(small)],
        *(
            [compressed(file, kind) for file in slices_of(Series(slices=21, shape=(32, 32)))]
            for kind in ("rle", "jpeg2000", "jpegls")
        ),
    ]
    found = []
    for files in kinds:
        buffers = [io.BytesIO() for _ in files]
        for file, buffer in zip(files, buffers, strict=True):
            file.save_as(buffer, enforce_file_format=True)
        found.append([buffer.getvalue() for buffer in buffers])
    return found


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with one to four kinds of damage."""
    for _ in range(int(rng.integers(1, 5))):
        way = WAYS[int(rng.integers(len(WAYS) - 1))]
        end = len(data) if rng.random() < 0.2 else min(len(data), HEADER_BYTES)
        at = int(rng.integers(end)) if end else 0
        some = rng.integers(0, 256, int(rng.integers(1, 9)), np.uint8).tobytes()
        if way == "cut":
            data = data[:at]
        elif way == "flip":
            data = data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :] if data else data
        elif way == "zeros":
            data = data[:at] + bytes(len(some)) + data[at + len(some) :]
        elif way == "length":  # of an element, or a value: a number that is far too large
            data = data[:at] + b"\xff\xff\xff\x7f"[: int(rng.integers(1, 5))] + data[at + 4 :]
        elif way == "swap":
            other = int(rng.integers(end)) if end else 0
            data = data[:at] + data[other : other + 8] + data[at + 8 :]
        else:
            data = data[:at] + some + data[at:]
    return data


def _write(folder: Path, files: list[bytes], rng: np.random.Generator) -> Path:
    """Copies of which one, some or all are damaged, as a folder or as a zip that may be damaged, too."""
    share = float(rng.choice([0.0, 0.1, 1.0]))
    sure = int(rng.integers(len(files)))
    copies = [damaged(data, rng) if n == sure or rng.random() < share else data for n, data in enumerate(files)]
    if rng.random() < 0.2:
        path = folder / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for n, data in enumerate(copies):
                archive.writestr(f"I{n}", data)
        if rng.random() < 0.5:
            path.write_bytes(damaged(path.read_bytes(), rng))
        return path
    for n, data in enumerate(copies):
        (folder / f"I{n}").write_bytes(data)
    return folder


def run(copies: int | Sequence[int], seed: int = 0) -> Found:
    """Damage and read so many copies, or those of these numbers."""
    series, outcomes, crashes, slowest = originals(), Counter[str](), [], 0.0
    for n in range(copies) if isinstance(copies, int) else copies:
        rng = np.random.default_rng([seed, n])
        with tempfile.TemporaryDirectory() as folder:
            path = _write(Path(folder), series[n % len(series)], rng)
            start = time.process_time()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    if n % 3 < 2:  # each of them looks through all files, as reading does
                        (list_series, find_studies)[n % 3](path)
                    read_dicom(path)
                outcomes["read"] += 1
            except CalvariaError as error:
                outcomes[type(error).__name__] += 1
                if "\n" in str(error):
                    crashes.append(f"{n}: more than one line: {error}")
            except Exception as error:  # what is looked for
                crashes.append(f"{n}: {type(error).__name__}: {error}")
            slowest = max(slowest, time.process_time() - start)
    return Found(outcomes, crashes, slowest)


def main() -> int:
    """Say what became of the copies; 1 where one raised what it should not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = run(asked.count, asked.seed)
    print(", ".join(f"{name}: {count}" for name, count in found.outcomes.most_common()))
    print(f"slowest {found.slowest_s:.2f} s; {len(found.crashes)} untyped errors")
    for line in found.crashes[:20]:
        print(line)
    return bool(found.crashes)


if __name__ == "__main__":
    sys.exit(run_while_read(main))
