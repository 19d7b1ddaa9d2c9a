"""Budgets: money a key may spend per day and per month (UTC), reserved before a call and settled after it.

Belongs here: the arithmetic, and its form in SQLite for one machine (`shared` has the one for many). A call reserves
what it may cost; settling replaces that by what it did cost. What is settled and reserved together never exceeds a
cap, however many calls run at once, so the overshoot is at most the error of one estimate.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

import msgspec

from .accounts import Accounts
from .transactions import writing

Period = Literal["day", "month"]
#: a reservation that nobody settled within this time belongs to a process that died: its money counts as spent
STALE_MS: Final = 30 * 60_000


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one call."""

    id: str
    key_id: str
    nano: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The cap that stands in the way, and what is left under it (nano-USD)."""

    period: Period
    cap: int
    left: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Money of one period."""

    settled: int = 0
    reserved: int = 0


class Budgets(Protocol):
    """Where spending is counted. Every method is atomic, across processes too."""

    def reserve(self, key_id: str, nano: int, caps: Mapping[Period, int], now_ms: int) -> Reservation | Refused:
        """Sets `nano` aside under every cap, or nothing."""

    def settle(self, reservation: Reservation, nano: int | None) -> bool:
        """Replaces a reservation by the true cost; None (unknown) counts as the whole reservation, never as free.

        False when it was settled or released before: then nothing changes.
        """

    def release(self, reservation: Reservation) -> bool:
        """Gives a reservation back: nothing was spent. False when it was settled or released before."""

    def spent(self, key_id: str, now_ms: int) -> dict[Period, Spent]:
        """What is spent and reserved in the current day and month."""


def periods(now_ms: int) -> dict[Period, str]:
    """The names of the current day and month. A clock that is set back finds the old counters again."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return {"day": now.strftime("%Y-%m-%d"), "month": now.strftime("%Y-%m")}


def check_amount(nano: int) -> None:
    """Raises ValueError for money that is none."""
    if isinstance(nano, bool) or not isinstance(nano, int) or nano < 0:
        raise ValueError(f"A cost is a whole number of nano-USD, 0 or more, not {nano!r}")


class SqliteBudgets:
    """Budgets of the engines on one machine."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def reserve(self, key_id: str, nano: int, caps: Mapping[Period, int], now_ms: int) -> Reservation | Refused:
        """See `Budgets`."""
        check_amount(nano)
        connection = self._accounts.connection()
        names = periods(now_ms)
        with writing(connection):
            self._collect_stale(key_id, now_ms)
            for period, cap in caps.items():
                used = self._read(key_id, names[period])
                left = cap - used.settled - used.reserved
                if nano > left or left <= 0:
                    return Refused(period, cap, max(0, left))
            reservation = Reservation(secrets.token_hex(12), key_id, nano)
            self._add(key_id, list(names.values()), reserved=nano)
            connection.execute(
                "INSERT INTO reservations VALUES (?, ?, ?, ?, ?)",
                (reservation.id, key_id, msgspec.json.encode(list(names.values())).decode(), nano, now_ms + STALE_MS),
            )
        return reservation

    def settle(self, reservation: Reservation, nano: int | None) -> bool:
        """See `Budgets`."""
        if nano is not None:
            check_amount(nano)
        return self._end(reservation, reservation.nano if nano is None else nano)

    def release(self, reservation: Reservation) -> bool:
        """See `Budgets`."""
        return self._end(reservation, 0)

    def spent(self, key_id: str, now_ms: int) -> dict[Period, Spent]:
        """See `Budgets`."""
        return {period: self._read(key_id, name) for period, name in periods(now_ms).items()}

    def _end(self, reservation: Reservation, nano: int) -> bool:
        connection = self._accounts.connection()
        with writing(connection):
            row = connection.execute(
                "DELETE FROM reservations WHERE id = ? RETURNING key_id, periods, nano", (reservation.id,)
            ).fetchall()
            if not row:
                return False
            key_id, names, reserved = row[0]
            # the periods of the reservation: a call that runs over midnight is paid on the day it began
            self._add(key_id, msgspec.json.decode(names), reserved=-reserved, settled=nano)
        return True

    def _collect_stale(self, key_id: str, now_ms: int) -> None:
        gone = self._accounts.connection().execute(
            "DELETE FROM reservations WHERE key_id = ? AND expires_ms < ? RETURNING periods, nano", (key_id, now_ms)
        )
        for names, nano in gone.fetchall():
            self._add(key_id, msgspec.json.decode(names), reserved=-nano, settled=nano)

    def _read(self, key_id: str, name: str) -> Spent:
        row = (
            self._accounts.connection()
            .execute("SELECT settled, reserved FROM spend WHERE key_id = ? AND period = ?", (key_id, name))
            .fetchone()
        )
        return Spent(*row) if row else Spent()

    def _add(self, key_id: str, names: list[str], *, reserved: int = 0, settled: int = 0) -> None:
        self._accounts.connection().executemany(
            "INSERT INTO spend VALUES (?, ?, ?, ?) ON CONFLICT (key_id, period) "
            "DO UPDATE SET settled = settled + excluded.settled, reserved = reserved + excluded.reserved",
            [(key_id, name, settled, reserved) for name in names],
        )
