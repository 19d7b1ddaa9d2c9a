"""Hourly sums: what they hold, and adding rows to them.

Belongs here: the dimensions and the arithmetic. A chunk of rows is added up in memory first, so that the tables are
touched once per group and not once per row and dimension. Who reads them is `stats`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Final

import msgspec

from .compile import SUMS

HOUR_MS: Final = 3_600_000

#: what the rollups of every dimension hold; those of model and key hold all of `compile.SUMS`
SHORT_SUMS: Final = tuple(SUMS)[:8]
#: a chunk of 2^12 rows of such figures still fits 64 bits
LARGEST: Final = 2**50
DIMENSIONS: Final = ("model", "key", "outcome", "cluster", "tag")

Sums = list[int]


def sums_of(dim: str) -> tuple[str, ...]:
    """The sums that the rollups of a dimension hold."""
    return tuple(SUMS) if dim in ("model", "key") else SHORT_SUMS


@dataclass(slots=True)
class Totals:
    """Rows added up: by everything but tags that is a dimension, by their tags, and by latency bucket."""

    groups: dict[tuple[Any, ...], Sums] = field(default_factory=dict)
    tags: dict[tuple[int, str], Sums] = field(default_factory=dict)
    latencies: dict[tuple[Any, ...], int] = field(default_factory=dict)


def add_up(rows: Iterable[Sequence[Any]], totals: Totals) -> None:
    """Adds rows of `traces` to the totals."""
    groups, latencies, tagged = totals.groups, totals.latencies, totals.tags
    # unpacking once is far cheaper than thirty lookups; the names are those of `columns.NAMES`, in their order
    for (
        _, ts_ms, outcome, _, model, provider, _, _, project, key_id, _, _, tags, cluster_id, stream, cache_hit, _,
        fallback, attempts, latency_us, bucket, ttft_us, tokens_in, tokens_out, cached, reasoning, cost,
        counterfactual, error_type, _,
    ) in rows:  # fmt: skip
        hour = ts_ms // HOUR_MS
        key = (hour, model, provider, key_id, project, outcome, error_type, cluster_id)
        sums = groups.get(key)
        if sums is None:
            sums = groups[key] = [0] * len(SUMS)
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
        if tags is not None:
            one = (
                1,
                outcome != "ok",
                cost or 0,
                cost is None,
                counterfactual or 0,
                tokens_in or 0,
                tokens_out or 0,
                latency_us,
            )
            before = tagged.get((hour, tags))
            tagged[hour, tags] = list(one) if before is None else list(map(add, before, one))


def by_dimension(totals: Totals) -> dict[str, list[tuple[Any, ...]]]:
    """The totals for each dimension, as rows of its table. Unknown keys are empty texts.

    Raises OverflowError when a sum is beyond what any real traffic has, so that nothing is ever added wrongly.
    """
    groups, tags = list(totals.groups), list(totals.tags)
    every = list(totals.groups.values())
    result = {
        "model": _merged([(hour, model, provider) for hour, model, provider, *_ in groups], every),
        "key": _merged([(key[0], key[3] or "", key[4] or "") for key in groups], every),
        "outcome": _merged([(key[0], key[5], key[6] or "") for key in groups], every),
        "cluster": _merged([(key[0], "" if key[7] is None else str(key[7]), key[1]) for key in groups], every),
    }
    singles = [((hour, tag, ""), totals.tags[hour, text]) for hour, text in tags for tag in msgspec.json.decode(text)]
    result["tag"] = _merged([place for place, _ in singles], [sums for _, sums in singles])
    return {
        dim: [(dim, *place, *sums[: len(sums_of(dim))]) for place, sums in merged.items()]
        for dim, merged in result.items()
    }


def _merged(places: list[tuple[Any, ...]], sums: list[Sums]) -> dict[tuple[Any, ...], Sums]:
    """Adds up what has the same place. With numpy, since there may be nearly as many groups as rows."""
    import numpy as np

    if not places:
        return {}
    index: dict[tuple[Any, ...], int] = {}
    into = [index.setdefault(place, len(index)) for place in places]
    values = np.array(sums, dtype=np.int64)
    if int(np.abs(values).max()) > LARGEST:
        raise OverflowError("A figure of a trace is too large to be added up")
    added = np.zeros((len(index), values.shape[1]), dtype=np.int64)
    np.add.at(added, into, values)
    return dict(zip(index, added.tolist(), strict=True))


def store(connection: sqlite3.Connection, totals: Totals) -> None:
    """Adds totals to the tables, within the caller's transaction."""
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
        [(*place, count) for place, count in totals.latencies.items()],
    )
