"""Secrets are recognised, look-alikes stay, and nothing unmasked reaches a file."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_samples import make_record

from opentracy.traces.filters import Filters
from opentracy.traces.model import Attempt, TraceRecord
from opentracy.traces.reader import Reader
from opentracy.traces.redact import Redactor, masked_name, redact
from opentracy.traces.sqlite import Store
from opentracy.traces.words import add_some
from opentracy.traces.writer import Limits, TraceWriter

SECRETS = {
    "email": ["ann.lee+x@mail.example.co.uk", "o'neil@example.org", "A_B%c@sub-domain.example.com"],
    "card": ["4111 1111 1111 1111", "4111111111111111", "5500-0000-0000-0004", "378282246310005"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR14 2004 1010 0505 0001 3M02 606"],
    "jwt": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"],
    "api_key": [
        "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
        "gsk_abcdefghijklmnopqrstuvwx1234",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "Bearer abcdefghijklmnop.qrstuv",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
        "ot_k1_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRS",
    ],
    "phone": ["+49 170 1234567", "+1 (415) 555-2671", "020 7946 0958", "0049-170-1234567"],
}
PLAIN = [
    "the order 123456789 was placed in 2024",
    "4111111111111112 has a wrong check digit",
    "2026-11-23T04:05:06Z",
    "version 1.2.3.4 and 192.168.100.200",
    "x@y and @mention and a@b.c",
    "sk-short",
    "pi is 3.14159265358979323846",
    "0000000000000000",
    "call f(12345678901234567890)",
]


@pytest.mark.parametrize(("kind", "secret"), [(kind, secret) for kind, all_ in SECRETS.items() for secret in all_])
def test_each_kind_is_recognised(kind: str, secret: str) -> None:
    """Alone, in a sentence, and twice."""
    counts: dict[str, int] = {}
    assert redact(secret) == f"[{kind}]"
    assert redact(f"mine is {secret}, and {secret}.", counts=counts) == f"mine is [{kind}], and [{kind}]."
    assert counts == {kind: 2}


@pytest.mark.parametrize("text", PLAIN)
def test_look_alikes_stay(text: str) -> None:
    """Wrong check digits, dates, versions, plain numbers."""
    assert redact(text) == text


@given(st.text(max_size=200))
def test_any_text_is_survived_and_done_at_once(text: str) -> None:
    """Redacting twice changes nothing more."""
    once = redact(text)
    assert redact(once) == once


def test_long_hostile_text_takes_no_quadratic_time() -> None:
    """Each of these made a careless pattern backtrack for minutes."""
    for unit in ("a", "1 ", "1-", "a@", "a.", "eyJ", "+1", "(1", "DE12 ", "sk-", "-----BEGIN A PRIVATE KEY-----"):
        redact(unit * 20_000)


def test_modes_of_content() -> None:
    """All keeps, redacted masks, none drops; the record's own mode wins; an unknown one keeps nothing."""

    def done(mode: str, own: str | None = None) -> TraceRecord:
        record = make_record(1, request=b'{"m":"ann@example.com"}', user_id="ann@example.com", content=own)
        Redactor(mode)(record)  # type: ignore[arg-type]
        return record

    assert done("all").request == b'{"m":"ann@example.com"}'
    assert (done("redacted").request, done("redacted").body_state) == (b'{"m":"[email]"}', "redacted")
    assert (done("none").request, done("none").response, done("none").user_id) == (None, None, "[email]")
    assert done("all", "none").request is None
    assert done("none", "all").request is not None
    assert done("everything").request is None


def test_escapes_do_not_hide_a_secret() -> None:
    """JSON may spell an at sign as an escape, and a card number as a number."""
    record = make_record(
        1, request=b'{"a":"ann\\u0040example.com","card":4111111111111111}', response=b"not json ann@example.com"
    )
    Redactor("redacted")(record)
    assert record.request == b'{"a":"[email]","card":"[card]"}'
    assert record.response == b"not json [email]"


def test_the_users_callable_runs_in_every_mode_but_on_its_own_bug_nothing_is_kept(store: Store) -> None:
    """A failing callable costs the text, never the secret."""

    def own(text: str) -> str:
        if "boom" in text:
            raise ValueError
        return text.replace("project-x", "[codename]")

    with TraceWriter(store, before_write=Redactor("all", own=own)) as writer:
        writer.put(make_record(1, request=b'{"a":"project-x"}', response=None))
        writer.put(make_record(2, request=b'{"a":"boom"}', response=None))
    reader = Reader(store)
    first, second = (reader.get(make_record(n).trace_id) for n in (1, 2))
    assert first is not None
    assert second is not None
    assert first.request == b'{"a":"[codename]"}'
    assert second.request is None


def test_a_canary_reaches_no_file(store: Store) -> None:
    """Neither database nor log nor spill nor index, in any field, also while the database is locked."""
    import sqlite3

    canary = "canary.7f3a@leak.example"
    record_fields = {
        "user_id": canary, "session_id": canary, "tags": [canary], "metadata": {canary: [canary]}, "error_msg": canary,
    }  # fmt: skip
    writer = TraceWriter(store, before_write=Redactor("redacted"), limits=Limits(lock_seconds=0.01))
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    # noise that zstd and zlib cannot compress, so a leak would stand in the file as it is
    noise = random.Random(1).randbytes(300).hex()
    for number in range(20):
        body = json.dumps({"text": f"{noise[number:]} {canary}"}).encode()
        writer.put(make_record(number, request=body, response=body, **record_fields))
    while writer.counters.spilled < 20:
        pass
    spilled = b"".join(path.read_bytes() for path in store.path.parent.iterdir())
    holder.execute("ROLLBACK")
    holder.close()
    writer.flush(60)
    writer.close()
    connection = store.connect()
    add_some(connection)
    reader = Reader(store)
    assert reader.page(Filters(text="canary.7f3a")).rows == []
    stored = [reader.get(make_record(number).trace_id) for number in range(20)]
    assert canary not in str(stored)
    assert "[email]" in str(stored)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    everything = spilled + b"".join(path.read_bytes() for path in store.path.parent.iterdir())
    assert b"7f3a" not in everything


@pytest.mark.parametrize(
    "name",
    [
        "openai/gpt-4o-2024-08-06", "ft:gpt-4o-mini-2024-07-18:acme::91234567", "claude-3-5-sonnet@20240620", "fw-llama-v3p1-405b-instruct",
        "accounts/fireworks/models/llama-v3p1-8b", "@cf/meta/llama-3.1-8b-instruct", "arn:aws:bedrock:us-east-1:123456789012:x/y", "",
    ],
)  # fmt: skip
def test_real_names_of_models_stay(name: str) -> None:
    """Dates and versions are no telephone numbers, and prefixes no keys: sums by model would fall apart."""
    assert masked_name(name) == name
    record = make_record(1, model=name, requested_model=name, attempts=[Attempt(name, name)])
    Redactor("redacted")(record)
    assert (record.model, record.requested_model, record.attempts[0].target) == (name, name, name)


def test_addresses_in_names_are_masked() -> None:
    """A name is what a caller wrote."""
    assert masked_name("nobody/ann@example.com") == "nobody/[email]"
