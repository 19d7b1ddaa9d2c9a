"""Full text search over the bodies of traces.

Belongs here: finding, page by page. Two steps: the index says which blocks are worth unpacking (`words`), and whether
a row matches is decided on its own text (`texts`). So the index decides how fast an answer is, never what it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from .filters import Filters, where
from .project import SEQ_BITS
from .reader import Page, decode_cursor, encode_cursor, page_limit
from .texts import Wanted
from .transactions import reading
from .words import Hits

if TYPE_CHECKING:
    from .reader import Reader

#: a page that has looked this long hands out what it found and a cursor to go on from
SECONDS: Final = 1.5
_LAST: Final = 2**62

#: time and sequence number of a row: its place in the list
Place = tuple[int, int]


def search(reader: Reader, filters: Filters, *, limit: int, cursor: str | None) -> Page:
    """Traces that match the filters and whose text matches, newest first.

    A page may hold fewer than `limit` rows and still have a `next`: then the time for one page was up.
    """
    limit = page_limit(limit)
    wanted = Wanted.of(filters.text)
    if not wanted.patterns:
        return reader.page(replace(filters, text=""), limit=limit, cursor=cursor)
    after = decode_cursor(cursor) if cursor else None
    reader.current()
    with reading(reader.store.reader()):
        found, bound = _found(reader, filters, after, wanted, limit)
    return _page(reader, found, limit, bound)


def _found(
    reader: Reader, filters: Filters, after: Place | None, wanted: Wanted, limit: int
) -> tuple[list[Place], Place | None]:
    """Matches, and the place above which there are no others; None when these are all."""
    deadline = time.monotonic() + SECONDS
    found: list[Place] = []
    blocks = _candidates(reader, filters, after)
    upcoming = next(blocks, None)
    while upcoming is not None:
        found += islice(_matching(reader, filters, upcoming[0], after, wanted), limit + 1)
        upcoming = next(blocks, None)
        if upcoming is not None:
            # every block that was not looked at yet ends here or before; what is newer is complete
            bound = (upcoming[1], _LAST)
            ready = sum(place > bound for place in found)
            if (ready > limit or time.monotonic() > deadline) and (after is None or bound < after):
                return [place for place in found if place > bound], bound
    return found, None


def _page(reader: Reader, found: list[Place], limit: int, bound: Place | None) -> Page:
    found.sort(reverse=True)
    shown = found[:limit]
    rows = {row.seq: row for row in reader.by_seq([seq for _, seq in shown])}
    after = shown[-1] if len(found) > limit else bound
    return Page([rows[seq] for _, seq in shown if seq in rows], None if after is None else encode_cursor(*after))


def _candidates(reader: Reader, filters: Filters, after: Place | None) -> Iterator[tuple[int, int]]:
    """Blocks that may hold a match, with their newest time, newest first."""
    connection = reader.store.reader()
    hits = Hits(connection, filters.text)
    since = filters.since if filters.since is not None else -_LAST
    until = filters.until if filters.until is not None else _LAST
    blocks = connection.execute(
        "SELECT id, ts_max FROM blocks WHERE ts_max >= ? AND ts_min < ? AND ts_min <= ? ORDER BY ts_max DESC, id DESC",
        (since, until, _LAST if after is None else after[0]),
    ).fetchall()
    return (block for block in blocks if hits.may_hold(block[0]))


def _matching(reader: Reader, filters: Filters, block: int, after: Place | None, wanted: Wanted) -> Iterator[Place]:
    """The rows of a block that fulfil the filters and the text, newest first: whoever has enough reads no further."""
    texts = reader.bodies(block)
    if texts is None:
        return
    condition, params = where(replace(filters, text=""))
    if after is not None:
        condition = f"({condition}) AND (ts_ms, seq) < (?, ?)"
        params += after
    rows = reader.store.reader().execute(
        f"SELECT ts_ms, seq FROM traces WHERE ({condition}) AND seq BETWEEN ? AND ?",
        (*params, block << SEQ_BITS, (block + 1 << SEQ_BITS) - 1),
    )
    for place in sorted(rows, reverse=True):
        if wanted.matches(texts[place[1] & ((1 << SEQ_BITS) - 1)]):
            yield place
