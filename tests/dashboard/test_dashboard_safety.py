"""What strangers write is shown, never run: 200 payloads in every place where their text reaches a screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest_names import Open, Served, serving, until

pytestmark = pytest.mark.browser

VECTORS = [
    "<script>hit()</script>", "<img src=x onerror=hit()>", "<svg onload=hit()>", "<svg/onload=hit()//", "<iframe src=javascript:parent.hit()>",
    "<body onload=hit()>", "<details open ontoggle=hit()>", "<video><source onerror=hit()></video>", "<audio src=x onerror=hit()>",
    "<input autofocus onfocus=hit()>", "<select autofocus onfocus=hit()>", "<textarea autofocus onfocus=hit()>", "<keygen autofocus onfocus=hit()>",
    "<marquee onstart=hit()>", "<object data=javascript:hit()>", "<embed src=javascript:hit()>", "<a href=javascript:hit()>click</a>",
    "[click](javascript:hit())", "![x](x\"onerror=\"hit())", "<math><mtext><img src=x onerror=hit()></mtext></math>", "<template><img src=x onerror=hit()></template>",
    "<style>@import 'javascript:hit()'</style>", "<link rel=stylesheet href=javascript:hit()>", "<meta http-equiv=refresh content='0;url=javascript:hit()'>",
    "<base href=javascript:hit()//>", "<form action=javascript:hit()><button>go</button></form>", "<button formaction=javascript:hit()>x</button>",
    "\"><script>hit()</script>", "'><img src=x onerror=hit()>", "`${hit()}`", "{{constructor.constructor('hit()')()}}", "</script><script>hit()</script>",
    "</title><script>hit()</script>", "</textarea><script>hit()</script>", "--><script>hit()</script>", "]]><script>hit()</script>", "javascript:hit()",
    "data:text/html,<script>parent.hit()</script>", "<scr<script>ipt>hit()</scr</script>ipt>", "\u2028<img src=x onerror=hit()>",
]  # fmt: skip
PAYLOADS = [wrap.replace("@", vector) for vector in VECTORS for wrap in ("@", "text @ text", "`@`", "```\n@\n```", "**@**")]
assert len(set(PAYLOADS)) == 200


def trace(number: int, text: str, now: int) -> dict[str, Any]:
    """A trace with the payload wherever a caller or a provider can put text."""
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": json.dumps({"a": text})}}
    messages = [
        {"role": "system", "content": text}, {"role": "user", "content": [{"type": "text", "text": text}]},
        {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": text, "content": text},
    ]  # fmt: skip
    tool = {"type": "function", "function": {"name": text, "description": text, "parameters": {"x": text}}}
    answer = {"choices": [{"message": {"role": "assistant", "content": text, "reasoning_content": text}, "finish_reason": text}]}
    name = f"{text[:60]} {number}"
    return {
        "ts_ms": now - number, "model": name, "requested_model": f"x/{text[:60]}", "provider": text[:40], "alias": text[:40],
        "key_id": text[:40], "user_id": text, "session_id": text, "tags": [text[:60]], "metadata": {text[:40]: text},
        "cluster_id": number % 60, "cluster_label": text, "route_candidates": {name: {"quality": 0.5, "cost": 0.1, "utility": 0.4, "excluded": text}},
        "router_version": text, "fallback_reason": text, "outcome": "upstream_error", "http_status": 500, "error_type": text[:60],
        "error_code": text, "error_msg": text, "attempts": [{"target": text, "provider": text, "code": text, "ms": 5, "reason": text}],
        "latency_ms": 10.0, "body_state": "full",
        "request": json.dumps({"model": text, "messages": messages, "tools": [tool]}), "response": json.dumps(answer),
    }  # fmt: skip


COUNT = "() => document.querySelectorAll('script:not([src]), iframe, object, embed, [onerror], [onload], [onfocus], [ontoggle], img, video, audio, marquee, base, math, form[action]').length"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("hostile")
    with serving(home) as served:
        import time

        now = int(time.time() * 1000)
        status, answer = served.call("POST", "/v1/traces", {"traces": [trace(i, text, now) for i, text in enumerate(PAYLOADS)]})
        assert status == 201, answer
        for i, text in enumerate(PAYLOADS[:40]):
            served.call("POST", "/v1/dashboard/keys", {"name": text[:60], "owner": text[:100]})
            served.call("POST", f"/v1/dashboard/datasets/set-{i % 5}/rows", {"rows": [{"messages": [{"role": text, "content": text}], "answer": text}]})
        ids = [row["trace_id"] for row in answer["data"]]
        yield served, ids


def watched(open_page: Open, url: str, **options: Any) -> Any:
    page = open_page("about:blank", clock=None, **options)
    page.add_init_script("window.hits = 0; window.hit = () => { window.hits++; }; window.alert = window.hit;")
    page.goto(url)
    return page


def check(page: Any, where: str) -> None:
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hits") == 0, where
    assert page.evaluate(COUNT) == 0, where


@pytest.mark.parametrize("path", ["/", "/traces", "/routing", "/spend", "/spend?by=model", "/spend?by=tag", "/spend?by=user", "/datasets", "/datasets/set-1", "/system"])
def test_no_payload_runs_on_a_screen(hostile: tuple[Served, list[str]], open_page: Open, path: str) -> None:
    page = watched(open_page, hostile[0].url + path)
    page.wait_for_timeout(300)
    check(page, path)


def test_no_payload_runs_in_any_of_two_hundred_traces(hostile: tuple[Served, list[str]], open_page: Open) -> None:
    served, ids = hostile
    page = watched(open_page, f"{served.url}/traces")
    page.wait_for_selector(".grid-body .grid-row")
    for number, trace_id in enumerate(ids):
        # as a click on a link would: the page stays, the trace changes
        page.evaluate("id => { history.pushState(null, '', '/traces/' + id); dispatchEvent(new PopStateEvent('popstate')); }", trace_id)
        until(page, "id => document.querySelector('.trace .id')?.textContent === id && document.querySelector('.trace .turn')", trace_id)
        assert page.evaluate("window.hits") == 0, PAYLOADS[number]
        assert page.evaluate(COUNT) == 0, PAYLOADS[number]
        if number % 20 == 0:
            text = page.locator(".trace .turn").first.inner_text()
            assert "hit()" in text, "the payload must be shown as text"


def test_a_payload_in_the_address_does_not_run(hostile: tuple[Served, list[str]], open_page: Open) -> None:
    from urllib.parse import quote

    served, _ = hostile
    page = watched(open_page, served.url, expect="40")
    for text in VECTORS[::4]:
        for path in (f"/traces?q={quote(text)}", f"/traces/{quote(text, safe='')}", f"/playground?prompt={quote(text)}&models={quote(text)}", f"/datasets/{quote(text, safe='')}"):
            page.goto(served.url + path)
            if "/v1/" not in page.url and page.locator("#app").count():
                check(page, path)


def test_the_page_allows_no_script_but_its_own(seeded: Served) -> None:
    import urllib.request

    for path in ("/", "/traces", "/traces/x", "/datasets/a"):
        with urllib.request.urlopen(seeded.url + path) as answer:
            policy = answer.headers["content-security-policy"]
            body = answer.read().decode()
        assert "script-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "style-src 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert body.count("<script") == 1 and "<style" not in body and " style=" not in body


def test_csv_export_is_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    import csv
    import io
    import urllib.request

    with serving(tmp_path) as served:
        for text in ("=1+1", "+1", "-1", "@SUM(A1)"):
            assert served.call("POST", "/v1/traces", {"model": "m", "provider": "p", "user_id": text})[0] == 201
        with urllib.request.urlopen(served.url + "/v1/dashboard/export?format=csv") as answer:
            rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    assert len(rows) == 4
    assert all(row["user_id"].startswith("'") for row in rows)
