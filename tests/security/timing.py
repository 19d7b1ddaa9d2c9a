"""S19: whether the time of a key check tells how much of a key is right: `python -m tests.security.timing [--pairs 100000]`.

Two classes in random order: a wrong key that shares no character with the right one, and one that is wrong in its last
character only. Welch's t over the trimmed times must stay below 4.5.
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from opentracy.engine.auth import Identity
from opentracy.engine.auth import Keys as ConfiguredKeys
from opentracy.traces.accounts import Accounts
from opentracy.traces.keys import Keys as VirtualKeys


def welch(a: list[float], b: list[float]) -> float:
    """t of two samples with variances of their own."""
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(spread)


def trimmed(times: list[int], share: float = 0.9) -> list[float]:
    """Without the slowest tenth, which is the machine's doing."""
    ordered = sorted(times)
    return [float(t) for t in ordered[: int(len(ordered) * share)]]


def measure(check: Callable[[str], object], near: str, far: str, pairs: int) -> float:
    """|t| between the two classes."""
    chance = random.Random(19)
    times: dict[str, list[int]] = {near: [], far: []}
    gc.disable()
    for _ in range(pairs):
        for text in (near, far) if chance.random() < 0.5 else (far, near):
            began = time.perf_counter_ns()
            check(text)
            times[text].append(time.perf_counter_ns() - began)
    gc.enable()
    return abs(welch(trimmed(times[near]), trimmed(times[far])))


def changed(text: str, at: int) -> str:
    return text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    pairs = parser.parse_args().pairs
    right = "inference-key-0123456789abcdef0123456789abcdef"
    configured = ConfiguredKeys([(right, Identity("k", frozenset()))])
    results = {"configured key": measure(configured.find, changed(right, len(right) - 1), "X" * len(right), pairs)}
    with tempfile.TemporaryDirectory() as folder:
        virtual = VirtualKeys(Accounts(Path(folder) / "accounts.db"), b"p" * 32)
        text, key = virtual.create("x")
        prefix = f"ot_{key.id}_"
        results["virtual key"] = measure(
            lambda given: virtual.verify(given, 0), changed(text, len(text) - 1), prefix + "X" * (len(text) - len(prefix)), pairs
        )
    for name, t in results.items():
        print(f"{name}: |t| = {t:.2f} over {pairs} pairs")
    return 0 if max(results.values()) < 4.5 else 1


if __name__ == "__main__":
    sys.exit(main())
