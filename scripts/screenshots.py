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
from dashboard_states import furnish, settled, states  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
SIZES = {"wide": (1600, 1000), "narrow": (390, 844)}
README = {"overview-light-wide": "overview", "trace-dark-wide": "trace", "routing-light-wide": "routing"}


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def engine(home: Path, *arguments: str, demo: bool = True, **environment: str) -> Iterator[str]:
    """A real engine on the store in `home`, with stand-in providers unless `demo` is false; its address."""
    port = free_port()
    ours = ("_API_KEY", "_API_BASE", "_BASE_URL")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENTRACY_") and not k.endswith(ours)}
    environ |= {"OPENTRACY_DATA_HOME": str(home), **environment}
    options = [*(["--demo"] if demo else []), *arguments]
    command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port), *options]
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


def samples(url: str) -> tuple[str, str, str, int]:
    """Ids of a routed, a failed and a tool-using trace, and a cluster with traffic."""

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"{url}{path}", timeout=60) as answer:
            return json.load(answer)

    wanted = ("q=requested%3Aauto+status%3Aok", "q=status%3Aerror+attempts%3E1", "q=tools%3Atrue+status%3Aok")
    first, failed, tools = (ask(f"/v1/traces?{q}&limit=4")["data"][-1]["trace_id"] for q in wanted)
    return first, failed, tools, ask("/v1/dashboard/routing/clusters")["clusters"][0]["id"]


def browser_of(p: Any) -> Any:
    """Debian's Chromium."""
    return p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def pages(browser: Any, errors: list[str], clock: bool = True) -> Iterator[tuple[str, Any]]:
    """A page for each theme and width, with the name of the two; what its console says is kept in `errors`."""
    for theme in ("light", "dark"):
        for width, (w, h) in SIZES.items():
            context = browser.new_context(viewport={"width": w, "height": h}, color_scheme=theme, timezone_id="UTC")
            page = context.new_page()
            if clock:
                page.clock.set_fixed_time(seed.NOW_MS / 1000 + 1)  # seconds here, milliseconds everywhere else
            page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: errors.append(str(e)))
            yield f"{theme}-{width}", page
            context.close()


def shoot(url: str, out: Path, only: str | None) -> int:
    """Takes the states of a furnished engine; returns how many errors stood in the console."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    wanted = {n: s for n, s in states(*samples(url)).items() if not only or n.startswith(only)}
    errors: list[str] = []
    with sync_playwright() as p:
        browser = browser_of(p)
        for look, page in pages(browser, errors):
            for name, state in wanted.items():
                page.goto(url + state.path)
                settled(page)
                if state.act is not None:
                    state.act(page)
                page.wait_for_timeout(300)
                page.screenshot(path=out / f"{name}-{look}.png", full_page=state.whole)
                if f"{name}-{look}" in README:
                    page.screenshot(path=out / f"readme-{README[f'{name}-{look}']}.png")
        browser.close()
    for text in dict.fromkeys(errors):
        print("console:", text, file=sys.stderr)
    return len(errors)


def shoot_beginnings(out: Path, only: str | None) -> None:
    """The sign-in and an engine without traces."""
    from playwright.sync_api import sync_playwright

    for name in ("login", "empty"):
        if only and not name.startswith(only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "opentracy.toml"
            config.write_text('[server]\nadmin_keys = ["env:ADMIN_KEY"]\n' if name == "login" else "")
            more = ("--config", str(config))
            with engine(Path(folder), *more, demo=False, ADMIN_KEY="a" * 32) as url, sync_playwright() as p:
                browser = browser_of(p)
                for look, page in pages(browser, [], clock=False):
                    page.goto(url)
                    settled(page)
                    page.wait_for_timeout(300)
                    page.screenshot(path=out / f"{name}-{look}.png", full_page=True)
                browser.close()


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
            furnish(url)
            wrong = shoot(url, options.out, options.only)
    shoot_beginnings(options.out, options.only)
    if options.readme:
        images = ROOT / "docs" / "images"
        images.mkdir(parents=True, exist_ok=True)
        for name in README.values():
            (images / f"{name}.png").write_bytes((options.out / f"readme-{name}.png").read_bytes())
    print(f"screenshots in {options.out}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
