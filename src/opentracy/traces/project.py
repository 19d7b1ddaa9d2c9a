"""Projection: from journal blocks to the narrow rows and hourly sums that questions are asked of.

Belongs here: what a row and a rollup take from a record, and bringing them up to date. The journal is the truth; a row
is derived, so its commit need not wait for the disk, and doing thousands at once costs a fifth of doing them one by
one. Whoever asks a question calls `catch_up` first, so answers are always current.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from .codec import decode_records
from .columns import NAMES
from .compile import SUMS, sum_sql
from .dialects import SQLITE
from .latency import latency_bucket
from .model import TraceRecord

#: rows of one block stand at `block << SEQ_BITS | position`, so a sequence number names its block
SEQ_BITS: Final = 12
CHUNK_ROWS: Final = 5_000

_INSERT: Final = f"INSERT INTO traces ({', '.join(NAMES)}) VALUES ({', '.join('?' * len(NAMES))})"

#: what the rollups of every dimension hold; those of model and key hold all of `compile.SUMS`
SHORT_SUMS: Final = tuple(SUMS)[:8]

#: rollup -> its two key expressions over `traces` ("tag" has one row per tag of a trace). Sums over everything, and
#: latencies of a provider, are sums over "model"
DIMENSIONS: Final[dict[str, tuple[str, str]]] = {
    "model": ("model", "provider"),
    "key": ("ifnull(key_id, '')", "ifnull(project, '')"),
    "outcome": ("outcome", "ifnull(error_type, '')"),
    "cluster": ("ifnull(cast(cluster_id AS TEXT), '')", "model"),
    "tag": ("tag.value", "''"),
}


def row_of(seq: int, record: TraceRecord) -> tuple[object, ...]:
    """The `traces` row of a record, in the order of `NAMES`."""
    tags = record.tags
    return (
        seq, record.ts_ms, record.outcome, record.http_status, record.model, record.provider, record.requested_model,
        record.alias, record.project, record.key_id, record.user_id, record.session_id,
        msgspec.json.encode(tags).decode() if tags else None,
        record.cluster_id, record.stream, record.cache_hit, record.has_tools, record.fallback_from is not None,
        len(record.attempts), round(record.latency_ms * 1000), latency_bucket(record.latency_ms),
        None if record.ttft_ms is None else round(record.ttft_ms * 1000), record.tokens_in,
        record.tokens_out, record.tokens_cached, record.tokens_reasoning, record.cost_nano, record.counterfactual_nano,
        record.error_type, record.finish_reason,
    )  # fmt: skip


def rows_of_block(block: int, codec: int, meta: bytes) -> list[tuple[object, ...]]:
    """All rows of a journal block (deleted records leave a gap)."""
    first = block << SEQ_BITS
    return [row_of(first | at, rec) for at, rec in enumerate(decode_records(codec, meta)) if rec is not None]


def projected_upto(connection: sqlite3.Connection) -> int:
    """The last block whose rows exist."""
    row = connection.execute("SELECT value FROM state WHERE name = 'projected'").fetchone()
    return int(row[0]) if row else 0


def lag(connection: sqlite3.Connection) -> int:
    """How many journal rows are not projected yet."""
    done = projected_upto(connection)
    return int(connection.execute("SELECT ifnull(sum(rows), 0) FROM blocks WHERE id > ?", (done,)).fetchone()[0])


def catch_up(connection: sqlite3.Connection, *, max_rows: int | None = None) -> int:
    """Projects what is waiting, in chunks of one transaction each; returns how many rows were added.

    Safe from several processes at once: the mark moves in the same transaction as the rows and sums.
    """
    added = 0
    while max_rows is None or added < max_rows:
        if not _waiting(connection):
            break
        connection.execute("BEGIN IMMEDIATE")
        try:
            count = _chunk(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        added += count
    return added


def _waiting(connection: sqlite3.Connection) -> bool:
    newest = connection.execute("SELECT max(id) FROM blocks").fetchone()[0]
    return newest is not None and int(newest) > projected_upto(connection)


def _chunk(connection: sqlite3.Connection) -> int:
    done = projected_upto(connection)
    last = done
    rows: list[tuple[object, ...]] = []
    for block, codec, meta in _blocks_after(connection, done):
        rows += rows_of_block(block, codec, meta)
        last = block
        if len(rows) >= CHUNK_ROWS:
            break
    if last == done:
        return 0
    connection.executemany(_INSERT, rows)
    _roll_up(connection, (done + 1) << SEQ_BITS, (last + 1) << SEQ_BITS)
    connection.execute("INSERT OR REPLACE INTO state VALUES ('projected', ?)", (last,))
    return len(rows)


def _blocks_after(connection: sqlite3.Connection, block: int) -> Iterator[tuple[int, int, bytes]]:
    cursor = connection.execute("SELECT id, codec, meta FROM blocks WHERE id > ? ORDER BY id", (block,))
    yield from cursor


def sums_of(dim: str) -> tuple[str, ...]:
    """The sums that the rollups of a dimension hold."""
    return tuple(SUMS) if dim in ("model", "key") else SHORT_SUMS


def _roll_up(connection: sqlite3.Connection, first: int, end: int) -> None:
    """Adds the rows `first <= seq < end` to the hourly sums and latency histograms."""
    for dim, (k1, k2) in DIMENSIONS.items():
        names = sums_of(dim)
        source = "traces, json_each(traces.tags) AS tag" if dim == "tag" else "traces"
        where = "seq >= ? AND seq < ?" + (" AND tags IS NOT NULL" if dim == "tag" else "")
        connection.execute(
            f"INSERT INTO rollups (dim, hour, k1, k2, {', '.join(names)}) "
            f"SELECT '{dim}', ts_ms / 3600000 AS hour, {k1} AS k1, {k2} AS k2, "
            f"{', '.join(sum_sql(name, SQLITE) for name in names)} "
            f"FROM {source} WHERE {where} GROUP BY hour, {k1}, {k2} ON CONFLICT (dim, hour, k1, k2) "
            f"DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in names)}",
            (first, end),
        )
    connection.execute(
        "INSERT INTO latencies SELECT ts_ms / 3600000 AS hour, model, provider, latency_bucket, count(*) "
        "FROM traces WHERE seq >= ? AND seq < ? GROUP BY hour, model, provider, latency_bucket "
        "ON CONFLICT (hour, model, provider, bucket) DO UPDATE SET requests = requests + excluded.requests",
        (first, end),
    )
