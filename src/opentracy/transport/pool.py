"""Which connections lie idle and how many are open: bookkeeping without locks, sockets or a clock.

`sync` guards it with a lock, `aio` needs none. A connection is anything with `expires`; whether it still lives is for
its owner to find out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from ..core.wire import Origin

MAX_PER_ORIGIN = 2000
MAX_IDLE = 64
IDLE_S = 30.0


class Idle(Protocol):
    """What the pool needs to know of a connection."""

    expires: float


C = TypeVar("C", bound=Idle)


class Pool(Generic[C]):
    """Idle connections by origin, the youngest first, and the number of open ones."""

    __slots__ = ("_idle", "_open", "_sweep_at", "limit")

    def __init__(self, limit: int = MAX_PER_ORIGIN) -> None:
        self.limit = limit
        self._idle: dict[Origin, list[C]] = {}
        self._open: dict[Origin, int] = {}
        self._sweep_at = 0.0

    def take(self, origin: Origin) -> C | None:
        """The connection used last; it may have died since."""
        idle = self._idle.get(origin)
        return idle.pop() if idle else None

    def keep(self, origin: Origin, connection: C, now: float) -> bool:
        """`put` where nothing has to be closed for it, which is nearly always; False when it must be called."""
        idle = self._idle.get(origin)
        if idle is None or now >= self._sweep_at or len(idle) >= MAX_IDLE:
            return False
        idle.append(connection)
        return True

    def put(self, origin: Origin, connection: C, now: float) -> list[C]:
        """Keeps a connection for later. Returns those that must be closed for it (expired, or too many); their count is
        still to be given back by `forget`."""
        gone: list[C] = []
        if now >= self._sweep_at:
            self._sweep_at = now + IDLE_S
            gone = self._expired(now)
        idle = self._idle.setdefault(origin, [])
        idle.append(connection)
        while len(idle) > MAX_IDLE:
            gone.append(idle.pop(0))
        return gone

    def _expired(self, now: float) -> list[C]:
        gone: list[C] = []
        for origin, idle in list(self._idle.items()):
            gone += [c for c in idle if c.expires <= now]
            idle[:] = [c for c in idle if c.expires > now]
            if not idle:
                del self._idle[origin]
        return gone

    def remove(self, origin: Origin, connection: C) -> None:
        """An idle connection died; nothing if it was not idle."""
        idle = self._idle.get(origin)
        if idle and connection in idle:
            idle.remove(connection)

    def open(self, origin: Origin) -> bool:
        """Counts a new connection; False when the origin has as many as it may."""
        count = self._open.get(origin, 0)
        if count >= self.limit:
            return False
        self._open[origin] = count + 1
        return True

    def forget(self, origin: Origin) -> None:
        """A connection was closed."""
        count = self._open.get(origin, 0)
        if count > 1:
            self._open[origin] = count - 1
        else:
            self._open.pop(origin, None)

    def drain(self) -> Iterator[C]:
        """Every idle connection, leaving none."""
        held, self._idle = self._idle, {}
        for idle in held.values():
            yield from idle
