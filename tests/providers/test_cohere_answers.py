"""What Cohere's answers, whole or streamed, become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.fold import fold as fold_all
from opentracy.core.pricing import cost_of
from opentracy.core.relay import MessageFold
from opentracy.core.wire import Call, Chunk, Credentials, Failure, HttpHead, HttpResponse, Target
from opentracy.providers.cohere import DIALECT
from opentracy.providers.cohere_stream import CohereDecoder

TARGET = Target("cohere", "command-a-03-2025", DIALECT, "https://api.cohere.com", Credentials("k"))
CALL = Call([{"role": "user", "content": "hi"}], {}, created=1700000000, fallback_id="f00")
USAGE = {"billed_units": {"input_tokens": 7, "output_tokens": 5}, "tokens": {"input_tokens": 502, "output_tokens": 9}}


def plain(body: Any, call: Call = CALL, status: int = 200) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.parse_response(call, TARGET, HttpResponse(status, {"content-type": "application/json", "x-debug-trace-id": "t1"}, raw))


def answer(message: dict[str, Any], finish: str | None = "COMPLETE", **more: Any) -> dict[str, Any]:
    return {"id": "c1", "message": {"role": "assistant", **message}, "finish_reason": finish, "usage": USAGE, **more}


def sse(*events: Any) -> bytes:
    out = b""
    for event in events:
        if isinstance(event, bytes):
            out += event
        else:
            out += b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event, ensure_ascii=False).encode())
    return out


def ev(kind: str, message: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"type": kind, **({"delta": {"message": message}} if message is not None else {}), **more}


START = ev("message-start", {"role": "assistant", "content": [], "tool_calls": []}, id="c1")
DONE = b"data: [DONE]\n\n"


def end(finish: str = "COMPLETE", **delta: Any) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": finish, "usage": USAGE, **delta}}


def text(t: str) -> dict[str, Any]:
    return ev("content-delta", {"content": {"text": t}}, index=0)


TALK = sse(START, ev("content-start", {"content": {"type": "text", "text": ""}}, index=0), text("Grüß "), text("Gott\u2028!"), ev("content-end", index=0), end(), DONE)
WORK = sse(
    START,
    ev("tool-plan-delta", {"tool_plan": "I will "}),
    ev("tool-plan-delta", {"tool_plan": "look."}),
    ev("tool-call-start", {"tool_calls": {"id": "a", "type": "function", "function": {"name": "now", "arguments": ""}}}, index=0),
    ev("tool-call-delta", {"tool_calls": {"function": {"arguments": '{"zone"'}}}, index=0),
    ev("tool-call-delta", {"tool_calls": {"function": {"arguments": ': "é"}'}}}, index=0),
    ev("tool-call-end", index=0),
    ev("tool-call-start", {"tool_calls": {"id": "b", "type": "function", "function": {"name": "dice", "arguments": ""}}}, index=1),
    ev("tool-call-end", index=1),
    end("TOOL_CALL"),
)


def decode(data: bytes, cuts: list[int] | None = None) -> tuple[list[Chunk], CohereDecoder]:
    decoder = DIALECT.open_stream(CALL, TARGET, HttpHead(200, {"x-debug-trace-id": "t1"}))
    out: list[Chunk] = []
    last = 0
    for cut in [*sorted(cuts or []), len(data)]:
        out += decoder.feed(data[last:cut])
        last = max(cut, last)
    if not decoder.done and decoder.failure is None:
        out += decoder.close()
    return out, decoder


def fold(chunks: list[Chunk]) -> dict[str, Any]:
    made = MessageFold()
    for chunk in chunks:
        made.add(chunk)
    return made.message()


def test_a_plain_answer() -> None:
    made = plain(answer({"content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "!"}]}))
    assert made == {
        "id": "c1", "object": "chat.completion", "created": 1700000000, "model": "command-a-03-2025",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 502, "completion_tokens": 9, "total_tokens": 511, "billed_units": USAGE["billed_units"]},
    }  # fmt: skip


def test_usage_keeps_cached_and_reasoning_tokens() -> None:
    tokens = {"input_tokens": 500, "output_tokens": 80, "reasoning_tokens": 58}
    usage = plain(answer({"content": []}) | {"usage": {"tokens": tokens, "cached_tokens": 144}})["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 144}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 58}


@pytest.mark.parametrize("raw", [None, {}, 7, {"tokens": None}])
def test_usage_is_never_invented(raw: Any) -> None:
    assert plain(answer({"content": []}) | {"usage": raw})["usage"] is None


def test_usage_that_is_no_number_is_none() -> None:
    usage = plain(answer({"content": []}) | {"usage": {"tokens": {"input_tokens": -1, "output_tokens": "12"}}})["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (None, 12, None)


def test_billed_units_stand_in_where_tokens_are_missing() -> None:
    usage = plain(answer({"content": []}) | {"usage": {"billed_units": {"input_tokens": 3, "output_tokens": 4}}})["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 4)


def test_cost_is_computed_from_what_is_billed() -> None:
    """The prompt template counts as tokens and is not billed; the streamed answer costs the same."""
    usage = plain(answer({"content": []}))["usage"]
    billed = cost_of("cohere", "command-a-03-2025", {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12})
    assert billed is not None
    assert cost_of("cohere", "command-a-03-2025", usage) == billed
    assert cost_of("cohere", "command-a-03-2025", decode(TALK)[0][-1]["usage"]) == billed
    assert cost_of("cohere", "command-a-03-2025", {**usage, "billed_units": {"input_tokens": "x"}}) is None


def test_thoughts_plans_and_citations() -> None:
    cited = [{"start": 0, "end": 2, "text": "it", "sources": []}]
    message = plain(answer({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "it is"}], "tool_plan": "p", "citations": cited}))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "it is", "reasoning_content": "hm", "tool_plan": "p", "citations": cited}


def test_calls_ids_and_arguments() -> None:
    """Table row 51: ids missing or equal are made up, arguments of every kind become text."""
    given: list[Any] = ["", "null", None, {"a": 1}, "{broken", '{"b":2}']
    calls = [{"id": "same" if i else None, "type": "function", "function": {"name": f"f{i}", "arguments": a}} for i, a in enumerate(given)]
    choice = plain(answer({"tool_calls": calls}, "TOOL_CALL"))["choices"][0]
    made = choice["message"]["tool_calls"]
    assert [c["function"]["arguments"] for c in made] == ["{}", "{}", "{}", '{"a":1}', "{broken", '{"b":2}']
    assert made[1]["id"] == "same"
    assert len({c["id"] for c in made}) == len(given)
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("raw", "word"),
    [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("TOOL_CALL", "stop"), ("ERROR_TOXIC", "content_filter"), (None, "stop"), ("SOMETHING_NEW", "SOMETHING_NEW"), (7, "stop")],
)
def test_known_bugs_13_finish_words(raw: Any, word: str) -> None:
    """TOOL_CALL without calls is a stop."""
    assert plain(answer({"content": []}, raw))["choices"][0]["finish_reason"] == word
    stream, decoder = decode(sse(START, text("x"), end(raw)))
    assert decoder.failure is None
    assert stream[-1]["choices"][0]["finish_reason"] == word


def test_known_bugs_13_error_is_an_error() -> None:
    failure = plain(answer({"content": []}, "ERROR"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.code, failure.request_id) == ("provider_error", "ERROR", "t1")
    assert isinstance(plain(answer({"content": []}, "TIMEOUT")), Failure)
    _, decoder = decode(sse(START, text("x"), end("ERROR", error="boom upstream")))
    assert decoder.failure is not None
    assert decoder.failure.message == "boom upstream"
    assert decoder.failure.retryable


def test_logprobs_in_openai_s_form() -> None:
    pieces = [{"text": "hi", "token_ids": [1], "logprobs": [-0.5]}, {"text": "é!", "token_ids": [2, 3], "logprobs": [-1, -2]}, {"text": "?"}]
    found = plain(answer({"content": []}, logprobs=pieces))["choices"][0]["logprobs"]["content"]
    assert [(p["token"], p["logprob"], bytes(p["bytes"])) for p in found] == [("hi", -0.5, b"hi"), ("é!", -3, "é!".encode())]


@pytest.mark.parametrize("body", [[], "text", None, {}, {"message": None}, {"message": []}, {"id": "x", "finish_reason": "COMPLETE"}])
def test_what_is_no_answer_is_refused(body: Any) -> None:
    failure = plain(body)
    assert isinstance(failure, Failure)
    assert failure.kind == "bad_body"
    assert not failure.retryable


def test_bodies_that_are_no_json() -> None:
    assert plain(b"<html>").kind == "bad_body"
    assert plain(b" ").kind == "empty_body"


def test_an_error_inside_a_200() -> None:
    failure = plain({"id": "x", "message": "boom", "error_type": "rate_limit_error"})
    assert isinstance(failure, Failure)
    assert (failure.message, failure.status, failure.retryable) == ("boom", 429, True)


def test_missing_ids_are_filled_in() -> None:
    body = answer({"content": "plain text"})
    del body["id"]
    made = plain(body)
    assert made["id"] == "chatcmpl-f00"
    assert made["choices"][0]["message"]["content"] == "plain text"


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (400, {"message": "too many tokens: the limit is 128000", "error_type": "TOO_MANY_TOKENS"}, "context_length_exceeded", False),
        (401, {"id": "x", "message": "invalid api token"}, None, False),
        (422, {"message": "bad field"}, None, False),
        (429, {"message": "trial limit"}, None, True),
        (498, {"message": "invalid token boom"}, None, False),
        (500, {"message": "internal"}, None, True),
        (503, {"message": "down"}, None, True),
    ],
)
def test_errors_in_their_true_shape(status: int, body: dict[str, Any], code: str | None, retryable: bool) -> None:
    failure = DIALECT.parse_error(TARGET, HttpResponse(status, {"x-debug-trace-id": "t9"}, json.dumps(body).encode()))
    assert (failure.status, failure.message, failure.request_id, failure.retryable) == (status, body["message"], "t9", retryable)
    assert failure.code == code


def test_an_error_page_that_is_no_json() -> None:
    failure = DIALECT.parse_error(TARGET, HttpResponse(502, {"content-type": "text/html"}, b"<h1>Bad gateway</h1>"))
    assert "Bad gateway" in failure.message
    assert failure.retryable


def test_a_stream_folds_to_the_plain_answer() -> None:
    chunks, decoder = decode(TALK)
    assert decoder.done
    assert fold(chunks) == {"role": "assistant", "content": "Grüß Gott\u2028!"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {c["id"] for c in chunks} == {"c1"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"] == plain(answer({"content": []}))["usage"]
    assert all("usage" not in c for c in chunks[:-1])


def test_streamed_calls() -> None:
    """KNOWN_BUGS 8: a call without arguments has {} in the stream, too; its event is an object, not a list."""
    chunks, decoder = decode(WORK)
    assert decoder.failure is None
    assert fold(chunks) == {
        "role": "assistant", "content": None, "tool_plan": "I will look.",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "now", "arguments": '{"zone": "é"}'}},
            {"id": "b", "type": "function", "function": {"name": "dice", "arguments": "{}"}},
        ],
    }  # fmt: skip
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("pieces", "text"), [(["nu", "ll"], "{}"), ([" ", ""], "{}"), (["n", "one"], "none"), (["null", "able"], "nullable"), (["null"], "{}")])
def test_null_arguments_are_held_until_they_are_known(pieces: list[str], text: str) -> None:
    start = ev("tool-call-start", {"tool_calls": {"id": "a", "function": {"name": "f"}}}, index=0)
    deltas = [ev("tool-call-delta", {"tool_calls": {"function": {"arguments": p}}}, index=0) for p in pieces]
    chunks, _ = decode(sse(START, start, *deltas, end("TOOL_CALL")))
    assert fold(chunks)["tool_calls"][0]["function"]["arguments"] == text


def test_streamed_thoughts_and_citations() -> None:
    cited = {"start": 0, "end": 2, "text": "it", "sources": []}
    chunks, _ = decode(sse(
        START, ev("content-start", {"content": {"type": "thinking", "thinking": "h"}}, index=0), ev("content-delta", {"content": {"thinking": "m"}}, index=0),
        text("it"), ev("citation-start", {"citations": cited}, index=0), ev("citation-end", index=0), ev("debug"), end(),
    ))  # fmt: skip
    assert fold(chunks) == {"role": "assistant", "content": "it", "reasoning_content": "hm", "citations": [cited]}


@pytest.mark.parametrize("stream", [TALK, WORK])
@given(data=st.data())
def test_any_split_of_the_bytes_gives_the_same_chunks(stream: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    assert decode(stream, cuts)[0] == decode(stream)[0]


@given(st.integers(0, TALK.index(b"message-end") + 20))
def test_a_stream_cut_before_its_end_is_never_a_success(at: int) -> None:
    _, decoder = decode(TALK[:at])
    assert decoder.failure is not None
    assert decoder.failure.kind in ("stream_truncated", "empty_stream", "bad_event")
    assert not decoder.done


def test_ends_that_are_too_early() -> None:
    """Table rows 54, 57 and 59."""
    for data, code, retryable in ((b"", "empty_stream", True), (DONE, "empty_stream", True), (sse(START), "empty_stream", True), (sse(START, text("x")), "stream_truncated", True), (sse(START, text("x"), DONE), "stream_truncated", True)):
        _, decoder = decode(data)
        assert decoder.failure is not None
        assert (decoder.failure.code, decoder.failure.retryable) == (code, retryable)


def test_what_comes_after_the_end_is_ignored() -> None:
    chunks, decoder = decode(sse(START, text("x"), end(), text("EXTRA"), end("MAX_TOKENS"), DONE))
    assert decoder.done
    assert fold(chunks)["content"] == "x"
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]] == ["stop"]


@pytest.mark.parametrize("bad", [b"data: {broken\n\n", b"data: 7\n\n", b"data: [1]\n\n"])
def test_a_broken_event_is_never_skipped(bad: bytes) -> None:
    chunks, decoder = decode(sse(START, text("x"), bad, text("y"), end()))
    assert decoder.failure is not None
    assert decoder.failure.code == "bad_event"
    assert fold(chunks)["content"] == "x"


@pytest.mark.parametrize(
    "event",
    [b'event: error\ndata: {"message":"boom"}\n\n', b'data: {"message":"boom","id":"x"}\n\n', b'data: {"type":"error","message":"boom"}\n\n', b'data: {"error":{"message":"boom"}}\n\n'],
)
def test_errors_in_the_stream(event: bytes) -> None:
    _, decoder = decode(sse(START, event))
    assert decoder.failure is not None
    assert (decoder.failure.kind, decoder.failure.message) == ("provider_error", "boom")


def test_fields_of_the_wrong_type_never_raise() -> None:
    odd = [
        {"type": "content-delta"}, {"type": "content-delta", "delta": 7}, ev("content-delta", {"content": "x"}), ev("content-delta", {"content": {"text": 7}}),
        ev("tool-call-start", {"tool_calls": None}), ev("tool-call-delta", {"tool_calls": {"function": 7}}, index=9), ev("tool-call-delta", {"tool_calls": [7]}),
        ev("tool-plan-delta", {"tool_plan": 7}), ev("citation-start", {"citations": None}), {"type": 7}, {"type": "message-start", "id": 7}, ev("tool-call-end", index=4),
    ]  # fmt: skip
    chunks, decoder = decode(sse(*[e if isinstance(e["type"], str) else b"data: %s\n\n" % json.dumps(e).encode() for e in odd], text("x"), end()))
    assert decoder.failure is None
    assert fold(chunks)["content"] == "x"


def test_embeddings() -> None:
    call = Call([], {"input": ["a", "b"]}, operation="embedding")
    body = {"id": "e", "embeddings": {"float": [[0.1, 0.2], [0.3, 0.4]]}, "texts": ["a", "b"], "meta": {"billed_units": {"input_tokens": 4}}}
    assert plain(body, call) == {
        "object": "list", "model": "command-a-03-2025",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}, {"object": "embedding", "index": 1, "embedding": [0.3, 0.4]}],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }  # fmt: skip
    assert plain({"message": "x"}, call).kind == "bad_body"


def test_log_probabilities_come_with_a_stream_too() -> None:
    pieces = [{"text": "Hi", "token_ids": [1], "logprobs": [-0.5]}, {"text": " you", "token_ids": [2, 3], "logprobs": [-0.25, -1.0]}]
    whole = plain(answer({"content": [{"type": "text", "text": "Hi you"}]}, logprobs=pieces))
    decoder = CohereDecoder("chatcmpl-f00", 1700000000, TARGET.model)
    chunks = decoder.feed(sse(START, {**text("Hi"), "logprobs": pieces[0]}, {**text(" you"), "logprobs": pieces[1]}, end(), DONE))
    assert fold_all(chunks)["choices"] == whole["choices"]
    assert [t["logprob"] for t in whole["choices"][0]["logprobs"]["content"]] == [-0.5, -1.25]
