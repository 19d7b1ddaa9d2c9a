"""Whole answers of the OpenAI family: what is clean stays, what deviates is mended, what is none is said to be none."""

from __future__ import annotations

import json
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.wire import Call, Failure, HttpResponse, Passing
from opentracy.providers import registry
from opentracy.providers.openai_content import ThinkSplitter

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ASKED = SimpleNamespace(ts_ms=1_750_000_000_000, trace_id="ff")
CALL = Call([], {}, created=1750000000, fallback_id="ff")


def parse(body: Any, model: str = "openai/m", call: Call = CALL, **headers: str) -> dict[str, Any] | Failure:
    target = registry.target(model, env={}, api_key="k")
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    out = target.dialect.parse_response(
        call, target, HttpResponse(200, {"content-type": "application/json", **headers}, raw)
    )
    assert isinstance(out, (dict, Failure))
    return out


def good(body: Any, model: str = "openai/m") -> dict[str, Any]:
    out = parse(body, model)
    assert not isinstance(out, Failure), out
    return out


def bad(body: Any, **headers: str) -> Failure:
    out = parse(body, **headers)
    assert isinstance(out, Failure), out
    return out


def answer(message: dict[str, Any] | None = None, finish: Any = "stop", **kw: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "x"} if message is None else message
    choice = {"index": 0, "message": message, "finish_reason": finish, **kw.pop("choice", {})}
    base = {
        "id": "r",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [choice],
        "usage": USAGE,
    }
    return {**base, **kw}


def call(**kw: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": kw.pop("arguments", "{}")}
    return {"id": "c", "type": "function", "function": function, **kw}


def test_a_clean_answer_stays_as_it_is() -> None:
    body = answer(
        {"role": "assistant", "content": "x", "refusal": None},
        system_fingerprint="fp",
        choice={"logprobs": None},
        x=[1],
    )
    assert good(body) == body


def test_what_is_missing_is_filled_in_and_the_served_model_kept() -> None:
    got = good({"choices": [{"message": {"content": "x"}}]})
    assert got["id"] == "chatcmpl-ff"
    assert (got["created"], got["model"], got["object"], got["usage"]) == (1750000000, "m", "chat.completion", None)
    assert got["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]
    assert good(answer())["model"] == "served"


def test_content_null_is_an_answer() -> None:
    assert good(answer({"role": "assistant", "content": None}))["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize(
    ("finish", "calls", "want"),
    [
        ("stop", True, "tool_calls"), ("tool_calls", True, "tool_calls"), ("length", True, "length"), (None, True, "tool_calls"),
        (None, False, "stop"), ("eos", False, "stop"), ("model_length", False, "length"), ("content_filter", False, "content_filter"),
        ("something_new", False, "something_new"), ("function_call", False, "function_call"),
    ],
)  # fmt: skip
def test_known_bug_11_finish_reasons(finish: Any, calls: bool, want: str) -> None:
    message = {"role": "assistant", "content": None, **({"tool_calls": [call()]} if calls else {})}
    assert good(answer(message, finish))["choices"][0]["finish_reason"] == want


@pytest.mark.parametrize(("value", "want"), [("not json", "not json"), ({"a": 1}, '{"a":1}'), (None, "{}"), ("", "{}")])
def test_tool_arguments_are_text(value: Any, want: str) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call(arguments=value, index=0)]}
    got = good(answer(message))["choices"][0]["message"]["tool_calls"]
    assert got == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": want}}]


def test_tool_ids_exist_and_differ() -> None:
    message = {"role": "assistant", "tool_calls": [call(), call(), call(id=None), call(id="d", type=None)]}
    calls = good(answer(message))["choices"][0]["message"]["tool_calls"]
    assert [c["id"] for c in calls] == ["c", "call_ff_1", "call_ff_2", "d"]
    assert {c["type"] for c in calls} == {"function"}


def test_custom_tool_calls_pass() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    message = {"role": "assistant", "content": None, "tool_calls": [custom]}
    assert good(answer(message, "tool_calls"))["choices"][0]["message"]["tool_calls"] == [custom]


def test_several_messages_of_a_choice_become_one() -> None:
    ran = {"id": "a1b2c3d4e", "function": {"name": "web_search", "arguments": "{}"}}
    wants = {"id": "f1b2c3d4e", "function": {"name": "f", "arguments": "{}"}}
    said = [
        {"role": "assistant", "content": "Let me see. ", "tool_calls": [ran]},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": [{"type": "text", "text": "It rains."}], "tool_calls": [wants]},
    ]
    body = answer(finish="tool_calls", choice={"messages": said})
    del body["choices"][0]["message"]
    choice = good(body, "mistral/mistral-large-latest")["choices"][0]
    assert choice["message"]["content"] == "Let me see. It rains."
    assert [c["id"] for c in choice["message"]["tool_calls"]] == ["f1b2c3d4e"]
    assert choice["messages"][0]["content"] == "Let me see. ", "what was said one by one stays beside it"


@pytest.mark.parametrize("messages", [[], [None], [{"role": "tool", "content": "x"}], {"content": "x"}, "x"])
def test_messages_without_an_assistants_are_no_answer(messages: Any) -> None:
    body = answer(choice={"messages": messages, "message": None})
    assert bad(body).kind == "bad_body"


def test_an_empty_message_is_one() -> None:
    assert good(answer({}))["choices"][0]["message"] == {"role": "assistant", "content": None}


def test_several_choices_are_numbered() -> None:
    two = {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}, "index": 7}]}
    assert [c["index"] for c in good(two)["choices"]] == [0, 1]


def test_reasoning_before_the_text_is_lifted_where_a_model_is_known_for_it() -> None:
    text = "<think>\nHm.\n</think>\n\nYes."
    message = good(answer({"role": "assistant", "content": text}), "perplexity/sonar-reasoning-pro")["choices"][0][
        "message"
    ]
    assert (message["reasoning_content"], message["content"]) == ("Hm.\n", "Yes.")
    assert (
        good(answer({"role": "assistant", "content": text}), "perplexity/sonar")["choices"][0]["message"]["content"]
        == text
    )
    cut = good(answer({"role": "assistant", "content": "<think>Hm"}, "length"), "perplexity/sonar-reasoning")
    assert cut["choices"][0]["message"]["content"] == "<think>Hm"


@given(
    st.text("<think>/ab\n ", max_size=30)
    | st.builds("<think>{}</think>{}".format, st.text(max_size=9), st.text(max_size=9)),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_lifting_is_the_same_for_any_cut_and_loses_nothing(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    splitter = ThinkSplitter()
    pieces = [splitter.feed(text[a:b]) for a, b in pairwise(edges)] + [splitter.close()]
    whole = ThinkSplitter()
    parts = [whole.feed(text), whole.close()]
    assert ["".join(p[i] for p in pieces) for i in (0, 1)] == ["".join(p[i] for p in parts) for i in (0, 1)]
    if not text.lstrip().startswith("<think>"):
        assert "".join(p[1] for p in pieces) == text


@pytest.mark.parametrize(
    "body",
    [
        [], "text", None, 5, {}, {"choices": None}, {"choices": []}, {"choices": {}}, {"choices": [None]},
        {"choices": [{"message": None}]}, b"<html>", b'{"choices": [', b"[" * 100_000, b'{"choices": [1]} x',
    ],
)  # fmt: skip
def test_what_is_no_completion_is_called_so(body: Any) -> None:
    failure = bad(body)
    assert (failure.kind, failure.retryable, failure.status) == ("bad_body", False, 200)
    assert "application/json" in failure.message


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_an_empty_body_may_be_tried_again(body: bytes) -> None:
    failure = bad(body, **{"x-request-id": "q"})
    assert (failure.kind, failure.retryable, failure.status, failure.request_id) == ("empty_body", True, 200, "q")


@pytest.mark.parametrize(
    ("body", "status", "message", "retryable"),
    [
        ({"error": {"message": "boom", "code": 429}}, 429, "boom", True),
        ({"error": {"message": "boom", "code": "503"}}, 503, "boom", True),
        ({"error": {"message": "boom", "type": "invalid_request_error"}}, 400, "boom", False),
        ({"error": "boom"}, None, "boom", True),
        ({"object": "error", "message": "boom", "code": 400}, 400, "boom", False),
        ({"detail": "boom"}, None, "boom", True),
        ({"error": {"error": {"message": "boom", "code": 404}}}, 404, "boom", False),
        (answer(choice={"error": {"message": "boom", "code": 502}}), 502, "boom", True),
    ],
)
def test_an_error_inside_a_200_is_an_error(body: Any, status: int | None, message: str, retryable: bool) -> None:
    failure = bad(body)
    assert (failure.kind, failure.status, failure.message, failure.retryable) == (
        "provider_error",
        status,
        message,
        retryable,
    )


def test_an_empty_error_beside_an_answer_is_none() -> None:
    assert good(answer(error=None))["choices"]


def test_unclean_usage_is_unknown_not_zero() -> None:
    got = good(answer(usage={"prompt_tokens": -1, "completion_tokens": True, "total_tokens": 5}))["usage"]
    assert (got["prompt_tokens"], got["completion_tokens"]) == (None, None)


def test_embeddings_come_as_openais_list() -> None:
    embedding = Call([], {"input": "a"}, operation="embedding")
    got = parse({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 2, "total_tokens": 2}}, call=embedding)
    assert isinstance(got, dict)
    assert (got["object"], got["model"]) == ("list", "m")
    assert got["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    assert got["usage"]["prompt_tokens"] == 2
    assert isinstance(parse({"data": []}, call=embedding), Failure)


FORWARDING = Call([], {}, created=1750000000, fallback_id="ff", forwards=True)
_ODD = st.sampled_from([None, 0, 1, 1.5, "", "x", True, [], {}, ["x"], {"x": 1}, -1])
_COUNT = st.integers(-1, 9)
_MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "assistant", "user", None]), "content": st.one_of(st.text(), st.none(), _ODD)},
    optional=dict.fromkeys(("refusal", "tool_calls", "reasoning", "reasoning_content", "annotations"), _ODD),
)
_DETAILS = st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens"]), st.one_of(_COUNT, _ODD))
_USAGES = st.one_of(
    st.just(USAGE),
    st.builds(lambda details: {**USAGE, "prompt_tokens_details": details}, _DETAILS),
    st.fixed_dictionaries({"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT}),
    _ODD,
)


@st.composite
def _answers(draw: st.DrawFn) -> dict[str, Any]:
    finish = draw(st.sampled_from(["stop", "stop", "length", "content_filter", "tool_calls", "eos", None, 3]))
    extra = draw(st.dictionaries(st.sampled_from(["error", "delta", "logprobs", "index"]), _ODD, max_size=1))
    top = draw(st.dictionaries(st.sampled_from(["id", "object", "created", "model", "error", "_cost", "x_groq", "z"]), _ODD, max_size=1))
    return {**answer(draw(_MESSAGES), finish, choice=extra), "usage": draw(_USAGES), **top}


@given(_answers(), st.booleans())
def test_what_passes_is_what_the_long_way_makes_of_it(body: dict[str, Any], spaced: bool) -> None:
    raw = json.dumps(body, indent=1 if spaced else None).encode() + b"\n" * spaced
    target = registry.target("openai/m", env={}, api_key="k")
    response = HttpResponse(200, {"content-type": "application/json"}, raw)
    found = target.dialect.parse_response(FORWARDING, target, response)
    expected = target.dialect.parse_response(CALL, target, response)
    if not isinstance(found, Passing):
        assert found == expected
        return
    assert isinstance(expected, dict)
    assert json.loads(found.with_extras(b'{"_x":1}')) == {**expected, "_x": 1}
    assert (found.model, found.usage) == (expected["model"], expected["usage"])
    assert found.finish_reason == expected["choices"][0]["finish_reason"]


def test_a_clean_answer_passes_only_where_it_is_asked_for() -> None:
    target = registry.target("openai/m", env={}, api_key="k")
    response = HttpResponse(200, {}, json.dumps(answer()).encode())
    assert isinstance(target.dialect.parse_response(FORWARDING, target, response), Passing)
    assert isinstance(target.dialect.parse_response(CALL, target, response), dict)


def test_no_byte_that_is_no_text_passes() -> None:
    target = registry.target("openai/m", env={}, api_key="k")
    raw = json.dumps({**answer(), "z": "?"}).encode()
    forwarding = target.dialect.forwarding(target)  # type: ignore[attr-defined]
    for more, passes in ((b"\xc3\xa9", True), (b"\xff", False)):
        body = raw.replace(b"?", more)
        found = target.dialect.parse_response(FORWARDING, target, HttpResponse(200, {}, body))
        assert isinstance(found, Passing) is passes
        assert (forwarding.answer(body, {}, ASKED) is not None) is passes
        if not passes:
            assert isinstance(found, dict)
            assert found["z"] == "\ufffd"
