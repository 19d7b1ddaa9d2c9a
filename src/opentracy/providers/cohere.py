"""The Cohere dialect: /v2/chat and /v2/embed spoken natively, so that plans, thoughts and citations survive.

Belongs here: the five methods of `core.wire.Dialect`. The body of a request is built in `cohere_request`, stream
events are read in `cohere_stream`, what an answer means stands in `cohere_answer`.
"""

from __future__ import annotations

from typing import Any

from ..core import jsonio
from ..core.failure import message_of, status_failure
from ..core.wire import Call, Failure, HttpHead, HttpRequest, HttpResponse, Json, Target
from . import cohere_answer as answer
from .answers import error_document, not_the_protocol, read_document
from .cohere_request import chat_body, embed_body, embedding_type
from .cohere_stream import CohereDecoder
from .legacy import modern

_REQUEST_ID = "x-debug-trace-id"


class Cohere:
    """See `core.wire.Dialect`."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        """A /v2/chat or /v2/embed request."""
        embedding = call.operation == "embedding"
        body, dropped = (embed_body if embedding else chat_body)(modern(call), target.model)
        base = target.base_url.rstrip("/").removesuffix("/v2").removesuffix("/v1")
        accept = "text/event-stream" if call.stream else "application/json"
        headers = {"content-type": "application/json", "accept": accept}
        if target.credentials.key:
            headers["authorization"] = f"Bearer {target.credentials.key}"
        url = base + ("/v2/embed" if embedding else "/v2/chat")
        return HttpRequest("POST", url, headers, jsonio.encode(body), dropped)

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        """Unchanged: a bearer key does not depend on the time."""
        return request

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Json | Failure:
        """A 2xx answer as `chat.completion`, or as OpenAI's embedding list."""
        body = read_document(response)
        if isinstance(body, Failure):
            return body
        request_id = response.headers.get(_REQUEST_ID)
        if not isinstance(body, dict):
            return not_the_protocol(response, "not a Cohere answer", body, request_id)
        if call.operation == "embedding":
            return _embeddings(call, target, response, body)
        message = body.get("message")
        if isinstance(message, str) or (body.get("error") and not isinstance(message, dict)):
            return answer.failure_in(body, request_id)
        if not isinstance(message, dict):
            return not_the_protocol(response, "no message in the answer", body, request_id)
        broken = answer.broken_finish(body.get("finish_reason"), body.get("error"), body, request_id)
        if broken is not None:
            return broken
        id = body["id"] if isinstance(body.get("id"), str) and body["id"] else f"chatcmpl-{call.fallback_id}"
        return _completion(call, target, body, message, id)

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> CohereDecoder:
        """A decoder for the events that follow."""
        return CohereDecoder(f"chatcmpl-{call.fallback_id}", call.created, target.model, head.headers.get(_REQUEST_ID))

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        """Errors are not nested: `{"id"?, "message", "error_type"?}`."""
        body = error_document(response)
        kind = body.get("error_type") if isinstance(body, dict) else None
        return status_failure(
            response, message_of(body, response), code=kind if isinstance(kind, str) and kind else None, body=body,
            request_id=response.headers.get(_REQUEST_ID),
        )  # fmt: skip


def _completion(call: Call, target: Target, body: dict[str, Any], message: dict[str, Any], id: str) -> Json:
    texts: list[str] = []
    thoughts: list[str] = []
    content = message.get("content")
    for part in [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else []:
        if isinstance(part, dict):
            texts += [part["text"]] if isinstance(part.get("text"), str) else []
            thoughts += [part["thinking"]] if isinstance(part.get("thinking"), str) else []
    calls = _calls(message.get("tool_calls"), id)
    text = "".join(texts)
    out: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if thoughts:
        out["reasoning_content"] = "".join(thoughts)
    if calls:
        out["tool_calls"] = calls
    for name in ("tool_plan", "citations"):
        if message.get(name):
            out[name] = message[name]
    choice = {"index": 0, "message": out, "finish_reason": answer.finish_reason(body.get("finish_reason"), bool(calls))}
    if (logprobs := answer.logprobs(body.get("logprobs"))) is not None:
        choice["logprobs"] = logprobs
    return {
        "id": id, "object": "chat.completion", "created": call.created, "model": target.model, "choices": [choice],
        "usage": answer.usage(body.get("usage")),
    }  # fmt: skip


def _calls(raw: Any, id: str) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    used: set[str] = set()
    for entry in raw if isinstance(raw, list) else []:
        function = entry.get("function") if isinstance(entry, dict) else None
        if isinstance(function, dict):
            made = answer.call_id(entry.get("id"), id, len(out), used)
            named = {"name": str(function.get("name") or ""), "arguments": answer.arguments(function.get("arguments"))}
            out.append({"id": made, "type": "function", "function": named})
    return out


def _embeddings(call: Call, target: Target, response: HttpResponse, body: dict[str, Any]) -> Json | Failure:
    found = body.get("embeddings")
    vectors = found.get(embedding_type(call)) if isinstance(found, dict) else None
    if not isinstance(vectors, list):
        return not_the_protocol(response, "no embeddings in the answer", body, response.headers.get(_REQUEST_ID))
    meta = body.get("meta")
    billed = meta.get("billed_units") if isinstance(meta, dict) else None
    tokens = billed.get("input_tokens") if isinstance(billed, dict) else None
    return {
        "object": "list", "model": target.model,
        "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)],
        "usage": None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens},
    }  # fmt: skip


DIALECT = Cohere()
