"""Nothing a server sends makes the dialect raise, and nothing it takes for an answer has another shape than OpenAI's."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from opentracy.core.relay import MessageFold
from opentracy.core.wire import Call, Failure, HttpHead, HttpResponse
from opentracy.providers import registry

MODELS = st.sampled_from(["openai/m", "mistral/m", "perplexity/sonar-reasoning", "sambanova/m"])
WORDS = st.sampled_from(
    ["", "a", "stop", "error", "assistant", "text", "thinking", "<think>", "</think>", "[DONE]", "429"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats(allow_nan=False, allow_infinity=False) | WORDS
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "text", "id", "name", "arguments"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, each of them right or, now and then, junk."""
    return st.fixed_dictionaries({}, optional={k: st.one_of(v, v, v, JUNK) for k, v in fields.items()})


FUNCTION = shaped(name=WORDS, arguments=st.just('{"a":1}'))
TOOL = shaped(index=st.integers(-1, 3), id=WORDS, type=WORDS, function=FUNCTION, custom=FUNCTION)
PART = shaped(type=WORDS, text=WORDS, thinking=WORDS | st.lists(shaped(type=WORDS, text=WORDS), max_size=2))
SAID = shaped(
    role=WORDS, content=WORDS | st.lists(PART, max_size=2), reasoning=WORDS, reasoning_content=WORDS, refusal=WORDS,
    tool_calls=st.lists(TOOL, max_size=3), function_call=FUNCTION,
)  # fmt: skip
ENTRY = shaped(index=st.integers(0, 2), delta=SAID, message=SAID, finish_reason=WORDS, error=JUNK, logprobs=JUNK)
BODY = shaped(
    id=WORDS, object=WORDS, created=SCALARS, model=WORDS, choices=st.lists(ENTRY, max_size=2), usage=JUNK, error=JUNK,
    x_groq=shaped(usage=JUNK), detail=JUNK,
)  # fmt: skip


def check_message(message: dict[str, Any]) -> None:
    assert isinstance(message.get("content"), (str, type(None)))
    assert isinstance(message.get("reasoning_content"), (str, type(None)))
    for call in message.get("tool_calls", ()):
        assert isinstance(call["id"], str)
        assert call["id"]
        if "function" in call:
            assert isinstance(call["function"]["name"], str)
            assert isinstance(call["function"]["arguments"], str)


@settings(max_examples=300)
@given(BODY | JUNK, MODELS)
def test_any_body_is_an_answer_or_a_failure(body: Any, model: str) -> None:
    target = registry.target(model, env={}, api_key="k")
    response = HttpResponse(200, {}, json.dumps(body).encode())
    got = target.dialect.parse_response(Call([], {}, fallback_id="ff"), target, response)
    if isinstance(got, Failure):
        assert isinstance(got.message, str)
        return
    assert isinstance(got["id"], str)
    assert type(got["created"]) is int
    for i, choice in enumerate(got["choices"]):
        assert choice["index"] == i
        assert isinstance(choice["finish_reason"], str)
        check_message(choice["message"])
    json.dumps(got, allow_nan=False)


@settings(max_examples=300)
@given(st.lists(BODY | JUNK, max_size=6), st.booleans(), MODELS)
def test_any_events_are_a_stream_or_a_failure(events: list[Any], done: bool, model: str) -> None:
    target = registry.target(model, env={}, api_key="k")
    decoder = target.dialect.open_stream(Call([], {}, True, fallback_id="ff"), target, HttpHead(200, {}))
    raw = b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in events) + (b"data: [DONE]\n\n" if done else b"")
    chunks = decoder.feed(raw) + decoder.close()
    fold = MessageFold()
    for chunk in chunks:
        assert isinstance(chunk["id"], str)
        assert chunk["choices"]
        fold.add(chunk)
    finished = bool(chunks) and all(c["finish_reason"] for c in chunks[-1]["choices"])
    assert finished is (decoder.failure is None)
    for choice in fold.choices():
        check_message(choice["message"])


@given(st.binary(max_size=200), st.integers(400, 599))
def test_any_error_body_has_a_message(body: bytes, status: int) -> None:
    target = registry.target("openai/m", env={}, api_key="k")
    assert target.dialect.parse_error(target, HttpResponse(status, {}, body)).message


@given(BODY)
def test_any_error_object_has_a_message(body: Any) -> None:
    target = registry.target("openai/m", env={}, api_key="k")
    failure = target.dialect.parse_error(target, HttpResponse(500, {}, json.dumps(body).encode()))
    assert failure.message
    assert isinstance(failure.code, (str, type(None)))
