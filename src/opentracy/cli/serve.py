"""`opentracy serve`: the engine in the foreground.

Belongs here: flags, the banner, exit codes. Not here: anything that a running engine does (`opentracy.engine`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from opentracy.engine.config import Config
    from opentracy.engine.state import Snapshot


@click.command()
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (default 8080).")
@click.option("--workers", type=int, help="Processes that share the port (default 1).")
@click.option("--config", "config_path", envvar="OPENTRACY_CONFIG", help="The configuration file.")
@click.option("--store", help="Where traces are kept (default ~/.opentracy/traces.db).")
@click.option("--demo", is_flag=True, help="Start stand-in providers for those without a key.")
@click.option("--open", "open_browser", is_flag=True, help="Open the dashboard in a browser.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged.")
def serve(
    host: str | None, port: int | None, workers: int | None, config_path: str | None, store: str | None, demo: bool,
    open_browser: bool, log_level: str | None,
) -> None:  # fmt: skip
    """Serve every model behind one OpenAI-compatible address."""
    from opentracy.engine.configfile import ConfigError
    from opentracy.engine.supervisor import StartError

    flags: dict[str, Any] = {
        "server.host": host, "server.port": port, "server.workers": workers, "traces.path": store,
        "server.log_level": log_level,
    }  # fmt: skip
    try:
        sys.exit(_serve(config_path, flags, demo=demo, open_browser=open_browser))
    except ConfigError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(2)
    except StartError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(e.status)


def _serve(config_path: str | None, flags: dict[str, Any], *, demo: bool, open_browser: bool) -> int:
    from opentracy.engine import supervisor
    from opentracy.engine.inforce import InForce
    from opentracy.engine.state import Snapshot

    environ = dict(os.environ)
    stand_in = None
    if demo:
        from opentracy.engine import demo as demonstration

        stand_in = demonstration.start(environ)
    read, parse = _configuration(config_path, environ, flags, demo=demo)
    text = read()
    config = parse(text)
    _log(config.server.log_level)
    supervisor.refuse_open_bind(config)
    several = config.server.workers > 1
    sock = None if several else supervisor.bind(config.server.host, config.server.port)

    def made_of(text: str) -> Snapshot:
        fresh = parse(text)
        router, problem = supervisor.load_router(fresh)
        return Snapshot(fresh, environ, router=router, router_problem=problem)

    def afresh() -> Snapshot:
        text = read()
        snapshot = made_of(text)
        in_force.put(text)
        return snapshot

    first = made_of(text)
    in_force = InForce(text)
    path, lock = supervisor.prepare_store(config, environ)
    service = supervisor.Service(first, afresh, lambda: made_of(in_force.text()), in_force, path, config_path)
    try:
        if sock is not None:
            _banner(first, sock.getsockname(), path, open_browser=open_browser)
            return supervisor.run_one(sock, service)
        parent = supervisor.Supervisor(config, service)
        _banner(first, parent.address, path, open_browser=open_browser)
        return parent.run()
    finally:
        if stand_in is not None:
            stand_in.stop()
        if lock is not None:
            lock.release()


def _configuration(
    config_path: str | None, environ: dict[str, str], flags: dict[str, Any], *, demo: bool
) -> tuple[Callable[[], str], Callable[[str], Config]]:
    """How the configuration's text is read, now and at every reload; and what is made of it."""
    from opentracy.engine.configfile import parse, read

    if demo and config_path is None:
        from opentracy.engine.demo import CONFIG

        return lambda: CONFIG, lambda text: parse(text, environ, flags, name="the demo's configuration")
    return lambda: read(config_path), lambda text: parse(text, environ, flags, name=config_path or "the defaults")


def _log(level: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.raiseExceptions = False  # a closed stderr must not stop the serving


def _banner(snapshot: Snapshot, address: tuple[Any, ...], store: Any, *, open_browser: bool) -> None:
    from opentracy.providers import registry

    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    url = f"http://{host}:{address[1]}"
    ready = [row.name for row in registry.providers() if snapshot.has_key(row.name)]
    router = snapshot.router.version if snapshot.router is not None else snapshot.router_problem
    lines = (
        f"opentracy engine on {url}",
        f"  providers  {', '.join(ready) or 'none has a key yet: set e.g. OPENAI_API_KEY'}",
        f"  aliases    {', '.join(snapshot.config.aliases) or 'none'}",
        f"  auto       {len(snapshot.auto_models)} models, router {router}",
        f"  traces     {f'{store}, content {snapshot.config.traces.content}' if store is not None else 'off'}",
        f"  keys       {'required' if snapshot.keys.required else 'none: this machine only'}",
    )
    with contextlib.suppress(OSError):  # a closed stderr must not stop the serving
        click.echo("\n".join(lines), err=True)
    if open_browser:
        import webbrowser

        webbrowser.open(url)
