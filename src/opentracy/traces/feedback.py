"""Feedback: what people and programs say about a trace, only ever added.

Belongs here: writing and reading it. A correction is a later row; the last one by the same author on a metric counts.
"""

from __future__ import annotations

import math
import re
import sqlite3
from typing import Final, Literal

import msgspec

from .errors import QueryError
from .ids import normalise_id
from .transactions import writing

Kind = Literal["bool", "float", "category", "comment"]
_METRIC: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
MAX_TEXT: Final = 10_000


class Feedback(msgspec.Struct, frozen=True):
    """One statement. `value` is a bool, a finite float, or text by `kind`."""

    trace_id: str
    metric: str
    kind: Kind
    value: bool | float | str
    author: str | None
    ts_ms: int


def kind_of(metric: str, value: object) -> Kind:
    """The kind of a value; text under the metric `comment` is a comment, other text a category. Raises QueryError."""
    if not _METRIC.fullmatch(metric):
        raise QueryError(f"Not a metric name: {metric[:70]!r} (letters, digits, _ . - beginning with a letter)")
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise QueryError(f"{metric} must be a finite number")
        return "float"
    if isinstance(value, str) and 0 < len(value) <= MAX_TEXT:
        return "comment" if metric == "comment" else "category"
    raise QueryError(f"{metric} must be true or false, a number, or a text of 1 to {MAX_TEXT} characters")


def add(
    connection: sqlite3.Connection,
    trace_id: str,
    metric: str,
    value: bool | float | str,
    *,
    author: str | None,
    now_ms: int,
) -> Feedback:
    """Adds a statement; it is committed when this returns. Whether the trace exists is the caller's to check.

    Raises QueryError for a metric or value that is none and ValueError for an id that is none.
    """
    kind = kind_of(metric, value)
    row = Feedback(normalise_id(trace_id), metric, kind, float(value) if kind == "float" else value, author, now_ms)
    connection.execute(
        "INSERT INTO feedback (trace_id, metric, kind, value, author, ts_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (row.trace_id, metric, kind, row.value, author, now_ms),
    )
    return row


def of_trace(connection: sqlite3.Connection, trace_id: str) -> list[Feedback]:
    """All statements on a trace, oldest first."""
    found = connection.execute(
        "SELECT trace_id, metric, kind, value, author, ts_ms FROM feedback WHERE trace_id = ? ORDER BY id",
        (normalise_id(trace_id),),
    )
    return [_read(row) for row in found.fetchall()]


def summary(
    connection: sqlite3.Connection, *, since: int | None = None, until: int | None = None
) -> dict[str, dict[str, float]]:
    """For each bool or float metric: `count` and `mean` of the last word of each author on each trace."""
    found = connection.execute(
        "SELECT metric, count(*), avg(value) FROM feedback WHERE kind IN ('bool', 'float') "
        "AND ts_ms >= ? AND ts_ms < ? "
        "AND id IN (SELECT max(id) FROM feedback GROUP BY trace_id, metric, author) GROUP BY metric ORDER BY metric",
        (-(2**62) if since is None else since, 2**62 if until is None else until),
    )
    return {metric: {"count": count, "mean": mean} for metric, count, mean in found.fetchall()}


def forget(connection: sqlite3.Connection, before_ms: int, *, most: int = 1000) -> int:
    """Removes what was said before a time, some at a time; returns how many. Traces of that time are gone by then."""
    removed = 0
    while found := connection.execute("SELECT id FROM feedback WHERE ts_ms < ? LIMIT ?", (before_ms, most)).fetchall():
        with writing(connection):
            removed += connection.executemany("DELETE FROM feedback WHERE id = ?", found).rowcount
    return removed


def _read(row: tuple[str, str, Kind, bool | float | str, str | None, int]) -> Feedback:
    trace_id, metric, kind, value, author, ts_ms = row
    return Feedback(trace_id, metric, kind, bool(value) if kind == "bool" else value, author, ts_ms)
