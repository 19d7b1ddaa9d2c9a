"""Requests that are open right now, kept where a killed process leaves them behind.

Belongs here: a memory-mapped table of slots per worker. Opening and closing a request is a copy of some bytes, no
system call; the kernel keeps the pages when the process is killed, and the next start turns what it finds into records
with the outcome `interrupted`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from .locks import FileLock
from .model import TraceRecord

SLOT_BYTES: Final = 256


class _Open(msgspec.Struct, array_like=True):
    trace_id: str
    ts_ms: int
    requested_model: str
    key_id: str | None


_encode = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(_Open)


class Inflight:
    """The table of one worker. `begin` and `end` are called from one thread (the event loop)."""

    def __init__(self, database: Path, slots: int = 4096) -> None:
        self.path = database.with_name(f"{database.name}.open.{os.getpid()}.{os.urandom(4).hex()}")
        self._lock = FileLock(self.path)
        self._lock.acquire()
        os.truncate(self.path, slots * SLOT_BYTES)
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), slots * SLOT_BYTES)
        self._free = list(range(slots - 1, -1, -1))

    def begin(self, trace_id: str, ts_ms: int, requested_model: str, key_id: str | None = None) -> int:
        """Notes an open request and returns its slot; -1 when every slot is taken (then it is not noted)."""
        if not self._free:
            return -1
        slot = self._free.pop()
        data = _encode((trace_id, ts_ms, requested_model, key_id))
        size = len(data)
        if size >= SLOT_BYTES:
            data = _encode((trace_id, ts_ms, requested_model[:40], None if key_id is None else key_id[:40]))
            size = len(data)
        at = slot * SLOT_BYTES
        # the length goes in last: a slot that was being written when the process died counts as free
        self._map[at + 1 : at + 1 + size] = data
        self._map[at] = size
        return slot

    def end(self, slot: int) -> None:
        """The request has its record; does nothing for -1."""
        if slot >= 0:
            self._map[slot * SLOT_BYTES] = 0
            self._free.append(slot)

    def close(self) -> None:
        """Removes the table. What is still open is for the caller to record first."""
        self._map.close()
        self.path.unlink(missing_ok=True)
        self._lock.release()


def recover(database: Path, known: Callable[[str], bool], put: Callable[[TraceRecord], object]) -> int:
    """Hands a record with the outcome `interrupted` to `put` for each request that dead workers left open.

    `known` says whether a trace id is recorded already. Returns the number of records.
    """
    count = 0
    for path in sorted(database.parent.glob(f"{database.name}.open.*")):
        lock = FileLock(path)
        if not lock.acquire():
            continue
        data = path.read_bytes()
        for at in range(0, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
            record = _read(data[at : at + SLOT_BYTES])
            if record is not None and not known(record.trace_id):
                put(record)
                count += 1
        path.unlink(missing_ok=True)
        lock.release()
    return count


def _read(slot: bytes) -> TraceRecord | None:
    length = slot[0]
    if not length:
        return None
    try:
        was = _DECODER.decode(slot[1 : 1 + length])
    except msgspec.DecodeError:
        return None
    return TraceRecord(
        was.trace_id,
        was.ts_ms,
        outcome="interrupted",
        http_status=0,
        requested_model=was.requested_model,
        key_id=was.key_id,
        error_type="interrupted",
        error_msg="The engine stopped while this request was open",
    )
