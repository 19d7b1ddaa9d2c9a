"""What a virtual key may use: rate limits and budgets, taken before a call and settled after it.

Belongs here: estimating a call, taking and giving back, the answers 429 and 402. Not here: the counting itself, which
is atomic across processes (`opentracy.traces.budgets`, `.limits`), and what a key is (`.keys`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from opentracy.core.pricing import expected_cost
from opentracy.core.wire import Target
from opentracy.traces.accounts import Accounts
from opentracy.traces.budgets import Refused as OverBudget
from opentracy.traces.budgets import Reservation, SqliteBudgets
from opentracy.traces.keys import Key, Keys, load_pepper
from opentracy.traces.limits import SqliteLimits, Verdict

from .auth import Identity
from .errors import Refused

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


class Quotas:
    """The virtual keys of one data directory, and what each has left. Used on the event loop; each check is one
    short transaction, and only calls with a virtual key that has a limit pay for it."""

    def __init__(self, home: Path) -> None:
        accounts = Accounts(home / "accounts.db")
        self.keys = Keys(accounts, load_pepper(home))
        self._budgets = SqliteBudgets(accounts)
        self._limits = SqliteLimits(accounts)

    def identify(self, token: str) -> Identity | None:
        """The caller behind a virtual key."""
        key = self.keys.verify(token, time.time_ns() // 1_000_000)
        return None if key is None else Identity(key.id, frozenset(key.scopes), None, key)

    def take(self, key: Key, body: Mapping[str, Any], size: int, target: Target) -> Taken:
        """Counts a call under every limit of its key; Refused 429 or 402 when one of them is full."""
        now = time.time_ns() // 1_000_000
        cap = body.get("max_completion_tokens") or body.get("max_tokens") or _ANSWER_TOKENS
        prompt = size // _CHARS_PER_TOKEN
        tokens = prompt + cap
        headers = self._rate(key, tokens, now)
        caps: dict[Any, int] = {}
        if key.daily_nano is not None:
            caps["day"] = key.daily_nano
        if key.monthly_nano is not None:
            caps["month"] = key.monthly_nano
        reservation = None
        if caps:
            estimate = expected_cost(target.provider, target.model, prompt, cap)
            got = self._budgets.reserve(key.id, round((estimate or 0.0) * _NANO), caps, now)
            if isinstance(got, OverBudget):
                self._adjust(key, -tokens, now)
                raise Refused(
                    402,
                    f"This {got.period}'s budget of the key does not cover the call: "
                    f"{got.left / _NANO:.6f} of {got.cap / _NANO:.6f} USD are left",
                    code="budget_exceeded",
                    headers={"x-should-retry": "false"},
                )
            reservation = got
        return Taken(key, reservation, tokens, now, headers)

    def _rate(self, key: Key, tokens: int, now: int) -> bytes:
        limits: dict[Any, int] = {}
        if key.rpm is not None:
            limits["requests"] = key.rpm
        if key.tpm is not None:
            limits["tokens"] = key.tpm
        if not limits:
            return b""
        verdict = self._limits.take(key.id, {"requests": 1, "tokens": tokens}, limits, now)
        lines = _headers(verdict, limits)
        if not verdict.allowed:
            raise Refused(
                429,
                f"This key may use {limits[verdict.exceeded or 'requests']} {verdict.exceeded} per minute",
                code="rate_limit_exceeded",
                headers={**lines, "retry-after": str(max(1, round(verdict.retry_after + 0.5)))},
            )
        return b"".join(b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in lines.items())

    def _adjust(self, key: Key, delta: int, at_ms: int) -> None:
        if key.tpm is not None and delta:
            self._limits.adjust(key.id, "tokens", delta, at_ms)

    def settle(self, taken: Taken, tokens: int | None, nano: int | None, *, spent: bool) -> None:
        """The call is over. `spent`: something may have been billed; then an unknown cost counts as the estimate."""
        self._adjust(taken.key, (tokens or 0) - taken.tokens if tokens is not None or not spent else 0, taken.at_ms)
        if taken.reservation is not None:
            if spent:
                self._budgets.settle(taken.reservation, nano)
            else:
                self._budgets.release(taken.reservation)


def _headers(verdict: Verdict, limits: Mapping[Any, int]) -> dict[str, str]:
    lines = {}
    for kind, limit in limits.items():
        lines[f"x-ratelimit-limit-{kind}"] = str(limit)
        lines[f"x-ratelimit-remaining-{kind}"] = str(verdict.left.get(kind, 0))
    return lines


@lru_cache(maxsize=4)
def quotas(home: Path) -> Quotas:
    """The quotas of a data directory, opened once per process."""
    return Quotas(home)
