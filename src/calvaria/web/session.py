"""The cases of this session: what was brought, how far each is, what came out; gone from the disk when asked."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import duration
from calvaria.web.asked import Asked
from calvaria.web.brought import DICOM_SUFFIX, FILES, OWN_FOLDERS, RESULTS, VIEW, Own, name_of
from calvaria.web.limits import MAX_FILES, Served
from calvaria.web.messages import (
    Design,
    Designed,
    Failed,
    Look,
    Looked,
    News,
    Reconstructed,
    Run,
    Shaped,
    Told,
    Viewed,
    Write,
    Written,
)
from calvaria.web.pool import Link, Pool
from calvaria.web.states import CaseState, DesignState, RefusedError, State

DIED = (
    "the process that worked on this case ended, probably for want of memory; the other cases are not touched. Run it "
    "again, or crop the scan"
)

NOT_YET = "another implant is being designed; save it in a few seconds"

CANCELLED = "cancelled; nothing half written is left"

TELLS_FROM = 0.08
"""From this fraction on the time so far tells the time left."""


class Session:
    """All cases, behind one lock.

    Args:
        served: the limits.
        folder: where the cases' folders are made; it is there.
        start: starts a worker; None: in a process of its own.
    """

    def __init__(self, served: Served, folder: Path, start: Callable[[], Link] | None = None) -> None:
        self.served, self._folder = served, folder
        self.lock = RLock()
        self._cases: dict[str, CaseState] = {}
        self._count = 0
        self.pool = Pool(served.jobs, self._heard, self._lost, self.lock, start)

    # What is brought.

    def new_case(self) -> CaseState:
        """A case without files.

        Raises:
            RefusedError: there are too many.
        """
        with self.lock:
            if len(self._cases) >= self.served.max_cases:
                raise RefusedError(
                    429, f"there are {len(self._cases)} cases, as many as this page holds; delete some first"
                )
            self._count += 1
            case_id = secrets.token_hex(12)
            folder = self._folder / case_id
            (folder / FILES).mkdir(parents=True, mode=0o700)
            case = CaseState(case_id, self._count, folder, time.time())
            self._cases[case_id] = case
            return case

    def begin_file(self, case_id: str, suffix: str) -> tuple[CaseState, Path]:
        """Where the next file of a case goes.

        Raises:
            RefusedError: there is no such case, it has all its files, or too many.
            InputError: this kind of file is not read.
        """
        with self.lock:
            case = self.case(case_id)
            if case.state != "uploading":
                raise RefusedError(409, "this case has its files already")
            name = name_of(case.files + 1, suffix)
            if case.files and (suffix != DICOM_SUFFIX or case.suffix != DICOM_SUFFIX):
                raise RefusedError(409, "a case is one file, or several of DICOM")
            if case.files >= MAX_FILES:
                raise RefusedError(413, f"more than {MAX_FILES} files; bring one study")
            case.files += 1
            case.writing += 1
            case.suffix = suffix
            return case, case.folder / FILES / name

    def begin_own(self, case_id: str, own: Own, suffix: str) -> tuple[CaseState, Path]:
        """Where the next file of a scan of the patient's own bone goes.

        Raises:
            RefusedError: there is no such case, it is being worked on, or has such a scan.
            InputError: this kind of file is not read.
        """
        with self.lock:
            case = self._resting(case_id)
            name = name_of(case.own_files + 1, suffix, own)
            if case.own not in (None, own) or (case.own_files and {suffix, case.own_suffix} != {DICOM_SUFFIX}):
                raise RefusedError(
                    409, "there is such a scan already; take it away first. A scan is one file, or DICOM"
                )
            if case.own_files >= MAX_FILES:
                raise RefusedError(413, f"more than {MAX_FILES} files; bring one study")
            case.own, case.own_suffix = own, suffix
            case.own_files += 1
            case.writing += 1
            (case.folder / OWN_FOLDERS[own]).mkdir(mode=0o700, exist_ok=True)
            return case, case.folder / OWN_FOLDERS[own] / name

    def take_own(self, case_id: str) -> None:
        """Take a scan of the patient's own bone off the disk; what it was used for stays.

        Raises:
            RefusedError: there is no such case, or it is being worked on.
        """
        with self.lock:
            case = self._resting(case_id)
            if case.writing:
                raise RefusedError(409, "a file of this case is still coming")
            for name in OWN_FOLDERS.values():
                shutil.rmtree(case.folder / name, ignore_errors=True)
                for path in case.folder.glob(f"{name}-image.*"):
                    path.unlink(missing_ok=True)
            case.size_bytes -= case.own_bytes
            case.own, case.own_files, case.own_suffix, case.own_bytes = None, 0, "", 0

    def _resting(self, case_id: str) -> CaseState:
        """A case that has its files and is not worked on."""
        case = self.case(case_id)
        if case.busy or case.state == "uploading":
            raise RefusedError(409, "this case is being worked on; cancel that first")
        return case

    def count(self, case: CaseState, size: int, *, own: bool = False) -> None:
        """So many bytes more are about to be written.

        Raises:
            RefusedError: that is too much, or the case was deleted.
        """
        with self.lock:
            if case.gone:
                raise RefusedError(410, "this case was deleted")
            case.size_bytes += size
            case.own_bytes += size if own else 0
            if case.size_bytes > self.served.max_upload_mb * 10**6:
                raise RefusedError(
                    413,
                    f"more than {self.served.max_upload_mb} MB: crop the scan, or start the page with --max-upload-mb",
                )

    def end_file(self, case: CaseState) -> None:
        """A file is there, or was given up."""
        with self.lock:
            case.writing -= 1

    def complete(self, case_id: str, said: dict[str, Any], asked: Asked) -> None:
        """All files are there: look what they are, and run what needs no choice.

        Raises:
            RefusedError: there is no such case, or it is not the time.
        """
        with self.lock:
            case = self.case(case_id)
            if case.state != "uploading" or case.writing:
                raise RefusedError(409, "this case has its files already, or one is still coming")
            case.asked, case.run = said, Run(case.folder, asked)
            case.state, case.stage, case.fraction, case.began = "waiting", "looking at the files", 0.0, time.monotonic()
            self.pool.ask(case.id, Look(case.folder))

    # What is done with it.

    def run(self, case_id: str, said: dict[str, Any], asked: Asked) -> None:
        """Reconstruct a case, or do it again.

        Raises:
            RefusedError: there is no such case, it is being worked on, or lacks what it is to be done with.
        """
        with self.lock:
            case = self._resting(case_id)
            if case.writing:
                raise RefusedError(409, "a file of this case is still coming")
            if asked.own is not None and asked.own != case.own:
                raise RefusedError(409, "there is no such scan of the patient's own bone; bring it first")
            case.asked, case.run = said, Run(case.folder, asked)
            self._start(case)

    def design(self, case_id: str, implant: ImplantSettings) -> int:
        """Design implants for a case that is done; returns the number of the wish.

        Raises:
            RefusedError: there is no such case, or it is not done.
        """
        with self.lock:
            case = self.case(case_id)
            if case.state != "done" or case.run is None:
                raise RefusedError(409, "there is no missing bone yet to design an implant for")
            design = case.design
            design.number += 1
            design.state, design.text, design.implant = "designing", "", implant.to_json()
            self.pool.ask(case.id, Design(case.run, implant, design.number))
            return design.number

    def write(self, case_id: str) -> None:
        """Have the files of the last design written, if there is one and they are not there.

        Raises:
            RefusedError: there is no such case, it is not done, or another implant is being designed.
        """
        with self.lock:
            case = self.case(case_id)
            design = case.design
            if case.state != "done" or case.run is None:
                raise RefusedError(409, "this case is not done; there is nothing to save yet")
            if design.state in ("designing", "measuring"):
                raise RefusedError(409, NOT_YET)
            if design.made_with is None or design.files or design.state == "writing":
                return
            design.state, design.text = "writing", ""
            self.pool.ask(case.id, Write(case.run, ImplantSettings.from_json(design.made_with), design.made))

    def cancel(self, case_id: str) -> None:
        """Stop what is done for a case; its process ends at once.

        Raises:
            RefusedError: there is no such case.
        """
        with self.lock:
            case = self.case(case_id)
            designing = case.design.state in ("designing", "measuring", "writing")
            if not case.busy and not designing:
                return
            if case.busy:
                case.state, case.text = "cancelled", CANCELLED
            else:
                case.design.state, case.design.text = "failed", CANCELLED
        self.pool.drop(case_id)

    def delete(self, case_id: str) -> None:
        """Forget a case, and take its files off the disk.

        Raises:
            RefusedError: there is no such case.
        """
        with self.lock:
            case = self.case(case_id)
            case.gone = True
            del self._cases[case_id]
        self.pool.drop(case_id)
        shutil.rmtree(case.folder, ignore_errors=True)

    def close(self, *, keep: bool) -> None:
        """End all work; take all files off the disk unless they are kept."""
        self.pool.close()
        with self.lock:
            self._cases.clear()
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)

    # What is known of it.

    def case(self, case_id: str) -> CaseState:
        """A case.

        Raises:
            RefusedError: there is none of that name.
        """
        with self.lock:
            found = self._cases.get(case_id)
            if found is None:
                raise RefusedError(404, "there is no such case; it may have been deleted")
            return found

    def listed(self) -> list[dict[str, Any]]:
        """All cases in short, the newest first."""
        with self.lock:
            return [self._short(case) for case in reversed(self._cases.values())]

    def told(self, case_id: str) -> dict[str, Any]:
        """All that the page shows of a case."""
        with self.lock:
            case = self.case(case_id)
            return self._short(case) | {
                "notes": case.notes,
                "series": case.series,
                "view": case.view,
                "summary": case.summary,
                "asked": case.asked,
                "own": case.own,
                "design": vars(case.design),
            }

    def file_of(self, case_id: str, name: str) -> Path:
        """A file of a case's results or of its view, by a name that is known of it.

        Raises:
            RefusedError: there is none.
        """
        with self.lock:
            case = self.case(case_id)
            from calvaria.web.views import VIEW_NAMES

            names = (case.summary or {}).get("files", []), case.design.files
            if name in VIEW_NAMES:
                path = case.folder / VIEW / name
            elif name in names[0] or name in names[1]:
                path = case.folder / RESULTS / name
            else:
                raise RefusedError(404, "this case has no such file")
        if not path.is_file():
            raise RefusedError(404, "this file is not there yet")
        return path

    def _short(self, case: CaseState) -> dict[str, Any]:
        left = ""
        if case.state == "running" and case.fraction > TELLS_FROM:
            spent = time.monotonic() - case.began
            left = duration(spent * (1 - case.fraction) / case.fraction)
        return {
            "id": case.id,
            "number": case.number,
            "created": case.created,
            "state": case.state,
            "stage": case.stage,
            "fraction": round(case.fraction, 3),
            "left": left,
            "place": self.pool.place(case.id) if case.state == "waiting" else None,
            "text": case.text,
            "format": case.format,
            "megabytes": round(case.size_bytes / 1e6, 1),
            "failed_checks": bool((case.summary or {}).get("failed")),
        }

    # What workers say; called with the lock.

    def _start(self, case: CaseState) -> None:
        if case.run is None:
            return
        case.state, case.stage, case.fraction, case.text = "waiting", "", 0.0, ""
        case.summary, case.design = None, DesignState(number=case.design.number)
        self.pool.ask(case.id, case.run)

    def _heard(self, key: str, news: News) -> None:
        case = self._cases.get(key)
        if case is None:
            return
        if isinstance(news, Told):
            if case.state == "waiting":
                case.state, case.began = "running", time.monotonic()
            case.stage, case.fraction = news.stage, news.fraction
        elif isinstance(news, Looked):
            self._looked(case, news)
        elif isinstance(news, Viewed):
            case.view = news.view
        elif isinstance(news, Reconstructed):
            case.state, case.stage, case.fraction, case.summary = "done", "done", 1.0, news.summary
        elif isinstance(news, Failed) and case.busy:
            case.state, case.text = "failed", news.text
        else:
            self._designed(case.design, news)

    def _looked(self, case: CaseState, news: Looked) -> None:
        case.format, case.series, case.notes = news.format, news.series, news.notes
        usable = [one for one in news.series if one["usable"]]
        said = case.run is not None and (case.run.asked.settings.series or case.run.asked.settings.study)
        if len(usable) > 1 and not said:
            case.state, case.stage = "choosing", ""
        else:
            self._start(case)

    def _designed(self, design: DesignState, news: News) -> None:
        number = getattr(news, "number", None)
        last = number == design.number
        if isinstance(news, Shaped):
            design.shown, design.shape_s = news.number, news.seconds
            if last and design.state != "writing":
                design.state = "measuring"
        elif isinstance(news, Designed):
            design.summary, design.seconds = news.summary, news.seconds
            design.made, design.made_with, design.files = news.number, news.implant.to_json(), ()
            if last and design.state != "writing":
                design.state = "done"
        elif isinstance(news, Written) and number == design.made:
            design.files = news.files
            design.state = "done" if design.state == "writing" else design.state
        elif isinstance(news, Failed) and (last or design.state == "writing"):
            design.state, design.text = "failed", news.text

    def _lost(self, key: str, busy: bool) -> None:
        case = self._cases.get(key)
        if case is None or not busy:
            return
        if case.busy:
            case.state, case.text = "failed", DIED
        else:
            case.design.state, case.design.text = "failed", DIED


__all__ = ["CANCELLED", "DIED", "NOT_YET", "CaseState", "DesignState", "RefusedError", "Session", "State"]
