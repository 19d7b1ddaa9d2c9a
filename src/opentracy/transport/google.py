"""Google access tokens from where google-auth finds them: service account files, gcloud's login, workload identity.

The optional, impure edge of calling Vertex AI: files, and the network where tokens are given out. A token in the
environment needs none of it, and without google-auth installed there is simply nothing to be found here.

Does not belong here: how a token travels (the dialect), and which targets want one.
"""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core.wire import Credentials

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_GCLOUD = "~/.config/gcloud/application_default_credentials.json"
_HINTS = ("CLOUDSDK_CONFIG", "GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
_VENDOR = Path("/sys/devices/virtual/dmi/id/sys_vendor")
_TIMEOUT_S = 10.0

_lock = threading.Lock()
_found: dict[tuple[str | None, ...], tuple[Any, str | None]] = {}


class Found(NamedTuple):
    """A token of this moment and the project that the credentials belong to, if they name one."""

    credentials: Credentials
    project: str | None


def find(env: Mapping[str, str]) -> Found | None:
    """A token of google-auth's application default credentials, renewed when it has expired; None when there is none.

    `env` is the process's environment, which google-auth reads as well. Blocks: files, and the network for a new token.
    Asks nobody unless something on this machine says that there is somebody to ask. ValueError: credentials that are
    set up, and fail.
    """
    if not _suggested(env):
        return None
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        return None
    key = tuple(env.get(name) for name in (_FILE, *_HINTS))
    send: Any = _request
    try:
        with _lock:  # one thread renews, the others wait for its token
            kept = _found.get(key)
            if kept is None:
                source, project = google.auth.default(scopes=_SCOPES, request=send)
                kept = _found[key] = (source, project)
            source, project = kept
            if not source.valid:
                source.refresh(send)
    except GoogleAuthError as e:
        raise ValueError(f"Google credentials could not be loaded: {e}") from None
    return Found(Credentials(source.token), project) if source.token else None


async def afind(env: Mapping[str, str]) -> Found | None:
    """`find` without blocking the event loop."""
    return await asyncio.to_thread(find, env) if _suggested(env) else None


def forget() -> None:
    """Drops what was found, so that the next call looks again (after a change of files)."""
    with _lock:
        _found.clear()


def _suggested(env: Mapping[str, str]) -> bool:
    """Whether anything here points to a source of credentials."""
    if env.get(_FILE) or any(env.get(name) for name in _HINTS) or Path(_GCLOUD).expanduser().is_file():
        return True
    try:
        return "google" in _VENDOR.read_text(encoding="ascii", errors="replace").lower()
    except OSError:
        return False


class _Response:
    """What google-auth wants to see of an HTTP answer."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data


def _request(
    url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **_: Any
) -> _Response:
    """google-auth's transport over the standard library, so that it needs no HTTP package of its own."""
    from google.auth import exceptions

    unreachable: Any = exceptions.TransportError
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)  # noqa: S310 (google-auth's URL)
    try:
        with urllib.request.urlopen(request, timeout=timeout or _TIMEOUT_S) as answer:  # noqa: S310
            return _Response(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as e:
        with e:
            return _Response(e.code, dict(e.headers), e.read())
    except (OSError, ValueError) as e:
        raise unreachable(str(e)) from e
