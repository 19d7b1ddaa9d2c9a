"""The binary event-stream framing of AWS (`application/vnd.amazon.eventstream`): bytes in, checked messages out.

Source: the "Event stream encoding" chapter of the Smithy/AWS specifications. A frame, big endian:
u32 total length, u32 length of the headers, u32 CRC-32 of these eight bytes, headers, payload, u32 CRC-32 of all of it.
A length is believed only after its checksum held, and a payload leaves this module only after the frame's did.

Does not belong here: what the messages mean.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

MAX_FRAME = 24 << 20
OVERHEAD = 16

_PRELUDE = struct.Struct(">III")
_U32 = struct.Struct(">I")
# value sizes by header type; 6 (bytes) and 7 (string) carry a u16 length of their own
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Message(NamedTuple):
    """One frame. `headers` holds its string headers only: the others say nothing that a reader of models needs."""

    headers: Mapping[str, str]
    payload: bytes


class EventStreamParser:
    """Bytes in, messages out. `error` says what was wrong with a frame; nothing is parsed after that."""

    __slots__ = ("_buffer", "_head", "_known", "_need", "_pieces", "_size", "error")

    def __init__(self) -> None:
        self.error: str | None = None
        self._buffer = b""
        self._pieces: list[bytes] = []  # what came while the buffer was known to be too short; joined once
        self._size = 0
        self._need = 12
        self._head = 0  # length of the headers of the frame whose prelude was checked
        self._known: dict[bytes, Mapping[str, str]] = {}  # the same few header blocks come all the time

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame."""
        return self._size

    def feed(self, data: bytes) -> list[Message]:
        """Messages completed by `data`; those before a damaged frame are still returned together with `error`."""
        if self.error is not None or not data:
            return []
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._need:
            return []
        buffer = b"".join((self._buffer, *self._pieces))
        self._pieces.clear()
        out: list[Message] = []
        position = self._scan(buffer, out)
        self._buffer = buffer[position:] if position else buffer
        self._size = len(self._buffer)
        return out

    def _scan(self, buffer: bytes, out: list[Message]) -> int:
        """Takes whole frames off the front; where the first unfinished one begins."""
        position, end = 0, len(buffer)
        while end - position >= 12:
            total, head, crc = _PRELUDE.unpack_from(buffer, position)
            if zlib.crc32(buffer[position : position + 8]) != crc:
                return self._fail("the checksum of a frame's lengths does not match", end)
            if not OVERHEAD <= total <= MAX_FRAME or head > total - OVERHEAD:
                return self._fail(f"impossible frame lengths ({total} bytes, {head} of headers)", end)
            stop = position + total
            if stop > end:
                self._need = total
                return position
            if zlib.crc32(buffer[position : stop - 4]) != _U32.unpack_from(buffer, stop - 4)[0]:
                return self._fail("the checksum of a frame does not match", end)
            headers = self._headers(buffer[position + 12 : position + 12 + head])
            if headers is None:
                return self._fail("unreadable headers of a frame", end)
            out.append(Message(headers, buffer[position + 12 + head : stop - 4]))
            position = stop
        self._need = 12
        return position

    def _headers(self, block: bytes) -> Mapping[str, str] | None:
        headers = self._known.get(block)
        if headers is None:
            headers = read_headers(block)
            if headers is not None and len(self._known) < 64:
                self._known[block] = headers
        return headers

    def _fail(self, why: str, end: int) -> int:
        self.error = why
        return end


def read_headers(block: bytes) -> dict[str, str] | None:
    """The string headers of a block; None when it is malformed (overrun, unknown type, text that is not UTF-8)."""
    out: dict[str, str] = {}
    position, end = 0, len(block)
    while position < end:
        name_end = position + 1 + block[position]
        if name_end >= end:
            return None
        kind = block[name_end]
        value = name_end + 1
        if kind in (6, 7):
            if value + 2 > end:
                return None
            size = int.from_bytes(block[value : value + 2], "big")
            value += 2
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            return None
        if value + size > end:
            return None
        if kind == 7:
            try:
                out[block[position + 1 : name_end].decode()] = block[value : value + size].decode()
            except UnicodeDecodeError:
                return None
        position = value + size
    return out


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame with string headers: the inverse of the parser, for stand-in servers and tests."""
    block = b"".join(
        bytes([len(name.encode())]) + name.encode() + b"\x07" + len(value.encode()).to_bytes(2, "big") + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack(">II", OVERHEAD + len(block) + len(payload), len(block))
    frame = lengths + _U32.pack(zlib.crc32(lengths)) + block + payload
    return frame + _U32.pack(zlib.crc32(frame))
