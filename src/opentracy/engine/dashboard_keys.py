"""Virtual keys over HTTP: make, change, rotate, revoke; and how far each is through its budget.

Belongs here: the JSON of keys and the run-out date. Not here: what a key is and how it is checked
(`opentracy.traces.keys`), whether a request may pass (the engine's admission).
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.traces import Filters, Reader
from opentracy.traces.accounts import Accounts
from opentracy.traces.budgets import SqliteBudgets
from opentracy.traces.compile import Query
from opentracy.traces.keys import Key, Keys, load_pepper
from opentracy.traces.stats import answer

from .auth import Identity
from .dashboard_audit import data_home, note
from .errors import Refused
from .routes import json_body, json_response
from .traces import off_loop

if TYPE_CHECKING:
    from .app import Engine
    from .quota import Quotas

DAY_MS = 86_400_000
_NUMBERS = {"daily_usd": "daily_nano", "monthly_usd": "monthly_nano"}
_COUNTS = ("rpm", "tpm")
_MAX_USD = 1e9


def stored(engine: Engine) -> tuple[Keys, SqliteBudgets]:
    """The key store of this engine; Refused 404 where there is none."""
    home = data_home(engine)
    if home is None:
        raise Refused(404, "Keys are kept beside the traces, and traces are off (traces.enabled)")
    return _opened(home)


@lru_cache(maxsize=4)
def _opened(home: Path) -> tuple[Keys, SqliteBudgets]:
    """One view of the accounts per process; whoever admits requests notices changes by the database's own counter."""
    accounts = Accounts(home / "accounts.db")
    return Keys(accounts, load_pepper(home)), SqliteBudgets(accounts)


async def listing(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/keys`."""
    keys, budgets = stored(engine)
    quotas = engine.quotas or budgets
    reader = engine.traces.reader
    now = time.time_ns() // 1_000_000

    def work() -> list[dict[str, Any]]:
        used = _last_used(reader) if reader is not None else {}
        paces = _paces(reader, now) if reader is not None else {}
        return [_shown(key, quotas, now, used.get(key.id), paces.get(key.id, 0.0)) for key in keys.all()]

    found = await off_loop(work)
    return json_response({"keys": found, "now_ms": now, "enabled": True, "note": None})


def _shown(key: Key, budgets: Quotas | SqliteBudgets, now: int, used: int | None, pace: float) -> dict[str, Any]:
    spent = {period: s.settled + s.reserved for period, s in budgets.spent(key.id, now).items()}
    day, month = spent.get("day", 0), spent.get("month", 0)
    return {
        "id": key.id, "name": key.name, "owner": key.owner, "scopes": list(key.scopes),
        "models": None if key.models is None else list(key.models), "created_ms": key.created_ms,
        "expires_ms": key.expires_ms, "revoked_ms": key.revoked_ms, "last_used_ms": used,
        "daily_usd": _usd(key.daily_nano), "monthly_usd": _usd(key.monthly_nano),
        "spent_day_usd": day / 1e9, "spent_month_usd": month / 1e9, "rpm": key.rpm, "tpm": key.tpm,
        "runs_out_ms": runs_out(now, pace, (key.daily_nano, day), (key.monthly_nano, month)),
    }  # fmt: skip


def _usd(nano: int | None) -> float | None:
    return None if nano is None else nano / 1e9


def runs_out(now: int, pace: float, daily: tuple[int | None, int], monthly: tuple[int | None, int]) -> int | None:
    """When the first of the budgets (cap, spent) will be used up at `pace` nano-USD a millisecond; None if none will
    be before its period ends."""
    when = datetime.fromtimestamp(now / 1000, UTC)
    days = calendar.monthrange(when.year, when.month)[1]
    midnight = (now // DAY_MS + 1) * DAY_MS
    ends = ((daily, midnight), (monthly, midnight + (days - when.day) * DAY_MS))
    found = []
    for (cap, spent), end in ends:
        if cap is not None and pace > 0 and spent < cap:
            at = now + round((cap - spent) / pace)
            if at < end:
                found.append(at)
    return min(found, default=None)


def _paces(reader: Reader, now: int) -> dict[str, float]:
    """Nano-USD a millisecond that each key spent over the last day."""
    since = now - DAY_MS
    rows = answer(reader, Query(("cost_nano",), ("key",), filters=Filters(since=since, until=now)))
    return {str(r["key"]): int(str(r["cost_nano"])) / DAY_MS for r in rows if r["key"] is not None}


def _last_used(reader: Reader) -> dict[str, int]:
    """The newest trace of each key: its hour from the rollups, then the moment within that hour."""
    connection = reader.current()
    hours = connection.execute(
        "SELECT k1, max(hour) FROM rollups WHERE dim = 'key' AND k1 <> '' GROUP BY k1"
    ).fetchall()
    return {
        key: connection.execute(
            "SELECT ifnull(max(ts_ms), ?) FROM traces WHERE ts_ms >= ? AND ts_ms < ? AND key_id = ?",
            (hour * 3_600_000, hour * 3_600_000, (hour + 1) * 3_600_000, key),
        ).fetchone()[0]
        for key, hour in hours
    }


# ---------------------------------------------------------------- changes
async def create(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/keys`: the key's text is in this answer and nowhere else, ever."""
    keys, _ = stored(engine)
    body = await json_body(request)
    settings = _settings(body)
    scopes = body.get("scopes", ["inference"])
    if not isinstance(scopes, list) or not scopes:
        raise Refused(400, "scopes must name what the key may do: inference, read, admin", param="scopes")
    identity: Identity = request.state.identity
    if "admin" not in identity.scopes and not set(scopes) <= identity.scopes:
        raise Refused(403, "A key can only be given scopes that its maker has", code="insufficient_scope")
    days = _number(body, "expires_days")
    if days is not None:
        settings["expires_ms"] = time.time_ns() // 1_000_000 + round(days * DAY_MS)
    name = settings.pop("name", None)
    if name is None:
        raise Refused(400, "A key needs a name", param="name")
    text, key = await off_loop(lambda: keys.create(name, scopes=scopes, **settings))
    note(engine, request, "key created", f"{key.name} ({key.id})")
    return json_response({"id": key.id, "secret": text}, 201, {"cache-control": "no-store"})


async def change(engine: Engine, request: Request) -> Response:
    """`PUT /v1/dashboard/keys/{id}`: budgets, limits, models, names; never the scopes."""
    keys, _ = stored(engine)
    settings = _settings(await json_body(request))
    key = await off_loop(lambda: keys.update(request.path_params["key_id"], **settings))
    if key is None:
        raise _no_key(request)
    note(engine, request, "key changed", f"{key.name} ({key.id})")
    return json_response({"id": key.id})


async def rotate(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/keys/{id}/rotate`: a new text for the same key; the old one ends at once."""
    keys, _ = stored(engine)
    text = await off_loop(lambda: keys.rotate(request.path_params["key_id"]))
    if text is None:
        raise _no_key(request)
    note(engine, request, "key rotated", request.path_params["key_id"])
    return json_response({"id": request.path_params["key_id"], "secret": text}, 200, {"cache-control": "no-store"})


async def revoke(engine: Engine, request: Request) -> Response:
    """`DELETE /v1/dashboard/keys/{id}`."""
    keys, _ = stored(engine)
    key_id = request.path_params["key_id"]
    if not await off_loop(lambda: keys.revoke(key_id, time.time_ns() // 1_000_000)):
        raise _no_key(request)
    note(engine, request, "key revoked", key_id)
    return json_response({"id": key_id, "revoked": True})


def _no_key(request: Request) -> Refused:
    return Refused(404, f"There is no working key {request.path_params['key_id'][:64]}", code="key_not_found")


def _settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `Keys.create` from the request's JSON; Refused 400 naming the one that is wrong."""
    out: dict[str, Any] = {}
    for name, limit in (("name", 64), ("owner", 128)):
        value = body.get(name)
        if value is None and name == "owner":
            if name in body:
                out[name] = None
            continue
        if value is None:
            continue
        if not isinstance(value, str) or not value.strip() or len(value) > limit:
            raise Refused(400, f"{name} must be a text of 1 to {limit} characters", param=name)
        out[name] = value.strip()
    if "models" in body:
        models = body["models"]
        if models is not None and (not isinstance(models, list) or not all(isinstance(m, str) and m for m in models)):
            raise Refused(400, "models must be a list of names, or null for all", param="models")
        out["models"] = models or None
    for name, column in _NUMBERS.items():
        if name in body:
            usd = _number(body, name)
            out[column] = None if usd is None else round(usd * 1e9)
    for name in _COUNTS:
        if name in body:
            count = _number(body, name)
            out[name] = None if count is None else round(count)
    return out


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_USD:
        raise Refused(400, f"{name} must be a number from 0 to 1e9, or null for none", param=name)
    return float(value)
