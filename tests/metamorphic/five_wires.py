"""A provider for tests that answers in any of the five dialects, and remembers what it was asked.

One neutral `Scene` (text, thinking, tool calls, usage) is spelled as each dialect's documented plain answer and stream.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentracy.core.eventstream import encode_message

Json = Any


@dataclass(frozen=True)
class Scene:
    """What the model says. `calls`: (id, name, arguments)."""

    text: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, str, dict[str, Json]], ...] = ()
    prompt: int = 20
    cached: int = 0
    output: int = 9


SCENES = {
    "text": Scene(text="Bonjour, le monde. Ça va ?"),
    "tools": Scene(calls=(("call_a1", "weather", {"city": "Oslo"}), ("call_b2", "clock", {}))),
    "text and tool": Scene(text="Let me look.", calls=(("call_c3", "weather", {"city": "Pärnu"}),)),
    "thinking": Scene(text="Forty-two.", thinking="Six times seven."),
    "cached": Scene(text="As before.", prompt=1200, cached=1024),
}


def _halves(text: str) -> list[str]:
    return [t for t in (text[: len(text) // 2], text[len(text) // 2 :]) if t]


def _sse(obj: Json, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(obj, ensure_ascii=False)}\n\n".encode()


class OpenAI:
    """Chat completions."""

    @staticmethod
    def usage(s: Scene) -> Json:
        out = {"prompt_tokens": s.prompt, "completion_tokens": s.output, "total_tokens": s.prompt + s.output}
        return {**out, "prompt_tokens_details": {"cached_tokens": s.cached}} if s.cached else out

    @staticmethod
    def calls(s: Scene) -> Json:
        return [
            {"id": i, "type": "function", "function": {"name": n, "arguments": json.dumps(a)}} for i, n, a in s.calls
        ]

    def plain(self, s: Scene, model: str) -> Json:
        message: Json = {"role": "assistant", "content": s.text or None}
        if s.thinking:
            message["reasoning_content"] = s.thinking
        if s.calls:
            message["tool_calls"] = self.calls(s)
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if s.calls else "stop"}
        return {
            "id": "r1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": self.usage(s),
        }

    def stream(self, s: Scene, model: str) -> bytes:
        def chunk(delta: Json, finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return _sse(
                {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
            )

        out = [chunk({"role": "assistant", "content": ""})]
        out += [chunk({"reasoning_content": t}) for t in _halves(s.thinking)]
        out += [chunk({"content": t}) for t in _halves(s.text)]
        for n, call in enumerate(self.calls(s)):
            out.append(chunk({"tool_calls": [{"index": n, **call, "function": {**call["function"], "arguments": ""}}]}))
            out += [
                chunk({"tool_calls": [{"index": n, "function": {"arguments": t}}]})
                for t in _halves(call["function"]["arguments"])
            ]
        out.append(chunk({}, "tool_calls" if s.calls else "stop"))
        out.append(
            _sse(
                {
                    "id": "r1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": model,
                    "choices": [],
                    "usage": self.usage(s),
                }
            )
        )
        return b"".join(out) + b"data: [DONE]\n\n"


class Anthropic:
    """Messages."""

    def blocks(self, s: Scene) -> list[Json]:
        out: list[Json] = []
        if s.thinking:
            out.append({"type": "thinking", "thinking": s.thinking, "signature": "c2lnbmVk"})
        if s.text:
            out.append({"type": "text", "text": s.text})
        return out + [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in s.calls]

    def plain(self, s: Scene, model: str) -> Json:
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": self.blocks(s),
            "stop_reason": "tool_use" if s.calls else "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": s.prompt - s.cached, "cache_read_input_tokens": s.cached, "output_tokens": s.output},
        }  # fmt: skip

    def stream(self, s: Scene, model: str) -> bytes:
        whole = self.plain(s, model)
        out = [
            _sse({"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}, "message_start")
        ]
        for n, block in enumerate(self.blocks(s)):
            if block["type"] == "text":
                start, deltas = (
                    {"type": "text", "text": ""},
                    [{"type": "text_delta", "text": t} for t in _halves(s.text)],
                )
            elif block["type"] == "thinking":
                start = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": t} for t in _halves(s.thinking)]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            else:
                start = {**block, "input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": t} for t in _halves(json.dumps(block["input"]))]
            out.append(_sse({"type": "content_block_start", "index": n, "content_block": start}, "content_block_start"))
            out += [
                _sse({"type": "content_block_delta", "index": n, "delta": d}, "content_block_delta") for d in deltas
            ]
            out.append(_sse({"type": "content_block_stop", "index": n}, "content_block_stop"))
        last = {
            "type": "message_delta",
            "delta": {"stop_reason": whole["stop_reason"]},
            "usage": {"output_tokens": s.output},
        }
        return b"".join(out) + _sse(last, "message_delta") + _sse({"type": "message_stop"}, "message_stop")


class Gemini:
    """generateContent."""

    def answer(self, s: Scene, parts: list[Json], finish: str | None) -> Json:
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": s.prompt, "candidatesTokenCount": s.output, "totalTokenCount": s.prompt + s.output}
        if s.cached:
            usage["cachedContentTokenCount"] = s.cached
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "g", "responseId": "g1"}

    def plain(self, s: Scene, model: str) -> Json:
        parts: list[Json] = [{"text": s.thinking, "thought": True}] if s.thinking else []
        parts += [{"text": s.text}] if s.text else []
        parts += [{"functionCall": {"id": i, "name": n, "args": a}} for i, n, a in s.calls]
        return self.answer(s, parts, "STOP")

    def stream(self, s: Scene, model: str) -> bytes:
        parts: list[Json] = [{"text": t, "thought": True} for t in _halves(s.thinking)] + [
            {"text": t} for t in _halves(s.text)
        ]
        parts += [{"functionCall": {"id": i, "name": n, "args": a}} for i, n, a in s.calls]
        events = [self.answer(s, [p], None) for p in parts] + [self.answer(s, [{"text": ""}], "STOP")]
        return b"".join(_sse(e).replace(b"\n\n", b"\r\n\r\n") for e in events)


class Cohere:
    """/v2/chat."""

    def usage(self, s: Scene) -> Json:
        tokens = {"input_tokens": s.prompt, "output_tokens": s.output}
        return {"billed_units": tokens, "tokens": tokens, **({"cached_tokens": s.cached} if s.cached else {})}

    def plain(self, s: Scene, model: str) -> Json:
        message: Json = {"role": "assistant", "content": []}
        if s.thinking:
            message["content"].append({"type": "thinking", "thinking": s.thinking})
        if s.text:
            message["content"].append({"type": "text", "text": s.text})
        if s.calls:
            message["tool_calls"] = OpenAI.calls(s)
        return {
            "id": "co1",
            "finish_reason": "TOOL_CALL" if s.calls else "COMPLETE",
            "message": message,
            "usage": self.usage(s),
        }

    def stream(self, s: Scene, model: str) -> bytes:
        def event(kind: str, **rest: Json) -> bytes:
            return _sse({"type": kind, **rest}, kind)

        out = [
            event("message-start", id="co1", delta={"message": {"role": "assistant", "content": [], "tool_calls": []}})
        ]
        for kind, text in (("thinking", s.thinking), ("text", s.text)):
            if text:
                out.append(event("content-start", index=0, delta={"message": {"content": {"type": kind, kind: ""}}}))
                out += [
                    event("content-delta", index=0, delta={"message": {"content": {kind: t}}}) for t in _halves(text)
                ]
                out.append(event("content-end", index=0))
        for n, call in enumerate(OpenAI.calls(s)):
            bare = {**call, "function": {**call["function"], "arguments": ""}}
            out.append(event("tool-call-start", index=n, delta={"message": {"tool_calls": bare}}))
            for t in _halves(call["function"]["arguments"]):
                out.append(
                    event("tool-call-delta", index=n, delta={"message": {"tool_calls": {"function": {"arguments": t}}}})
                )
            out.append(event("tool-call-end", index=n))
        end = {"finish_reason": "TOOL_CALL" if s.calls else "COMPLETE", "usage": self.usage(s)}
        return b"".join(out) + event("message-end", delta=end) + b"data: [DONE]\n\n"


class Bedrock:
    """Converse."""

    def usage(self, s: Scene) -> Json:
        out = {"inputTokens": s.prompt - s.cached, "outputTokens": s.output, "totalTokens": s.prompt + s.output}
        return {**out, "cacheReadInputTokens": s.cached} if s.cached else out

    def blocks(self, s: Scene) -> list[Json]:
        out: list[Json] = []
        if s.thinking:
            out.append({"reasoningContent": {"reasoningText": {"text": s.thinking, "signature": "c2lnbmVk"}}})
        if s.text:
            out.append({"text": s.text})
        return out + [{"toolUse": {"toolUseId": i, "name": n, "input": a}} for i, n, a in s.calls]

    def plain(self, s: Scene, model: str) -> Json:
        return {
            "output": {"message": {"role": "assistant", "content": self.blocks(s)}},
            "stopReason": "tool_use" if s.calls else "end_turn", "usage": self.usage(s), "metrics": {"latencyMs": 3},
        }  # fmt: skip

    def stream(self, s: Scene, model: str) -> bytes:
        def event(kind: str, obj: Json) -> bytes:
            headers = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
            return encode_message(headers, json.dumps(obj).encode())

        out = [event("messageStart", {"role": "assistant"})]
        for n, block in enumerate(self.blocks(s)):
            if "toolUse" in block:
                use = block["toolUse"]
                start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
                out.append(event("contentBlockStart", {"contentBlockIndex": n, "start": start}))
                deltas: list[Json] = [{"toolUse": {"input": t}} for t in _halves(json.dumps(use["input"]))]
            elif "text" in block:
                deltas = [{"text": t} for t in _halves(s.text)]
            else:
                deltas = [{"reasoningContent": {"text": t}} for t in _halves(s.thinking)]
                deltas.append({"reasoningContent": {"signature": "c2lnbmVk"}})
            out += [event("contentBlockDelta", {"contentBlockIndex": n, "delta": d}) for d in deltas]
            out.append(event("contentBlockStop", {"contentBlockIndex": n}))
        out.append(event("messageStop", {"stopReason": "tool_use" if s.calls else "end_turn"}))
        return b"".join(out) + event("metadata", {"usage": self.usage(s), "metrics": {"latencyMs": 3}})


WIRES = {"anthropic": Anthropic(), "gemini": Gemini(), "cohere": Cohere(), "bedrock": Bedrock(), "openai": OpenAI()}


def wire_of(path: str) -> str:
    """The dialect that a request path belongs to."""
    if path.endswith("/v1/messages"):
        return "anthropic"
    if "enerateContent" in path:
        return "gemini"
    if path.endswith("/v2/chat"):
        return "cohere"
    return "bedrock" if "/converse" in path else "openai"


@dataclass
class Upstream:
    """The server; `scene` is what it says, `seen` the (path, body) of each request."""

    scene: Scene = field(default_factory=Scene)
    seen: list[tuple[str, Json]] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def start(self) -> Upstream:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Quiet."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                path = self.path.partition("?")[0]
                owner.seen.append((self.path, body))
                wire = WIRES[wire_of(path)]
                stream = body.get("stream") is True or "stream" in path.rpartition("/")[2]
                model = str(body.get("model", "m"))
                data = (
                    wire.stream(owner.scene, model) if stream else json.dumps(wire.plain(owner.scene, model)).encode()
                )
                kind = "application/vnd.amazon.eventstream" if isinstance(wire, Bedrock) else "text/event-stream"
                self.send_response(200)
                self.send_header("content-type", kind if stream else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    @property
    def root(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()
