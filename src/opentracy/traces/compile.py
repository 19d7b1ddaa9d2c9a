"""The query compiler: (metrics, group by, bucket, filters) -> SQL in a dialect -> cells -> one answer.

Belongs here: what a metric is, the SQL of its additive parts, and how parts become the answer. A database only adds up
integers (`Sums`); rates, means and percentiles are made from the sums afterwards, in one place. So partial answers from
rollups, segments and fresh rows can be added, and every database gives the same figures to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

from .dialects import Dialect
from .errors import QueryError
from .filters import EVERYTHING, FIELDS, Filters, Value, where
from .latency import percentile

#: additive parts -> expression over `traces`; {if} counts rows for which a condition holds
SUMS: Final[dict[str, str]] = {
    "requests": "count(*)",
    "errors": "{if:outcome <> 'ok'}",
    "cost_nano": "coalesce(sum(cost_nano), 0)",
    "unpriced": "{if:cost_nano IS NULL}",
    "counterfactual_nano": "coalesce(sum(counterfactual_nano), 0)",
    "tokens_in": "coalesce(sum(tokens_in), 0)",
    "tokens_out": "coalesce(sum(tokens_out), 0)",
    "latency_us": "sum(latency_us)",
    "tokens_cached": "coalesce(sum(tokens_cached), 0)",
    "tokens_reasoning": "coalesce(sum(tokens_reasoning), 0)",
    "ttft_us": "coalesce(sum(ttft_us), 0)",
    "ttft_count": "count(ttft_us)",
    "attempts": "sum(attempts)",
    "fallbacks": "sum(fallback)",
    "streams": "sum(stream)",
    "cache_hits": "sum(cache_hit)",
}

_RATIOS: Final[dict[str, tuple[str, str, float]]] = {
    "error_rate": ("errors", "requests", 1.0),
    "cost": ("cost_nano", "", 1e-9),
    "counterfactual_cost": ("counterfactual_nano", "", 1e-9),
    "latency_avg": ("latency_us", "requests", 1e-3),
    "ttft_avg": ("ttft_us", "ttft_count", 1e-3),
    "fallback_rate": ("fallbacks", "requests", 1.0),
    "cache_rate": ("cache_hits", "requests", 1.0),
    "cost_per_request": ("cost_nano", "requests", 1e-9),
}
PERCENTILES: Final[dict[str, float]] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
METRICS: Final = (*SUMS, *_RATIOS, *PERCENTILES)

_SPREAD: Final = ("tokens_in", "tokens_out")  # numbers with too many values to group by
GROUPS: Final = (
    *(n for n, spec in FIELDS.items() if spec.kind in ("text", "tag", "flag", "int") and n not in _SPREAD),
    "status",
)
OTHER: Final = "(other)"
#: groups that are added up for one answer; a hundred megabytes of them
MAX_CELLS: Final = 200_000
#: lines of one answer
MAX_LINES: Final = 50_000

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked. `bucket_ms` None: one figure per group; `limit` keeps the largest groups by the first metric.

    Groups beyond the limit are added up under `(other)`.
    """

    metrics: tuple[str, ...] = ("requests",)
    group_by: tuple[str, ...] = ()
    bucket_ms: int | None = None
    filters: Filters = EVERYTHING
    limit: int | None = None

    def __post_init__(self) -> None:
        _known(self.metrics, METRICS, "metric")
        _known(self.group_by, GROUPS, "group")
        if not self.metrics:
            raise QueryError("A query needs at least one metric")
        if self.bucket_ms is not None and self.bucket_ms < 1000:
            raise QueryError("A bucket is at least one second")
        if self.limit is not None and self.limit < 1:
            raise QueryError("limit must be at least 1")
        if self.filters.text:
            raise QueryError("Sums cannot be filtered by text; search the list instead")

    @property
    def sums(self) -> tuple[str, ...]:
        """The additive parts that the metrics need, always with `requests` first."""
        needed = ["requests"]
        for metric in self.metrics:
            if metric in SUMS:
                needed.append(metric)
            elif metric in _RATIOS:
                needed += [part for part in _RATIOS[metric][:2] if part]
        return tuple(dict.fromkeys(needed))

    @property
    def most_cells(self) -> int:
        """Groups that may be added up: without a limit each is a line, so more than an answer's lines are too many."""
        return MAX_LINES if self.limit is None else MAX_CELLS

    @property
    def wants_latencies(self) -> bool:
        """True when a percentile is asked for."""
        return any(metric in PERCENTILES for metric in self.metrics)


def _known(names: Iterable[str], allowed: Sequence[str], what: str) -> None:
    for name in names:
        if name not in allowed:
            near = get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(allowed)}"
            raise QueryError(f"Unknown {what} {name!r}: {hint}")


@dataclass(slots=True)
class Cells:
    """Partial answers: sums and latency histograms by (bucket, *group). `add` puts two together.

    `most`: groups that may be added up.
    """

    sums: dict[Key, list[int]] = field(default_factory=dict)
    latencies: dict[Key, dict[int, int]] = field(default_factory=dict)
    most: int = MAX_CELLS

    def add_sums(self, rows: Iterable[Sequence[object]], keys: int) -> None:
        """Takes rows of `keys` key columns followed by sums. Raises QueryError beyond `most` groups."""
        for row in rows:
            key = tuple(row[:keys])
            values = [int(value or 0) for value in row[keys:]]  # type: ignore[call-overload]
            before = self.sums.get(key)
            self.sums[key] = values if before is None else [a + b for a, b in zip(before, values, strict=True)]
            if before is None and len(self.sums) > self.most:
                raise too_many(self.most)

    def add_latencies(self, rows: Iterable[Sequence[object]], keys: int) -> None:
        """Takes rows of `keys` key columns, the latency bucket and the number of requests."""
        for row in rows:
            histogram = self.latencies.setdefault(tuple(row[:keys]), {})
            bucket, count = int(row[keys]), int(row[keys + 1])  # type: ignore[call-overload]
            histogram[bucket] = histogram.get(bucket, 0) + count


def too_many(most: int) -> QueryError:
    """The refusal of a question whose answer nobody could read."""
    return QueryError(f"More than {most:,} lines would be the answer: ask for longer buckets, fewer groups, less time")


def key_columns(query: Query, dialect: Dialect) -> list[str]:
    """SQL of the key columns: the start of the bucket (when there is one), then the groups."""
    columns = []
    if query.bucket_ms is not None:
        columns.append(dialect.divide.format("ts_ms", query.bucket_ms) + f" * {query.bucket_ms}")
    for name in query.group_by:
        columns.append(group_column(name, dialect))
    return columns


def group_column(name: str, dialect: Dialect) -> str:
    """SQL of one group."""
    if name == "status":
        return "http_status"
    spec = FIELDS[name]
    return dialect.tag_value if spec.kind == "tag" else spec.column


def source(query: Query, dialect: Dialect) -> str:
    """FROM clause; grouping by tag looks at one row per tag."""
    return dialect.tag_rows if "tag" in query.group_by else "traces"


def compile_query(
    query: Query, dialect: Dialect, *, extra: str = "", extra_params: Sequence[Value] = ()
) -> tuple[str, str | None, list[Value]]:
    """SQL of the sums, SQL of the latency histogram (None when not wanted), and the parameters both take.

    `extra` is a further condition, such as the rows a database is responsible for.
    """
    condition, params = where(query.filters, dialect)
    if extra:
        condition = f"{condition} AND {extra}"
        params = [*params, *extra_params]
    keys = key_columns(query, dialect)
    tail = f" FROM {source(query, dialect)} WHERE {condition}"
    groups = ", ".join(keys)
    sums = [sum_sql(name, dialect) for name in query.sums]
    main = f"SELECT {', '.join([*keys, *sums])}{tail}" + (f" GROUP BY {groups}" if keys else "")
    histogram = None
    if query.wants_latencies:
        by = ", ".join([*keys, "latency_bucket"])
        histogram = f"SELECT {by}, count(*){tail} GROUP BY {by}"
    return main, histogram, params


def sum_sql(name: str, dialect: Dialect) -> str:
    """SQL of one additive part."""
    expression = SUMS[name]
    if expression.startswith("{if:"):
        return dialect.count_if.format(expression[4:-1])
    return expression


def finish(query: Query, cells: Cells) -> list[dict[str, object]]:
    """The answer: one dict per bucket and group, with `bucket` (ms), the groups and the metrics by name.

    Ordered by bucket, then by the first metric (largest first), then by group.
    """
    if not query.group_by and query.bucket_ms is None and not cells.sums:
        cells.sums[()] = [0] * len(query.sums)
    if query.limit is not None and query.group_by:
        cells = _fold(query, cells)
    rows = []
    names = (("bucket",) if query.bucket_ms is not None else ()) + query.group_by
    parts = query.sums
    for key, sums in cells.sums.items():
        if not sums[0] and names:
            continue
        row: dict[str, object] = dict(zip(names, key, strict=True))
        values = dict(zip(parts, sums, strict=True))
        histogram = cells.latencies.get(key, {})
        for metric in query.metrics:
            row[metric] = _metric(metric, values, histogram)
        rows.append(row)
    if len(rows) > MAX_LINES:
        raise too_many(MAX_LINES)
    first = query.metrics[0]
    rows.sort(key=lambda row: (row.get("bucket") or 0, _descending(row[first]), _texts(row, query.group_by)))
    return rows


def _descending(value: object) -> float:
    return -float(value) if isinstance(value, int | float) else math.inf


def _texts(row: Mapping[str, object], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in names)


def _fold(query: Query, cells: Cells) -> Cells:
    """Keeps the `limit` largest groups; the others become one group named `(other)`."""
    skip = 0 if query.bucket_ms is None else 1
    totals = Cells()
    totals.add_sums(((*key[skip:], *values) for key, values in cells.sums.items()), len(query.group_by))
    by_group: dict[Key, dict[int, int]] = {}
    for key, histogram in cells.latencies.items():
        into = by_group.setdefault(key[skip:], {})
        for bucket, count in histogram.items():
            into[bucket] = into.get(bucket, 0) + count
    first = query.metrics[0]

    def rank(group: Key) -> tuple[float, str]:
        values = dict(zip(query.sums, totals.sums[group], strict=True))
        return _descending(_metric(first, values, by_group.get(group, {}))), str(group)

    kept = set(sorted(totals.sums, key=rank)[: query.limit])
    other = (OTHER,) * len(query.group_by)
    folded = Cells()
    for key, values in cells.sums.items():
        place = key if key[skip:] in kept else (*key[:skip], *other)
        folded.add_sums([(*place, *values)], len(place))
    for key, histogram in cells.latencies.items():
        place = key if key[skip:] in kept else (*key[:skip], *other)
        folded.add_latencies(((*place, bucket, count) for bucket, count in histogram.items()), len(place))
    return folded


def _metric(metric: str, sums: Mapping[str, int], latencies: Mapping[int, int]) -> int | float | None:
    if metric in SUMS:
        return sums[metric]
    if metric in PERCENTILES:
        return percentile(latencies, PERCENTILES[metric])
    top, below, scale = _RATIOS[metric]
    if not below:
        return sums[top] * scale
    return sums[top] * scale / sums[below] if sums[below] else None
