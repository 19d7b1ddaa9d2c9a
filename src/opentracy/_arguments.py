"""Checks what the caller passed, and says which argument is wrong. Knows no provider and does not touch the world."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEFAULT_TIMEOUT = 120.0
MAX_CONNECT_S = 5.0
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_NUMBERS = {"temperature": 0.0, "top_p": 0.0, "presence_penalty": -math.inf, "frequency_penalty": -math.inf}  # at least
_USUAL = frozenset({str, int, float, bool, list, dict, tuple})
_NESTED = ("tool_calls", "content", "function_call")  # what of a message may hold objects of other SDKs
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = frozenset({"host", "content-length", "content-encoding", "transfer-encoding", "connection"})
_COUNTS = ("max_tokens", "max_completion_tokens", "n", "top_logprobs")


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another target, with a key and base of its own where the caller gave them."""

    model: str
    api_key: str | None = field(default=None, repr=False)
    api_base: str | None = None


@dataclass(slots=True)
class Place:
    """Where the caller wants the call to go. Not frozen: `check_place` cleans it where it stands."""

    model: str
    api_key: str | None = field(default=None, repr=False)
    api_base: str | None = None
    fallbacks: Any = None
    force_engine: bool = False
    force_direct: bool = False


def check_model(model: Any, name: str = "model") -> str:
    """A non-empty string without control characters."""
    if not isinstance(model, str) or not model.strip() or not model.isprintable():
        raise ValueError(f"{name} must be a non-empty string such as 'openai/gpt-4o-mini', got {model!r}")
    return model


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """The messages as dicts; objects of other SDKs that can dump themselves are taken too."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise ValueError(f"messages must be a list of dicts with 'role' and 'content', got {type(messages).__name__}")
    checked = [_message(message, i) for i, message in enumerate(messages)]
    if not checked:
        raise ValueError("messages must hold at least one message")
    return checked


def _message(given: Any, i: int) -> dict[str, Any]:
    message: Any = given
    if not isinstance(message, dict):
        dump = getattr(message, "model_dump", None)
        if isinstance(message, Mapping):
            message = dict(message)
        elif callable(dump):
            message = dump(exclude_none=True)
        if not isinstance(message, dict):
            raise ValueError(f"messages[{i}] must be a dict with 'role' and 'content', got {type(message).__name__}")
    for name in _NESTED:
        value = message.get(name)
        if type(value) is list or type(value) is tuple:
            if any(not isinstance(item, (dict, str)) for item in value):
                message = {**message, name: [_dumped(item) for item in value]}
        elif value is not None and type(value) is not str and not isinstance(value, dict):
            message = {**message, name: _dumped(value)}
    role = message.get("role")
    if role not in _ROLES:
        raise ValueError(f"messages[{i}].role must be one of {', '.join(sorted(_ROLES))}, got {role!r}")
    content = message.get("content")
    if content is not None and not isinstance(content, (str, list, tuple)):
        raise ValueError(f"messages[{i}].content must be a string or a list of parts, got {type(content).__name__}")
    checked: dict[str, Any] = message
    return checked


def _dumped(value: Any) -> Any:
    """An object of another SDK inside a message, as the dict that it stands for; anything else as it is."""
    dump = getattr(value, "model_dump", None)
    return dump(exclude_none=True) if callable(dump) else value


def check_params(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that were given, those of known type checked; those inside `extra_body` go before the others."""
    given = {k: v for k, v in params.items() if v is not None and (type(v) in _USUAL or not _is_absent(v))}
    if "extra_body" in given:
        given = _with_extra_body(given)
    for name, value in given.items():
        if name in _NUMBERS:
            given[name] = _number(name, value, _NUMBERS[name])
        elif name in _COUNTS:
            given[name] = _count(name, value)
        elif name == "stop":
            _stop(value)
        elif name == "tools":
            _tools(value)
        elif name == "tool_choice" and not isinstance(value, (str, Mapping)):
            raise ValueError(f"tool_choice must be 'auto', 'required', 'none' or a dict, got {type(value).__name__}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    return given


def _is_absent(value: Any) -> bool:
    """What the openai package passes along for "not given"."""
    return type(value).__name__ in ("NotGiven", "Omit") and not value


def _with_extra_body(given: dict[str, Any]) -> dict[str, Any]:
    extra = given.pop("extra_body")
    if not isinstance(extra, Mapping):
        raise ValueError(f"extra_body must be a dict, got {type(extra).__name__}")
    for name in ("model", "messages", "stream"):
        if name in extra:
            raise ValueError(f"extra_body must not hold {name!r}; pass it as an argument of the call")
    return {**given, **{str(k): v for k, v in extra.items() if v is not None}}


def check_headers(headers: Any) -> dict[str, str]:
    """`extra_headers`: names and values that can stand in a request. Values are not quoted: they may be secret."""
    if headers is None or _is_absent(headers):
        return {}
    if not isinstance(headers, Mapping):
        raise ValueError(f"extra_headers must be a dict of strings, got {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise ValueError(f"extra_headers: {name!r} cannot be set")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ValueError(f"extra_headers[{name!r}] must be printable ASCII text")
    return dict(headers)


def _number(name: str, value: Any, low: float) -> Any:
    kind = type(value)
    if kind is not int and kind is not float:
        if kind is bool or not isinstance(value, numbers.Real):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value!r}")
    return value


def _count(name: str, value: Any) -> int:
    least = 0 if name == "top_logprobs" else 1
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def _stop(value: Any) -> None:
    if not isinstance(value, str) and not (isinstance(value, (list, tuple)) and all(isinstance(s, str) for s in value)):
        raise ValueError(f"stop must be a string or a list of strings, got {value!r}")


def _tools(value: Any) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(t, Mapping) for t in value):
        raise ValueError("tools must be a list of dicts, each {'type': 'function', 'function': {'name': ...}}")


def check_timeout(timeout: Any) -> tuple[float, float]:
    """Seconds for connecting and in all, from a number or a pair of them; None means the default.

    The timeout object that the openai package uses is read as the pair of its connect and read limits.
    """
    if timeout is None:
        timeout = DEFAULT_TIMEOUT
    elif hasattr(timeout, "connect") and hasattr(timeout, "read"):
        total = DEFAULT_TIMEOUT if timeout.read is None else timeout.read
        timeout = (total if timeout.connect is None else timeout.connect, total)
    if isinstance(timeout, (tuple, list)):
        if len(timeout) != 2:
            raise ValueError(f"timeout must be seconds or a pair (connect, total), got {timeout!r}")
        connect, total = (_seconds(t) for t in timeout)
        return min(connect, total), total
    total = _seconds(timeout)
    return min(MAX_CONNECT_S, total), total


def _seconds(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"timeout must be a positive number of seconds, got {value!r}")
    return float(value)


def check_retries(num_retries: Any) -> int:
    """A count of retries."""
    if not isinstance(num_retries, int) or isinstance(num_retries, bool) or num_retries < 0:
        raise ValueError(f"num_retries must be an integer of at least 0, got {num_retries!r}")
    return num_retries


def check_fallbacks(fallbacks: Any) -> tuple[Fallback, ...]:
    """Model strings, or dicts with `model` and perhaps `api_key` and `api_base`."""
    if not fallbacks:
        return ()
    if isinstance(fallbacks, (str, bytes, Mapping)) or not isinstance(fallbacks, Sequence):
        raise ValueError(f"fallbacks must be a list of model strings or dicts, got {type(fallbacks).__name__}")
    return tuple([_fallback(f, i) for i, f in enumerate(fallbacks)])


def _fallback(given: Any, i: int) -> Fallback:
    name = f"fallbacks[{i}]"
    if isinstance(given, str):
        return Fallback(check_model(given, name))
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must be a model string or a dict with 'model', got {type(given).__name__}")
    unknown = sorted(set(map(str, given)) - {"model", "api_key", "api_base"})
    if unknown:
        raise ValueError(f"{name} has the unknown field {unknown[0]!r}; known are model, api_key, api_base")
    model = check_model(given.get("model"), f"{name}['model']")
    return Fallback(model, check_text(given.get("api_key"), "api_key"), check_text(given.get("api_base"), "api_base"))


def check_text(value: Any, name: str) -> str | None:
    """A string or nothing; the value itself is not quoted, since it may be a key."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {type(value).__name__}")
    return value or None


def check_place(place: Place) -> None:
    """Every field of its type; `fallbacks` a tuple of `Fallback` afterwards."""
    check_model(place.model)
    place.api_key = check_text(place.api_key, "api_key")
    place.api_base = check_text(place.api_base, "api_base")
    place.fallbacks = check_fallbacks(place.fallbacks)


def check_input(value: Any) -> Any:
    """What is to be embedded: a text, a list of texts, or tokens."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, (str, int, list)) for v in value):
        return list(value)
    raise ValueError("input must be a non-empty string or a non-empty list of strings or tokens")
