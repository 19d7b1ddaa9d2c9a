"""Credentials of a cloud's own chain (profiles, roles, service accounts), by the name that a provider's row gives it.

What the chains are made of stands in `aws` and `google`; both are loaded only when one is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..core.wire import Credentials

Found = tuple[Credentials, str | None]
"""Credentials, and the region or project that they come with."""


def find(chain: str, env: Mapping[str, str]) -> Found | None:
    """Credentials of this moment, None when there are none. May read files and, for some sources, ask the network."""
    if chain == "aws":
        from . import aws

        return aws.find(env)
    if chain == "google":
        from . import google

        return google.find(env)
    raise ValueError(f"there is no credential chain {chain!r}")


async def afind(chain: str, env: Mapping[str, str]) -> Found | None:
    """The same without blocking the event loop."""
    return await asyncio.to_thread(find, chain, env)
