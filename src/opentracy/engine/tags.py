"""What a caller says about a request besides the request: session, tags, user, trace context, its own limits.

Pure. Belongs here: the few request headers and body fields that the engine itself reads. Everything else in the headers
stays here: none of them travels to a provider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentracy.traces import TraceRecord

from .errors import Refused

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_KNOWN = (b"traceparent", b"x-opentracy-session", b"x-opentracy-tags", b"x-opentracy-no-store",
          b"x-opentracy-num-retries", b"x-request-timeout-ms")  # fmt: skip
_NAMES = frozenset(_KNOWN)
MAX_TAGS = 32
MAX_TEXT = 256


class Tags:
    """What was said; None where nothing was. `timeout` in seconds."""

    __slots__ = ("metadata", "num_retries", "parent", "session", "store", "tags", "timeout", "user")

    def __init__(self) -> None:
        self.user: str | None = None
        self.session: str | None = None
        self.parent: str | None = None
        self.tags: list[str] | None = None
        self.metadata: dict[str, Any] | None = None
        self.timeout: float | None = None
        self.num_retries: int | None = None
        self.store = True

    def put(self, record: TraceRecord) -> None:
        """Writes them into a trace."""
        record.user_id = self.user
        record.session_id = self.session
        record.parent_id = self.parent
        record.tags = self.tags
        record.metadata = self.metadata
        if not self.store:
            record.content = "none"
            record.request = record.response = None


NOTHING = Tags()  # never changed: what is said with most requests


def says_something(headers: Mapping[bytes, bytes]) -> bool:
    """Whether any of these headers is read here."""
    return not _NAMES.isdisjoint(headers)


def read_tags(headers: Mapping[bytes, bytes], body: Mapping[str, Any]) -> Tags:
    """Refused 400 for a limit that is none; an unreadable traceparent is ignored, as its standard asks."""
    if not says_something(headers) and "user" not in body and "metadata" not in body:
        return NOTHING
    tags = Tags()
    user = body.get("user")
    if user:
        tags.user = user[:MAX_TEXT]
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and metadata:
        tags.metadata = metadata
    for name in _KNOWN:
        value = headers.get(name)
        if value is not None:
            _read(tags, name, value)
    return tags


def _read(tags: Tags, name: bytes, value: bytes) -> None:
    if name == b"traceparent":
        found = _TRACEPARENT.match(value.strip().lower())
        if found and found[1].strip(b"0"):
            tags.parent = found[1].decode()
    elif name == b"x-opentracy-session":
        tags.session = value.decode("utf-8", "replace").strip()[:MAX_TEXT] or None
    elif name == b"x-opentracy-tags":
        given = [t.strip()[:MAX_TEXT] for t in value.decode("utf-8", "replace").split(",")]
        tags.tags = [t for t in given if t][:MAX_TAGS] or None
    elif name == b"x-opentracy-no-store":
        tags.store = value.strip().lower() in (b"0", b"false", b"no", b"")
    elif name == b"x-opentracy-num-retries":
        tags.num_retries = int(_positive(name, value, zero=True))
    else:
        tags.timeout = _positive(name, value) / 1000


def _positive(name: bytes, value: bytes, *, zero: bool = False) -> float:
    text = value.strip()
    if not text.isdigit() or len(text) > 12 or (not zero and not int(text)):
        shown = name.decode()
        raise Refused(400, f"The header {shown} must be a positive whole number", param=shown)
    return float(text)
