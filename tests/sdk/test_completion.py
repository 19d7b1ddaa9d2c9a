"""`completion` and `acompletion` against a server that misbehaves; every test runs for both."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import opentracy as ot
from faultserver import EVENTS, FaultServer, answer, drop, error, event, hang, reset, stream

USER = [{"role": "user", "content": "hi"}]
KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("OPENTRACY_") or name.endswith(("_API_KEY", "_API_BASE", "_BASE_URL")):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    s = FaultServer()
    yield s
    s.close()


@pytest.fixture
def other() -> Iterator[FaultServer]:
    s = FaultServer()
    yield s
    s.close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One call; a stream is read to its end and returned as its chunks."""
    if request.param == "sync":

        def sync(model: str = "openai/gpt-4o-mini", messages: Any = USER, **kw: Any) -> Any:
            done = ot.completion(model, messages, **kw)
            return list(done) if kw.get("stream") else done

        yield sync
        return

    async def on_loop(model: str, messages: Any, kw: dict[str, Any]) -> Any:
        done = await ot.acompletion(model, messages, **kw)
        return [c async for c in done] if kw.get("stream") else done

    with asyncio.Runner() as runner:
        yield lambda model="openai/gpt-4o-mini", messages=USER, **kw: runner.run(on_loop(model, messages, kw))


def text(chunks: list[Any]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks)


def test_a_plain_answer_with_its_extras(server: FaultServer, ask: Any) -> None:
    server(answer())
    r = ask(api_key=KEY, api_base=server.base, temperature=0, max_tokens=20, user="me", top_p=None)
    assert r.choices[0].message.content == "hello"
    assert r.usage.total_tokens == 5
    assert r._provider == "openai"
    assert r._cost == pytest.approx(3 * 0.15e-6 + 2 * 0.6e-6)
    assert r._latency_ms > 0
    assert r._routing == {
        "requested_model": "openai/gpt-4o-mini", "selected_model": "gpt-4o-mini", "provider": "openai", "attempts": 1
    }  # fmt: skip
    sent = server.seen[0]
    assert sent.json["user"] == "me"
    assert sent.json["temperature"] == 0
    assert "top_p" not in sent.json
    assert sent.headers["authorization"] == f"Bearer {KEY}"


def test_a_stream_with_its_extras_on_the_last_chunk(server: FaultServer, ask: Any) -> None:
    server(stream())
    chunks = ask(api_key=KEY, api_base=server.base, stream=True)
    assert text(chunks) == "hello"
    assert all(c.choices for c in chunks)
    assert chunks[-1].usage.total_tokens == 5
    assert chunks[-1]._cost > 0
    assert chunks[-1]._routing.selected_model == "gpt-4o-mini"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert "_cost" not in chunks[0]


@pytest.mark.parametrize("streamed", [False, True])
def test_retries_count_requests(server: FaultServer, ask: Any, streamed: bool) -> None:
    good = stream() if streamed else answer()
    server(error(429, retry_after_ms=1), error(503, retry_after_ms=1), good)
    r = ask(api_key=KEY, api_base=server.base, stream=streamed, num_retries=2)
    assert (r[-1] if streamed else r)._routing["attempts"] == 3
    server(error(500))
    with pytest.raises(openai.InternalServerError) as raised:
        ask(api_key=KEY, api_base=server.base, stream=streamed)
    assert len(server.seen) == 1
    assert raised.value.attempts == 1  # type: ignore[attr-defined]


CLASSES = [
    (400, "BadRequestError"), (401, "AuthenticationError"), (402, "APIStatusError"), (403, "PermissionDeniedError"),
    (404, "NotFoundError"), (409, "ConflictError"), (413, "APIStatusError"), (422, "UnprocessableEntityError"),
    (429, "RateLimitError"), (500, "InternalServerError"), (529, "InternalServerError"), (307, "APIStatusError"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "name"), CLASSES)
@pytest.mark.parametrize("streamed", [False, True])
def test_errors_by_status(server: FaultServer, ask: Any, status: int, name: str, streamed: bool) -> None:
    server(error(status, "boom it is", retry_after="7"))
    with pytest.raises(getattr(ot, name)) as raised:
        ask(api_key=KEY, api_base=server.base, stream=streamed)
    e = raised.value
    assert isinstance(e, getattr(openai, name))
    assert type(e).__name__ == name
    assert "boom it is" in str(e)
    assert (e.status_code, e.provider, e.model, e.attempts) == (status, "openai", "gpt-4o-mini", 1)
    assert (e.request_id, e.retry_after) == ("req-1", 7.0)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("step", "name", "code"),
    [
        (reset, "APIConnectionError", None),
        (drop, "APIConnectionError", None),
        (hang, "APITimeoutError", None),
        (answer(body=b"<html>login</html>", content_type="text/html"), "APIResponseValidationError", "bad_body"),
        (answer(body=b""), "APIResponseValidationError", None),
        (answer(body={"choices": []}), "APIResponseValidationError", None),
        (answer(body={"error": {"message": "inside", "code": 429}}), "RateLimitError", None),
    ],
)
def test_other_errors(server: FaultServer, ask: Any, step: Any, name: str, code: str | None) -> None:
    server(step)
    with pytest.raises(ot.APIError) as raised:
        ask(api_key=KEY, api_base=server.base, timeout=0.5)
    assert type(raised.value).__name__ == name
    if code:
        assert raised.value.code == code


@pytest.mark.parametrize(
    ("step", "name", "code", "partial"),
    [
        (stream(*EVENTS[:3], end=b"", then=drop), "APIConnectionError", "stream_interrupted", "hello"),
        (stream(*EVENTS[:3]), "APIError", "stream_truncated", "hello"),
        (stream(*EVENTS[:2], b"data: {bad\n\n", *EVENTS[2:]), "APIError", "bad_event", "hel"),
        (stream(*EVENTS[:2], b'data: {"error": {"message": "late", "code": 429}}\n\n'), "RateLimitError", None, "hel"),
        (stream(*EVENTS[:2], end=b"", then=hang), "APITimeoutError", None, "hel"),
    ],
)
def test_after_content_nothing_is_tried_again(
    server: FaultServer, other: FaultServer, ask: Any, step: Any, name: str, code: str | None, partial: str
) -> None:
    server(step)
    other(stream())
    with pytest.raises(ot.APIError) as raised:
        ask(
            api_key=KEY, api_base=server.base, stream=True, num_retries=2, timeout=0.5,
            fallbacks=[{"model": "openai/gpt-4o", "api_base": other.base}],
        )  # fmt: skip
    assert type(raised.value).__name__ == name
    if code:
        assert raised.value.code == code
    assert raised.value.partial.choices[0].message.content == partial
    assert len(server.seen) == 1
    assert other.seen == []


@pytest.mark.parametrize(
    "step", [stream(b": ping\n\n"), stream(EVENTS[0]), stream(EVENTS[0], b'data: {"error": {"message": "x"}}\n\n'), error(529)]
)
def test_before_content_a_stream_falls_back(server: FaultServer, other: FaultServer, ask: Any, step: Any) -> None:
    server(step)
    other(stream())
    chunks = ask(
        api_key=KEY, api_base=server.base, stream=True, fallbacks=[{"model": "openai/gpt-4o", "api_base": other.base}]
    )
    assert text(chunks) == "hello"
    assert other.seen[0].json["model"] == "gpt-4o"


def test_all_failed_raises_the_last_and_notes_the_others(server: FaultServer, ask: Any) -> None:
    server(error(500, "first"), error(401, "second"), error(404, "third"))
    with pytest.raises(ot.NotFoundError) as raised:
        ask(api_key=KEY, api_base=server.base, fallbacks=["openai/b", "openai/c"])
    assert raised.value.model == "c"
    assert raised.value.attempts == 3
    assert [n.split(": ")[0] for n in raised.value.__notes__] == [
        "before that, openai/gpt-4o-mini failed", "before that, openai/b failed"
    ]  # fmt: skip
    assert raised.value.__context__ is None


def test_what_failed_before_a_stream_that_breaks_is_noted(server: FaultServer, ask: Any) -> None:
    server(error(500, "first"), error(503, "again"), error(401, "second"), stream(*EVENTS[:2], end=b""))
    with pytest.raises(ot.APIError) as raised:
        ask(api_key=KEY, api_base=server.base, stream=True, num_retries=1, fallbacks=["openai/b", "openai/c"])
    assert raised.value.partial is not None
    assert raised.value.model == "c"
    assert raised.value.__notes__ == [
        "before that, openai/gpt-4o-mini failed: InternalServerError 503: again",
        "before that, openai/b failed: AuthenticationError 401: second",
    ]


def test_a_key_and_a_base_stay_with_their_provider(
    server: FaultServer, other: FaultServer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-other")
    monkeypatch.setenv("GROQ_API_BASE", other.base)
    server(error(500))
    other(answer())
    r = ask(api_key=KEY, api_base=server.base, fallbacks=["openai/b", "groq/llama-3.3-70b-versatile"])
    assert r._provider == "groq"
    assert [x.headers["authorization"] for x in server.seen] == [f"Bearer {KEY}"] * 2
    assert [x.headers["authorization"] for x in other.seen] == ["Bearer gsk-other"]


def test_a_fallbacks_own_key_and_base(server: FaultServer, other: FaultServer, ask: Any) -> None:
    server(error(500))
    other(answer())
    ask(
        api_key=KEY, api_base=server.base,
        fallbacks=[{"model": "groq/llama-3.3-70b-versatile", "api_key": "gsk-own", "api_base": other.base}],
    )  # fmt: skip
    assert other.seen[0].headers["authorization"] == "Bearer gsk-own"


def test_without_a_key_a_local_server_is_asked_without_credentials(server: FaultServer, ask: Any) -> None:
    server(answer())
    ask(api_base=server.base)
    assert "authorization" not in server.seen[0].headers


LOCAL_ERRORS = [
    ({"model": "nosuch/x"}, r"^Unknown provider: nosuch"),
    ({"model": "zzz"}, r"^Cannot resolve provider for model 'zzz'"),
    ({}, r"^No API key for openai"),
    ({"model": ""}, "model"),
    ({"model": None}, "model"),
    ({"api_key": KEY, "fallbacks": ["nosuch/x"]}, "^Unknown provider: nosuch"),
    ({"api_key": KEY, "fallbacks": "openai/x"}, "fallbacks"),
    ({"api_key": KEY, "fallbacks": [{"modle": "openai/x"}]}, r"fallbacks\[0\].*'modle'"),
    ({"messages": "hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, r"messages\[0\]\.role"),
    ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\]\.content"),
    ({"messages": ["hi"]}, r"messages\[0\]"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"stop": [1]}, "stop"),
    ({"tools": {"type": "function"}}, "tools"),
    ({"tool_choice": 3}, "tool_choice"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": (1, 2, 3)}, "timeout"),
    ({"timeout": "soon"}, "timeout"),
    ({"num_retries": -1}, "num_retries"),
    ({"num_retries": 1.0}, "num_retries"),
    ({"api_key": 5}, "api_key"),
    ({"api_key": "sk-with\nbreak"}, "line break"),
    ({"api_base": "ftp://x"}, "api_base"),
    ({"force_engine": True, "force_direct": True}, "force_engine and force_direct"),
]


@pytest.mark.parametrize(("kw", "says"), LOCAL_ERRORS)
def test_mistakes_are_told_before_any_request(ask: Any, kw: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        ask(**kw)
    assert KEY not in str(raised.value)


def test_the_engine_is_one_more_target(
    server: FaultServer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faultserver import ANSWER

    routing = {"requested_model": "auto", "selected_model": "gpt-4o-mini", "cluster_id": 84, "attempts": 2, "trace_id": "t"}
    server(answer(body={**ANSWER, "_provider": "openai", "_cost": 0.5, "_latency_ms": 1.0, "_routing": routing}))
    monkeypatch.setenv("OPENTRACY_ENGINE_URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("OPENTRACY_API_KEY", "ot_token")
    r = ask("auto", api_key="provider-key")
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].json["model"] == "auto"
    assert server.seen[0].headers["authorization"] == "Bearer ot_token"
    assert r._routing == routing
    assert (r._provider, r._cost) == ("openai", 0.5)
    assert r._latency_ms != 1.0
    ask("openai/gpt-4o", force_engine=True)
    assert server.seen[1].json["model"] == "openai/gpt-4o"
    server(answer())
    ask("openai/gpt-4o", force_direct=True, api_base=server.base, api_key=KEY)
    assert server.seen[0].json["model"] == "gpt-4o"


def test_an_engine_is_told_of_a_short_patience(server: FaultServer, ask: Any) -> None:
    """Else it would wait as long as a provider asks it to, and the caller would learn nothing but that time is up."""
    name = "x-request-timeout-ms"
    engine = {"model": "openai/gpt-4o", "force_engine": True, "api_base": f"http://127.0.0.1:{server.port}"}
    server(answer())
    ask(**engine, timeout=2.5)
    ask(**engine)
    ask(**engine, timeout=2, extra_headers={"x-request-timeout-ms": "7"})
    ask("openai/gpt-4o", timeout=2, api_base=server.base, api_key=KEY)
    assert [seen.headers.get(name) for seen in server.seen] == ["2500", None, "7", None]
    server(stream())
    assert list(ask(**engine, timeout=2, stream=True))  # a stream may last longer than its gaps
    assert name not in server.seen[0].headers


@pytest.mark.parametrize("said", [{"provider": "groq"}, {}])
def test_who_failed_behind_an_engine_is_named_in_streams_too(server: FaultServer, ask: Any, said: dict[str, str]) -> None:
    broken = event({}, error={"message": "cut", "code": "stream_interrupted", "status": 502, **said})
    server(stream(*EVENTS[:2], broken))
    with pytest.raises(ot.InternalServerError) as raised:
        ask("openai/gpt-4o", force_engine=True, api_base=f"http://127.0.0.1:{server.port}", stream=True)
    assert (raised.value.provider, raised.value.partial is None) == (said.get("provider", "openai"), False)


def test_an_engine_that_is_not_there_is_named(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENTRACY_ENGINE_URL", "http://127.0.0.1:9")
    with pytest.raises(ot.APIConnectionError, match=r"127\.0\.0\.1:9") as raised:
        ask("openai/gpt-4o")
    assert raised.value.provider == "openai"


def test_what_a_provider_lacks_is_dropped_once_with_a_warning(server: FaultServer, ask: Any) -> None:
    from opentracy import _job

    _job._warned.clear()
    server(answer())
    kw = {"model": "mistral/mistral-small-latest", "api_key": KEY, "api_base": server.base, "logit_bias": {"1": 1}}
    with pytest.warns(UserWarning, match="mistral has no equivalent for 'logit_bias'"):
        r = ask(**kw)
    assert r._routing["dropped_params"] == ["logit_bias"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(**kw)
    with pytest.raises(ValueError, match="logit_bias"):
        ask(**kw, strict_params=True)


def test_a_slow_reader_is_no_late_provider(server: FaultServer) -> None:
    """The gap limit bounds waiting for the provider, not the caller's own work between two chunks."""
    import time

    server(stream())
    got = ""
    for chunk in ot.completion("openai/gpt-4o-mini", USER, api_key=KEY, api_base=server.base, stream=True, timeout=0.3):
        got += chunk.choices[0].delta.content or ""
        time.sleep(0.2)
    assert got == "hello"


def test_messages_of_an_answer_go_back_as_they_are(server: FaultServer, ask: Any) -> None:
    server(answer())
    r = ask(api_key=KEY, api_base=server.base)
    ask(messages=[*USER, r.choices[0].message, *USER], api_key=KEY, api_base=server.base)
    assert server.seen[1].json["messages"][1] == {"role": "assistant", "content": "hello"}


def test_n_answers_keep_their_places(server: FaultServer, ask: Any) -> None:
    server(stream(event({"role": "assistant", "content": "a"}), event({}, "stop"), b"data: [DONE]\n\n"))
    assert text(ask(api_key=KEY, api_base=server.base, stream=True)) == "a"


def test_embeddings(server: FaultServer) -> None:
    vectors = {"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
               "usage": {"prompt_tokens": 2, "total_tokens": 2}}  # fmt: skip
    server(answer(body=vectors))
    kw = {"api_key": KEY, "api_base": server.base, "dimensions": 2}
    r = ot.embedding("openai/text-embedding-3-small", ["hi"], **kw)
    a = asyncio.run(ot.aembedding("openai/text-embedding-3-small", "hi", **kw))
    assert r.data[0].embedding == a.data[0].embedding == [0.5, -1.0]
    assert r._provider == "openai"
    assert [x.path for x in server.seen] == ["/v1/embeddings"] * 2
    assert server.seen[0].json["input"] == ["hi"]
    with pytest.raises(ValueError, match="input"):
        ot.embedding("openai/text-embedding-3-small", "")


def test_acompletion_without_the_openai_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentracy import _calls

    monkeypatch.setattr(_calls, "_has_openai", lambda: False)
    with pytest.raises(ImportError, match="openai package required for async"):
        asyncio.run(ot.acompletion("openai/gpt-4o", USER))
