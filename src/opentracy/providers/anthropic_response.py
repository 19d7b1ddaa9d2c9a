"""Anthropic's answers in OpenAI's form: the message, its usage, its finish reason, and errors.

The same facts arrive in pieces in a stream; `anthropic_stream` uses the small functions here. Source: PROTOCOLS
section 3.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ..core import jsonio
from ..core.failure import embedded_failure, message_of, status_failure
from ..core.usage import add, build, clean_int, prompt_including_cache
from ..core.wire import Call, Failure, HttpResponse, Json, Target
from .answers import error_document, not_the_protocol, read_document
from .anthropic_blocks import FIELD, may_work_on_server, worked_on_server
from .anthropic_tools import ANSWER_TOOL, uses_answer_tool
from .fields import objects, text_or

_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "compaction": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip
_PLAIN_STOPS = frozenset({"end_turn", "stop_sequence", "max_tokens", "tool_use"})  # these say what OpenAI's words say
READ = frozenset(
    ("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage",
     # fields of ours: an answer that has them too must not put its own in their place
     "object", "created", "choices")
)  # fmt: skip
"""Fields of a message that are read here; all others pass as they are."""


def finish_reason(stop_reason: Any, calls: int) -> str:
    """OpenAI's word; one that we do not know passes as it is. `calls`: tool calls shown to the caller."""
    if not isinstance(stop_reason, str) or not stop_reason:
        return "tool_calls" if calls else "stop"
    finish = _FINISH.get(stop_reason, stop_reason)
    if calls:
        return "tool_calls" if finish == "stop" else finish
    return "stop" if finish == "tool_calls" else finish


def stop_facts(stop_reason: Any, stop_sequence: Any, stop_details: Any) -> dict[str, Any]:
    """What Anthropic tells about the end beyond OpenAI's word, as fields of the choice."""
    told = {"stop_sequence": stop_sequence, "stop_details": stop_details}
    if isinstance(stop_reason, str) and stop_reason not in _PLAIN_STOPS:
        told["native_finish_reason"] = stop_reason
    return {k: v for k, v in told.items() if v is not None}


def usage_of(raw: Any) -> dict[str, Any] | None:
    """Usage in OpenAI's meaning: the prompt includes what was read from and written to the cache."""
    if not isinstance(raw, Mapping) or not raw:
        return None
    read, written = raw.get("cache_read_input_tokens"), raw.get("cache_creation_input_tokens")
    by_age = raw.get("cache_creation")
    hour = by_age.get("ephemeral_1h_input_tokens") if isinstance(by_age, Mapping) else None
    details = raw.get("output_tokens_details")
    prompt = prompt_including_cache(input=raw.get("input_tokens"), cached=read, cache_write=written)
    usage = build(
        prompt=prompt,
        completion=raw.get("output_tokens"),
        cached=read,
        cache_write=written,
        cache_write_1h=hour if clean_int(hour) else None,
        reasoning=details.get("thinking_tokens") if isinstance(details, Mapping) else None,
    )
    for name in ("server_tool_use", "service_tier", "inference_geo", "speed", "iterations"):
        if raw.get(name) is not None:
            usage[name] = raw[name]
    aside = [entry for entry in objects(raw.get("iterations")) if entry.get("type") != "message"]
    if aside:
        usage["billed_units"] = _billed(raw, aside)
    return usage


def _billed(raw: Mapping[str, Any], aside: list[dict[str, Any]]) -> dict[str, Any]:
    """What a request costs that was summed up on the way: such an iteration is billed and not part of the usage.

    Iterations of another kind may be another model's, with other prices: then what is billed is unknown, and empty.
    """
    if any(entry.get("type") != "compaction" for entry in aside):
        return {}
    own = {k: v for k, v in raw.items() if k != "iterations"}
    return functools.reduce(lambda sum_, entry: add(sum_, usage_of(entry)) or {}, aside, usage_of(own) or {})


def url_citations(citations: list[Any], start: int, end: int) -> list[dict[str, Any]]:
    """The citations of web pages as OpenAI's annotations of content[start:end]."""
    return [
        {
            "type": "url_citation",
            "url_citation": {"url": c["url"], "title": c.get("title") or "", "start_index": start, "end_index": end},
        }
        for c in citations
        if isinstance(c, dict) and isinstance(c.get("url"), str)
    ]


def parse_response(call: Call, target: Target, response: HttpResponse) -> Json | Failure:
    """A 2xx answer as a `chat.completion`, or why it is none."""
    body = read_document(response)
    if isinstance(body, Failure):
        return body
    request_id = response.headers.get("request-id")
    if isinstance(body, dict) and (body.get("type") == "error" or isinstance(body.get("error"), dict)):
        return error_object(body, request_id)
    if not isinstance(body, dict) or not isinstance(body.get("content"), list):
        return not_the_protocol(response, "the answer has no content", body, request_id)
    folded = _Message(ANSWER_TOOL if uses_answer_tool(call, target.model) else None, call.fallback_id)
    for block in objects(body["content"]):
        folded.add(block)
    message = folded.message(body.get("stop_details"))
    if may_work_on_server(call.params) and worked_on_server(body["content"]):
        message[FIELD] = objects(body["content"])
    return {
        "id": text_or(body.get("id"), f"msg_{call.fallback_id}"),
        "object": "chat.completion",
        "created": call.created,
        "model": text_or(body.get("model"), target.model),
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": finish_reason(body.get("stop_reason"), len(folded.calls)),
                "logprobs": None,
                **stop_facts(body.get("stop_reason"), body.get("stop_sequence"), body.get("stop_details")),
            }
        ],
        "usage": usage_of(body.get("usage")),
        **{k: v for k, v in body.items() if k not in READ},
    }


class _Message:
    """Content blocks on their way to one assistant message."""

    def __init__(self, answer_tool: str | None, fallback_id: str) -> None:
        self.answer_tool = answer_tool
        self._fallback_id = fallback_id
        self._ids: set[str] = set()
        self.text = ""
        self.reasoning: list[str] = []
        self.thoughts: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.citations: list[Any] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, block: dict[str, Any]) -> None:
        kind = block.get("type")
        if kind == "text":
            self._add_text(block)
        elif kind == "tool_use":
            arguments = arguments_text(block.get("input"))
            if self.answer_tool is not None and block.get("name") == self.answer_tool:
                self.text += arguments
            else:
                id = call_id(block.get("id"), self._ids, self._fallback_id)
                function = {"name": text_or(block.get("name"), ""), "arguments": arguments}
                self.calls.append({"id": id, "type": "function", "function": function})
        elif kind in ("thinking", "redacted_thinking"):
            if isinstance(block.get("thinking"), str):
                self.reasoning.append(block["thinking"])
            self.thoughts.append(kept_thought(block, len(self.text), len(self.calls)))
        # everything else is the provider's own tools at work

    def _add_text(self, block: dict[str, Any]) -> None:
        text = block.get("text")
        if not isinstance(text, str):
            return
        start = len(self.text)
        self.text += text
        citations = block.get("citations")
        if isinstance(citations, list) and citations:
            self.citations += citations
            self.annotations += url_citations(citations, start, len(self.text))

    def message(self, stop_details: Any) -> dict[str, Any]:
        """The assistant message; optional fields only where there is something to say."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text if self.text or not self.calls else None}
        if isinstance(stop_details, dict) and isinstance(stop_details.get("explanation"), str):
            message["refusal"] = stop_details["explanation"]
        if any(self.reasoning):
            message["reasoning_content"] = "".join(self.reasoning)
        for name in ("annotations", "citations"):
            if getattr(self, name):
                message[name] = getattr(self, name)
        if self.thoughts:
            message["thinking_blocks"] = self.thoughts
        if self.calls:
            message["tool_calls"] = self.calls
        return message


def call_id(given: Any, taken: set[str], fallback_id: str) -> str:
    """The wire's id of a call, or one of ours where it has none or repeats itself; notes it in `taken`."""
    id = given if isinstance(given, str) and given and given not in taken else f"toolu_{fallback_id}_{len(taken)}"
    taken.add(id)
    return id


def arguments_text(value: Any) -> str:
    """A call's input as OpenAI's argument string."""
    if isinstance(value, str):
        return value or "{}"
    return jsonio.encode(value).decode() if value else "{}"


def kept_thought(block: dict[str, Any], text: int, calls: int) -> dict[str, Any]:
    """A signed thought as the caller must send it back. `after` says where it stood, if not at the beginning."""
    kept = {k: block[k] for k in ("type", "thinking", "signature", "data") if block.get(k) is not None}
    if text or calls:
        kept["after"] = [text, calls]
    return kept


def error_object(body: Any, request_id: str | None) -> Failure:
    """An error inside a 200: the body of a plain answer, or an event of a stream."""
    error = body.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    kind = kind if isinstance(kind, str) else None
    told = text_or(body.get("request_id"), "") or None
    return embedded_failure(
        message_of(body) or "the provider reported an error without a message",
        status=None, code=kind, type=kind, body=body, request_id=request_id or told,
    )  # fmt: skip


def parse_error(response: HttpResponse) -> Failure:
    """A non-2xx answer: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""
    body = error_document(response)
    error = body.get("error") if isinstance(body, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    headers = response.headers
    told = text_or(body.get("request_id"), "") if isinstance(body, dict) else ""
    return status_failure(
        response,
        message_of(body, response),
        code=kind if isinstance(kind, str) else None,
        type=kind if isinstance(kind, str) else None,
        body=body,
        request_id=headers.get("request-id") or told or headers.get("x-request-id"),
    )
