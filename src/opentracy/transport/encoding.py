"""Undoing gzip and deflate piece by piece, within limits. Which encodings are offered is `http1`'s business."""

from __future__ import annotations

import zlib

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
    """A bounded, incremental decompressor. `failure` is set once the data is bad or grows out of proportion."""

    __slots__ = ("_compressed", "_deflate", "_held", "_inflated", "_z", "failure")

    def __init__(self, *, deflate: bool = False) -> None:
        self._deflate = deflate
        self._z = zlib.decompressobj(15 if deflate else 31)
        self._compressed = 0
        self._held = b""
        self._inflated = 0
        self.failure: Failure | None = None

    def feed(self, data: bytes, limit: int | None) -> bytes:
        """Decoded bytes; never more than `limit` in all (None: unlimited, the ratio still holds)."""
        out: list[bytes] = []
        first = self._compressed == len(self._held)
        self._compressed += len(data)
        if self._deflate and first:
            # one byte alone does not tell raw deflate from zlib's, and zlib says nothing until the second
            data = self._held + data
            self._held = data if len(data) < 2 else b""
            if self._held:
                return b""
        while data and self.failure is None:
            if self._z.eof and not self._next_member(data):
                self.failure = transport_failure("encoding", "data after the end of the compressed answer")
                break
            piece = self._step(data, raw_allowed=first)
            first = False
            data = self._z.unused_data or self._z.unconsumed_tail
            if self._inflated == 0 and piece.startswith(_GZIP_MARK):
                self.failure = transport_failure("encoding", "the answer was compressed twice")
                break
            self._inflated += len(piece)
            out.append(piece)
            self._check(limit)
        return b"".join(out) if len(out) != 1 else out[0]

    def close(self) -> None:
        """End of the body: a compressed stream must be whole."""
        if self.failure is None and not self._z.eof and self._compressed:
            self.failure = transport_failure("encoding", "the compressed answer is cut short")

    def _next_member(self, data: bytes) -> bool:
        """A gzip file may consist of several members one after the other (RFC 1952)."""
        if self._deflate or not _GZIP_MARK.startswith(data[:2]):
            return False
        self._z = zlib.decompressobj(31)
        return True

    def _step(self, data: bytes, raw_allowed: bool) -> bytes:
        try:
            return self._z.decompress(data, _PIECE)
        except zlib.error as e:
            problem = e
        if raw_allowed and self._deflate:  # many servers call raw deflate (RFC 1951) "deflate"
            self._z = zlib.decompressobj(-15)
            try:
                return self._z.decompress(data, _PIECE)
            except zlib.error as e:
                problem = e
        self.failure = transport_failure("encoding", f"the answer's compression is damaged: {problem}")
        return b""

    def _check(self, limit: int | None) -> None:
        if limit is not None and self._inflated > limit:
            self.failure = transport_failure("body_limit", f"the decompressed answer is larger than {limit >> 20} MiB")
        elif self._inflated > RATIO_FROM and self._inflated > MAX_RATIO * self._compressed:
            self.failure = transport_failure("body_limit", f"the answer's compression ratio is above {MAX_RATIO}")
