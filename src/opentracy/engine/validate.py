"""What may stand in a chat or embedding request: types, ranges, and what is never taken from a body.

Pure. Belongs here: the 400s, each naming the field. Not here: what a provider makes of a parameter; unknown fields are
passed on untouched, since tomorrow's parameters must work today.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from opentracy.core.usual import escaped_name

from .errors import Refused

MAX_MESSAGES = 100_000
_decode = msgspec.json.Decoder().decode

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_TEXT_ROLES = ROLES - {"tool"}

# where a call goes and who pays for it is the engine's business, never the request's
FORBIDDEN = frozenset({
    "api_base", "base_url", "api_key", "api_keys", "extra_headers", "default_headers", "headers", "proxy", "proxies",
    "http_client", "azure_endpoint", "api_version", "organization", "custom_llm_provider", "aws_access_key_id",
    "aws_secret_access_key", "aws_session_token", "aws_bedrock_runtime_endpoint", "vertex_credentials", "endpoint_url",
})  # fmt: skip
_FORBIDDEN_BYTES = tuple(name.encode() for name in sorted(FORBIDDEN))


def decode_body(data: bytes) -> dict[str, Any]:
    """The request's JSON object; Refused 400 for whatever is none, 400 with `param` where a field is to blame."""
    try:
        value = _decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as e:
        raise Refused(400, f"The body is not valid JSON: {str(e)[:200]}", code="invalid_json", param="body") from None
    if not isinstance(value, dict):
        raise Refused(400, "The body must be a JSON object", code="invalid_json", param="body")
    if _may_repeat(data, value):
        _refuse_doubles(data)
    if data.find(b"\\u0000") >= 0:
        where = _nul(value, "")
        if where is not None:
            raise Refused(400, f"{where} contains a NUL character", param=where)
    return value


@lru_cache(maxsize=1024)
def _quoted(name: str) -> bytes:
    return b'"%b"' % name.encode("utf-8", "surrogatepass")


def _may_repeat(data: bytes, body: dict[str, Any]) -> bool:
    """Whether a key of the body, or a message's role or content, is written more often than it can be. Cheap."""
    for name in body:
        if data.count(_quoted(name)) > 1:
            return True
    messages = body.get("messages")
    most = len(messages) if isinstance(messages, list) else 0
    return escaped_name(data) or data.count(b'"role"') > most or data.count(b'"content"') > most


def _refuse_doubles(data: bytes) -> None:
    """A key that stands twice reads differently in every parser, so it is refused."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise Refused(400, f"{twice} stands twice in one object", code="invalid_json", param=twice)
        return found

    try:
        json.loads(data, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not valid JSON", code="invalid_json", param="body") from None


def _nul(value: Any, where: str) -> str | None:
    if isinstance(value, str):
        return where or "body" if "\0" in value else None
    if isinstance(value, dict):
        for key, below in value.items():
            if "\0" in key:
                return where or "body"
            found = _nul(below, f"{where}.{key}" if where else key)
            if found:
                return found
    elif isinstance(value, list):
        for index, below in enumerate(value):
            found = _nul(below, f"{where}[{index}]")
            if found:
                return found
    return None


def _bad(field: str, what: str) -> NoReturn:
    raise Refused(400, f"{field} must be {what}", param=field, code="invalid_value")


def _number(low: float, high: float) -> Callable[[str, Any], None]:
    def check(field: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            _bad(field, f"a number from {low:g} to {high:g}")

    return check


def _integer(low: int, high: int) -> Callable[[str, Any], None]:
    def check(field: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            _bad(field, f"an integer of at least {low}" if high >= 1 << 53 else f"an integer from {low} to {high}")

    return check


def _kind(kind: type | tuple[type, ...], what: str) -> Callable[[str, Any], None]:
    def check(field: str, value: Any) -> None:
        if not isinstance(value, kind):
            _bad(field, what)

    return check


def _list_of_objects(field: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        _bad(field, "a list of objects")


def _stop(field: str, value: Any) -> None:
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(s, str) for s in value)):
        _bad(field, "a string or a list of strings")


def _tools(field: str, value: Any) -> None:
    _list_of_objects(field, value)
    for index, tool in enumerate(value):
        function = tool.get("function")
        # tools of a provider's own may have no type, but are objects under their name
        own = function is None and any(isinstance(inner, dict) for inner in tool.values())
        kind = tool.get("type", "" if own else None)
        if not isinstance(kind, str):
            _bad(f"{field}[{index}].type", "a string")
        if kind == "function" and not (isinstance(function, dict) and isinstance(function.get("name"), str)):
            _bad(f"{field}[{index}].function.name", "a string")


def _metadata(field: str, value: Any) -> None:
    if not isinstance(value, dict):
        _bad(field, "an object")
    if len(value) > 64:
        _bad(field, "an object of at most 64 keys")
    _refuse_forbidden(value, field)


_flag = _kind(bool, "true or false")
_logprobs = _kind((bool, int), "true or false")  # a number at Together
_object = _kind(dict, "an object")
_text = _kind(str, "a string")
_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    "stream": _flag,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "n": _integer(1, 128),
    "max_tokens": _integer(1, 1 << 53),
    "max_completion_tokens": _integer(1, 1 << 53),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "top_logprobs": _integer(0, 20),
    "seed": _integer(-(1 << 63), (1 << 64) - 1),
    "logprobs": _logprobs,
    "parallel_tool_calls": _flag,
    "store": _flag,
    "stop": _stop,
    "tools": _tools,
    "tool_choice": _kind((str, dict), "a string or an object"),
    "response_format": _object,
    "stream_options": _object,
    "logit_bias": _object,
    "user": _text,
    "reasoning_effort": _text,
    "service_tier": _text,
    "metadata": _metadata,
}
_HANDLED = frozenset({"model", "messages"})


def check_chat(body: dict[str, Any]) -> None:
    """Refused 400 naming the first field that cannot be."""
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        _bad("model", "a non-empty string")
    for field, value in body.items():
        check = _CHECKS.get(field)
        if check is not None:
            if value is not None:
                check(field, value)
        elif field not in _HANDLED:
            _unknown(field, value)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _bad("messages", "a non-empty list")
    if len(messages) > MAX_MESSAGES:
        _bad("messages", f"a list of at most {MAX_MESSAGES} messages")
    for index, message in enumerate(messages):
        # nearly every message is a role and a text
        if (
            type(message) is dict
            and len(message) == 2
            and type(message.get("content")) is str
            and type(role := message.get("role")) is str
            and role in _TEXT_ROLES
        ):
            continue
        _message(index, message)


def _message(index: int, message: Any) -> None:
    if not isinstance(message, dict):
        _bad(f"messages[{index}]", "an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        _bad(f"messages[{index}].role", f"one of {', '.join(sorted(ROLES))}")
    content = message.get("content")
    if type(content) is not str:
        _content(f"messages[{index}].content", content, role, message)
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        _bad(f"messages[{index}].tool_call_id", "a string: the id of the call that this result answers")
    calls = message.get("tool_calls")
    if calls is not None:
        _list_of_objects(f"messages[{index}].tool_calls", calls)


def _content(field: str, content: Any, role: str, message: Mapping[str, Any]) -> None:
    if content is None:
        if role in ("assistant", "function"):
            return
        _bad(field, "a string or a list of content parts")
    if not isinstance(content, list):
        _bad(field, "a string or a list of content parts")
    for number, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            _bad(f"{field}[{number}]", "an object with a type")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            _bad(f"{field}[{number}].text", "a string")


def _unknown(field: str, value: Any) -> None:
    """A field that is passed on as it is, unless it would steer the engine."""
    if field in FORBIDDEN:
        raise Refused(400, f"{field} is never taken from a request; the engine's configuration decides", param=field)
    if isinstance(value, dict | list) or (isinstance(value, str) and value[:1] in "{["):
        _refuse_forbidden(value, field)


def _refuse_forbidden(value: Any, where: str, depth: int = 0) -> None:
    """Looks into nested values and into JSON inside strings for what would steer the engine."""
    if depth > 16:
        raise Refused(400, f"{where} is nested too deeply", param=where)
    if isinstance(value, dict):
        for key, below in value.items():
            if key in FORBIDDEN:
                text = f"{where}.{key} is never taken from a request; the engine's configuration decides"
                raise Refused(400, text, param=f"{where}.{key}")
            _refuse_forbidden(below, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            _refuse_forbidden(below, f"{where}[{index}]", depth + 1)
    elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        data = value.encode("utf-8", "surrogatepass")
        if any(name in data for name in _FORBIDDEN_BYTES):
            try:
                inner = _decode(data)
            except (msgspec.DecodeError, ValueError, RecursionError):
                return
            _refuse_forbidden(inner, where, depth + 1)


def check_embedding(body: dict[str, Any]) -> None:
    """As `check_chat`, for embeddings."""
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        _bad("model", "a non-empty string")
    given = body.get("input")
    texts = isinstance(given, str) or (
        isinstance(given, list) and bool(given) and (all(isinstance(x, str) for x in given) or _token_lists(given))
    )
    if not texts or given == "":
        _bad("input", "a non-empty string, a list of strings or lists of token ids")
    for field, value in body.items():
        if field == "dimensions" and value is not None:
            _integer(1, 1 << 20)(field, value)
        elif field in ("encoding_format", "user") and value is not None:
            _text(field, value)
        elif field == "metadata" and value is not None:
            _metadata(field, value)
        elif field not in ("model", "input", "dimensions", "encoding_format", "user"):
            _unknown(field, value)


def _token_lists(given: list[Any]) -> bool:
    def ids(items: Any) -> bool:
        return isinstance(items, list) and bool(items) and all(type(i) is int for i in items)

    return ids(given) or all(ids(item) for item in given)
