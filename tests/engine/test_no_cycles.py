"""A served call is freed when it ends: cycles would keep its memory until the collector comes by, which costs."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from opentracy.engine.app import Engine
from opentracy.engine.config import Config
from opentracy.engine.state import Snapshot
from opentracy.engine.tracing import Tracing

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
WHOLE = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def whole() -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    body = json.dumps({**WHOLE, "choices": [choice], "usage": USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def streamed() -> bytes:
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None), ({"content": "x"}, None), ({}, "stop"),
    ]  # fmt: skip
    chunks = [{**CHUNK, "choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in deltas]
    events = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(events), events)


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"chunked" in head:
        return await reader.readuntil(b"0\r\n\r\n")
    return await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


async def garbage_of(answer: bytes, stream: bool) -> list[Any]:
    """What only the collector finds after some calls over one connection."""

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                await _message(reader)
            except asyncio.IncompleteReadError:
                break
            writer.write(answer)
        writer.close()

    upstream = await asyncio.start_server(provider, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    env = {"OPENAI_API_BASE": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "k"}
    engine = Engine(Snapshot(Config(), env), Tracing(Config(), None, {}))
    sock = socket.create_server(("127.0.0.1", 0))
    await engine.server.listen(sock)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"model": "openai/gpt-4o-mini", "messages": messages, "stream": stream}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    async def ask() -> None:
        writer.write(request)
        assert b"error" not in await _message(reader)

    try:
        for _ in range(3):  # connects, learns, fills caches
            await ask()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        for _ in range(10):
            await ask()
        gc.collect()
        return [thing for thing in gc.garbage if type(thing).__module__.startswith("opentracy")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        writer.close()
        await engine.shut_down(1)
        upstream.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_leaves_no_cycle(stream: bool, tmp_path: Path) -> None:
    assert asyncio.run(garbage_of(streamed() if stream else whole(), stream)) == []
