"""The bytes of one file from a server into its half file: tried again, gone on with, never longer than they should be.

A broken connection, an interruption or a full disk leave the half file (``part.py``). The next try goes on where it
ends, with ``Range`` and ``If-Range`` (RFC 9110, 13 and 14), and begins anew where the server knows no ranges or the
file has changed there.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

from calvaria.download.checksums import FILE_NAME
from calvaria.download.disk import require_room
from calvaria.download.part import Part, Source
from calvaria.download.progress import FileProgress
from calvaria.download.web import BrokenError, RangeError, clean_url, host_of, open_url
from calvaria.errors import InputError

BLOCK_BYTES = 2**18
"""Read at once: small enough that a slow line shows progress, large enough that the loop costs nothing."""

ROOM_EVERY_BYTES = 2**28
"""The disk's room is asked for again after so much, where nobody says how much will come."""

GAIN_BYTES = 2**20
"""A try that came at least this much further than any before it wipes out the failures before it."""

NAME_LIMIT = 200
"""Longest file name, bytes: most file systems stop at 255, and ``.part.json`` comes behind it."""

HASH_DIGITS = {"sha256": 64, "md5": 32}
"""Hexadecimal digits of each kind of hash."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded, and what its publisher says of it.

    Args:
        name: its name in the folder it is downloaded to.
        url: http or https.
        size_bytes: its length, where that is published.
        sha256: its hash, 64 hexadecimal digits, where that is published.
        md5: the same, 32 digits.
        mirrors: other addresses of the same bytes, asked where the first one refuses.

    Raises:
        InputError: the name is no plain file name, an address is not http or https, or a hash is none.
    """

    name: str
    url: str
    size_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    mirrors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_file_name(self.name)
        for url in (self.url, *self.mirrors):
            clean_url(url)
        for kind, digits in HASH_DIGITS.items():
            text = getattr(self, kind)
            if text is None:
                continue
            if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", text):
                raise InputError(f"{self.name}: wanted a {kind} of {digits} hexadecimal digits, got {text!r}")
            object.__setattr__(self, kind, text.lower())

    @property
    def hashed(self) -> bool:
        """Whether a hash is published."""
        return self.sha256 is not None or self.md5 is not None


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Args:
        timeout_s: without a byte for so long, the connection counts as broken.
        tries: so many in a row that bring nothing end the download.
        pause_s: before the second try; doubled before each further one.
        longest_pause_s: no pause is longer, whatever the server asks for.
    """

    timeout_s: float = 60.0
    tries: int = 5
    pause_s: float = 2.0
    longest_pause_s: float = 60.0

    def pause(self, failures: int, asked_s: float | None) -> float:
        """Seconds to wait after so many failures in a row, where the server asked for ``asked_s``."""
        grown_s = self.pause_s * float(2 ** (failures - 1))
        return min(max(grown_s, asked_s or 0.0), self.longest_pause_s)


@dataclass(frozen=True)
class Transfer:
    """One file on its way.

    Args:
        remote: the file and its addresses.
        part: where what arrives is put.
        progress: called with every piece.
        patience: when to give up.
        reserve_bytes: room that must stay on the disk besides.
    """

    remote: RemoteFile
    part: Part
    progress: FileProgress
    patience: Patience
    reserve_bytes: int = 0

    def run(self) -> str:
        """Bring the half file to its full length; returns the address that gave it.

        Raises:
            InputError: no address gives the file; the reason is the last one's.
            OSError: the disk refuses.
        """
        *others, last = (self.remote.url, *self.remote.mirrors)
        for url in others:
            try:
                self._bring(url)
                return url
            except InputError:  # another address may do better
                continue
        self._bring(last)
        return last

    def _bring(self, url: str) -> None:
        """Try until the half file has its full length, or until trying has brought nothing often enough."""
        failures, furthest = 0, self.part.length()
        while True:
            try:
                return self._try(url)
            except BrokenError as broken:
                length = self.part.length()
                failures = 1 if length >= furthest + GAIN_BYTES else failures + 1
                furthest = max(furthest, length)
                if failures >= self.patience.tries:
                    raise InputError(
                        f"{self.remote.name}: gave up after {failures} tries at {host_of(url)}: {broken}; "
                        f"{length / 1e6:.1f} MB are kept: the same command goes on from there"
                    ) from broken
                time.sleep(self.patience.pause(failures, broken.wait_s))

    def _try(self, url: str) -> None:
        """One question and its answer, added to the half file."""
        known = self.part.trusted(url, self.remote.size_bytes, hashed=self.remote.hashed)
        done = self.part.length() if known else 0
        if known and done and done == known.size_bytes:
            return
        asked = known.range_headers(done, url) if known and done else {}
        try:
            with open_url(url, asked, timeout_s=self.patience.timeout_s) as answer:
                source, start = self._source(url, answer, done)
                if known and start and not known.same_file(source):
                    self.part.remove()
                    raise BrokenError("the file changed there while it was downloaded")
                if source.size_bytes is not None:
                    self._require_room(source.size_bytes - start)
                self.part.begin(source, start)
                done = self._pour(answer, start, source.size_bytes)
        except RangeError as error:
            self.part.remove()
            raise BrokenError("nothing lies behind what has arrived; beginning anew") from error
        if source.size_bytes is not None and done < source.size_bytes:
            raise BrokenError(f"the connection ended after {done} of {source.size_bytes} bytes")

    def _pour(self, answer: HTTPResponse, start: int, size: int | None) -> int:
        """Write what arrives behind the first ``start`` bytes; returns the length that is then reached."""
        done, asked = start, start
        self.progress("downloading", done, size)
        with self.part.path.open("r+b") as file:
            file.seek(start)
            while block := _read(answer):
                done += len(block)
                if size is not None and done > size:
                    break
                if size is None and done - asked > ROOM_EVERY_BYTES:
                    self._require_room(ROOM_EVERY_BYTES)
                    asked = done
                file.write(block)
                self.progress("downloading", done, size)
            file.flush()
            os.fsync(file.fileno())
        if size is not None and done > size:
            self.part.remove()
            raise InputError(f"{self.remote.name}: more than {size} bytes arrived: not the file that was published")
        return done

    def _source(self, url: str, answer: HTTPResponse, asked_from: int) -> tuple[Source, int]:
        """What the answer says of the file, and from which byte on it goes.

        Raises:
            InputError: it is a web page, of another size than published, or does not say where it ends.
            BrokenError: it is another range than was asked for.
        """
        headers, remote = answer.headers, self.remote
        start, size = 0, _number(headers.get("Content-Length"))
        if answer.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (headers.get("Content-Range") or "").strip())
            if not asked_from or not found or int(found[1]) != asked_from:
                self.part.remove()
                raise BrokenError("the server sent another range than was asked for")
            start, size = asked_from, _number(found[2])
        page = headers.get_content_type() == "text/html"
        if page and not remote.name.lower().endswith((".html", ".htm")):
            raise InputError(
                f"{url}: sent a web page in place of {remote.name}: open it in a browser, and download by hand"
            )
        if size is not None and remote.size_bytes not in (None, size):
            raise InputError(f"{remote.name}: {host_of(url)} offers {size} bytes, published are {remote.size_bytes}")
        size = remote.size_bytes if size is None else size
        chunked = "chunked" in (headers.get("Transfer-Encoding") or "").lower()
        if size is None and not (chunked or remote.hashed):
            raise InputError(f"{remote.name}: {host_of(url)} does not say how long it is: give its --sha256")
        return Source(url, headers.get("ETag"), headers.get("Last-Modified"), size), start

    def _require_room(self, wanted_bytes: int) -> None:
        require_room(self.part.path.parent, wanted_bytes + self.reserve_bytes, self.remote.name)


def require_file_name(name: str) -> str:
    """The name, if it is that of a file in the folder itself and not one that is used beside it.

    Raises:
        InputError: it is empty, too long, hidden, holds a separator, a colon or a control character, or is kept for
            ``checksums.json`` and half files.

    >>> require_file_name("skull 1.zip")
    'skull 1.zip'
    """
    bad = not name or name[0] == "." or name[-1] in ". " or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name)
    if bad or len(name.encode("utf-8", "replace")) > NAME_LIMIT:
        raise InputError(f"{name[:80]!r}: not usable as the name of a file; give another one")
    if name.casefold() == FILE_NAME or name.casefold().endswith((".part", ".part.json")):
        raise InputError(f"{name}: this name is kept for records and half files; give another one")
    return name


def _read(answer: HTTPResponse) -> bytes:
    """What has arrived, up to a block; here an error of the network is distinguished from one of the disk."""
    try:
        return answer.read1(BLOCK_BYTES)
    except (OSError, HTTPException) as error:
        raise BrokenError(str(error) or type(error).__name__) from error


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


__all__ = ["HASH_DIGITS", "Patience", "RemoteFile", "Transfer", "require_file_name"]
