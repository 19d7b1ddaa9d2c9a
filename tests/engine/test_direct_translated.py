"""The short way of a usual call to a provider that does not speak OpenAI, against the general way."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from both_ways import CONFIG, GOOD, MESSAGES, answer, streamed, told_both_ways, wire
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_direct import PIECES

from opentracy.core.translated import Translating, translating
from opentracy.core.usual import read_usual
from opentracy.core.wire import Call
from opentracy.engine.config import AliasConfig, AutoConfig
from opentracy.providers import registry

CLAUDE, GEMINI, COHERE = "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "cohere/command-a-03-2025"
ALIASES = msgspec.structs.replace(
    CONFIG, aliases={"pair": AliasConfig(CLAUDE, fallbacks=["openai/gpt-4o"], num_retries=0)}
)


def message(content: Any = None, stop: str = "end_turn", usage: Any = None, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 11, "output_tokens": 7} if usage is None else usage
    content = [{"type": "text", "text": "né \"x\""}] if content is None else content
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929", "content": content,
            "stop_reason": stop, "stop_sequence": None, "usage": usage, **more}  # fmt: skip


def candidate(*parts: Any, finish: str = "STOP", usage: Any = None) -> dict[str, Any]:
    usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18} if usage is None else usage
    content = {"role": "model", "parts": list(parts) or [{"text": "x"}]}
    return {"candidates": [{"content": content, "finishReason": finish, "index": 0}], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"}


def cohere(**more: Any) -> dict[str, Any]:
    usage = {"billed_units": {"input_tokens": 9, "output_tokens": 7}, "tokens": {"input_tokens": 11, "output_tokens": 7}}
    said = {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    return {"id": "c1", "message": said, "finish_reason": "COMPLETE", "usage": usage, **more}


CACHING = {"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 40, "output_tokens": 7, "service_tier": "standard",
           "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0}}  # fmt: skip
TOOL = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
ANSWERS: dict[str, tuple[str, list[bytes]]] = {
    "claude": (CLAUDE, [answer(message())]),
    "claude, cache": (CLAUDE, [answer(message(usage=CACHING))]),
    "claude, cut short": (CLAUDE, [answer(message(stop="max_tokens"))]),
    "claude, thoughts": (CLAUDE, [answer(message([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "x"}]))]),
    "claude, a tool": (CLAUDE, [answer(message([TOOL], "tool_use"))]),
    "claude, no usage": (CLAUDE, [answer({k: v for k, v in message().items() if k != "usage"})]),
    "claude, odd usage": (CLAUDE, [answer(message(usage={"input_tokens": -1, "output_tokens": 2}))]),
    "claude, empty": (CLAUDE, [answer(message([]))]),
    "claude, says its cost": (CLAUDE, [answer(message(usage={"input_tokens": 1, "output_tokens": 2, "cost": 0.5}))]),
    "claude, ours": (CLAUDE, [answer(message(_cost=5, trace_id="x"))]),
    "claude, unknown stop": (CLAUDE, [answer(message(stop="who_knows"))]),
    "claude, overloaded": (CLAUDE, [answer(OVERLOADED, "529 Overloaded", "retry-after-ms: 20\r\n"), answer(message())]),
    "claude, error at 200": (CLAUDE, [answer(OVERLOADED), answer(message())]),
    "claude, bad request": (CLAUDE, [answer({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}, "400 Bad Request")]),
    "claude, not json": (CLAUDE, [answer(b"<html>")]),
    "claude, latin": (CLAUDE, [answer(json.dumps(message(), ensure_ascii=False).encode("latin-1"))]),
    "claude, eof": (CLAUDE, [b"", answer(message())]),
    "pair": ("pair", [answer(OVERLOADED, "529 Overloaded"), GOOD]),
    "gemini": (GEMINI, [answer(candidate())]),
    "gemini, thoughts": (GEMINI, [answer(candidate({"text": "hm", "thought": True}, {"text": "x"}, usage={
        "promptTokenCount": 11, "candidatesTokenCount": 7, "thoughtsTokenCount": 5, "cachedContentTokenCount": 4, "totalTokenCount": 23}))]),
    "gemini, another tier": (GEMINI, [answer(candidate(), headers="x-gemini-service-tier: flex\r\n")]),
    "gemini, blocked": (GEMINI, [answer({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}})]),
    "gemini, a tool": (GEMINI, [answer(candidate({"functionCall": {"id": "i", "name": "f", "args": {"a": 1}}}))]),
    "gemini, malformed call": (GEMINI, [answer(candidate(finish="MALFORMED_FUNCTION_CALL"))]),
    "cohere": (COHERE, [answer(cohere())]),
    "cohere, error": (COHERE, [answer(cohere(finish_reason="ERROR")), answer(cohere())]),
}  # fmt: skip


def asked(model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "system", "content": "Be brief."}, *MESSAGES], **more}).encode()


def same(script: list[Any], body: bytes, ways: list[str]) -> list[Any]:
    """What was told the general way, which the short way tells too."""
    general, short = asyncio.run(told_both_ways(script, body, ALIASES))
    assert short == general
    assert ways[-1:] == [json.loads(body)["model"]]
    return list(general)


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_the_provider_says(name: str, ways: list[str]) -> None:
    model, script = ANSWERS[name]
    same(script, asked(model, temperature=1.4, max_tokens=9, stop=["a", " "]), ways)


def events(*said: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in said)


def text(said: str, index: int = 0) -> bytes:
    return events({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": said}})


def ended(reason: str = "end_turn", usage: Any = None) -> bytes:
    usage = {"output_tokens": 7} if usage is None else usage
    return events({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}, {"type": "message_stop"})


BEGUN = events({"type": "message_start", "message": message([], None, usage={"input_tokens": 11, "output_tokens": 1})})  # type: ignore[arg-type]
CACHED = events({"type": "message_start", "message": message([], None, usage={**CACHING, "output_tokens": 1})})  # type: ignore[arg-type]
BLOCK = events({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
CLOSED = events({"type": "content_block_stop", "index": 0})
PING = events({"type": "ping"})
ERROR = events(OVERLOADED)
CALL = events(
    {"type": "content_block_start", "index": 1, "content_block": {**TOOL, "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
    {"type": "content_block_stop", "index": 1},
)
FLOOD = b"".join(text(f"wörd {n} ") for n in range(300))


def chunks(*said: Any) -> bytes:
    return b"".join(b"data: %b\r\n\r\n" % json.dumps(one).encode() for one in said)


def coheres(*said: dict[str, Any]) -> bytes:
    return events({"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}, *said)


def part(said: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": said}}}}


COUNTED = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": cohere()["usage"]}}
STREAMS: dict[str, tuple[str, list[bytes]]] = {  # "" ends the connection, which is otherwise kept
    "claude": (CLAUDE, [BEGUN, BLOCK + PING, text("one "), text("twö \"q\"\n") + text("three"), CLOSED, ended()]),
    "claude, all at once": (CLAUDE, [BEGUN + BLOCK + text("one ") + text("two") + CLOSED + ended()]),
    "claude, cut anywhere": (CLAUDE, [BEGUN[:50], BEGUN[50:] + BLOCK + text("on")[:40], text("on")[40:] + text("two")[:-1], text("two")[-1:] + CLOSED + ended()[:90], ended()[90:]]),
    "claude, cache": (CLAUDE, [CACHED + BLOCK, text("one "), CLOSED + ended(usage={**CACHING, "output_tokens": 9})]),
    "claude, flood": (CLAUDE, [BEGUN + BLOCK + text("one "), FLOOD[:5000], FLOOD[5000:] + CLOSED + ended("max_tokens")]),
    "claude, a tool": (CLAUDE, [BEGUN + BLOCK + text("one "), CLOSED + CALL, ended("tool_use")]),
    "claude, tool first": (CLAUDE, [BEGUN + CALL, ended("tool_use")]),
    "claude, error": (CLAUDE, [BEGUN, ERROR]),
    "claude, error after content": (CLAUDE, [BEGUN + BLOCK + text("one "), text("two"), ERROR]),
    "claude, error with content": (CLAUDE, [BEGUN + BLOCK + text("one ") + ERROR]),
    "claude, cut off": (CLAUDE, [BEGUN + BLOCK + text("one "), b""]),
    "claude, cut off before content": (CLAUDE, [BEGUN + BLOCK, b""]),
    "claude, no end marker": (CLAUDE, [BEGUN + BLOCK + text("one "), ended().partition(b"event: message_stop")[0]]),
    "claude, no stop reason": (CLAUDE, [BEGUN + BLOCK + text("one "), CLOSED + events({"type": "message_stop"})]),
    "claude, no usage": (CLAUDE, [events({"type": "message_start", "message": {}}) + BLOCK + text("one "), CLOSED + ended(usage={})]),
    "claude, no content": (CLAUDE, [BEGUN, ended()]),
    "claude, nothing": (CLAUDE, []),
    "claude, not json": (CLAUDE, [BEGUN + BLOCK + text("one "), b"event: x\ndata: {no\n\n"]),
    "claude, pings without end": (CLAUDE, [BEGUN + PING * 4000, BLOCK + text("one "), CLOSED + ended()]),
    "pair": ("pair", [BEGUN, ERROR]),
    "gemini": (GEMINI, [chunks(candidate({"text": "one "}, finish=None)), chunks(candidate({"text": "two"}))]),  # type: ignore[arg-type]
    "gemini, at once": (GEMINI, [chunks(candidate({"text": "one "}, finish=None), candidate({"text": "two"}))]),  # type: ignore[arg-type]
    "gemini, cut off": (GEMINI, [chunks(candidate({"text": "one "}, finish=None, usage={})), b""]),  # type: ignore[arg-type]
    "gemini, error": (GEMINI, [chunks(candidate({"text": "one "}, finish=None)), chunks({"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}})]),  # type: ignore[arg-type]
    "cohere": (COHERE, [coheres(), events(part("one ")), events(part("two"), COUNTED)]),
    "cohere, cut off": (COHERE, [coheres(), events(part("one ")), b""]),
}  # fmt: skip


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("name", STREAMS)
def test_streams_too(name: str, wanted: bool, ways: list[str]) -> None:
    model, pieces = STREAMS[name]
    good = PIECES["good"] if model == "pair" else STREAMS[model.partition("/")[0].replace("anthropic", "claude")][1]
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    same([streamed(pieces), streamed(good)], asked(model, stream=True, **options), ways)


def test_the_head_of_a_stream_counts(ways: list[str]) -> None:
    head, *rest = streamed(STREAMS["gemini"][1])
    (told, _) = same([[head.replace(b"\r\n\r\n", b"\r\nx-gemini-service-tier: flex\r\n\r\n"), *rest]], asked(GEMINI, stream=True), ways)
    (usual, _) = same([[head, *rest]], asked(GEMINI, stream=True), ways)
    assert 0 < told["row"]["cost_nano"] < usual["row"]["cost_nano"]


def test_a_usual_stream_stays_on_the_short_way(ways: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only begun there: nobody takes over."""
    from opentracy.engine import direct_call

    def never(*_: Any) -> Any:
        raise AssertionError("the general way was taken")

    async def main() -> list[Any]:
        async with wire(ALIASES) as w:
            await w.warm({"model": "openai/gpt-4o-mini", "messages": MESSAGES})
            monkeypatch.setattr(direct_call.DirectCall, "_general", never)
            outcomes = []
            for model in (CLAUDE, GEMINI, COHERE):
                name = model.partition("/")[0].replace("anthropic", "claude")
                for body, script in ((asked(model), ANSWERS[name][1]), (asked(model, stream=True), [streamed(STREAMS[name][1])])):
                    w.script[:] = script
                    outcomes.append((await w.post(body))[0])
            await asyncio.sleep(0.01)
            assert [r.outcome for r in w.records] == ["ok"] * 6
            return outcomes

    assert asyncio.run(main()) == [200] * 6
    assert ways == [CLAUDE, CLAUDE, GEMINI, GEMINI, COHERE, COHERE]


@pytest.mark.parametrize("streaming", [True, False])
def test_auto_too(streaming: bool, ways: list[str]) -> None:
    auto = msgspec.structs.replace(CONFIG, auto=AutoConfig(models=(CLAUDE, "openai/gpt-4o"), default=CLAUDE))
    script = [streamed(STREAMS["claude"][1])] if streaming else ANSWERS["claude"][1]
    general, short = asyncio.run(told_both_ways(script, asked("auto", stream=streaming), auto))
    for told in (general[0], short[0]):
        assert told["row"].pop("routing_ms") is not None
        assert told["headers"].pop("x-opentracy-routing-ms")
        for event in told["said"] if streaming else [told["said"], told["stored"]]:
            event.get("_routing", {}).pop("routing_ms", None)
    assert short == general
    assert short[0]["row"]["model"] == "claude-sonnet-4-5"
    assert ways == ["auto"]


@pytest.mark.parametrize("cut", range(0, 1300, 61))
def test_wherever_a_stream_breaks(cut: int, ways: list[str]) -> None:
    whole = BEGUN + BLOCK + text("one ") + text("two") + CLOSED + CALL + ended("tool_use")
    same([streamed([whole[:cut], b""])], asked(CLAUDE, stream=True), ways)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 1800), max_size=6), st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=9))
def test_however_a_stream_is_cut(ways: list[str], cuts: list[int], texts: list[str]) -> None:
    ways.clear()
    whole = BEGUN + BLOCK + b"".join(map(text, texts)) + CLOSED + ended()
    at = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    same([streamed([whole[a:b] for a, b in pairwise(at)])], asked(CLAUDE, stream=True), ways)


# ---------------------------------------------------------------- requests
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, 1, 2]), "top_p": st.sampled_from([0, 0.3, 1]), "max_tokens": st.integers(1, 9000),
        "max_completion_tokens": st.integers(1, 9000), "stop": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=6)),
        "presence_penalty": st.sampled_from([0, -2, 1.5]), "frequency_penalty": st.sampled_from([0, 0.5]), "seed": st.integers(0, 9),
        "stream": st.booleans(), "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
    },
)  # fmt: skip
TEXTS = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=5)}), min_size=1, max_size=5)
OTHERS = (CLAUDE, GEMINI, COHERE, "anthropic/claude-opus-4-7", "gemini/gemini-2.0-flash", "cohere/command-r-08-2024")


@given(st.sampled_from(OTHERS), SETTINGS, TEXTS)
def test_what_is_sent_is_what_the_general_way_sends(model: str, params: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    target = registry.target(model, env={}, api_key="k")
    forwarding = translating(target)
    assert forwarding is not None
    chat = read_usual(json.dumps({"model": model, "messages": messages, **params}).encode())
    assume(chat is not None)
    assert chat is not None
    streaming = params.pop("stream", False)
    call = Call(messages, params, stream=streaming, created=5, fallback_id="f", forwards=True)
    try:
        general = target.dialect.build_request(call, target)
    except ValueError:
        assert forwarding.request(chat) is None
        return
    usual = forwarding.streamed if streaming else forwarding.whole
    assert (general.url, general.headers) == (usual.url, usual.headers)
    sent = forwarding.request(chat)
    assert sent is not None
    assert (sent[0], set(sent[1])) == (general.body, set(general.dropped))


def test_what_is_signed_request_by_request_has_no_short_way() -> None:
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    assert translating(registry.target("bedrock/amazon.nova-lite-v1:0", env=env)) is None
    bearer = translating(registry.target("bedrock/amazon.nova-lite-v1:0", env={"AWS_BEARER_TOKEN_BEDROCK": "b", "AWS_REGION": "us-east-1"}))
    assert isinstance(bearer, Translating)
    assert (bearer.events, bearer.verbatim) == ("application/vnd.amazon.eventstream", False)


@pytest.mark.parametrize("data", [
    b'{"model":"%b","messages":[{"role":"user","content":"hi"}],"max_tokens":5,"max_tokens":6}',
    b'{"model":"%b","messages":[{"role":"user","content":"hi"}],"stop":"a","st\\u006fp":"b"}',
    b'{"model":"%b","messages":[{"role":"user","content":"hi","content":"ho"}]}',
])  # fmt: skip
def test_a_key_that_stands_there_twice_is_refused(data: bytes) -> None:
    """Though what is sent has other keys than what came."""
    for model in (CLAUDE, "openai/gpt-4o"):

        async def main(model: str = model) -> tuple[int, int]:
            async with wire(ALIASES) as w:
                await w.warm({"model": "openai/gpt-4o-mini", "messages": MESSAGES})
                w.script[:] = [answer(message())]
                status, _, _ = await w.post(data % model.encode())
                return status, len(w.seen)

        assert asyncio.run(main()) == (400, 0)
