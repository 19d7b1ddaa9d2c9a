"""What the servers of the OpenAI family make of text, reasoning and finish words: the parts that plain answers and
streams share.

Nothing here knows about chunks or responses.
"""

from __future__ import annotations

from typing import Any

from ..core.jsonio import encode

FINISH = {
    "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop", "complete": "stop", "STOP": "stop",
    "max_tokens": "length", "model_length": "length", "MAX_TOKENS": "length",
    "tool_use": "tool_calls", "tool_call": "tool_calls",
}  # fmt: skip
"""Finish words of theirs -> OpenAI's. Words that are in neither column pass as they are."""
KNOWN_FINISH = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


def finish_word(word: Any, has_calls: bool) -> str:
    """OpenAI's finish reason: an answer with tool calls ends with "tool_calls", whatever its server calls a stop."""
    if not isinstance(word, str) or not word:
        return "tool_calls" if has_calls else "stop"
    word = FINISH.get(word, word)
    return "tool_calls" if has_calls and word == "stop" else word


def split_parts(parts: list[Any]) -> tuple[str, str, list[Any]]:
    """A list of content parts as (text, reasoning, all other parts)."""
    text: list[str] = []
    reasoning: list[str] = []
    rest: list[Any] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            text.append(part)
        elif kind == "text" and isinstance(part.get("text"), str):
            text.append(part["text"])
        elif kind == "thinking":
            inner = part.get("thinking")
            reasoning.append(split_parts(inner)[0] if isinstance(inner, list) else str(inner or ""))
        else:
            rest.append(part)
    return "".join(text), "".join(reasoning), rest


def says_nothing(arguments: str) -> bool:
    """Whether an argument text is none: some models write `null` for a call without arguments."""
    return arguments.strip() in ("", "null")


def arguments_text(value: Any) -> str:
    """Tool arguments as JSON text: text stays as it is, an object is written out, nothing at all is an empty object."""
    if isinstance(value, str):
        return "{}" if says_nothing(value) else value
    return "{}" if value is None else encode(value).decode()


def logprobs(value: Any, text: str = "") -> Any:
    """Log probabilities in OpenAI's form: from lists of tokens and numbers, its own form of old, or from the number of
    a stream's one token `text`. Anything else stays as it is."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"content": [_token(text, value, None)], "refusal": None} if text else None
    tokens = value.get("tokens") if isinstance(value, dict) and "content" not in value else None
    numbers = value.get("token_logprobs") if isinstance(value, dict) else None
    if not isinstance(tokens, list) or not isinstance(numbers, list):
        return value
    tops = value.get("top_logprobs")
    tops = tops if isinstance(tops, list) else []
    pairs = enumerate(zip(tokens, numbers, strict=False))
    content = [_token(token, number, tops[i] if i < len(tops) else None) for i, (token, number) in pairs]
    return {"content": content, "refusal": None}


def _token(token: Any, number: Any, others: Any) -> dict[str, Any]:
    token = token if isinstance(token, str) else ""
    found = others.items() if isinstance(others, dict) else ()
    return {
        "token": token, "logprob": number, "bytes": list(token.encode("utf-8", "replace")),
        "top_logprobs": [{"token": t, "logprob": n, "bytes": list(t.encode("utf-8", "replace"))} for t, n in found],
    }  # fmt: skip


class ThinkSplitter:
    """Takes `<think>...</think>` off the beginning of a text that comes in pieces; the same for any cut.

    `feed` returns (reasoning, text). A text that does not begin with the tag passes unchanged.
    """

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state = "before"  # before | thinking | gap (blank lines after the end tag) | text
        self._held = ""

    def feed(self, piece: str) -> tuple[str, str]:
        """What `piece` adds."""
        if self._state == "text":
            return "", piece
        self._held += piece
        if self._state == "before":
            start = self._held.lstrip()
            if not start.startswith("<think>"):
                return ("", "") if "<think>".startswith(start) else ("", self._rest("text"))
            self._held = start[7:]
            self._state = "opening"
        return self._thinking()

    def close(self) -> tuple[str, str]:
        """The end of the text: what was still held back."""
        inside = self._state in ("thinking", "opening")
        held = "" if self._state == "gap" else self._rest("text")
        return (held, "") if inside else ("", held)

    def _thinking(self) -> tuple[str, str]:
        if self._state == "opening":  # line ends right after the tag belong to the tag
            self._held = self._held.lstrip("\r\n")
            if not self._held:
                return "", ""
            self._state = "thinking"
        if self._state == "gap":
            return "", self._after()
        end = self._held.find("</think>")
        if end >= 0:
            reasoning, self._held = self._held[:end], self._held[end + 8 :]
            self._state = "gap"
            return reasoning, self._after()
        keep = next((n for n in range(7, 0, -1) if self._held.endswith("</think>"[:n])), 0)
        cut = len(self._held) - keep
        reasoning, self._held = self._held[:cut], self._held[cut:]
        return reasoning, ""

    def _after(self) -> str:
        self._held = self._held.lstrip()
        return self._rest("text") if self._held else ""

    def _rest(self, state: str) -> str:
        self._state = state
        held, self._held = self._held, ""
        return held
