"""The engine's column of the fault table: what its client sees, and what the trace says."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from engine_process import MESSAGES, Engine

from faultserver import (
    ANSWER,
    EVENTS,
    Exchange,
    FaultServer,
    Step,
    answer,
    chunked,
    drop,
    error,
    event,
    hang,
    head,
    raw,
    reset,
    stream,
)

BILLING = {"error": {"message": "no money", "type": "insufficient_quota", "code": "insufficient_quota"}}
CONTEXT = {"error": {"message": "maximum context length is 8 tokens", "code": "context_length_exceeded"}}


def once(upstream: FaultServer, *steps: Step) -> None:
    """The script for the next call."""
    upstream(*steps)


@pytest.mark.parametrize(
    ("step", "status", "code", "requests", "outcome"),
    [
        pytest.param(error(400), 400, None, 1, "upstream_error", id="17"),
        pytest.param(answer(413, CONTEXT), 400, "context_length_exceeded", 1, "upstream_error", id="18"),
        pytest.param(error(401), 502, "provider_auth", 1, "upstream_error", id="19"),
        pytest.param(answer(429, BILLING), 402, "insufficient_quota", 1, "upstream_error", id="20"),
        pytest.param(error(403), 502, "provider_auth", 1, "upstream_error", id="21"),
        pytest.param(error(404), 404, None, 1, "upstream_error", id="22"),
        pytest.param(error(424), 502, "upstream_4xx", 1, "upstream_error", id="23"),
        pytest.param(error(408), 504, "timeout", 2, "timeout", id="24"),
        pytest.param(error(409), 409, None, 2, "upstream_error", id="25"),
        pytest.param(error(422), 422, None, 1, "upstream_error", id="27"),
        pytest.param(error(425), 503, None, 2, "upstream_error", id="28"),
        pytest.param(error(500), 502, "upstream_500", 2, "upstream_error", id="30"),
        pytest.param(error(503), 503, None, 2, "upstream_error", id="31"),
        pytest.param(error(529), 503, "overloaded", 2, "upstream_error", id="32"),
        pytest.param(raw(head(302, location="http://example.invalid/", content_length=0)), 502, "upstream_redirect", 1,
                     "upstream_error", id="14"),
        pytest.param(raw(b"HTTP/1.1 abc\r\n\r\n"), 502, "bad_upstream", 1, "upstream_error", id="33"),
        pytest.param(reset, 502, "upstream_reset", 2, "upstream_error", id="06"),
        pytest.param(drop, 502, "upstream_reset", 2, "upstream_error", id="07"),
        pytest.param(raw(head(200, content_type="application/json", content_length=900) + b"{}"), 502,
                     "upstream_truncated", 2, "truncated", id="11"),
        pytest.param(answer(200, b"<html>no</html>", content_type="text/html"), 502, "bad_upstream", 1,
                     "upstream_error", id="36"),
        pytest.param(answer(200, b""), 502, "bad_upstream", 2, "upstream_error", id="37"),
        pytest.param(answer(200, {**ANSWER, "choices": []}), 502, "bad_upstream", 1, "upstream_error", id="40"),
        pytest.param(answer(200, {"error": {"message": "slow down", "type": "rate_limit_error"}}), 429, None, 2,
                     "upstream_error", id="39"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "stream"])
def test_provider_fault(
    engine: Engine, upstream: FaultServer, step: Step, status: int, code: str | None, requests: int, outcome: str,
    streaming: bool,
) -> None:  # fmt: skip
    """The status that the table names, as JSON, whether a stream was asked for or not; and one honest trace."""
    once(upstream, step)
    reply = engine.chat(f"openai/fault-{time.time_ns()}", stream=streaming)  # a name of its own: no open circuit
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-should-retry"] == "false"
    assert set(reply.error) >= {"message", "type", "code", "param", "provider", "request_id"}
    if code is not None:
        assert reply.error["code"] == code
    assert len(upstream.seen) == requests
    trace = engine.trace(reply)
    assert trace["outcome"] == outcome
    assert len(trace["attempts"]) == requests
    assert b"sk-openai-secret" not in reply.body


def test_retry_after_is_passed_on(engine: Engine, upstream: FaultServer) -> None:
    """Row 29: a hint longer than a minute ends the attempt at once and reaches the client."""
    once(upstream, error(429, retry_after="3600"))
    reply = engine.chat()
    assert (reply.status, reply.headers["retry-after"], len(upstream.seen)) == (429, "3600", 1)


def test_second_attempt_succeeds(engine: Engine, upstream: FaultServer) -> None:
    """Row 35: 200 after a 500, with both attempts in header and trace; the first one's cost is unknown, not 0."""
    once(upstream, error(500), answer())
    reply = engine.chat("openai/gpt-4o-mini")
    assert (reply.status, reply.headers["x-opentracy-attempts"]) == (200, "2")
    trace = engine.trace(reply)
    assert [a["status"] for a in trace["attempts"]] == [500, 200]
    assert trace["attempts"][0]["reason"] == "retry: 500"
    assert trace["outcome"] == "ok"


def test_alias_falls_back(engine: Engine, upstream: FaultServer) -> None:
    """The next target of an alias answers, under its own name and with its own key."""
    once(upstream, error(500), answer())
    reply = engine.chat("smart")
    routing = reply.json["_routing"]
    assert (routing["alias"], routing["selected_model"], routing["provider"]) == ("smart", "llama-3.3-70b-versatile", "groq")
    assert upstream.seen[0].headers["authorization"] == "Bearer sk-openai-secret-0123456789"
    assert upstream.seen[1].headers["authorization"] == "Bearer sk-groq-secret-0123456789"
    assert upstream.seen[1].json["model"] == "llama-3.3-70b-versatile"
    assert engine.trace(reply)["fallback_from"] == "openai/gpt-4o"


@pytest.mark.parametrize(
    ("events", "end", "code", "outcome"),
    [
        pytest.param(EVENTS[:3], b"0\r\n\r\n", "stream_truncated", "truncated", id="57"),
        pytest.param((*EVENTS[:3], b"data: [DONE]\n\n"), b"0\r\n\r\n", "stream_truncated", "truncated", id="59"),
        pytest.param(EVENTS[:3], b"", "stream_interrupted", "truncated", id="60"),
        pytest.param((*EVENTS[:3], b"data: {bad\n\n"), b"0\r\n\r\n", "bad_upstream", "upstream_error", id="69"),
        pytest.param((*EVENTS[:3], b'data: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n'),
                     b"0\r\n\r\n", "overloaded", "upstream_error", id="61"),
    ],
)  # fmt: skip
def test_stream_breaks_after_content(
    engine: Engine, upstream: FaultServer, events: tuple[bytes, ...], end: bytes, code: str, outcome: str
) -> None:
    """What was shown stays shown; then an error event, no [DONE], and no second request."""
    once(upstream, stream(*events, end=end))
    reply = engine.chat(f"openai/broken-{time.time_ns()}", stream=True)
    assert reply.status == 200
    assert reply.events[-1]["error"]["code"] == code
    assert "[DONE]" not in reply.events
    said = "".join(e["choices"][0]["delta"].get("content") or "" for e in reply.events[:-1])
    assert said == "hello"
    assert len(upstream.seen) == 1
    trace = engine.trace(reply)
    assert (trace["outcome"], trace["cost_nano"], trace["cost_estimated"]) == (outcome, None, True)


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", [raw(head(200, content_type="text/event-stream", content_length=900) + EVENTS[0]), reset, drop])
def test_fault_on_a_connection_that_was_kept(
    engine: Engine, upstream: FaultServer, fault: Step, streaming: bool
) -> None:
    """The usual way of a call (no task, a connection that lies ready) ends like any other when the provider breaks."""
    model = f"openai/kept-{time.time_ns()}"
    once(upstream, stream() if streaming else answer(), fault)
    assert engine.chat(model, stream=streaming).status == 200
    reply = engine.chat(model, stream=streaming)
    assert reply.status == 502
    assert len(upstream.seen) == 3  # one good call, then a bad one with its retry
    assert len(engine.trace(reply)["attempts"]) == 2
    assert "Traceback" not in engine.log.read_text()


def test_finish_without_done_is_success(engine: Engine, upstream: FaultServer) -> None:
    """Row 58."""
    once(upstream, stream(*EVENTS[:4]))
    assert engine.chat(stream=True).events[-1] == "[DONE]"


@pytest.mark.parametrize("ping", [b"", b": ping\n\n"], ids=["62", "63"])
def test_stall_after_content(engine: Engine, upstream: FaultServer, ping: bytes) -> None:
    """A provider that falls silent, or only pings, is given up after the idle limit; our own client hears from us."""

    def stall(x: Exchange) -> bool:
        with contextlib.suppress(OSError):
            for _ in range(40):
                if ping:
                    x.send(chunked(ping))
                time.sleep(0.1)
        return False

    once(upstream, stream(*EVENTS[:3], then=stall))
    reply = engine.chat(f"openai/stall-{time.time_ns()}", stream=True)
    assert reply.events[-1]["error"]["code"] == "timeout"
    assert b": keepalive" in reply.body


def test_late_first_token(engine: Engine, upstream: FaultServer) -> None:
    """Row 64: no content in time is a 504, not a half-open stream."""
    once(upstream, stream(EVENTS[0], then=hang), stream(EVENTS[0], then=hang))
    assert engine.chat(f"openai/late-{time.time_ns()}", stream=True).status == 504


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_any_split_gives_the_same_stream(engine: Engine, upstream: FaultServer, size: int) -> None:
    """Row 65."""
    data = b"".join((EVENTS[0], event({"content": "h\u00e9 \u2028 ok"}), *EVENTS[1:]))
    once(upstream, stream(*(data[i : i + size] for i in range(0, len(data), size))))
    events = engine.chat(stream=True).events
    said = "".join(e["choices"][0]["delta"].get("content") or "" for e in events[:-1])
    assert (said, events[-1]) == ("h\u00e9 \u2028 okhello", "[DONE]")


def test_stream_shape(engine: Engine, upstream: FaultServer) -> None:
    """Usage on a chunk of its own only when asked for; the extras on the last chunk, whichever it is."""
    once(upstream, stream())
    asked = engine.chat(stream=True, stream_options={"include_usage": True}).events
    assert asked[-1] == "[DONE]"
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["total_tokens"] == 5
    assert asked[-2]["_provider"] == "openai"
    once(upstream, stream())
    plain = engine.chat(stream=True).events
    assert all(e["choices"] and not e.get("usage") for e in plain[:-1])
    assert plain[-2]["choices"][0]["finish_reason"] == "stop"
    assert plain[-2]["_routing"]["selected_model"] == "gpt-4o-mini"


def _await(condition: Any, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("phase", ["plain", "before", "during"])
def test_client_leaves(engine: Engine, upstream: FaultServer, phase: str) -> None:
    """Row 77: the provider's connection is closed, nothing is retried, and the trace says so."""
    model = f"openai/left-{phase}-{time.time_ns()}"
    once(upstream, hang if phase != "during" else stream(*EVENTS[:3], then=hang))
    body = json.dumps({"model": model, "messages": MESSAGES, "stream": phase != "plain"}).encode()
    with socket.create_connection(("127.0.0.1", engine.port)) as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
        assert _await(lambda: upstream.seen)
        if phase == "during":
            s.settimeout(5)
            while b"lo" not in s.recv(65536):
                pass
    assert upstream.seen[0].closed.wait(5)
    assert len(upstream.seen) == 1

    def row() -> list[dict[str, Any]]:
        return [r for r in engine.traces() if r["requested_model"] == model]

    assert _await(row)
    assert [r["outcome"] for r in row()] == ["client_cancelled"]


def test_slow_reader_stops_the_provider(engine: Engine, upstream: FaultServer) -> None:
    """Row 78: a client that reads nothing makes the engine stop reading, instead of holding the stream in memory."""
    blocked = False

    def flood(x: Exchange) -> bool:
        nonlocal blocked
        piece = chunked(event({"content": "x" * 16000}) * 4)
        x.sock.settimeout(1.0)
        try:
            for _ in range(4000):  # 256 MB, more than any kernel holds
                x.send(piece)
        except TimeoutError:
            blocked = True
        except OSError:
            pass
        return False

    once(upstream, stream())
    engine.chat(stream=True)  # what is loaded once is not this stream's
    before = resident_mb(engine.process.pid)
    once(upstream, stream(*EVENTS[:2], then=flood))
    body = json.dumps({"model": "openai/gpt-4o-mini", "messages": MESSAGES, "stream": True}).encode()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.connect(("127.0.0.1", engine.port))
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
        assert _await(lambda: blocked, 20)
        once(upstream, answer())
        assert engine.chat().status == 200  # others are served meanwhile
        assert resident_mb(engine.process.pid) - before < 8


def resident_mb(pid: int) -> float:
    line = next(s for s in Path(f"/proc/{pid}/status").read_text().splitlines() if s.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
