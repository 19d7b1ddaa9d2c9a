"""The tier an answer ran on, and what else it says of its price, comes into the usage: whole, streamed, forwarded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from native_wire import answer, body_of, call, decoder, folded, sse, target

from opentracy.core.eventstream import encode_message
from opentracy.core.pricing import cost_of
from opentracy.core.wire import HttpHead, HttpResponse

USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def whole(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hi"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **more}  # fmt: skip


def pieces(**more: Any) -> bytes:
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": "hi"}, {}]
    chunks = [{**base, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    return sse([*chunks, {**base, "choices": [], "usage": USAGE}]) + b"data: [DONE]\r\n\r\n"


@pytest.mark.parametrize("provider", ["openai/gpt-5", "groq/m", "cerebras/m", "fireworks/m"])
def test_a_special_tier_is_told_in_the_usage_and_the_usual_one_is_not(provider: str) -> None:
    for tier in ("default", "auto", "on_demand", None):
        assert answer(provider, whole(service_tier=tier))["usage"] == USAGE
        assert folded(provider, pieces(service_tier=tier))["usage"] == USAGE
    told = {**USAGE, "service_tier": "priority"}
    assert answer(provider, whole(service_tier="priority"))["usage"] == told
    assert folded(provider, pieces(service_tier="priority"))["usage"] == told
    used = {"service_tier": "auto", "service_tier_used": "priority"}
    assert answer(provider, whole(**used))["usage"] == told


def test_an_answer_of_a_special_tier_is_not_forwarded_unread() -> None:
    to = target("openai/gpt-5")
    way = to.dialect.forwarding(to)  # type: ignore[attr-defined]
    for tier, clean in ((None, True), ("default", True), ("flex", False), ("priority", False)):
        body = json.dumps(whole(service_tier=tier)).encode()
        assert (way.answer(body, {}, None) is not None) is clean
        asked = msgspec.structs.replace(call(), forwards=True)
        passing = to.dialect.parse_response(asked, to, HttpResponse(200, {}, body))
        assert isinstance(passing, dict) is not clean
        data = pieces(service_tier=tier).replace(b"\r", b"")
        assert bool(way.stream(None, None).open(data)) is clean


GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12},
}


def test_googles_tier_stands_in_the_head_or_in_the_usage() -> None:
    for headers, metadata, word in (
        ({}, {}, None), ({"x-gemini-service-tier": "standard"}, {}, None), ({"x-gemini-service-tier": "flex"}, {}, "flex"),
        ({}, {"trafficType": "ON_DEMAND"}, None), ({}, {"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({}, {"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"), ({}, {"serviceTier": "flex"}, "flex"),
    ):  # fmt: skip
        body = {**GEMINI, "usageMetadata": {**GEMINI["usageMetadata"], **metadata}}  # type: ignore[dict-item]
        assert answer("gemini/gemini-2.5-flash", body, headers=headers)["usage"].get("service_tier") == word
        to = target("gemini/gemini-2.5-flash")
        reading = to.dialect.open_stream(call(stream=True), to, HttpHead(200, headers))
        chunks = reading.feed(sse([body])) + reading.close()
        assert chunks[-1]["usage"].get("service_tier") == word


def test_googles_searches_are_counted() -> None:
    candidate = {**GEMINI["candidates"][0], "groundingMetadata": {"webSearchQueries": ["a", "b"]}}  # type: ignore[index]
    body = {**GEMINI, "candidates": [candidate]}
    found = answer("gemini/gemini-2.5-flash", body)["usage"]
    assert found["server_tool_use"] == {"web_search_requests": 2}
    assert folded("gemini/gemini-2.5-flash", sse([body]))["usage"] == found
    assert cost_of("gemini", "gemini-2.5-flash", found) is None


CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}, "stopReason": "end_turn",
    "usage": {"inputTokens": 10, "outputTokens": 2, "totalTokens": 12},
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"serviceTier": {"type": "default"}}, {}), ({"serviceTier": {"type": "flex"}}, {"service_tier": "flex"}),
        ({"performanceConfig": {"latency": "optimized"}}, {"speed": "optimized"}),
        ({"performanceConfig": {"latency": "standard"}}, {}),
    ],
)  # fmt: skip
def test_bedrocks_tier_and_latency(more: dict[str, Any], told: dict[str, str]) -> None:
    model = "bedrock/amazon.nova-pro-v1:0"
    assert answer(model, {**CONVERSE, **more})["usage"] == {**USAGE, **told}
    frames = (
        ("messageStart", {"role": "assistant"}), ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hi"}}),
        ("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": CONVERSE["usage"], **more}),
    )  # fmt: skip
    reading = decoder(model)
    chunks = []
    for kind, value in frames:
        headers = {":message-type": "event", ":event-type": kind}
        chunks += reading.feed(encode_message(headers, json.dumps(value).encode()))
    assert reading.failure is None
    assert chunks[-1]["usage"] == {**USAGE, **told}


def test_a_tier_is_asked_for_in_each_providers_words() -> None:
    assert body_of("gemini/gemini-2.5-flash", service_tier="flex")["serviceTier"] == "flex"
    assert body_of("gemini/gemini-2.5-flash", service_tier="default")["serviceTier"] == "standard"
    assert "serviceTier" not in body_of("gemini/gemini-2.5-flash", service_tier="auto")
    vertex = target("vertex/gemini-2.5-flash", VERTEX_ACCESS_TOKEN="t", GOOGLE_CLOUD_PROJECT="p")
    sent = vertex.dialect.build_request(call(service_tier="flex"), vertex)
    assert b"flex" not in sent.body
    assert sent.dropped == ("service_tier",)
    assert body_of("groq/m", service_tier="default")["service_tier"] == "on_demand"
    assert body_of("groq/m", service_tier="priority")["service_tier"] == "performance"
    assert body_of("groq/m", service_tier="flex")["service_tier"] == "flex"
    assert body_of("openai/gpt-5", service_tier="flex")["service_tier"] == "flex"
