"""Heads that a client repeats: what is recognised is exactly what the parser would have said."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.engine.exchange import Exchange
from opentracy.engine.heads import Head, learn
from opentracy.engine.http import Connection
from opentracy.engine.server import HttpServer

TOKENS = st.text("abcXYZ-", min_size=1, max_size=8)
HEADERS = st.lists(st.tuples(TOKENS, st.text("ab :,;=1", max_size=12)), max_size=4)
LENGTH_NAMES = st.sampled_from(["content-length", "Content-Length", "CONTENT-LENGTH"])


def request(headers: list[tuple[str, str]], name: str, body: bytes, at: int = 0) -> bytes:
    lines = [f"x-{n}: {v}" for n, v in headers]
    lines.insert(min(at, len(lines)), f"{name}: {len(body)}")
    return "\r\n".join(["POST /v1/x?q HTTP/1.1", "Host: h", *lines, "", ""]).encode() + body


class Parsed:
    """All messages that httptools finds, or none when it refuses."""

    def __init__(self, data: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.messages = 0
        self.headers_done = 0
        try:
            httptools.HttpRequestParser(self).feed_data(data)
        except httptools.HttpParserError:
            self.messages = -1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.headers_done += 1

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.messages += 1


def learned(data: bytes) -> Head:
    parsed = Parsed(data)
    assert parsed.messages == 1
    head = learn(data, "POST", b"/v1/x", b"q", parsed.headers)
    assert head is not None
    return head


@given(HEADERS, LENGTH_NAMES, st.integers(0, 4), st.binary(max_size=30), st.binary(max_size=3000))
def test_the_same_head_with_another_body(
    headers: list[tuple[str, str]], name: str, at: int, first: bytes, second: bytes
) -> None:
    head = learned(request(headers, name, first, at))
    assert head.body_of(request(headers, name, second, at)) == second
    assert b"content-length" not in head.headers


@given(HEADERS, st.binary(max_size=30), st.data())
def test_whatever_is_recognised_the_parser_reads_alike(
    headers: list[tuple[str, str]], body: bytes, data: st.DataObject
) -> None:
    sent = request(headers, "content-length", body)
    head = learned(sent)
    at = data.draw(st.integers(0, len(sent)))
    cut = data.draw(st.integers(at, min(len(sent), at + 5)))
    other = sent[:at] + data.draw(st.sampled_from([b"", b"\r\n", b"0", b"-1", b" ", b"\0", b"x: y\r\n", sent])) + sent[cut:]
    found = head.body_of(other)
    if found is None:
        return
    parsed = Parsed(other)
    assert (parsed.messages, parsed.headers_done, parsed.body) == (1, 1, found)
    assert {n: v for n, v in parsed.headers.items() if n != b"content-length"} == head.headers


@pytest.mark.parametrize(
    "extra", [{b"expect": b"100-continue"}, {b"transfer-encoding": b"chunked"}, {b"upgrade": b"h2c"}]
)
def test_some_heads_are_never_remembered(extra: dict[bytes, bytes]) -> None:
    data = request([], "content-length", b"{}")
    assert learn(data, "POST", b"/", b"", {b"host": b"h"}) is not None
    assert learn(data, "POST", b"/", b"", {b"host": b"h", **extra}) is None
    assert learn(data, "GET", b"/", b"", {b"host": b"h"}) is None
    assert learn(data + b"x", "POST", b"/", b"", {b"host": b"h"}) is None


class Wire:
    """A transport that only remembers."""

    def __init__(self) -> None:
        self.sent = b""

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert high > low

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.sent += data


@given(st.lists(st.tuples(st.binary(max_size=40), st.sampled_from(["a", "b"])), max_size=8), st.lists(st.integers(1, 60)))
def test_a_connection_serves_the_same_whichever_way(sent: list[tuple[bytes, str]], cuts: list[int]) -> None:
    def serve(pieces: list[bytes]) -> list[tuple[Any, ...]]:
        seen = []

        def app(exchange: Exchange) -> None:
            headers = {n: v for n, v in exchange.headers.items() if n != b"content-length"}
            seen.append((exchange.method, exchange.path, exchange.query, exchange.body, headers, exchange.http11))
            exchange.respond(200, b"{}")

        async def run() -> None:
            server = HttpServer(app)
            connection = Connection(server)
            connection.connection_made(Wire())  # type: ignore[arg-type]
            for piece in pieces:
                connection.data_received(piece)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            connection.connection_lost(None)
            await server.close()

        asyncio.run(run())
        return seen

    wire = [request([("who", who)], "content-length", body) for body, who in sent]
    joined = b"".join(wire)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(joined[at : at + cut])
        at += cut
    whole = serve(wire)
    assert serve([piece for piece in (*pieces, joined[at:]) if piece]) == whole
    assert [entry[3] for entry in whole] == [body for body, _ in sent]
