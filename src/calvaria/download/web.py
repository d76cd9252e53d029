"""Asking a server: http and https only, a time limit, and what may pass distinguished from what will not.

A connection that breaks and a server that is busy are worth another try (``BrokenError``); a wrong address, a refusal
or a page that wants a browser is not (``InputError``: one line that says what to do).
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib.parse import quote, urlsplit, urlunsplit

from calvaria import __version__
from calvaria.errors import FormatError, InputError, one_line

OK, PARTIAL = 200, 206
"""The two answers that carry a file: the whole of it, and the range that was asked for."""

RANGE_REFUSED = 416
"""The range that was asked for lies behind the end of the file."""

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a later try may not meet again: too slow, too early, too often, and the server's own faults."""

JSON_LIMIT_BYTES = 32 * 2**20
"""Longest listing that is read: figshare allows 500 files an item, a few hundred bytes each."""


class BrokenError(Exception):
    """The connection broke, or the server is busy: the same question may be answered later.

    Args:
        reason: what happened, without the address.
        wait_s: how long the server asked to wait, or None.
    """

    def __init__(self, reason: object, wait_s: float | None = None) -> None:
        super().__init__(one_line(reason))
        self.wait_s = wait_s


class RangeError(Exception):
    """The server has nothing at the range that was asked for (416)."""


class NotThereError(InputError):
    """The address leads to nothing (404, 410)."""


def clean_url(url: str) -> str:
    """The address with what HTTP cannot say (spaces, letters beyond ASCII) percent-encoded; nothing else is changed.

    Raises:
        InputError: not http or https, no host, or a password in it, which would end up in records.

    >>> clean_url("https://example.org/a skull.zip?dl=1")
    'https://example.org/a%20skull.zip?dl=1'
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{url}: not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{url}: wanted an address that starts with https:// or http://")
    if parts.username is not None:
        raise InputError(f"{host}: the address holds a user name or a password; give it without, or download by hand")
    try:
        netloc = parts.netloc.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InputError(f"{host}: not the name of a host: {error}") from error
    path, query = (quote(part, safe="/%:=&?~+!$,;'@()*[]") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, netloc, path, query, ""))


def open_url(url: str, headers: dict[str, str] | None = None, *, timeout_s: float) -> HTTPResponse:
    """Ask for an address, following redirects; the answer is to be closed by the caller.

    Args:
        url: http or https.
        headers: more request headers, such as ``Range``.
        timeout_s: how long to wait for each piece of the answer.

    Returns:
        An answer with status 200 or 206.

    Raises:
        BrokenError: the connection broke, timed out or could not be made, or the server is busy.
        RangeError: the range lies behind the end.
        NotThereError: nothing is at that address.
        InputError: anything else that another try would not change.
    """
    words = {"User-Agent": f"calvaria/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    request = urllib.request.Request(clean_url(url), headers=words | (headers or {}))
    try:
        answer: HTTPResponse = _opener().open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(url, error) from error
    except (OSError, HTTPException) as error:  # URLError is an OSError
        raise _unreachable(url, error) from error
    if answer.status in (OK, PARTIAL):
        return answer
    with answer:
        raise InputError(_odd_status(url, answer.status, answer.headers))


def read_json(url: str, *, timeout_s: float) -> Any:
    """What a server says in JSON.

    Raises:
        FormatError: the answer is not JSON, or longer than 32 MiB.
        BrokenError: as :func:`open_url`, which also names the other errors.
    """
    try:
        with open_url(url, {"Accept": "application/json"}, timeout_s=timeout_s) as answer:
            text, missing = answer.read(JSON_LIMIT_BYTES + 1), answer.length
    except (OSError, HTTPException) as error:
        raise BrokenError(str(error) or type(error).__name__) from error
    if missing and len(text) <= JSON_LIMIT_BYTES:
        raise BrokenError(f"the connection ended {missing} bytes before its answer")
    if len(text) > JSON_LIMIT_BYTES:
        raise FormatError(f"{host_of(url)}: its answer is longer than {JSON_LIMIT_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except ValueError as error:
        raise FormatError(
            f"{host_of(url)}: wanted a listing in JSON, got something else: the service may have changed"
        ) from error


def host_of(url: str) -> str:
    """The host of an address, for messages.

    >>> host_of("https://example.org/a?key=1")
    'example.org'
    """
    return urlsplit(url).hostname or url


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to http and https only, and never from https down to http."""

    def redirect_request(  # noqa: PLR0917 - the signature is urllib's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        try:
            target = clean_url(newurl)
            if req.full_url.startswith("https:") and not target.startswith("https:"):
                raise InputError(f"{host_of(req.full_url)}: redirects to an address without encryption: {target}")
        except InputError:
            fp.close()  # urllib closes it only behind this call
            raise
        return super().redirect_request(req, fp, code, msg, headers, target)


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows nothing but http and https (the usual one also reads files and FTP)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    """What a status outside 2xx means to the caller."""
    if error.code == RANGE_REFUSED:
        return RangeError()
    if error.code in BUSY:
        return BrokenError(f"status {error.code} ({error.reason})", _wait_s(error.headers))
    if error.code in (404, 410):
        return NotThereError(f"{url}: not found (status {error.code}): the file was moved or taken away")
    return InputError(_odd_status(url, error.code, error.headers))


def _odd_status(url: str, status: int, headers: Any) -> str:
    # A figshare page behind its firewall answers 202 with nothing in it, or 403.
    if headers.get("x-amzn-waf-action") or status in (401, 403):
        return f"{url}: the server lets only browsers or signed-in people in (status {status}): download by hand"
    return f"{url}: wanted a file (status 200), the server answered {status}: open the address in a browser"


def _unreachable(url: str, error: OSError | HTTPException) -> Exception:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return InputError(
            f"{host_of(url)}: its certificate is not trusted ({reason.verify_message}): check the clock and the "
            "network's own certificate, or download by hand"
        )
    return BrokenError(str(reason) or type(reason).__name__)


def _wait_s(headers: Any) -> float | None:
    """``Retry-After`` in seconds; None where it is not given, or given as a date."""
    text = (headers.get("Retry-After") or "").strip()
    return float(text) if text.isdecimal() else None


__all__ = ["BrokenError", "NotThereError", "RangeError", "clean_url", "host_of", "open_url", "read_json"]
