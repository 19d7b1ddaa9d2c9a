"""Whatever a provider may say: its plain answer, its stream in any cut, and the facts themselves agree."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_wires import WIRES

from opentracy.core.fold import fold
from opentracy.core.wire import Call, Failure, HttpHead, HttpResponse, Target
from opentracy.providers import registry

NAMES = [w.model.partition("/")[0] for w in WIRES]
TOOLS = [{"type": "function", "function": {"name": n, "parameters": {"type": "object", "properties": {}}}} for n in ("weather", "now", "a_b-c")]


def target(model: str) -> Target:
    return registry.target(model, env={}, api_key="k-0123456789")


def call(stream: bool) -> Call:
    return Call([{"role": "user", "content": "q"}], {"tools": TOOLS}, stream=stream, created=1, fallback_id="f00d")


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """What a caller is told, in the words of `Answer.said`."""
    (choice,) = answer["choices"]
    message, usage = choice["message"], answer["usage"]
    calls = message.get("tool_calls") or []
    assert len({c["id"] for c in calls}) == len(calls)
    return {
        "content": message["content"] or "",  # no text is null or empty, as the provider likes it
        "reasoning": message.get("reasoning_content") or "",
        "calls": [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls],
        "finish": choice["finish_reason"],
        "usage": (usage["prompt_tokens"], usage["completion_tokens"], (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)),
    }


def plain(to: Target, document: Any) -> dict[str, Any]:
    found = to.dialect.parse_response(call(False), to, HttpResponse(200, {}, json.dumps(document).encode()))
    assert not isinstance(found, Failure), found
    return dict(found)


def streamed(to: Target, parts: Iterable[bytes]) -> list[dict[str, Any]]:
    decoder = to.dialect.open_stream(call(True), to, HttpHead(200, {}))
    chunks: list[dict[str, Any]] = []
    for part in parts:
        chunks += decoder.feed(part)
    if not decoder.done:
        chunks += decoder.close()
    assert decoder.failure is None, decoder.failure
    return chunks


def bytewise(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({c % (len(data) + 1) for c in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def check_grammar(chunks: list[dict[str, Any]]) -> None:
    assert len({c["id"] for c in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all(len(c["choices"]) == 1 for c in chunks)
    finishes = [n for n, c in enumerate(chunks) if c["choices"][0]["finish_reason"]]
    assert finishes == [len(chunks) - 1]
    assert [n for n, c in enumerate(chunks) if c.get("usage")] == finishes
    started = 0
    for chunk in chunks:
        for piece in chunk["choices"][0]["delta"].get("tool_calls") or ():
            if "id" in piece:
                assert piece["index"] == started and piece["function"]["name"]
                started += 1
            else:
                assert piece["index"] < started


@settings(max_examples=30)
@given(st.data())
@pytest.mark.parametrize("wire", WIRES, ids=NAMES)
def test_plain_stream_and_facts_agree(wire: Any, data: st.DataObject) -> None:
    said = data.draw(wire.answers)
    to = target(wire.model)
    want = said.said()
    whole = plain(to, wire.plain(data.draw, said))
    assert told(whole) == want
    raw = wire.stream(data.draw, said)
    chunks = streamed(to, bytewise(raw, data.draw(st.lists(st.integers(0, 1 << 16), max_size=6))))
    check_grammar(chunks)
    again = fold(chunks)
    assert told(again) == want
    one_by_one = streamed(to, (raw[i : i + 1] for i in range(len(raw))))
    assert fold(one_by_one) == again
