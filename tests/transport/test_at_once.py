"""Answers that come whole: whatever is recognised, the reader would have said the same of it."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.transport.at_once import MAX_MISSES, AtOnce
from opentracy.transport.http1 import ResponseReader

BODY = b'{"id":"c","choices":[]}'


def sized(body: bytes = BODY, more: bytes = b"", status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n" % (status, more, len(body))
    return head + body


def chunked(*pieces: bytes) -> bytes:
    parts = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


def read(data: bytes) -> ResponseReader:
    reader = ResponseReader()
    reader.start(stream=False)
    reader.feed(data)
    return reader


@pytest.mark.parametrize(
    "data",
    [sized(), sized(more=b"Connection: keep-alive\r\n"), sized(more=b"CONNECTION:Keep-Alive \r\nx-a: 1\r\n"), chunked(BODY),
     chunked(BODY[:5], BODY[5:9], BODY[9:])],
)  # fmt: skip
def test_a_whole_answer_is_recognised_again_and_again(data: bytes) -> None:
    eye = AtOnce()
    assert [eye.body(data) for _ in range(4)] == [BODY] * 4


ODD = {
    "another status": sized(status=b"201 Created"),
    "an error": sized(status=b"500 Internal Server Error"),
    "closed afterwards": sized(more=b"connection: close\r\n"),
    "closed afterwards, said second": sized(more=b"connection: keep-alive\r\nconnection: close\r\n"),
    "closed afterwards, in a list": sized(more=b"connection: keep-alive, close\r\n"),
    "closed afterwards, says a proxy": sized(more=b"proxy-connection: close\r\n"),
    "zipped": sized(gzip.compress(BODY), b"content-encoding: gzip\r\n"),
    "not all of it": sized()[:-1],
    "head only": sized()[:40],
    "until the end of the connection": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
    "something after it": sized() + b"H",
    "two of them": sized() + sized(),
    "news before it": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + sized(),
    "HTTP/1.0": sized().replace(b"1.1", b"1.0", 1),
    "two lengths": sized(more=b"content-length: 2\r\n"),
    "length and chunks": chunked(BODY).replace(b"\r\n\r\n", b"\r\ncontent-length: 3\r\n\r\n", 1),
    "no HTTP": b"<html>",
    "chunks and more": chunked(BODY) + b"x",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", ODD)
def test_anything_else_is_left_to_the_reader(name: str) -> None:
    eye = AtOnce()
    assert eye.body(ODD[name]) is None
    # and does not spoil what comes next
    assert eye.body(sized()) == BODY


def test_a_provider_that_always_answers_in_pieces_is_not_asked_again() -> None:
    eye = AtOnce()
    for _ in range(MAX_MISSES):
        assert eye.body(sized()[:-1]) is None
    assert eye.body(sized()) is None
    fresh = AtOnce()
    for _ in range(MAX_MISSES * 2):
        assert fresh.body(sized()[:-1]) is None
        assert fresh.body(sized()) == BODY


LINES = st.sampled_from([
    b"connection: keep-alive\r\n", b"Connection: close\r\n", b"content-encoding: gzip\r\n", b"x-content-encoding: no\r\n",
    b"transfer-encoding: chunked\r\n", b"content-length: 23\r\n", b"bad line\r\n", b"x: \0\r\n", b"x: a\r\n  folded\r\n", b"\r\n",
    b"proxy-connection: close\r\n", b"X-A: \xff\r\n", b"upgrade: h2c\r\n",
])  # fmt: skip


@given(st.lists(LINES, max_size=3), st.sampled_from([BODY, b"", b"\x1f\x8b", b"x" * 300]), st.data())
def test_whatever_is_recognised_the_reader_reads_alike(lines: list[bytes], body: bytes, data: st.DataObject) -> None:
    sent = data.draw(st.sampled_from([sized(body, b"".join(lines)), chunked(body) if body else sized(), chunked(BODY, BODY)]))
    at = data.draw(st.integers(0, len(sent)))
    cut = data.draw(st.integers(at, min(len(sent), at + 4)))
    middle = data.draw(st.sampled_from([b"", b"\r\n", b"\n", b"0", b" ", b"\0", b"5\r\n", sent]))
    sent = sent[:at] + middle + sent[cut:]
    found = AtOnce().body(sent)
    if found is not None:
        reader = read(sent)
        assert reader.head is not None and reader.head.status == 200
        assert reader.head.headers.get("content-encoding") is None
        if reader.failure is not None:  # compressed without saying so: such a body is no answer to anybody
            assert found.startswith(b"\x1f\x8b")
        else:
            assert reader.complete and reader.reusable
            assert reader.take() == found
