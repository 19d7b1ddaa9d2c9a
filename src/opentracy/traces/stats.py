"""Sums, series and facets: which source answers a query, and putting partial answers together.

Belongs here: the plan. Whole hours come from the rollups when these have the dimensions asked for; otherwise sealed
segments (DuckDB) and the rows after them; without segments, SQLite's rows. The SQL stands in `compile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from .compile import Cells, Query, compile_query, finish
from .dialects import SQLITE
from .filters import FIELDS, Condition, Filters, Value
from .project import SEQ_BITS
from .reader import Reader
from .rollups import DIMENSIONS, sums_of
from .transactions import reading

HOUR: Final = 3_600_000

#: rollup -> group or filter name -> its column there
_ROLLED: Final[dict[str, dict[str, str]]] = {
    "model": {"model": "k1", "provider": "k2"},
    "key": {"key": "k1", "project": "k2"},
    "outcome": {"outcome": "k1", "error": "k2"},
    "cluster": {"cluster": "k1", "model": "k2"},
    "tag": {"tag": "k1"},
}
assert set(_ROLLED) == set(DIMENSIONS)


def answer(reader: Reader, query: Query) -> list[dict[str, object]]:
    """The answer to a query over everything committed, as `compile.finish` describes it."""
    return finish(query, collect(reader, query))


def collect(reader: Reader, query: Query) -> Cells:
    """The cells of a query, from the cheapest sources that have them."""
    reader.current()
    cells = Cells(most=query.most_cells)
    dim = rollup_for(query)
    if dim is None:
        _scan(reader, query, cells)
        return cells
    first, end = _whole_hours(reader, query.filters)
    if first >= end:
        _scan(reader, query, cells)
        return cells
    _from_rollup(reader, query, dim, (first, end), cells)
    filters = query.filters
    if filters.since is not None and filters.since < first * HOUR:
        _scan(reader, replace(query, filters=filters.between(None, first * HOUR)), cells)
    if filters.until is not None and filters.until > end * HOUR:
        _scan(reader, replace(query, filters=filters.between(end * HOUR, None)), cells)
    return cells


def rollup_for(query: Query) -> str | None:
    """The rollup that has the groups, filters and sums of a query; None when none has."""
    if query.bucket_ms is not None and query.bucket_ms % HOUR:
        return None
    for dim, columns in _ROLLED.items():
        names = {*query.group_by, *(condition.field for condition in query.filters.conditions)}
        if dim == "tag" and ("tag" not in query.group_by or query.filters.conditions):
            # a trace with two tags stands twice in it, and a filter on tags is about the trace
            continue
        if dim != "model" and query.wants_latencies:
            continue
        simple = all(condition.op in ("=", "!=") for condition in query.filters.conditions)
        if simple and names <= set(columns) and set(query.sums) <= set(sums_of(dim)):
            return dim
    return None


def _whole_hours(reader: Reader, filters: Filters) -> tuple[int, int]:
    """First hour and the hour after the last one that lie wholly within the time range."""
    if filters.since is None or filters.until is None:
        row = reader.store.reader().execute("SELECT min(hour), max(hour) FROM rollups").fetchone()
        oldest, newest = (int(row[0]), int(row[1])) if row[0] is not None else (0, 0)
    first = oldest if filters.since is None else -(-filters.since // HOUR)
    end = newest + 1 if filters.until is None else filters.until // HOUR
    return first, end


def _from_rollup(reader: Reader, query: Query, dim: str, hours: tuple[int, int], cells: Cells) -> None:
    columns = _ROLLED[dim]
    condition, params = _rollup_where(query.filters.conditions, columns)
    bucket = [] if query.bucket_ms is None else [f"hour * {HOUR} / {query.bucket_ms} * {query.bucket_ms}"]
    groups = [_group(name, columns) for name in query.group_by]
    keys = [*bucket, *groups]
    by = f" GROUP BY {', '.join(keys)}" if keys else ""
    sums = [f"coalesce(sum({name}), 0)" for name in query.sums]
    connection = reader.store.reader()
    found = connection.execute(
        f"SELECT {', '.join([*keys, *sums])} FROM rollups WHERE dim = ? AND hour >= ? AND hour < ?{condition}{by}",
        (dim, *hours, *params),
    ).fetchall()
    cells.add_sums((_back(row, query, len(bucket)) for row in found), len(keys))
    if query.wants_latencies:
        # only "model" gets here, and `latencies` names its columns as the traces do
        names = {"k1": "model", "k2": "provider"}
        keys = [names.get(key, key) for key in keys]
        condition = condition.replace("k1", "model").replace("k2", "provider")
        by = ", ".join([*keys, "bucket"])
        found = connection.execute(
            f"SELECT {by}, sum(requests) FROM latencies WHERE hour >= ? AND hour < ?{condition} GROUP BY {by}",
            (*hours, *params),
        ).fetchall()
        cells.add_latencies(found, len(keys))


def _group(name: str, columns: dict[str, str]) -> str:
    column = columns[name]
    return f"CASE WHEN {column} = '' THEN NULL ELSE cast({column} AS INTEGER) END" if name == "cluster" else column


def _back(row: Sequence[object], query: Query, skip: int) -> Sequence[object]:
    """Rollups keep an unknown key as an empty text; the answer shows None, as rows do."""
    nullable = {"key", "project", "error", "cluster"}
    groups = range(skip, skip + len(query.group_by))
    return [
        None if at in groups and query.group_by[at - skip] in nullable and value in ("", None) else value
        for at, value in enumerate(row)
    ]


def _rollup_where(conditions: Sequence[Condition], columns: dict[str, str]) -> tuple[str, list[Value]]:
    parts: list[str] = []
    params: list[Value] = []
    for condition in conditions:
        column = columns[condition.field]
        sign = "IN" if condition.op == "=" else "NOT IN"
        parts.append(f" AND {column} {sign} ({', '.join('?' * len(condition.values))})")
        params += [str(value) for value in condition.values]
    return "".join(parts), params


def _scan(reader: Reader, query: Query, cells: Cells) -> None:
    """Adds what single rows say: sealed segments where there are many, then chunks, SQLite's rows for the rest."""
    from . import chunk_sums, chunks, segments

    connection = reader.store.reader()
    chunked = chunks.covered_upto(connection) >= segments.sealed_upto(connection)
    sealed = segments.scan(reader.store, query, cells, chunked=chunked)
    keys = len(query.group_by) + (query.bucket_ms is not None)
    with reading(connection):
        covered = sealed
        if chunks.worth_it(connection, query.filters, sealed):
            covered = chunk_sums.add(connection, query, cells, sealed)
        extra = "seq >= ?" if covered else ""
        params: tuple[Value, ...] = ((covered + 1) << SEQ_BITS,) if covered else ()
        main, histogram, values = compile_query(query, SQLITE, extra=extra, extra_params=params)
        cells.add_sums(connection.execute(_in_order(main) if covered else main, values), keys)
        if histogram is not None:
            found = connection.execute(_in_order(histogram) if covered else histogram, values)
            cells.add_latencies(found.fetchall(), keys)


def _in_order(sql: str) -> str:
    """The newest rows lie side by side: reading them so is far faster than looking each up from an index of times."""
    return sql.replace(" FROM traces", " FROM traces NOT INDEXED", 1)


def facets(
    reader: Reader, filters: Filters, fields: Sequence[str], *, limit: int = 20
) -> dict[str, list[dict[str, object]]]:
    """For each field its most frequent values with counts, under the filters of the *other* fields.

    So the counts beside a field say what choosing another value of it would give.
    """
    result: dict[str, list[dict[str, object]]] = {}
    scanned: dict[str, Query] = {}
    for name in fields:
        others = tuple(condition for condition in filters.conditions if condition.field != name)
        query = Query(("requests",), (name,), filters=replace(filters, conditions=others, text=""), limit=limit)
        if rollup_for(query) is None:
            scanned[name] = query
            result[name] = []
        else:
            result[name] = _facet(name, answer(reader, query))
    for name, cells in _counted(reader, filters, scanned).items():
        result[name] = _facet(name, finish(scanned[name], cells))
    return result


def _facet(name: str, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{"value": row[name], "count": row["requests"]} for row in rows]


def _counted(reader: Reader, filters: Filters, queries: dict[str, Query]) -> dict[str, Cells]:
    """The requests of each query's groups, from the chunks in one pass and the rows after them."""
    if not queries:
        return {}
    from . import chunk_sums

    connection = reader.current()
    counted: dict[str, Cells] = {name: Cells() for name in queries}
    with reading(connection):
        covered, found = chunk_sums.count(connection, replace(filters, text=""), list(queries))
        for name, query in queries.items():
            counted[name].add_sums(found[name].items(), 1)
            extra = ((covered + 1) << SEQ_BITS,)
            fresh, _, values = compile_query(query, SQLITE, extra="seq >= ?", extra_params=extra)
            counted[name].add_sums(connection.execute(_in_order(fresh), values).fetchall(), 1)
    return counted


def series(reader: Reader, filters: Filters, *, buckets: int = 60) -> list[dict[str, object]]:
    """Requests and errors over the time range of the filters, for the histogram above a list."""
    since, until = filters.since, filters.until
    if since is None or until is None:
        row = reader.current().execute("SELECT min(ts_ms), max(ts_ms) FROM traces").fetchone()
        if row[0] is None:
            return []
        since = row[0] if since is None else since
        until = row[1] + 1 if until is None else until
    bucket = nice_bucket(max(1, until - since), buckets)
    query = Query(("requests", "errors"), bucket_ms=bucket, filters=replace(filters, text=""))
    return answer(reader, query)


_NICE: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)


def nice_bucket(span: int, buckets: int) -> int:
    """A round bucket in milliseconds that cuts `span` into at most about `buckets`."""
    wanted = span / max(1, buckets) / 1000
    return next((seconds for seconds in _NICE if seconds >= wanted), _NICE[-1]) * 1000


assert set(FIELDS) >= {name for columns in _ROLLED.values() for name in columns}
