"""Every screen, in both themes and at both widths: it shows what it is for, without errors and without barriers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest_names import AXE, NOW_S, Open, Serve, Served
from dashboard_states import State, furnish, settled, states

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


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("path", SCREENS)
def test_a_screen_shows_what_it_is_for(seeded: Served, open_page: Open, path: str, width: int) -> None:
    page = open_page(seeded.url + path, width=width)
    settled(page)
    for text in SCREENS[path]:
        assert page.get_by_text(text, exact=False).first.is_visible() or width == 390, text
    assert page.locator(".failed").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"


TITLES = "() => [...document.querySelectorAll('main h2')].map(e => e.textContent)"


def _question(url: str) -> str | None:
    """What a screen asks; the same path with another grouping is another card."""
    parts = urlsplit(url)
    if not parts.path.startswith("/v1/") or parts.path == "/v1/dashboard/session":
        return None
    asked = parse_qs(parts.query)
    return f"{parts.path} {asked.get('group_by', [''])[0]} {asked.get('metric', [''])[0]} {'bucket' in asked}"


@pytest.mark.parametrize("path", ["/", "/traces", "/routing?range=7d", "/spend?range=7d", "/datasets", "/datasets/support-questions"])
def test_whatever_question_fails_its_card_says_so_and_the_others_stay(
    seeded: Served, furnished: dict[str, State], open_page: Open, path: str
) -> None:
    page = open_page("about:blank", expect="500")
    asked: set[str] = set()
    page.on("request", lambda r: asked.add(_question(r.url) or ""))
    page.goto(seeded.url + path)
    settled(page)
    whole, questions = page.evaluate(TITLES), sorted(asked - {""})
    assert questions
    page.close()
    for question in questions:
        one_fails(page.context, seeded.url + path, question, path, set(whole))


def one_fails(context: Any, address: str, question: str, path: str, titles: set[str]) -> None:
    page = context.new_page()
    page.clock.set_fixed_time(NOW_S)
    refused: list[str] = []
    broken: list[str] = []
    page.on("pageerror", lambda e: broken.append(str(e)))

    def answer(route: Any) -> None:
        if _question(route.request.url) == question:
            refused.append(route.request.url)
            route.fulfill(status=500, json={"error": {"message": "the disk is on fire"}})
        else:
            route.continue_()

    page.route("**/v1/**", answer)
    page.goto(address)
    page.locator("main h1").wait_for()
    for _ in range(300):
        if refused:
            break
        page.wait_for_timeout(50)
    page.wait_for_timeout(200)  # the answer is drawn
    assert refused and not broken, (question, broken)
    if path.startswith("/datasets/") and question.startswith("/v1/dashboard/datasets "):
        assert "the disk is on fire" in page.locator("main").inner_text(), question  # what the rest is about is not known
    else:
        assert titles <= set(page.evaluate(TITLES)), question
    page.unroute_all()
    page.close()


STATES = states("ROUTED", "FAILED", "TOOLS", -1)


@pytest.fixture(scope="module")
def furnished(seeded: Served) -> dict[str, State]:
    """The states with real ids, on an engine that has keys, datasets and an evaluation."""
    furnish(seeded.url)

    def one(q: str) -> str:
        return str(seeded.call("GET", f"/v1/traces?limit=1&q={q}")[1]["data"][0]["trace_id"])

    cluster = seeded.call("GET", "/v1/dashboard/routing/clusters")[1]["clusters"][0]["id"]
    return states(one("requested%3Aauto+status%3Aok"), one("status%3Aerror"), one("tools%3Atrue"), cluster)


SERIOUS = """axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v =>
  [v.id, v.nodes.slice(0, 4).map(n => n.html.slice(0, 160) + ' ' + n.failureSummary.slice(0, 240))]))"""


def barriers(page: Any) -> Any:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in web/")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(SERIOUS)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", STATES)
def test_no_serious_barrier(seeded: Served, furnished: dict[str, State], open_page: Open, name: str, theme: str) -> None:
    state = furnished[name]
    page = open_page(seeded.url + state.path, theme=theme)
    settled(page)
    if state.act is not None:
        state.act(page)
    assert barriers(page) == []


def test_a_cost_of_three_prices_fits_a_telephone(seeded: Served, open_page: Open) -> None:
    """Input, what was read from a cache, and output: the longest sum there is."""
    found = seeded.call("GET", "/v1/traces?limit=1000&q=status:ok+-model:none")[1]["data"]
    row = next(r for r in found if r["tokens_cached"] and r["tokens_in"] > r["tokens_cached"] and r["cost_nano"])
    page = open_page(f"{seeded.url}/traces/{row['trace_id']}", width=390, height=844)
    page.get_by_text("Read from cache").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"


@pytest.mark.parametrize("name", STATES)
def test_nothing_is_wider_than_a_telephone(seeded: Served, furnished: dict[str, State], open_page: Open, name: str) -> None:
    state = furnished[name]
    page = open_page(seeded.url + state.path, width=390, height=844)
    settled(page)
    if state.act is not None:
        state.act(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    assert page.evaluate(STICKS_OUT) == []


#: what a reader on a telephone could not see and not scroll to
STICKS_OUT = """() => [...document.querySelectorAll('main *, dialog[open] *, .drawer *')].filter(e => {
  const box = e.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1 || getComputedStyle(e).position === 'absolute') return false;
  for (let p = e.parentElement; p; p = p.parentElement)
    if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX) && p.getBoundingClientRect().right <= innerWidth + 1) return false;
  return true;
}).map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_barrier_before_signing_in_or_before_the_first_trace(tmp_path: Path, serve: Serve, open_page: Open, theme: str) -> None:
    config = tmp_path / "opentracy.toml"
    config.write_text('[server]\nadmin_keys = ["env:ADMIN_KEY"]\n')
    served = serve(tmp_path, "--config", str(config), demo=False, ADMIN_KEY="a" * 32)
    page = open_page(served.url, theme=theme, clock=None, expect="401")
    page.get_by_label("Key").wait_for()
    assert barriers(page) == []
    page.get_by_label("Key").fill("a" * 32)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("No traces yet").wait_for()
    assert barriers(page) == []
