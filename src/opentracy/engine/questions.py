"""Threads for questions to the store: short ones never stand behind long ones, and nobody waits without end.

Belongs here: lanes, how many may wait in one, and the time a question may take. Not here: the questions. What else
needs a thread (names of hosts, credentials, flushing) has the event loop's own pool, which no question can fill.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from opentracy.traces.sqlite import interrupt

from .errors import Refused

T = TypeVar("T")
#: seconds on a thread after which a question is stopped; what a dashboard asks takes a hundredth of it
BUDGET_S: Final = 20.0
#: seconds that a question may wait for its thread
PATIENCE_S: Final = 10.0
_AGAIN_S: Final = 0.1  # an interrupt between two statements stops nothing, so it is repeated


class _Place:
    """A question in a lane: the thread it runs on since when, and whether it was given up."""

    __slots__ = ("guard", "over", "since", "thread")

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.thread: int | None = None
        self.since: float | None = None
        self.over = False

    def run(self, work: Callable[[], T]) -> T:
        """On the thread."""
        with self.guard:
            self.since, self.thread = time.monotonic(), threading.get_ident()
        try:
            return work()
        finally:
            with self.guard:  # whatever runs on this thread next is not ours to interrupt
                self.thread = None

    def stop(self) -> None:
        """Interrupts it, if it runs."""
        with self.guard:
            self.over = True
            if self.thread is not None:
                interrupt(self.thread)


class Lane:
    """Some threads, and a bounded queue before them. They begin with the first question, in the process that asks."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name, self.threads, self.most = name, threads, threads + waiting
        self.budget, self.patience = BUDGET_S, PATIENCE_S
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[Future[Any], _Place] = {}

    @property
    def length(self) -> int:
        """Questions that run or wait."""
        return len(self._asked)

    async def ask(self, work: Callable[[], T], *, begun: bool = False) -> T:
        """Runs it on one of the threads. Refused 503 when too many wait, when it waits too long, or takes too long.

        `begun`: part of an answer whose beginning the client has; such a part is neither refused nor given up.
        Where the asker is gone (cancelled) the question is not begun, or interrupted.
        """
        if not begun and len(self._asked) >= self.most:
            raise busy()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, f"opentracy-{self.name}")
        place = _Place()
        future = self._pool.submit(place.run, work)
        self._asked[future] = place
        future.add_done_callback(self._done)
        timer = _Timer(self, future, place, begun=begun)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if place.over:  # given up while it waited, or at the end of the engine
                raise busy() from None
            raise
        except Exception:
            if place.over:
                text = f"The answer took longer than {self.budget:g} s to find: narrow the time range or the filter"
                raise Refused(503, text, code="query_timeout", headers={"retry-after": "10"}) from None
            raise
        finally:
            timer.leave()

    def _done(self, future: Future[Any]) -> None:
        self._asked.pop(future, None)

    def stop(self) -> None:
        """Ends what waits and what runs; the lane may be used again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for place in list(self._asked.values()):
                place.stop()
            pool.shutdown(wait=False, cancel_futures=True)


class _Timer:
    """Gives a question up when it has waited too long, and interrupts it when it has run too long or nobody waits."""

    def __init__(self, lane: Lane, future: Future[Any], place: _Place, *, begun: bool) -> None:
        self._lane, self._future, self._place = lane, future, place
        self._loop = asyncio.get_running_loop()
        self._handle = None if begun else self._loop.call_later(lane.patience, self._look)

    def leave(self) -> None:
        """The asker is gone, with the answer or without."""
        if self._handle is not None:
            self._handle.cancel()
        if not self._future.done():
            self._chase()

    def _look(self) -> None:
        place, again = self._place, _AGAIN_S
        if place.since is None:
            place.over = True
            if self._future.cancel():
                return
            place.over = False  # it has begun this moment
        elif (left := place.since + self._lane.budget - time.monotonic()) > 0:
            again = left
        else:
            place.stop()
        self._handle = self._loop.call_later(again, self._look)

    def _chase(self) -> None:
        if not self._future.done():
            self._place.stop()
            self._loop.call_later(_AGAIN_S, self._chase)


def busy() -> Refused:
    """More questions than can be answered in time."""
    text = "The store is asked more than it can answer; ask again in a moment"
    return Refused(503, text, code="store_busy", headers={"retry-after": "1"})


#: what is found by an index, or read from sums
SHORT: Final = Lane("questions", 4, 256)
#: reports over thousands of traces, data sets and exports: more at a time would leave the others none of the processor
LONG: Final = Lane("reports", 2, 32)

#: what a worker asks on its own account, round by round: on one thread, so with one connection to the store for good
OWN: Final = Lane("rounds", 1, 0)


def stop() -> None:
    """At the end of a worker: nobody waits for an answer any more."""
    for lane in (SHORT, LONG, OWN):
        lane.stop()
