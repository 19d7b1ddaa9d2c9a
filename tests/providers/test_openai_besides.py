"""What servers of the OpenAI family say besides text and calls, plain and streamed: both must tell the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from native_wire import answer, body_of, decode, folded

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def plain(provider: str, message: dict[str, Any], finish: str = "stop", **choice: Any) -> dict[str, Any]:
    one = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [one], "usage": USAGE}
    found: dict[str, Any] = answer(f"{provider}/m", body)["choices"][0]
    return found


def chunk(delta: dict[str, Any], finish: str | None = None, choice: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    one = {"index": 0, "delta": delta, "finish_reason": finish, **(choice or {})}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [one], **fields}


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(c).encode() for c in chunks) + b"data: [DONE]\n\n"


def streamed(provider: str, *chunks: dict[str, Any]) -> dict[str, Any]:
    last = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE}
    found: dict[str, Any] = folded(f"{provider}/m", sse(*chunks, last))["choices"][0]
    return found


@pytest.mark.parametrize("repeats", [True, False])
def test_speech_has_one_id_however_often_it_is_said(repeats: bool) -> None:
    id = {"id": "audio_1"} if repeats else {}
    found = streamed(
        "openai",
        chunk({"role": "assistant", "content": None, "audio": {"id": "audio_1", "transcript": "Good "}}),
        chunk({"audio": {**id, "transcript": "day"}}),
        chunk({"audio": {**id, "data": "AAAA"}}),
        chunk({"audio": {**id, "data": "BBBB"}}),
        chunk({"audio": {"expires_at": 9}}),
        chunk({}, "stop"),
    )
    spoken = {"id": "audio_1", "transcript": "Good day", "data": "AAAABBBB", "expires_at": 9}
    assert found["message"] == plain("openai", {"content": None, "audio": spoken})["message"]


def test_a_tool_that_ran_at_the_server_is_one_entry() -> None:
    asked = {"index": 0, "type": "search", "arguments": '{"q": 1}'}
    ran = {**asked, "output": "found", "search_results": {"results": [{"title": "t"}]}}
    second = {"index": 1, "type": "python", "arguments": "1"}
    found = streamed(
        "groq",
        chunk({"role": "assistant", "executed_tools": [asked]}),
        chunk({"executed_tools": [ran]}),
        chunk({"executed_tools": [second]}),
        chunk({"content": "Hi"}),
        chunk({}, "stop"),
    )
    assert found["message"] == plain("groq", {"content": "Hi", "executed_tools": [ran, second]})["message"]


@pytest.mark.parametrize("pieces", [["null"], ["", "null"], [" "], [""], [None]])
def test_a_call_whose_arguments_are_null_has_none(pieces: list[str | None]) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": pieces[0]}}
    more = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": p}}]}) for p in pieces[1:]]
    found = streamed("groq", chunk({"role": "assistant", "tool_calls": [{"index": 0, **call}]}), *more, chunk({}, "tool_calls"))
    whole = {**call, "function": {"name": "now", "arguments": pieces[-1]}}
    for message in (found["message"], plain("groq", {"content": None, "tool_calls": [whole]}, "tool_calls")["message"]):
        assert message["tool_calls"] == [{**call, "function": {"name": "now", "arguments": "{}"}}]


def test_arguments_that_begin_with_null_are_kept() -> None:
    pieces = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": p}}]}) for p in ("[", "null", "]")]
    start = {"index": 0, "id": "a", "type": "function", "function": {"name": "now", "arguments": ""}}
    found = streamed("groq", chunk({"role": "assistant", "tool_calls": [start]}), *pieces, chunk({}, "tool_calls"))
    assert found["message"]["tool_calls"][0]["function"]["arguments"] == "[null]"


@pytest.mark.parametrize("finish", [None, "stop"])
def test_groq_says_why_it_stopped_a_stream(finish: str | None) -> None:
    stopped = chunk({}, finish, x_groq={"id": "req_1", "error": "the model is over capacity"})
    _, failure = decode("groq/m", [sse(chunk({"role": "assistant", "content": "Hel"}), stopped)])
    assert failure is not None
    assert failure.message == "the model is over capacity"


def test_an_empty_filter_result_at_the_end_takes_nothing_back() -> None:
    rated = {"hate": {"filtered": False, "severity": "low"}}
    found = streamed(
        "openai",
        chunk({"role": "assistant", "content": ""}, choice={"content_filter_results": {}}),
        chunk({"content": "Hi"}, choice={"content_filter_results": rated}),
        chunk({}, "stop", choice={"content_filter_results": {}}),
    )
    assert found["content_filter_results"] == rated


def test_mistral_is_asked_for_log_probabilities() -> None:
    body = body_of("mistral/mistral-small-latest", logprobs=True, top_logprobs=2)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


def test_log_probabilities_as_lists_or_numbers_are_openais() -> None:
    def token(text: str, number: float, *tops: tuple[str, float]) -> dict[str, Any]:
        told = [{"token": t, "logprob": n, "bytes": list(t.encode())} for t, n in tops]
        return {"token": text, "logprob": number, "bytes": list(text.encode()), "top_logprobs": told}

    lists = {"tokens": ["Hi", " ü"], "token_logprobs": [-0.5, -0.25], "token_ids": [1, 2], "top_logprobs": [{"Hi": -0.5, "Ho": -2.0}]}
    whole = plain("together", {"content": "Hi ü"}, logprobs=lists)
    assert whole["logprobs"]["content"] == [token("Hi", -0.5, ("Hi", -0.5), ("Ho", -2.0)), token(" ü", -0.25)]
    found = streamed(
        "together",
        chunk({"role": "assistant", "content": "Hi"}, choice={"logprobs": -0.5}),
        chunk({"content": " ü"}, choice={"logprobs": -0.25}),
        chunk({}, "stop", choice={"logprobs": None}),
    )
    assert found["logprobs"]["content"] == [token("Hi", -0.5), token(" ü", -0.25)]
    ours = {"content": [token("Hi", -0.5)], "refusal": None}
    assert plain("openai", {"content": "Hi"}, logprobs=ours)["logprobs"] == ours
    assert plain("openai", {"content": "Hi"}, logprobs=None)["logprobs"] is None
