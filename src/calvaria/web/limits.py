"""How the page is served: where, and how much is taken."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from calvaria.errors import InputError

PORT = 8321

MAX_FILES = 20_000
"""Files of one case: no study of a head has more."""


@dataclass(frozen=True)
class Served:
    """How the page is served.

    Args:
        host: the address that is listened on.
        port: 0 takes one that is free.
        folder: where cases lie, in a new folder of their own; None: where the system keeps temporary files.
        max_upload_mb: of one case, MB (10^6 bytes).
        max_cases: that there may be at the same time.
        jobs: cases that are worked on at the same time.
        keep: leave the cases on the disk at the end.
        allow_remote: listen to other machines, too.

    Raises:
        InputError: a value out of its range; or another host than this machine's without the word for it.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    folder: Path | None = None
    max_upload_mb: int = 2000
    max_cases: int = 100
    jobs: int = 1
    keep: bool = False
    allow_remote: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65535),
            ("max_upload_mb", 1, 10**6),
            ("max_cases", 1, 10**4),
            ("jobs", 1, 256),
        ):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"--{name.replace('_', '-')} must be {low} to {high}; got {getattr(self, name)}")
        if not self.allow_remote and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host}: others could reach the page, and patients' scans, without encryption; use "
                "127.0.0.1 with a tunnel (ssh -L), or say --allow-remote"
            )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


__all__ = ["MAX_FILES", "PORT", "Served", "is_loopback"]
