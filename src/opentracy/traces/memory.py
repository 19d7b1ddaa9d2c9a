"""Memory that is free, but not yet given back to the system.

Belongs here: asking the C library for it. Bursts of work (a hundred thousand traces projected at once) leave a process
large for ever otherwise: each thread that works so has a heap of its own, of which what is free serves no other thread.
"""

from __future__ import annotations

import contextlib
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


#: numbers of malloc.h, with the variable by which whoever starts the process says otherwise, and what we say
_HEAPS = (-8, "MALLOC_ARENA_MAX", 2)
_GIVEN_BACK = (-1, "MALLOC_TRIM_THRESHOLD_", 1 << 20)
_ON_ITS_OWN = (-3, "MALLOC_MMAP_THRESHOLD_", 1 << 20)


def share_heaps() -> None:
    """Two heaps for all threads of this process, and of each at most a free megabyte kept at its end.

    Left alone, glibc keeps twice the largest buffer that was ever freed, and what is free at the end of a heap that is
    not the main thread's no `give_back` reaches. To be called before there are threads; does nothing with another C
    library, or where its own variable says how much.
    """
    for number, variable, value in (_HEAPS, _GIVEN_BACK, _ON_ITS_OWN):
        if variable not in os.environ:
            with contextlib.suppress(AttributeError, OSError):
                ctypes.CDLL(None).mallopt(number, value)


def give_back() -> None:
    """Gives free pages back; does nothing where the C library cannot."""
    trim = _trim()
    if trim is not None:
        trim(0)
