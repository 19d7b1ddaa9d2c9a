"""The configuration text that is in force in all workers of one engine, whatever has become of the file since.

Belongs here: the one piece of memory that parent and workers share. Not here: reading files (`configfile`), what the
text means (`state`). A worker that reloads puts the text that it accepted here; its siblings, and a worker that
replaces a dead one, take it from here: reading the file again could catch it half written, or refuse it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_HEAD = 8


class InForce:
    """Made before the fork. Every method may be called from any of the processes."""

    def __init__(self, text: str) -> None:
        self._file = tempfile.TemporaryFile(prefix="opentracy-")  # noqa: SIM115  (lives as long as the engine)
        self._fd = self._file.fileno()
        self._write(1, text)

    def put(self, text: str) -> None:
        """This text was accepted and is in force from now on."""
        with self._locked(fcntl.LOCK_EX):
            self._write(self._number() + 1, text)

    def text(self) -> str:
        """What is in force."""
        with self._locked(fcntl.LOCK_SH):
            return os.pread(self._fd, os.fstat(self._fd).st_size, _HEAD).decode()

    def number(self) -> int:
        """Grows with every text that was accepted."""
        with self._locked(fcntl.LOCK_SH):
            return self._number()

    def _number(self) -> int:
        return int.from_bytes(os.pread(self._fd, _HEAD, 0), "little")

    def _write(self, number: int, text: str) -> None:
        data = text.encode()
        os.pwrite(self._fd, number.to_bytes(_HEAD, "little") + data, 0)
        os.ftruncate(self._fd, _HEAD + len(data))

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        fcntl.lockf(self._fd, kind)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
