"""Requests of the OpenAI family: parameters and messages, rule by rule."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from msgspec.structs import replace

from opentracy.core.wire import Call, HttpRequest, HttpResponse
from opentracy.providers import registry

USER = {"role": "user", "content": "hi"}


def build(
    model: str, messages: list[dict[str, Any]] | None = None, *, env: dict[str, str] | None = None, **params: Any
) -> HttpRequest:
    strict, stream, base = params.pop("strict", False), params.pop("stream", False), params.pop("api_base", None)
    target = registry.target(model, env=env or {}, api_key="k-1", api_base=base)
    return target.dialect.build_request(Call(messages or [USER], params, stream, strict), target)


def body(model: str, messages: list[dict[str, Any]] | None = None, **params: Any) -> dict[str, Any]:
    out = json.loads(build(model, messages, **params).body)
    assert isinstance(out, dict)
    return out


def test_a_plain_call_is_sent_as_it_stands() -> None:
    request = build("openai/gpt-4o-mini", temperature=0, max_tokens=20)
    assert request.url == "https://api.openai.com/v1/chat/completions"
    assert request.headers == {"content-type": "application/json", "authorization": "Bearer k-1"}
    assert json.loads(request.body) == {"model": "gpt-4o-mini", "messages": [USER], "temperature": 0, "max_tokens": 20}
    assert "k-1" not in repr(request)


def test_messages_are_not_changed_in_place() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "r",
        "tool_calls": [{"id": "a", "index": 0, "function": {"name": "f", "arguments": ""}}],
    }
    before = json.dumps(message)
    body("mistral/m", [USER, message, {"role": "tool", "tool_call_id": "a", "content": "1"}])
    assert json.dumps(message) == before


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
    ],
)
def test_the_path_is_appended_to_the_base(base: str, url: str) -> None:
    assert build("openai/m", api_base=base).url == url


def test_a_v1_in_the_base_is_not_doubled() -> None:
    assert build("ollama/m", api_base="http://h:11434/v1").url == "http://h:11434/v1/chat/completions"


@pytest.mark.parametrize(
    ("base", "version", "url"),
    [
        ("https://r.x", "2025-01-01", "https://r.x/openai/deployments/d/chat/completions?api-version=2025-01-01"),
        ("https://r.x", "v1", "https://r.x/openai/v1/chat/completions"),
        ("https://r.x/openai/v1", "2025-01-01", "https://r.x/openai/v1/chat/completions"),
        ("https://r.x/openai/deployments/z", "1", "https://r.x/openai/deployments/z/chat/completions?api-version=1"),
    ],
)
def test_azure_urls(base: str, version: str, url: str) -> None:
    request = build("azure/d", api_base=base, env={"OPENAI_API_VERSION": version})
    assert request.url == url
    assert request.headers["api-key"] == "k-1"
    assert "authorization" not in request.headers


def test_azure_takes_a_directory_token_as_bearer() -> None:
    env = {"AZURE_OPENAI_AD_TOKEN": "aad", "AZURE_OPENAI_ENDPOINT": "https://r.x"}
    target = registry.target("azure/d", env=env)
    request = target.dialect.build_request(Call([USER], {}), target)
    assert request.headers["authorization"] == "Bearer aad"


def test_organisation_and_application_headers_come_from_the_environment() -> None:
    assert build("openai/m", env={"OPENAI_ORG_ID": "o", "OPENAI_PROJECT_ID": "p"}).headers.items() >= {
        ("OpenAI-Organization", "o"), ("OpenAI-Project", "p"),
    }  # fmt: skip
    assert build("openrouter/m", env={"OR_APP_NAME": "app"}).headers["X-Title"] == "app"


@pytest.mark.parametrize("model", ["o1", "o3-mini", "o4-mini-high", "gpt-5", "gpt-5-nano", "gpt-5.2", "gpt-6"])
def test_known_bug_29_new_models_get_the_new_cap(model: str) -> None:
    sent = body(f"openai/{model}", max_tokens=100)
    assert sent["max_completion_tokens"] == 100
    assert "max_tokens" not in sent


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "gpt-oss-20b", "my-own-o1"])
def test_older_models_keep_the_cap_as_it_was_given(model: str) -> None:
    assert body(f"openai/{model}", max_tokens=100)["max_tokens"] == 100
    assert body(f"openai/{model}", max_completion_tokens=100)["max_completion_tokens"] == 100
    both = body(f"openai/{model}", max_tokens=5, max_completion_tokens=100)
    assert (both["max_completion_tokens"], "max_tokens" in both) == (100, False)


def test_known_bug_29_reasoning_models_take_no_sampling_settings() -> None:
    request = build("openai/o3", temperature=0.7, top_p=0.5, logprobs=True, presence_penalty=0)
    assert json.loads(request.body).keys() == {"model", "messages", "presence_penalty"}
    assert set(request.dropped) == {"temperature", "top_p", "logprobs"}
    assert body("openai/gpt-5-mini", temperature=1)["temperature"] == 1
    assert body("openai/gpt-5-mini", temperature=-3)["temperature"] == -3, "nonsense is left to the provider to refuse"
    with pytest.raises(ValueError, match="temperature"):
        build("openai/o3", temperature=0.7, strict=True)


def test_newer_models_take_them_unless_they_reason() -> None:
    assert body("openai/gpt-5.1", temperature=0.7)["temperature"] == 0.7
    assert body("openai/gpt-5.1", temperature=0.7, reasoning_effort="none")["temperature"] == 0.7
    assert build("openai/gpt-5.1", temperature=0.7, reasoning_effort="low").dropped == ("temperature",)
    assert body("openai/gpt-5-chat-latest", temperature=0.7)["temperature"] == 0.7


def test_one_answer_is_what_everybody_gives() -> None:
    assert "n" not in body("groq/m", n=1)
    assert build("groq/m", n=3).dropped == ("n",)
    assert body("together/m", n=3)["n"] == 3


def test_switched_off_values_are_not_reported_as_lost() -> None:
    request = build("cerebras/m", logit_bias={}, store=False, strict=True)
    assert request.dropped == ()
    assert build("perplexity/sonar", parallel_tool_calls=False).dropped == ("parallel_tool_calls",)


@pytest.mark.parametrize(
    ("model", "effort", "want"),
    [
        ("groq/openai/gpt-oss-20b", "xhigh", "high"), ("groq/qwen/qwen3-32b", "low", "default"),
        ("groq/qwen/qwen3-32b", "none", "none"), ("mistral/magistral", "minimal", "none"), ("openai/gpt-5", "minimal", "minimal"),
    ],
)  # fmt: skip
def test_reasoning_effort_in_each_vocabulary(model: str, effort: str, want: str) -> None:
    assert body(model, reasoning_effort=effort)["reasoning_effort"] == want


def test_where_schemas_are_unknown_the_schema_is_explained() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    request = build(
        "deepseek/deepseek-chat",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )
    sent = json.loads(request.body)
    assert sent["response_format"] == {"type": "json_object"}
    assert json.dumps(schema, separators=(",", ":")) in sent["messages"][0]["content"]
    assert sent["messages"][1:] == [USER]
    assert request.dropped == ("response_format.json_schema",)


def test_none_means_not_given_and_an_empty_tool_list_means_none() -> None:
    assert body("openai/m", temperature=None, tools=[]).keys() == {"model", "messages"}


def tool_turn(call_id: str, arguments: Any = "{}") -> list[dict[str, Any]]:
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": "1"},
    ]


def test_mistral_ids_that_fit_are_kept_and_others_always_become_the_same() -> None:
    def ids(call_id: str) -> tuple[str, str]:
        messages = body("mistral/m", tool_turn(call_id))["messages"]
        return messages[1]["tool_calls"][0]["id"], messages[2]["tool_call_id"]

    assert ids("abcDEF123") == ("abcDEF123", "abcDEF123")
    made = ids("call_0123456789")
    assert made[0] == made[1]
    assert re.fullmatch("[A-Za-z0-9]{9}", made[0])
    assert made == ids("call_0123456789")
    assert made != ids("call_0123456780")


def test_ids_with_another_providers_signature_are_shortened() -> None:
    messages = body("openai/m", tool_turn("call_1" + "s" * 400))["messages"]
    assert len(messages[1]["tool_calls"][0]["id"]) <= 40
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]


@pytest.mark.parametrize(
    ("arguments", "want"), [("", "{}"), (" ", "{}"), (None, "{}"), ({"a": 1}, '{"a":1}'), ('{"a": 1}', '{"a": 1}')]
)
def test_known_bug_9_arguments_of_the_history_are_json_text(arguments: Any, want: str) -> None:
    assert body("openai/m", tool_turn("c", arguments))["messages"][1]["tool_calls"][0]["function"]["arguments"] == want


def test_what_we_added_to_an_answer_is_taken_off() -> None:
    answer = {
        "role": "assistant", "content": "x", "refusal": None, "annotations": [], "reasoning_content": "r", "_extra": 1,
        "thinking_blocks": [{}], "citations": [1], "provider_specific_fields": {}, "custom": 5,
    }  # fmt: skip
    assert body("openai/m", [USER, answer, USER])["messages"][1] == {"role": "assistant", "content": "x", "custom": 5}
    assert body("vllm/m", [USER, answer, USER])["messages"][1]["reasoning_content"] == "r"


def test_the_engine_gets_everything_as_it_is() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "x", "cache_control": {}}], "reasoning_content": "r"}
    ]
    target = registry.engine_target("auto", url="http://e")
    sent = json.loads(
        target.dialect.build_request(Call(messages, {"seed": 1, "logit_bias": {"1": 1}}, True), target).body
    )
    assert sent["messages"] == messages
    assert (sent["model"], sent["seed"], sent["stream_options"]) == ("auto", 1, {"include_usage": True})


def test_cache_marks_stay_where_they_are_understood() -> None:
    marked = [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}]
    assert body("openai/m", marked)["messages"] == [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    assert body("openrouter/m", marked)["messages"] == marked


def test_developer_is_system_elsewhere() -> None:
    messages = [{"role": "developer", "content": "d"}, USER]
    assert body("openai/m", messages)["messages"] == messages
    assert body("groq/m", messages)["messages"][0] == {"role": "system", "content": "d"}


def test_perplexity_turns_alternate() -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:x"}}]
    messages = [
        USER,
        {"role": "user", "content": picture},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": ""},
        USER,
    ]
    assert body("perplexity/sonar", messages)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, *picture]},
        {"role": "assistant", "content": "a"},
        USER,
    ]


def test_mistral_is_told_that_the_last_message_is_a_beginning() -> None:
    sent = body("mistral/m", [USER, {"role": "assistant", "content": "{"}])["messages"]
    assert sent[-1] == {"role": "assistant", "content": "{", "prefix": True}


@pytest.mark.parametrize(
    ("model", "effort", "echoed"),
    [("magistral-medium-2509", None, True), ("mistral-medium-3-5", "high", True), ("mistral-medium-3-5", "low", True),
     ("mistral-medium-3-5", "none", False), ("mistral-large-latest", None, False)],
)  # fmt: skip
@pytest.mark.parametrize("call", [False, True])
def test_mistral_gets_its_thoughts_back_while_it_thinks(model: str, effort: str | None, call: bool, echoed: bool) -> None:
    """What an answer of its own said, put into the next request as a caller does it, stands there as it came."""
    target = registry.target(f"mistral/{model}", env={}, api_key="k")
    thoughts, calls = {"type": "thinking", "thinking": [{"type": "text", "text": "first\nthen"}]}, tool_turn("abcdefghi")[1]["tool_calls"]
    message: dict[str, Any] = {"role": "assistant", "content": [thoughts, *([] if call else [{"type": "text", "text": "391"}])]}
    if call:
        message["tool_calls"] = calls
    whole = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    answer = target.dialect.parse_response(Call([USER], {}), target, HttpResponse(200, {}, json.dumps(whole).encode()))
    after = [{"role": "tool", "tool_call_id": "abcdefghi", "content": "1"}] if call else [USER]
    sent = body(f"mistral/{model}", [USER, answer["choices"][0]["message"], *after], reasoning_effort=effort)["messages"]
    assert "reasoning_content" not in sent[1]
    assert sent[1].get("tool_calls") == (calls if call else None)
    assert sent[1]["content"] == (message["content"] if echoed else "" if call else "391")


def test_embeddings() -> None:
    target = registry.target("openai/text-embedding-3-small", env={}, api_key="k")
    call = Call([], {"input": ["a", "b"], "dimensions": 8, "user": None}, operation="embedding")
    request = target.dialect.build_request(call, target)
    assert request.url == "https://api.openai.com/v1/embeddings"
    assert json.loads(request.body) == {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8}
    for model, base, url in (
        ("ollama/m", "http://h", "http://h/v1/embeddings"),
        ("azure/d", "http://h", "http://h/openai/deployments/d/embeddings?api-version=2024-10-21"),
        ("openai/m", "http://h/v1/chat/completions", "http://h/v1/embeddings"),
    ):
        other = registry.target(model, env={}, api_key="k", api_base=base)
        assert other.dialect.build_request(call, other).url == url
    mistral = registry.target("mistral/codestral-embed", env={}, api_key="k")
    request = mistral.dialect.build_request(replace(call, params={"input": "a", "dimensions": 8, "user": "u"}), mistral)
    assert json.loads(request.body) == {"model": "codestral-embed", "input": "a", "output_dimension": 8}
    assert request.dropped == ("user",)
    with pytest.raises(ValueError, match="groq offers no embeddings"):
        groq = registry.target("groq/x", env={}, api_key="k")
        groq.dialect.build_request(call, groq)
    with pytest.raises(ValueError, match="input="):
        target.dialect.build_request(Call([], {}, operation="embedding"), target)


@pytest.mark.parametrize(
    ("model", "efforts"),
    [
        ("openai/o3", {"none": "low", "minimal": "low", "medium": "medium", "xhigh": "high"}),
        ("openai/gpt-5", {"none": "minimal", "minimal": "minimal", "xhigh": "high"}),
        ("openai/gpt-5-mini-2025-08-07", {"none": "minimal", "low": "low"}),
        ("openai/ft:gpt-5-mini:me", {"none": "minimal", "xhigh": "high"}),
        ("openai/gpt-5.1", {"none": "none", "minimal": "low", "xhigh": "high"}),
        ("openai/gpt-5.1-codex-max", {"xhigh": "xhigh"}),
        ("openai/gpt-5.2", {"none": "none", "minimal": "low", "xhigh": "xhigh"}),
        ("openai/gpt-5.10", {"xhigh": "xhigh"}),
        ("groq/openai/gpt-oss-120b", {"none": "low", "minimal": "low", "xhigh": "high", "medium": "medium"}),
        ("groq/qwen/qwen3-32b", {"none": "none", "high": "default"}),
        ("together/openai/gpt-oss-120b", {"minimal": "low", "xhigh": "high"}),
        ("fireworks/gpt-oss-120b", {"none": "none", "minimal": "low", "xhigh": "high"}),
        ("perplexity/sonar-deep-research", {"none": "minimal", "minimal": "minimal", "xhigh": "high"}),
        ("deepseek/deepseek-v4-pro", {"minimal": "low", "medium": "medium", "xhigh": "xhigh"}),
        ("xai/grok-3-mini", {"minimal": "low", "high": "high"}),
        ("xai/grok-4.20", {"low": "low"}),
    ],
)
def test_an_effort_that_a_model_does_not_know_becomes_the_nearest_that_it_does(model: str, efforts: dict[str, str]) -> None:
    assert {e: body(model, reasoning_effort=e)["reasoning_effort"] for e in efforts} == efforts


@pytest.mark.parametrize("model", ["xai/grok-4", "xai/grok-4-fast-reasoning", "xai/grok-code-fast-1"])
def test_models_without_a_switch_for_it_are_not_sent_one(model: str) -> None:
    request = build(model, reasoning_effort="high")
    assert "reasoning_effort" not in json.loads(request.body)
    assert request.dropped == ("reasoning_effort",)


@pytest.mark.parametrize("model", ["openai/gpt-4o-search-preview", "openai/gpt-5-search-api"])
def test_models_that_search_take_no_sampling_settings(model: str) -> None:
    request = build(model, temperature=0.2, top_p=0.5, n=1, web_search_options={}, max_tokens=5)
    sent = json.loads(request.body)
    assert "temperature" not in sent and "top_p" not in sent
    assert sent["web_search_options"] == {}
    assert set(request.dropped) == {"temperature", "top_p", "n"}


def test_usage_of_a_stream_is_asked_for_whatever_the_caller_says_of_it() -> None:
    for given in (None, {"include_usage": False}, {"include_obfuscation": False}):
        kept = {k: v for k, v in (given or {}).items() if k != "include_usage"}
        assert body("openai/gpt-4o", stream=True, stream_options=given)["stream_options"] == {**kept, "include_usage": True}
    assert "stream_options" not in body("mistral/m", stream=True, stream_options={"include_usage": True}), "comes unasked"
    assert "stream_options" not in body("openai/gpt-4o", stream_options={"include_usage": True}), "refused without a stream"


def asked_after_a_result(**fields: Any) -> list[dict[str, Any]]:
    calls = [{"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    return [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": calls, **fields},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "1"}, {"role": "user", "content": "and?"},
    ]  # fmt: skip


def test_deepseeks_thinking_models_get_blank_thoughts_for_calls_made_elsewhere() -> None:
    sent = body("deepseek/deepseek-v4-flash", asked_after_a_result())["messages"]
    assert sent[1]["reasoning_content"] == ""
    assert all("reasoning_content" not in m for m in sent if m["role"] != "assistant")
    own = body("deepseek/deepseek-v4-flash", asked_after_a_result(reasoning_content="Hm."))["messages"]
    assert own[1]["reasoning_content"] == "Hm."
    for model, params in (
        ("deepseek/deepseek-chat", {}), ("deepseek/deepseek-v4-pro", {"reasoning_effort": "none"}),
        ("deepseek/deepseek-v4-pro", {"thinking": {"type": "disabled"}}), ("openai/deepseek-v4-pro", {}),
    ):  # fmt: skip
        assert "reasoning_content" not in body(model, asked_after_a_result(), **params)["messages"][1]
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert body("deepseek/deepseek-v4-flash", plain)["messages"] == plain
