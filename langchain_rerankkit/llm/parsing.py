"""What a model said, as an order of the passages it was shown: always a permutation, or an `OrderError`."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_rerankkit.errors import OrderError

__all__ = ["ParsedOrder", "parse_best", "parse_order", "said", "without_thoughts"]

_READ = 100_000  # characters of an answer that are read; an order of a thousand passages has fewer
_NAMES = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection"
_CLOSED = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]|<\|channel\|>\s*final\s*<\|message\|>|◁/think▷", re.IGNORECASE)
_OPEN = re.compile(rf"<(?:{_NAMES})>|\[THINK\]|<\|channel\|>\s*analysis\b|◁think▷", re.IGNORECASE)

_LABEL = r"(?:passages?|documents?|docs?|texts?|candidates?|items?|identifiers?|ids?|numbers?|no|nr)"
_TOKEN = re.compile(rf"(?:\b{_LABEL}[\s.:#_-]*|#)?(?P<token>[^\W_]{{1,12}})(?![^\W_])", re.IGNORECASE)
_GROUP = re.compile(r"\[([^\[\]]{1,4000})\]")
_MARKER = r"(?:\(?\d{1,4}[.):]\s*|[-*•]\s+)"
_BETWEEN = re.compile(rf"""[\s>,;=|/→≻»*_`"'.-]*(?:\b(?:and|then)\b\s*)?{_MARKER}?[\s*_`"']*""", re.IGNORECASE)
_LONGEST_NUMBER = 12  # digits
_LONGEST_GAP = 40  # characters between two identifiers of a chain
_BRACKETS = str.maketrans("【】〔〕「」", "[][][]")  # noqa: RUF001 - that is the point; the wide [] are NFKC's business
_KEYS = ("ranking", "order", "ranked", "permutation", "result", "results", "answer", "identifiers", "ids")
_ID_KEYS = ("id", "identifier", "index", "passage", "document", "number", "passage_id", "document_id", "doc_id")


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

    Thoughts are left out. JSON is read as such; else identifiers in square brackets are preferred; without any, a
    chain of bare identifiers (``2 > 1``, or lines that begin with one). Digits of all scripts count, in any case.

    Args:
        answer: What the model said.
        identifiers: Of the passages, in the order they were shown; all numbers, all letters, or all codes of both.

    Raises:
        OrderError: If it names no passage in a form that could be an order.
    """
    named = _Identifiers(identifiers)
    text = _readable(answer)
    found = named.in_json(text) or named.in_brackets(text) or named.in_chain(text)
    known: list[int] = []
    repeated = unknown = 0
    for token in found:
        position = named.positions.get(token)
        if position is None:
            unknown += 1
        elif position in known:
            repeated += 1
        else:
            known.append(position)
    if not known:
        raise _unusable(answer)
    left = [position for position in range(len(identifiers)) if position not in set(known)]
    return ParsedOrder([*known, *left], repeated, len(left), unknown)


def parse_best(answer: str, identifiers: Sequence[str]) -> ParsedOrder:
    """Read which passage a model calls the best: it comes first, the others follow as they were shown.

    Args:
        answer: What the model said.
        identifiers: As for `parse_order`.

    Raises:
        OrderError: If it names no passage, or several without calling one of them the best.
    """
    named = _Identifiers(identifiers)
    found = [named.positions[token] for token in named.alone(_readable(answer)) if token in named.positions]
    best = found[0] if found else parse_order(answer, identifiers).order[0]
    return ParsedOrder([best, *(position for position in range(len(identifiers)) if position != best)])


def without_thoughts(answer: str) -> str:
    """The answer after all thinking; empty where the thinking never ended."""
    ends = [match.end() for match in _CLOSED.finditer(answer)]
    text = answer[ends[-1] :] if ends else answer
    begun = _OPEN.search(text)
    return text[: begun.start()] if begun else text


def _readable(answer: str) -> str:
    return unicodedata.normalize("NFKC", without_thoughts(answer)[:_READ].translate(_BRACKETS))


class _Identifiers:
    """The identifiers of one prompt, and the ways in which an answer may name them."""

    def __init__(self, identifiers: Sequence[str]) -> None:
        self.positions = {_fold(identifier): position for position, identifier in enumerate(identifiers)}
        folded = list(self.positions)
        # What looks like one of them, so that one that no passage has is told from prose.
        if all(identifier.isdigit() for identifier in folded):
            self._shape = re.compile(r"\d{1,9}")
        elif all(identifier.isalpha() for identifier in folded):
            self._shape = re.compile(r"[a-z]{1,2}")
        else:
            lengths = [len(identifier) for identifier in folded]
            self._shape = re.compile(rf"(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{{{min(lengths)},{max(lengths)}}}")

    def in_json(self, text: str) -> list[str]:
        fenced = re.search(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
        try:
            value = json.loads((fenced.group(1) if fenced else text).strip())
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, (list, dict)):
            return []
        return [token for item in _scalars(value) for token in self._tokens(item)]

    def in_brackets(self, text: str) -> list[str]:
        """Those in square brackets: of the longest chain where there is one, else all."""
        tokens: list[tuple[str, int, int]] = []
        for group in _GROUP.finditer(text):
            tokens.extend((token, group.start(), group.end()) for token in self._tokens(group.group(1)))
        chain = self._longest_chain(text, tokens)
        if len(set(chain)) > 1:
            return chain
        every = [token for token, _, _ in tokens]
        return every if any(token in self.positions for token in every) else []

    def in_chain(self, text: str) -> list[str]:
        """Bare ones, where they can be nothing but an order; a number in prose is none."""
        if alone := self.alone(text):
            return alone
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        places = [int(match.group(1)) for line in lines if (match := re.match(r"(\d{1,4})[.)]\s", line))]
        if len(places) == len(lines) > 1 and places == list(range(1, len(lines) + 1)):
            lines = [re.sub(r"^\d{1,4}[.)]\s+", "", line) for line in lines]  # those numbers are no identifiers
        text = "\n".join(lines)
        tokens = [
            (token, match.start(), match.end())
            for match in _TOKEN.finditer(text)
            if (token := self._token(match.group("token"))) and _is_bare(match.group("token"))
        ]
        chain = self._longest_chain(text, tokens, bare=True)
        return chain if len(self.positions.keys() & chain) > 1 else self._line_starts(lines)

    def alone(self, text: str) -> list[str]:
        """The one identifier that is all of the answer, perhaps with a word before it."""
        bare = re.fullmatch(
            rf"\W*(?:(?:the\s+)?(?:most\s+relevant|best|answer)\W+(?:{_LABEL}\W+)?(?:is\W+)?)?(.*?)\W*",
            text.strip()[:200],
            re.IGNORECASE | re.DOTALL,
        )
        match = _TOKEN.fullmatch(bare.group(1)) if bare else None
        token = self._token(match.group("token")) if match else None
        return [token] if token else []

    def _line_starts(self, lines: Sequence[str]) -> list[str]:
        tokens = []
        for line in lines:
            match = _TOKEN.match(line.lstrip("-*•` "))
            token = self._token(match.group("token")) if match else None
            if token and match and _is_bare(match.group("token")):
                tokens.append(token)
        # A list that names few of the passages is more likely prose.
        return tokens if len(self.positions.keys() & tokens) * 2 > len(self.positions) else []

    def _longest_chain(self, text: str, tokens: Sequence[tuple[str, int, int]], *, bare: bool = False) -> list[str]:
        """Identifiers with nothing but separators between them; of chains that name equally many, the last."""
        best: list[str] = []
        for chain, start, stop in _chains(text, tokens):
            known = len(self.positions.keys() & chain)
            prose = re.search(r"[^\W\d_]{2}", text[:start] + text[stop:])
            if bare and prose and known * 2 < len(self.positions) and not re.search(r"[>→≻\n]", text[start:stop]):
                continue  # "5, 6" in a sentence
            if known and known >= len(self.positions.keys() & best):
                best = chain
        return best

    def _tokens(self, text: str) -> list[str]:
        """Identifiers in a text that holds nothing else; none where it does."""
        tokens = []
        for piece in re.split(
            r"[\s,;>|\"'`{}:→≻]+", re.sub(rf"\b{_LABEL}\b[\s.:#_-]*", " ", text, flags=re.IGNORECASE)
        ):
            if not piece:
                continue
            token = self._token(re.sub(rf"^{_LABEL}[.:#_-]*(?=\d)", "", piece.strip("[]()#*."), flags=re.IGNORECASE))
            if token is None:
                return []
            tokens.append(token)
        return tokens

    def _token(self, piece: str) -> str | None:
        folded = _fold(piece)
        return folded if self._shape.fullmatch(folded) or folded in self.positions else None


def _is_bare(piece: str) -> bool:
    """Whether it may be an identifier without brackets: a small letter is a word."""
    return not piece.isalpha() or piece.isupper()


def _chains(text: str, tokens: Sequence[tuple[str, int, int]]) -> Iterator[tuple[list[str], int, int]]:
    """Runs of tokens with nothing but separators between them, with first character and the one after the last."""
    chain: list[str] = []
    first = stop = 0
    for token, start, end in tokens:
        gap = text[stop:start]  # empty for tokens of one group
        if chain and (len(gap) > _LONGEST_GAP or not _BETWEEN.fullmatch(gap)):
            yield chain, first, stop
            chain = []
        first = first if chain else start
        chain.append(token)
        stop = end
    if chain:
        yield chain, first, stop


def _scalars(value: Any, depth: int = 0) -> Iterator[str]:
    """Texts and whole numbers of a JSON value that could be identifiers, in order."""
    if isinstance(value, bool) or value is None or depth > 5:  # noqa: PLR2004 - deeper is no order
        return
    if isinstance(value, (int, str)):
        yield str(value)[:200] if isinstance(value, str) else (str(value) if abs(value) < 10**12 else "")
    elif isinstance(value, float):
        yield str(int(value)) if value.is_integer() and abs(value) < 10**12 else ""
    elif isinstance(value, list):
        for item in value:
            yield from _scalars(item, depth + 1)
    elif isinstance(value, dict):
        lowered = {str(key).lower(): item for key, item in value.items()}
        lists = [item for item in value.values() if isinstance(item, list)]
        named = [lowered[key] for key in (*_KEYS, *_ID_KEYS) if key in lowered]
        for item in (named or lists)[:1]:
            yield from _scalars(item, depth + 1)


def _fold(identifier: str) -> str:
    """Case, script of digits and leading zeros make no difference."""
    text = "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character
        for character in unicodedata.normalize("NFKC", identifier).casefold()
    )
    return str(int(text)) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else text


def _unusable(answer: str) -> OrderError:
    if not answer.strip():
        what = "is empty"
    elif not without_thoughts(answer).strip():
        what = "ends before the thinking does: allow more output tokens, or switch thinking off"
    else:
        what = "names none of the passages as an order"
    return OrderError(f"The model's answer {what}.", answer=answer)
