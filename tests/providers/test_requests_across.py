"""What one form of request becomes at providers that lack a part of it: refusals and speech of earlier answers, tools in
the history, lists of allowed tools, scales and schemas."""

from __future__ import annotations

from typing import Any

import pytest
from native_wire import WEATHER, body_of, call, target

ASK = {"role": "user", "content": "?"}
REFUSED = {"role": "assistant", "content": None, "refusal": "I will not."}
SPOKEN = {"role": "assistant", "content": None, "audio": {"id": "audio_1", "data": "AAAA", "transcript": "Good day", "expires_at": 9}}
NOW = {"type": "function", "function": {"name": "now"}}
CALLED = {
    "role": "assistant",
    "content": "I look.",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rom"}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "18"}


def dropped(model: str, **params: Any) -> tuple[str, ...]:
    to = target(model)
    return to.dialect.build_request(call(**params), to).dropped


@pytest.mark.parametrize("said", [REFUSED, SPOKEN])
def test_a_refusal_and_speech_are_openais_own_fields(said: dict[str, Any]) -> None:
    words = said.get("refusal") or said["audio"]["transcript"]
    own = body_of("openai/gpt-4o-audio-preview", [ASK, said, ASK])["messages"][1]
    assert own == ({**said, "audio": {"id": "audio_1"}} if "audio" in said else said)
    for model in ("groq/m", "mistral/m", "deepseek/m", "cohere/command-a-03-2025"):
        assert body_of(model, [ASK, said, ASK])["messages"][1] == {"role": "assistant", "content": words}, model
    assert body_of("anthropic/claude-sonnet-4-5", [ASK, said, ASK])["messages"][1] == {"role": "assistant", "content": words}
    assert body_of("gemini/gemini-2.5-flash", [ASK, said, ASK])["contents"][1]["parts"] == [{"text": words}]
    assert body_of("bedrock/amazon.nova-lite-v1:0", [ASK, said, ASK])["messages"][1]["content"] == [{"text": words}]


def test_perplexity_knows_no_tools_in_the_history_either() -> None:
    two = {**CALLED, "tool_calls": [*CALLED["tool_calls"], {"id": "b", "function": {"name": "now", "arguments": "{}"}}]}
    body = body_of("perplexity/sonar", [ASK, two, RESULT, {**RESULT, "tool_call_id": "b", "content": "noon"}, ASK], tools=[WEATHER])
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert all(m.keys() == {"role", "content"} for m in body["messages"])
    assert '(Calls weather with {"city":"Rom"})\n(Calls now with {})' in body["messages"][1]["content"]
    assert body["messages"][1]["content"].startswith("I look.")
    assert body["messages"][2]["content"] == "(Result of weather)\n\n18\n\n(Result of now)\n\nnoon\n\n?"


@pytest.mark.parametrize(("mode", "word"), [("required", "required"), ("auto", "auto")])
def test_allowed_tools_are_the_only_ones_sent_where_they_cannot_be_listed(mode: str, word: str) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NOW]}}
    for model in ("groq/m", "mistral/m", "together/m"):
        body = body_of(model, tools=[WEATHER, NOW], tool_choice=choice)
        assert [t["function"]["name"] for t in body["tools"]] == ["now"], model
        assert body["tool_choice"] == word
    body = body_of("openai/gpt-5", tools=[WEATHER, NOW], tool_choice=choice)
    assert (len(body["tools"]), body["tool_choice"]) == (2, choice)


def test_any_is_spelled_required() -> None:
    assert body_of("openai/gpt-4o", tools=[NOW], tool_choice="any")["tool_choice"] == "required"


def test_mistral_wants_parameters_even_where_there_are_none() -> None:
    assert body_of("mistral/m", tools=[NOW])["tools"] == [
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    ]
    assert body_of("openai/gpt-4o", tools=[NOW])["tools"] == [NOW]


@pytest.mark.parametrize(("model", "sent"), [("mistral/m", 1.5), ("cerebras/m", 1.5), ("openai/gpt-4o", 1.8), ("groq/m", 1.8)])
def test_a_temperature_on_openais_scale_fits_the_providers(model: str, sent: float) -> None:
    assert body_of(model, temperature=1.8)["temperature"] == sent
    assert body_of(model, temperature=0.3)["temperature"] == 0.3
    assert body_of(model, temperature=7)["temperature"] == 7  # nonsense: the provider's own words are the better error


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai/gpt-4.1-mini", "openai/gpt-3.5-turbo", "groq/llama-3.3-70b-versatile"])
def test_a_model_that_cannot_reason_is_not_asked_to(model: str) -> None:
    assert "reasoning_effort" not in body_of(model, reasoning_effort="high")
    assert dropped(model, reasoning_effort="high") == ("reasoning_effort",)


def test_perplexity_is_asked_for_json_in_words() -> None:
    body = body_of("perplexity/sonar", response_format={"type": "json_object"})
    assert "response_format" not in body
    assert "JSON" in body["messages"][0]["content"]
    assert dropped("perplexity/sonar", response_format={"type": "json_object"}) == ("response_format",)


SCHEMA = {
    "type": "object",
    "title": "T",
    "properties": {"kind": {"const": "a"}, "const": {"type": "string"}, "city": {"anyOf": [{"$ref": "#/$defs/City"}, {"type": "null"}]}},
    "required": ["kind"],
    "additionalProperties": False,
    "$defs": {"City": {"type": "object", "properties": {"near": {"$ref": "#/$defs/City"}, "name": {"type": "string"}}}},
}
TOOL = {"type": "function", "function": {"name": "go", "description": "d", "parameters": SCHEMA}}


def test_gemini_gets_a_constant_as_a_choice_of_one() -> None:
    sent = body_of("gemini/gemini-2.5-flash", tools=[TOOL])["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]
    assert sent == {**SCHEMA, "properties": {**SCHEMA["properties"], "kind": {"enum": ["a"]}}}


def test_nova_takes_no_definitions_at_the_top_of_a_schema() -> None:
    sent = body_of("bedrock/us.amazon.nova-lite-v1:0", tools=[TOOL])["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    city = {"type": "object", "properties": {"near": {"type": "object"}, "name": {"type": "string"}}}
    assert sent == {
        "type": "object",
        "properties": {"kind": {"const": "a"}, "const": {"type": "string"}, "city": {"anyOf": [city, {"type": "null"}]}},
        "required": ["kind"],
    }
    claude = body_of("bedrock/anthropic.claude-3-haiku-20240307-v1:0", tools=[TOOL])
    assert claude["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"] == SCHEMA


@pytest.mark.parametrize("kind", ["function", "tool"])
def test_a_named_tool_is_understood_in_the_forms_of_other_apis(kind: str) -> None:
    choice = {"type": kind, "name": "now"}
    params: dict[str, Any] = {"tools": [WEATHER, NOW], "tool_choice": choice}
    assert body_of("openai/gpt-4o", **params)["tool_choice"] == {"type": "function", "function": {"name": "now"}}
    assert body_of("anthropic/claude-sonnet-4-5", **params)["tool_choice"] == {"type": "tool", "name": "now"}
    config = body_of("gemini/gemini-2.5-flash", **params)["toolConfig"]["functionCallingConfig"]
    assert config == {"mode": "ANY", "allowedFunctionNames": ["now"]}
    assert body_of("bedrock/amazon.nova-lite-v1:0", **params)["toolConfig"]["toolChoice"] == {"tool": {"name": "now"}}
    assert [t["function"]["name"] for t in body_of("cohere/command-a-03-2025", **params)["tools"]] == ["now"]


@pytest.mark.parametrize(("word", "openai", "gemini"), [("any", "required", "ANY"), ("none", "none", "NONE"), ("auto", "auto", "AUTO")])
def test_a_choice_as_an_object_says_the_same_as_the_word(word: str, openai: str, gemini: str) -> None:
    params: dict[str, Any] = {"tools": [NOW], "tool_choice": {"type": word}}
    assert body_of("openai/gpt-4o", **params)["tool_choice"] == openai
    assert body_of("gemini/gemini-2.5-flash", **params)["toolConfig"]["functionCallingConfig"] == {"mode": gemini}


def test_tools_of_bedrocks_own_pass_beside_functions() -> None:
    search = {"systemTool": {"name": "nova_grounding"}}
    sent = body_of("bedrock/us.amazon.nova-2-lite-v1:0", tools=[WEATHER, search], tool_choice="auto")["toolConfig"]
    assert sent["tools"][1] == search
    assert sent["tools"][0]["toolSpec"]["name"] == "weather"
    assert body_of("bedrock/us.amazon.nova-2-lite-v1:0", tools=[search])["toolConfig"] == {"tools": [search]}
    with pytest.raises(ValueError, match="type 'function'"):
        body_of("bedrock/us.amazon.nova-2-lite-v1:0", tools=[{"type": "web_search"}])
