"""What a question costs: no more than it needs, however large the store is. Counted, not timed."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.engine import dashboard_routing, datasets, evaluations
from opentracy.engine.datasets import Datasets, Example, selected
from opentracy.traces import Filters, QueryError, Reader, Store, TraceRecord, codec
from opentracy.traces.compile import MAX_CELLS, MAX_LINES, Query
from opentracy.traces.export import add_records
from opentracy.traces.ids import new_trace_id
from opentracy.traces.stats import answer

ASKED = b'{"messages":[{"role":"user","content":"q"}]}'
ANSWERED = b'{"choices":[{"message":{"role":"assistant","content":"a"}}]}'


def record(number: int, **values: Any) -> TraceRecord:
    made = TraceRecord(new_trace_id(), 1_760_000_000_000 + number, finish_reason="stop", body_state="full", model="m", provider="p",
                       request=ASKED, response=ANSWERED)  # fmt: skip
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "traces.db")
    yield opened
    opened.close()


def fill(store: Store, records: Sequence[TraceRecord]) -> None:
    add_records(store, records)


class Counted(Reader):
    """Says which rows were unpacked."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.loaded: list[int] = []

    def load(self, seqs: Sequence[int], *, bodies: bool = False) -> list[TraceRecord | None]:
        self.loaded += seqs
        return super().load(seqs, bodies=bodies)


# ---------------------------------------------------------------- data sets
def test_texts_that_give_no_row_are_not_unpacked(store: Store) -> None:
    bad: list[dict[str, Any]] = [{"outcome": "rejected"}, {"outcome": "timeout"}, {"finish_reason": "length"}, {"finish_reason": None}]
    fill(store, [record(n, **({} if n % 5 == 0 else bad[n % 5 - 1])) for n in range(400)])
    reader = Counted(store)
    rows, skipped = selected(reader, Filters(), 30)
    assert len(rows) == 24
    # four times as many are looked at, of which every fifth can be used
    assert (len(reader.loaded), skipped) == (24, 96)
    rows, skipped = selected(Counted(store), Filters(), 500)
    assert (len(rows), skipped) == (80, 320)


def test_a_row_that_only_its_text_rules_out_counts_as_skipped(store: Store) -> None:
    fill(store, [record(n, body_state="redacted" if n % 2 else "full") for n in range(40)])
    rows, skipped = selected(Reader(store), Filters(), 10)
    assert (len(rows), skipped) == (10, 10)


def test_old_rows_are_taken_over_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = Datasets(tmp_path)
    sets.add("d", [Example([{"role": "user", "content": str(n)}], str(n)) for n in range(5)], "here")
    decoded: list[object] = []
    monkeypatch.setattr(datasets.msgspec, "to_builtins", lambda value: decoded.append(value) or dataclass_of(value))
    made = sets.extend("d", [Example([{"role": "user", "content": "new"}])], "there")
    assert (made.version, made.rows, made.source) == (2, 6, "here")
    assert [type(value).__name__ for value in decoded] == ["Example", "Version"], "the new row and the label"
    first, second = ((tmp_path / "datasets" / "d" / f"000{n}.jsonl").read_bytes() for n in (1, 2))
    assert second.startswith(first) and second.count(b"\n") == 6
    assert [row.answer for row in sets.rows("d", 2)] == ["0", "1", "2", "3", "4", None]
    assert b"".join(sets.lines("d", 2, "jsonl")) == second


def dataclass_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def test_labels_are_read_only_of_the_versions_that_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = Datasets(tmp_path)
    for number in range(30):
        sets.add("d", [Example([{"role": "user", "content": str(number)}])], "here")
    read: list[Path] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or whole(path))
    assert [v.version for v in sets.versions("d", 3)] == [28, 29, 30]
    assert len(read) == 3
    assert sets.version("d").version == 30 and sets.version("d", 7).version == 7
    sets.names()
    sets.add("d", [Example([{"role": "user", "content": "x"}])], "here")
    assert len(read) == 5, "a new version needs the numbers, not the labels"
    assert len(sets.versions("d")) == 31
    assert sets.versions("d", 0) == []


# ---------------------------------------------------------------- evaluations
def test_an_evaluation_that_stops_at_once_has_not_listed_its_work(tmp_path: Path) -> None:
    class Rows(list[Example]):
        taken = 0

        def __iter__(self) -> Iterator[Example]:
            for row in super().__iter__():
                type(self).taken += 1
                yield row

    rows = Rows([Example([{"role": "user", "content": "q"}], "a")] * 5000)
    runs = evaluations.Runs(tmp_path)
    run = evaluations.Evaluation(new_trace_id(), "d", 1, "exact", ["m", "n"], 10_000, 1)
    runs.save(run)
    runs.stop(run.id)

    async def ask(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        await asyncio.sleep(0.01)
        return 200, {"choices": [{"message": {"content": "a"}}]}

    asyncio.run(evaluations.evaluate(run, rows, ask, runs))
    assert run.state == "stopped"
    assert Rows.taken <= 50
    assert len(runs.cells(run.id)) == run.done


def test_the_scores_of_a_run_are_not_written_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    where: list[str] = []
    for name in ("save_cells", "save"):
        whole = getattr(evaluations.Runs, name)
        monkeypatch.setattr(evaluations.Runs, name, lambda *a, whole=whole: where.append(threading.current_thread().name) or whole(*a))
    run = evaluations.Evaluation(new_trace_id(), "d", 1, "exact", ["m"], 3, 1)

    async def ask(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"choices": [{"message": {"content": "a"}}]}

    asyncio.run(evaluations.evaluate(run, [Example([{}], "a")] * 3, ask, evaluations.Runs(tmp_path)))
    assert len(where) >= 2 and threading.main_thread().name not in where


# ---------------------------------------------------------------- traces
def test_an_import_looks_at_the_ids_once_however_many_it_brings(store: Store) -> None:
    add_records(store, [record(n) for n in range(3000)])
    known = [row.trace_id for row in Reader(store).page(limit=10).rows]
    statements: list[str] = []
    connect = store.connect

    def traced(**options: Any) -> sqlite3.Connection:
        connection = connect(**options)
        connection.set_trace_callback(statements.append)
        return connection

    store.connect = traced  # type: ignore[method-assign]
    store.close()
    fresh = [record(n, trace_id=f"{n:032x}") for n in range(1, 2001)]
    done = add_records(store, [*fresh, *(record(0, trace_id=one) for one in known), fresh[0]])
    assert (done.added, done.known) == (2000, 11)
    assert sum("SELECT ids FROM blocks" in one for one in statements) <= 4
    assert Reader(store).known([known[0], "f" * 32]) == {known[0]}


def test_too_many_lines_are_refused_before_they_are_added_up(store: Store) -> None:
    assert Query(("requests",), ("session",)).most_cells == MAX_LINES
    assert Query(("requests",), ("session",), limit=10).most_cells == MAX_CELLS
    fill(store, [record(n, session_id=f"s{n}") for n in range(300)])
    reader = Reader(store)
    assert len(answer(reader, Query(("requests",), ("session",)))) == 300
    from opentracy.traces import compile as compiled

    before = compiled.MAX_LINES
    try:
        compiled.MAX_LINES = 200  # type: ignore[misc]
        with pytest.raises(QueryError, match="More than 200 lines"):
            answer(reader, Query(("requests",), ("session",)))
        assert len(answer(reader, Query(("requests",), ("session",), limit=20))) == 21
    finally:
        compiled.MAX_LINES = before  # type: ignore[misc]


# ---------------------------------------------------------------- projection
def test_the_projection_is_that_of_every_decision_by_hand() -> None:
    draw = random.Random(5)
    names = ["p/a", "p/b", "q/c", "q/d"]
    rows = []
    for number in range(400):
        found = {n: {"quality": draw.choice([0.2, 0.5, 0.5, 0.9]), "cost": draw.choice([0.0, 0.001, 0.001, 0.02])} for n in draw.sample(names, draw.randint(1, 4))}
        chosen = draw.choice(list(found))
        rows.append(record(number, route_candidates=found, model=chosen, fallback_reason=draw.choice([None, None, "novel"])))
    points = dashboard_routing.project(rows, 800)["points"]
    dearest = sum(max(s["cost"] for s in r.route_candidates.values()) for r in rows if r.route_candidates) / len(rows)
    for point in points:
        cost = quality = 0.0
        shares: dict[str, int] = {}
        for row in rows:
            found = row.route_candidates or {}
            best = max(found, key=lambda n: (found[n]["quality"] - point["weight"] / dearest * found[n]["cost"], -found[n]["cost"], n))
            if row.fallback_reason == "novel":
                best = row.model
            cost, quality = cost + found[best]["cost"], quality + found[best]["quality"]
            shares[best] = shares.get(best, 0) + 1
        assert point["cost"] == pytest.approx(2 * cost) and point["quality"] == pytest.approx(quality / 400)
        assert point["shares"] == pytest.approx({name: n / 400 for name, n in shares.items()})


@pytest.mark.parametrize("odd", [10**400, float("nan"), float("inf"), True, "0.5", None, 1e300])
def test_figures_from_elsewhere_that_are_none_are_left_out(odd: Any) -> None:
    good = {"quality": 0.5, "cost": 0.1}
    one = record(1, route_candidates={"p/a": {"quality": odd, "cost": 0.1}, "p/b": good, "p/c": {"quality": 0.5, "cost": odd}})
    assert set(dashboard_routing.able(one)) - ({"p/a", "p/c"} if odd is True else set()) == {"p/b"}


def test_decisions_are_whole_blocks_spread_over_the_range(store: Store) -> None:
    for block in range(8):
        at = time.time_ns() // 1_000_000 - 10_000 + block
        fill(store, [record(0, ts_ms=at, requested_model="auto", cluster_id=1, route_candidates={"p/a": {}}) for _ in range(20)])
    found, total = dashboard_routing.decisions(Reader(store), Filters(), sample=80)
    assert total == 160 and len(found) == 80
    everything, total = dashboard_routing.decisions(Reader(store), Filters(), sample=1000)
    assert total == len(everything) == 160


def test_where_routed_requests_are_few_among_others_not_every_block_is_unpacked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_routing, "MAX_BLOCKS", 4)
    routed = {"requested_model": "auto", "cluster_id": 1, "route_candidates": {"p/a": {}}}
    for _ in range(12):
        fill(store, [record(n, **(routed if n == 0 else {})) for n in range(5)])
    reader = Counted(store)
    found, total = dashboard_routing.decisions(reader, Filters())
    assert (len(found), total, len(reader.loaded)) == (4, 12, 4)


# ---------------------------------------------------------------- blocks
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.data())
def test_some_records_of_a_block_are_those_of_the_whole_block(holes: list[bool], data: st.DataObject) -> None:
    records = [None if hole else record(n, tokens_in=n) for n, hole in enumerate(holes)]
    bodies = [None if n % 3 else (f"q{n}".encode(), None if n % 2 else "h\u00e9".encode()) for n in range(len(holes))]
    meta, texts = codec.encode_records(records), codec.encode_bodies(bodies)
    places = data.draw(st.lists(st.integers(0, len(holes) - 1), unique=True))
    whole = codec.decode_records(codec.CODEC, meta)
    assert codec.records_at(codec.CODEC, meta, places) == {at: whole[at] for at in places}
    said = codec.decode_bodies(codec.CODEC, texts)
    assert codec.bodies_at(codec.CODEC, texts, places) == {at: said[at] for at in places}


def test_a_damaged_field_is_left_out_of_one_record_too() -> None:
    items = msgspec.to_builtins([record(0), record(1)])
    items[1][list(TraceRecord.__struct_fields__).index("tokens_in")] = "many"
    meta = codec.compress(msgspec.msgpack.encode(items))
    assert codec.records_at(codec.CODEC, meta, [1, 0]) == {n: codec.decode_records(codec.CODEC, meta)[n] for n in (0, 1)}
    assert codec.records_at(codec.CODEC, meta, [1])[1].tokens_in is None  # type: ignore[union-attr]
