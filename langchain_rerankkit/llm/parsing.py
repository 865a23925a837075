"""What a model said, as an order of the passages it was shown: always a permutation, or an `OrderError`."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_rerankkit.errors import OrderError
from langchain_rerankkit.llm.answers import Identifiers

__all__ = ["ParsedOrder", "parse_best", "parse_order", "said", "without_thoughts"]

_READ = 100_000  # characters of an answer that are read; an order of a thousand passages has fewer
_NAMES = r"(?:\w{1,20}[:_])?(?:think|thinking|thought|thoughts|reason|reasoning|analysis|scratchpad|reflection)"
_CLOSED = re.compile(
    rf"</{_NAMES}>|\[/THINK\]|<\|end_of_thought\|>|<\|END_THINKING\|>|◁/think▷|<channel\|>"
    r"|<\|channel\|>\s*final\s*<\|message\|>",
    re.IGNORECASE,
)
_OPEN = re.compile(
    rf"<{_NAMES}>|\[THINK\]|<\|begin_of_thought\|>|<\|START_THINKING\|>|◁think▷|<\|channel>\s*thought\b"
    r"|<\|channel\|>\s*analysis\b",
    re.IGNORECASE,
)

_UNMARKED = re.compile(r"\s*analysis[A-Z]")  # gpt-oss, where a server drops the marks of its channels
_UNMARKED_END = "assistantfinal"

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
# After these a model that does not stop writes the user's next turn.
_END = re.compile(
    r"<\|(?:im_end|im_start|eot_id|end|return|end_of_text|endoftext|end.of.sentence)\|>|</s>|<end_of_turn>"
)
_BRACKETS = str.maketrans("【】〔〕「」", "[][][]")  # noqa: RUF001 - that is the point; the wide [] are NFKC's business


@dataclass(frozen=True)
class ParsedOrder:
    """An answer, made into an order.

    Attributes:
        order: A permutation of the positions of the passages shown, best first.
        repeated: Identifiers that came again; their first place counts.
        missing: Passages that the answer leaves out; they follow in the order they were shown.
        unknown: Identifiers that no passage has.
    """

    order: list[int]
    repeated: int = 0
    missing: int = 0
    unknown: int = 0

    @property
    def repairs(self) -> int:
        """How many things had to be mended."""
        return self.repeated + self.missing + self.unknown


def said(answer: Any) -> str:
    """The text of a model's answer: arguments of its tool call where it made one, else what it wrote.

    Args:
        answer: A message, or a text.
    """
    for call in getattr(answer, "tool_calls", None) or ():
        return json.dumps(call.get("args"), ensure_ascii=False, default=str)
    for call in getattr(answer, "invalid_tool_calls", None) or ():
        return str(call.get("args") or "")
    text = getattr(answer, "text", answer)
    return text if type(text) is str else "" if text is None else str(text)


def parse_order(answer: str, identifiers: Sequence[str]) -> ParsedOrder:
    """Read an order.

    Thoughts are left out. JSON is read as such; else identifiers in square brackets are preferred to bare ones. A chain
    with ``>`` counts first, then a list with an identifier in each line, then other chains, then the order in which
    identifiers in brackets are mentioned. Digits of all scripts and letters of either case count. What can be read as
    an order and as something else (``3: 1``, a place or a grade?) is none.

    Args:
        answer: What the model said.
        identifiers: Of the passages, in the order they were shown; all numbers, all letters, or all codes of both.

    Raises:
        OrderError: If it names no passage in a form that could be an order.
    """
    return _ordered(Identifiers(identifiers), answer, _readable(answer))


def parse_best(answer: str, identifiers: Sequence[str]) -> ParsedOrder:
    """Read which passage a model calls the best: it comes first, the others follow as they were shown.

    Args:
        answer: What the model said.
        identifiers: As for `parse_order`.

    Raises:
        OrderError: If it names no passage, or several without calling one of them the best.
    """
    named, text = Identifiers(identifiers), _readable(answer)
    found = [named.positions[token] for token in named.alone(text) if token in named.positions]
    best = found[0] if found else _ordered(named, answer, text).order[0]
    return ParsedOrder([best, *(position for position in range(len(identifiers)) if position != best)])


def without_thoughts(answer: str) -> str:
    """The answer after all thinking; empty where the thinking never ended."""
    stop = max((match.end() for match in _CLOSED.finditer(answer)), default=0)
    if (place := answer.rfind(_UNMARKED_END, stop)) >= 0:
        stop = place + len(_UNMARKED_END)
    text = answer[stop:]
    if not stop and _UNMARKED.match(text):
        return ""
    begun = _OPEN.search(text)
    return text[: begun.start()] if begun else text


def _ordered(named: Identifiers, answer: str, text: str) -> ParsedOrder:
    """The order that the readable text of an answer gives."""
    known: dict[int, None] = {}
    repeated = unknown = 0
    for token in named.read(text):
        position = named.positions.get(token)
        if position is None:
            unknown += 1
        elif position in known:
            repeated += 1
        else:
            known[position] = None
    if not known:
        raise _unusable(answer, text)
    left = [position for position in range(len(named.positions)) if position not in known]
    return ParsedOrder([*known, *left], repeated, len(left), unknown)


def _readable(answer: str) -> str:
    text = html.unescape(without_thoughts(answer)[:_READ]).translate(_BRACKETS)
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))[:_READ]
    text = _END.split(text.lstrip("\n "), maxsplit=1)[0] or text
    return text.replace("\\[", "[").replace("\\]", "]").replace("\\succ", ">")


def _unusable(answer: str, text: str) -> OrderError:
    if not answer.strip():
        what = "is empty"
    elif not text.strip():
        what = "ends before the thinking does: allow more output tokens, or switch thinking off"
    else:
        what = "names none of the passages as an order"
    return OrderError(f"The model's answer {what}.", answer=answer)
