"""Archives on loopback: one that speaks DICOM's own protocol, one that speaks DICOMweb; both misbehave."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

FIND, GET, ECHO = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.1.1"
CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"

LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
STUDY_KEYS = ("StudyInstanceUID", "PatientID", "AccessionNumber", "StudyDate", "StudyDescription", "PatientName")
SERIES_KEYS = ("SeriesInstanceUID", "SeriesNumber", "Modality")
IMAGE_KEYS = ("SOPInstanceUID", "SOPClassUID")


def as_bytes(one: Dataset) -> bytes:
    file = io.BytesIO()
    one.save_as(file, enforce_file_format=True)
    return file.getvalue()


@dataclass
class Behaviour:
    """How an archive fails.

    Args:
        missing: so many instances at the end of each series are announced and never sent.
        foreign: sent in place of what was asked for.
        deaf: keys of a query that are not looked at.
        store_status: for what is stored; None stores it.
        breaks: so many retrievals break off in their middle.
        services: that DICOM's own protocol offers.
        syntaxes: that it takes.
        stall_s: before the second slice of a series.
        garbage: sent before the second slice of a series.
        require_called: it must be called by its title.
        require_calling: titles that it knows.
    """

    missing: int = 0
    foreign: Sequence[Dataset] = ()
    deaf: tuple[str, ...] = ()
    store_status: int | None = None
    breaks: int = 0
    services: tuple[str, ...] = (FIND, GET, ECHO, CT, SEG)
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    stall_s: float = 0.0
    garbage: bytes = b""
    require_called: bool = True
    require_calling: tuple[str, ...] = ()


@dataclass
class Kept:
    """What an archive has, and what was stored in it."""

    instances: list[Dataset]
    behaviour: Behaviour
    stored: list[Dataset] = field(default_factory=list)

    def found(self, asked: dict[str, str], level: str) -> list[Dataset]:
        """One answer for each study, series or instance that matches."""
        answers: dict[str, Dataset] = {}
        for one in self.instances:
            if not all(
                self._fits(one, name, value) for name, value in asked.items() if name not in self.behaviour.deaf
            ):
                continue
            uid = str(one[LEVELS[level]].value)
            if uid in answers:
                continue
            answers[uid] = answer = Dataset()
            for name in (
                STUDY_KEYS + (SERIES_KEYS if level != "STUDY" else ()) + (IMAGE_KEYS if level == "IMAGE" else ())
            ):
                setattr(answer, name, one.get(name))
            mine = [each for each in self.instances if each[LEVELS[level]].value == uid]
            if level == "STUDY":
                answer.ModalitiesInStudy = sorted({each.Modality for each in mine})
                answer.NumberOfStudyRelatedSeries = len({each.SeriesInstanceUID for each in mine})
            elif level == "SERIES":
                answer.NumberOfSeriesRelatedInstances = len(mine)
        return list(answers.values())

    @staticmethod
    def _fits(one: Dataset, name: str, value: str) -> bool:
        if name == "StudyDate" and "-" in value:
            first, _, last = value.partition("-")
            return first <= one.StudyDate <= last
        return not value or str(one.get(name)) == value

    def series(self, uid: str) -> list[Dataset]:
        """What is sent of a series."""
        if self.behaviour.foreign:
            return list(self.behaviour.foreign)
        mine = [one for one in self.instances if one.SeriesInstanceUID == uid]
        return mine[: len(mine) - self.behaviour.missing]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@contextlib.contextmanager
def dimse_archive(
    instances: Sequence[Dataset], behaviour: Behaviour | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, Kept]]:
    """A running archive; its host, port and title as ``ARCHIVE@127.0.0.1:PORT``."""
    how = behaviour or Behaviour()
    kept = Kept(list(instances), how)

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = {
            one.keyword: str(one.value or "") for one in event.identifier if one.keyword in STUDY_KEYS + SERIES_KEYS
        }
        for answer in kept.found(asked, event.identifier.QueryRetrieveLevel):
            yield 0xFF00, answer

    def get(event: Any) -> Iterator[Any]:
        series = kept.series(event.identifier.SeriesInstanceUID)
        yield len(series)
        for number, one in enumerate(series):
            if how.breaks and number == len(series) // 2:
                how.breaks -= 1
                event.assoc.dul.socket.close()
                return
            if number == 1 and how.garbage:
                event.assoc.dul.socket.send(how.garbage)
            if number == 1:
                time.sleep(how.stall_s)
            yield 0xFF00, one

    def store(event: Any) -> int:
        if how.store_status is not None:
            return how.store_status
        request = event.request  # a file while the client under test is at work: its settings are the process's
        request._dataset_file.close()
        kept.stored.append(pydicom.dcmread(io.BytesIO(Path(event.dataset_path).read_bytes())))
        return 0

    server = AE(ae_title="ARCHIVE")
    server.require_called_aet = how.require_called
    server.require_calling_aet = list(how.require_calling)
    for service in how.services:
        server.add_supported_context(service, list(how.syntaxes), scu_role=True, scp_role=True)
    handlers = [
        (evt.EVT_C_FIND, find),
        (evt.EVT_C_GET, get),
        (evt.EVT_C_STORE, store),
        (evt.EVT_C_ECHO, lambda event: 0),
    ]
    running = server.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    try:
        yield f"ARCHIVE@127.0.0.1:{running.socket.getsockname()[1]}", kept
    finally:
        Thread(target=running.shutdown).start()  # it takes half a second


@contextlib.contextmanager
def talker(*says: bytes, keep_open: bool = True) -> Iterator[int]:
    """A server that says something to whoever connects, whatever that one says; its port."""
    end = Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)

    def serve() -> None:
        open_ones = []
        while not end.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                open_ones.append(connection)
                with contextlib.suppress(OSError):
                    for part in says:
                        connection.sendall(part)
                    if not keep_open:
                        connection.close()
        for connection in open_ones:
            connection.close()

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        end.set()
        thread.join()
        listening.close()


@dataclass
class WebBehaviour:
    """How a DICOMweb archive fails.

    Args:
        authorization: what it wants to hear; None lets everybody in.
        statuses: used up, one a request, in the place of an answer.
        body: of a retrieval, in place of the right one, with its content type.
        query: the same of a search.
        cut: after so many bytes of a retrieval the connection is closed, so many times.
        redirect: where requests are sent to.
        page: most matches that one answer has.
        stall_s: before each answer.
        drip_s: between the bytes of an answer.
        early: answers what is stored before it has read it.
    """

    authorization: str | None = None
    statuses: list[int] = field(default_factory=list)
    body: tuple[bytes, str] | None = None
    query: tuple[bytes, str] | None = None
    cut: list[int] = field(default_factory=list)
    redirect: str | None = None
    page: int = 1000
    stall_s: float = 0.0
    drip_s: float = 0.0
    early: bool = False


@dataclass
class WebArchive:
    """A running DICOMweb archive."""

    url: str
    kept: Kept
    how: WebBehaviour
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    site: WebArchive

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what is written."""

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            if self._met():
                self._get()

    def do_POST(self) -> None:
        with contextlib.suppress(OSError):
            if self.site.how.early:
                self._answer(413, b"too large", "text/plain")
                return
            if self.headers.get("Content-Length") is None:
                self._answer(411, b"", "text/plain")
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self._met():
                self._store(body)

    def _met(self) -> bool:
        """Whether it goes on as it should."""
        how = self.site.how
        self.site.asked.append((self.command, unquote(self.path), dict(self.headers)))
        time.sleep(how.stall_s)
        if how.redirect is not None:
            self.send_response(307)
            self.send_header("Location", how.redirect + self.path.removeprefix("/dicom-web"))
            self.end_headers()
        elif how.authorization is not None and self.headers.get("Authorization") != how.authorization:
            self._answer(401, b"", "text/plain")
        elif how.statuses:
            self._answer(how.statuses.pop(0), b"", "text/plain")
        else:
            return True
        return False

    def _get(self) -> None:
        how, kept = self.site.how, self.site.kept
        parts = urlsplit(self.path)
        if match := re.fullmatch(r"/dicom-web/studies/([\d.]+)/series/([\d.]+)", parts.path):
            self._series(match[2])
            return
        pattern = r"/dicom-web/studies(?:/([\d.]+)/series(?:/([\d.]+)/instances)?)?"
        if not (match := re.fullmatch(pattern, parts.path)):
            self._answer(404, b"<html>no</html>", "text/html")
            return
        if how.query is not None:
            self._answer(200, *how.query)
            return
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        asked = {name: query[name] for name in STUDY_KEYS if name in query}
        asked |= dict(zip(("StudyInstanceUID", "SeriesInstanceUID"), filter(None, match.groups()), strict=False))
        level = ("STUDY", "SERIES", "IMAGE")[sum(group is not None for group in match.groups())]
        found = kept.found(asked, level)
        start = int(query.get("offset", 0))
        some = found[start : start + min(int(query.get("limit", 1000)), how.page)]
        if not some:
            self._answer(204, b"", "application/dicom+json")
            return
        more = {"Warning": '299 pacs: "There are more"'} if start + len(some) < len(found) else {}
        self._answer(200, json.dumps([one.to_json_dict() for one in some]).encode(), "application/dicom+json", more)

    def _series(self, uid: str) -> None:
        how = self.site.how
        mark = b"--a=b'c"
        body = b"".join(
            b"--" + mark + b"\r\nContent-Type: application/dicom\r\n\r\n" + as_bytes(one) + b"\r\n"
            for one in self.site.kept.series(uid)
        )
        kind = 'multipart/related; type="application/dicom"; boundary="' + mark.decode() + '"'
        body, kind = how.body or (body + b"--" + mark + b"--", kind)
        self._answer(200, body, kind, cut=how.cut.pop(0) if how.cut else None)

    def _store(self, body: bytes) -> None:
        kept = self.site.kept
        head, _, rest = body.partition(b"\r\n\r\n")
        mark = head.split(b"\r\n")[0]
        one = pydicom.dcmread(io.BytesIO(rest[: rest.rindex(b"\r\n" + mark + b"--")]))
        answer, item = Dataset(), Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        status = kept.behaviour.store_status
        if status is None:
            kept.stored.append(one)
            answer.ReferencedSOPSequence = [item]
        else:
            item.FailureReason = status
            answer.FailedSOPSequence = [item]
        text = json.dumps(answer.to_json_dict()).encode()
        self._answer(200 if status is None else 409, text, "application/dicom+json; charset=utf-8")

    def _answer(
        self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if self.site.how.drip_s:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                time.sleep(self.site.how.drip_s)
            return
        self.wfile.write(body if cut is None else body[:cut])


@contextlib.contextmanager
def web_archive(
    instances: Sequence[Dataset],
    how: WebBehaviour | None = None,
    behaviour: Behaviour | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[WebArchive]:
    """A running DICOMweb archive."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    url = f"{scheme}://127.0.0.1:{server.server_port}/dicom-web"
    site = WebArchive(url, Kept(list(instances), behaviour or Behaviour()), how or WebBehaviour())
    server.RequestHandlerClass = type("Handler", (_Handler,), {"site": site})
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # handshakes that fail are what is tested
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Certificates:
    """Files of a made-up authority, and of a server and a client that it vouches for."""

    authority: Path
    server: Path
    client: Path
    stranger: Path

    def context(self, *, ask: bool = False) -> ssl.SSLContext:
        """The server's side."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        if ask:
            context.load_verify_locations(self.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_certificates(folder: Path) -> Certificates:
    """By openssl, which every system has."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    made = {}
    for name, subject in (("authority", "CA"), ("server", "127.0.0.1"), ("client", "us"), ("stranger", "other")):
        key, certificate, both = (folder / f"{name}.{end}" for end in ("key", "crt", "pem"))
        words = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={subject}"]
        if name in ("server", "client"):
            words += ["-CA", made["authority"], "-CAkey", str(folder / "authority.key")]
            words += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(words, check=True, capture_output=True)
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        made[name] = str(certificate)
    return Certificates(folder / "authority.crt", folder / "server.pem", folder / "client.pem", folder / "stranger.crt")
