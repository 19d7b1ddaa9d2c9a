"""Forgetting: single traces, old bodies, old rows.

Belongs here: what is removed and in which slices. Bodies and rows have lifetimes of their own; the hourly sums stay,
since they hold money and no text. Each slice is one short transaction, so that serving does not wait; whoever calls
decides how many slices to run. Blocks that a registered destination does not have yet are kept (see `outbox`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from . import chunks, search, segments
from .codec import CODEC, decode_bodies, decode_records, encode_bodies, encode_records
from .outbox import undelivered_from
from .project import SEQ_BITS
from .reader import Reader
from .sqlite import Store

DAY_MS: Final = 86_400_000
#: blocks per transaction: about a thousand rows, some milliseconds
SLICE: Final = 4


@dataclass(frozen=True, slots=True)
class Retention:
    """Lifetimes in days; None keeps for ever."""

    metrics_days: float | None = 180.0
    bodies_days: float | None = 14.0


@dataclass(slots=True)
class Pruned:
    """What a run removed. `more` says that the budget ended before the work."""

    bodies: int = 0
    rows: int = 0
    segments: int = 0
    more: bool = False


def prune(
    store: Store,
    connection: sqlite3.Connection,
    retention: Retention,
    now_ms: int,
    *,
    seconds: float | None = None,
    blocks: int = SLICE,
    progress: Callable[[int], object] | None = None,
) -> Pruned:
    """Removes what is older than its lifetime, a slice of `blocks` at a time, for at most `seconds`."""
    done = Pruned()
    deadline = None if seconds is None else time.monotonic() + seconds
    steps: list[tuple[float | None, Callable[[sqlite3.Connection, int, int], int], str]] = [
        (retention.bodies_days, expire_bodies, "bodies"),
        (retention.metrics_days, expire_rows, "rows"),
    ]
    for days, step, name in steps:
        if days is None:
            continue
        before = now_ms - round(days * DAY_MS)
        while rows := step(connection, before, blocks):
            setattr(done, name, getattr(done, name) + rows)
            if progress is not None:
                progress(rows)
            if deadline is not None and time.monotonic() > deadline:
                done.more = True
                return done
    if retention.metrics_days is not None:
        chunks.drop_empty(connection)
        done.segments = segments.drop_before(store, connection, now_ms - round(retention.metrics_days * DAY_MS))
    return done


def old(connection: sqlite3.Connection, retention: Retention, now_ms: int) -> bool:
    """Whether `prune` would find something to remove."""
    limit = _keep_from(connection)
    with_bodies = " JOIN bodies ON bodies.block = blocks.id"
    for days, extra in ((retention.bodies_days, with_bodies), (retention.metrics_days, "")):
        if days is not None:
            found = connection.execute(
                f"SELECT 1 FROM blocks{extra} WHERE ts_max < ? AND blocks.id < ? LIMIT 1",
                (now_ms - round(days * DAY_MS), limit),
            ).fetchone()
            if found is not None:
                return True
    return False


def expire_bodies(connection: sqlite3.Connection, before_ms: int, blocks: int = SLICE) -> int:
    """Removes the bodies, and their words in the index, of one slice of blocks; returns how many rows they had."""
    limit = _keep_from(connection)
    found = connection.execute(
        "SELECT blocks.id, rows, bodies.codec, data FROM bodies JOIN blocks ON blocks.id = bodies.block "
        "WHERE ts_max < ? AND blocks.id < ? ORDER BY blocks.id LIMIT ?",
        (before_ms, limit, blocks),
    ).fetchall()
    if not found:
        return 0
    # unpacked before the write lock is taken: the journal's own commits must not wait for that
    texts = [decode_bodies(codec, data) for _, _, codec, data in found]
    connection.execute("BEGIN IMMEDIATE")
    try:
        for (block, _, _, data), bodies in zip(found, texts, strict=True):
            # words are taken out of the index once, and only those that stand in it: others may have been faster
            gone = connection.execute("DELETE FROM bodies WHERE block = ? AND data = ?", (block, data))
            if gone.rowcount:
                search.unindex(connection, block, bodies)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return sum(rows for _, rows, _, _ in found)


def expire_rows(connection: sqlite3.Connection, before_ms: int, blocks: int = SLICE) -> int:
    """Removes one slice of blocks with their rows and bodies; returns how many rows they had."""
    limit = _keep_from(connection)
    projected = connection.execute("SELECT ifnull(max(value), 0) FROM state WHERE name = 'projected'").fetchone()[0]
    found = connection.execute(
        "SELECT id, rows FROM blocks WHERE ts_max < ? AND id < ? AND id <= ? ORDER BY id LIMIT ?",
        (before_ms, limit, projected, blocks),
    ).fetchall()
    if not found:
        return 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for block, _ in found:
            _unindex_block(connection, block)
            connection.execute("DELETE FROM bodies WHERE block = ?", (block,))
            connection.execute("DELETE FROM blocks WHERE id = ?", (block,))
            connection.execute(
                "DELETE FROM traces WHERE seq BETWEEN ? AND ?", (block << SEQ_BITS, (block + 1 << SEQ_BITS) - 1)
            )
        connection.execute("INSERT OR REPLACE INTO state VALUES ('forgotten', ?)", (before_ms,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return sum(rows for _, rows in found)


def _unindex_block(connection: sqlite3.Connection, block: int) -> None:
    row = connection.execute("SELECT codec, data FROM bodies WHERE block = ?", (block,)).fetchone()
    if row is not None:
        search.unindex(connection, block, decode_bodies(*row))


def _keep_from(connection: sqlite3.Connection) -> int:
    """The first block that must stay because a destination lacks it."""
    first = undelivered_from(connection)
    return 2**62 if first is None else first


def remove(reader: Reader, connection: sqlite3.Connection, trace_ids: Sequence[str]) -> int:
    """Removes single traces: record, bodies, words, row; returns how many there were. The hourly sums stay.

    The ids are normalised ones (`ids.normalise_id`).
    """
    places: dict[int, set[int]] = {}
    for trace_id in trace_ids:
        place = reader.find(trace_id)
        if place is not None:
            places.setdefault(place[0], set()).add(place[1])
    # overwritten, not only unlinked: whoever removes a trace wants its text gone
    connection.execute("PRAGMA secure_delete = ON")
    for block, positions in places.items():
        connection.execute("BEGIN IMMEDIATE")
        try:
            _rewrite(connection, block, positions)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    return sum(map(len, places.values()))


def _rewrite(connection: sqlite3.Connection, block: int, positions: set[int]) -> None:
    codec, meta, ids = connection.execute("SELECT codec, meta, ids FROM blocks WHERE id = ?", (block,)).fetchone()
    records = [None if at in positions else rec for at, rec in enumerate(decode_records(codec, meta))]
    kept = b"".join(bytes(16) if at in positions else ids[at * 16 : at * 16 + 16] for at in range(len(records)))
    connection.execute(
        "UPDATE blocks SET codec = ?, meta = ?, ids = ? WHERE id = ?", (CODEC, encode_records(records), kept, block)
    )
    row = connection.execute("SELECT codec, data FROM bodies WHERE block = ?", (block,)).fetchone()
    if row is not None:
        before = decode_bodies(*row)
        after = [None if at in positions else body for at, body in enumerate(before)]
        search.unindex(connection, block, before)
        values = (CODEC, encode_bodies(after), block)
        connection.execute("UPDATE bodies SET codec = ?, data = ? WHERE block = ?", values)
        if block <= search.index_upto(connection):
            connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (block, search.text_of(after)))
    seqs = [(block << SEQ_BITS | at,) for at in positions]
    connection.executemany("DELETE FROM traces WHERE seq = ?", seqs)
    connection.executemany("INSERT OR IGNORE INTO deleted VALUES (?)", seqs)


def compact(connection: sqlite3.Connection) -> None:
    """Gives the space of removed blocks back to the disk and folds the write-ahead log in (needs the space twice)."""
    connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA optimize")
