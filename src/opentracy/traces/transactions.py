"""Transactions of SQLite connections in autocommit mode.

Belongs here: beginning and ending them. Whoever opens one decides what goes in.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator


@contextlib.contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: it has the write lock from its first line on, and leaves nothing when something fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # a full disk ends a transaction by itself
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """One state of the database for several questions: others write and remove meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")
