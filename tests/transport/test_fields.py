"""The fields of a head, split by us, against the parser's own; from any split of the bytes, after any 1xx."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.transport.fields import RawFields, fields_of
from opentracy.transport.http1 import MAX_HEAD, ResponseReader

_NAMES = st.text("abcXYZ-019", min_size=1, max_size=12).map(lambda name: f"x-{name}")
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
_HEADS = st.lists(st.tuples(_NAMES, st.sampled_from(["", " ", "\t", "  "]), _VALUES), max_size=8)


class Parser:
    """Collects what httptools tells of a head."""

    def __init__(self, data: bytes) -> None:
        self.found: dict[str, str] = {}
        httptools.HttpResponseParser(self).feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        self.found[key] = f"{self.found[key]}, {text}" if key in self.found else text


def head_of(fields: list[tuple[str, str, str]], status: int = 200) -> bytes:
    lines = "".join(f"{name}:{space}{value}\r\n" for name, space, value in fields)
    return f"HTTP/1.1 {status} OK\r\n{lines}content-length: 2\r\n\r\n".encode("latin-1")


def read(pieces: list[bytes], *, stream: bool = False) -> ResponseReader:
    reader = ResponseReader()
    reader.start(stream=stream)
    for piece in pieces:
        reader.feed(piece)
    return reader


@given(_HEADS)
def test_as_the_parser_tells_them(fields: list[tuple[str, str, str]]) -> None:
    data = head_of(fields)
    assert fields_of(data[:-4]) == Parser(data).found


@given(_HEADS, st.sampled_from([200, 429]), st.booleans(), st.lists(st.integers(0, 200), max_size=4), st.integers(0, 2))
def test_from_any_split(fields: Any, status: int, stream: bool, cuts: list[int], hints: int) -> None:
    data = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * hints + head_of(fields, status) + b"{}"
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    whole, split = read([data], stream=stream), read([data[a:b] for a, b in pairwise(places)], stream=stream)
    for reader in (whole, split):
        assert reader.complete and reader.failure is None and reader.head is not None
        assert dict(reader.head.headers) == Parser(head_of(fields)).found
        assert (reader.head.status, reader.take()) == (status, b"{}")


def test_one_byte_at_a_time() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + head_of([("x-a", " ", "1"), ("x-a", " ", "2")]) + b"{}"
    reader = read([data[i : i + 1] for i in range(len(data))])
    assert reader.complete and reader.head is not None and reader.head.headers["x-a"] == "1, 2"


def test_a_lazy_mapping_is_a_mapping() -> None:
    fields = RawFields(b"HTTP/1.1 200 OK\r\nA: 1\r\nb:2 ")
    assert (dict(fields), len(fields), "a" in fields, fields.get("c")) == ({"a": "1", "b": "2"}, 2, True, None)
    assert pickle.loads(pickle.dumps(fields)) == {"a": "1", "b": "2"}


def test_a_value_over_two_lines() -> None:
    assert fields_of(b"HTTP/1.1 200 OK\r\nx-a: one\r\n two\r\nx-b: 3") == {"x-a": "one two", "x-b": "3"}


@pytest.mark.parametrize("length", ["33554433", "99999999999999999999999999", "000000000033554433"])
def test_a_body_that_says_it_is_too_large(length: str) -> None:
    reader = read([f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n".encode()])
    assert reader.failure is not None and reader.failure.kind in ("body_limit", "bad_response")


def test_a_head_without_end() -> None:
    reader = read([b"HTTP/1.1 200 OK\r\n", *[b"x-a: %b\r\n" % (b"y" * 1000)] * (MAX_HEAD // 1000 + 2)])
    assert reader.failure is not None and reader.failure.kind == "header_limit"


def test_trailers_without_end() -> None:
    start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    reader = read([start, *[b"x-a: %b\r\n" % (b"y" * 1000)] * (2 * MAX_HEAD // 1000 + 4)], stream=True)
    assert reader.failure is not None and reader.failure.kind == "header_limit"


def test_many_small_chunks_are_no_flood() -> None:
    start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    reader = read([start, *[b"1\r\nx\r\n" * 1000] * 200, b"0\r\n\r\n"])
    assert reader.complete and len(reader.take()) == 200_000
