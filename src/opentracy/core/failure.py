"""Which failures are worth another try, how long to wait, and what may be shown of them.

The rules are those of the fault table: status first, the provider's code second, text only where a provider offers
nothing better (a 500 that mentions "policy" must stay an outage). No clock here: `now` is an argument.
"""

from __future__ import annotations

import math
import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from .wire import Failure, HttpResponse, Kind
from .words import OVERFLOW, POLICY, POLICY_CODES, says_overflow, says_policy

MAX_MESSAGE = 2000
RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, *range(520, 530)})
BILLING_CODES = frozenset(
    {"insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "billing_error", "insufficient_balance"}
)
RETRYABLE_KINDS: frozenset[Kind] = frozenset(
    {"dns", "refused", "unreachable", "reset", "eof", "timeout", "pool", "truncated", "encoding", "empty_body",
     "empty_stream", "stream_truncated", "stream_interrupted"}
)  # fmt: skip
MAX_HINT_S = 60.0
_NUMBER = re.compile(r"[ \t]*\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[ \t]*", re.ASCII)

_UNFIT = frozenset({400, 413, 422})  # where a prompt may be what is wrong
_FORBIDDEN = frozenset({400, 403, 422, 451})  # where its content may be


def is_context_overflow(message: str, code: str | None) -> bool:
    """Whether a 400, 413 or 422 says that the prompt does not fit; providers have no common code for it."""
    return code == OVERFLOW or says_overflow(message)


def _known_code(status: int | None, message: str, code: str | None, type: str | None) -> str | None:
    """One code for a prompt that does not fit and one for content that is not allowed, whoever says so.

    A provider's own code for the content stays; `invalid_request_error` and the like are none.
    """
    if code is not None and code in TYPE_STATUS and TYPE_STATUS[code] == 429:
        return code  # a request beyond a rate limit is no prompt beyond a window, though it may say "too large"
    if status in _UNFIT and is_context_overflow(message, code):
        return OVERFLOW
    if status in _FORBIDDEN and (code or "").lower() not in POLICY_CODES and says_policy(message):
        return POLICY if _is_general(code, type) else code
    return code


def _is_general(code: str | None, type: str | None) -> bool:
    """Whether a code says no more than the status does."""
    return code is None or code == type or code in TYPE_STATUS or code.isdigit()


def transport_failure(kind: Kind, message: str, *, sent: bool = True, code: str | None = None) -> Failure:
    """A failure below the protocol: nothing of the provider's to quote."""
    return Failure(kind, message, code=code, retryable=kind in RETRYABLE_KINDS, sent=sent)


def interrupted(failure: Failure) -> Failure:
    """A stream's body broke off: one kind whatever broke it, so that a cut is never mistaken for an end."""
    if failure.kind in ("reset", "eof", "truncated", "bad_response", "encoding"):
        failure.kind, failure.code, failure.retryable = "stream_interrupted", "stream_interrupted", True
    return failure


def status_failure(
    response: HttpResponse,
    message: str,
    *,
    code: str | None = None,
    type: str | None = None,
    param: str | None = None,
    body: Any = None,
    request_id: str | None = None,
    hint: float | None = None,
    now: float | None = None,
) -> Failure:
    """A non-2xx answer. `hint`: a retry delay found in the body; headers win. `now`: for HTTP dates, Unix seconds."""
    status = response.status
    headers = response.headers
    if 300 <= status < 400:
        return Failure(
            "redirect", f"redirect ({status}), which is never followed: {message}"[:MAX_MESSAGE],
            status=status, code=code, body=body, request_id=request_id, headers=headers,
        )  # fmt: skip
    code = _known_code(status, message, code, type)
    passing = status in RETRYABLE_STATUS or (status == 498 and code == "capacity_exceeded")
    retryable = passing and code not in BILLING_CODES and type not in BILLING_CODES
    told = headers.get("x-should-retry", "").strip().lower()
    if told in ("true", "false"):
        retryable = told == "true"
    after = retry_hint(headers, now)
    return Failure(
        "status", message, status=status, code=code, type=type, param=param, body=body, request_id=request_id,
        retryable=retryable, retry_after=hint if after is None else after, headers=headers,
    )  # fmt: skip


# what a provider calls an error inside a 200 -> the status it stands for
TYPE_STATUS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "rate_limit_exceeded": 429,
    "api_error": 500, "server_error": 500, "internal_server_error": 500, "timeout_error": 504,
    "overloaded_error": 529, "insufficient_quota": 429, "invalid_value": 400, "context_length_exceeded": 400,
    "invalid_api_key": 401, "model_not_found": 404,
    "server_is_overloaded": 503, "slow_down": 503, "service_unavailable": 503, "unreachable_backend": 503,
    "too_many_requests_error": 429, "rate_limited": 429, "service_tier_capacity_exceeded": 429,
    "internalServerException": 500, "modelStreamErrorException": 424, "validationException": 400,
    "throttlingException": 429, "serviceUnavailableException": 503, "modelTimeoutException": 408,
    "accessDeniedException": 403, "resourceNotFoundException": 404, "modelNotReadyException": 429,
    "unrecognizedClientException": 403, "expiredTokenException": 403, "serviceQuotaExceededException": 400,
    "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503, "INTERNAL": 500, "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504, "PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401, "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "ABORTED": 409, "CANCELLED": 499, "UNKNOWN": 500,
}  # fmt: skip


def embedded_failure(
    message: str, *, status: int | None, code: str | None = None, type: str | None = None,
    body: Any = None, request_id: str | None = None, param: str | None = None, retry_after: float | None = None,
) -> Failure:  # fmt: skip
    """An error object inside a 200 (body or stream event): class by its numeric code or known type, else plain."""
    if status is None:
        status = next((TYPE_STATUS[w] for w in (code, type) if w in TYPE_STATUS), None)
    if status is None and is_context_overflow(message, code):
        status = 400
    code = _known_code(status, message, code, type)
    if status == 424:
        retryable = True  # Bedrock's modelStreamErrorException is documented as worth a retry
    else:
        retryable = status in RETRYABLE_STATUS if status is not None else True
    if code in BILLING_CODES or type in BILLING_CODES:
        retryable = False
    return Failure(
        "provider_error", message, status=status, code=code, type=type, param=param, body=body,
        request_id=request_id, retryable=retryable, retry_after=retry_after,
    )  # fmt: skip


def retry_hint(headers: Mapping[str, str], now: float | None) -> float | None:
    """Seconds that the answer's headers ask to wait: retry-after-ms, then retry-after (number or HTTP date).

    Unusable values (NaN, infinite, zero, negative, past, unreadable) read as None.
    """
    millis = positive(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = positive(text)
    if seconds is not None or now is None:
        return seconds
    from datetime import UTC
    from email.utils import parsedate_to_datetime  # brings half of the standard library along, for a rare header

    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:  # of the old forms one names no zone; in HTTP every time is GMT
            when = when.replace(tzinfo=UTC)
        wait = when.timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return wait if wait > 0 else None


def positive(text: str | None) -> float | None:
    """The number above 0 that a text is, as a header or JSON writes it; None for anything else.

    `float` alone would read more: `1_0`, `infinity`, the digits of other scripts.
    """
    if text is None or len(text) > 40 or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) and value > 0 else None


def backoff(failure: Failure, retry: int, uniform: float, max_wait: float = MAX_HINT_S) -> float | None:
    """Seconds to wait before retry number `retry` (from 0), or None when the target must be given up.

    `uniform` is a random number in [0, 1). A usable hint up to `max_wait` seconds is waited for with up to 10 % on top.
    """
    hint = failure.retry_after
    if hint is not None and math.isfinite(hint) and hint > 0:
        return None if hint > max_wait else hint * (1 + 0.1 * uniform)
    return float(max(0.05, uniform * min(0.5 * 2**retry, 8.0)))


def mask(text: str, secrets: Iterable[str]) -> str:
    """`text` cut to 2,000 characters, every secret replaced by `***`: whole, cut short at either end, or encoded.

    Of a secret of twelve characters or more the first or last eight suffice; URL-encoded and base64 forms count too.
    """
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
            if len(secret) >= 12:
                for form in _forms(secret):
                    text = _without(text, form)
                    if form[-8:] in text:
                        text = _without(text[::-1], form[::-1])[::-1]
    return text[:MAX_MESSAGE]


def _forms(secret: str) -> tuple[str, ...]:
    """How a secret may be quoted."""
    raw = secret.encode("utf-8", "surrogatepass")
    coded = b2a_base64(raw, newline=False).decode()
    # the last characters of the base64 form depend on what follows the secret
    return tuple(dict.fromkeys((secret, quote(raw, safe=""), coded[: len(raw) // 3 * 4])))


def _without(text: str, secret: str) -> str:
    """`text` without the runs that begin like the secret: a quotation may have been cut off anywhere after that."""
    at = text.find(secret[:8])
    while at >= 0:
        end, most = at + 8, min(len(text), at + len(secret))
        while end < most and text[end] == secret[end - at]:
            end += 1
        text = f"{text[:at]}***{text[end:]}"
        at = text.find(secret[:8], at + 3)
    return text


def hide(failure: Failure, secrets: Iterable[str]) -> None:
    """Takes every secret out of what a provider wrote in a failure; a code is as free a text as a message."""
    known = tuple(secrets)
    failure.message = mask(failure.message, known)
    if failure.code is not None:
        failure.code = mask(failure.code, known)[:200]
    if failure.type is not None:
        failure.type = mask(failure.type, known)[:200]
    if failure.param is not None:
        failure.param = mask(failure.param, known)[:200]


def message_of(body: Any, response: HttpResponse | None = None) -> str:
    """The provider's own words: `error.message`, `message`, `detail` (text or list), `error` as text.

    Else the first 200 characters of the body with its content type.
    """
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, dict):
        error = body.get("error")
        found = error.get("message") if isinstance(error, dict) else None
        for candidate in (found, body.get("message"), body.get("Message"), _detail(body.get("detail")), error):
            if isinstance(candidate, str) and candidate:
                return candidate[:MAX_MESSAGE]
            if isinstance(candidate, (dict, list)) and candidate is not error:
                inner = message_of(candidate)
                if inner:
                    return inner
    if isinstance(body, str) and body and response is None:
        return body[:MAX_MESSAGE]
    if response is None:
        return ""
    text = response.body[:800].decode("utf-8", "replace")[:200]
    if not text:
        return f"HTTP {response.status} without a body"
    return f"HTTP {response.status}, {response.content_type or 'no content type'}: {text}"


def _detail(detail: Any) -> Any:
    """FastAPI's validation list as one sentence."""
    if not isinstance(detail, list):
        return detail
    parts = []
    for item in detail:
        if isinstance(item, dict) and isinstance(item.get("msg"), str):
            where = ".".join(str(x) for x in item.get("loc") or ())
            parts.append(f"{item['msg']} ({where})" if where else item["msg"])
        elif isinstance(item, str):
            parts.append(item)
    return "; ".join(parts)
