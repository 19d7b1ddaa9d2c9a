"""Screenshots of every screen, in both themes and at two widths, of a real engine over a seeded store.

    python scripts/screenshots.py [--out build/screenshots] [--only routing] [--readme]

Needs playwright (in the dev extra) and Debian's chromium. --readme also renews docs/images/.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "dashboard"))

import dashboard_seed as seed  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
SIZES = {"wide": (1600, 1000), "narrow": (390, 844)}
README = {"overview-light-wide": "overview", "trace-dark-wide": "trace", "routing-light-wide": "routing"}


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def engine(home: Path) -> Iterator[str]:
    """A real engine with stand-in providers on the store in `home`; its address."""
    port = free_port()
    ours = ("_API_KEY", "_API_BASE", "_BASE_URL")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENTRACY_") and not k.endswith(ours)}
    environ["OPENTRACY_DATA_HOME"] = str(home)
    command = [sys.executable, "-m", "opentracy", "serve", "--demo", "--port", str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/health/ready", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit((home / "log").read_text())
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(40)


def prepare(url: str) -> None:
    """Keys, a dataset and an evaluation, so that their screens have something to show."""
    def post(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{url}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    post(
        "/v1/dashboard/keys",
        {"name": "support-bot", "owner": "Customer care", "daily_usd": 20, "monthly_usd": 400, "rpm": 600},
    )
    post(
        "/v1/dashboard/keys",
        {"name": "batch-nightly", "owner": "Data", "monthly_usd": 50, "models": ["openai/gpt-4o-mini"]},
    )
    post("/v1/dashboard/keys", {"name": "dashboards", "owner": "Platform", "scopes": ["read"]})
    filters = {"since": seed.NOW_MS - 7 * seed.DAY_MS, "until": seed.NOW_MS + 1}
    post("/v1/dashboard/datasets/support-questions", {"q": "order status:ok", "limit": 120, **filters})
    post("/v1/dashboard/datasets/sql-help", {"q": "SQL query", "limit": 60, **filters})
    models = ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-6"]
    run = {"dataset": "support-questions", "version": 1, "models": models, "limit": 20}
    post("/v1/dashboard/evaluations", run)


def screens(first: str, cluster: int) -> dict[str, str]:
    """Name -> address; `first`: the id of a routed trace; `cluster`: one with traffic."""
    return {
        "overview": "/",
        "overview-week": "/?range=7d",
        "traces": "/traces",
        "trace": f"/traces?q=requested%3Aauto&open={first}",
        "trace-page": f"/traces/{first}",
        "routing": f"/routing?range=7d&cluster={cluster}&prompt=Write+a+SQL+query+that+finds+customers+without+orders",
        "playground": "/playground?models=gpt-4o-mini,claude-sonnet-4-6,auto&prompt=Why+is+the+sky+blue%3F",
        "spend": "/spend?range=7d",
        "spend-model": "/spend?range=7d&by=model",
        "datasets": "/datasets",
        "dataset": "/datasets/support-questions",
        "system": "/system",
    }


def shoot(url: str, out: Path, only: str | None) -> int:
    """Takes them all; returns how many errors stood in the console."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(f"{url}/v1/dashboard/routing/clusters", timeout=30) as answer:
        cluster = json.load(answer)["clusters"][0]["id"]
    errors: list[str] = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            for width, (w, h) in SIZES.items():
                context = browser.new_context(viewport={"width": w, "height": h}, color_scheme=theme, timezone_id="UTC")  # type: ignore[arg-type]
                page = context.new_page()
                page.clock.set_fixed_time(seed.NOW_MS / 1000 + 1)  # seconds here, milliseconds everywhere else
                page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
                page.on("pageerror", lambda e: errors.append(str(e)))
                page.goto(f"{url}/traces?q=requested%3Aauto")
                page.wait_for_selector(".grid-body .grid-row")
                page.locator(".grid-body .grid-row").nth(3).click()
                first = page.url.partition("open=")[2]
                for name, path in screens(first, cluster).items():
                    if only and not name.startswith(only):
                        continue
                    page.goto(url + path)
                    page.wait_for_load_state("networkidle")
                    if name == "playground":
                        page.get_by_role("button", name="Run", exact=True).click()
                        page.wait_for_timeout(2500)
                    page.wait_for_timeout(350)
                    whole = width == "narrow" or name not in ("traces", "trace")
                    page.screenshot(path=out / f"{name}-{theme}-{width}.png", full_page=whole)
                    if f"{name}-{theme}-{width}" in README:
                        page.screenshot(path=out / f"readme-{README[f'{name}-{theme}-{width}']}.png")
                context.close()
        browser.close()
    for text in dict.fromkeys(errors):
        print("console:", text, file=sys.stderr)
    return len(errors)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--only", help="names that begin so")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--readme", action="store_true", help="renew docs/images/ as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        seed.fill(home / "traces.db", options.rows)
        with engine(home) as url:
            prepare(url)
            wrong = shoot(url, options.out, options.only)
    if options.readme:
        images = ROOT / "docs" / "images"
        images.mkdir(parents=True, exist_ok=True)
        for name in README.values():
            (images / f"{name}.png").write_bytes((options.out / f"readme-{name}.png").read_bytes())
    print(f"screenshots in {options.out}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
