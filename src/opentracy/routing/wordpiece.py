"""WordPiece tokeniser of the uncased BERT vocabularies: text -> token ids.

Belongs here: splitting text the way BERT does and looking pieces up. Not here: what the ids mean (embed.py), and what
part of a request is worth tokenising (text.py). Own code because the request path must not pay 40 ms of import and 30
MB of installed packages for it; tests/routing/test_wordpiece.py holds the ids to those of the reference tokeniser.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

UNKNOWN = "[UNK]"
_LONGEST_WORD = 100  # characters; BERT calls anything longer unknown
_CACHE_LIMIT = 30_000  # words, and as many chunks; a bound, because prompts are not ours
_LONGEST_CHUNK = 32  # characters between two spaces that are worth remembering as one
# Eight packed bytes are a number: an id above `SHIFT` bits, and in the lowest byte the mark of a word that has one. The
# bytes of the id are even, or smaller than a mark: so counting a mark in the packed bytes of a text counts the words,
# which costs next to nothing for a single byte.
SHIFT = 17
MARKS = (b"\xf1", b"\xf3")
_LARGEST = 0xF0 << 7  # tokens of a vocabulary
_ASCII_WORDS = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_cjk(code: int) -> bool:
    return code >= 0x3400 and any(low <= code <= high for low, high in _CJK)


def _splits_alone(char: str) -> bool:
    """Punctuation in BERT's sense: every ASCII symbol, and Unicode's P categories elsewhere."""
    code = ord(char)
    if code < 128:
        return 33 <= code <= 126 and not char.isalnum()
    return unicodedata.category(char)[0] == "P"


def _words_unicode(text: str) -> Iterator[str]:
    """Words of lower-cased text that is not pure ASCII."""
    word: list[str] = []
    for char in unicodedata.normalize("NFD", text):
        code = ord(char)
        if code in (0, 0xFFFD):
            continue
        category = unicodedata.category(char)
        if category == "Mn":
            continue
        alone = _is_cjk(code) or _splits_alone(char)
        space = char.isspace() or category == "Zs"
        if not space and category in ("Cc", "Cf", "Co", "Cs"):
            continue  # control characters vanish without splitting the word they stand in
        if (alone or space) and word:
            yield "".join(word)
            word = []
        if alone:
            yield char
        elif not space:
            word.append(char)
    if word:
        yield "".join(word)


_CONTROL = {code: None for code in range(32) if chr(code) not in "\t\n\r"} | {127: None}


def split_words(text: str) -> list[str]:
    """Lower-cased words, punctuation and CJK characters apart, accents stripped."""
    if text.isascii():
        if not text.isprintable():
            text = text.translate(_CONTROL)
        return _ASCII_WORDS.findall(text.lower())
    return list(_words_unicode(text.lower()))


class _Chunks(dict[str, bytes]):
    """Ids of what stands between two spaces, made when first asked for: one look-up in C for what was seen before.
    As bytes, because joining bytes is all it takes then to have the ids of a text in an array."""

    def __init__(self, make: Callable[[str], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, chunk: str) -> bytes:
        ids = self._make(chunk)
        if len(self) < _CACHE_LIMIT and len(chunk) <= _LONGEST_CHUNK:
            self[chunk] = ids
        return ids


class WordPiece:
    """A vocabulary and its word cache. Thread-safe: the cache is a dict that only ever gains equal values."""

    def __init__(self, vocabulary: Sequence[str], marked: Sequence[frozenset[str]] = ()) -> None:
        """marked: up to two sets of words, disjoint. The first id of one that stands alone between spaces has the
        set's mark when it is packed: then `packed.count(MARKS[i])` is how often words of set i occur."""
        self._ids = {token: index for index, token in enumerate(vocabulary)}
        if UNKNOWN not in self._ids:
            raise ValueError(f"the vocabulary has no {UNKNOWN} token")
        if len(self._ids) > _LARGEST:
            raise ValueError(f"the vocabulary has {len(self._ids)} tokens, at most {_LARGEST} are supported")
        sets = zip(marked, MARKS, strict=False)
        self._marks = {word: mark[0] for words, mark in sets for word in words}
        self.unknown = self._ids[UNKNOWN]
        self._cache: dict[str, tuple[int, ...]] = {}
        self._chunks = _Chunks(self._chunk)

    @classmethod
    def load(cls, path: Path, marked: Sequence[frozenset[str]] = ()) -> WordPiece:
        """Read a vocab.txt: one token per line, the line number is the id."""
        return cls(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), marked)

    def __len__(self) -> int:
        return len(self._ids)

    def encode(self, text: str, limit: int | None = None) -> list[int]:
        """Ids of `text` without [CLS] and [SEP], at most `limit` of them."""
        found = [packed >> SHIFT for packed in memoryview(self.pack(text)).cast("Q")]
        return found if limit is None else found[:limit]

    def pack(self, text: str) -> bytes:
        """Ids of `text`, eight bytes each in the machine's order: above `SHIFT` bits, and marks below."""
        if text.isprintable():  # then a space is the only white space, and nothing vanishes across it
            return self.pack_words(text.lower().split(" "))
        return array("Q", [i << SHIFT for word in split_words(text) for i in self._word(word)]).tobytes()

    def pack_words(self, words: Iterable[str]) -> bytes:
        """`pack` of a printable, lower-cased text that was split at its spaces."""
        return b"".join(map(self._chunks.__getitem__, words))

    def _word(self, word: str) -> tuple[int, ...]:
        return self._cache.get(word) or self._pieces(word)

    def _chunk(self, chunk: str) -> bytes:
        """Ids of what stands between two spaces: mostly one word with its punctuation, and seen before."""
        ids = array("Q", [i << SHIFT for word in split_words(chunk) for i in self._word(word)])
        if ids and chunk in self._marks:
            ids[0] |= self._marks[chunk]
        return ids.tobytes()

    def _pieces(self, word: str) -> tuple[int, ...]:
        ids = self._match(word)
        if len(self._cache) < _CACHE_LIMIT and len(word) <= _LONGEST_WORD:
            self._cache[word] = ids
        return ids

    def _match(self, word: str) -> tuple[int, ...]:
        """Greedy longest match first; a word with any unknown rest is unknown as a whole."""
        if len(word) > _LONGEST_WORD:
            return (self.unknown,)
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    break
            else:
                return (self.unknown,)
            found.append(piece)
            start = end
        return tuple(found)
