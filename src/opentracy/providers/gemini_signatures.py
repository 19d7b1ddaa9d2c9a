"""Thought signatures on their way through OpenAI's message form and back.

Gemini signs parts of its answers and wants the signatures back on the same parts. OpenAI's form has no place that every
application echoes but the id of a tool call, so the signature rides there, behind the id of the wire. It stands in
`extra_content.google.thought_signature` as well, the place that Google's own OpenAI-compatible API uses; for text it
stands only there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2s
from typing import Any

_MARK = "~"
_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]+")
_OURS = "call_"

SKIP = "skip_thought_signature_validator"
"""What Google's API takes in place of a signature that a history from elsewhere cannot have."""


def made_id(seed: str) -> str:
    """An id for a call that came without one; `seed` is unique for the call."""
    return _OURS + blake2s(seed.encode("utf-8", "replace"), digest_size=12).hexdigest()


def sealed_id(id: str, signature: str | None) -> str:
    """The id as the caller sees it."""
    return f"{id}{_MARK}{signature}" if signature else id


def extra_content(signature: str) -> dict[str, Any]:
    """The signature in the form of Google's OpenAI-compatible API."""
    return {"google": {"thought_signature": signature}}


def opened_id(id: Any) -> tuple[str, str | None]:
    """(id of the wire, signature) of what `sealed_id` made; any other id comes back as it is."""
    if not isinstance(id, str):
        return "", None
    own, mark, signature = id.partition(_MARK)
    if mark and own and _BASE64.fullmatch(signature):
        return own, signature
    return id, None


def wire_id(id: str) -> str | None:
    """The id to send: one that we made was never on the wire."""
    return None if not id or id.startswith(_OURS) else id


def signature_of(holder: Mapping[str, Any]) -> str | None:
    """The signature on a message or tool call, wherever applications keep it."""
    extra = holder.get("extra_content")
    google = extra.get("google") if isinstance(extra, Mapping) else None
    if isinstance(google, Mapping) and isinstance(google.get("thought_signature"), str):
        return google["thought_signature"] or None
    for source in (holder.get("provider_specific_fields"), holder):
        if isinstance(source, Mapping) and isinstance(source.get("thought_signature"), str):
            return source["thought_signature"] or None
    return None
