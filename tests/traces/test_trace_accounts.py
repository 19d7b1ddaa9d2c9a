"""Keys, budgets and limits: never over, never free, never guessable; the same in memory, SQLite and Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_samples import START_MS, make_record

from opentracy.traces import feedback
from opentracy.traces.accounts import Accounts
from opentracy.traces.budgets import STALE_MS, Budgets, Refused, Reservation, Spent, SqliteBudgets, periods
from opentracy.traces.errors import QueryError, StoreUnavailable
from opentracy.traces.keys import Keys, load_pepper
from opentracy.traces.limits import Limiter, MemoryLimits, SqliteLimits, judge
from opentracy.traces.shared import RedisBudgets, RedisLimits, SharedUnavailable
from opentracy.traces.sqlite import Store

PEPPER = b"0123456789abcdef"
DAY = 86_400_000


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    """A fresh accounts database."""
    made = Accounts(tmp_path / "accounts.db")
    yield made
    made.close()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis on a free port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    pytest.importorskip("redis", reason="the redis package is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(
        [program, *options], cwd=tmp_path_factory.mktemp("redis"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(10)


@pytest.fixture(params=["sqlite", "redis"])
def budgets(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Budgets]:
    """Each implementation."""
    if request.param == "sqlite":
        yield SqliteBudgets(Accounts(tmp_path / "accounts.db"))
        return
    shared = RedisBudgets(request.getfixturevalue("redis_url"), prefix=tmp_path.name)
    yield shared
    shared.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def limiter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Limiter]:
    """Each implementation."""
    if request.param == "memory":
        yield MemoryLimits()
    elif request.param == "sqlite":
        yield SqliteLimits(Accounts(tmp_path / "accounts.db"))
    else:
        shared = RedisLimits(request.getfixturevalue("redis_url"), prefix=tmp_path.name)
        yield shared
        shared.close()


# keys ----------------------------------------------------------------------------------------------------------------


def test_a_key_works_until_it_is_revoked_or_expires(accounts: Accounts) -> None:
    """Its text is `ot_<id>_<43 characters>` and is stored nowhere."""
    keys = Keys(accounts, PEPPER)
    text, key = keys.create("ci", now_ms=1000, models=["openai/*"], daily_nano=5, expires_ms=9000)
    prefix, key_id, secret = text.split("_", 2)
    assert (prefix, key_id, len(secret)) == ("ot", key.id, 43)
    assert keys.verify(text, 2000) == key
    assert keys.verify(text, 2000) == key, "also from the cache"
    assert keys.verify(text, 9000) is None
    assert keys.update(key.id, expires_ms=None, rpm=60) is not None
    found = keys.verify(text, 9000)
    assert found is not None
    assert (found.rpm, found.models) == (60, ("openai/*",))
    assert keys.revoke(key.id, 9500)
    assert keys.verify(text, 9600) is None
    assert not keys.revoke(key.id, 9700)
    assert [one.id for one in keys.all()] == [key.id]
    stored = b"".join(path.read_bytes() for path in accounts.path.parent.iterdir())
    assert secret.encode() not in stored
    assert text not in repr(keys.all())


@pytest.mark.parametrize("change", ["x", "", "ot", "ot__", "_" * 200, "a" * 1_000_000, "ot_' OR 1=1 --_x", "\ud800é\0"])
def test_anything_else_is_no_key(accounts: Accounts, change: str) -> None:
    """Junk, SQL, a megabyte, lone surrogates, and a right id with a wrong secret."""
    keys = Keys(accounts, PEPPER)
    text, _ = keys.create("a")
    assert keys.verify(change, 0) is None
    assert keys.verify(text[:-1] + ("A" if text[-1] != "A" else "B"), 0) is None
    assert Keys(accounts, b"another pepper 123").verify(text, 0) is None


def test_a_revocation_by_another_process_counts_at_once(accounts: Accounts) -> None:
    """The cache is forgotten when the database changed."""
    mine, theirs = Keys(accounts, PEPPER), Keys(Accounts(accounts.path), PEPPER)
    text, key = mine.create("a", now_ms=0)
    assert mine.verify(text, 1) is not None

    def revoke() -> None:
        theirs.revoke(key.id, 2)

    thread = threading.Thread(target=revoke)
    thread.start()
    thread.join()
    assert mine.verify(text, 3) is None


def test_models_are_matched_by_pattern(accounts: Accounts) -> None:
    """Any of a target's names will do; no list allows all."""
    keys = Keys(accounts, PEPPER)
    key = keys.create("a", models=["openai/gpt-4o*", "smart"])[1]
    assert key.may_use("openai/gpt-4o-mini")
    assert key.may_use("anthropic/claude", "smart")
    assert not key.may_use("anthropic/claude")
    assert keys.create("b")[1].may_use("anything")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"scopes": ["root"]}, "scopes are inference, read, admin"),
        ({"scopes": []}, "scopes are"),
        ({"models": "gpt"}, "list of names"),
        ({"rpm": -1}, "rpm must be"),
        ({"daily_nano": 1.5}, "daily_nano must be"),
        ({"content": "some"}, "content is"),
        ({"hash": b"x"}, "Unknown setting"),
    ],
)
def test_bad_settings_are_refused(accounts: Accounts, settings_: dict[str, Any], message: str) -> None:
    """By name, and no key is made."""
    keys = Keys(accounts, PEPPER)
    with pytest.raises(QueryError, match=message):
        keys.create("a", **settings_)
    assert keys.all() == []


def test_the_pepper_is_made_once_and_private(tmp_path: Path) -> None:
    """Two starts read the same secret; others cannot read it; a short one is refused."""
    first = load_pepper(tmp_path / "new")
    assert load_pepper(tmp_path / "new") == first
    assert len(first) == 32
    assert (tmp_path / "new" / "pepper").stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="16 bytes"):
        Keys(Accounts(tmp_path / "a.db"), b"short")


def test_an_unusable_place_says_so(tmp_path: Path) -> None:
    """A clear error at the start."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="Cannot use the accounts"):
        Accounts(tmp_path / "file" / "accounts.db")


# budgets -------------------------------------------------------------------------------------------------------------


def test_reserve_settle_release(budgets: Budgets) -> None:
    """Settling replaces the estimate by the truth, releasing gives it back; either happens once."""
    one = budgets.reserve("k", 40, {"day": 100, "month": 1000}, START_MS)
    two = budgets.reserve("k", 50, {"day": 100, "month": 1000}, START_MS)
    assert isinstance(one, Reservation)
    assert isinstance(two, Reservation)
    assert budgets.reserve("k", 20, {"day": 100}, START_MS) == Refused("day", 100, 10)
    assert budgets.settle(one, 7)
    assert not budgets.settle(one, 7)
    assert budgets.release(two)
    assert not budgets.release(two)
    assert not budgets.settle(two, 1)
    assert budgets.spent("k", START_MS) == {"day": Spent(7, 0), "month": Spent(7, 0)}
    assert budgets.spent("other", START_MS)["day"] == Spent()


def test_an_unknown_cost_is_never_free(budgets: Budgets) -> None:
    """A call without a price is charged what was reserved for it."""
    reservation = budgets.reserve("k", 40, {"day": 100}, START_MS)
    assert isinstance(reservation, Reservation)
    budgets.settle(reservation, None)
    assert budgets.spent("k", START_MS)["day"] == Spent(40, 0)


def test_a_dead_process_does_not_make_calls_free(budgets: Budgets) -> None:
    """A reservation that nobody ended counts as spent after a while."""
    budgets.reserve("k", 40, {"day": 100}, START_MS)
    later = START_MS + STALE_MS + 1
    assert periods(later) == periods(START_MS)
    assert isinstance(budgets.reserve("k", 60, {"day": 100}, later), Reservation)
    assert budgets.spent("k", later)["day"] == Spent(40, 60)


def test_a_new_day_begins_anew_and_the_month_goes_on(budgets: Budgets) -> None:
    """UTC days; a clock that jumps back finds the old day as it was."""
    reservation = budgets.reserve("k", 90, {"day": 100, "month": 150}, START_MS)
    assert isinstance(reservation, Reservation)
    budgets.settle(reservation, 90)
    assert budgets.reserve("k", 90, {"day": 100, "month": 150}, START_MS + DAY) == Refused("month", 150, 60)
    assert isinstance(budgets.reserve("k", 60, {"day": 100, "month": 150}, START_MS + DAY), Reservation)
    assert isinstance(budgets.reserve("k", 11, {"day": 100}, START_MS), Refused)


def test_a_spent_budget_refuses_even_free_calls(budgets: Budgets) -> None:
    """With nothing left, a call with an estimate of zero does not slip through."""
    assert isinstance(budgets.reserve("k", 0, {"day": 0}, START_MS), Refused)
    assert isinstance(budgets.reserve("k", 5, {}, START_MS), Reservation), "no cap, no refusal"


@pytest.mark.parametrize("amount", [-1, 1.5, True])
def test_money_must_be_money(budgets: Budgets, amount: Any) -> None:
    """A negative cost would refill the budget."""
    with pytest.raises(ValueError, match="nano-USD"):
        budgets.reserve("k", amount, {}, START_MS)
    reservation = budgets.reserve("k", 5, {}, START_MS)
    assert isinstance(reservation, Reservation)
    with pytest.raises(ValueError, match="nano-USD"):
        budgets.settle(reservation, amount)


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_parallel_calls_never_exceed_the_cap(budgets: Budgets, rounds: int) -> None:
    """200 at once, each settling at, below or not at all: settled plus reserved stays under the cap."""
    with ThreadPoolExecutor(16) as pool:
        for turn in range(rounds):
            key = f"k{turn}"

            def call(number: int, key: str = key) -> bool:
                got = budgets.reserve(key, 7, {"day": 500, "month": 600}, START_MS)
                if isinstance(got, Refused):
                    return False
                if number % 3 == 0:
                    budgets.release(got)
                elif number % 3 == 1:
                    budgets.settle(got, 7)
                return True

            admitted = sum(pool.map(call, range(200)))
            spent = budgets.spent(key, START_MS)["day"]
            assert spent.settled + spent.reserved <= 500
            assert admitted >= 71, "and the budget can be used up"


# limits --------------------------------------------------------------------------------------------------------------


def test_a_limit_holds_in_any_sixty_seconds(limiter: Limiter) -> None:
    """No edge of a minute at which twice as many go through; the wait it names is the right one."""
    taken = [limiter.take("k", {"requests": 1}, {"requests": 3}, START_MS + at * 1000) for at in (0, 1, 30)]
    assert [verdict.allowed for verdict in taken] == [True] * 3
    assert taken[1].left == {"requests": 1}
    refused = limiter.take("k", {"requests": 1}, {"requests": 3}, START_MS + 45_000)
    assert (refused.allowed, refused.exceeded, refused.left) == (False, "requests", {"requests": 0})
    assert refused.retry_after == pytest.approx(15.0, abs=1.0)
    assert not limiter.take("k", {"requests": 1}, {"requests": 3}, START_MS + 59_000).allowed
    again = START_MS + 45_000 + int(refused.retry_after * 1000)
    assert limiter.take("k", {"requests": 1}, {"requests": 3}, again).allowed
    assert not limiter.take("k", {"requests": 1}, {"requests": 3}, again).allowed


def test_both_limits_or_neither(limiter: Limiter) -> None:
    """A call refused for its tokens does not use up a request."""
    limits: Any = {"requests": 5, "tokens": 100}
    assert limiter.take("k", {"requests": 1, "tokens": 80}, limits, START_MS).allowed
    refused = limiter.take("k", {"requests": 1, "tokens": 50}, limits, START_MS)
    assert (refused.exceeded, refused.left) == ("tokens", {"requests": 4, "tokens": 20})
    assert limiter.take("k", {"requests": 1, "tokens": 20}, limits, START_MS).left == {"requests": 3, "tokens": 0}


def test_the_true_number_of_tokens_corrects_the_estimate(limiter: Limiter) -> None:
    """Down frees, up takes, never below zero."""
    limits: Any = {"tokens": 100}
    limiter.take("k", {"tokens": 90}, limits, START_MS)
    limiter.adjust("k", "tokens", -60, START_MS)
    assert limiter.take("k", {"tokens": 70}, limits, START_MS).allowed
    limiter.adjust("k", "tokens", -1000, START_MS)
    limiter.adjust("k", "tokens", 5, START_MS)
    assert limiter.take("k", {"tokens": 0}, limits, START_MS).left == {"tokens": 95}
    limiter.adjust("nobody", "tokens", 5, START_MS)


def test_a_call_bigger_than_the_limit_waits_a_whole_window(limiter: Limiter) -> None:
    """It can never go; the answer is a time, not an endless loop of one millisecond."""
    assert limiter.take("k", {"tokens": 200}, {"tokens": 100}, START_MS).retry_after == 60.0
    assert limiter.take("k", {"requests": 1}, {}, START_MS).allowed


def test_keys_do_not_share_a_limit(limiter: Limiter) -> None:
    """Each has its own window."""
    assert limiter.take("a", {"requests": 1}, {"requests": 1}, START_MS).allowed
    assert limiter.take("b", {"requests": 1}, {"requests": 1}, START_MS).allowed


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_parallel_requests_never_exceed_the_limit(limiter: Limiter, rounds: int) -> None:
    """200 at once against a limit of 50: exactly 50 go."""
    with ThreadPoolExecutor(16) as pool:
        for turn in range(rounds):
            take: Callable[[int], bool] = lambda _, turn=turn: (  # type: ignore[misc]  # noqa: E731
                limiter.take(f"k{turn}", {"requests": 1}, {"requests": 50}, START_MS).allowed
            )
            assert sum(pool.map(take, range(200))) == 50


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(calls=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 4)), max_size=30))
def test_all_limiters_agree(accounts: Accounts, calls: list[tuple[int, int]]) -> None:
    """Memory and SQLite give the same verdicts on any sequence, and no window ever holds more than the limit."""
    memory, sqlite = MemoryLimits(), SqliteLimits(accounts)
    accounts.connection().execute("DELETE FROM rates")
    now = START_MS
    admitted: list[tuple[int, int]] = []
    for wait, wanted in calls:
        now += wait
        verdict = memory.take("k", {"requests": wanted}, {"requests": 6}, now)
        assert sqlite.take("k", {"requests": wanted}, {"requests": 6}, now) == verdict
        if verdict.allowed:
            admitted.append((now, wanted))
        assert sum(n for at, n in admitted if now - 59_000 < at <= now) <= 6


def test_judging_is_pure() -> None:
    """The same numbers give the same verdict and are left alone."""
    used: Any = {"requests": {START_MS // 1000: 2}}
    assert judge(used, {"requests": 1}, {"requests": 3}, START_MS).left == {"requests": 0}
    assert used == {"requests": {START_MS // 1000: 2}}


def test_a_redis_that_is_away_says_so_without_its_password() -> None:
    """One error of ours, for every method."""
    pytest.importorskip("redis", reason="the redis package is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"redis://:hunter2@127.0.0.1:{port}/0"
    with pytest.raises(SharedUnavailable) as caught:
        RedisBudgets(url).reserve("k", 1, {}, START_MS)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SharedUnavailable):
        RedisBudgets(url).spent("k", START_MS)
    with pytest.raises(SharedUnavailable):
        RedisLimits(url).take("k", {"requests": 1}, {"requests": 1}, START_MS)


# feedback ------------------------------------------------------------------------------------------------------------


def test_feedback_is_only_ever_added(store: Store) -> None:
    """A correction is a later row; the last word of each author counts in the summary."""
    connection = store.connect()
    trace = make_record(1).trace_id
    feedback.add(connection, trace, "good", False, author="ann", now_ms=1)
    feedback.add(connection, trace, "good", True, author="ann", now_ms=2)
    feedback.add(connection, trace, "good", False, author="bob", now_ms=3)
    feedback.add(connection, trace, "score", 4, author=None, now_ms=4)
    feedback.add(connection, trace, "comment", "nice = good", author=None, now_ms=5)
    rows = feedback.of_trace(connection, trace)
    assert [(row.metric, row.kind, row.value) for row in rows] == [
        ("good", "bool", False), ("good", "bool", True), ("good", "bool", False),
        ("score", "float", 4.0), ("comment", "comment", "nice = good"),
    ]  # fmt: skip
    assert feedback.summary(connection) == {"good": {"count": 2, "mean": 0.5}, "score": {"count": 1, "mean": 4.0}}
    assert feedback.summary(connection, since=4) == {"score": {"count": 1, "mean": 4.0}}
    import sqlite3

    with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
        connection.execute("UPDATE feedback SET value = 1")
    connection.close()


@pytest.mark.parametrize(
    ("metric", "value"),
    [("", True), ("1x", True), ("a b", 1.0), ("m", float("nan")), ("m", ""), ("m", "x" * 10_001), ("m", None)],
)
def test_meaningless_feedback_is_refused(store: Store, metric: str, value: Any) -> None:
    """Nothing is written."""
    connection = store.connect()
    with pytest.raises(QueryError):
        feedback.add(connection, make_record(1).trace_id, metric, value, author=None, now_ms=1)
    assert connection.execute("SELECT count(*) FROM feedback").fetchone()[0] == 0
    connection.close()
