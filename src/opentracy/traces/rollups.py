"""Hourly sums: what they hold, and adding rows to them.

Belongs here: the dimensions and the arithmetic. A chunk of rows is added up in memory first, so that the tables are
touched once per group and not once per row and dimension. Who reads them is `stats`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from .columns import NAMES
from .compile import SUMS

HOUR_MS: Final = 3_600_000

#: what the rollups of every dimension hold; those of model and key hold all of `compile.SUMS`
SHORT_SUMS: Final = tuple(SUMS)[:8]
#: a chunk of 2^12 rows of such figures still fits 64 bits
LARGEST: Final = 2**50
DIMENSIONS: Final = ("model", "key", "outcome", "cluster", "tag")

_AT: Final = {name: at for at, name in enumerate(NAMES)}
_TAGS: Final = _AT["tags"]

Sums = list[int]


def sums_of(dim: str) -> tuple[str, ...]:
    """The sums that the rollups of a dimension hold."""
    return tuple(SUMS) if dim in ("model", "key") else SHORT_SUMS


def add_up(rows: Iterable[Sequence[Any]]) -> tuple[dict[tuple[Any, ...], Sums], dict[tuple[Any, ...], int]]:
    """Sums by everything that is a dimension together, and counts of latency buckets. Rows are those of `traces`."""
    totals: dict[tuple[Any, ...], Sums] = {}
    latencies: dict[tuple[Any, ...], int] = {}
    # unpacking once is far cheaper than thirty lookups; the names are those of `columns.NAMES`, in their order
    for (
        _, ts_ms, outcome, _, model, provider, _, _, project, key_id, _, _, tags, cluster_id, stream, cache_hit, _,
        fallback, attempts, latency_us, bucket, ttft_us, tokens_in, tokens_out, cached, reasoning, cost,
        counterfactual, error_type, _,
    ) in rows:  # fmt: skip
        hour = ts_ms // HOUR_MS
        key = (hour, model, provider, key_id, project, outcome, error_type, cluster_id, tags)
        sums = totals.get(key)
        if sums is None:
            sums = totals[key] = [0] * len(SUMS)
        sums[0] += 1
        if outcome != "ok":
            sums[1] += 1
        if cost is None:
            sums[3] += 1
        else:
            sums[2] += cost
        if counterfactual:
            sums[4] += counterfactual
        if tokens_in:
            sums[5] += tokens_in
        if tokens_out:
            sums[6] += tokens_out
        sums[7] += latency_us
        if cached:
            sums[8] += cached
        if reasoning:
            sums[9] += reasoning
        if ttft_us is not None:
            sums[10] += ttft_us
            sums[11] += 1
        sums[12] += attempts
        if fallback:
            sums[13] += 1
        if stream:
            sums[14] += 1
        if cache_hit:
            sums[15] += 1
        place = (hour, model, provider, bucket)
        latencies[place] = latencies.get(place, 0) + 1
    return totals, latencies


def by_dimension(totals: dict[tuple[Any, ...], Sums]) -> dict[str, list[tuple[Any, ...]]]:
    """The sums of `add_up` for each dimension, as rows of its table. Unknown keys are empty texts.

    Raises OverflowError when a sum is beyond what any real traffic has, so that nothing is ever added wrongly.
    """
    import numpy as np

    sums = np.array(list(totals.values()), dtype=np.int64).reshape(-1, len(SUMS))
    if sums.size and int(np.abs(sums).max()) > LARGEST:
        raise OverflowError("A figure of a trace is too large to be added up")
    groups: dict[str, tuple[dict[tuple[Any, ...], int], list[int], list[int]]] = {d: ({}, [], []) for d in DIMENSIONS}

    def note(dim: str, place: tuple[Any, ...], row: int) -> None:
        places, into, rows = groups[dim]
        into.append(places.setdefault(place, len(places)))
        rows.append(row)

    for row, (hour, model, provider, key_id, project, outcome, error, cluster, tags) in enumerate(totals):
        note("model", (hour, model, provider), row)
        note("key", (hour, key_id or "", project or ""), row)
        note("outcome", (hour, outcome, error or ""), row)
        note("cluster", (hour, "" if cluster is None else str(cluster), model), row)
        if tags is not None:
            for tag in msgspec.json.decode(tags):
                note("tag", (hour, tag, ""), row)
    result: dict[str, list[tuple[Any, ...]]] = {}
    for dim, (places, into, rows) in groups.items():
        added = np.zeros((len(places), len(SUMS)), dtype=np.int64)
        np.add.at(added, into, sums[rows])
        width = len(sums_of(dim))
        result[dim] = [(dim, *place, *values[:width]) for place, values in zip(places, added.tolist(), strict=True)]
    return result


def store(connection: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Adds rows to the tables, within the caller's transaction."""
    totals, latencies = add_up(rows)
    for dim, found in by_dimension(totals).items():
        names = sums_of(dim)
        connection.executemany(
            f"INSERT INTO rollups (dim, hour, k1, k2, {', '.join(names)}) VALUES ({', '.join('?' * (4 + len(names)))}) "
            f"ON CONFLICT (dim, hour, k1, k2) DO UPDATE SET {', '.join(f'{n} = {n} + excluded.{n}' for n in names)}",
            found,
        )
    connection.executemany(
        "INSERT INTO latencies VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (hour, model, provider, bucket) DO UPDATE SET requests = requests + excluded.requests",
        [(*place, count) for place, count in latencies.items()],
    )
