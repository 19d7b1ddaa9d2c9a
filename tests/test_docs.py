"""Every code block of the README and docs/ runs: Python against the stand-ins, TOML through the loader, commands by name."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from opentracy.cli import build
from opentracy.engine.standin import StandIn

if TYPE_CHECKING:
    from running import RunningEngine  # several folders have a conftest: at run time the name means any of them

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.S | re.M)


def blocks(page: Path, language: str) -> list[str]:
    """Code of one language; a fence that says `no-run` shows output or needs what a test machine has not."""
    return [
        code
        for lang, info, code in BLOCK.findall(page.read_text(encoding="utf-8"))
        if lang == language and "no-run" not in info
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(
    page: Path,
    stand_in_environment: StandIn,
    demo_engine: RunningEngine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    code = blocks(page, "python")
    if not code:
        pytest.skip("no Python on this page")
    monkeypatch.setenv("OPENTRACY_ENGINE_URL", demo_engine.url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__docs__"}
    for block in code:
        flags = compile("0", "x", "eval").co_flags
        compiled = compile(
            block, page.name, "exec", dont_inherit=True, flags=__import__("ast").PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        result = eval(compiled, names)
        if compiled.co_flags & ~flags & 0x80:  # CO_COROUTINE: the block awaits at its top level
            asyncio.run(result)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_toml_blocks_are_valid_configuration(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentracy.engine.configfile import load

    code = blocks(page, "toml")
    if not code:
        pytest.skip("no TOML on this page")
    for name in ("OPENAI", "ANTHROPIC", "DEEPSEEK", "GROQ", "MISTRAL", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", "x")
    for block in code:
        tomllib.loads(block)
        path = tmp_path / "opentracy.toml"
        path.write_text(block, encoding="utf-8")
        path.chmod(0o600)
        load(str(path), os.environ)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_exist(page: Path) -> None:
    """Each `opentracy ...` line names a real command whose options are all known."""
    lines = [line.strip() for code in blocks(page, "bash") for line in code.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("opentracy ")]
    if not commands:
        pytest.skip("no commands on this page")
    for words in commands:
        path, group = [], build()
        for word in words:
            command = group.get_command(None, word) if hasattr(group, "get_command") else None  # type: ignore[arg-type]
            if command is None:
                break
            path.append(word)
            group = command  # type: ignore[assignment]
        shown = CliRunner().invoke(build(), [*path, "--help"])
        assert path, words
        assert shown.exit_code == 0, shown.output
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in shown.output, f"{word} is no option of {' '.join(path)}"
