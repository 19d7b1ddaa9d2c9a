"""Taking in spans of GenAI calls from OpenTelemetry exporters, in either of OTLP's forms over HTTP.

Belongs here: the body's form and compression, and the answer that exporters expect. Not here: what a span means
(`opentracy.traces.otel`), the protobuf form (`opentracy.traces.otlp_wire`).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.jsonio import BadJson, decode
from opentracy.providers.conventions import OTEL_NAMES
from opentracy.traces.otel import Ingested, from_otlp
from opentracy.traces.otlp_wire import decode_request, encode_response

from .errors import Refused
from .routes import json_response
from .traces import commit, off_loop, reader_of

if TYPE_CHECKING:
    from .app import Engine

PROTOBUF = "application/x-protobuf"
#: what a compressed body may unfold to: exporters send some hundred spans at a time
MAX_BYTES = 32 << 20


async def take(engine: Engine, request: Request) -> Response:
    """`POST /v1/otlp/v1/traces`: protocols http/protobuf and http/json, plain or gzip. Repeated spans count once."""
    reader_of(engine)
    body = await request.body()
    binary = request.headers.get("content-type", "").partition(";")[0].strip().lower() == PROTOBUF
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("gzip", "identity", ""):
        raise Refused(415, "Spans are taken plain or compressed with gzip")

    def read() -> Any:
        plain = _unfolded(body) if packed == "gzip" else body
        return decode_request(plain) if binary else decode(plain)

    try:
        value = await off_loop(read)
    except BadJson as e:
        raise Refused(400, f"The body is not JSON: {e}") from None
    except ValueError as e:
        raise Refused(400, str(e)) from None
    return answer(await spans(engine, value), binary=binary)


def _unfolded(body: bytes) -> bytes:
    unpack = zlib.decompressobj(31)
    try:
        plain = unpack.decompress(body, MAX_BYTES)
    except zlib.error:
        raise Refused(400, "The body is not gzip") from None
    if unpack.unconsumed_tail:
        raise Refused(413, f"The body is larger than {MAX_BYTES >> 20} MiB")
    if not unpack.eof:
        raise Refused(400, "The body is cut")
    return plain


async def spans(engine: Engine, value: Any) -> Ingested:
    """Commits the calls of models among the spans of a request; Refused 400 when it is none."""
    try:
        found = await off_loop(lambda: from_otlp(value, OTEL_NAMES))
    except ValueError as e:
        raise Refused(400, str(e), param="resourceSpans") from None
    await commit(engine, found.records)
    return found


def answer(found: Ingested, *, binary: bool) -> Response:
    """What an exporter is told: all taken, or how many spans could not be read and why."""
    message = "; ".join(found.errors)[:1000]
    if binary:
        return Response(encode_response(len(found.errors), message), 200, None, PROTOBUF)
    partial = {"partialSuccess": {"rejectedSpans": str(len(found.errors)), "errorMessage": message}}
    return json_response(partial if found.errors else {})
