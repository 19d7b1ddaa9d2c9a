"""Sums over chunks: what a query asks of the rows that stand in columns, and the counts beside the filters.

Belongs here: groups, sums and latency histograms of the rows of a chunk, as the SQL of `compile` would give them. Not
here: which rows (`chunks`). Every sum is exact: whole numbers are added in two halves, each of which a float holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .chunk_columns import Mask, Numbers
from .chunks import Hidden, Open, mask_of, overlapping, tags_in, visible_rows
from .compile import Cells, Query
from .filters import FIELDS, Filters
from .project import SEQ_BITS

#: part of an answer -> its column, and what of it is added up: `sum` of what is known, `unknown` or `known` rows
_PARTS: Final[dict[str, tuple[str, str]]] = {
    "cost_nano": ("cost_nano", "sum"),
    "unpriced": ("cost_nano", "unknown"),
    "counterfactual_nano": ("counterfactual_nano", "sum"),
    "tokens_in": ("tokens_in", "sum"),
    "tokens_out": ("tokens_out", "sum"),
    "latency_us": ("latency_us", "sum"),
    "tokens_cached": ("tokens_cached", "sum"),
    "tokens_reasoning": ("tokens_reasoning", "sum"),
    "ttft_us": ("ttft_us", "sum"),
    "ttft_count": ("ttft_us", "known"),
    "attempts": ("attempts", "sum"),
    "fallbacks": ("fallback", "sum"),
    "streams": ("stream", "sum"),
    "cache_hits": ("cache_hit", "sum"),
}
#: a number is added up as two, the lower of so many bits
_HALF: Final = 26
#: up to so many cells are counted side by side; more are sorted first
_SIDE_BY_SIDE: Final = 1 << 18


def add(connection: sqlite3.Connection, query: Query, cells: Cells, after_block: int) -> int:
    """Adds what the chunks say of the rows after a block, and returns the last block they cover (at least that one).

    Rows after it are the caller's to look at, and the caller is `chunks.reading`.
    """
    upto, found = overlapping(connection, query.filters, None)
    hidden = Hidden(connection)
    for chunk in found:
        if chunk.last > after_block:
            _add(Open(connection, chunk), query, cells, hidden, after_block)
    return max(upto, after_block)


def _add(open_: Open, query: Query, cells: Cells, hidden: Hidden, after_block: int) -> None:
    mask = visible_rows(open_, query.filters, None, hidden)
    if open_.chunk.first <= after_block:
        mask &= open_.seqs() >= (after_block + 1) << SEQ_BITS
    for condition in query.filters.conditions:
        if not mask.any():
            return
        mask &= mask_of(condition, open_)
    rows = np.flatnonzero(mask)
    if not len(rows):
        return
    keys: list[tuple[Numbers, list[Any]]] = []
    if query.bucket_ms is not None:
        keys.append(_distinct(open_("ts_ms").values[rows] // query.bucket_ms * query.bucket_ms))
    if "tag" in query.group_by:
        tags, rows, again = _one_row_a_tag(open_, rows)
        keys = [(codes[again], values) for codes, values in keys]
    for name in query.group_by:
        keys.append(tags if name == "tag" else _group(open_, name, rows))
    _summed(open_, query, rows, keys, cells)


def _summed(open_: Open, query: Query, rows: Numbers, keys: list[tuple[Numbers, list[Any]]], cells: Cells) -> None:
    places, groups = _together(keys, len(rows))
    sums = [_part(open_, name, rows, places, len(groups)) for name in query.sums]
    cells.add_sums(((*key, *values) for key, *values in zip(groups, *sums, strict=True)), len(keys))
    if query.wants_latencies:
        places, groups = _together([*keys, _distinct(open_("latency_bucket").values[rows])], len(rows))
        counts = np.bincount(places, minlength=len(groups)).tolist()
        cells.add_latencies(((*key, many) for key, many in zip(groups, counts, strict=True)), len(keys))


def _part(open_: Open, name: str, rows: Numbers, places: Numbers, groups: int) -> list[int]:
    """One additive part, by group (`compile.SUMS`)."""
    if name == "requests":
        return _counted(places, groups)
    if name == "errors":
        outcome = open_("outcome")
        bad = np.array([word != "ok" for word in outcome.words or []], np.bool_)[outcome.values[rows]]
        return _counted(places[bad], groups)
    where, how = _PARTS[name]
    column = open_(where)
    unknown = None if column.nulls is None else column.nulls[rows]
    if how == "sum":
        # what is unknown stands as 0
        numbers = column.values[rows].astype(np.int64)
        high = np.bincount(places, numbers >> _HALF, groups).tolist()
        low = np.bincount(places, numbers & ((1 << _HALF) - 1), groups).tolist()
        return [(int(above) << _HALF) + int(below) for above, below in zip(high, low, strict=True)]
    if unknown is None:
        return _counted(places, groups) if how == "known" else [0] * groups
    return _counted(places[unknown if how == "unknown" else ~unknown], groups)


def _counted(places: Numbers, groups: int) -> list[int]:
    counts: list[int] = np.bincount(places, minlength=groups).tolist()
    return counts


def _distinct(numbers: Numbers) -> tuple[Numbers, list[Any]]:
    """Codes of some numbers, and what each means."""
    values, codes = np.unique(numbers, return_inverse=True)
    return codes, values.tolist()


def _group(open_: Open, name: str, rows: Numbers) -> tuple[Numbers, list[Any]]:
    column = open_("http_status" if name == "status" else FIELDS[name].column)
    if column.words is not None:
        return column.values[rows].astype(np.int64), column.words
    codes, values = _distinct(column.values[rows])
    if column.nulls is not None:
        codes = np.where(column.nulls[rows], len(values), codes)
        values = [*values, None]
    return codes, values


def _one_row_a_tag(open_: Open, rows: Numbers) -> tuple[tuple[Numbers, list[Any]], Numbers, Numbers]:
    """The tags of some rows as a group, the rows once for each of them, and where each stood in `rows`."""
    column = open_("tags")
    lists = [tags_in(word) for word in column.words or []]
    names = sorted({name for tags in lists for name in tags})
    code_of = {name: code for code, name in enumerate(names)}
    flat = np.array([code_of[name] for tags in lists for name in tags], np.int64)
    lengths = np.array([len(tags) for tags in lists], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    words = column.values[rows]
    many = lengths[words]
    again = np.repeat(np.arange(len(rows)), many)
    # the first tag of each row, then the next ones
    step = np.arange(len(again)) - np.repeat(np.cumsum(many) - many, many)
    codes = flat[starts[words[again]] + step] if len(again) else np.zeros(0, np.int64)
    return (codes, names), rows[again], again


def _together(keys: Sequence[tuple[Numbers, list[Any]]], rows: int) -> tuple[Numbers, list[tuple[Any, ...]]]:
    """Each row's place among the groups that several keys make, and these groups."""
    if not keys:
        return np.zeros(rows, np.int64), [()]
    combined = np.zeros(rows, np.int64)
    size = 1
    for codes, values in keys:
        if size * max(1, len(values)) >= 2**62:  # more combinations than numbers: count those that occur
            _, combined = np.unique(combined, return_inverse=True)
            size = rows
        combined = combined * len(values) + codes
        size *= max(1, len(values))
    if size <= _SIDE_BY_SIDE:
        there = np.flatnonzero(np.bincount(combined, minlength=size))
        place_of = np.zeros(size, np.int64)
        place_of[there] = np.arange(len(there))
        places = place_of[combined]
        first = np.zeros(len(there), np.int64)
        first[places[::-1]] = np.arange(rows)[::-1]
    else:
        _, first, places = np.unique(combined, return_index=True, return_inverse=True)
    columns = [[values[code] for code in codes[first].tolist()] for codes, values in keys]
    return places, list(zip(*columns, strict=True))


# ---------------------------------------------------------------- facets
def count(
    connection: sqlite3.Connection, filters: Filters, fields: Sequence[str]
) -> tuple[int, dict[str, dict[Any, int]]]:
    """For each field (a group of `compile`) its values with the number of rows, under the filters of the other fields;
    and the last block that chunks cover. Values are those that SQLite gives. The caller is `chunks.reading`."""
    upto, found_in = overlapping(connection, filters, None)
    hidden = Hidden(connection)
    found: dict[str, dict[Any, int]] = {name: {} for name in fields}
    for chunk in found_in:
        open_ = Open(connection, chunk)
        shown = visible_rows(open_, filters, None, hidden)
        masks = {condition: mask_of(condition, open_) for condition in filters.conditions}
        for name in fields:
            mask = shown.copy()
            for condition, one in masks.items():
                if condition.field != name:
                    mask &= one
            _tally(open_, name, mask, found[name])
    return upto, found


def _tally(open_: Open, name: str, mask: Mask, into: dict[Any, int]) -> None:
    spec = FIELDS[name]
    column = open_("http_status" if name == "status" else spec.column)
    if column.words is None:
        if column.nulls is not None:
            _more(into, None, int((mask & column.nulls).sum()))
            mask = mask & ~column.nulls
        values, counts = np.unique(column.values[mask], return_counts=True)
        for value, many in zip(values.tolist(), counts.tolist(), strict=True):
            _more(into, value, many)
        return
    for code, many in enumerate(np.bincount(column.values[mask], minlength=len(column.words)).tolist()):
        word = column.words[code] if many else None
        if not many:
            continue
        for value in tags_in(word) if spec.kind == "tag" else (word,):
            _more(into, value, many)


def _more(into: dict[Any, int], value: Any, many: int) -> None:
    if many:
        into[value] = into.get(value, 0) + many
