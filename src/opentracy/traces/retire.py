"""Retention in a process of its own: `python -m opentracy.traces.retire PATH METRICS_DAYS BODIES_DAYS SECONDS`.

Belongs here: the pace, and ending with whoever began it. Not here: what is removed (`retention`). A thread of the
engine would take the interpreter away from requests for as long as it unpacks what it removes; another process at a low
priority (`maintenance` begins it so) takes what the others leave, and the write lock for some milliseconds at a time.
Zero days keep for ever.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .retention import Retention, prune
from .sqlite import Store
from .words import PART_MS

#: exit code that says that the time was up before the work
MORE: Final = 9
#: how much of the time it works while nobody is served; the rest belongs to those who write traces
DUTY: Final = 0.5
#: the same while traces arrive: so little that hardly a request in a hundred meets it, and more only where less would
#: not keep up with them. A request that meets a slice may wait as long as it lasts, whatever the priorities: with
#: shorter rests these would be the 99th percentile.
BUSY_DUTY: Final = 0.005
#: seconds between looks at how many arrive
LOOK_S: Final = 1.0
#: it removes this many times faster than as many arrive
AHEAD: Final = 1.5
#: far below requests, yet never so low that the write lock is held for long while others have the processor
NICENESS: Final = 10


def main(arguments: Sequence[str]) -> int:
    """Removes what is old, block by block, for at most so many seconds."""
    path, metrics, bodies, seconds = arguments[0], float(arguments[1]), float(arguments[2]), float(arguments[3])
    parent = os.getppid()
    end = time.monotonic() + seconds
    for step in slices(path, Retention(metrics or None, bodies or None)):
        time.sleep(step.pause)
        if time.monotonic() > end or os.getppid() != parent:
            return MORE
    return 0


class Step(NamedTuple):
    """What was just done: rows or texts that were removed, and seconds to rest before the next."""

    removed: int
    pause: float


def slices(path: str | Path, keep: Retention) -> Iterator[Step]:
    """Removes a block at each step; ends when nothing is old."""
    store = Store.open(path, create=False, check=False)
    with contextlib.closing(store.connect(timeout=5.0)) as connection:
        pace = Pace(connection)
        while True:
            began = time.monotonic()
            # a budget of nothing: one slice
            now = time.time_ns() // 1_000_000
            done = prune(store, connection, keep, now, seconds=0.0, blocks=1, words_later_ms=PART_MS)
            if not done.more:
                return
            removed = done.bodies + done.rows
            yield Step(removed, pace.pause(time.monotonic() - began, removed))


class Pace:
    """How long to rest after a slice, from what it took and from how many traces arrive meanwhile."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection, self._clock = connection, clock
        self._looked = clock()
        self._newest = int(connection.execute("SELECT ifnull(max(id), 0) FROM blocks").fetchone()[0])
        self._per_second = 1.0  # unknown at first: taken for busy
        self._spent = self._removed = 0.0

    def pause(self, took: float, removed: int) -> float:
        """Seconds to rest after a slice of `took` seconds that removed so many rows or texts."""
        self._spent += took
        self._removed += removed
        seconds = self._clock() - self._looked
        if seconds >= LOOK_S:
            self._newest, rows = self._arrived(self._newest)
            self._per_second, self._looked = rows / seconds, self._clock()
        return took * (1 / self._duty() - 1)

    def _duty(self) -> float:
        if self._per_second < 1:
            return DUTY
        # a trace is removed twice, its text and later its row
        needed = 2 * self._per_second * self._spent / max(1.0, self._removed) * AHEAD
        return min(DUTY, max(BUSY_DUTY, needed))

    def _arrived(self, after: int) -> tuple[int, int]:
        """The newest block, and the rows of those after one."""
        row = self._connection.execute(
            "SELECT ifnull(max(id), ?), ifnull(sum(rows), 0) FROM blocks WHERE id > ?", (after, after)
        ).fetchone()
        return int(row[0]), int(row[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
