"""OpenAI's messages as Anthropic's system prompt and turns.

The wire wants turns that alternate and begin with the user, tool results first in the turn that follows the calls, no
empty text, and signed thoughts exactly as they were sent. Source: PROTOCOLS section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2s
from typing import Any

from .anthropic_blocks import echo
from .content import Media, Part, arguments_object, content_of, decoded_text, function_of, media_of, parts_of, text_of
from .fields import entries, objects

Block = dict[str, Any]
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_THOUGHTS = ("thinking", "redacted_thinking")
_NOWHERE = (0, 0)
FIRST_TURN = "(The conversation begins with the assistant.)"


def tool_use_id(id: Any) -> str:
    """A call id in the form that the wire takes. Equal ids stay equal, so calls and results still meet."""
    if isinstance(id, str) and _ID.fullmatch(id):
        return id
    return "toolu_" + blake2s(str(id).encode("utf-8", "replace"), digest_size=12).hexdigest()


def convert(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Block], list[Block]]:
    """(system blocks, turns) of a conversation; ValueError names a message that cannot be said on this wire."""
    system: list[Block] = []
    turns = _Turns()
    for number, message in enumerate(messages):
        role = message.get("role")
        if role in ("system", "developer"):
            system += _blocks(message, str(role))
        elif role == "user":
            turns.add("user", _blocks(message, "user"))
        elif role == "assistant":
            turns.add("assistant", _assistant(message, number, turns.open))
        elif role in ("tool", "function"):
            turns.add("user", [_result(message, turns.open)])
        else:
            raise ValueError(f"messages[{number}]: unknown role {role!r} (system, developer, user, assistant or tool)")
    return (system, turns.close()) if turns.turns or not system else ([], [{"role": "user", "content": system}])


class _Turns:
    """Turns in the making. `open`: ids of the calls made, for results that name none."""

    def __init__(self) -> None:
        self.turns: list[dict[str, Any]] = []
        self.open: list[str] = []

    def add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def close(self) -> list[dict[str, Any]]:
        """The turns in their final form."""
        turns = self.turns
        for turn in turns:
            if turn["role"] == "user":
                # the wire demands results first; sorting is stable, so everything else keeps its order
                turn["content"].sort(key=lambda b: b["type"] != "tool_result")
        if not turns:
            return turns
        if turns[0]["role"] != "user":
            turns.insert(0, {"role": "user", "content": FIRST_TURN})
        last = turns[-1]
        if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
            last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()  # a prefill must not end in white space
        for turn in turns:
            content = turn["content"]
            if len(content) == 1 and content[0].keys() == {"type", "text"}:
                turn["content"] = content[0]["text"]
        return turns


def _blocks(message: Mapping[str, Any], role: str) -> list[Block]:
    """The content of a message as blocks; a cache mark on the message counts for its last block."""
    blocks = [block for part in parts_of(content_of(message), role) if (block := _block(part)) is not None]
    if blocks and isinstance(message.get("cache_control"), dict):
        blocks[-1].setdefault("cache_control", dict(message["cache_control"]))
    return blocks


def _block(part: Part) -> Block | None:
    """One content part as a block; None for empty text, which the wire refuses."""
    text = text_of(part)
    if text is not None:
        return _marked({"type": "text", "text": text}, part) if text.strip() else None
    media = media_of(part)
    if media is None:
        return dict(part)  # a block of Anthropic's own: the caller knows what it is
    if part["type"] == "input_audio" or media.media_type.startswith(("audio/", "video/")):
        raise ValueError("Anthropic takes no audio or video: send text, images or documents")
    return _marked(_media_block(media, part["type"] == "file"), part)


def _marked(block: Block, part: Part) -> Block:
    for name in ("cache_control", "citations", "context"):
        if name in part and (name == "cache_control" or block["type"] == "document"):
            block[name] = part[name]
    return block


def _media_block(media: Media, is_file: bool) -> Block:
    """A picture or document; a file of which nothing tells the type is taken for a document."""
    if media.file_id is not None:
        kind = "image" if media.media_type.startswith("image/") else "document"
        return _titled({"type": kind, "source": {"type": "file", "file_id": media.file_id}}, media)
    if media.url is not None:
        kind = "document" if not media.media_type.startswith("image/") and (media.media_type or is_file) else "image"
        return _titled({"type": kind, "source": {"type": "url", "url": media.url}}, media)
    kind = "image" if media.media_type.startswith("image/") else "document"
    if media.media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": decoded_text(media.data or "")}
    else:
        media_type = "image/jpeg" if media.media_type == "image/jpg" else media.media_type
        source = {"type": "base64", "media_type": media_type, "data": media.data or ""}
    return _titled({"type": kind, "source": source}, media)


def _titled(block: Block, media: Media) -> Block:
    if media.name and block["type"] == "document":
        block["title"] = media.name
    return block


def _assistant(message: Mapping[str, Any], number: int, open_calls: list[str]) -> list[Block]:
    kept = echo(message)
    if kept is not None:
        open_calls += [block["id"] for block in kept if block["type"] == "tool_use"]
        return kept
    said = _blocks(message, "assistant")
    calls: list[Block] = []
    for n, call in enumerate(entries(message.get("tool_calls"), "tool_calls")):
        id, name, arguments = function_of(call)
        block: Block = {
            "type": "tool_use",
            "id": tool_use_id(id or f"call_{number}_{n}"),
            "name": name,
            "input": arguments_object(arguments),
        }
        open_calls.append(block["id"])
        calls.append(_marked(block, call))
    thoughts = [t for t in objects(message.get("thinking_blocks")) if t.get("type") in _THOUGHTS]
    return _woven(thoughts, said, calls) if thoughts else said + calls


def _woven(thoughts: list[Block], said: list[Block], calls: list[Block]) -> list[Block]:
    """Thoughts, text and calls in the order in which the model made them.

    Thoughts come first unless they tell (`after`: characters of text, number of calls before them) that they came
    later and the caller left the text as it was.
    """
    if not said:
        whole: str | None = ""
    else:
        whole = said[0]["text"] if len(said) == 1 and said[0]["type"] == "text" else None
    out: list[Block] = []
    text_done = calls_done = 0
    for thought in thoughts:
        sent = {k: thought[k] for k in ("type", "thinking", "signature", "data") if thought.get(k) is not None}
        if not (sent.get("signature") or sent.get("data") or sent.get("thinking")):
            continue
        text_before, calls_before = _place(thought.get("after"))
        if whole is not None and text_before <= len(whole):
            if whole[text_done:text_before].strip():
                out.append({**said[0], "text": whole[text_done:text_before]})
                text_done = text_before
            out += calls[calls_done:calls_before]
            calls_done = max(calls_done, calls_before)
        out.append(sent)
    if text_done and whole is not None:
        said = [{**said[0], "text": whole[text_done:]}] if whole[text_done:].strip() else []
    return out + said + calls[calls_done:]


def _place(after: Any) -> tuple[int, int]:
    """Characters of text and number of calls before a thought; zeros where it tells none."""
    told = after if isinstance(after, (list, tuple)) and len(after) == 2 else _NOWHERE
    return (told[0], told[1]) if all(type(n) is int and n >= 0 for n in told) else _NOWHERE


def _result(message: Mapping[str, Any], open_calls: list[str]) -> Block:
    id = message.get("tool_call_id")
    if id is None and open_calls:
        id = open_calls[0]
    use = tool_use_id(id)
    if use in open_calls:
        open_calls.remove(use)
    blocks = _blocks({"content": message.get("content")}, "tool")
    block: Block = {"type": "tool_result", "tool_use_id": use}
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        block["content"] = blocks[0]["text"]
    elif blocks:  # an empty result has no content at all: empty text is refused
        block["content"] = blocks
    for name in ("is_error", "cache_control"):
        if message.get(name) is not None:
            block[name] = message[name]
    return block
