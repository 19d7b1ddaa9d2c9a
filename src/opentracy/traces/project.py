"""Projection: from journal blocks to the narrow rows and hourly sums that questions are asked of.

Belongs here: what a row and a rollup take from a record, and bringing them up to date. The journal is the truth; a row
is derived, so its commit need not wait for the disk, and doing thousands at once costs a fifth of doing them one by
one. Whoever asks a question calls `catch_up` first, so answers are always current.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from .codec import decode_records
from .columns import NAMES
from .latency import latency_bucket
from .mend import mended, storable
from .model import TraceRecord
from .rollups import Totals, add_up, store
from .transactions import writing

#: rows of one block stand at `block << SEQ_BITS | position`, so a sequence number names its block
SEQ_BITS: Final = 12
CHUNK_ROWS: Final = 4_000

Row = tuple[object, ...]


class Recent:
    """Records (without bodies) of blocks that this process wrote itself and need not unpack: about `limit` at most."""

    def __init__(self, limit: int = 0) -> None:
        self.rows = 0
        self._limit = limit
        self._blocks: dict[int, list[TraceRecord]] = {}

    def put(self, block: int, records: list[TraceRecord]) -> None:
        """Keeps a block's records, newer than all before, while there is room."""
        if self.rows <= self._limit:
            self._blocks[block] = records
            self.rows += len(records)

    def get(self, block: int) -> list[TraceRecord] | None:
        """A block's records; None when they must be unpacked."""
        return self._blocks.get(block)

    def forget(self, upto: int) -> None:
        """Lets go of the blocks up to a number: somebody has made rows of them."""
        for block in [block for block in self._blocks if block <= upto]:
            self.rows -= len(self._blocks.pop(block))

    def clear(self) -> None:
        """Lets go of everything."""
        self._blocks.clear()
        self.rows = 0


def row_of(seq: int, record: TraceRecord) -> Row:
    """The `traces` row of a record, in the order of `NAMES`; flags as numbers, which the driver takes as they are."""
    tags = record.tags
    return (
        seq, record.ts_ms, record.outcome, record.http_status, record.model, record.provider, record.requested_model,
        record.alias, record.project, record.key_id, record.user_id, record.session_id,
        msgspec.json.encode(tags).decode() if tags else None,
        record.cluster_id, int(record.stream), int(record.cache_hit), int(record.has_tools),
        int(record.fallback_from is not None),
        len(record.attempts), round(record.latency_ms * 1000), latency_bucket(record.latency_ms),
        None if record.ttft_ms is None else round(record.ttft_ms * 1000), record.tokens_in,
        record.tokens_out, record.tokens_cached, record.tokens_reasoning, record.cost_nano, record.counterfactual_nano,
        record.error_type, record.finish_reason,
    )  # fmt: skip


def rows_of_block(block: int, records: Sequence[TraceRecord | None]) -> list[Row]:
    """All rows of a journal block (deleted records leave a gap)."""
    first = block << SEQ_BITS
    return [row_of(first | at, record) for at, record in enumerate(records) if record is not None]


def projected_upto(connection: sqlite3.Connection) -> int:
    """The last block whose rows exist."""
    row = connection.execute("SELECT value FROM state WHERE name = 'projected'").fetchone()
    return int(row[0]) if row else 0


def lag(connection: sqlite3.Connection) -> int:
    """How many journal rows are not projected yet."""
    done = projected_upto(connection)
    return int(connection.execute("SELECT ifnull(sum(rows), 0) FROM blocks WHERE id > ?", (done,)).fetchone()[0])


def catch_up(
    connection: sqlite3.Connection,
    *,
    max_rows: int | None = None,
    seconds: float | None = None,
    recent: Recent | None = None,
) -> int:
    """Projects what is waiting, in chunks of one transaction each; returns how many rows were added.

    `max_rows` and `seconds`: after so many, or so long, it begins no further chunk; one it does in any case.
    Safe from several processes at once: the mark moves in the same transaction as the rows and sums. Entries of
    `recent` are used up.
    """
    added = 0
    careful = False
    end = None if seconds is None else time.monotonic() + seconds
    while (max_rows is None or added < max_rows) and waiting(connection):
        try:
            # decoded and added up before the write lock is taken: the journal's own commits must not wait for that
            chunk = _prepared(connection, Recent() if recent is None else recent, careful=careful)
            added += _committed(connection, chunk)
        except (ValueError, TypeError, OverflowError):
            # a value that no database takes must not stop everything behind it
            if careful:
                raise
            careful = True
            continue
        if end is not None and time.monotonic() >= end:
            break
    if recent is not None:
        # what another process projected
        recent.forget(projected_upto(connection))
    return added


def waiting(connection: sqlite3.Connection) -> bool:
    """Whether there are blocks without rows."""
    newest = connection.execute("SELECT max(id) FROM blocks").fetchone()[0]
    return newest is not None and int(newest) > projected_upto(connection)


class _Chunk(NamedTuple):
    """What the blocks after `done` up to `last` come to."""

    done: int
    last: int
    rows: list[Row]
    totals: Totals


def _prepared(connection: sqlite3.Connection, recent: Recent, *, careful: bool) -> _Chunk:
    done = projected_upto(connection)
    last = done
    rows: list[Row] = []
    totals = Totals()
    following = connection.execute("SELECT id FROM blocks WHERE id > ? ORDER BY id LIMIT 100", (done,)).fetchall()
    for (block,) in following:
        records: Sequence[TraceRecord | None] | None = recent.get(block)
        if records is None:
            records = _unpacked(connection, block)
        if careful:
            records = [one if one is None or storable(one) else mended(one, one.ts_ms) for one in records]
        fresh = rows_of_block(block, records)
        add_up(fresh, totals)
        rows += fresh
        last = block
        # lets the event loop of this process in between blocks, not only when the interpreter takes the turn away
        time.sleep(0)
        if len(rows) >= CHUNK_ROWS:
            break
    return _Chunk(done, last, rows, totals)


def _committed(connection: sqlite3.Connection, chunk: _Chunk) -> int:
    with writing(connection):
        return _stored(connection, chunk)


def _stored(connection: sqlite3.Connection, chunk: _Chunk) -> int:
    """Writes a chunk, unless another process was faster: its rows must not be added twice."""
    if chunk.last == chunk.done or projected_upto(connection) != chunk.done:
        return 0
    rows = _left(connection, chunk)
    if rows:
        _insert(connection, rows)
    store(connection, chunk.totals)
    connection.execute("INSERT OR REPLACE INTO state VALUES ('projected', ?)", (chunk.last,))
    return len(chunk.rows)


def _left(connection: sqlite3.Connection, chunk: _Chunk) -> list[Row]:
    """The rows without those of traces that were removed since their process put them together."""
    bounds = ((chunk.done + 1) << SEQ_BITS, (chunk.last + 1) << SEQ_BITS)
    found = connection.execute("SELECT seq FROM deleted WHERE seq >= ? AND seq < ?", bounds).fetchall()
    removed = {seq for (seq,) in found}
    return [row for row in chunk.rows if row[0] not in removed] if removed else chunk.rows


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Only columns in which something stands: each None costs the driver an exception that it raises and drops."""
    columns = list(zip(*rows, strict=True))
    kept = [at for at, column in enumerate(columns) if column.count(None) < len(column)]
    names = ", ".join([NAMES[at] for at in kept])
    statement = f"INSERT INTO traces ({names}) VALUES ({', '.join('?' * len(kept))})"
    connection.executemany(statement, zip(*[columns[at] for at in kept], strict=True))


def _unpacked(connection: sqlite3.Connection, block: int) -> list[TraceRecord | None]:
    found = connection.execute("SELECT codec, meta FROM blocks WHERE id = ?", (block,)).fetchone()
    # gone: another process has projected it and retention has removed it, so `_stored` will refuse this chunk
    return [] if found is None else decode_records(*found)
