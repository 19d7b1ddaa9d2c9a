"""The soak: `python -m tests.soak [--seconds 60] [--workers 1] [--rate 0] [--samples FILE]`; an hour is `--seconds 3600`.

A steady load of plain and streamed requests on a real engine. After a warm-up resident memory and open descriptors must
stay flat, every answer must be the same text, and the store must hold exactly one trace for each request. With `--rate`
it leaves the machine to others; `--samples` takes a line of CSV for every process of the engine twice a minute.

What looks after the store works in bursts and gives their memory back, so what counts is the floor: the least of each
part of the run. A leak lifts that too. Of descriptors, which come and go with connections, the median counts.
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
from itertools import pairwise
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_kit import Engine, children, descriptors, eventually, resident_kb, running, sum_of_rows
from opentracy.engine.standin import StandIn
from opentracy.traces.chunks import MERGED_ROWS
from opentracy.traces.writer import DEFAULT_LIMITS

from .load import Load

#: what the floor of the resident memory may rise by for each thousand requests after the warm-up: of each request not
#: even one small object may stay
KB_PER_THOUSAND = 32.0
#: and this once: what fills up late
KB_ONCE = 1536.0
PARTS = 6
#: a writer keeps so many records until they are projected, for which numpy is loaded, so that many are served by each
#: worker before anything is compared
WARM_REQUESTS = DEFAULT_LIMITS.recent_rows * 6 // 5
#: what looks after the store does all that it does once it has put so many rows together; a long run waits for that
LONG_S = 600.0
WARM_LONG = MERGED_ROWS * 6 // 5


@dataclass
class Report:
    """What a run showed. `floors`: (thousand requests, least resident KiB) of each part after the warm-up; `slope`: of
    the line through them, KiB per thousand requests; `cpu_s`: processor time of the engine with all its processes; `warm`:
    whether what was compared came after the warm-up: where too few were served, `flat` says nothing."""

    seconds: float
    requests: int = 0
    traces: int = 0
    failures: list[str] = field(default_factory=list)
    texts: int = 0
    floors: list[tuple[float, float]] = field(default_factory=list)
    slope: float = 0.0
    cpu_s: float = 0.0
    descriptors_grown: float = 0.0
    warm: bool = True

    def flat(self) -> bool:
        """Whether memory and descriptors stayed where they were."""
        thousands = self.floors[-1][0] - self.floors[0][0]
        return self.slope * thousands < KB_ONCE + KB_PER_THOUSAND * thousands and self.descriptors_grown <= 2

    def whole(self) -> bool:
        """Whether nothing was lost, doubled or answered otherwise."""
        return self.requests == self.traces > 0 and not self.failures and self.texts == 1

    def verdict(self) -> int:
        """Exit status: 0 for a good run, 1 for a bad one, 2 for one that was too short to say anything of memory."""
        return 1 if not self.whole() else 2 if not self.warm else 0 if self.flat() else 1


def floors(points: list[tuple[float, float]], parts: int = PARTS) -> list[tuple[float, float]]:
    """The lowest point of each part of a run."""
    cuts = [len(points) * part // parts for part in range(parts + 1)]
    return [min(points[a:b], key=lambda point: point[1]) for a, b in pairwise(cuts) if a < b]


def grown(counts: list[int]) -> float:
    """How much larger the last third is than the first, by their medians."""
    third = max(1, len(counts) // 3)
    return median(counts[-third:]) - median(counts[:third])


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


def least_served(requests: int, cpus: list[float]) -> float:
    """About how many requests that worker has served which got fewest, by the processor time of each. The kernel hands
    out connections as it likes: of eight one worker may get two."""
    return requests * min(cpus) / (sum(cpus) or 1.0)


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


def _points(engine: Engine, load: Load, seconds: float, workers: int, samples: Samples) -> Iterator[tuple[bool | None, int]]:
    """(whether it is warm, None while it is warming up; requests so far), about thirty times or each second.

    The first third (at most five minutes) is the warm-up: what looks after the store once a minute loads libraries and
    fills caches, once. It is longer where until then a worker has served too few, but not more than twice the time of
    the run: then nothing is warm.
    """
    began = time.monotonic()
    warm = min(300.0, seconds / 3)
    left = seconds - warm
    since: float | None = None
    ready = False
    while since is None or time.monotonic() - since < left:
        requests = len(load.seen.acknowledged)
        spent = time.monotonic() - began
        samples.take(engine, spent, requests)
        if since is None and spent >= warm:
            least = least_served(requests, [cpu(pid) for pid in workers_of(engine, workers)])
            ready = least >= WARM_REQUESTS and (seconds <= LONG_S or requests >= WARM_LONG)
            if ready or spent >= 2 * seconds:
                since = time.monotonic()
        yield None if since is None else ready, requests
        time.sleep(min(1.0, seconds / 30))


def run(
    seconds: float, workers: int = 1, clients: int = 8, prompt: str = "What is 6 * 7?", *,
    rate: float = 0.0, samples: Path | None = None,
) -> Report:  # fmt: skip
    """One soak, of which two thirds (or all but five minutes) are looked at."""
    report = Report(seconds)
    with (
        tempfile.TemporaryDirectory(prefix="opentracy-soak-") as folder,
        StandIn(gap=0) as stand_in,
        running(f"[server]\nworkers = {workers}\n", env=stand_in.environment, home=Path(folder)) as engine,
    ):
        with Load(engine.port, clients, prompt=prompt, rate=rate) as load:
            points: list[tuple[float, float]] = []
            opened: list[int] = []
            for warm, requests in _points(engine, load, seconds, workers, Samples(samples)):
                if warm is not None:
                    report.warm = warm
                    pids = workers_of(engine, workers)
                    points.append((requests / 1000, float(sum(map(resident_kb, pids)))))
                    opened.append(sum(map(descriptors, pids)))
        report.requests, report.failures = len(load.seen.acknowledged), load.seen.failures
        report.texts = len(load.seen.hashes | load.seen.streamed_hashes)
        # written in groups, and what a minute left to be projected is shown as far as it is
        eventually(lambda: sum_of_rows(engine) >= report.requests, 60)
        report.traces = sum_of_rows(engine)
        report.cpu_s = round(sum(map(cpu, processes(engine.process.pid))), 1)
    report.floors = floors(points)
    report.slope = round(slope(report.floors), 1)
    report.descriptors_grown = grown(opened)
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
    if not report.warm:
        print("Too few requests for one of the workers to be warm: of memory this run says nothing, a longer one would")
    return report.verdict()


if __name__ == "__main__":
    sys.exit(main())
