"""OTLP's protobuf form, read into the same values as its JSON form; and the answer in that form.

Belongs here: the wire format of the few messages that an export of spans consists of. Not here: what spans mean
(`otel`). What is unknown is skipped, as the format wants it; what is cut or too deep raises ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

_MAX_DEPTH: Final = 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def decode_request(data: bytes) -> dict[str, Any]:
    """An `ExportTraceServiceRequest` as its JSON form has it. Raises ValueError for what is none."""
    resources = [_resource_spans(part) for number, kind, part in _fields(data) if (number, kind) == (1, _BYTES)]
    return {"resourceSpans": resources}


def encode_response(rejected: int, message: str) -> bytes:
    """An `ExportTraceServiceResponse`: empty when everything was taken."""
    if not rejected:
        return b""
    text = message.encode()
    partial = b"\x08" + _varint(rejected) + b"\x12" + _varint(len(text)) + text
    return b"\x0a" + _varint(len(partial)) + partial


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("Not protobuf: a number is cut")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, kind on the wire, value) of a message."""
    at, end = 0, len(data)
    while at < end:
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        value: Any
        if kind == _VARINT:
            value, at = _read_varint(data, at)
        elif kind == _BYTES:
            size, at = _read_varint(data, at)
            value, at = data[at : at + size], at + size
        elif kind == _FIXED64:
            value, at = data[at : at + 8], at + 8
        elif kind == _FIXED32:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError(f"Not protobuf: there is no kind {kind}")
        if at > end or not number:
            raise ValueError("Not protobuf: a field is cut")
        yield number, kind, value


def _resource_spans(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"scopeSpans": []}
    for number, kind, value in _fields(data):
        if kind != _BYTES:
            continue
        if number == 1:
            found["resource"] = {"attributes": [_key_value(v) for n, k, v in _fields(value) if (n, k) == (1, _BYTES)]}
        elif number == 2:
            spans = [_span(v) for n, k, v in _fields(value) if (n, k) == (2, _BYTES)]
            found["scopeSpans"].append({"spans": spans})
    return found


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _span(data: bytes) -> dict[str, Any]:
    span: dict[str, Any] = {"attributes": [], "events": []}
    plain: dict[int, tuple[str, Callable[[bytes], Any]]] = {
        1: ("traceId", bytes.hex), 2: ("spanId", bytes.hex), 4: ("parentSpanId", bytes.hex), 5: ("name", _text),
    }  # fmt: skip
    for number, kind, value in _fields(data):
        if kind == _BYTES and number in plain:
            name, read = plain[number]
            span[name] = read(value)
        elif kind == _FIXED64 and number in (7, 8):
            span["startTimeUnixNano" if number == 7 else "endTimeUnixNano"] = str(struct.unpack("<Q", value)[0])
        elif kind == _VARINT and number == 6:
            span["kind"] = value
        elif kind == _BYTES and number == 9:
            span["attributes"].append(_key_value(value))
        elif kind == _BYTES and number == 11:
            span["events"].append(_event(value))
        elif kind == _BYTES and number == 15:
            span["status"] = _status(value)
    return span


def _event(data: bytes) -> dict[str, Any]:
    event: dict[str, Any] = {"attributes": []}
    for number, kind, value in _fields(data):
        if (number, kind) == (2, _BYTES):
            event["name"] = _text(value)
        elif (number, kind) == (3, _BYTES):
            event["attributes"].append(_key_value(value))
    return event


def _status(data: bytes) -> dict[str, Any]:
    status: dict[str, Any] = {}
    for number, kind, value in _fields(data):
        if (number, kind) == (2, _BYTES):
            status["message"] = _text(value)
        elif (number, kind) == (3, _VARINT):
            status["code"] = value
    return status


def _key_value(data: bytes, depth: int = 0) -> dict[str, Any]:
    pair: dict[str, Any] = {"key": "", "value": {}}
    for number, kind, value in _fields(data):
        if (number, kind) == (1, _BYTES):
            pair["key"] = _text(value)
        elif (number, kind) == (2, _BYTES):
            pair["value"] = _any_value(value, depth)
    return pair


def _any_value(data: bytes, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ValueError("An attribute is nested too deeply")
    found: dict[str, Any] = {}
    for number, kind, value in _fields(data):
        if (number, kind) == (1, _BYTES):
            found = {"stringValue": _text(value)}
        elif (number, kind) == (2, _VARINT):
            found = {"boolValue": bool(value)}
        elif (number, kind) == (3, _VARINT):
            found = {"intValue": str(value - (1 << 64) if value >> 63 else value)}
        elif (number, kind) == (4, _FIXED64):
            found = {"doubleValue": struct.unpack("<d", value)[0]}
        elif (number, kind) == (5, _BYTES):
            items = [_any_value(v, depth + 1) for n, k, v in _fields(value) if (n, k) == (1, _BYTES)]
            found = {"arrayValue": {"values": items}}
        elif (number, kind) == (6, _BYTES):
            pairs = [_key_value(v, depth + 1) for n, k, v in _fields(value) if (n, k) == (1, _BYTES)]
            found = {"kvlistValue": {"values": pairs}}
        elif (number, kind) == (7, _BYTES):
            found = {"bytesValue": value.hex()}
    return found
