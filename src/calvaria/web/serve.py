"""The server: a socket, a token, a folder of its own, and all of it gone at the end."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from calvaria.errors import InputError
from calvaria.files import require_writable
from calvaria.web.limits import Served


def serve(served: Served, opened: Callable[[str], None], say: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted.

    Args:
        served: where and how.
        opened: told the address, token and all.
        say: told what the user should know at the end.

    Raises:
        InputError: the address cannot be listened on, or the folder not written to.
    """
    import uvicorn

    from calvaria.web.app import make_app
    from calvaria.web.guard import Guard
    from calvaria.web.session import Session

    if served.folder is not None:
        require_writable(served.folder)
        served.folder.mkdir(parents=True, exist_ok=True)
    listening = _listening(served)
    port = listening.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="calvaria-", dir=served.folder))  # closed to other users
    session = Session(served, folder)
    try:
        session.pool.warm()
        token = secrets.token_urlsafe(24)
        app = Guard(make_app(session), token, served.host, port)
        opened(f"http://{_name(served.host)}:{port}/?token={token}")
        config = uvicorn.Config(
            app,
            access_log=False,  # nothing that names a patient, or a file
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        with _ended_in_order():
            uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        say("stopped")
    finally:
        session.close(keep=served.keep)
        listening.close()
        if served.keep:
            say(f"the cases are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """A signal that ends the program lets it clear up, as Ctrl-C does: the server raises signals again at its end."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _listening(served: Served) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in served.host else socket.AF_INET
        return socket.create_server((served.host, served.port), family=family, backlog=256)
    except OSError as error:
        raise InputError(
            f"{served.host}:{served.port} cannot be listened on: {error.strerror or error}; give another --port, or 0 "
            "for one that is free"
        ) from error


def _name(host: str) -> str:
    """A host as it stands in an address.

    >>> _name("::1"), _name("0.0.0.0")
    ('[::1]', '127.0.0.1')
    """
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


__all__ = ["serve"]
