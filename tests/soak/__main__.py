"""The soak: `python -m tests.soak [--seconds 60] [--workers 1]`; an hour is `--seconds 3600`.

A steady load of plain and streamed requests on a real engine. After a warm-up resident memory and open descriptors must
stay flat, every answer must be the same text, and the store must hold exactly one trace for each request.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_kit import Engine, children, descriptors, resident_kb, running, sum_of_rows
from opentracy.engine.standin import StandIn

from .load import Load

#: what the resident memory may grow by for each thousand requests after the warm-up
KB_PER_THOUSAND = 256.0


@dataclass
class Report:
    """What a run showed. `slope`: KiB of resident memory per 1,000 requests, by least squares after the warm-up."""

    seconds: float
    requests: int = 0
    traces: int = 0
    failures: list[str] = field(default_factory=list)
    texts: int = 0
    slope: float = 0.0
    grown_kb: int = 0
    descriptors_grown: int = 0

    def good(self) -> bool:
        same = self.requests == self.traces and self.requests > 0
        return same and not self.failures and self.texts == 1 and self.slope < KB_PER_THOUSAND and self.descriptors_grown <= 2


def slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line that fits best."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / (sum((x - mean_x) ** 2 for x, _ in points) or 1.0)


def workers_of(engine: Engine) -> list[int]:
    return children(engine.process.pid) or [engine.process.pid]


def run(seconds: float, workers: int = 1, clients: int = 8, prompt: str = "What is 6 * 7?") -> Report:
    """One soak. The first third (at most five minutes) is the warm-up: the first projection of 100,000 traces and what
    looks after the store once a minute load libraries and fill caches of a hundred megabytes, once."""
    report = Report(seconds)
    warm = min(300.0, seconds / 3)
    with (
        tempfile.TemporaryDirectory(prefix="opentracy-soak-") as folder,
        StandIn(gap=0) as stand_in,
        running(f"[server]\nworkers = {workers}\n", env=stand_in.environment, home=Path(folder)) as engine,
    ):
        with Load(engine.port, clients, prompt=prompt) as load:
            began = time.monotonic()
            points: list[tuple[float, float]] = []
            opened: list[int] = []
            while (spent := time.monotonic() - began) < seconds:
                time.sleep(min(1.0, seconds / 30))
                if spent >= warm:
                    pids = workers_of(engine)
                    points.append((len(load.seen.acknowledged), float(sum(map(resident_kb, pids)))))
                    opened.append(sum(map(descriptors, pids)))
        report.requests, report.failures = len(load.seen.acknowledged), load.seen.failures
        report.texts = len(load.seen.hashes | load.seen.streamed_hashes)
        report.traces = sum_of_rows(engine)
    report.slope = round(slope(points) * 1000, 1)
    report.grown_kb = int(points[-1][1] - points[0][1])
    report.descriptors_grown = opened[-1] - opened[0]
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    wanted = parser.parse_args()
    report = run(wanted.seconds, wanted.workers, wanted.clients)
    print(report)
    return 0 if report.good() else 1


if __name__ == "__main__":
    sys.exit(main())
