"""Two hundred requests at once against a budget and a rate limit, again and again: `python tests/soak/limits.py --rounds 100`.

A real engine with two workers, a key of its own in each round, limits on the tokens of some. What a provider was asked
must never exceed either, what was refused must say so, and what was settled must be what the answers cost.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine_kit import Engine, keys_for, running
from faultserver import FaultServer, answer
from opentracy.traces.accounts import Accounts
from opentracy.traces.budgets import SqliteBudgets
from opentracy.traces.keys import Keys, load_pepper

PARALLEL = 200
#: of the model that is asked: an answer of at most 1,000 tokens is reserved at about so much
RESERVED_NANO = 600_000


def one(engine: Engine, keys: Keys, number: int, upstream: FaultServer) -> tuple[Counter[int], str, int]:
    """A round: the statuses, the key's id, and how many calls reached the provider."""
    limit, calls = 20 + number % 60, 5 + number % 50
    text, key = keys.create(f"round-{number}", rpm=limit, daily_nano=calls * RESERVED_NANO, monthly_nano=10**12)
    headers = {"authorization": f"Bearer {text}"}
    before = len(upstream.seen)
    with ThreadPoolExecutor(PARALLEL) as pool:
        replies = list(pool.map(lambda _: engine.chat(headers=headers, max_tokens=1000), range(PARALLEL)))
    found = Counter(reply.status for reply in replies)
    assert set(found) <= {200, 402, 429}, found
    assert found[200] <= limit, (found, limit)
    assert found[200] == len(upstream.seen) - before
    return found, key.id, found[200]


def main() -> None:
    """Command line; an AssertionError where something was exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    total: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as place, contextlib.closing(FaultServer()) as upstream:
        upstream(answer())
        home = Path(place)
        with running("[server]\nworkers = 2\n", env=keys_for(f"http://127.0.0.1:{upstream.port}/v1"), home=home) as engine:
            accounts = Accounts(home / "accounts.db")
            keys, budgets = Keys(accounts, load_pepper(home)), SqliteBudgets(accounts)
            for number in range(options.rounds):
                found, key_id, served = one(engine, keys, number, upstream)
                total += found
                end = time.monotonic() + 20
                while (spent := budgets.spent(key_id, time.time_ns() // 1_000_000)["day"]).reserved and time.monotonic() < end:
                    time.sleep(0.02)
                key = keys.get(key_id)
                assert key is not None
                assert key.daily_nano is not None
                assert spent.reserved == 0
                assert spent.settled <= key.daily_nano
                # what the key has spent is what its traces cost, to the last nano-USD
                end = time.monotonic() + 20
                while time.monotonic() < end:
                    query = f"/v1/stats?metric=cost_nano,requests&key={key_id}&status=ok"
                    sums = engine.request("GET", query).json["data"]
                    if sums and sums[0]["requests"] == served:
                        break
                    time.sleep(0.05)
                assert sums[0]["cost_nano"] == spent.settled, (sums, spent)
            accounts.close()
    print(f"{options.rounds} rounds of {PARALLEL}: {dict(total)}, never over a limit or a budget")


if __name__ == "__main__":
    main()
