"""The versions of the router: which there are, and putting one of them in use.

Belongs here: HTTP around `opentracy.routing.promote`. Not here: training a new one (the command line).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .configfile import ConfigError
from .dashboard_audit import note
from .errors import Refused
from .routes import json_body, json_response
from .traces import off_loop

if TYPE_CHECKING:
    from .app import Engine

_BUNDLED = (
    "This is the router that comes with the package. Train one of your own with "
    "`opentracy routing train`, name its folder in auto.router, and its versions appear here."
)
_OWN = "A version is made by `opentracy routing learn`; the one before it stays and can be used again."


class _Manifest(msgspec.Struct):
    """What the list shows of a router.json."""

    version: str
    rows: int
    models: list[str]
    trained: str = ""
    parent: str | None = None


async def listing(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/routing/versions`: newest first."""
    source = engine.state.config.auto.router
    router = engine.state.router
    current = router.version if router is not None else None

    def work() -> list[dict[str, Any]]:
        if source == "default":
            return [] if router is None else [_row(router.artifact.manifest, 0, current)]
        folders = [Path(source), *(Path(source) / "versions").glob("[!.]*")]
        found: dict[str, dict[str, Any]] = {}
        for folder in folders:
            path = folder / "router.json"
            if path.exists():
                manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
                made = path.stat().st_mtime_ns // 1_000_000
                found.setdefault(manifest.version, _row(manifest, made, current))
        return sorted(found.values(), key=lambda row: -row["created_ms"])

    bundled = source == "default"
    return json_response(
        {"versions": await off_loop(work), "can_change": not bundled, "note": _BUNDLED if bundled else _OWN}
    )


def _row(manifest: Any, made_ms: int, current: str | None) -> dict[str, Any]:
    after = f"after {manifest.parent}" if manifest.parent else ""
    return {
        "version": manifest.version, "current": manifest.version == current, "created_ms": made_ms,
        "note": after or str(manifest.trained)[:120], "rows": manifest.rows, "models": len(manifest.models),
    }  # fmt: skip


async def promote(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/routing/promote` `{version}`: another version decides from the next request on."""
    wanted = (await json_body(request)).get("version")
    source = engine.state.config.auto.router
    if source == "default":
        raise Refused(409, _BUNDLED, code="bundled_router")
    known = {p.name: p for p in (Path(source) / "versions").glob("[!.]*")}
    folder = known.get(wanted) if isinstance(wanted, str) else None
    if folder is None:
        raise Refused(404, "There is no such version of the router", code="not_found", param="version")

    def work() -> Any:
        from opentracy.routing import artifact, promote

        promote.promote(Path(source), artifact.read(folder))
        return engine.fresh_state()

    try:
        fresh = await off_loop(work)
    except (ConfigError, OSError, ValueError) as e:
        raise Refused(400, f"The router was not changed: {e}", code="invalid_router") from None
    engine.swap(fresh)
    engine.tell_siblings()
    note(engine, request, "router changed", str(wanted))
    return json_response({"version": fresh.router.version if fresh.router is not None else None})
