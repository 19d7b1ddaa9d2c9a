"""Spans and alerts: what leaves for other systems is right, current and said once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from trace_samples import START_MS, make_record

from opentracy.traces import otel
from opentracy.traces.alerts import Alerter, Rule
from opentracy.traces.export import add_records
from opentracy.traces.filters import parse
from opentracy.traces.model import TraceRecord
from opentracy.traces.outbox import deliver
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store

Put = Callable[..., list[TraceRecord]]
PROVIDERS = {"gemini": "gcp.gemini", "mistral": "mistral_ai"}


# spans ---------------------------------------------------------------------------------------------------------------


def test_spans_and_metrics_carry_the_current_names(put: Put, store: Store) -> None:
    """Through the real SDK: names, units, times, status, parent; no text unless it is asked for."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import SpanKind, StatusCode

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, measuring = TracerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    exporter = otel.OtelExporter(PROVIDERS, tracer=tracing.get_tracer("t"), meter=measuring.get_meter("t"))
    put(
        make_record(
            1, provider="gemini", parent_id=f"{'a' * 32}-{'b' * 16}", ttft_ms=250.0, session_id="s", stream=True
        ),
        make_record(2, outcome="timeout", requested_model="auto", cluster_id=4, cost_nano=None),
    )
    connection = store.connect()
    assert deliver(connection, "outbox:otel", exporter) == 2
    connection.close()
    first, second = spans.get_finished_spans()
    assert first.name == "chat openai/gpt-4o-mini"
    assert first.kind == SpanKind.CLIENT
    assert (first.start_time, first.end_time) == ((START_MS + 1000) * 10**6, (START_MS + 1000) * 10**6 + 812_500_000)
    assert first.parent is not None
    assert (first.parent.trace_id, first.parent.span_id) == (int("a" * 32, 16), int("b" * 16, 16))
    values = dict(first.attributes or {})
    assert values["gen_ai.operation.name"] == "chat"
    assert values["gen_ai.provider.name"] == "gcp.gemini"
    assert values["gen_ai.request.model"] == "openai/gpt-4o-mini"
    assert values["gen_ai.response.model"] == "gpt-4o-mini"
    assert values["gen_ai.usage.input_tokens"] == 300
    assert values["gen_ai.usage.output_tokens"] == 150
    assert values["gen_ai.response.finish_reasons"] == ("stop",)
    assert values["gen_ai.response.time_to_first_chunk"] == 0.25
    assert values["gen_ai.conversation.id"] == "s"
    assert values["opentracy.cost.usd"] == 123_456e-9
    assert "gen_ai.input.messages" not in values
    assert second.status.status_code == StatusCode.ERROR
    values = dict(second.attributes or {})
    assert values["error.type"] == "timeout"
    assert values["opentracy.routing.cluster_id"] == 4
    assert "opentracy.cost.usd" not in values
    data = json.loads(reader.get_metrics_data().to_json())
    found = {metric["name"]: metric for metric in data["resource_metrics"][0]["scope_metrics"][0]["metrics"]}
    assert set(found) == {
        "gen_ai.client.operation.duration", "gen_ai.client.token.usage", "gen_ai.client.operation.time_to_first_chunk",
    }  # fmt: skip
    duration = found["gen_ai.client.operation.duration"]
    assert duration["unit"] == "s"
    assert duration["data"]["data_points"][0]["explicit_bounds"] == list(otel.DURATION_BUCKETS)
    kinds = {
        point["attributes"]["gen_ai.token.type"] for point in found["gen_ai.client.token.usage"]["data"]["data_points"]
    }
    assert kinds == {"input", "output"}


def test_text_is_exported_only_when_asked() -> None:
    """And then under its current names."""
    record = make_record(1)
    assert "gen_ai.input.messages" not in otel.attributes(record, {})
    values = otel.attributes(record, {}, content=True)
    assert "capital" in values["gen_ai.input.messages"]
    assert "Paris" in values["gen_ai.output.messages"]


def span(attributes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An OTLP/JSON request with one span."""

    def any_value(value: Any) -> dict[str, Any]:
        if isinstance(value, bool):
            return {"boolValue": value}
        if isinstance(value, int):
            return {"intValue": str(value)}
        if isinstance(value, float):
            return {"doubleValue": value}
        if isinstance(value, list):
            return {"arrayValue": {"values": [any_value(item) for item in value]}}
        return {"stringValue": value}

    one = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat",
        "startTimeUnixNano": "1760000000000000000",
        "endTimeUnixNano": "1760000001500000000",
        "attributes": [{"key": key, "value": any_value(value)} for key, value in attributes.items()],
        **changes,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}


CURRENT = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "gcp.gemini", "gen_ai.request.model": "gemini-pro",
    "gen_ai.response.model": "gemini-pro-002", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 20,
    "gen_ai.response.finish_reasons": ["stop"], "gen_ai.response.time_to_first_chunk": 0.25, "opentracy.cost.usd": 0.5,
    "gen_ai.input.messages": '[{"role":"user"}]', "gen_ai.request.stream": True, "gen_ai.conversation.id": "c1",
}  # fmt: skip
OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.model_name": "gemini-pro-002", "llm.provider": "gcp.gemini",
    "llm.token_count.prompt": 10, "llm.token_count.completion": 20, "llm.token_count.prompt_details.cache_read": 3,
    "llm.input_messages.0.message.content": "hi", "output.value": "hello", "session.id": "c1", "user.id": "u1",
}  # fmt: skip
TRACELOOP = {
    "llm.request.type": "chat", "gen_ai.system": "gcp.gemini", "gen_ai.request.model": "gemini-pro",
    "gen_ai.response.model": "gemini-pro-002", "gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 20,
    "gen_ai.prompt.0.content": "hi", "gen_ai.completion.0.content": "hello", "gen_ai.completion.0.finish_reason": "stop",
    "traceloop.association.properties.session_id": "c1",
}  # fmt: skip


@pytest.mark.parametrize("attributes", [CURRENT, OPENINFERENCE, TRACELOOP], ids=["genai", "openinference", "traceloop"])
def test_spans_of_others_become_records(attributes: dict[str, Any], store: Store) -> None:
    """Three dialects of names, one record; sent twice it counts once."""
    done = otel.from_otlp(span(attributes), PROVIDERS)
    (record,) = done.records
    assert (record.provider, record.model, record.session_id) == ("gemini", "gemini-pro-002", "c1")
    assert (record.tokens_in, record.tokens_out, record.latency_ms) == (10, 20, 1500.0)
    assert record.parent_id == "5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174"
    assert record.request is not None
    if attributes is CURRENT:
        assert (record.ttft_ms, record.cost_nano, record.stream, record.finish_reason) == (
            250.0,
            500_000_000,
            True,
            "stop",
        )
    else:
        assert record.cost_nano is None
    again = otel.from_otlp(span(attributes), PROVIDERS).records
    assert (add_records(store, [record]).added, add_records(store, again).known) == (1, 1)
    assert Reader(store).get(record.trace_id) is not None


def test_failed_and_foreign_spans() -> None:
    """An error is an error; a tool's span is no call of a model; a broken one is named and the others taken."""
    failed = otel.from_otlp(span({**CURRENT, "error.type": "timeout"}, status={"code": 2, "message": "too slow"}), {})
    assert (failed.records[0].outcome, failed.records[0].error_msg) == ("upstream_error", "too slow")
    for attributes in (
        {"openinference.span.kind": "TOOL"},
        {"gen_ai.operation.name": "execute_tool"},
        {"http.method": "GET"},
    ):
        assert otel.from_otlp(span(attributes), {}).ignored == 1
    broken = span(CURRENT, startTimeUnixNano="soon")
    broken["resourceSpans"] += span(CURRENT)["resourceSpans"]
    done = otel.from_otlp(broken, {})
    assert len(done.records) == 1
    assert "eee19b7ec3c1b174" in done.errors[0]


@pytest.mark.parametrize("request_", [None, [], {}, {"resourceSpans": 3}, "x"])
def test_what_is_no_otlp_request_is_refused(request_: Any) -> None:
    """With what is missing."""
    with pytest.raises(ValueError, match="resourceSpans"):
        otel.from_otlp(request_, {})


@pytest.mark.parametrize("junk", [[None], [{"scopeSpans": 3}], [{"scopeSpans": [{"spans": [None, 3, {}]}]}]])
def test_junk_inside_never_raises(junk: Any) -> None:
    """A sender's bug costs its span only."""
    assert otel.from_otlp({"resourceSpans": junk}, {}).records == []


# alerts --------------------------------------------------------------------------------------------------------------


def test_each_rule_fires_on_what_it_watches(put: Put, reader: Reader) -> None:
    """Cost by user, error share, p95, a provider that only fails, a model without a price, dropped traces."""
    put(
        *[make_record(n, provider="up", user_id="ann", cost_nano=10**9) for n in range(30)],
        *[make_record(100 + n, provider="down", model="m2", outcome="timeout", latency_ms=60_000.0) for n in range(25)],
        make_record(200, model="new", cost_nano=None),
    )
    sent: list[dict[str, Any]] = []
    rules = [
        Rule("spend", "cost", above=20, by="user"),
        Rule("errors", "error_rate", above=0.3),
        Rule("slow", "p95", above=10_000),
        Rule("down", "provider_down"),
        Rule("price", "unpriced"),
        Rule("lost", "dropped"),
        Rule("quiet", "cost", above=1e9),
        Rule("narrow", "error_rate", above=0.0, filters=parse("provider:up")),
    ]
    alerter = Alerter(reader, rules, sent.append, dropped=lambda: 3)
    assert alerter.check(START_MS + 300_000) == 6
    assert {(message["rule"], message["group"]) for message in sent} == {
        ("spend", "ann"), ("errors", None), ("slow", None), ("down", "down"), ("price", "new"), ("lost", None),
    }  # fmt: skip
    assert all(message["state"] == "firing" and message["text"] for message in sent)
    json.dumps(sent)


def test_an_alert_is_said_once_again_and_over(put: Put, reader: Reader) -> None:
    """Not at every check; again after a while; resolved once when the window has passed."""
    put(*[make_record(n, cost_nano=10**9) for n in range(30)])
    sent: list[str] = []
    rule = Rule("spend", "cost", above=20, minutes=120, again=60)
    alerter = Alerter(reader, [rule], lambda message: sent.append(message["state"]))
    for minutes in (1, 2, 30, 62, 63, 200, 201):
        alerter.check(START_MS + minutes * 60_000)
    assert sent == ["firing", "firing", "resolved"]


def test_a_webhook_gets_the_message_and_a_failure_is_repeated(put: Put, reader: Reader) -> None:
    """Over a real socket; the first attempt fails."""
    put(*[make_record(n, cost_nano=10**9) for n in range(30)])
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    attempts = 0

    def send(message: dict[str, Any]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ConnectionError
        import urllib.request

        url = f"http://127.0.0.1:{server.server_port}/"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(message).encode()), timeout=10).close()

    alerter = Alerter(reader, [Rule("spend", "cost", above=20)], send)
    with pytest.raises(ConnectionError):
        alerter.check(START_MS + 60_000)
    alerter.check(START_MS + 61_000)
    server.shutdown()
    server.server_close()
    assert [message["rule"] for message in received] == ["spend"]
