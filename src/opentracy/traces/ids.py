"""Trace ids: UUID version 7 (RFC 9562) written as 32 lowercase hex digits, the form W3C trace context uses too.

Belongs here: making an id and reading the time out of one. What an id names stands in `model`.
"""

from __future__ import annotations

import os
import re
import time

# What follows the time and the version, made many at once. Taking one is a single step, so threads never get the same;
# a fork must not hand the same ones to every worker.
_tails: list[str] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tails.clear)

_HEX32 = re.compile(r"[0-9a-f]{32}")


def trace_id_at(ms: int, entropy: bytes) -> str:
    """The version 7 id for `ms` (milliseconds since 1970, 48 bits) and ten bytes of `entropy` (74 bits are used)."""
    bits = int.from_bytes(entropy, "big")
    return f"{ms & 0xFFFFFFFFFFFF:012x}7{bits & 0xFFF:03x}{0x8000000000000000 | (bits >> 12) & 0x3FFFFFFFFFFFFFFF:016x}"


def new_trace_id(ms: int | None = None) -> str:
    """A fresh id for `ms` (now, if not given), with 72 bits of the system's randomness."""
    if ms is None:
        ms = time.time_ns() // 1_000_000
    try:
        tail = _tails.pop()
    except IndexError:
        tail = _more_tails()
    return "%012x7%s" % (ms, tail)  # noqa: UP031  (half the time of an f-string)


def _more_tails() -> str:
    digits = os.urandom(9 * 513).hex()
    made = [f"{digits[at : at + 3]}8{digits[at + 3 : at + 18]}" for at in range(0, len(digits), 18)]
    _tails.extend(made[1:])
    return made[0]


def id_time_ms(trace_id: str) -> int | None:
    """Milliseconds since 1970 held in a version 7 id; None when the id is of another kind."""
    if len(trace_id) != 32 or trace_id[12] != "7":
        return None
    return int(trace_id[:12], 16)


def normalise_id(text: str) -> str:
    """The stored form of an id as a person or a client writes it (dashes and upper case are accepted).

    Raises ValueError when it is not 32 hex digits.
    """
    compact = text.strip().replace("-", "").lower()
    if not _HEX32.fullmatch(compact):
        raise ValueError(f"Not a trace id: {text[:64]!r} (expected 32 hexadecimal digits, dashes allowed)")
    return compact
