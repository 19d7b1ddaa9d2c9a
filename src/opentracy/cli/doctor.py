"""`opentracy doctor`: what is missing before the engine can serve, and what looks wrong.

Belongs here: looking at the machine and reporting. It changes nothing and calls no provider.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

Finding = tuple[str, str, str]  # ok | warn | fail, subject, words


@click.command()
@click.option("--config", "path", envvar="OPENTRACY_CONFIG", help="The configuration file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def doctor(path: str | None, as_json: bool) -> None:
    """Check configuration, keys, port, disk, store and versions."""
    import json

    findings = [*_versions(), *_configuration(path), *_clock()]
    marks = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}
    for level, subject, words in findings:
        line = json.dumps({"level": level, "subject": subject, "message": words})
        click.echo(line if as_json else f"{marks[level]}  {subject:<10} {words}")
    if any(level == "fail" for level, _, _ in findings):
        sys.exit(1)


def _versions() -> Iterator[Finding]:
    from opentracy import __version__

    yield "ok", "opentracy", f"{__version__} on Python {sys.version.split()[0]}"
    for package in ("uvloop", "httptools", "msgspec", "starlette", "numpy", "duckdb"):
        try:
            yield "ok", package, version(package)
        except PackageNotFoundError:
            yield "fail", package, "not installed: pip install 'opentracy[engine]'"


def _configuration(path: str | None) -> Iterator[Finding]:
    from opentracy.engine.configfile import ConfigError, load
    from opentracy.engine.state import Snapshot
    from opentracy.engine.supervisor import StartError, load_router, refuse_open_bind
    from opentracy.engine.tracing import store_path
    from opentracy.providers import registry

    environ = dict(os.environ)
    try:
        config = load(path, environ)
        router, problem = load_router(config)
        snapshot = Snapshot(config, environ, router=router, router_problem=problem)
        refuse_open_bind(config)
    except (ConfigError, StartError) as e:
        yield "fail", "config", str(e)
        return
    yield "ok", "config", path or "defaults and environment"
    ready = [row.name for row in registry.providers() if snapshot.has_key(row.name)]
    for name in ready:
        yield "ok", "provider", f"{name}: {_key_shown(name, environ)}"
    if not ready:
        yield "warn", "provider", "none has a key: set e.g. OPENAI_API_KEY, or try opentracy serve --demo"
    yield ("ok", "router", router.version) if router is not None else ("warn", "router", problem or "none")
    yield from _port(config.server.host, config.server.port)
    yield from _disk(store_path(config.traces, environ))


def _key_shown(name: str, environ: dict[str, str]) -> str:
    """The last four characters only: enough to tell keys apart."""
    from opentracy.providers import registry

    for variable in registry.provider(name).key_vars:
        value = environ.get(variable)
        if value:
            return f"{variable} ends in {value[-4:]}" if len(value) >= 12 else f"{variable} is set"
    return "from the configuration"


def _port(host: str, port: int) -> Iterator[Finding]:
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host, port)) == 0  # noqa: S104  (compared, not bound)
    yield ("warn", "port", f"{port} is taken: an engine may be running") if taken else ("ok", "port", f"{port} is free")


def _disk(store: Path) -> Iterator[Finding]:
    place = store.parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    level = "ok" if free > 1 << 30 else "warn"
    yield level, "disk", f"{free / (1 << 30):.1f} GiB free at {place}"
    yield ("ok", "store", str(store)) if os.access(place, os.W_OK) else ("fail", "store", f"{place} is not writable")


def _clock() -> Iterator[Finding]:
    year = time.gmtime().tm_year
    if not 2025 <= year <= 2100:
        yield "fail", "clock", f"the clock says {year}: signatures and certificates will be refused"
