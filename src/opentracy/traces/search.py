"""Full text search over the bodies of traces.

Belongs here: what a search text means and finding it. Words are AND-ed, `"a phrase"` stands together, `prefix*` matches
the beginning of a word; upper and lower case and accents make no difference.
"""

from __future__ import annotations

import re
import time
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .codec import Body
from .filters import Filters, where
from .project import SEQ_BITS
from .reader import Page, decode_cursor, encode_cursor, page_limit

if TYPE_CHECKING:
    from .reader import Reader, TraceRow

#: a page that has looked this long hands out what it found and a cursor to go on from
SECONDS: Final = 2.0
_BATCH: Final = 500


def fold(text: str) -> str:
    """Text as it is compared: case folded, accents removed."""
    if text.isascii():
        return text.lower()
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in split if not unicodedata.combining(letter))


def matcher(query: str) -> list[re.Pattern[str]]:
    """One pattern per term of a search; a body matches when each is found in its folded text."""
    patterns = []
    for phrase, word in re.findall(r'"([^"]*)"|(\S+)', query):
        terms = re.findall(r"\w+", fold(phrase or word))
        if not terms:
            continue
        end = "" if word.endswith("*") else r"(?!\w)"
        patterns.append(re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, terms)) + end))
    return patterns


def matches(patterns: list[re.Pattern[str]], body: Body | None) -> bool:
    """True when every pattern is found in the request or the response."""
    if body is None:
        return False
    text = fold("\n".join(part.decode("utf-8", "replace") for part in body if part is not None))
    return all(pattern.search(text) for pattern in patterns)


def search(reader: Reader, filters: Filters, *, limit: int, cursor: str | None) -> Page:
    """Traces that match the filters and whose text matches, newest first."""
    patterns = matcher(filters.text)
    condition, base = where(replace(filters, text=""))
    limit = page_limit(limit)
    found: list[TraceRow] = []
    last = decode_cursor(cursor) if cursor else None
    deadline = time.monotonic() + SECONDS
    bodies: dict[int, list[Body | None] | None] = {}
    while True:
        extra = " AND (ts_ms, seq) < (?, ?)" if last else ""
        rows = reader.select(
            f"({condition}){extra}", [*base, *(last or ())], order="ts_ms DESC, seq DESC", limit=_BATCH
        )
        for row in rows:
            block = row.seq >> SEQ_BITS
            if block not in bodies:
                bodies[block] = reader.bodies(block)
            texts = bodies[block]
            if texts is not None and matches(patterns, texts[row.seq & ((1 << SEQ_BITS) - 1)]):
                if len(found) == limit:
                    return Page(found, encode_cursor(found[-1]))
                found.append(row)
        if len(rows) < _BATCH:
            return Page(found, None)
        last = rows[-1].ts_ms, rows[-1].seq
        bodies = {block: texts for block, texts in bodies.items() if block == rows[-1].seq >> SEQ_BITS}
        if time.monotonic() > deadline:
            return Page(found, encode_cursor(rows[-1]))
