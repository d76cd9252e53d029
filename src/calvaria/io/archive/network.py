"""What may go wrong between here and an archive, in words; what may pass is told from what will not."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

from calvaria.errors import FormatError, InputError
from calvaria.io.archive.access import Access
from calvaria.io.archive.address import ArchiveAddress

Result = TypeVar("Result")

LONGEST_PAUSE_S = 10.0
"""No pause between two tries is longer, whatever an archive asks for."""


class BrokenError(Exception):
    """The connection broke, or the archive is busy: the same question may be answered later.

    Args:
        reason: in words of our own: nothing that came over the net.
        wait_s: how long the archive asked to wait.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def patiently(work: Callable[[], Result], archive: ArchiveAddress, access: Access) -> Result:
    """Do what changes nothing in the archive, again if the connection breaks.

    Raises:
        InputError: it broke each time.
    """
    for failures in range(1, access.tries + 1):
        try:
            return work()
        except BrokenError as broken:
            if failures == access.tries:
                raise InputError(
                    f"{archive.name}: gave up after {failures} tries: {broken}; check the address"
                ) from None
            time.sleep(min(max(access.pause_s * 2 ** (failures - 1), broken.wait_s or 0.0), LONGEST_PAUSE_S))
    raise InputError(f"{archive.name}: not asked: wanted at least one try, got {access.tries}")


def silent(archive: ArchiveAddress, access: Access) -> InputError:
    """The archive was waited for in vain."""
    return InputError(
        f"{archive.name}: no answer within {access.timeout_s:g} s; check host and port, or give more with --timeout"
    )


def failure(error: BaseException, archive: ArchiveAddress, access: Access) -> Exception:
    """What an error of the system means; to be raised in its place.

    Returns:
        An `InputError` where another try would not help, a `BrokenError` where it may. Only what the system says is
        in it, nothing that the archive sent.
    """
    reason = getattr(error, "reason", None)
    error = reason if isinstance(reason, BaseException) else error
    if isinstance(error, TimeoutError):
        return silent(archive, access)
    if isinstance(error, ssl.SSLError):
        return _tls_failure(error, archive, access)
    if isinstance(error, socket.gaierror):
        return InputError(f"{archive.name}: no such host; check the address")
    if isinstance(error, ConnectionRefusedError):
        return InputError(f"{archive.name}: the connection is refused: nothing listens there; check host and port")
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return InputError(f"{archive.name}: cannot be reached from here; check the address and the network")
    return BrokenError("the connection broke")


def _tls_failure(error: ssl.SSLError, archive: ArchiveAddress, access: Access) -> Exception:
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        hint = "" if access.cert_file else ", or it wants a certificate of ours (--cert)"
        return BrokenError(f"the TLS connection broke{hint}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return InputError(
            f"{archive.name}: its certificate is not trusted ({error.verify_message}); "
            "give the certificate of its authority with --ca-file"
        )
    reason = (error.reason or "").upper()
    if "WRONG_VERSION" in reason or "UNKNOWN_PROTOCOL" in reason or "HTTP_REQUEST" in reason:
        other = "http" if archive.is_web else "dicom"
        return InputError(f"{archive.name}: does not speak TLS; check the port, or is it {other}://?")
    if "CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason or "UNKNOWN_CA" in reason:
        return InputError(f"{archive.name}: wants another certificate of ours, or one at all; see --cert and --key")
    return InputError(f"{archive.name}: the TLS connection failed; check the port and the certificates")


def no_dicom(archive: ArchiveAddress, what: str) -> FormatError:
    """It answered, but not as an archive does."""
    other = "the path" if archive.is_web else "dicom:// or dicoms://"
    return FormatError(f"{archive.name}: {what}; is it an archive? check the port and {other}")


__all__ = ["BrokenError", "failure", "no_dicom", "patiently", "silent"]
