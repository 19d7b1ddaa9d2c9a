"""Ten times what an engine can carry: `python -m tests.soak.overload [--seconds 10] [--in-flight 100] [--times 10]`.

An open loop: requests are sent at their times, whatever became of those before. The provider takes one second for each,
and the engine takes `--in-flight` at once, so its capacity is that many a second. First the load is the capacity itself
(the peak), then `--times` as much. Goodput must stay within a tenth of the peak, what is too much must be told so at once
(503 with Retry-After), and /health must answer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_kit import chat_bytes, running, sum_of_rows
from opentracy.engine.standin import StandIn

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
GOODPUT = 0.9  # of the peak
AT_ONCE_S = 0.05
SERVICE_S = 1.0  # of the stand-in's slow models


@dataclass
class Side:
    """One load. `good`: 200s a second; times in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    good: float = 0.0
    shed: list[float] = field(default_factory=list)
    without_hint: int = 0
    broken: int = 0
    health: list[float] = field(default_factory=list)
    health_bad: int = 0


@dataclass
class Report:
    """Both loads, and whether the store says what the clients saw."""

    peak: Side
    over: Side
    rows: int = 0
    sent: int = 0

    def ratio(self) -> float:
        """Goodput under overload to the peak."""
        return self.over.good / self.peak.good if self.peak.good else 0.0

    def at_once(self) -> float:
        """Share of the refusals that came within 50 ms."""
        return sum(t <= AT_ONCE_S for t in self.over.shed) / len(self.over.shed) if self.over.shed else 0.0

    def good(self) -> bool:
        hints = not self.over.without_hint and not self.over.broken and not self.over.health_bad
        return hints and self.ratio() >= GOODPUT and self.at_once() >= 0.99 and self.rows == self.sent

    def __str__(self) -> str:
        return (
            f"peak {self.peak.good:.1f}/s {dict(self.peak.statuses)}; overload {self.over.good:.1f}/s {dict(self.over.statuses)}, "
            f"ratio {self.ratio():.3f}; refused: p50 {_share(self.over.shed, 0.5) * 1e3:.1f} ms, p99 {_share(self.over.shed, 0.99) * 1e3:.1f} ms, "
            f"within 50 ms {self.at_once():.4f}, without Retry-After {self.over.without_hint}, broken {self.over.broken}; "
            f"/health p50 {_share(self.over.health, 0.5) * 1e3:.1f} ms, worst {max(self.over.health, default=0) * 1e3:.1f} ms of "
            f"{len(self.over.health)}, bad {self.over.health_bad}; traces {self.rows} of {self.sent}"
        )


def _share(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else 0.0


class Clients:
    """Connections that are used again; a new one where none is free."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Status and head of the answer."""
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        await reader.readexactly(int(fields[b"content-length"]))
        if fields.get(b"connection") == b"close":
            writer.close()
        else:
            self._free.append((reader, writer))
        return int(head[9:12]), head.lower()

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


async def load(port: int, rate: float, seconds: float) -> Side:
    """Requests at a rate for some time; every answer is waited for."""
    side, clients = Side(), Clients(port)
    data = chat_bytes("openai/slow-model")
    tasks = set()
    began = time.monotonic()
    until = began + seconds

    async def one() -> None:
        sent = time.monotonic()
        try:
            status, head = await clients.ask(data)
        except (OSError, asyncio.IncompleteReadError):
            side.broken += 1
            return
        ended = time.monotonic()
        side.statuses[status] += 1
        if status == 503:
            side.shed.append(ended - sent)
            side.without_hint += b"retry-after: " not in head

    async def look() -> None:
        own = Clients(port)
        while time.monotonic() < until:
            sent = time.monotonic()
            status, _ = await own.ask(HEALTH)
            side.health.append(time.monotonic() - sent)
            side.health_bad += status != 200
            await asyncio.sleep(0.1)
        own.close()

    watch = asyncio.ensure_future(look())
    number = 0
    while (now := time.monotonic()) < until:
        while began + number / rate <= now:
            task = asyncio.ensure_future(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
    await asyncio.gather(*tasks, watch)
    clients.close()
    # both loads are as long, and of both the first second brings no answer yet
    side.good = side.statuses[200] / seconds
    return side


def run(seconds: float = 10.0, in_flight: int = 100, times: float = 10.0) -> Report:
    """Both loads on a fresh engine of one worker."""
    capacity = in_flight / SERVICE_S
    with StandIn(gap=0) as stand_in, running(f"[server]\nmax_in_flight = {in_flight}\n", env=stand_in.environment) as engine:
        asyncio.run(load(engine.port, capacity / 4, 2.0))  # what is loaded once
        # at exactly its capacity an open loop would refuse what comes a moment early
        peak = asyncio.run(load(engine.port, capacity * 1.1, seconds))
        over = asyncio.run(load(engine.port, capacity * times, seconds))
        before = capacity / 4 * 2.0
        report = Report(peak, over, sent=sum(peak.statuses.values()) + sum(over.statuses.values()))
        time.sleep(0.5)
        report.rows = sum_of_rows(engine) - round(before)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--times", type=float, default=10)
    wanted = parser.parse_args()
    report = run(wanted.seconds, wanted.in_flight, wanted.times)
    print(report)
    return 0 if report.good() else 1


if __name__ == "__main__":
    sys.exit(main())
