"""Every screen, in both themes and at both widths: it shows what it is for, without errors and without barriers."""

from __future__ import annotations

from typing import Any

import pytest
from conftest_names import AXE, Open, Served, until

pytestmark = pytest.mark.browser

#: address -> texts that must be there
SCREENS = {
    "/": ["Requests", "Cost by model", "Latency", "Provider health", "Most frequent errors", "Spend by key"],
    "/traces": ["Status", "Model", "ok"],
    "/routing?range=7d": ["Cost of auto, summed up", "Cost weight", "Clusters", "Explain a prompt", "Router versions"],
    "/playground": ["System", "Prompt", "Add a model"],
    "/spend?range=7d": ["Virtual keys", "Spend", "Reconciled"],
    "/datasets": ["All datasets"],
    "/system": ["Providers", "Aliases", "Trace store", "Alerts", "Engine"],
}


def settled(page: Any) -> None:
    page.wait_for_load_state("networkidle")
    until(page, "() => !document.querySelector('.skeleton, .hold')")


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("path", SCREENS)
def test_a_screen_shows_what_it_is_for(seeded: Served, open_page: Open, path: str, width: int) -> None:
    page = open_page(seeded.url + path, width=width)
    settled(page)
    for text in SCREENS[path]:
        assert page.get_by_text(text, exact=False).first.is_visible() or width == 390, text
    assert page.locator(".failed").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", [*SCREENS, "/traces?open=FIRST", "/routing?range=7d&cluster=FIRST"])
def test_no_serious_barrier(seeded: Served, open_page: Open, path: str, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in web/")
    first = seeded.call("GET", "/v1/traces?limit=1&requested=auto")[1]["data"][0]
    path = path.replace("cluster=FIRST", f"cluster={first['cluster_id']}").replace("open=FIRST", f"open={first['trace_id']}")
    page = open_page(seeded.url + path, theme=theme)
    settled(page)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes.slice(0, 4).map(n => n.html.slice(0, 160) + ' ' + n.failureSummary.slice(0, 200))]))")
    assert found == []
