"""Requests to Anthropic: messages, tools, thinking, structured output, and what each model family refuses."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from native_wire import KEY, PLAIN, WEATHER, body_of, call, target

SONNET = "anthropic/claude-sonnet-4-5"
OPUS47 = "anthropic/claude-opus-4-7"
OLD = "anthropic/claude-3-5-haiku-20241022"
PNG = "data:image/png;base64,iVBORw0KGgo="


def tool_call(id: str, name: str = "weather", arguments: Any = '{"city": "Rome"}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def turns(messages: list[dict[str, Any]], **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body_of(SONNET, messages, **params)["messages"]
    return found


def dropped(model: str, messages: list[dict[str, Any]] = PLAIN, **params: Any) -> tuple[str, ...]:
    to = target(model)
    found: tuple[str, ...] = to.dialect.build_request(call(messages, **params), to).dropped
    return found


def test_the_plain_request_with_its_address_and_headers() -> None:
    to = target(SONNET)
    request = to.dialect.build_request(call(max_tokens=7, user="u1", stop="END", temperature=0.5, stream=True), to)
    assert (request.method, request.url) == ("POST", "https://api.anthropic.com/v1/messages")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert json.loads(request.body) == {
        "model": "claude-sonnet-4-5",
        "messages": PLAIN,
        "max_tokens": 7,
        "stream": True,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "temperature": 0.5,
    }


def test_a_base_that_ends_in_v1_is_tolerated() -> None:
    to = target(SONNET, ANTHROPIC_API_BASE="http://localhost:9/x/v1/")
    assert to.dialect.build_request(call(), to).url == "http://localhost:9/x/v1/messages"


def test_an_oauth_token_travels_as_a_bearer() -> None:
    from opentracy.providers import registry

    to = registry.target(SONNET, env={"ANTHROPIC_AUTH_TOKEN": "tok-123456789"})
    headers = to.dialect.build_request(call(), to).headers
    assert headers["authorization"] == "Bearer tok-123456789"
    assert "x-api-key" not in headers


def test_system_messages_are_collected_in_order() -> None:
    body = body_of(
        SONNET,
        [{"role": "system", "content": "A"}, *PLAIN, {"role": "developer", "content": [{"type": "text", "text": "B"}]}],
    )
    assert body["system"] == "A\n\nB"
    assert body["messages"] == PLAIN


def test_a_system_prompt_alone_is_said_by_the_user() -> None:
    body = body_of(SONNET, [{"role": "system", "content": "Say hi"}])
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hi"}]}]


def test_cache_marks_pass_on_system_text_tools_and_results() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    body = body_of(
        SONNET,
        [
            {"role": "system", "content": [{"type": "text", "text": "S", "cache_control": mark}]},
            {"role": "user", "content": "Q", "cache_control": mark},
            {"role": "assistant", "tool_calls": [tool_call("t1")]},
            {"role": "tool", "tool_call_id": "t1", "content": "18C", "cache_control": mark},
        ],
        tools=[{**WEATHER, "cache_control": mark}],
    )
    assert body["system"] == [{"type": "text", "text": "S", "cache_control": mark}]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Q", "cache_control": mark}]
    assert body["messages"][2]["content"][0]["cache_control"] == mark
    assert body["tools"][0]["cache_control"] == mark


@pytest.mark.parametrize("raw", ["", " ", None, "null", "{}"])
def test_bug_9_empty_arguments_in_the_history_are_an_empty_object(raw: Any) -> None:
    out = turns([*PLAIN, {"role": "assistant", "content": None, "tool_calls": [tool_call("t1", arguments=raw)]}])
    assert out[1]["content"] == [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]


def test_arguments_that_are_no_json_do_not_end_the_conversation() -> None:
    out = turns([*PLAIN, {"role": "assistant", "tool_calls": [tool_call("t1", arguments='{"city": "Ro')]}])
    assert out[1]["content"][0]["input"] == {"invalid_json": '{"city": "Ro'}


def test_bug_16_results_in_any_order_make_one_user_turn_and_later_text_follows() -> None:
    out = turns(
        [
            *PLAIN,
            {"role": "assistant", "content": "Let me look.", "tool_calls": [tool_call("t1"), tool_call("t2")]},
            {"role": "tool", "tool_call_id": "t2", "content": "22C"},
            {"role": "user", "content": "And hurry."},
            {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "18C"}]},
        ]
    )
    assert [t["role"] for t in out] == ["user", "assistant", "user"]
    assert [b["type"] for b in out[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert out[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t2", "content": "22C"},
        {"type": "tool_result", "tool_use_id": "t1", "content": "18C"},
        {"type": "text", "text": "And hurry."},
    ]


def test_foreign_ids_are_rewritten_alike_in_call_and_result() -> None:
    out = turns(
        [
            *PLAIN,
            {"role": "assistant", "tool_calls": [tool_call("functions.weather:0"), tool_call("call_1~Sig+/==")]},
            {"role": "tool", "tool_call_id": "call_1~Sig+/==", "content": "a"},
            {"role": "tool", "tool_call_id": "functions.weather:0", "content": "b"},
        ]
    )
    first, second = (b["id"] for b in out[1]["content"])
    assert first != second
    assert first.replace("_", "").isalnum()
    assert [b["tool_use_id"] for b in out[2]["content"]] == [second, first]


def test_an_empty_result_has_no_content_and_an_error_is_marked() -> None:
    out = turns(
        [
            *PLAIN,
            {"role": "assistant", "tool_calls": [tool_call("t1"), tool_call("t2")]},
            {"role": "tool", "tool_call_id": "t1", "content": ""},
            {"role": "tool", "tool_call_id": "t2", "content": "boom", "is_error": True},
        ]
    )
    assert out[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t1"},
        {"type": "tool_result", "tool_use_id": "t2", "content": "boom", "is_error": True},
    ]


def test_equal_roles_are_merged_empty_text_is_left_out_and_the_user_begins() -> None:
    out = turns(
        [
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": " "},
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "prefill  \n"},
        ]
    )
    assert [t["role"] for t in out] == ["user", "assistant", "user", "assistant"]
    assert out[0]["content"].strip()
    assert out[2]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert out[3]["content"] == "prefill"


def test_pictures_and_documents() -> None:
    pdf = base64.b64encode(b"%PDF-1.7").decode()
    text = base64.b64encode("Grüße".encode()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
        {"type": "image_url", "image_url": "https://x.example/a"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{pdf}"}},
        {"type": "file", "file": {"filename": "b.pdf", "file_data": pdf}, "citations": {"enabled": True}},
        {"type": "file", "file": {"file_data": "https://x.example/c.pdf"}},
        {"type": "file", "file": {"filename": "n.txt", "file_data": f"data:text/plain;base64,{text}"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "own form"}},
    ]
    assert turns([{"role": "user", "content": content}])[0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pdf}, "title": "a.pdf"},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": pdf},
            "title": "b.pdf",
            "citations": {"enabled": True},
        },
        {"type": "document", "source": {"type": "url", "url": "https://x.example/c.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}, "title": "n.txt"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "own form"}},
    ]


def test_an_uploaded_file_asks_for_its_beta() -> None:
    to = target(SONNET)
    messages = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file_1"}}]}]
    request = to.dialect.build_request(call(messages, betas=["x-2026-01-01"]), to)
    assert request.headers["anthropic-beta"] == "x-2026-01-01,files-api-2025-04-14"
    assert b"betas" not in request.body


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}], "audio"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "image_url"),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], "file_data"),
        ([{"role": "user", "content": 3}], "string or a list"),
        ([{"role": "robot", "content": "x"}], r"messages\[0\].*robot"),
        ([*PLAIN, {"role": "assistant", "tool_calls": [{"id": "a"}]}], "tool_calls"),
    ],
)
def test_what_cannot_be_said_is_a_clear_error(messages: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        body_of(SONNET, messages)


def test_tools_and_a_tool_without_arguments() -> None:
    body = body_of(SONNET, tools=[WEATHER, {"type": "function", "function": {"name": "now"}}], tool_choice="auto")
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "Weather of a city",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_bug_15_tool_choice_keeps_the_tools(choice: Any, wire: dict[str, Any]) -> None:
    body = body_of(SONNET, tools=[WEATHER], tool_choice=choice)
    assert body["tool_choice"] == wire
    assert len(body["tools"]) == 1


def test_bug_14_no_parallel_calls_without_forcing_one() -> None:
    body = body_of(SONNET, tools=[WEATHER], parallel_tool_calls=False)
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert "tool_choice" not in body_of(SONNET, parallel_tool_calls=False)
    assert "tool_choice" not in body_of(SONNET, tool_choice="required")


def test_a_strict_tool_has_a_closed_schema_where_the_model_knows_strictness() -> None:
    tool = {"type": "function", "function": {**WEATHER["function"], "strict": True}, "defer_loading": True}  # type: ignore[dict-item]
    sent = body_of(SONNET, tools=[tool])["tools"][0]
    assert (sent["strict"], sent["defer_loading"], sent["input_schema"]["additionalProperties"]) == (True, True, False)
    assert "strict" not in body_of(OLD, tools=[tool])["tools"][0]


def test_tools_of_anthropics_own_pass_as_they_are() -> None:
    own = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    assert body_of(SONNET, tools=[own])["tools"] == [own]
    asked = body_of(SONNET, web_search_options={"user_location": {"type": "approximate", "approximate": {"city": "Rome"}}})
    assert asked["tools"][0]["user_location"] == {"type": "approximate", "city": "Rome"}


@pytest.mark.parametrize(
    ("model", "cap"),
    [("claude-3-opus-20240229", 4096), ("claude-3-5-sonnet-latest", 8192), ("claude-opus-4-20250514", 16384)],
)
def test_max_tokens_is_mandatory_and_has_a_default_by_model(model: str, cap: int) -> None:
    assert body_of(f"anthropic/{model}")["max_tokens"] == cap
    assert body_of(f"anthropic/{model}", max_completion_tokens=9, max_tokens=5)["max_tokens"] == 9


def test_temperature_is_cut_to_anthropics_scale() -> None:
    assert body_of(OLD, temperature=1.7)["temperature"] == 1


def test_sampling_is_dropped_where_the_model_refuses_it() -> None:
    assert dropped(OPUS47, temperature=0.2, top_p=0.9, top_k=4) == ("temperature", "top_p", "top_k")
    assert not {"temperature", "top_p", "top_k"} & body_of(OPUS47, temperature=0.2, top_p=0.9, top_k=4).keys()
    assert dropped(SONNET, temperature=0.2, top_p=0.9) == ("top_p",)
    assert dropped(OLD, temperature=0.2, top_p=0.9) == ()


def test_parameters_without_an_equivalent_are_named_and_idle_ones_are_not() -> None:
    assert dropped(SONNET, seed=1, n=2, logit_bias={"1": 2}, top_logprobs=3) == ("seed", "n", "logit_bias", "top_logprobs")
    assert dropped(SONNET, n=1, logprobs=False, presence_penalty=0, stream_options={"include_usage": True}) == ()
    with pytest.raises(ValueError, match="seed"):
        body_of(SONNET, strict=True, seed=1)


def test_blank_stop_words_are_refused_by_the_wire_and_reported() -> None:
    assert body_of(SONNET, stop=["\n", "END"])["stop_sequences"] == ["END"]
    assert dropped(SONNET, stop=["\n", "END"]) == ("stop",)
    assert dropped(SONNET, stop="END") == ()


def test_unknown_names_pass_verbatim() -> None:
    body = body_of(SONNET, top_k=5, container="c1", mcp_servers=[{"type": "url"}])
    assert (body["top_k"], body["container"], body["mcp_servers"]) == (5, "c1", [{"type": "url"}])


def test_service_tier_and_metadata() -> None:
    assert body_of(SONNET, service_tier="default")["service_tier"] == "standard_only"
    assert dropped(SONNET, service_tier="flex", metadata={"team": "a"}) == ("metadata", "service_tier")
    assert body_of(SONNET, metadata={"user_id": "u"})["metadata"] == {"user_id": "u"}


def test_reasoning_effort_as_a_budget_under_the_cap() -> None:
    body = body_of(SONNET, reasoning_effort="medium", max_tokens=20000, temperature=0.2, top_k=3)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 10000}
    assert not {"temperature", "top_k"} & body.keys()
    assert body_of(SONNET, reasoning_effort="low")["max_tokens"] > 2048
    tight = body_of(SONNET, reasoning_effort="high", max_tokens=4000)
    assert 1024 <= tight["thinking"]["budget_tokens"] < tight["max_tokens"] == 4000
    assert dropped(SONNET, reasoning_effort="high", max_tokens=1024) == ("reasoning_effort",)


def test_thoughts_leave_room_under_what_the_model_can_write() -> None:
    body = body_of("anthropic/claude-opus-4-1-20250805", reasoning_effort="xhigh")
    assert body["thinking"]["budget_tokens"] < body["max_tokens"] == 32000


def test_reasoning_effort_as_an_effort_on_adaptive_models() -> None:
    body = body_of("anthropic/claude-opus-4-6", reasoning_effort="xhigh")
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "max"})
    body = body_of(OPUS47, reasoning_effort="xhigh")
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "xhigh"}
    assert body_of(OPUS47, reasoning_effort="none")["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("model", "off", "forced"),
    [
        ("claude-opus-5", "disabled", True), ("claude-sonnet-5", "disabled", True), ("claude-haiku-5-5", "disabled", True),
        ("claude-sonnet-5-5", "between_tools", False), ("claude-opus-5-5", None, False), ("claude-fable-5-1", None, False),
        ("claude-mythos-5-2", None, False),
    ],
)  # fmt: skip
def test_what_the_newest_models_no_longer_take(model: str, off: str | None, forced: bool) -> None:
    body = body_of(f"anthropic/{model}", reasoning_effort="none", tools=[WEATHER], tool_choice="required")
    assert body["tool_choice"] == {"type": "any" if forced else "auto"}
    assert body.get("thinking") == ({"type": off} if off else None)
    assert body.get("output_config") == (None if off else {"effort": "low"})
    assert "temperature" not in body_of(f"anthropic/{model}", temperature=0.2)


def test_reasoning_effort_where_the_model_does_not_think() -> None:
    assert dropped(OLD, reasoning_effort="high") == ("reasoning_effort",)
    assert "thinking" not in body_of(OLD, reasoning_effort="none")
    with pytest.raises(ValueError, match="reasoning_effort"):
        body_of(SONNET, reasoning_effort="lots")


def test_a_forced_tool_gives_way_to_thinking() -> None:
    params: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "reasoning_effort": "low"}
    assert body_of(SONNET, **params)["tool_choice"] == {"type": "auto"}
    assert dropped(SONNET, **params) == ("tool_choice",)
    assert body_of("anthropic/claude-opus-4-6", **params)["tool_choice"] == {"type": "any"}
    assert body_of("anthropic/claude-fable-5", tools=[WEATHER], tool_choice="required")["tool_choice"] == {"type": "auto"}


def test_thinking_of_the_callers_own_passes_and_makes_room() -> None:
    own = {"type": "enabled", "budget_tokens": 5000}
    body = body_of(SONNET, thinking=own, temperature=0.3)
    assert body["thinking"] == own
    assert body["max_tokens"] > 5000
    assert "temperature" not in body


def loop(**fields: Any) -> list[dict[str, Any]]:
    """A conversation inside a tool loop; `fields` go onto the assistant's message."""
    return [
        *PLAIN,
        {"role": "assistant", "content": None, "tool_calls": [tool_call("t1")], **fields},
        {"role": "tool", "tool_call_id": "t1", "content": "18C"},
    ]


def test_bug_17_signed_thoughts_come_back_first_and_unchanged() -> None:
    thought = {"type": "thinking", "thinking": "Rome \u2028 it is…", "signature": "EqRk+/=="}
    body = body_of(SONNET, loop(content="Looking.", thinking_blocks=[thought]), reasoning_effort="low", tools=[WEATHER])
    assert body["messages"][1]["content"][0] == thought
    assert [b["type"] for b in body["messages"][1]["content"]] == ["thinking", "text", "tool_use"]
    assert body["thinking"]["type"] == "enabled"


def test_bug_18_empty_but_signed_and_redacted_thoughts_are_kept() -> None:
    signed = {"type": "thinking", "thinking": "", "signature": "S"}
    redacted = {"type": "redacted_thinking", "data": "D"}
    empty = {"type": "thinking", "thinking": "", "signature": ""}
    out = turns(loop(thinking_blocks=[signed, redacted, empty]))
    assert out[1]["content"][:-1] == [signed, redacted]


def test_thoughts_in_the_middle_go_back_to_their_place() -> None:
    blocks = [
        {"type": "thinking", "thinking": "a", "signature": "1"},
        {"type": "thinking", "thinking": "b", "signature": "2", "after": [6, 1]},
    ]
    message = {"content": "First.Second.", "tool_calls": [tool_call("t1"), tool_call("t2")], "thinking_blocks": blocks}
    content = turns([*PLAIN, {"role": "assistant", **message}])[1]["content"]
    shape = [b.get("thinking") or b.get("text") or b.get("id") for b in content]
    assert shape == ["a", "First.", "t1", "b", "Second.", "t2"]
    assert all("after" not in b for b in content)


def test_a_tool_loop_that_lost_its_thoughts_goes_on_without_thinking() -> None:
    params: dict[str, Any] = {"reasoning_effort": "low", "tools": [WEATHER]}
    assert "thinking" not in body_of(SONNET, loop(), **params)
    assert dropped(SONNET, loop(), **params) == ("reasoning_effort",)
    assert body_of("anthropic/claude-opus-4-6", loop(), **params)["thinking"] == {"type": "adaptive"}


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1, "description": "count"}, "p": {"$ref": "#/$defs/P"}},
    "$defs": {"P": {"type": "object", "properties": {"x": {"oneOf": [{"type": "string"}, {"type": "null"}]}}}},
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}


def test_structured_output_where_the_model_has_it() -> None:
    body = body_of(SONNET, response_format=FORMAT)
    schema = body["output_config"]["format"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["P"]["additionalProperties"] is False
    assert schema["properties"]["n"] == {"type": "integer", "description": "count (minimum: 1)"}
    assert schema["$defs"]["P"]["properties"]["x"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert "tools" not in body


def test_structured_output_and_effort_share_one_object() -> None:
    body = body_of(OPUS47, response_format=FORMAT, reasoning_effort="low")
    assert set(body["output_config"]) == {"format", "effort"}


def test_structured_output_as_a_tool_on_older_models() -> None:
    body = body_of(OLD, response_format=FORMAT)
    assert body["tool_choice"] == {"type": "tool", "name": "json_answer"}
    assert body["tools"][0]["input_schema"] == SCHEMA
    both = body_of(OLD, response_format=FORMAT, tools=[WEATHER])
    assert [t["name"] for t in both["tools"]] == ["weather", "json_answer"]
    assert both["tool_choice"] == {"type": "any"}


def test_a_pydantic_class_and_a_json_object() -> None:
    class Answer:
        @staticmethod
        def model_json_schema() -> dict[str, Any]:
            return {"type": "object", "properties": {"x": {"type": "string"}}}

    body = body_of(SONNET, response_format=Answer)
    assert body["output_config"]["format"]["schema"]["properties"] == {"x": {"type": "string"}}
    body = body_of(SONNET, [{"role": "system", "content": "S"}, *PLAIN], response_format={"type": "json_object"})
    assert body["system"].startswith("S\n\n")
    assert "JSON object" in body["system"]


def test_the_same_call_streamed_differs_by_the_switch_only() -> None:
    params: dict[str, Any] = {"tools": [WEATHER], "reasoning_effort": "low", "response_format": FORMAT}
    streamed = body_of(SONNET, stream=True, **params)
    assert streamed.pop("stream") is True
    assert streamed == body_of(SONNET, **params)


def test_only_the_allowed_tools_are_shown() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    search = {"type": "web_search_20250305", "name": "web_search"}
    inner = {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]}
    for choice in ({"type": "allowed_tools", "allowed_tools": inner}, {"type": "allowed_tools", **inner}):
        body = body_of(SONNET, tools=[WEATHER, other, search], tool_choice=choice)
        assert [t["name"] for t in body["tools"]] == ["weather", "web_search"]
        assert body["tool_choice"] == {"type": "any"}
