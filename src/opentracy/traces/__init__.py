"""Traces: every request accounted for, from one SQLite file to ClickHouse.

Public names; nothing is imported before it is used. What each module is for stands in its own first line.

    store = Store.open("traces.db")             the file, migrated and checked
    writer = TraceWriter(store); writer.put(r)  the request path: microseconds, never blocks
    reader = Reader(store); reader.list(...)    pages, single traces, live tail, search
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import QueryError, SchemaTooNew, StoreInUse, StoreUnavailable, TraceStoreError
    from .filters import Filters
    from .ids import new_trace_id
    from .model import Attempt, TraceRecord
    from .reader import Page, Reader, TraceRow
    from .sqlite import Store
    from .writer import Counters, Limits, TraceWriter

_HOMES = {
    "Attempt": "model",
    "Counters": "writer",
    "Filters": "filters",
    "Limits": "writer",
    "Page": "reader",
    "QueryError": "errors",
    "Reader": "reader",
    "SchemaTooNew": "errors",
    "Store": "sqlite",
    "StoreInUse": "errors",
    "StoreUnavailable": "errors",
    "TraceRecord": "model",
    "TraceRow": "reader",
    "TraceStoreError": "errors",
    "TraceWriter": "writer",
    "new_trace_id": "ids",
}

__all__ = [
    "Attempt",
    "Counters",
    "Filters",
    "Limits",
    "Page",
    "QueryError",
    "Reader",
    "SchemaTooNew",
    "Store",
    "StoreInUse",
    "StoreUnavailable",
    "TraceRecord",
    "TraceRow",
    "TraceStoreError",
    "TraceWriter",
    "new_trace_id",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
