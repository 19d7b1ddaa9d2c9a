"""Memory that is free, but not yet given back to the system.

Belongs here: asking the C library for it. Bursts of work (a hundred thousand traces projected at once) leave a process
large for ever otherwise: each thread that works so has a heap of its own, of which what is free serves no other thread.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library than glibc
        return None


_ARENA_MAX = -8  # of malloc.h


def share_heaps() -> None:
    """Two heaps for all threads of this process. To be called before there are any; does nothing with another C library
    than glibc, or where its own variable says how many."""
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    try:
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)
    except (AttributeError, OSError):
        return


def give_back() -> None:
    """Gives free pages back; does nothing where the C library cannot."""
    trim = _trim()
    if trim is not None:
        trim(0)
