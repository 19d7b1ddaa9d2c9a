"""Is a text English? Only as well as routing needs it: to know when an English-trained router has nothing to say.

Belongs here: function words and scripts. Not here: what follows from the answer (router.py). A few frequent words
per language decide among languages in Latin script; letters of another script decide at once. Short or wordless texts
(code, formulas, names) are not called foreign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LETTERS = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset(
    """the of and to a in is that it for was on are as with be at by this have from or an which you not what how if all
    were when there can would has each will do does his her they their one but had about who where why i my me your we
    our us     write give find make please explain it's its did than then them should could""".split()  # noqa: SIM905
)
_OTHER = frozenset(
    """le la les des du est et un une pour dans que qui sur avec pas ce cette vous je tu nous il elle sont être comment
    quelle quel pourquoi où mon ma ta au aux ça bonjour
    der die das und ist ein eine einen nicht mit für auf von zu den dem wie was warum kann ich du wir sie sind im bei
    mein el los las una unos por para con como qué cuál cómo dónde es son del mi tu su yo una al porque está
    o os um uma em não com qual é são do da dos das ao pelo meu minha você
    il lo gli di che è sono per non come perché dove della nel una mio
    het een van en niet met voor op hoe wat waarom ik jij zijn de bir ve için ile nasıl nedir bu ne
    og ikke hvordan hvad jeg och inte hur vad jag är w na nie jak co jest się czy""".split()  # noqa: SIM905
)
_ENGLISH_ONLY, OTHER_ONLY = _ENGLISH - _OTHER, _OTHER - _ENGLISH
# Words of English that say how a text is put together and not what it is about.
COMMON = frozenset(
    """the of and to a in is that it for was on are as with be at by this have from or an which you not what how if all
    were when there can would has each will do his her they their one but had about who where why does many""".split()  # noqa: SIM905
)
_WINDOW, _WORDS = 1200, 200  # characters and words looked at


def foreign(core: str) -> bool:
    """Whether a stripped text is plainly not English."""
    low = core.lower()
    return foreign_words(low, low.split())


def foreign_words(low: str, words: Sequence[str]) -> bool:
    """The same of a lower-cased text whose words were split already."""
    text = low[:_WINDOW]
    if text.isascii():
        found = words[:_WORDS]
        if OTHER_ONLY.isdisjoint(found) or len(_ENGLISH_ONLY.intersection(found)) >= 2:
            return False  # the ordinary case, settled without a regular expression
    found = _LETTERS.findall(text)
    letters = sum(map(len, found))
    if not letters:
        return False
    if not text.isascii() and sum(1 for word in found for c in word if c > "\u024f") * 3 > letters:
        return True
    english = sum(map(_ENGLISH_ONLY.__contains__, found))
    other = sum(map(OTHER_ONLY.__contains__, found))
    accented = 0 if text.isascii() else sum(1 for w in found if not w.isascii())
    return other + accented >= 2 and other + accented > english
