"""The short way through this dialect: a usual request goes out and a clean answer comes back as they are.

Only what `openai_request` and `openai_response` would leave alone is taken; tests hold both ways against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..core.forwarding import Asked
from ..core.jsonio import encode
from ..core.usage import PlainUsage
from ..core.usual import FIELDS, SETTINGS, UsualChat, UsualOptions
from ..core.wire import HttpHead, HttpRequest, Target
from .insides import is_text
from .openai_clean import CleanStream
from .openai_messages import passes
from .openai_quirks import thinks_in_text
from .openai_request import Ways, adapted, ways_of
from .openai_response import CleanChoice, Tier

_Text = Annotated[str, Meta(min_length=1)]


class _Clean(msgspec.Struct, gc=False):
    """What an answer looks like in which nothing is to be mended; other fields may stand beside these."""

    id: _Text
    object: Literal["chat.completion"]
    created: int
    model: _Text
    choices: tuple[CleanChoice]
    usage: PlainUsage
    error: None = None
    service_tier: Tier | None = None
    # ours, which would stand there twice
    provider: UnsetType = msgspec.field(default=UNSET, name="_provider")
    cost: UnsetType = msgspec.field(default=UNSET, name="_cost")
    latency: UnsetType = msgspec.field(default=UNSET, name="_latency_ms")
    routing: UnsetType = msgspec.field(default=UNSET, name="_routing")

    @property
    def finish_reason(self) -> str:
        return self.choices[0].finish_reason


_decode = msgspec.json.Decoder(_Clean).decode


class OpenAIForwarding:
    """`core.forwarding.Forwarding` for one target."""

    __slots__ = ("_model", "_quirks", "_touched", "_usage_option", "model", "streamed", "whole")

    events = "text/event-stream"
    verbatim = True

    def __init__(self, ways: Ways, target: Target) -> None:
        self.whole = self.streamed = HttpRequest("POST", ways.chat_url, ways.headers, b"")
        self.model = ways.model
        self._quirks, self._model = ways.quirks, target.model
        self._usage_option = ways.quirks.usage_option
        known = SETTINGS if ways.quirks.verbatim else tuple(name for name in SETTINGS if name not in ways.plain)
        self._touched = tuple(name for name in known if name != "stream_options")

    def request(self, chat: UsualChat) -> tuple[bytes, tuple[str, ...]] | None:
        """The body, and the settings that are not in it; None where a setting becomes one that is not usual."""
        dropped = self._adapted(chat) if self._touched else ()
        if dropped is None:
            return None
        chat.model = self.model
        if chat.stream is True:
            if chat.stream_options is UNSET and self._usage_option:
                chat.stream_options = UsualOptions(True)
            elif chat.stream_options is not UNSET and not self._usage_option:
                return None
        elif chat.stream is not UNSET or chat.stream_options is not UNSET:
            chat.stream = chat.stream_options = UNSET
        return encode(chat), dropped

    def _adapted(self, chat: UsualChat) -> tuple[str, ...] | None:
        """Settings with a rule of their own here are written as it says."""
        for name in self._touched:
            if getattr(chat, name) is not UNSET:
                break
        else:
            return ()
        given = {name: value for name in self._touched if (value := getattr(chat, name)) is not UNSET}
        found, dropped = adapted(given, self._model, self._quirks)
        if not FIELDS.issuperset(found):
            return None
        for name in given:
            setattr(chat, name, UNSET)
        for name, value in found.items():
            setattr(chat, name, value)
        return dropped

    def answer(self, body: bytes, headers: Mapping[str, str], asked: Asked) -> tuple[_Clean, bytes] | None:
        """What it says of itself, and the same bytes."""
        try:
            found = _decode(body)
        except (ValueError, RecursionError):
            return None
        return (found, body) if found.usage.adds_up and is_text(body) else None

    def stream(self, head: HttpHead, asked: Asked) -> CleanStream:
        """A stream that is about to begin."""
        return CleanStream()


def forwarding(target: Target) -> OpenAIForwarding | None:
    """The short way for a target; None where its messages or answers always need work."""
    ways = ways_of(target)
    quirks = ways.quirks
    if not (quirks.verbatim or passes(quirks)) or thinks_in_text(quirks, target.model):
        return None
    return OpenAIForwarding(ways, target)
