"""The engine's byte relay for Anthropic says exactly what the decoder says, however the bytes come."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from native_wire import decode, decoder, events
from test_anthropic_answers import SCENES, SONNET, TEXT, message, stream_of

from opentracy.core.fold import fold
from opentracy.core.wire import Chunk
from opentracy.providers.anthropic import DIALECT
from opentracy.providers.anthropic_relay import AnthropicRelay


def relayed(raw: bytes, first: int, cuts: list[int], at_once: int = 1) -> tuple[list[Chunk], AnthropicRelay]:
    """Chunks of a stream whose first `first` bytes were decoded and whose rest was relayed in pieces, so many of them
    with one read; where several are, they are cut behind each event as well."""
    d = decoder(SONNET)
    shown = d.feed(raw[:first])
    relay = DIALECT.open_relay(d, list(shown))
    assert isinstance(relay, AnthropicRelay)
    rest = raw[first:]
    bounds = [0, *sorted(c % (len(rest) + 1) for c in cuts), len(rest)]
    if at_once > 1:
        bounds = sorted({*bounds, *(m.end() for m in re.finditer(b"\n\n", rest))})
    pieces = [rest[a:b] for a, b in pairwise(bounds)]
    reads = [pieces[at : at + at_once] for at in range(0, len(pieces), at_once)]
    out = b"".join(relay.feed(b"".join(cut), cut) for cut in reads)
    if not relay.done and relay.failure is None:
        out += relay.close()
    assert out == b"" or out.endswith(b"\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in out.decode().split("\n\n") if event]
    return shown + chunks, relay


@given(st.data())
def test_relay_and_decoder_say_the_same(data: st.DataObject) -> None:
    scene = data.draw(st.sampled_from(sorted(SCENES)))
    raw = events(stream_of(SCENES[scene]))
    if data.draw(st.booleans()):
        raw = raw.replace(b"\n", b"\r\n")
    committed = events(stream_of(SCENES[scene])[:5])
    first = len(committed) + data.draw(st.integers(0, 40)) if len(SCENES[scene]["content"]) else len(raw)
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=12))
    chunks, relay = relayed(raw, first, cuts, data.draw(st.integers(1, 4)))
    whole, _ = decode(SONNET, [raw])
    assert relay.failure is None
    if relay.last is not None:
        chunks.append(relay.last)
    assert chunks == whole
    assert relay.done
    assert relay.message() == fold(whole)["choices"][0]["message"]


@given(st.text(min_size=1), st.booleans())
def test_any_text_passes_unchanged(text: str, ascii_only: bool) -> None:
    item = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    event = f"event: content_block_delta\ndata: {json.dumps(item, ensure_ascii=ascii_only)}\n\n"
    raw = event.encode("utf-8", "surrogatepass")
    head = stream_of(SCENES["text"])
    start = events(head[:4])
    chunks, relay = relayed(start + raw + raw + events(head[-3:]), len(start), [])
    assert relay.failure is None
    assert [c["choices"][0]["delta"]["content"] for c in chunks[-2:]] == [text, text]
    assert relay.message()["content"] == TEXT["text"][:3] + text + text


def test_text_takes_the_short_way() -> None:
    raw = events(stream_of(message([{"type": "text", "text": "abcdef" * 20}])))
    d = decoder(SONNET)
    first = raw.index(b"event: content_block_delta", raw.index(b"text_delta"))
    relay = DIALECT.open_relay(d, d.feed(raw[:first]))
    seen: list[bytes] = []
    handle = d.event
    d.event = lambda data: (seen.append(data), handle(data))  # type: ignore[method-assign,func-returns-value,attr-defined]
    relay.feed(raw[first:])
    assert [json.loads(e)["type"] for e in seen] == ["content_block_stop", "message_delta", "message_stop"]
    assert relay.progress == 41


def test_broken_text_is_left_to_the_decoder() -> None:
    head = events(stream_of(SCENES["text"])[:4])
    event = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}\n\n'
    chunks, relay = relayed(head + event % b"a\xffb" + events(stream_of(SCENES["text"])[-3:]), len(head), [])
    assert relay.failure is None
    assert chunks[-1]["choices"][0]["delta"]["content"] == "a\ufffdb"
    _, relay = relayed(head + event % b'a"b', len(head), [])
    assert relay.failure is not None
    assert relay.failure.code == "bad_event"


def test_an_error_and_an_early_end_reach_the_engine() -> None:
    items: list[dict[str, Any]] = stream_of(SCENES["text"])[:6]
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    raw = events([*items, error])
    chunks, relay = relayed(raw, len(events(items[:4])), [])
    assert relay.failure is not None
    assert relay.failure.status == 529
    assert relay.last is None
    assert fold(chunks)["choices"][0]["message"] == relay.message()
    _, relay = relayed(events(items), len(events(items[:4])), [])
    assert relay.failure is not None
    assert relay.failure.code == "stream_truncated"


PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(lambda t: json.dumps(t, ensure_ascii=False).encode()[1:-1]),
    st.text(max_size=6).map(lambda t: json.dumps(t).encode()[1:-1]),
    st.lists(st.sampled_from([b"a", b"\\n", b"\\\\", b'\\"', b"}", b" ", b"\xc3\xa9", b"|", b'"}}']), max_size=4).map(b"".join),
)
SPACES = st.integers(0, 3).map(lambda n: b" " * n)


@given(st.lists(st.tuples(PIECES, SPACES, SPACES), min_size=1, max_size=9), st.lists(st.integers(0, 3000), max_size=8),
       st.integers(1, 4))  # fmt: skip
def test_events_that_differ_in_text_and_in_the_spaces_behind_it(
    pieces: list[tuple[bytes, bytes, bytes]], cuts: list[int], at_once: int
) -> None:
    """The API fills its events up with spaces. A text may be broken, or look like the end of an event."""
    event = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}%b}%b\n\n'
    head, end = events(stream_of(SCENES["text"])[:4]), events(stream_of(SCENES["text"])[-3:])
    raw = head + b"".join(event % piece for piece in pieces) + end
    d = decoder(SONNET)
    whole = d.feed(raw) + d.close()
    chunks, relay = relayed(raw, len(head), cuts, at_once)
    if relay.last is not None:
        chunks.append(relay.last)
    assert (relay.failure is None) == (d.failure is None)
    if d.failure is None:
        assert chunks == whole
        assert relay.message() == fold(whole)["choices"][0]["message"]


def test_a_block_of_texts_is_taken_at_once() -> None:
    raw = events(stream_of(message([{"type": "text", "text": "abcdef" * 20}])))
    d = decoder(SONNET)
    first = raw.index(b"event: content_block_delta", raw.index(b"text_delta"))
    relay = DIALECT.open_relay(d, d.feed(raw[:first]))
    looked_at: list[bytes] = []
    look = relay._one
    relay_type = type(relay)
    try:
        relay_type._one = lambda self, raw, out: (looked_at.append(raw), look(raw, out))  # type: ignore[method-assign,assignment]
        relay.feed(raw[first:])
    finally:
        relay_type._one = look.__func__  # type: ignore[method-assign]
    assert len(looked_at) == 4  # the first text, and the three events of the end
    assert relay.progress == 41
