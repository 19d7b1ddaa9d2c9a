"""The short way through this dialect: a usual request goes out and a clean answer comes back as they are.

Only what `openai_request` and `openai_response` would leave alone is taken; tests hold both ways against each other.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta

from ..core.jsonio import encode
from ..core.usage import PlainUsage
from ..core.usual import SETTINGS, UsualChat, UsualOptions
from ..core.wire import Forwarded, Target
from .openai_messages import passes
from .openai_quirks import thinks_in_text
from .openai_request import Ways, ways_of
from .openai_response import CleanChoice

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


_decode = msgspec.json.Decoder(_Clean).decode


class OpenAIForwarding:
    """`core.wire.Forwarding` for one target."""

    __slots__ = ("_touched", "_usage_option", "headers", "model", "url")

    def __init__(self, ways: Ways) -> None:
        self.url = ways.chat_url
        self.headers = ways.headers
        self.model = ways.model
        self._usage_option = ways.quirks.usage_option
        known = SETTINGS if ways.quirks.verbatim else tuple(name for name in SETTINGS if name not in ways.plain)
        self._touched = tuple(name for name in known if name != "stream_options")

    def request(self, chat: UsualChat) -> bytes | None:
        """The body; None where a setting has a rule of its own here."""
        for name in self._touched:
            if getattr(chat, name) is not UNSET:
                return None
        chat.model = self.model
        if chat.stream is True:
            if chat.stream_options is UNSET and self._usage_option:
                chat.stream_options = UsualOptions(True)
            elif chat.stream_options is not UNSET and not self._usage_option:
                return None
        elif chat.stream is not UNSET or chat.stream_options is not UNSET:
            chat.stream = chat.stream_options = UNSET
        return encode(chat)

    def answer(self, body: bytes) -> Forwarded | None:
        """What it says of itself."""
        if b'"_' in body:
            return None
        try:
            found = _decode(body)
        except (ValueError, RecursionError):
            return None
        usage = found.usage
        if not usage.adds_up:
            return None
        return Forwarded(found.model, usage, found.choices[0].finish_reason)


def forwarding(target: Target) -> OpenAIForwarding | None:
    """The short way for a target; None where its messages or answers always need work."""
    ways = ways_of(target)
    quirks = ways.quirks
    if not (quirks.verbatim or passes(quirks)) or thinks_in_text(quirks, target.model):
        return None
    return OpenAIForwarding(ways)
