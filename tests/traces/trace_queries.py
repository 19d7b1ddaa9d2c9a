"""Filters and queries made up by hypothesis: any combination of names, signs and values, likely and unlikely ones."""

from __future__ import annotations

from hypothesis import strategies as st
from trace_seed import SEED_MS

from opentracy.traces.compile import GROUPS, METRICS, Query
from opentracy.traces.filters import FIELDS, Condition, Filters

HOUR = 3_600_000

_TEXTS = {
    "outcome": ["ok", "timeout", "upstream_error", "shed"],
    "model": ["gpt-4o", "gpt-4o-mini", "claude", "mixtral", "mini", "none'such", ""],
    "provider": ["openai", "groq", "anthropic", "x"],
    "requested": ["openai/gpt-4o-mini", "other"],
    "alias": ["smart", "dumb"],
    "project": ["p1", "p2", "p3"],
    "key": ["k1", "k2", "k3", "k9"],
    "user": ["ann", "bob", "O'Neil", "né%_?"],
    "session": ["s1", "s2"],
    "tag": ["prod", "eu", "it's", "nothing"],
    "error": ["overloaded", "rate_limit", "x"],
    "finish": ["stop", "length", "tool_calls", ""],
    "status": ["error", "ok", "timeout", "5xx", "2xx", "429", "500", "404"],
}
_NUMBERS = {
    "http": [200, 429, 500, 503, 418, 429.5],
    "cluster": [0, 3, 17, 5, -1],
    "attempts": [1, 2, 3, 0, 2.5],
    "stream": [0, 1],
    "cache": [0, 1],
    "tools": [0, 1],
    "fallback": [0, 1],
    "cost": [0, 1, 10**9, 5 * 10**9, 2**62, -(2**62)],
    "latency": [0, 100_000, 403_000, 5_000_000],
    "ttft": [0, 5_000, 450_000],
    "tokens_in": [0, 100, 2000, 2000.5],
    "tokens_out": [0, 1000],
}
_NO_ORDER = {"text", "tag", "status", "flag"}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """One condition, as parsing could have made it."""
    name = draw(st.sampled_from(sorted(FIELDS)))
    ordered = FIELDS[name].kind not in _NO_ORDER
    op = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">="] if ordered else ["=", "!="]))
    values = st.sampled_from(_TEXTS[name] if name in _TEXTS else _NUMBERS[name])
    few = st.lists(values, min_size=1, max_size=3 if op in ("=", "!=") else 1, unique=True)
    return Condition(name, op, tuple(draw(few)))


def times() -> st.SearchStrategy[int | None]:
    """The edge of a time range: none, an hour's edge, or anywhere."""
    anywhere = st.integers(SEED_MS - HOUR, SEED_MS + 31 * HOUR)
    return st.one_of(st.none(), st.integers(-1, 31).map(lambda hour: SEED_MS + hour * HOUR), anywhere)


@st.composite
def filters(draw: st.DrawFn) -> Filters:
    """Conditions within a time range."""
    return Filters(tuple(draw(st.lists(conditions(), max_size=4))), "", draw(times()), draw(times()))


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Any query of the compiler."""
    metrics = draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=5, unique=True))
    groups = draw(st.lists(st.sampled_from(GROUPS), max_size=3, unique=True))
    bucket = draw(st.sampled_from([None, 1000, 60_000, 15 * 60_000, HOUR, 6 * HOUR, 24 * HOUR, 7 * HOUR + 1]))
    limit = draw(st.one_of(st.none(), st.integers(1, 5)))
    return Query(tuple(metrics), tuple(groups), bucket, draw(filters()), limit)
