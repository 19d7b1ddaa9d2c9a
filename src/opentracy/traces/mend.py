"""Records that cannot be stored as they are: mended rather than lost, and never at the cost of their neighbours.

Belongs here: what is acceptable in each field, and the nearest acceptable value. Only records that failed to encode
come here, so it may be slow.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from .ids import new_trace_id, normalise_id
from .model import Attempt, TraceRecord

#: a million dollars in nano-USD, and more tokens or milliseconds than there are
_LARGEST: Final = 2**49
_INTS: Final = frozenset(
    ("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_reasoning", "cost_nano", "cost_in_nano",
     "cost_out_nano", "counterfactual_nano", "cluster_id")
)  # fmt: skip
_FLOATS: Final = frozenset(("queue_ms", "routing_ms", "embedding_ms", "ttft_ms", "route_score"))


def storable(record: TraceRecord) -> bool:
    """True when every value has a type and size that all databases take."""
    return all(_fits(getattr(record, name)) for name in record.__struct_fields__)


def _fits(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -_LARGEST < value < _LARGEST
    return True


def mended(record: TraceRecord, now_ms: int) -> TraceRecord:
    """A record that can be stored, with as much of `record` as can be kept."""
    kept = TraceRecord(_id(record.trace_id), record.ts_ms if _is_time(record.ts_ms) else now_ms)
    blank = TraceRecord("", 0)
    for name in record.__struct_fields__[2:]:
        value = getattr(record, name)
        if name in _INTS or name in _FLOATS:
            value = _number(value, whole=name in _INTS)
        elif name in ("latency_ms", "http_status"):
            value = _number(value, whole=name == "http_status") or 0
        elif isinstance(value, str):
            value = value.encode("utf-8", "replace").decode()
        elif name == "attempts":
            value = [attempt for attempt in value or [] if isinstance(attempt, Attempt) and encodes(attempt)]
        elif name in ("request", "response"):
            value = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace") if value else None
        elif isinstance(value, list):
            value = [str(item).encode("utf-8", "replace").decode() for item in value]
        elif not encodes(value):
            value = getattr(blank, name)
        if value is not None or getattr(blank, name) is None:
            setattr(kept, name, value)
    return kept


def _id(trace_id: Any) -> str:
    try:
        return normalise_id(trace_id)
    except (ValueError, TypeError, AttributeError):
        return new_trace_id()


def _is_time(ts_ms: Any) -> bool:
    return isinstance(ts_ms, int) and 0 <= ts_ms < 2**47


def _number(value: Any, *, whole: bool) -> Any:
    if not isinstance(value, int | float) or not _fits(value):
        return None
    return int(value) if whole else float(value)


def encodes(value: Any) -> bool:
    """Whether a value can be written: no number beyond 64 bits, no text that is none, nothing of another kind."""
    try:
        msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True
