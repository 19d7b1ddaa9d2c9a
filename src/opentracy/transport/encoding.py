"""Undoing gzip and deflate piece by piece, within limits. Which encodings are offered is `http1`'s business."""

from __future__ import annotations

import zlib
from typing import Any

from ..core.failure import transport_failure
from ..core.wire import Failure

MAX_RATIO = 200
RATIO_FROM = 1 << 20  # a small answer may well compress better than the ratio
_PIECE = 1 << 20
_GZIP_MARK = b"\x1f\x8b"


def inflater(header: str) -> Inflater | Failure | None:
    """What undoes a Content-Encoding header's value; None when there is nothing to undo."""
    names = [n for n in (p.strip().lower() for p in header.split(",")) if n not in ("", "identity")]
    if not names:
        return None
    if len(names) > 1 or names[0] not in ("gzip", "x-gzip", "deflate"):
        return transport_failure("encoding", f"the answer's content encoding is {header[:80]!r}, which was not offered")
    return Inflater(deflate=names[0] == "deflate")


class Inflater:
    """A bounded, incremental decompressor. `failure` is set once the data is bad or grows out of proportion.

    However the data comes, the outcome is the same: what decides by two bytes waits for the second one.
    """

    __slots__ = ("_compressed", "_gzip", "_held", "_inflated", "_mark", "_undecided", "_z", "failure")

    def __init__(self, *, deflate: bool = False) -> None:
        self._gzip, self._undecided = not deflate, deflate
        self._z = zlib.decompressobj(-15 if deflate else 31)
        self._compressed = 0
        self._held = b""
        self._inflated = 0
        self._mark = b""  # the text's first byte, if it may be the beginning of something compressed once more
        self.failure: Failure | None = None

    def feed(self, data: bytes, limit: int | None) -> bytes:
        """Decoded bytes; never more than `limit` in all (None: a stream; the ratio still holds, and what stands before
        a damaged place is good)."""
        out: list[bytes] = []
        self._compressed += len(data)
        if self._undecided:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return b""
            self._undecided = False
            if _is_zlib(data):  # many servers call raw deflate (RFC 1951) "deflate", which is zlib's (RFC 1950)
                self._z = zlib.decompressobj(15)
        while data and self.failure is None:
            if self._z.eof and not self._next_member(data):
                self.failure = transport_failure("encoding", "data after the end of the compressed answer")
                break
            piece = self._step(data, partial=limit is None)
            data = self._z.unused_data or self._z.unconsumed_tail
            if self._inflated == 0 and piece:
                piece = self._mark + piece
                self._mark = piece if piece == _GZIP_MARK[:1] else b""
                if self._mark:
                    continue
                if piece.startswith(_GZIP_MARK):
                    self.failure = transport_failure("encoding", "the answer was compressed twice")
                    break
            self._inflated += len(piece)
            out.append(piece)
            if self.failure is None:
                self._check(limit)
        return b"".join(out) if len(out) != 1 else out[0]

    def close(self) -> bytes:
        """End of the body: a compressed stream must be whole. What was still held back of it."""
        if self.failure is None and not self._z.eof and self._compressed:
            self.failure = transport_failure("encoding", "the compressed answer is cut short")
        return self._mark

    def _next_member(self, data: bytes) -> bool:
        """A gzip file may consist of several members one after the other (RFC 1952)."""
        if not self._gzip or not _GZIP_MARK.startswith(data[:2]):
            return False
        self._z = zlib.decompressobj(31)
        return True

    def _step(self, data: bytes, *, partial: bool) -> bytes:
        before = self._z.copy() if partial else None
        try:
            return self._z.decompress(data, _PIECE)
        except zlib.error as e:
            self.failure = transport_failure("encoding", f"the answer's compression is damaged: {e}")
        return b"" if before is None else _until_damage(before, data)

    def _check(self, limit: int | None) -> None:
        if limit is not None and self._inflated > limit:
            self.failure = transport_failure("body_limit", f"the decompressed answer is larger than {limit >> 20} MiB")
        elif self._inflated > RATIO_FROM and self._inflated > MAX_RATIO * self._compressed:
            self.failure = transport_failure("body_limit", f"the answer's compression ratio is above {MAX_RATIO}")


def _is_zlib(data: bytes) -> bool:
    """Whether two bytes are the head of RFC 1950: deflate, a window of at most 32 KiB, a multiple of 31."""
    return data[0] & 15 == 8 and data[0] >> 4 <= 7 and int.from_bytes(data[:2], "big") % 31 == 0


def _until_damage(z: Any, data: bytes) -> bytes:
    """What comes out of these bytes before the one that cannot be."""
    out = []
    try:
        for at in range(len(data)):
            out.append(z.decompress(data[at : at + 1]))
    except zlib.error:
        pass
    return b"".join(out)
