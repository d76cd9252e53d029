"""Bodies of several parts: whatever pieces they come in, and wherever they end."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import FormatError
from calvaria.io.archive.multipart import MAX_HEAD_BYTES, Parts, enveloped, media_type
from calvaria.io.archive.network import BrokenError

MARK = b"mark"

contents = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\r\n--mar", b"\r\n--", b"--mark", b"\r", b"\r\n\r\n", b"\r\n--mar\r\n"]),
    ),
    max_size=4,
)
"""Parts, some of which look nearly like a boundary."""


def body_of(parts, headers=b"Content-Type: a/b\r\nX: y\r\n", preamble=b""):
    told = b"".join(b"\r\n--" + MARK + b"\r\n" + headers + b"\r\n" + part for part in parts)
    return (preamble + told + b"\r\n--" + MARK + b"--\r\nepilogue").removeprefix(b"\r\n" if not preamble else b"")


def reader(body, sizes):
    """Gives the body in pieces of these sizes, then as asked."""
    left, file = list(sizes), io.BytesIO(body)
    return lambda count: file.read(min(count, left.pop(0) if left else count))


@given(contents, st.lists(st.integers(1, 9)), st.sampled_from([b"", b"X: y\r\n"]), st.sampled_from([b"", b"hello"]))
def test_parts_are_what_they_were_in_whatever_pieces_they_come(parts, sizes, headers, preamble):
    read = reader(body_of(parts, headers, preamble), sizes)
    assert [b"".join(part) for part in Parts(read, MARK)] == parts


@given(contents.filter(bool), st.data())
def test_a_body_that_ends_too_early_is_always_noticed(parts, data):
    body = body_of(parts).removesuffix(b"\r\nepilogue")
    cut = body[: data.draw(st.integers(0, len(body) - 2))]
    with pytest.raises(BrokenError, match="the answer ended in its middle"):
        for part in Parts(reader(cut, []), MARK):
            b"".join(part)


def test_what_has_no_parts_or_no_end_of_headers_is_refused_within_bounds():
    class Endless:
        given = 0

        def __call__(self, count):
            self.given += count
            return b"x" * count

    for start in (b"", b"--mark\r\n"):
        source = Endless()
        pieces = iter([start] if start else [])
        with pytest.raises(FormatError, match=r"no parts where they should be|endless headers"):
            for part in Parts(lambda n, s=source, p=pieces: next(p, None) or s(n), MARK):
                list(part)
        assert source.given < 20 * MAX_HEAD_BYTES


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("multipart/related; boundary=abc", ("multipart/related", b"abc")),
        ('Multipart/Related; type="a/b"; boundary="a b;c"', ("multipart/related", b"a b;c")),
        ("multipart/related", ("multipart/related", None)),
        ("text/html; charset=utf-8", ("text/html", None)),
        ("multipart/related; boundary=" + "x" * 999, ("multipart/related", None)),
        ("multipart/related; boundary=é", ("multipart/related", None)),
        ("a\r\nb", ("text/plain", None)),
        (None, ("text/plain", None)),
    ],
)
def test_the_kind_of_a_body_and_its_boundary(text, wanted):
    assert media_type(text) == wanted


def test_what_is_sent_is_one_part_of_the_length_that_is_said():
    pieces, size = enveloped(iter([b"ab", b"c"]), 3, "mark")
    body = b"".join(pieces)
    assert len(body) == size
    assert [b"".join(part) for part in Parts(reader(body, []), MARK)] == [b"abc"]
