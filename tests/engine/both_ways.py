"""A call made twice, the general way and the short way, and what must be the same of both.

The first request of a connection always goes the general way, later ones with the same head the short way.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from opentracy.engine.app import Engine
from opentracy.engine.config import AliasConfig, Config, LimitsConfig
from opentracy.engine.state import Snapshot
from opentracy.engine.tracing import Tracing
from opentracy.routing import Router
from opentracy.traces import TraceRecord

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
MESSAGES = [{"role": "user", "content": "hi"}]
CONFIG = Config(
    limits=LimitsConfig(num_retries=1, total=3.0, first_token=0.6),
    aliases={"pair": AliasConfig("openai/gpt-4o", fallbacks=["groq/llama-3.3-70b-versatile"], num_retries=0),
             "quick": AliasConfig("openai/gpt-4o", num_retries=0, timeout=0.5)},
)  # fmt: skip


def answer(body: Any, status: str = "200 OK", headers: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def completion(text: str | None = "x", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06", "choices": [choice]}
    return {**whole, "usage": USAGE, **more}


GOOD = answer(completion())


@dataclass
class Wire:
    """A running engine, a provider that says what it is told to, and one kept connection to the engine."""

    engine: Engine
    script: list[Any]
    records: list[TraceRecord]
    seen: list[bytes] = field(default_factory=list)
    closed: int = 0
    address: Any = None
    reader: Any = None
    writer: Any = None

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(*self.address)

    async def post(self, body: bytes, headers: str = "") -> tuple[int, dict[str, str], bytes]:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await self.answered()

    async def answered(self) -> tuple[int, dict[str, str], bytes]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        if "content-length" in headers:
            data = await self.reader.readexactly(int(headers["content-length"]))
        else:
            data = await self.reader.readuntil(b"0\r\n\r\n")
        return int(lines[0].split()[1]), headers, data

    async def warm(self, body: dict[str, Any]) -> None:
        """One good answer, so that a connection to the provider lies ready and the head is known."""
        self.script[:] = [GOOD]
        assert (await self.post(json.dumps({**body, "stream": False}).encode()))[0] == 200
        self.seen.clear()
        self.records.clear()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


@asynccontextmanager
async def wire(config: Config = CONFIG, router: Router | None = None) -> Any:
    script: list[Any] = []
    state: dict[str, Wire] = {}

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                state["wire"].seen.append(await _message(reader))
                said = script.pop(0) if len(script) > 1 else script[0]
                if said == b"never":
                    await reader.read()
                    break
                if isinstance(said, list):
                    for piece in said:
                        if piece is None:  # nothing more, and the connection stays
                            await reader.read()
                            raise ConnectionError
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0.002)  # so that it arrives by itself
                    if not said[-1]:
                        break
                    continue
                writer.write(said)
                if b"content-length" not in said and b"chunked" not in said:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        state["wire"].closed += 1
        writer.close()

    upstream = await asyncio.start_server(provider, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    env = {f"{name}_API_{kind}": value for name in ("OPENAI", "GROQ", "DEEPSEEK", "ANTHROPIC", "GEMINI", "COHERE") for kind, value in
           (("BASE", f"http://127.0.0.1:{port}/v1"), ("KEY", "k"))}  # fmt: skip
    engine = Engine(Snapshot(config, env, router=router), Tracing(config, None, {}))
    records: list[TraceRecord] = []
    engine.traces.put = records.append
    sock = socket.create_server(("127.0.0.1", 0))
    await engine.server.listen(sock)
    found = state["wire"] = Wire(engine, script, records, address=sock.getsockname())
    await found.connect()
    try:
        yield found
    finally:
        found.writer.close()
        await engine.shut_down(0.2)
        upstream.close()


def compared(status: int, headers: dict[str, str], body: bytes, record: TraceRecord) -> dict[str, Any]:
    """What must be the same both ways: all but ids and times."""
    row = msgspec.structs.asdict(record)
    for name in ("trace_id", "ts_ms", "latency_ms", "ttft_ms", "request", "response"):
        row.pop(name)
    row["attempts"] = [
        {k: v for k, v in msgspec.structs.asdict(a).items() if k not in ("ms", "start_ms", "ttft_ms")} for a in record.attempts
    ]
    said: Any = body.replace(record.trace_id.encode(), b"ID")
    kept = {k: v for k, v in headers.items() if k not in ("date", "content-length", "x-request-id", "x-opentracy-trace-id")}
    stored = None if record.response is None else record.response.replace(record.trace_id.encode(), b"ID")
    if headers["content-type"].startswith("application/json"):
        said, stored = json.loads(said), stored and json.loads(stored)
        for one in (said, stored):
            if isinstance(one, dict):
                one.pop("_latency_ms", None)
                if one.get("created") == record.ts_ms // 1000:
                    one["created"] = "now"
    else:
        said = [{**json.loads(e[6:]), "_latency_ms": 0} for e in said.split(b"\n") if e.startswith(b"data: {")]
        stored = stored and json.loads(stored)
        for one in (*said, stored):
            if one and one.get("created") == record.ts_ms // 1000:
                one["created"] = "now"
    return {"status": status, "headers": kept, "said": said, "row": row, "request": record.request, "stored": stored}


def streamed(pieces: list[bytes]) -> list[bytes]:
    """What a provider sends, piece by piece; a last b"" closes the connection."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *chunks, b"" if pieces and not pieces[-1] else b"0\r\n\r\n"]


async def told_both_ways(script: list[Any], body: bytes, config: Config = CONFIG, router: Router | None = None) -> list[Any]:
    found = []
    for short in (False, True):
        async with wire(config, router) as w:
            await w.warm({"model": "openai/gpt-4o-mini", "messages": MESSAGES})
            if not short:
                w.engine.direct = lambda exchange: False
                w.writer.close()
                await w.connect()
            w.script[:] = script
            reply = await w.post(body)
            await asyncio.sleep(0.01)
            assert len(w.records) == 1
            assert not w.engine.calls
            assert not any(w.engine.health.active.values())
            found.append((compared(*reply, w.records[0]), [json.loads(s) for s in w.seen]))
    return found
