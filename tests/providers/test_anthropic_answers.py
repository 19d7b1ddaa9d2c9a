"""Anthropic's answers, plain and streamed, and its errors. The documents are written by hand from the documented shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_wire import WEATHER, answer, body_of, call, decode, decoder, events, folded, target

from opentracy.core.fold import fold
from opentracy.core.pricing import cost_of
from opentracy.core.wire import Failure, HttpResponse

SONNET = "anthropic/claude-sonnet-4-5"
OLD = "anthropic/claude-3-5-haiku-20241022"


def message(content: list[dict[str, Any]], stop: str | None = "end_turn", **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 11, "output_tokens": 7}
    head = {"id": "msg_01A", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929"}
    return {**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage, **fields}


def stream_of(whole: dict[str, Any], step: int = 3) -> list[dict[str, Any]]:
    """The events in which Anthropic would send this message."""
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    out: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(whole["content"]):
        out += block_events(index, block, step)
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
    if "stop_details" in whole:
        delta["stop_details"] = whole["stop_details"]
    out.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": whole["usage"]["output_tokens"]}})
    out.append({"type": "message_stop"})
    return out


def block_events(index: int, block: dict[str, Any], step: int) -> list[dict[str, Any]]:
    def deltas(kind: str, field: str, text: str) -> list[dict[str, Any]]:
        pieces = [text[i : i + step] for i in range(0, len(text), step)]
        return [{"type": "content_block_delta", "index": index, "delta": {"type": kind, field: p}} for p in pieces]

    start, middle = dict(block), []
    if block["type"] == "text":
        start = {"type": "text", "text": ""}
        middle = deltas("text_delta", "text", block["text"])
        for citation in block.get("citations") or ():
            delta = {"type": "citations_delta", "citation": citation}
            middle.append({"type": "content_block_delta", "index": index, "delta": delta})
    elif block["type"] == "thinking":
        start = {"type": "thinking", "thinking": "", "signature": ""}
        middle = deltas("thinking_delta", "thinking", block["thinking"])
        middle += deltas("signature_delta", "signature", block["signature"])
    elif block["type"] == "tool_use":
        start = {**block, "input": {}}
        if block["input"]:
            middle = deltas("input_json_delta", "partial_json", json.dumps(block["input"], separators=(",", ":")))
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *middle,
        {"type": "content_block_stop", "index": index},
    ]


TEXT = {"type": "text", "text": "Grüße, 世界 😀 \u2028 end"}
USE = {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Rom \"x\""}}
NO_INPUT = {"type": "tool_use", "id": "toolu_02", "name": "now", "input": {}}
THOUGHT = {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB+/=="}
REDACTED = {"type": "redacted_thinking", "data": "EmwK"}
PAGE = {"type": "web_search_result_location", "url": "https://x.example", "title": "X", "cited_text": "c"}
CITED = {"type": "text", "text": "It is so.", "citations": [PAGE]}
SERVER = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
]
SCENES: dict[str, dict[str, Any]] = {
    "text": message([TEXT]),
    "two texts": message([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    "no content": message([]),
    "tool": message([USE], "tool_use"),
    "text and three tools": message([TEXT, USE, NO_INPUT, {**USE, "id": "toolu_03"}], "tool_use"),
    "thinking": message([THOUGHT, REDACTED, TEXT]),
    "thinking and tool": message([THOUGHT, TEXT, USE], "tool_use"),
    "thoughts in between": message([TEXT, THOUGHT, USE], "tool_use"),
    "citations": message([*SERVER, CITED, {"type": "text", "text": " Yes."}]),
    "thought after a call": message([USE, THOUGHT, NO_INPUT], "tool_use"),
    "cut": message([TEXT], "max_tokens"),
    "stop word": message([TEXT], "stop_sequence", stop_sequence="END"),
    "refusal": message([], "refusal", stop_details={"type": "refusal", "category": "x", "explanation": "No."}),
}


def test_the_shape_of_a_plain_answer() -> None:
    assert answer(SONNET, SCENES["text"]) == {
        "id": "msg_01A",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "claude-sonnet-4-5-20250929",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT["text"]},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


@pytest.mark.parametrize("scene", SCENES)
def test_a_streamed_answer_folds_to_the_plain_one(scene: str) -> None:
    plain = answer(SONNET, SCENES[scene])
    streamed = folded(SONNET, events(stream_of(SCENES[scene])))
    for chosen in (plain, streamed):
        chosen["choices"][0].pop("logprobs", None)
    assert streamed == plain


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("pause_turn", "stop"), ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"), ("refusal", "content_filter"), ("tool_use", "stop"),
        ("something_new", "something_new"), (None, "stop"),
    ],
)  # fmt: skip
def test_stop_reasons_without_calls(stop: str | None, finish: str) -> None:
    assert answer(SONNET, message([TEXT], stop))["choices"][0]["finish_reason"] == finish


def test_tool_calls_reasoning_and_signed_blocks() -> None:
    choice = answer(SONNET, message([THOUGHT, REDACTED, TEXT, USE, NO_INPUT], "tool_use"))["choices"][0]
    found = choice["message"]
    assert choice["finish_reason"] == "tool_calls"
    assert found["reasoning_content"] == THOUGHT["thinking"]
    assert found["thinking_blocks"] == [THOUGHT, REDACTED]
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in found["tool_calls"]] == [
        ("toolu_01", "weather", '{"city":"Rom \\"x\\""}'),
        ("toolu_02", "now", "{}"),
    ]
    assert answer(SONNET, message([USE], "tool_use"))["choices"][0]["message"]["content"] is None


def test_call_ids_are_made_up_where_they_are_missing_or_repeated() -> None:
    whole = message([USE, USE, {"type": "tool_use", "name": "now", "input": None}], "tool_use")
    for found in (answer(SONNET, whole), folded(SONNET, events(stream_of(whole)))):
        ids = [c["id"] for c in found["choices"][0]["message"]["tool_calls"]]
        assert ids[0] == "toolu_01"
        assert len(set(ids)) == 3


def test_server_tools_are_no_calls_and_pages_become_annotations() -> None:
    choice = answer(SONNET, SCENES["citations"])["choices"][0]
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "It is so. Yes."
    citation = {"url": "https://x.example", "title": "X", "start_index": 0, "end_index": 9}
    assert choice["message"]["annotations"] == [{"type": "url_citation", "url_citation": citation}]
    assert choice["message"]["citations"] == [PAGE]


def test_a_refusal_says_why() -> None:
    choice = answer(SONNET, SCENES["refusal"])["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"] == {"role": "assistant", "content": "", "refusal": "No."}
    assert choice["stop_details"]["category"] == "x"


def test_bug_1_cache_writes_are_counted_once_and_priced_exactly() -> None:
    raw = {"input_tokens": 3, "cache_creation_input_tokens": 12304, "cache_read_input_tokens": 0, "output_tokens": 550}
    usage = answer("anthropic/claude-3-7-sonnet-20250219", message([TEXT], usage=raw))["usage"]
    assert usage["prompt_tokens"] == 12307
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "cache_creation_tokens": 12304}
    cost = cost_of("anthropic", "claude-3-7-sonnet-20250219", usage)
    assert cost is not None
    assert cost.usd == 0.054399


def test_usage_with_both_cache_lifetimes_and_thoughts() -> None:
    raw = {
        "input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30, "output_tokens": 9,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens_details": {"thinking_tokens": 4},
    }  # fmt: skip
    assert answer(SONNET, message([TEXT], usage=raw))["usage"] == {
        "prompt_tokens": 135, "completion_tokens": 9, "total_tokens": 144,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_creation_tokens": 30, "cache_creation_1h_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }  # fmt: skip


@pytest.mark.parametrize("bad", [-1, 3.5, True, "many"])
def test_unclean_usage_is_unknown_never_zero(bad: Any) -> None:
    usage = answer(SONNET, message([TEXT], usage={"input_tokens": bad, "output_tokens": 7}))["usage"]
    assert usage["prompt_tokens"] is None
    assert cost_of("anthropic", "claude-sonnet-4-5", usage) is None


def test_no_usage_is_none() -> None:
    whole = message([TEXT])
    del whole["usage"]
    assert answer(SONNET, whole)["usage"] is None


def test_missing_fields_are_filled_and_unknown_ones_kept() -> None:
    found = answer(SONNET, {"content": [TEXT, {"type": "hologram", "x": 1}], "container": {"id": "c"}})
    assert found["id"] == "msg_f00d"
    assert found["model"] == "claude-sonnet-4-5"
    assert found["container"] == {"id": "c"}
    assert found["choices"][0]["finish_reason"] == "stop"


def test_structured_output_by_a_tool_reads_as_text_on_older_models() -> None:
    fmt = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}
    whole = message([{"type": "tool_use", "id": "t", "name": "json_answer", "input": {"x": 1}}], "tool_use")
    choice = answer(OLD, whole, response_format=fmt)["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": '{"x":1}'}
    assert choice["finish_reason"] == "stop"
    streamed = folded(OLD, events(stream_of(whole)), response_format=fmt)["choices"][0]
    assert streamed["message"] == choice["message"]
    assert streamed["finish_reason"] == "stop"
    whole["content"][0]["input"] = {}
    assert folded(OLD, events(stream_of(whole)), response_format=fmt)["choices"][0]["message"]["content"] == "{}"


@pytest.mark.parametrize("streamed", [False, True])
def test_bug_17_the_appended_message_goes_back_as_it_came(streamed: bool) -> None:
    whole = message([THOUGHT, REDACTED, TEXT, USE, NO_INPUT], "tool_use")
    found = folded(SONNET, events(stream_of(whole))) if streamed else answer(SONNET, whole)
    history = [
        {"role": "user", "content": "Weather?"},
        found["choices"][0]["message"],
        {"role": "tool", "tool_call_id": "toolu_02", "content": "12:00"},
        {"role": "tool", "tool_call_id": "toolu_01", "content": "18C"},
    ]
    sent = body_of(SONNET, history, tools=[WEATHER], reasoning_effort="low")["messages"]
    assert sent[1] == {"role": "assistant", "content": whole["content"]}


@pytest.mark.parametrize("scene", ["thoughts in between", "thought after a call"])
def test_thoughts_between_text_and_call_survive_a_round_trip(scene: str) -> None:
    whole = SCENES[scene]
    found = folded(SONNET, events(stream_of(whole)))["choices"][0]["message"]
    sent = body_of(SONNET, [{"role": "user", "content": "q"}, found])["messages"][1]["content"]
    assert sent == whole["content"]


# ---------------------------------------------------------------- streams
def test_bug_5_and_6_parallel_calls_are_numbered_among_themselves() -> None:
    chunks, failure = decode(SONNET, [events(stream_of(SCENES["text and three tools"]))])
    assert failure is None
    indexes = [t["index"] for c in chunks for t in c["choices"][0]["delta"].get("tool_calls", ()) if "id" in t]
    assert indexes == [0, 1, 2]
    assert {c["choices"][0]["index"] for c in chunks} == {0}
    assert len(fold(chunks)["choices"][0]["message"]["tool_calls"]) == 3


def test_bug_8_a_call_without_arguments_streams_an_empty_object() -> None:
    found = folded(SONNET, events(stream_of(message([NO_INPUT], "tool_use"))))
    assert found["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_input_sent_whole_at_the_start_of_a_block_is_taken() -> None:
    items = stream_of(message([NO_INPUT], "tool_use"))
    next(e for e in items if e["type"] == "content_block_start")["content_block"]["input"] = {"a": 1}
    found = folded(SONNET, events(items))
    assert found["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


def test_usage_of_a_stream_is_the_last_word_on_each_count() -> None:
    items = stream_of(message([TEXT]))
    items[0]["message"]["usage"] = {"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": 1}
    items[-2]["usage"] = {"input_tokens": 5, "cache_read_input_tokens": None, "output_tokens": 40}
    assert folded(SONNET, events(items))["usage"] == {
        "prompt_tokens": 15, "completion_tokens": 40, "total_tokens": 55,
        "prompt_tokens_details": {"cached_tokens": 10},
    }  # fmt: skip


@given(st.data())
def test_any_split_of_the_bytes_gives_the_same_chunks(data: st.DataObject) -> None:
    scene = data.draw(st.sampled_from(sorted(SCENES)))
    raw = events(stream_of(SCENES[scene]))
    if data.draw(st.booleans()):
        raw = raw.replace(b"\n", b"\r\n")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(SONNET, pieces) == decode(SONNET, [raw])


@pytest.mark.parametrize("scene", SCENES)
def test_events_without_names_say_the_same(scene: str) -> None:
    raw = events(stream_of(SCENES[scene]))
    unnamed = b"".join(line for line in raw.splitlines(keepends=True) if not line.startswith(b"event:"))
    assert decode(SONNET, [unnamed]) == decode(SONNET, [raw])


@given(st.integers(min_value=0))
def test_a_stream_cut_before_its_stop_reason_is_never_a_success(at: int) -> None:
    raw = events(stream_of(SCENES["thinking and tool"]))
    end = raw.index(b'"message_delta"', raw.index(b"event: message_delta"))
    chunks, failure = decode(SONNET, [raw[: at % end]])
    assert failure is not None
    assert failure.code in ("stream_truncated", "empty_stream", "bad_event")
    assert not any(c["choices"][0]["finish_reason"] for c in chunks)


def test_a_stop_reason_without_the_end_marker_is_a_whole_answer() -> None:
    chunks, failure = decode(SONNET, [events(stream_of(SCENES["text"])[:-1])])
    assert failure is None
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([], "empty_stream"),
        (stream_of(message([TEXT]))[:2], "empty_stream"),
        (stream_of(message([TEXT]))[:6], "stream_truncated"),
        ([*stream_of(message([TEXT]))[:6], {"type": "message_stop"}], "stream_truncated"),
    ],
)
def test_streams_that_end_too_early(items: list[dict[str, Any]], code: str) -> None:
    _, failure = decode(SONNET, [events(items)])
    assert failure is not None
    assert failure.code == code
    assert failure.retryable


def test_bug_26_an_error_event_has_the_class_of_its_type() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
    for before in ([], stream_of(SCENES["text"])[:6]):
        chunks, failure = decode(SONNET, [events([*before, error, *stream_of(SCENES["text"])])])
        assert failure is not None
        assert (failure.status, failure.message, failure.retryable) == (529, "Overloaded", True)
        assert failure.request_id == "req_1"
        assert not any(c["choices"][0]["finish_reason"] for c in chunks)


def test_a_broken_event_is_an_error_and_nothing_after_it_counts() -> None:
    raw = events(stream_of(SCENES["text"])[:5]) + b"data: {oops\n\n" + events(stream_of(SCENES["text"])[5:])
    chunks, failure = decode(SONNET, [raw])
    assert failure is not None
    assert failure.code == "bad_event"
    assert chunks


def test_pings_unknown_events_and_odd_fields_are_ignored() -> None:
    odd = [
        {"type": "ping"}, {"type": "weather_report", "delta": "x", "index": "y"}, {"type": "content_block_stop", "index": 99},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "hologram_delta", "text": None}},
        {"type": "content_block_delta", "index": 0, "delta": None},
    ]  # fmt: skip
    whole = stream_of(SCENES["text"])
    found = folded(SONNET, events([e for event in whole for e in (event, *odd)][:-5]))
    assert found["choices"][0]["message"]["content"] == TEXT["text"]


def test_nothing_after_the_end_marker_is_read() -> None:
    d = decoder(SONNET)
    whole = events(stream_of(SCENES["text"]))
    d.feed(whole)
    assert d.done
    assert d.feed(whole) == []
    assert d.failure is None


def test_pings_are_no_progress() -> None:
    d = decoder(SONNET)
    d.feed(events(stream_of(SCENES["text"])[:3]))
    assert d.progress == 0
    d.feed(events(stream_of(SCENES["text"])[3:4]))
    assert d.progress == 1


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, "invalid_request_error", False), (401, "authentication_error", False), (402, "billing_error", False),
        (403, "permission_error", False), (404, "not_found_error", False), (413, "request_too_large", False),
        (429, "rate_limit_error", True), (500, "api_error", True), (504, "timeout_error", True),
        (529, "overloaded_error", True),
    ],
)  # fmt: skip
def test_errors_in_their_true_shape(status: int, kind: str, retryable: bool) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "the words"}, "request_id": "req_body"}
    failure = answer(SONNET, body, status=status, headers={"request-id": "req_head", "retry-after": "7"})
    assert (failure.status, failure.message, failure.type, failure.retryable) == (status, "the words", kind, retryable)
    assert failure.request_id == "req_head"
    assert failure.retry_after == 7
    inside = answer(SONNET, body)
    assert (inside.status, inside.message, inside.retryable) == (status, "the words", retryable)
    assert inside.request_id == "req_body"


def test_should_retry_is_obeyed() -> None:
    body = {"type": "error", "error": {"type": "api_error", "message": "m"}}
    assert not answer(SONNET, body, status=503, headers={"x-should-retry": "false"}).retryable
    assert answer(SONNET, body, status=400, headers={"x-should-retry": "true"}).retryable


@pytest.mark.parametrize("words", ["prompt is too long: 200480 tokens > 200000 maximum"])
def test_bug_27_a_prompt_that_does_not_fit_has_its_own_code(words: str) -> None:
    failure = answer(SONNET, {"type": "error", "error": {"type": "invalid_request_error", "message": words}}, status=400)
    assert failure.code == "context_length_exceeded"
    assert not failure.retryable


def test_an_error_page_is_quoted() -> None:
    to = target(SONNET)
    failure = to.dialect.parse_error(to, HttpResponse(502, {"content-type": "text/html"}, b"<h1>Bad gateway</h1>"))
    assert "Bad gateway" in failure.message
    assert "text/html" in failure.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty_body"), (b" \n", "empty_body"), (b"<html>", "bad_body"), (b'{"content": [', "bad_body"),
        (b"[]", "bad_body"), (b"null", "bad_body"), (b'"x"', "bad_body"), (b'{"content": null}', "bad_body"),
        (b"[" * 100_000, "bad_body"),
    ],
)  # fmt: skip
def test_what_is_no_answer(body: bytes, kind: str) -> None:
    failure = answer(SONNET, body)
    assert isinstance(failure, Failure)
    assert failure.kind == kind


def test_embeddings_are_refused_clearly() -> None:
    from msgspec.structs import replace

    to = target(SONNET)
    with pytest.raises(ValueError, match="embeddings"):
        to.dialect.build_request(replace(call([], input="x"), operation="embedding"), to)
