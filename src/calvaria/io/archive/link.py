"""One connection of DICOM's own protocol, by pynetdicom: watched, bounded, and silent about what it carries."""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria.errors import InputError, MissingExtraError
from calvaria.io.archive.access import Access
from calvaria.io.archive.address import ArchiveAddress
from calvaria.io.archive.network import BrokenError, failure, no_dicom, silent
from calvaria.io.dicom.headers import quiet

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

PDU_BYTES = 1 << 17
"""Longest message piece that we ask for: large ones are faster."""

MAX_PDU_BYTES = 1 << 21
"""One that is longer is refused: it would be held in memory."""

SLICE_BYTES = 1 << 16
"""Sent and received at once."""

LONG = 0.9
"""Where no association came about within this fraction of the time limit, its end was why."""

CRASHED = "calvaria_crashed"
"""Attribute of a thread of the library's that ended by an exception: that exception."""

TICK_S = 0.05
"""How often the watch looks."""

REJECTED = {
    (1, 3): "does not know us as {ours}; have that AE title entered there, or give one that it knows with --ae-title",
    (1, 7): "is not called {theirs}; check the AE title in the address",
    (1, 2): "does not know DICOM's application context",
    (2, 2): "speaks another version of the protocol",
    (3, 1): "has too many connections; try later",
    (3, 2): "has reached a limit; try later",
}
"""Source and reason of a rejected association (PS3.8, 9.3.4)."""

OTHERWISE_REJECTED = "rejects the connection; have {ours} entered there as an AE title, or ask who runs it"


@contextmanager
def hushed() -> Iterator[None]:
    """Let pynetdicom and pydicom log nothing: they log whole headers. And let files go from and to the disk in pieces.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    with quiet():
        try:
            from pynetdicom import _config
        except ModuleNotFoundError:
            text = "dicom:// needs pynetdicom, which is not installed: pip install 'calvaria[dicom]'"
            raise MissingExtraError(text) from None
        names = [
            name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("pynetdicom", "pydicom")
        ]
        loggers = [(logger := logging.getLogger(name), logger.disabled) for name in names]
        wanted = {
            "LOG_HANDLER_LEVEL": "none",
            "LOG_REQUEST_IDENTIFIERS": False,
            "LOG_RESPONSE_IDENTIFIERS": False,
            "STORE_SEND_CHUNKED_DATASET": True,
            "STORE_RECV_CHUNKED_DATASET": True,
        }
        before = {name: getattr(_config, name) for name in wanted}
        hook = threading.excepthook
        try:
            threading.excepthook = _not_the_librarys(hook)
            for logger, _ in loggers:
                logger.disabled = True
            for name, value in wanted.items():
                setattr(_config, name, value)
            yield
        finally:
            threading.excepthook = hook
            for name, value in before.items():
                setattr(_config, name, value)
            for logger, was in loggers:
                logger.disabled = was


def _not_the_librarys(hook: Callable[[threading.ExceptHookArgs], object]) -> Callable[[threading.ExceptHookArgs], None]:
    """A hook that leaves out what kills the library's own threads: garbage that came, which the watch notices."""
    from pynetdicom.association import Association
    from pynetdicom.dul import DULServiceProvider

    def tell(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.thread, (Association, DULServiceProvider)):
            vars(args.thread)[CRASHED] = args.exc_value
        else:
            hook(args)

    return tell


@contextmanager
def arriving_in(folder: Path) -> Iterator[None]:
    """Let what arrives lie in a folder; else it lies in the system's for temporary files, and stays after a crash."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def cut(association: Association) -> None:
    """End a connection at once: whatever waits for it is told, which the library's own abort does not do."""
    link: Any = association.dul.socket
    with suppress(OSError, AttributeError):  # it is closed already
        link.socket.shutdown(socket.SHUT_RDWR)


class Watch:
    """Ends a connection on which nothing moves for too long, and refuses message pieces without an end.

    The library's own limits do not fit: one counts the whole of a message, however large, and none holds in the middle
    of a piece.

    Args:
        timeout_s: how long nothing may move.
        limit_bytes: that may arrive in all.
    """

    def __init__(self, timeout_s: float, limit_bytes: int) -> None:
        self._timeout_s, self._left = timeout_s, limit_bytes
        self._last, self._link = time.monotonic(), None
        self._done = threading.Event()
        self.expired = self.overrun = False
        self.died: BaseException | None = None
        self._socket: socket.socket | None = None

    def opened(self, event: Any) -> None:
        """Take over a connection that was made: its socket's waits get an end, and are counted."""
        link: Any = event.assoc.dul.socket
        send, recv = link.send, link.recv
        link.socket.settimeout(self._timeout_s)
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each file waits for an acknowledgement

        def watched_send(data: bytes) -> None:
            for start in range(0, len(data), SLICE_BYTES):
                send(data[start : start + SLICE_BYTES])
                self._last = time.monotonic()

        def watched_recv(count: int) -> bytearray:
            if count > MAX_PDU_BYTES or count > self._left:
                self.overrun = True
                raise OSError("more than is taken")
            self._left -= count
            whole = bytearray()
            while len(whole) < count:
                piece = recv(min(SLICE_BYTES, count - len(whole)))
                self._last = time.monotonic()
                whole += piece
                if not piece:
                    break
            return whole

        link.send, link.recv = watched_send, watched_recv
        self._last, self._link, self._socket = time.monotonic(), link, link.socket

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch, in a thread of its own."""
        thread = threading.Thread(target=self._run, name="archive-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()
            if self._socket is not None:
                self._socket.close()  # the library does not, where the other side was first

    def _run(self) -> None:
        while not self._done.wait(TICK_S):
            link: Any = self._link
            if link is None:
                continue
            if not link.assoc.dul.is_alive():
                self._wake(link.assoc)
                return
            if time.monotonic() - self._last > self._timeout_s:
                self.expired = True
                cut(link.assoc)
                return

    def _wake(self, association: Association) -> None:
        """The library's thread has ended, maybe of what came: whoever waits for it would wait for ever."""
        from pynetdicom.pdu_primitives import A_P_ABORT

        self.died = vars(association.dul).get(CRASHED)
        association.dul.to_user_queue.put(A_P_ABORT())
        association.dimse.msg_queue.put((None, None))


class Link:
    """An association that was accepted.

    Args:
        association: pynetdicom's.
        watch: over it.
        archive: at its other end.
        access: how it is spoken to.
    """

    def __init__(self, association: Association, watch: Watch, archive: ArchiveAddress, access: Access) -> None:
        self.association, self._watch, self._archive, self._access = association, watch, archive, access

    def accepts(self, class_uid: str, syntax: str | None = None) -> bool:
        """Whether a SOP class, in a transfer syntax, was agreed on."""
        return any(
            context.abstract_syntax == class_uid and syntax in (None, context.transfer_syntax[0])
            for context in self.association.accepted_contexts
        )

    def ended(self) -> Exception:
        """What it means that there was no answer."""
        if self._watch.expired:
            return silent(self._archive, self._access)
        if isinstance(self._watch.died, OSError):  # of the network it hears itself: the disk is left
            return InputError(f"what arrives cannot be written: {self._watch.died.strerror}; make room on the disk")
        if self._watch.overrun or self._watch.died is not None:
            return no_dicom(self._archive, "sent more than is taken, or what is no DICOM message")
        return BrokenError("it ended the connection in its middle")


@contextmanager
def linked(
    archive: ArchiveAddress,
    access: Access,
    contexts: Sequence[PresentationContext],
    *,
    limit_bytes: int,
    roles: Sequence[Any] = (),
    handlers: Sequence[tuple[Any, Any]] = (),
) -> Iterator[Link]:
    """Associate with an archive, within `hushed`; released at the end, aborted after an error.

    Args:
        archive: where it is.
        access: how it is spoken to.
        contexts: what is proposed, up to 128.
        limit_bytes: that may arrive in all.
        roles: that are proposed.
        handlers: events and what is called for them.

    Raises:
        InputError: it cannot be reached, does not let us in, or is silent.
        BrokenError: the connection broke.
    """
    from pynetdicom import AE, evt

    own = AE(ae_title=access.ae_title)
    own.connection_timeout = access.timeout_s
    # The watch ends what takes too long; the library's limits come after it, should it fail.
    own.acse_timeout = access.timeout_s + 1
    own.dimse_timeout = own.network_timeout = None
    watch = Watch(access.timeout_s, limit_bytes)
    began = time.monotonic()
    tls = (access.tls(), archive.host) if archive.encrypted else None
    with watch.running():
        try:
            association = own.associate(
                archive.host,
                archive.port,
                contexts=list(contexts),
                ae_title=archive.ae_title,
                max_pdu=PDU_BYTES,
                ext_neg=list(roles),
                tls_args=tls,
                evt_handlers=[(evt.EVT_CONN_OPEN, watch.opened), *handlers],
            )
        except OSError as error:  # the host's name
            raise failure(error, archive, access) from None
        link = Link(association, watch, archive, access)
        if not association.is_established:
            if time.monotonic() - began > LONG * access.timeout_s and not association.is_rejected:
                raise silent(archive, access)
            raise _not_established(link, watch, archive, access)
        try:
            yield link
            if association.is_established:
                association.release()
        finally:
            if association.is_established:  # not by its abort, which waits for the other side
                cut(association)
                association.kill()


def _not_established(link: Link, watch: Watch, archive: ArchiveAddress, access: Access) -> Exception:
    """Why there is no association."""
    association = link.association
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        why = REJECTED.get((answer.result_source or 0, answer.diagnostic or 0), OTHERWISE_REJECTED)
        return InputError(f"{archive.name}: {why.format(ours=access.ae_title, theirs=archive.ae_title)}")
    if watch.expired or watch.overrun:
        return link.ended()
    if association.rejected_contexts:
        return InputError(
            f"{archive.name}: offers none of the services that are needed; ask who runs it, or use https://"
        )
    return _probed(archive, access)


def _probed(archive: ArchiveAddress, access: Access) -> Exception:
    """Connect once more, to learn what the library does not tell."""
    try:
        with socket.create_connection((archive.host, archive.port), access.timeout_s) as plain:
            if archive.encrypted:
                with access.tls().wrap_socket(plain, server_hostname=archive.host) as over:
                    over.settimeout(min(access.timeout_s, 1.0))
                    over.recv(1)  # where a certificate of ours is wanted, this is where it is said
    except TimeoutError as error:
        return no_dicom(archive, "does not speak DICOM") if archive.encrypted else failure(error, archive, access)
    except OSError as error:
        found = failure(error, archive, access)
        if isinstance(found, BrokenError) and archive.encrypted:
            return InputError(f"{archive.name}: {found}; check the port")
        return no_dicom(archive, "does not speak DICOM") if isinstance(found, BrokenError) else found
    return no_dicom(archive, "does not speak DICOM")


__all__ = ["Link", "arriving_in", "cut", "hushed", "linked"]
