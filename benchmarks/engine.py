"""Cost of the engine: CPU per request beside a bare forwarding loop in the same run, traces on and content stored.

    python benchmarks/engine.py [--seconds 3] [--rounds 3] [--out result.json]

Wall-clock figures of a shared machine say little; CPU seconds of the serving process over requests served repeat, and
their ratio to the floor (httptools and msgspec on both sides of one uvloop process, nothing else) repeats best. Needs
Debian's `wrk`. The provider is this file again (`--as provider`), so is the floor (`--as floor`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import httptools
import msgspec
import uvloop

EVENTS = 200
TEXT = "The capital of France is Paris, which lies on the Seine and has about two million inhabitants. " * 2
MESSAGES = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "What is the capital of France?"},
]
BODY = {"model": "openai/gpt-4o-mini", "temperature": 0.5, "messages": MESSAGES}
# with BENCH_NEW every request has a prompt of a hundred words that no request before it had
LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = os.getenv("BENCH_BODY")
local words = {}
for word in string.gmatch(os.getenv("BENCH_NEW") or "", "%a+") do words[#words + 1] = word end
if #words > 0 then
  function request()
    local prompt = {}
    for n = 1, 100 do prompt[n] = words[math.random(#words)] end
    return wrk.format(nil, nil, nil, (string.gsub(wrk.body, "PROMPT", table.concat(prompt, " "))))
  end
end
"""
WORDS = (
    "write a function that sorts numbers explain why the sky is blue prove the root of two irrational translate this"
    " letter into plain words how many apples are left after three friends take two each summarise the history of a"
    " small town which planet has rings find the error in my code compare solar and wind power list steps to bake bread"
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}


def _openai_events() -> list[bytes]:
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": f" token{i}"}, None) for i in range(EVENTS)]
    chunks: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        for delta, finish in [*deltas, ({}, "stop")]
    ]
    chunks.append({**base, "choices": [], "usage": _usage()})
    return [*(b"data: %b\n\n" % _encode(chunk) for chunk in chunks), b"data: [DONE]\n\n"]


def _anthropic_events() -> list[bytes]:
    usage = {"input_tokens": 20, "output_tokens": 1}
    message = {"id": "c", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f" token{i}"}}
        for i in range(EVENTS)
    ]
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 30}},
        {"type": "message_stop"},
    ]
    return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event)) for event in events]


class Provider(asyncio.Protocol):
    """Answers at once, streams in OpenAI's or Anthropic's form; every event is a write, BENCH_GAP seconds apart."""

    gap = float(os.environ.get("BENCH_GAP", "0.0005"))
    streams: ClassVar = {
        name: [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
        for name, events in (("openai", _openai_events), ("anthropic", _anthropic_events))
    }
    dialect = "openai"

    def on_url(self, url: bytes) -> None:
        self.dialect = "anthropic" if url.endswith(b"/messages") else "openai"

    def connection_made(self, transport: Any) -> None:
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        if b'"stream":true' in self.body.replace(b" ", b""):
            self.task = asyncio.get_running_loop().create_task(self.stream())
            return
        body = _encode(self.answer())
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)

    def answer(self) -> dict[str, Any]:
        if self.dialect == "anthropic":
            return {
                "id": "c", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": TEXT}], "usage": {"input_tokens": 20, "output_tokens": 30},
            }  # fmt: skip
        choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
        return {
            "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": _usage(),
        }  # fmt: skip

    async def stream(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for event in self.streams[self.dialect]:
            await asyncio.sleep(self.gap)
            if self.transport.is_closing():
                return
            self.transport.write(event)
        if not self.transport.is_closing():
            self.transport.write(b"0\r\n\r\n")


class Floor(asyncio.Protocol):
    """Forwards plain requests with one decode and one encode a direction: what any gateway pays at least."""

    idle: list[FloorUpstream]
    port = 0

    def connection_made(self, transport: Any) -> None:
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        request = _decode(self.body)
        request["model"] = request["model"].partition("/")[2]
        body = _encode(request)
        data = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        if self.idle:
            self.idle.pop().send(data, self)
        else:
            self.task = asyncio.get_running_loop().create_task(self.connect(data))

    async def connect(self, data: bytes) -> None:
        _, upstream = await asyncio.get_running_loop().create_connection(FloorUpstream, "127.0.0.1", self.port)
        upstream.send(data, self)

    def answered(self, body: bytes) -> None:
        answer = _decode(body)
        answer["_provider"] = "openai"
        out = _encode(answer)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(out)
        self.transport.write(head + out)


class FloorUpstream(asyncio.Protocol):
    """The provider's side of the floor."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, data: bytes, client: Floor) -> None:
        self.client, self.body, self.parser = client, b"", httptools.HttpResponseParser(self)
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        Floor.idle.append(self)
        self.client.answered(self.body)


async def _serve(kind: type[asyncio.Protocol], port: int) -> None:
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return list(dict.fromkeys(found))


def cpu(pid: int) -> float:
    """Seconds of CPU of a process tree, those of its ended children too: one that seals traces comes and goes."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))  # its own, user and system, and those of children it waited for
    return ticks / os.sysconf("SC_CLK_TCK")


def _load(pid: int, port: int, body: dict[str, Any], seconds: int, script: str) -> float:
    """Microseconds of CPU per request."""
    before = cpu(pid)
    command = ["wrk", "-t1", "-c32", f"-d{seconds}", "-s", script, f"http://127.0.0.1:{port}/v1/chat/completions"]
    env = {**os.environ, "BENCH_BODY": json.dumps(body)}
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in", out)
    if "Non-2xx" in out or not found:
        raise SystemExit(f"the load did not go through:\n{out}")
    return (cpu(pid) - before) / max(1, int(found[1])) * 1e6


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on {port}")


def measure(seconds: int, rounds: int) -> dict[str, float]:
    """Medians over the rounds, each kind of load in turn."""
    with tempfile.TemporaryDirectory() as home:
        provider, floor, engine = _free_port(), _free_port(), _free_port()
        script = str(Path(home) / "post.lua")
        Path(script).write_text(LUA)
        env = {**os.environ, "OPENAI_API_BASE": f"http://127.0.0.1:{provider}/v1", "OPENAI_API_KEY": "bench"}
        env |= {"OPENTRACY_DATA_HOME": home, "BENCH_PROVIDER": str(provider)}
        own = [sys.executable, __file__, "--as"]
        started = [
            subprocess.Popen([*own, "provider", "--port", str(provider)], env=env),
            subprocess.Popen([*own, "floor", "--port", str(floor)], env=env),
            subprocess.Popen([sys.executable, "-m", "opentracy", "serve", "--port", str(engine)], env=env),
        ]
        try:
            for port in (provider, floor, engine):
                _wait(port)
            loads = {
                "floor_plain_us": (started[1].pid, floor, BODY), "engine_plain_us": (started[2].pid, engine, BODY),
                "engine_auto_us": (started[2].pid, engine, {**BODY, "model": "auto"}),
                "engine_stream_us": (started[2].pid, engine, {**BODY, "stream": True}),
            }  # fmt: skip
            for pid, port, body in loads.values():
                _load(pid, port, body, 1, script)
            runs: dict[str, list[float]] = {name: [] for name in loads}
            for _ in range(rounds):
                for name, (pid, port, body) in loads.items():
                    runs[name].append(_load(pid, port, body, seconds, script))
        finally:
            for process in started:
                process.terminate()
                process.wait(40)
    result = {name: round(statistics.median(values), 1) for name, values in runs.items()}
    result["plain_to_floor"] = round(result["engine_plain_us"] / result["floor_plain_us"], 2)
    result["auto_on_top_us"] = round(result["engine_auto_us"] - result["engine_plain_us"], 1)
    result["per_event_us"] = round(result["engine_stream_us"] / (EVENTS + 4), 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--as", dest="role", choices=["provider", "floor"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role is not None:
        Floor.idle, Floor.port = [], int(os.environ.get("BENCH_PROVIDER", "0"))
        uvloop.run(_serve(Provider if args.role == "provider" else Floor, args.port))
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    result = measure(args.seconds, args.rounds)
    for name, value in result.items():
        print(f"{name:20}{value:>12}")
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
