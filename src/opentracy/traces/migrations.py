"""The schema of the trace database, as numbered steps that only go forward.

Belongs here: every statement that ever made or changed a table. A step is never edited once released; the next change
is the next number. `PRAGMA user_version` holds the number of the last step that ran; each step is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from .errors import SchemaTooNew
from .transactions import writing


def m001_journal(run: Callable[[str], object]) -> None:
    """Blocks are the journal: what stands there is acknowledged. `traces` is projected from it and can be rebuilt."""
    run(
        """CREATE TABLE blocks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            batch BLOB NOT NULL UNIQUE,
            rows INTEGER NOT NULL,
            ts_min INTEGER NOT NULL,
            ts_max INTEGER NOT NULL,
            codec INTEGER NOT NULL,
            ids BLOB NOT NULL,
            meta BLOB NOT NULL)"""
    )
    run("CREATE INDEX blocks_time ON blocks (ts_max, ts_min)")
    run("CREATE TABLE bodies (block INTEGER PRIMARY KEY, codec INTEGER NOT NULL, data BLOB NOT NULL)")
    run("CREATE TABLE state (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
    run(
        """CREATE TABLE traces (
            seq INTEGER PRIMARY KEY,
            ts_ms INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            http_status INTEGER NOT NULL,
            model TEXT NOT NULL,
            provider TEXT NOT NULL,
            requested_model TEXT NOT NULL,
            alias TEXT,
            project TEXT,
            key_id TEXT,
            user_id TEXT,
            session_id TEXT,
            tags TEXT,
            cluster_id INTEGER,
            stream INTEGER NOT NULL,
            cache_hit INTEGER NOT NULL,
            has_tools INTEGER NOT NULL,
            fallback INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            latency_us INTEGER NOT NULL,
            latency_bucket INTEGER NOT NULL,
            ttft_us INTEGER,
            tokens_in INTEGER,
            tokens_out INTEGER,
            tokens_cached INTEGER,
            tokens_reasoning INTEGER,
            cost_nano INTEGER,
            counterfactual_nano INTEGER,
            error_type TEXT,
            finish_reason TEXT)"""
    )
    run("CREATE INDEX traces_time ON traces (ts_ms)")
    run("CREATE INDEX traces_session ON traces (session_id, ts_ms) WHERE session_id IS NOT NULL")
    run("CREATE INDEX traces_user ON traces (user_id, ts_ms) WHERE user_id IS NOT NULL")
    run("CREATE INDEX traces_failed ON traces (ts_ms) WHERE outcome <> 'ok'")


def m002_rollups(run: Callable[[str], object]) -> None:
    """Hourly sums, narrow on purpose: of one or two dimensions, since their cross product is as long as the traces."""
    run(
        """CREATE TABLE rollups (
            dim TEXT NOT NULL, hour INTEGER NOT NULL, k1 TEXT NOT NULL, k2 TEXT NOT NULL,
            requests INTEGER NOT NULL, errors INTEGER NOT NULL,
            cost_nano INTEGER NOT NULL, unpriced INTEGER NOT NULL, counterfactual_nano INTEGER NOT NULL,
            tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, latency_us INTEGER NOT NULL,
            tokens_cached INTEGER NOT NULL DEFAULT 0, tokens_reasoning INTEGER NOT NULL DEFAULT 0,
            ttft_us INTEGER NOT NULL DEFAULT 0, ttft_count INTEGER NOT NULL DEFAULT 0,
            attempts INTEGER NOT NULL DEFAULT 0, fallbacks INTEGER NOT NULL DEFAULT 0,
            streams INTEGER NOT NULL DEFAULT 0, cache_hits INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (dim, hour, k1, k2)) WITHOUT ROWID"""
    )
    run(
        """CREATE TABLE latencies (
            hour INTEGER NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL, bucket INTEGER NOT NULL,
            requests INTEGER NOT NULL,
            PRIMARY KEY (hour, model, provider, bucket)) WITHOUT ROWID"""
    )


def m003_segments(run: Callable[[str], object]) -> None:
    """Parquet files that hold the narrow rows of whole blocks, for scans; `deleted` hides single rows in them."""
    run(
        """CREATE TABLE segments (
            first_block INTEGER PRIMARY KEY, last_block INTEGER NOT NULL, rows INTEGER NOT NULL,
            ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, bytes INTEGER NOT NULL, file TEXT NOT NULL)"""
    )
    run("CREATE TABLE deleted (seq INTEGER PRIMARY KEY)")


def m004_words(run: Callable[[str], object]) -> None:
    """The index for full text search: one entry per block, words only (see `words`)."""
    run(
        "CREATE VIRTUAL TABLE words USING fts5(text, content='', columnsize=0, detail=none, "
        'tokenize="unicode61 remove_diacritics 0")'
    )


def m005_feedback(run: Callable[[str], object]) -> None:
    """What people and programs said about traces. Only ever added to; the last word on a metric counts."""
    run(
        """CREATE TABLE feedback (
            id INTEGER PRIMARY KEY AUTOINCREMENT, trace_id TEXT NOT NULL, metric TEXT NOT NULL, kind TEXT NOT NULL,
            value NOT NULL, author TEXT, ts_ms INTEGER NOT NULL)"""
    )
    run("CREATE INDEX feedback_trace ON feedback (trace_id)")
    run("CREATE INDEX feedback_metric ON feedback (metric, ts_ms)")
    run(
        "CREATE TRIGGER feedback_is_append_only BEFORE UPDATE ON feedback "
        "BEGIN SELECT raise(ABORT, 'feedback is only ever added'); END"
    )


def m006_chunks(run: Callable[[str], object]) -> None:
    """The narrow rows of some ten thousand traces as plain columns (see `chunks`)."""
    run(
        """CREATE TABLE chunks (
            first_block INTEGER PRIMARY KEY, last_block INTEGER NOT NULL, rows INTEGER NOT NULL,
            ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL)"""
    )
    run("CREATE TABLE chunk_columns (chunk INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL)")
    run("CREATE UNIQUE INDEX chunk_columns_place ON chunk_columns (chunk, name)")


def m007_word_parts(run: Callable[[str], object]) -> None:
    """The index of words in parts (see `words`); the table that there was is the first of them."""
    run(
        """CREATE TABLE word_parts (
            first_block INTEGER PRIMARY KEY, last_block INTEGER NOT NULL, rows INTEGER NOT NULL,
            begun_ms INTEGER NOT NULL, ts_max INTEGER NOT NULL)"""
    )
    indexed = "(SELECT ifnull(max(value), 0) FROM state WHERE name = 'indexed')"
    run(
        f"INSERT INTO word_parts SELECT 0, {indexed}, ifnull(sum(rows), 0), 0, ifnull(max(ts_max), 0) "
        f"FROM blocks WHERE id <= {indexed}"
    )


Step = Callable[[Callable[[str], object]], None]
MIGRATIONS: Final[tuple[Step, ...]] = (
    m001_journal,
    m002_rollups,
    m003_segments,
    m004_words,
    m005_feedback,
    m006_chunks,
    m007_word_parts,
)


def migrate(connection: sqlite3.Connection, steps: tuple[Step, ...] | None = None) -> int:
    """Brings the schema to the newest number and returns how many steps ran (`steps`: those of another database).

    The connection must be in autocommit mode. Several processes may call it at once: each step looks again under its
    write lock. Raises SchemaTooNew, without touching anything, when a newer version of opentracy wrote the database.
    """
    todo = MIGRATIONS if steps is None else steps
    ran = 0
    while True:
        version = _version(connection, len(todo))
        if version == len(todo):
            return ran
        with writing(connection):
            if _version(connection, len(todo)) == version:
                todo[version](connection.execute)
                connection.execute(f"PRAGMA user_version = {version + 1}")
                ran += 1


def _version(connection: sqlite3.Connection, newest: int) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > newest:
        raise SchemaTooNew(
            f"The trace database has schema {version}, this opentracy knows up to {newest}: "
            "update opentracy, or point [traces] path at another file"
        )
    return version
