"""What part of a request says what is asked: cutting, folding and stripping text before it is embedded.

Belongs here: rules about words, not about models. A greeting, a "please answer the following", a role ("You are a
careful expert.") or another quotation mark must not change who answers, so they are taken off before embedding, in
training and in use alike. Not here: tokenising (wordpiece.py), vectors (embed.py).
"""

from __future__ import annotations

import re
import unicodedata

HEAD, TAIL = 2600, 1000  # characters kept of a long text; together more than the 512 tokens that are embedded
TOO_LONG = 60_000  # characters; beyond it a digest of 3,600 says too little about what is asked
_LONGEST_BOILERPLATE = 240  # characters of one strippable sentence
_ROUNDS = 6  # sentences taken off each end at most

_FOLD = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201a": "'",
        "\u201b": "'",
        "\u2032": "'",
        "\u00b4": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u201f": '"',
        "\u2033": '"',
        "\u00ab": '"',
        "\u00bb": '"',
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u00a0": " ",
        "\u200b": "",
        "\ufeff": "",
    }
)

# Words of which a sentence may wholly consist and still ask nothing.
_EMPTY_WORDS = frozenset(
    """a about accurate accurately advance afternoon ahead all am an and answer answers answering any
    appreciate appreciated are as ask asking assist assistance at attention be being below best better
    bit brief briefly but by can care careful carefully clear clearly complete concise concisely correct
    correctly could day dear detail detailed details do easy evening everyone expert explain final find
    folks following follow follows for from get give good great greetings guidance hello help helpful
    helping here hey hi hope hoping how i if im in is it just kind kindly let like little look lot love
    make many may me message moment morning much my need needed nice now of on one option please
    possible precise precisely problem prompt provide question questions quick quickly read reply
    request respond response see so solution solve some step steps sure take task thank thanks that the
    there these thing think this those thoroughly thought thoughtful thoughtfully to today try
    understand very want wanted was well were will wonder wondering would you your yours day's i'd i'm
    i've it's let's you're cheers regards sincerely assistant instruction instructions query user
    below's again everybody team friend sir madam mate okay ok with doing field every before general
    topic truthful truthfully honest honestly polite politely knowledgeable reliable experts knowledge
    write appropriately completes describes input context provides hopefully bye goodbye welcome sorry
    bother bothering excuse pardon pls plz thx ty tia""".split()  # noqa: SIM905
)
_PERSONA = re.compile(
    r"(?:system\s*(?:prompt|message)?\s*:\s*)?"
    r"(?:(?:you\s+are|you're)\s+(?:an?|the|my|now|here|acting|chatgpt|helpful|expert)|you\s+will\s+(?:be|act)|act\s+(?:as|like)|acting\s+as|imagine\s+(?:that\s+)?you|"
    r"pretend\s+(?:that\s+|to\s+)?(?:you|be)|as\s+(?:an?|the)\s+(?:\w+\s+){0,4}(?:assistant|expert|ai|model|tutor|teacher|"
    r"professor|specialist|professional|chatbot)\b|i\s+want\s+you\s+to\s+act|your\s+(?:role|job|task|goal)\s+is\s+to\s+"
    r"(?:answer|help|assist|be|respond|provide|give)|always\s+(?:answer|be|respond|reply|give|think)|"
    r"(?:answer|respond|reply|think)\s+(?:as|with|in|only|step|carefully|honestly|truthfully|thoroughly|concisely|briefly))"
    r"\b[^.!?:\n]{0,220}(?:[.!:?]+(?=\s|$)|\n+|,\s+and\s+here\s+is\s+your\s+task:)",
    re.IGNORECASE,
)
_ROLE = re.compile(
    r"(?:#{1,6}\s*)?(?:\[|<\|?|\*\*)?"
    r"(?:system|user|human|assistant|question|q|prompt|query|instructions?|input|task|problem|answer|a|response|output)"
    r"(?:\]|\|?>|\*\*)?\s*(?::|\n)\s*(?:\*\*)?\s*",
    re.IGNORECASE,
)
_LABEL_WORDS = frozenset(["answer", "response", "output", "solution", "assistant", "a", "question", "prompt"])
_TAIL_LABEL = re.compile(r"\s+(?:#+\s*)?(?:answer|response|output|solution|assistant)\s*:\s*$", re.IGNORECASE)
_TAIL_WORDS = _EMPTY_WORDS | _LABEL_WORDS
_TAIL_MARKS = " .!?:;,-\n\t*_~)("
_BREAK = re.compile(r"[.!?:;,\n]+")
_BREAKS = ".!?:;,\n"  # the characters of _BREAK
_GREETINGS = frozenset(
    """hi hello hey dear good please kindly thanks thank greetings ok okay sorry excuse welcome hiya""".split()  # noqa: SIM905
)
# First words after which something may be taken off the head: whatever begins otherwise is left alone at once. "" is a
# text that begins with no letter.
_PERSONA_WORDS = frozenset(
    """system you you're act acting imagine pretend as i your always answer respond reply think""".split()  # noqa: SIM905
) | {""}
_ROLE_WORDS = frozenset(
    """system user human assistant question q prompt query instruction instructions input task problem answer a response
    output""".split()  # noqa: SIM905
) | {""}
_COURTESY_WORDS = frozenset("please kindly could can would will i help hi hello hey dear good".split()) | {""}  # noqa: SIM905
_PRINTABLE = bytes(range(32, 127))
_OPENING_WORDS = _PERSONA_WORDS | _ROLE_WORDS | _COURTESY_WORDS
_STRIPPABLE = _EMPTY_WORDS | _OPENING_WORDS
_FIRST = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_SYMBOL = re.compile(r"[^\w\s.,!?:;'\-()*#\"_]|\d")
_THANKS = frozenset(["please", "pls", "plz", "thx", "ty", "cheers", "regards", "bye"])
_PASSED_WORDS = _EMPTY_WORDS - _LABEL_WORDS - _THANKS - {"thank", "thanks"}  # end nothing by themselves
_GLANCE = 40  # characters, some seven words: most texts are settled by those at either end
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_COURTESY_HEAD = re.compile(
    r"(?:(?:please|kindly|could\s+you|can\s+you|would\s+you|will\s+you|i\s+would\s+like\s+you\s+to|"
    r"i\s+want\s+you\s+to|i\s+need\s+you\s+to|help\s+me(?:\s+to)?|hi|hello|hey|dear\s+\w+|good\s+(?:morning|afternoon|evening))"
    r"(?:\s+(?:please|kindly|there))?\s*[,!-]*\s+)",
    re.IGNORECASE,
)


def printable(text: str) -> bool:
    """`text.isprintable()`, at a quarter of its time where all is ASCII."""
    return not text.encode("ascii").translate(None, _PRINTABLE) if text.isascii() else text.isprintable()


def cut(text: str) -> str:
    """Head and tail of a long text: bounded work whatever comes in."""
    return text if len(text) <= HEAD + TAIL else text[:HEAD] + "\n" + text[-TAIL:]


def folded(text: str) -> str:
    """Every run of white space as one space, none at the ends."""
    if printable(text) and not _has_room(text):
        return text  # nothing to fold, which is the ordinary case after core_text
    return " ".join(text.split())


def _has_room(text: str) -> bool:
    """Whether a printable text has more spaces than between its words."""
    return "  " in text or text[:1] == " " or text[-1:] == " "


def fold(text: str) -> str:
    """One spelling for quotation marks, dashes and width variants."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text.translate(_FOLD))


def _asks_nothing(sentence: str) -> bool:
    count = 0
    for found in _WORD.finditer(sentence.lower()):
        count += 1
        if count > 30 or found.group() not in _EMPTY_WORDS:
            return False
    return count > 0 and _SYMBOL.search(sentence) is None


def _greets(sentence: str) -> bool:
    """A clause that ends in a comma is dropped only when it is plainly a greeting: "If, on average" is not."""
    words = _WORD.findall(sentence.lower())
    return bool(words) and words[0] in _GREETINGS and _asks_nothing(sentence)


def _substance(text: str) -> int:
    """Where the first word stands that asks for something; as far as is looked if there is none."""
    for found in _WORD.finditer(text, 0, _LONGEST_BOILERPLATE):
        if found.group().lower() not in _EMPTY_WORDS:
            return found.start()
    return _LONGEST_BOILERPLATE


def _head_end(text: str) -> int:
    """Where the rest begins after a first sentence that asks nothing; 0 when it asks something."""
    for found in _BREAK.finditer(text, 1, _substance(text)):
        end = found.end()
        if "\n" in found.group() or end == len(text) or text[end].isspace():
            empty = _greets if found.group() == "," else _asks_nothing
            return end if empty(text[: found.start()]) else 0
    return 0


def _begins_with_substance(text: str) -> bool:
    """Whether a text plainly comes to what it asks before anything that could be taken off: the ordinary case, settled
    by a few words and no regular expression. False says nothing.
    """
    words = text[:_GLANCE].split(" ")
    if words[0].lower() in _OPENING_WORDS:
        return False
    for word in words[:-1]:  # the last may be half a word
        if not word.isalpha():
            return False
        if word.lower() not in _EMPTY_WORDS:
            return True
    return False


def _strip_head(text: str) -> str:
    if _begins_with_substance(text):
        return text
    for _ in range(_ROUNDS):
        end = _head_end_of(text)
        if not end or end >= len(text):
            return text
        text = text[end:].lstrip()
    return text


def _head_end_of(text: str) -> int:
    """Where the rest begins after a persona, a role, a sentence that asks nothing, or a courtesy; 0 without any."""
    first = _FIRST.match(text)
    word = "" if first is None else first.group().lower()
    if word not in _STRIPPABLE:
        return 0
    found = _PERSONA.match(text) if word in _PERSONA_WORDS else None
    if found is None and word in _ROLE_WORDS:
        found = _ROLE.match(text)
    end = found.end() if found is not None else _head_end(text)
    if not end and word in _COURTESY_WORDS:
        found = _COURTESY_HEAD.match(text)
        end = found.end() if found is not None else 0
    return end


def _tail_start(text: str) -> int:
    """Where a last sentence that asks nothing begins; 0 when it asks something or is all there is."""
    end = len(text.rstrip(_TAIL_MARKS))
    low = max(0, end - _LONGEST_BOILERPLATE)
    start = max([text.rfind(mark, low, end) for mark in _BREAKS]) + 1
    if start <= low:
        return 0
    if text[start - 1] != "\n" and not text[start : start + 1].isspace():
        return 0
    last = text[start:]
    if (
        text[start - 1] in ".:)"
        and text[max(0, start - 3) : start - 1].strip().isalpha()
        and len(text[max(0, start - 3) : start - 1].strip()) == 1
    ):
        return 0  # "D. All of them" is an option of the question, not a courtesy
    if text[start - 1] == "," and not _greets(last):
        return 0
    label = last.strip().rstrip(":").lower()
    return start if label in _LABEL_WORDS or _asks_nothing(last) else 0


def _ends_with_substance(text: str) -> bool:
    """Whether the last words are plainly not all ones that a courtesy or a label could consist of: the ordinary case,
    settled by a few words. False says nothing.
    """
    words = text[-_GLANCE:].rstrip(_TAIL_MARKS).split(" ")
    for word in words[:0:-1]:  # the first may be half a word
        if not (word.isalnum() and word.isascii()):
            return False
        low = word.lower()
        if low not in _TAIL_WORDS:
            return True
        if low not in _PASSED_WORDS:
            return False
    return False


def _strip_tail(text: str) -> str:
    if _ends_with_substance(text):
        return text
    if ":" in text[-40:]:
        label = _TAIL_LABEL.search(text, max(0, len(text) - 40))
        if label is not None and label.start() > 0:
            text = text[: label.start()]
    for _ in range(_ROUNDS):
        start = _tail_start(text)
        if not start:
            break
        text = text[:start].rstrip()
    tail = text[-90:]
    low = tail.lower()
    at = low.rfind(" thank") if len(low) == len(tail) else -1  # "... in 1990 Thank you very much": no full stop before
    if at >= 0 and len(text) > len(tail) - at and _asks_nothing(tail[at:]):
        return text[: len(text) - len(tail) + at].rstrip(" ,")
    last = low.rstrip(" .!").rsplit(None, 1)
    if len(last) == 2 and last[1] in _THANKS:
        return text.rstrip(" .!").rsplit(None, 1)[0].rstrip(" ,")
    return text


def readable(text: str) -> bool:
    """Whether text is mostly made of characters that a person could have typed."""
    head = text[:HEAD]
    if head.isprintable():
        return True
    strange = sum(1 for c in head if not c.isprintable() and not c.isspace()) + head.count("\ufffd")
    return strange * 10 <= len(head)


def core_text(text: str) -> str:
    """What `text` asks, without greetings, courtesies, role labels and personas; all of `text` if nothing else is left.

    White space is folded first: layout changes nothing. Only head and tail of a long text are looked at.
    """
    return stripped(text)[0]


def stripped(text: str) -> tuple[str, bool]:
    """(`core_text`, whether all its characters can be printed: then no white space but single spaces is in it)."""
    if len(text) > 4 * (HEAD + TAIL):
        text = text[: 4 * HEAD] + "\n" + text[-4 * TAIL :]
    whole = fold(text)
    plain = printable(whole)
    if not plain or _has_room(whole):
        whole = " ".join(whole.split())
        plain = plain or printable(whole)
    if len(whole) > HEAD + TAIL:
        whole, plain = cut(whole), False  # a line break is where it was cut
    core = _strip_tail(_strip_head(whole))
    if core[:1].isalpha() or _WORD.search(core) or any(c.isdigit() for c in core):
        return core, plain
    return whole, plain
