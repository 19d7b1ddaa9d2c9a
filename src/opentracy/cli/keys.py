"""`opentracy keys`: virtual keys of this machine's engine: make, list, revoke, rotate.

Belongs here: flags and tables. Not here: what a key is and how it is kept (`opentracy.traces.keys`).
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

home_option = click.option("--data-home", type=click.Path(path_type=Path), help="The engine's data directory.")


def _open(home: Path | None) -> Any:
    from opentracy.traces import TraceStoreError
    from opentracy.traces.accounts import Accounts
    from opentracy.traces.keys import Keys, load_pepper

    place = home or Path(os.environ.get("OPENTRACY_DATA_HOME") or "~/.opentracy").expanduser()
    try:
        return Keys(Accounts(place / "accounts.db"), load_pepper(place))
    except (TraceStoreError, OSError) as e:
        raise click.ClickException(str(e)) from None


@click.group()
def keys() -> None:
    """Virtual keys: who may use the engine, for what, and how much."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(["inference", "read", "admin"]), default=("inference",)
)
@click.option("--model", "models", multiple=True, help="Only these models (patterns with *); may be repeated.")
@click.option("--daily-usd", type=click.FloatRange(min=0), help="Budget per day (UTC).")
@click.option("--monthly-usd", type=click.FloatRange(min=0), help="Budget per month (UTC).")
@click.option("--rpm", type=click.IntRange(min=1), help="Requests per minute.")
@click.option("--tpm", type=click.IntRange(min=1), help="Tokens per minute.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Lifetime.")
@click.option("--owner", help="Who has it.")
@click.option("--project", help="Stands in the traces of its calls.")
@click.option(
    "--content",
    type=click.Choice(["all", "redacted", "none"]),
    help="What of the texts of its calls is kept (default: traces.content).",
)
@home_option
def create(
    name: str, scopes: tuple[str, ...], models: tuple[str, ...], daily_usd: float | None, monthly_usd: float | None,
    rpm: int | None, tpm: int | None, days: float | None, owner: str | None, project: str | None,
    content: str | None, data_home: Path | None,
) -> None:  # fmt: skip
    """Make a key called NAME; its text is shown this once."""
    from opentracy.traces import QueryError

    settings: dict[str, Any] = {
        "scopes": scopes, "models": models or None, "rpm": rpm, "tpm": tpm, "owner": owner,
        "project": project, "content": content,
        "daily_nano": None if daily_usd is None else round(daily_usd * 1e9),
        "monthly_nano": None if monthly_usd is None else round(monthly_usd * 1e9),
        "expires_ms": None if days is None else int(time.time() * 1000 + days * 86_400_000),
    }  # fmt: skip
    try:
        text, key = _open(data_home).create(name, **{k: v for k, v in settings.items() if v is not None})
    except QueryError as e:
        raise click.UsageError(str(e)) from None
    click.echo(text)
    click.echo(f"key {key.id} ({key.name}); keep the text above, it is stored nowhere", err=True)


@keys.command()
@click.option("--json", "--jsonl", "as_json", is_flag=True, help="One JSON object per line.")
@home_option
def ls(as_json: bool, data_home: Path | None) -> None:
    """List the keys, newest first."""
    now = time.time_ns() // 1_000_000
    found = _open(data_home).all()
    if not found:
        click.echo("No keys yet: opentracy keys create NAME", err=True)
    for key in found:
        state = "revoked" if key.revoked_ms is not None else "works" if key.works_at(now) else "expired"
        if as_json:
            row = {
                f: getattr(key, f)
                for f in ("id", "name", "owner", "scopes", "models", "rpm", "tpm", "daily_nano", "monthly_nano")
            }
            click.echo(json.dumps({**row, "state": state}))
        else:
            click.echo(f"{key.id}  {state:<8} {','.join(key.scopes):<16} {key.name}")


@keys.command("revoke")
@click.argument("key_id")
@home_option
def revoke(key_id: str, data_home: Path | None) -> None:
    """Revoke a key for good."""
    if not _open(data_home).revoke(key_id, time.time_ns() // 1_000_000):
        click.echo(f"opentracy: there is no working key {key_id}", err=True)
        sys.exit(1)


@keys.command()
@click.argument("key_id")
@home_option
def rotate(key_id: str, data_home: Path | None) -> None:
    """Give a key a new text; the old one ends now."""
    text = _open(data_home).rotate(key_id)
    if text is None:
        click.echo(f"opentracy: there is no working key {key_id}", err=True)
        sys.exit(1)
    click.echo(text)


def _also(name: str, command: click.Command) -> None:
    """The same command under another name that people try, left out of the help."""
    other = copy.copy(command)
    other.name, other.hidden = name, True
    keys.add_command(other)


_also("add", create)
_also("rm", revoke)
