"""Rows of the fault table that a scripted provider can produce, beyond those in tests/engine: connections that never
become one, odd bodies, odd streams. Each states what the engine's client sees and what the trace says."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_kit import Engine, free_port, keys_for, running
from faultserver import (
    ANSWER,
    CHUNK,
    EVENTS,
    Exchange,
    FaultServer,
    Step,
    answer,
    chunked,
    error,
    event,
    head,
    raw,
    stream,
)

CONFIG = "[limits]\nfirst_token = 1.0\nidle = 1.0\nkeepalive = 0.4\nconnect = 0.8\nnum_retries = 1\n"
MANY = {"role": "assistant", "content": "hello"}


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """A port whose queue of connections is full: a SYN to it is never answered."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            s = stack.enter_context(socket.socket())
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port))
        yield port


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A TLS server that nobody vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*request, "-keyout", key, "-out", cert], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    import ssl
    import threading

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
                        tls.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def nowhere(upstream: FaultServer, silent: int, self_signed: int) -> Iterator[Engine]:
    """An engine whose providers cannot be reached, each in a way of its own."""
    bases = {
        "OPENAI": "http://no-such-host.invalid/v1",
        "GROQ": f"http://127.0.0.1:{free_port()}/v1",
        "DEEPSEEK": f"http://127.0.0.1:{silent}/v1",
        "MISTRAL": f"https://127.0.0.1:{self_signed}/v1",
        "TOGETHER": f"https://127.0.0.1:{upstream.port}/v1",
    }
    env: dict[str, str] = {}
    for name, base in bases.items():
        env |= keys_for(base, [name])
    with running(CONFIG, env=env) as engine:
        yield engine


@pytest.mark.parametrize(
    ("provider", "status", "code", "outcome", "word"),
    [
        pytest.param("openai", 502, "upstream_unreachable", "upstream_error", "no-such-host.invalid", id="01"),
        pytest.param("groq", 502, "upstream_unreachable", "upstream_error", "refused", id="02"),
        pytest.param("deepseek", 504, "timeout", "timeout", "", id="03"),
        pytest.param("mistral", 502, "upstream_tls", "upstream_error", "TLS", id="05 self-signed"),
        pytest.param("together", 502, "upstream_tls", "upstream_error", "TLS", id="05 plain text port"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "stream"])
def test_no_connection(
    nowhere: Engine, provider: str, status: int, code: str, outcome: str, word: str, streaming: bool
) -> None:
    """Nothing was sent, so nothing can have been billed: the cost is 0, not unknown."""
    reply = nowhere.chat(f"{provider}/m", stream=streaming)
    assert (reply.status, reply.error["code"]) == (status, code), reply.body
    assert word in reply.error["message"]
    trace = nowhere.trace(reply)
    assert (trace["outcome"], trace["cost_nano"]) == (outcome, 0)


def test_dead_proxy(upstream: FaultServer) -> None:
    """Row 13: the proxy's host is named, its password is not; nothing goes around it."""
    upstream(answer())
    proxy = f"http://user:PROXYCANARY77@127.0.0.1:{free_port()}"
    with running(CONFIG, env={**keys_for(upstream.base), "HTTP_PROXY": proxy, "NO_PROXY": ""}) as engine:
        reply = engine.chat()
        assert (reply.status, reply.error["code"]) == (502, "proxy_error")
        assert "127.0.0.1" in reply.error["message"]
        trace = json.dumps(engine.trace(reply))
        assert "PROXYCANARY77" not in reply.body.decode() + trace + engine.log.read_text()
        assert upstream.seen == []


@pytest.fixture(scope="module")
def engine(upstream: FaultServer) -> Iterator[Engine]:
    with running(CONFIG, env=keys_for(upstream.base)) as e:
        yield e


def fresh() -> str:
    """A model name that no circuit remembers."""
    return f"openai/m-{time.monotonic_ns()}"


def drip(data: bytes, gap: float = 0.1) -> Step:
    def step(x: Exchange) -> bool:
        with contextlib.suppress(OSError):
            for byte in data:
                x.send(bytes([byte]))
                time.sleep(gap)
        return False

    return step


def forever(piece: bytes, limit: int = 400 << 20) -> Step:
    """Sends until the other side has enough."""

    def step(x: Exchange) -> bool:
        with contextlib.suppress(OSError):
            for _ in range(limit // len(piece)):
                x.send(piece)
        return False

    return step


def after(first: bytes, then: Step) -> Step:
    def step(x: Exchange) -> bool:
        x.send(first)
        return bool(then(x))

    return step


def hang(x: Exchange) -> bool:
    x.wait_for_close(8)
    return False


OK_HEAD = head(200, content_type="application/json", content_length=500)
HUGE_HEAD = b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (i, b"a" * 1000) for i in range(300)) + b"\r\n"
BOMB = gzip.compress(b" " * (64 << 20))
CHOICE = ANSWER["choices"][0]  # type: ignore[index]


def with_usage(token: str) -> bytes:
    return json.dumps({**ANSWER, "usage": "@"}).replace('"@"', token).encode()


@pytest.mark.parametrize(
    ("step", "statuses", "codes", "outcome", "requests"),
    [
        pytest.param(hang, {504}, {"timeout"}, "timeout", 1, id="08"),
        pytest.param(drip(OK_HEAD), {504}, {"timeout"}, "timeout", 1, id="09 drip"),
        pytest.param(raw(HUGE_HEAD), {502}, {"bad_upstream"}, "upstream_error", 1, id="09 size"),
        pytest.param(after(OK_HEAD, drip(b"{" * 500)), {504}, {"timeout"}, "timeout", 1, id="10"),
        pytest.param(raw(head(200, content_type="application/json", transfer_encoding="chunked") + b"5\r\n{\"a\":"),
                     {502}, {"upstream_truncated"}, "truncated", 2, id="11 no last chunk"),
        pytest.param(raw(head(200, content_type="application/json", transfer_encoding="chunked") + b"zz\r\n{}"),
                     {502}, {"upstream_truncated"}, "truncated", 1, id="11 bad chunk"),
        pytest.param(after(OK_HEAD + b"{", hang), {504}, {"timeout"}, "timeout", 1, id="12"),
        pytest.param(error(400, "This model's maximum context length is 8 tokens"), {400}, {"context_length_exceeded"},
                     "upstream_error", 1, id="18 by text"),
        pytest.param(answer(402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}), {402}, set(),
                     "upstream_error", 1, id="20"),
        *(pytest.param(error(s), {502}, {"upstream_4xx"}, "upstream_error", 1, id=f"23 {s}")
          for s in (405, 406, 410, 415, 418, 431, 451, 498)),
        pytest.param(error(413), {413}, set(), "upstream_error", 1, id="26"),
        *(pytest.param(error(s), {503}, {"overloaded"}, "upstream_error", 2, id=f"32 {s}") for s in range(520, 530)),
        pytest.param(raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000), {502}, {"bad_upstream"}, "upstream_error", 1,
                     id="33 flood"),
        pytest.param(error(503, x_should_retry="false"), {503}, set(), "upstream_error", 1, id="34 no"),
        pytest.param(error(400, x_should_retry="true"), {400}, set(), "upstream_error", 2, id="34 yes"),
        pytest.param(raw(head(204)), {502}, {"bad_upstream"}, "upstream_error", 2, id="37 204"),
        pytest.param(answer(200, json.dumps(ANSWER).encode()[:-9]), {502}, {"bad_upstream"}, "upstream_error", 1, id="38 cut"),
        pytest.param(answer(200, json.dumps(ANSWER).encode() + b"}"), {502}, {"bad_upstream"}, "upstream_error", 1,
                     id="38 trailing"),
        *(pytest.param(answer(200, v), {502}, {"bad_upstream"}, "upstream_error", 1, id=f"40 {v!r}"[:30])
          for v in ([], b'"text"', b"null", {**ANSWER, "choices": None}, {**ANSWER, "choices": {}},
                    {k: x for k, x in ANSWER.items() if k != "choices"},
                    {**ANSWER, "choices": [{"index": 0, "message": None, "finish_reason": "stop"}]})),
        pytest.param(answer(200, b"[" * 100_000), {502}, {"bad_upstream"}, "upstream_error", 1, id="43 deep"),
        pytest.param(answer(200, b"this is no gzip", content_encoding="gzip"), {502}, {"bad_upstream"}, "upstream_error", 2,
                     id="46"),
        pytest.param(answer(200, gzip.compress(gzip.compress(json.dumps(ANSWER).encode())), content_encoding="gzip"), {502},
                     {"bad_upstream"}, "upstream_error", 2, id="46 twice"),
        pytest.param(answer(200, BOMB, content_encoding="gzip"), {502}, {"bad_upstream"}, "upstream_error", 1, id="47"),
        pytest.param(after(head(200, content_type="application/json"), forever(b" " * 65536)), {502}, {"bad_upstream"},
                     "upstream_error", 1, id="48"),
    ],
)  # fmt: skip
def test_provider_fault(
    engine: Engine, upstream: FaultServer, step: Step, statuses: set[int], codes: set[str], outcome: str, requests: int
) -> None:
    upstream(step)
    reply = engine.chat(fresh(), {"x-request-timeout-ms": "1000"} if outcome == "timeout" else {})
    assert reply.status in statuses, reply.body
    assert not codes or reply.error["code"] in codes
    assert reply.headers["x-should-retry"] == "false"
    trace = engine.trace(reply)
    assert trace["outcome"] == outcome
    assert len(trace["attempts"]) == len(upstream.seen) == requests
    if outcome in ("timeout", "truncated"):
        assert trace["cost_nano"] is None  # it may have been billed


@pytest.mark.parametrize(
    ("hint", "waits"),
    [({"retry_after": "1"}, True), ({"retry_after_ms": "50"}, True), ({"retry_after": "nan"}, True),
     ({"retry_after": "-5"}, True), ({"retry_after": "soon"}, True), ({"retry_after": "3600"}, False)],
    ids=str,
)  # fmt: skip
def test_row_29_hints(engine: Engine, upstream: FaultServer, hint: dict[str, str], waits: bool) -> None:
    """A usable hint is waited for, nonsense is ignored, more than a minute ends it at once and is passed on."""
    upstream(error(429, **hint), answer())
    reply = engine.chat(fresh())
    assert (reply.status, len(upstream.seen)) == ((200, 2) if waits else (429, 1))
    assert waits or reply.headers["retry-after"] == "3600"


@pytest.mark.parametrize(
    ("step", "text", "known_cost"),
    [
        *(pytest.param(answer(200, with_usage(f'{{"prompt_tokens": {t}, "completion_tokens": 1, "total_tokens": 1}}')),
                       "hello", False, id=f"41 {t}") for t in ("-1", "1e400", "3.5", "true", '"x"')),
        pytest.param(answer(200, {k: v for k, v in ANSWER.items() if k != "usage"}), "hello", False, id="42"),
        pytest.param(answer(200, b"\xef\xbb\xbf" + json.dumps(ANSWER).encode()), "hello", True, id="38 BOM"),
        pytest.param(answer(200, gzip.compress(json.dumps(ANSWER).encode()), content_encoding="gzip"), "hello", True,
                     id="45 gzip"),
        pytest.param(answer(200, zlib.compress(json.dumps(ANSWER).encode()), content_encoding="deflate"), "hello", True,
                     id="45 deflate"),
        pytest.param(answer(200, ANSWER, content_type="text/plain"), "hello", True, id="49"),
        pytest.param(answer(200, {"choices": [{"message": {"content": "hello"}}]}), "hello", False, id="52"),
        pytest.param(answer(200, {**ANSWER, "choices": [{**CHOICE, "message": {"role": "assistant", "content": None}}]}),
                     "", True, id="40 content null"),
    ],
)  # fmt: skip
def test_odd_but_valid_bodies(engine: Engine, upstream: FaultServer, step: Step, text: str, known_cost: bool) -> None:
    """Good answers in odd clothes; a usage that is none gives an unknown cost, never 0 and never NaN."""
    upstream(step)
    reply = engine.chat("openai/gpt-4o-mini")
    if reply.status != 200:
        assert not known_cost, reply.body  # an unreadable usage may also be refused
        assert reply.error["code"] == "bad_upstream"
        return
    assert (reply.json["choices"][0]["message"]["content"] or "") == text
    assert b"NaN" not in reply.body
    assert reply.json["choices"][0]["finish_reason"]
    assert (reply.json["_cost"] is not None) == known_cost
    assert (engine.trace(reply)["cost_nano"] is not None) == known_cost


def test_row_50_unknown_fields_are_kept(engine: Engine, upstream: FaultServer) -> None:
    message = {**MANY, "refusal": "no", "reasoning_content": "thinking", "x_new": {"a": 1}}
    upstream(answer(200, {**ANSWER, "x_top": [1], "choices": [{**CHOICE, "message": message, "finish_reason": "novel"}]}))
    got = engine.chat().json
    assert got["x_top"] == [1]
    assert got["choices"][0]["message"]["x_new"] == {"a": 1}
    assert got["choices"][0]["message"]["refusal"] == "no"


def test_row_51_tool_arguments(engine: Engine, upstream: FaultServer) -> None:
    """Invalid JSON stays as it is, an object becomes text, null becomes {}, missing and equal ids become unique."""
    calls = [{"type": "function", "function": {"name": "f", "arguments": a}} for a in ("{bad", {"x": 1}, None)]
    calls[1]["id"] = calls[2]["id"] = "same"
    upstream(answer(200, {**ANSWER, "choices": [{"index": 0, "finish_reason": "tool_calls",
                                                 "message": {"role": "assistant", "content": None, "tool_calls": calls}}]}))
    got = engine.chat().json["choices"][0]["message"]["tool_calls"]
    assert [c["function"]["arguments"] for c in got][0::2] == ["{bad", "{}"]
    assert json.loads(got[1]["function"]["arguments"]) == {"x": 1}
    assert len({c["id"] for c in got}) == 3


@pytest.mark.parametrize("sent", [b'"a\xff\xfeb"', b'"\\ud800"', b'"a\\u0000b"'], ids=["bytes", "surrogate", "NUL"])
def test_row_44_text_that_is_none(engine: Engine, upstream: FaultServer, sent: bytes) -> None:
    """Whatever comes, the answer is UTF-8 and JSON."""
    upstream(answer(200, json.dumps(ANSWER).encode().replace(b'"hello"', sent)))
    reply = engine.chat()
    assert reply.status in (200, 502)
    json.loads(reply.body.decode("utf-8"))["choices" if reply.status == 200 else "error"]


def said(events: list[Any]) -> str:
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e != "[DONE]" and e.get("choices"))


DONE = b"data: [DONE]\n\n"
NO_SPACE = b"".join(EVENTS).replace(b"data: ", b"data:")
PARTS = json.dumps({**CHUNK, "choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]}, indent=1)
LINES = "".join(f"data: {line}\n" for line in PARTS.split("\n")).encode() + b"\n"


@pytest.mark.parametrize(
    ("events", "text"),
    [
        pytest.param([b"".join(EVENTS).replace(b"\n", b"\r\n")], "hello", id="66 CRLF"),
        pytest.param([b"".join(EVENTS).replace(b"\n", b"\r")], "hello", id="66 CR"),
        pytest.param([NO_SPACE], "hello", id="66 no space"),
        pytest.param([b"\xef\xbb\xbf" + b"".join(EVENTS)], "hello", id="66 BOM"),
        pytest.param([b"id: 7\nretry: 5\nevent: message\n\n" + LINES + DONE], "hello", id="66 several data lines"),
        pytest.param([b"".join(EVENTS).rstrip(b"\n")], "hello", id="66 no last blank line"),
        pytest.param([EVENTS[0], event({"content": "a\u2028b\x85c\x0bd"}), *EVENTS[3:]], "a\u2028b\x85c\x0bd", id="67"),
        pytest.param([EVENTS[0], event({"content": "x" * (5 << 20)}), *EVENTS[3:]], "x" * (5 << 20), id="68 5 MB"),
        pytest.param([b": c\n\n", b'data: {"choices": []}\n\n', *EVENTS[:3],
                      b'data: {"choices": [{"index": 0, "delta": null}]}\n\n', b'data: {"choices": [{"index": 0}]}\n\n',
                      *EVENTS[3:]], "hello", id="70"),
        pytest.param([*EVENTS, event({"content": "later"})], "hello", id="72 after done"),
    ],
)  # fmt: skip
def test_odd_but_valid_streams(engine: Engine, upstream: FaultServer, events: list[bytes], text: str) -> None:
    upstream(stream(*events))
    reply = engine.chat("openai/gpt-4o-mini", stream=True)
    assert reply.events[-1] == "[DONE]", reply.body[-500:]
    assert said(reply.events) == text
    assert engine.trace(reply)["outcome"] == "ok"


def test_row_72_done_without_close(engine: Engine, upstream: FaultServer) -> None:
    """[DONE] ends it at once, although the provider keeps the connection open; the next call does not wait for it."""
    upstream(stream(*EVENTS, then=hang))
    assert engine.chat("openai/gpt-4o-mini", stream=True).events[-1] == "[DONE]"
    assert not upstream.seen[0].closed.is_set()
    upstream(answer())
    assert engine.chat("openai/gpt-4o-mini").status == 200


def test_row_74_compressed_stream_arrives_as_it_comes(engine: Engine, upstream: FaultServer) -> None:
    z = zlib.compressobj(wbits=31)
    pieces = [z.compress(e) + z.flush(zlib.Z_SYNC_FLUSH) for e in EVENTS]

    def step(x: Exchange) -> bool:
        x.send(head(200, content_type="text/event-stream", content_encoding="gzip", transfer_encoding="chunked"))
        for piece in pieces:
            x.send(chunked(piece))
        x.send(chunked(z.flush()), b"0\r\n\r\n")
        return False

    upstream(step)
    reply = engine.chat("openai/gpt-4o-mini", stream=True)
    assert (said(reply.events), reply.events[-1]) == ("hello", "[DONE]")


@pytest.mark.parametrize(
    ("step", "code", "outcome", "requests"),
    [
        pytest.param(stream(DONE), "empty_stream", "truncated", 2, id="54"),
        pytest.param(answer(200, b"<html>", content_type="text/html"), "bad_upstream", "upstream_error", 1, id="55"),
        pytest.param(stream(EVENTS[0], b": ka\n\n"), "empty_stream", "truncated", 2, id="56"),
        pytest.param(stream(b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n'), None, "upstream_error", 2,
                     id="61 before content"),
    ],
)  # fmt: skip
def test_streams_that_never_begin(
    engine: Engine, upstream: FaultServer, step: Step, code: str | None, outcome: str, requests: int
) -> None:
    """Nothing was shown yet, so it is a status and not an event, and it was tried again."""
    upstream(step)
    reply = engine.chat(fresh(), stream=True)
    assert reply.status == 502
    assert code is None or reply.error["code"] == code
    trace = engine.trace(reply)
    assert (trace["outcome"], len(upstream.seen), len(trace["attempts"])) == (outcome, requests, requests)
    if outcome == "truncated":
        assert trace["cost_nano"] is None


def test_row_55_json_for_a_stream(engine: Engine, upstream: FaultServer) -> None:
    """A whole completion becomes a stream."""
    upstream(answer())
    reply = engine.chat("openai/gpt-4o-mini", stream=True)
    assert (said(reply.events), reply.events[-1]) == ("hello", "[DONE]")


def test_row_68_endless_line(engine: Engine, upstream: FaultServer) -> None:
    """An event larger than any is: an error event, in bounded memory."""
    upstream(stream(*EVENTS[:3], then=forever(chunked(b"data: " + b"x" * 65530), 64 << 20)))
    reply = engine.chat(fresh(), stream=True)
    assert "error" in reply.events[-1]
    assert b"[DONE]" not in reply.body
    assert said(reply.events[:-1]) == "hello"


def test_row_71_tool_deltas(engine: Engine, upstream: FaultServer) -> None:
    """Interleaved fragments, a repeated index with another id, a missing index: the calls come out whole and in order."""

    def part(index: int | None, id: str | None = None, name: str | None = None, arguments: str = "") -> bytes:
        call: dict[str, Any] = {"function": {"arguments": arguments, **({"name": name} if name else {})}}
        call |= {"id": id, "type": "function"} if id else {}
        return event({"tool_calls": [call if index is None else {"index": index, **call}]})

    events = [part(0, "a", "f", '{"q": "x'), part(1, "b", "g", '{"n"'), part(0, None, None, '\\'), part(0, None, None, 'u00e9"}'),
              part(1, None, None, ": 2}"), event({}, "tool_calls"), DONE]  # fmt: skip
    upstream(stream(*events))
    got: dict[int, dict[str, str]] = {}
    for e in engine.chat("openai/gpt-4o-mini", stream=True).events:
        for choice in [] if e == "[DONE]" else e["choices"]:
            for call in choice["delta"].get("tool_calls") or []:
                held = got.setdefault(call["index"], {"id": "", "arguments": ""})
                held["id"] = held["id"] or call.get("id") or ""
                held["arguments"] += call["function"].get("arguments") or ""
    assert [(i, c["id"], json.loads(c["arguments"])) for i, c in sorted(got.items())] == [
        (0, "a", {"q": "x\u00e9"}), (1, "b", {"n": 2}),
    ]  # fmt: skip


def test_cut_anywhere_is_never_a_success(engine: Engine, upstream: FaultServer) -> None:
    """N5: a stream cut at any byte before its finish event is never reported as complete, and after content never retried."""
    whole = b"".join(EVENTS)
    finish = whole.index(b'"finish_reason": "stop"')
    rounds = int(os.environ.get("OPENTRACY_CUTS", "60"))
    for n in range(rounds):
        cut = n * finish // rounds
        upstream(stream(whole[:cut]) if cut else stream(b": x\n\n"))
        reply = engine.chat(f"openai/cut-{n}-{time.monotonic_ns()}", stream=True)
        trace = engine.trace(reply)
        assert trace["outcome"] != "ok"
        assert b"[DONE]" not in reply.body
        if reply.status == 200:
            assert len(upstream.seen) == 1
            assert "error" in reply.events[-1]


def test_nothing_leaks(engine: Engine, upstream: FaultServer) -> None:
    """N7: after all of it no connection, descriptor or call is left over."""
    upstream(answer())
    engine.chat("openai/gpt-4o-mini")
    health = engine.request("GET", "/health").json
    assert health["in_flight"] == 0
    before = len(list(Path(f"/proc/{engine.process.pid}/fd").iterdir()))
    for _ in range(20):
        upstream(error(500))
        engine.chat(fresh())
        upstream(stream(*EVENTS[:3], end=b""))
        engine.chat(fresh(), stream=True)
    time.sleep(0.5)
    assert len(list(Path(f"/proc/{engine.process.pid}/fd").iterdir())) <= before + 2
