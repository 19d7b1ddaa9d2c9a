"""Memory that is free, but not yet given back to the system.

Belongs here: asking the C library for it. Bursts of work (a hundred thousand traces projected at once) leave a process
large for ever otherwise.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library than glibc
        return None


def give_back() -> None:
    """Gives free pages back; does nothing where the C library cannot."""
    trim = _trim()
    if trim is not None:
        trim(0)
