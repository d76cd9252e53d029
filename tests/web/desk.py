"""A session whose workers do as they are told, on a socket of its own, and a client with its token."""

from __future__ import annotations

import http.client
import json as json_module
import queue
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn

from calvaria.web.app import make_app
from calvaria.web.brought import RESULTS
from calvaria.web.guard import Guard
from calvaria.web.limits import Served
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
    Write,
    Written,
)
from calvaria.web.session import Session
from calvaria.web.work import FULL

TOKEN = "the-token-of-this-test"

SUMMARY = {"files": ["result.json", "patch.stl"], "failed": False}


@dataclass
class StubLink:
    """A worker that answers at once; ``wait`` keeps it at a run until something is put into ``go``."""

    looked: Looked = field(default_factory=lambda: Looked("NRRD"))
    wait: bool = False
    dies: bool = False
    full: bool = False
    go: queue.Queue[None] = field(default_factory=queue.Queue)
    news: queue.Queue[News | None] = field(default_factory=queue.Queue)
    tasks: list[Task] = field(default_factory=list)
    killed: bool = False

    def __post_init__(self) -> None:
        self.news.put(Idle(0))

    def send(self, serial: int, task: Task) -> None:
        self.tasks.append(task)
        if isinstance(task, Look):
            self.news.put(self.looked)
        elif isinstance(task, Run):
            self._run(task)
        elif isinstance(task, Design):
            self.news.put(Shaped(task.number, 0.1))
            self.news.put(Designed(task.number, 0.2, {"lines": [], "warnings": [], "checks": []}, task.implant))
        elif isinstance(task, Write) and self.full:
            self.news.put(Failed(FULL, task.number))
        elif isinstance(task, Write):
            (task.run.folder / RESULTS / "implant.stl").write_bytes(b"solid implant")
            self.news.put(Written(task.number, ("implant.stl",)))
        if not (isinstance(task, Run) and (self.wait or self.dies)):
            self.news.put(Idle(serial))

    def _run(self, task: Run) -> None:
        self.news.put(Told("pose", 0.2))
        if self.dies:
            self.news.put(None)
        elif not self.wait:
            results = task.folder / RESULTS
            results.mkdir(exist_ok=True)
            (results / "result.json").write_text("{}")
            (results / "patch.stl").write_bytes(b"solid")
            self.news.put(Reconstructed(SUMMARY))

    def recv(self) -> News:
        found = self.news.get()
        if found is None:
            raise EOFError
        return found

    def kill(self) -> None:
        self.killed = True
        self.news.put(None)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status_code: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json_module.loads(self.content)


@dataclass
class Client:
    """A browser without eyes: its cookie and its origin go with every request; paths go out as they are given."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | Iterable[bytes] | None = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str | bytes | None] | None = None,
    ) -> Answer:
        sent: dict[str, Any] = {**self.headers, **(headers or {})}
        if json is not None:
            content, sent = json_module.dumps(json).encode(), {"Content-Type": "application/json", **sent}
        if params:
            path = f"{path}?{urlencode(params)}"
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.putrequest(method, path, skip_host="Host" in sent, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    link.putheader(name, value)
            self._send(link, content)
            found = link.getresponse()
            return Answer(found.status, found.msg, found.read())
        finally:
            link.close()

    def _send(self, link: http.client.HTTPConnection, content: bytes | Iterable[bytes] | None) -> None:
        if content is None or isinstance(content, bytes):
            link.putheader("Content-Length", str(len(content or b"")))
            link.endheaders(content or None)
            return
        link.putheader("Transfer-Encoding", "chunked")
        with suppress(BrokenPipeError, ConnectionResetError):  # refused midway: the answer is there
            link.endheaders(content, encode_chunked=True)

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> Answer:
        return self.request("POST", path, **more)

    def put(self, path: str, **more: Any) -> Answer:
        return self.request("PUT", path, **more)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)

    def enter(self) -> None:
        """Open the printed address."""
        answer = self.get(f"/?token={TOKEN}")
        assert answer.status_code == 303
        self.headers |= {"Cookie": answer.headers["set-cookie"].partition(";")[0], "Origin": self.address}


@dataclass
class Desk:
    """What a test holds: the client, the session, its folder, and the workers that were started."""

    client: Client
    session: Session
    folder: Path
    links: list[StubLink]

    def case(self, content: bytes = b"NRRD0004\n", suffix: str = ".nrrd") -> str:
        """Bring a case; returns its id."""
        case = self.client.post("/api/cases", json={}).json()["id"]
        assert (
            self.client.put(f"/api/cases/{case}/files", params={"suffix": suffix}, content=content).status_code == 204
        )
        return str(case)

    def complete(self, case: str, **asked: object) -> None:
        """All its files are there."""
        answer = self.client.post(f"/api/cases/{case}/complete", json=asked)
        assert answer.status_code == 200, answer.text

    def told(self, case: str) -> dict:
        return self.client.get(f"/api/cases/{case}").json()

    def until(self, case: str, *states: str) -> dict:
        """Wait for a state."""
        for _ in range(500):
            found = self.told(case)
            if found["state"] in states:
                return found
            time.sleep(0.01)
        raise AssertionError(f"{found['state']}, not one of {states}: {found['text']}")

    def designed(self, case: str) -> dict:
        """Wait for a design, or for its files."""
        for _ in range(500):
            found = self.told(case)["design"]
            if found["state"] in ("done", "failed"):
                return dict(found)
            time.sleep(0.01)
        raise AssertionError(f"the design is still {found['state']}")


@contextmanager
def shared(whole: Desk) -> Iterator[Desk]:
    """The same session for another test: with a client of its own, and without the cases of that test afterwards."""
    try:
        yield replace(whole, client=replace(whole.client, headers=dict(whole.client.headers)))
    finally:
        for case in whole.session.listed():
            whole.session.delete(case["id"])


@contextmanager
def desk(folder: Path, served: Served | None = None, **link: object) -> Iterator[Desk]:
    """A session with stub workers, and a client that has the token."""
    links: list[StubLink] = []
    home = folder / "cases"
    home.mkdir()

    def start() -> StubLink:
        links.append(StubLink(**link))  # type: ignore[arg-type]
        return links[-1]

    session = Session(served or Served(), home, start)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        port = listening.getsockname()[1]
        app = Guard(make_app(session), TOKEN, "127.0.0.1", port)
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, server_header=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        client = Client(port)
        client.enter()
        try:
            yield Desk(client, session, home, links)
        finally:
            server.should_exit = True
            thread.join()
    session.close(keep=False)
