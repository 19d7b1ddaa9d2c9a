"""Full text search over the bodies of traces.

Belongs here: what a search text means, the index, and finding. Words are AND-ed, `"a phrase"` stands together,
`prefix*` matches the beginning of a word; upper and lower case and accents make no difference.

Two steps. The FTS5 index has one entry per journal block, without positions: it is a tenth of the size of an index by
row and says which blocks are worth unpacking. Whether a row matches is decided on its own text, so the index decides
how fast an answer is, never what it is; blocks that are not indexed yet are simply looked into.
"""

from __future__ import annotations

import re
import sqlite3
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from .codec import Body, decode_bodies
from .filters import Filters, where
from .project import SEQ_BITS
from .reader import Page, decode_cursor, encode_cursor, page_limit

if TYPE_CHECKING:
    from .reader import Reader

#: a page that has looked this long hands out what it found and a cursor to go on from
SECONDS: Final = 1.5
#: so many different accents are removed one by one
_FEW_ACCENTS: Final = 8
_LAST: Final = 2**62

#: time and sequence number of a row: its place in the list
Place = tuple[int, int]

_WORD: Final = re.compile(r"[^\W_]+")
_ESCAPED: Final = re.compile(rb"\\u")  # twice as fast as `in`, which stops at every u
#: scripts without spaces between words, whose runs of letters no index of words can look into
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


def fold(text: str) -> str:
    """Text as it is compared: case folded, accents removed."""
    if text.isascii():
        return text.lower()
    split = unicodedata.normalize("NFKD", text.casefold())
    # a text has few different letters, and fewer accents: looking at each place would take three times as long
    accents = [letter for letter in set(split) if unicodedata.combining(letter)]
    if len(accents) > _FEW_ACCENTS:
        return "".join([letter for letter in split if not unicodedata.combining(letter)])
    for accent in accents:
        split = split.replace(accent, "")
    return split


def terms_of(query: str) -> list[tuple[list[str], bool]]:
    """The terms of a search: the words of each, and whether the last is a prefix."""
    terms = []
    for phrase, word in re.findall(r'"([^"]*)"|(\S+)', query):
        words = _WORD.findall(fold(phrase or word))
        if words:
            terms.append((words, word.endswith("*")))
    return terms


def matcher(query: str) -> list[re.Pattern[str]]:
    """One pattern per term; a text matches when each is found in its folded form."""
    patterns = []
    for words, prefix in terms_of(query):
        body = r"[\W_]+".join(map(re.escape, words))
        start = "" if _UNSPACED.match(words[0]) else r"(?<![^\W_])"
        end = "" if prefix or _UNSPACED.match(words[-1][-1]) else r"(?![^\W_])"
        patterns.append(re.compile(start + body + end))
    return patterns


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search text, ready to be held against bodies. `words`: what stands in every plain body that matches."""

    patterns: list[re.Pattern[str]]
    words: list[bytes]

    @classmethod
    def of(cls, query: str) -> Wanted:
        """What a query looks for; without patterns it looks for nothing."""
        # the longest first: it is the rarest more often than not
        words = sorted({word for words, _ in terms_of(query) for word in words}, key=len, reverse=True)
        return cls(matcher(query), [word.encode() for word in words])

    def matches(self, body: Body | None) -> bool:
        """True when every term is found in the request and the response taken together."""
        if body is None or not self._possible(body):
            return False
        text = fold(readable(body))
        return all(pattern.search(text) for pattern in self.patterns)

    def _possible(self, body: Body) -> bool:
        """False for most bodies that do not match, at a tenth of the cost of reading them.

        A body in ASCII without escaped letters has its words as they are; any other must be read to know them.
        """
        request, response = body
        whole = (request or b"") + b"\n" + (response or b"")
        lower = whole.lower()
        for word in self.words:
            if word not in lower:
                return not whole.isascii() or _ESCAPED.search(whole) is not None
        return True


def readable(body: Body) -> str:
    """The text of a body with JSON's escapes of newlines and letters resolved, so that words are whole."""
    text = "\n".join(part.decode("utf-8", "replace") for part in body if part is not None)
    if "\\" in text:
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
        text = re.sub(r"\\[nrtbf]", " ", text)
        # two escapes may be the halves of one character; a half alone is text that no database takes
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def index_query(query: str) -> str | None:
    """The FTS5 expression that every matching block fulfils; None when the index cannot help.

    The index folds nearly as `fold` does; a word for which that is not certain is left to the second step.
    """
    parts = []
    for words, prefix in terms_of(query):
        for at, word in enumerate(words):
            if _indexed_alike(word):
                last = at == len(words) - 1
                parts.append(f'"{word}"' + ("*" if prefix and last else ""))
    return " AND ".join(parts) or None


def _indexed_alike(word: str) -> bool:
    """Latin, Greek and Cyrillic words stand in the index as they stand in a search; others may be cut differently."""
    return word.isascii() or all(letter.isalpha() and letter < "\u0530" for letter in word)


def index_upto(connection: sqlite3.Connection) -> int:
    """The last block in the index."""
    row = connection.execute("SELECT value FROM state WHERE name = 'indexed'").fetchone()
    return int(row[0]) if row else 0


def index_some(connection: sqlite3.Connection, *, blocks: int = 20) -> int:
    """Adds the next blocks to the index in one transaction; returns how many were looked at."""
    done = index_upto(connection)
    found = connection.execute(
        "SELECT blocks.id, bodies.codec, data FROM blocks LEFT JOIN bodies ON bodies.block = blocks.id "
        "WHERE blocks.id > ? ORDER BY blocks.id LIMIT ?",
        (done, blocks),
    ).fetchall()
    if not found:
        return 0
    entries = [(block, text_of(decode_bodies(codec, data))) for block, codec, data in found if data is not None]
    connection.execute("BEGIN IMMEDIATE")
    try:
        # another process may have been faster; entries must not be added twice
        if index_upto(connection) == done:
            connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", entries)
            connection.execute("INSERT OR REPLACE INTO state VALUES ('indexed', ?)", (found[-1][0],))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return len(found)


def text_of(bodies: list[Body | None]) -> str:
    """What the index is given of a block. Folded body by body, since most are plain ASCII and fold at once."""
    return "\n".join([fold(readable(body)) for body in bodies if body is not None])


def unindex(connection: sqlite3.Connection, block: int, bodies: list[Body | None]) -> None:
    """Takes a block's words out of the index, given the bodies it was indexed with."""
    if block <= index_upto(connection):
        connection.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (block, text_of(bodies)))


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
    deadline = time.monotonic() + SECONDS
    found: list[Place] = []
    blocks = _candidates(reader, filters, after)
    for at, (block, _) in enumerate(blocks):
        found += islice(_matching(reader, filters, block, after, wanted), limit + 1)
        if at + 1 == len(blocks):
            break
        # every block that was not looked at yet ends here or before; what is newer is complete
        bound = (blocks[at + 1][1], _LAST)
        ready = sum(place > bound for place in found)
        if (ready > limit or time.monotonic() > deadline) and (after is None or bound < after):
            return _page(reader, [place for place in found if place > bound], limit, bound)
    return _page(reader, found, limit, None)


def _page(reader: Reader, found: list[Place], limit: int, bound: Place | None) -> Page:
    found.sort(reverse=True)
    shown = found[:limit]
    rows = {row.seq: row for row in reader.by_seq([seq for _, seq in shown])}
    after = shown[-1] if len(found) > limit else bound
    return Page([rows[seq] for _, seq in shown if seq in rows], None if after is None else encode_cursor(*after))


def _candidates(reader: Reader, filters: Filters, after: Place | None) -> list[tuple[int, int]]:
    """Blocks that may hold a match, with their newest time, newest first."""
    connection = reader.store.reader()
    since = filters.since if filters.since is not None else -_LAST
    until = filters.until if filters.until is not None else _LAST
    bounds: list[object] = [since, until, _LAST if after is None else after[0]]
    wanted = index_query(filters.text)
    extra = ""
    if wanted is not None:
        extra = " AND (id > ? OR id IN (SELECT rowid FROM words WHERE words MATCH ?))"
        bounds += [index_upto(connection), wanted]
    return connection.execute(
        "SELECT id, ts_max FROM blocks WHERE ts_max >= ? AND ts_min < ? AND ts_min <= ?"
        f"{extra} ORDER BY ts_max DESC, id DESC",
        bounds,
    ).fetchall()


def _matching(
    reader: Reader, filters: Filters, block: int, after: Place | None, wanted: Wanted
) -> Iterator[Place]:  # fmt: skip
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
