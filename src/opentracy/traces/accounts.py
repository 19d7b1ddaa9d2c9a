"""The accounts database: keys, budgets and rate limits of one machine, in a file of its own.

Belongs here: its schema and opening it. It is apart from the traces because it must answer on the request path while a
trace block is being written, and because a damaged or deleted trace file must not lock everybody out.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from .errors import StoreUnavailable
from .migrations import Step, migrate


def m001_accounts(run: Callable[[str], object]) -> None:
    """Keys are stored as hashes only; money is nano-USD."""
    run(
        """CREATE TABLE keys (
            id TEXT PRIMARY KEY, hash BLOB NOT NULL, name TEXT NOT NULL, owner TEXT, project TEXT,
            scopes TEXT NOT NULL, models TEXT, content TEXT, created_ms INTEGER NOT NULL, expires_ms INTEGER,
            revoked_ms INTEGER, daily_nano INTEGER, monthly_nano INTEGER, rpm INTEGER, tpm INTEGER) WITHOUT ROWID"""
    )
    run(
        """CREATE TABLE spend (
            key_id TEXT NOT NULL, period TEXT NOT NULL, settled INTEGER NOT NULL, reserved INTEGER NOT NULL,
            PRIMARY KEY (key_id, period)) WITHOUT ROWID"""
    )
    run(
        """CREATE TABLE reservations (
            id TEXT PRIMARY KEY, key_id TEXT NOT NULL, periods TEXT NOT NULL, nano INTEGER NOT NULL,
            expires_ms INTEGER NOT NULL) WITHOUT ROWID"""
    )
    run(
        """CREATE TABLE rates (
            key_id TEXT NOT NULL, kind TEXT NOT NULL, second INTEGER NOT NULL, used INTEGER NOT NULL,
            PRIMARY KEY (key_id, kind, second)) WITHOUT ROWID"""
    )


def m002_shared_keys(run: Callable[[str], object]) -> None:
    """Keys of other machines: which of two states is the newer, and the pepper of where the key was made."""
    run("ALTER TABLE keys ADD COLUMN updated_ms INTEGER NOT NULL DEFAULT 0")
    run("ALTER TABLE keys ADD COLUMN pepper BLOB")


STEPS: tuple[Step, ...] = (m001_accounts, m002_shared_keys)


class Accounts:
    """The database beside the traces (`accounts.db` in the data directory). Every thread has its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            migrate(self.connection(), STEPS)
            path.chmod(0o600)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"Cannot use the accounts {path}: {error}") from error

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            # a lost second of counters after a power cut is cheaper than a disk flush in every request
            connection.execute("PRAGMA synchronous = NORMAL")
            self._local.connection = connection
        return connection

    def close(self) -> None:
        """Closes this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None
