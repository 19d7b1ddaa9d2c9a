"""Sample records for the tests of traces."""

from __future__ import annotations

from typing import Any

from opentracy.traces.ids import trace_id_at
from opentracy.traces.model import Attempt, TraceRecord

START_MS = 1_760_000_000_000


def make_record(number: int = 0, **changes: Any) -> TraceRecord:
    """An ordinary record; `number` sets its time (one per second) and its id."""
    ts_ms = changes.pop("ts_ms", START_MS + number * 1000)
    values: dict[str, Any] = {
        "trace_id": trace_id_at(ts_ms, number.to_bytes(10, "big")),
        "ts_ms": ts_ms,
        "requested_model": "openai/gpt-4o-mini",
        "model": "gpt-4o-mini",
        "provider": "openai",
        "latency_ms": 812.5,
        "tokens_in": 300,
        "tokens_out": 150,
        "cost_nano": 123_456,
        "cost_source": "table",
        "finish_reason": "stop",
        "attempts": [Attempt("openai/gpt-4o-mini", "openai", 200, None, 0.5, 800.0, 1234, 300, 150, 123_456)],
        "request": b'{"messages":[{"role":"user","content":"What is the capital of France?"}]}',
        "response": b'{"choices":[{"message":{"content":"Paris."}}]}',
    }
    return TraceRecord(**{**values, **changes})
