"""Errors of the OpenAI family in their true shapes: as a status, inside a 200, inside a stream.

Shapes: `{"error": {message, type, code, param}}`, the same fields un-nested, `{"detail": text or list}`,
`{"error": "text"}`, a plain text. What is retried stands in `core.failure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from ..core.failure import MAX_MESSAGE, embedded_failure, message_of, status_failure
from ..core.jsonio import BadJson, decode
from ..core.wire import Failure, HttpResponse, Target

_ID_HEADERS = (
    "x-request-id", "request-id", "x-kong-request-id", "mistral-correlation-id", "x-ds-trace-id", "apim-request-id",
    "x-generation-id", "x-correlation-id", "cf-ray",
)  # fmt: skip


def request_id(headers: Mapping[str, str]) -> str | None:
    """The id under which the provider knows this request."""
    for name in _ID_HEADERS:
        value = headers.get(name)
        if value:
            return value
    return None


def parse_error(target: Target, response: HttpResponse) -> Failure:
    """A non-2xx answer."""
    try:
        body: Any = decode(response.body) if response.body else None
    except BadJson:
        body = None
    error = _error_object(body)
    return status_failure(
        response,
        _words(body, error) or message_of(None, response),
        code=_text(error.get("code")),
        type=_text(error.get("type")),
        param=_text(error.get("param")),
        body=body,
        request_id=request_id(response.headers) or _told_id(body, error),
        now=_server_time(response.headers),
    )


def found_error(body: Mapping[str, Any], headers: Mapping[str, str]) -> Failure | None:
    """The error that a 200 (its body or one of its events) carries instead of an answer, or None."""
    groq = body.get("x_groq")
    if isinstance(groq, Mapping) and groq.get("error"):  # why a stream was stopped before its end
        return _embedded({"error": groq["error"]}, _error_object({"error": groq["error"]}), headers)
    if body.get("error"):
        error = _error_object(body)
    elif body.get("object") == "error" or ("choices" not in body and ("message" in body or "detail" in body)):
        error = dict(body)
    else:
        return None
    return _embedded(body, error, headers)


def choice_error(choice: Mapping[str, Any], headers: Mapping[str, str]) -> Failure | None:
    """The error that a single choice carries, or its finish word "error"; None when there is none."""
    error = choice.get("error")
    if error:
        return _embedded({"error": error}, _error_object({"error": error}), headers)
    if choice.get("finish_reason") == "error":
        return embedded_failure(
            "the provider ended the answer with finish_reason 'error'", status=None, request_id=request_id(headers)
        )
    return None


def _embedded(body: Mapping[str, Any], error: Mapping[str, Any], headers: Mapping[str, str]) -> Failure:
    names = ("status_code", "code", "status", "raw_status_code")  # in the error, or beside it
    status = next((s for told in (error, body) for name in names if (s := _status(told.get(name)))), None)
    return embedded_failure(
        _words(body, error) or "the provider sent an error without a message",
        status=status,
        code=_text(error.get("code")),
        type=_text(error.get("type")),
        param=_text(error.get("param")),
        body=body,
        request_id=request_id(headers) or _told_id(body, error),
    )


def _told_id(*places: Any) -> str | None:
    """The request's id where it stands in the body."""
    found = (place.get("request_id") for place in places if isinstance(place, Mapping))
    return next((id for id in found if isinstance(id, str) and id), None)


def _error_object(body: Any) -> Mapping[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    while isinstance(error, dict) and isinstance(error.get("error"), dict):  # gateways wrap what they were told
        error = error["error"]
    return error if isinstance(error, dict) else body


def _words(body: Any, error: Mapping[str, Any]) -> str:
    """The provider's own words, with those of the server behind it where it is a gateway."""
    found = error.get("message")
    message = found if isinstance(found, str) and found else message_of(body)
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw and raw not in message:
        message = f"{message}: {raw}"
    return message[:MAX_MESSAGE]


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, (dict, list)) else str(value)


def _server_time(headers: Mapping[str, str]) -> float | None:
    """The server's clock, for hints that are dates: the difference is right even when our clocks differ."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
