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

_HEADER: Final = struct.Struct("<II")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Block)


class SpillFull(Exception):
    """The spill file has reached its limit."""


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
    """The spill files beside a database: this process's own, and those that dead processes left.

    `waiting` counts the blocks of this process and of orphans that are not in the database yet.
    """

    def __init__(self, prefix: Path, limit: int) -> None:
        self._prefix = prefix
        self._limit = limit
        self._own = prefix.with_name(f"{prefix.name}.{os.getpid()}.{os.urandom(4).hex()}")
        self._size = 0
        self._sent = 0
        self.waiting = 0
        #: for each waiting block, the trace ids whose commit somebody waits for
        self.promises: deque[list[tuple[str, Future[str]]]] = deque()
        self._memory: list[bytes] = []

    def append(self, block: Block) -> None:
        """Adds a block. Raises SpillFull at the limit; an unwritable disk turns to memory, up to the same limit."""
        data = frame(block)
        if self._size + len(data) > self._limit:
            raise SpillFull(f"the spill of {self._limit} bytes is full")
        if self._memory or not self._write(data):
            self._memory.append(data)
        self._size += len(data)
        self.waiting += 1

    def _write(self, data: bytes) -> bool:
        try:
            with self._own.open("ab") as file:
                start = file.tell()
                try:
                    file.write(data)
                    file.flush()
                except OSError:
                    file.truncate(start)
                    raise
        except OSError:
            return False
        return True

    def blocks(self) -> Iterator[Block]:
        """The waiting blocks, oldest first, after those already `done`."""
        data = self._own.read_bytes() if self._own.exists() else b""
        everything = [*read_frames(data), *(block for part in self._memory for block in read_frames(part))]
        yield from everything[self._sent :]

    def done(self) -> None:
        """The block that `blocks` gave last is in the database."""
        self._sent += 1
        self.waiting -= 1
        for trace_id, future in self.promises.popleft() if self.promises else ():
            if future.set_running_or_notify_cancel():
                future.set_result(trace_id)

    def clear(self) -> None:
        """Removes the file once nothing waits."""
        if not self.waiting:
            self._own.unlink(missing_ok=True)
            self._memory.clear()
            self._size = self._sent = 0
