"""Dialect x scenario: every server of the OpenAI family, from fixtures written by hand after the vendors' pages.

A fixture holds a call and the body it must become, one answer as a whole and as a stream (both must mean `expect`), and
one error. Adding a provider means one row and one such file; a row without a file fails here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from opentracy.core.relay import MessageFold
from opentracy.core.wire import Call, Failure, HttpHead, HttpResponse, Target
from opentracy.providers import registry
from opentracy.providers.openai_quirks import DEFAULT

FILES = sorted((Path(__file__).parent / "fixtures").glob("openai_*.json"))
FIXTURES = {path.stem.removeprefix("openai_"): json.loads(path.read_text()) for path in FILES}
NINE = re.compile(r'_id":("[A-Za-z0-9]{9}")')


@pytest.fixture(params=FIXTURES, name="case")
def _case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return FIXTURES[request.param]


def target_of(case: dict[str, Any]) -> Target:
    base = case.get("api_base")
    return registry.target(f"{case['provider']}/{case['model']}", env={}, api_key="k-1", api_base=base)


def call_of(case: dict[str, Any], **kw: Any) -> Call:
    request = case["request"]
    return Call(request["messages"], request["params"], created=1750000000, fallback_id="ff", **kw)


def test_every_row_of_the_family_has_a_fixture() -> None:
    rows = {row.name for row in registry.providers() if row.dialect == "openai"}
    assert rows == set(FIXTURES)


def test_the_request_is_what_the_provider_takes(case: dict[str, Any]) -> None:
    target = target_of(case)
    request = target.dialect.build_request(call_of(case), target)
    body = request.body.decode()
    want = json.dumps(case["request"]["body"])
    if "<nine>" in want:
        ids = set(NINE.findall(body))
        assert len(ids) == 1, "call and result must get the same nine-character id"
        want = want.replace('"<nine>"', ids.pop())
    assert json.loads(body) == json.loads(want)
    assert list(request.dropped) == case["request"]["dropped"]
    assert request.method == "POST"
    if "url" in case:
        assert request.url == case["url"]
    assert ("api-key" if case["provider"] == "azure" else "authorization") in request.headers


def test_streaming_changes_nothing_in_the_request_but_the_switches(case: dict[str, Any]) -> None:
    target = target_of(case)
    plain = json.loads(target.dialect.build_request(call_of(case), target).body)
    streamed = json.loads(target.dialect.build_request(call_of(case, stream=True), target).body)
    assert streamed.pop("stream") is True
    options = streamed.pop("stream_options", None)
    assert options == ({"include_usage": True} if (target.quirks or DEFAULT).usage_option else None)
    assert streamed == plain


def test_strict_params_refuses_what_would_be_dropped(case: dict[str, Any]) -> None:
    target = target_of(case)
    if not case["request"]["dropped"]:
        target.dialect.build_request(call_of(case, strict_params=True), target)
        return
    with pytest.raises(ValueError, match=case["request"]["dropped"][0]):
        target.dialect.build_request(call_of(case, strict_params=True), target)


def check(message: dict[str, Any], finish: str, usage: dict[str, Any], expect: dict[str, Any]) -> None:
    assert (message.get("content") or "") == expect["content"]
    assert (message.get("reasoning_content") or "") == expect.get("reasoning", "")
    assert "reasoning" not in message
    calls = [
        (c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message.get("tool_calls", ())
    ]
    assert calls == [tuple(c) for c in expect.get("calls", ())]
    assert finish == expect["finish"]
    assert [usage[k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")] == expect["usage"]
    if "cached" in expect:
        assert usage["prompt_tokens_details"]["cached_tokens"] == expect["cached"]


def test_the_whole_answer_means_what_was_said(case: dict[str, Any]) -> None:
    target = target_of(case)
    answer = HttpResponse(200, {"content-type": "application/json"}, json.dumps(case["answer"]).encode())
    got = target.dialect.parse_response(call_of(case), target, answer)
    assert not isinstance(got, Failure)
    choice = got["choices"][0]
    check(choice["message"], choice["finish_reason"], got["usage"], case["expect"])
    assert (got["object"], type(got["created"]), got["id"], choice["index"]) == ("chat.completion", int, "r-1", 0)
    assert "delta" not in choice
    if "citations" in case["expect"]:
        assert got["citations"] == case["expect"]["citations"]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_the_stream_means_the_same_and_keeps_the_grammar(case: dict[str, Any], size: int) -> None:
    target = target_of(case)
    events = [json.dumps(event) for event in case["stream"]] + (["[DONE]"] if case.get("done", True) else [])
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    decoder = target.dialect.open_stream(call_of(case, stream=True), target, HttpHead(200, {}))
    chunks = [c for at in range(0, len(body), size) for c in decoder.feed(body[at : at + size])] + decoder.close()
    assert decoder.failure is None
    assert decoder.done is case.get("done", True)
    assert {c["id"] for c in chunks} == {"s-1"}
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert {type(c["created"]) for c in chunks} == {int}
    assert all(c["choices"] for c in chunks)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert ["role" in d for d in deltas] == [True] + [False] * (len(deltas) - 1)
    assert [bool(c["choices"][0]["finish_reason"]) for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert not any(c.get("usage") for c in chunks[:-1])
    fold = MessageFold()
    for chunk in chunks:
        fold.add(chunk)
    check(fold.message(), chunks[-1]["choices"][0]["finish_reason"], chunks[-1]["usage"], case["expect"])
    if "citations" in case["expect"]:
        assert chunks[-1]["citations"] == case["expect"]["citations"]


def test_a_stream_cut_before_its_finish_is_never_a_success(case: dict[str, Any]) -> None:
    target = target_of(case)
    kept = [e for e in case["stream"] if not any(c.get("finish_reason") for c in e["choices"]) and not e.get("usage")]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in kept).encode()
    decoder = target.dialect.open_stream(call_of(case, stream=True), target, HttpHead(200, {}))
    decoder.feed(body)
    decoder.close()
    assert decoder.failure is not None
    assert decoder.failure.code in ("stream_truncated", "empty_stream")


def test_the_error_is_told_in_the_providers_words(case: dict[str, Any]) -> None:
    error = case["error"]
    target = target_of(case)
    got = target.dialect.parse_error(
        target, HttpResponse(error["status"], error["headers"], json.dumps(error["body"]).encode())
    )
    assert {k: getattr(got, k) for k in error["expect"]} == error["expect"]
    assert (got.kind, got.status) == ("status", error["status"])
