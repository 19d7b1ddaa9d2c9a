"""Traces of other tools as ours: what their exports and logs call the fields of a record.

Belongs here: OpenAI's logs and batch files, LiteLLM, Langfuse, Helicone. Each is recognised by fields that the others
do not have; what is none of them is taken for our own form. The same trace always gets the same id, so a file may be
taken in again. Times without a zone are UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .ids import trace_id_at

Row = Mapping[str, Any]


def translated(value: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record (`model.from_dict`'s form) of whatever tool's trace this is; our own stay as they are.

    Raises ValueError for a value of the wrong type.
    """
    for recognises, read in _FORMS:
        if recognises(value):
            try:
                return {name: item for name, item in read(value).items() if item is not None}
            except (TypeError, AttributeError, KeyError, OverflowError) as error:
                raise ValueError(f"A field of another tool's trace has the wrong type: {error}") from None
    return value


def unfolded(value: Any) -> Iterator[Any]:
    """The single calls of a value: lists one by one, a trace with observations as those of its calls of a model."""
    if isinstance(value, list):
        for one in value:
            yield from unfolded(one)
    elif isinstance(value, dict) and isinstance(value.get("observations"), list):
        shared = {name: value[name] for name in ("sessionId", "userId", "tags") if value.get(name) is not None}
        for one in value["observations"]:
            if isinstance(one, dict) and str(one.get("type", "")).upper() == "GENERATION":
                yield {**shared, **one}
    else:
        yield value


# ---------------------------------------------------------------- small readers
def _time(value: Any) -> int | None:
    """Milliseconds of an ISO text, of seconds or of milliseconds since 1970."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return round(value if value > 1e11 else value * 1000)
    try:
        when = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"Not a time: {str(value)[:40]!r}") from None
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def _span(start: Any, end: Any) -> float | None:
    begin, over = _time(start), _time(end)
    return None if begin is None or over is None else float(max(0, over - begin))


def _id(source: str, value: Any, ts_ms: int | None) -> str | None:
    if value is None:
        return None
    digest = hashlib.sha256(f"{source}:{value}".encode()).digest()[:10]
    return trace_id_at(ts_ms or 0, digest)


def _int(*values: Any) -> int | None:
    return next((int(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)), None)


def _nano(value: Any) -> int | None:
    """Dollars as nano-USD; 0 of a tool that has no price is unknown to us, not free."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return round(value * 1e9)


def _dict(value: Any) -> Row:
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> list[str] | None:
    return [str(one) for one in value] if isinstance(value, list) and value else None


def _usage(usage: Row) -> dict[str, int | None]:
    """Token counts by OpenAI's or Anthropic's names."""
    prompt, answer = _dict(usage.get("prompt_tokens_details")), _dict(usage.get("completion_tokens_details"))
    return {
        "tokens_in": _int(usage.get("prompt_tokens"), usage.get("input_tokens"), usage.get("input")),
        "tokens_out": _int(usage.get("completion_tokens"), usage.get("output_tokens"), usage.get("output")),
        "tokens_cached": _int(prompt.get("cached_tokens"), usage.get("cache_read_input_tokens")),
        "tokens_reasoning": _int(answer.get("reasoning_tokens")),
    }


def _finish(answer: Row) -> str | None:
    choices = answer.get("choices")
    first = _dict(choices[0]) if isinstance(choices, list) and choices else {}
    reason = first.get("finish_reason")
    return reason if isinstance(reason, str) else None


def _result(status: int | None, failed: bool) -> dict[str, Any]:
    failed = failed or (status is not None and status >= 400)
    return {"outcome": "upstream_error" if failed else "ok", "http_status": status or (500 if failed else 200)}


# ---------------------------------------------------------------- the forms
def _openai(row: Row) -> dict[str, Any]:
    """`{"request": chat request, "response": completion}`, a line of a batch's output, or a stored completion."""
    request, response = _dict(row.get("request")), _dict(row.get("response"))
    status = _int(response.get("status_code"))
    answer = _dict(response.get("body")) if "body" in response else response
    if row.get("object") == "chat.completion":
        answer, request = row, {"messages": row["messages"]} if isinstance(row.get("messages"), list) else {}
    given = row.get("timestamp") or row.get("created_at") or row.get("ts") or answer.get("created")
    ts_ms = _time(given)
    error = row.get("error") or answer.get("error")
    told = _dict(error)
    model = answer.get("model") or request.get("model")
    return {
        "trace_id": _id("openai", row.get("id") or answer.get("id") or row.get("custom_id"), ts_ms), "ts_ms": ts_ms,
        "requested_model": request.get("model") or model, "model": model, "provider": row.get("provider") or "openai",
        "request": dict(request) or None, "response": dict(answer) or None, "stream": request.get("stream") or None,
        "user_id": request.get("user"), "metadata": row.get("metadata") or request.get("metadata") or None,
        "has_tools": bool(request.get("tools")), "finish_reason": _finish(answer),
        **_usage(_dict(answer.get("usage"))), **_result(status, bool(error)),
        "error_type": told.get("type"), "error_code": _text(told.get("code")), "error_msg": _text(told.get("message")),
    }  # fmt: skip


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _litellm(row: Row) -> dict[str, Any]:
    """A standard logging payload, or a row of the spend logs."""
    start, end = row.get("startTime"), row.get("endTime")
    ts_ms, meta = _time(start), _dict(row.get("metadata"))
    first = row.get("completionStartTime")
    failed = row.get("status") == "failure" or bool(row.get("error_str"))
    provider = row.get("custom_llm_provider") or ""
    model = str(row.get("model") or "").removeprefix(f"{provider}/")
    response = row.get("response")
    streamed = bool(row.get("stream"))
    return {
        "trace_id": _id("litellm", row.get("request_id") or row.get("id"), ts_ms), "ts_ms": ts_ms,
        "requested_model": row.get("model_group") or model, "model": model, "provider": provider,
        "request": {"messages": row["messages"]} if isinstance(row.get("messages"), list) else row.get("messages"),
        "response": response or None, "stream": streamed, "user_id": row.get("end_user") or row.get("user") or None,
        "key_id": meta.get("user_api_key_alias") or meta.get("user_api_key_hash"),
        "tags": _words(row.get("request_tags")), "cache_hit": row.get("cache_hit") in (True, "True"),
        "session_id": row.get("session_id") or row.get("trace_id") or None,
        "tokens_in": _int(row.get("prompt_tokens")), "tokens_out": _int(row.get("completion_tokens")),
        "cost_nano": _nano(row.get("response_cost", row.get("spend"))), "cost_source": "provider",
        "latency_ms": _span(start, end), "ttft_ms": _span(start, first) if streamed and first else None,
        "finish_reason": _finish(_dict(response)), "error_msg": row.get("error_str") or None, **_result(None, failed),
    }  # fmt: skip


def _langfuse(row: Row) -> dict[str, Any]:
    """A generation of an export or of the API."""
    start, end, first = row.get("startTime"), row.get("endTime"), row.get("completionStartTime")
    ts_ms = _time(start)
    usage = {**_dict(row.get("usage")), **_dict(row.get("usageDetails"))}
    price = _dict(row.get("costDetails")).get("total") or row.get("calculatedTotalCost") or row.get("totalCost")
    asked, said = row.get("input"), row.get("output")
    request = {"messages": asked} if isinstance(asked, list) else asked
    if isinstance(said, dict) and "role" in said and "choices" not in said:
        said = {"choices": [{"index": 0, "message": said}]}
    return {
        "trace_id": _id("langfuse", row.get("id"), ts_ms), "ts_ms": ts_ms, "model": row.get("model") or "",
        "requested_model": row.get("model") or "", "request": request, "response": said,
        "session_id": row.get("sessionId") or row.get("traceId"), "user_id": row.get("userId"),
        "tags": _words(row.get("tags")), "metadata": dict(_dict(row.get("metadata"))) or None,
        "latency_ms": _span(start, end), "ttft_ms": _span(start, first) if first else None,
        **_usage(usage), "cost_nano": _nano(price), "cost_source": "provider",
        **_result(None, row.get("level") == "ERROR"),
        "error_msg": row.get("statusMessage") if row.get("level") == "ERROR" else None,
    }  # fmt: skip


def _helicone(row: Row) -> dict[str, Any]:
    """A row of an export."""
    ts_ms, status = _time(row.get("request_created_at")), _int(row.get("response_status"), row.get("status"))
    request, response = row.get("request_body"), row.get("response_body")
    properties = row.get("request_properties") or row.get("properties")
    return {
        "trace_id": _id("helicone", row.get("request_id"), ts_ms), "ts_ms": ts_ms,
        "model": row.get("response_model") or row.get("model") or row.get("request_model") or "",
        "requested_model": row.get("request_model") or row.get("model"),
        "provider": str(row.get("provider") or "").lower(),
        "request": request, "response": response, "user_id": row.get("request_user_id") or row.get("user_id"),
        "metadata": dict(_dict(properties)) or None, "latency_ms": row.get("delay_ms", row.get("latency")),
        "ttft_ms": row.get("time_to_first_token"),
        "tokens_in": _int(row.get("prompt_tokens"), row.get("request_tokens")),
        "tokens_out": _int(row.get("completion_tokens"), row.get("response_tokens")),
        "cost_nano": _nano(row.get("cost", row.get("costUSD"))), "cost_source": "provider",
        "finish_reason": _finish(_dict(response)), **_result(status, False),
    }  # fmt: skip


def _is_openai(row: Row) -> bool:
    request, response = row.get("request"), row.get("response")
    batch = isinstance(response, dict) and "status_code" in response and "body" in response
    pair = isinstance(request, dict) and ("messages" in request or "input" in request) and not _OURS & set(row)
    return batch or row.get("object") == "chat.completion" or pair


#: fields of our own form that no log of OpenAI has
_OURS: Final = frozenset(
    {"trace_id", "ts_ms", "model", "requested_model", "outcome", "http_status", "tokens_in", "tokens_out", "cost_usd",
     "cost_nano", "latency_ms", "attempts", "tags", "key_id", "user_id", "session_id"}
)  # fmt: skip


_FORMS: Final[tuple[tuple[Callable[[Row], bool], Callable[[Row], dict[str, Any]]], ...]] = (
    (lambda row: "startTime" in row and ("call_type" in row or "spend" in row or "response_cost" in row), _litellm),
    (lambda row: "startTime" in row and ("traceId" in row or "usageDetails" in row), _langfuse),
    (lambda row: "request_created_at" in row or ("request_id" in row and "request_body" in row), _helicone),
    (_is_openai, _openai),
)
