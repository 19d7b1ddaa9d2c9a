"""What is taken off a text before it is embedded, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.routing.language import foreign
from opentracy.routing.text import HEAD, TAIL, core_text, readable

QUESTION = "What is the boiling point of neon at sea level?"


@pytest.mark.parametrize(
    "edited",
    [
        "Please answer the following. " + QUESTION,
        "Hi there! " + QUESTION + " Thanks",
        "Hello, could you please help me with this question? " + QUESTION + " Thank you so much in advance!",
        "You are a careful expert. " + QUESTION,
        "You are a helpful assistant that always answers truthfully.\n\n" + QUESTION,
        "System: You are an expert. Think step by step and answer carefully.\nUser: " + QUESTION,
        "Good morning! I hope you are doing well. " + QUESTION + " Best regards",
        "Question: " + QUESTION + "\nAnswer:",
        "   " + QUESTION + "\n",
    ],
)
def test_courtesies_and_personas_are_taken_off(edited: str) -> None:
    assert core_text(edited) == QUESTION


@pytest.mark.parametrize(
    "whole",
    [
        "Let $a, b, c,$ and $d$ be positive integers.",
        "If, on average, 46% of the loci are empty, how many are full?",
        "Of the following, the heaviest is A. lead B. gold",
        "Which is right? A. Yes B. No C. All of these D. It is the same",
        "Where will a sidewalk feel hottest on a warm, clear day?",
        "The purpose of bird feathers, especially down, is to",
        "I would bake a cake with three eggs.",
    ],
)
def test_what_asks_something_stays(whole: str) -> None:
    assert core_text(whole) == whole


def test_typographic_quotes_are_folded() -> None:
    assert core_text("Who wrote “Emma”, and what’s its plot — roughly?") == core_text(
        'Who wrote "Emma", and what\'s its plot - roughly?'
    )


def test_thanks_without_a_full_stop_before_it() -> None:
    assert core_text("who sang waterloo Thank you very much in advance!") == "who sang waterloo"


@pytest.mark.parametrize("empty", ["Hi", "Thanks!", "Please help me.", "Hello, can you help me?"])
def test_something_is_always_left(empty: str) -> None:
    assert core_text(empty).strip()


@given(st.text(max_size=400))
def test_any_text_gives_a_bounded_answer(text: str) -> None:
    core = core_text(text)
    assert core == core_text(text)
    assert bool(core.strip()) or not text.strip() or not core_text(text.strip()).strip()


def test_a_huge_text_is_cut_before_anything_else() -> None:
    assert len(core_text("word " * 300_000)) <= HEAD + TAIL + 1


@pytest.mark.parametrize(
    "text",
    ["Quelle est la capitale de la France ?", "Wie kann ich mein Fahrrad reparieren?", "今天天气怎么样", "Как приготовить борщ?",
     "Escribe una carta a mi abuela", "Qual é a capital do Brasil?", "اكتب قصيدة عن الخريف"],
)  # fmt: skip
def test_other_languages_are_noticed(text: str) -> None:
    assert foreign(text)


@pytest.mark.parametrize(
    "text",
    ["Hello world", "def f(x): return x", "What does la vie en rose mean?", "2 + 2", "", "the μ and σ of a normal"],
)
def test_english_and_wordless_texts_are_not_foreign(text: str) -> None:
    assert not foreign(text)


def test_binary_is_not_readable() -> None:
    assert not readable("\x00\x01\x02\x03abc" * 50)
    assert readable("two\tcolumns\nand lines")
