"""What was written comes back: by id, as a page, as a tail."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from trace_samples import START_MS, make_record

from opentracy.traces import project, stats
from opentracy.traces.codec import encode_block
from opentracy.traces.compile import Query
from opentracy.traces.errors import QueryError
from opentracy.traces.filters import Filters, parse
from opentracy.traces.model import TraceRecord
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import Limits, TraceWriter, insert_block

Put = Callable[..., list[TraceRecord]]


def test_a_record_comes_back_whole(put: Put, reader: Reader) -> None:
    """Every field, the attempts and both bodies survive; an id with dashes finds it too."""
    record = make_record(
        1, tags=["a", "b"], metadata={"team": "x", "n": [1, None]}, route_candidates={"m": {"cost": 1}}
    )
    expected = make_record(
        1, tags=["a", "b"], metadata={"team": "x", "n": [1, None]}, route_candidates={"m": {"cost": 1}}
    )
    expected.body_state = "full"
    put(record)
    found = reader.get(record.trace_id)
    assert found == expected
    dashed = f"{record.trace_id[:8]}-{record.trace_id[8:]}"
    assert reader.get(dashed) == expected
    assert reader.get("0" * 32) is None


def test_pages_go_through_everything_once(put: Put, reader: Reader) -> None:
    """Newest first; the cursor neither skips nor repeats, also among equal times."""
    records = put(*[make_record(n, ts_ms=START_MS + n // 7) for n in range(40)])
    seen: list[str] = []
    cursor = None
    while True:
        page = reader.page(limit=9, cursor=cursor)
        seen += [row.trace_id for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert sorted(seen) == sorted(record.trace_id for record in records)
    times = [row.ts_ms for row in reader.page(limit=100).rows]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("cursor", ["x", "!!!", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTox", "é"])
def test_a_bad_cursor_is_refused(reader: Reader, cursor: str) -> None:
    """Never an unrelated page, never a crash."""
    with pytest.raises(QueryError, match="Not a cursor"):
        reader.page(cursor=cursor)


def test_limits_are_capped(reader: Reader, put: Put) -> None:
    """A huge limit is cut to the largest page, one below 1 is refused."""
    put(*[make_record(n) for n in range(1100)])
    assert len(reader.page(limit=10**9).rows) == 1000
    with pytest.raises(QueryError, match="at least 1"):
        reader.page(limit=0)


def test_tail_gives_each_arrival_once(put: Put, reader: Reader) -> None:
    """Also rows that started before others which arrived earlier, as long requests do."""
    put(make_record(100))
    rows, mark = reader.tail()
    assert rows == []
    put(make_record(5, outcome="timeout"), make_record(200))
    rows, mark = reader.tail(mark)
    assert [row.ts_ms for row in rows] == [START_MS + 5000, START_MS + 200_000]
    rows, mark = reader.tail(mark)
    assert rows == []
    put(make_record(6, outcome="timeout"), make_record(7))
    rows, mark = reader.tail(mark, parse("status:error"))
    assert [row.ts_ms for row in rows] == [START_MS + 6000]
    assert reader.tail(mark)[0] == []


def test_tail_in_small_steps_misses_nothing(put: Put, reader: Reader) -> None:
    """The mark stops at the last row given out when there is more."""
    _, mark = reader.tail()
    put(*[make_record(n) for n in range(25)])
    seen = []
    while rows := (step := reader.tail(mark, limit=4))[0]:
        seen += [row.trace_id for row in rows]
        mark = step[1]
    assert seen == [make_record(n).trace_id for n in range(25)]


FILTERED = [
    make_record(0, model="gpt-4o", cost_nano=20_000_000, tags=["prod"], session_id="s1", key_id="k1"),
    make_record(1, model="gpt-4o", outcome="upstream_error", http_status=503, cost_nano=None, error_type="overloaded"),
    make_record(2, model="claude", provider="anthropic", latency_ms=9000.0, stream=True, tags=["prod", "eu"]),
    make_record(
        3, model="claude", provider="anthropic", http_status=429, outcome="rejected", user_id="u1", cost_nano=0
    ),
    make_record(4, model="mixtral", provider="groq", cluster_id=7, fallback_from="openai/gpt-4o", ttft_ms=120.0),
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("model:gpt-4o", [0, 1]),
        ("model:gpt-4o model:mixtral", [0, 1, 4]),
        ("model:gpt-4o status:error", [1]),
        ("status:error", [1, 3]),
        ("-status:error", [0, 2, 4]),
        ("status:5xx", [1]),
        ("status:429,503", [1, 3]),
        ("-model:gpt-4o", [2, 3, 4]),
        ("cost>0.01", [0]),
        ("cost>$0.01", [0]),
        ("cost<0.0001", [3]),
        ("cost>=0", [0, 2, 3, 4]),
        ("latency>5s", [2]),
        ("latency:<=812.5ms", [0, 1, 3, 4]),
        ("ttft<=120", [4]),
        ("tag:prod", [0, 2]),
        ("tag:prod tag:eu", [0, 2]),
        ("-tag:prod", [1, 3, 4]),
        ("stream:yes", [2]),
        ("stream:false provider:groq", [4]),
        ("cluster:7", [4]),
        ("fallback:true", [4]),
        ("session:s1", [0]),
        ("user:u1", [3]),
        ("key:k1", [0]),
        ("-key:k1", [1, 2, 3, 4]),
        ("error:overloaded", [1]),
        ("http>=500", [1]),
        (f"since:{START_MS + 1000} until:{START_MS + 3000}", [1, 2]),
        ("since:2025-10-09T08:53:22Z", [2, 3, 4]),
    ],
)
def test_filters_select_what_they_say(put: Put, reader: Reader, query: str, expected: list[int]) -> None:
    """AND across fields, OR inside one; excluded values keep rows without a value; unknown costs match no number."""
    put(*[make_record_again(record) for record in FILTERED])
    rows = reader.page(parse(query)).rows
    assert [(row.ts_ms - START_MS) // 1000 for row in reversed(rows)] == expected


def make_record_again(record: TraceRecord) -> TraceRecord:
    """A copy, since the writer owns what it is given."""
    import copy

    return copy.deepcopy(record)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("modle:gpt", "did you mean 'model'"),
        ("cost>cheap", "cost needs a number, not 'cheap'"),
        ("cost>nan", "finite"),
        ("model>3", "model is not a number"),
        ("stream:maybe", "true or false"),
        ("status:bad", "status is error"),
        ("since:yesterday", "Not a time"),
    ],
)
def test_meaningless_filters_name_the_part(query: str, message: str) -> None:
    """Never ignored: a filter that silently matches everything is worse than none."""
    with pytest.raises(QueryError, match=message):
        parse(query)


def test_values_cannot_become_sql(put: Put, reader: Reader) -> None:
    """Quotes and SQL in a value are only a value."""
    put(make_record(1))
    assert reader.page(parse("""model:"x' OR '1'='1" """)).rows == []
    assert len(reader.page(Filters()).rows) == 1


def test_questions_at_the_same_time_unpack_what_waits_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen asks a handful of questions at once; each block is made into rows by one of them."""
    connection = store.connect()
    for number in range(60):
        batch = [make_record(number * 100 + at) for at in range(100)]
        insert_block(connection, [encode_block(b"%d" % number, batch)])
    unpacked: list[int] = []
    original = project._unpacked
    monkeypatch.setattr(project, "_unpacked", lambda c, block: (unpacked.append(block), original(c, block))[1])
    made = Reader(store)
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda _: made.page(limit=1000).rows, range(8)))
    assert {len(page) for page in pages} == {1000}
    assert sorted(unpacked) == sorted(set(unpacked))
    assert len(unpacked) == 60
    connection.close()


def test_a_question_does_not_wait_for_a_long_backlog(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered from what there is, says how much is missing, and each further one finds more."""
    monkeypatch.setattr("opentracy.traces.project.CHUNK_ROWS", 10)
    monkeypatch.setattr("opentracy.traces.reader._REST_S", 0.0)
    with TraceWriter(store, limits=Limits(block_rows=10), project=False) as writer:
        for number in range(50):
            writer.put(make_record(number))
    reader = Reader(store, seconds=-1.0)
    assert reader.behind() == 50
    seen = []
    for _ in range(10):
        reader.current()
        seen.append(stats.answer(reader, Query(("requests",)))[0]["requests"])
        if not reader.behind():
            break
    assert seen == sorted(seen)
    assert seen[-1] == 50
    assert len(reader.page(limit=100).rows) == 50


def test_the_questions_of_one_report_do_not_wait_one_after_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited in vain waited for the others, too."""
    monkeypatch.setattr("opentracy.traces.project.CHUNK_ROWS", 10)
    with TraceWriter(store, limits=Limits(block_rows=10), project=False) as writer:
        for number in range(30):
            writer.put(make_record(number))
    reader = Reader(store, seconds=0.0)
    calls: list[object] = []
    real = project.catch_up

    def slow(connection: Any, **limits: Any) -> int:
        calls.append(limits)
        return real(connection, max_rows=1)

    monkeypatch.setattr(project, "catch_up", slow)
    for _ in range(3):
        reader.page()
    assert len(calls) == 1
    assert reader.behind() == 20
    whole = Reader(store)
    monkeypatch.setattr(project, "catch_up", real)
    assert len(whole.page(limit=100).rows) == 30, "who gave no time waits for everything"
