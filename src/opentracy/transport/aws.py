"""AWS credentials from where botocore finds them: profiles, SSO, web identity, containers, instance roles.

The optional, impure edge of signing: files and (for some sources) the network. Keys in the environment need none of
it, and without botocore installed there is simply nothing to be found here.

Does not belong here: signing (`core.sigv4`), and which targets want such credentials.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core.wire import Credentials

_HINTS = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
)  # fmt: skip
_FILES = (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config"))
_VENDOR = Path("/sys/devices/virtual/dmi/id/sys_vendor")

_lock = threading.Lock()
_sessions: dict[tuple[str | None, ...], tuple[Any, str | None]] = {}


class Found(NamedTuple):
    """Credentials of this moment and the region that the profile names, if it names one."""

    credentials: Credentials
    region: str | None


def find(env: Mapping[str, str]) -> Found | None:
    """Credentials of botocore's chain, refreshed when they are about to expire; None when there are none.

    `env` is the process's environment, which botocore reads as well. Blocks: files, and for SSO, roles and metadata
    services the network. Asks nobody unless something on this machine says that there is somebody to ask, since a
    metadata service that does not exist costs seconds. ValueError: a chain that is set up, and fails.
    """
    if not _suggested(env):
        return None
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        return None
    watched = (*_HINTS, *(name for name, _ in _FILES))
    key = tuple(env.get(name) for name in watched)
    try:
        with _lock:
            kept = _sessions.get(key)
            if kept is None:
                session = Session(profile=env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE"))
                kept = (session.get_credentials(), session.get_config_variable("region"))
                if kept[0] is not None:
                    _sessions[key] = kept
        source, region = kept
        if source is None:
            return None
        frozen = source.get_frozen_credentials()
    except BotoCoreError as e:
        raise ValueError(f"AWS credentials could not be loaded: {e}") from None
    if not frozen.access_key or not frozen.secret_key:
        return None
    extra = {"access_key": frozen.access_key, "secret_key": frozen.secret_key}
    if frozen.token:
        extra["session_token"] = frozen.token
    return Found(Credentials(None, extra), region)


async def afind(env: Mapping[str, str]) -> Found | None:
    """`find` without blocking the event loop."""
    return await asyncio.to_thread(find, env) if _suggested(env) else None


def forget() -> None:
    """Drops what was found, so that the next call looks again (after a change of profile files)."""
    with _lock:
        _sessions.clear()


def _suggested(env: Mapping[str, str]) -> bool:
    """Whether anything here points to a source of credentials beyond the environment's own keys."""
    if any(env.get(name) for name in _HINTS):
        return True
    for name, default in _FILES:
        if (Path(env.get(name) or default).expanduser()).is_file():
            return True
    try:
        return "amazon" in _VENDOR.read_text(encoding="ascii", errors="replace").lower()
    except OSError:
        return False
