"""Bodies of several parts (RFC 2046), one after the other as they come: no part is ever held as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.message import Message

from calvaria.errors import FormatError
from calvaria.io.archive.network import BrokenError

BLOCK_BYTES = 1 << 18
"""Read at once."""

MAX_HEAD_BYTES = 1 << 16
"""What may stand before the first part, and of header lines before each."""

MAX_BOUNDARY = 200
"""Letters; RFC 2046 allows 70."""


def media_type(content_type: str | None) -> tuple[str, bytes | None]:
    """The kind of a body in lower case, and the boundary of its parts or None.

    >>> media_type('multipart/related; type="application/dicom"; boundary="a b"')
    ('multipart/related', b'a b')
    """
    message = Message()
    message["Content-Type"] = (content_type or "").replace("\r", " ").replace("\n", " ")
    try:
        text = message.get_boundary()
        boundary = text.encode("ascii") if text and len(text) <= MAX_BOUNDARY else None
    except (ValueError, TypeError, LookupError):
        boundary = None
    return message.get_content_type(), boundary


class Parts:
    """The parts of a body.

    Args:
        read: gives some of the body's next bytes, at most so many as it is asked for; none at its end.
        boundary: between the parts.
    """

    def __init__(self, read: Callable[[int], bytes], boundary: bytes) -> None:
        self._read = read
        self._mark = b"\r\n--" + boundary
        # The first mark may stand at the very beginning: a line break before it makes it look like the others.
        self._buffer = bytearray(b"\r\n")

    def __iter__(self) -> Iterator[Iterator[bytes]]:
        """Each part's content in pieces; to be used up before the next is asked for.

        Raises:
            FormatError: it is not what it says it is.
            BrokenError: it ends in the middle.
        """
        for _ in self._until_mark(MAX_HEAD_BYTES):
            pass
        while self._another():
            self._skip_headers()
            yield self._until_mark(None)

    def _more(self) -> None:
        block = self._read(BLOCK_BYTES)
        if not block:
            raise BrokenError("the answer ended in its middle")
        self._buffer += block

    def _until_mark(self, limit: int | None) -> Iterator[bytes]:
        """What stands before the next mark; the mark itself is taken away."""
        passed = 0
        while (at := self._buffer.find(self._mark)) < 0:
            ready = max(0, len(self._buffer) - len(self._mark) + 1)
            if ready:
                piece = bytes(self._buffer[:ready])
                del self._buffer[:ready]
                passed += ready
                yield piece
            if limit is not None and passed > limit:
                raise FormatError("its answer has no parts where they should be")
            self._more()
        piece = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._mark)]
        if piece:
            yield piece

    def _another(self) -> bool:
        """Whether a part follows the mark that was passed."""
        while len(self._buffer) < 2:
            self._more()
        return not self._buffer.startswith(b"--")

    def _skip_headers(self) -> None:
        """Pass the header lines of a part, up to the empty line."""
        while True:
            line_end = self._buffer.find(b"\r\n")
            # No header at all: the rest of the mark's line is followed by an empty one.
            at = self._buffer.find(b"\r\n\r\n", line_end) if line_end >= 0 else -1
            if at >= 0:
                del self._buffer[: at + 4]
                return
            if len(self._buffer) > MAX_HEAD_BYTES + BLOCK_BYTES:
                raise FormatError("a part of its answer has endless headers")
            self._more()


def enveloped(content: Iterator[bytes], size: int, boundary: str) -> tuple[Iterator[bytes], int]:
    """A body with one DICOM file in it.

    Args:
        content: the file, in pieces.
        size: its bytes.
        boundary: a text that it does not hold; random ones do.

    Returns:
        The body in pieces, and its bytes.
    """
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def pieces() -> Iterator[bytes]:
        yield head
        yield from content
        yield tail

    return pieces(), len(head) + size + len(tail)


__all__ = ["BLOCK_BYTES", "Parts", "enveloped", "media_type"]
