"""Answers for which Anthropic's servers used tools of their own: searched the web, ran code. Documents written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from native_wire import WEATHER, answer, body_of, events, folded
from test_anthropic_answers import SONNET, USE, message, stream_of

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
ASKED = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "tides"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "url": "https://h/t", "title": "Tides", "encrypted_content": "Sealed=="}],
}
CITED = {
    "type": "text",
    "text": "The tide is high.",
    "citations": [
        {"type": "web_search_result_location", "url": "https://h/t", "title": "Tides", "encrypted_index": "Idx==", "cited_text": "high"}
    ],
}
FIRST = {"type": "text", "text": "I look."}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "Sig"}
SCENES = {
    "search": message([FIRST, ASKED, FOUND, CITED]),
    "thought": message([THOUGHT, ASKED, FOUND, CITED]),
    "paused": message([FIRST, ASKED], stop="pause_turn"),
    "with a call": message([FIRST, ASKED, FOUND, USE], stop="tool_use"),
}


def streamed(scene: dict[str, Any]) -> list[dict[str, Any]]:
    """The input of a server's tool comes in pieces, its result at once."""
    out = []
    for event in stream_of(scene):
        block = event.get("content_block")
        if block == ASKED:
            out.append({**event, "content_block": {**ASKED, "input": {}}})
            for piece in ('{"que', 'ry": "tides"}'):
                delta = {"type": "input_json_delta", "partial_json": piece}
                out.append({"type": "content_block_delta", "index": event["index"], "delta": delta})
        else:
            out.append(event)
    return out


@pytest.mark.parametrize("name", SCENES)
def test_the_blocks_come_back_as_they_were(name: str) -> None:
    scene = SCENES[name]
    plain = answer(SONNET, scene, tools=[SEARCH, WEATHER])
    again = folded(SONNET, events(streamed(scene)), tools=[SEARCH, WEATHER])
    for found in (plain, again):
        said = found["choices"][0]["message"]
        assert said["content"] == "".join(b["text"] for b in scene["content"] if b["type"] == "text")
        assert said["content_blocks"] == scene["content"]
        next_turn = [{"role": "user", "content": "tides?"}, said]
        if "tool_calls" in said:
            next_turn.append({"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "18"})
        turns = body_of(SONNET, next_turn, tools=[SEARCH, WEATHER])["messages"]
        assert turns[1] == {"role": "assistant", "content": scene["content"]}


def test_a_paused_turn_is_told_apart_from_an_ended_one() -> None:
    choice = answer(SONNET, SCENES["paused"])["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "pause_turn")
    assert folded(SONNET, events(streamed(SCENES["paused"])), tools=[SEARCH])["choices"][0]["native_finish_reason"] == "pause_turn"
    assert "native_finish_reason" not in answer(SONNET, message([FIRST]))["choices"][0]


def test_a_message_that_was_changed_is_sent_as_it_says_now() -> None:
    said = answer(SONNET, SCENES["search"], tools=[SEARCH])["choices"][0]["message"]
    for changed in ({**said, "content": "Something else."}, {**said, "tool_calls": []}):
        turn = body_of(SONNET, [{"role": "user", "content": "q"}, changed, {"role": "user", "content": "and?"}])["messages"][1]
        if changed["content"] == said["content"]:
            assert turn["content"] == SCENES["search"]["content"]
        else:
            assert turn["content"] == "Something else."


def test_an_answer_without_them_carries_no_blocks() -> None:
    assert "content_blocks" not in answer(SONNET, message([THOUGHT, FIRST]), tools=[SEARCH])["choices"][0]["message"]
    assert "content_blocks" not in folded(SONNET, events(stream_of(message([FIRST]))), tools=[SEARCH])["choices"][0]["message"]


@pytest.mark.parametrize("other", ["openai/gpt-4o", "gemini/gemini-2.5-flash", "cohere/command-a-03-2025", "mistral/m"])
def test_other_providers_never_see_them(other: str) -> None:
    said = answer(SONNET, SCENES["search"], tools=[SEARCH])["choices"][0]["message"]
    body = body_of(other, [{"role": "user", "content": "q"}, said, {"role": "user", "content": "and?"}])
    assert "srvtoolu" not in str(body) and "content_blocks" not in str(body)


def test_a_file_of_unknown_type_is_a_document_and_a_picture_is_not() -> None:
    parts = [
        {"type": "file", "file": {"file_url": "https://h/paper"}},
        {"type": "file", "file": {"file_url": "https://h/a.png"}},
        {"type": "image_url", "image_url": {"url": "https://h/picture"}},
    ]
    content = body_of(SONNET, [{"role": "user", "content": parts}])["messages"][0]["content"]
    assert [block["type"] for block in content] == ["document", "image", "image"]
