"""Whatever stands where in a request that the engine lets through: a provider's request or a plain no, never an accident.

In a run of 200,000 generated requests one `tool_choice` whose type was an object was answered with 500.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_wire import WEATHER, target
from test_native_robustness import damaged

from opentracy.core.wire import Call
from opentracy.engine.errors import Refused
from opentracy.engine.validate import check_chat

MODELS = (
    "openai/gpt-4o", "openai/gpt-5", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "cohere/command-a-03-2025",
    "bedrock/amazon.nova-lite-v1:0", "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", "mistral/m", "groq/m",
    "deepseek/deepseek-chat", "together/m", "perplexity/sonar", "cerebras/m",
)  # fmt: skip
NAMED = {"type": "function", "function": {"name": "now"}}
CALLED = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rom"}'}}
MEDIA = [
    {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "f"}},
]
THOUGHT = {"type": "thinking", "thinking": "t", "signature": "s"}
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x"]}, "b": {"$ref": "#/$defs/c"}}, "$defs": {"c": {"anyOf": [{}]}}}
REQUEST: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": MEDIA},
        {"role": "assistant", "content": None, "tool_calls": [CALLED], "thinking_blocks": [THOUGHT], "reasoning_content": "r"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "18"}]},
    ],
    "tools": [WEATHER, NAMED],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
    "reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 1024}, "stop": ["x"], "max_tokens": 9,
    "logit_bias": {"1": 2}, "metadata": {"a": "b"}, "audio": {"voice": "a", "format": "wav"}, "modalities": ["text"],
    "prediction": {"type": "content", "content": "x"}, "web_search_options": {"search_context_size": "low"},
    "functions": [{"name": "f", "parameters": {}}], "function_call": {"name": "f"},
}  # fmt: skip


def sent(model: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """The body that a provider would be sent; None where the request is refused."""
    params = {name: value for name, value in request.items() if name not in ("model", "messages", "stream")}
    to = target(model)
    try:
        check_chat({"model": model, **request})
        return json.loads(to.dialect.build_request(Call(request["messages"], params), to).body)
    except (Refused, ValueError):
        return None


@settings(max_examples=400)
@given(st.data())
def test_a_request_with_odd_values(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(sorted(set(REQUEST) - {"messages"})), max_size=4, unique=True))
    request = damaged(data, {name: REQUEST[name] for name in ("messages", *chosen)}, ())
    if "messages" in request:
        for model in MODELS:
            sent(model, request)


@pytest.mark.parametrize("model", ["openai/gpt-4o", "mistral/m", "perplexity/sonar"])
@pytest.mark.parametrize(
    "odd",
    [
        {"tool_choice": {"type": {"text": 0}, "text": []}},
        {"tool_choice": {"type": ["function"]}},
        {"response_format": {"type": "json_schema", "json_schema": [None]}},
        {"response_format": {"type": "json_schema", "json_schema": 7}},
        {"messages": [{"role": "assistant", "tool_calls": [{**CALLED, "id": {"x": 1}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": "weather"}]}]},
    ],
)
def test_what_only_a_provider_can_judge_is_left_to_it(model: str, odd: dict[str, Any]) -> None:
    request = {"messages": REQUEST["messages"][:1], **odd}
    assert sent(model, request) is not None
