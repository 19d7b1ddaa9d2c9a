"""The chat request as most callers send it, in typed form: texts and the common settings, nothing else.

A typed decode checks such a body in the time that an untyped one takes, and the typed value is encoded again without
looking at any of it. Belongs here: what counts as usual, within exactly the bounds that the general check has. Not
here: that check and its words (a body that is not usual is read again, in the general way), and what a provider makes
of a parameter.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_MESSAGES = 100_000

_ToTwo = Annotated[int, Meta(ge=0, le=2)] | Annotated[float, Meta(ge=0, le=2)]
_ToOne = Annotated[int, Meta(ge=0, le=1)] | Annotated[float, Meta(ge=0, le=1)]
_Penalty = Annotated[int, Meta(ge=-2, le=2)] | Annotated[float, Meta(ge=-2, le=2)]
_Count = Annotated[int, Meta(ge=1, le=1 << 53)]


class UsualMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A role and a text."""

    role: Literal["system", "user", "assistant"]
    content: str


class UsualOptions(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """`stream_options`."""

    include_usage: bool | UnsetType = UNSET


class UsualChat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A request of texts; what is UNSET was not given (null counts as given, and as unusual)."""

    model: str
    messages: Annotated[list[UsualMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    temperature: _ToTwo | UnsetType = UNSET
    top_p: _ToOne | UnsetType = UNSET
    max_tokens: _Count | UnsetType = UNSET
    max_completion_tokens: _Count | UnsetType = UNSET
    stop: str | list[str] | UnsetType = UNSET
    presence_penalty: _Penalty | UnsetType = UNSET
    frequency_penalty: _Penalty | UnsetType = UNSET
    seed: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)] | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    stream_options: UsualOptions | UnsetType = UNSET


SETTINGS = tuple(name for name in UsualChat.__struct_fields__ if name not in ("model", "messages", "stream"))
FIELDS = frozenset(UsualChat.__struct_fields__)
_NAMES = tuple(b'"%b"' % name.encode() for name in UsualChat.__struct_fields__)
_escaped = re.compile(rb"\\u00(?:[67]|5[fF])").search
_decode = msgspec.json.Decoder(UsualChat).decode


def read_usual(data: bytes) -> UsualChat | None:
    """The request when it is a usual one; else None. See `doubled`."""
    # `in` would first ask whether the bytes are a number, by way of an exception; a single byte is found much faster
    if data.find(b"\\") >= 0 and data.find(b"\\u0000") >= 0:
        return None  # no text may hold it
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        return None


def wants_usage(chat: UsualChat) -> bool:
    """Whether a stream is to end with a chunk that has the usage."""
    return chat.stream_options is not UNSET and chat.stream_options.include_usage is True


def escaped_name(data: bytes) -> bool:
    """Whether a key of a request may be written with an escape by number of what our names consist of."""
    return _escaped(data) is not None


def more_keys(data: bytes, written: bytes) -> bool:
    """Whether a request may have more keys than what was written of it: each key has its colon, and texts theirs."""
    return data.count(b":") != written.count(b":") or data.find(b"\\u003") >= 0


def doubled(data: bytes, chat: UsualChat) -> bool:
    """Whether a key of the request may stand there twice, which the general check refuses. Texts may hold the words."""
    most = len(chat.messages)
    return (
        escaped_name(data)
        or any(data.count(name) > 1 for name in _NAMES)
        or data.count(b'"role"') > most
        or data.count(b'"content"') > most
    )
