"""The dashboard on a store of 100,000 traces: `python benchmarks/dashboard.py [ROWS]`.

Measures in Debian's Chromium what a person feels: first paint of the traces, rows on the screen, long tasks while ten
thousand rows are scrolled through (by the clock, and in CPU time, which other work on the machine does not stretch),
how soon the live tail shows a new trace; and every question that a screen asks.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "dashboard"), str(ROOT / "scripts")]

import dashboard_seed as seed  # noqa: E402
from screenshots import CHROMIUM, engine  # noqa: E402

_WATCH = """() => {
  window.long = [];
  const note = list => list.getEntries().forEach(e => window.long.push(e.duration));
  new PerformanceObserver(note).observe({type: 'longtask', buffered: true});
}"""
_FACETS = "outcome,model,provider,requested,key,tag,cluster,error,stream,tools,fallback"
_SCROLL = """async ([steps, size]) => {
  const box = document.querySelector('.grid-scroll');
  window.long.length = 0;
  for (let i = 0; i < steps; i++) {
    box.scrollTop += size;
    await new Promise(requestAnimationFrame);
    if (i % 10 == 9) await new Promise(done => setTimeout(done, 30));
  }
  return [window.long, box.scrollTop / 34];
}"""
_APPEARS = """id => new Promise(done => { const look = () =>
  document.querySelector(`[data-id="${id}"]`) ? done(performance.now()) : setTimeout(look, 5); look(); })"""


def ask(url: str, body: Any = None) -> Any:
    """JSON of a GET, or of a POST."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=60
    ) as a:
        return json.load(a)


def questions(url: str) -> dict[str, list[float]]:
    """Milliseconds of five runs of what the screens ask."""
    until = seed.NOW_MS + 1000
    day, week = f"since={until - seed.DAY_MS}&until={until}", f"since={until - 7 * seed.DAY_MS}&until={until}"
    paths = {
        "session": "/v1/dashboard/session",
        "tiles, 24 h": f"/v1/stats?metric=requests,errors,error_rate,cost,p50,p95,ttft_avg,cache_rate&{day}",
        "latency series, 24 h": f"/v1/stats?metric=p50,p95,p99,ttft_avg&bucket=1800000&{day}",
        "cost by model, 7 d": f"/v1/stats?metric=cost&group_by=model&limit=7&bucket=14400000&{week}",
        "list, newest 200": f"/v1/traces?limit=200&{week}",
        "list, filtered": f"/v1/traces?limit=200&q=model%3Agpt-4o+cost%3E0.001&{week}",
        "facets, 7 d": f"/v1/traces/facets?field={_FACETS}&{week}",
        "clusters, 7 d": f"/v1/dashboard/routing/clusters?{week}",
        "projection, 7 d": f"/v1/dashboard/routing/projection?{week}",
        "savings, 7 d": f"/v1/dashboard/routing/savings?bucket=14400000&{week}",
        "keys": "/v1/dashboard/keys",
        "system": "/v1/dashboard/system",
    }
    taken: dict[str, list[float]] = {}
    for name, path in paths.items():
        for _ in range(5):
            begun = time.perf_counter()
            ask(url + path)
            taken.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
    return taken


def main_thread_tasks(trace: bytes) -> list[float]:
    """Milliseconds of CPU of each task of the page's main thread: what the clock says as well on an idle machine."""
    events = json.loads(trace)["traceEvents"]
    mains = {
        (e["pid"], e["tid"]) for e in events if e.get("name") == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    runs = [e for e in events if (e["pid"], e["tid"]) in mains and e["name"].endswith("RunTask") and "tdur" in e]
    return [e["tdur"] / 1000 for e in runs]


def browse(url: str) -> dict[str, str]:
    """What the browser says."""
    from playwright.sync_api import sync_playwright

    found: dict[str, str] = {}
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        paints, rows = [], []
        for _ in range(5):
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(f"{url}/traces?range=7d")
            page.wait_for_selector(".grid-body .grid-row")
            rows.append(page.evaluate("performance.now()"))
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            page.close()
        found["first contentful paint of the traces"] = f"{statistics.median(paints):.0f} ms (worst {max(paints):.0f})"
        found["rows on the screen"] = f"{statistics.median(rows):.0f} ms (worst {max(rows):.0f})"
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(f"{url}/traces?range=7d")
        page.wait_for_selector(".grid-body .grid-row")
        page.evaluate(_WATCH)
        page.wait_for_timeout(500)
        browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline", "__metadata"])
        tasks, reached = page.evaluate(_SCROLL, [1000, 340])
        cpu = main_thread_tasks(browser.stop_tracing())
        found["scrolling, rows"] = f"{reached:.0f}"
        found["scrolling, longest task by the clock"] = (
            f"{max(tasks):.0f} ms, {len(tasks)} over 50" if tasks else "under 50 ms"
        )
        found["scrolling, longest task in CPU time"] = f"{max(cpu):.0f} ms, {sum(t > 50 for t in cpu)} over 50"
        page.goto(f"{url}/traces?live=1")
        page.wait_for_selector(".live.on")
        page.wait_for_timeout(1000)
        took = []
        for number in range(10):
            body = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": f"number {number}"}]}
            trace = ask(f"{url}/v1/chat/completions", body)["_routing"]["trace_id"]
            begun = page.evaluate("performance.now()")
            took.append(page.evaluate(_APPEARS, trace) - begun)
        found["live tail"] = f"{statistics.median(took):.0f} ms after the answer (worst {max(took):.0f})"
        browser.close()
    return found


def main() -> None:
    """Command line."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        seed.fill(home / "traces.db", rows)
        with engine(home) as url:
            taken = questions(url)
            found = browse(url)
    print(f"| on {rows:,} traces | |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value} |")
    for name, times in taken.items():
        print(f"| {name} | {statistics.median(times):.0f} ms (worst {max(times):.0f}) |")


if __name__ == "__main__":
    main()
