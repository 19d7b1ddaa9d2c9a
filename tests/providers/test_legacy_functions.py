"""`functions`, `function_call` and the role `function` reach every provider as the tools that replaced them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from native_wire import body_of, call, target

from opentracy.core.wire import Call
from opentracy.providers.legacy import modern

CITY = {"name": "weather", "description": "Weather of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
OLD: list[dict[str, Any]] = [
    {"role": "user", "content": "Oslo? Riga?"},
    {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"role": "function", "name": "weather", "content": "18"},
    {"role": "assistant", "content": "Oslo 18.", "function_call": {"name": "weather", "arguments": '{"city": "Riga"}'}},
    {"role": "function", "name": "weather", "content": "17"},
]


def new() -> list[dict[str, Any]]:
    out = []
    for n, message in enumerate(OLD):
        if "function_call" in message:
            calls = [{"id": f"call_function_{n}", "type": "function", "function": message["function_call"]}]
            out.append({"role": "assistant", "content": message["content"], "tool_calls": calls})
        elif message["role"] == "function":
            out.append({"role": "tool", "tool_call_id": f"call_function_{n - 1}", "content": message["content"]})
        else:
            out.append(message)
    return out


@pytest.mark.parametrize(
    "model",
    [
        "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "cohere/command-a-03-2025",
        "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "cerebras/m", "mistral/m", "deepseek/deepseek-chat", "together/m",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("old", "choice"), [(None, None), ("auto", "auto"), ("none", "none"), ({"name": "weather"}, {"type": "function", "function": {"name": "weather"}})]
)  # fmt: skip
def test_the_old_form_is_sent_as_the_new_one(model: str, old: Any, choice: Any) -> None:
    want = body_of(model, new(), tools=[{"type": "function", "function": CITY}], tool_choice=choice)
    assert body_of(model, OLD, functions=[CITY], function_call=old) == want
    to = target(model)
    request = to.dialect.build_request(call(OLD, functions=[CITY], function_call=old, max_tokens=5), to)
    assert not {"functions", "function_call"} & set(request.dropped)


def test_openai_itself_still_speaks_it() -> None:
    body = body_of("openai/gpt-4o-mini", OLD, functions=[CITY], function_call="auto")
    assert body["functions"] == [CITY]
    assert body["messages"][1]["function_call"] == OLD[1]["function_call"]


def test_a_call_without_it_is_the_same_object() -> None:
    plain = Call(new(), {"tools": []})
    assert modern(plain) is plain


def test_nothing_is_changed_in_place_and_results_without_calls_survive() -> None:
    before = json.dumps(OLD)
    modern(Call(OLD, {"functions": [CITY]}))
    assert json.dumps(OLD) == before
    lonely = modern(Call([{"role": "function", "name": "f", "content": "x"}], {}))
    assert lonely.messages == [{"role": "tool", "tool_call_id": "call_function_f", "content": "x"}]
    with pytest.raises(ValueError, match="functions must be"):
        modern(Call(OLD, {"functions": "x"}))
