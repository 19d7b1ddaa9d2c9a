"""What one request leaves behind: the trace record, its attempts, and the words allowed in it.

Belongs here: the values and their wire order. Not here: where they are stored (`sqlite`), how they are packed
(`codec`).

The structs are encoded as arrays, so fields are only ever appended, each with a default; a record written by an older
version then reads with the defaults of the newer one. Money is an integer number of nano-USD (1e-9 USD) and None when
it is unknown, never 0 for lack of knowledge. Times are milliseconds.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

OUTCOMES: Final = (
    "ok",
    "upstream_error",
    "timeout",
    "truncated",
    "client_cancelled",
    "rejected",
    "shed",
    "interrupted",
)

#: what became of the request and response text of a record
BODY_STATES: Final = ("full", "redacted", "none", "dropped", "expired")


# gc=False: values never point back at the record that holds them, and the collector has thousands fewer to walk
class Attempt(msgspec.Struct, array_like=True, gc=False):
    """One HTTP request to one provider. `start_ms` counts from the start of the trace."""

    target: str = ""
    provider: str = ""
    status: int | None = None
    code: str | None = None
    start_ms: float = 0.0
    ms: float = 0.0
    bytes_in: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_nano: int | None = None
    #: why another attempt followed this one ("retry: 429", "fallback: upstream_error"), None for the last
    reason: str | None = None
    ttft_ms: float | None = None


class TraceRecord(msgspec.Struct, array_like=True, gc=False):
    """One accepted request.

    `request` and `response` are handed over as they are (JSON bytes; for a stream the folded answer); they are stored
    beside the record, not in it, and are None in records that were read without their bodies.
    """

    trace_id: str
    ts_ms: int
    outcome: str = "ok"
    http_status: int = 200
    requested_model: str = ""
    model: str = ""
    provider: str = ""
    alias: str | None = None
    project: str | None = None
    key_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    #: `<trace id>-<span id>` of a W3C `traceparent` header
    parent_id: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    operation: str = "chat"
    stream: bool = False
    cache_hit: bool = False
    has_tools: bool = False
    cluster_id: int | None = None
    cluster_label: str | None = None
    route_policy: str | None = None
    route_score: float | None = None
    #: model -> {quality, cost, utility}, as `_routing.scores` shows it
    route_candidates: dict[str, Any] | None = None
    counterfactual_nano: int | None = None
    router_version: str | None = None
    fallback_reason: str | None = None
    fallback_from: str | None = None
    config_hash: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_msg: str | None = None
    finish_reason: str | None = None
    attempts: list[Attempt] = []
    queue_ms: float | None = None
    routing_ms: float | None = None
    embedding_ms: float | None = None
    ttft_ms: float | None = None
    latency_ms: float = 0.0
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    tokens_cache_write: int | None = None
    tokens_reasoning: int | None = None
    cost_nano: int | None = None
    cost_in_nano: int | None = None
    cost_out_nano: int | None = None
    #: "table", "provider" or "unknown"
    cost_source: str = "unknown"
    #: the usage was counted by us, because the caller left before the provider said it
    cost_estimated: bool = False
    region: str | None = None
    sdk_version: str | None = None
    engine_version: str | None = None
    body_state: str = "none"
    #: "all", "redacted" or "none" for this record; None takes the writer's default
    content: str | None = None
    request: bytes | None = None
    response: bytes | None = None


def to_dict(record: TraceRecord) -> dict[str, Any]:
    """The record as plain JSON-able values: every field by name, costs in USD beside nano-USD, bodies as text."""
    row = msgspec.structs.asdict(record)
    row["attempts"] = [_attempt_dict(attempt) for attempt in record.attempts]
    row["cost_usd"] = None if record.cost_nano is None else record.cost_nano / 1e9
    for name in ("request", "response"):
        raw = row[name]
        row[name] = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    del row["content"]
    return row


def _attempt_dict(attempt: Attempt) -> dict[str, Any]:
    row = msgspec.structs.asdict(attempt)
    row["cost_usd"] = None if attempt.cost_nano is None else attempt.cost_nano / 1e9
    return row


def from_dict(row: dict[str, Any]) -> TraceRecord:
    """The record of `to_dict`'s form (unknown names are ignored, `cost_usd` is only read where `cost_nano` is absent).

    Raises ValueError naming the field that has the wrong type.
    """
    known = {name: row[name] for name in TraceRecord.__struct_fields__ if row.get(name) is not None}
    for name in ("request", "response"):
        body = known.get(name)
        if body is not None and not isinstance(body, bytes):
            known[name] = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    if "cost_nano" not in known and isinstance(row.get("cost_usd"), int | float):
        known["cost_nano"] = round(row["cost_usd"] * 1e9)
    known["attempts"] = [_attempt(item) for item in known.get("attempts", [])]
    defaults = {**_DEFAULTS, **known}
    try:
        return msgspec.convert([defaults[name] for name in TraceRecord.__struct_fields__], TraceRecord)
    except KeyError as error:
        raise ValueError(f"A trace needs the field {error.args[0]!r}") from None
    except msgspec.ValidationError as error:
        raise ValueError(_named(str(error))) from None


def _attempt(item: Any) -> Attempt:
    if isinstance(item, Attempt):
        return item
    if not isinstance(item, dict):
        raise ValueError("Each of `attempts` must be an object")
    fields = zip(Attempt.__struct_fields__, Attempt.__struct_defaults__, strict=True)
    try:
        return msgspec.convert([item.get(name, default) for name, default in fields], Attempt)
    except msgspec.ValidationError as error:
        raise ValueError(f"In `attempts`: {error}") from None


def _named(message: str) -> str:
    """msgspec names a place in an array (`$[3]`); people know fields by name."""
    for index, name in enumerate(TraceRecord.__struct_fields__):
        message = message.replace(f"`$[{index}]", f"`{name}")
    return f"Not a trace: {message}"


_DEFAULTS: Final[dict[str, Any]] = {
    name: ([] if name == "attempts" else default)
    for name, default in zip(
        TraceRecord.__struct_fields__[-len(TraceRecord.__struct_defaults__) :],
        TraceRecord.__struct_defaults__,
        strict=True,
    )
}
