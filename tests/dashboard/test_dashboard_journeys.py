"""What people do with the dashboard, from the first key to the last: in a browser, against a real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest_names import NOW_S, Open, Serve, Served, until

pytestmark = pytest.mark.browser
ROW = ".grid-body .grid-row"


def query(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def ready(page: Any) -> None:
    page.wait_for_selector(ROW)


def chat(served: Served, text: str, model: str = "openai/gpt-4o-mini", **headers: str) -> Any:
    status, answer = served.call("POST", "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": text}]}, **headers)
    assert status == 200, answer
    return answer


# ---------------------------------------------------------------- traces
def test_keyboard_alone_goes_from_the_overview_into_a_trace_and_back(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/")
    page.wait_for_selector(".tiles")
    page.keyboard.press("g")
    page.keyboard.press("t")
    ready(page)
    assert urlsplit(page.url).path == "/traces"
    page.keyboard.press("j")
    page.wait_for_selector(".drawer .waterfall")
    first = query(page)["open"]
    page.keyboard.press("j")
    until(page, "id => !location.search.includes(id)", first[0])
    second = query(page)["open"]
    page.keyboard.press("k")
    until(page, "id => location.search.includes(id)", first[0])
    assert second != first
    page.keyboard.press("Escape")
    page.wait_for_selector(".drawer", state="detached")
    page.keyboard.press("/")
    page.keyboard.type("status:error")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chips .chip")
    assert query(page)["q"] == ["status:error"]
    page.keyboard.press("Escape")
    page.keyboard.press("]")
    until(page, "() => location.search.includes('range=7d')")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    until(page, "() => document.activeElement?.tagName === 'INPUT'")
    page.keyboard.type("routing")
    page.keyboard.press("Enter")
    page.wait_for_url("**/routing**")


def test_what_is_typed_into_a_field_is_never_a_shortcut(seeded: Served, open_page: Open) -> None:
    page = open_page("about:blank")
    page.add_init_script("performance.now = () => 300")  # a page that is younger than a pair of keys is long
    page.goto(seeded.url + "/traces")
    ready(page)
    page.keyboard.press("/")
    page.keyboard.type("stop or drop")
    assert urlsplit(page.url).path == "/traces"
    assert page.get_by_label("Filter traces").input_value() == "stop or drop"
    page.get_by_label("Filter traces").fill("")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("/")
    page.keyboard.type("status:error")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chips .chip")
    assert urlsplit(page.url).path == "/traces"
    page.get_by_role("button", name="Clear all").click()
    until(page, "() => !location.search.includes('q=')")
    assert page.get_by_label("Filter traces").input_value() == ""


def test_an_open_dialog_has_all_keys_to_itself(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces")
    ready(page)
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    for key in ("j", "t", "]", "g", "s"):
        page.keyboard.press(key)
    assert not query(page) and urlsplit(page.url).path == "/traces"
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.keyboard.press("j")
    page.wait_for_selector(".drawer .waterfall")


def test_a_filter_stands_in_the_address_and_survives_a_reload(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces?range=7d")
    ready(page)
    page.locator(".facets button", has_text="gpt-4o-mini").first.click()
    until(page, "() => location.search.includes('gpt-4o-mini')")
    page.locator(".facets button", has_text="ok").first.click()
    until(page, "() => location.search.includes('outcome')")
    assert set(query(page)["q"][0].split()) == {"model:gpt-4o-mini", "outcome:ok"}
    span = f"since={int((NOW_S - 7 * 86_400) * 1000)}&until={int(NOW_S * 1000)}"
    total = seeded.call("GET", f"/v1/stats?metric=requests&model=gpt-4o-mini&outcome=ok&{span}")[1]["data"][0]["requests"]
    rows = seeded.call("GET", f"/v1/traces?model=gpt-4o-mini&outcome=ok&limit=5&{span}")[1]["data"]
    for _ in range(2):
        until(page, SHOWN, [row["trace_id"] for row in rows])
        until(page, "n => document.querySelector('.histogram .note')?.title === n", str(total))
        page.reload()
        ready(page)


#: whether the first rows on the screen are these traces
SHOWN = "ids => ids.every((id, i) => document.querySelectorAll('.grid-body .grid-row')[i]?.dataset.id === id)"


def test_several_values_of_a_field_are_either_and_fields_are_both(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces?range=7d&q=model%3Agpt-4o+model%3Agpt-4o-mini+cost%3E0.001")
    ready(page)
    page.wait_for_load_state("networkidle")
    models = set(page.locator(f"{ROW} .model .cut").all_inner_texts())
    assert models == {"gpt-4o", "gpt-4o-mini"} or models == {"gpt-4o"}
    costs = [float(text.strip("$")) for text in page.locator(f"{ROW} > div:last-child").all_inner_texts()]
    assert costs and min(costs) > 0.001


def test_what_the_query_bar_does_not_understand_it_says(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces?q=modle%3Ax", expect="400")
    assert "did you mean 'model'" in page.locator(".query [role=alert]").inner_text()


def test_brushing_the_histogram_narrows_the_time(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces")
    ready(page)
    box = page.locator(".histogram .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=6)
    page.mouse.up()
    until(page, "() => location.search.includes('since=')")
    first, last = int(query(page)["since"][0]), int(query(page)["until"][0])
    assert 0.26 * 86_400_000 < last - first < 0.36 * 86_400_000


def test_scrolling_loads_on_and_draws_only_what_is_seen(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces?range=30d")
    ready(page)
    for _ in range(12):
        page.evaluate("document.querySelector('.grid-scroll').scrollTop += 6000")
        page.wait_for_timeout(120)
    assert page.evaluate("document.querySelector('.grid-body').offsetHeight / 34") >= 1000
    assert page.locator(ROW).count() < 80
    assert int(page.locator(ROW).first.get_attribute("aria-rowindex")) > 100


def test_live_tail_shows_a_new_trace_within_a_second(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces?live=1", clock=None)
    page.wait_for_selector(".live.on")
    page.wait_for_timeout(800)  # the stream is open once its first comment came; there is no event for that
    marker = chat(seeded, "a question asked while somebody watches")["_routing"]["trace_id"]
    took = page.evaluate(
        """id => new Promise(done => { const begun = performance.now(); const look = () =>
        document.querySelector(`[data-id="${id}"]`) ? done(performance.now() - begun) : setTimeout(look, 10); look(); })""",
        marker,
    )
    assert took < 1_000
    page.locator(f'[data-id="{marker}"]').click()
    page.wait_for_selector(".drawer .turn")
    assert query(page)["open"] == [marker]


def test_live_tail_waits_while_the_pointer_is_on_the_table(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces?live=1&range=7d")
    ready(page)
    page.wait_for_timeout(800)
    page.locator(ROW).nth(2).hover()
    top = page.locator(ROW).first.inner_text()
    chat(seeded, "held back")
    page.wait_for_selector(".pill")
    assert page.locator(".pill").inner_text() == "1 new"
    assert page.locator(ROW).first.inner_text() == top
    page.locator(".pill").click()
    page.wait_for_selector(".pill", state="detached")
    assert page.locator(ROW).first.inner_text() != top


def test_export_holds_exactly_what_the_filter_shows(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/traces?range=7d&q=status%3Aerror")
    ready(page)
    page.wait_for_selector(".histogram .note")
    shown = int(page.locator(".histogram .note").get_attribute("title"))
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="JSONL").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == shown > 0
    assert all(json.loads(line)["outcome"] != "ok" for line in lines)


# ---------------------------------------------------------------- one trace
def test_a_trace_explains_its_time_its_model_and_its_cost(seeded: Served, open_page: Open) -> None:
    row = seeded.call("GET", "/v1/traces?requested=auto&outcome=ok&limit=1&fallback=false")[1]["data"][0]
    page = open_page(f"{seeded.url}/traces/{row['trace_id']}")
    page.wait_for_selector(".waterfall")
    body = page.locator(".trace").inner_text()
    assert "expected quality" in body
    assert f"${row['cost_nano'] / 1e9:.9f}".rstrip("0")[:6] in body
    detail = seeded.call("GET", f"/v1/dashboard/traces/{row['trace_id']}")[1]
    assert sum(part["nano"] for part in detail["cost"]["parts"]) == row["cost_nano"]
    page.get_by_role("button", name="Copy as curl").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"curl {seeded.url}/v1/chat/completions")
    page.get_by_role("button", name="Copy as Python").click()
    compile(page.evaluate("navigator.clipboard.readText()"), "copied", "exec")


def test_any_value_leads_to_its_traces(seeded: Served, open_page: Open) -> None:
    row = seeded.call("GET", "/v1/traces?key=search&limit=1")[1]["data"][0]
    page = open_page(f"{seeded.url}/traces/{row['trace_id']}")
    page.locator(".facts .value", has_text="search").click()
    page.get_by_role("menuitem", name="Without key:search").click()
    ready(page)
    assert query(page)["q"] == ["-key:search"]


def test_replay_asks_again_and_shows_the_difference(seeded: Served, open_page: Open) -> None:
    asked = chat(seeded, "What is 6 * 7?")
    page = open_page(f"{seeded.url}/traces/{asked['_routing']['trace_id']}", clock=None)
    page.wait_for_selector(".waterfall")
    page.get_by_label("Model for the replay").fill("anthropic/claude-sonnet-4-6")
    page.get_by_role("button", name="Replay", exact=True).click()
    page.wait_for_selector(".replay .diff")
    page.get_by_text("its trace").wait_for()
    assert "42" in page.locator(".replay .diff").inner_text()
    page.get_by_text("its trace").click()
    until(page, "id => !location.pathname.includes(id)", asked["_routing"]["trace_id"])
    page.wait_for_selector(".waterfall")
    assert "claude-sonnet-4-6" in page.locator(".trace-head").inner_text()


def test_feedback_stays_with_the_trace(seeded: Served, open_page: Open) -> None:
    asked = chat(seeded, "rate me")["_routing"]["trace_id"]
    status, _ = seeded.call("POST", "/v1/feedback", {"trace_id": asked, "metric": "good", "value": True})
    if status == 404:
        pytest.skip("this engine has no /v1/feedback")
    page = open_page(f"{seeded.url}/traces/{asked}", clock=None)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_text("quality false").wait_for()  # what the router learns from, unless the configuration says otherwise
    assert page.get_by_text("good true").is_visible()


# ---------------------------------------------------------------- routing
def test_the_slider_changes_the_projection(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/routing?range=7d")
    slider = page.get_by_role("slider")
    slider.wait_for()

    def projected() -> tuple[float, float]:
        cost, quality = page.locator(".projected dd").all_inner_texts()[:2]
        return float(cost.split()[0].strip("$").replace(",", "")), float(quality.split()[0])

    seen = []
    for weight in ("0", "0.3", "1"):
        slider.fill(weight)
        until(page, "w => document.querySelector('.slider b').textContent == Number(w).toFixed(2)", weight)
        seen.append(projected())
    assert seen[0][0] > seen[1][0] > seen[2][0], "the higher the weight the cheaper"
    assert seen[0][1] > seen[1][1] > seen[2][1], "and the lower the quality"
    assert query(page)["weight"] == ["1"]


def test_explaining_a_prompt_names_the_model_and_its_rivals(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/routing")
    page.get_by_label("Prompt to explain").fill("Prove that the square root of two is irrational.")
    page.get_by_role("button", name="Explain").click()
    page.locator(".sentence", has_text="would answer").wait_for()
    said = seeded.call("POST", "/v1/route", {"prompt": "Prove that the square root of two is irrational."})[1]
    card = page.locator(".card", has_text="Explain a prompt").inner_text()
    assert said["model"] in card
    for model in said["scores"]:
        assert model.partition("/")[2] in card


def test_what_loads_late_does_not_move_what_is_below_it(seeded: Served, open_page: Open) -> None:
    """A press on the heat map while the cards above it are still empty hits what it was aimed at."""
    held: list[Any] = []
    page = open_page("about:blank")
    page.set_viewport_size({"width": 1280, "height": 1400})
    for late in ("savings", "projection"):
        page.route(f"**/v1/dashboard/routing/{late}?*", lambda route: held.append(route))
    page.goto(seeded.url + "/routing?range=7d")
    button = page.locator(".heat tbody th button").first
    button.wait_for()
    before = button.bounding_box()
    assert len(held) == 2
    for route in held:
        route.continue_()
    page.get_by_text("always asking the best model").wait_for()
    page.locator(".slider").wait_for()
    after = button.bounding_box()
    assert abs(after["y"] - before["y"]) < before["height"] / 2, (before, after)


def test_a_cluster_opens_from_the_heat_map(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/routing?range=7d")
    page.locator(".heat tbody th button").first.click()
    page.wait_for_selector(".cluster")
    assert page.locator(".cluster").get_by_text("learned from").is_visible()
    page.locator(".cluster").get_by_text("Its traces").click()
    ready(page)
    assert query(page)["q"][0].startswith("cluster:")


# ---------------------------------------------------------------- playground, datasets
def test_two_models_side_by_side_and_saved_as_a_row(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/playground?models=openai/gpt-4o-mini,anthropic/claude-sonnet-4-6", clock=None)
    page.get_by_label("Prompt").fill("What is 12 * 12?")
    page.keyboard.press("Control+Enter")
    until(page, "() => [...document.querySelectorAll('.column.done .answer')].filter(a => a.textContent.includes('144')).length == 2")
    figures = page.locator(".figures").first.inner_text()
    assert "$" in figures and "ms" in figures
    page.get_by_label("Word diff against the first").check()
    page.wait_for_selector(".column .diff")
    page.get_by_role("button", name="Save as dataset row").click()
    page.get_by_role("textbox", name=re.compile("^Dataset")).fill("sums")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Saved: sums").wait_for()
    rows = seeded.call("GET", "/v1/dashboard/datasets/sums/rows")[1]
    assert rows["rows"][-1]["messages"] == [{"role": "user", "content": "What is 12 * 12?"}]


def test_a_dataset_from_a_filter_is_evaluated_with_a_progress_bar(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/datasets?range=7d")
    page.get_by_role("button", name="From traces", exact=True).click()
    page.get_by_role("textbox", name=re.compile("^Name")).fill("from-filter")
    page.get_by_role("textbox", name=re.compile("^Filter")).fill("key:search status:ok")
    page.get_by_role("textbox", name="At most rows").fill("12")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_url("**/datasets/from-filter**")
    page.get_by_role("button", name="Evaluate").click()
    page.get_by_role("textbox", name=re.compile("^Rows a model")).fill("12")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".evaluation .chip", has_text="done").wait_for()
    run = seeded.call("GET", "/v1/dashboard/evaluations?dataset=from-filter")[1]["evaluations"][0]
    assert run["done"] == run["total"] == 12 * len(run["models"])
    assert all(result["scored"] + result["errors"] == 12 for result in run["results"])


# ---------------------------------------------------------------- keys
def test_a_key_is_made_shown_once_stops_at_its_budget_and_is_revoked(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/spend", clock=None)
    page.get_by_role("button", name="New key").click()
    page.get_by_role("textbox", name=re.compile("^Name")).fill("tiny")
    page.get_by_label("Budget a day, USD").fill("0.000001")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("dialog .code pre").inner_text()
    assert re.fullmatch(r"ot_[0-9a-f]+_[A-Za-z0-9_-]{43}", secret)
    page.get_by_role("button", name="I have kept it").click()
    page.get_by_text("tiny", exact=True).wait_for()
    assert secret not in page.content()
    assert secret.encode() not in b"".join(p.read_bytes() for p in seeded.home.glob("accounts.db*"))
    asking = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hello " * 50}], "max_tokens": 500}
    statuses = [seeded.call("POST", "/v1/chat/completions", asking, authorization=f"Bearer {secret}")[0] for _ in range(3)]
    assert statuses[-1] in (402, 429), statuses
    row = page.locator("tr", has_text="tiny")
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    row.get_by_text("revoked").wait_for()


# ---------------------------------------------------------------- beginnings and failures
def test_an_empty_store_shows_the_next_step_and_sends_a_test_request(tmp_path: Path, serve: Serve, open_page: Open) -> None:
    served = serve(tmp_path, demo=False)
    page = open_page(served.url + "/", clock=None)
    page.get_by_text("No traces yet").wait_for()
    assert f"curl {served.url}/v1/chat/completions" in page.locator(".code pre").inner_text()
    page.get_by_role("button", name="Send a test request").click()
    page.wait_for_selector(".tiles")
    assert served.call("GET", "/v1/traces")[1]["data"][0]["outcome"] == "ok"


def test_a_card_that_fails_says_so_and_the_others_go_on(seeded: Served, open_page: Open) -> None:
    page = open_page("about:blank", expect="500")
    page.route("**/v1/stats?*group_by=provider*", lambda route: route.fulfill(status=500, json={"error": {"message": "the disk is on fire"}}))
    page.goto(seeded.url + "/")
    page.get_by_text("the disk is on fire").wait_for()
    page.wait_for_selector(".tiles")
    assert page.locator(".failed").count() == 1
    assert page.locator("table tbody tr").count() > 2
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".strip")


@pytest.mark.parametrize("code", ["store_busy", "store_unavailable"])
def test_a_store_that_is_busy_is_asked_again_before_anybody_is_told(seeded: Served, open_page: Open, code: str) -> None:
    page = open_page("about:blank", expect="503")
    refused: list[str] = []

    def busy_once(route: Any) -> None:
        refused.append(route.request.url)
        if len(refused) > 2:
            route.continue_()
            return
        body = {"error": {"message": "ask again in a moment", "code": code}}
        route.fulfill(status=503, json=body, headers={"retry-after": "0.1"})

    page.route("**/v1/stats?*group_by=provider*", busy_once)
    page.goto(seeded.url + "/")
    page.wait_for_selector(".strip")
    assert len(refused) == 3
    assert page.locator(".failed").count() == 0


def test_a_large_dataset_is_looked_after_until_it_is_made(seeded: Served, open_page: Open) -> None:
    page = open_page(seeded.url + "/datasets", clock=None)
    states = [{"id": "i", "state": "running"}, {"id": "i", "state": "done", "version": 1, "rows": 310, "skipped": 0}]
    page.route("**/v1/dashboard/datasets/large", lambda route: route.fulfill(status=202, json={"id": "i", "state": "running"}))
    page.route("**/v1/dashboard/datasets/large/making/i", lambda route: route.fulfill(json=states.pop(0)))
    page.get_by_role("button", name="From traces").first.click()
    page.get_by_label("Name").fill("large")
    page.get_by_role("button", name="Make it").click()
    page.get_by_text("large: 310 rows").wait_for()
    assert states == []


def test_a_store_that_stays_busy_is_told_of(seeded: Served, open_page: Open) -> None:
    page = open_page("about:blank", expect="503")
    refused: list[str] = []

    def busy(route: Any) -> None:
        refused.append(route.request.url)
        body = {"error": {"message": "ask again in a moment", "code": "store_busy"}}
        route.fulfill(status=503, json=body, headers={"retry-after": "0.05"})

    page.route("**/v1/stats?*group_by=provider*", busy)
    page.goto(seeded.url + "/")
    page.get_by_text("ask again in a moment").wait_for()
    assert len(refused) == 4


def test_with_keys_configured_one_signs_in_and_a_reader_cannot_change_anything(tmp_path: Path, serve: Serve, open_page: Open) -> None:
    config = tmp_path / "opentracy.toml"
    config.write_text('[server]\nread_keys = ["env:READ_KEY"]\nadmin_keys = ["env:ADMIN_KEY"]\n')
    served = serve(tmp_path, "--config", str(config), READ_KEY="r" * 32, ADMIN_KEY="a" * 32)
    page = open_page(served.url + "/spend", clock=None, expect="401")
    page.get_by_label("Key").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("not valid").wait_for()
    page.get_by_label("Key").fill("r" * 32)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Virtual keys", exact=True).wait_for()
    assert page.get_by_role("button", name="New key").is_disabled()
    cookie = page.context.cookies()[0]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert "r" * 32 not in cookie["value"]
    held = f"{cookie['name']}={cookie['value']}"
    assert served.call("GET", "/v1/traces", cookie=held)[0] == 200
    assert served.call("POST", "/v1/dashboard/keys", {"name": "x"}, cookie=held)[0] == 403
    assert served.call("GET", "/v1/traces", cookie=held, **{"sec-fetch-site": "cross-site"})[0] == 401
    assert served.call("GET", "/v1/traces", cookie=held[:-1] + ("0" if held[-1] != "0" else "1"))[0] == 401
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Key").wait_for()


# ---------------------------------------------------------------- aliases
def test_an_alias_is_previewed_saved_and_in_effect(tmp_path: Path, serve: Serve, open_page: Open) -> None:
    config = tmp_path / "opentracy.toml"
    config.write_text('# ours\n[aliases.fast]\nmodel = "openai/gpt-4o-mini"\n\n# last\n[auto]\nmodels = ["openai/gpt-4o-mini"]\n')
    served = serve(tmp_path, "--config", str(config))
    chat(served, "so that there is a trace")
    page = open_page(served.url + "/system", clock=None)
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Fallbacks").fill("anthropic/claude-sonnet-4-6")
    page.get_by_role("button", name="Show the effect").click()
    page.get_by_text('fallbacks = ["anthropic/claude-sonnet-4-6"]').wait_for()
    page.get_by_role("button", name="Save and reload").click()
    page.get_by_text("fast is in effect").wait_for()
    assert config.read_text() == (
        '# ours\n[aliases.fast]\nmodel = "openai/gpt-4o-mini"\nfallbacks = ["anthropic/claude-sonnet-4-6"]\n\n# last\n[auto]\nmodels = ["openai/gpt-4o-mini"]\n'
    )
    models = served.call("GET", "/v1/models")[1]["data"]
    assert next(m for m in models if m["id"] == "fast")["fallbacks"] == ["anthropic/claude-sonnet-4-6"]
