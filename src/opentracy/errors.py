"""The exceptions, and how a failure becomes one. They subclass the `openai` package's, which is never imported for it.

    APIError                          everything a provider, the network or the engine did wrong
    +-- APIResponseValidationError    a 200 whose body is not the protocol
    +-- APIConnectionError            no usable answer: DNS, refused, reset, TLS, cut, damaged, too large
    |   +-- APITimeoutError           a deadline passed
    +-- APIStatusError                any other status
        +-- BadRequestError 400, AuthenticationError 401, PermissionDeniedError 403, NotFoundError 404,
            ConflictError 409, UnprocessableEntityError 422, RateLimitError 429, InternalServerError >= 500

Without the `openai` package the same names derive from `urllib.error.URLError` / `HTTPError`. Mistakes made before any
request are plain ValueError or TypeError and stand with whoever checks. Where failures come from: `core.failure`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .core.failure import hide, mask
from .core.wire import Attempt, Failure, Target

if TYPE_CHECKING:
    from ._error_classes import (
        APIConnectionError,
        APIError,
        APIResponseValidationError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConflictError,
        InternalServerError,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        UnprocessableEntityError,
    )

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "InternalServerError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "UnprocessableEntityError",
]

_BY_STATUS = {
    400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
    409: "ConflictError", 422: "UnprocessableEntityError", 429: "RateLimitError",
}  # fmt: skip
_NO_PROTOCOL = frozenset({"bad_body", "empty_body", "empty_stream"})
_BROKEN_PROTOCOL = frozenset({"stream_truncated", "bad_event", "event_limit"})
_OUR_CODES = _NO_PROTOCOL | _BROKEN_PROTOCOL | {"stream_interrupted"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import _error_classes

        return getattr(_error_classes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def class_name(failure: Failure) -> str:
    """Which class a failure belongs to."""
    if failure.kind in ("timeout", "pool"):
        return "APITimeoutError"
    if failure.kind in _NO_PROTOCOL:
        return "APIResponseValidationError"
    if failure.kind in ("status", "redirect", "provider_error"):
        status = failure.status
        if status is None or status < 300:
            return "APIError"
        return _BY_STATUS.get(status) or ("InternalServerError" if status >= 500 else "APIStatusError")
    return "APIError" if failure.kind in _BROKEN_PROTOCOL else "APIConnectionError"


def error_from(
    failure: Failure,
    target: Target | None,
    attempts: Sequence[Attempt],
    secrets: Iterable[str] = (),
    partial: Any = None,
) -> APIError:
    """The exception for a call's last failure. `partial`: what of a stream had been given to the caller."""
    from . import _error_classes

    cls: type[APIError] = getattr(_error_classes, class_name(failure))
    hidden = [*(target.credentials.secrets() if target is not None else ()), *secrets]
    hide(failure, hidden)
    return cls(
        failure.message or failure.kind,
        status_code=failure.status,
        code=failure.code or (failure.kind if failure.kind in _OUR_CODES else None),
        type=failure.type,
        param=failure.param,
        body=masked(failure.body, hidden),
        headers={k: mask(v, hidden) for k, v in failure.headers.items()},
        provider=target.provider if target is not None else None,
        model=target.model if target is not None else None,
        url=target.base_url.partition("?")[0] if target is not None else "",
        attempts=sum(a.sent for a in attempts),
        request_id=failure.request_id,
        retry_after=failure.retry_after,
        partial=partial,
    )


def masked(value: Any, secrets: Sequence[str]) -> Any:
    """A JSON value with every secret in its texts replaced."""
    if isinstance(value, str):
        return mask(value, secrets)
    if isinstance(value, Mapping):
        return {k: masked(v, secrets) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(v, secrets) for v in value]
    return value
