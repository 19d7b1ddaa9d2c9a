"""The dashboard's files at `/`: a fixed set read once, with the headers that keep foreign script out.

Belongs here: serving files by name from the package, and their caching. Not here: what they show. No path of a request
is ever joined to a directory: a name is looked up among the files that exist, or it is not there.
"""

from __future__ import annotations

import mimetypes
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from .errors import Refused

if TYPE_CHECKING:
    from .app import Engine

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
_EMPTY = (
    b"<!doctype html><meta charset=utf-8><title>OpenTracy</title><p>The dashboard is not part of this installation.</p>"
)


@lru_cache(maxsize=1)
def assets() -> dict[str, tuple[bytes, str]]:
    """Name -> (bytes, media type) of every file of the dashboard."""
    found: dict[str, tuple[bytes, str]] = {}
    root = files("opentracy.dashboard") / "static"
    pending = [("", root)] if root.is_dir() else []
    while pending:
        prefix, folder = pending.pop()
        for entry in folder.iterdir():
            name = prefix + entry.name
            if entry.is_dir():
                pending.append((name + "/", entry))
            elif not entry.name.endswith((".py", ".pyc")):
                found[name] = (entry.read_bytes(), _media_type(entry.name))
    return found


def _media_type(name: str) -> str:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind.endswith(("javascript", "json")) else kind


async def index(engine: Engine, request: Request) -> Response:
    """The page itself."""
    body, kind = assets().get("index.html", (_EMPTY, "text/html; charset=utf-8"))
    return _packed(request, "index.html", body, kind, "no-cache")


async def asset(engine: Engine, request: Request) -> Response:
    """A file of the page; other paths below it are the page's own addresses."""
    name = request.path_params["name"]
    found = assets().get(name)
    if found is None or name.endswith(".gz"):
        raise Refused(404, "There is no such file")
    return _packed(request, name, *found, "public, max-age=31536000, immutable")


def _packed(request: Request, name: str, body: bytes, kind: str, caching: str) -> Response:
    """The file, in its compressed form for those who take it."""
    headers = {**_HEADERS, "cache-control": caching, "vary": "accept-encoding"}
    twin = assets().get(f"{name}.gz")
    if twin is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body = twin[0]
        headers["content-encoding"] = "gzip"
    return Response(body, 200, headers, kind)
