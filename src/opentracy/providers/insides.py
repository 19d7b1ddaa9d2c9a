"""Texts of a stream's events as they stand in JSON: the inside of a string, checked and never decoded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# escapes by number are left to a decoder, which knows about surrogates
INSIDE: Final = rb'[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*+'
_inside = re.compile(INSIDE).fullmatch


def is_inside(data: bytes) -> bool:
    """Whether bytes can stand inside a JSON string as they are, without an escape by number."""
    return _inside(data) is not None and is_text(data)


def joined(texts: Sequence[bytes]) -> bytes | None:
    """All of them in a row, if each `is_inside`."""
    whole = b"".join(texts)
    if whole.find(b"\\") >= 0 or whole.find(b'"') >= 0:
        good = all(map(_inside, texts))
    else:
        # printable says more than is needed, and is found out in a tenth of the time
        good = (whole.isascii() and whole.decode().isprintable()) or _inside(whole) is not None
    return whole if good and (whole.isascii() or all(map(is_text, texts))) else None


def is_text(data: bytes) -> bool:
    """Whether bytes are UTF-8. A typed decode does not say so of what it passes over."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True
