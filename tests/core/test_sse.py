"""Server-sent events: the same events from any split of the bytes, and nothing that grows without bound."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.jsonio import BadJson, decode
from opentracy.core.sse import MAX_EVENT, Event, SseParser


def parse(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    parser, out, start = SseParser(), [], 0
    for cut in [*sorted(c % (len(data) + 1) for c in cuts or ()), len(data)]:
        out += parser.feed(data[start:cut])
        start = cut
    return out + parser.close()


def reference(data: bytes) -> list[Event]:
    """The standard's algorithm, line by line, with our one deviation (an event without its blank line counts)."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    out: list[Event] = []
    name, lines = b"", []
    for line in [*text.split(b"\n"), b""]:
        if not line:
            if lines:
                out.append(Event(name, b"\n".join(lines)))
            name, lines = b"", []
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value
    return out


pieces = st.sampled_from(
    [b"data", b"event", b"id", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"{}", b"\xe2\x80\xa8", b"x", b"\xef\xbb\xbf",
     b"data: a\n\n", b"retry: 3\n", b": ping\n\n", b"\x85", b"\x0b"]
)  # fmt: skip
streams = st.lists(pieces, max_size=30).map(b"".join)


@given(streams)
def test_as_the_standard_says(data: bytes) -> None:
    assert parse(data) == reference(data)


@given(streams, st.lists(st.integers(0, 10**6), max_size=12))
def test_any_split_gives_the_same(data: bytes, cuts: list[int]) -> None:
    assert parse(data, cuts) == parse(data)


@given(streams)
def test_one_byte_at_a_time(data: bytes) -> None:
    assert parse(data, list(range(len(data)))) == parse(data)


def test_the_usual_form() -> None:
    assert parse(b'data: {"a":1}\n\ndata: [DONE]\n\n') == [Event(b"", b'{"a":1}'), Event(b"", b"[DONE]")]
    assert parse(b"event: error\ndata: x\ndata: y\n\n") == [Event(b"error", b"x\ny")]


def test_an_endless_line_overflows_and_stops() -> None:
    parser = SseParser()
    for _ in range(MAX_EVENT // (1 << 20) + 2):
        assert parser.feed(b"a" * (1 << 20)) == []
    assert parser.overflow
    assert parser.feed(b"\n\ndata: x\n\n") == []
    assert parser.close() == []


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        ('{"a":"é"}'.encode("utf-16"), {"a": "é"}),
        ('{"a":1}'.encode("utf-16-le"), {"a": 1}),
        (b'{"a":"\xff"}', {"a": "�"}),
        (b'{"a":NaN,"b":-Infinity}', {"a": None, "b": None}),
    ],
)
def test_json_with_the_liberties_that_providers_take(data: bytes, value: object) -> None:
    assert decode(data) == value


@pytest.mark.parametrize(
    "data", [b"", b"{", b"<html>", b'{"a":1} x', b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10**6, b"[NaN", b"\xff\xfe\x00"]
)
def test_everything_else_is_bad_json(data: bytes) -> None:
    with pytest.raises(BadJson):
        decode(data)


@given(st.binary(max_size=200))
def test_decode_raises_nothing_else(data: bytes) -> None:
    with contextlib.suppress(BadJson):
        decode(data)


def _cost(raw: bytes) -> float:
    """Processor time of reading this in small pieces, in seconds."""
    parser, began = SseParser(), time.process_time()
    found = [e for at in range(0, len(raw), 512) for e in parser.feed(raw[at : at + 512])]
    assert len(found) == 1
    return time.process_time() - began


def test_an_event_of_many_lines_costs_about_what_one_of_a_long_line_does() -> None:
    """A hundred times as much where every piece joins all that came before."""
    size = 2 << 20
    one, many = b"data: " + b"x" * size + b"\n\n", b"data: xxxx\n" * (size // 11) + b"\n"
    assert min(_cost(many) for _ in range(3)) < 30 * max(min(_cost(one) for _ in range(3)), 0.005)


@given(st.lists(st.sampled_from([b"data: a", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"\xef\xbb\xbf"]), max_size=12), st.integers(1, 3))
def test_it_knows_when_an_event_has_just_ended(parts: list[bytes], step: int) -> None:
    parser, raw = SseParser(), b"".join(parts)
    for at in range(0, len(raw), step):
        parser.feed(raw[at : at + step])
    if parser.idle:  # whatever comes next begins an event
        assert parser.split(b"data: z\n\n") == b"data: z"
