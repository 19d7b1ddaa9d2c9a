"""What of Gemini's answers is neither text nor a call: pictures, speech, the code that it ran itself, and the unknown.

Whole and streamed answers use the same pieces. How messages carry pictures to Gemini stands in `gemini_messages`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from .gemini_signatures import extra_content

OTHER = "other_parts"
"""The field of a message that keeps parts for which OpenAI's form has no place, as they came."""


def _inline(part: Mapping[str, Any], kind: str) -> tuple[str, str] | None:
    """(media type, base64) of an inline part of that kind."""
    data = part.get("inlineData")
    media_type = str(data.get("mimeType") or "") if isinstance(data, dict) else ""
    if not isinstance(data, dict) or not media_type.startswith(kind):
        return None
    return media_type, data["data"] if isinstance(data.get("data"), str) else ""


def media_url(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """A generated picture as an `image_url` part, with its signature; a sketch among the thoughts is none."""
    found = None if part.get("thought") is True else _inline(part, "image/")
    if found is None:
        return None
    shown: dict[str, Any] = {"type": "image_url", "image_url": {"url": f"data:{found[0]};base64,{found[1]}"}}
    signature = part.get("thoughtSignature")
    return {**shown, "extra_content": extra_content(signature)} if isinstance(signature, str) and signature else shown


def says_something(part: Mapping[str, Any]) -> bool:
    """Whether a part holds more than marks."""
    return bool(part.keys() - {"thought", "thoughtSignature"})


class Speech:
    """A spoken answer in OpenAI's form (`audio`), of which the parts are joined as bytes: base64 cannot be.

    `add` and `end` give what may be shown: pieces whose base64 can simply be written one after the other.
    """

    def __init__(self, id: str) -> None:
        self._id = f"audio_{id}"
        self._rest = b""
        self._begun = False

    def add(self, part: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a part adds; None when it is no speech."""
        found = _inline(part, "audio/")
        if found is None:
            return None
        try:
            raw = self._rest + base64.b64decode(found[1])
        except binascii.Error:
            raw = self._rest
        whole = len(raw) - len(raw) % 3
        self._rest = raw[whole:]
        piece = {"data": base64.b64encode(raw[:whole]).decode()}
        if self._begun:
            return piece
        self._begun = True
        return {"id": self._id, "mime_type": found[0], **piece}

    def end(self) -> dict[str, Any] | None:
        """What was held back."""
        rest, self._rest = self._rest, b""
        return {"data": base64.b64encode(rest).decode()} if rest else None


class Executed:
    """Code that ran on Google's side, with its output, in the form in which other providers tell it."""

    def __init__(self) -> None:
        self.tools: list[dict[str, Any]] = []

    def add(self, part: Mapping[str, Any]) -> bool:
        """Whether a part was about that."""
        code, result = part.get("executableCode"), part.get("codeExecutionResult")
        if isinstance(code, dict):
            told = {"index": len(self.tools), "type": "code_execution", "arguments": str(code.get("code") or "")}
            self.tools.append(told)
            return True
        if isinstance(result, dict):
            if not self.tools or "output" in self.tools[-1]:
                self.tools.append({"index": len(self.tools), "type": "code_execution", "arguments": ""})
            self.tools[-1]["output"] = str(result.get("output") or "")
            if result.get("outcome") not in (None, "OUTCOME_OK"):
                self.tools[-1]["outcome"] = str(result["outcome"])
            return True
        return False
