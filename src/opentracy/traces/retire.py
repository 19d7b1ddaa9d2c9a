"""Retention in a process of its own: `python -m opentracy.traces.retire PATH METRICS_DAYS BODIES_DAYS SECONDS`.

Belongs here: the pace, and ending with whoever began it. Not here: what is removed (`retention`). A thread of the
engine would take the interpreter away from requests for as long as it unpacks what it removes; another process at a low
priority takes what the others leave, and the write lock for some milliseconds at a time. Zero days keep for ever.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from .retention import Retention, prune
from .sqlite import Store

#: exit code that says that the time was up before the work
MORE: Final = 9
#: how much of the time it works; the rest belongs to those who write traces
DUTY: Final = 0.5
#: far below requests, yet never so low that the write lock is held for long while others have the processor
NICENESS: Final = 10


def main(arguments: Sequence[str]) -> int:
    """Removes what is old, block by block, for at most so many seconds."""
    path, metrics, bodies, seconds = arguments[0], float(arguments[1]), float(arguments[2]), float(arguments[3])
    parent = os.getppid()
    os.nice(NICENESS)
    store = Store.open(path, create=False, check=False)
    keep = Retention(metrics or None, bodies or None)
    end = time.monotonic() + seconds
    with contextlib.closing(store.connect(timeout=5.0)) as connection:
        while time.monotonic() < end and os.getppid() == parent:
            began = time.monotonic()
            # a budget of nothing: one slice
            done = prune(store, connection, keep, time.time_ns() // 1_000_000, seconds=0.0, blocks=1)
            if not done.more:
                return 0
            time.sleep((time.monotonic() - began) * (1 / DUTY - 1))
    return MORE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
