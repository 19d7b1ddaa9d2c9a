"""Error answers of the OpenAI family: status, words, codes, ids and hints in every shape they come in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentracy.core.wire import Call, Failure, HttpHead, HttpResponse
from opentracy.providers import registry

TARGET = registry.target("openai/m", env={}, api_key="k")


def failed(status: int, body: Any, **headers: str) -> Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return TARGET.dialect.parse_error(TARGET, HttpResponse(status, names, raw))


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "boom"}}, {"message": "boom"}, {"detail": "boom"}, {"error": "boom"}, "boom",
        {"detail": [{"msg": "boom", "loc": []}]}, [{"error": {"message": "boom"}}], {"error": {"error": {"message": "boom"}}},
    ],
)  # fmt: skip
def test_the_providers_words_are_found(body: Any) -> None:
    assert failed(400, body).message == "boom"


@pytest.mark.parametrize(
    ("body", "shown"),
    [(b"<html>gone</html>", "<html>gone</html>"), (b"", "without a body"), (b"\xff\xfe{", "HTTP 502")],
)
def test_a_body_that_is_no_json_is_shown_as_it_is(body: bytes, shown: str) -> None:
    failure = failed(502, body)
    assert shown in failure.message
    assert failure.retryable


def test_known_bug_27_a_prompt_that_does_not_fit_has_one_code() -> None:
    failure = failed(400, {"error": {"message": "This model's maximum context length is 8 tokens", "code": None}})
    assert (failure.code, failure.retryable) == ("context_length_exceeded", False)
    crowded = failed(429, {"error": {"message": "server overloaded, too many tokens"}})
    assert (crowded.status, crowded.code, crowded.retryable) == (429, None, True)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 529])
def test_passing_troubles_may_be_tried_again(status: int) -> None:
    assert failed(status, {"error": {"message": "boom"}}).retryable


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 415, 422, 498])
def test_lasting_ones_may_not(status: int) -> None:
    assert not failed(status, {"error": {"message": "boom"}}).retryable


def test_an_exhausted_quota_is_not_a_rate_limit() -> None:
    assert not failed(429, {"error": {"message": "pay", "code": "insufficient_quota"}}).retryable


@pytest.mark.parametrize(
    "name",
    [
        "x_request_id",
        "request_id",
        "x_kong_request_id",
        "x_ds_trace_id",
        "apim_request_id",
        "x_generation_id",
        "cf_ray",
    ],
)
def test_the_request_id_stands_in_one_of_these(name: str) -> None:
    assert failed(500, {}, **{name: "id-1"}).request_id == "id-1"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0), ({"retry_after_ms": "50", "retry_after": "7"}, 0.05), ({"retry_after": "soon"}, None),
        ({"retry_after": "Thu, 01 Jan 2026 00:00:09 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 9.0),
    ],
)  # fmt: skip
def test_hints_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert failed(429, {}, **headers).retry_after == wait


def test_code_type_and_param_are_kept() -> None:
    failure = failed(400, {"error": {"message": "boom", "type": "t", "param": "p", "code": "c"}})
    assert (failure.type, failure.param, failure.code) == ("t", "p", "c")
    assert failure.body == {"error": {"message": "boom", "type": "t", "param": "p", "code": "c"}}


def test_long_messages_are_cut() -> None:
    assert len(failed(400, {"error": {"message": "x" * 9000}}).message) == 2000


def test_the_request_id_may_stand_in_the_body() -> None:
    assert failed(400, {"error": {"message": "m"}, "request_id": "id-2"}).request_id == "id-2"
    assert failed(400, {"error": {"message": "m"}, "request_id": "id-2"}, x_request_id="id-1").request_id == "id-1"
    assert failed(400, {"error": {"message": "m"}, "request_id": 7}).request_id is None


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "busy", "type": "server_error", "code": "internal"}, "status_code": 503},
        {"error": {"message": "busy", "status_code": 503}}, {"error": {"message": "busy", "code": 503}},
        {"object": "error", "message": "busy", "type": "unreachable_backend", "code": "1100", "raw_status_code": 503},
        {"object": "error", "message": "busy", "type": "unreachable_backend", "code": "1100"},
    ],
)
def test_the_status_of_an_error_in_a_stream(event: dict[str, Any]) -> None:
    to = registry.target("cerebras/m", env={}, api_key="k")
    decoder = to.dialect.open_stream(Call([], {}, stream=True), to, HttpHead(200, {}))
    decoder.feed(f"data: {json.dumps(event)}\n\n".encode())
    assert decoder.failure is not None
    assert (decoder.failure.status, decoder.failure.message, decoder.failure.retryable) == (503, "busy", True)
