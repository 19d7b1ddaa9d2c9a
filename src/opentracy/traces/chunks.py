"""Chunks: the narrow rows of some ten thousand traces as plain columns, for lists that few rows match.

Belongs here: making chunks, and finding rows in them. Not here: what a column is (`chunk_columns`), adding rows up
(`chunk_sums`). No index helps when each value of a combination is frequent and the combination is rare; looking at
every row of two columns takes well under a millisecond per chunk when the columns lie side by side as small integers. A
chunk never changes; it covers whole journal blocks, so each row is in one chunk or among the rows after the last one.
Text is a code into the chunk's own sorted list of words. Chunks begin small, so that few rows have to wait for one, and
neighbours are put together later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from .chunk_columns import Column, Mask, Numbers, column_of, decoded, encoded, together
from .columns import NAMES
from .filters import FIELDS, Condition, Filters, Value
from .project import SEQ_BITS, projected_upto
from .transactions import reading, writing

#: rows of a new chunk, but for those of its last block
CHUNK_ROWS: Final = 8_000
#: of these so many at a time are Python objects: what serves keeps for ever the memory of the most there ever were
PORTION_ROWS: Final = 500
#: rows from which on a chunk stays as it is
MERGED_ROWS: Final = 64_000
#: from so many rows on sums are taken from columns
WORTH_ROWS: Final = 2_000
_TIME: Final = NAMES.index("ts_ms")
_LAST: Final = 2**62
#: so many comparisons of a whole column are faster than looking each code up
_FEW: Final = 6

#: time and sequence number of a row: its place in the list
Place = tuple[int, int]


class Chunk(NamedTuple):
    first: int
    last: int
    rows: int
    ts_min: int
    ts_max: int


# ---------------------------------------------------------------- making
def build(connection: sqlite3.Connection, *, min_rows: int = CHUNK_ROWS) -> int:
    """Makes the next chunk, if `min_rows` rows are waiting for one; returns its number of rows. The leader calls it."""
    first = covered_upto(connection) + 1
    last = _enough_blocks(connection, first, min_rows)
    if last is None:
        return 0
    times, packed = _read_columns(connection, first, last)
    with writing(connection):
        if covered_upto(connection) + 1 == first:
            bounds = (int(times[0]), int(times[-1])) if len(times) else (0, 0)
            _store(connection, Chunk(first, last, len(times), *bounds), packed)
    return len(times)


def _read_columns(connection: sqlite3.Connection, first: int, last: int) -> tuple[Numbers, list[bytes]]:
    """Times and packed columns of some blocks' rows, in the order of the list; no columns where all rows are gone."""
    cursor = connection.execute(
        f"SELECT {', '.join(NAMES)} FROM traces WHERE seq >= ? AND seq < ? ORDER BY ts_ms, seq",
        (first << SEQ_BITS, (last + 1) << SEQ_BITS),
    )
    parts: list[list[Column]] = [[] for _ in NAMES]
    while found := cursor.fetchmany(PORTION_ROWS):
        for name, columns, values in zip(NAMES, parts, zip(*found, strict=True), strict=True):
            columns.append(column_of(name, values, first))
    if not parts[_TIME]:
        return np.zeros(0, np.int64), []
    times = np.concatenate([column.values for column in parts[_TIME]])
    return times, [encoded(together(columns)) for columns in parts]


def merge(connection: sqlite3.Connection) -> int:
    """Puts neighbouring small chunks together once they have `MERGED_ROWS` rows; returns how many there were."""
    small: list[Chunk] = []
    for row in connection.execute("SELECT * FROM chunks ORDER BY first_block").fetchall():
        chunk = Chunk(*row)
        # an emptied chunk has no columns
        small = [*small, chunk] if 0 < chunk.rows < MERGED_ROWS else []
        if sum(one.rows for one in small) >= MERGED_ROWS:
            break
    else:
        return 0
    with reading(connection):
        parts = [Open(connection, chunk) for chunk in small]
        order = np.lexsort((_joined(parts, "seq").values, _joined(parts, "ts_ms").values))
        packed = [encoded(_joined(parts, name), order) for name in NAMES]
    whole = Chunk(
        small[0].first, small[-1].last, len(order), min(one.ts_min for one in small), max(one.ts_max for one in small)
    )
    bounds = (whole.first, whole.last)
    with writing(connection):
        left = connection.execute("SELECT * FROM chunks WHERE first_block BETWEEN ? AND ? ORDER BY first_block", bounds)
        if [Chunk(*row) for row in left.fetchall()] != small:
            return 0
        connection.execute("DELETE FROM chunks WHERE first_block BETWEEN ? AND ?", bounds)
        connection.execute("DELETE FROM chunk_columns WHERE chunk BETWEEN ? AND ?", bounds)
        _store(connection, whole, packed)
    return len(small)


def _joined(parts: Sequence[Open], name: str) -> Column:
    """A column of several chunks; codes are those of all their words, sequence numbers count from the first chunk."""
    columns = [part.read(name) for part in parts]
    if name == "seq":
        firsts = [(part.chunk.first - parts[0].chunk.first) << SEQ_BITS for part in parts]
        numbers = [one.values.astype(np.int64) + first for one, first in zip(columns, firsts, strict=True)]
        return Column(np.concatenate(numbers), None, None)
    return together(columns)


def _store(connection: sqlite3.Connection, chunk: Chunk, packed: Sequence[bytes]) -> None:
    connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", chunk)
    named = [(chunk.first, name, data) for name, data in zip(NAMES, packed, strict=False)]
    connection.executemany("INSERT INTO chunk_columns VALUES (?, ?, ?)", named)


def covered_upto(connection: sqlite3.Connection) -> int:
    """The last block whose rows stand in a chunk; 0 when none does."""
    return int(connection.execute("SELECT ifnull(max(last_block), 0) FROM chunks").fetchone()[0])


def _enough_blocks(connection: sqlite3.Connection, first: int, min_rows: int) -> int | None:
    rows = 0
    upto = projected_upto(connection)
    for block, count in connection.execute(
        "SELECT id, rows FROM blocks WHERE id >= ? AND id <= ? ORDER BY id", (first, upto)
    ):
        rows += count
        if rows >= min_rows:
            return int(block)
    return None


def drop_empty(connection: sqlite3.Connection) -> int:
    """Removes the columns of chunks whose blocks are all gone; returns how many. What they covered stays covered."""
    gone = connection.execute(
        "SELECT first_block FROM chunks WHERE rows > 0 "
        "AND NOT EXISTS (SELECT 1 FROM blocks WHERE id BETWEEN first_block AND last_block)"
    ).fetchall()
    for (first,) in gone:
        with writing(connection):
            connection.execute("DELETE FROM chunk_columns WHERE chunk = ?", (first,))
            connection.execute("UPDATE chunks SET rows = 0 WHERE first_block = ?", (first,))
    return len(gone)


# ---------------------------------------------------------------- looking
class Open:
    """A chunk being looked at: each column is read once, when it is asked for."""

    def __init__(self, connection: sqlite3.Connection, chunk: Chunk) -> None:
        self.chunk = chunk
        self._connection = connection
        self._columns: dict[str, Column] = {}

    def __call__(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self.read(name)
        return column

    def read(self, name: str) -> Column:
        """A column that is not kept: for who wants each once."""
        (data,) = self._connection.execute(
            "SELECT data FROM chunk_columns WHERE chunk = ? AND name = ?", (self.chunk.first, name)
        ).fetchone()
        return decoded(data, self.chunk.rows)

    def seqs(self) -> Numbers:
        """The sequence numbers of the rows."""
        return self("seq").values.astype(np.int64) + (self.chunk.first << SEQ_BITS)


def newest(
    connection: sqlite3.Connection, filters: Filters, after: Place | None, limit: int
) -> tuple[int, list[Place]]:
    """The first `limit` matches below a place, newest first, and the last block that chunks cover (0: there are none).

    Rows after that block are the caller's to look at, and the caller is `reading`.
    """
    upto, chunks = overlapping(connection, filters, None if after is None else after[0])
    hidden = Hidden(connection)
    found: list[Place] = []
    for chunk in chunks:
        if len(found) >= limit:
            found = sorted(found, reverse=True)[:limit]
            if found[-1][0] > chunk.ts_max:
                break
        found += _matches(Open(connection, chunk), filters, after, limit, hidden)
    return upto, sorted(found, reverse=True)[:limit]


def overlapping(connection: sqlite3.Connection, filters: Filters, before: int | None) -> tuple[int, list[Chunk]]:
    """The last block covered, and the chunks that overlap the time asked for, newest first."""
    every = [Chunk(*row) for row in connection.execute("SELECT * FROM chunks ORDER BY ts_max DESC")]
    since = -_LAST if filters.since is None else filters.since
    until = _LAST if filters.until is None else filters.until
    last = _LAST if before is None else before
    wanted = [one for one in every if one.rows and one.ts_max >= since and one.ts_min < until and one.ts_min <= last]
    return max((one.last for one in every), default=0), wanted


def worth_it(connection: sqlite3.Connection, filters: Filters, after_block: int) -> bool:
    """True when chunks hold so many rows of a time range, after a block, that reading whole columns is faster than
    looking the rows up."""
    since = -_LAST if filters.since is None else filters.since
    until = _LAST if filters.until is None else filters.until
    rows = 0.0
    for chunk in overlapping(connection, filters, None)[1]:
        if chunk.last > after_block:
            inside = min(until, chunk.ts_max + 1) - max(since, chunk.ts_min)
            rows += chunk.rows * inside / (chunk.ts_max + 1 - chunk.ts_min)
    return rows >= WORTH_ROWS


class Hidden:
    """Rows that were removed since their chunk was made: single ones, and blocks that retention took."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        found = connection.execute("SELECT seq FROM deleted ORDER BY seq").fetchall()
        self._single = np.array([seq for (seq,) in found], np.int64)
        row = connection.execute("SELECT value FROM state WHERE name = 'forgotten'").fetchone()
        self._forgotten = -_LAST if row is None else int(row[0])

    def keep(self, open_: Open) -> Mask | None:
        """Which rows of a chunk are still there; None when all are."""
        chunk = open_.chunk
        first, end = chunk.first << SEQ_BITS, (chunk.last + 1) << SEQ_BITS
        at, to = np.searchsorted(self._single, [first, end])
        kept: Mask | None = None
        if at < to:
            kept = ~np.isin(open_.seqs(), self._single[at:to])
        if chunk.ts_min < self._forgotten:
            blocks = self._connection.execute(
                "SELECT id FROM blocks WHERE id BETWEEN ? AND ?", (chunk.first, chunk.last)
            ).fetchall()
            there = np.isin(open_.seqs() >> SEQ_BITS, np.array([block for (block,) in blocks], np.int64))
            kept = there if kept is None else kept & there
        return kept


def visible_rows(open_: Open, filters: Filters, after: Place | None, hidden: Hidden) -> Mask:
    """The rows of a chunk within the time range and below the cursor that are still there."""
    times = open_("ts_ms").values
    low = 0 if filters.since is None else int(np.searchsorted(times, filters.since, "left"))
    high = len(times) if filters.until is None else int(np.searchsorted(times, filters.until, "left"))
    if after is not None:
        high = min(high, int(np.searchsorted(times, after[0], "right")))
        if high > low and times[high - 1] == after[0]:
            seqs = open_.seqs()
            while high > low and times[high - 1] == after[0] and seqs[high - 1] >= after[1]:
                high -= 1
    mask = np.zeros(len(times), np.bool_)
    mask[low:high] = True
    kept = hidden.keep(open_)
    return mask if kept is None else mask & kept


def _matches(open_: Open, filters: Filters, after: Place | None, limit: int, hidden: Hidden) -> list[Place]:
    mask: Mask | None = None
    for condition in filters.conditions:
        one = mask_of(condition, open_)
        mask = one if mask is None else mask & one
        if not mask.any():
            return []
    shown = visible_rows(open_, filters, after, hidden)
    at = np.flatnonzero(shown if mask is None else mask & shown)[-limit:]
    if not len(at):
        return []
    return list(zip(open_("ts_ms").values[at].tolist(), open_.seqs()[at].tolist(), strict=True))


# ---------------------------------------------------------------- conditions
def mask_of(condition: Condition, open_: Callable[[str], Column]) -> Mask:
    """The rows for which a condition holds; as its SQL would say it (`filters.where`)."""
    field = FIELDS[condition.field]
    if field.kind == "status":
        mask = _any([_status(str(value), open_) for value in condition.values])
        return ~mask if condition.op == "!=" else mask
    column = open_(field.column)
    if column.words is not None:
        wanted = partial(_has_tag, condition.values) if field.kind == "tag" else condition.values.__contains__
        mask = _coded(column, wanted)
        return ~mask if condition.op == "!=" else mask
    if condition.op in ("=", "!="):
        mask = _any([_compared(column, "=", value) for value in condition.values])
        # a row without a value is not one of the excluded ones
        return ~mask if condition.op == "!=" else mask
    return _compared(column, condition.op, condition.values[0])


def _any(masks: Sequence[Mask]) -> Mask:
    result = masks[0]
    for mask in masks[1:]:
        result = result | mask
    return result


def _coded(column: Column, wanted: Callable[[Any], bool]) -> Mask:
    words = column.words or []
    hits = [code for code, word in enumerate(words) if word is not None and wanted(word)]
    if len(hits) <= _FEW:
        return _any([column.values == code for code in hits] or [np.zeros(len(column.values), np.bool_)])
    table = np.zeros(len(words), np.bool_)
    table[hits] = True
    return table[column.values]


def _has_tag(values: tuple[Value, ...], word: str) -> bool:
    tags = tags_in(word)
    return any(value in tags for value in values)


def tags_in(word: str | None) -> list[str]:
    return [] if word is None else msgspec.json.decode(word, type=list[str])


_COMPARE: Final[dict[str, Callable[[Numbers, Any], Mask]]] = {
    "=": np.equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _compared(column: Column, op: str, value: Value) -> Mask:
    mask: Mask = _COMPARE[op](column.values.astype(np.int64), value)
    return mask if column.nulls is None else mask & ~column.nulls


def _status(word: str, open_: Callable[[str], Column]) -> Mask:
    if word in ("error", "failed"):
        return _coded(open_("outcome"), lambda outcome: bool(outcome != "ok"))
    if word.endswith("xx"):
        status = open_("http_status")
        return _compared(status, ">=", int(word[0]) * 100) & _compared(status, "<=", int(word[0]) * 100 + 99)
    if word.isdigit():
        return _compared(open_("http_status"), "=", int(word))
    return _coded(open_("outcome"), word.__eq__)
