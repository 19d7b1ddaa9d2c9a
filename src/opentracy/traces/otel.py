"""OpenTelemetry: our records as GenAI spans and metrics, and other people's spans as our records.

Belongs here: one table of names for both directions. The conventions are in development and will move
(open-telemetry/semantic-conventions-genai, read in 2026); what changes then is this table. Export goes through
opentelemetry-api to whatever SDK the user has set up. Names of providers in the conventions differ from ours for some;
the caller hands that mapping over, since this package knows no provider.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from . import otel_chats, otel_content
from .ids import trace_id_at
from .model import TraceRecord
from .outbox import Portion

#: field of a record -> names of its attribute: ours first (the current convention), then those understood on ingest:
#: older GenAI names, OpenInference, traceloop
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "operation": ("gen_ai.operation.name", "llm.request.type"),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "requested_model": ("gen_ai.request.model", "llm.request.model", "llm.model_name"),
    "model": ("gen_ai.response.model", "llm.response.model", "gen_ai.request.model", "llm.model_name"),
    "stream": ("gen_ai.request.stream", "llm.is_streaming", "traceloop.is_streaming"),
    "session_id": ("gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id"),
    "user_id": ("user.id", "enduser.id", "traceloop.association.properties.user_id"),
    "tokens_in": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
                  "llm.usage.prompt_tokens"),
    "tokens_out": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
                   "llm.usage.completion_tokens"),
    "tokens_cached": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
                      "llm.token_count.prompt_details.cache_read"),
    "tokens_cache_write": ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens",
                           "gen_ai.usage.cache_creation_input_tokens",
                           "llm.token_count.prompt_details.cache_write"),
    "tokens_reasoning": ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens",
                         "llm.token_count.completion_details.reasoning"),
    "finish_reason": ("gen_ai.response.finish_reasons", "llm.response.finish_reason"),
    "ttft_ms": ("gen_ai.response.time_to_first_chunk",),
    "error_type": ("error.type", "exception.type"),
    "error_msg": ("exception.message",),
    "http_status": ("http.response.status_code",),
    "cost_usd": ("opentracy.cost.usd", "llm.cost.total", "gen_ai.usage.cost"),
    "cluster_id": ("opentracy.routing.cluster_id",),
    "route_score": ("opentracy.routing.score",),
}  # fmt: skip
_CHATS: Final = frozenset({"chat", "completion", "generate_content", "text_completion", "llm", "embeddings", "rerank"})

#: how long the SDK may take to send a batch
FLUSH_MS: Final = 10_000

DURATION_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))


def attributes(record: TraceRecord, providers: Mapping[str, str], *, content: bool = False) -> dict[str, Any]:
    """The attributes of a record's span, by the current names; texts only with `content`."""
    values: dict[str, Any] = {"opentracy.trace_id": record.trace_id, "opentracy.attempts": len(record.attempts)}
    for name, keys in NAMES.items():
        value = _exported(record, name, providers)
        if value is not None:
            values[keys[0]] = value
    values |= otel_content.settings(record.request, record.response)
    if content:
        values |= otel_content.texts(record.request, record.response)
    if record.requested_model != record.model:
        values["opentracy.routing.requested_model"] = record.requested_model
    return values


def _exported(record: TraceRecord, name: str, providers: Mapping[str, str]) -> Any:
    if name == "error_msg":
        return None  # the status of the span says it
    if name == "cost_usd":
        return None if record.cost_nano is None else record.cost_nano / 1e9
    value = getattr(record, name)
    if name == "provider":
        return providers.get(value, value) or None
    if name == "finish_reason":
        return None if value is None else [value]
    if name == "ttft_ms":
        return None if value is None else value / 1000
    if name == "error_type" and value is None and record.outcome != "ok":
        return record.outcome
    if name == "stream" and not value:
        return None
    return None if value == "" else value


class OtelExporter:
    """Sends records as spans and metrics through the user's OpenTelemetry SDK; usable as a sink of the outbox.

    `providers` maps our names of providers to those of the conventions. Needs the `otel` extra.
    """

    #: a quarter of what the SDK's queue of spans holds unless told otherwise
    batch_rows = 500

    def __init__(
        self, providers: Mapping[str, str], *, content: bool = False, tracer: Any = None, meter: Any = None
    ) -> None:
        from opentelemetry import metrics, trace

        self._trace = trace
        # only the SDK's provider has it, not the API's own that does nothing
        self._flush: Callable[[int], object] | None = getattr(trace.get_tracer_provider(), "force_flush", None)
        self._providers = providers
        self._content = content
        self._tracer = tracer if tracer is not None else trace.get_tracer("opentracy")
        meter = meter if meter is not None else metrics.get_meter("opentracy")
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", unit="s", explicit_bucket_boundaries_advisory=DURATION_BUCKETS
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", unit="{token}", explicit_bucket_boundaries_advisory=TOKEN_BUCKETS
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )

    def insert(self, token: str, portions: Sequence[Portion]) -> int:
        """Exports some blocks of the outbox, and waits for the SDK to have sent them: its own queue drops what is too
        much. Raises RuntimeError when it did not in time, so that they are exported again."""
        sent = 0
        for portion in portions:
            for at, record in enumerate(portion.records):
                if record is None:
                    continue
                body = portion.bodies[at] if portion.bodies is not None else None
                if body is not None:
                    record.request, record.response = body
                self.export(record)
                sent += 1
        if self._flush is not None and self._flush(FLUSH_MS) is False:
            raise RuntimeError("The OpenTelemetry SDK did not send its spans in time")
        return sent

    def export(self, record: TraceRecord) -> None:
        """One span with the times of the request, and its metrics."""
        trace = self._trace
        values = attributes(record, self._providers, content=self._content)
        start = record.ts_ms * 1_000_000
        span = self._tracer.start_span(
            f"{record.operation} {record.requested_model or record.model}",
            context=self._parent(record),
            kind=trace.SpanKind.CLIENT,
            attributes=values,
            start_time=start,
        )
        if record.outcome != "ok":
            span.set_status(trace.Status(trace.StatusCode.ERROR, record.error_msg or record.outcome))
        span.end(start + round(record.latency_ms * 1e6))
        self._measure(record, values)

    def _parent(self, record: TraceRecord) -> Any:
        """The caller's span, when it sent a `traceparent`."""
        trace_hex, _, span_hex = (record.parent_id or "").partition("-")
        if len(trace_hex) != 32 or len(span_hex) != 16:
            return None
        trace = self._trace
        remote = trace.SpanContext(int(trace_hex, 16), int(span_hex, 16), True, trace.TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(remote))

    def _measure(self, record: TraceRecord, values: Mapping[str, Any]) -> None:
        keys = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")
        common = {key: values[key] for key in keys if key in values}
        failed = {"error.type": values["error.type"]} if "error.type" in values else {}
        self._duration.record(record.latency_ms / 1000, {**common, **failed})
        for kind, count in (("input", record.tokens_in), ("output", record.tokens_out)):
            if count is not None:
                self._tokens.record(count, {**common, "gen_ai.token.type": kind})
        if record.ttft_ms is not None:
            self._first.record(record.ttft_ms / 1000, common)


@dataclass(slots=True)
class Ingested:
    """The records of an OTLP request; `ignored` spans were no calls of a model, `errors` could not be read."""

    records: list[TraceRecord] = field(default_factory=list)
    ignored: int = 0
    errors: list[str] = field(default_factory=list)


def from_otlp(request: Any, providers: Mapping[str, str]) -> Ingested:
    """Records of an OTLP/JSON `ExportTraceServiceRequest` (decoded). `providers` maps our names to the conventions'.

    The same span always gives the same trace id, so a request that is sent twice counts once. Raises ValueError when
    the whole is not such a request.
    """
    result = Ingested()
    ours = {theirs: name for name, theirs in providers.items()}
    if not isinstance(request, dict) or not isinstance(request.get("resourceSpans"), list):
        raise ValueError("Not an OTLP request: it needs the list `resourceSpans`")
    for span in _spans(request["resourceSpans"]):
        try:
            record = _record(span, ours)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            result.errors.append(f"span {str(span.get('spanId'))[:32]!r}: {error}")
            continue
        if record is None:
            result.ignored += 1
        else:
            result.records.append(record)
    return result


def _spans(resources: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for resource in resources:
        for scope in _list(resource, "scopeSpans"):
            for span in _list(scope, "spans"):
                if isinstance(span, dict):
                    yield span


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _plain(value: Any) -> Any:
    """The plain value of an OTLP AnyValue. 64-bit integers come as text."""
    if not isinstance(value, dict) or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "intValue":
        return int(inner)
    if kind == "arrayValue":
        return [_plain(item) for item in _list(inner, "values")]
    if kind == "kvlistValue":
        return {item["key"]: _plain(item.get("value")) for item in _list(inner, "values")}
    return inner


def _record(span: dict[str, Any], ours: Mapping[str, str]) -> TraceRecord | None:
    values = _attributes(span)
    kind = str(values.get("openinference.span.kind") or values.get("traceloop.span.kind") or "").lower()
    operation = _first(values, "operation", str)
    model = _first(values, "model", str)
    if kind not in ("", "llm", "embedding", "reranker") or (operation or "chat").lower() not in _CHATS or not model:
        return None
    start, end = int(span["startTimeUnixNano"]), int(span.get("endTimeUnixNano") or span["startTimeUnixNano"])
    trace_hex, span_hex = str(span["traceId"]), str(span["spanId"])
    failed = (span.get("status") or {}).get("code") in (2, "STATUS_CODE_ERROR")
    ttft, cost = _first(values, "ttft_ms", float), _first(values, "cost_usd", float)
    provider = _first(values, "provider", str) or ""
    request, response = otel_chats.request_of(values), otel_chats.response_of(values)
    reasons = next((values[key] for key in NAMES["finish_reason"] if values.get(key)), None)
    return TraceRecord(
        trace_id_at(start // 1_000_000, hashlib.sha256(f"{trace_hex}:{span_hex}".encode()).digest()[:10]),
        start // 1_000_000,
        outcome="upstream_error" if failed else "ok",
        http_status=_first(values, "http_status", int) or (500 if failed else 200),
        requested_model=_first(values, "requested_model", str) or model,
        model=model,
        provider=ours.get(provider, provider),
        parent_id=f"{trace_hex}-{span_hex}",
        session_id=_first(values, "session_id", str),
        user_id=_first(values, "user_id", str),
        operation=operation or "chat",
        stream=bool(_first(values, "stream", bool)),
        error_type=_first(values, "error_type", str),
        error_msg=(span.get("status") or {}).get("message") or _first(values, "error_msg", str),
        finish_reason=str(reasons[0] if isinstance(reasons, list) else reasons) if reasons else None,
        ttft_ms=None if ttft is None else ttft * 1000,
        latency_ms=max(0, end - start) / 1e6,
        tokens_in=_first(values, "tokens_in", int),
        tokens_out=_first(values, "tokens_out", int),
        tokens_cached=_first(values, "tokens_cached", int),
        tokens_cache_write=_first(values, "tokens_cache_write", int),
        tokens_reasoning=_first(values, "tokens_reasoning", int),
        cost_nano=None if cost is None or cost < 0 else round(cost * 1e9),
        cost_source="unknown" if cost is None else "provider",
        request=request,
        response=response,
        body_state="none" if request is None and response is None else "full",
    )


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a span, and what its events add: texts, which some SDKs put there, and an exception."""
    values = {item["key"]: _plain(item.get("value")) for item in _list(span, "attributes")}
    for event in _list(span, "events"):
        if isinstance(event, dict) and str(event.get("name", "")).startswith(("gen_ai.", "exception")):
            for item in _list(event, "attributes"):
                values.setdefault(item["key"], _plain(item.get("value")))
    return values


def _first(values: Mapping[str, Any], name: str, kind: Callable[[Any], Any]) -> Any:
    """The first of a field's names that has a value of its kind."""
    for key in NAMES[name]:
        value = values.get(key)
        if value is None or isinstance(value, list | dict):
            continue
        if kind is bool:
            return value if isinstance(value, bool) else str(value).lower() == "true"
        return kind(value)
    return None
