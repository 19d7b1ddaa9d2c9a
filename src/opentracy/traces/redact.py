"""Redaction: what must not reach the disk, taken out before anything is encoded.

Belongs here: the patterns, and applying them to a record. It runs on the writer's thread
(`TraceWriter(before_write=...)`), so neither the journal nor the spill file nor an index ever sees the original.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .model import Attempt, TraceRecord

Content = Literal["all", "redacted", "none"]


def _luhn(digits: str) -> bool:
    """The check digit of card numbers."""
    numbers = [int(digit) for digit in digits if digit.isdigit()]
    if not 13 <= len(numbers) <= 19 or len(set(numbers)) == 1:
        return False
    doubled = [n if at % 2 == 0 else n * 2 - 9 * (n > 4) for at, n in enumerate(reversed(numbers))]
    return sum(doubled) % 10 == 0


def _iban(text: str) -> bool:
    """The check digits of account numbers (ISO 13616)."""
    compact = re.sub(r"[ -]", "", text).upper()
    if not 15 <= len(compact) <= 34:
        return False
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def _phone(text: str) -> bool:
    """Seven to fifteen digits; a plain run of digits without any sign of a telephone is a number like others."""
    if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", text):  # an address of the network
        return False
    digits = sum(letter.isdigit() for letter in text)
    return 8 <= digits <= 15 and (text.startswith(("+", "(", "00")) or bool(re.search(r"\d[ ./-]\d", text)))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A kind of secret: what it looks like, and a check that tells it from look-alikes."""

    name: str
    regex: re.Pattern[str]
    check: Callable[[str], bool] | None = None


#: in this order: what is most specific first, so that a card number is not taken for a telephone
PATTERNS: Final[tuple[Pattern, ...]] = (
    Pattern("jwt", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")),
    Pattern(
        "api_key",
        re.compile(
            r"""\b(?:sk|pk|rk|gsk|csk|xai|pplx|fw|hf|key|ot|glpat|npm)[-_][A-Za-z0-9_-]{16,}
            |\bAIza[A-Za-z0-9_-]{30,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}
            |\bgithub_pat_[A-Za-z0-9_]{30,}|\bxox[abeprs]-[A-Za-z0-9-]{10,}
            |-----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----[\s\S]*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
            |(?i:\bbearer[ ]+)[A-Za-z0-9._~+/=-]{15,}[A-Za-z0-9_~+/=-]""",
            re.VERBOSE,
        ),
    ),
    Pattern(
        "email",
        re.compile(r"[A-Za-z0-9._%+'-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b"),
    ),
    Pattern("iban", re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{2,4}){3,8}\b"), _iban),
    Pattern("card", re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])"), _luhn),
    Pattern("phone", re.compile(r"(?<![\w.+-])(?:\+|00)?\(?\d(?:[ ./()-]{0,2}\d){6,14}(?![\w])"), _phone),
)


def redact(text: str, patterns: Sequence[Pattern] = PATTERNS, counts: dict[str, int] | None = None) -> str:
    """The text with each secret replaced by `[its kind]`; `counts` is increased by kind."""
    for pattern in patterns:

        def replace(match: re.Match[str], pattern: Pattern = pattern) -> str:
            if pattern.check is not None and not pattern.check(match[0]):
                return match[0]
            if counts is not None:
                counts[pattern.name] = counts.get(pattern.name, 0) + 1
            return f"[{pattern.name}]"

        text = pattern.regex.sub(replace, text)
    return text


#: of a record, what people and providers write freely
_TEXTS: Final = (
    "error_msg", "error_type", "error_code", "finish_reason", "fallback_reason", "cluster_label", "user_id",
    "session_id",
)  # fmt: skip
#: names that a caller may have made up
_NAMES: Final = ("requested_model", "model", "provider", "alias", "project", "region", "fallback_from")
_ADDRESS: Final = tuple(pattern for pattern in PATTERNS if pattern.name in ("email", "jwt"))


def masked_name(name: str) -> str:
    """The name of a model or the like without the addresses and tokens in it. Other patterns would take real names,
    with their dates and versions, for telephone numbers and keys."""
    return redact(name, _ADDRESS) if "@" in name or "eyJ" in name else name


@dataclass(slots=True)
class Redactor:
    """A hook for `TraceWriter`: applies the content mode of each record.

    `content` is the mode of records that name none. `own` is the user's own callable, text in, text out; it runs
    after the patterns. In the mode `redacted` every text that a person or a provider wrote is gone over; in `none` the
    bodies are not kept and the rest is gone over all the same.
    """

    content: Content = "all"
    patterns: Sequence[Pattern] = PATTERNS
    own: Callable[[str], str] | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def __call__(self, record: TraceRecord) -> None:
        """Changes the record in place."""
        mode = record.content or self.content
        if mode not in ("all", "redacted", "none"):
            # an unknown mode must not mean "keep everything"
            mode = "none"
        record.content = None
        if mode == "all" and self.own is None:
            return
        if mode == "none":
            had = record.request is not None or record.response is not None
            record.request = record.response = None
            record.body_state = "none" if had else record.body_state
        elif record.request is not None or record.response is not None:
            record.request, record.response = self._body(record.request, mode), self._body(record.response, mode)
            record.body_state = "redacted" if mode == "redacted" else record.body_state
        self._fields(record, mode)

    def _fields(self, record: TraceRecord, mode: str) -> None:
        for name in _TEXTS:
            value = getattr(record, name)
            if value:
                setattr(record, name, self.text(value, mode))
        if mode != "all":
            for name in _NAMES:
                value = getattr(record, name)
                if value:
                    setattr(record, name, masked_name(value))
        for attempt in record.attempts:
            self._attempt(attempt, mode)
        if record.tags:
            record.tags = [self.text(tag, mode) for tag in record.tags]
        if record.metadata is not None:
            record.metadata = self._value(record.metadata, mode)

    def _attempt(self, attempt: Attempt, mode: str) -> None:
        if mode != "all":
            attempt.target, attempt.provider = masked_name(attempt.target), masked_name(attempt.provider)
        if attempt.code:
            attempt.code = self.text(attempt.code, mode)
        if attempt.reason:
            attempt.reason = self.text(attempt.reason, mode)

    def text(self, value: str, mode: str = "redacted") -> str:
        """One text, by the patterns (not in the mode `all`) and the user's callable."""
        if mode != "all":
            value = redact(value, self.patterns, self.counts)
        return value if self.own is None else self.own(value)

    def _value(self, value: Any, mode: str) -> Any:
        if isinstance(value, str):
            return self.text(value, mode)
        if isinstance(value, Mapping):
            return {self.text(str(key), mode): self._value(item, mode) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item, mode) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**7:
            # a card or telephone number may come as a number
            text = self.text(str(value), mode)
            return value if text == str(value) else text
        return value

    def _body(self, body: bytes | None, mode: str) -> bytes | None:
        """JSON is gone over value by value, since an escape (`\\u0040`) would hide what it spells."""
        if body is None:
            return None
        import msgspec

        try:
            return msgspec.json.encode(self._value(msgspec.json.decode(body), mode))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.text(body.decode("utf-8", "replace"), mode).encode()
