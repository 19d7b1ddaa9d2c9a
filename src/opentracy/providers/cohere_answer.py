"""What Cohere's answers mean, whole or streamed: finish words, usage, errors, calls.

Sending and the order of stream events stand in `cohere_request` and `cohere_stream`.
"""

from __future__ import annotations

from typing import Any

from ..core import jsonio
from ..core.failure import embedded_failure, message_of
from ..core.usage import build
from ..core.wire import Failure

_FINISH = {
    "COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter", "ERROR_LIMIT": "length", "USER_CANCEL": "stop",
}  # fmt: skip
# an answer that the service itself calls broken is no answer; the number is the status such a failure has elsewhere
_BROKEN = {"ERROR": None, "TIMEOUT": 504}


def finish_reason(raw: Any, has_calls: bool) -> str:
    """OpenAI's word. What was called decides between stop and tool_calls; an unknown word is passed on."""
    word = _FINISH.get(raw, raw) if isinstance(raw, str) and raw else "stop"
    if word in ("stop", "tool_calls"):
        return "tool_calls" if has_calls else "stop"
    return word


def broken_finish(raw: Any, told: Any, body: Any, request_id: str | None) -> Failure | None:
    """The failure behind finish_reason ERROR or TIMEOUT; None for every other word."""
    if not isinstance(raw, str) or raw not in _BROKEN:
        return None
    words = told if isinstance(told, str) and told else message_of(told) if told else ""
    words = words or f"the answer ended with finish_reason {raw}"
    return embedded_failure(words, status=_BROKEN[raw], code=raw, body=body, request_id=request_id)


def failure_in(body: dict[str, Any], request_id: str | None) -> Failure:
    """An error object where an answer was expected: `{"message"}`, or the nested form of gateways in front."""
    error = body.get("error")
    inner = error if isinstance(error, dict) else body
    code = inner.get("error_type") or inner.get("code") or inner.get("type")
    status = inner.get("status_code") or inner.get("status") or (code if isinstance(code, int) else None)
    return embedded_failure(
        message_of(body) or "the provider reported an error", status=status if isinstance(status, int) else None,
        code=code if isinstance(code, str) and code != "error" else None, body=body, request_id=request_id,
    )  # fmt: skip


def usage(raw: Any) -> dict[str, Any] | None:
    """Usage in OpenAI's form from `tokens`, which counts what the model saw; `billed_units` is kept beside it.

    The two differ much: the prompt template counts as tokens and is not billed. Without `tokens` the billed units
    stand in.
    """
    if not isinstance(raw, dict):
        return None
    billed = raw.get("billed_units")
    billed = billed if isinstance(billed, dict) else {}
    tokens = raw.get("tokens")
    tokens = tokens if isinstance(tokens, dict) and tokens else billed
    if not tokens:
        return None
    out = build(
        prompt=tokens.get("input_tokens"), completion=tokens.get("output_tokens"), cached=raw.get("cached_tokens"),
        reasoning=tokens.get("reasoning_tokens"),
    )  # fmt: skip
    if billed:
        out["billed_units"] = billed
    return out


def call_id(given: Any, answer_id: str, number: int, used: set[str]) -> str:
    """The wire's id when it is one and new, else one made of the answer's id and the call's number."""
    id = given if isinstance(given, str) and given and given not in used else f"call_{answer_id}_{number}"
    used.add(id)
    return id


def arguments(raw: Any) -> str:
    """Argument text: nothing and `null` are `{}`, an object is written out, other text is left as it came."""
    if isinstance(raw, str):
        return "{}" if raw.strip() in ("", "null") else raw
    return "{}" if raw is None else jsonio.encode(raw).decode()


def logprobs(raw: Any) -> dict[str, Any] | None:
    """Cohere's pieces `{text, token_ids, logprobs}` in OpenAI's form; a piece of several tokens has their sum."""
    if not isinstance(raw, list) or not raw:
        return None
    content = []
    for piece in raw:
        values = piece.get("logprobs") if isinstance(piece, dict) else None
        if not isinstance(values, list) or not all(isinstance(v, (int, float)) for v in values):
            continue
        text = piece.get("text") if isinstance(piece.get("text"), str) else ""
        content.append({"token": text, "logprob": sum(values), "bytes": list(text.encode()), "top_logprobs": []})
    return {"content": content, "refusal": None}
