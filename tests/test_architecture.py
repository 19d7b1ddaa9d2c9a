"""The rules of the house that no linter knows: where provider names may stand, what is never called, file lengths."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "opentracy"
FILES = sorted(p for p in SRC.rglob("*.py"))
PROVIDERS = "openai anthropic gemini groq mistral deepseek together fireworks cerebras sambanova perplexity cohere bedrock".split()

# a provider may be named outside providers/ only here, and for this reason
NAMED = {
    "engine/standin.py": "it imitates two wire formats",
    "engine/demo.py": "its configuration is what a user would write",
    "_calls.py": "`openai` is the package whose presence is asked for",
    "core/pricing.py": "a price belongs to a provider",
    "traces/export.py": "`openai` names a file format for fine-tuning",
    "traces/foreign.py": "OpenAI's own logs and batch files do not say whose they are",
    "traces/otel.py": "OpenTelemetry has its own words for providers",
    "_openai_later.py": "`openai` is a Python package",
    "routing/embed.py": "`openai` names the embeddings wire format",
}


def literals(path: Path) -> list[tuple[int, str]]:
    """String constants of a module that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and n.body and isinstance(n.body[0], ast.Expr)
    }  # fmt: skip
    return [
        (n.lineno, n.value)
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
    ]


def test_provider_names_stand_only_under_providers() -> None:
    found = []
    for path in FILES:
        name = path.relative_to(SRC).as_posix()
        if name.startswith("providers/") or name in NAMED:
            continue
        found += [
            f"{name}:{line} {text!r}"
            for line, text in literals(path)
            if text.lower() in PROVIDERS or re.match(rf"({'|'.join(PROVIDERS)})/", text)
        ]
    assert not found, "\n".join(found)


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "shelve", "marshal", "cPickle", "dill", "jinja2"}


def test_nothing_is_evaluated_unpickled_or_run_through_a_shell() -> None:
    found = []
    for path in FILES:
        name = path.relative_to(SRC).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                found.append(f"{name}:{node.lineno} {node.func.id}()")
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{name}:{node.lineno} import {m}" for m in modules if m.split(".")[0] in FORBIDDEN_MODULES]  # type: ignore[attr-defined]
            if isinstance(node, ast.Call):
                for keyword in node.keywords:
                    if keyword.arg == "shell" and not (
                        isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    ):
                        found.append(f"{name}:{node.lineno} shell=")
                    if keyword.arg == "allow_pickle" and not (
                        isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    ):
                        found.append(f"{name}:{node.lineno} allow_pickle=")
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and (node.value.id, node.attr) in {("os", "system"), ("os", "popen")}
            ):
                found.append(f"{name}:{node.lineno} os.{node.attr}")
    assert not found, "\n".join(found)


def test_engine_starts_no_process_from_requests() -> None:
    """Only the supervisor may start processes, and it starts nothing but its own workers."""
    found = []
    for path in SRC.rglob("engine/*.py"):
        if path.name == "supervisor.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {n}" for n in names if n.split(".")[0] in {"subprocess", "multiprocessing", "pty"}]
    assert not found, found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_every_module_says_what_it_is_for_and_stays_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert text.count("\n") <= 600, "split it by meaning"


def test_import_is_light_and_touches_nothing(tmp_path: Path) -> None:
    """No socket, no file written, none of the heavy packages."""
    code = (
        "import sys, json, builtins, io, os\n"
        "events = []\n"
        "def hook(name, args):\n"
        "    if name.startswith('socket.') or (name == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+')):\n"
        "        events.append([name, str(args[0])])\n"
        "sys.addaudithook(hook)\n"
        "import opentracy\n"
        "opentracy.completion, opentracy.acompletion\n"
        "heavy = [m for m in ('numpy', 'openai', 'httpx2', 'pydantic', 'uvloop', 'starlette', 'click', 'rich', 'duckdb') if m in sys.modules]\n"
        "print(json.dumps([events, heavy]))\n"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    events, heavy = json.loads(done.stdout)
    assert events == []
    assert heavy == []
    assert list(tmp_path.iterdir()) == []
