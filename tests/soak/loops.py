"""Many calls, each on an event loop of its own: descriptors and memory must not grow.

    python -m tests.soak.loops [10000]

Prints a line for every tenth of the run; exits 1 when descriptors grew, or memory by more than 8 MB after the first
tenth.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import opentracy as ot
from faultserver import FaultServer, answer


def resident_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def main(loops: int) -> int:
    """Runs them; 0 when nothing grew."""
    warnings.simplefilter("error", ResourceWarning)
    server = FaultServer()
    server(answer())
    user = [{"role": "user", "content": "hi"}]
    seen: list[tuple[int, float]] = []
    for n in range(loops + 1):
        asyncio.run(ot.acompletion("openai/gpt-4o-mini", user, api_key="k" * 20, api_base=server.base))
        server.seen.clear()
        if n % max(1, loops // 10) == 0:
            gc.collect()
            seen.append((len(os.listdir("/proc/self/fd")), resident_mb()))
            print(f"{n:6} loops: {seen[-1][0]} descriptors, {seen[-1][1]:.1f} MB", flush=True)
    grown = seen[-1][1] - seen[1][1]
    return 0 if seen[-1][0] <= seen[0][0] and grown < 8 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
