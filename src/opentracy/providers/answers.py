"""What every native dialect does with an answer before it looks inside: is it a JSON document, is it an error.

Belongs here: the failures that look the same whatever the provider. The shapes of answers stand in the dialects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core import jsonio
from ..core.failure import message_of, transport_failure
from ..core.sse import Event
from ..core.wire import Failure, HttpResponse


def read_document(response: HttpResponse) -> Any | Failure:
    """The JSON value of a 2xx body, or the failure that says what stood there instead."""
    if not response.body.strip():
        failure = transport_failure("empty_body", f"HTTP {response.status} with an empty body")
    else:
        try:
            return jsonio.decode(response.body)
        except jsonio.BadJson:
            failure = transport_failure("bad_body", message_of(None, response))
    failure.status = response.status
    failure.headers = response.headers
    return failure


def not_the_protocol(response: HttpResponse, why: str, body: Any = None, request_id: str | None = None) -> Failure:
    """A 2xx JSON document that is not the provider's answer."""
    shown = response.body[:800].decode("utf-8", "replace")[:200]
    return Failure(
        "bad_body", f"{why} ({response.content_type or 'no content type'}): {shown}", status=response.status,
        body=body, request_id=request_id, headers=response.headers,
    )  # fmt: skip


def error_document(response: HttpResponse) -> Any:
    """The JSON value of an error body, or None: error pages are often HTML, and that is no second error."""
    try:
        return jsonio.decode(response.body) if response.body else None
    except jsonio.BadJson:
        return None


def ended_early(progress: int) -> Failure:
    """End of file before the end of the answer: nothing had come, or a part of it."""
    if progress:
        why = "the stream ended before the answer was complete"
        return transport_failure("stream_truncated", why, code="stream_truncated")
    return transport_failure("empty_stream", "the stream ended without any content", code="empty_stream")


def bad_event(data: bytes) -> Failure:
    """A stream event that is not the JSON it should be."""
    shown = data[:200].decode("utf-8", "replace")
    return transport_failure("bad_event", f"an event of the stream is not valid: {shown}", code="bad_event")


def uncut(events: Iterable[Event]) -> list[Event]:
    """What stood at a stream's end without a blank line behind it, unless it was cut in the middle: that says no more
    than a stream which ends before it."""
    return [event for event in events if event.data.lstrip().startswith(b"[DONE]") or _is_document(event.data)]


def _is_document(data: bytes) -> bool:
    try:
        jsonio.decode(data)
    except jsonio.BadJson:
        return False
    return True


def event_limit() -> Failure:
    """A stream event beyond the size that is ever kept in memory."""
    return transport_failure("event_limit", "an event of the stream is larger than 16 MiB", code="event_limit")
