"""`opentracy complete` and `opentracy chat`: one question, or a conversation, from the terminal.

Belongs here: reading and printing. The calls go through `opentracy.completion`, so they reach the engine when
OPENTRACY_ENGINE_URL says so and the provider otherwise; `auto` only an engine can answer, wherever it is.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

model_option = click.option("--model", "-m", default="auto", show_default=True, help="provider/model, alias or auto.")
system_option = click.option("--system", "-s", help="A system message.")


@click.command()
@click.argument("prompt", required=False)
@model_option
@system_option
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON.")
def complete(prompt: str | None, model: str, system: str | None, as_json: bool) -> None:
    """Answer one PROMPT; text on standard input is put below it."""
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    text = "\n\n".join(part for part in (prompt, piped.strip()) if part)
    if not text:
        raise click.UsageError("Give a prompt, as an argument or on standard input")
    messages = _begin(system)
    messages.append({"role": "user", "content": text})
    if as_json:
        import opentracy

        answer = _guard(lambda: opentracy.completion(model, messages, force_engine=model == "auto"))
        click.echo(json.dumps(answer))
        return
    _stream(model, messages)


@click.command()
@model_option
@system_option
def chat(model: str, system: str | None) -> None:
    """Talk; an empty line or Ctrl-D ends it."""
    messages = _begin(system)
    while True:
        try:
            text = click.prompt(">", prompt_suffix=" ", default="", show_default=False, err=True)
        except (click.Abort, EOFError):
            break
        if not text.strip():
            break
        messages.append({"role": "user", "content": text})
        message = _stream(model, messages)
        messages.append(message)


def _begin(system: str | None) -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}] if system else []


def _stream(model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Prints the answer as it comes, then a line about it on standard error; the assistant's message."""
    import opentracy

    def run() -> Any:
        with opentracy.completion(model, messages, stream=True, force_engine=model == "auto") as stream:
            for chunk in stream:
                text = chunk.choices[0].delta.content
                if text:
                    click.echo(text, nl=False)
            return stream.response

    response = _guard(run)
    click.echo()
    routing = response.get("_routing") or {}
    usage = response.get("usage") or {}
    parts = [str(routing.get("selected_model") or model)]
    if routing.get("cluster_label"):
        parts.append(f"cluster {routing.get('cluster_id')} ({routing['cluster_label']})")
    if usage.get("total_tokens") is not None:
        parts.append(f"{usage['total_tokens']} tokens")
    cost = response.get("_cost")
    parts.append(f"${cost:.6f}" if cost is not None else "cost unknown")
    parts.append(f"{(response.get('_latency_ms') or 0) / 1000:.1f} s")
    click.secho(" . ".join(parts), dim=True, err=True)
    message: dict[str, Any] = response["choices"][0]["message"]
    return message


def _guard(run: Any) -> Any:
    """Errors as one line and an exit status: 2 what was asked, 3 nobody there, 1 everything else."""
    import opentracy

    try:
        return run()
    except ValueError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(2)
    except opentracy.APIConnectionError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(3)
    except opentracy.APIError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
