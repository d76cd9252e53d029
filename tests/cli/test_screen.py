"""What goes to stdout, what to stderr, and when nothing is said."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest

from calvaria.cli.screen import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_says_errors_only(capsys):
    screen = Screen(quiet=True)
    screen.say("result")
    screen.warn("look")
    screen.error("bad")
    assert tuple(capsys.readouterr()) == ("", "calvaria: bad\n")


def test_json_keeps_text_off_stdout(capsys):
    screen = Screen(as_json=True)
    screen.say("result")
    screen.warn("look")
    screen.json({"a": math.inf})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": None}
    assert err == "calvaria: warning: look\n"


@pytest.mark.parametrize(("screen", "terminal"), [(Screen(), False), (Screen(quiet=True), True)])
def test_progress_is_silent_without_a_terminal_or_when_quiet(monkeypatch, screen, terminal):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with screen.progress() as progress:
        progress("fit", 0.5)
    assert stream.getvalue() == ""


def test_progress_on_a_terminal_shows_the_stage_and_the_share_done(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Screen().progress() as progress:
        progress("fitting", 0.5)
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "fitting" in shown
    assert "50%" in shown


def test_progress_is_a_line_each_time_for_a_program_that_asks_for_it(monkeypatch, capsys):
    monkeypatch.setenv("CALVARIA_PROGRESS", "lines")
    with Screen(quiet=True).progress() as progress:
        progress("reading\nthe file", 0.25)
        progress("done", 1.0000001)
    assert tuple(capsys.readouterr()) == (
        "",
        "calvaria: progress 0.250 reading the file\ncalvaria: progress 1.000 done\n",
    )
