"""What is public, what it costs to import, and that the two faces of a function stay the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import opentracy as ot
import opentracy.errors

DOCS = Path(__file__).parents[2] / "docs"
PAGE = {
    "model": inspect.Parameter.empty, "messages": inspect.Parameter.empty, "api_key": None, "api_base": None,
    "temperature": None, "max_tokens": None, "top_p": None, "stream": False, "stop": None, "tools": None,
    "tool_choice": None, "timeout": 120.0, "num_retries": 0, "fallbacks": None, "force_engine": False,
    "force_direct": False, "kwargs": inspect.Parameter.empty,
}  # fmt: skip


def test_the_signature_is_the_pages() -> None:
    parameters = inspect.signature(ot.completion).parameters
    assert {name: p.default for name, p in parameters.items()} == PAGE
    kinds = [p.kind for p in parameters.values()]
    assert kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    assert kinds[-1] == inspect.Parameter.VAR_KEYWORD
    assert set(kinds[2:-1]) == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(("sync", "other"), [(ot.completion, ot.acompletion), (ot.embedding, ot.aembedding)])
def test_sync_and_async_are_the_same(sync: object, other: object) -> None:
    assert inspect.signature(sync).parameters == inspect.signature(other).parameters  # type: ignore[arg-type]
    assert inspect.getdoc(sync) == inspect.getdoc(other)
    assert inspect.getdoc(sync)
    assert inspect.iscoroutinefunction(other)


def test_every_public_name_exists_and_is_documented() -> None:
    docs = "\n".join(p.read_text(encoding="utf-8") for p in [*DOCS.rglob("*.md"), Path(ot.errors.__file__)])
    assert sorted(ot.__all__) == ot.__all__
    for name in ot.__all__:
        value = getattr(ot, name)
        if name.startswith("__"):
            continue
        assert inspect.getdoc(value), name
        assert name in docs, f"{name} stands nowhere in docs/"
    assert set(ot.__all__) <= set(dir(ot))
    with pytest.raises(AttributeError, match="no attribute 'complete'"):
        ot.complete  # noqa: B018


def test_importing_loads_nothing_and_the_first_call_no_heavy_package() -> None:
    code = """
import sys
import opentracy as ot
ot.completion, ot.acompletion
at_import = [m for m in ("asyncio", "ssl", "msgspec", "httptools", "socket", "numpy", "openai") if m in sys.modules]
try:
    ot.completion("nosuch/x", [{"role": "user", "content": "x"}])
except ValueError:
    pass
at_call = [m for m in ("asyncio", "ssl", "numpy", "openai", "httpx2", "starlette", "email.utils") if m in sys.modules]
print(at_import, at_call)
"""
    isolated = f"import sys; sys.path[:] = {sys.path!r}{code}"  # -S: the site's own .pth files import things
    done = subprocess.run([sys.executable, "-S", "-c", isolated], capture_output=True, text=True)
    assert done.stdout == "[] []\n", done.stdout + done.stderr
