"""What the dashboard's own routes answer, from a real engine: alert rules, traffic of clusters, labels of evaluations."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from conftest_names import Served, serving

RULES = """[alerts]
webhook = "env:ALERT_HOOK"
every = 30

[alerts.rules."costly users"]
metric = "cost"
above = 0.001
by = "user"
minutes = 1440

[alerts.rules.slow]
metric = "p95"
above = 5000
requests = 3
filter = "provider:openai"

[alerts.rules.lost]
metric = "dropped"

[alerts.rules.down]
metric = "provider_down"
requests = 2
"""


def send(served: Served, **fields: Any) -> None:
    base = {"model": "gpt-4o", "provider": "openai", "outcome": "ok", "http_status": 200, "latency_ms": 100.0, "ts_ms": int(time.time() * 1000)}
    status, answer = served.call("POST", "/v1/traces", {"traces": [{**base, **fields}]})
    assert status == 201, answer


def rules(served: Served) -> dict[str, Any]:
    status, answer = served.call("GET", "/v1/dashboard/system")
    assert status == 200
    return {rule["name"]: rule for rule in answer["alerts"]["rules"]} | {"all": answer["alerts"]}


def test_every_configured_rule_is_shown_with_how_it_stands(tmp_path: Path) -> None:
    config = tmp_path / "opentracy.toml"
    config.write_text(RULES)
    with serving(tmp_path, "--config", str(config), ALERT_HOOK="https://hooks.example.com/T0/very-secret") as served:
        quiet = rules(served)
        assert {name: quiet[name]["state"] for name in ("costly users", "slow", "lost", "down")} == {
            "costly users": "no data", "slow": "no data", "lost": "ok", "down": "no data",
        }  # fmt: skip
        send(served, user_id="ann", cost_nano=5_000_000, latency_ms=9000.0)
        send(served, user_id="bob", cost_nano=100_000)
        send(served, user_id="bob", cost_nano=100_000)
        send(served, model="claude", provider="anthropic", outcome="upstream_error", http_status=500)
        now = rules(served)
        assert now["costly users"]["state"] == "firing"
        assert now["costly users"]["over"] == [{"group": "ann", "value": 0.005}]
        assert now["slow"]["state"] == "firing" and now["slow"]["filter"] == "provider:openai"
        assert now["down"]["state"] == "ok", "one failure of a provider is fewer than the rule asks for"
        send(served, model="claude", provider="anthropic", outcome="upstream_error", http_status=500)
        down = rules(served)["down"]
        assert (down["state"], down["over"]) == ("firing", [{"group": "anthropic", "value": 2.0}])
        assert now["all"]["usual"] is False and now["all"]["every"] == 30
        assert now["all"]["told"] == "env:ALERT_HOOK"
        with urllib.request.urlopen(served.url + "/v1/dashboard/system") as answer:
            assert b"very-secret" not in answer.read()


def test_without_rules_the_usual_ones_are_shown_and_that_nobody_is_told(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        shown = rules(served)["all"]
    assert shown["usual"] is True and shown["told"] is None
    assert {rule["metric"] for rule in shown["rules"]} == {"provider_down", "error_rate", "unpriced", "dropped"}


def test_a_cluster_knows_its_share_now_and_in_the_period_before(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    hour = 3_600_000
    with serving(tmp_path) as served:
        for age, clusters in ((0.5, (1, 1, 1, 2)), (1.5, (1, 2))):
            for cluster in clusters:
                send(served, requested_model="auto", cluster_id=cluster, ts_ms=now - int(age * hour), latency_ms=200.0, cost_nano=1000)
        answer = served.call("GET", f"/v1/dashboard/routing/clusters?since={now - hour}&until={now + 1}")[1]
        found = {row["id"]: row for row in answer["clusters"]}
        assert (found[1]["requests"], found[1]["share"], found[1]["share_before"]) == (3, 0.75, 0.5)
        assert (found[2]["share"], found[2]["share_before"]) == (0.25, 0.5)
        assert found[1]["latency_avg"] == 200.0
        assert (found[3]["requests"], found[3]["share_before"], found[3]["latency_avg"]) == (0, 0.0, None)
        unbounded = served.call("GET", "/v1/dashboard/routing/clusters")[1]["clusters"]
        assert all(row["share_before"] is None for row in unbounded)


def test_an_evaluation_gives_labels_that_a_router_is_trained_from(tmp_path: Path) -> None:
    from opentracy.routing.tables import read_labels

    rows = [{"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": f"What is {n} + {n}?"}], "answer": str(2 * n)} for n in range(1, 6)]
    models = ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-6"]
    with serving(tmp_path) as served:
        assert served.call("POST", "/v1/dashboard/datasets/sums/rows", {"rows": [*rows, {"messages": rows[0]["messages"]}]})[0] == 201
        run = served.call("POST", "/v1/dashboard/evaluations", {"dataset": "sums", "version": 1, "models": models, "grader": "number"})[1]["id"]
        for _ in range(200):
            state = served.call("GET", "/v1/dashboard/evaluations?dataset=sums")[1]["evaluations"][0]
            if state["state"] != "running":
                break
            time.sleep(0.05)
        assert state["state"] == "done", state
        with urllib.request.urlopen(f"{served.url}/v1/dashboard/evaluations/{run}/labels") as answer:
            assert "attachment" in answer.headers["content-disposition"]
            content = answer.read()
        assert served.call("GET", f"/v1/dashboard/evaluations/{'0' * 32}/labels")[0] == 404
        assert served.call("GET", "/v1/dashboard/evaluations/..%2F..%2Fx/labels")[0] == 404
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["prompt"] for line in lines] == [f"What is {n} + {n}?" for n in range(1, 6)]
    assert all({f"s:{m}" for m in models} <= line.keys() for line in lines)
    path = tmp_path / "labels.jsonl"
    path.write_bytes(content)
    table = read_labels(path)
    assert set(table.labels.models) == set(models)
    means = {r["model"]: r["score"] for r in state["results"]}
    for at, model in enumerate(table.labels.models):
        assert table.labels.scores[:, at].mean() == means[model]
