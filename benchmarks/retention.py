"""What retention costs those who are being served: latencies beside it and without it, in turn.

    python benchmarks/retention.py [--rows 200000] [--seconds 10] [--rate 100] [--rounds 3]

A store is filled with traces that are all too old. In each round two engines serve the same calls at a fixed rate
from a copy of it: one that keeps everything, and one that removes texts (first) and rows meanwhile. Read p50 and p99 as
ratios of the same run; the first seconds of each are not counted. The provider is that of `engine.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
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
    import sqlite3

    with contextlib.closing(sqlite3.connect(store)) as connection:
        rows = "SELECT ifnull(sum(rows), 0) FROM blocks"
        texts = f"{rows} JOIN bodies ON bodies.block = blocks.id"
        return int(connection.execute(f"SELECT ({rows}) + ({texts})").fetchone()[0])


def once(template: Path, provider: int, days: float, seconds: float, rate: float) -> tuple[list[float], int]:
    """Latencies, and how many old rows and texts were removed meanwhile."""
    with tempfile.TemporaryDirectory() as text:
        home, port = Path(text), free_port()
        shutil.copytree(template, home, dirs_exist_ok=True)
        config = home / "opentracy.toml"
        config.write_text(f"[traces]\nmetrics_days = {days}\nbodies_days = {days}\n")
        env = {**os.environ, "OPENTRACY_DATA_HOME": text, "OPENAI_API_KEY": "x",
               "OPENAI_API_BASE": f"http://127.0.0.1:{provider}/v1"}  # fmt: skip
        command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port), "--config", str(config)]
        with serving(command, port, env):
            load(port, WARM_S, rate)
            first = left(home / "traces.db")
            times = load(port, seconds, rate)
            time.sleep(0.5)  # until the last of these is committed
            return times, first + 2 * len(times) - left(home / "traces.db")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    provider = free_port()
    own = [sys.executable, str(Path(__file__).with_name("engine.py")), "--as", "provider", "--port", str(provider)]
    with tempfile.TemporaryDirectory() as text, serving(own, provider, dict(os.environ)):
        fill(Path(text) / "traces.db", args.rows, days=3, end_ms=time.time_ns() // 1_000_000 - 10 * DAY_MS)
        figures: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        for _ in range(args.rounds):
            for name, days in (("without", 0), ("with", 1)):
                times, removed = once(Path(text), provider, days, args.seconds, args.rate)
                middle, slow = percentile(times, 0.5), percentile(times, 0.99)
                figures[name].append((middle, slow))
                print(f"{name:8} p50 {middle:7.2f} ms  p99 {slow:7.2f} ms  removed {removed}")
    for at, label in enumerate(("p50", "p99")):
        ratio = statistics.median(x[at] for x in figures["with"]) / statistics.median(x[at] for x in figures["without"])
        print(f"{label}: {ratio:.2f} times as long beside retention")


if __name__ == "__main__":
    main()
