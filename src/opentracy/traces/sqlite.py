"""The trace database file: finding it, opening it, and what happens when it is damaged.

Belongs here: paths, connections and their pragmas, the check at the start. Not here: the schema (`migrations`), what is
written (`writer`), what is asked (`reader`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from .errors import StoreUnavailable
from .migrations import migrate

log = logging.getLogger("opentracy.traces")

#: how long the check of an existing file may take, so that a large store does not delay the start
CHECK_SECONDS: Final = 2.0
_SIDES: Final = ("", "-wal", "-shm")
_asked: dict[int, Interruptible] = {}  # thread -> what its question is asked of


class Interruptible(Protocol):
    """A connection whose statement another thread can stop."""

    def interrupt(self) -> object:
        """Stops the statement that runs; nothing where none does."""
        ...


@contextlib.contextmanager
def asking(database: Interruptible) -> Iterator[None]:
    """`interrupt` stops this one within the block, where something else than `Store.reader` answers."""
    thread = threading.get_ident()
    before = _asked.get(thread)
    _asked[thread] = database
    try:
        yield
    finally:
        if before is None:
            del _asked[thread]
        else:
            _asked[thread] = before


def interrupt(thread: int) -> None:
    """Stops the statement that a thread waits for; it fails there with the database's own error."""
    database = _asked.get(thread)
    if database is not None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed meanwhile
            database.interrupt()


def default_path(environ: dict[str, str] | os._Environ[str] | None = None) -> Path:
    """`$OPENTRACY_DATA_HOME/traces.db`, or `~/.opentracy/traces.db`."""
    home = (os.environ if environ is None else environ).get("OPENTRACY_DATA_HOME")
    return (Path(home) if home else Path("~/.opentracy")).expanduser() / "traces.db"


class Store:
    """A trace database at `path`, migrated and checked. Hands out connections; holds one per reading thread.

    `Store.open` is the way in. `moved_aside` names where a damaged file went, None when there was none.
    """

    def __init__(self, path: Path, *, read_only: bool, moved_aside: Path | None = None) -> None:
        self.path = path
        self.read_only = read_only
        self.moved_aside = moved_aside
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        #: held while rows are made of what waits: a screen's questions would otherwise all unpack the same blocks
        self.projecting = threading.Lock()

    @classmethod
    def open(
        cls, path: str | Path | None = None, *, create: bool = True, read_only: bool = False, check: bool = True
    ) -> Store:
        """Opens (and unless `create` is False makes) the database.

        A damaged file is moved to `*.corrupt-TIME` with a logged error and a new one is begun. Raises SchemaTooNew for
        a file of a newer version and StoreUnavailable when there is no file to read or the place cannot be written.
        `check=False` skips the search for damage (up to `CHECK_SECONDS`): for those who only come to read, and for
        workers whose parent has looked.
        """
        where = (Path(path) if path is not None else default_path()).expanduser()
        if not where.exists() and (read_only or not create):
            raise StoreUnavailable(f"No trace store at {where}: start `opentracy serve`, or name another with --store")
        if read_only:
            return cls(where, read_only=True)
        try:
            where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            moved = _move_damaged_aside(where) if check and where.exists() else None
            store = cls(where, read_only=False, moved_aside=moved)
            with contextlib.closing(store.connect(durable=True)) as connection:
                migrate(connection)
            # prompts are private: nobody but the owner reads them, whatever the umask says
            where.chmod(0o600)
        except (OSError, sqlite3.DatabaseError) as error:
            raise StoreUnavailable(f"Cannot use the trace store {where}: {error}") from error
        return store

    def connect(self, *, durable: bool = False, timeout: float = 10.0) -> sqlite3.Connection:
        """A new connection in autocommit mode. `durable`: COMMIT waits for the disk (power loss included)."""
        if self.read_only:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout, isolation_level=None,
                check_same_thread=False,
            )  # fmt: skip
        else:
            connection = sqlite3.connect(self.path, timeout=timeout, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA page_size = 8192")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("PRAGMA wal_autocheckpoint = 2000")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -16000")
        return connection

    def reader(self) -> sqlite3.Connection:
        """This thread's own connection for reading (kept until `close`)."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self.connect()
            self._local.connection = connection
            with self._guard:
                self._readers.append(connection)
        _asked[threading.get_ident()] = connection
        return connection

    def close(self) -> None:
        """Closes the connections that `reader` handed out."""
        with self._guard:
            readers, self._readers = self._readers, []
        for connection in readers:
            connection.close()
        self._local = threading.local()


def _move_damaged_aside(path: Path) -> Path | None:
    """Moves a file that is not a sound database, with its side files, out of the way; None when it is sound."""
    complaint = _damage(path)
    if complaint is None:
        return None
    target = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for number in range(1, 1000):
        if not target.exists():
            break
        target = target.with_name(f"{target.name.split('+')[0]}+{number}")
    for side in _SIDES:
        old = path.with_name(path.name + side)
        if old.exists():
            old.rename(target.with_name(target.name + side))
    log.error("The trace database %s is damaged (%s). It was moved to %s; a new one is begun.", path, complaint, target)
    return target


def _damage(path: Path) -> str | None:
    """What is wrong with the file, None when nothing was found within `CHECK_SECONDS`.

    A newer schema is not damage: it is left for `migrate` to refuse.
    """
    if path.stat().st_size == 0:
        # an empty file is what an interrupted creation leaves; SQLite starts a database in it
        return None if not path.with_name(path.name + "-wal").exists() else "empty, with a write-ahead log beside it"
    connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
    try:
        deadline = time.monotonic() + CHECK_SECONDS
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not version and tables:
            raise StoreUnavailable(f"{path} is a database of something else; point [traces] path at another file")
        if version and not {"blocks", "bodies", "state", "traces"} <= tables:
            return "tables are missing"
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return None if verdict == "ok" else str(verdict)
    except sqlite3.OperationalError as error:
        # "interrupted" is our own deadline; locks and permissions are for the caller to report
        if "malformed" in str(error) or "disk image" in str(error):
            return str(error)
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.set_progress_handler(None, 0)
        connection.close()
