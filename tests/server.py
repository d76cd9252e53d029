"""A web server on this machine that breaks, lies and forgets as it is told."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Page:
    """What an address answers; lists are used up, one entry a request."""

    body: bytes = b""
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """After so many bytes the connection is closed, whatever was promised."""
    ranges: bool = True
    if_range: bool = True
    """False: a range is sent although the file is another than ``If-Range`` says."""
    shift: int = 0
    """Ranges begin so many bytes behind what was asked."""
    etag: str | None = '"one"'
    modified: str | None = None
    length: int | str | None = "right"
    """What is promised: "right", a number, "chunked", or None: nothing."""
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0.0


@dataclass
class Site:
    """The server: pages by path (with query), and the requests that came."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def add(self, path: str, body: bytes = b"", **how: object) -> str:
        """Put a page there; returns its address."""
        self.pages[path] = Page(body, **how)  # type: ignore[arg-type]
        return self.url + path

    def ranges(self) -> list[str | None]:
        """The ranges that were asked for, in order."""
        return [headers.get("Range") for _, headers in self.asked]


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.site.asked.append((self.path, dict(self.headers)))
        page = self.site.pages.get(self.path)
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has gone
            if page is None:
                self.send_error(404)
                return
            time.sleep(page.stall_s)
            status = page.statuses.pop(0) if page.statuses else 200
            self._answer(page, status)

    def _answer(self, page: Page, status: int) -> None:
        body, start = page.body, None
        if status == 200 and page.ranges and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = self._start(page, int(asked[1]))
            if start is not None and start >= len(body):
                status, body = 416, b""
            elif start is not None:
                status, body = 206, body[start:]
        self.send_response(status)
        self.send_header("Content-Type", page.kind)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
        for name, value in (("ETag", page.etag), ("Last-Modified", page.modified), *page.headers.items()):
            if value is not None:
                self.send_header(name, value)
        if page.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif page.length is not None:
            self.send_header("Content-Length", str(len(body) if page.length == "right" else page.length))
        self.end_headers()
        self._send(page, body)

    def _start(self, page: Page, asked: int) -> int | None:
        """Where the range begins; None sends the whole file, as it is another one."""
        mark = self.headers.get("If-Range")
        if mark is not None and page.if_range and mark not in (page.etag, page.modified):
            return None
        return asked + page.shift

    def _send(self, page: Page, body: bytes) -> None:
        cut = page.cuts.pop(0) if page.cuts else None
        shown = body if cut is None else body[:cut]
        if page.length == "chunked":
            for at in range(0, len(shown), 1000):
                piece = shown[at : at + 1000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(shown)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """A server for the time of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"site": site})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
