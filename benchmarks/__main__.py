"""Every measurement in one run, as ratios against peers and floors of the same run: `make bench`.

    python -m benchmarks [--quick] [--no-peers] [--only plain,stream,...]

Writes docs/performance.md (the part between its markers), docs/images/performance.svg and the figures themselves,
docs/performance.json. Needs Debian's `wrk` and `taskset`; peers are installed into environments of their own under
.bench/ the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import gateways, peers, report

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
KEPT = ROOT / "docs" / "performance.json"  # beside the page, so that a run of some steps keeps the others anywhere
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Bench:
    """The measurements by name; each returns figures for `report`."""

    def __init__(self, home: Path, *, quick: bool, with_peers: bool) -> None:
        self.home = home
        self.rounds, self.seconds = (1, 2.0) if quick else (3, 4.0)
        self.quick = quick
        self.with_peers = with_peers

    def ours(self, name: str = "OpenTracy", model: str = "openai/gpt-4o-mini", workers: int = 1) -> peers.Gateway:
        # a new store each time: what one step left to be sealed must not be sealed while the next one is measured
        return peers.ours(name, tempfile.mkdtemp(dir=self.home), model, workers)

    def floor(self) -> peers.Gateway:
        command = [sys.executable, str(ROOT / "benchmarks" / "engine.py"), "--as", "floor", "--port", "{port}"]
        return peers.Gateway("bare forwarding loop", command, {"BENCH_PROVIDER": "{provider}"})

    def others(self) -> list[peers.Gateway]:
        return [peers.go_engine(), peers.litellm()] if self.with_peers else []

    def plain(self) -> dict[str, Any]:
        return gateways.side_by_side([self.ours(), self.floor(), *self.others()], self.rounds, self.seconds)

    def stream(self) -> dict[str, Any]:
        both = [self.ours(), self.ours("OpenTracy, Anthropic", "anthropic/claude-sonnet-4-5")]
        return gateways.side_by_side([*both, *self.others()], self.rounds, self.seconds, stream=True)

    def auto_us(self) -> dict[str, float]:
        """What `auto` costs on top of the same request for a model by name: a prompt seen before, and new ones. All
        candidates are OpenAI's, so that both kinds of request go the same way once it is decided."""
        both, found = [self.ours(), self.ours("auto", "auto")], {}
        for one in both:
            del one.env["ANTHROPIC_API_KEY"]
        for name, new in (("seen", False), ("new", True)):
            table = gateways.side_by_side(both, self.rounds, self.seconds, new=new)
            found[name] = table["auto"]["us"] - table["OpenTracy"]["us"]
        return found

    def concurrency(self) -> dict[str, Any]:
        """Plain requests and streams by the number of connections."""
        found = {}
        with gateways.provider() as port:
            at = gateways.Running(self.ours(), port)
            try:
                for name, body in (("plain", {}), ("stream", {"stream": True})):
                    gateways.load(at, 1, **body)
                    found[name] = {str(n): gateways.load(at, self.seconds, n, **body) for n in (1, 32, 256, 1000)}
            finally:
                at.close()
        return found

    def workers(self) -> float:
        """What two workers serve against one. Load and provider share the cores, so that CPU time is what counts:
        twice the requests of one worker, less what the second makes each of them dearer."""
        with gateways.provider() as port:
            costs: dict[int, list[float]] = {1: [], 2: []}
            for number in costs:
                at = gateways.Running(self.ours(f"workers {number}", workers=number), port, pin=False)
                try:
                    gateways.load(at, 1)
                    costs[number] = [gateways.load(at, self.seconds, 64)["us"] for _ in range(self.rounds)]
                finally:
                    at.close()
        return 2 * statistics.median(costs[1]) / statistics.median(costs[2])

    def latency(self) -> dict[str, float]:
        return gateways.added_latency(self.ours(), 3 if self.quick else 9)

    def many(self) -> dict[str, float]:
        return gateways.many_streams(self.ours(), 1000, 10 if self.quick else 60)

    def sdk(self) -> dict[str, Any]:
        out = self.home / "sdk.json"
        rounds = "1" if self.quick else "5"
        self._script("sdk.py", "--rounds", rounds, "--subjects", "floor,ours,openai", "--json", str(out))
        found: dict[str, Any] = json.loads(out.read_text())
        return found

    def routing(self) -> str:
        return self._script("routing.py", OPENBLAS_NUM_THREADS="1")

    def traces(self) -> str:
        return self._script("traces.py", "parts")

    def _script(self, name: str, *arguments: str, **env: str) -> str:
        command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
        return done.stdout


STEPS = ("plain", "stream", "auto_us", "concurrency", "workers", "latency", "many", "sdk", "routing", "traces")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.+)", text)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "cores": len(gateways.CORES),
        "cpu": found[1] if found else platform.machine(), "python": platform.python_version(),
        "kernel": f"Linux {platform.release()}", "load_before": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip


def write(result: dict[str, Any]) -> None:
    """The page with the new figures between its markers, and the plot."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{report.markdown(result)}\n{END}{tail}", encoding="utf-8")
    (PAGE.parent / "images").mkdir(exist_ok=True)
    (PAGE.parent / "images" / "performance.svg").write_text(report.plot(result), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works")
    parser.add_argument("--no-peers", action="store_true", help="without the Go engine and LiteLLM")
    parser.add_argument("--only", help=f"some of {','.join(STEPS)}; the others keep what was measured last")
    args = parser.parse_args()
    missing = [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"{' and '.join(missing)} missing: apt-get install wrk util-linux")
    result: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if args.only and KEPT.exists() else {}
    result["machine"], measured = machine(), result.get("measured", {})
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(Path(home), quick=args.quick, with_peers=not args.no_peers)
        for name in args.only.split(",") if args.only else STEPS:
            print(f"{name} ...", flush=True)
            step: Callable[[], Any] = getattr(bench, name)
            result[name] = step()
            measured[name] = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    if "plain" in result:
        result["floor"] = result["plain"]["bare forwarding loop"]["ratio"]
    result["machine"]["load_after"] = f"{os.getloadavg()[0]:.1f}"
    result["measured"] = {name: measured[name] for name in STEPS if name in measured}
    KEPT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write(result)
    for cells in report.budget_rows(result):
        print(f"{cells[0]:58}{cells[1]:>18}{cells[2]:>14}  {cells[3]}")


if __name__ == "__main__":
    main()
