"""Kills an engine under load, again and again: `python -m tests.soak.kill_loop [--rounds 100] [--normal]`.

Two workers, a random moment, SIGKILL to one of them or to all; afterwards every trace whose answer a client has read to
its end must be in the store, once. `--normal` runs with durability "normal": there an answer does not count that may
have been given in the last second before a kill. When it was given nobody knows exactly: between the begin of the
request and the moment when a client had read it, which may be after the kill.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_kit import Engine, children, launch, stop, wait_until_live
from opentracy.engine.standin import StandIn
from opentracy.traces import Filters, Reader, Store

from .load import Load

#: what "normal" durability leaves at risk, in seconds
WINDOW = 1.0


@dataclass
class Outcome:
    """What a run showed. `lost`: acknowledged but not in the store; `doubled`: there more than once."""

    rounds: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    interrupted: int
    slowest_start: float
    lost_in_window: int = 0  # given so shortly before a kill that "normal" does not promise them
    oldest_lost: float = 0.0  # of all lost: the longest time before a kill at which one was certainly given

    def good(self) -> bool:
        return not self.lost and not self.doubled and self.slowest_start <= 5.0 and self.acknowledged > 0


def run(rounds: int, *, strict: bool = True, seed: int = 1, clients: int = 8) -> Outcome:
    chance = random.Random(seed)
    slowest = 0.0
    config = f'[server]\nworkers = 2\n[traces]\ndurability = "{"strict" if strict else "normal"}"\n'
    kills: list[float] = []
    with tempfile.TemporaryDirectory(prefix="opentracy-kill-") as folder, StandIn(gap=0) as stand_in:
        home = Path(folder)
        engine = launch(home, config, env=stand_in.environment)
        wait_until_live(engine)
        with Load(engine.port, clients, tolerate=lambda: True) as load:
            for _ in range(rounds):
                time.sleep(chance.uniform(0.05, 0.4))
                workers = children(engine.process.pid)
                if chance.random() < 0.7 and workers:
                    kill(chance.choice(workers))
                    kills.append(time.monotonic())
                    continue
                for pid in (engine.process.pid, *workers):
                    kill(pid)
                kills.append(time.monotonic())
                engine.process.wait(10)
                began = time.monotonic()
                engine = again(engine, home, config, stand_in)
                slowest = max(slowest, time.monotonic() - began)
        stop(engine)
        engine = again(engine, home, config, stand_in)  # a last start takes in what the last kill left behind
        stop(engine)
        return judge(home / "traces.db", load, rounds, slowest, kills, strict=strict)


def again(engine: Engine, home: Path, config: str, stand_in: StandIn) -> Engine:
    started = launch(home, config, env=stand_in.environment, port=engine.port)
    wait_until_live(started)
    return started


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def judge(database: Path, load: Load, rounds: int, slowest: float, kills: list[float], *, strict: bool) -> Outcome:
    uncertain = [] if strict else kills
    store = Store.open(database)
    reader = Reader(store)
    counts: Counter[str] = Counter()
    interrupted = 0
    cursor: str | None = None
    while True:
        page = reader.page(Filters(), limit=1000, cursor=cursor)
        counts.update(row.trace_id for row in page.rows)
        interrupted += sum(row.outcome == "interrupted" for row in page.rows)
        cursor = page.next
        if cursor is None:
            break
    with contextlib.closing(sqlite3.connect(database)) as connection:
        # the projection holds an id once whatever happened; the blocks hold what was really written
        written = connection.execute("SELECT coalesce(sum(rows), 0) FROM blocks").fetchone()[0]
    store.close()
    acknowledged = load.seen.acknowledged
    missing = [(began, at) for trace_id, began, at in acknowledged if trace_id not in counts]
    excused = [m for m in missing if any(m[0] <= kill and m[1] >= kill - WINDOW for kill in uncertain)]
    doubled = sum(n - 1 for n in counts.values()) + max(0, written - len(counts))
    ages = [min((kill - at for kill in kills if kill >= began), default=0.0) for began, at in missing]
    return Outcome(
        rounds, len(acknowledged), len(counts), len(missing) - len(excused), doubled, interrupted, round(slowest, 2),
        len(excused), round(max(ages, default=0.0), 3),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--normal", action="store_true", help='durability "normal" instead of "strict"')
    wanted = parser.parse_args()
    outcome = run(wanted.rounds, strict=not wanted.normal, seed=wanted.seed)
    print(outcome)
    return 0 if outcome.good() else 1


if __name__ == "__main__":
    sys.exit(main())
