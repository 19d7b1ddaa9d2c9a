"""Token ids are those of the reference tokeniser, recorded in wordpiece_ids.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.routing.embed import DATA
from opentracy.routing.wordpiece import WordPiece

RECORDED = json.loads(Path(__file__).with_name("wordpiece_ids.json").read_text(encoding="utf-8"))
TOKENS = WordPiece.load(DATA / "vocab.txt")


@pytest.mark.parametrize("case", RECORDED, ids=lambda c: repr(c["text"][:24]))
def test_ids_equal_the_reference(case: dict[str, object]) -> None:
    assert TOKENS.encode(str(case["text"])) == case["ids"]


def test_the_vocabulary_is_whole() -> None:
    assert len(TOKENS) == 30_522
    assert TOKENS.unknown == 100


@given(st.text(max_size=80), st.text(max_size=80))
def test_white_space_is_a_border(a: str, b: str) -> None:
    assert TOKENS.encode(a + " \n " + b) == TOKENS.encode(a) + TOKENS.encode(b)


@given(st.text(max_size=200))
def test_the_cache_changes_nothing(text: str) -> None:
    fresh = WordPiece.load(DATA / "vocab.txt") if len(text) > 190 else TOKENS
    assert fresh.encode(text) == TOKENS.encode(text) == TOKENS.encode(text)


@given(st.text(max_size=200), st.integers(1, 20))
def test_a_limit_is_a_prefix(text: str, limit: int) -> None:
    assert TOKENS.encode(text, limit) == TOKENS.encode(text)[:limit]


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=120))
def test_ascii_case_does_not_matter(text: str) -> None:
    assert TOKENS.encode(text.upper()) == TOKENS.encode(text.lower())


def test_a_vocabulary_without_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="UNK"):
        WordPiece(["a", "b"])
