"""Where an archive is: ``https://host/dicom-web`` or ``dicom://AET@host:port``, and nothing that is secret."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import SplitResult, unquote, urlsplit

from calvaria.errors import InputError

Scheme = Literal["http", "https", "dicom", "dicoms"]

PORTS: dict[Scheme, int] = {"http": 80, "https": 443, "dicom": 104, "dicoms": 2762}
"""Where none is given: those that are registered."""

FORMS = "https://HOST/PATH (DICOMweb) or dicom://AETITLE@HOST:PORT"
"""What an address looks like, for messages."""

AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
"""Up to 16 printable characters, no backslash (PS3.5, AE)."""


@dataclass(frozen=True)
class ArchiveAddress:
    """One archive.

    Args:
        scheme: ``http`` and ``https`` are DICOMweb; ``dicom`` is DICOM's own protocol, ``dicoms`` the same over TLS.
        host: name, or IP address without brackets.
        port: 1 to 65535.
        path: of DICOMweb, begins with a slash or is empty; never ends with one.
        ae_title: that the archive is called by; empty for DICOMweb.
    """

    scheme: Scheme
    host: str
    port: int
    path: str = ""
    ae_title: str = ""

    @property
    def is_web(self) -> bool:
        """Whether it is spoken to by DICOMweb."""
        return self.scheme in ("http", "https")

    @property
    def encrypted(self) -> bool:
        """Whether all goes over TLS."""
        return self.scheme in ("https", "dicoms")

    @property
    def name(self) -> str:
        """What it is called in messages: host and port alone.

        >>> parse_address("https://pacs.example/dicom-web").name
        'pacs.example:443'
        """
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, by a name that cannot be another's."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def base_url(self) -> str:
        """Of DICOMweb's services, without a slash at the end."""
        return f"{self.scheme}://{self.name}{self.path}"


def parse_address(text: str) -> ArchiveAddress:
    """An archive's address.

    Args:
        text: ``https://host[:port]/path``, ``http://...``, ``dicom://AETITLE@host[:port]`` or ``dicoms://...``.

    Raises:
        InputError: it is none, or holds a password or a query, which could be a secret: such a text is not repeated.

    >>> parse_address("dicom://ORTHANC@localhost:4242")
    ArchiveAddress(scheme='dicom', host='localhost', port=4242, path='', ae_title='ORTHANC')
    """
    try:
        parts = urlsplit(text.strip())
        port, host = parts.port, (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:  # UnicodeError is one
        raise InputError(f"the address of the archive cannot be read; wanted {FORMS}") from None
    _require_no_secret(parts)
    if parts.scheme not in get_args(Scheme) or not host or port == 0:
        raise InputError(f"the address of the archive begins or ends otherwise than one does; wanted {FORMS}")
    scheme: Scheme = next(one for one in get_args(Scheme) if one == parts.scheme)
    port = port or PORTS[scheme]
    if scheme in ("http", "https"):
        return ArchiveAddress(scheme, host, port, parts.path.rstrip("/"))
    title = unquote(parts.username or "")
    if not AE_TITLE.fullmatch(title) or not title.strip() or parts.path.strip("/"):
        raise InputError(
            f"{host}: wanted {scheme}://AETITLE@HOST:PORT; an AE title has 1 to 16 printable characters, and no path"
        )
    return ArchiveAddress(scheme, host, port, ae_title=title.strip())


def _require_no_secret(parts: SplitResult) -> None:
    """Refuse what may hold a password or a token, without repeating it."""
    web = parts.scheme in ("http", "https")
    if parts.password is not None or (web and "@" in parts.netloc):
        raise InputError(
            "the address of the archive holds a user or a password, which would be seen by others; "
            "leave it out and use --login-file, or CALVARIA_DICOM_USER and CALVARIA_DICOM_PASSWORD"
        )
    if parts.query or parts.fragment:
        raise InputError(
            "the address of the archive has a ? or # in it, behind which secrets may stand; "
            "leave that out and use --token-file, or CALVARIA_DICOM_TOKEN"
        )


__all__ = ["AE_TITLE", "FORMS", "ArchiveAddress", "parse_address"]
