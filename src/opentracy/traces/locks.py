"""Who may do what alone: one engine per data directory, one leader among its workers.

Belongs here: advisory file locks. The kernel gives them back when a process ends, however it ends, so there is nothing
to expire and nothing to clean up after a crash. A forked worker shares its parent's lock.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .errors import StoreInUse, StoreUnavailable


class FileLock:
    """An exclusive lock on a file, for as long as this object (or a forked copy of its process) lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """True between a successful `acquire` and `release`."""
        return self._handle is not None

    def acquire(self) -> bool:
        """Takes the lock if nobody has it; never waits. Raises OSError when the file cannot be made."""
        if self._handle is not None:
            return True
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(handle):
            os.close(handle)
            return False
        self._handle = handle
        return True

    @property
    def of_the_file(self) -> bool:
        """Whether what is locked still stands under its path: its last owner may have removed it meanwhile."""
        try:
            return self._handle is not None and os.path.samestat(os.fstat(self._handle), self.path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Gives the lock back; does nothing when it is not held."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def note(self, text: str) -> None:
        """Writes who holds it into the file, for the message another process shows."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, text.encode(), 0)


def _lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has no flock; its byte lock is mandatory, so it goes where no note is read
        import msvcrt

        try:
            os.lseek(handle, 1 << 20, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold_data_directory(directory: Path) -> FileLock:
    """Claims a data directory for this engine and its workers; call it before forking, keep the result.

    Raises StoreInUse naming the process that has it, and StoreUnavailable when the directory cannot be written.
    """
    lock = FileLock(directory / "engine.lock")
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        taken = lock.acquire()
    except OSError as error:
        raise StoreUnavailable(f"Cannot use the data directory {directory}: {error}") from error
    if not taken:
        holder = "?"
        with contextlib.suppress(OSError):
            holder = lock.path.read_text()[:20].strip() or "?"
        raise StoreInUse(
            f"Another engine (pid {holder}) runs on the data directory {directory}: stop it, "
            "or give this one its own with OPENTRACY_DATA_HOME"
        )
    lock.note(f"{os.getpid()}\n")
    return lock


def leader_lock(database: Path) -> FileLock:
    """The lock whose holder does the work that must be done once per database (see `maintenance`)."""
    return FileLock(database.with_name(database.name + ".leader"))
