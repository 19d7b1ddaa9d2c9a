"""One bad value must not take the trace store away from everybody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from engine_kit import Engine, keys_for, running
from faultserver import FaultServer, answer
from opentracy.traces import Filters, QueryError, Reader, Store, TraceRecord, TraceWriter, new_trace_id
from opentracy.traces.codec import CODEC, compress, decode_records
from opentracy.traces.filters import moment


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        yield server


@pytest.fixture(scope="module")
def engine(upstream: FaultServer) -> Iterator[Engine]:
    with running(env=keys_for(upstream.base)) as e:
        yield e


@pytest.mark.parametrize("metadata", [7, "x", [1], True, 1.5])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
def test_metadata_of_a_wrong_type_is_refused_and_listable(engine: Engine, upstream: FaultServer, path: str, metadata: object) -> None:
    """An embedding request with `metadata: 7` once stopped every listing for good."""
    upstream(answer())
    body = {"model": "openai/m", "input": "x", "messages": [{"role": "user", "content": "x"}], "metadata": metadata}
    assert engine.request("POST", path, body).status == 400
    for listing in ("/v1/traces", "/v1/stats", "/v1/traces/facets", "/v1/traces/export"):
        assert engine.request("GET", listing).status == 200, listing


@pytest.mark.parametrize(
    "field",
    ['"metadata": {"id": {"type": 1000000000000000000000000000000}}', '"tokens_in": 1000000000000000000000000000000', '"cost_nano": 9e99',
     '"route_candidates": {"a": {"b": -99999999999999999999999}}'],
)  # fmt: skip
def test_a_number_that_nothing_can_hold_is_refused(engine: Engine, field: str) -> None:
    """Found by generated input: such a trace from outside was a 500."""
    body = f'{{"traces": [{{"model": "m"}}, {{"model": "m", {field}}}]}}'.encode()
    reply = engine.request("POST", "/v1/traces", body)
    assert reply.status == 400, reply.body
    assert reply.error["param"] == "traces[1]"
    assert engine.request("POST", "/v1/traces", b'{"model": "m"}').status == 201


def test_a_report_asked_for_many_times_at_once_is_made_and_answered(engine: Engine) -> None:
    with ThreadPoolExecutor(12) as pool:
        paths = ["/v1/dashboard/routing/projection", "/v1/dashboard/routing/savings", "/v1/dashboard/routing/clusters?weight=0.5"] * 12
        replies = list(pool.map(lambda path: engine.request("GET", path), paths))
    assert {r.status for r in replies} == {200}
    assert len({r.body for r in replies}) == 3
    bad = "/v1/dashboard/routing/projection?model=%00&since=1"
    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(lambda _: engine.request("GET", bad).status, range(12)))) == 1


def test_a_record_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """A block with a field of a wrong type: that field is left out, everything else is there and projected."""
    records = [TraceRecord(new_trace_id(), 1_700_000_000_000 + n) for n in range(3)]
    records[1].metadata = 7  # type: ignore[assignment]
    records[2].tags = "no list"  # type: ignore[assignment]
    store = Store.open(tmp_path / "t.db")
    with TraceWriter(store) as writer:
        for record in records:
            writer.put(record)
    reader = Reader(store)
    page = reader.page(Filters())
    assert [r.trace_id for r in page.rows] == [r.trace_id for r in reversed(records)]
    found = reader.get(records[1].trace_id)
    assert found is not None
    assert found.metadata is None
    store.close()


def test_what_is_no_record_at_all_is_left_out() -> None:
    good = TraceRecord(new_trace_id(), 1_700_000_000_000)
    wire = msgspec.msgpack.encode([good, None, [3, "x"], [[], {}]])
    assert decode_records(CODEC, compress(wire)) == [good, None, None, None]


@pytest.mark.parametrize("text", ["9" * 40, "9" * 16, "\u0663" * 12])
def test_times_beyond_any_clock_are_refused(engine: Engine, text: str) -> None:
    with pytest.raises(QueryError):
        moment(text)
    for path in ("/v1/traces", "/v1/stats", "/v1/traces/facets", "/v1/traces/export"):
        assert engine.request("GET", f"{path}?since={'9' * 40}").status == 400, path
