"""What retention costs those who are being served, request by request.

    python benchmarks/retention.py [--rows 200000] [--seconds 240] [--rate 200] [--block 4] [--duty 0]

A store is filled with traces that are all too old. One engine serves calls that begin at fixed times, far below what it
can serve; beside it retention's own loop (`opentracy.traces.retire`, a process of its own as the engine begins it) is
switched on and off for short blocks, in an order drawn by lot within each pair of blocks, and says when each of its
steps began and what it took. So every request is known to have met a step or not.

    added     p99 of all requests of the blocks with retention / the same with every request that met a step replaced
              by one that met none, within half a second of it: what others do to the machine meanwhile meets both alike
    on/off    p99 of the blocks with retention / of those without: whatever outlasts a step is in it too
    null      the same of pairs that were both off: what the method makes of nothing

The intervals (95 %) come from drawing pairs of blocks anew. A request has met a step when it was due within the time
that the step had the processor, from its begin on, within 5 ms after it, or within 2 ms before it. Neither how long a
request was open counts, nor how long a step lasted by the clock: where others stop the whole machine for a moment, both
are long, meet each other, and would seem to be to blame. `--duty 0.2` makes retention work a fifth of the time instead
of what it allows itself, to see what meeting a step costs. The provider is that of `engine.py`.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import os
import random
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from seed import fill

DAY_MS = 86_400_000
WARM_S = 5.0
#: what a step may leave behind (cold caches, a lock just released), in seconds
AFTER_S = 0.005
#: what is due so shortly before a step is under way when it begins
BEFORE_S = 0.002
#: requests on either side from which the one is drawn that stands for a request that met a step
NEIGHBOURS = 50
DRAWS = 1000
BODY = json.dumps({"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hello " * 50}]}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Span(NamedTuple):
    """From when to when something lasted, by the monotonic clock."""

    began: float
    ended: float


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], port: int, env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(60)


def prepared(path: Path, rows: int) -> None:
    """A store of old traces for which everything is made that retention will have to undo."""
    from opentracy.traces import Store, chunks, project, words

    fill(path, rows, days=3, end_ms=time.time_ns() // 1_000_000 - 10 * DAY_MS)
    store = Store.open(path)
    with contextlib.closing(store.connect()) as connection:
        project.catch_up(connection)
        while chunks.build(connection):
            chunks.merge(connection)
        while words.add_some(connection):
            pass
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# ---------------------------------------------------------------- the load
class Caller:
    """One connection on which requests begin at fixed times; one that begins late counts from when it should have."""

    def __init__(self, port: int, rate: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._gap = 1 / rate

    def load(self, seconds: float) -> list[Span]:
        """When each request was due and when its answer was read."""
        found: list[Span] = []
        due = time.monotonic() + self._gap
        end = due + seconds
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            self._ask()
            found.append(Span(due, time.monotonic()))
            due += self._gap
        return found

    def _ask(self) -> None:
        self._socket.sendall(REQUEST)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._received()
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b" 200 " in head[:16], data
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(rest) < length:
            rest += self._received()

    def _received(self) -> bytes:
        data = self._socket.recv(65536)
        assert data, "the engine closed the connection"
        return data


# ---------------------------------------------------------------- retention, switched on and off
class Switched:
    """Retention's process, which stands still until it is switched on."""

    def __init__(self, store: Path, duty: float, env: dict[str, str]) -> None:
        command = [sys.executable, __file__, "--as", "retention", "--store", str(store), "--duty", str(duty)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        self.steps: list[Span] = []
        self.lasted: list[float] = []  # by the clock, in ms
        self.removed = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            began, lasted, used, rows = line.split()
            self.steps.append(Span(float(began), float(began) + float(used)))
            self.lasted.append(float(lasted) * 1000)
            self.removed += int(rows)

    def turn(self, on: bool) -> None:
        assert self._process.stdin is not None
        assert self._process.poll() is None, "nothing is left to remove: more --rows"
        self._process.stdin.write("on\n" if on else "off\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def switched(store: Path, duty: float) -> None:
    """The process behind `Switched`: told on or off by lines, it says of each step its begin, its seconds by the clock
    and of CPU, and its rows."""
    from opentracy.traces import retire
    from opentracy.traces.maintenance import NICENESS
    from opentracy.traces.retention import Retention

    os.nice(NICENESS)
    if duty:
        retire.BUSY_DUTY = retire.DUTY = duty  # type: ignore[misc]
    steps = retire.slices(store, Retention(1.0, 1.0))
    on, wait_until = False, 0.0
    while True:
        left = max(0.0, wait_until - time.monotonic()) if on else None
        if select.select([0], [], [], left)[0]:
            told = os.read(0, 100).decode().split()
            if not told:
                return
            on = told[-1] == "on"
            continue
        began, used = time.monotonic(), time.process_time()
        step = next(steps, None)
        if step is None:
            return
        ended = time.monotonic()
        wait_until = ended + step.pause
        print(began, ended - began, time.process_time() - used, step.removed, flush=True)


# ---------------------------------------------------------------- the figures
@dataclass
class Block:
    """Requests of some seconds. Latencies in ms: of all, of those that met a step, of those that met none, and of all
    with each that met one replaced by a neighbour."""

    every: list[float]
    met: list[float]
    free: list[float]
    without: list[float]

    @classmethod
    def of(cls, requests: Sequence[Span], steps: Sequence[Span], draw: random.Random) -> Block:
        ends = [step.ended + AFTER_S for step in steps]

        def meets(request: Span) -> bool:
            at = bisect.bisect_left(ends, request.began)
            return at < len(steps) and steps[at].began - BEFORE_S <= request.began

        took = [((one.ended - one.began) * 1000, meets(one)) for one in requests]
        free = [time for time, met in took if not met]
        without, seen = [], 0
        for latency, met in took:
            near = free[max(0, seen - NEIGHBOURS) : seen + NEIGHBOURS]
            without.append(draw.choice(near) if met and near else latency)
            seen += not met
        return cls([time for time, _ in took], [time for time, met in took if met], free, without)


Pair = tuple[Block, Block]
Latencies = tuple[list[float], list[float]]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def together(parts: Sequence[Sequence[float]]) -> list[float]:
    return [one for part in parts for one in part]


def line(name: str, pairs: Sequence[Latencies], draw: random.Random) -> None:
    """Ratios of the percentiles of two sets of latencies, block by block, with their intervals."""

    def ratio(chosen: Sequence[Latencies], share: float) -> float:
        ones, others = together([one for one, _ in chosen]), together([other for _, other in chosen])
        return percentile(ones, share) / percentile(others, share)

    said = []
    for share in (0.5, 0.99):
        again = sorted(ratio(draw.choices(pairs, k=len(pairs)), share) for _ in range(DRAWS))
        low, high = again[int(DRAWS * 0.025)], again[int(DRAWS * 0.975)]
        said.append(f"p{share * 100:.0f} {ratio(pairs, share):.3f} ({low:.3f} to {high:.3f})")
    print(f"{name:8} {'   '.join(said)}", flush=True)


def report(found: dict[str, list[Pair]], retention: Switched) -> None:
    draw = random.Random(2)
    on, off = [one for one, _ in found["on"]], [other for _, other in found["on"]]
    used = [(step.ended - step.began) * 1000 for step in retention.steps]
    print(f"{retention.removed} rows and texts removed in {len(used)} steps: "
          f"CPU median {percentile(used, 0.5):.1f} ms, longest {max(used):.1f} ms; "
          f"by the clock {percentile(retention.lasted, 0.5):.1f} and {max(retention.lasted):.1f} ms")  # fmt: skip
    calls, met = together([one.every for one in on]), together([one.met for one in on])
    print(f"{len(calls)} requests with retention, {len(met)} of them ({len(met) / len(calls):.2%}) met a step")
    free = together([one.free for one in on])
    for name, values in (("met a step", met), ("met none", free), ("off", together([one.every for one in off]))):
        if values:
            figures = " ".join(f"p{share * 100:g} {percentile(values, share):.2f}" for share in (0.5, 0.9, 0.99, 0.999))
            print(f"  {name:12} {figures} ms")
    line("added", [(one.every, one.without) for one in on], draw)
    line("on/off", [(one.every, other.every) for one, other in found["on"]], draw)
    line("null", [(one.every, other.every) for one, other in found["null"]], draw)


def measured(home: Path, port: int, args: argparse.Namespace, env: dict[str, str]) -> None:
    draw = random.Random(1)
    caller = Caller(port, args.rate)
    caller.load(WARM_S)
    retention = Switched(home / "traces.db", args.duty, env)
    raw: list[tuple[str, str, list[Span]]] = []
    try:
        for number in range(max(4, round(args.seconds / args.block / 2))):
            kind = "null" if number % 4 == 3 else "on"
            halves = ["on", "off"]
            draw.shuffle(halves)
            for half in halves:
                retention.turn(kind == "on" and half == "on")
                caller.load(0.1)
                raw.append((kind, half, caller.load(args.block)))
        retention.turn(False)
        time.sleep(0.2)
    finally:
        retention.end()
    found: dict[str, list[Pair]] = {"on": [], "null": []}
    for (kind, half, requests), (_, _, others) in zip(raw[::2], raw[1::2], strict=True):
        one, other = Block.of(requests, retention.steps, draw), Block.of(others, retention.steps, draw)
        found[kind].append((one, other) if half == "on" else (other, one))
    report(found, retention)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=240, help="of measurement, all blocks together")
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--block", type=float, default=4, help="seconds")
    parser.add_argument("--duty", type=float, default=0.0)
    parser.add_argument("--as", dest="role", choices=["retention"], help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        switched(args.store, args.duty)
        return
    provider, port = free_port(), free_port()
    own = [sys.executable, str(Path(__file__).with_name("engine.py")), "--as", "provider", "--port", str(provider)]
    with tempfile.TemporaryDirectory() as text, serving(own, provider, dict(os.environ)):
        home = Path(text)
        prepared(home / "traces.db", args.rows)
        (home / "opentracy.toml").write_text("[traces]\nmetrics_days = 0\nbodies_days = 0\n")
        env = {**os.environ, "OPENTRACY_DATA_HOME": text, "OPENAI_API_KEY": "x",
               "OPENAI_API_BASE": f"http://127.0.0.1:{provider}/v1"}  # fmt: skip
        command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port)]
        command += ["--config", str(home / "opentracy.toml")]
        with serving(command, port, env):
            measured(home, port, args, env)


if __name__ == "__main__":
    main()
