"""Benchmarks that are run as scripts end quietly when nobody reads on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from calvaria.benchmarks.script import UNREAD, run_while_read

CHECKOUT = Path(__file__).resolve().parents[2]

MAIN = 'if __name__ == "__main__":\n'

SCRIPT = """
import sys
from calvaria.benchmarks.script import run_while_read
def main():
    for number in range(100_000):
        print("line", number)
sys.exit(run_while_read(main))
"""


def scripts() -> list[Path]:
    every = [*CHECKOUT.glob("benchmarks/*.py"), *CHECKOUT.glob("src/calvaria/benchmarks/*.py")]
    return sorted(path for path in every if MAIN in path.read_text(encoding="utf-8"))


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_a_closed_pipe_ends_a_script_without_a_word():
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == UNREAD


def test_the_exit_code_is_that_of_the_script():
    assert run_while_read(lambda: 3) == 3
    assert run_while_read(lambda: None) == 0


def test_other_errors_are_not_hidden():
    def main() -> int:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run_while_read(main)


@pytest.mark.parametrize("path", scripts(), ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_every_benchmark_is_run_so(path):
    assert MAIN + "    sys.exit(run_while_read(main))\n" in path.read_text(encoding="utf-8")
