"""From what happened to the trace of it: attempts, tokens, cost, outcome.

Pure. Belongs here: filling a `TraceRecord`. Not here: where it is stored (`opentracy.traces`), when it is handed over
(`served`, `stream`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentracy.core.pricing import Cost, cost_of
from opentracy.core.wire import Attempt, Failure
from opentracy.traces import Attempt as AttemptRow
from opentracy.traces import TraceRecord

# attempts that never left us cannot have been billed; of all others nobody knows
_MAYBE_BILLED = frozenset({
    "reset", "eof", "timeout", "truncated", "stream_truncated", "stream_interrupted", "empty_stream", "empty_body",
    "bad_body", "encoding", "body_limit", "bad_event", "cancelled",
})  # fmt: skip


def cost(provider: str, model: str, served: str | None, usage: Mapping[str, Any] | None, at: float) -> Cost | None:
    """What a call that began `at` (seconds since the epoch) cost: at the price of the model that was asked for, else of
    the one that says it answered."""
    found = cost_of(provider, model, usage, at)
    if found is None and served and served != model:
        found = cost_of(provider, served, usage, at)
    return found


def attempt_rows(
    attempts: Sequence[Attempt], started: float, usage: Mapping[str, Any] | None, price: Cost | None
) -> list[AttemptRow]:
    """The plan's attempts as rows. `started`: the request's start on the plan's clock."""
    rows = []
    for position, attempt in enumerate(attempts):
        failure = attempt.failure
        row = AttemptRow(
            attempt.target.name,
            attempt.target.provider,
            attempt.status,
            None if failure is None else failure.code or failure.kind,
            round((attempt.started - started) * 1000, 3),
            round((attempt.ended - attempt.started) * 1000, 3),
        )
        if failure is None:
            if usage is not None:
                row.tokens_in, row.tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
            row.cost_nano = None if price is None else price.total
        elif not failure.sent or failure.kind not in _MAYBE_BILLED:
            row.cost_nano = 0
        if position + 1 < len(attempts):
            following = attempts[position + 1].reason
            row.reason = f"{following}: {_why(failure)}"
        rows.append(row)
    return rows


def _why(failure: Failure | None) -> str:
    if failure is None:
        return ""
    return str(failure.status) if failure.kind == "status" else failure.code or failure.kind


def add_usage(record: TraceRecord, usage: Mapping[str, Any] | None, price: Cost | None) -> None:
    """Tokens and money of the successful attempt."""
    if usage is not None:
        record.tokens_in = usage.get("prompt_tokens")
        record.tokens_out = usage.get("completion_tokens")
        add_details(record, usage)
    if price is not None:
        record.cost_source = "table"
        record.cost_nano = price.total
        record.cost_in_nano = price.total - price.output
        record.cost_out_nano = price.output


def add_details(record: TraceRecord, usage: Mapping[str, Any]) -> None:
    """What else a usage says: tokens from and for the cache, and of thoughts."""
    details = usage.get("prompt_tokens_details")
    if details:
        record.tokens_cached = details.get("cached_tokens")
        record.tokens_cache_write = details.get("cache_creation_tokens")
    details = usage.get("completion_tokens_details")
    if details:
        record.tokens_reasoning = details.get("reasoning_tokens")


def total_cost(rows: Sequence[AttemptRow]) -> int | None:
    """Nano-USD of all attempts; None as soon as one of them is unknown."""
    total = 0
    for row in rows:
        if row.cost_nano is None:
            return None
        total += row.cost_nano
    return total


def add_failure(record: TraceRecord, failure: Failure, status: int, code: str) -> None:
    """Why it did not work."""
    record.outcome = failure.outcome
    record.http_status = status
    record.error_type = failure.type or failure.kind
    record.error_code = code
    record.error_msg = failure.message[:500]


def add_routing(record: TraceRecord, routing: Mapping[str, Any]) -> None:
    """The router's decision."""
    record.cluster_id = routing.get("cluster_id")
    record.cluster_label = routing.get("cluster_label")
    record.route_policy = routing.get("strategy")
    record.route_candidates = routing.get("scores")
    record.router_version = routing.get("router_version")
    record.fallback_reason = routing.get("fallback_reason")
    record.routing_ms = routing.get("routing_ms")
    chosen = (record.route_candidates or {}).get(routing.get("selected_by_router", ""))
    if isinstance(chosen, dict):
        record.route_score = chosen.get("utility")
    best = routing.get("always_best")
    if isinstance(best, dict) and isinstance(best.get("cost"), int | float):
        record.counterfactual_nano = round(best["cost"] * 1e9)
