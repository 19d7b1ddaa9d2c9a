"""Forgetting: single traces, old bodies, old rows.

Belongs here: what is removed and in which slices. Bodies and rows have lifetimes of their own; the hourly sums stay,
since they hold money and no text. Each slice is one short transaction, so that serving does not wait; whoever calls
decides how many slices to run. Blocks that a registered destination does not have yet are kept (see `outbox`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from . import chunks, feedback, segments, words
from .codec import CODEC, Body, decode_bodies, decode_records, encode_bodies, encode_records
from .outbox import undelivered_from
from .project import SEQ_BITS
from .reader import Reader
from .sqlite import Store
from .transactions import writing

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
    words_later_ms: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Pruned:
    """Removes what is older than its lifetime, a slice of `blocks` at a time, for at most `seconds`.

    Words may stay in the index for `words_later_ms` longer than their text: then nearly all go with a whole part of it,
    at no cost, and hardly any has to be taken out by itself.
    """
    done = Pruned()
    deadline = None if seconds is None else time.monotonic() + seconds
    steps: list[tuple[float | None, Callable[..., int], str]] = [
        (retention.bodies_days, expire_bodies, "bodies"),
        (retention.metrics_days, expire_rows, "rows"),
    ]
    for days, step, name in steps:
        if days is None:
            continue
        before = now_ms - round(days * DAY_MS)
        once = partial(step, connection, before, blocks, words_until_ms=before + words_later_ms)
        while rows := once():
            setattr(done, name, getattr(done, name) + rows)
            if progress is not None:
                progress(rows)
            if deadline is not None and time.monotonic() > deadline:
                done.more = True
                return done
        words.drop_forgotten(connection)
    if retention.metrics_days is not None:
        before = now_ms - round(retention.metrics_days * DAY_MS)
        chunks.drop_empty(connection)
        done.segments = segments.drop_before(store, connection, before)
        feedback.forget(connection, before)
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


def expire_bodies(
    connection: sqlite3.Connection, before_ms: int, blocks: int = SLICE, *, words_until_ms: int | None = None
) -> int:
    """Removes the bodies of one slice of blocks and their words; returns how many rows they had.

    Words of a part of the index that ends before `words_until_ms` (default: `before_ms`) are left to go with it.
    """
    limit = _keep_from(connection)
    found = connection.execute(
        "SELECT blocks.id, rows FROM bodies JOIN blocks ON blocks.id = bodies.block "
        "WHERE ts_max < ? AND blocks.id < ? ORDER BY blocks.id LIMIT ?",
        (before_ms, limit, blocks),
    ).fetchall()
    if not found:
        return 0
    staying = _staying_words(connection, [block for block, _ in found], words_until_ms or before_ms)
    with writing(connection):
        for block, _ in found:
            _delete_bodies(connection, block, staying)
    return sum(rows for _, rows in found)


def expire_rows(
    connection: sqlite3.Connection, before_ms: int, blocks: int = SLICE, *, words_until_ms: int | None = None
) -> int:
    """Removes one slice of blocks with their rows and bodies; otherwise as `expire_bodies`."""
    limit = _keep_from(connection)
    projected = connection.execute("SELECT ifnull(max(value), 0) FROM state WHERE name = 'projected'").fetchone()[0]
    found = connection.execute(
        "SELECT id, rows FROM blocks WHERE ts_max < ? AND id < ? AND id <= ? ORDER BY id LIMIT ?",
        (before_ms, limit, projected, blocks),
    ).fetchall()
    if not found:
        return 0
    staying = _staying_words(connection, [block for block, _ in found], words_until_ms or before_ms)
    gone = 0
    with writing(connection):
        for block, rows in found:
            if not _delete_bodies(connection, block, staying):
                continue
            connection.execute("DELETE FROM blocks WHERE id = ?", (block,))
            connection.execute(
                "DELETE FROM traces WHERE seq BETWEEN ? AND ?", (block << SEQ_BITS, (block + 1 << SEQ_BITS) - 1)
            )
            gone += rows
        connection.execute("INSERT OR REPLACE INTO state VALUES ('forgotten', ?)", (before_ms,))
    return gone


#: packed bodies of a block, and what they hold
_Packed = tuple[bytes, list[Body | None]]


def _staying_words(connection: sqlite3.Connection, blocks: Sequence[int], until_ms: int) -> dict[int, _Packed]:
    """The bodies of those blocks whose words must be taken out one by one, since their part of the index stays.

    Unpacked before the write lock is taken: the journal's own commits must not wait for that.
    """
    found: dict[int, _Packed] = {}
    for block in blocks:
        part = words.part_of(connection, block)
        if part is not None and part.ts_max >= until_ms:
            row = connection.execute("SELECT codec, data FROM bodies WHERE block = ?", (block,)).fetchone()
            if row is not None:
                found[block] = (row[1], decode_bodies(*row))
    return found


def _delete_bodies(connection: sqlite3.Connection, block: int, staying: Mapping[int, _Packed]) -> bool:
    """Removes the bodies of a block and takes its words out; False when they are not those that were unpacked any more
    (then nothing is removed): words are taken out once, and only those that stand in the index."""
    packed = staying.get(block)
    if packed is None:
        connection.execute("DELETE FROM bodies WHERE block = ?", (block,))
        return True
    gone = connection.execute("DELETE FROM bodies WHERE block = ? AND data = ?", (block, packed[0]))
    if not gone.rowcount:
        return False
    words.take_out(connection, block, packed[1])
    return True


def _keep_from(connection: sqlite3.Connection) -> int:
    """The first block that must stay because a destination lacks it."""
    first = undelivered_from(connection)
    return 2**62 if first is None else first


def remove(reader: Reader, connection: sqlite3.Connection, trace_ids: Sequence[str]) -> int:
    """Removes single traces: record, bodies, words, row, feedback; returns how many there were. The hourly sums stay.

    The ids are normalised ones (`ids.normalise_id`).
    """
    # what has no row yet is in no sum yet either
    reader.current()
    places: dict[int, set[int]] = {}
    said: dict[int, list[tuple[str]]] = {}
    for trace_id in trace_ids:
        place = reader.find(trace_id)
        if place is not None:
            places.setdefault(place[0], set()).add(place[1])
            said.setdefault(place[0], []).append((trace_id,))
    # overwritten, not only unlinked: whoever removes a trace wants its text gone
    connection.execute("PRAGMA secure_delete = ON")
    for block, positions in places.items():
        with writing(connection):
            _rewrite(connection, block, positions)
            connection.executemany("DELETE FROM feedback WHERE trace_id = ?", said[block])
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
        words.take_out(connection, block, before)
        values = (CODEC, encode_bodies(after), block)
        connection.execute("UPDATE bodies SET codec = ?, data = ? WHERE block = ?", values)
        words.put_back(connection, block, after)
    seqs = [(block << SEQ_BITS | at,) for at in positions]
    connection.executemany("DELETE FROM traces WHERE seq = ?", seqs)
    connection.executemany("INSERT OR IGNORE INTO deleted VALUES (?)", seqs)


def compact(connection: sqlite3.Connection) -> None:
    """Gives the space of removed blocks back to the disk and folds the write-ahead log in (needs the space twice)."""
    words.optimize(connection)
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA optimize")
