"""A real engine on a seeded store, and a real Chromium that complains about everything that goes wrong on a page.

OPENTRACY_DASHBOARD_ROWS=100000 runs the same tests on a store of that size.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dashboard_seed as seed
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROWS = int(os.environ.get("OPENTRACY_DASHBOARD_ROWS", "4000"))
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
NOW_S = seed.NOW_MS / 1000 + 1


@dataclass
class Served:
    """A running engine."""

    url: str
    home: Path

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json", **headers}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@contextmanager
def serving(home: Path, *arguments: str, demo: bool = True, **environment: str) -> Iterator[Served]:
    """`opentracy serve` on the store in `home`."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    ours = ("_API_KEY", "_API_BASE", "_BASE_URL")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENTRACY_") and not k.endswith(ours)}
    environ |= {"OPENTRACY_DATA_HOME": str(home), **environment}
    command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port), *(["--demo"] if demo else []), *arguments]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    served = Served(f"http://127.0.0.1:{port}", home)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(served.url + "/health/live", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (home / "log").read_text()
                time.sleep(0.1)
        yield served
    finally:
        process.terminate()
        process.wait(40)


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine on a week of traffic."""
    home = tmp_path_factory.mktemp("dashboard")
    seed.fill(home / "traces.db", ROWS)
    with serving(home) as served:
        yield served


# by module: while Playwright's blocking interface is open its loop counts as running, and no other test of the same
# process could call asyncio.run
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium under Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (dev extra)")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


Open = Callable[..., Any]
Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts engines as `serving` does, that live until every page of the test is closed: a page that outlives its engine asks in vain
    and says so in its console."""
    with ExitStack() as engines:
        yield lambda *arguments, **options: engines.enter_context(serving(*arguments, **options))


def until(page: Any, condition: str, arg: Any = None, seconds: float = 15.0) -> None:
    """Waits for a JavaScript function to be true. Playwright's own wait evaluates text in the page, which our policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, f"never true: {condition} ({arg})"
        page.wait_for_timeout(30)


@pytest.fixture
def open_page(chromium: Any, serve: Serve) -> Iterator[Open]:
    """Opens pages at the frozen clock. At the end of the test no page may have had an error in its console."""
    errors: list[str] = []
    contexts: list[Any] = []

    def make(url: str, *, theme: str = "light", width: int = 1280, height: int = 800, clock: float | None = NOW_S, expect: str = "") -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme, timezone_id="UTC")
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        if clock is not None:
            page.clock.set_fixed_time(clock)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" and not (expect and expect in m.text) else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("dialog", lambda d: (errors.append(f"dialog: {d.message}"), d.dismiss()))
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not errors, errors
