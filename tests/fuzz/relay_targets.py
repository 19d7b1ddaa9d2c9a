"""Fuzz targets of the engine's relays: what is forwarded as bytes is what a decoder makes of the stream."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from opentracy.core.jsonio import encode
from opentracy.core.relay import EncodingRelay, MessageFold
from opentracy.core.wire import Call, Chunk, Decoder, Failure, HttpHead, Relay, Target
from opentracy.providers import registry


class Asked:
    """What an answer has to be told of its request."""

    ts_ms = 1000
    trace_id = "f"


ASKED = Asked()
CALL = Call([{"role": "user", "content": "x"}], {}, True, created=1, fallback_id="f")
MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5", "gemini": "gemini/gemini-2.5-flash"}
TARGETS_OF = {name: registry.target(model, env={}, api_base="http://localhost") for name, model in MODELS.items()}


class Seen:
    """What a client sees of a stream, and its trace."""

    def __init__(self, chunks: list[Chunk], last: Chunk | None, failure: Failure | None, message: dict[str, Any]) -> None:
        fold = MessageFold()
        for chunk in chunks:
            fold.add(chunk)
        # who wrote an event decides which of the fields that say nothing stand in it
        self.told = [_known(_without_nulls(c)) for c in fold.choices()]
        # an event that goes by as bytes may bring a second of its own
        self.last = None if last is None else {**_without_nulls(last), "choices": list(map(_known, last["choices"])), "created": 0}
        self.failure = None if failure is None else (failure.kind, failure.code, failure.message)
        self.message = message

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def _known(choice: dict[str, Any]) -> dict[str, Any]:
    """Without fields nobody knows: who forwards an event after the finish leaves them there, a decoder moves them on."""
    return {k: v for k, v in choice.items() if k in ("index", "message", "delta", "finish_reason", "logprobs")}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def reads(data: bytes) -> tuple[list[list[bytes]], bytes]:
    """(reads of one or more pieces, all bytes): cut behind each event, and at other places as the first two bytes say."""
    if len(data) < 2:
        return [], b""
    raw = data[2:]
    cuts = {m.end() for m in re.finditer(b"\n\n", raw)} if data[0] & 1 else set()
    step = data[1] + 1
    cuts |= set(range(step, len(raw), step))
    found = [raw[a:b] for a, b in pairwise([0, *sorted(cuts - {len(raw)}), len(raw)]) if b > a]
    together = data[0] % 5 + 1
    return [found[at : at + together] for at in range(0, len(found), together)], raw


def _decoded(target: Target, raw: bytes) -> Seen:
    decoder = target.dialect.open_stream(CALL, target, HttpHead(200, {}))
    chunks = decoder.feed(raw)
    if not decoder.done and decoder.failure is None:
        chunks += decoder.close()
    last = chunks.pop() if chunks and decoder.failure is None else None
    fold = MessageFold()
    for chunk in chunks if last is None else (*chunks, last):
        fold.add(chunk)
    return Seen(_plain(chunks), None if last is None else _plain(last), decoder.failure, fold.message())


def _plain(value: Any) -> Any:
    return json.loads(encode(value))


def _events(out: bytes) -> list[Chunk]:
    assert not out or out.endswith(b"\n\n")
    found = [json.loads(line[6:]) for line in out.split(b"\n") if line]
    for chunk in found:  # a client reads each of these
        assert chunk["choices"] and isinstance(chunk["choices"][0]["delta"], dict)
    return found


def _relayed(name: str, data: bytes) -> None:
    """Decoded up to the first content, relayed from there."""
    target = TARGETS_OF[name]
    parts, raw = reads(data)
    decoder = target.dialect.open_stream(CALL, target, HttpHead(200, {}))
    shown: list[Chunk] = []
    while parts and not decoder.progress and not _over(decoder):
        shown += decoder.feed(b"".join(parts.pop(0)))
    if _over(decoder) or not parts:
        return  # nothing to relay
    open_relay: Callable[[Decoder, list[Chunk]], Relay] = getattr(target.dialect, "open_relay", EncodingRelay)
    relay = open_relay(decoder, list(shown))
    pending: Callable[[], bytes] = getattr(relay, "pending", bytes)
    out = pending()
    while parts and not relay.done and relay.failure is None:
        cut = parts.pop(0)
        out += relay.feed(b"".join(cut), cut)
    if not relay.done and relay.failure is None:
        out += relay.close()
    expected, failure = _decoded(target, raw), relay.failure
    last = None if relay.last is None else _plain(relay.last)
    assert Seen(_plain(shown) + _events(out), last, failure, relay.message()) == expected


def _over(decoder: Decoder) -> bool:
    return decoder.done or decoder.failure is not None


def relay_openai(data: bytes) -> None:
    """Any bytes as OpenAI's stream, through the relay."""
    _relayed("openai", data)


def relay_anthropic(data: bytes) -> None:
    """Any bytes as Anthropic's stream, through the relay."""
    _relayed("anthropic", data)


def relay_gemini(data: bytes) -> None:
    """Any bytes as Google's stream, through the relay that encodes every chunk."""
    _relayed("gemini", data)


def forwarded(data: bytes) -> None:
    """A stream without a decoder, up to what is odd in it."""
    target = TARGETS_OF["openai"]
    parts, raw = reads(data)
    forwarding = target.dialect.forwarding(target)  # type: ignore[attr-defined]
    stream, held, out = forwarding.stream(HttpHead(200, {}), ASKED), b"", b""
    while parts and not out:
        held += b"".join(parts.pop(0))
        opening = stream.open(held)
        if opening is None:
            return
        out = opening
    if not out:
        return
    while parts and not stream.odd and not stream.done:
        cut = parts.pop(0)
        out += stream.feed(b"".join(cut), cut)
    if stream.done:
        message = json.loads(stream.response())["choices"][0]["message"]
        seen = Seen(_events(out), _plain(stream.last()), None, message)
    else:
        decoder, _, relay = stream.go_on(CALL, target, {})
        out += relay.pending()
        while parts and not relay.done and relay.failure is None:
            cut = parts.pop(0)
            out += relay.feed(b"".join(cut), cut)
        if not relay.done and relay.failure is None:
            out += relay.close()
        seen = Seen(_events(out), None if relay.last is None else _plain(relay.last), decoder.failure, relay.message())
    assert seen == _decoded(target, raw)


def _openai(*deltas: bytes, end: bytes = b"") -> bytes:
    front = b'data: {"id":"c","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":'
    events = [front + delta + b',"finish_reason":null}]}\n\n' for delta in deltas]
    return b"".join(events) + end


_FINISH = _openai(b"{}").replace(b"null", b'"stop"')
_COUNTED = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":5,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\ndata: [DONE]\n\n'
)
_HEAD = b'{"role":"assistant","content":""}'
_STREAM = _openai(_HEAD, b'{"content":"a"}', b'{"content":"b\\n"}', b'{"content":"\xc3\xa9"}', end=_FINISH + _COUNTED)
_ODD = _openai(
    _HEAD, b'{"content":"a"}', b'{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}',
    b'{"content":"x","refusal":"no"}', b'{"reasoning_content":"r"}', b'{"role":"assistant","content":"z"}', end=_FINISH,
)  # fmt: skip


def _claude(*items: bytes) -> bytes:
    return b"".join(b"event: x\ndata: %b\n\n" % item for item in items).replace(b"event: x", b"event: content_block_delta")


def _words(text: bytes, index: int = 0) -> bytes:
    return b'{"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":"%b"}}' % (index, text)


_CLAUDE = _claude(
    b'{"type":"message_start","message":{"id":"m","model":"n","usage":{"input_tokens":1}}}',
    b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}', _words(b"a"), _words(b"b\\n"),
    _words(b"\xc3\xa9"), _words(b"c") + b"  ", _words(b""), b'{"type":"content_block_stop","index":0}',
    b'{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}',
    b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}',
    b'{"type":"content_block_stop","index":1}', _words(b"d", 2),
    b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}', b'{"type":"message_stop"}',
)  # fmt: skip
_GOOGLE = b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}]}%b}],"usageMetadata":{"promptTokenCount":1}}\r\n\r\n'

RELAY_TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f for f in (relay_openai, relay_anthropic, relay_gemini, forwarded)
}
RELAY_SEEDS: dict[str, list[bytes]] = {
    "relay_openai": [b"\x01\xff" + _STREAM, b"\x04\x20" + _ODD, b"\x03\xff" + _STREAM.replace(b"\n", b"\r\n")],
    "relay_anthropic": [b"\x01\xff" + _CLAUDE, b"\x04\x20" + _CLAUDE, b"\x03\xff" + _CLAUDE.replace(b"\n", b"\r\n")],
    "relay_gemini": [b"\x01\xff" + _GOOGLE % b"" * 3 + _GOOGLE % b',"finishReason":"STOP"', b"\x00\x09" + _GOOGLE % b""],
    "forwarded": [b"\x01\xff" + _STREAM, b"\x04\x20" + _STREAM, b"\x03\xff" + _ODD, b"\x05\xff" + _STREAM[:-40]],
}
