"""An engine that takes a store over in which most traces have no rows yet."""

from __future__ import annotations

import time
from pathlib import Path

from engine_kit import running
from opentracy.traces import Limits, Store, TraceRecord, TraceWriter, new_trace_id

ROWS = 60_000


def test_questions_are_answered_from_what_there_is_and_say_what_is_missing(tmp_path: Path) -> None:
    """Never fewer than it says, and in the end all of them: what is not named as missing is in the answer."""
    now = time.time_ns() // 1_000_000
    with TraceWriter(Store.open(tmp_path / "traces.db"), project=False, limits=Limits(queue_rows=ROWS)) as writer:
        for number in range(ROWS):
            assert writer.put(TraceRecord(new_trace_id(), now - number, model="m", cost_nano=1))
        assert writer.flush(60)
    answers: list[tuple[int, int]] = []
    with running("", home=tmp_path) as engine:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            told = engine.request("GET", "/v1/stats?metric=requests").json
            answers.append((told["data"][0]["requests"], told.get("behind", 0)))
            page = engine.request("GET", "/v1/traces?limit=1").json
            if not told.get("behind") and not page.get("behind"):
                break
    assert all(requests + behind >= ROWS for requests, behind in answers), answers
    assert [requests for requests, _ in answers] == sorted(requests for requests, _ in answers)
    assert answers[-1] == (ROWS, 0)
