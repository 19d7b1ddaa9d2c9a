"""What Converse's answers mean, whole or streamed: stop reasons, usage, errors, thoughts.

The order of stream events stands in `bedrock_stream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import jsonio
from ..core.failure import TYPE_STATUS, embedded_failure, message_of, status_failure
from ..core.surcharges import with_tier
from ..core.usage import build, prompt_including_cache
from ..core.wire import Failure, HttpResponse
from .answers import error_document
from .fields import objects, text_or

_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "guardrail_intervened": "content_filter", "content_filtered": "content_filter",
}  # fmt: skip
_BROKEN = frozenset({"malformed_model_output", "malformed_tool_use"})
_REQUEST_ID = "x-amzn-requestid"
_BESIDES = ("trace", "additionalModelResponseFields", "performanceConfig", "serviceTier")


def finish_reason(raw: Any, has_calls: bool) -> str:
    """OpenAI's word. What was called decides between stop and tool_calls; an unknown word is passed on."""
    word = _FINISH.get(raw, raw) if isinstance(raw, str) and raw else "stop"
    if word in ("stop", "tool_calls"):
        return "tool_calls" if has_calls else "stop"
    return word


def broken_stop(raw: Any, body: Any, request_id: str | None) -> Failure | None:
    """The failure behind a stop reason that calls the output broken; None for every other."""
    if not isinstance(raw, str) or raw not in _BROKEN:
        return None
    words = f"the model's output was not usable (stopReason {raw})"
    return embedded_failure(words, status=None, code=raw, body=body, request_id=request_id)


def usage(raw: Any, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Usage in OpenAI's form; `totalTokens` tells whether the input includes what was cached.

    `told`: the answer, or the event, that holds it and says on which terms the model worked.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    cached = raw.get("cacheReadInputTokens", raw.get("cacheReadInputTokenCount"))
    written = raw.get("cacheWriteInputTokens", raw.get("cacheWriteInputTokenCount"))
    details = raw.get("cacheDetails")
    hour = None
    for entry in details if isinstance(details, list) else ():
        if isinstance(entry, dict) and entry.get("ttl") == "1h":
            hour = entry.get("inputTokens")
    prompt = prompt_including_cache(
        input=raw.get("inputTokens"), output=raw.get("outputTokens"), cached=cached, cache_write=written,
        total=raw.get("totalTokens"),
    )  # fmt: skip
    out = build(
        prompt=prompt, completion=raw.get("outputTokens"), total=raw.get("totalTokens"), cached=cached,
        cache_write=written, cache_write_1h=hour,
    )  # fmt: skip
    if prompt is not None and out["completion_tokens"] is not None and out["total_tokens"] is not None:
        # some models leave the cached tokens out of the total
        out["total_tokens"] = max(out["total_tokens"], prompt + out["completion_tokens"])
    performance, tier = told.get("performanceConfig"), told.get("serviceTier")
    if isinstance(performance, dict) and performance.get("latency") not in (None, "standard"):
        out["speed"] = performance["latency"]
    return with_tier(out, tier.get("type") if isinstance(tier, dict) else None)


def thought(raw: Any) -> tuple[str, dict[str, Any] | None]:
    """(visible text, block to be sent back or None) of a whole reasoningContent."""
    if not isinstance(raw, dict):
        return "", None
    inner = raw.get("reasoningText")
    if isinstance(inner, dict):
        text = inner["text"] if isinstance(inner.get("text"), str) else ""
        return text, kept_thought(text, inner.get("signature"), None)
    return "", kept_thought("", None, raw.get("redactedContent"))


def kept_thought(text: str, signature: Any, redacted: Any) -> dict[str, Any] | None:
    """A thought as the caller must send it back; None when nothing signs it, so that nobody wants it back."""
    if redacted:
        return {"type": "redacted_thinking", "data": redacted}
    return {"type": "thinking", "thinking": text, "signature": signature} if signature else None


def besides(body: dict[str, Any]) -> dict[str, Any]:
    """What an answer tells of its making: guardrails' trace, tier, fields of the model's own."""
    return {k: body[k] for k in _BESIDES if body.get(k)}


def media(kind: str, block: Any) -> dict[str, Any] | None:
    """A picture or recording that the model made, as the delta that shows it; None for one without data."""
    source = block.get("source") if isinstance(block, dict) else None
    data = source.get("bytes") if isinstance(source, dict) else None
    if not isinstance(data, str) or not data:
        return None
    form = str(block.get("format") or "")
    if kind == "image":
        return {"images": [{"type": "image_url", "image_url": {"url": f"data:image/{form or 'png'};base64,{data}"}}]}
    return {"audio": {"data": data, "format": form}}


def web_pages(citations: Any, start: int, end: int) -> list[dict[str, Any]]:
    """The citations of web pages as OpenAI's annotations of content[start:end]."""
    out = []
    for citation in objects(citations):
        place = citation.get("location")
        web = place.get("web") if isinstance(place, dict) else None
        if isinstance(web, dict) and isinstance(web.get("url"), str):
            title = text_or(citation.get("title"), "")
            page = {"url": web["url"], "title": title, "start_index": start, "end_index": end}
            out.append({"type": "url_citation", "url_citation": page})
    return out


def arguments(raw: Any) -> str:
    """A call's input as text; the wire has an object."""
    if isinstance(raw, str):
        return raw if raw.strip() else "{}"
    return jsonio.encode(raw).decode() if raw else "{}"


def call_id(given: Any, answer_id: str, number: int, used: set[str]) -> str:
    """The wire's id when it is one and new, else one made of the answer's id and the call's number."""
    id = given if isinstance(given, str) and given and given not in used else f"call_{answer_id}_{number}"
    used.add(id)
    return id


def exception(name: str, body: Any, request_id: str | None) -> Failure:
    """An error that came where an answer was expected: an exception frame, or an error document at 200."""
    name = error_name(name)
    status = TYPE_STATUS.get(name[:1].lower() + name[1:])
    original = body.get("originalStatusCode") if isinstance(body, dict) else None
    words = message_of(body) or name or "the provider reported an error"
    name_or_none = name or None
    if status == 424 and isinstance(original, int) and body.get("originalMessage"):
        words = f"{words} (status {original}: {body['originalMessage']})"
    return embedded_failure(
        words, status=status, code=name_or_none, type=name_or_none, body=body, request_id=request_id
    )


def is_error(body: dict[str, Any]) -> bool:
    """Whether a document without output is an error: it has a message, or names a type."""
    return any(isinstance(body.get(k), str) for k in ("message", "Message", "__type")) or bool(body.get("error"))


def error_name(raw: Any) -> str:
    """The bare name of an error type: `ns#Name:http://...` is `Name`."""
    return raw.partition(":")[0].rpartition("#")[2].strip() if isinstance(raw, str) else ""


def parse_error(response: HttpResponse) -> Failure:
    """A non-2xx answer: the words in the body (`message` or `Message`), the type in a header."""
    body = error_document(response)
    found = body if isinstance(body, dict) else {}
    name = error_name(response.headers.get("x-amzn-errortype") or found.get("__type") or found.get("code"))
    failure = status_failure(
        response, message_of(body, response), code=name or None, type=name or None, body=body,
        request_id=response.headers.get(_REQUEST_ID),
    )  # fmt: skip
    if response.status == 424 and name == "ModelStreamErrorException":
        failure.retryable = True  # documented so; its sibling ModelErrorException is not
    return failure


def request_id(headers: Any) -> str | None:
    """The id that AWS support asks for."""
    found = headers.get(_REQUEST_ID)
    return found if isinstance(found, str) and found else None
