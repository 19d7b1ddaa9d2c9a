"""Which deployments are worth asking right now, and how many retries the engine may have in flight.

Pure: the clock and the random number are arguments of the constructor. Belongs here: circuits, cooldowns and the retry
budget of one worker, as a `core.plan.Guard`. Not here: what counts as a failure (`core.failure`).

A circuit opens at 5 consecutive failures, or at half of at least 20 attempts within 60 s; it stays open 5 s, doubling
to 300 s (+-20 %), then lets one probe through. A 429 cools a deployment for what it asked (at most 60 s, 5 s without a
hint); a refused key cools it for 60 s or until the keys change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from opentracy.core.wire import Failure, Target

CONSECUTIVE = 5
WINDOW_S = 60.0
WINDOW_MIN = 20
FIRST_OPEN_S = 5.0
MAX_OPEN_S = 300.0
COOL_429_S = 5.0
COOL_AUTH_S = 60.0
RETRY_SHARE = 0.2
RETRY_FLOOR = 3
EARLY_S = 0.01  # timers may go off so much before their time
TOLD_SLACK_S = 0.25  # of what another engine says: less than this is the way it took

_NONE: frozenset[str] = frozenset()
State = Literal["closed", "open", "half_open", "cooling"]


@dataclass(slots=True)
class Circuit:
    """What is remembered of one deployment."""

    failures: int = 0  # consecutive
    window: list[int] = field(default_factory=lambda: [0, 0])  # attempts, failures since `since`
    since: float = 0.0
    open_until: float = 0.0
    open_for: float = 0.0
    probing: bool = False
    cool_until: float = 0.0
    cause: str = ""
    told_until: float = 0.0  # up to here it rests because another engine said so


class Health:
    """State of all deployments of one worker. Not thread-safe: it lives on the event loop."""

    def __init__(self, clock: Callable[[], float], uniform: Callable[[], float]) -> None:
        self._clock = clock
        self._uniform = uniform
        self._circuits: dict[str, Circuit] = {}
        self.active: defaultdict[str, int] = defaultdict(int)  # provider -> requests being served
        self.retrying: dict[str, int] = {}  # provider -> of these, in a retry

    def guard(self, patience: float = 0.0, connect: float = 0.0) -> CallGuard:
        """The plan's guard for one call. For a caller in a hurry `patience` and `connect` are the seconds that others
        give a deployment to answer and to connect: a timeout before that says nothing of the deployment."""
        return CallGuard(self, patience, connect)

    def state(self, name: str) -> tuple[State, float, str]:
        """State of a deployment, seconds until it changes, and the cause."""
        circuit = self._circuits.get(name)
        now = self._clock()
        if circuit is None:
            return "closed", 0.0, ""
        if circuit.cool_until > now:
            return "cooling", circuit.cool_until - now, circuit.cause
        if circuit.open_until > now:
            return "open", circuit.open_until - now, circuit.cause
        if circuit.open_for and circuit.failures:
            return "half_open", 0.0, circuit.cause
        return "closed", 0.0, ""

    def well(self, name: str) -> bool:
        """Whether nothing speaks against a deployment."""
        return name not in self._circuits

    def known(self) -> list[str]:
        """Deployments that had a failure since they were last well."""
        return list(self._circuits)

    def ill(self) -> frozenset[str]:
        """Deployments that are not to be asked now: their circuit is open, or they cool down."""
        if not self._circuits:
            return _NONE
        return frozenset(name for name in self._circuits if self.state(name)[0] in ("open", "cooling"))

    def forget(self) -> None:
        """Keys or bases may have changed: every deployment starts afresh."""
        self._circuits.clear()

    def resting(self) -> dict[str, tuple[float, str]]:
        """Deployments that rest because of what happened here: seconds left, cause."""
        now, found = self._clock(), {}
        for name, circuit in self._circuits.items():
            until = max(circuit.cool_until, circuit.open_until)
            if until > now and until > circuit.told_until:
                found[name] = (until - now, circuit.cause)
        return found

    def told(self, resting: Mapping[str, tuple[float, str]]) -> None:
        """What other engines say of deployments: seconds left, cause. Only a longer rest is news."""
        now = self._clock()
        for name, (seconds, cause) in resting.items():
            circuit, until = self._circuits.get(name), now + min(seconds, MAX_OPEN_S)
            if circuit is None:
                circuit = self._circuits[name] = Circuit(since=now)
            if until > max(circuit.cool_until, circuit.open_until) + TOLD_SLACK_S:
                circuit.cool_until = circuit.told_until = until
                circuit.cause = cause

    def admit(self, name: str) -> str | None:
        """None to let the deployment be tried, else why not."""
        circuit = self._circuits.get(name)
        if circuit is None:
            return None
        now = self._clock()
        if circuit.cool_until > now:
            return f"{name} is cooling for {circuit.cool_until - now:.1f} s ({circuit.cause})"
        if circuit.open_until > now:
            return f"{name} is out for {circuit.open_until - now:.1f} s ({circuit.cause})"
        if circuit.open_for and circuit.failures:
            if circuit.probing:
                return f"{name} is being probed ({circuit.cause})"
            circuit.probing = True
        return None

    def succeeded(self, name: str) -> None:
        """An attempt was answered well."""
        circuit = self._circuits.get(name)
        if circuit is None:
            return
        circuit.failures = 0
        circuit.probing = False
        circuit.open_for = 0.0
        circuit.cool_until = 0.0
        self._count(circuit, failed=False)
        if not circuit.window[1]:
            del self._circuits[name]

    def answered(self, provider: str, name: str) -> None:
        """A request that was counted as active was answered well, at its first attempt."""
        self.active[provider] -= 1
        if self._circuits:
            self.succeeded(name)

    def failed(self, name: str, failure: Failure) -> None:
        """An attempt failed; the caller's own mistakes do not count against the deployment."""
        status = failure.status
        if failure.kind == "cancelled":
            circuit = self._circuits.get(name)
            if circuit is not None:
                circuit.probing = False
            return
        if status is not None and 400 <= status < 500 and status not in (401, 403, 408, 429):
            self.succeeded(name)
            return
        circuit = self._circuits.setdefault(name, Circuit(since=self._clock()))
        now = self._clock()
        circuit.cause = str(status or failure.kind)
        circuit.probing = False
        if status == 429:
            hint = failure.retry_after
            circuit.cool_until = now + min(hint if hint is not None else COOL_429_S, 60.0)
            return
        if status in (401, 403):
            circuit.cool_until = now + COOL_AUTH_S
            return
        circuit.failures += 1
        self._count(circuit, failed=True)
        attempts, failures = circuit.window
        if circuit.open_until > now:
            return  # asked although it is out (the last deployment of an alias): that proves nothing new
        if circuit.open_for or circuit.failures >= CONSECUTIVE or (attempts >= WINDOW_MIN and failures * 2 >= attempts):
            circuit.open_for = min(circuit.open_for * 2 if circuit.open_for else FIRST_OPEN_S, MAX_OPEN_S)
            circuit.open_until = now + circuit.open_for * (0.8 + 0.4 * self._uniform())

    def abandoned(self, name: str) -> None:
        """An admitted attempt was given up without an outcome: a probe must not stay out for ever."""
        circuit = self._circuits.get(name)
        if circuit is not None:
            circuit.probing = False

    def _count(self, circuit: Circuit, *, failed: bool) -> None:
        now = self._clock()
        if now - circuit.since > WINDOW_S:
            circuit.window = [0, 0]
            circuit.since = now
        circuit.window[0] += 1
        circuit.window[1] += failed

    def may_retry(self, provider: str) -> bool:
        """Whether the budget allows one more retry in flight; the caller counts it with `retry_started`."""
        limit = max(RETRY_FLOOR, RETRY_SHARE * self.active.get(provider, 0))
        return self.retrying.get(provider, 0) < limit


class CallGuard:
    """`core.plan.Guard` for one call: the shared health, plus what this call holds of the retry budget."""

    __slots__ = ("_admitted", "_connect", "_health", "_held", "_patience")

    def __init__(self, health: Health, patience: float, connect: float) -> None:
        self._health = health
        self._patience = patience
        self._connect = min(connect, patience)
        self._held: str | None = None
        self._admitted: str | None = None

    def admit(self, target: Target) -> str | None:
        """Whether the target may be tried now."""
        refused = self._health.admit(target.name)
        if refused is None:
            self._admitted = target.name
        return refused

    def may_retry(self, target: Target) -> bool:
        """Takes one retry from the provider's budget, if it has one."""
        if not self._health.may_retry(target.provider):
            return False
        self._held = target.provider
        self._health.retrying[target.provider] = self._health.retrying.get(target.provider, 0) + 1
        return True

    def report(self, target: Target, failure: Failure | None, seconds: float) -> None:
        """The outcome of one attempt."""
        self._admitted = None
        self.release()
        if failure is None:
            self._health.succeeded(target.name)
        elif failure.kind == "timeout" and seconds + EARLY_S < (self._patience if failure.sent else self._connect):
            self._health.abandoned(target.name)
        else:
            self._health.failed(target.name, failure)

    def release(self) -> None:
        """Gives the retry (and an unfinished probe) back; also when the call ends early."""
        if self._admitted is not None:
            self._health.abandoned(self._admitted)
            self._admitted = None
        if self._held is not None:
            self._health.retrying[self._held] -= 1
            self._held = None
