"""What the engine says when it cannot answer: one JSON shape, true statuses, stable codes.

Belongs here: the map from a `Failure` to the engine's status and code (the Engine column of the fault table), and the
exception by which a handler refuses a request. Not here: whether to retry (`core.failure`).

    {"error": {"message", "type", "code", "param", "provider", "request_id"}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentracy.core.failure import BILLING_CODES
from opentracy.core.jsonio import encode
from opentracy.core.wire import Failure

_BY_KIND: Final[Mapping[str, tuple[int, str]]] = {
    "dns": (502, "upstream_unreachable"),
    "refused": (502, "upstream_unreachable"),
    "unreachable": (502, "upstream_unreachable"),
    "tls": (502, "upstream_tls"),
    "reset": (502, "upstream_reset"),
    "eof": (502, "upstream_reset"),
    "timeout": (504, "timeout"),
    "pool": (503, "overloaded"),
    "proxy": (502, "proxy_error"),
    "truncated": (502, "upstream_truncated"),
    "redirect": (502, "upstream_redirect"),
    "empty_stream": (502, "empty_stream"),
    "stream_truncated": (502, "stream_truncated"),
    "stream_interrupted": (502, "stream_interrupted"),
    "unavailable": (503, "overloaded"),
    "cancelled": (499, "client_cancelled"),
}
_PASSED_ON: Final = frozenset({400, 404, 409, 413, 422, 429})

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error",
    413: "invalid_request_error", 414: "invalid_request_error", 415: "invalid_request_error",
    422: "invalid_request_error", 429: "rate_limit_error", 431: "invalid_request_error", 504: "timeout_error",
}  # fmt: skip
_CODES: Final[Mapping[int, str]] = {
    400: "invalid_request", 401: "invalid_api_key", 402: "budget_exceeded", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 408: "request_timeout", 409: "conflict", 413: "request_too_large", 414: "uri_too_long",
    415: "unsupported_media_type", 422: "unprocessable", 429: "rate_limit_exceeded", 431: "headers_too_large",
    500: "internal_error", 503: "overloaded", 504: "timeout",
}  # fmt: skip


class Refused(Exception):
    """A request that the engine itself does not serve. `headers`: further answer headers, lower-case names."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _CODES.get(status, "error")
        self.param = param
        self.headers = dict(headers or {})

    def body(self, request_id: str | None = None) -> bytes:
        """The error document."""
        return error_body(self.status, self.message, code=self.code, param=self.param, request_id=request_id)


def error_object(
    status: int,
    message: str,
    *,
    code: str | None = None,
    type: str | None = None,
    param: str | None = None,
    provider: str | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """The object under `error`, all six fields always there."""
    return {
        "message": message,
        "type": type or _TYPES.get(status, "api_error"),
        "code": code or _CODES.get(status, "error"),
        "param": param,
        "provider": provider,
        "request_id": request_id,
    }


def error_body(status: int, message: str, **fields: Any) -> bytes:
    """The error document; `fields` as for `error_object`."""
    return encode({"error": error_object(status, message, **fields)})


def status_of(failure: Failure) -> tuple[int, str]:
    """Status and code that the engine's client sees for a provider's failure."""
    if failure.kind == "status" or (failure.kind == "provider_error" and failure.status is not None):
        return _by_status(failure)
    if failure.kind == "provider_error":
        return 502, failure.code or failure.type or "upstream_error"
    return _BY_KIND.get(failure.kind) or (502, "bad_upstream")


def _by_status(failure: Failure) -> tuple[int, str]:
    status = failure.status or 0
    own = failure.code or failure.type
    if own in BILLING_CODES or status == 402:
        return 402, own or "billing_error"
    if own == "context_length_exceeded":
        return 400, own
    if status in _PASSED_ON:
        return status, own or _CODES[status]
    if status in (401, 403):
        # the caller did nothing wrong: it is the engine's own key that the provider refuses
        return 502, "provider_auth"
    if status == 408:
        return 504, "timeout"
    if status == 425:
        return 503, own or "too_early"
    if status in (502, 503, 504):
        return status, own or ("timeout" if status == 504 else "overloaded" if status == 503 else "upstream_502")
    if 520 <= status < 530:
        return 503, "overloaded"
    if 400 <= status < 500:
        return 502, "upstream_4xx"
    return 502, "upstream_500" if status >= 500 else "bad_upstream"


def failure_object(failure: Failure, provider: str | None, request_id: str | None) -> tuple[int, dict[str, Any]]:
    """Status and error object for a provider's failure, in the provider's own words."""
    status, code = status_of(failure)
    kind = failure.type if failure.type and status == failure.status else None
    shown = error_object(
        status, failure.message, code=code, type=kind, param=failure.param, provider=provider, request_id=request_id
    )
    if failure.status is not None and failure.status != status:
        shown["upstream_status"] = failure.status
    return status, shown
