"""Answers that come whole, in one read, recognised at a third of what reading them piece by piece costs.

Pure. Belongs here: telling whether some bytes are exactly one complete good answer with nothing about it that
`http1.ResponseReader` would have to look at. Whatever else they are, that reader is given the same bytes and says so.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import httptools

MAX_MISSES = 4  # in a row; a provider whose answers come in pieces is not asked again


class _Marks:
    """What a parser calls, none of it in Python: pieces of the body are kept, beginnings and ends are counted."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.next = count().__next__
        self.on_body = self.pieces.append
        self.on_message_begin = self.on_message_complete = self.next


class AtOnce:
    """One connection's eye for such answers."""

    __slots__ = ("_expected", "_marks", "_misses", "_parser")

    def __init__(self) -> None:
        self._misses = 0
        self._renew()

    def _renew(self) -> None:
        self._marks = _Marks()
        self._expected = 2
        self._parser: Any = httptools.HttpResponseParser(self._marks)

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one such answer; else None."""
        if self._misses >= MAX_MISSES:
            return None
        marks = self._marks
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._missed()
            return None
        # one beginning and one end, both counted, and nothing begun after them
        if marks.next() != self._expected or not _plain(data[: data.find(b"\r\n\r\n")].lower()):
            self._missed()
            return None
        self._expected += 3
        self._misses = 0
        pieces = marks.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return body

    def _missed(self) -> None:
        """The parser may stand in the middle of something."""
        self._misses += 1
        self._renew()


def _plain(head: bytes) -> bool:
    """Whether a head in lower case is that of a good answer as it stands, after which the connection stays open."""
    if not head.startswith(b"http/1.1 200") or head.find(b"content-encoding") >= 0:
        return False
    at = head.find(b"connection:")  # a proxy's counts as well
    return at < 0 or (
        head.find(b"connection:", at + 1) < 0 and head[at + 11 :].partition(b"\r")[0].strip() == b"keep-alive"
    )
