"""Telemetry with the real parts: the SDK's OTLP exporters, a collector, and a receiver that decodes what comes out of it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, Start, free_port

from faultserver import FaultServer, answer, error

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the OTLP exporter of OpenTelemetry is not installed")
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SETUP = '''
import os
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

def configure():
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), 500)]))
'''


def eventually(condition: Callable[[], Any], seconds: float = 40.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


class Receiver:
    """Takes OTLP over HTTP and decodes it by the official protobuf definitions."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, list[Any]] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.take(self.path, body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        if path.endswith("/traces"):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.spans += scope.spans
        elif path.endswith("/metrics"):
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        self.metrics[metric.name] = list(metric.histogram.data_points)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with contextlib.closing(Receiver()) as made:
        yield made


@contextlib.contextmanager
def collector(target: str, place: Path) -> Iterator[str]:
    """A collector that passes on to `target`; yields where it takes OTLP over HTTP."""
    rotel = find_spec("rotel")
    if rotel is None or rotel.origin is None:
        pytest.skip("rotel (a collector for OTLP, pip install rotel) is not installed")
    http, grpc = free_port(), free_port()
    command = [
        str(Path(rotel.origin).with_name("rotel-agent")), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}",
        "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--exporter", "otlp", "--otlp-exporter-protocol", "http",
        "--otlp-exporter-endpoint", target, "--pid-file", str(place / "pid"), "--log-file", str(place / "log"),
    ]  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ROTEL_")}
    with (place / "out").open("wb") as out:
        process = subprocess.Popen(command, env=clean, stdout=out, stderr=out)
    try:
        import socket

        up = eventually(lambda: not _refused(socket, http) or process.poll() is not None) and process.poll() is None
        said = (place / "out").read_text()
        if not up and "error while loading shared libraries" in said:
            pytest.skip(f"the collector does not run here: {said.strip()[:200]}")
        assert up, said
        yield f"http://127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(10)


def _refused(socket: Any, port: int) -> bool:
    with socket.socket() as probe:
        return bool(probe.connect_ex(("127.0.0.1", port)))


def plain(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def serve(start_engine: Start, upstream: FaultServer, tmp_path: Path, endpoint: str, more: str = "") -> Engine:
    (tmp_path / "own_otlp_setup.py").write_text(SETUP)
    config = f'[otel]\nenabled = true\nsetup = "own_otlp_setup:configure"\n{more}[limits]\nnum_retries = 0\n'
    return start_engine(config, upstream, PYTHONPATH=str(tmp_path), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)


@pytest.mark.parametrize("through", ["collector", "directly"])
def test_a_collector_gets_spans_and_metrics_by_the_current_names(
    start_engine: Start, upstream: FaultServer, receiver: Receiver, tmp_path: Path, through: str
) -> None:
    """Engine, SDK, OTLP/protobuf, a real collector, and out of it again; every call once, texts only when asked for."""
    with contextlib.ExitStack() as stack:
        endpoint = receiver.url if through == "directly" else stack.enter_context(collector(receiver.url, tmp_path))
        engine = serve(start_engine, upstream, tmp_path, endpoint, "content = true\n" if through == "directly" else "")
        upstream(answer())
        ids = {engine.chat(temperature=0.5, max_tokens=7).headers["x-opentracy-trace-id"] for _ in range(3)}
        upstream(error(500))
        ids.add(engine.chat().headers["x-opentracy-trace-id"])
        assert eventually(lambda: len(receiver.spans) >= 4), engine.log.read_text()
        assert eventually(lambda: "gen_ai.client.token.usage" in receiver.metrics)
        time.sleep(1.0)
        engine.stop()
    assert len(receiver.spans) == 4
    found = [plain(span.attributes) for span in receiver.spans]
    assert {values["opentracy.trace_id"] for values in found} == ids
    for span, values in zip(receiver.spans, found, strict=True):
        assert (span.name, span.kind) == ("chat openai/gpt-4o-mini", 3)
        assert (values["gen_ai.operation.name"], values["gen_ai.provider.name"]) == ("chat", "openai")
        if span.status.code == 2:
            assert values["error.type"]
            continue
        assert (values["gen_ai.usage.input_tokens"], values["gen_ai.usage.output_tokens"]) == (3, 2)
        assert (values["gen_ai.request.temperature"], values["gen_ai.request.max_tokens"]) == (0.5, 7)
        assert [v.string_value for v in values["gen_ai.response.finish_reasons"].values] == ["stop"]
        assert ("gen_ai.input.messages" in values) == (through == "directly")
    assert sum(span.status.code == 2 for span in receiver.spans) == 1
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} <= set(receiver.metrics)
    durations = receiver.metrics["gen_ai.client.operation.duration"]
    assert sum(point.count for point in durations) == 4
    assert {plain(p.attributes).get("error.type") is None for p in durations} == {True, False}
    tokens = {plain(p.attributes)["gen_ai.token.type"]: p.sum for p in receiver.metrics["gen_ai.client.token.usage"]}
    assert tokens == {"input": 9, "output": 6}


def test_a_backlog_does_not_overrun_the_sdks_queue(
    start_engine: Start, upstream: FaultServer, receiver: Receiver, tmp_path: Path
) -> None:
    """More traces at once than the SDK's queue of spans holds: each arrives, once."""
    engine = serve(start_engine, upstream, tmp_path, receiver.url)
    count = 6000
    for start in range(0, count, 2000):
        traces = [{"trace_id": f"{n + 1:032x}", "model": "m", "latency_ms": 1.0} for n in range(start, start + 2000)]
        assert engine.request("POST", "/v1/traces", {"traces": traces}).status == 201
    assert eventually(lambda: len(receiver.spans) >= count, 90), len(receiver.spans)
    time.sleep(0.5)
    ids = [plain(span.attributes)["opentracy.trace_id"] for span in receiver.spans]
    assert len(ids) == len(set(ids)) == count


def test_an_sdks_exporter_is_taken_in(start_engine: Start, upstream: FaultServer) -> None:
    """OTLP/protobuf, compressed and not, and again: every call of a model once, and its texts as a chat."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    engine = start_engine('[server]\nadmin_keys = ["env:ADMIN"]\n[traces]\ncontent = "redacted"\n', upstream, ADMIN="adm-1")
    engine.headers = {"authorization": "Bearer adm-1"}
    memory, provider = InMemorySpanExporter(), TracerProvider()
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("app")
    values = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "x_ai", "gen_ai.request.model": "grok-test",
        "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 34,
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "to ann@example.com"}]}]),
    }  # fmt: skip
    with tracer.start_as_current_span("request"), tracer.start_as_current_span("chat grok-test", attributes=values):
        pass
    spans = memory.get_finished_spans()
    for compression in (Compression.NoCompression, Compression.Gzip):
        exporter = OTLPSpanExporter(
            f"{engine.url}/v1/otlp/v1/traces", headers={"authorization": "Bearer adm-1"}, compression=compression
        )
        assert exporter.export(spans) == SpanExportResult.SUCCESS
    (row,) = engine.traces("model=grok-test")
    assert (row["provider"], row["tokens_in"], row["tokens_out"]) == ("xai", 12, 34)
    whole = engine.request("GET", f"/v1/traces/{row['trace_id']}").json
    assert json.loads(whole["request"])["messages"][0]["role"] == "user"
    assert "ann@example.com" not in str(whole)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff", {"content-type": "application/x-protobuf"}, 400),
        (b"not gzip", {"content-type": "application/x-protobuf", "content-encoding": "gzip"}, 400),
        (gzip.compress(b"\0" * (40 << 20)), {"content-type": "application/x-protobuf", "content-encoding": "gzip"}, 413),
        (gzip.compress(b"{}")[:-9], {"content-type": "application/json", "content-encoding": "gzip"}, 400),
        (b"{}", {"content-type": "application/json", "content-encoding": "br"}, 415),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"[]", {"content-type": "application/json"}, 400),
        (b"", {"content-type": "application/x-protobuf"}, 200),
    ],
    ids=["junk", "no gzip", "a bomb", "cut", "brotli", "text", "a list", "empty"],
)
def test_what_is_no_export_of_spans_is_refused(
    engine: Engine, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert engine.request("POST", "/v1/otlp/v1/traces", body, headers).status == status


def test_a_provider_of_the_conventions_keeps_its_name() -> None:
    """Names go out as the conventions have them and come back as ours."""
    from opentracy.providers.conventions import OTEL_NAMES
    from opentracy.traces import otel
    from opentracy.traces.model import TraceRecord

    for ours, theirs in OTEL_NAMES.items():
        values = otel.attributes(TraceRecord("0" * 32, 1, provider=ours, model="m"), OTEL_NAMES)
        assert values["gen_ai.provider.name"] == theirs


