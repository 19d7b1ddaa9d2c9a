"""JSON at the edge: one strict decoder with the few liberties that real providers take.

A byte-order mark, another declared charset and invalid UTF-8 are tolerated; everything else that is not JSON raises
BadJson, whatever the parser underneath would have raised (nesting, huge numbers, surrogates).
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

import msgspec

_decoder = msgspec.json.Decoder()


def _other(value: Any) -> Any:
    """What stands for an object of another library: a dump of itself, or a number; ValueError for anything else."""
    for name, kinds in (("model_dump", dict), ("item", (int, float, bool, str))):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            found = method()
            if isinstance(found, kinds):
                return found
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"a value of type {type(value).__name__} cannot be sent as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_other)
encode = _encoder.encode


class BadJson(ValueError):
    """The bytes are not one JSON document."""


def decode(data: bytes | str) -> Any:
    """The value of a JSON document; BadJson otherwise."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        pass
    except (RecursionError, OverflowError) as e:
        raise BadJson("nested too deeply or too large") from e
    except (ValueError, UnicodeError):
        pass
    text = _mended(data) if isinstance(data, bytes) else data
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, OverflowError, ValueError) as e:
        problem = str(e)[:200]
    if "NaN" in text or "Infinity" in text:
        return _without_constants(text)
    raise BadJson(problem)


def _without_constants(text: str) -> Any:
    """JSON as Python's own encoder writes it: NaN and the infinities read as null, since nobody means a number."""
    import json

    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (RecursionError, OverflowError, ValueError) as e:
        raise BadJson(str(e)[:200]) from None


def _mended(data: bytes) -> str:
    """Text of bytes that are not plain UTF-8: another encoding by its mark, or broken bytes as U+FFFD."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", "replace")
    if data[:3] == codecs.BOM_UTF8:
        data = data[3:]
    elif len(data) >= 4 and data[1] == 0 and data[0] != 0:
        return data.decode("utf-16-le", "replace")
    elif len(data) >= 4 and data[0] == 0 and data[1] != 0:
        return data.decode("utf-16-be", "replace")
    return data.decode("utf-8", "replace")
