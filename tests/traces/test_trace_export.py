"""Exports hold exactly the filtered rows in whole; what is exported can be imported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from trace_samples import make_record
from trace_seed import seeded

from opentracy.traces import export, segments
from opentracy.traces.errors import QueryError
from opentracy.traces.filters import EVERYTHING, parse
from opentracy.traces.model import TraceRecord, to_dict
from opentracy.traces.reader import Reader
from opentracy.traces.redact import Redactor
from opentracy.traces.sqlite import Store

Put = Callable[..., list[TraceRecord]]


def test_jsonl_goes_out_and_comes_in_unchanged(put: Put, reader: Reader, tmp_path: Path) -> None:
    """Also more rows than a page; importing twice adds nothing."""
    put(*seeded(1300), make_record(9999, metadata={"a": [1, {"b": None}]}))
    target = tmp_path / "out.jsonl"
    assert export.write(reader, EVERYTHING, "jsonl", target) == 1301
    other = Store.open(tmp_path / "other.db")
    with target.open("rb") as lines:
        done = export.import_lines(other, lines)
    assert (done.added, done.known, done.errors) == (1301, 0, [])
    copied = Reader(other)
    for row in (*export.rows(reader, limit=20), *export.rows(reader, parse("status:timeout"), limit=20)):
        assert copied.get(row.trace_id) == reader.get(row.trace_id)
    with target.open("rb") as lines:
        done = export.import_lines(other, lines)
    assert (done.added, done.known) == (0, 1301)
    assert len(list(export.rows(copied))) == 1301
    other.close()


def test_the_filter_is_the_lists_filter(put: Put, reader: Reader, tmp_path: Path) -> None:
    """No more, no fewer, and every column."""
    put(*seeded(200))
    filters = parse("model:gpt-4o status:ok")
    target = tmp_path / "out.csv"
    count = export.write(reader, filters, "csv", target)
    with target.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["trace_id"] for line in lines] == [row.trace_id for row in export.rows(reader, filters)]
    assert count == len(lines) > 5
    assert tuple(lines[0]) == export.CSV_COLUMNS


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_runs_no_formula(start: str) -> None:
    """A prompt that begins like a formula stays text in a spreadsheet."""
    record = make_record(1, request=f'{start}HYPERLINK("x"),\n"q"'.encode(), user_id=f"{start}cmd", latency_ms=-1.0)
    text = b"".join(export.csv_lines([record])).decode()
    row = next(csv.DictReader(io.StringIO(text, newline="")))
    assert row["request"] == f'\'{start}HYPERLINK("x"),\n"q"'
    assert row["user_id"] == f"'{start}cmd"
    assert row["latency_ms"] == "-1.0", "numbers are numbers"


def test_parquet_has_the_same_values(put: Put, reader: Reader, tmp_path: Path) -> None:
    """Types, unknowns, lists and text survive."""
    if not segments.available():
        pytest.skip("duckdb is not installed")
    put(*seeded(50), make_record(1, request="ü\n\"'".encode()))
    target = tmp_path / "it's.parquet"
    assert export.write(reader, EVERYTHING, "parquet", target) == 51
    found = segments.cursor().execute(
        "SELECT trace_id, tags, cost_nano, stream, request FROM read_parquet(?)", [str(target)]
    )
    by_id = {row[0]: row[1:] for row in found.fetchall()}
    for record in export.records(reader):
        text = to_dict(record)["request"]
        assert by_id[record.trace_id] == (record.tags, record.cost_nano, record.stream, text)
    assert [path.name for path in tmp_path.glob("it*")] == ["it's.parquet"]


CHAT = {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}], "model": "m"}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "hello", "refusal": None}}]}


def test_fine_tuning_examples_are_whole_chats() -> None:
    """The request's messages, the answer, the tools; a folded stream's text counts as the answer."""
    record = make_record(1, request=json.dumps(CHAT).encode(), response=json.dumps(ANSWER).encode(), body_state="full")
    lines = list(export.openai_lines([record]))
    assert json.loads(lines[0]) == {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
        "tools": [{"type": "function"}],
    }
    record.response = b"plain text"
    example = export.fine_tuning_example(record)
    assert example is not None
    assert example["messages"][-1] == {"role": "assistant", "content": "plain text"}


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "truncated"},
        {"finish_reason": "length"},
        {"body_state": "redacted"},
        {"request": None},
        {"request": b"[]"},
        {"request": b'{"messages": []}'},
        {"response": None},
        {"response": b'{"choices": []}'},
        {"response": b'{"choices": [{"message": {"content": null}}]}'},
    ],
)
def test_anything_less_is_no_example(change: dict[str, object]) -> None:
    """Cut, masked, failed or missing text must not train a model."""
    whole = {"request": json.dumps(CHAT).encode(), "response": json.dumps(ANSWER).encode(), "body_state": "full"}
    assert export.fine_tuning_example(make_record(1, **{**whole, **change})) is None


def test_bad_lines_are_named_and_the_others_taken(store: Store) -> None:
    """Line number and reason; ids and times are made where they are missing."""
    lines = [
        b'{"model": "a", "request": {"messages": []}, "cost_usd": 0.5}',
        b"not json",
        b"[1]",
        b"",
        b'{"trace_id": "zz", "ts_ms": 1}',
        b'{"ts_ms": "soon"}',
        b'{"model": "b", "unknown field": 1, "ts_ms": 1760000000000}',
    ]
    done = export.import_lines(store, lines, before_write=Redactor("all"))
    assert done.added == 2
    assert [number for number, _ in done.errors] == [2, 3, 5, 6]
    assert "ts_ms" in done.errors[3][1]
    newest = Reader(store).page().rows[0]
    record = Reader(store).get(newest.trace_id)
    assert record is not None
    assert (record.model, record.cost_nano, record.body_state) == ("a", 500_000_000, "full")


def test_a_list_longer_than_a_block_is_taken_in_whole(store: Store) -> None:
    """As other tools write it: one line, any number of traces. A block too long would take its neighbours' places."""
    told: list[int] = []
    whole = json.dumps([{"trace_id": f"{n + 1:032x}", "model": "a", "tokens_in": n} for n in range(5000)])
    done = export.import_lines(store, [whole, '{"model": "b"}'], progress=told.append)
    assert (done.added, done.errors) == (5001, [])
    assert sum(told) == 2, "lines"
    reader = Reader(store)
    assert len(list(export.rows(reader))) == 5001
    last = reader.get(f"{5000:032x}")
    assert last is not None
    assert last.tokens_in == 4999


def test_added_records_are_committed_on_return(store: Store) -> None:
    """What `POST /v1/traces` acknowledges is there."""
    done = export.add_records(store, [make_record(1), make_record(2), make_record(1)])
    assert (done.added, done.known) == (2, 1)
    assert Reader(store).get(make_record(2).trace_id) is not None


def test_an_unknown_format_is_refused(reader: Reader, tmp_path: Path) -> None:
    """Before a file is made."""
    with pytest.raises(QueryError, match="jsonl, csv, parquet, openai"):
        export.write(reader, EVERYTHING, "xml", tmp_path / "x")
    with pytest.raises(QueryError, match="cannot be streamed"):
        export.lines_of("parquet", [])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["jsonl", "csv", "openai"])
def test_an_interrupted_export_goes_on(put: Put, reader: Reader, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after any page: the same words give the same file, others begin anew."""
    monkeypatch.setattr(export, "_PAGE", 7)
    put(*[make_record(n) for n in range(40)])
    whole = tmp_path / "whole"
    assert export.write(reader, EVERYTHING, form, whole) == 40
    for stop in (1, 3, 5):
        target = tmp_path / f"cut-{stop}"
        pages = 0

        def interrupt(rows: int, stop: int = stop) -> None:
            nonlocal pages
            pages += 1
            if pages == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export.write(reader, EVERYTHING, form, target, asked="all", progress=interrupt)
        with target.with_name(target.name + ".part").open("ab") as torn:
            torn.write(b"half a li")
        told: list[int] = []
        assert not target.exists()
        assert export.write(reader, EVERYTHING, form, target, asked="all", progress=told.append) == 40
        assert sum(told) == 40 - 7 * stop
        assert target.read_bytes() == whole.read_bytes()
        assert sorted(p.name for p in tmp_path.glob(f"cut-{stop}*")) == [target.name]
    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        export.write(reader, EVERYTHING, form, other, asked="all", progress=lambda rows: (_ for _ in ()).throw(KeyboardInterrupt))
    told = []
    export.write(reader, EVERYTHING, form, other, asked="something else", progress=told.append)
    assert sum(told) == 40
