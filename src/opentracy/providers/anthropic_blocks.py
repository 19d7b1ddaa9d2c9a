"""Whole answers in Anthropic's own blocks, for turns in which its servers used tools of their own.

OpenAI's form has no place for a search, its results or their sealed citations, yet a paused turn goes on, and a cited
source is known again, only if they all come back as they were. So such an answer carries its blocks beside the message
(`content_blocks`), and a message that still says the same is sent as those blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .content import arguments_object
from .fields import objects

Block = dict[str, Any]
FIELD = "content_blocks"
_CLIENT = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})
# a piece of a block in a stream: kind of delta -> its field in the delta, and in the block
_GROWING = {
    "text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"), "input_json_delta": ("partial_json", "input"),
}  # fmt: skip


def may_work_on_server(params: Mapping[str, Any]) -> bool:
    """Whether a request lets Anthropic's servers use tools of their own, or sum up what was said before."""
    if params.get("web_search_options") is not None or params.get("mcp_servers") or params.get("context_management"):
        return True
    return any("function" not in tool for tool in objects(params.get("tools")))


def worked_on_server(blocks: Any) -> bool:
    """Whether an answer's blocks hold more than text, thoughts and calls of the caller's tools."""
    return any(str(block.get("type")) not in _CLIENT or _is_member(block) for block in objects(blocks))


def _is_member(block: Block) -> bool:
    """Whether a call names the toolset of Anthropic's that its tool belongs to, or the code that made it."""
    caller = block.get("caller")
    return block.get("toolset_name") is not None or (isinstance(caller, dict) and caller.get("type") != "direct")


def echo(message: Mapping[str, Any]) -> list[Block] | None:
    """The blocks to send for an assistant message that kept them; None where it has none or was changed since."""
    blocks = objects(message.get(FIELD))
    if not blocks:
        return None
    said = "".join(b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str))
    made = [b.get("id") for b in blocks if b.get("type") == "tool_use"]
    calls = [c.get("id") for c in objects(message.get("tool_calls"))]
    if said != (message.get("content") or "") or made != calls:
        return None
    return [dict(b) for b in blocks if b.get("type") != "text" or b.get("text")]


class RawBlocks:
    """Collects the blocks of a stream."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}

    def start(self, index: int, raw: Block) -> None:
        """A block begins."""
        self._blocks[index] = dict(raw)

    def delta(self, index: int, delta: Any) -> None:
        """A piece of a block: a delta with `type`, and the field that goes with it."""
        block = self._blocks.get(index)
        if block is None:
            return
        if delta.type == "citations_delta" and delta.citation is not None:
            before = block.get("citations")
            block["citations"] = [*(before if isinstance(before, list) else ()), delta.citation]
        elif delta.type == "compaction_delta":
            block.update({k: v for k in ("content", "encrypted_content") if (v := getattr(delta, k)) is not None})
        elif delta.type in _GROWING:
            source, field = _GROWING[delta.type]
            self._pieces.setdefault((index, field), []).append(getattr(delta, source))

    def whole(self) -> list[Block] | None:
        """All blocks, if the servers used tools; else None."""
        for (index, field), pieces in self._pieces.items():
            text = "".join(pieces)
            block = self._blocks[index]
            before = block.get(field)
            if field == "input":
                block[field] = arguments_object(text)
            else:
                block[field] = before + text if isinstance(before, str) else text
        self._pieces.clear()
        blocks = [block for _, block in sorted(self._blocks.items())]
        return blocks if worked_on_server(blocks) else None
