"""A store that somebody else holds: `python -m tests.soak.locked [--seconds 30] [--held 0]`.

Clients ask in a closed loop while the write lock of the trace database is free, and then as long while it is held: all the
time, or (`--held 5`) for so many seconds at a time with a moment between, so that each write takes that long. No request
may wait for it, and afterwards every trace must be there, once.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_kit import Engine, eventually, running, sum_of_rows
from opentracy.engine.standin import StandIn

from .load import Load

WAIT_S = 0.01  # that a request may take longer
PAUSE_S = 0.05  # between two holds: a write may get through


@dataclass
class Report:
    """Latencies in seconds, sorted: `free` before, `held` while the lock was held."""

    free: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    acknowledged: int = 0
    rows: int = 0
    doubled: int = 0
    degraded: bool = False  # /health said so meanwhile

    def more(self, share: float) -> float:
        """Seconds by which a percentile rose."""
        return _share(self.held, share) - _share(self.free, share)

    def good(self) -> bool:
        kept = self.acknowledged == self.rows and not self.doubled and not self.failures
        return kept and self.more(0.5) < WAIT_S and self.more(0.99) < WAIT_S

    def __str__(self) -> str:
        return (
            f"free {_told(self.free)}; held {_told(self.held)}; more: p50 {self.more(0.5) * 1e3:+.2f} ms, p99 {self.more(0.99) * 1e3:+.2f} ms; "
            f"acknowledged {self.acknowledged}, in the store {self.rows}, doubled {self.doubled}, failures {self.failures[:3]}, "
            f"/health said so: {self.degraded}"
        )


def _share(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def _told(times: list[float]) -> str:
    parts = (f"p{round(share * 100)} {_share(times, share) * 1e3:.2f}" for share in (0.5, 0.99, 1.0))
    return f"{len(times)} requests, {', '.join(parts)} ms"


def hold(path: Path, seconds: float, at_a_time: float) -> None:
    """Holds the write lock; whoever has it just now is waited for."""
    end = time.monotonic() + seconds
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
        while (left := end - time.monotonic()) > 0:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(min(left, at_a_time or left))
            other.execute("ROLLBACK")
            time.sleep(PAUSE_S if at_a_time else 0)


def run(seconds: float = 30.0, held: float = 0.0, clients: int = 4, rate: float = 100.0, pause: float = 0.0) -> Report:
    """One engine, both times as long."""
    report = Report()
    with (
        tempfile.TemporaryDirectory(prefix="opentracy-locked-", ignore_cleanup_errors=True) as folder,
        StandIn(gap=0) as stand_in,
        running(env=stand_in.environment, home=Path(folder)) as engine,
    ):
        with Load(engine.port, clients, rate=rate, pause=pause) as load:
            time.sleep(2.0)
            began = time.monotonic()
            time.sleep(seconds)
            between = time.monotonic()
            hold(Path(folder) / "traces.db", seconds, held)
            ended = time.monotonic()
            report.degraded = engine.request("GET", "/health").json["status"] != "ok"
        report.failures = load.seen.failures
        ids = [one for one, _, _ in load.seen.acknowledged]
        report.acknowledged = len(ids)
        report.free = sorted(end - at for _, at, end in load.seen.acknowledged if began <= at and end < between)
        report.held = sorted(end - at for _, at, end in load.seen.acknowledged if between <= at and end < ended)
        eventually(lambda: sum_of_rows(engine) >= len(ids), 30)
        report.rows, report.doubled = sum_of_rows(engine), _doubled(engine, ids)
    return report


def _doubled(engine: Engine, ids: list[str]) -> int:
    """Traces beyond one for each request, and requests without theirs."""
    found: list[str] = []
    cursor = ""
    while True:
        page = engine.request("GET", f"/v1/traces?limit=1000{cursor}").json
        found += [row["trace_id"] for row in page["data"]]
        if not page["has_more"]:
            return len(found) - len(set(found)) + len(set(ids) - set(found))
        cursor = f"&cursor={page['next']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--held", type=float, default=0, help="seconds at a time; 0: all the time")
    wanted = parser.parse_args()
    report = run(wanted.seconds, wanted.held)
    print(report)
    return 0 if report.good() else 1


if __name__ == "__main__":
    sys.exit(main())
