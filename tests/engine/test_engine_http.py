"""What comes in over the wire: framing, limits, hosts, methods and bodies that are not what they should be."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import pytest
from engine_process import MESSAGES, Engine, Start

from faultserver import FaultServer, answer, stream

GOOD = json.dumps({"model": "openai/gpt-4o-mini", "messages": MESSAGES}).encode()


def post(body: bytes = GOOD, *lines: bytes, path: bytes = b"/v1/chat/completions", length: bool = True) -> bytes:
    given = [b"Content-Length: %d" % len(body)] if length else []
    head = [b"POST %b HTTP/1.1" % path, b"Host: localhost", b"Content-Type: application/json", *lines, *given]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def status(data: bytes) -> int:
    return int(data[9:12])


def body(data: bytes) -> Any:
    return json.loads(data.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(post(GOOD, b"Content-Length: 3", length=True), 400, id="two lengths"),
        pytest.param(post(GOOD, b"Transfer-Encoding: chunked"), 400, id="length and chunked"),
        pytest.param(post(b"", b"Content-Length: -1", length=False), 400, id="negative length"),
        pytest.param(post(b"", b"Content-Length: 99999999999", length=False), 413, id="announced too large"),
        pytest.param(post(b"zz\r\n", b"Transfer-Encoding: chunked", length=False), 400, id="bad chunk size"),
        pytest.param(b"GET /health\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
        pytest.param(b"GET http://example.org/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, id="absolute form"),
        pytest.param(b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * 20000), 414, id="huge target"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % (b"a" * 90000), 431, id="huge header"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET /health HTTP/1.1\r\nX: a\x00b\r\nHost: localhost\r\n\r\n", 400, id="NUL in a header"),
    ],
)
def test_bad_framing_is_refused_and_closed(engine: Engine, data: bytes, want: int) -> None:
    """Row 80, 86, 87: one JSON error, then the connection ends, so that nothing can be read as a second request."""
    out = engine.raw(data)
    assert status(out) == want
    assert b"connection: close" in out
    assert set(body(out)["error"]) >= {"message", "type", "code", "param"}


def test_body_over_the_limit(engine: Engine) -> None:
    """Row 80: chunked, so that no length announces it."""
    piece = b"100000\r\n" + b"a" * 0x100000 + b"\r\n"
    out = engine.raw(post(piece * 11 + b"0\r\n\r\n", b"Transfer-Encoding: chunked", length=False))
    assert status(out) == 413


@pytest.mark.parametrize("host", ["evil.example", "localhost/../x", "a b", "localhost:port", "x@localhost", "[::1", ""])
@pytest.mark.parametrize("path", [b"/v1/traces", b"/v1/chat/completions", b"/health", b"/v1/config"])
def test_other_hosts_are_not_served(engine: Engine, host: str, path: bytes) -> None:
    """A page that rebinds its name to this machine gets nothing, and no spelling of a host reaches a handler."""
    method = b"POST" if path == b"/v1/chat/completions" else b"GET"
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: " + host.encode(), b"Content-Type: application/json"]
    out = engine.raw(b"\r\n".join([*lines, b"Content-Length: 2", b"Connection: close"]) + b"\r\n\r\n{}")
    assert status(out) == 400


@pytest.mark.parametrize(
    ("method", "path", "want"),
    [
        ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/traces", 405), ("GET", "/nothing", 404),
        ("POST", "/v1/route", 415), ("POST", "/v1/chat/completions", 415), ("GET", "/v1/traces?limit=x", 400),
        ("GET", "/v1/traces?cursor=zzz", 400), ("GET", "/v1/traces?color=red", 400), ("GET", "/v1/traces/xyz", 400),
        ("GET", "/v1/traces/" + "0" * 32, 404), ("GET", "/v1/stats?metric=beauty", 400), ("GET", "/assets/../x", 404),
    ],
)  # fmt: skip
def test_wrong_method_path_or_type(engine: Engine, method: str, path: str, want: int) -> None:
    """Rows 86, 93: JSON errors in the one shape."""
    headers = {"content-type": "text/plain"} if want == 415 else {}
    reply = engine.request(method, path, b"{}" if method == "POST" else None, headers)
    assert reply.status == want
    assert set(reply.error) >= {"message", "type", "code", "param"}


def test_foreign_origin_is_refused(engine: Engine) -> None:
    """S16: no other web site may call the engine through a browser."""
    reply = engine.chat(headers={"origin": "https://evil.example"})
    assert (reply.status, reply.error["code"]) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in reply.headers


def test_compressed_request_is_refused(engine: Engine) -> None:
    """Row 81."""
    assert engine.chat(headers={"content-encoding": "gzip"}).status == 415


BAD_BODIES = {
    "not json": b"{",
    "trailing": GOOD + b"x",
    "list": b"[]",
    "string": b'"x"',
    "NaN": b'{"model": "openai/x", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    "deep": b'{"model": "openai/x", "messages": ' + b"[" * 100_000,
    "utf8": b'{"model": "openai/x", "messages": [{"role": "user", "content": "\xff"}]}',
    "surrogate": b'{"model": "openai/x", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "doubled": b'{"model": "openai/x", "model": "openai/y", "messages": [{"role": "user", "content": "x"}]}',
    "doubled setting": b'{"model": "openai/x", "messages": [{"role": "user", "content": "x"}], "temperature": 1, "temperature": 0}',
    "doubled role": b'{"model": "openai/x", "messages": [{"role": "user", "role": "system", "content": "x"}]}',
    "doubled content": b'{"model": "openai/x", "messages": [{"role": "user", "content": "x", "content": "y"}]}',
    "doubled unknown": b'{"model": "openai/x", "messages": [{"role": "user", "content": "x"}], "zz": 1, "zz": 1}',
    "NUL": b'{"model": "openai/x", "messages": [{"role": "user", "content": "a\\u0000b"}]}',
    "many": b'{"model": "openai/x", "messages": [' + b"{}," * 1_000_000 + b"{}]}",
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body_is_400_with_param(engine: Engine, upstream: FaultServer, name: str) -> None:
    """Row 82: never 500, and nothing is sent to a provider."""
    upstream(answer())
    reply = engine.request("POST", "/v1/chat/completions", BAD_BODIES[name])
    assert reply.status == 400
    assert reply.error["param"]
    assert upstream.seen == []
    assert engine.trace(reply)["outcome"] == "rejected"


@pytest.mark.parametrize("name", [n for n in BAD_BODIES if n.startswith("doubled")])
def test_a_doubled_key_is_refused_on_a_busy_connection_too(engine: Engine, upstream: FaultServer, name: str) -> None:
    """Requests of a connection that is known well go a shorter way; what is refused does not depend on it."""
    upstream(answer())
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)
    statuses = []
    for body in (GOOD, GOOD, GOOD, BAD_BODIES[name], GOOD):
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        statuses.append(reply.status)
    connection.close()
    assert statuses == [200, 200, 200, 400, 200]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"), ({"messages": "x"}, "messages"), ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0]"),
        ({"model": ""}, "model"), ({"model": 3}, "model"), ({"stream": "yes"}, "stream"),
        ({"temperature": "hot"}, "temperature"), ({"temperature": 7}, "temperature"), ({"top_p": -1}, "top_p"),
        ({"n": 0}, "n"), ({"max_tokens": 1.5}, "max_tokens"), ({"max_tokens": True}, "max_tokens"),
        ({"stop": [1]}, "stop"), ({"tools": [{}]}, "tools[0].type"), ({"logit_bias": []}, "logit_bias"),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name"), ({"metadata": "x"}, "metadata"),
    ],
)  # fmt: skip
def test_wrong_field_is_named(engine: Engine, change: dict[str, Any], param: str) -> None:
    """Rows 83, 84."""
    reply = engine.chat(**{"model": "openai/gpt-4o-mini", **change})
    assert (reply.status, reply.error["param"]) == (400, param)


STEERING = [
    {"api_base": "http://127.0.0.1:1/"},
    {"base_url": "http://127.0.0.1:1/"},
    {"api_key": "sk-x"},
    {"extra_headers": {"x": "y"}},
    {"proxy": "http://127.0.0.1:1"},
    {"metadata": {"api_base": "http://127.0.0.1:1/"}},
    {"metadata": {"x": json.dumps({"base_url": "http://127.0.0.1:1/"})}},
    {"extra_body": {"a": [{"base_url": "http://127.0.0.1:1/"}]}},
    {"options": json.dumps({"a": {"api_base": "x"}})},
]


@pytest.mark.parametrize("field", STEERING, ids=lambda f: next(iter(f)))
def test_s1_where_a_call_goes_is_never_taken_from_the_body(
    engine: Engine, upstream: FaultServer, field: dict[str, Any]
) -> None:
    """CVE-2024-6587: a request cannot send the engine's key anywhere."""
    upstream(answer())
    reply = engine.chat(**field)
    assert reply.status == 400
    assert upstream.seen == []


def test_unknown_fields_are_forwarded(engine: Engine, upstream: FaultServer) -> None:
    """Row 83: tomorrow's parameter works today; our own fields do not travel."""
    upstream(answer())
    engine.chat(frobnicate={"level": 3}, temperature=0.5)
    sent = upstream.seen[0].json
    assert (sent["frobnicate"], sent["temperature"], sent["model"]) == ({"level": 3}, 0.5, "gpt-4o-mini")


def test_client_headers_stay_here(engine: Engine, upstream: FaultServer) -> None:
    """Row 87, S8: neither the client's headers go upstream nor the provider's come back."""
    upstream(answer(200, x_secret="from-the-provider"))
    spoofed = {"x-opentracy-admin": "1", "x-forwarded-for": "1.2.3.4", "x-custom": "mine", "authorization": "Bearer caller"}
    reply = engine.chat(headers=spoofed)
    assert "from-the-provider" not in str(reply.headers)
    sent = upstream.seen[0].headers
    assert not {"x-custom", "x-forwarded-for", "x-opentracy-admin"} & set(sent)
    assert "caller" not in sent["authorization"]


def test_unknown_models(engine: Engine) -> None:
    """Row 85."""
    for model in ("nonsense", "nobody/gpt", "openai/", "mistral/large", "openai/a\r\nx: y"):
        reply = engine.chat(model)
        assert (reply.status, reply.error["code"]) == (404, "model_not_found"), model


def test_pipelined_requests_are_answered_in_order(engine: Engine, upstream: FaultServer) -> None:
    """Keep-alive and pipelining: three requests in one write, three answers in that order."""
    upstream(answer())
    data = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + post()
    out = engine.raw(data + b"GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert [int(part[:3]) for part in out.split(b"HTTP/1.1 ")[1:]] == [200, 200, 404]


def test_keep_alive_after_a_stream(engine: Engine, upstream: FaultServer) -> None:
    """A finished stream leaves the connection usable."""
    upstream(stream(), answer())
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)
    for streaming in (True, False):
        data = json.dumps({"model": "openai/gpt-4o-mini", "messages": MESSAGES, "stream": streaming})
        connection.request("POST", "/v1/chat/completions", data, {"content-type": "application/json"})
        assert connection.getresponse().read()
    connection.close()


def test_slow_headers_and_bodies(start_engine: Start, upstream: FaultServer) -> None:
    """Row 79: 408 for both, while others are served."""
    engine = start_engine("[limits]\nheader = 0.6\nbody = 0.6\n", upstream)
    for data in (b"POST /v1/chat/comp", post(b"{", b"Content-Length: 50", length=False)):
        with socket.create_connection(("127.0.0.1", engine.port)) as s:
            s.sendall(data)
            assert engine.request("GET", "/health/live").status == 200
            s.settimeout(10)
            assert status(s.recv(65536)) == 408


def test_too_many_requests_at_once(start_engine: Start, upstream: FaultServer) -> None:
    """Row 92: beyond its capacity the engine says 503 with Retry-After at once, and /health answers."""
    engine = start_engine("[server]\nmax_in_flight = 2\n", upstream)
    release = False

    def wait(x: Any) -> bool:
        while not release:
            time.sleep(0.01)
        return answer()(x) is True

    upstream(wait)
    sockets = [socket.create_connection(("127.0.0.1", engine.port)) for _ in range(2)]
    for s in sockets:
        s.sendall(post())
    while len(upstream.seen) < 2:
        time.sleep(0.01)
    reply = engine.chat()
    assert (reply.status, reply.headers["retry-after"], reply.error["code"]) == (503, "1", "overloaded")
    assert engine.request("GET", "/health").status == 200
    release = True
    for s in sockets:
        s.settimeout(10)
        assert status(s.recv(65536)) == 200
        s.close()
