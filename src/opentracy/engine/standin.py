"""Stand-in providers: a loopback server that speaks the real OpenAI and Anthropic wire formats, for demo and tests.

It lets the whole path run without keys or network: plain answers, event streams, tool calls, errors. What it *says* is
made by a few rules from the prompt (arithmetic is computed, tools are called with arguments found in the text); what it
*speaks* is the wire format of the two dialects, byte for byte in shape. Nothing here is used to reach a real provider.

Model names steer it: a name that contains `unavailable` answers 503, `overloaded` 529, `slow` waits a second first.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httptools

Json = Any
_NUMBER = r"-?\d+(?:\.\d+)?"
_ARITHMETIC = re.compile(rf"({_NUMBER})\s*(\+|-|\*|/|x|times|plus|minus|divided by)\s*({_NUMBER})")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{3,}")
_CAPITAL = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}")
_EVENTS_AFTER = 3  # words in one stream event


# ---------------------------------------------------------------- what it says
@dataclass
class Reply:
    """What the stand-in answers: text, or a tool call."""

    text: str = ""
    tool: str | None = None
    arguments: dict[str, Json] = field(default_factory=dict)


def _plain_text(content: Json) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(p.get("text") or p.get("content") or "") for p in content or () if isinstance(p, dict))


def _compute(prompt: str) -> str | None:
    found = _ARITHMETIC.search(prompt)
    if not found:
        return None
    a, op, b = float(found[1]), found[2], float(found[3])
    if op in ("/", "divided by"):
        if not b:
            return None
        value = a / b
    else:
        value = a + b if op in ("+", "plus") else a - b if op in ("-", "minus") else a * b
    return f"{found[1]} {op} {found[3]} = {value:g}"


def _arguments(prompt: str, schema: dict[str, Json]) -> dict[str, Json]:
    """Values for a tool's properties, found in the prompt: names for strings, numbers for numbers."""
    names: Iterator[str] = iter(_CAPITAL.findall(prompt) or ["here"])
    numbers: Iterator[str] = iter(re.findall(_NUMBER, prompt) or ["1"])
    out: dict[str, Json] = {}
    for name, rule in (schema.get("properties") or {}).items():
        kind = rule.get("type")
        if rule.get("enum"):
            out[name] = rule["enum"][0]
        elif kind in ("number", "integer"):
            value = float(next(numbers, "1"))
            out[name] = int(value) if kind == "integer" else value
        elif kind == "boolean":
            out[name] = True
        else:
            out[name] = next(names, "here")
    return out


def reply_to(prompt: str, results: list[str], tools: list[tuple[str, dict[str, Json]]], model: str) -> Reply:
    """The answer to the last user turn. `results`: tool results that follow it; `tools`: (name, JSON schema)."""
    if results:
        return Reply(f"According to the tool: {'; '.join(results)}.")
    if tools:
        name, schema = tools[0]
        return Reply(tool=name, arguments=_arguments(prompt, schema))
    computed = _compute(prompt)
    if computed:
        return Reply(computed)
    topic = ", ".join(dict.fromkeys(w.lower() for w in _WORD.findall(prompt))) or "nothing in particular"
    long = any(w in model for w in ("sonnet", "opus", "pro", "gpt-4o")) and "mini" not in model
    tail = (
        " It depends on the details, so here are the steps one by one, and why each of them is needed." if long else ""
    )
    return Reply(f"This is {model}, a stand-in. You asked about {topic}.{tail}")


def _tokens(text: str) -> int:
    return max(1, len(text) // 4)


# ---------------------------------------------------------------- how it speaks
class OpenAIWire:
    """Chat completions and their server-sent events."""

    def __init__(self, body: dict[str, Json], serial: int) -> None:
        self.body, self.model = body, str(body.get("model"))
        self.head: dict[str, Json] = {"id": f"chatcmpl-standin{serial}", "created": 1767225600, "model": self.model}
        messages = body.get("messages") or []
        prompt = next((_plain_text(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), "")
        results: list[str] = []
        for m in reversed(messages):
            if m.get("role") != "tool":
                break
            results.insert(0, _plain_text(m.get("content")))
        tools = (
            []
            if body.get("tool_choice") == "none"
            else [(t["function"]["name"], t["function"].get("parameters") or {}) for t in body.get("tools") or []]
        )
        self.reply = reply_to(prompt, results, tools, self.model)
        text = " ".join(_plain_text(m.get("content")) for m in messages)
        out = _tokens(self.reply.text or json.dumps(self.reply.arguments))
        self.usage = {"prompt_tokens": _tokens(text), "completion_tokens": out, "total_tokens": _tokens(text) + out}

    def _call(self) -> dict[str, Json]:
        return {
            "id": f"call_{self.head['id'][9:]}",
            "type": "function",
            "function": {"name": self.reply.tool, "arguments": json.dumps(self.reply.arguments)},
        }

    def plain(self) -> dict[str, Json]:
        message: dict[str, Json] = {"role": "assistant", "content": self.reply.text or None, "refusal": None}
        if self.reply.tool:
            message["tool_calls"] = [self._call()]
        return {
            **self.head,
            "object": "chat.completion",
            "usage": self.usage,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": "tool_calls" if self.reply.tool else "stop",
                }
            ],
        }

    def events(self) -> Iterator[bytes]:
        def chunk(delta: dict[str, Json], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _sse({**self.head, "object": "chat.completion.chunk", "choices": [choice]})

        yield chunk({"role": "assistant", "content": None if self.reply.tool else ""})
        if self.reply.tool:
            call = self._call()
            arguments = call["function"]["arguments"]
            yield chunk({"tool_calls": [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}]})
            for piece in _pieces(arguments, 8):
                yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for words in _words(self.reply.text):
            yield chunk({"content": words})
        yield chunk({}, "tool_calls" if self.reply.tool else "stop")
        if (self.body.get("stream_options") or {}).get("include_usage"):
            yield _sse({**self.head, "object": "chat.completion.chunk", "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    @staticmethod
    def error(status: int, message: str) -> dict[str, Json]:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class AnthropicWire:
    """Messages and their named events."""

    def __init__(self, body: dict[str, Json], serial: int) -> None:
        self.model, self.id = str(body.get("model")), f"msg_standin{serial}"
        messages = body.get("messages") or []
        last = messages[-1]["content"] if messages else ""
        blocks = last if isinstance(last, list) else [{"type": "text", "text": last}]
        results = [_plain_text(b.get("content")) for b in blocks if b.get("type") == "tool_result"]
        prompt = " ".join(b.get("text", "") for b in blocks if b.get("type") == "text")
        tools = (
            []
            if (body.get("tool_choice") or {}).get("type") == "none"
            else [(t["name"], t.get("input_schema") or {}) for t in body.get("tools") or []]
        )
        self.reply = reply_to(prompt, results, tools, self.model)
        text = " ".join(_plain_text(m.get("content")) for m in messages) + _plain_text(body.get("system") or "")
        self.input = _tokens(text)
        self.output = _tokens(self.reply.text or json.dumps(self.reply.arguments))

    def _block(self) -> dict[str, Json]:
        if self.reply.tool:
            return {
                "type": "tool_use",
                "id": f"toolu_{self.id[4:]}",
                "name": self.reply.tool,
                "input": self.reply.arguments,
            }
        return {"type": "text", "text": self.reply.text}

    def plain(self) -> dict[str, Json]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [self._block()],
            "stop_reason": "tool_use" if self.reply.tool else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": self.input, "output_tokens": self.output},
        }

    def events(self) -> Iterator[bytes]:
        def event(name: str, **fields: Json) -> bytes:
            return f"event: {name}\n".encode() + _sse({"type": name, **fields})

        yield event(
            "message_start",
            message={
                **self.plain(),
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": self.input, "output_tokens": 1},
            },
        )
        if self.reply.tool:
            yield event("content_block_start", index=0, content_block={**self._block(), "input": {}})
            for piece in _pieces(json.dumps(self.reply.arguments), 8):
                yield event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece})
        else:
            yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            yield event("ping")
            for words in _words(self.reply.text):
                yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})
        yield event("content_block_stop", index=0)
        yield event(
            "message_delta",
            delta={"stop_reason": "tool_use" if self.reply.tool else "end_turn", "stop_sequence": None},
            usage={"output_tokens": self.output},
        )
        yield event("message_stop")

    @staticmethod
    def error(status: int, message: str) -> dict[str, Json]:
        kind = {503: "api_error", 529: "overloaded_error", 401: "authentication_error"}.get(
            status, "invalid_request_error"
        )
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_standin"}


def _sse(obj: Json) -> bytes:
    return b"data: " + json.dumps(obj, separators=(",", ":")).encode() + b"\n\n"


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(0, len(text), size))


def _words(text: str) -> Iterator[str]:
    words = re.findall(r"\S+\s*", text)
    return ("".join(words[i : i + _EVENTS_AFTER]) for i in range(0, len(words), _EVENTS_AFTER))


# ---------------------------------------------------------------- the server
class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests on it are answered in turn."""

    transport: asyncio.Transport

    def __init__(self, owner: StandIn) -> None:
        self.owner = owner
        self.parser = httptools.HttpRequestParser(self)
        self.url, self.body, self.key = b"", b"", ""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.connections.discard(self)
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self.url, self.body, self.key = b"", b"", ""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"authorization", b"x-api-key"):
            self.key = value.decode("latin-1").removeprefix("Bearer ")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self.answer())

    async def answer(self) -> None:
        path = self.url.decode("latin-1").partition("?")[0]
        wire_type = (
            AnthropicWire if path.endswith("/messages") else OpenAIWire if path.endswith("/chat/completions") else None
        )
        if wire_type is None:
            return self.send(404, OpenAIWire.error(404, f"the stand-in has no path {path}"))
        try:
            body = json.loads(self.body)
            model = str(body["model"])
        except (ValueError, KeyError, TypeError):
            return self.send(400, wire_type.error(400, "the body is not a chat request"))
        self.owner.seen.append((path, model))
        if not self.key:
            return self.send(401, wire_type.error(401, "no API key"))
        for word, status in (("unavailable", 503), ("overloaded", 529)):
            if word in model:
                return self.send(status, wire_type.error(status, f"{model} is {word}"))
        if "slow" in model:
            await asyncio.sleep(1)
        try:
            wire = wire_type(body, next(self.owner.serial))
            whole, events = (None, list(wire.events())) if body.get("stream") else (wire.plain(), [])
        except (ValueError, LookupError, TypeError, AttributeError) as e:
            # an answer is due, else whoever asked would wait for it as long as it is willing to
            return self.send(400, wire_type.error(400, f"the request is not understood: {type(e).__name__}"))
        if whole is not None:
            return self.send(200, whole)
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req_standin\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for event in events:
            self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(self.owner.gap)
        self.transport.write(b"0\r\n\r\n")
        return None

    def send(self, status: int, obj: Json) -> None:
        body = json.dumps(obj).encode()
        self.transport.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nx-request-id: req_standin\r\n"
            b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
        )


class StandIn:
    """The stand-in on its own thread and event loop: `with StandIn() as s: s.environment`.

    `environment` holds what points the SDK or an engine at it; `seen` the (path, model) of each request.
    """

    def __init__(self, port: int = 0, gap: float = 0.002) -> None:
        self.port, self.gap = port, gap
        self.seen: list[tuple[str, str]] = []
        self.serial = itertools.count(1)
        self.connections: set[_Connection] = set()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="opentracy-stand-in", daemon=True)

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Base URLs and placeholder keys for every provider it can stand in for."""
        out = {"ANTHROPIC_API_BASE": self.root, "ANTHROPIC_API_KEY": "stand-in"}
        for name in ("OPENAI", "DEEPSEEK", "GROQ", "MISTRAL"):
            out[f"{name}_API_BASE"], out[f"{name}_API_KEY"] = f"{self.root}/v1", "stand-in"
        return out

    def start(self) -> StandIn:
        """Begins to serve; returns itself once the port is open."""
        self._thread.start()
        self._ready.wait(10)
        return self

    def stop(self) -> None:
        """Closes every connection and the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        def connect() -> _Connection:
            connection = _Connection(self)
            self.connections.add(connection)
            return connection

        server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with _closing(server):
            await self._stop.wait()
        for connection in list(self.connections):
            if connection.task:
                connection.task.cancel()
            connection.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _closing(server: asyncio.Server) -> AsyncIterator[None]:
    try:
        yield
    finally:
        server.close()
