"""The commands: what they print, their exit codes, and that they leave the store as they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from trace_samples import make_record
from trace_seed import seeded

from opentracy.cli.db import db
from opentracy.cli.traces import stats, traces
from opentracy.cli.traces_view import duration, money, waterfall
from opentracy.traces.model import Attempt, TraceRecord
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import TraceWriter

#: later than every seeded one
LAST = 200_000
GROUPS: dict[str, Any] = {"traces": traces, "db": db, "stats": stats}


@pytest.fixture
def path(store: Store) -> Path:
    """A store with a few traces."""
    with TraceWriter(store) as writer:
        for record in seeded(60):
            writer.put(record)
        writer.put(
            make_record(
                LAST,
                requested_model="smart",
                user_id="ann",
                fallback_from="openai/gpt-4o",
                attempts=[
                    Attempt(
                        "openai/gpt-4o", "openai", 429, "rate_limit", 0.0, 100.0, cost_nano=None, reason="fallback: 429"
                    ),
                    Attempt("groq/mini", "groq", 200, None, 110.0, 700.0, cost_nano=5),
                ],
            )
        )
    return store.path


def run(path: Path, *words: str, stdin: str | bytes | None = None) -> Result:
    """One command on the store."""
    command = GROUPS[words[0]]
    return CliRunner().invoke(command, [*words[1:], "--store", str(path)], input=stdin)


def test_ls_lists_newest_first(path: Path) -> None:
    """Tab-separated when it is no terminal; --json is one object per line; a filter narrows."""
    plain = run(path, "traces", "ls", "-n", "5")
    assert plain.exit_code == 0
    lines = plain.stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["time", "trace", "status"]
    assert len(lines) == 6
    found = run(path, "traces", "ls", "model:gpt-4o-mini", "--json", "-n", "100")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert rows
    assert {row["model"] for row in rows} == {"gpt-4o-mini"}
    assert run(path, "traces", "ls", "model:nope").stdout == ""


def test_show_is_the_whole_story(path: Path) -> None:
    """Attempts with their reasons, unknown cost as a question mark, the text; `last` is the newest."""
    text = run(path, "traces", "show", "last").stdout
    wanted = [
        "asked for smart",
        "1. openai/gpt-4o [429 rate_limit] ? -> fallback: 429",
        "2. groq/mini [200]",
        "capital of France",
    ]
    for part in wanted:
        assert part in text
    row = json.loads(run(path, "traces", "show", make_record(LAST).trace_id, "--json").stdout)
    assert row["attempts"][0]["cost_usd"] is None
    assert row["attempts"][0]["cost_nano"] is None


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("traces", "ls", "modle:x"), 2, "did you mean 'model'"),
        (("traces", "ls", "--since", "soon"), 2, "Not a time"),
        (("traces", "show", "xyz"), 2, "Not a trace id"),
        (("traces", "show", "0" * 32), 1, "No such trace"),
        (("traces", "export", "--format", "parquet"), 2, "--output"),
        (("traces", "rm"), 2, "Name trace ids"),
        (("traces", "rm", "0" * 32, "-y"), 1, "did not exist"),
        (("stats", "--by", "modle"), 2, "did you mean 'model'"),
        (("db", "prune"), 2, "Say what to remove"),
        (("db", "migrate", "--to", "mysql://x"), 2, "clickhouse://"),
    ],
)
def test_mistakes_have_a_sentence_and_a_code(path: Path, words: tuple[str, ...], code: int, message: str) -> None:
    """2 for what was asked wrongly, 1 for what could not be done."""
    result = run(path, *words)
    assert result.exit_code == code, result.output
    assert message in result.output


def test_no_store_is_one_line(tmp_path: Path) -> None:
    """Not a traceback, and nothing is created."""
    result = run(tmp_path / "none.db", "traces", "ls")
    assert result.exit_code == 1
    assert "No trace store" in result.output
    assert not list(tmp_path.iterdir())


def test_search_and_tail(path: Path) -> None:
    """Words of the text; the tail begins with the last ones, oldest first."""
    found = run(path, "traces", "search", "capital france", "--json")
    assert [json.loads(line)["requested_model"] for line in found.stdout.splitlines()] == ["smart"]
    assert run(path, "traces", "search", "capital", "-f", "model:claude").stdout == ""
    lines = run(path, "traces", "tail", "--no-follow", "-n", "3", "--json").stdout.splitlines()
    times = [json.loads(line)["ts_ms"] for line in lines]
    assert times == sorted(times)
    assert len(times) == 3


def test_export_rm_import_round_trip(path: Path, tmp_path: Path) -> None:
    """What was exported and removed comes back by importing it."""
    out = tmp_path / "out.jsonl"
    assert run(path, "traces", "export", "-f", "status:ok", "-o", str(out)).exit_code == 0
    count = len(out.read_bytes().splitlines())
    assert count > 10
    assert run(path, "traces", "export", "-f", "status:ok").stdout_bytes == out.read_bytes()
    removed = run(path, "traces", "rm", "-f", "status:ok", "-y")
    assert removed.exit_code == 0, removed.output
    assert run(path, "traces", "ls", "status:ok").stdout == ""
    result = run(path, "traces", "import", "-", stdin=out.read_bytes() + b"junk\n")
    assert result.exit_code == 1
    assert f"{count} taken in, 0 known already, 1 refused" in result.output
    assert len(run(path, "traces", "ls", "status:ok", "-n", "100").stdout.splitlines()) == count + 1
    assert run(path, "traces", "rm", "-f", "status:ok", stdin="n\n").exit_code == 1


def test_stats_prints_figures(path: Path) -> None:
    """By anything; with --json the plain numbers."""
    result = run(path, "stats", "--since", "all", "--by", "provider", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert sum(row["requests"] for row in rows) == 61
    text = run(
        path, "stats", "--since", "all", "--by", "", "--bucket", "1d", "-m", "requests,error_rate,cost,p95"
    ).stdout
    assert "%" in text
    assert "$" in text


def test_status_compact_backup_prune(path: Path, tmp_path: Path) -> None:
    """The copy is a whole store, private, and a single file; pruning says what it removed."""
    found = json.loads(run(path, "db", "status", "--json").stdout)
    assert (found["traces"], found["not_projected"], found["damaged_files"]) == (61, 0, [])
    copy = tmp_path / "copy.db"
    assert run(path, "db", "backup", str(copy)).exit_code == 0
    assert copy.stat().st_mode & 0o077 == 0
    assert len(Reader(Store.open(copy, read_only=True)).page(limit=100).rows) == 61
    assert run(path, "db", "backup", str(copy)).exit_code == 2
    result = run(path, "db", "prune", "--bodies-days", "0", "-y")
    assert "text of" in result.output
    assert run(path, "traces", "search", "capital").stdout == ""
    assert run(path, "db", "compact").exit_code == 0
    (path.parent / f"{path.name}.corrupt-20260101T000000Z").touch()
    assert run(path, "db", "status").exit_code == 1


def test_migrate_sends_verifies_and_goes_on(path: Path, tmp_path: Path) -> None:
    """To a real ClickHouse in this process; a second run sends nothing again."""
    pytest.importorskip("chdb", reason="chdb (ClickHouse in-process, 0.8 GB) is not installed")
    target = f"chdb:///{tmp_path}/ch"
    for _ in range(2):
        result = run(path, "db", "migrate", "--to", target)
        assert result.exit_code == 0, result.output
        assert "there: 61 traces" in result.output
        assert "verified" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("db", "compact"), {"before_bytes", "after_bytes"}),
        (("db", "backup", "TARGET"), {"file", "bytes"}),
        (("db", "prune", "--bodies-days", "1", "-y"), {"texts", "rows"}),
        (("db", "status"), {"path", "schema", "traces"}),
        (("traces", "rm", "-f", "status:error", "-y"), {"removed"}),
        (("traces", "import", "-"), {"added", "known", "refused"}),
        (("traces", "show", "last"), {"trace_id", "attempts"}),
        (("traces", "tail", "--no-follow", "-n", "1"), {"trace_id"}),
        (("traces", "search", "capital", "-n", "1"), {"trace_id"}),
        (("stats", "--since", "all", "-n", "1", "--by", "provider", "-f", "provider:groq"), {"provider", "requests"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_every_command_says_in_json_what_it_did(
    path: Path, tmp_path: Path, words: tuple[str, ...], said: set[str]
) -> None:
    """One object on stdout and nothing else there, for whoever goes on from it."""
    filled = [word.replace("TARGET", str(tmp_path / "copy.db")) for word in words]
    result = run(path, *filled, "--json", stdin=b'{"model": "a"}\n')
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    assert said <= set(json.loads(line))


def test_what_is_taken_in_is_masked_as_the_configuration_says(path: Path, tmp_path: Path) -> None:
    """The command writes where the engine writes, so the same holds for it."""
    config = tmp_path / "opentracy.toml"
    line = b'{"trace_id": "%032x", "request": {"messages": [{"role": "user", "content": "mail ann@example.com"}]}}'
    config.write_text('[traces]\ncontent = "redacted"\n')
    assert run(path, "traces", "import", "-", "--config", str(config), stdin=line % 7).exit_code == 0
    config.write_text('[traces]\ncontent = "none"\n')
    assert run(path, "traces", "import", "-", "--config", str(config), stdin=line % 8).exit_code == 0
    reader = Reader(Store.open(path))
    masked, without = reader.get(f"{7:032x}"), reader.get(f"{8:032x}")
    assert masked is not None
    assert without is not None
    assert b"ann@example.com" not in (masked.request or b"")
    assert masked.body_state == "redacted"
    assert without.request is None
    assert b"ann@example.com" not in b"".join(one.read_bytes() for one in path.parent.iterdir())
    config.write_text("[traces]\ncontent = 5\n")
    assert run(path, "traces", "import", "-", "--config", str(config), stdin=line % 9).exit_code == 2


@pytest.mark.parametrize(
    ("nano", "text"), [(None, "?"), (0, "$0"), (1, "$1.00e-09"), (123_456, "$0.000123"), (2_500_000_000, "$2.50")]
)
def test_money_is_never_nothing_by_rounding(nano: int | None, text: str) -> None:
    """Unknown, free and tiny are three things."""
    assert money(nano) == text


def test_bars_fit_whatever_the_times_say() -> None:
    """Clock jumps and zero lengths draw something, never an error."""
    record: TraceRecord = make_record(1, latency_ms=0.0, attempts=[Attempt(start_ms=-5.0, ms=0.0), Attempt(ms=1e9)])
    assert all(len(line) < 200 for line in waterfall(record))
    assert (duration(0.5), duration(999.4), duration(1500), duration(None)) == ("500 us", "999 ms", "1.50 s", "-")
