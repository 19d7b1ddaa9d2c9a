"""The short way of a usual call against the general way: whatever a provider does, nobody can tell them apart.

`ways` says how many calls began the short way. Dialects that are not OpenAI's: `test_direct_translated`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import msgspec
import pytest
from both_ways import CONFIG, GOOD, MESSAGES, USAGE, Wire, answer, compared, completion, streamed, told_both_ways, wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import opentracy.engine.asked as asked_module
import opentracy.engine.direct_call as direct_call_module
from opentracy.core.usual import UsualChat, doubled, more_keys, read_usual
from opentracy.engine.config import AutoConfig, Config
from opentracy.engine.errors import Refused
from opentracy.engine.state import Snapshot
from opentracy.engine.validate import check_chat, decode_body
from opentracy.routing import load

TOOL = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CACHED = {**USAGE, "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 3}}
SCRIPTS: dict[str, list[bytes]] = {
    "good": [GOOD],
    "unicode": [answer(completion("né 😀 \u2028 \"quoted\" \\ {}"))],
    "spaces after": [answer(json.dumps(completion()).encode() + b"\r\n  ")],
    "empty text": [answer(completion(""))],
    "null text": [answer(completion(None))],
    "length": [answer(completion(choices=[{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "length"}]))],
    "cached and reasoning": [answer(completion(usage=CACHED))],
    "none cached": [answer(completion(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 0}}))],
    "none cached, none reasoned": [answer(completion(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                                                            "completion_tokens_details": {"reasoning_tokens": 0}}))],
    "usage missing": [answer({k: v for k, v in completion().items() if k != "usage"})],
    "usage null": [answer(completion(usage=None))],
    "usage odd": [answer(completion(usage={"prompt_tokens": -1, "completion_tokens": 2, "total_tokens": 1}))],
    "usage does not add up": [answer(completion(usage={**USAGE, "total_tokens": 40}))],
    "usage with more": [answer(completion(usage={**USAGE, "queue_time": 0.2, "prompt_cache_hit_tokens": 4}))],
    "unknown model answered": [answer(completion(model="somebody-else"))],
    "tool calls": [answer(completion(choices=[{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [TOOL]},
                                               "finish_reason": "tool_calls"}]))],
    "two choices": [answer(completion(choices=[{"index": i, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
                                               for i in range(2)]))],
    "own fields": [answer(completion(_cost=5, _routing={"x": 1}))],
    "own fields, null": [answer(completion(_cost=None, _latency_ms=None))],
    "own fields, written otherwise": [answer(json.dumps(completion(_provider="x")).replace("_p", "\\u005fp").encode())],
    "fields that look like ours": [answer(completion(_id="y", text="_cost"))],
    "in pieces": [[GOOD[:30], GOOD[30:200], GOOD[200:]]],
    "zipped without saying so": [answer(b"\x1f\x8b" + b"x" * 20), GOOD],
    "and then some": [GOOD + b"HTTP/1.1 200 OK\r\n\r\n"],
    "other fields": [answer(completion(service_tier="default", system_fingerprint="fp"))],
    "no id": [answer({k: v for k, v in completion().items() if k not in ("id", "created")})],
    "error at 200": [answer({"error": {"message": "overloaded", "type": "overloaded_error"}}), GOOD],
    "not json": [answer(b"<html>")],
    "list": [answer([])],
    "empty": [answer(b""), GOOD],
    "429 then good": [answer({"error": {"message": "slow down"}}, "429 Too Many Requests", "retry-after-ms: 20\r\n"), GOOD],
    "500 twice": [answer({"error": {"message": "oh"}}, "500 Internal Server Error")],
    "400": [answer({"error": {"message": "bad prompt", "code": "c1", "param": "messages"}}, "400 Bad Request")],
    "401": [answer({"error": {"message": "bad key k"}}, "401 Unauthorized")],
    "redirect": [answer(b"", "302 Found", "location: http://example.com/\r\n")],
    "eof": [b""],
    "eof then good": [b"", GOOD],
    "cut": [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"],
    "chunked": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"%x\r\n" % len(json.dumps(completion())) +
                json.dumps(completion()).encode() + b"\r\n0\r\n\r\n"],
    "close": [answer(completion(), headers="connection: close\r\n")],
    "early hints": [b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + GOOD],
}  # fmt: skip


@pytest.mark.parametrize("model", ["openai/gpt-4o", "pair", "openai/o3-mini", "openai/gpt-5"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_whatever_the_provider_says(name: str, model: str, ways: list[str]) -> None:
    body = json.dumps({"model": model, "messages": MESSAGES, "temperature": 0, "max_tokens": 9}).encode()

    async def both() -> list[tuple[dict[str, Any], list[Any]]]:
        found = []
        for short in (False, True):
            async with wire() as w:
                await w.warm({"model": "openai/gpt-4o-mini", "messages": MESSAGES})
                if not short:
                    w.engine.direct = lambda exchange: False
                    w.writer.close()
                    await w.connect()
                w.script[:] = SCRIPTS[name]
                reply = await w.post(body)
                await asyncio.sleep(0)
                assert len(w.records) == 1
                found.append((compared(*reply, w.records[0]), [json.loads(s) for s in w.seen]))
        return found

    general, short = asyncio.run(both())
    assert short == general
    assert ways == [model]


def event(delta: Any, finish: str | None = None, **more: Any) -> bytes:
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: %b\n\n" % json.dumps({**base, "choices": choices, **more}).encode()


ROLE, ONE, TWO = event({"role": "assistant", "content": ""}), event({"content": "one "}), event({"content": "twö"})
STOP, COUNTED, DONE = event({}, "stop"), event(None, usage=USAGE), b"data: [DONE]\n\n"
CALLS = event({"tool_calls": [{"index": 0, **TOOL}]})
BROKEN = event(None, error={"message": "boom", "code": 500})
PIECES: dict[str, list[bytes]] = {  # "" ends the connection, which is otherwise kept
    "good": [ROLE + ONE + TWO + STOP + COUNTED + DONE],
    "event by event": [ROLE, ONE, TWO, STOP, COUNTED, DONE],
    "cut anywhere": [ROLE[:9], ROLE[9:] + ONE[:30], ONE[30:] + TWO[:-1], TWO[-1:] + STOP[:40], STOP[40:] + COUNTED + DONE],
    "usage with the finish": [ROLE + ONE, event({}, "stop", usage=USAGE) + DONE],
    "unknown model answered": [ROLE + ONE, event({}, "length", model="somebody-else", usage=CACHED), DONE],
    "no usage": [ROLE, ONE, STOP, DONE],
    "no end marker": [ROLE, ONE, STOP, COUNTED],
    "no finish": [ROLE, ONE, COUNTED, DONE],
    "cut off": [ROLE, ONE, b""],
    "cut off before content": [ROLE, b""],
    "nothing": [],
    "no content": [ROLE, STOP, COUNTED, DONE],
    "role with content": [event({"role": "assistant", "content": "a"}), TWO, STOP, COUNTED, DONE],
    "no role": [ONE, TWO, STOP, COUNTED, DONE],
    "tool calls": [ROLE, CALLS, event({}, "tool_calls"), COUNTED, DONE],
    "text, then tool calls": [ROLE + ONE, CALLS, TWO + event({}, "tool_calls"), COUNTED + DONE],
    "reasoning": [ROLE, event({"content": None, "reasoning_content": "hm"}), ONE, STOP, COUNTED, DONE],
    "error": [ROLE, BROKEN],
    "error after content": [ROLE + ONE, TWO, BROKEN],
    "not json": [ROLE + ONE, b"data: {no\n\n"],
    "pings": [b": hi\n\n", ROLE + ONE, b": hi\n\n" + TWO, STOP + COUNTED + DONE],
    "carriage returns": [(ROLE + ONE).replace(b"\n", b"\r\n"), (TWO + STOP + COUNTED + DONE).replace(b"\n", b"\r\n")],
    "another id": [ROLE + ONE, event({"content": "x"}, id="other"), STOP + COUNTED + DONE],
    "flood": [ROLE + ONE * 40 + event({"content": "say \"\n"}) + TWO * 300 + STOP + COUNTED + DONE],
}


@pytest.mark.parametrize("model", ["openai/gpt-4o", "pair"])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("name", PIECES)
def test_streams_too(name: str, wanted: bool, model: str, ways: list[str]) -> None:
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    body = json.dumps({"model": model, "messages": MESSAGES, "stream": True, **options}).encode()
    script = [streamed(PIECES[name]), streamed(PIECES["good"])]
    general, short = asyncio.run(told_both_ways(script, body))
    assert short == general
    assert ways == [model]
    assert short[1][0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("name", ["good", "400", "error at 200", "eof then good", "not json"])
def test_a_stream_that_is_no_stream(name: str, ways: list[str]) -> None:
    body = json.dumps({"model": "openai/gpt-4o", "messages": MESSAGES, "stream": True}).encode()
    script = [streamed(PIECES["good"]) if said == GOOD and name != "good" else said for said in SCRIPTS[name]]
    general, short = asyncio.run(told_both_ways(script, body))
    assert short == general
    assert ways == ["openai/gpt-4o"]


def quick(**limits: Any) -> Config:
    return msgspec.structs.replace(CONFIG, limits=msgspec.structs.replace(CONFIG.limits, **limits))


HUNG = [*streamed([ROLE, ONE + TWO])[:-1], None]
WAITING = [*streamed([ROLE])[:-1], None]


async def _leaves(w: Wire) -> bytes:
    said: bytes = await w.reader.readuntil(b"one ") if w.script[0] is HUNG else await _until_asked(w)
    w.writer.close()
    return said


async def _until_asked(w: Wire) -> bytes:
    while not w.seen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return b""


async def _stops(w: Wire) -> bytes:
    await _until_asked(w)
    assert await w.engine.shut_down(0.05) == 1
    said: bytes = await w.reader.read()
    return said


async def _waits(w: Wire) -> bytes:
    status, _, said = await w.answered()
    return said if status == 200 else b"data: %b\n" % said


async def _hears_that_we_are_there(w: Wire) -> bytes:
    said: bytes = await w.reader.readuntil(b": keepalive\n\n")
    w.writer.close()
    return said


LIVES: dict[str, tuple[list[Any], Config, Any, str]] = {
    "leaves a stream": (HUNG, CONFIG, _leaves, "client_cancelled"),
    "leaves before content": (WAITING, CONFIG, _leaves, "client_cancelled"),
    "the engine stops": (HUNG, CONFIG, _stops, "interrupted"),
    "the engine stops before content": (WAITING, CONFIG, _stops, "interrupted"),
    "no next content": (HUNG, quick(idle=0.3), _waits, "timeout"),
    "no first content": (WAITING, quick(first_token=0.3), _waits, "timeout"),
    "too long in all": (HUNG, quick(total=0.7, keepalive=0.4), _waits, "timeout"),
    "silence": (HUNG, quick(keepalive=0.4), _hears_that_we_are_there, "client_cancelled"),
}


@pytest.mark.parametrize("name", LIVES)
def test_what_may_befall_a_stream(name: str, ways: list[str]) -> None:
    script, config, befalls, outcome = LIVES[name]
    data = json.dumps({"model": "quick" if "first" in name else "openai/gpt-4o", "messages": MESSAGES, "stream": True}).encode()

    async def both() -> list[Any]:
        found = []
        for short in (False, True):
            async with wire(config) as w:
                await w.warm({"model": "openai/gpt-4o-mini", "messages": MESSAGES})
                if not short:
                    w.engine.direct = lambda exchange: False
                    w.writer.close()
                    await w.connect()
                w.script[:] = [script]
                asked = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
                w.writer.write(asked.encode() + data)
                said = await befalls(w)
                while not (w.records and w.closed):  # the provider is left in any case
                    await asyncio.sleep(0.01)
                assert not w.engine.calls
                row = msgspec.structs.asdict(w.records[0])
                for name in ("trace_id", "ts_ms", "latency_ms", "ttft_ms", "attempts"):
                    row.pop(name)
                told = said.replace(w.records[0].trace_id.encode(), b"ID").split(b"\n")
                # who wrote an event decides where spaces stand
                events = [e.replace(b": ", b":").replace(b", ", b",") for e in told if e.startswith((b"data: ", b": "))]
                found.append((row, [e.replace(b"\\u00f6", "ö".encode()) for e in events], len(w.records)))
        return found

    general, short = asyncio.run(asyncio.wait_for(both(), 30))
    assert short == general
    assert general[0]["outcome"] == outcome
    assert ways[-1:] == [json.loads(data)["model"]]


def test_a_slow_reader_stops_the_provider_of_a_stream_too(ways: list[str]) -> None:
    """What is on its way is bounded, and all of it arrives in the end."""
    big = [event({"content": f" {n} " + "x" * 20_000}) for n in range(120)]

    async def main() -> None:
        async with wire(quick(total=300.0, idle=300.0)) as w:
            await w.warm({"model": "openai/gpt-4o", "messages": MESSAGES})
            w.script[:] = [streamed([ROLE + ONE, *big, STOP + COUNTED + DONE])]
            w.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            data = json.dumps({"model": "openai/gpt-4o", "messages": MESSAGES, "stream": True}).encode()
            w.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            connection = next(iter(w.engine.server.connections))
            while not any(c.paused_at for c in w.engine.server.connections):
                await asyncio.sleep(0.01)
            held = connection.transport.get_write_buffer_size()
            await asyncio.sleep(0.3)
            assert connection.transport.get_write_buffer_size() <= held + 600_000
            whole = b""
            while not whole.endswith(b"0\r\n\r\n"):
                whole += await w.reader.read(1 << 20)
            texts = [json.loads(line[6:]) for line in whole.split(b"\n") if line.startswith(b"data: {")]
            said = "".join(c["choices"][0]["delta"].get("content", "") for c in texts if c["choices"])
            assert [word for word in said.split() if word.isdigit()] == [str(n) for n in range(120)]
            while not w.records:
                await asyncio.sleep(0.01)
            assert w.records[0].outcome == "ok"

    asyncio.run(asyncio.wait_for(main(), 200))
    assert ways == ["openai/gpt-4o"]


AUTO = msgspec.structs.replace(
    CONFIG,
    auto=AutoConfig(models=("openai/gpt-4o", "openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile"), default="openai/gpt-4o"),
)


@pytest.mark.parametrize("routed", [True, False])
@pytest.mark.parametrize("name", ["good", "tool calls", "500 twice", "400", "eof then good"])
def test_auto_too(name: str, routed: bool, ways: list[str]) -> None:
    """With a router, and without one, where the default answers."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Write a python function that adds."}]
    body = json.dumps({"model": "auto", "messages": messages, "max_tokens": 9}).encode()
    router = load("default") if routed else None

    async def both() -> list[Any]:
        found = []
        for short in (False, True):
            async with wire(AUTO, router) as w:
                await w.warm({"model": "openai/gpt-4o-mini", "messages": MESSAGES})
                if not short:
                    w.writer.close()
                    await w.connect()
                w.script[:] = SCRIPTS[name]
                reply = await w.post(body)
                await asyncio.sleep(0)
                one = compared(*reply, w.records[0])
                for part in (one["headers"], one["row"], one["said"].get("_routing", {}), (one["stored"] or {}).get("_routing", {})):
                    for time in ("x-opentracy-routing-ms", "routing_ms"):
                        if time in part:
                            part[time] = part[time] is not None
                found.append((one, [json.loads(s) for s in w.seen], w.engine.metrics._decisions))
        return found

    general, short = asyncio.run(both())
    assert short == general
    assert ways == ["auto"]
    assert ("x-opentracy-cluster-id" in short[0]["headers"]) is (routed and short[0]["status"] != 503)


def test_a_client_that_leaves_stops_the_provider(ways: list[str]) -> None:
    async def main() -> None:
        async with wire() as w:
            await w.warm({"model": "openai/gpt-4o", "messages": MESSAGES})
            w.script[:] = [b"never"]
            asking = asyncio.ensure_future(w.post(json.dumps({"model": "openai/gpt-4o", "messages": MESSAGES}).encode()))
            while not w.seen:
                await asyncio.sleep(0.01)
            closed = w.closed
            w.writer.close()
            asking.cancel()
            while not w.records:
                await asyncio.sleep(0.01)
            assert (w.records[0].outcome, w.records[0].cost_nano, len(w.records[0].attempts)) == ("client_cancelled", None, 1)
            while w.closed == closed:
                await asyncio.sleep(0.01)
            assert not w.engine.calls and not w.engine.health.active["openai"]

    asyncio.run(asyncio.wait_for(main(), 20))
    assert ways == ["openai/gpt-4o"]


def test_a_provider_that_never_answers_is_left_at_the_deadline(ways: list[str]) -> None:
    async def main() -> None:
        async with wire() as w:
            await w.warm({"model": "quick", "messages": MESSAGES})
            w.script[:] = [b"never"]
            status, _, body = await w.post(json.dumps({"model": "quick", "messages": MESSAGES}).encode())
            assert (status, json.loads(body)["error"]["code"]) == (504, "timeout")
            assert [(r.outcome, len(r.attempts)) for r in w.records] == [("timeout", 1)]

    asyncio.run(asyncio.wait_for(main(), 20))
    assert ways == ["quick"]


def test_an_engine_that_stops_says_so(ways: list[str]) -> None:
    async def main() -> None:
        async with wire() as w:
            await w.warm({"model": "openai/gpt-4o", "messages": MESSAGES})
            w.script[:] = [b"never"]
            asking = asyncio.ensure_future(w.post(json.dumps({"model": "openai/gpt-4o", "messages": MESSAGES}).encode()))
            while not w.seen:
                await asyncio.sleep(0.01)
            assert await w.engine.shut_down(0.05) == 1
            status, _, body = await asking
            assert (status, json.loads(body)["error"]["code"]) == (503, "shutting_down")
            assert len(w.records) == 1 and w.records[0].outcome != "ok"

    asyncio.run(asyncio.wait_for(main(), 20))
    assert ways == ["openai/gpt-4o"]


def test_after_a_reload_the_head_is_looked_at_again(ways: list[str]) -> None:
    """What a head meant under the old configuration says nothing of the new one."""

    async def main() -> None:
        async with wire() as w:
            body = {"model": "openai/gpt-4o", "messages": MESSAGES}
            await w.warm(body)
            env = {"OPENAI_API_KEY": "k", "ENGINE_KEY": "a-long-enough-engine-key"}
            w.engine.swap(Snapshot(msgspec.structs.replace(CONFIG, server=msgspec.structs.replace(CONFIG.server, api_keys=("env:ENGINE_KEY",))), env))
            assert (await w.post(json.dumps(body).encode()))[0] == 401

    asyncio.run(asyncio.wait_for(main(), 20))
    assert ways == []


@pytest.mark.parametrize("header", ["x-opentracy-tags: a\r\n", "x-opentracy-num-retries: 0\r\n", "traceparent: x\r\n", "idempotency-key: k\r\n"])
def test_headers_that_say_something_go_the_general_way(header: str, ways: list[str]) -> None:
    async def main() -> None:
        async with wire() as w:
            w.script[:] = [GOOD]
            for _ in range(3):
                assert (await w.post(json.dumps({"model": "openai/gpt-4o", "messages": MESSAGES}).encode(), header))[0] == 200

    asyncio.run(asyncio.wait_for(main(), 20))
    assert ways == []


# ------------------------------------------------------------------------------------------------ what is usual
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_numbers = st.one_of(st.integers(-3, 3), st.floats(-3, 3, allow_nan=False), st.booleans(), st.none(), _texts)
_bodies = st.fixed_dictionaries(
    {"model": st.sampled_from(["openai/gpt-4o", "x", "", " "]) | _texts,
     "messages": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant", "tool", "x"]),
                                                "content": _texts | st.none()},
                                               optional={"name": _texts}), max_size=3)},
    optional={"temperature": _numbers, "top_p": _numbers, "max_tokens": _numbers, "max_completion_tokens": _numbers,
              "presence_penalty": _numbers, "frequency_penalty": _numbers, "seed": _numbers, "stream": _numbers,
              "stop": st.one_of(_texts, st.lists(_texts, max_size=2), st.integers()), "user": _texts, "api_base": _texts,
              "stream_options": st.sampled_from([{}, {"include_usage": True}, {"include_usage": 1}, {"x": 1}, None, []]),
              "tools": st.just([]), "n": st.integers(0, 2)},
)  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_bodies, st.booleans(), st.sampled_from([None, (",", ":")]))
def test_what_is_usual_is_valid_and_loses_nothing(body: dict[str, Any], ascii_only: bool, separators: Any) -> None:
    data = json.dumps(body, ensure_ascii=ascii_only, separators=separators).encode()
    chat = read_usual(data)
    if chat is None or not chat.model.strip():
        return
    assert not more_keys(data, msgspec.json.encode(chat)) or "\\u003" in data.decode()
    check_chat(decode_body(data))
    assert json.loads(msgspec.json.encode(chat)) == body


@pytest.mark.parametrize("data", [
    b'{"model":"m","model":"m","messages":[{"role":"user","content":"x"}]}',
    b'{"model":"m","messages":[{"role":"user","content":"x"}],"messages":[{"role":"user","content":"y"}]}',
    b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}],"stream":false}',
])  # fmt: skip
def test_doubled_keys_are_seen(data: bytes) -> None:
    assert (chat := read_usual(data)) is not None and doubled(data, chat)
    with pytest.raises(Refused):
        decode_body(data)


def test_a_doubled_key_is_refused_on_a_known_connection(ways: list[str]) -> None:
    async def main() -> None:
        async with wire() as w:
            await w.warm({"model": "openai/gpt-4o", "messages": MESSAGES})
            data = b'{"model":"openai/gpt-4o","messages":[{"role":"user","content":"x"}],"messages":[{"role":"user","content":"x"}]}'
            assert (await w.post(data))[0] == 400

    asyncio.run(asyncio.wait_for(main(), 20))
    assert ways == []


@pytest.mark.parametrize("data", [
    b'{"model":"m","model":"m","messages":[{"role":"user","content":"x"}]}',
    b'{"model" :"m" , "model"\n:"m", "messages": [{"role": "user", "content": "x: y"}]}',
    b'{"model":"m","model":"m","messages":[{"role":"user","content":"x\\u003a"}]}',
    b'{"model":"m","messages":[{"role":"user","role":"user","content":"x"}]}',
])  # fmt: skip
def test_more_keys_than_were_written_are_seen(data: bytes) -> None:
    chat = read_usual(data)
    assert chat is not None and more_keys(data, msgspec.json.encode(chat)) and doubled(data, chat)


@pytest.mark.parametrize("text", ["a\\u0000b", "\\u0000"])
def test_texts_with_nul_are_not_usual(text: str) -> None:
    assert read_usual(b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % text.encode()) is None


def test_every_setting_is_known_to_the_general_check() -> None:
    """A setting whose bounds the general check does not know would be checked one way only."""
    from opentracy.engine.validate import _CHECKS

    assert set(UsualChat.__struct_fields__) - {"model", "messages"} <= set(_CHECKS)


@pytest.mark.parametrize("streaming", [False, True])
def test_prices_by_the_hour_count_from_when_the_request_began(
    streaming: bool, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeepSeek's tokens cost half at night."""
    body = {"model": "deepseek/deepseek-chat", "messages": MESSAGES, "stream": streaming}

    async def main() -> list[int | None]:
        async with wire() as w:
            costs: list[int | None] = []
            for hour in (10, 20):
                ns = (1_764_115_200 + hour * 3600) * 10**9
                for module in (direct_call_module, asked_module):
                    monkeypatch.setattr(module, "_time_ns", lambda ns=ns: ns)
                await w.warm(body)
                w.script[:] = [streamed(PIECES["good"])] if streaming else [GOOD]
                assert (await w.post(json.dumps(body).encode()))[0] == 200
                w.writer.close()
                await w.connect()  # its first request goes the general way
                assert (await w.post(json.dumps(body).encode()))[0] == 200
                costs += [record.cost_nano for record in w.records]
            return costs

    dear, dear_too, cheap, cheap_too = asyncio.run(asyncio.wait_for(main(), 20))
    assert dear is not None and cheap is not None
    assert dear == dear_too == 2 * cheap
    assert cheap == cheap_too
    assert ways
