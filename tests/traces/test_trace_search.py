"""Search finds exactly the rows that hold the words, whether they are indexed or not."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_samples import make_record

from opentracy.traces import search, words
from opentracy.traces import texts as wording
from opentracy.traces.filters import Filters, parse
from opentracy.traces.model import TraceRecord
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import Limits, TraceWriter

TEXTS = [
    "What is the capital of France?",
    "the Café in Zürich\nserves good café crème",
    "SELECT name FROM users WHERE id = 7;",
    "über_long snake_case names",
    "请问东京的天气怎么样",
    "Привет, как дела",
    "refund for order A-1234 please",
    "please refund my order",
    "ΑΘΗΝΑ is in Greece",
    "prefixes: refunding refunded",
]


def body(text: str) -> bytes:
    """A request as clients send it: non-ASCII escaped in every second one."""
    return json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=len(text) % 2 == 0).encode()


@pytest.fixture(params=["scanned", "indexed", "half"])
def texts(request: pytest.FixtureRequest, store: Store) -> Reader:
    """A store with `TEXTS`, two rows a block, with no index, a whole one, or half of one."""
    with TraceWriter(store, limits=Limits(block_rows=2), project=False) as writer:
        for number, text in enumerate(TEXTS):
            writer.put(make_record(number, request=body(text), response=None))
    connection = store.connect()
    if request.param != "scanned":
        words.add_some(connection, blocks=100 if request.param == "indexed" else 3)
    connection.close()
    return Reader(store)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("capital", [0]),
        ("CAPITAL france", [0]),
        ("cafe creme", [1]),
        ("café", [1]),
        ("zurich serves", [1]),
        ("refund", [6, 7]),
        ("refund*", [6, 7, 9]),
        ("refund order", [6, 7]),
        ('"refund my order"', [7]),
        ('"my refund"', []),
        ("1234", [6]),
        ("A-1234", [6]),
        ("snake_case", [3]),
        ("case", [3]),
        ("天气", [4]),
        ("东京的天气", [4]),
        ("привет", [5]),
        ("ПРИВЕТ дела", [5]),
        ("αθηνα", [8]),
        ("capit", []),
        ("nothing", []),
        ('OR AND NOT "', []),
        ("users;--", [2]),
    ],
)
def test_finds_what_holds_the_words(texts: Reader, query: str, expected: list[int]) -> None:
    """Words AND-ed, phrases together, prefixes with a star; case and accents ignored; any script."""
    rows = texts.page(Filters(text=query)).rows
    wanted = [make_record(number).trace_id for number in reversed(expected)]
    assert [row.trace_id for row in rows] == wanted


def test_text_and_filters_are_anded(store: Store) -> None:
    """A filter narrows a search, and a query bar may hold both."""
    with TraceWriter(store) as writer:
        writer.put(make_record(1, model="a", request=body("same words")))
        writer.put(make_record(2, model="b", request=body("same words")))
    assert [row.model for row in Reader(store).page(parse("model:b same words")).rows] == ["b"]
    assert len(Reader(store).page(parse("???")).rows) == 2


def test_the_answer_is_searched_too(store: Store) -> None:
    """A word of the response counts, and a bodyless row never matches."""
    with TraceWriter(store) as writer:
        writer.put(make_record(1, request=None, response=body("Paris it is")))
        writer.put(make_record(2, request=None, response=None))
    assert len(Reader(store).page(Filters(text="paris")).rows) == 1


@pytest.mark.parametrize("seconds", [1e9, -1.0])
@pytest.mark.parametrize(("indexed", "part_rows"), [(0, 1), (7, 20), (1000, 20), (1000, 10_000)])
def test_pages_give_every_match_once(
    store: Store, seconds: float, indexed: int, part_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when every page runs out of time, when blocks overlap in time as imports make them, and when the index has
    many parts."""
    monkeypatch.setattr(search, "SECONDS", seconds)
    monkeypatch.setattr(words, "PART_ROWS", part_rows)
    draw = random.Random(4)
    numbers = list(range(300))
    draw.shuffle(numbers)
    wanted = set()
    with TraceWriter(store, limits=Limits(block_rows=5)) as writer:
        for number in numbers:
            has = draw.random() < 0.3
            record = make_record(number // 3, trace_id=f"{number:032x}", request=body("needle" if has else "hay"))
            if has:
                wanted.add(record.trace_id)
            writer.put(record)
    connection = store.connect()
    words.add_some(connection, blocks=indexed)
    connection.close()
    reader = Reader(store)
    seen: list[str] = []
    times: list[int] = []
    cursor = None
    for _ in range(1000):
        page = reader.page(Filters(text="needle"), limit=7, cursor=cursor)
        seen += [row.trace_id for row in page.rows]
        times += [row.ts_ms for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert sorted(seen) == sorted(wanted)
    assert times == sorted(times, reverse=True)


def test_indexing_continues_and_two_indexers_do_not_double(store: Store, put: Callable[..., list[TraceRecord]]) -> None:
    """The mark moves with the entries."""
    put(*[make_record(number) for number in range(10)])
    connection = store.connect()
    assert words.add_some(connection) == 1
    assert words.add_some(connection) == 0
    put(make_record(11))
    assert words.add_some(connection) == 1
    found = words.Hits(connection, "capital")
    assert found.may_hold(1)
    assert found.may_hold(2)
    part = words.parts(connection)[-1]
    assert connection.execute(f"SELECT count(*) FROM {part.table} WHERE {part.table} MATCH 'capital'").fetchone()[0] == 2
    connection.close()


def test_unindexed_words_are_gone(store: Store, put: Callable[..., list[TraceRecord]]) -> None:
    """Text that is removed must not live on as words of the index."""
    put(make_record(1, request=b"zanzibar"))
    connection = store.connect()
    words.add_some(connection)
    assert words.Hits(connection, "zanzibar").may_hold(1)
    bodies = Reader(store).bodies(1)
    assert bodies is not None
    words.take_out(connection, 1, bodies)
    assert not words.Hits(connection, "zanzibar").may_hold(1)
    connection.close()


@given(st.text(max_size=60), st.text(min_size=1, max_size=10))
def test_any_search_text_is_harmless(text: str, query: str) -> None:
    """No search text raises, and a text always matches each of its own words."""
    wording.Wanted.of(query).matches((text.encode("utf-8", "replace"), None))
    wording.index_query(query)
    plain = "".join(letter for letter in text if letter.isascii() and letter != "\\")
    for word in wording.WORD.findall(plain.lower()):
        assert wording.Wanted.of(word).matches((plain.encode(), None))


#: words that hide behind escapes, accents, ligatures and signs that fold to letters, and plain ones
_HIDDEN = [
    "refund",
    "REFUND",
    "ref\\u0075nd",
    "réfund",
    "re\ufb01t",
    "refit",
    "\u212aelvin",
    "kelvin",
    "\\n",
    "\\",
    "u_",
]
_PIECES = st.lists(st.one_of(st.sampled_from(_HIDDEN), st.text(max_size=3)), max_size=4).map(" ".join)


@given(_PIECES, st.one_of(st.none(), _PIECES), st.sampled_from(["refund", "kelvin u", "refi*", '"refund refit"']))
@settings(max_examples=400)
def test_what_is_passed_over_unread_does_not_match(request: str, response: str | None, query: str) -> None:
    """The quick look at a body never contradicts reading it."""
    wanted = wording.Wanted.of(query)
    body = (request.encode("utf-8", "replace"), None if response is None else response.encode("utf-8", "replace"))
    read = wording.fold(wording.readable(body))
    assert wanted.matches(body) == all(pattern.search(read) for pattern in wanted.patterns)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_folding_leaves_no_accents(text: str) -> None:
    """Letter by letter what the Unicode tables say, however many accents there are."""
    split = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in split if not unicodedata.combining(letter))
    assert wording.fold(text) == (text.lower() if text.isascii() else plain)


def test_escaped_surrogates_do_not_stop_the_index() -> None:
    """A JSON escape pair is one character, half of one is none: neither may reach the database as a surrogate."""
    from opentracy.traces.texts import readable

    assert readable((b'"\\ud83d\\ude00 caf\\u00e9"', None)) == '"\U0001f600 café"'
    readable((b'"\\ud83d alone"', None)).encode()
