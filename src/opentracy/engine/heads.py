"""A request's head as the same client repeats it on the same connection: every byte but the length of the body.

Pure. Belongs here: recognising such a head without parsing it again. Not here: parsing (httptools, called by `http`),
and what a head means. One is remembered only after the parser accepted it, so whatever matches is as valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})\r\n", re.IGNORECASE)
_MAX_HEAD = 4096


class Head:
    """What every request with this head has in common. `headers` lacks the length; `admitted`: the owner's note, and
    `direct`: who is asked first, ahead of everybody else, and takes the request or leaves it."""

    __slots__ = ("_after", "_before", "admitted", "direct", "headers", "method", "path", "query")

    def __init__(
        self, before: bytes, after: bytes, method: str, path: bytes, query: bytes, headers: dict[bytes, bytes]
    ) -> None:
        self._before = before
        self._after = after
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.admitted: Any = None
        self.direct: Callable[[Any], bool] | None = None

    def body_of(self, data: bytes) -> bytes | None:
        """The body, when `data` is exactly one request with this head; else None."""
        before = self._before
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + 13)
        if end < 0 or not data.startswith(self._after, end):
            return None
        length = data[start:end]
        body = end + len(self._after)
        if not length.isdigit() or int(length) != len(data) - body:
            return None
        return data[body:]


def learn(data: bytes, method: str, path: bytes, query: bytes, headers: dict[bytes, bytes]) -> Head | None:
    """The head of `data`, which the parser has just read as one whole request; None if it may not be repeated."""
    if method != "POST" or b"expect" in headers or b"transfer-encoding" in headers or b"upgrade" in headers:
        return None
    end = data.find(b"\r\n\r\n", 0, _MAX_HEAD) + 4
    found = _LENGTH.search(data, 0, end)
    if found is None or int(found[1]) != len(data) - end:
        return None
    rest = {name: value for name, value in headers.items() if name != b"content-length"}
    return Head(data[: found.start(1)], data[found.end(1) : end], method, path, query, rest)
