"""How an archive is spoken to: how long it is waited for, whom it is trusted by, and who asks."""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calvaria.errors import InputError
from calvaria.files import require_file
from calvaria.io.archive.address import AE_TITLE, ArchiveAddress

TOKEN, USER, PASSWORD = (f"CALVARIA_DICOM_{name}" for name in ("TOKEN", "USER", "PASSWORD"))
"""Variables of the environment that credentials are taken from, where no file is given."""

KEY_PASSWORD = "CALVARIA_DICOM_KEY_PASSWORD"
"""Variable for the password of an encrypted private key."""

MAX_SECRET_BYTES = 64 << 10
"""A file of credentials that is longer is another file."""


@dataclass(frozen=True)
class Credentials:
    """What an archive is told so that it lets one in; never shown.

    Args:
        header: value of ``Authorization``.
        kind: "token" or "password", for messages.
    """

    header: str = field(repr=False)
    kind: str


@dataclass(frozen=True)
class Access:
    """How an archive is spoken to.

    Args:
        timeout_s: for the connection to be made, and for each wait without a byte after that.
        ca_file: certificates (PEM) that the archive's must come from; None takes the system's.
        cert_file: certificate (PEM) that shows the archive who asks.
        key_file: its private key; None if it stands in ``cert_file``.
        credentials: for DICOMweb.
        ae_title: what DICOM archives know this program by.
        tries: how often a question that changes nothing is asked when the connection breaks or the archive is busy.
        pause_s: before the second try; doubled before each further one.

    Raises:
        InputError: the timeout is not positive, or the AE title is none.
    """

    timeout_s: float = 30.0
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    credentials: Credentials | None = None
    ae_title: str = "CALVARIA"
    tries: int = 4
    pause_s: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 86_400:
            raise InputError(f"--timeout: wanted seconds above 0 and up to a day, got {self.timeout_s:g}")
        if not AE_TITLE.fullmatch(self.ae_title) or not self.ae_title.strip():
            raise InputError("--ae-title: wanted 1 to 16 printable characters without a backslash")
        if self.key_file is not None and self.cert_file is None:
            raise InputError("--key: the certificate that it belongs to is missing; give it with --cert")

    def require_fits(self, archive: ArchiveAddress) -> None:
        """Refuse what would be ignored, or would show a secret to whoever listens.

        Raises:
            InputError: certificates for a connection without TLS, credentials for DICOM's own protocol, or for http
                to another machine.
        """
        if not archive.encrypted and (self.ca_file or self.cert_file):
            better = "https" if archive.is_web else "dicoms"
            raise InputError(f"{archive.name}: --ca-file, --cert and --key are for TLS; use {better}://")
        if self.credentials is None:
            return
        if not archive.is_web:
            raise InputError(
                f"{archive.name}: a {self.credentials.kind} is for DICOMweb; {archive.scheme}:// knows none"
            )
        if not archive.encrypted and not archive.is_loopback:
            raise InputError(
                f"{archive.name}: the {self.credentials.kind} would go over the net for all to read; use https://"
            )

    def tls(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """What TLS connections go by: the archive's certificate is always checked, its host name too.

        Args:
            with_certificate: show our own.

        Raises:
            InputError: a file is missing or is no certificate or key.
        """
        if self.ca_file is not None:
            require_file(self.ca_file)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (ssl.SSLError, OSError):
            raise InputError(f"--ca-file: {self.ca_file} holds no certificates; wanted PEM") from None
        if self.cert_file is None or not with_certificate:
            return context
        for path in filter(None, (self.cert_file, self.key_file)):
            require_file(path)
        try:
            context.load_cert_chain(self.cert_file, self.key_file, password=_key_password)
        except (ssl.SSLError, OSError, ValueError):
            raise InputError(
                "--cert, --key: not a certificate and its own private key, both PEM "
                f"(the password of an encrypted key is taken from {KEY_PASSWORD})"
            ) from None
        return context


def _key_password() -> str:
    """Instead of OpenSSL's question on the terminal."""
    return os.environ.get(KEY_PASSWORD, "")


def credentials_from(
    *,
    token_file: Path | None = None,
    login_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Credentials | None:
    """Credentials out of a file, or of the environment; a file goes first.

    Args:
        token_file: its text is a bearer token.
        login_file: its text is ``user:password``.
        environment: None takes the process's: CALVARIA_DICOM_TOKEN, or CALVARIA_DICOM_USER and _PASSWORD.

    Returns:
        None where there are none.

    Raises:
        InputError: both files are given, one is missing or holds something else; what it holds is not repeated.
    """
    known = os.environ if environment is None else environment
    if token_file is not None and login_file is not None:
        raise InputError("--token-file and --login-file: give one of them")
    if token_file is not None:
        return _bearer(_secret_in(token_file), str(token_file))
    if login_file is not None:
        user, colon, password = _secret_in(login_file).partition(":")
        if not (user and colon):
            raise InputError(f"{login_file}: wanted one line, user:password")
        return _basic(user, password, str(login_file))
    if known.get(TOKEN):
        return _bearer(known[TOKEN].strip(), TOKEN)
    if known.get(USER):
        if ":" in known[USER]:
            raise InputError(f"{USER}: a user has no colon in it")
        return _basic(known[USER], known.get(PASSWORD, ""), f"{USER}, {PASSWORD}")
    return None


def _secret_in(path: Path) -> str:
    require_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        text = data.decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read as text") from None
    if len(data) > MAX_SECRET_BYTES or not text or "\n" in text or "\r" in text:
        raise InputError(f"{path}: wanted one line")
    return text


def _bearer(token: str, origin: str) -> Credentials:
    if not re.fullmatch(r"[!-~]+", token):  # anything else would end the header, and begin another
        raise InputError(f"{origin}: a token is one word of printable ASCII characters")
    return Credentials(f"Bearer {token}", "token")


def _basic(user: str, password: str, origin: str) -> Credentials:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in user + password):
        raise InputError(f"{origin}: user and password may have no control characters")
    return Credentials("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii"), "password")


__all__ = ["PASSWORD", "TOKEN", "USER", "Access", "Credentials", "credentials_from"]
