"""What a call becomes on Cohere's wire."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from opentracy.core.wire import Call, Credentials, HttpRequest, Target
from opentracy.providers import registry
from opentracy.providers.cohere import DIALECT

TOOL = {"type": "function", "function": {"name": "now", "description": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}, "strict": False}}
OTHER = {"type": "function", "function": {"name": "dice"}}
USER = {"role": "user", "content": "hi"}


def target(model: str = "command-a-03-2025", base: str = "https://api.cohere.com") -> Target:
    return Target("cohere", model, DIALECT, base, Credentials("geheim"))


def request(messages: list[dict[str, Any]] | None = None, model: str = "command-a-03-2025", *, stream: bool = False, strict: bool = False, **params: Any) -> HttpRequest:
    call = Call(messages or [USER], params, stream=stream, strict_params=strict)
    return DIALECT.build_request(call, target(model))


def body(*args: Any, **kw: Any) -> dict[str, Any]:
    return json.loads(request(*args, **kw).body)


def test_a_plain_request() -> None:
    sent = request(max_tokens=9, temperature=0.2, seed=3)
    assert (sent.method, sent.url) == ("POST", "https://api.cohere.com/v2/chat")
    assert sent.headers == {"content-type": "application/json", "accept": "application/json", "authorization": "Bearer geheim"}
    assert json.loads(sent.body) == {
        "model": "command-a-03-2025", "messages": [USER], "stream": False, "max_tokens": 9, "temperature": 0.2, "seed": 3,
    }
    assert sent.dropped == ()
    assert "geheim" not in repr(sent)


def test_a_stream_differs_only_in_its_switch() -> None:
    """KNOWN_BUGS 23: tools must not get lost when streaming."""
    plain, stream = body(tools=[TOOL]), body(tools=[TOOL], stream=True, stream_options={"include_usage": True})
    assert stream.pop("stream") is True
    assert plain.pop("stream") is False
    assert plain == stream


@pytest.mark.parametrize("base", ["https://x.test", "https://x.test/", "https://x.test/v2", "https://x.test/v1/"])
def test_a_base_with_a_version_is_tolerated(base: str) -> None:
    assert DIALECT.build_request(Call([USER], {}), target(base=base)).url == "https://x.test/v2/chat"


def test_the_registry_leads_here() -> None:
    found = registry.target("command-r-plus", env={"CO_API_KEY": "k"})
    assert (found.provider, found.dialect) == ("cohere", DIALECT)


def test_names_are_cohere_s() -> None:
    made = body(top_p=0.5, top_k=7, stop="END", max_completion_tokens=5, frequency_penalty=0.1, presence_penalty=0.2, logprobs=True)
    assert {k: made[k] for k in ("p", "k", "stop_sequences", "max_tokens", "frequency_penalty", "presence_penalty", "logprobs")} == {
        "p": 0.5, "k": 7, "stop_sequences": ["END"], "max_tokens": 5, "frequency_penalty": 0.1, "presence_penalty": 0.2, "logprobs": True,
    }
    assert "top_p" not in made and "stop" not in made


@pytest.mark.parametrize(("given", "sent"), [(1, 0.99), (0, 0.01), (0.3, 0.3)])
def test_top_p_keeps_within_the_open_interval(given: float, sent: float) -> None:
    assert body(top_p=given)["p"] == sent


def test_unknown_names_pass_verbatim() -> None:
    documents = [{"id": "d", "data": {"text": "x"}}]
    made = body(documents=documents, safety_mode="NONE")
    assert (made["documents"], made["safety_mode"]) == (documents, "NONE")


def test_what_has_no_equivalent_is_dropped_and_named() -> None:
    sent = request(user="u", n=2, logit_bias={"1": 2}, parallel_tool_calls=True, metadata={"a": "b"})
    assert sorted(sent.dropped) == ["logit_bias", "metadata", "n", "user"]
    assert json.loads(sent.body).keys() == {"model", "messages", "stream"}
    assert "parallel_tool_calls" in request(parallel_tool_calls=False).dropped
    assert request(n=1).dropped == ()


def test_strict_params_refuses_them() -> None:
    with pytest.raises(ValueError, match="cohere has no equivalent for: user"):
        request(user="u", strict=True)


def test_tools_and_their_choice() -> None:
    made = body(tools=[TOOL, OTHER], tool_choice="required")
    assert made["tool_choice"] == "REQUIRED"
    assert made["tools"] == [
        {"type": "function", "function": {k: TOOL["function"][k] for k in ("name", "description", "parameters")}},  # type: ignore[index]
        {"type": "function", "function": {"name": "dice", "description": "", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert body(tools=[TOOL], tool_choice="none")["tool_choice"] == "NONE"
    assert "tool_choice" not in body(tools=[TOOL], tool_choice="auto")
    assert "tool_choice" not in body(tool_choice="none")


def test_a_named_tool_is_the_only_one_sent() -> None:
    made = body(tools=[TOOL, OTHER], tool_choice={"type": "function", "function": {"name": "dice"}})
    assert [t["function"]["name"] for t in made["tools"]] == ["dice"]
    assert made["tool_choice"] == "REQUIRED"
    with pytest.raises(ValueError, match="not among tools: gone"):
        body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "gone"}})


def test_allowed_tools() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "dice"}}]}}
    made = body(tools=[TOOL, OTHER], tool_choice=choice)
    assert [t["function"]["name"] for t in made["tools"]] == ["dice"]
    assert "tool_choice" not in made


def test_strict_tools_are_all_or_none() -> None:
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    assert body(tools=[strict])["strict_tools"] is True
    assert "strict_tools" not in body(tools=[strict, TOOL])


@pytest.mark.parametrize(
    ("tools", "words"),
    [("now", "tools must be a list"), ([{"type": "web_search"}], "only tools of type 'function'"), ([{"type": "function", "function": {}}], "needs a name"), (["now"], "must be a dict")],
)
def test_tools_that_cannot_be_said(tools: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        body(tools=tools)


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert body(response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
    assert body(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})["response_format"] == {
        "type": "json_object", "json_schema": schema,
    }
    assert "response_format" not in body(response_format={"type": "text"})
    with pytest.raises(ValueError, match="grammar"):
        body(response_format={"type": "grammar"})


def test_reasoning_effort() -> None:
    reasoner = "command-a-reasoning-08-2025"
    assert body(model=reasoner, reasoning_effort="low")["thinking"] == {"type": "enabled", "token_budget": 1024}
    assert body(model=reasoner, reasoning_effort="high")["thinking"] == {"type": "enabled"}
    assert body(model=reasoner, reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert body(model=reasoner, reasoning_effort="low", thinking={"type": "disabled"})["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" in request(reasoning_effort="low").dropped
    assert request(reasoning_effort="none").dropped == ()


def test_pictures_and_roles() -> None:
    content = [
        {"type": "text", "text": "what?", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "image_url", "image_url": "https://x.test/a.png"},
    ]
    made = body([{"role": "developer", "content": "be brief"}, {"role": "user", "content": content}])
    assert made["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        ]},
    ]  # fmt: skip


def test_a_tool_round() -> None:
    """KNOWN_BUGS 9: empty arguments in the history are an empty object."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "now", "arguments": ""}, "index": 0},
        {"id": "b", "type": "function", "function": {"name": "dice", "arguments": '{"n": 1}'}},
    ]
    history = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": calls, "tool_plan": "look", "citations": [{"start": 0}]},
        {"role": "tool", "tool_call_id": "b", "content": "6"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "12:00"}, {"type": "document", "document": {"data": {"t": 1}}}]},
    ]
    assert body(history)["messages"][1:] == [
        {"role": "assistant", "tool_plan": "look", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "dice", "arguments": '{"n": 1}'}},
        ]},
        {"role": "tool", "tool_call_id": "b", "content": "6"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "12:00"}, {"type": "document", "document": {"data": {"t": 1}}}]},
    ]  # fmt: skip


def test_thoughts_go_back_to_a_model_that_thinks() -> None:
    said = {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
    assert body([USER, said, USER], "command-a-reasoning-08-2025")["messages"][1] == {
        "role": "assistant", "content": [{"type": "thinking", "thinking": "2+2"}, {"type": "text", "text": "4"}],
    }
    assert body([USER, said, USER])["messages"][1] == {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "tool", "content": "x"}, "tool_call_id"),
        ({"role": "wizard", "content": "x"}, "unknown message role 'wizard'"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "no part of type 'input_audio'"),
        ({"role": "user", "content": 7}, "string or a list of parts"),
        ("hello", "must be a dict"),
    ],
)
def test_messages_that_cannot_be_said(message: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        body([message])


def test_embeddings() -> None:
    call = Call([], {"input": ["a", "b"], "dimensions": 256, "input_type": "search_query"}, operation="embedding")
    sent = DIALECT.build_request(call, target("embed-v4.0"))
    assert sent.url == "https://api.cohere.com/v2/embed"
    assert json.loads(sent.body) == {
        "model": "embed-v4.0", "texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 256,
    }
    with pytest.raises(ValueError, match="no token ids"):
        DIALECT.build_request(Call([], {"input": [[1, 2]]}, operation="embedding"), target("embed-v4.0"))


def test_a_file_of_words_is_said_and_any_other_is_refused() -> None:
    def asked(data: str, name: str) -> list[dict[str, Any]]:
        part = {"type": "file", "file": {"file_data": data, "filename": name}}
        return [{"role": "user", "content": [{"type": "text", "text": "Sum up"}, part]}]

    words = "data:text/plain;base64," + base64.b64encode("größer".encode()).decode()
    said = body(asked(words, "notes.txt"))["messages"][0]["content"]
    assert said == [{"type": "text", "text": "Sum up"}, {"type": "text", "text": "notes.txt:\ngrößer"}]
    with pytest.raises(ValueError, match="cohere takes no part of type 'file'"):
        body(asked("data:application/pdf;base64,JVBERi0=", "a.pdf"))
