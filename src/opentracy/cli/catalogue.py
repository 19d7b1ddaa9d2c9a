"""`opentracy models` and `opentracy providers`: what could be called from here, and at what price.

Belongs here: listing the registry, the price table and the configuration. Not here: asking a running engine.
"""

from __future__ import annotations

import json
import os
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


@click.group()
def models() -> None:
    """Models with prices, context and published ability."""


@models.command("ls")
@click.option("--config", "path", envvar="OPENTRACY_CONFIG", help="The configuration file.")
@click.option("--all", "everything", is_flag=True, help="Also models whose provider has no key here.")
@json_option
def models_ls(path: str | None, everything: bool, as_json: bool) -> None:
    """List the models that aliases and auto can use from here."""
    from opentracy.engine.configfile import ConfigError, load
    from opentracy.engine.models import entries
    from opentracy.engine.state import Snapshot
    from opentracy.engine.supervisor import load_router

    environ = dict(os.environ)
    try:
        settings = load(path, environ)
        router, problem = load_router(settings)
        snapshot = Snapshot(settings, environ, router=router, router_problem=problem)
    except ConfigError as e:
        raise click.UsageError(str(e)) from None
    rows = entries(snapshot)
    if everything and router is not None:
        have = {row["id"] for row in rows}
        rows += [row for row in _published(router) if row["id"] not in have]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    if not rows:
        click.echo("No models: no provider has a key here (opentracy providers ls), or see --all", err=True)
        return
    _table(("model", "context", "in $/M", "out $/M", "ability"), [_model_cells(row) for row in rows])


def _published(router: Any) -> list[dict[str, Any]]:
    from opentracy.core.pricing import context_window, expected_cost
    from opentracy.providers import registry

    rows = []
    for name in router.abilities:
        try:
            row, bare = registry.split(name)
        except ValueError:
            continue
        entry: dict[str, Any] = {"id": f"{row.name}/{bare}", "context_window": context_window(row.name, bare)}
        cost_in, cost_out = (expected_cost(row.name, bare, *pair) for pair in ((1_000_000, 0), (0, 1_000_000)))
        if cost_in is not None and cost_out is not None:
            entry["pricing"] = {"input": cost_in, "output": cost_out}
        ability = router.abilities.find(name)
        if ability is not None:
            entry["ability"] = {"value": ability.overall.value}
        rows.append(entry)
    return sorted(rows, key=lambda r: str(r["id"]))


def _model_cells(row: dict[str, Any]) -> tuple[str, ...]:
    pricing, ability = row.get("pricing"), row.get("ability")
    window = row.get("context_window")
    return (
        row["id"],
        f"{window:,}" if window else "",
        f"{pricing['input']:.3g}" if pricing else "",
        f"{pricing['output']:.3g}" if pricing else "",
        f"{ability['value']:.2f}" if ability else "",
    )


@click.group()
def providers() -> None:
    """Providers, their keys and where they are reached."""


@providers.command("ls")
@json_option
def providers_ls(as_json: bool) -> None:
    """List every provider and whether it has a key here."""
    from opentracy.providers import registry

    rows = []
    for row in registry.providers():
        ready = registry.has_credentials(row.name, os.environ)
        state = "ready" if ready and row.needs_key else "no key needed" if ready else "no key"
        rows.append(
            {
                "provider": row.name,
                "state": state,
                "key": row.key_vars[0] if row.key_vars else "",
                "dialect": row.dialect,
            }
        )
    if as_json:
        for entry in rows:
            click.echo(json.dumps(entry))
        return
    _table(("provider", "state", "key variable", "dialect"), [tuple(entry.values()) for entry in rows])


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Aligned columns, plain when piped."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=True).print(table)
