"""Sealed segments: the narrow rows of many blocks as one Parquet file, scanned with DuckDB.

Belongs here: sealing, scanning and dropping segment files. A segment never changes; the manifest (table `segments`)
says which blocks it covers, so rows are counted once, whichever file or table they are read from. Everything here is
optional: without duckdb there are no segments and SQLite answers alone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from .columns import COLUMNS, NAMES, duckdb_columns
from .compile import Cells, Query, compile_query
from .dialects import DUCKDB
from .project import SEQ_BITS, projected_upto
from .sqlite import Store, asking

SEAL_ROWS: Final = 100_000
#: below this many rows SQLite is done before DuckDB is awake
SCAN_ROWS: Final = 40_000
#: the same once it is
AWAKE_ROWS: Final = 8_000
#: both where chunks hold the same rows: they are the faster reader of some days, and need no DuckDB at all
CHUNKED_SCAN_ROWS: Final = 500_000
CHUNKED_AWAKE_ROWS: Final = 200_000

_guard = threading.Lock()
_shared: list[Any] = []


def available() -> bool:
    """True when duckdb is installed."""
    from importlib.util import find_spec

    return find_spec("duckdb") is not None


def cursor() -> Any:
    """A cursor on this process's in-memory DuckDB."""
    import duckdb

    with _guard:
        if not _shared:
            _shared.append(duckdb.connect(config={"memory_limit": "1GB", "threads": "2"}))
        return _shared[0].cursor()


def awake() -> bool:
    """True once DuckDB is loaded in this process."""
    return bool(_shared)


def warm(store: Store) -> None:
    """Loads DuckDB where there is something for it to read: the first question would wait for it otherwise."""
    if available() and sealed_upto(store.reader()):
        cursor().execute("SELECT 1").fetchall()


def directory(store: Store) -> Path:
    """Where the segment files of a store stand."""
    return store.path.with_name(store.path.name + ".segments")


def sealed_upto(connection: sqlite3.Connection) -> int:
    """The last block that stands in a segment; 0 when none does."""
    return int(connection.execute("SELECT ifnull(max(last_block), 0) FROM segments").fetchone()[0])


def seal(store: Store, connection: sqlite3.Connection, *, min_rows: int = SEAL_ROWS) -> int:
    """Writes one segment of at least `min_rows` rows, if so many are waiting; returns its number of rows.

    The leader calls it. A crash at any point leaves the manifest right: the file counts once its row is committed.
    """
    first = sealed_upto(connection) + 1
    last, rows = _enough_blocks(connection, first, min_rows)
    if last is None:
        return 0
    place = directory(store)
    place.mkdir(exist_ok=True, mode=0o700)
    target = place / f"{first:012d}-{last:012d}.parquet"
    lines = place / f"{target.name}.lines"
    try:
        count, ts_min, ts_max = _write_lines(connection, first, last, lines)
        if count:
            lines_to_parquet(lines, target, duckdb_columns())
    finally:
        lines.unlink(missing_ok=True)
    size = target.stat().st_size if count else 0
    connection.execute(
        "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)", (first, last, count, ts_min, ts_max, size, target.name)
    )
    return rows


def waiting(connection: sqlite3.Connection, min_rows: int) -> bool:
    """Whether there are rows enough for another segment."""
    return _enough_blocks(connection, sealed_upto(connection) + 1, min_rows)[0] is not None


def _enough_blocks(connection: sqlite3.Connection, first: int, min_rows: int) -> tuple[int | None, int]:
    """The last block of the next segment and its rows; None when there are too few."""
    rows = 0
    upto = projected_upto(connection)
    for block, count in connection.execute(
        "SELECT id, rows FROM blocks WHERE id >= ? AND id <= ? ORDER BY id", (first, upto)
    ):
        rows += count
        if rows >= min_rows:
            return block, rows
    return None, rows


def _write_lines(connection: sqlite3.Connection, first: int, last: int, target: Path) -> tuple[int, int, int]:
    """The rows as JSON lines; returns their number and time range."""
    encode = msgspec.json.Encoder().encode
    tags = NAMES.index("tags")
    times: list[int] = []
    found = connection.execute(
        f"SELECT {', '.join(NAMES)} FROM traces WHERE seq >= ? AND seq < ? ORDER BY ts_ms",
        (first << SEQ_BITS, (last + 1) << SEQ_BITS),
    )
    with target.open("wb") as out:
        for row in found:
            values = dict(zip(NAMES, row, strict=True))
            if row[tags] is not None:
                values["tags"] = msgspec.Raw(row[tags].encode())
            out.write(encode(values) + b"\n")
            times.append(row[1])
    return len(times), min(times, default=0), max(times, default=0)


def lines_to_parquet(lines: Path, target: Path, columns: dict[str, str]) -> None:
    """A Parquet file of JSON lines, given the columns' types; it appears under its name only once it is on the disk."""
    part = target.with_suffix(".part")
    typed = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    cursor().execute(
        f"COPY (SELECT * FROM read_json(?, format = 'newline_delimited', columns = {{{typed}}})) "
        f"TO '{_quoted(part)}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30000)",
        [str(lines)],
    )
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(target)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def files(store: Store, since: int | None, until: int | None) -> Iterator[Path]:
    """The segment files that may hold rows of a time range."""
    found = store.reader().execute(
        "SELECT file FROM segments WHERE rows > 0 AND ts_max >= ? AND ts_min < ? ORDER BY first_block",
        (since if since is not None else -(2**62), until if until is not None else 2**62),
    )
    for (name,) in found.fetchall():
        yield directory(store) / name


def worth_it(store: Store, query: Query, *, chunked: bool = False) -> bool:
    """True when so many rows are in the time range that DuckDB is the faster reader.

    How many is told from how much of each segment's time the range covers: the hour at the edge of a range holds few
    rows, however large the segment is that holds it.
    """
    since, until = query.filters.since, query.filters.until
    low, high = since if since is not None else -(2**62), until if until is not None else 2**62
    found = store.reader().execute(
        "SELECT rows, ts_min, ts_max FROM segments WHERE rows > 0 AND ts_max >= ? AND ts_min < ?", (low, high)
    )
    rows = 0.0
    for count, first, last in found.fetchall():
        rows += count * min(1.0, (min(high, last + 1) - max(low, first)) / (last + 1 - first))
    asleep_from, awake_from = (CHUNKED_SCAN_ROWS, CHUNKED_AWAKE_ROWS) if chunked else (SCAN_ROWS, AWAKE_ROWS)
    return rows >= (awake_from if awake() else asleep_from) and available()


def scan(store: Store, query: Query, cells: Cells, *, chunked: bool = False) -> int:
    """Adds what the segments say and returns the last block they cover; 0 when others are to read everything.

    `chunked` says that chunks hold what the segments hold.
    """
    if not worth_it(store, query, chunked=chunked):
        return 0
    paths = list(files(store, query.filters.since, query.filters.until))
    if not all(path.exists() for path in paths):
        return 0
    extra, values = _hidden(store)
    main, histogram, params = compile_query(query, DUCKDB, extra=extra, extra_params=values)
    names = ", ".join(f"'{_quoted(path)}'" for path in paths)
    view = f"WITH traces AS (SELECT * FROM read_parquet([{names}])) "
    keys = len(query.group_by) + (query.bucket_ms is not None)
    run = cursor()
    with asking(run):
        cells.add_sums(run.execute(f"{view}{main} LIMIT {cells.most + 1}", params).fetchall(), keys)
        if histogram is not None:
            cells.add_latencies(run.execute(view + histogram, params).fetchall(), keys)
    return sealed_upto(store.reader())


def _hidden(store: Store) -> tuple[str, list[int]]:
    """The condition that hides what was removed since the segments were written."""
    connection = store.reader()
    deleted = [row[0] for row in connection.execute("SELECT seq FROM deleted").fetchall()]
    forgotten = connection.execute("SELECT value FROM state WHERE name = 'forgotten'").fetchone()
    parts = [f"seq NOT IN ({DUCKDB.holes(len(deleted))})"] if deleted else []
    if forgotten is not None:
        parts.append("ts_ms >= ?")
        deleted.append(int(forgotten[0]))
    return " AND ".join(parts), deleted


def drop_before(store: Store, connection: sqlite3.Connection, ts_ms: int) -> int:
    """Removes segments that end before a time and whose rows are gone; returns how many.

    Rows that a destination lacks are still there, and a segment goes only with all of its rows: otherwise these would
    stand nowhere that sums look.
    """
    condition = (
        "rows > 0 AND ts_max < ? AND NOT EXISTS (SELECT 1 FROM blocks WHERE id BETWEEN first_block AND last_block)"
    )
    old = connection.execute(f"SELECT first_block, file FROM segments WHERE {condition}", (ts_ms,)).fetchall()
    for first, name in old:
        # the manifest row stays, emptied: it says that these blocks are sealed
        connection.execute("UPDATE segments SET rows = 0, bytes = 0 WHERE first_block = ?", (first,))
        (directory(store) / name).unlink(missing_ok=True)
    return len(old)


assert tuple(duckdb_columns()) == tuple(column.name for column in COLUMNS)
