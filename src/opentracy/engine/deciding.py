"""Decisions of a router whose embedder runs a model: on a thread of its own, and no later than a deadline.

Belongs here: the thread, the deadline, and a new thread in place of one that hangs. Not here: the decision (`route`).
The static table decides in a fraction of a millisecond and never comes here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

log = logging.getLogger("opentracy.engine")
T = TypeVar("T")
#: seconds until the default model answers instead
DEADLINE_S: Final = 0.25
#: threads that hang are left alone; with so many of them there are no further ones, and the default answers
MOST_HANGING: Final = 8


class _Asked:
    """A decision that somebody waits for."""

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work, self.future = work, future
        self.begun = self.given_up = False


class _Thread:
    """One that decides; a daemon, so that a hanging embedder holds up nobody's end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.asked: SimpleQueue[_Asked] = SimpleQueue()
        self.replaced = False
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="opentracy-deciding", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self.replaced:
            one = self.asked.get()
            if one.given_up:
                continue
            one.begun = True
            try:
                result, error = one.work(), None
            except BaseException as e:  # an embedder that ends its thread must not end this one
                result, error = None, e
            try:
                self._loop.call_soon_threadsafe(_tell, one, result, error)
            except RuntimeError:  # the loop is closed
                return


def _tell(one: _Asked, result: object, error: BaseException | None) -> None:
    if one.future.done():
        return
    if error is None:
        one.future.set_result(result)
    else:
        one.future.set_exception(error if isinstance(error, Exception) else _Died(error.__class__.__name__))


class _Died(Exception):
    """The embedder ended its thread, or tried to."""


class Decider:
    """`ask` gives what `work` returns, or `late` where that takes too long or ends its thread. For the event loop."""

    def __init__(self) -> None:
        self._thread: _Thread | None = None
        self._hanging: list[_Asked] = []

    async def ask(self, work: Callable[[], T], late: Callable[[str], T]) -> T:
        """`late` is told why: `router_timeout`, or `router_hangs` where no thread is left to ask."""
        self._hanging = [one for one in self._hanging if not one.future.done()]
        if len(self._hanging) >= MOST_HANGING:
            return late("router_hangs")
        loop = asyncio.get_running_loop()
        if self._thread is None or not self._thread.alive:
            self._thread = _Thread(loop)
        thread = self._thread
        one = _Asked(work, loop.create_future())
        thread.asked.put(one)
        done, _ = await asyncio.wait([one.future], timeout=DEADLINE_S)
        if done:
            try:
                answer: T = one.future.result()
            except _Died as e:
                return late(f"router_error: {e}")
            return answer
        one.given_up = True
        if one.begun:
            self._hanging.append(one)
            if self._thread is thread:
                log.warning("the router's embedder has not answered for %g s; a new thread takes its place", DEADLINE_S)
                thread.replaced = True
                self._thread = None
        return late("router_timeout")
