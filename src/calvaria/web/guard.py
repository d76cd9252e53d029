"""Who may ask: whoever has the token, from the page itself. What every answer says to the browser."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from calvaria.web.limits import is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # the viewer's fonts are data
        "connect-src 'self' data: blob:",
        "font-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer."""

SAFE = ("GET", "HEAD")

NO_TOKEN = "open the address that calvaria serve printed: it has the token\n"
WRONG_HOST = "this name is not the page's own; open the address that calvaria serve printed\n"
FORGED = "this request does not come from the page itself\n"


class Guard:
    """Lets through what has the token and comes from the page, and puts `HEADERS` on every answer.

    Args:
        app: what is guarded.
        token: the secret.
        host: that is listened on.
        port: likewise.
    """

    def __init__(self, app: App, token: str, host: str, port: int) -> None:
        self._app, self._token, self._host, self._port = app, token, host, port
        self.cookie = f"calvaria-{port}"  # browsers send cookies to every port of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        outgoing = _with_headers(send)
        if not self.is_ours(headers.get("host", "")):
            await _say(outgoing, 421, WRONG_HOST)
        elif scope["path"] == "/" and scope["method"] == "GET" and (given := _token_of(scope)) is not None:
            await self._enter(given, outgoing)
        elif not self._has_token(headers.get("cookie", "")):
            await _say(outgoing, 401, NO_TOKEN)
        elif self._is_forged(scope, headers):
            await _say(outgoing, 403, FORGED)
        else:
            await self._app(scope, receive, outgoing)

    async def _enter(self, given: str, send: Send) -> None:
        """From the printed address to the page: the token goes into a cookie, and out of the address."""
        if not _same(given, self._token):
            await _say(send, 401, NO_TOKEN)
            return
        cookie = f"{self.cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        await _say(send, 303, "", [(b"location", b"/"), (b"set-cookie", cookie.encode())])

    def _has_token(self, cookies: str) -> bool:
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return found is not None and _same(found.value, self._token)

    def is_ours(self, host: str) -> bool:
        """Whether a Host header names this server: a name that somebody else points at this machine does not."""
        name, colon, port = host.rpartition(":")
        if not colon or port != str(self._port):
            return False
        name = name.strip("[]").lower()
        if is_loopback(name) or name == self._host.lower():
            return True
        if is_loopback(self._host):
            return False
        try:
            ipaddress.ip_address(name)  # nobody can rebind a number
        except ValueError:
            return name == socket.gethostname().lower()
        return True

    def _is_forged(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Whether another page sends this request."""
        entering = scope["path"] == "/" and scope["method"] in SAFE
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and not entering:
            return True
        if scope["method"] in SAFE:
            return False
        return headers.get("origin") != f"http://{headers['host']}"


def _headers(scope: Scope) -> dict[str, str]:
    """Names in lower case; of several of one name all, with commas between: no check is then met by the first alone."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found and key != "cookie" else text
    return found


def _token_of(scope: Scope) -> str | None:
    found = parse_qs(scope["query_string"].decode("latin-1")).get("token")
    return None if found is None else found[0]


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            names = {name for name, _ in own}
            rest = [one for one in message.get("headers", []) if one[0].lower() not in names]
            message = {**message, "headers": [*rest, *own]}
        await send(message)

    return sending


async def _say(send: Send, status: int, text: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


__all__ = ["FORGED", "HEADERS", "NO_TOKEN", "POLICY", "WRONG_HOST", "Guard"]
