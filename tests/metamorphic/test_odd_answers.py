"""Answers with values where no provider should put them: an answer or a failure comes of it, never an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_wires import WIRES, BedrockWire
from test_any_answer import call, target

from opentracy.core.eventstream import EventStreamParser, encode_message
from opentracy.core.wire import Failure, HttpHead, HttpResponse

ODD: list[Any] = [None, True, -1, 1.5, 10**30, "", "x", [], {}, [None], [[]], ["x"], {"x": 1}, [{"text": 3}], {"type": []}]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(inner, (*path, key))
    return found


def damaged(data: st.DataObject, document: Any) -> Any:
    copy = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 2))):
        options = places(copy)
        if not options:
            break
        *way, last = data.draw(st.sampled_from(options))
        holder = copy
        for key in way:
            holder = holder[key]
        if isinstance(holder, dict) and data.draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = json.loads(json.dumps(data.draw(st.sampled_from(ODD))))
    return copy


def stream_with_damage(data: st.DataObject, wire: Any, raw: bytes) -> bytes:
    """The stream with one of its events damaged."""
    if isinstance(wire, BedrockWire):
        frames = list(EventStreamParser().feed(raw))
        hit = data.draw(st.integers(0, len(frames) - 1))
        return b"".join(
            encode_message(f.headers, json.dumps(damaged(data, json.loads(f.payload))).encode() if n == hit else f.payload)
            for n, f in enumerate(frames)
        )
    lines = raw.split(b"\n")
    events = [n for n, line in enumerate(lines) if line.startswith(b"data: {")]
    hit = data.draw(st.sampled_from(events))
    lines[hit] = b"data: " + json.dumps(damaged(data, json.loads(lines[hit][6:]))).encode()
    return b"\n".join(lines)


@settings(max_examples=40)
@given(st.data())
@pytest.mark.parametrize("wire", WIRES, ids=[w.model.partition("/")[0] for w in WIRES])
def test_odd_values_anywhere(wire: Any, data: st.DataObject) -> None:
    said, to = data.draw(wire.answers), target(wire.model)
    body = json.dumps(damaged(data, wire.plain(data.draw, said))).encode()
    found = to.dialect.parse_response(call(False), to, HttpResponse(200, {}, body))
    if not isinstance(found, Failure):
        json.dumps(found)
        for choice in found["choices"]:
            assert isinstance(choice["message"]["content"], (str, type(None)))
            assert isinstance(choice["finish_reason"], str)
            for made in choice["message"].get("tool_calls") or ():
                assert isinstance(made["id"], str) and made["id"]
    decoder = to.dialect.open_stream(call(True), to, HttpHead(200, {}))
    chunks = decoder.feed(stream_with_damage(data, wire, wire.stream(data.draw, said)))
    if not decoder.done:
        chunks += decoder.close()
    assert (decoder.failure is None) == any(c["choices"][0]["finish_reason"] for c in chunks)
    for chunk in chunks:
        json.dumps(chunk)
        assert chunk["choices"]
