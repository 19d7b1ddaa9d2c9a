"""What a virtual key may use: rate limits and budgets, taken before a call and settled after it.

Belongs here: estimating a call, taking and giving back, the answers 429 and 402. Not here: the counting itself, which
is atomic across processes (`opentracy.traces.budgets`, `.limits`), and what a key is (`.keys`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from opentracy.core.pricing import expected_cost
from opentracy.core.wire import Target
from opentracy.traces.accounts import Accounts
from opentracy.traces.budgets import Budgets, Period, Reservation, Spent, SqliteBudgets
from opentracy.traces.budgets import Refused as OverBudget
from opentracy.traces.keys import Key, Keys, load_pepper
from opentracy.traces.limits import Limiter, SqliteLimits, Verdict
from opentracy.traces.shared import RedisBudgets, RedisLimits, SharedUnavailable

from .auth import Identity
from .config import RedisConfig
from .errors import Refused

log = logging.getLogger("opentracy.engine")
THREADS = 16
AWAY_S = 2.0  # a Redis that is away is not asked again for so long
_CHARS_PER_TOKEN = 4
_ANSWER_TOKENS = 1000  # assumed where the request sets no cap
_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call holds until it is settled."""

    key: Key
    reservation: Reservation | None
    tokens: int
    at_ms: int
    headers: bytes
    book: Book


@dataclass(frozen=True, slots=True)
class Book:
    """Where use is counted: on this machine, or (`far`) in Redis for all engines."""

    budgets: Budgets
    limits: Limiter
    far: bool = False


class Quotas:
    """The virtual keys of one data directory, and what each has left.

    On one machine it is used on the event loop; each check is one short transaction, and only calls with a virtual key
    that has a limit pay for it. With Redis (`far`) checks go through `later`, on threads.
    """

    def __init__(self, home: Path, shared: RedisConfig | None = None, url: str | None = None) -> None:
        accounts = Accounts(home / "accounts.db")
        self.keys = Keys(accounts, load_pepper(home))
        self._near = Book(SqliteBudgets(accounts), SqliteLimits(accounts))
        self._far: Book | None = None
        self._refuses = shared is not None and shared.away == "refuse"
        self._away_until = 0.0
        if shared is not None and url is not None:
            budgets, limits = RedisBudgets(url, prefix=shared.prefix), RedisLimits(url, prefix=shared.prefix)
            self._far = Book(budgets, limits, far=True)
            self._threads = ThreadPoolExecutor(THREADS, "opentracy-shared")

    @property
    def far(self) -> bool:
        """Whether limits and budgets are counted elsewhere, so that asking takes a while."""
        return self._far is not None

    def spent(self, key_id: str, now_ms: int) -> dict[Period, Spent]:
        """What a key has spent and reserved; this machine's view while Redis is away. For threads."""
        if self._far is not None and time.monotonic() >= self._away_until:
            try:
                return self._far.budgets.spent(key_id, now_ms)
            except SharedUnavailable:
                self._away_until = time.monotonic() + AWAY_S
        return self._near.budgets.spent(key_id, now_ms)

    def later(self, key: Key, body: Mapping[str, Any], size: int, target: Target) -> Future[Taken]:
        """`take` on a thread."""
        return self._threads.submit(self.take, key, body, size, target)

    def identify(self, token: str) -> Identity | None:
        """The caller behind a virtual key."""
        key = self.keys.verify(token, time.time_ns() // 1_000_000)
        return None if key is None else Identity(key.id, frozenset(key.scopes), None, key)

    def take(self, key: Key, body: Mapping[str, Any], size: int, target: Target) -> Taken:
        """Counts a call under every limit of its key; Refused 429 or 402 when one of them is full, 503 when Redis is
        away and `redis.away` says so."""
        if self._far is not None and time.monotonic() >= self._away_until:
            try:
                return self._take(self._far, key, body, size, target)
            except SharedUnavailable as e:
                log.warning("limits of all engines: %s", e)
                self._away_until = time.monotonic() + AWAY_S
        if self._far is not None and self._refuses:
            text = "Limits and budgets cannot be checked now"
            raise Refused(503, text, code="limits_unavailable", headers={"retry-after": "2"})
        return self._take(self._near, key, body, size, target)

    def _take(self, book: Book, key: Key, body: Mapping[str, Any], size: int, target: Target) -> Taken:
        now = time.time_ns() // 1_000_000
        cap = body.get("max_completion_tokens") or body.get("max_tokens") or _ANSWER_TOKENS
        prompt = size // _CHARS_PER_TOKEN
        tokens = prompt + cap
        headers = self._rate(book, key, tokens, now)
        caps: dict[Any, int] = {}
        if key.daily_nano is not None:
            caps["day"] = key.daily_nano
        if key.monthly_nano is not None:
            caps["month"] = key.monthly_nano
        reservation = None
        if caps:
            estimate = expected_cost(target.provider, target.model, prompt, cap)
            got = book.budgets.reserve(key.id, round((estimate or 0.0) * _NANO), caps, now)
            if isinstance(got, OverBudget):
                _adjust(book, key, -tokens, now)
                raise Refused(
                    402,
                    f"This {got.period}'s budget of the key does not cover the call: "
                    f"{got.left / _NANO:.6f} of {got.cap / _NANO:.6f} USD are left",
                    code="budget_exceeded",
                    headers={"x-should-retry": "false"},
                )
            reservation = got
        return Taken(key, reservation, tokens, now, headers, book)

    def _rate(self, book: Book, key: Key, tokens: int, now: int) -> bytes:
        limits: dict[Any, int] = {}
        if key.rpm is not None:
            limits["requests"] = key.rpm
        if key.tpm is not None:
            limits["tokens"] = key.tpm
        if not limits:
            return b""
        verdict = book.limits.take(key.id, {"requests": 1, "tokens": tokens}, limits, now)
        lines = _headers(verdict, limits)
        if not verdict.allowed:
            raise Refused(
                429,
                f"This key may use {limits[verdict.exceeded or 'requests']} {verdict.exceeded} per minute",
                code="rate_limit_exceeded",
                headers={**lines, "retry-after": str(max(1, round(verdict.retry_after + 0.5)))},
            )
        return b"".join(b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in lines.items())

    def settle(self, taken: Taken, tokens: int | None, nano: int | None, *, spent: bool) -> None:
        """The call is over. `spent`: something may have been billed; then an unknown cost counts as the estimate."""
        if taken.book.far:
            self._threads.submit(_settle_far, taken, tokens, nano, spent)
        else:
            _settle(taken, tokens, nano, spent)

    def close(self) -> None:
        """Settles what waits."""
        if self._far is not None:
            self._threads.shutdown()


def _settle(taken: Taken, tokens: int | None, nano: int | None, spent: bool) -> None:
    delta = (tokens or 0) - taken.tokens if tokens is not None or not spent else 0
    _adjust(taken.book, taken.key, delta, taken.at_ms)
    if taken.reservation is not None:
        if spent:
            taken.book.budgets.settle(taken.reservation, nano)
        else:
            taken.book.budgets.release(taken.reservation)


def _settle_far(taken: Taken, tokens: int | None, nano: int | None, spent: bool) -> None:
    try:
        _settle(taken, tokens, nano, spent)
    except SharedUnavailable as e:
        # the reservation stays and counts as spent in the end: too much is counted, never too little
        log.warning("a call of key %s is not settled: %s", taken.key.id, e)


def _adjust(book: Book, key: Key, delta: int, at_ms: int) -> None:
    if key.tpm is not None and delta:
        book.limits.adjust(key.id, "tokens", delta, at_ms)


def _headers(verdict: Verdict, limits: Mapping[Any, int]) -> dict[str, str]:
    lines = {}
    for kind, limit in limits.items():
        lines[f"x-ratelimit-limit-{kind}"] = str(limit)
        lines[f"x-ratelimit-remaining-{kind}"] = str(verdict.left.get(kind, 0))
    return lines


@lru_cache(maxsize=4)
def quotas(home: Path, shared: RedisConfig | None = None, url: str | None = None) -> Quotas:
    """The quotas of a data directory, opened once per process. `url`: of the Redis that `shared` names."""
    return Quotas(home, shared, url)
