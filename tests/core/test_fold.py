"""A stream's chunks folded back: what comes in pieces is whole again."""

from __future__ import annotations

from typing import Any

from opentracy.core.chunks import is_content
from opentracy.core.fold import fold


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = fold([chunk(d) for d in deltas])["choices"][0]["message"]
    return out


def call(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **fields}]}


def test_the_input_of_a_custom_tool_comes_in_pieces() -> None:
    found = message(
        {"role": "assistant", "content": None},
        call(id="c1", type="custom", custom={"name": "shell", "input": "ls"}),
        call(custom={"input": " -l"}),
        call(custom={"input": " /tmp"}),
    )
    assert found["tool_calls"] == [{"id": "c1", "type": "custom", "custom": {"name": "shell", "input": "ls -l /tmp"}}]


def test_sound_and_the_old_form_of_a_call_grow() -> None:
    found = message(
        {"role": "assistant", "audio": {"id": "a1", "transcript": "Hel"}},
        {"audio": {"transcript": "lo", "data": "AAA"}},
        {"audio": {"data": "BBB", "expires_at": 5}},
        {"function_call": {"name": "f", "arguments": '{"x"'}},
        {"function_call": {"arguments": ": 1}"}},
    )
    assert found["audio"] == {"id": "a1", "transcript": "Hello", "data": "AAABBB", "expires_at": 5}
    assert found["function_call"] == {"name": "f", "arguments": '{"x": 1}'}


def test_blocks_of_reasoning_are_whole_again() -> None:
    text = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}
    sealed = {"type": "reasoning.encrypted", "index": 0}
    found = message(
        {"reasoning_details": [{**text, "text": "Let "}]},
        {"reasoning_details": [{**text, "text": "me see."}]},
        {"reasoning_details": [{**text, "signature": "Sig"}]},
        {"reasoning_details": [{**text, "index": 1, "text": "Next."}]},
        {"reasoning_details": [{**sealed, "data": "X", "id": "t1"}]},
        {"reasoning_details": [{**sealed, "data": "Y", "id": "t2"}]},
    )
    assert found["reasoning_details"] == [
        {**text, "text": "Let me see.", "signature": "Sig"},
        {**text, "index": 1, "text": "Next."},
        {**sealed, "data": "X", "id": "t1"},
        {**sealed, "data": "Y", "id": "t2"},
    ]


def test_what_counts_as_content() -> None:
    for delta in (
        {"content": "x"}, {"reasoning_content": "x"}, {"refusal": "x"}, {"tool_calls": [{}]}, {"audio": {"data": "A"}},
        {"images": [{}]}, {"function_call": {"name": "f"}},
    ):  # fmt: skip
        assert is_content(chunk(delta))
    assert is_content(chunk({}, "stop"))
    for nothing in ({}, {"role": "assistant"}, {"role": "assistant", "content": ""}, {"annotations": [{}]}, {"content": None}):
        assert not is_content(chunk(nothing))
