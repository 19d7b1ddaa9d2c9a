"""What is fuzzed: parsers and decoders, each with the promises that hold for any bytes whatever. Here those of streams;
HTTP, relays and whole answers have modules of their own.

A target takes bytes and raises (AssertionError, or whatever escapes) when a promise is broken. `run.py` drives them
with coverage guidance; `test_fuzz_targets.py` runs them over their seeds in the ordinary suite, so that they stay alive.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

if "atheris" in sys.modules:  # started by run.py: the code under test is imported instrumented
    import atheris

    with atheris.instrument_imports(include=["opentracy.core", "opentracy.providers", "opentracy.transport", "opentracy.engine"]):
        import opentracy.core.eventstream
        import opentracy.core.sse
        import opentracy.engine.http
        import opentracy.providers.anthropic
        import opentracy.providers.bedrock
        import opentracy.providers.cohere
        import opentracy.providers.gemini
        import opentracy.providers.openai
        import opentracy.transport.at_once
        import opentracy.transport.http1  # noqa: F401

from answer_targets import ANSWER_SEEDS, ANSWER_TARGETS
from http_targets import HTTP_SEEDS, HTTP_TARGETS
from relay_targets import RELAY_SEEDS, RELAY_TARGETS
from splitting import pieces

from opentracy.core import jsonio
from opentracy.core.eventstream import EventStreamParser, encode_message
from opentracy.core.sse import SseParser
from opentracy.core.wire import Call, Chunk, Decoder, HttpHead, Target
from opentracy.providers import registry

CALL = Call([{"role": "user", "content": "x"}], {}, created=1, fallback_id="f")
_KINDS = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "odd")


def sse(data: bytes) -> None:
    """Any split gives the same events; nothing raises; no data is invented."""
    parts, body = pieces(data)
    split, whole = SseParser(), SseParser()
    got = [e for part in parts for e in split.feed(part)] + split.close()
    expected = whole.feed(body) + whole.close()
    assert got == expected
    assert sum(len(e.data) for e in got) <= len(body)


def eventstream(data: bytes) -> None:
    """Any split gives the same messages and the same verdict; payloads are parts of the input."""
    parts, body = pieces(data)
    split, whole = EventStreamParser(), EventStreamParser()
    got = [m for part in parts for m in split.feed(part)]
    assert got == whole.feed(body)
    assert split.error == whole.error
    assert all(m.payload in body for m in got)


def converse(data: bytes) -> None:
    """Well-framed events with any payload: the grammar of chunks holds, or a failure is named."""
    stream = b"".join(
        encode_message({":message-type": "event", ":event-type": _KINDS[line[0] % len(_KINDS)]}, line[1:])
        for line in data.split(b"\n")
        if line
    )
    _decoded("bedrock/amazon.nova-lite-v1:0", stream)


def cohere(data: bytes) -> None:
    """Any bytes as Cohere's event stream."""
    _decoded("cohere/command-a-03-2025", data)


def anthropic(data: bytes) -> None:
    """Any bytes as Anthropic's event stream."""
    _decoded("anthropic/claude-sonnet-4-5", data)


def gemini(data: bytes) -> None:
    """Any bytes as Google's event stream."""
    _decoded("gemini/gemini-2.5-flash", data)


def openai(data: bytes) -> None:
    """Any bytes as OpenAI's event stream."""
    _decoded("openai/gpt-4o-mini", data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    **{f.__name__: f for f in (sse, eventstream, converse, cohere, anthropic, gemini, openai)},
    **HTTP_TARGETS, **RELAY_TARGETS, **ANSWER_TARGETS,
}  # fmt: skip

_TOOL = b'\x01{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"a","name":"f"}}}\n\x02{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{}"}}}'
SEEDS: dict[str, list[bytes]] = {
    "sse": [b"\x00data: a\n\n", b"\x03: c\r\nevent: x\rdata:1\ndata: 2\r\n\r\n", b"\x01\xef\xbb\xbfdata: \xc3\xa9", b"\x05data\n\n\n\nid: 1\n"],
    "eventstream": [b"\x07" + encode_message({":event-type": "a"}, b"{}") * 2, b"\x00" + encode_message({}, b"")[:-1] + b"\x01"],
    "converse": [
        b'\x00{"role":"assistant"}\n\x02{"contentBlockIndex":0,"delta":{"text":"hi"}}\n\x03{}\n\x04{"stopReason":"end_turn"}\n\x05{"usage":{"inputTokens":1}}',
        b'\x02{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"a","signature":"s"}}}\n' + _TOOL + b'\n\x04{"stopReason":"tool_use"}',
    ],
    "cohere": [
        b'data: {"type":"message-start","id":"c"}\n\ndata: {"type":"content-delta","delta":{"message":{"content":{"text":"hi"}}}}\n\ndata: {"type":"message-end","delta":{"finish_reason":"COMPLETE"}}\n\n',
        b'data: {"type":"content-delta","delta":{"message":{"content":{"text":"a"}}}}\n\ndata: {"type":"message-start","id":"c"}\n\n'
        b'data: {"type":"content-delta","delta":{"message":{"content":{"text":"b"}}}}\n\ndata: {"type":"message-end","delta":{"finish_reason":"COMPLETE"}}\n\n',
        b'data: {"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"a","function":{"name":"f","arguments":"nu"}}}}}\n\n',
    ],
    "anthropic": [
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        # found by fuzzing: a message that is opened a second time, after its first words, and is called otherwise there
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
        b'data: {"type":"message_start","message":{"id":"m","model":"n"}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
    ],
    "gemini": [b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1}}\r\n\r\n'],
    "openai": [
        b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}]}\n\n'
        b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    ],
    **HTTP_SEEDS, **RELAY_SEEDS, **ANSWER_SEEDS,
}  # fmt: skip


def _decoded(model: str, data: bytes) -> None:
    """In one piece and in small ones: the same chunks, well formed, and either done or a failure at the end."""
    target = registry.target(model, env={}, api_base="http://localhost")
    whole, end = _run(target, [data])
    split, other = _run(target, [data[i : i + 5] for i in range(0, len(data), 5)])
    assert _plain(whole) == _plain(split)
    assert (end.failure is None) == (other.failure is None)
    assert end.done or end.failure is not None or whole
    started: set[tuple[int, int]] = set()
    for number, chunk in enumerate(whole):
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["choices"], "no choices"
        assert (chunk["id"], chunk["model"]) == (whole[0]["id"], whole[0]["model"])
        assert "usage" not in chunk or chunk["usage"] is None or number == len(whole) - 1
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                key = (choice["index"], call["index"])
                assert key in started or call["index"] == sum(k[0] == choice["index"] for k in started)
                started.add(key)
        jsonio.encode(chunk)


def _run(target: Target, parts: list[bytes]) -> tuple[list[Chunk], Decoder]:
    decoder = target.dialect.open_stream(CALL, target, HttpHead(200, {}))
    out: list[Chunk] = []
    for part in parts:
        out += decoder.feed(part)
        if decoder.done or decoder.failure is not None:
            return out, decoder
    return out + decoder.close(), decoder


def _plain(chunks: list[Chunk]) -> Any:
    return jsonio.encode(chunks)
