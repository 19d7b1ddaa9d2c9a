"""The outbox: sending the journal on to another store, each block once, whatever fails on the way.

Belongs here: the mark of what was delivered, per destination. The journal itself is the queue, so an outage of the
destination costs nothing but time: delivery goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from .codec import Body, decode_bodies, decode_records
from .model import TraceRecord


class Sink(Protocol):
    """Something that takes blocks; the same token twice must count once. Raises when it could not take it."""

    def insert(
        self,
        token: str,
        block: int,
        records: list[TraceRecord | None],
        bodies: list[Body | None] | None,
    ) -> int:
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
    """Sends what is waiting, oldest first, and moves the mark after each block; returns the number of rows sent.

    What the sink raises goes to the caller; the mark then stands before the block that failed.
    """
    sent = 0
    done = 0
    while max_blocks is None or done < max_blocks:
        row = connection.execute(
            "SELECT blocks.id, batch, blocks.codec, meta, bodies.codec, data FROM blocks "
            "LEFT JOIN bodies ON bodies.block = blocks.id WHERE blocks.id > ? ORDER BY blocks.id LIMIT 1",
            (delivered(connection, name),),
        ).fetchone()
        if row is None:
            break
        block, batch, codec, meta, body_codec, data = row
        bodies = None if data is None else decode_bodies(body_codec, data)
        rows = sink.insert(_token(batch), block, decode_records(codec, meta), bodies)
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, block))
        sent += rows
        done += 1
        if progress is not None:
            progress(rows)
    return sent


def _token(batch: bytes) -> str:
    return hashlib.sha256(batch).hexdigest()[:32]


def register(connection: sqlite3.Connection, name: str) -> None:
    """Makes retention keep what a destination does not have yet."""
    connection.execute("INSERT OR IGNORE INTO state VALUES (?, 0)", (name,))


def undelivered_from(connection: sqlite3.Connection) -> int | None:
    """The first block that some registered destination lacks; None when there are no destinations."""
    row = connection.execute("SELECT min(value) FROM state WHERE name LIKE 'outbox:%'").fetchone()
    return None if row[0] is None else int(row[0]) + 1
