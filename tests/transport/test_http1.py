"""The HTTP/1.1 codec, fed from memory: any split gives the same answer, and a cut one is never complete."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentracy.core.wire import HttpRequest
from opentracy.transport.http1 import MAX_BODY, MAX_HEAD, ResponseReader, encode_request


def fed(data: bytes, cuts: list[int] | None = None, *, stream: bool = False, eof: bool = True) -> ResponseReader:
    reader = ResponseReader()
    reader.start(stream=stream)
    start = 0
    for cut in [*sorted(cuts or ()), len(data)]:
        if data[start:cut]:
            reader.feed(data[start:cut])
        start = cut
    if eof:
        reader.eof()
    return reader


def framed(body: bytes, how: str, pieces: int = 3) -> bytes:
    """A 200 with this body: `length`, `chunked`, or `close` (ended by the end of the connection)."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: 1\r\nx-a: 2\r\n"
    if how == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if how == "close":
        return head + b"Connection: close\r\n\r\n" + body
    step = max(1, len(body) // pieces)
    parts = [body[i : i + step] for i in range(0, len(body), step)]
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


bodies = st.binary(max_size=200).filter(lambda b: not b.startswith(b"\x1f\x8b"))


@given(bodies, st.sampled_from(["length", "chunked", "close"]), st.lists(st.integers(0, 400), max_size=10), st.booleans())
def test_any_split_gives_the_same_answer(body: bytes, how: str, cuts: list[int], stream: bool) -> None:
    data = framed(body, how)
    reader = fed(data, [min(c, len(data)) for c in cuts], stream=stream)
    assert reader.failure is None
    assert reader.complete
    assert reader.head is not None
    assert reader.head.headers["x-a"] == "1, 2"
    assert reader.take() == body


def test_ten_thousand_cuts_and_none_is_complete() -> None:
    chance = random.Random(7)
    body = b'{"choices":[{"message":{"content":"complete looking"}}]}'
    whole = {(how, zipped): framed(gzip.compress(body) if zipped else body, how) for how in ("length", "chunked") for zipped in (0, 1)}
    for (how, zipped), data in list(whole.items()):
        if zipped:
            whole[how, zipped] = data.replace(b"X-A: 1", b"Content-Encoding: gzip", 1)
    for _ in range(10_000):
        data = chance.choice(list(whole.values()))
        cut = chance.randrange(len(data))
        reader = fed(data[:cut], [chance.randrange(cut + 1)])
        assert not reader.complete
        assert reader.failure is not None
        assert reader.failure.kind in ("eof", "truncated", "encoding")
        assert reader.failure.retryable


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"HTTP/1.1 abc OK\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 0 OK\r\nContent-Length: 0\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", "bad_response"),
        (b"\x00\x01SSH-2.0-nope\r\n\r\n", "bad_response"),
        (b"<html>no status line</html>", "bad_response"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\nnot a chunk\r\n", "truncated"),
        (b"HTTP/1.1 103 Early\r\n\r\n" * 100, "bad_response"),
        (b"HTTP/1.1 199 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + framed(b"{}", "length"), "bad_response"),
        (b"HTTP/1.1 199 X\r\nContent-Length: 2\r\n\r\n{}" + framed(b"{}", "length"), "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nhi", "encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), "body_limit"),
        (b"", "eof"),
        (b"HTTP/1.1 20", "eof"),
    ],
)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_broken_answers(data: bytes, kind: str, one_by_one: bool) -> None:
    reader = fed(data, list(range(len(data))) if one_by_one else None)
    assert reader.failure is not None
    assert reader.failure.kind == kind
    assert not reader.complete
    assert not reader.reusable


def test_a_huge_head_is_refused_however_it_comes() -> None:
    line = b"X-%d: " + b"a" * 60_000 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(line % i for i in range(8))
    assert len(head) > MAX_HEAD
    reader = ResponseReader()
    reader.start(stream=False)
    for i in range(0, len(head), 1 << 16):
        reader.feed(head[i : i + (1 << 16)])
    assert reader.failure is not None
    assert reader.failure.kind == "header_limit"
    one_piece = fed(head + b"Content-Length: 0\r\n\r\n")
    assert one_piece.failure is not None
    assert one_piece.failure.kind == "header_limit"


def test_informational_answers_are_skipped() -> None:
    reader = fed(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 3 + framed(b"hi", "length"), eof=False)
    assert reader.complete
    assert reader.head is not None
    assert "link" not in reader.head.headers
    assert reader.take() == b"hi"


def test_one_reader_serves_answer_after_answer() -> None:
    reader = ResponseReader()
    for how in ("length", "chunked", "length"):
        reader.start(stream=False)
        reader.feed(framed(how.encode(), how))
        assert reader.complete
        assert reader.reusable
        assert reader.take() == how.encode()
    reader.start(stream=False)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
    assert reader.complete
    assert not reader.reusable


@pytest.mark.parametrize("more", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nx-smuggled: "])
@pytest.mark.parametrize("in_one_piece", [True, False])
def test_the_beginning_of_another_answer_is_no_beginning_of_the_next(more: bytes, in_one_piece: bool) -> None:
    reader = ResponseReader()
    reader.start(stream=False)
    for data in [framed(b"one", "length") + more] if in_one_piece else [framed(b"one", "length"), more]:
        reader.feed(data)
    assert reader.complete
    assert not reader.reusable


@pytest.mark.parametrize("in_one_piece", [True, False])
def test_what_follows_an_answer_spoils_the_connection_but_not_the_answer(in_one_piece: bool) -> None:
    reader = ResponseReader()
    reader.start(stream=False)
    first, second = framed(b"one", "length"), framed(b"two", "length")
    for data in [first + second] if in_one_piece else [first, second]:
        reader.feed(data)
    assert reader.complete
    assert reader.take() == b"one"
    assert not reader.reusable


def zipped(data: bytes, name: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (name.encode(), len(data), data)


def raw_deflate(data: bytes) -> bytes:
    z = zlib.compressobj(wbits=-15)
    return z.compress(data) + z.flush()


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["gzip", "x-gzip", "deflate", "raw", "identity"]), st.data())
def test_encodings_are_undone(body: bytes, name: str, data: st.DataObject) -> None:
    if body.startswith(b"\x1f\x8b"):
        return
    coded = {"deflate": zlib.compress, "raw": raw_deflate, "identity": bytes}.get(name, gzip.compress)(body)
    whole = zipped(coded, "deflate" if name == "raw" else name)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=6))
    reader = fed(whole, cuts)
    assert reader.failure is None
    assert reader.take() == body


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_what_is_wrong_with_a_body_does_not_depend_on_how_it_comes(step: int) -> None:
    bad = {
        "unlabelled": framed(gzip.compress(b"x"), "length"), "twice": zipped(gzip.compress(gzip.compress(b"x")), "gzip"),
        "no zlib": zipped(b"\x78\x9c" + raw_deflate(b"x" * 50), "deflate"), "damaged": zipped(gzip.compress(b"x")[:-5] + b"nothing", "gzip"),
    }  # fmt: skip
    for name, data in bad.items():
        reader = fed(data, list(range(0, len(data), step)))
        assert reader.failure is not None, name
        assert (reader.failure.kind, reader.complete, reader.reusable) == ("encoding", False, False), name


@pytest.mark.parametrize("zip_it", [bytes, gzip.compress, zlib.compress, raw_deflate])
def test_a_body_may_begin_half_like_gzip(zip_it: Callable[[bytes], bytes]) -> None:
    name = {bytes: "identity", gzip.compress: "gzip"}.get(zip_it, "deflate")
    for body in (b"\x1f", b"\x1f\x1f", b"\x1f{}"):
        data = zipped(zip_it(body), name)
        for step in (1, 1000):
            reader = fed(data, list(range(0, len(data), step)))
            assert (reader.failure, reader.complete, reader.take()) == (None, True, body)


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_of_a_damaged_stream_all_that_stands_before_the_damage_is_good(step: int) -> None:
    text = b"".join(b"data: %d\n\n" % n for n in range(300))
    z = zlib.compressobj(wbits=31)
    first = z.compress(text) + z.flush(zlib.Z_SYNC_FLUSH)
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + first + b"\xff" * 20
    reader = fed(data, list(range(0, len(data), step)), stream=True)
    assert reader.broken is None  # there is something to hand on first
    assert reader.take() == text
    assert reader.failure is not None
    assert reader.failure.kind == "encoding"
    assert not reader.reusable


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (zipped(b"\x1f\x8bnot gzip at all", "gzip"), "encoding"),
        (zipped(b"plain text", "gzip"), "encoding"),
        (zipped(gzip.compress(gzip.compress(b"twice")), "gzip"), "encoding"),
        (zipped(gzip.compress(b"cut" * 50)[:-9], "gzip"), "encoding"),
        (zipped(gzip.compress(b"x") + b"tail", "gzip"), "encoding"),
        (zipped(gzip.compress(b"x"), "identity"), "encoding"),
        (zipped(gzip.compress(b" " * (8 << 20)), "gzip"), "body_limit"),
        (framed(b" " * (MAX_BODY + 1), "chunked"), "body_limit"),
    ],
    ids=["not gzip", "plain", "twice", "cut", "tail", "unlabelled", "bomb", "huge"],
)
def test_damaged_or_swollen_bodies(data: bytes, kind: str) -> None:
    reader = fed(data)
    assert reader.failure is not None
    assert reader.failure.kind == kind
    assert reader.failure.retryable is (kind == "encoding")


def test_a_stream_may_be_longer_than_a_body() -> None:
    reader = ResponseReader()
    reader.start(stream=True)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert reader.streaming
    piece = b"100000\r\n" + b"d" * (1 << 20) + b"\r\n"
    for _ in range(40):
        reader.feed(piece)
        assert len(reader.take()) == 1 << 20
    assert reader.failure is None
    error = ResponseReader()
    error.start(stream=True)
    error.feed(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")
    assert not error.streaming
    assert error.complete


@settings(max_examples=200)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_no_bytes_raise(data: bytes, cuts: list[int]) -> None:
    fed(b"HTTP/1.1 200 OK\r\n" + data, cuts)
    fed(data, cuts)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.booleans(), st.binary(max_size=20)), max_size=20))
def test_a_kept_head_is_the_head(calls: list[tuple[str, bool, bytes]]) -> None:
    plain = {"content-type": "application/json", "authorization": "Bearer k"}
    fixed = MappingProxyType(plain)
    for target, stream, body in calls:
        kept, fresh = (HttpRequest("POST", "http://h/", headers, body) for headers in (fixed, plain))
        expected = encode_request(fresh, "h", f"/{target}", stream=stream)
        assert encode_request(kept, "h", f"/{target}", stream=stream) == expected


def test_requests() -> None:
    request = HttpRequest("POST", "http://h/v1", {"content-type": "application/json", "authorization": "Bearer k"}, b"{}")
    head, _, body = encode_request(request, "h:81", "/v1?x=1", stream=False).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[:2] == ["POST /v1?x=1 HTTP/1.1", "host: h:81"]
    assert "content-length: 2" in lines
    assert "authorization: Bearer k" in lines
    assert "accept-encoding: gzip, deflate" in lines
    assert body == b"{}"
    assert b"accept-encoding: identity" in encode_request(request, "h", "/", stream=True)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\rb", "a\0b", "€"])
def test_headers_stay_one_line_and_their_values_unsaid(value: str) -> None:
    request = HttpRequest("POST", "http://h/", {"authorization": f"Bearer {value}"}, b"")
    with pytest.raises(ValueError, match="authorization") as raised:
        encode_request(request, "h", "/", stream=False)
    assert "Bearer" not in str(raised.value)
    with pytest.raises(ValueError, match="path"):
        encode_request(HttpRequest("POST", "http://h/", {}, b""), "h", "/a\r\nb", stream=False)
