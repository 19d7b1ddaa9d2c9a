"""What somebody sees who has just installed the package: no key, no configuration, no trace yet."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from opentracy.cli import COMMANDS, build


@pytest.fixture(autouse=True)
def new_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "OPENTRACY_", "GOOGLE_")) or name.endswith(("_API_KEY", "_API_BASE", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENTRACY_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def see(*words: str) -> Result:
    return CliRunner().invoke(build(), [*words])


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_for_itself_and_its_own(command: str) -> None:
    group = see(command, "--help")
    assert group.exit_code == 0
    found = getattr(build().get_command(None, command), "commands", {})  # type: ignore[arg-type]
    for name in found:
        shown = see(command, name, "--help")
        assert shown.exit_code == 0
        assert "Usage:" in shown.output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("keys", "ls"), "opentracy keys create NAME"),
        (("models", "ls"), "opentracy providers ls"),
        (("datasets", "ls"), "opentracy datasets create NAME"),
        (("evals", "ls"), "No evaluations yet"),
    ],
)
def test_a_list_of_nothing_says_what_to_do(words: tuple[str, ...], hint: str) -> None:
    shown = see(*words)
    assert shown.exit_code == 0
    assert hint in shown.output


def test_providers_and_their_variables_are_listed() -> None:
    shown = see("providers", "ls").output
    assert "OPENAI_API_KEY" in shown
    assert "ready" not in shown


@pytest.mark.parametrize("words", [("traces", "ls"), ("stats",), ("top", "-c", "1"), ("traces", "export"), ("db", "status")])
def test_without_a_trace_it_says_where_traces_come_from(words: tuple[str, ...]) -> None:
    shown = see(*words)
    assert shown.exit_code == 1
    assert "opentracy serve" in shown.output
    assert "--store" in shown.output


def test_a_configuration_that_serve_would_refuse_is_not_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_KEY", "a-key-of-the-engine")
    file = tmp_path / "c.toml"
    file.write_text('[server]\nhost = "0.0.0.0"\n')
    shown = see("config", "check", "--config", str(file))
    assert shown.exit_code == 2
    assert "without a key" in shown.output
    file.write_text('[server]\nhost = "0.0.0.0"\napi_keys = ["env:ENGINE_KEY"]\n')
    assert see("config", "check", "--config", str(file)).exit_code == 0


@pytest.mark.parametrize("words", [("complete", "hi"), ("complete", "hi", "--json"), ("complete", "hi", "-m", "auto")])
def test_auto_asks_the_engine_at_its_usual_place_and_says_how_to_start_one(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr("opentracy._job.ENGINE_URL", f"http://127.0.0.1:{port}")
    shown = see(*words)
    assert shown.exit_code == 3
    assert f"127.0.0.1:{port}" in shown.output
    assert "`opentracy serve` starts one" in shown.output
