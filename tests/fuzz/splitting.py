"""How an input says in what pieces it comes."""

from __future__ import annotations


def pieces(data: bytes) -> tuple[list[bytes], bytes]:
    """(the bytes cut as their own first byte says, the bytes): the input decides about its own splitting."""
    if not data:
        return [], b""
    step, body = data[0] % 17 + 1, data[1:]
    return [body[i : i + step] for i in range(0, len(body), step)], body
