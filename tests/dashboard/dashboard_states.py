"""Everything that the dashboard can look like: screens, open menus, dialogs. One list for the pictures and for the tests.

A state is an address and what is done there. `furnish` gives an engine keys, a dataset and an evaluation first.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dashboard_seed as seed


@dataclass(frozen=True)
class State:
    """`path` is opened, then `act` is done. `whole`: the picture shows more than the window."""

    path: str
    act: Callable[[Any], None] | None = None
    whole: bool = True


def furnish(url: str) -> None:
    """Keys, datasets and an evaluation, so that their screens have something to show."""

    def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{url}{path}", data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    keys = (
        {"name": "support-bot", "owner": "Customer care", "daily_usd": 20, "monthly_usd": 400, "rpm": 600},
        {"name": "batch-nightly", "owner": "Data", "monthly_usd": 50, "models": ["openai/gpt-4o-mini"]},
        {"name": "dashboards", "owner": "Platform", "scopes": ["read"]},
    )
    for key in keys:
        ask("POST", "/v1/dashboard/keys", key)
    span = {"since": seed.NOW_MS - 7 * seed.DAY_MS, "until": seed.NOW_MS + 1}
    ask("POST", "/v1/dashboard/datasets/support-questions", {"q": "order status:ok", "limit": 120, **span})
    ask("POST", "/v1/dashboard/datasets/sql-help", {"q": "SQL query", "limit": 60, **span})
    models = ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-6"]
    ask("POST", "/v1/dashboard/evaluations", {"dataset": "support-questions", "version": 1, "models": models, "limit": 20})


def _button(name: str, *, last: bool = False) -> Callable[[Any], None]:
    def act(page: Any) -> None:
        found = page.get_by_role("button", name=name, exact=True)
        (found.last if last else found.first).click()

    return act


def _press(key: str) -> Callable[[Any], None]:
    return lambda page: page.keyboard.press(key)


def _run(page: Any) -> None:
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".column.done").nth(2).wait_for()


def _difference(page: Any) -> None:
    _run(page)
    page.get_by_label("Word diff against the first").check()
    page.locator(".column .diff").first.wait_for()


def _save_row(page: Any) -> None:
    _run(page)
    page.get_by_role("button", name="Save as dataset row").click()


def _new_key(page: Any) -> None:
    page.get_by_role("button", name="New key").click()
    page.get_by_role("textbox", name=re.compile("^Name")).fill("nightly-report")


def _secret(page: Any) -> None:
    _new_key(page)
    page.get_by_role("button", name="Create key").click()
    page.locator("dialog .code pre").wait_for()


def _alias(page: Any) -> None:
    page.get_by_role("button", name="Edit", exact=True).first.click()
    page.get_by_label("Fallbacks").fill("anthropic/claude-haiku-4-5, openai/gpt-4o")
    page.get_by_role("button", name="Show the effect").click()
    page.get_by_text("What will happen").wait_for()


def _tested(page: Any) -> None:
    page.get_by_role("button", name="Test", exact=True).first.click()
    page.locator(".providers small").first.wait_for()
    page.get_by_text("Effective configuration").click()


def _value(page: Any) -> None:
    page.locator(".facts .value").first.click()


def _replayed(page: Any) -> None:
    page.get_by_role("button", name="Replay", exact=True).click()
    page.locator(".replay .diff").wait_for()
    page.get_by_label("log scale").check()


def _palette(page: Any) -> None:
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill("tra")


def _row(page: Any) -> None:
    page.locator(".examples.rows summary").first.click()


def states(routed: str, failed: str, tools: str, cluster: int) -> dict[str, State]:
    """Name -> state, given the ids of a routed trace, a failed one and one with tools, and a cluster with traffic."""
    asked = "&prompt=Write+a+SQL+query+that+finds+customers+without+orders"
    compare = "/playground?models=gpt-4o-mini,claude-sonnet-4-6,auto&prompt=Why+is+the+sky+blue%3F"
    return {
        "overview": State("/"),
        "overview-week": State("/?range=7d&stack=requests"),
        "traces": State("/traces", whole=False),
        "traces-filtered": State("/traces?range=7d&q=status%3Aerror+-model%3Agpt-4o", whole=False),
        "traces-columns": State("/traces", _button("Columns"), whole=False),
        "traces-export": State("/traces", _button("Export"), whole=False),
        "traces-views": State("/traces", _button("Views"), whole=False),
        "traces-none": State("/traces?q=cost%3E1000", whole=False),
        "trace": State(f"/traces?q=requested%3Aauto&open={routed}", whole=False),
        "trace-page": State(f"/traces/{routed}"),
        "trace-failed": State(f"/traces/{failed}"),
        "trace-tools": State(f"/traces/{tools}"),
        "trace-value": State(f"/traces/{routed}", _value),
        "trace-replayed": State(f"/traces/{routed}", _replayed),
        "routing": State(f"/routing?range=7d&cluster={cluster}{asked}"),
        "routing-cost": State("/routing?range=7d&heat=cost&weight=0.6"),
        "playground-empty": State("/playground"),
        "playground": State(compare, _run),
        "playground-diff": State(compare, _difference),
        "playground-save": State(compare, _save_row, whole=False),
        "spend": State("/spend?range=7d"),
        "spend-model": State("/spend?range=7d&by=model"),
        "key-new": State("/spend", _new_key, whole=False),
        "key-secret": State("/spend", _secret, whole=False),
        "key-change": State("/spend", _button("Change"), whole=False),
        "key-revoke": State("/spend", _button("Revoke"), whole=False),
        "datasets": State("/datasets"),
        "dataset-new": State("/datasets", _button("From traces"), whole=False),
        "dataset": State("/datasets/support-questions", _row),
        "dataset-evaluate": State("/datasets/support-questions", _button("Evaluate"), whole=False),
        "system": State("/system"),
        "system-tested": State("/system", _tested),
        "system-alias": State("/system", _alias, whole=False),
        "palette": State("/traces", _palette, whole=False),
        "help": State("/", _press("?"), whole=False),
    }


WAITING = "() => Boolean(document.querySelector('.skeleton, .hold, .refreshing, [aria-busy=true]'))"


def settled(page: Any, *, patience_ms: int = 20_000) -> None:
    """Waits until the screen is drawn, nothing is being loaded and no card waits for its data.

    The network is idle as well before the script of the page has run, so that alone says nothing.
    """
    page.locator("main h1, .login form, .first").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(50)
    waited = 0
    while page.evaluate(WAITING):
        assert waited < patience_ms, f"still loading: {page.url}"
        page.wait_for_timeout(50)
        waited += 50
