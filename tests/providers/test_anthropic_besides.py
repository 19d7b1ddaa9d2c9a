"""What Anthropic tells besides the answer: its container, edits of the context, summaries and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
from native_wire import WEATHER, answer, body_of, decode, events, folded
from test_anthropic_answers import SONNET, TEXT, USE, message, stream_of

from opentracy.core.pricing import cost_of

CONTAINER = {"id": "container_1", "expires_at": "2026-05-01T10:00:00Z"}
EDITS = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 2}]}
SUMMARY = {"type": "compaction", "content": "They spoke of tides.", "encrypted_content": "Sealed"}
COMPACTING = {"context_management": {"edits": [{"type": "compact_20260112"}]}}


def told_at_the_end(scene: dict[str, Any]) -> list[dict[str, Any]]:
    """The stream of a message whose fields beside the answer come with its end, as the API sends them."""
    out = stream_of({**scene, "container": None, "context_management": None})
    last = out[-2]
    if "container" in scene:
        last["delta"]["container"] = scene["container"]
    if "context_management" in scene:
        last["context_management"] = scene["context_management"]
    last["usage"] = scene["usage"]
    return out


@pytest.mark.parametrize("fields", [{"container": CONTAINER}, {"context_management": EDITS}, {"diagnostics": {"a": 1}}])
def test_fields_of_the_whole_message_come_with_a_stream_too(fields: dict[str, Any]) -> None:
    scene = message([TEXT], **fields)
    plain, streamed = answer(SONNET, scene), folded(SONNET, events(told_at_the_end(scene)))
    for name, value in fields.items():
        assert plain[name] == streamed[name] == value
    assert streamed["id"] == plain["id"]
    assert streamed["object"] == "chat.completion"


def test_a_summary_of_what_was_said_survives_a_round_trip() -> None:
    scene = message([SUMMARY, TEXT])
    items = told_at_the_end(scene)
    start = next(e for e in items if e["type"] == "content_block_start")
    start["content_block"] = {"type": "compaction", "content": None}
    delta = {"type": "compaction_delta", "content": SUMMARY["content"], "encrypted_content": "Sealed"}
    items.insert(items.index(start) + 1, {"type": "content_block_delta", "index": 0, "delta": delta})
    for found in (answer(SONNET, scene, **COMPACTING), folded(SONNET, events(items), **COMPACTING)):
        said = found["choices"][0]["message"]
        assert said["content"] == TEXT["text"]
        turns = body_of(SONNET, [{"role": "user", "content": "q"}, said, {"role": "user", "content": "?"}])["messages"]
        assert turns[1]["content"] == [SUMMARY, TEXT]


def test_a_pause_after_a_summary_is_a_stop() -> None:
    choice = answer(SONNET, message([SUMMARY], "compaction"), **COMPACTING)["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "compaction")


def test_a_summary_is_billed_though_it_is_not_part_of_the_usage() -> None:
    counts = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 0}
    summed = {"type": "compaction", "input_tokens": 1000, "output_tokens": 200, "cache_read_input_tokens": 0,
              "cache_creation_input_tokens": 0}  # fmt: skip
    own = {"type": "message", **counts}
    scene = message([SUMMARY, TEXT], usage={**counts, "iterations": [summed, own]})
    usage = answer(SONNET, scene, **COMPACTING)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (150, 10)
    assert usage == folded(SONNET, events(told_at_the_end(scene)))["usage"]
    cost = cost_of("anthropic", "claude-sonnet-4-5", usage)
    assert cost is not None
    assert cost.total == 1100 * 3000 + 50 * 300 + 210 * 15000
    without = answer(SONNET, message([TEXT], usage={**counts, "iterations": [own]}))["usage"]
    assert "billed_units" not in without
    # an adviser is another model at other prices
    advised = {**counts, "iterations": [own, {**own, "type": "advisor_message", "model": "claude-opus-4-6"}]}
    assert cost_of("anthropic", "claude-sonnet-4-5", answer(SONNET, message([TEXT], usage=advised))["usage"]) is None


def test_a_call_of_a_toolset_goes_back_with_its_name() -> None:
    call = {**USE, "name": "click", "toolset_name": "browser", "caller": {"type": "direct"}}
    scene = message([call], "tool_use")
    own = {"type": "browser_20260801", "name": "browser"}
    for found in (answer(SONNET, scene, tools=[own]), folded(SONNET, events(stream_of(scene)), tools=[own])):
        said = found["choices"][0]["message"]
        assert said["tool_calls"][0]["function"]["name"] == "click"
        result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
        turns = body_of(SONNET, [{"role": "user", "content": "q"}, said, result], tools=[own])["messages"]
        assert turns[1]["content"] == [call]
    plain = answer(SONNET, message([{**USE, "caller": {"type": "direct"}}], "tool_use"), tools=[own, WEATHER])
    assert "content_blocks" not in plain["choices"][0]["message"]


def test_a_stream_may_begin_with_an_answer_that_is_whole_already() -> None:
    """After work of its servers the first event holds what came about before, and no other event repeats it."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s=="}
    blocks = [thought, {"type": "text", "text": "Look: "}, {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}]
    begun = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": blocks,
             "stop_reason": "tool_use", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 5}}  # fmt: skip
    start: dict[str, Any] = {"type": "message_start", "message": begun}
    whole = answer(SONNET, begun)
    assert folded(SONNET, events([start, {"type": "message_stop"}]))["choices"] == [
        {k: v for k, v in whole["choices"][0].items() if k != "logprobs"}
    ]
    going_on = {**begun, "content": blocks[:2], "stop_reason": None}
    rest = [
        {"type": "message_start", "message": going_on}, {"type": "message_start", "message": going_on},
        {"type": "content_block_start", "index": 0, "content_block": {**blocks[2], "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]  # fmt: skip
    assert folded(SONNET, events(rest))["choices"] == folded(SONNET, events([start, {"type": "message_stop"}]))["choices"]
    _, failure = decode(SONNET, [events([start])])
    assert failure is not None, "without an end the answer may be cut"
    assert failure.code == "stream_truncated"
