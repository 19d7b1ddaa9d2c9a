"""The outbox: sending the journal on to another store, each block once, whatever fails on the way.

Belongs here: the mark of what was delivered, per destination. The journal itself is the queue, so an outage of the
destination costs nothing but time: delivery goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from .codec import Body, decode_bodies, decode_records
from .model import TraceRecord

#: rows and compressed bytes from which on a batch is full
BATCH_ROWS: Final = 5_000
BATCH_BYTES: Final = 4 << 20


class Portion(NamedTuple):
    """A block of the journal; `records` has None where a trace was removed, `bodies` is None where there are none."""

    block: int
    records: list[TraceRecord | None]
    bodies: list[Body | None] | None


class Sink(Protocol):
    """Something that takes blocks, some at a time; the same token twice must count once. Raises when it could not."""

    def insert(self, token: str, portions: Sequence[Portion]) -> int:
        """Returns the number of rows sent."""


def destination(url: str) -> str:
    """The name of a destination's mark: host and path, without user and password."""
    parts = urlsplit(url)
    return f"outbox:{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}{parts.path}"


def delivered(connection: sqlite3.Connection, name: str) -> int:
    """The last block that a destination has."""
    row = connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def backlog(connection: sqlite3.Connection, name: str) -> tuple[int, int]:
    """Blocks and rows that a destination does not have yet."""
    row = connection.execute(
        "SELECT count(*), ifnull(sum(rows), 0) FROM blocks WHERE id > ?", (delivered(connection, name),)
    ).fetchone()
    return int(row[0]), int(row[1])


def deliver(
    connection: sqlite3.Connection,
    name: str,
    sink: Sink,
    *,
    max_blocks: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Sends what is waiting, oldest first, and moves the mark after each batch; returns the number of rows sent.

    What the sink raises goes to the caller; the mark then stands before the batch that failed, and that same batch is
    sent again next time, however much more has arrived: so a server that took it without our hearing of it knows it.
    """
    sent = done = 0
    batch_rows: int = getattr(sink, "batch_rows", BATCH_ROWS)
    while max_blocks is None or done < max_blocks:
        blocks = _batch(connection, name, batch_rows)
        if not blocks:
            break
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (_sending(name), blocks[-1]))
        token, portions = _loaded(connection, blocks)
        rows = sink.insert(token, portions)
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, blocks[-1]))
        sent += rows
        done += len(blocks)
        if progress is not None:
            progress(rows)
    return sent


def _sending(name: str) -> str:
    return f"sending:{name}"


def _batch(connection: sqlite3.Connection, name: str, batch_rows: int) -> list[int]:
    """The blocks to send next: those of a batch that failed, else as many as make one."""
    mark = delivered(connection, name)
    again = delivered(connection, _sending(name))
    rows = size = 0
    blocks: list[int] = []
    waiting = connection.execute(
        "SELECT blocks.id, rows, length(meta) + ifnull(length(data), 0) FROM blocks "
        "LEFT JOIN bodies ON bodies.block = blocks.id WHERE blocks.id > ? ORDER BY blocks.id LIMIT 1000",
        (mark,),
    )
    for block, count, weight in waiting:
        full = block > again if again > mark else rows + count > batch_rows or size + weight > BATCH_BYTES
        if blocks and full:
            break
        blocks.append(block)
        rows += count
        size += weight
    return blocks


def _loaded(connection: sqlite3.Connection, blocks: Sequence[int]) -> tuple[str, list[Portion]]:
    token = hashlib.sha256()
    portions = []
    for block in blocks:
        row = connection.execute(
            "SELECT batch, blocks.codec, meta, bodies.codec, data FROM blocks "
            "LEFT JOIN bodies ON bodies.block = blocks.id WHERE blocks.id = ?",
            (block,),
        ).fetchone()
        if row is None:
            continue
        batch, codec, meta, body_codec, data = row
        token.update(batch)
        bodies = None if data is None else decode_bodies(body_codec, data)
        portions.append(Portion(block, decode_records(codec, meta), bodies))
    return token.hexdigest()[:32], portions


def register(connection: sqlite3.Connection, name: str) -> None:
    """Makes retention keep what a destination does not have yet."""
    connection.execute("INSERT OR IGNORE INTO state VALUES (?, 0)", (name,))


def undelivered_from(connection: sqlite3.Connection) -> int | None:
    """The first block that some registered destination lacks; None when there are no destinations."""
    row = connection.execute("SELECT min(value) FROM state WHERE name LIKE 'outbox:%'").fetchone()
    return None if row[0] is None else int(row[0]) + 1
