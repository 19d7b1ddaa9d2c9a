"""A server of ClickHouse away for minutes while an engine serves: `python tests/soak/clickhouse_outage.py --seconds 600`.

Real time, a real engine process, ClickHouse's own engine behind its HTTP interface, killed and started again. At the
end every trace must be there once, with the same money.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "traces"))

from clickhouse_process import Front, totals

from engine_kit import keys_for, running, sum_of_rows
from faultserver import FaultServer, answer

CONFIG = '[clickhouse]\ndsn = "env:DSN"\n'


def main() -> None:
    """Command line; exits with 1 when something is lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two requests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, contextlib.closing(FaultServer()) as upstream:
        upstream(answer())
        front = Front(Path(place) / "clickhouse")
        front.start()
        env = {**keys_for(f"http://127.0.0.1:{upstream.port}/v1"), "DSN": front.dsn}
        with running(CONFIG, env=env) as engine:
            stop, sent = threading.Event(), [0]

            def serve() -> None:
                while not stop.is_set():
                    assert engine.chat().status == 200
                    sent[0] += 1
                    time.sleep(options.pause)

            thread = threading.Thread(target=serve)
            thread.start()

            def box() -> dict[str, float]:
                return dict(engine.request("GET", "/health").json["traces"]["outlets"]["clickhouse"])

            time.sleep(min(20.0, options.seconds))
            front.kill()
            began = time.monotonic()
            while (left := options.seconds - (time.monotonic() - began)) > 0:
                time.sleep(min(left, 60.0))
                print(f"{time.monotonic() - began:6.0f} s away: {sent[0]} sent, {box()}", flush=True)
            front.start()
            began = time.monotonic()
            while box()["oldest_s"] > 5 and time.monotonic() - began < 300:
                time.sleep(0.5)
            print(f"caught up {time.monotonic() - began:.0f} s after it was back", flush=True)
            stop.set()
            thread.join()
            rows = sum_of_rows(engine)
            while box()["waiting"] and time.monotonic() - began < 400:
                time.sleep(0.5)
            money = engine.request("GET", "/v1/stats?metric=cost_nano").json["data"][0]["cost_nano"]
            there = totals(front.dsn)
        front.kill()
    print(f"sent {sent[0]}, here {rows} rows and {money} nano-USD, there {there}")
    if not sent[0] == rows == there[0] == there[1] or money != there[2]:
        sys.exit(1)


if __name__ == "__main__":
    main()
