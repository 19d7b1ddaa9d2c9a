"""OTLP both ways with the real parts: the SDK's own bytes, its exporter, a collector, and messages in every form."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_samples import make_record

from opentracy.traces import otel, otel_chats, otel_content
from opentracy.traces.otlp_wire import decode_request, encode_response

ATTRIBUTES: dict[str, Any] = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "aws.bedrock", "gen_ai.request.model": "nova-é",
    "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 9, "gen_ai.request.stream": True,
    "gen_ai.response.finish_reasons": ["stop"], "gen_ai.response.time_to_first_chunk": 0.25, "negative": -5, "half": -0.5,
}  # fmt: skip


def sdk_spans() -> Any:
    """Finished spans of the real SDK: a call, a failed call with an exception, something that is no call."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import Status, StatusCode

    memory, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("t", "1")
    with tracer.start_as_current_span("workflow"):
        with tracer.start_as_current_span("chat nova", attributes=ATTRIBUTES):
            pass
        with tracer.start_as_current_span("chat nova", attributes=ATTRIBUTES, record_exception=False) as span:
            span.record_exception(ValueError("too long"))
            span.set_status(Status(StatusCode.ERROR))
    return memory.get_finished_spans()


def test_the_sdks_bytes_say_what_its_json_says() -> None:
    """Every kind of attribute, events, status, parents: one meaning in both forms."""
    encoder = pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.common.trace_encoder", reason="the OTLP exporter is not installed"
    )
    from google.protobuf.json_format import MessageToDict

    message = encoder.encode_spans(sdk_spans())
    plain = MessageToDict(message)
    read = decode_request(message.SerializeToString())
    ours, theirs = [
        [s for r in one["resourceSpans"] for sc in r["scopeSpans"] for s in sc["spans"]] for one in (read, plain)
    ]
    assert len(ours) == len(theirs) == 3
    for got, want in zip(ours, theirs, strict=True):
        assert got["name"] == want["name"]
        assert (got["startTimeUnixNano"], got["endTimeUnixNano"]) == (want["startTimeUnixNano"], want["endTimeUnixNano"])
        assert {a["key"]: otel._plain(a["value"]) for a in got["attributes"]} == {
            a["key"]: otel._plain(a["value"]) for a in want.get("attributes", [])
        }
    first, second = otel.from_otlp(read, {"bedrock": "aws.bedrock"}).records
    assert (first.provider, first.model, first.tokens_in, first.stream, first.ttft_ms) == ("bedrock", "nova-é", 7, True, 250.0)
    assert (second.outcome, second.error_type, second.error_msg) == ("upstream_error", "ValueError", "too long")


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    """Read or refused, nothing else."""
    with contextlib.suppress(ValueError):
        otel.from_otlp(decode_request(data), {})


@given(st.data())
def test_damaged_spans_are_survived(data: st.DataObject) -> None:
    """Bytes that begin well: cut, or with one byte changed."""
    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder", reason="no OTLP exporter")
    whole = bytearray(encoder.encode_spans(sdk_spans()).SerializeToString())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        otel.from_otlp(decode_request(bytes(whole[: data.draw(st.integers(0, len(whole)))])), {})


def test_nesting_without_end_is_refused() -> None:
    """An attribute within an attribute within an attribute..."""
    value = b""
    for _ in range(300):
        inner = b"\x0a" + _size(value) + value
        value = b"\x2a" + _size(inner) + inner
    pair = b"\x0a\x01k\x12" + _size(value) + value
    span = b"\x4a" + _size(pair) + pair
    for tag in (b"\x12", b"\x12", b"\x0a"):
        span = tag + _size(span) + span
    with pytest.raises(ValueError, match="deeply"):
        decode_request(span)


def _size(data: bytes) -> bytes:
    value, out = len(data), bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_the_answer_is_one_that_exporters_read() -> None:
    """Nothing when all was taken; else how many and why."""
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="no OTLP protobuf")
    assert encode_response(0, "") == b""
    answer = service.ExportTraceServiceResponse.FromString(encode_response(300, "why é" * 40))
    assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (300, "why é" * 40)


CHAT = {
    "model": "m", "temperature": 0, "max_tokens": 12, "n": 2, "stop": "END", "seed": 4,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rainy"},
    ],
}  # fmt: skip
ANSWER = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "It rains."}, "finish_reason": "stop"}]}


def test_messages_leave_as_parts_and_settings_by_their_names() -> None:
    """Text only when it is asked for; settings, which are nobody's text, always."""
    record = make_record(1, request=json.dumps(CHAT).encode(), response=json.dumps(ANSWER).encode())
    quiet = otel.attributes(record, {})
    assert quiet["gen_ai.request.temperature"] == 0.0
    assert isinstance(quiet["gen_ai.request.temperature"], float)
    assert (quiet["gen_ai.request.max_tokens"], quiet["gen_ai.request.seed"], quiet["gen_ai.request.choice.count"]) == (12, 4, 2)
    assert quiet["gen_ai.request.stop_sequences"] == ["END"]
    assert (quiet["gen_ai.output.type"], quiet["gen_ai.response.id"]) == ("json", "chatcmpl-1")
    assert not any("messages" in name or "tool" in name or "system" in name for name in quiet)
    said = otel.attributes(record, {}, content=True)
    messages = json.loads(said["gen_ai.input.messages"])
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool"]
    assert messages[0]["parts"] == [{"type": "text", "content": "be brief"}]
    assert [p["type"] for p in messages[1]["parts"]] == ["text", "blob", "uri"]
    assert messages[1]["parts"][1] == {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"}
    assert messages[2]["parts"] == [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}]
    assert messages[3]["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "rainy"}]
    assert json.loads(said["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "It rains."}], "finish_reason": "stop"}
    ]
    assert json.loads(said["gen_ai.tool.definitions"])[0]["name"] == "f"


def test_what_left_comes_back_as_the_same_chat() -> None:
    """Out as parts, in as messages."""
    record = make_record(1, request=json.dumps(CHAT).encode(), response=json.dumps(ANSWER).encode())
    said = otel.attributes(record, {}, content=True)
    request = json.loads(otel_chats.request_of(said) or b"")
    assert request["messages"][0] == {"role": "system", "content": "be brief"}
    assert request["messages"][2]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert request["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "rainy"}
    assert json.loads(otel_chats.response_of(said) or b"")["choices"] == ANSWER["choices"]


@pytest.mark.parametrize(
    ("attributes", "messages", "answer"),
    [
        (
            {"llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "hi",
             "llm.output_messages.0.message.role": "assistant",
             "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f",
             "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": "{}", "input.value": "hi"},
            [{"role": "user", "content": "hi"}],
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        ),
        (
            {"gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": "s", "gen_ai.prompt.10.role": "user",
             "gen_ai.prompt.10.content": "last", "gen_ai.prompt.2.content": "mid", "gen_ai.completion.0.content": "a",
             "gen_ai.completion.0.finish_reason": "stop"},
            [{"role": "system", "content": "s"}, {"role": "user", "content": "mid"}, {"role": "user", "content": "last"}],
            {"role": "assistant", "content": "a"},
        ),
        (
            {"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"q"}]}]',
             "gen_ai.system_instructions": '[{"type":"text","content":"rules"}]',
             "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"a"}],"finish_reason":"stop"}]'},
            [{"role": "system", "content": "rules"}, {"role": "user", "content": "q"}],
            {"role": "assistant", "content": "a"},
        ),
    ],
)  # fmt: skip
def test_texts_in_every_form_are_chats(attributes: dict[str, Any], messages: Any, answer: Any) -> None:
    assert json.loads(otel_chats.request_of(attributes) or b"")["messages"] == messages
    assert json.loads(otel_chats.response_of(attributes) or b"")["choices"][0]["message"] == answer


@pytest.mark.parametrize("value", ["plain", "[1,2", "{}", '["a"]', 5, [1], None, "[" * 5000])
def test_other_texts_are_kept_as_they_are(value: Any) -> None:
    for name in ("gen_ai.input.messages", "input.value"):
        kept = otel_chats.request_of({name: value})
        assert kept is None or isinstance(kept, bytes)
        assert (kept is None) == (value is None)
    otel_content.texts(str(value).encode(), str(value).encode())
    otel_content.settings(b'{"n": "x", "stop": [1], "temperature": true}', b"[]")
