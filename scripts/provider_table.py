"""Writes the tables of docs/providers.md from the registry and from what each dialect really does with a call.

    python scripts/provider_table.py           # rewrite the tables
    python scripts/provider_table.py --check   # exit 1 when they are out of date

A feature is probed, not declared: a call with it is built for every provider, and the request tells whether it is sent
as OpenAI spells it, translated, or dropped. No network, no keys.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any

from opentracy.core.wire import Call, Target
from opentracy.providers import registry
from opentracy.providers.base import Provider

PAGE = Path(__file__).parents[1] / "docs" / "providers.md"
# a model of today per provider, since some rules belong to families of models
MODELS = {
    "openai": "gpt-5.2", "anthropic": "claude-sonnet-4-6", "gemini": "gemini-3-flash",
    "groq": "openai/gpt-oss-120b",
    "mistral": "mistral-medium-latest", "deepseek": "deepseek-chat", "cohere": "command-a-reasoning-08-2025",
    "perplexity": "sonar",
    "bedrock": "us.anthropic.claude-sonnet-4-6-v1:0", "vertex": "gemini-3-flash", "xai": "grok-4",
    "cerebras": "gpt-oss-120b", "sambanova": "gpt-oss-120b", "fireworks": "accounts/fireworks/models/kimi-k2",
}  # fmt: skip
EMBEDDERS = {
    "cohere": "embed-v4.0",
    "bedrock": "amazon.titan-embed-text-v2:0",
    "gemini": "gemini-embedding-001",
    "vertex": "gemini-embedding-001",
}
TOOL = {
    "type": "function",
    "function": {
        "name": "tide",
        "description": "When",
        "parameters": {"type": "object", "properties": {"port": {"type": "string"}}},
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "a",
        "schema": {
            "type": "object",
            "properties": {"x": {"type": "string"}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
PDF = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
PARTS: dict[str, dict[str, Any]] = {
    "images": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    "PDF": {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
    "audio": {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}},
}
PARAMS: dict[str, dict[str, Any]] = {
    "tools": {"tools": [TOOL]},
    "forced tool": {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "tide"}}},
    "one tool at a time": {"tools": [TOOL], "parallel_tool_calls": False},
    "JSON schema": {"response_format": SCHEMA},
    "reasoning effort": {"reasoning_effort": "low"},
    "output cap": {"max_tokens": 64},
    "temperature": {"temperature": 1},
    "stop": {"stop": ["END"]},
    "seed": {"seed": 7},
    "n": {"n": 2},
    "logprobs": {"logprobs": True},
    "penalties": {"presence_penalty": 0.5},
    "user": {"user": "u"},
}
YES, TRANSLATED, NO = "yes", "translated", "–"


def target(row: Provider, model: str) -> Target:
    """A target that needs nothing from this machine."""
    env = {name: "x" for names in row.secret_vars.values() for name in names}
    env |= {"GOOGLE_CLOUD_PROJECT": "p"}
    return registry.target(
        f"{row.name}/{model}", env=env, api_key="x", api_base=None if row.base_url else "https://r.example"
    )


def build(row: Provider, call: Call, model: str | None = None) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """The body and what was dropped; None when the dialect refuses the call."""
    where = target(row, model or MODELS.get(row.name, "some-model"))
    try:
        request = where.dialect.build_request(call, where)
    except ValueError:
        return None
    return json.loads(request.body), request.dropped


def parameter(row: Provider, params: dict[str, Any]) -> str:
    """The last of `params` is the feature; those before it are what it needs."""
    name, value = list(params.items())[-1]
    messages = [{"role": "user", "content": "hi"}]
    built = build(row, Call(messages, params))
    without = build(row, Call(messages, {k: v for k, v in params.items() if k != name}))
    if built is None or without is None or name in built[1] or built[0] == without[0]:
        return NO
    return YES if built[0].get(name) == value else TRANSLATED


def part(row: Provider, value: dict[str, Any]) -> str:
    """A part of a user message."""
    built = build(row, Call([{"role": "user", "content": [{"type": "text", "text": "hi"}, value]}], {}))
    if built is None or built[1]:
        return NO
    return YES if json.dumps(value) in json.dumps(built[0]) else TRANSLATED


def embeddings(row: Provider) -> str:
    """Vectors for texts."""
    built = build(row, Call([], {"input": ["a"]}, operation="embedding"), EMBEDDERS.get(row.name))
    if built is None:
        return NO
    return YES if built[0].get("input") == ["a"] else TRANSLATED


def feature_table() -> list[str]:
    """Provider x feature."""
    columns = [*PARAMS, *PARTS, "embeddings"]
    lines = ["| provider | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for row in registry.providers():
        cells = (
            [parameter(row, p) for p in PARAMS.values()] + [part(row, p) for p in PARTS.values()] + [embeddings(row)]
        )
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return lines


def address_table() -> list[str]:
    """Provider, wire, base, variables, bare names."""
    lines = ["| provider | wire | default base URL | key from | bare names |", "|---|---|---|---|---|"]
    for row in registry.providers():
        keys = [*row.key_vars, *(v for part in row.instead_of_key for v in row.secret_vars[part])]
        shown = ", ".join(f"`{k}`" for k in keys) + ("" if row.needs_key else " (optional)")
        names = " ".join(f"`{p}`" for p in row.prefixes)
        base = row.base_url or "https://<resource>.openai.azure.com"
        lines.append(f"| {row.name} | {row.dialect} | `{base}` | {shown} | {names} |")
    return lines


def render(page: str) -> str:
    """The page with both tables made anew."""
    for name, lines in (("addresses", address_table()), ("features", feature_table())):
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = page.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{PAGE} lacks the marks of the table {name!r}")
        page = "\n".join((before + start, *lines, end + after))
    return page


def main() -> int:
    """Exit code 1 with --check and an outdated page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    new = render(old)
    if check:
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
