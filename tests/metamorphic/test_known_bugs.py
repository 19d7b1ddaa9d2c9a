"""Bugs that other projects had, one named test each; rows that belong to one dialect stand beside its other tests."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from five_wires import SCENES, Scene, Upstream

import opentracy as ot
from opentracy.core.pricing import cost_of, price_of
from opentracy.core.wire import Call, Failure, HttpResponse
from opentracy.engine.standin import StandIn
from opentracy.providers import registry

USER = [{"role": "user", "content": "hi"}]


def test_row_03_cached_tokens_are_billed_at_one_rate() -> None:
    usage = {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920},
    }
    price, cost = price_of("openai", "gpt-4o"), cost_of("openai", "gpt-4o", usage)
    assert price is not None and cost is not None
    per_million = price.usd_per_million()
    want = 86 * per_million["input"] + 1920 * per_million["cached_read"] + 300 * per_million["output"]
    assert cost.usd == pytest.approx(want / 1e6, abs=1e-9)


def test_row_06_text_and_three_parallel_tools_are_one_choice(upstream: Upstream) -> None:
    calls = tuple((f"call_{n}", "weather", {"city": c}) for n, c in enumerate(("Oslo", "Riga", "Turku")))
    upstream.scene = Scene(text="Three cities.", calls=calls)
    tools = [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    ]
    stream = ot.completion("anthropic/claude-sonnet-4-5", USER, tools=tools, stream=True)
    indexes = {choice.index for chunk in stream for choice in chunk.choices}
    assert indexes == {0}
    found = stream.response.choices[0].message.tool_calls
    assert [(c.id, json.loads(c.function.arguments)) for c in found] == [(i, a) for i, _, a in calls]


@pytest.mark.parametrize(
    ("word", "calls", "reason"),
    [
        ("COMPLETE", 0, "stop"),
        ("STOP_SEQUENCE", 0, "stop"),
        ("MAX_TOKENS", 0, "length"),
        ("TOOL_CALL", 1, "tool_calls"),
        ("TOOL_CALL", 0, "stop"),
    ],
)
def test_row_13_finish_words_of_cohere(word: str, calls: int, reason: str) -> None:
    message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    if calls:
        message["tool_calls"] = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    target = registry.target("cohere/command-a-03-2025", env={"COHERE_API_KEY": "k" * 20})
    body = json.dumps({"id": "i", "finish_reason": word, "message": message}).encode()
    answer = target.dialect.parse_response(
        Call(USER, {}), target, HttpResponse(200, {"content-type": "application/json"}, body)
    )
    assert not isinstance(answer, Failure)
    assert answer["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(
    "model",
    ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "cohere/command-a-03-2025"],
)
@pytest.mark.parametrize("asked", [True, False])
def test_row_22_usage_comes_on_one_last_chunk_when_asked_for(
    model: str, asked: bool, upstream: Upstream, engine: str
) -> None:
    upstream.scene = SCENES["text"]
    body: dict[str, Any] = {"model": model, "messages": USER, "stream": True}
    if asked:
        body["stream_options"] = {"include_usage": True}
    request = urllib.request.Request(
        engine + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        events = [line[6:] for line in answer.read().split(b"\n\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    chunks = [json.loads(e) for e in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == upstream.scene.text
    with_usage = [c for c in chunks if c.get("usage")]
    empty = [c for c in chunks if not c["choices"]]
    assert empty == (chunks[-1:] if asked else [])
    assert with_usage == empty
    if asked:
        assert chunks[-1]["usage"]["total_tokens"] == upstream.scene.prompt + upstream.scene.output


def test_row_24_one_client_takes_a_large_second_call_and_mixed_kinds(upstream: Upstream) -> None:
    upstream.scene = SCENES["text"]
    for content in ("short", "x" * 300_000, "short again"):
        r = ot.completion("openai/gpt-4o-mini", [{"role": "user", "content": content}])
        assert r.choices[0].message.content == upstream.scene.text
        streamed = "".join(
            c.choices[0].delta.content or "" for c in ot.completion("openai/gpt-4o-mini", USER, stream=True)
        )
        assert streamed == upstream.scene.text


class Cutter:
    """Answers a stream and drops the connection after so many words."""

    def __init__(self, words: int) -> None:
        self.words, self.requests = words, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.requests += 1
            with peer:
                peer.recv(1 << 16)
                peer.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for n in range(self.words):
                    delta = {"role": "assistant", "content": f"w{n} "} if n == 0 else {"content": f"w{n} "}
                    chunk = {
                        "id": "c",
                        "object": "chat.completion.chunk",
                        "created": 1,
                        "model": "m",
                        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
                    }
                    event = b"data: " + json.dumps(chunk).encode() + b"\n\n"
                    peer.sendall(b"%x\r\n%b\r\n" % (len(event), event))


@pytest.fixture(params=[0, 40])
def cutter(request: pytest.FixtureRequest) -> Iterator[Cutter]:
    server = Cutter(request.param)
    yield server
    server.listener.close()


def test_row_25_and_26_a_cut_stream_falls_back_before_its_first_token_only(cutter: Cutter, upstream: Upstream) -> None:
    upstream.scene = SCENES["text"]
    fallback = [{"model": "openai/gpt-4o", "api_base": upstream.root + "/v1", "api_key": "k" * 20}]
    said: list[str] = []

    def consume() -> None:
        for chunk in ot.completion(
            "openai/gpt-4o-mini", USER, api_base=cutter.base, api_key="k" * 20, stream=True, fallbacks=fallback
        ):  # type: ignore[arg-type]
            said.append(chunk.choices[0].delta.content or "")

    if cutter.words == 0:
        consume()
        assert "".join(said) == upstream.scene.text
    else:
        with pytest.raises(ot.APIError) as caught:
            consume()
        assert "".join(said) == "".join(f"w{n} " for n in range(40))
        assert caught.value.partial.choices[0].message.content == "".join(said)
        assert not upstream.seen, "text that was shown is never followed by another answer"
    assert cutter.requests == 1


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_row_28_n_retries_are_n_plus_one_requests(retries: int, stand_in: StandIn) -> None:
    before = len(stand_in.seen)
    with pytest.raises(ot.InternalServerError) as caught:
        ot.completion(
            "openai/gpt-unavailable", USER, api_base=stand_in.root + "/v1", api_key="k" * 20, num_retries=retries
        )
    assert len(stand_in.seen) - before == retries + 1 == caught.value.attempts


@pytest.mark.parametrize("status", [400, 401, 404])
def test_row_28_what_a_retry_cannot_mend_is_not_retried(status: int) -> None:
    asked = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                asked.append(peer.recv(1 << 16))
                body = b'{"error":{"message":"no","type":"x","param":null,"code":null}}'
                head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                peer.sendall(head % (status, len(body)) + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        base = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(ot.APIStatusError) as caught:
            ot.completion("openai/gpt-4o-mini", USER, api_base=base, api_key="k" * 20, num_retries=2)
    assert caught.value.status_code == status
    assert len(asked) == caught.value.attempts == 1


@pytest.mark.parametrize("model", ["gemini/gemini-2.5-flash", "ollama/llama3.2", "anthropic/claude-sonnet-4-5", "cohere/command-a-03-2025"])
def test_row_23_tools_are_asked_for_and_surface_whether_it_streams_or_not(
    model: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_BASE", upstream.root)
    upstream.scene = SCENES["tools"]
    plain = ot.completion(model, USER, tools=TWO_TOOLS)
    with ot.completion(model, USER, tools=TWO_TOOLS, stream=True) as stream:
        for _ in stream:
            pass
    bodies = [{k: v for k, v in body.items() if k not in ("stream", "stream_options")} for _, body in upstream.seen]
    assert bodies[0] == bodies[1]
    assert bodies[0]["tools"]
    for answer in (plain, stream.response):
        found = answer.choices[0].message.tool_calls
        assert [(c.function.name, json.loads(c.function.arguments)) for c in found] == [(n, a) for _, n, a in upstream.scene.calls]
        assert answer.choices[0].finish_reason == "tool_calls"


TWO_TOOLS = [
    {"type": "function", "function": {"name": n, "description": n, "parameters": {"type": "object", "properties": {}}}}
    for n in ("weather", "clock")
]


def test_row_30_many_short_event_loops_and_threads_keep_nothing_open(upstream: Upstream) -> None:
    """The same with 10,000 loops: `python -m tests.soak.loops` (or a number of your own)."""
    upstream.scene = SCENES["text"]

    async def one() -> None:
        assert (await ot.acompletion("openai/gpt-4o-mini", USER)).choices[0].message.content == upstream.scene.text

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    for _ in range(5):
        asyncio.run(one())
    before, peak = descriptors(), 0
    for _ in range(100):
        asyncio.run(one())
        peak = max(peak, descriptors())
    assert peak <= before + 2, (before, peak)
    threads = [threading.Thread(target=lambda: asyncio.run(one())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    deadline = time.monotonic() + 20  # the server's side of a connection closes when it has seen ours close
    while descriptors() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descriptors() <= before + 2
