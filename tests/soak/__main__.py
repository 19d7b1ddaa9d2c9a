"""The soak: `python -m tests.soak [--seconds 60] [--workers 1] [--rate 0] [--samples FILE]`; an hour is `--seconds 3600`.

A steady load of plain and streamed requests on a real engine. After a warm-up resident memory and open descriptors must
stay flat, every answer must be the same text, and the store must hold exactly one trace for each request. With `--rate`
it leaves the machine to others; `--samples` takes a line of CSV for every process of the engine twice a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
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
    """What a run showed. `slope`: KiB of resident memory per 1,000 requests, by least squares after the warm-up; `late`:
    the same over the second half of the run; `cpu_s`: processor time of the engine with all its processes."""

    seconds: float
    requests: int = 0
    traces: int = 0
    failures: list[str] = field(default_factory=list)
    texts: int = 0
    slope: float = 0.0
    late: float = 0.0
    cpu_s: float = 0.0
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


def workers_of(engine: Engine, workers: int) -> list[int]:
    """The processes that serve; others come and go, to look after the store."""
    return children(engine.process.pid)[:workers] if workers > 1 else [engine.process.pid]


def processes(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(found for child in children(pid) for found in processes(child))]


def cpu(pid: int) -> float:
    """Seconds of processor time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def words(pid: int) -> str:
    """What a process does, in short."""
    return " ".join(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1:4])


class Samples:
    """A CSV of every process of an engine, a line each 30 seconds; without a path nothing."""

    EVERY_S = 30.0

    def __init__(self, path: Path | None) -> None:
        self._path, self._due = path, 0.0
        if path is not None:
            path.write_text("seconds,requests,pid,resident_kb,descriptors,cpu_s,process\n")

    def take(self, engine: Engine, spent: float, requests: int) -> None:
        if self._path is None or spent < self._due:
            return
        self._due = spent + self.EVERY_S
        with self._path.open("a") as out:
            for pid in processes(engine.process.pid):
                with contextlib.suppress(OSError, StopIteration):  # it has ended
                    row = spent, requests, pid, resident_kb(pid), descriptors(pid), cpu(pid), words(pid)
                    out.write("{:.0f},{},{},{},{},{:.2f},{}\n".format(*row))


def _points(engine: Engine, load: Load, seconds: float, samples: Samples) -> Iterator[tuple[float, int]]:
    """(seconds since the begin, requests so far), about thirty times or each second."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        requests = len(load.seen.acknowledged)
        samples.take(engine, spent, requests)
        yield spent, requests
        time.sleep(min(1.0, seconds / 30))


def run(
    seconds: float, workers: int = 1, clients: int = 8, prompt: str = "What is 6 * 7?", *,
    rate: float = 0.0, samples: Path | None = None,
) -> Report:  # fmt: skip
    """One soak. The first third (at most five minutes) is the warm-up: what looks after the store once a minute loads
    libraries and fills caches, once."""
    report = Report(seconds)
    warm = min(300.0, seconds / 3)
    with (
        tempfile.TemporaryDirectory(prefix="opentracy-soak-") as folder,
        StandIn(gap=0) as stand_in,
        running(f"[server]\nworkers = {workers}\n", env=stand_in.environment, home=Path(folder)) as engine,
    ):
        with Load(engine.port, clients, prompt=prompt, rate=rate) as load:
            points: list[tuple[float, float]] = []
            opened: list[int] = []
            half = 0
            for spent, requests in _points(engine, load, seconds, Samples(samples)):
                if spent >= warm:
                    pids = workers_of(engine, workers)
                    points.append((requests, float(sum(map(resident_kb, pids)))))
                    opened.append(sum(map(descriptors, pids)))
                half = half or (len(points) if spent >= seconds / 2 else 0)
        report.requests, report.failures = len(load.seen.acknowledged), load.seen.failures
        report.texts = len(load.seen.hashes | load.seen.streamed_hashes)
        time.sleep(1.5)  # each worker writes what it has in groups, every twentieth of a second
        report.traces = sum_of_rows(engine)
        report.cpu_s = round(sum(map(cpu, processes(engine.process.pid))), 1)
    report.slope = round(slope(points) * 1000, 1)
    report.late = round(slope(points[half:]) * 1000, 1)
    report.grown_kb = int(points[-1][1] - points[0][1])
    report.descriptors_grown = opened[-1] - opened[0]
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0, help="requests a second at most; 0: as many as there can be")
    parser.add_argument("--samples", type=Path, help="a CSV of memory and descriptors of each process")
    wanted = parser.parse_args()
    report = run(wanted.seconds, wanted.workers, wanted.clients, rate=wanted.rate, samples=wanted.samples)
    print(report)
    return 0 if report.good() else 1


if __name__ == "__main__":
    sys.exit(main())
