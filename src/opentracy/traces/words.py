"""The index of words: which blocks may hold what a search looks for.

Belongs here: adding blocks, taking them out, asking. One FTS5 entry per journal block, without positions: a tenth of
the size of an index by row. It stands in parts, each with the blocks that came within about a day, because taking the
words of a block out costs as much as putting them in, and dropping a whole part costs nothing: what expires goes with
its part. A block that is in no part yet must simply be looked into.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from .codec import Body, decode_bodies
from .texts import index_query, text_of
from .transactions import writing

#: a part ends with the first block that begins so much later than its own first one, or at so many rows
PART_MS: Final = 86_400_000
PART_ROWS: Final = 200_000
_COLUMNS: Final = "first_block, last_block, rows, begun_ms, ts_max"


class Part(NamedTuple):
    """Some neighbouring blocks, with the time of the first and the newest time of all."""

    first: int
    last: int
    rows: int
    begun_ms: int
    ts_max: int

    @property
    def table(self) -> str:
        """Its FTS5 table; the one that was made before there were parts has the first number."""
        return f"words{self.first or ''}"


def indexed_upto(connection: sqlite3.Connection) -> int:
    """The last block that was looked at."""
    row = connection.execute("SELECT value FROM state WHERE name = 'indexed'").fetchone()
    return int(row[0]) if row else 0


def parts(connection: sqlite3.Connection) -> list[Part]:
    """All parts, in the order of their blocks."""
    return [Part(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM word_parts ORDER BY first_block")]


def part_of(connection: sqlite3.Connection, block: int) -> Part | None:
    """The part that a block stands in; None when it is not indexed, or its part is gone."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM word_parts WHERE first_block <= ? ORDER BY first_block DESC LIMIT 1", (block,)
    ).fetchone()
    part = None if row is None else Part(*row)
    return part if part is not None and block <= part.last else None


# ---------------------------------------------------------------- adding
def add_some(connection: sqlite3.Connection, *, blocks: int = 20) -> int:
    """Adds the next blocks to the index in one transaction; returns how many were looked at."""
    done = indexed_upto(connection)
    found = connection.execute(
        "SELECT blocks.id, rows, ts_max, bodies.codec, data FROM blocks LEFT JOIN bodies ON bodies.block = blocks.id "
        "WHERE blocks.id > ? ORDER BY blocks.id LIMIT ?",
        (done, blocks),
    ).fetchall()
    if not found:
        return 0
    # unpacked before the write lock is taken: the journal's own commits must not wait for that
    entries = [
        (block, rows, ts_max, text_of(decode_bodies(codec, data)))
        for block, rows, ts_max, codec, data in found
        if data is not None
    ]
    with writing(connection):
        # another process may have been faster; entries must not be added twice
        if indexed_upto(connection) == done:
            for entry in entries:
                # what expired meanwhile must not come back as words
                if connection.execute("SELECT 1 FROM bodies WHERE block = ?", (entry[0],)).fetchone():
                    _add(connection, *entry)
            connection.execute("INSERT OR REPLACE INTO state VALUES ('indexed', ?)", (found[-1][0],))
    return len(found)


def _add(connection: sqlite3.Connection, block: int, rows: int, ts_max: int, text: str) -> None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM word_parts ORDER BY first_block DESC LIMIT 1").fetchone()
    part = None if row is None else Part(*row)
    if part is None or part.rows >= PART_ROWS or ts_max > part.begun_ms + PART_MS:
        part = Part(block, block, 0, ts_max, ts_max)
        connection.execute(
            f"CREATE VIRTUAL TABLE {part.table} USING fts5(text, content='', columnsize=0, detail=none, "
            'tokenize="unicode61 remove_diacritics 0")'
        )
    connection.execute(f"INSERT INTO {part.table} (rowid, text) VALUES (?, ?)", (block, text))
    whole = Part(part.first, block, part.rows + rows, part.begun_ms, max(part.ts_max, ts_max))
    connection.execute(f"INSERT OR REPLACE INTO word_parts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", whole)


# ---------------------------------------------------------------- removing
def take_out(connection: sqlite3.Connection, block: int, bodies: Sequence[Body | None]) -> None:
    """Takes a block's words out, given the bodies it was indexed with; within the caller's transaction."""
    part = part_of(connection, block)
    if part is not None:
        statement = f"INSERT INTO {part.table} ({part.table}, rowid, text) VALUES ('delete', ?, ?)"
        connection.execute(statement, (block, text_of(bodies)))


def put_back(connection: sqlite3.Connection, block: int, bodies: Sequence[Body | None]) -> None:
    """The words of what is left of a block that was taken out."""
    part = part_of(connection, block)
    if part is not None:
        connection.execute(f"INSERT INTO {part.table} (rowid, text) VALUES (?, ?)", (block, text_of(bodies)))


def drop_forgotten(connection: sqlite3.Connection) -> int:
    """Removes the parts none of whose blocks has a text any more; returns how many."""
    condition = "NOT EXISTS (SELECT 1 FROM bodies WHERE block BETWEEN first_block AND last_block)"
    found = connection.execute(f"SELECT {_COLUMNS} FROM word_parts WHERE {condition}").fetchall()
    dropped = 0
    for part in (Part(*row) for row in found):
        with writing(connection):
            # the newest part may have grown meanwhile, and another process may have been faster
            still = f"DELETE FROM word_parts WHERE first_block = ? AND {condition}"
            if connection.execute(still, (part.first,)).rowcount:
                connection.execute(f"DROP TABLE {part.table}")
                dropped += 1
    return dropped


def optimize(connection: sqlite3.Connection) -> None:
    """Makes every part as small as it can be."""
    for part in parts(connection):
        connection.execute(f"INSERT INTO {part.table} ({part.table}) VALUES ('optimize')")


# ---------------------------------------------------------------- asking
class Hits:
    """Which blocks may match a search text. A part is asked once a block of it is; the caller is `reading`."""

    def __init__(self, connection: sqlite3.Connection, query: str) -> None:
        self._connection = connection
        self._wanted = index_query(query)
        self._upto = indexed_upto(connection)
        self._parts = parts(connection)
        self._firsts = [part.first for part in self._parts]
        self._found: dict[int, frozenset[int]] = {}

    def may_hold(self, block: int) -> bool:
        """False for a block without the words. One of no part has no texts any more."""
        if self._wanted is None or block > self._upto:
            return True
        at = bisect_right(self._firsts, block) - 1
        return at >= 0 and block in self._of(self._parts[at])

    def _of(self, part: Part) -> frozenset[int]:
        found = self._found.get(part.first)
        if found is None:
            matching = f"SELECT rowid FROM {part.table} WHERE {part.table} MATCH ?"
            rows = self._connection.execute(matching, (self._wanted,))
            found = self._found[part.first] = frozenset(block for (block,) in rows)
        return found
