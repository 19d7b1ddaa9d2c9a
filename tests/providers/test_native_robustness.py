"""Whatever stands where in a provider's JSON: an answer, a failure, never an exception. Anthropic's and Gemini's dialects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_wire import answer, body_of, decode
from test_anthropic_answers import SCENES as CLAUDE
from test_anthropic_answers import stream_of as claude_stream
from test_gemini_answers import RETRY, error
from test_gemini_answers import SCENES as GEMINI
from test_gemini_answers import stream_of as gemini_stream

from opentracy.core.wire import Failure

ANTHROPIC, GOOGLE = "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"
OURS = ("choices", "object", "created", "model", "id", "usage", "message", "delta", "finish_reason", "logprobs", "error", "_cost")
ODD: list[Any] = [None, True, -1, 0, 1.5, 10**30, "", "x", [], {}, [None], [[]], ["x"], {"x": 1}, [{"text": 3}], {"type": []}]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON document."""
    found = [path] if path else []
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*path, key))
    return found


def damaged(data: st.DataObject, document: Any, foreign: tuple[str, ...] = OURS) -> Any:
    """The document with one to three values replaced by odd ones, left out, or joined by one of a name in `foreign`."""
    copy = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 3))):
        options = places(copy)
        if not options:
            break
        *way, last = data.draw(st.sampled_from(options))
        holder = copy
        for key in way:
            holder = holder[key]
        way_out = data.draw(st.integers(0, 3)) if isinstance(holder, dict) else 3
        if way_out == 1 and not foreign:
            continue
        if way_out == 0:
            del holder[last]
        elif way_out == 1:
            holder[data.draw(st.sampled_from(OURS))] = json.loads(json.dumps(data.draw(st.sampled_from(ODD))))
        else:
            holder[last] = json.loads(json.dumps(data.draw(st.sampled_from(ODD))))
    return copy


@settings(max_examples=400)
@given(st.data())
@pytest.mark.parametrize(("model", "scenes"), [(ANTHROPIC, CLAUDE), (GOOGLE, GEMINI)])
def test_a_plain_answer_with_odd_values(model: str, scenes: dict[str, Any], data: st.DataObject) -> None:
    found = answer(model, damaged(data, scenes[data.draw(st.sampled_from(sorted(scenes)))]))
    if not isinstance(found, Failure):
        json.dumps(found)
        for choice in found["choices"]:
            assert choice["message"]["role"] == "assistant"
            assert isinstance(choice["message"]["content"], (str, type(None)))
            assert isinstance(choice["finish_reason"], str)
            for call in choice["message"].get("tool_calls", ()):
                assert isinstance(call["function"]["arguments"], str)
                assert isinstance(call["function"]["name"], str)


@settings(max_examples=400)
@given(st.data())
@pytest.mark.parametrize(
    ("model", "scenes", "cut"), [(ANTHROPIC, CLAUDE, claude_stream), (GOOGLE, GEMINI, gemini_stream)]
)
def test_a_stream_with_odd_values(model: str, scenes: dict[str, Any], cut: Any, data: st.DataObject) -> None:
    items = damaged(data, cut(scenes[data.draw(st.sampled_from(sorted(scenes)))]))
    raw = b"".join(b"data: %b\n\n" % json.dumps(item).encode() for item in items)
    chunks, failure = decode(model, [raw])
    finished = any(c["choices"][0]["finish_reason"] for c in chunks)
    assert finished == (failure is None)
    for chunk in chunks:
        json.dumps(chunk)
        assert isinstance(chunk["choices"][0]["delta"].get("content"), (str, type(None)))


@settings(max_examples=300)
@given(st.data())
@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ANTHROPIC, {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"}),
        (GOOGLE, error(429, "RESOURCE_EXHAUSTED", "m", RETRY, {"@type": "x/ErrorInfo", "reason": "R"})),
        (GOOGLE, [error(429, "RESOURCE_EXHAUSTED")]),
    ],
)
def test_an_error_with_odd_values(model: str, body: Any, data: st.DataObject) -> None:
    bad = damaged(data, body)
    failure = answer(model, bad, status=429)
    assert isinstance(failure, Failure)
    assert failure.status == 429
    assert isinstance(failure.message, str)
    assert isinstance(failure.request_id, (str, type(None)))
    assert isinstance(failure.code, (str, type(None)))
    answer(model, bad)
    decode(model, [b"data: %b\n\n" % json.dumps(bad).encode()])


ASKED: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "format": "image/png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": "a",
            "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s", "after": [1, 0]}],
            "extra_content": {"google": {"thought_signature": "x"}},
            "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
    ],
    "params": {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["a"],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "$defs": {"A": {"type": ["x"]}}}}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "reasoning_effort": "low",
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "web_search_options": {"user_location": {"approximate": {"city": "x"}}},
        "modalities": ["text"],
        "betas": ["x"],
    },
}


@settings(max_examples=300)
@given(st.data())
@pytest.mark.parametrize("model", [ANTHROPIC, "anthropic/claude-3-5-haiku-latest", GOOGLE, "gemini/gemini-1.5-pro"])
def test_a_request_with_odd_values_is_sent_or_refused_with_words(model: str, data: st.DataObject) -> None:
    asked = damaged(data, ASKED, ())
    messages, params = asked.get("messages"), asked.get("params")
    if not isinstance(params, dict) or not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return  # no dialect is ever asked: the edges refuse it
    try:
        body_of(model, messages, **params)
    except ValueError as e:
        assert str(e)
