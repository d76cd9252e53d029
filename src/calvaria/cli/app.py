"""The commands put together, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from calvaria import __version__
from calvaria.cli import (
    benchmark,
    compare,
    correlate,
    data,
    demo,
    design,
    dicom,
    evaluate,
    models,
    plane,
    rank,
    reconstruct,
    refine,
    serve,
    train,
)
from calvaria.cli.implant_options import InPanels
from calvaria.cli.screen import Screen
from calvaria.errors import CalvariaError, MissingExtraError, one_line
from calvaria.jobs import steady_heap

INTERRUPTED = 130
"""What a shell expects from a program that was stopped by Ctrl-C (128 + SIGINT)."""

EXTRAS = {
    "torch": "train",
    "lightning": "train",
    "tensorboard": "train",
    "openvino": "networks",
    "monai": "zoo",
    "einops": "zoo",
    "matplotlib": "figures",
    "fast_simplification": "figures",
    "pydicom": "dicom",
    "pynetdicom": "dicom",
    "highdicom": "dicom",
    "starlette": "web",
    "uvicorn": "web",
}
"""Optional packages, as they are imported, and the extra that installs each."""

app = typer.Typer(
    name="calvaria",
    help="Gives back the missing bone of a skull with a hole in it. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: half as long, and nothing to load
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=reconstruct.EXAMPLES)(reconstruct.reconstruct)
app.command(epilog=refine.EXAMPLES)(refine.refine)
app.command(cls=InPanels, epilog=design.EXAMPLES)(design.design)
app.command(epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command(epilog=correlate.EXAMPLES)(correlate.correlate)
app.command(epilog=rank.EXAMPLES)(rank.rank)
app.command(epilog=plane.EXAMPLES)(plane.plane)
app.command(epilog=demo.EXAMPLES)(demo.demo)
app.command(epilog=models.EXAMPLES)(models.models)
app.command(epilog=serve.EXAMPLES)(serve.serve)
app.add_typer(dicom.app, name="dicom")
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(benchmark.app, name="benchmark")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"calvaria {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after ``calvaria``; None takes them from the process.

    Returns:
        The exit code: 0 done, 1 a bug, 2 the input or the call, 3 a quality check failed, 130 interrupted.
    """
    # numpy is not loaded yet. Its products here are so small that a second thread waits more than it works: with one
    # a reconstruction takes 0.92 times as long, and 0.67 times the processor time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    steady_heap()
    screen = Screen()
    try:
        command = typer.main.get_command(app)
        command.main(args=None if argv is None else list(argv), prog_name="calvaria", obj=screen)
    except SystemExit as stop:  # how typer ends, with the exit code of the command or of a usage error
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        screen.error("interrupted; nothing half written is left")
        return INTERRUPTED
    except CalvariaError as error:
        return _report(screen, error, one_line(error), error.exit_code)
    except MemoryError as error:
        return _report(screen, error, "out of memory: crop the volume, or use fewer --jobs", 1)
    except Exception as error:
        return _report(screen, error, *_unexpected(error))
    return 0


def _unexpected(error: Exception) -> tuple[str, int]:
    """The line and the exit code for an error that is none of ours: an extra is not installed, or this is a bug."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in EXTRAS:
        text = f"this needs {package}, which is not installed: pip install 'calvaria[{EXTRAS[package]}]'"
        return text, MissingExtraError.exit_code
    kind = type(error).__name__
    return f"this is a bug, please report it with the output of the same command and -v: {kind}: {one_line(error)}", 1


def _report(screen: Screen, error: BaseException, text: str, code: int) -> int:
    """Print one line (with -v the traceback before it) and hand the exit code on."""
    if screen.verbose:
        traceback.print_exception(error)
    screen.error(text)
    return code
