"""Gemini's answers, plain and streamed, and its errors. Documents are written by hand from the documented shapes."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from native_wire import WEATHER, answer, body_of, call, decode, decoder, folded, sse, target

from opentracy.core import pricing
from opentracy.core.pricing import register_price
from opentracy.core.wire import Failure, HttpResponse

FLASH = "gemini/gemini-2.5-flash"
G3 = "gemini/gemini-3-flash-preview"
USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 7, "thoughtsTokenCount": 3, "totalTokenCount": 15}


def whole(parts: list[dict[str, Any]], finish: str | None = "STOP", **candidate: Any) -> dict[str, Any]:
    one = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0, **candidate}
    if finish is None:
        del one["finishReason"]
    return {"candidates": [one], "usageMetadata": USAGE, "modelVersion": "gemini-2.5-flash", "responseId": "resp1"}


def stream_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events in which Gemini would send this answer: a part each, then the finish with an empty text."""
    head = {k: v for k, v in body.items() if k not in ("candidates", "usageMetadata")}
    candidate = body["candidates"][0]
    out: list[dict[str, Any]] = []
    for part in candidate["content"]["parts"]:
        halves = [part]
        if len(part.get("text", "")) > 3 and "thoughtSignature" not in part:
            halves = [{**part, "text": part["text"][:3]}, {**part, "text": part["text"][3:]}]
        for half in halves:
            piece = {"content": {"role": "model", "parts": [half]}, "index": 0}
            out.append({"candidates": [piece], "usageMetadata": {"promptTokenCount": 5}, **head})
    last = {**candidate, "content": {"role": "model", "parts": [{"text": ""}]}}
    return [*out, {"candidates": [last], "usageMetadata": body["usageMetadata"], **head}]


TEXT = {"text": "Grüße, 世界 😀 \u2028 end"}
THOUGHT = {"text": "Let me see.", "thought": True}
CALL = {"functionCall": {"name": "weather", "args": {"city": "Rom"}}, "thoughtSignature": "CiQB+/=="}
NOW = {"functionCall": {"name": "now", "id": "fc1"}}
GROUNDED: dict[str, Any] = {
    "groundingMetadata": {
        "groundingChunks": [{"web": {"uri": "https://x.example", "title": "X"}}],
        "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 7, "text": "Grüße"}, "groundingChunkIndices": [0]}],
    }
}
SCENES: dict[str, dict[str, Any]] = {
    "text": whole([TEXT]),
    "thoughts": whole([THOUGHT, TEXT]),
    "signed text": whole([THOUGHT, {**TEXT, "thoughtSignature": "Sig0"}]),
    "calls": whole([CALL, NOW]),
    "text and call": whole([TEXT, CALL]),
    "nothing": whole([], "MAX_TOKENS"),
    "grounded": whole([TEXT], **GROUNDED),
    "refused": whole([], "SAFETY", safetyRatings=[{"category": "C", "probability": "HIGH", "blocked": True}]),
    "code": whole([{"executableCode": {"language": "PYTHON", "code": "1"}}, {"codeExecutionResult": {"output": "1"}}, TEXT]),
    "picture": whole([TEXT, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]),
}


def test_the_shape_of_a_plain_answer() -> None:
    assert answer(FLASH, SCENES["thoughts"]) == {
        "id": "resp1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gemini-2.5-flash",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT["text"], "reasoning_content": "Let me see."},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 10,
            "total_tokens": 15,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }


@pytest.mark.parametrize("scene", SCENES)
def test_a_streamed_answer_folds_to_the_plain_one(scene: str) -> None:
    plain = answer(FLASH, SCENES[scene])
    streamed = folded(FLASH, sse(stream_of(SCENES[scene])))
    for chosen in (plain, streamed):
        chosen["choices"][0].pop("logprobs", None)
    assert streamed == plain


@pytest.mark.parametrize(
    ("raw", "finish"),
    [
        ("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"), ("BLOCKLIST", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"), ("MODEL_ARMOR", "content_filter"), ("MALFORMED_FUNCTION_CALL", "stop"),
        ("OTHER", "stop"), ("BRAND_NEW", "BRAND_NEW"), (None, "stop"),
    ],
)  # fmt: skip
def test_finish_reasons(raw: str | None, finish: str) -> None:
    choice = answer(FLASH, whole([TEXT], raw))["choices"][0]
    assert choice["finish_reason"] == finish
    assert choice.get("native_finish_reason") == (raw if raw not in ("STOP", "MAX_TOKENS", None) else None)


def test_calls_have_unique_ids_and_their_signatures_with_them() -> None:
    choice = answer(FLASH, whole([CALL, NOW, NOW]))["choices"][0]
    calls = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert calls[0]["id"].startswith("call_")
    assert calls[0]["id"].endswith("~CiQB+/==")
    assert calls[0]["extra_content"] == {"google": {"thought_signature": "CiQB+/=="}}
    assert calls[1]["id"] == "fc1"
    assert len({c["id"] for c in calls}) == 3
    assert [c["function"]["arguments"] for c in calls] == ['{"city":"Rom"}', "{}", "{}"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("openai_only", [False, True])
def test_bug_19_signatures_survive_a_round_trip(streamed: bool, openai_only: bool) -> None:
    body = whole([THOUGHT, {**TEXT, "thoughtSignature": "Sig0"}, CALL, NOW])
    found = folded(G3, sse(stream_of(body))) if streamed else answer(G3, body)
    message = found["choices"][0]["message"]
    if openai_only:
        kept = [{k: c[k] for k in ("id", "type", "function")} for c in message["tool_calls"]]
        message = {"role": "assistant", "content": message["content"], "tool_calls": kept}
    results = [{"role": "tool", "tool_call_id": c["id"], "content": "ok"} for c in reversed(message["tool_calls"])]
    contents = body_of(G3, [{"role": "user", "content": "q"}, message, *results], tools=[WEATHER])["contents"]
    parts = contents[1]["parts"]
    assert parts[1] == CALL
    assert parts[2] == {"functionCall": {"name": "now", "args": {}, "id": "fc1"}}
    if not openai_only:
        assert parts[0] == {**TEXT, "thoughtSignature": "Sig0"}
    assert [p["functionResponse"]["name"] for p in contents[2]["parts"]] == ["weather", "now"]
    assert contents[2]["parts"][1]["functionResponse"]["id"] == "fc1"


def test_a_blocked_prompt_is_an_empty_filtered_answer() -> None:
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}
    plain = answer(FLASH, body)
    assert plain["choices"][0]["message"]["content"] == ""
    assert plain["choices"][0]["finish_reason"] == "content_filter"
    assert plain["promptFeedback"] == body["promptFeedback"]
    assert plain["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}
    streamed = folded(FLASH, sse([body]))
    assert streamed["choices"][0]["finish_reason"] == "content_filter"
    assert streamed["usage"] == plain["usage"]


def test_a_prompt_count_that_was_left_out_is_a_number_without_a_price() -> None:
    raw = {"candidatesTokenCount": 7, "thoughtsTokenCount": 3}
    plain = answer(FLASH, {**whole([TEXT]), "usageMetadata": raw})["usage"]
    assert (plain["prompt_tokens"], plain["completion_tokens"], plain["total_tokens"]) == (0, 10, 10)
    assert pricing.cost_of("gemini", "gemini-2.5-flash", plain) is None
    assert pricing.cost_of("gemini", "gemini-2.5-flash", {**plain, "prompt_tokens": 1, "total_tokens": 11}) is not None


def test_content_without_parts_is_an_empty_answer() -> None:
    body = {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}
    choice = answer(FLASH, body)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
    assert answer(FLASH, body)["usage"] is None


def test_grounding_counts_bytes_and_annotations_count_characters() -> None:
    message = answer(FLASH, SCENES["grounded"])["choices"][0]["message"]
    found = message["annotations"][0]["url_citation"]
    assert message["content"][found["start_index"] : found["end_index"]] == "Grüße"
    assert found["url"] == "https://x.example"


def test_several_candidates() -> None:
    two = whole([TEXT])
    two["candidates"].append({"content": {"parts": [{"text": "b"}]}, "finishReason": "MAX_TOKENS", "index": 1})
    plain = answer(FLASH, two, n=2)
    assert [c["message"]["content"] for c in plain["choices"]] == [TEXT["text"], "b"]
    streamed = folded(FLASH, sse([two]), n=2)
    assert [(c["index"], c["finish_reason"]) for c in streamed["choices"]] == [(0, "stop"), (1, "length")]


def test_speech_in_pieces_is_joined_as_bytes() -> None:
    sound = bytes(range(256)) * 3
    cuts = [sound[:100], sound[100:101], b"", sound[101:]]
    parts = [{"inlineData": {"mimeType": "audio/L16;rate=24000", "data": base64.b64encode(c).decode()}} for c in cuts]
    plain = answer(FLASH, whole(parts))["choices"][0]["message"]
    assert base64.b64decode(plain["audio"]["data"], validate=True) == sound
    assert plain["audio"]["mime_type"] == "audio/L16;rate=24000"
    assert plain["audio"]["id"]
    pieces = [{"candidates": [{"content": {"parts": [p]}}], "responseId": "resp1"} for p in parts]
    last = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": USAGE, "responseId": "resp1"}
    streamed = folded(FLASH, sse([*pieces, last]))["choices"][0]["message"]
    assert streamed["audio"] == plain["audio"]
    d = decoder(FLASH)
    d.feed(sse(pieces[:1]))
    assert d.progress, "sound is content"


def test_code_that_ran_at_googles_is_told() -> None:
    parts = [
        {"text": "I count."},
        {"executableCode": {"language": "PYTHON", "code": "print(6*7)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42\n"}},
        {"executableCode": {"language": "PYTHON", "code": "1/0"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "ZeroDivisionError"}},
        {"text": " 42"},
    ]
    want = [
        {"index": 0, "type": "code_execution", "arguments": "print(6*7)", "output": "42\n"},
        {"index": 1, "type": "code_execution", "arguments": "1/0", "output": "ZeroDivisionError", "outcome": "OUTCOME_FAILED"},
    ]
    body = whole(parts)
    for found in (answer(FLASH, body), folded(FLASH, sse([body]))):
        said = found["choices"][0]["message"]
        assert said["content"] == "I count. 42"
        assert said["executed_tools"] == want


def test_logprobs() -> None:
    chosen = [{"token": "é", "logProbability": -0.5}]
    top = [{"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e", "logProbability": -1.0}]}]
    body = whole([TEXT], logprobsResult={"chosenCandidates": chosen, "topCandidates": top})
    found = answer(FLASH, body)["choices"][0]["logprobs"]["content"]
    assert found[0]["token"] == "é"
    assert found[0]["bytes"] == [195, 169]
    assert [t["logprob"] for t in found[0]["top_logprobs"]] == [-0.5, -1.0]
    assert folded(FLASH, sse(stream_of(body)))["choices"][0]["logprobs"]["content"] == found


def test_bug_2_cached_tokens_are_part_of_the_prompt() -> None:
    raw = {"promptTokenCount": 262960, "cachedContentTokenCount": 257955, "candidatesTokenCount": 1744, "totalTokenCount": 264704}
    usage = answer(FLASH, {**whole([TEXT]), "usageMetadata": raw})["usage"]
    assert usage["prompt_tokens"] == 262960
    assert usage["prompt_tokens_details"] == {"cached_tokens": 257955}
    register_price("row2/gemini", input=1.25, cached_read=0.625, output=10)
    cost = pricing.cost_of("row2", "gemini", usage)
    assert cost is not None
    # (262960 - 257955) * 1.25 + 257955 * 0.625 + 1744 * 10, per million; the thread rounds it to six digits
    assert cost.usd == 0.184918125


def test_tool_use_belongs_to_the_prompt_and_unclean_counts_are_unknown() -> None:
    raw = {"promptTokenCount": 5, "toolUsePromptTokenCount": 6, "candidatesTokenCount": 2, "totalTokenCount": 13}
    assert answer(FLASH, {**whole([TEXT]), "usageMetadata": raw})["usage"]["prompt_tokens"] == 11
    for bad in (-1, 2.5, True, "x"):
        usage = answer(FLASH, {**whole([TEXT]), "usageMetadata": {**raw, "candidatesTokenCount": bad}})["usage"]
        assert usage["completion_tokens"] is None


def test_structured_output_by_a_function_reads_as_text() -> None:
    fmt = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"x": {}}}}}
    body = whole([{"functionCall": {"name": "json_answer", "args": {"x": 1}}}])
    params: dict[str, Any] = {"response_format": fmt, "tools": [WEATHER]}
    choice = answer(FLASH, body, **params)["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": '{"x":1}'}
    assert choice["finish_reason"] == "stop"
    assert folded(FLASH, sse(stream_of(body)), **params)["choices"][0]["message"] == choice["message"]


# ---------------------------------------------------------------- streams
def test_bug_10_the_finish_of_a_streamed_call_is_tool_calls() -> None:
    first = {"candidates": [{"content": {"parts": [CALL]}}]}
    second = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}], "usageMetadata": USAGE}
    assert folded(FLASH, sse([first, second]))["choices"][0]["finish_reason"] == "tool_calls"


def test_bug_12_a_finish_on_several_events_stands_on_the_last_chunk_only() -> None:
    pieces = [{"candidates": [{"content": {"parts": [{"text": t}]}, "finishReason": "STOP"}]} for t in "abc"]
    found = folded(FLASH, sse(pieces))  # checks the grammar
    assert found["choices"][0]["message"]["content"] == "abc"


def test_the_last_usage_counts() -> None:
    assert folded(FLASH, sse(stream_of(SCENES["text"])))["usage"]["total_tokens"] == 15


def test_a_call_whose_arguments_come_in_pieces() -> None:
    def piece(part: dict[str, Any], **rest: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [{"functionCall": part, **rest}]}}]}

    values = [
        {"jsonPath": "$.city", "stringValue": "New ", "willContinue": True},
        {"jsonPath": "$.city", "stringValue": "York"},
        {"jsonPath": "$.days[0].n", "numberValue": 2},
        {"jsonPath": "$.days[1]['the name']", "boolValue": False},
        {"jsonPath": "$.none", "nullValue": None},
        {"jsonPath": "$.city[0]", "stringValue": "does not fit"},
    ]
    items = [piece({"name": "weather", "id": "fc9", "willContinue": True}, thoughtSignature="Sig9")]
    items += [piece({"partialArgs": [v], "willContinue": True}) for v in values]
    items += [piece({}), {"candidates": [{"finishReason": "STOP"}]}]
    call = folded(FLASH, sse(items))["choices"][0]["message"]["tool_calls"][0]
    assert call["id"] == "fc9~Sig9"
    assert json.loads(call["function"]["arguments"]) == {
        "city": "New York", "days": [{"n": 2}, {"the name": False}], "none": None,
    }  # fmt: skip


@given(st.data())
def test_any_split_of_the_bytes_gives_the_same_chunks(data: st.DataObject) -> None:
    raw = sse(stream_of(SCENES[data.draw(st.sampled_from(sorted(SCENES)))]))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(FLASH, pieces) == decode(FLASH, [raw])


@given(st.integers(min_value=0))
def test_a_stream_cut_before_its_finish_is_never_a_success(at: int) -> None:
    raw = sse(stream_of(SCENES["text and call"]))
    chunks, failure = decode(FLASH, [raw[: at % raw.index(b'"finishReason"')]])
    assert failure is not None
    assert failure.code in ("stream_truncated", "empty_stream", "bad_event")
    assert not any(c["choices"][0]["finish_reason"] for c in chunks)


@pytest.mark.parametrize(
    ("items", "code"),
    [([], "empty_stream"), ([{"usageMetadata": USAGE}], "empty_stream"), (stream_of(SCENES["text"])[:1], "stream_truncated")],
)
def test_streams_that_end_too_early(items: list[dict[str, Any]], code: str) -> None:
    _, failure = decode(FLASH, [sse(items)])
    assert failure is not None
    assert failure.code == code


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_in_the_stream(wrapped: bool) -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    item: Any = [error] if wrapped else error
    chunks, failure = decode(FLASH, [sse([*stream_of(SCENES["text"])[:1], item, *stream_of(SCENES["text"])])])
    assert failure is not None
    assert (failure.status, failure.message, failure.type) == (503, "The model is overloaded.", "UNAVAILABLE")
    assert len(chunks) == 1


@pytest.mark.parametrize("bad", [b"data: {oops\n\n", b"data: 3\n\n"])
def test_a_broken_event_is_an_error(bad: bytes) -> None:
    _, failure = decode(FLASH, [sse(stream_of(SCENES["text"])[:1]) + bad + sse(stream_of(SCENES["text"]))])
    assert failure is not None
    assert failure.code == "bad_event"


def test_only_content_is_progress() -> None:
    d = decoder(FLASH)
    d.feed(sse([{"usageMetadata": USAGE}, {"candidates": [{"content": {"parts": [{"text": ""}]}}]}]))
    assert d.progress == 0
    d.feed(sse([{"candidates": [{"content": {"parts": [{"text": "x"}]}}]}]))
    assert d.progress == 1


def test_a_stream_that_comes_as_a_json_array_is_one_answer() -> None:
    found = answer(FLASH, stream_of(SCENES["text and call"]), stream=True)
    assert found["choices"][0]["message"] == answer(FLASH, SCENES["text and call"])["choices"][0]["message"]
    assert answer(FLASH, [{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}], stream=True).status == 429


# ---------------------------------------------------------------- errors
def error(code: int, status: str, message: str = "the words", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_quota_error_tells_when_to_come_back(wrapped: bool) -> None:
    body: Any = error(429, "RESOURCE_EXHAUSTED", "the words", RETRY)
    failure = answer(FLASH, [body] if wrapped else body, status=429)
    assert (failure.status, failure.message, failure.retry_after) == (429, "the words", 34.4)
    assert failure.retryable
    assert failure.type == "RESOURCE_EXHAUSTED"
    assert answer(FLASH, body, status=429, headers={"retry-after": "2"}).retry_after == 2


@pytest.mark.parametrize("delay", ["", "soon", "-1s", "0s", "nans", 3])
def test_a_delay_that_is_none_is_ignored(delay: Any) -> None:
    hint = answer(FLASH, error(429, "RESOURCE_EXHAUSTED", "m", {**RETRY, "retryDelay": delay}), status=429).retry_after
    assert hint == (3 if delay == 3 else None)


def test_a_bad_key_stays_a_400_with_its_reason() -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    failure = answer(FLASH, error(400, "INVALID_ARGUMENT", "API key not valid.", detail), status=400)
    assert (failure.status, failure.code, failure.type) == (400, "API_KEY_INVALID", "INVALID_ARGUMENT")
    assert not failure.retryable


@pytest.mark.parametrize(
    ("code", "status", "retryable"),
    [
        (403, "PERMISSION_DENIED", False), (404, "NOT_FOUND", False), (499, "CANCELLED", False),
        (500, "INTERNAL", True), (503, "UNAVAILABLE", True), (504, "DEADLINE_EXCEEDED", True),
    ],
)  # fmt: skip
def test_errors_in_their_true_shape(code: int, status: str, retryable: bool) -> None:
    failure = answer(FLASH, error(code, status), status=code)
    assert (failure.status, failure.message, failure.retryable) == (code, "the words", retryable)
    inside = answer(FLASH, error(code, status))
    assert (inside.status, inside.message, inside.retryable) == (code, "the words", retryable)


@pytest.mark.parametrize("words", ["The input token count (2800010) exceeds the maximum number of tokens allowed (1048576)."])
def test_bug_27_a_prompt_that_does_not_fit_has_its_own_code(words: str) -> None:
    assert answer(FLASH, error(400, "INVALID_ARGUMENT", words), status=400).code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty_body"), (b"<html>", "bad_body"), (b'{"candidates": [', "bad_body"), (b"[]", "bad_body"),
        (b"null", "bad_body"), (b"{}", "bad_body"), (b'{"candidates": []}', "bad_body"), (b'{"candidates": [3]}', "bad_body"),
    ],
)  # fmt: skip
def test_what_is_no_answer(body: bytes, kind: str) -> None:
    failure = answer(FLASH, body)
    assert isinstance(failure, Failure)
    assert failure.kind == kind


# ---------------------------------------------------------------- embeddings
def rows(body: Any) -> list[Any]:
    found: list[Any] = body.get("embeddings") or body.get("predictions") or []
    return found


def embeddings(body: Any, model: str = "gemini/gemini-embedding-001", **params: Any) -> Any:
    to = target(model, GOOGLE_CLOUD_PROJECT="p")
    asked = replace(call([], input=["a", "b"][: len(rows(body))] or "a", **params), operation="embedding")
    return to.dialect.parse_response(asked, to, HttpResponse(200, {}, json.dumps(body).encode()))


def test_embeddings_as_openais_list() -> None:
    found = embeddings({"embeddings": [{"values": [0.5, 1.0]}, {"values": [2.0, 3.0]}]})
    assert found["object"] == "list"
    assert [(d["index"], d["embedding"]) for d in found["data"]] == [(0, [0.5, 1.0]), (1, [2.0, 3.0])]
    assert found["usage"] is None
    packed = embeddings({"embeddings": [{"values": [0.5, 1.0]}]}, encoding_format="base64")["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, 1.0)


def test_embeddings_of_vertex_have_usage() -> None:
    row = {"embeddings": {"values": [0.5], "statistics": {"token_count": 3}}}
    found = embeddings({"predictions": [row, row]})
    assert [d["embedding"] for d in found["data"]] == [[0.5], [0.5]]
    assert found["usage"]["prompt_tokens"] == 6


def test_no_embeddings_is_a_failure() -> None:
    assert embeddings({"x": 1}).kind == "bad_body"
    assert embeddings({"embeddings": [{"values": [1.0]}] * 3}).kind == "bad_body"
    assert embeddings({"embeddings": [{"values": ["x"]}]}).kind == "bad_body"
    assert embeddings({"embedding": {"values": [1.5]}})["data"][0]["embedding"] == [1.5]
    assert embeddings({"embeddings": [{"values": None}]}).kind == "bad_body"
    assert embeddings(error(429, "RESOURCE_EXHAUSTED")).status == 429
