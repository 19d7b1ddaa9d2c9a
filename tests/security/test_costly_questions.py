"""Questions to the store whose answer would have no end: refused before they cost anything, by a real engine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from engine_kit import Engine, resident_kb, running
from opentracy.traces.compile import MAX_CELLS, Cells, Query, finish
from opentracy.traces.errors import QueryError


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running() as e:
        body = {"traces": [{"trace_id": f"{n:032x}", "ts_ms": time.time_ns() // 1_000_000, "model": "m", "provider": "p",
                            "requested_model": "auto", "outcome": "ok", "http_status": 200} for n in range(1, 40)]}  # fmt: skip
        assert e.request("POST", "/v1/traces", body).status == 201
        yield e


@pytest.mark.parametrize("since", ["1970-01-01", "0001-01-01", "2000-01-01"])
@pytest.mark.parametrize("bucket", [1000, 3_600_000])
def test_a_series_of_a_billion_buckets(engine: Engine, since: str, bucket: int) -> None:
    before = resident_kb(engine.process.pid)
    reply = engine.request("GET", f"/v1/dashboard/routing/savings?since={since}&bucket={bucket}")
    assert (reply.status, reply.error["code"]) == (400, "invalid_query")
    assert "buckets" in reply.error["message"]
    assert resident_kb(engine.process.pid) - before < 32_000


def test_the_usual_series_is_answered(engine: Engine) -> None:
    reply = engine.request("GET", "/v1/dashboard/routing/savings?since=24h&bucket=60000")
    assert reply.status == 200 and 1 <= len(reply.json["times"]) <= 1442


def test_a_name_that_is_none_is_refused_before_traces_are_read(engine: Engine) -> None:
    for name in ("..%00", "-x", "a" * 65):
        assert engine.request("POST", f"/v1/dashboard/datasets/{name}", {}).status == 400


def test_more_groups_than_anybody_reads() -> None:
    query = Query(("requests",), ("session",))
    with pytest.raises(QueryError, match="200,000"):
        Cells().add_sums(((n, 1) for n in range(MAX_CELLS + 1)), 1)
    many = Cells()
    many.add_sums(((n, 1) for n in range(MAX_CELLS)), 1)
    with pytest.raises(QueryError, match="50,000"):
        finish(query, many)
    few = finish(Query(("requests",), ("session",), limit=10), many)
    assert len(few) == 11 and sum(int(str(row["requests"])) for row in few) == MAX_CELLS
