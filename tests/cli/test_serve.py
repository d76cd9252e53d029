"""``calvaria serve``: where it listens, what it says, and that it leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
import uvicorn  # noqa: F401 - without it there is nothing to serve

from calvaria.cli import main


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_other_machines_are_let_in_only_where_that_is_said(host: str, capsys: pytest.CaptureFixture[str]):
    assert main(["serve", "--host", host]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"calvaria: --host {host}: others could reach the page, and patients' scans, without encryption"
    )
    assert "--allow-remote" in said


@pytest.mark.parametrize(
    ("option", "value", "limits"),
    [("--port", "70000", "0 to 65535"), ("--max-upload-mb", "0", "1 to 1000000"), ("--max-cases", "0", "1 to 10000")],
)
def test_limits_have_limits(option: str, value: str, limits: str, capsys: pytest.CaptureFixture[str]):
    assert main(["serve", option, value]) == 2
    assert capsys.readouterr().err == f"calvaria: {option} must be {limits}; got {value}\n"


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert capsys.readouterr().err.startswith(f"calvaria: 127.0.0.1:{port} cannot be listened on: ")


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("x")
    assert main(["serve", "--folder", str(tmp_path / "file")]) == 2
    assert "cannot write the results there" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [False, True])
def test_it_serves_and_leaves_nothing_behind(tmp_path: Path, keep: bool):
    command = [sys.executable, "-m", "calvaria.cli", "serve", "--port", "0", "--folder", str(tmp_path)]
    program = subprocess.Popen(
        [*command, *(["--keep"] if keep else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    line = program.stdout.readline()
    host, token = line.split()[1].removeprefix("http://").split("/?token=")
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    link = HTTPConnection(host, timeout=30)
    link.request("GET", f"/?token={token}")
    assert link.getresponse().status == 303
    link.close()
    program.send_signal(signal.SIGTERM if keep else signal.SIGINT)
    out, errors = program.communicate(timeout=60)
    assert (program.returncode, errors) == (0, "")
    assert folder.exists() == keep
    assert out == ("stopped\n" + (f"the cases are in {folder}\n" if keep else ""))
