"""What retention costs those who are being served, by many short pairs in one engine.

    python benchmarks/retention.py [--rows 200000] [--seconds 3] [--rate 100] [--pairs 20]

A store is filled with traces that are all too old. One engine serves calls at a fixed rate; again and again its
configuration is reloaded between keeping everything and removing what is old, in an order drawn by lot within each
pair. What else the machine does meets both halves of a pair alike. The latencies of all halves of a kind are taken
together, since a 99th percentile of one half is three calls, and the pairs are drawn anew a thousand times for the
interval of their ratio (95 %). Pairs of two halves without retention (`null`) say what the method makes of nothing: an
effect is what lies outside of that interval. The provider is that of `engine.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from seed import fill

DAY_MS = 86_400_000
THREADS = 4
WARM_S = 4.0
BODY = json.dumps({"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hello " * 50}]})


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], port: int, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def load(port: int, seconds: float, rate: float) -> list[float]:
    """Latencies in ms of calls that begin at fixed times; one that begins late is measured from when it should have."""
    found: list[float] = []

    def one(offset: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        begin, gap, n = time.perf_counter() + 0.1, THREADS / rate, 0
        while (due := begin + (n + offset / THREADS) * gap) < begin + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            found.append((time.perf_counter() - due) * 1000)
            n += 1
        connection.close()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def left(store: Path) -> int:
    """Rows and texts that are too old; those that come meanwhile are not."""
    import sqlite3

    before = time.time_ns() // 1_000_000 - 5 * DAY_MS
    with contextlib.closing(sqlite3.connect(store)) as connection:
        rows = "SELECT ifnull(sum(rows), 0) FROM blocks"
        texts = f"{rows} JOIN bodies ON bodies.block = blocks.id WHERE ts_max < {before}"
        return int(connection.execute(f"SELECT ({rows} WHERE ts_max < {before}) + ({texts})").fetchone()[0])


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@dataclass(frozen=True)
class Half:
    """What was measured without a change: latencies in ms, and ticks of the engine's CPU per call."""

    times: list[float]
    cpu: float


class Served:
    """One engine whose lifetimes are changed while it serves."""

    def __init__(self, home: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self._config, self._port, self._process = home / "opentracy.toml", port, process
        self.store = home / "traces.db"

    def measured(self, days: float, seconds: float, rate: float) -> Half:
        """Latencies in ms with this lifetime, and CPU of the engine's process per call; what a reload itself costs is
        over before they are taken."""
        self._config.write_text(settings(days))
        self._process.send_signal(signal.SIGHUP)
        load(self._port, 1.5, rate)
        used = self._cpu()
        times = load(self._port, seconds, rate)
        return Half(times, (self._cpu() - used) / len(times))

    def _cpu(self) -> float:
        parts = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return float(int(parts[11]) + int(parts[12]))


def settings(days: float) -> str:
    return f"[traces]\nmetrics_days = {days}\nbodies_days = {days}\n"


def summary(kind: str, pairs: list[tuple[Half, Half]], draw: random.Random) -> None:
    """The ratio on/off of the percentiles and of the CPU, with an interval."""
    for name, figure in FIGURES.items():

        def ratio(chosen: list[tuple[Half, Half]], figure: Callable[[list[Half]], float] = figure) -> float:
            return figure([on for on, _ in chosen]) / max(figure([off for _, off in chosen]), 1e-9)

        again = sorted(ratio(draw.choices(pairs, k=len(pairs))) for _ in range(1000))
        before = figure([off for _, off in pairs])
        print(
            f"{name:4} on/off, {kind:10} {ratio(pairs):.3f}   95 % {again[25]:.3f} to {again[974]:.3f}   "
            f"(off: {before:.2f})   {sum(len(on.times) for on, _ in pairs)} calls a side",
            flush=True,
        )


def pooled(share: float) -> Callable[[list[Half]], float]:
    return lambda halves: percentile([time for half in halves for time in half.times], share)


FIGURES: dict[str, Callable[[list[Half]], float]] = {
    "p50": pooled(0.5),
    "p99": pooled(0.99),
    "CPU": lambda halves: statistics.mean(half.cpu for half in halves),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--pairs", type=int, default=20)
    args = parser.parse_args()
    draw = random.Random(1)
    provider, port = free_port(), free_port()
    own = [sys.executable, str(Path(__file__).with_name("engine.py")), "--as", "provider", "--port", str(provider)]
    with tempfile.TemporaryDirectory() as text, serving(own, provider, dict(os.environ)):
        home = Path(text)
        fill(home / "traces.db", args.rows, days=3, end_ms=time.time_ns() // 1_000_000 - 10 * DAY_MS)
        (home / "opentracy.toml").write_text(settings(0))
        env = {**os.environ, "OPENTRACY_DATA_HOME": text, "OPENAI_API_KEY": "x",
               "OPENAI_API_BASE": f"http://127.0.0.1:{provider}/v1"}  # fmt: skip
        command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port)]
        command += ["--config", str(home / "opentracy.toml")]
        with serving(command, port, env) as process:
            served = Served(home, port, process)
            load(port, WARM_S, args.rate)
            found: dict[str, list[tuple[Half, Half]]] = {"null": [], "retention": []}
            removed = 0
            for number in range(2 * args.pairs):
                kind = "retention" if number % 2 else "null"
                halves = [("off", 0.0), ("on", 1.0 if kind == "retention" else 0.0)]
                draw.shuffle(halves)
                before = left(served.store)
                times = {name: served.measured(days, args.seconds, args.rate) for name, days in halves}
                removed += max(0, before - left(served.store)) if kind == "retention" else 0
                found[kind].append((times["on"], times["off"]))
    print(f"{removed} rows and texts removed while serving")
    for kind, pairs in found.items():
        summary(kind, pairs, draw)


if __name__ == "__main__":
    main()
