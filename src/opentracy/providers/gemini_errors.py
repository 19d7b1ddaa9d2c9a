"""Google's errors: as the body of a failed request, inside a 200, inside a stream. Source: PROTOCOLS section 4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.failure import embedded_failure, message_of, positive, status_failure
from ..core.wire import Failure, HttpResponse
from .answers import error_document


def error_object(body: Any) -> Failure:
    """An error inside a 200 or inside a stream, in Google's shape."""
    error = _error(body)
    status = error.get("code")
    return embedded_failure(
        message_of(body) or "the provider reported an error without a message",
        status=status if isinstance(status, int) and 400 <= status < 600 else None,
        code=_code(error), type=_status(error), body=body, retry_after=_retry_delay(error),
    )  # fmt: skip


def parse_error(response: HttpResponse) -> Failure:
    """A non-2xx answer: `{"error": {"code", "message", "status", "details"}}`, for some streams in a list."""
    body = error_document(response)
    error = _error(body)
    headers = response.headers
    return status_failure(
        response, message_of(body, response), code=_code(error), type=_status(error), body=body,
        request_id=headers.get("x-goog-request-id") or headers.get("x-request-id"), hint=_retry_delay(error),
    )  # fmt: skip


def _error(body: Any) -> dict[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _status(error: dict[str, Any]) -> str | None:
    status = error.get("status")
    return status if isinstance(status, str) else None


def _details(error: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type") or "").endswith(kind):
            yield detail


def _code(error: dict[str, Any]) -> str | None:
    """The reason (API_KEY_INVALID ...) where one is told, else the status word."""
    reason = next((d["reason"] for d in _details(error, "ErrorInfo") if isinstance(d.get("reason"), str)), None)
    return reason or _status(error)


def _retry_delay(error: dict[str, Any]) -> float | None:
    """Seconds of RetryInfo, a duration such as "34.4s"."""
    for detail in _details(error, "RetryInfo"):
        delay = positive(str(detail.get("retryDelay") or "").removesuffix("s"))
        if delay is not None:
            return delay
    return None
