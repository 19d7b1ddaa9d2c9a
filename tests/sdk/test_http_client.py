"""A client that the caller passes in sends the requests, and failures keep their names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import opentracy as ot
from faultserver import EVENTS, FaultServer, answer, drop, error, hang, head, raw, stream
from opentracy.transport.foreign import failure_of

httpx = pytest.importorskip("httpx2")
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    s = FaultServer()
    yield s
    s.close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: FaultServer) -> Iterator[Any]:
    def given(kw: dict[str, Any]) -> dict[str, Any]:
        return {"model": "openai/m", "messages": USER, "api_key": "k", "api_base": server.base, "timeout": 5, **kw}

    if request.param == "sync":
        with httpx.Client(trust_env=False) as client:

            def sync(**kw: Any) -> Any:
                done = ot.completion(**given(kw), http_client=client)
                return list(done) if kw.get("stream") else done

            yield sync
        return

    async def on_loop(kw: dict[str, Any]) -> Any:
        async with httpx.AsyncClient(trust_env=False) as client:
            done = await ot.acompletion(**given(kw), http_client=client)
            return [c async for c in done] if kw.get("stream") else done

    yield lambda **kw: asyncio.run(on_loop(kw))


def test_it_is_used_and_the_answer_is_the_same(server: FaultServer, ask: Any) -> None:
    server(error(503, retry_after_ms=1), answer(), stream())
    r = ask(num_retries=1)
    assert r.choices[0].message.content == "hello"
    assert r._routing["attempts"] == 2
    assert "".join(c.choices[0].delta.content or "" for c in ask(stream=True)) == "hello"
    assert server.seen[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("step", "kw", "name"),
    [
        (error(429), {}, "RateLimitError"),
        (drop, {}, "APIConnectionError"),
        (hang, {"timeout": 0.3}, "APITimeoutError"),
        (raw(head(200, content_length=9) + b"short"), {}, "APIConnectionError"),
        (raw(head(200, content_length=90), *[b"x"] * 40, gap=0.05), {"timeout": 0.4}, "APITimeoutError"),
        (stream(*EVENTS[:2], end=b"", then=drop), {"stream": True}, "APIConnectionError"),
        (stream(*EVENTS[:2], end=b"", then=hang), {"stream": True, "timeout": 0.4}, "APITimeoutError"),
        (raw(head(302, location="http://127.0.0.1:1/", content_length=0)), {}, "APIStatusError"),
    ],
)
def test_failures_keep_their_names(server: FaultServer, ask: Any, step: Any, kw: dict[str, Any], name: str) -> None:
    server(step)
    with pytest.raises(ot.APIError) as raised:
        ask(**kw)
    assert type(raised.value).__name__ == name
    assert len(server.seen) == 1


def test_a_place_where_nobody_listens(ask: Any) -> None:
    with pytest.raises(ot.APIConnectionError) as raised:
        ask(api_base="http://127.0.0.1:9/v1")
    assert raised.value.attempts == 0


def test_what_is_no_client_and_what_is_no_client_error() -> None:
    with pytest.raises(ValueError, match="http_client must be"):
        ot.completion("openai/m", USER, api_key="k", http_client=object())
    with pytest.raises(ZeroDivisionError):
        failure_of(ZeroDivisionError(), in_body=False)
    assert failure_of(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), in_body=False).kind == "tls"
    assert failure_of(httpx.ConnectError("Name or service not known"), in_body=False).kind == "dns"
