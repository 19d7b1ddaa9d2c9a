"""Texts: what a search text means, and whether a body fulfils it.

Belongs here: words and letters. Words are AND-ed, `"a phrase"` stands together, `prefix*` matches the beginning of a
word; upper and lower case and accents make no difference. Pure: values in, values out. Not here: which bodies are worth
a look (`words`), and finding (`search`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .codec import Body

#: so many different accents are removed one by one
_FEW_ACCENTS: Final = 8
WORD: Final = re.compile(r"[^\W_]+")
_ESCAPED: Final = re.compile(rb"\\u")  # twice as fast as `in`, which stops at every u
#: scripts without spaces between words, whose runs of letters no index of words can look into
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


def fold(text: str) -> str:
    """Text as it is compared: case folded, accents removed."""
    if text.isascii():
        return text.lower()
    split = unicodedata.normalize("NFKD", text.casefold())
    # a text has few different letters, and fewer accents: looking at each place would take three times as long
    accents = [letter for letter in set(split) if unicodedata.combining(letter)]
    if len(accents) > _FEW_ACCENTS:
        return "".join([letter for letter in split if not unicodedata.combining(letter)])
    for accent in accents:
        split = split.replace(accent, "")
    return split


def terms_of(query: str) -> list[tuple[list[str], bool]]:
    """The terms of a search: the words of each, and whether the last is a prefix."""
    terms = []
    for phrase, word in re.findall(r'"([^"]*)"|(\S+)', query):
        words = WORD.findall(fold(phrase or word))
        if words:
            terms.append((words, word.endswith("*")))
    return terms


def matcher(query: str) -> list[re.Pattern[str]]:
    """One pattern per term; a text matches when each is found in its folded form."""
    patterns = []
    for words, prefix in terms_of(query):
        body = r"[\W_]+".join(map(re.escape, words))
        start = "" if _UNSPACED.match(words[0]) else r"(?<![^\W_])"
        end = "" if prefix or _UNSPACED.match(words[-1][-1]) else r"(?![^\W_])"
        patterns.append(re.compile(start + body + end))
    return patterns


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search text, ready to be held against bodies. `words`: what stands in every plain body that matches."""

    patterns: list[re.Pattern[str]]
    words: list[bytes]

    @classmethod
    def of(cls, query: str) -> Wanted:
        """What a query looks for; without patterns it looks for nothing."""
        # the longest first: it is the rarest more often than not
        words = sorted({word for words, _ in terms_of(query) for word in words}, key=len, reverse=True)
        return cls(matcher(query), [word.encode() for word in words])

    def matches(self, body: Body | None) -> bool:
        """True when every term is found in the request and the response taken together."""
        if body is None or not self._possible(body):
            return False
        text = fold(readable(body))
        return all(pattern.search(text) for pattern in self.patterns)

    def _possible(self, body: Body) -> bool:
        """False for most bodies that do not match, at a tenth of the cost of reading them.

        A body in ASCII without escaped letters has its words as they are; any other must be read to know them.
        """
        request, response = body
        whole = (request or b"") + b"\n" + (response or b"")
        lower = whole.lower()
        for word in self.words:
            if word not in lower:
                return not whole.isascii() or _ESCAPED.search(whole) is not None
        return True


def readable(body: Body) -> str:
    """The text of a body with JSON's escapes of newlines and letters resolved, so that words are whole."""
    text = "\n".join(part.decode("utf-8", "replace") for part in body if part is not None)
    if "\\" in text:
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
        text = re.sub(r"\\[nrtbf]", " ", text)
        # two escapes may be the halves of one character; a half alone is text that no database takes
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def index_query(query: str) -> str | None:
    """The FTS5 expression that every matching block fulfils; None when the index cannot help.

    The index folds nearly as `fold` does; a word for which that is not certain is left to the second step.
    """
    parts = []
    for words, prefix in terms_of(query):
        for at, word in enumerate(words):
            if _indexed_alike(word):
                last = at == len(words) - 1
                parts.append(f'"{word}"' + ("*" if prefix and last else ""))
    return " AND ".join(parts) or None


def _indexed_alike(word: str) -> bool:
    """Latin, Greek and Cyrillic words stand in the index as they stand in a search; others may be cut differently."""
    return word.isascii() or all(letter.isalpha() and letter < "\u0530" for letter in word)


def text_of(bodies: Sequence[Body | None]) -> str:
    """What the index of words is given of a block. Folded body by body, since most are plain ASCII and fold at once."""
    return "\n".join([fold(readable(body)) for body in bodies if body is not None])
