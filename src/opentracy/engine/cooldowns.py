"""Telling the other engines which deployments rest, and hearing it from them, through Redis.

Belongs here: the thread that asks and the border to the event loop. Not here: what a deployment's state is (`health`),
how Redis keeps it (`opentracy.traces.shared`). While Redis is away every engine goes by what it sees itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping

from opentracy.traces.shared import RedisCooldowns, SharedUnavailable

from .health import Health

log = logging.getLogger("opentracy.engine")
PAUSE_S = 0.5
AWAY_S = 5.0


class Cooldowns:
    """The exchange of one worker, twice a second, on a thread of its own."""

    def __init__(self, url: str, prefix: str, health: Health, loop: asyncio.AbstractEventLoop) -> None:
        self._redis = RedisCooldowns(url, prefix=prefix)
        self._health = health
        self._loop = loop
        self._told: set[str] = set()
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="opentracy-cooldowns", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends; returns at once."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(AWAY_S if self._away else PAUSE_S):
            try:
                resting = asyncio.run_coroutine_threadsafe(self._ours(), self._loop).result(10.0)
                well = [name for name in self._told if name not in resting]
                heard = self._redis.exchange(resting, well)
                self._told = set(resting)
                self._away = False
                if heard:
                    self._loop.call_soon_threadsafe(self._health.told, heard)
            except SharedUnavailable as e:
                if not self._away:
                    log.warning("cooldowns of all engines: %s", e)
                self._away = True
            except (RuntimeError, TimeoutError):
                if self._loop.is_closed():
                    break
        self._redis.close()

    async def _ours(self) -> Mapping[str, tuple[float, str]]:
        return self._health.resting()
