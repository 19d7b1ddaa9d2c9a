"""Editing aliases: what a change would do, shown before it is made; then the file is written and read again.

Belongs here: the text of one table in the configuration file, replaced without touching anything else in it. Not here:
what an alias means (`state`), reading the file (`configfile`).
"""

from __future__ import annotations

import difflib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.pricing import price_of
from opentracy.providers import registry
from opentracy.traces import Filters, Reader
from opentracy.traces.compile import Query
from opentracy.traces.filters import Condition
from opentracy.traces.stats import answer

from .config import MAX_FALLBACKS
from .configfile import ConfigError, parse
from .dashboard_audit import note
from .errors import Refused
from .routes import json_body, json_response
from .traces import off_loop

if TYPE_CHECKING:
    from .app import Engine

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_TABLE = re.compile(r"^[ \t]*\[")
_WEEK_MS = 7 * 86_400_000


# ---------------------------------------------------------------- text
def table(alias: dict[str, Any]) -> str:
    """The TOML of an alias. JSON's strings are TOML's basic strings."""
    lines = [f"[aliases.{_key(alias['name'])}]", f"model = {_string(alias['model'])}"]
    if alias["fallbacks"]:
        lines.append(f"fallbacks = [{', '.join(map(_string, alias['fallbacks']))}]")
    if alias["num_retries"] is not None:
        lines.append(f"num_retries = {alias['num_retries']}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _string(name)


def _string(text: str) -> str:
    escaped = "".join(
        f"\\u{ord(c):04x}" if c < " " or c == "\x7f" else c for c in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'


def put(text: str, alias: dict[str, Any]) -> str:
    """The file with the alias's table replaced, or added at the end; every other line stays as it is."""
    lines = text.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if _is_header(line, alias["name"])), None)
    if start is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return text + gap + table(alias)
    end = next((i for i in range(start + 1, len(lines)) if _TABLE.match(lines[i])), len(lines))
    kept = end
    while kept > start + 1 and (not lines[kept - 1].strip() or lines[kept - 1].lstrip().startswith("#")):
        kept -= 1  # blank lines and comments above the next table belong to that one
    extra = [line for line in lines[start + 1 : kept] if re.match(r"\s*timeout\s*=", line)]
    return "".join([*lines[:start], table(alias), *extra, *lines[kept:]])


def _is_header(line: str, name: str) -> bool:
    found = re.match(r"""^\s*\[\s*aliases\s*\.\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*\]""", line)
    return found is not None and name in found.groups()


# ---------------------------------------------------------------- requests
async def preview(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/aliases/preview`: targets, whether each can be called; the patch; how often it was asked."""
    alias = _checked(await json_body(request))
    reader = engine.traces.reader
    old = _text(engine) or ""
    new = put(old, alias)
    _parsed(engine, new)
    used = await off_loop(lambda: _used(reader, alias["name"])) if reader is not None else 0
    return json_response(
        {
            "targets": [_target(engine, model) for model in (alias["model"], *alias["fallbacks"])],
            "diff": _diff(old, new),
            "used": used,
            "writable": _writable(engine),
            "path": engine.config_path,
        }
    )


async def save(engine: Engine, request: Request) -> Response:
    """`PUT /v1/dashboard/aliases/{name}`: writes the file and reloads every worker; on a fault it is as before."""
    alias = _checked({**(await json_body(request)), "name": request.path_params["name"]})
    if not _writable(engine) or engine.config_path is None:
        raise Refused(409, "This engine has no configuration file that it may write", code="read_only_config")
    path = Path(engine.config_path)
    old = _text(engine) or ""
    new = put(old, alias)
    _parsed(engine, new)
    await off_loop(lambda: _write(path, new))
    try:
        fresh = await off_loop(engine.fresh_state)
    except (ConfigError, OSError, ValueError) as e:
        await off_loop(lambda: _write(path, old))
        raise Refused(400, f"The configuration was not changed: {e}", code="invalid_config") from None
    engine.swap(fresh)
    engine.tell_siblings()
    note(engine, request, "alias saved", f"{alias['name']} -> {', '.join([alias['model'], *alias['fallbacks']])}")
    return json_response({"name": alias["name"], "config_hash": fresh.hash})


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    name, model, fallbacks, retries = (body.get(k) for k in ("name", "model", "fallbacks", "num_retries"))
    if not isinstance(name, str) or not NAME.match(name):
        raise Refused(400, "An alias's name has letters, digits, . _ - and at most 64 of them", param="name")
    names = [model, *(fallbacks if isinstance(fallbacks, list) else [])]
    if not all(isinstance(m, str) and 0 < len(m) <= 256 for m in names) or len(names) > 1 + MAX_FALLBACKS:
        raise Refused(400, f"Give a model, and at most {MAX_FALLBACKS} fallbacks", param="model")
    if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int)):
        raise Refused(400, "num_retries must be a whole number, or null for the default", param="num_retries")
    return {"name": name, "model": model, "fallbacks": names[1:], "num_retries": retries}


def _parsed(engine: Engine, text: str) -> None:
    """Refused 400 with the file's own words when the new text cannot be a configuration."""
    try:
        parse(text, {}, name=engine.config_path or "opentracy.toml")
    except ConfigError as e:
        raise Refused(400, str(e), code="invalid_config") from None


def _target(engine: Engine, model: str) -> dict[str, Any]:
    found: dict[str, Any] = {"model": model, "callable": False, "reason": None, "input": None, "output": None}
    if model in engine.state.config.aliases:
        return {**found, "callable": True, "reason": "another alias"}
    try:
        row, bare = registry.split(model)
        engine.state.target(model)
        found["callable"] = True
    except ValueError as e:
        return {**found, "reason": str(e).partition(", or set OPENTRACY")[0][:200]}
    price = price_of(row.name, bare)
    if price is not None:
        rates = price.usd_per_million()
        found["input"], found["output"] = rates.get("input"), rates.get("output")
    return found


def _used(reader: Reader, name: str) -> int:
    """Requests for this name in the last week."""
    since = time.time_ns() // 1_000_000 - _WEEK_MS
    filters = Filters((Condition("requested", "=", (name,)),), since=since)
    return int(str(answer(reader, Query(("requests",), filters=filters))[0]["requests"]))


def _diff(old: str, new: str) -> list[dict[str, str]]:
    kinds = {"  ": "same", "+ ": "added", "- ": "removed"}
    lines = [x for x in difflib.ndiff(old.splitlines(), new.splitlines()) if x[:2] in kinds]
    changed = [i for i, line in enumerate(lines) if not line.startswith("  ")]
    near = {j for i in changed for j in range(i - 2, i + 3)}
    return [{"kind": kinds[x[:2]], "text": x[2:]} for i, x in enumerate(lines) if i in near]


def _text(engine: Engine) -> str | None:
    if engine.config_path is None:
        return None
    try:
        return Path(engine.config_path).read_text(encoding="utf-8")
    except OSError as e:
        raise Refused(409, f"The configuration file cannot be read: {e.strerror}", code="read_only_config") from None


def _writable(engine: Engine) -> bool:
    path = engine.config_path
    return path is not None and os.access(path, os.W_OK) and os.access(Path(path).resolve().parent, os.W_OK)


def _write(path: Path, text: str) -> None:
    """Replaces the file in one step, with the rights it had."""
    real = path.resolve()
    part = real.with_name(f".{real.name}.part")
    part.write_text(text, encoding="utf-8")
    part.chmod(real.stat().st_mode & 0o777)
    part.replace(real)
