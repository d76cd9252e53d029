"""Questions to a DICOMweb server over http and https: time limits, bounded answers, and credentials for it alone."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPMessage,
    HTTPResponse,
    HTTPSConnection,
    RemoteDisconnected,
)
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from calvaria import __version__
from calvaria.errors import InputError
from calvaria.io.archive.access import Access
from calvaria.io.archive.address import ArchiveAddress
from calvaria.io.archive.multipart import media_type
from calvaria.io.archive.network import BrokenError, failure, no_dicom, silent

OK, NOTHING, PARTIAL = 200, 204, 206
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a later try may not meet again."""

MOVED = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5

MAX_JSON_BYTES = 32 << 20
"""Longest list that is read: 1,000 instances are about 1 MB."""

MIN_BYTES_A_SECOND = 256
"""Slower than this over the whole of a time limit counts as silent."""

DICOM_JSON = "application/dicom+json, application/json;q=0.9"


@dataclass(frozen=True)
class Answer:
    """What a server says.

    Args:
        status: of HTTP.
        headers: of HTTP.
        read: gives some of the next bytes, none at the end; raises `BrokenError` where it ends too early.
    """

    status: int
    headers: HTTPMessage
    read: Callable[[int], bytes]


class Web:
    """One DICOMweb server.

    Args:
        archive: where it is.
        access: how it is spoken to.

    Raises:
        InputError: the access does not go with the archive, or a file of it cannot be used.
    """

    def __init__(self, archive: ArchiveAddress, access: Access) -> None:
        access.require_fits(archive)
        self.archive, self.access = archive, access
        self._tls = access.tls() if archive.encrypted else None

    def json(self, path: str, parameters: Iterable[tuple[str, str]] = ()) -> tuple[list[Any], bool]:
        """A list in DICOM JSON.

        Args:
            path: below the address's own, begins with a slash.
            parameters: names and values of the query.

        Returns:
            The list, and whether the server says that there is more.

        Raises:
            BrokenError: another try may help.
            InputError: it would not.
        """
        url = f"{self.archive.base_url}{quote(path)}?{urlencode(list(parameters))}"
        with self.get(url, DICOM_JSON) as answer:
            if answer.status == NOTHING:
                return [], False
            found = self.read_json(answer)
            more = "299" in (answer.headers.get("Warning") or "")
        return (found if isinstance(found, list) else [found]), more

    def read_json(self, answer: Answer) -> Any:
        """An answer that is JSON.

        Raises:
            FormatError: it is none, or too long.
            BrokenError: it broke off.
        """
        text = bytearray()
        while block := answer.read(1 << 16):
            text += block
            if len(text) > MAX_JSON_BYTES:
                raise no_dicom(self.archive, f"its answer is longer than {MAX_JSON_BYTES >> 20} MiB")
        if not text:
            return []
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            kind = "a web page" if "html" in media_type(answer.headers.get("Content-Type"))[0] else "something else"
            raise no_dicom(self.archive, f"wanted a list in DICOM JSON, got {kind}") from None

    @contextmanager
    def get(self, url: str, accept: str) -> Iterator[Answer]:
        """Ask; redirects are followed, without credentials to another host.

        Raises:
            BrokenError: another try may help.
            InputError: it would not.
        """
        sent_on = False
        for _ in range(MAX_REDIRECTS + 1):
            at_home = self._is_home(url)
            sent_on = sent_on or not at_home
            with self._asked(self._request(url, {"Accept": accept}, at_home), at_home) as answer:
                if answer.status not in MOVED:
                    self._require_fine(answer, sent_on)
                    yield answer
                    return
                url = self._next(url, answer)
        raise no_dicom(self.archive, f"redirects more than {MAX_REDIRECTS} times")

    @contextmanager
    def post(self, path: str, body: Iterator[bytes], headers: Mapping[str, str]) -> Iterator[Answer]:
        """Send; once, and to this address alone.

        Yields:
            An answer of any status but a redirect.

        Raises:
            BrokenError: the connection broke; what was sent may have arrived.
            InputError: a wrong address, silence, a redirect.
        """
        request = self._request(f"{self.archive.base_url}{path}", headers, True, body)
        with self._asked(request, True) as answer:
            if answer.status in MOVED:
                raise InputError(
                    f"{self.archive.name}: wants things sent to another address (status {answer.status}), "
                    "which is not done by itself; give that address"
                )
            yield answer

    def refusal(self, status: int, *, sent_on: bool = False) -> InputError:
        """What a status other than success means."""
        name, credentials = self.archive.name, self.access.credentials
        if status in (401, 403) and sent_on:
            return InputError(f"{name}: redirects to a host that wants credentials (status {status}); give its address")
        if status in (401, 403) and credentials is not None:
            return InputError(f"{name}: does not let the {credentials.kind} in (status {status}); is it valid still?")
        if status in (401, 403):
            return InputError(
                f"{name}: wants to know who asks (status {status}); give --token-file or --login-file, "
                "or --cert if it goes by certificates"
            )
        if status in (404, 410):
            return InputError(f"{name}: has nothing at that address (status {status}); check the path of its DICOMweb")
        return InputError(f"{name}: refuses to answer (status {status}); check the address, or ask who runs it")

    def _require_fine(self, answer: Answer, sent_on: bool) -> None:
        if answer.status in BUSY:
            wait = (answer.headers.get("Retry-After") or "").strip()
            wait_s = float(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 7 else None
            raise BrokenError(f"it is busy or faulty (status {answer.status})", wait_s)
        if answer.status not in (OK, NOTHING, PARTIAL):
            raise self.refusal(answer.status, sent_on=sent_on)

    def _request(
        self, url: str, headers: Mapping[str, str], at_home: bool, body: Iterator[bytes] | None = None
    ) -> urllib.request.Request:
        words = {"User-Agent": f"calvaria/{__version__}", "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(url, data=body, headers=words)
        if self.access.credentials is not None and at_home:
            request.add_unredirected_header("Authorization", self.access.credentials.header)
        return request

    @contextmanager
    def _asked(self, request: urllib.request.Request, at_home: bool) -> Iterator[Answer]:
        archive, access = self.archive, self.access
        tls = self._tls if at_home else access.tls(with_certificate=False)
        direct = archive.is_loopback and at_home
        try:
            response: HTTPResponse = _opener(tls, direct).open(request, timeout=access.timeout_s)
        except RemoteDisconnected:
            raise BrokenError("the connection was closed before an answer") from None
        except BadStatusLine:
            raise no_dicom(archive, "does not speak HTTP") from None
        except (OSError, HTTPException) as error:  # URLError is an OSError
            raise failure(error, archive, access) from None
        with response:
            yield Answer(response.status, response.headers, _Reader(response, archive, access))

    def _is_home(self, url: str) -> bool:
        parts = urlsplit(url)
        default = 443 if parts.scheme == "https" else 80
        own = (self.archive.scheme, self.archive.host.lower(), self.archive.port)
        return (parts.scheme, (parts.hostname or "").lower(), parts.port or default) == own

    def _next(self, url: str, answer: Answer) -> str:
        """Where a redirect leads.

        Raises:
            FormatError: nowhere.
            InputError: to where what is asked would go over the net unencrypted.
        """
        try:
            target = urljoin(url, answer.headers.get("Location") or "")
            parts = urlsplit(target)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
            fine = fine and parts.port != 0  # reading it raises where it is none
        except ValueError:
            fine = False
        if not fine or not target.isascii() or not target.isprintable() or " " in target:
            raise no_dicom(self.archive, "redirects to what is no address")
        if self.archive.encrypted and parts.scheme == "http":
            raise InputError(f"{self.archive.name}: redirects from https to http, which is not followed")
        return target


class _Reader:
    """Reads an answer's body, and gives up on one that only drips."""

    def __init__(self, response: HTTPResponse, archive: ArchiveAddress, access: Access) -> None:
        self._response, self._archive, self._access = response, archive, access
        self._since, self._got = time.monotonic(), 0

    def __call__(self, count: int) -> bytes:
        try:
            block = self._response.read1(count)
        except (OSError, HTTPException) as error:
            raise failure(error, self._archive, self._access) from None
        if not block and self._response.length:
            raise BrokenError("the answer ended in its middle")
        self._got += len(block)
        passed_s = time.monotonic() - self._since
        if passed_s > self._access.timeout_s:
            if self._got < MIN_BYTES_A_SECOND * passed_s:
                raise silent(self._archive, self._access)
            self._since, self._got = time.monotonic(), 0
        return block


class _Answered(HTTPConnection):
    """A server may answer and close before it has read all that is sent; its answer is then still to be had."""

    def request(self, *args: Any, **words: Any) -> None:
        try:
            super().request(*args, **words)
        except (BrokenPipeError, ConnectionResetError):
            if self.sock is None:
                raise


class _AnsweredTls(_Answered, HTTPSConnection):
    """The same over TLS."""


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http and https, and hands out whatever the answer is."""

    def __init__(self, tls: Any) -> None:
        super().__init__()
        self._tls = tls

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Answered, request)

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_AnsweredTls, request, context=self._tls)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


def _opener(tls: Any, direct: bool) -> urllib.request.OpenerDirector:
    """An opener that knows http and https alone, without redirects; proxies as the system has them, unless direct."""
    opener = urllib.request.OpenerDirector()
    if not direct:
        opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Handler(tls))
    return opener


__all__ = ["BUSY", "DICOM_JSON", "NOTHING", "OK", "Answer", "Web"]
