"""`make demo`: the whole path on this machine.

Starts an engine with stand-in providers, asks a dozen different things through `auto`, an alias whose first target is
down, a tool and a stream, and prints what was chosen, why and at what cost.

With real keys in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...) the same script talks to the real providers.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import opentracy as ot

PROMPTS = [
    "What is 17 times 23?",
    "Write a Python function that merges two sorted lists without using sort().",
    "A train leaves at 9:40 and arrives at 13:05. How long does the journey take?",
    "Which enzyme unwinds the DNA double helix during replication?",
    "Translate 'good morning' into French.",
    "Prove that the sum of two even integers is even.",
    "Who wrote the novel Middlemarch?",
    "Fix this SQL: SELCT name FORM users WHERE age > 30",
    "Where would you most likely find a jellyfish: a desert, an ocean, or a bookshelf?",
    "Summarise the causes of the French Revolution in three sentences.",
    "If all bloops are razzies and all razzies are lazzies, are all bloops lazzies?",
    "Suggest a name for a small bakery by the sea.",
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start_engine(home: str, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "opentracy", "serve", "--demo", "--port", str(port), "--log-level", "warning"]
    with Path(home, "engine.log").open("wb") as log:
        engine = subprocess.Popen(command, env={**os.environ, "OPENTRACY_DATA_HOME": home}, stdout=log, stderr=log)
    for _ in range(150):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2):
                return engine
        except OSError:
            if engine.poll() is not None:
                break
            time.sleep(0.1)
    engine.kill()
    sys.exit("the engine did not start:\n" + Path(home, "engine.log").read_text(errors="replace")[-3000:])


def money(usd: float | None) -> str:
    return "unknown" if usd is None else f"${usd:.6f}"


def row(table: Table, what: str, r: Any) -> None:
    routing = r._routing
    cluster = routing.get("cluster_label") or routing.get("alias") or "-"
    why = routing.get("fallback_reason") or ("best value" if routing.get("scores") else "as asked")
    table.add_row(
        escape(what[:46]),
        escape(str(cluster)[:34]),
        routing["selected_model"],
        money(r._cost),
        f"{r._latency_ms:.0f}",
        str(why)[:24],
    )


def ask(console: Console) -> str:
    """Sends everything and prints the table; returns the id of the last trace."""
    user = lambda text: [{"role": "user", "content": text}]  # noqa: E731
    table = Table(title="What was asked, what was chosen", header_style="bold")
    for name in ("prompt", "cluster / alias", "chosen model", "cost", "ms", "why"):
        table.add_column(name, justify="right" if name in ("cost", "ms") else "left", overflow="fold")
    answers = []
    for prompt in PROMPTS:
        r = ot.completion(model="auto", messages=user(prompt))
        row(table, prompt, r)
        answers.append((prompt, r.choices[0].message.content))
    r = ot.completion(model="smart", messages=user("What is 6 times 7?"))
    row(table, "[alias smart: its first target is down]", r)
    attempts = r._routing["attempts"]
    r = ot.completion(model="anthropic/claude-sonnet-4-6", messages=user("What's the weather in Paris?"), tools=[TOOL])
    row(table, "[tool call] What's the weather in Paris?", r)
    call = r.choices[0].message.tool_calls[0].function
    with ot.completion(
        model="auto", messages=user("Explain in one sentence what a hash map is."), stream=True
    ) as stream:
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    row(table, "[stream] Explain what a hash map is.", stream.response)
    console.print(table)
    console.print(f"\n[bold]An answer[/bold]      {answers[0][0]} -> {answers[0][1]}")
    console.print(f"[bold]A stream[/bold]       {streamed[:90]}")
    console.print(f"[bold]A tool call[/bold]    {call.name}({call.arguments})")
    console.print(
        f"[bold]The fallback[/bold]   alias smart took {attempts} attempts: the first target answered 503 each time"
    )
    return str(stream.response._routing["trace_id"])


def show_trace(console: Console, url: str, trace_id: str) -> None:
    with urllib.request.urlopen(f"{url}/v1/traces/{trace_id}", timeout=10) as answer:
        trace = json.load(answer)
    kept = {k: v for k, v in trace.items() if v not in (None, [], {}, "") and k not in ("request", "response")}
    console.print("\n[bold]The last trace[/bold]", trace_id)
    console.print_json(json.dumps(kept), indent=1)


def main() -> None:
    console = Console(width=150 if not sys.stdout.isatty() else None)
    # a store may still be checkpointing when the folder goes: nothing in it is needed any more
    with tempfile.TemporaryDirectory(prefix="opentracy-demo-", ignore_cleanup_errors=True) as home:
        port = free_port()
        engine = start_engine(home, port)
        try:
            url = os.environ["OPENTRACY_ENGINE_URL"] = f"http://127.0.0.1:{port}"
            console.print(f"engine on {url}\n")
            show_trace(console, url, ask(console))
        finally:
            engine.terminate()
            engine.wait(40)
    console.print("\nTry it yourself: [bold]opentracy serve --demo[/bold], then open http://127.0.0.1:8080/")


if __name__ == "__main__":
    main()
