"""Notices that the event loop stands still, and says where.

Belongs here: one thread per worker that looks at a heartbeat. While the loop is blocked nothing else of the worker
could tell: every request waits, and the reason is usually one line of code that computes or waits where it must not.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

log = logging.getLogger("opentracy.engine")

BLOCKED_S = 0.9
_FRAMES = 6


class Watchdog:
    """Watches the thread that makes it. `beat`: the monotonic time at which the loop last went round.

    One line for each time that the loop stood still longer than `blocked` seconds, while it still does: how long so
    far, and the innermost frames (file, line and function, never a value). `noticed` counts them.
    """

    def __init__(self, beat: Callable[[], float], blocked: float = BLOCKED_S) -> None:
        self.noticed = 0
        self._beat = beat
        self._blocked = blocked
        self._watched = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="opentracy-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the watching."""
        self._over.set()

    def _watch(self) -> None:
        told = 0.0
        while not self._over.wait(self._blocked / 8):
            beat = self._beat()
            spent = time.monotonic() - beat
            if spent > self._blocked and beat != told:
                told = beat
                self.noticed += 1
                log.warning("the event loop has stood still for %.1f s: %s", spent, self._where())

    def _where(self) -> str:
        frame = sys._current_frames().get(self._watched)
        found = traceback.extract_stack(frame, _FRAMES) if frame is not None else []
        return " > ".join(f"{f.name} ({f.filename.rpartition('opentracy/')[2]}:{f.lineno})" for f in found) or "unknown"
