"""What the tests of the native dialects share: calls, targets, events, and a fold of what a decoder yields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from opentracy.core.fold import fold
from opentracy.core.wire import Call, Chunk, Decoder, Failure, HttpHead, HttpResponse, Target
from opentracy.providers import registry

KEY = "test-key-0123456789"
PLAIN = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def target(model: str, **env: str) -> Target:
    provider = model.partition("/")[0].upper()
    return registry.target(model, env={f"{provider}_API_KEY": KEY, "AWS_BEARER_TOKEN_BEDROCK": KEY, **env})


def call(messages: Sequence[dict[str, Any]] = PLAIN, *, stream: bool = False, strict: bool = False, **params: Any) -> Call:
    return Call(list(messages), params, stream=stream, strict_params=strict, created=1700000000, fallback_id="f00d")


def body_of(model: str, messages: Sequence[dict[str, Any]] = PLAIN, **params: Any) -> dict[str, Any]:
    """The JSON body that goes to this model."""
    to = target(model, GOOGLE_CLOUD_PROJECT="p") if model.startswith("vertex/") else target(model)
    found: dict[str, Any] = json.loads(to.dialect.build_request(call(messages, **params), to).body)
    return found


def answer(model: str, body: Any, *, status: int = 200, headers: dict[str, str] | None = None, **params: Any) -> Any:
    """What the dialect makes of this answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = HttpResponse(status, {"content-type": "application/json", **(headers or {})}, data)
    to = target(model)
    if status >= 300:
        return to.dialect.parse_error(to, response)
    return to.dialect.parse_response(call(**params), to, response)


def events(items: Iterable[dict[str, Any]]) -> bytes:
    """Anthropic's form: every event with its name."""
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n".encode() for e in items)


def sse(items: Iterable[Any]) -> bytes:
    """Google's form: data only, CRLF."""
    return b"".join(f"data: {json.dumps(e, ensure_ascii=False)}\r\n\r\n".encode() for e in items)


def decoder(model: str, **params: Any) -> Decoder:
    to = target(model)
    return to.dialect.open_stream(call(stream=True, **params), to, HttpHead(200, {"content-type": "text/event-stream"}))


def decode(model: str, pieces: Iterable[bytes], **params: Any) -> tuple[list[Chunk], Failure | None]:
    """All chunks of a stream that ends after these pieces, and why it failed if it did."""
    d = decoder(model, **params)
    chunks: list[Chunk] = []
    for piece in pieces:
        chunks += d.feed(piece)
    if not d.done:
        chunks += d.close()
    return chunks, d.failure


def folded(model: str, data: bytes, **params: Any) -> dict[str, Any]:
    """The whole answer of a stream that must be good."""
    chunks, failure = decode(model, [data], **params)
    assert failure is None, failure
    check_grammar(chunks)
    return fold(chunks)


def check_grammar(chunks: list[Chunk]) -> None:
    """The promises of wire.Decoder."""
    assert len({c["id"] for c in chunks}) == 1
    roles, finishes, started = set(), {}, {}
    for n, chunk in enumerate(chunks):
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["choices"]
        assert "usage" not in chunk or n == len(chunks) - 1
        for choice in chunk["choices"]:
            index, delta = choice["index"], choice["delta"]
            assert index not in finishes, "something after the finish"
            if index not in roles:
                assert delta["role"] == "assistant"
                roles.add(index)
            for tool in delta.get("tool_calls", ()):
                seen = started.setdefault(index, set())
                if tool["index"] in seen:
                    assert "id" not in tool
                else:
                    assert tool["index"] == len(seen)
                    assert tool["id"]
                    assert tool["function"]["name"]
                    seen.add(tool["index"])
            if choice["finish_reason"]:
                finishes[index] = choice["finish_reason"]
    assert finishes.keys() == roles
