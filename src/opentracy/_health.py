"""How well a router's deployments have been doing: pure but for a lock; the clock is an argument.

One deployment rests after several failures in a row, after a rate limit for as long as the provider asked, and after a
refused key for a while. A mistake of the caller's (400, 404, 422 ...) says nothing about the deployment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .core.wire import Failure, Target

RATE_LIMIT_S = 5.0
MAX_RATE_LIMIT_S = 60.0
REFUSED_KEY_S = 60.0
_SMOOTHING = 0.3


@dataclass(slots=True)
class _State:
    failures: int = 0
    resting_until: float = 0.0
    latency: float | None = None


class Health:
    """A `plan.Guard` over deployments, known by `Target.deployment`. Safe for threads."""

    def __init__(self, allowed_failures: int, cooldown: float, clock: Callable[[], float]) -> None:
        self._allowed = allowed_failures
        self._cooldown = cooldown
        self._clock = clock
        self._states: dict[str, _State] = {}
        self._lock = threading.Lock()

    def admit(self, target: Target) -> str | None:
        """None, or why the deployment is not to be tried now."""
        left = self.resting(target)
        return f"{target.name} rests for another {left:.1f} s after failures" if left > 0 else None

    def may_retry(self, target: Target) -> bool:
        """A deployment that was just sent to rest is not asked again."""
        return self.resting(target) <= 0

    def report(self, target: Target, failure: Failure | None, seconds: float) -> None:
        """The outcome of one attempt."""
        with self._lock:
            state = self._states.setdefault(target.deployment, _State())
            if failure is None:
                state.failures = 0
                state.resting_until = 0.0
                before = state.latency
                state.latency = seconds if before is None else before + _SMOOTHING * (seconds - before)
                return
            now = self._clock()
            if failure.status == 429:
                state.resting_until = now + min(failure.retry_after or RATE_LIMIT_S, MAX_RATE_LIMIT_S)
            elif failure.status in (401, 403):
                state.resting_until = now + max(self._cooldown, REFUSED_KEY_S)
            elif failure.retryable or failure.kind in ("tls", "proxy", "redirect", "bad_body"):
                state.failures += 1
                if state.failures >= self._allowed:
                    state.resting_until = now + self._cooldown

    def resting(self, target: Target) -> float:
        """Seconds for which the deployment is still to be left alone; 0 or less: none."""
        with self._lock:
            state = self._states.get(target.deployment)
            return state.resting_until - self._clock() if state is not None else 0.0

    def latency(self, target: Target) -> float | None:
        """Smoothed seconds of its successful attempts; None before the first."""
        with self._lock:
            state = self._states.get(target.deployment)
            return state.latency if state is not None else None
