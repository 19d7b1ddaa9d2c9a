"""Rate limits: requests and tokens per minute of a key, never exceeded in any sixty seconds.

Belongs here: the sliding window, in memory for one process and in SQLite for one machine (`shared` has the one for
many). Use is counted by the second; what lies in the last sixty seconds counts, so there is no edge at which a burst
doubles.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from .accounts import Accounts
from .transactions import writing

Kind = Literal["requests", "tokens"]
WINDOW: Final = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may go, what is left of each limit, and when to come back (seconds; 0.0 when it may go).

    `exceeded` names the limit that is full.
    """

    allowed: bool
    left: dict[Kind, int]
    retry_after: float = 0.0
    exceeded: Kind | None = None


class Limiter(Protocol):
    """Where use is counted. `take` is atomic, across processes too (but for `MemoryLimits`)."""

    def take(self, key_id: str, wanted: Mapping[Kind, int], limits: Mapping[Kind, int], now_ms: int) -> Verdict:
        """Counts `wanted` under every limit, or nothing. A kind without a limit is not counted."""

    def adjust(self, key_id: str, kind: Kind, delta: int, at_ms: int) -> None:
        """Corrects what was taken at `at_ms` once the true number is known (a use never falls below zero)."""


def judge(
    used: Mapping[Kind, Mapping[int, int]], wanted: Mapping[Kind, int], limits: Mapping[Kind, int], now_ms: int
) -> Verdict:
    """The verdict on `wanted`, given the use of each kind by second. Pure."""
    second = now_ms // 1000
    left: dict[Kind, int] = {}
    exceeded: Kind | None = None
    retry = 0.0
    for kind, limit in limits.items():
        window = {at: n for at, n in used.get(kind, {}).items() if second - WINDOW < at}
        total = sum(window.values())
        need = wanted.get(kind, 0)
        left[kind] = max(0, limit - total)
        if need > limit - total:
            wait = _wait(window, total + need - limit, second, now_ms)
            if exceeded is None or wait > retry:
                exceeded, retry = kind, wait
    if exceeded is not None:
        return Verdict(False, left, retry, exceeded)
    return Verdict(True, {kind: left[kind] - wanted.get(kind, 0) for kind in limits})


def _wait(window: Mapping[int, int], surplus: int, second: int, now_ms: int) -> float:
    """Seconds until enough of the window has passed; a whole window when the call alone is too big."""
    freed = 0
    for at in sorted(window):
        freed += window[at]
        if freed >= surplus:
            return max(0.001, at + WINDOW - now_ms / 1000)
    return float(WINDOW)


class MemoryLimits:
    """Limits of one process: a single worker needs no more."""

    def __init__(self) -> None:
        self._used: dict[str, dict[Kind, dict[int, int]]] = {}
        self._lock = threading.Lock()

    def take(self, key_id: str, wanted: Mapping[Kind, int], limits: Mapping[Kind, int], now_ms: int) -> Verdict:
        """See `Limiter`."""
        second = now_ms // 1000
        with self._lock:
            used = self._used.setdefault(key_id, {})
            for seconds in used.values():
                for old in [at for at in seconds if at <= second - WINDOW]:
                    del seconds[old]
            verdict = judge(used, wanted, limits, now_ms)
            if verdict.allowed:
                for kind in limits:
                    seconds = used.setdefault(kind, {})
                    seconds[second] = seconds.get(second, 0) + wanted.get(kind, 0)
            return verdict

    def adjust(self, key_id: str, kind: Kind, delta: int, at_ms: int) -> None:
        """See `Limiter`."""
        second = at_ms // 1000
        with self._lock:
            seconds = self._used.get(key_id, {}).get(kind)
            if seconds is not None and second in seconds:
                seconds[second] = max(0, seconds[second] + delta)


class SqliteLimits:
    """Limits of the engines and workers on one machine."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def take(self, key_id: str, wanted: Mapping[Kind, int], limits: Mapping[Kind, int], now_ms: int) -> Verdict:
        """See `Limiter`."""
        connection = self._accounts.connection()
        second = now_ms // 1000
        with writing(connection):
            connection.execute("DELETE FROM rates WHERE key_id = ? AND second <= ?", (key_id, second - WINDOW))
            used: dict[Kind, dict[int, int]] = {}
            for kind, at, count in connection.execute(
                "SELECT kind, second, used FROM rates WHERE key_id = ?", (key_id,)
            ).fetchall():
                used.setdefault(kind, {})[at] = count
            verdict = judge(used, wanted, limits, now_ms)
            if verdict.allowed:
                connection.executemany(
                    "INSERT INTO rates VALUES (?, ?, ?, ?) ON CONFLICT (key_id, kind, second) "
                    "DO UPDATE SET used = used + excluded.used",
                    [(key_id, kind, second, wanted.get(kind, 0)) for kind in limits],
                )
        return verdict

    def adjust(self, key_id: str, kind: Kind, delta: int, at_ms: int) -> None:
        """See `Limiter`."""
        self._accounts.connection().execute(
            "UPDATE rates SET used = max(0, used + ?) WHERE key_id = ? AND kind = ? AND second = ?",
            (delta, key_id, kind, at_ms // 1000),
        )
