"""The soak in little; `python -m tests.soak` runs the minute, and with `--seconds 3600` the hour."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.soak.__main__ import run, slope


def test_slope_of_a_line() -> None:
    assert slope([(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]) == pytest.approx(2.0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_soak(workers: int) -> None:
    """Every request has its trace, every answer is the same text, no descriptor is left over."""
    report = run(float(os.environ.get("OPENTRACY_SOAK_SECONDS", "15")), workers, clients=6)
    assert report.failures == []
    assert report.requests == report.traces > 0
    assert report.texts == 1
    assert report.descriptors_grown <= 4
    # a short run is still filling its buffers: only a slope that no buffer explains is a finding here
    assert report.slope < 4096, report
