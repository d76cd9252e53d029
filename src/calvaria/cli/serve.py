"""``calvaria serve``: the page, on this machine."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.options import Jobs, Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.web.limits import PORT, Served

EXAMPLES = """\b
Examples:
  calvaria serve
  calvaria serve --port 0 --jobs 2
  calvaria serve --folder /data/scratch --max-upload-mb 500
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def serve(
    context: typer.Context,
    *,
    port: Annotated[int, typer.Option(metavar="N", help="Where it listens; 0 takes a free one.")] = PORT,
    host: Annotated[str, typer.Option(metavar="NAME", help="The address it listens on.")] = "127.0.0.1",
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where cases lie while it runs.  [default: temporary files]")
    ] = None,
    max_upload_mb: Annotated[int, typer.Option(metavar="MB", help="The most that is taken of one case.")] = 2000,
    max_cases: Annotated[int, typer.Option(metavar="N", help="The most cases at the same time.")] = 100,
    jobs: Jobs = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cases on the disk at the end.")] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="With --host: other machines may reach it. Nothing is encrypted.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Serve a page on this machine: drop a scan, get the missing bone, design the implant.

    Prints an address with a token, even when quiet; open it in a browser. All files are deleted when it ends (Ctrl-C),
    or before, by the page's own button.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    served = Served(host, port, folder, max_upload_mb, max_cases, jobs, keep, allow_remote)
    from calvaria.web.serve import serve as run

    if allow_remote:
        screen.warn("other machines can reach this page; what they send and get is not encrypted: use a tunnel")
    run(served, partial(_opened, screen), screen.say)


def _opened(screen: Screen, address: str) -> None:
    """Tell the address at once, whoever reads it: without it nobody gets in."""
    if screen.as_json:
        screen.json({"address": address})
    else:
        sys.stdout.write(f"open {address}\n")
    sys.stdout.flush()


__all__ = ["EXAMPLES", "serve"]
