"""Cut streams in little; `python -m tests.soak.cuts` cuts ten thousand."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.soak.cuts import run


def test_no_cut_stream_is_shown_as_whole() -> None:
    report = run(150, seed=7)
    assert report.faults == []
    # of each kind there were some: complete ones (cut after the finish, or asked for again), broken ones, and errors of
    # the engine, which does not ask again here
    assert len(report.outcomes) == 5, report.outcomes
