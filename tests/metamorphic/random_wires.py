"""Any answer that a provider's documented grammar allows, spelled whole and as a stream, at random.

An `Answer` is what the model said, step by step; `said` is what a caller must be told of it, worked out from the steps
alone. A wire spells it: `plain` as a JSON document, `stream` as bytes, with everything that the documents leave open
(where pieces are cut, what stands between them, which optional fields there are) drawn by Hypothesis.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from opentracy.core.eventstream import encode_message

Json = Any
Draw = Callable[[st.SearchStrategy[Any]], Any]

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(lambda t: "think>" not in t)
NAMES = st.sampled_from(["weather", "now", "a_b-c"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, lambda v: st.lists(v, max_size=2), max_leaves=3)
ARGUMENTS = st.dictionaries(TEXT, VALUES, max_size=2)


@dataclass(frozen=True)
class Step:
    """`kind`: text, thought or call. `text`: what is said or thought; a call has a name and arguments."""

    kind: str
    text: str = ""
    name: str = ""
    arguments: Json = None


@dataclass(frozen=True)
class Answer:
    steps: tuple[Step, ...]
    prompt: int
    cached: int
    output: int
    cut: bool

    def said(self) -> dict[str, Json]:
        text = "".join(s.text for s in self.steps if s.kind == "text")
        calls = [(s.name, s.arguments) for s in self.steps if s.kind == "call"]
        return {
            "content": text,
            "reasoning": "".join(s.text for s in self.steps if s.kind == "thought"),
            "calls": calls,
            "finish": "length" if self.cut else "tool_calls" if calls else "stop",
            "usage": (self.prompt, self.output, self.cached),
        }


@st.composite
def answers(draw: Draw, *, ordered: bool, thoughts: bool = True) -> Answer:
    """`ordered`: thoughts, then text, then calls, each text and thought as one; else in any order, as blocks may be."""
    kinds = ["text", "call", *(["thought"] if thoughts else [])]
    found = []
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=5)):
        if kind == "call":
            found.append(Step("call", name=draw(NAMES), arguments=draw(ARGUMENTS)))
        else:
            found.append(Step(kind, draw(TEXT)))
    if ordered:
        found.sort(key=lambda s: ("thought", "text", "call").index(s.kind))
        found = [s for n, s in enumerate(found) if s.kind == "call" or all(o.kind != s.kind for o in found[:n])]
    prompt = draw(st.integers(1, 9999))
    return Answer(tuple(found), prompt, draw(st.integers(0, prompt)), draw(st.integers(0, 999)), draw(st.booleans()))


def pieces(draw: Draw, text: str) -> list[str]:
    """The text in one to four pieces, empty ones among them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def dumped(draw: Draw, value: Json) -> str:
    """JSON text as different servers write it."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators)


def line(draw: Draw, event: Json, name: str = "") -> bytes:
    """One event of a stream, with the liberties that the standard gives."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    head = f"event:{draw(st.sampled_from(['', ' ']))}{name}{end}" if name else ""
    noise = draw(st.sampled_from(["", "", f": keep-alive{end}{end}", f"id: 7{end}", f"retry: 10{end}"]))
    return f"{noise}{head}data: {dumped(draw, event)}{end}{end}".encode()


class AnthropicWire:
    model, thinks = "anthropic/claude-sonnet-4-5", True
    answers = answers(ordered=False)

    def blocks(self, a: Answer) -> list[Json]:
        out: list[Json] = []
        for n, s in enumerate(a.steps):
            if s.kind == "text":
                out.append({"type": "text", "text": s.text})
            elif s.kind == "thought":
                out.append({"type": "thinking", "thinking": s.text, "signature": f"sig{n}"})
            else:
                out.append({"type": "tool_use", "id": f"toolu_{n}", "name": s.name, "input": s.arguments})
        return out

    def usage(self, a: Answer) -> Json:
        return {"input_tokens": a.prompt - a.cached, "cache_read_input_tokens": a.cached, "output_tokens": a.output}

    def stop(self, a: Answer) -> str:
        return "max_tokens" if a.cut else "tool_use" if a.said()["calls"] else "end_turn"

    def plain(self, draw: Draw, a: Answer) -> Json:
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": self.blocks(a),
                "stop_reason": self.stop(a), "stop_sequence": None, "usage": self.usage(a)}  # fmt: skip

    def stream(self, draw: Draw, a: Answer) -> bytes:
        head = {**self.plain(draw, a), "content": [], "stop_reason": None, "usage": {**self.usage(a), "output_tokens": 1}}
        events: list[Json] = [{"type": "message_start", "message": head}]
        for n, block in enumerate(self.blocks(a)):
            events += self.block(draw, n, block)
            events += draw(st.sampled_from([[], [{"type": "ping"}], [{"type": "brand_new", "index": n, "x": [1]}]]))
        delta = {"type": "message_delta", "delta": {"stop_reason": self.stop(a), "stop_sequence": None}}
        events.append({**delta, "usage": draw(st.sampled_from([self.usage(a), {"output_tokens": a.output}]))})
        events.append({"type": "message_stop"})
        return b"".join(line(draw, e, e["type"]) for e in events)

    def block(self, draw: Draw, n: int, block: Json) -> list[Json]:
        def deltas(kind: str, field: str, text: str) -> list[Json]:
            return [{"type": "content_block_delta", "index": n, "delta": {"type": kind, field: p}} for p in pieces(draw, text)]

        if block["type"] == "text":
            start, middle = {**block, "text": ""}, deltas("text_delta", "text", block["text"])
        elif block["type"] == "thinking":
            start = {**block, "thinking": "", "signature": ""}
            middle = deltas("thinking_delta", "thinking", block["thinking"]) + deltas("signature_delta", "signature", block["signature"])
        else:
            start = {**block, "input": {}}
            middle = deltas("input_json_delta", "partial_json", dumped(draw, block["input"])) if block["input"] else []
        begin = {"type": "content_block_start", "index": n, "content_block": start}
        return [begin, *middle, {"type": "content_block_stop", "index": n}]


class BedrockWire:
    model, thinks = "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", True
    answers = answers(ordered=False)

    def blocks(self, a: Answer) -> list[Json]:
        out: list[Json] = []
        for n, s in enumerate(a.steps):
            if s.kind == "text":
                out.append({"text": s.text})
            elif s.kind == "thought":
                out.append({"reasoningContent": {"reasoningText": {"text": s.text, "signature": f"sig{n}"}}})
            else:
                out.append({"toolUse": {"toolUseId": f"tooluse_{n}", "name": s.name, "input": s.arguments}})
        return out

    def usage(self, a: Answer) -> Json:
        parts = {"inputTokens": a.prompt - a.cached, "outputTokens": a.output, "totalTokens": a.prompt + a.output}
        return {**parts, "cacheReadInputTokens": a.cached, "cacheWriteInputTokens": 0}

    def stop(self, a: Answer) -> str:
        return "max_tokens" if a.cut else "tool_use" if a.said()["calls"] else "end_turn"

    def plain(self, draw: Draw, a: Answer) -> Json:
        message = {"role": "assistant", "content": self.blocks(a)}
        return {"output": {"message": message}, "stopReason": self.stop(a), "usage": self.usage(a), "metrics": {"latencyMs": 1}}

    def stream(self, draw: Draw, a: Answer) -> bytes:
        out: list[tuple[str, Json]] = [("messageStart", {"role": "assistant"})]
        for n, block in enumerate(self.blocks(a)):
            deltas: list[Json]
            if "toolUse" in block:
                use = block["toolUse"]
                start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
                out.append(("contentBlockStart", {"contentBlockIndex": n, "start": start}))
                text = dumped(draw, use["input"]) if use["input"] else ""
                deltas = [{"toolUse": {"input": p}} for p in pieces(draw, text)]
            elif "text" in block:
                deltas = [{"text": p} for p in pieces(draw, block["text"])]
            else:
                inner = block["reasoningContent"]["reasoningText"]
                deltas = [{"reasoningContent": {"text": p}} for p in pieces(draw, inner["text"])]
                deltas += [{"reasoningContent": {"signature": p}} for p in pieces(draw, inner["signature"])]
            out += [("contentBlockDelta", {"contentBlockIndex": n, "delta": d}) for d in deltas]
            out.append(("contentBlockStop", {"contentBlockIndex": n}))
            out += draw(st.sampled_from([[], [("brandNew", {"x": 1})]]))
        out.append(("messageStop", {"stopReason": self.stop(a)}))
        out.append(("metadata", {"usage": self.usage(a), "metrics": {"latencyMs": 1}}))
        padding = draw(st.sampled_from([{}, {"p": "abcdef"}]))
        return b"".join(
            encode_message({":message-type": "event", ":event-type": kind}, dumped(draw, {**event, **padding}).encode())
            for kind, event in out
        )


class GeminiWire:
    model, thinks = "gemini/gemini-2.5-flash", True
    answers = answers(ordered=False)

    def part(self, draw: Draw, s: Step, n: int) -> Json:
        if s.kind == "call":
            function = {"name": s.name, **({"args": s.arguments} if s.arguments or n % 2 else {})}
            return {"functionCall": function, **({"thoughtSignature": "U2ln"} if n % 3 == 0 else {})}
        return {"text": s.text, **({"thought": True} if s.kind == "thought" else {})}

    def usage(self, a: Answer) -> Json:
        thoughts = a.output // 3
        return {"promptTokenCount": a.prompt, "candidatesTokenCount": a.output - thoughts, "thoughtsTokenCount": thoughts,
                "cachedContentTokenCount": a.cached, "totalTokenCount": a.prompt + a.output}  # fmt: skip

    def event(self, a: Answer, parts: list[Json] | None, finish: str | None, usage: Json) -> Json:
        candidate: Json = {"index": 0}
        if parts is not None:
            candidate["content"] = {"role": "model", "parts": parts}
        if finish:
            candidate["finishReason"] = finish
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "g", "responseId": "r1"}

    def plain(self, draw: Draw, a: Answer) -> Json:
        parts = [self.part(draw, s, n) for n, s in enumerate(a.steps)]
        return self.event(a, parts, "MAX_TOKENS" if a.cut else "STOP", self.usage(a))

    def stream(self, draw: Draw, a: Answer) -> bytes:
        parts: list[Json] = []
        for n, s in enumerate(a.steps):
            whole = self.part(draw, s, n)
            parts += [whole] if s.kind == "call" else [{**whole, "text": p} for p in pieces(draw, s.text)]
        finish = "MAX_TOKENS" if a.cut else "STOP"
        early = draw(st.sampled_from([{"promptTokenCount": a.prompt}, {}]))
        events = []
        while parts:
            taken = draw(st.integers(1, 2))
            events.append(self.event(a, parts[:taken], draw(st.sampled_from([None, None, finish])), early))
            parts = parts[taken:]
        events.append(self.event(a, draw(st.sampled_from([None, [], [{"text": ""}]])), finish, self.usage(a)))
        return b"".join(f"data: {dumped(draw, e)}\r\n\r\n".encode() for e in events)


class CohereWire:
    model, thinks = "cohere/command-a-reasoning-08-2025", True
    answers = answers(ordered=True)

    def calls(self, draw: Draw, a: Answer) -> list[Json]:
        found = [s for s in a.steps if s.kind == "call"]
        return [{"id": f"c{n}", "type": "function", "function": {"name": s.name, "arguments": dumped(draw, s.arguments)}}
                for n, s in enumerate(found)]  # fmt: skip

    def end(self, a: Answer) -> Json:
        tokens = {"input_tokens": a.prompt, "output_tokens": a.output}
        word = "MAX_TOKENS" if a.cut else "TOOL_CALL" if a.said()["calls"] else "COMPLETE"
        return {"finish_reason": word, "usage": {"billed_units": tokens, "tokens": tokens, "cached_tokens": a.cached}}

    def plain(self, draw: Draw, a: Answer) -> Json:
        names = {"text": "text", "thought": "thinking"}
        content = [{"type": names[s.kind], names[s.kind]: s.text} for s in a.steps if s.kind != "call"]
        message: Json = {"role": "assistant", **({"content": content} if content else {})}
        if calls := self.calls(draw, a):
            message["tool_calls"] = calls
        return {"id": "r1", "message": message, **self.end(a)}

    def stream(self, draw: Draw, a: Answer) -> bytes:
        events: list[Json] = [{"type": "message-start", "id": "r1", "delta": {"message": {"role": "assistant", "content": []}}}]
        for n, s in enumerate(s for s in a.steps if s.kind != "call"):
            kind = "text" if s.kind == "text" else "thinking"
            events.append({"type": "content-start", "index": n, "delta": {"message": {"content": {"type": kind, kind: ""}}}})
            events += [{"type": "content-delta", "index": n, "delta": {"message": {"content": {kind: p}}}} for p in pieces(draw, s.text)]
            events.append({"type": "content-end", "index": n})
        for n, call in enumerate(self.calls(draw, a)):
            function = call["function"]
            whole = draw(st.booleans())
            start = {**call, "function": function if whole else {**function, "arguments": ""}}
            events.append({"type": "tool-call-start", "index": n, "delta": {"message": {"tool_calls": start}}})
            for p in [] if whole else pieces(draw, function["arguments"]):
                events.append({"type": "tool-call-delta", "index": n, "delta": {"message": {"tool_calls": {"function": {"arguments": p}}}}})
            events.append({"type": "tool-call-end", "index": n})
        events.append({"type": "message-end", "id": "r1", "delta": self.end(a)})
        return b"".join(line(draw, e, e["type"]) for e in events) + draw(st.sampled_from([b"", b"data: [DONE]\n\n"]))


class OpenAIWire:
    """One provider of the family; `thinks`: it tells its reasoning."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.thinks = not model.startswith("openai")
        self.answers = answers(ordered=True, thoughts=self.thinks)

    def usage(self, draw: Draw, a: Answer) -> Json:
        counts = {"prompt_tokens": a.prompt, "completion_tokens": a.output, "total_tokens": a.prompt + a.output}
        told = [{"prompt_tokens_details": {"cached_tokens": a.cached}}, {"prompt_cache_hit_tokens": a.cached}, {"cached_tokens": a.cached}]
        return {**counts, **draw(st.sampled_from(told))}

    def finish(self, draw: Draw, a: Answer) -> str:
        if a.cut:
            return "length"
        words = ["tool_calls", "stop"] if a.said()["calls"] else ["stop", "eos"]
        return str(draw(st.sampled_from(words)))

    def calls(self, draw: Draw, a: Answer) -> list[Json]:
        found = [s for s in a.steps if s.kind == "call"]
        return [{"id": f"call_{n}", "type": "function", "function": {"name": s.name, "arguments": dumped(draw, s.arguments)}}
                for n, s in enumerate(found)]  # fmt: skip

    def text(self, a: Answer, kind: str) -> str:
        return "".join(s.text for s in a.steps if s.kind == kind)

    def plain(self, draw: Draw, a: Answer) -> Json:
        message: Json = {"role": "assistant", "content": self.text(a, "text") or draw(st.sampled_from([None, ""]))}
        if thought := self.text(a, "thought"):
            form = draw(st.sampled_from(["reasoning", "reasoning_content", "parts"]))
            if form == "parts":
                message["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
                if text := self.text(a, "text"):
                    message["content"].append({"type": "text", "text": text})
            else:
                message[form] = thought
        calls = self.calls(draw, a)
        if calls or draw(st.booleans()):
            message["tool_calls"] = calls or draw(st.sampled_from([None, []]))
        choice = {"index": 0, "message": message, "finish_reason": self.finish(draw, a), "logprobs": None}
        return {"id": "r1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": self.usage(draw, a)}

    def deltas(self, draw: Draw, a: Answer) -> list[Json]:
        out: list[Json] = []
        form = draw(st.sampled_from(["reasoning", "reasoning_content", "parts"]))
        for p in pieces(draw, self.text(a, "thought")):
            part = [{"type": "thinking", "thinking": [{"type": "text", "text": p}]}]
            out.append({"content": part} if form == "parts" else {form: p, **draw(st.sampled_from([{}, {"content": None}, {"content": ""}]))})
        out += [{"content": p} for p in pieces(draw, self.text(a, "text"))]
        style = draw(st.sampled_from(["whole", "pieces", "no index"]))
        for n, call in enumerate(self.calls(draw, a)):
            index = {} if style == "no index" else {"index": n}
            if style != "pieces":
                out.append({"tool_calls": [{**index, **call}]})
                continue
            first = {**call["function"], "arguments": draw(st.sampled_from(["", None]))}
            out.append({"tool_calls": [{**index, **call, "function": first}]})
            again = draw(st.sampled_from([{}, {"id": call["id"]}, {"id": None, "type": "function"}]))
            out += [{"tool_calls": [{**index, **again, "function": {"arguments": p}}]} for p in pieces(draw, call["function"]["arguments"])]
        return out

    def stream(self, draw: Draw, a: Answer) -> bytes:
        head = {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        usage, place = self.usage(draw, a), draw(st.sampled_from(["apart", "last", "every", "groq"]))
        always = {"role": "assistant"} if draw(st.booleans()) else {}
        deltas = [{"role": "assistant", "content": draw(st.sampled_from(["", None]))}, *({**always, **d} for d in self.deltas(draw, a))]
        chunks = [{**head, "choices": [{"index": 0, "delta": d, "finish_reason": None, "logprobs": None}]} for d in deltas]
        last = {**head, "choices": [{"index": 0, "delta": draw(st.sampled_from([{}, {"content": ""}, {"content": None}])),
                                     "finish_reason": self.finish(draw, a)}]}  # fmt: skip
        chunks.append(last)
        if place == "apart":
            chunks.append({**head, "choices": [], "usage": usage})
        elif place == "groq":
            last["x_groq"] = {"id": "q", "usage": usage}
        else:
            last["usage"] = usage
        if place == "every":
            for n, chunk in enumerate(chunks[:-1]):
                chunk["usage"] = {"prompt_tokens": a.prompt, "completion_tokens": n, "total_tokens": a.prompt + n}
        opening = draw(st.sampled_from([[], [{**head, "choices": [], "prompt_filter_results": []}]]))
        return b"".join(line(draw, c) for c in [*opening, *chunks]) + draw(st.sampled_from([b"data: [DONE]\n\n", b"data:[DONE]\n\n", b""]))


OPENAI_WIRES = [
    OpenAIWire(m)
    for m in ("openai/m", "groq/m", "mistral/m", "deepseek/m", "together/m", "fireworks/m", "cerebras/m", "sambanova/m",
              "perplexity/sonar", "openrouter/m", "xai/m")
]  # fmt: skip
WIRES: list[Any] = [AnthropicWire(), BedrockWire(), GeminiWire(), CohereWire(), *OPENAI_WIRES]
