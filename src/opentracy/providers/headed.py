"""A dialect with more headers: what a caller passes as `extra_headers`.

Knows nothing of any provider; everything but the headers is the other dialect's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ..core.wire import Call, Dialect, HttpRequest, Target


class Headed:
    """See `core.wire.Dialect`. A header that is given replaces the dialect's own of that name, in any case."""

    def __init__(self, dialect: Dialect, headers: Mapping[str, str]) -> None:
        self._dialect = dialect
        self._headers = {name.lower(): (name, value) for name, value in headers.items()}
        self.sign = dialect.sign
        self.parse_response = dialect.parse_response
        self.open_stream = dialect.open_stream
        self.parse_error = dialect.parse_error

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        """The dialect's request, with the headers."""
        request = self._dialect.build_request(call, target)
        kept = {k: v for k, v in request.headers.items() if k.lower() not in self._headers}
        return msgspec.structs.replace(request, headers={**kept, **dict(self._headers.values())})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)


def with_headers(target: Target, headers: Mapping[str, str]) -> Target:
    """The same target, called with these headers."""
    return replace(target, dialect=Headed(target.dialect, headers))
