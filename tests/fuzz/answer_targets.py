"""Fuzz targets of whole answers: every dialect's good answers, errors and embeddings, whatever bytes they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from relay_targets import ASKED

from opentracy.core import jsonio
from opentracy.core.translated import translating
from opentracy.core.wire import Call, Failure, HttpResponse, Passing, Target
from opentracy.providers import registry

MODELS = {
    "openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5", "gemini": "gemini/gemini-2.5-flash",
    "cohere": "cohere/command-a-03-2025", "bedrock": "bedrock/amazon.nova-lite-v1:0", "mistral": "mistral/magistral-small-latest",
}  # fmt: skip
STATUSES = (200, 200, 200, 201, 400, 401, 404, 429, 500, 503, 529)
TYPES = ("application/json", "application/json; charset=utf-16", "text/html", "")


def _answered(model: str, data: bytes) -> None:
    """A failure with words in it, or an answer that JSON can carry and whose every choice has a message."""
    if len(data) < 2:
        return
    target = registry.target(model, env={}, api_base="http://localhost")
    status, kind, body = STATUSES[data[0] % len(STATUSES)], TYPES[data[1] % len(TYPES)], data[2:]
    operation: Any = "embedding" if data[1] & 64 else "chat"
    call = Call([{"role": "user", "content": "x"}], {"input": "x"} if data[1] & 64 else {}, created=1, fallback_id="f", operation=operation)
    response = HttpResponse(status, {"content-type": kind} if kind else {}, body)
    if status >= 300:
        failure = target.dialect.parse_error(target, response)
        assert failure.status == status and isinstance(failure.message, str) and len(failure.message) <= 2100
        assert isinstance(failure.code, (str, type(None))) and isinstance(failure.type, (str, type(None)))
        assert failure.retry_after is None or 0 < failure.retry_after < float("inf")
        failure.message.encode()
        return
    found = target.dialect.parse_response(call, target, response)
    if isinstance(found, Failure):
        found.message.encode()
        return
    assert not isinstance(found, Passing)  # nobody said that the bytes go on
    json.loads(jsonio.encode(found))
    if operation == "chat":
        assert found["choices"]
        for choice in found["choices"]:
            message = choice["message"]
            assert message["role"] == "assistant" and isinstance(message["content"], (str, type(None)))
            assert isinstance(choice["finish_reason"], str)
            for one in message.get("tool_calls") or ():
                assert isinstance(one["function"]["arguments"], str) and isinstance(one["id"], str)
        _usage(found.get("usage"))
        _forwarded(target, dict(response.headers), body, found)


def _usage(usage: Any) -> None:
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        value = None if usage is None else usage.get(name)
        assert value is None or (type(value) is int and value >= 0)


def _forwarded(target: Target, headers: dict[str, str], body: bytes, found: Any) -> None:
    """What the short way says of the same bytes."""
    forwarding = getattr(target.dialect, "forwarding", translating)(target)
    taken = None if forwarding is None else forwarding.answer(body, headers, ASKED)
    if taken is not None:
        clean, data = taken
        assert json.loads(data)["choices"][0] == found["choices"][0]
        choice = found["choices"][0]
        assert (clean.model, clean.finish_reason) == (found["model"], choice["finish_reason"])
        assert clean.usage.prompt_tokens == found["usage"]["prompt_tokens"]
        assert clean.usage.completion_tokens == found["usage"]["completion_tokens"]


def _target(name: str) -> Callable[[bytes], None]:
    def answer(data: bytes) -> None:
        _answered(MODELS[name], data)

    return answer


_OPENAI = (
    b'{"id":"c","object":"chat.completion","created":5,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
)
_TOOLS = (
    b'{"choices":[{"message":{"tool_calls":[{"id":null,"function":{"name":"f","arguments":{"a":1}}}],"reasoning":"r"}}],'
    b'"usage":{"prompt_tokens":"1","completion_tokens_details":{"reasoning_tokens":1}}}'
)
_ERROR = b'{"error":{"message":"no","type":"invalid_request_error","code":"x","param":null}}'
ANSWER_TARGETS: dict[str, Callable[[bytes], None]] = {f"answer_{name}": _target(name) for name in MODELS}
ANSWER_SEEDS: dict[str, list[bytes]] = {
    "answer_openai": [b"\0\0" + _OPENAI, b"\0\0" + _TOOLS, b"\x07\0" + _ERROR, b"\0\0" + _ERROR, b"\x08\x02<html>",
                      b'\0\x40{"object":"list","data":[{"index":0,"embedding":[0.5]}],"model":"m","usage":{"prompt_tokens":1}}'],
    "answer_mistral": [b"\0\0" + _OPENAI.replace(b'"hi"', b'[{"type":"thinking","thinking":[{"type":"text","text":"t"}]},{"type":"text","text":"hi"}]'),
                       b'\x04\0{"detail":[{"loc":["body","x"],"msg":"no"}]}', b'\x04\0{"object":"error","message":"no","code":"1500"}'],
    "answer_anthropic": [
        b'\0\0{"id":"m","type":"message","role":"assistant","model":"n","content":[{"type":"thinking","thinking":"t","signature":"s"},'
        b'{"type":"text","text":"hi"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],"stop_reason":"tool_use",'
        b'"usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":3}}',
        b'\x0a\0{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"r"}',
    ],
    "answer_gemini": [
        b'\0\0{"candidates":[{"content":{"parts":[{"text":"t","thought":true},{"text":"hi"},{"functionCall":{"name":"f","args":{"a":1}}}]},'
        b'"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"thoughtsTokenCount":1},"modelVersion":"v"}',
        b'\x07\0{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"@type":"x/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}',
        b'\0\0{"promptFeedback":{"blockReason":"SAFETY"}}', b'\0\x40{"embeddings":[{"values":[0.5]}]}',
    ],
    "answer_cohere": [
        b'\0\0{"id":"c","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"hi"}],'
        b'"tool_calls":[{"id":"t","function":{"name":"f","arguments":"{}"}}]},"usage":{"tokens":{"input_tokens":1,"output_tokens":2}}}',
        b'\x04\0{"message":"no","id":"x"}', b'\0\x40{"embeddings":{"float":[[0.5]]},"meta":{"billed_units":{"input_tokens":1}}}',
    ],
    "answer_bedrock": [
        b'\0\0{"output":{"message":{"role":"assistant","content":[{"text":"hi"},{"toolUse":{"toolUseId":"t","name":"f","input":{}}},'
        b'{"reasoningContent":{"reasoningText":{"text":"r","signature":"s"}}}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":2}}',
        b'\x07\0{"message":"Too many","__type":"com.amazon#ThrottlingException"}', b'\0\x40{"embedding":[0.5],"inputTextTokenCount":1}',
    ],
}  # fmt: skip
