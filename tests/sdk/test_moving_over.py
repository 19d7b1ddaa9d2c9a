"""What someone brings along who called the openai package or another gateway before: its objects, options and habits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageToolCall
from openai.types.chat.chat_completion_message_tool_call import Function

import opentracy as ot
from faultserver import FaultServer, answer, error

USER = [{"role": "user", "content": "hi"}]
KEY = "sk-canary-0123456789"


class City(pydantic.BaseModel):
    name: str
    people: int | None = None


class OldCity:
    """What a model class of pydantic's first generation looks like from outside."""

    @classmethod
    def schema(cls) -> dict[str, Any]:
        place = {"title": "Place", "type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
        properties = {"name": {"title": "Name", "type": "string"}, "place": {"$ref": "#/definitions/Place"}}
        return {"title": "OldCity", "type": "object", "properties": properties, "required": ["name"], "definitions": {"Place": place}}


@dataclasses.dataclass
class PlainCity:
    name: str
    people: int


class DictCity(TypedDict):
    name: str


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.delenv("OPENTRACY_ENGINE_URL", raising=False)
    s = FaultServer()
    s(answer())
    yield s
    s.close()


def sent(server: FaultServer, **kw: Any) -> dict[str, Any]:
    ot.completion("openai/gpt-4o-mini", kw.pop("messages", USER), api_key=KEY, api_base=server.base, **kw)
    return server.seen[-1].json


def test_messages_of_the_openai_package(server: FaultServer) -> None:
    call = ChatCompletionMessageToolCall(id="c1", type="function", function=Function(name="f", arguments="{}"))
    whole = ChatCompletionMessage(role="assistant", content=None, tool_calls=[call])
    inner = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "x"}
    want = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    for message in (whole, inner):
        assert sent(server, messages=[*USER, message, result])["messages"][1]["tool_calls"] == want
    assert inner["tool_calls"] == [call], "the caller's own list stays as it was"
    server(answer(body={"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}))
    ot.completion("anthropic/claude-sonnet-4-5", [*USER, inner, result], api_key=KEY, api_base=server.base)
    assert server.seen[-1].json["messages"][1]["content"][0]["type"] == "tool_use"


def test_our_own_answers_as_messages(server: FaultServer) -> None:
    r = ot.completion("openai/gpt-4o-mini", USER, api_key=KEY, api_base=server.base)
    assert sent(server, messages=[*USER, r.choices[0].message, *USER])["messages"][1]["content"] == "hello"


def test_extra_body_goes_into_the_body_and_before_the_rest(server: FaultServer) -> None:
    body = sent(server, temperature=0.5, extra_body={"temperature": 1, "chat_template_kwargs": {"x": 1}, "none": None})
    assert body["temperature"] == 1
    assert body["chat_template_kwargs"] == {"x": 1}
    assert "extra_body" not in body and "none" not in body
    for bad in ("x", {"messages": []}, {"model": "m"}, {"stream": True}):
        with pytest.raises(ValueError, match="extra_body"):
            sent(server, extra_body=bad)


def test_extra_headers_travel_and_stay_with_their_provider(server: FaultServer) -> None:
    server(error(500), answer())
    fallbacks = [{"model": "groq/m", "api_base": server.base, "api_key": "gsk-0123456789"}]
    given = {"X-Title": "t", "Authorization": "Bearer mine-0123456789"}
    ot.completion(
        "openai/gpt-4o-mini", USER, api_key=KEY, api_base=server.base, extra_headers=given, fallbacks=fallbacks  # type: ignore[arg-type]
    )  # fmt: skip
    first, second = server.seen
    assert first.headers["x-title"] == "t"
    assert first.headers["authorization"] == given["Authorization"], "a header that is given replaces ours"
    assert "x-title" not in second.headers
    assert second.headers["authorization"] == "Bearer gsk-0123456789"


def test_a_secret_among_the_extra_headers_is_not_shown(server: FaultServer) -> None:
    server(error(400, "bad gateway token tok-0123456789abcdef"))
    with pytest.raises(ot.BadRequestError) as raised:
        sent(server, extra_headers={"X-Gateway-Token": "tok-0123456789abcdef"})
    assert "tok-0123456789abcdef" not in f"{raised.value} {raised.value!r} {raised.value.body}"


@pytest.mark.parametrize(
    "bad", ["x", {"a b": "x"}, {"x": 1}, {"x": "a\r\nb: c"}, {"x": "é"}, {"Host": "h"}, {"content-length": "1"}, {1: "x"}]
)
def test_headers_that_cannot_be_sent_are_refused_without_their_values(server: FaultServer, bad: Any) -> None:
    with pytest.raises(ValueError, match="extra_headers"):
        sent(server, extra_headers=bad)
    assert not server.seen


def test_streams_take_extra_headers_too(server: FaultServer) -> None:
    from faultserver import stream

    server(stream())
    for _ in ot.completion(
        "openai/gpt-4o-mini", USER, api_key=KEY, api_base=server.base, stream=True, extra_headers={"x-a": "1"}
    ):
        pass
    assert server.seen[-1].headers["x-a"] == "1"


@pytest.mark.parametrize("described", [City, OldCity, PlainCity, DictCity])
def test_classes_describe_the_answer(server: FaultServer, described: Any) -> None:
    fmt = sent(server, response_format=described)["response_format"]
    assert fmt["type"] == "json_schema"
    assert fmt["json_schema"]["name"] == described.__name__
    assert fmt["json_schema"]["strict"] is True
    schema = fmt["json_schema"]["schema"]
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])
    assert "name" in schema["properties"]


def test_what_describes_nothing_is_refused(server: FaultServer) -> None:
    for bad in (int, "json", City(name="x"), [City]):
        with pytest.raises(ValueError, match="response_format must be"):
            sent(server, response_format=bad)
    assert not server.seen


def test_not_given_is_not_sent(server: FaultServer) -> None:
    body = sent(server, temperature=openai.NOT_GIVEN, tools=openai.omit, user=openai.NOT_GIVEN, seed=None)
    assert set(body) == {"model", "messages"}


def test_numbers_of_numpy(server: FaultServer) -> None:
    body = sent(server, temperature=np.float32(0.5), max_tokens=np.int64(7), logit_bias={"1": np.int64(3)})
    assert (body["temperature"], body["max_tokens"], body["logit_bias"]) == (0.5, 7, {"1": 3})


def test_the_openai_packages_timeout(server: FaultServer) -> None:
    sent(server, timeout=openai.Timeout(30, connect=2))
    sent(server, timeout=openai.Timeout(None))
    with pytest.raises(ValueError, match="timeout"):
        sent(server, timeout=openai.Timeout(0))


def test_what_is_no_json_is_a_value_error(server: FaultServer) -> None:
    with pytest.raises(ValueError, match="type object cannot be sent"):
        sent(server, metadata={"x": object()})
    with pytest.raises(ValueError, match="cannot be sent"):
        sent(server, messages=[{"role": "user", "content": [{"type": "text", "text": object()}]}])
    assert not server.seen


def test_answers_are_read_as_pydantic_objects_are(server: FaultServer) -> None:
    r = ot.completion("openai/gpt-4o-mini", USER, api_key=KEY, api_base=server.base)
    whole = r.model_dump(mode="json", exclude_unset=True, by_alias=True, warnings=False)
    assert whole == json.loads(json.dumps(r)) == r.to_dict() == json.loads(r.to_json()) == json.loads(r.model_dump_json())
    assert type(whole["choices"][0]) is dict
    assert set(r.model_dump(include={"id", "model"})) == {"id", "model"}
    assert "usage" not in r.model_dump(exclude={"usage"})
    assert json.loads(r.model_dump_json(indent=2, include={"id"})) == {"id": r.id}
    assert "service_tier" not in r.model_dump(exclude_none=True)
    theirs = openai.types.chat.ChatCompletion.model_validate(r.model_dump())
    assert theirs.choices[0].message.content == "hello"


def test_optional_fields_read_as_none_at_every_level() -> None:
    raw = {
        "choices": [{
            "message": {"audio": {}, "annotations": [{"url_citation": {}}], "tool_calls": [{"custom": {}}, {"function": {}}]},
            "logprobs": {"content": [{"top_logprobs": [{}]}]},
        }],
        "usage": {"prompt_tokens_details": {}, "completion_tokens_details": {}},
    }  # fmt: skip
    r = ot.ModelResponse(raw)
    choice = r.choices[0]
    message = choice.message
    for path, names in (
        (r, "id object created model system_fingerprint service_tier"),
        (choice, "index finish_reason"),
        (message, "content role refusal function_call reasoning_content"),
        (message.audio, "id data expires_at transcript"),
        (message.annotations[0], "type"),
        (message.annotations[0].url_citation, "url title start_index end_index"),
        (message.tool_calls[0], "id type function"),
        (message.tool_calls[0].custom, "name input"),
        (message.tool_calls[1].function, "name arguments"),
        (choice.logprobs, "refusal"),
        (choice.logprobs.content[0], "token logprob bytes"),
        (choice.logprobs.content[0].top_logprobs[0], "token logprob bytes"),
        (r.usage, "prompt_tokens completion_tokens total_tokens"),
        (r.usage.prompt_tokens_details, "cached_tokens audio_tokens"),
        (
            r.usage.completion_tokens_details,
            "reasoning_tokens audio_tokens accepted_prediction_tokens rejected_prediction_tokens",
        ),
    ):
        for name in names.split():
            assert getattr(path, name) is None, name
        with pytest.raises(AttributeError):
            _ = path.nosuchfield
