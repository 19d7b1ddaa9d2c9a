"""Filters: what a person writes (`model:gpt-4o status:error cost>0.01 "refund"`) and the WHERE clause it means.

Belongs here: the names that can be filtered by, their parsing, and their SQL. Fields are AND-ed; several values of one
field are OR-ed; `-field:value` and `field!=value` exclude. Text that is no filter is for the full text search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final, Literal

from .dialects import SQLITE, Dialect
from .errors import QueryError
from .model import OUTCOMES

Value = str | int | float
Op = Literal["=", "!=", "<", "<=", ">", ">="]
Kind = Literal["text", "int", "number", "flag", "usd", "ms", "tag", "status"]


@dataclass(frozen=True, slots=True)
class Field:
    """A name that people filter by and the column behind it."""

    column: str
    kind: Kind


FIELDS: Final[dict[str, Field]] = {
    "status": Field("outcome", "status"),
    "outcome": Field("outcome", "text"),
    "http": Field("http_status", "int"),
    "model": Field("model", "text"),
    "provider": Field("provider", "text"),
    "requested": Field("requested_model", "text"),
    "alias": Field("alias", "text"),
    "project": Field("project", "text"),
    "key": Field("key_id", "text"),
    "user": Field("user_id", "text"),
    "session": Field("session_id", "text"),
    "tag": Field("tags", "tag"),
    "cluster": Field("cluster_id", "int"),
    "stream": Field("stream", "flag"),
    "cache": Field("cache_hit", "flag"),
    "tools": Field("has_tools", "flag"),
    "fallback": Field("fallback", "flag"),
    "attempts": Field("attempts", "int"),
    "cost": Field("cost_nano", "usd"),
    "latency": Field("latency_us", "ms"),
    "ttft": Field("ttft_us", "ms"),
    "tokens_in": Field("tokens_in", "int"),
    "tokens_out": Field("tokens_out", "int"),
    "error": Field("error_type", "text"),
    "finish": Field("finish_reason", "text"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """`field op value`, where several values of `=` mean any of them and of `!=` none of them."""

    field: str
    op: Op
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """Everything a listing or a query is narrowed by. `since` and `until` are milliseconds, until not included."""

    conditions: tuple[Condition, ...] = ()
    text: str = ""
    since: int | None = None
    until: int | None = None

    def between(self, since: int | None, until: int | None) -> Filters:
        """The same with the time range narrowed to `since <= ts < until`."""
        first = [t for t in (self.since, since) if t is not None]
        last = [t for t in (self.until, until) if t is not None]
        return replace(self, since=max(first, default=None), until=min(last, default=None))


EVERYTHING: Final = Filters()

_TERM: Final = re.compile(
    r"""(?P<not>-?)(?P<name>[A-Za-z_]+)(?P<op>!=|>=|<=|:|=|>|<)(?P<value>"(?:[^"\\]|\\.)*"|\S+)|(?P<word>"[^"]*"|\S+)"""
)


def parse(text: str, *, now_ms: int | None = None) -> Filters:
    """Filters from a query bar's text. Raises QueryError naming the part that means nothing.

    `since:` and `until:` take ISO times, epoch milliseconds, or spans like `24h` (which need `now_ms`).
    """
    conditions: list[Condition] = []
    words: list[str] = []
    since = until = None
    for match in _TERM.finditer(text):
        name = match["name"]
        if name is None or (name.lower() not in FIELDS and name.lower() not in ("since", "until")):
            if name is not None and match["op"] == ":" and not match["value"].startswith("//"):
                raise QueryError(unknown_field(name))
            words.append(match[0])
            continue
        value = match["value"]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if name.lower() == "since":
            since = moment(value, now_ms)
        elif name.lower() == "until":
            until = moment(value, now_ms)
        else:
            conditions.append(_condition(name.lower(), match["op"], value, negated=bool(match["not"])))
    return Filters(tuple(merge(conditions)), " ".join(words), since, until)


def from_params(params: Iterable[tuple[str, str]] | Mapping[str, str], *, now_ms: int | None = None) -> Filters:
    """Filters from URL parameters: `model=a&model=b&cost>=0.01&since=24h&q=...` (`q` is a query bar's text).

    Comparisons ride on the name: `cost>=0.01` arrives as the name `cost>` with the value `0.01`; `min_cost` and
    `max_cost` mean the same without special characters. Raises QueryError for a name that means nothing.
    """
    pairs = list(params.items()) if isinstance(params, Mapping) else list(params)
    base = Filters()
    conditions: list[Condition] = []
    for raw, value in pairs:
        name, op = _name_and_op(raw)
        if raw in ("q", "query"):
            parsed = parse(value, now_ms=now_ms)
            conditions += parsed.conditions
            base = replace(base, text=parsed.text).between(parsed.since, parsed.until)
        elif raw in ("text", "search"):
            base = replace(base, text=value)
        elif raw == "since":
            base = base.between(moment(value, now_ms), None)
        elif raw == "until":
            base = base.between(None, moment(value, now_ms))
        elif name in FIELDS:
            conditions.append(_condition(name, op, value))
        else:
            raise QueryError(unknown_field(raw))
    return replace(base, conditions=tuple(merge(conditions)))


def _name_and_op(raw: str) -> tuple[str, str]:
    if raw.startswith("min_"):
        return raw[4:], ">="
    if raw.startswith("max_"):
        return raw[4:], "<="
    match = re.fullmatch(r"(\w+)(!|>=?|<=?)", raw)
    if match is None:
        return raw, "="
    op = match[2]
    # `cost>=1` splits at the equals sign, so the name keeps the sign before it
    return match[1], {"!": "!=", ">": ">=", "<": "<="}.get(op, op)


def unknown_field(name: str) -> str:
    """The sentence for a filter name that does not exist."""
    near = get_close_matches(name.lower(), FIELDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FIELDS)}, since, until"
    return f"Unknown filter {name!r}: {hint}"


def merge(conditions: Iterable[Condition]) -> list[Condition]:
    """Puts several `=` (or `!=`) conditions of one field together: any (none) of their values."""
    merged: dict[tuple[str, str], Condition] = {}
    others: list[Condition] = []
    for condition in conditions:
        if condition.op not in ("=", "!="):
            others.append(condition)
            continue
        key = (condition.field, condition.op)
        before = merged.get(key)
        values = condition.values if before is None else (*before.values, *condition.values)
        merged[key] = Condition(condition.field, condition.op, tuple(dict.fromkeys(values)))
    return [*merged.values(), *others]


def _condition(name: str, sign: str, value: str, *, negated: bool = False) -> Condition:
    field = FIELDS[name]
    op: Op = "=" if sign in (":", "=") else sign  # type: ignore[assignment]
    if op == "=" and value[:1] in "<>" and field.kind not in ("text", "tag", "flag"):
        op, value = (value[:2], value[2:]) if value[1:2] == "=" else (value[:1], value[1:])  # type: ignore[assignment]
    if negated:
        if op != "=":
            raise QueryError(f"-{name}{op}{value}: only equality can be negated")
        op = "!="
    if op not in ("=", "!=") and field.kind in ("text", "tag", "flag", "status"):
        raise QueryError(f"{name} is not a number, so {name}{op} means nothing")
    texts = value.split(",") if op in ("=", "!=") and field.kind != "text" and "," in value else [value]
    return Condition(name, op, tuple(_value(name, field.kind, text) for text in texts))


def _value(name: str, kind: Kind, text: str) -> Value:
    if kind in ("text", "tag"):
        return text
    if kind == "flag":
        return _flag(name, text)
    if kind == "status":
        return _status(text)
    scale = 1e3 if kind == "ms" else 1.0
    if kind == "usd":
        text, scale = text.lstrip("$"), 1e9
    elif kind == "ms" and (match := re.fullmatch(r"([\d.eE+]+)(ms|s|m)", text)):
        text, scale = match[1], {"ms": 1e3, "s": 1e6, "m": 6e7}[match[2]]
    try:
        number = float(text) * scale
    except ValueError:
        raise QueryError(f"{name} needs a number, not {text!r}") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise QueryError(f"{name} needs a finite number, not {text!r}")
    if abs(number) >= _HUGE:
        # beyond what any column holds; no database takes larger numbers
        return _HUGE if number > 0 else -_HUGE
    return number if kind == "int" and number != int(number) else round(number)


_HUGE: Final = 2**62


def _flag(name: str, text: str) -> int:
    word = text.lower()
    if word in ("true", "yes", "1", "on"):
        return 1
    if word in ("false", "no", "0", "off"):
        return 0
    raise QueryError(f"{name} is true or false, not {text!r}")


def _status(text: str) -> str:
    word = text.lower()
    if word in ("error", "failed") or word in OUTCOMES or re.fullmatch(r"[1-5](xx|\d\d)", word):
        return word
    raise QueryError(f"status is error, {', '.join(OUTCOMES)}, 4xx, 5xx or a number, not {text!r}")


_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def span_ms(text: str) -> int:
    """Milliseconds of a span like `90s`, `15m`, `24h`, `7d`, `2w`. Raises QueryError otherwise."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise QueryError(f"Not a span of time: {text!r} (write 90s, 15m, 24h, 7d or 2w)")
    return round(float(match[1]) * _UNIT_MS[match[2]])


def moment(text: str, now_ms: int | None = None) -> int:
    """Milliseconds of an ISO 8601 time (UTC where it names no zone), of epoch milliseconds, or of a span ago."""
    from datetime import UTC, datetime

    word = text.strip()
    if word.isascii() and word.isdigit() and len(word) >= 11:
        if len(word) > 15:
            raise QueryError(f"Not a time: {text[:40]!r} is no number of milliseconds since 1970")
        return int(word)
    if now_ms is not None and _SPAN.fullmatch(word):
        return now_ms - span_ms(word)
    try:
        when = datetime.fromisoformat(word)
    except ValueError:
        raise QueryError(f"Not a time: {text!r} (write 2026-01-31, 2026-01-31T12:00Z, or a span like 24h)") from None
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def where(filters: Filters, dialect: Dialect = SQLITE) -> tuple[str, list[Value]]:
    """The WHERE condition over `traces` and its parameters. The text is not in it (see `search`)."""
    parts: list[str] = []
    params: list[Value] = []
    for sign, bound in ((">=", filters.since), ("<", filters.until)):
        if bound is not None:
            parts.append(f"ts_ms {sign} {dialect.placeholder}")
            params.append(bound)
    for condition in filters.conditions:
        sql, values = _sql(condition, dialect)
        parts.append(sql)
        params += values
    return (" AND ".join(parts) or "1 = 1"), params


def _sql(condition: Condition, dialect: Dialect) -> tuple[str, Sequence[Value]]:
    field = FIELDS[condition.field]
    if field.kind == "status":
        inner, values = _status_sql(condition, dialect)
        return (f"NOT ({inner})" if condition.op == "!=" else f"({inner})"), values
    if field.kind == "tag":
        inner = " OR ".join([dialect.tag_has] * len(condition.values))
        return (f"NOT ({inner})" if condition.op == "!=" else f"({inner})"), condition.values
    if condition.op in ("=", "!="):
        inner = f"{field.column} IN ({dialect.holes(len(condition.values))})"
        # a row without a value is not one of the excluded ones
        sql = inner if condition.op == "=" else f"({field.column} IS NULL OR NOT {inner})"
        return sql, condition.values
    return f"{field.column} {condition.op} {dialect.placeholder}", condition.values


def _status_sql(condition: Condition, dialect: Dialect) -> tuple[str, list[Value]]:
    parts: list[str] = []
    params: list[Value] = []
    for value in condition.values:
        word = str(value)
        if word in ("error", "failed"):
            parts.append("outcome <> 'ok'")
        elif word.endswith("xx"):
            parts.append(f"http_status BETWEEN {word[0]}00 AND {word[0]}99")
        elif word.isdigit():
            parts.append(f"http_status = {dialect.placeholder}")
            params.append(int(word))
        else:
            parts.append(f"outcome = {dialect.placeholder}")
            params.append(word)
    return " OR ".join(parts), params
