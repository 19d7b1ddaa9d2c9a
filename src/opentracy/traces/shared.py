"""Budgets, rate limits, cooldowns and virtual keys of many machines, in Redis.

Belongs here: the scripts that make each step atomic there. The arithmetic is that of `budgets` and `limits`. Redis
numbers are exact up to 2^53 nano-USD (nine million dollars) per key and month. A server that is away raises
`SharedUnavailable`; whether calls then go through or not is the engine's to decide. Needs the `redis` extra.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .budgets import STALE_MS, Period, Refused, Reservation, Spent, check_amount, periods
from .errors import TraceStoreError
from .limits import WINDOW, Kind, Verdict, judge

_KEEP_MS: Final = 40 * 86_400_000

# KEYS: reservations of the key (hash id -> "nano expires period,period"), then one counter per period.
# The braces in the names put all of a key's entries on one node of a cluster.
_RESERVE: Final = """
local now, nano, id = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local open = redis.call('HGETALL', KEYS[1])
for i = 1, #open, 2 do
  local amount, expires, names = string.match(open[i + 1], '^(%d+) (%d+) (.+)$')
  if tonumber(expires) < now then
    for name in string.gmatch(names, '[^,]+') do
      redis.call('HINCRBY', name, 'reserved', '-' .. amount)
      redis.call('HINCRBY', name, 'settled', amount)
    end
    redis.call('HDEL', KEYS[1], open[i])
  end
end
for i = 2, #KEYS do
  local cap = tonumber(ARGV[3 + i])
  if cap >= 0 then
    local used = tonumber(redis.call('HGET', KEYS[i], 'settled') or '0')
      + tonumber(redis.call('HGET', KEYS[i], 'reserved') or '0')
    if nano > cap - used or cap - used <= 0 then return {i - 1, math.max(0, cap - used)} end
  end
end
local names = {}
for i = 2, #KEYS do
  redis.call('HINCRBY', KEYS[i], 'reserved', ARGV[2])
  redis.call('PEXPIRE', KEYS[i], ARGV[4])
  names[#names + 1] = KEYS[i]
end
redis.call('HSET', KEYS[1], id, ARGV[2] .. ' ' .. string.format('%.0f', now + tonumber(ARGV[#ARGV])) .. ' '
  .. table.concat(names, ','))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {0, 0}
"""
_END: Final = """
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local amount, names = string.match(value, '^(%d+) %d+ (.+)$')
local settled = ARGV[2]
if settled == '' then settled = amount end
for name in string.gmatch(names, '[^,]+') do
  redis.call('HINCRBY', name, 'reserved', '-' .. amount)
  redis.call('HINCRBY', name, 'settled', settled)
end
return 1
"""
# KEYS: one hash (second -> use) per kind. ARGV: second, window, then wanted and limit of each.
_TAKE: Final = """
local second, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = false
local answer = {}
for i = 1, #KEYS do
  local total = 0
  local used = redis.call('HGETALL', KEYS[i])
  for j = 1, #used, 2 do
    if tonumber(used[j]) <= second - window then
      redis.call('HDEL', KEYS[i], used[j])
    else
      total = total + tonumber(used[j + 1])
      answer[#answer + 1] = i
      answer[#answer + 1] = tonumber(used[j])
      answer[#answer + 1] = tonumber(used[j + 1])
    end
  end
  if total + tonumber(ARGV[1 + 2 * i]) > tonumber(ARGV[2 + 2 * i]) then full = true end
end
if not full then
  for i = 1, #KEYS do
    redis.call('HINCRBY', KEYS[i], ARGV[1], ARGV[1 + 2 * i])
    redis.call('EXPIRE', KEYS[i], window * 2)
  end
end
return answer
"""
_ADJUST: Final = """
local used = redis.call('HGET', KEYS[1], ARGV[1])
if used then redis.call('HSET', KEYS[1], ARGV[1], math.max(0, tonumber(used) + tonumber(ARGV[2]))) end
return 0
"""
# KEYS: one hash (deployment -> "until cause"). ARGV: how many rest, then name, milliseconds and cause of each, then the
# names of those that are well. A later end is kept: an engine that knows less must not shorten another's rest.
_COOL: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = tonumber(ARGV[1])
for i = 0, count - 1 do
  local name, ends = ARGV[2 + 3 * i], now + tonumber(ARGV[3 + 3 * i])
  local known = tonumber(string.match(redis.call('HGET', KEYS[1], name) or '', '^%d+') or '0')
  if ends > known then redis.call('HSET', KEYS[1], name, string.format('%.0f', ends) .. ' ' .. ARGV[4 + 3 * i]) end
end
for i = 2 + 3 * count, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
local answer = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ends, cause = string.match(all[i + 1], '^(%d+) ?(.*)$')
  local left = tonumber(ends) - now
  if left > 0 then
    answer[#answer + 1] = all[i]
    answer[#answer + 1] = string.format('%.0f', left)
    answer[#answer + 1] = cause
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
redis.call('EXPIRE', KEYS[1], 3600)
return answer
"""


class SharedUnavailable(TraceStoreError):
    """Redis cannot be reached or refused the command."""


class _Redis:
    """A client whose errors are ours."""

    def __init__(self, url: str, prefix: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise SharedUnavailable("Shared limits need redis: pip install 'opentracy[redis]'") from error
        self._error = redis.RedisError
        self._client = redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0, decode_responses=True)
        self._scripts: dict[str, Any] = {}
        self.prefix = prefix

    def run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._client.register_script(script)
        try:
            return known(keys=keys, args=args)
        except self._error as error:
            # the text of the error may quote the URL with its password
            raise SharedUnavailable(f"Redis: {type(error).__name__}") from None

    def read(self, name: str) -> dict[str, str]:
        try:
            found: dict[str, str] = self._client.hgetall(name)  # type: ignore[assignment, unused-ignore]
        except self._error as error:
            raise SharedUnavailable(f"Redis: {type(error).__name__}") from None
        return found

    def close(self) -> None:
        self._client.close()


class RedisBudgets:
    """Budgets of all engines that share a Redis (see `budgets.Budgets`). `url`: redis://:password@host:6379/0."""

    def __init__(self, url: str, *, prefix: str = "opentracy") -> None:
        self._redis = _Redis(url, prefix)

    def reserve(self, key_id: str, nano: int, caps: Mapping[Period, int], now_ms: int) -> Reservation | Refused:
        """See `Budgets`."""
        check_amount(nano)
        reservation = Reservation(secrets.token_hex(12), key_id, nano)
        names = periods(now_ms)
        counters = [self._counter(key_id, name) for name in names.values()]
        limits = [caps.get(period, -1) for period in names]
        args = [now_ms, nano, reservation.id, _KEEP_MS, *limits, STALE_MS]
        at, left = self._redis.run(_RESERVE, [self._open(key_id), *counters], args)
        if not at:
            return reservation
        period = list(names)[at - 1]
        return Refused(period, caps[period], int(left))

    def settle(self, reservation: Reservation, nano: int | None) -> bool:
        """See `Budgets`."""
        if nano is not None:
            check_amount(nano)
        args = [reservation.id, "" if nano is None else nano]
        return bool(self._redis.run(_END, [self._open(reservation.key_id)], args))

    def release(self, reservation: Reservation) -> bool:
        """See `Budgets`."""
        return bool(self._redis.run(_END, [self._open(reservation.key_id)], [reservation.id, 0]))

    def spent(self, key_id: str, now_ms: int) -> dict[Period, Spent]:
        """See `Budgets`."""
        result: dict[Period, Spent] = {}
        for period, name in periods(now_ms).items():
            found = self._redis.read(self._counter(key_id, name))
            result[period] = Spent(int(found.get("settled", 0)), int(found.get("reserved", 0)))
        return result

    def close(self) -> None:
        """Ends the connection."""
        self._redis.close()

    def _open(self, key_id: str) -> str:
        return f"{self._redis.prefix}:{{{key_id}}}:open"

    def _counter(self, key_id: str, name: str) -> str:
        return f"{self._redis.prefix}:{{{key_id}}}:spend:{name}"


class RedisLimits:
    """Limits of all engines that share a Redis (see `limits.Limiter`)."""

    def __init__(self, url: str, *, prefix: str = "opentracy") -> None:
        self._redis = _Redis(url, prefix)

    def take(self, key_id: str, wanted: Mapping[Kind, int], limits: Mapping[Kind, int], now_ms: int) -> Verdict:
        """See `Limiter`."""
        kinds = list(limits)
        if not kinds:
            return Verdict(True, {})
        args: list[Any] = [now_ms // 1000, WINDOW]
        for kind in kinds:
            args += [wanted.get(kind, 0), limits[kind]]
        flat = self._redis.run(_TAKE, [self._name(key_id, kind) for kind in kinds], args)
        used: dict[Kind, dict[int, int]] = {}
        for at in range(0, len(flat), 3):
            used.setdefault(kinds[flat[at] - 1], {})[flat[at + 1]] = flat[at + 2]
        # the script decided by the same numbers; judging them again gives the words for it
        return judge(used, wanted, limits, now_ms)

    def adjust(self, key_id: str, kind: Kind, delta: int, at_ms: int) -> None:
        """See `Limiter`."""
        self._redis.run(_ADJUST, [self._name(key_id, kind)], [at_ms // 1000, delta])

    def close(self) -> None:
        """Ends the connection."""
        self._redis.close()

    def _name(self, key_id: str, kind: Kind) -> str:
        return f"{self._redis.prefix}:{{{key_id}}}:rate:{kind}"


# KEYS: one hash (key id -> "revoked updated json") and the number of changes. ARGV: the number that the asker has seen,
# then id, revoked, updated and json of each key it tells. Only what is newer is kept; a revoked key stays so.
_KEYS: Final = """
for i = 2, #ARGV, 4 do
  local revoked, updated = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^(%d) (%d+) ')
  local newer = not revoked or ARGV[i + 1] > revoked
    or (ARGV[i + 1] == revoked and tonumber(ARGV[i + 2]) > tonumber(updated))
  if newer then
    -- begun with the time: a Redis that lost its data must not come to a number that somebody has seen
    local time = redis.call('TIME')
    redis.call('SET', KEYS[2], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), 'NX')
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2] .. ' ' .. ARGV[i + 3])
    redis.call('INCR', KEYS[2])
  end
end
local changes = redis.call('GET', KEYS[2]) or '0'
if changes == ARGV[1] then return {changes} end
local answer = {changes}
for _, value in ipairs(redis.call('HVALS', KEYS[1])) do answer[#answer + 1] = value end
return answer
"""


class RedisKeys:
    """The virtual keys of all engines: each tells the keys it has, and hears of those that changed."""

    def __init__(self, url: str, *, prefix: str = "opentracy") -> None:
        self._redis = _Redis(url, prefix)
        self._names = [f"{prefix}:{{keys}}:all", f"{prefix}:{{keys}}:changes"]
        self._seen = ""

    def exchange(self, told: Sequence[tuple[str, bool, int, str]]) -> list[tuple[bool, int, str]] | None:
        """Tells of keys (id, revoked, when changed, JSON); returns all that are there, None when nothing changed."""
        args: list[Any] = [self._seen]
        for key_id, revoked, updated, text in told:
            args += [key_id, int(revoked), updated, text]
        changes, *found = self._redis.run(_KEYS, self._names, args)
        if changes == self._seen:
            return None
        self._seen = changes
        return [(one[0] == "1", int(one[2:].split(" ", 1)[0]), one[2:].split(" ", 1)[1]) for one in found]

    def close(self) -> None:
        """Ends the connection."""
        self._redis.close()


class RedisCooldowns:
    """Which deployments rest just now, told between engines. Times are Redis's own, so clocks need not agree."""

    def __init__(self, url: str, *, prefix: str = "opentracy") -> None:
        self._redis = _Redis(url, prefix)
        self._name = f"{prefix}:cooldowns"

    def exchange(
        self, resting: Mapping[str, tuple[float, str]], well: Sequence[str] = ()
    ) -> dict[str, tuple[float, str]]:
        """Tells of deployments that rest here (name -> seconds, cause) and of those that are `well` again; returns
        everybody's, those told now included."""
        told: list[Any] = []
        for name, (seconds, cause) in resting.items():
            told += [name, round(seconds * 1000), cause[:80]]
        flat = self._redis.run(_COOL, [self._name], [len(resting), *told, *well])
        return {flat[at]: (int(flat[at + 1]) / 1000, flat[at + 2]) for at in range(0, len(flat), 3)}

    def close(self) -> None:
        """Ends the connection."""
        self._redis.close()
