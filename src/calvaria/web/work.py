"""A worker process: it takes one task after the other, tells how far it is, and keeps the last case in memory."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria.errors import CalvariaError, one_line
from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import begin_worker
from calvaria.results.dicom_out import DicomAsked
from calvaria.results.names import is_dicom
from calvaria.results.settings import MaskFile, Settings
from calvaria.web.brought import OWN_FOLDERS, RESULTS, VIEW, looked_at, source_of
from calvaria.web.messages import (
    Design,
    Designed,
    Failed,
    Idle,
    Look,
    Looked,
    News,
    Reconstructed,
    Run,
    Shaped,
    Task,
    Told,
    Viewed,
    Write,
    Written,
)

if TYPE_CHECKING:
    from calvaria.results.held import HeldCase, Made

PREPARE_AFTER_S = 0.5
"""Where nothing else is to be done for so long, an implant is designed before anybody asks."""

FULL = "the disk is full: delete cases that are done, or make room, and run it again; nothing half written is left"

OUT_OF_MEMORY = "out of memory: crop the scan, or run fewer cases at the same time"


def main(link: Connection, threads: int) -> None:
    """What a worker process does until its link is closed.

    Args:
        link: to the server.
        threads: of its numerical libraries.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's: it ends its workers
    _hush()
    begin_worker(threads, None)
    load()
    desk = Desk(link.send, link.poll)
    link.send(Idle(0))
    while True:
        try:
            if desk.unprepared and not link.poll(PREPARE_AFTER_S):
                desk.prepare()
            serial, task = link.recv()
            while isinstance(task, Design | Write) and link.poll():  # only the last wish counts
                serial, task = link.recv()
            desk.do(task)
            link.send(Idle(serial))
        except (EOFError, OSError):  # the server has gone
            return


def _hush() -> None:
    """Say nothing on the server's streams: what libraries print may quote a header, and so a patient."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def load() -> None:
    """Import what cases need, before there is one."""
    import calvaria.implant.design
    import calvaria.pipeline
    import calvaria.report
    import calvaria.results.held  # noqa: F401 - loaded for later
    from calvaria.models import find
    from calvaria.models.registry import SHAPE_PRIOR

    find(SHAPE_PRIOR)


class _WantedError(Exception):
    """Another task waits: what is done is given up for it."""


class Desk:
    """Does tasks, and tells.

    Args:
        tell: sends news.
        waiting: whether another task waits already.
    """

    def __init__(self, tell: Callable[[News], None], waiting: Callable[[], bool] = lambda: False) -> None:
        self._tell, self._waiting = tell, waiting
        self._run: Run | None = None
        self._held: HeldCase | None = None
        self._made: tuple[ImplantSettings, Made] | None = None
        self.unprepared = False

    @property
    def held(self) -> HeldCase | None:
        """The case in memory."""
        return self._held

    def do(self, task: Task) -> None:
        """One task; whatever goes wrong is told in a sentence."""
        number = task.number if isinstance(task, Design | Write) else None
        try:
            if isinstance(task, Look):
                self._look(task)
            elif isinstance(task, Run):
                self._reconstruct(task)
            elif isinstance(task, Design):
                self._design(task)
            else:
                self._write(task)
        except _WantedError:
            pass
        except MemoryError:
            self._tell(Failed(OUT_OF_MEMORY, number))
        except Exception as error:  # a bug of one case must cost no other
            self._tell(Failed(sentence(error), number))

    def prepare(self) -> None:
        """Design an implant as most are, for nobody: what was found for it is there when one is asked for."""
        self.unprepared = False
        held = self._held
        if held is not None:
            with suppress(Exception):  # told to whoever asks for an implant
                held.design(ImplantSettings(), progress=self._go_on)

    def _go_on(self, *_: object) -> None:
        if self._waiting():
            raise _WantedError

    def _let_go(self) -> None:
        self._run = self._held = self._made = None
        self.unprepared = False

    def _look(self, task: Look) -> None:
        self._let_go()
        name, series, notes = looked_at(source_of(task.folder))
        self._tell(Looked(name, tuple(series), tuple(notes)))

    def _reconstruct(self, task: Run) -> None:
        from calvaria.results.held import HeldCase
        from calvaria.results.own_files import OwnFiles
        from calvaria.web.summaries import of_record
        from calvaria.web.views import show_head, show_result

        self._let_go()
        source = source_of(task.folder)
        view = task.folder / VIEW
        view.mkdir(exist_ok=True)
        self._tell(Told("reading", 0.0))
        shape = self._see(source, task, show_head)
        dicom = DicomAsked(task.asked.deidentify) if is_dicom(source) else None
        settings = self._outlined(task)
        which = task.asked.own
        own = None if which is None else OwnFiles(**{which: source_of(task.folder, which)})
        held = HeldCase.run(source, task.folder / RESULTS, settings, self._progress, dicom=dicom, own=own)
        self._tell(Told("slices and surfaces", 0.97))
        show_result(view, held.result)
        centres = [list(hole.centre_mm) for hole in held.record.holes]
        self._tell(Viewed(shape | {"result": True, "patch": not held.record.patch.empty, "holes_mm": centres}))
        self._held, self._run = held, task
        self.unprepared = not held.record.patch.empty
        self._tell(Reconstructed(of_record(held.record)))

    def _see(self, source: Path, task: Run, show: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """Slices to look at while the case is worked on."""
        from calvaria.results.reading import read_case
        from calvaria.volume.foreground import has_two_values

        read = read_case(source, task.asked.settings, [])
        kind = read.kind(task.asked.settings.kind)
        ct = kind == "ct" or (kind == "auto" and not read.volume.is_mask and not has_two_values(read.volume.data))
        shape = show(task.folder / VIEW, read.volume, ct=ct)
        self._tell(Viewed(shape))
        return shape

    def _outlined(self, task: Run) -> Settings:
        """The settings, with a mask of what was outlined, if something was."""
        settings, outline = task.asked.settings, task.asked.outline
        if not outline:
            return settings
        from calvaria.web.outline import write_outlined

        path = write_outlined(task.folder / VIEW, outline)
        return replace(settings, word=replace(settings.word, hole=MaskFile(str(path))))

    def _progress(self, stage: str, fraction: float) -> None:
        self._tell(Told(stage, fraction * 0.97))

    def _design(self, task: Design) -> None:
        from calvaria.web.summaries import of_design
        from calvaria.web.views import show_implants

        held = self._holding(task.run)
        self.unprepared = False
        began = time.perf_counter()
        view = task.run.folder / VIEW

        def formed(parts: tuple[Any, ...]) -> None:
            show_implants(view, [part.mesh for part in parts])
            self._tell(Shaped(task.number, round(time.perf_counter() - began, 2)))

        made = held.design(task.implant, formed=formed)
        seconds = round(time.perf_counter() - began, 2)
        self._made = task.implant, made
        self._tell(Designed(task.number, seconds, of_design(made.design, held.record), task.implant))

    def _write(self, task: Write) -> None:
        """The files, unless another implant is wanted before they are done: then not these."""
        held = self._holding(task.run)
        if self._made is None or self._made[0] != task.implant:
            self._design(Design(task.run, task.implant, task.number))
        if self._made is not None:
            record = held.write(self._made[1], self._go_on)
            self._tell(Written(task.number, record.files, record.warnings))

    def _holding(self, run: Run) -> HeldCase:
        """The case, reconstructed again where it is not held."""
        if self._held is None or self._run != run:
            self._reconstruct(run)
        if self._held is None:
            raise RuntimeError("a case that was reconstructed is held")
        return self._held


def sentence(error: Exception) -> str:
    """What the page says of an error: a full disk by its own name, and nothing of the folders on this machine."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return FULL
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, CalvariaError):
        return plain(one_line(error))
    if isinstance(error, ModuleNotFoundError):
        return f"this needs {error.name}, which is not installed where the server runs"
    return f"this is a bug, please report it: {type(error).__name__}"


FOLDERS = re.compile(r"(?:/[^\s:;,]+)+/")
"""Folders before a file's name."""

OWN_NAMES = re.compile(rf"\b({'|'.join(OWN_FOLDERS.values())})(?:-\w+)?(?:\.[a-z.]*[a-z])?")
"""Names of files and folders of the patient's own bone, as errors begin with."""

WORDS = (
    ("--min-hole-ml looks for smaller ones", "ask for smaller ones"),
    ("give another folder with -o", "make room"),
    ("leave --refine out", "run it without refining"),
    ("is for --pre-op", "is to be brought as such"),
)
"""What the command line says -> what the page says."""


def plain(text: str) -> str:
    """A sentence without the folders of this machine, and without options of the command line.

    >>> plain("/tmp/a/b/00001.nrrd: the mask is empty")
    '00001.nrrd: the mask is empty'
    >>> plain("/tmp/a/removed-piece-00001.nrrd: no bone was found in it")
    'the removed piece: no bone was found in it'
    """
    for told, said in WORDS:
        text = text.replace(told, said)
    return OWN_NAMES.sub(lambda found: f"the {found[1].replace('-', ' ')}", FOLDERS.sub("", text))


__all__ = ["FULL", "Desk", "load", "main", "plain", "sentence"]
