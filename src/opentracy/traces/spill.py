"""The spill file: where blocks wait while the database cannot take them.

Belongs here: the framing (length, CRC-32, payload) and its bounded file, one per process, never appended to by another.
A frame that was torn by a crash ends the file: what stands before it is whole, what comes after does not exist.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import msgspec

from .codec import Block
from .locks import FileLock

_HEADER: Final = struct.Struct("<II")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Block)


class SpillFull(Exception):
    """The spill has reached its limit."""


def frame(block: Block) -> bytes:
    """A block as it stands in the file."""
    payload = _ENCODER.encode(block)
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def read_frames(data: bytes) -> Iterator[Block]:
    """The whole frames at the start of `data`; ends at the first torn or damaged one."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield _DECODER.decode(payload)
        at += _HEADER.size + length


class Spill:
    """A first-in-first-out of blocks in a file, in memory where the disk takes nothing at all.

    One thread uses it. `waiting` counts the blocks in it.
    """

    def __init__(self, prefix: Path, limit: int) -> None:
        self.path = prefix.with_name(f"{prefix.name}.{os.getpid()}.{os.urandom(4).hex()}")
        self.waiting = 0
        #: for each waiting block, the trace ids whose commit somebody waits for
        self.promises: deque[list[tuple[str, Future[str]]]] = deque()
        self._limit = limit
        self._lock = FileLock(self.path)
        self._sizes: deque[int] = deque()
        self._offset = 0
        self._end = 0
        self._memory: deque[bytes] = deque()
        self._memory_bytes = 0

    def append(self, block: Block, promises: list[tuple[str, Future[str]]]) -> None:
        """Adds a block. Raises SpillFull at the limit; an unwritable disk turns to memory, up to the same limit."""
        data = frame(block)
        if self._end - self._offset + self._memory_bytes + len(data) > self._limit:
            raise SpillFull(f"the spill of {self._limit} bytes is full")
        if self._memory or not self._write(data):
            self._memory.append(data)
            self._memory_bytes += len(data)
        self.promises.append(promises)
        self.waiting += 1

    def _write(self, data: bytes) -> bool:
        try:
            # the lock says that its owner lives: whoever gets it may adopt the file
            if not self._lock.acquire():
                return False  # a process that starts looks at it just now, and will remove it
            with self.path.open("r+b") as file:
                file.seek(self._end)
                try:
                    file.write(data)
                    file.flush()
                except OSError:
                    file.truncate(self._end)
                    raise
        except OSError:
            return False
        self._sizes.append(len(data))
        self._end += len(data)
        return True

    def peek(self) -> Block | None:
        """The oldest block; None when there is none (or the file was taken away)."""
        if self._sizes:
            try:
                with self.path.open("rb") as file:
                    file.seek(self._offset)
                    return next(read_frames(file.read(self._sizes[0])), None)
            except FileNotFoundError:
                return None
        if self._memory:
            return next(read_frames(self._memory[0]), None)
        return None

    def done(self) -> None:
        """Removes the oldest block; whoever waits for one of its records is told."""
        if self._sizes:
            self._offset += self._sizes.popleft()
        else:
            self._memory_bytes -= len(self._memory.popleft())
        self.waiting -= 1
        for trace_id, future in self.promises.popleft():
            if future.set_running_or_notify_cancel():
                future.set_result(trace_id)
        if not self.waiting:
            self._remove()

    def forget(self) -> list[tuple[str, Future[str]]]:
        """Gives up what waits, since it cannot be read again; returns who waits for it."""
        left = [promise for promises in self.promises for promise in promises]
        self.promises.clear()
        self._sizes.clear()
        self._memory.clear()
        self._memory_bytes = self.waiting = 0
        self._remove()
        return left

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._lock.release()
        self._offset = self._end = 0

    def close(self) -> int:
        """Leaves what waits for the next start and returns how many blocks could only be kept in memory."""
        while self._memory and self._write(self._memory[0]):
            self._memory.popleft()
        self._lock.release()
        return len(self._memory)


def orphans(prefix: Path) -> Iterator[tuple[FileLock, list[Block]]]:
    """Spill files whose process is gone, with the blocks in them. The caller removes the file."""
    for path in sorted(prefix.parent.glob(f"{prefix.name}.*")):
        lock = FileLock(path)
        if not lock.acquire():
            continue
        if lock.of_the_file:
            yield lock, list(read_frames(path.read_bytes()))
        lock.release()
