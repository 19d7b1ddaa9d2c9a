"""Fuzz targets of HTTP/1.1: the client's reader of answers, the engine's reader of requests, and compressed bodies."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from splitting import pieces

from opentracy.engine.exchange import Exchange
from opentracy.engine.http import Connection
from opentracy.engine.server import HttpLimits
from opentracy.transport.at_once import AtOnce
from opentracy.transport.encoding import Inflater
from opentracy.transport.http1 import ResponseReader

MAX_BODY = 512  # small enough for an input to reach it


def http_answer(data: bytes) -> None:
    """Any split gives the same answer and the same verdict; what is recognised at once the reader reads alike."""
    if len(data) < 2:
        return
    stream, ended = bool(data[0] & 1), bool(data[0] & 2)
    parts, body = pieces(data[1:])
    split, whole = _read(parts, stream, ended), _read([body], stream, ended)
    if whole.reusable and not split.reusable and body.endswith((b"\r", b"\n")):
        # an empty line behind an answer is passed over where it comes with it; alone it makes us careful
        assert _read([body[:-1]], stream, ended=False).complete
        split.reusable = True
    assert _answer(split) == _answer(whole)
    assert not (whole.complete and whole.failure is not None)
    assert whole.failure is None or whole.failure.kind not in ("dns", "refused", "timeout")
    found = AtOnce().body(body)
    if found is not None and not ended and not stream and whole.failure is None:
        assert whole.complete and whole.reusable
        assert whole.peek() == found
    elif found is not None and whole.failure is not None:  # compressed without saying so, or larger than allowed
        assert found.startswith(b"\x1f\x8b") or len(found) > MAX_BODY
    if whole.complete and whole.reusable:  # then another answer may follow, and is read as if it were the first
        whole.take()
        whole.start(stream=False)
        whole.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        assert whole.complete and whole.take() == b"ok"


def _read(parts: list[bytes], stream: bool, ended: bool) -> ResponseReader:
    reader = ResponseReader(MAX_BODY)
    reader.start(stream=stream)
    for part in parts:
        reader.feed(part)
    if ended:
        reader.eof()
    return reader


def _answer(reader: ResponseReader) -> tuple[Any, ...]:
    head, failure = reader.head, reader.failure
    # of an answer that failed nothing is used, but for what came of a stream before
    body = reader.peek() if failure is None or reader.streaming else b""
    return (
        None if head is None else (head.status, dict(head.headers)), body, reader.complete, reader.reusable,
        None if failure is None else _seen(failure.kind, failure.retryable), reader.streaming,
    )  # fmt: skip


def _seen(kind: str, again: bool) -> Any:
    # of a body that is both too large and damaged, the split decides what is seen first
    return "unusable" if kind in ("encoding", "body_limit") else (kind, again)


class _Wire:
    """A transport that only remembers."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.write = self.sent.append

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def get_extra_info(self, name: str) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = pause_reading = resume_reading = close


def http_request(data: bytes) -> None:
    """Any split of what a client sends gives the same requests and the same refusal, whether heads were learnt or not."""
    parts, body = pieces(data)
    assert _serve(parts) == _serve([body])


def _serve(parts: list[bytes]) -> tuple[list[tuple[Any, ...]], bytes]:
    seen: list[tuple[Any, ...]] = []
    later: list[Callable[[], None]] = []

    def app(exchange: Exchange) -> None:
        headers = {n: v for n, v in exchange.headers.items() if n != b"content-length"}
        seen.append((exchange.method, exchange.path, exchange.query, exchange.body, headers, exchange.http11, exchange.keep_alive))
        exchange.respond(200, b"{}")

    server: Any = SimpleNamespace(
        app=app, limits=HttpLimits(max_body=MAX_BODY), loop=SimpleNamespace(call_soon=later.append), connections=set(), held=0,
        draining=False, now=0.0, common_headers=b"", error_body=lambda status, message: b"%d" % status,
    )  # fmt: skip
    connection, wire = Connection(server), _Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    for part in parts:
        connection.data_received(part)
        while later:
            later.pop(0)()
    last = wire.sent[-1].split(b"\r\n", 1)[0] if wire.sent and not wire.sent[-1].startswith(b"HTTP/1.1 100") else b""
    connection.connection_lost(None)
    assert server.held == 0 and not server.connections
    return seen, last


def inflate(data: bytes) -> None:
    """Any split of compressed bytes gives the same text and the same verdict, and never more than is allowed."""
    if not data:
        return
    limit = 64 << 10
    parts, body = pieces(data[1:])
    results = []
    for given in (parts, [body]):
        inflater = Inflater(deflate=bool(data[0] & 1))
        text = b"".join(inflater.feed(part, limit) for part in given if inflater.failure is None)
        text += inflater.close()
        results.append((text if inflater.failure is None else b"", inflater.failure is None))
        assert len(text) <= limit or inflater.failure is not None
    assert results[0] == results[1]  # which of two things wrong with it is seen first may depend on the split


_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_ZIPPED = gzip.compress(b'{"a":1}')
_POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"

HTTP_TARGETS: dict[str, Callable[[bytes], None]] = {f.__name__: f for f in (http_answer, http_request, inflate)}
HTTP_SEEDS: dict[str, list[bytes]] = {
    "http_answer": [
        b"\x00\x04" + _OK + b"Content-Length: 7\r\n\r\n" + b'{"a":1}',
        b"\x01\x06" + _OK + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\ndata:\r\n2\r\n\n\n\r\n0\r\nx-t: 1\r\n\r\n",
        b"\x02\x02" + _OK + b"Connection: close\r\n\r\n" + b'{"a":1}',
        b"\x00\x07HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nX-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"\x00\x08" + _OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(_ZIPPED), _ZIPPED),
        b"\x01\x00" + _OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(_ZIPPED), _ZIPPED),
        b"\x03\x05HTTP/1.0 200 OK\r\nproxy-connection: close\r\n\r\nabc",
        b"\x00\x01" + _OK + b"Content-Length: %d\r\n\r\n%b" % (len(_ZIPPED), _ZIPPED),
    ],
    "http_request": [
        b"\x05" + (_POST + b"Content-Length: 2\r\n\r\n{}") * 3,
        b"\x10" + _POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: y\r\n\r\nGET /health?a=b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x03" + _POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x08GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x02" + _POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n1GET http://x/ HTTP/1.1\r\n\r\n",
        b"\x0c" + _POST + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n1rest",
    ],
    "inflate": [
        b"\x00\x03" + _ZIPPED, b"\x00\x01" + _ZIPPED * 2, b"\x01\x02" + zlib.compress(b"abc" * 40), b"\x01\x00" + zlib.compress(b"abc")[2:-4],
        b"\x00\x04" + gzip.compress(_ZIPPED), b"\x00\x05" + gzip.compress(b"\0" * 70_000),
    ],
}  # fmt: skip
