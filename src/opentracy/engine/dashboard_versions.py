"""The versions of the router: which there are, what another one would do, and putting one of them in use.

Belongs here: HTTP around `opentracy.routing.promote`. Not here: training a new one (the command line).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from opentracy.traces import Filters

from .configfile import ConfigError
from .dashboard_audit import note
from .dashboard_routing import WEEK_MS, decisions
from .errors import Refused
from .route import prompt_of
from .routes import json_body, json_response
from .traces import off_loop, reader_of

if TYPE_CHECKING:
    from opentracy.routing import Candidate, Decision, Router

    from .app import Engine

PROMPTS = 300  # that two versions are compared on
EXAMPLES = 8

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


# ---------------------------------------------------------------- side by side
async def compare(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/routing/compare?version=`: what another version would have done with last week's prompts.

    {"version", "current", "prompts", "moved": share that another model would answer, "before" and "after": {"cost":
    mean USD, "quality": mean, each by its own estimates, "shares"}, "examples": [{"prompt", "before", "after"}]}
    """
    reader = reader_of(engine)
    folder = _folder(engine, request.query_params.get("version"))
    state = engine.state
    if state.router is None:
        raise Refused(409, state.router_problem or "No router is loaded")
    now, candidates = state.router, state.candidates()
    await engine.traces.current()

    def work() -> dict[str, Any]:
        from opentracy.routing import load

        newest = reader.current().execute("SELECT max(ts_ms) FROM traces").fetchone()[0] or 0
        records, _ = decisions(reader, Filters(since=newest - WEEK_MS), PROMPTS, bodies=True)
        prompts = [text for r in records[:PROMPTS] if (text := _prompt(r.request))]
        return side_by_side(now, load(folder), prompts, candidates, state.auto_default, state.config.auto.cost_weight)

    try:
        return json_response(await off_loop(work))
    except (OSError, ValueError) as e:
        raise Refused(400, f"The versions cannot be compared: {e}", code="invalid_router") from None


def side_by_side(
    now: Router,
    other: Router,
    prompts: Sequence[str],
    candidates: Sequence[Candidate],
    default: str | None,
    weight: float,
) -> dict[str, Any]:
    """Both routers on the same prompts, as `compare` answers it."""
    pairs = []
    for prompt in prompts:
        both = [r.decide(prompt, candidates=candidates, default=default, cost_weight=weight) for r in (now, other)]
        pairs.append((prompt, both[0], both[1]))
    moved = [(prompt, a.model, b.model) for prompt, a, b in pairs if a.model != b.model]
    return {
        "version": other.version, "current": now.version, "prompts": len(pairs),
        "moved": len(moved) / len(pairs) if pairs else 0.0,
        "before": _means([a for _, a, _ in pairs]), "after": _means([b for _, _, b in pairs]),
        "examples": [{"prompt": prompt[:300], "before": a, "after": b} for prompt, a, b in moved[:EXAMPLES]],
    }  # fmt: skip


def _means(made: Sequence[Decision]) -> dict[str, Any]:
    """Means over the decisions whose figures are known, and who would answer how often."""
    chosen = [s for d in made for s in d.scores if s.model == d.model]
    costs = [s.cost for s in chosen if s.cost is not None]
    marks = [s.quality for s in chosen if s.quality is not None]
    return {
        "cost": sum(costs) / len(costs) if costs else None,
        "quality": sum(marks) / len(marks) if marks else None,
        "shares": {name: n / len(made) for name, n in Counter(d.model for d in made).most_common()},
    }


def _prompt(body: bytes | None) -> str:
    """The last user turn of a stored request; nothing when it is not kept whole."""
    try:
        return prompt_of(json.loads(body or b"")["messages"])[0]
    except (ValueError, KeyError, TypeError):
        return ""


def _folder(engine: Engine, wanted: Any) -> Path:
    """Where a version of the engine's own router lies. Raises Refused."""
    source = engine.state.config.auto.router
    if source == "default":
        raise Refused(409, _BUNDLED, code="bundled_router")
    known = {p.name: p for p in (Path(source) / "versions").glob("[!.]*")}
    folder = known.get(wanted) if isinstance(wanted, str) else None
    if folder is None:
        raise Refused(404, "There is no such version of the router", code="not_found", param="version")
    return folder


# ---------------------------------------------------------------- change
async def promote(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/routing/promote` `{version}`: another version decides from the next request on."""
    wanted = (await json_body(request)).get("version")
    folder, source = _folder(engine, wanted), engine.state.config.auto.router

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
