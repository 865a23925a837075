"""What a model is asked: styles as data files, and documents made harmless before they are quoted."""

from __future__ import annotations

import hmac
import random
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import yaml
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

__all__ = [
    "GradedStyle",
    "ListwiseStyle",
    "draw",
    "fence",
    "harmless",
    "identifiers",
    "load_graded",
    "load_listwise",
    "style_names",
]

_LETTERS, _DIGITS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789"  # none that is read as another
_SHIPPED = files("langchain_rerankkit.llm").joinpath("prompts")
_PROCESS_KEY = secrets.token_bytes(32)
_OPENERS = "[\uff3b\u3010\u3014\u300c\uff62\u300e\u3016\u3018\u301a\u27e6\u2045\u2772\ufe5d\u298b\u298d\u298f"
_CLOSERS = "]\uff3d\u3011\u3015\u300d\uff63\u300f\u3017\u3019\u301b\u27e7\u2046\u2773\ufe5e\u298c\u298e\u2990"
_NOTHING = (
    r"\u00ad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"  # as good as nothing between signs
)
_BRACKETED = re.compile(
    rf"[{re.escape(_OPENERS)}]([\s{_NOTHING}]*(?:[^\W_][{_NOTHING}]*){{1,12}}(?:\s[\s{_NOTHING}]*)?)[{re.escape(_CLOSERS)}]"
)
_LONE = re.compile("[\ud800-\udfff]")  # halves of characters, which no request can carry
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What chat templates put between turns: servers that run one over the text would take it for a turn of its own.
_TURNS = re.compile(
    r"<([|｜][^<>\n]{1,40}|[^<>\n|｜]{1,40}[|｜])>|"  # noqa: RUF001
    r"<(/?s|(?:start|end)_of_(?:turn|text|utterance|image)|/?think(?:ing)?|/?tool_(?:call|response)s?|bos|eos|eot|unk|pad)>|"
    r"<(</?SYS>)>|\[(/?(?:INST|THINK|SYSTEM_PROMPT|gMASK|(?:AVAILABLE_)?TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)))\]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ListwiseStyle:
    """How passages are shown and an order is asked for. A file of prompts has these keys.

    Attributes:
        opening: Before the passages; may use ``{count}``, ``{query}`` and ``{fence}``.
        passage: Each passage; must use ``{identifier}`` and ``{text}``, may use ``{fence}``.
        order: After the passages; may use ``{count}``, ``{query}``, and ``{first}`` and ``{second}`` as examples of
            identifiers.
        best: In place of ``order`` where only the best is wanted; needed by the strategy "setwise".
        system: The system message; documents and query never go there.
        opening_reply: The model's part after ``opening``. With it and ``passage_reply`` each passage is a turn of its
            own, without them all is one turn.
        passage_reply: The model's part after each passage; may use ``{identifier}``.
        identifiers: ``"codes"`` nobody can guess, or what the model was trained on: ``"numbers"`` or ``"letters"``.
        structured: The answer is a tool call, or JSON of a schema, and not text.
    """

    opening: str
    passage: str
    order: str
    best: str = ""
    system: str = ""
    opening_reply: str = ""
    passage_reply: str = ""
    identifiers: Literal["codes", "numbers", "letters"] = "codes"
    structured: bool = False

    def messages(
        self, query: str, passages: Sequence[tuple[str, str]], fence: str, *, best: bool = False
    ) -> list[BaseMessage]:
        """The conversation that asks for an order.

        Args:
            query: The query, harmless.
            passages: Identifier and harmless text of each, at least two.
            fence: Name of the marks around each text.
            best: Ask for the most relevant passage only.
        """
        names = {"query": query, "count": str(len(passages)), "fence": fence}
        names |= {"first": passages[0][0], "second": passages[1][0]}
        said: list[tuple[str, str]] = [(self.opening.format_map(names), self.opening_reply)]
        for identifier, text in passages:
            names |= {"identifier": identifier, "text": text}
            said.append((self.passage.format_map(names), self.passage_reply.format_map(names)))
        said.append(((self.best if best else self.order).format_map(names), ""))
        messages: list[BaseMessage] = [SystemMessage(self.system)] if self.system else []
        if not self.opening_reply:
            return [*messages, HumanMessage("\n".join(user for user, _ in said))]
        for user, reply in said:
            messages.append(HumanMessage(user))
            if reply:
                messages.append(AIMessage(reply))
        return messages


@dataclass(frozen=True)
class GradedStyle:
    """How the relevance of one passage is asked for.

    Attributes:
        question: Must use ``{query}`` and ``{text}``, may use ``{fence}``.
        grades: What each answer is worth; 0 is not relevant at all.
        system: The system message.
    """

    question: str
    grades: Mapping[str, float]
    system: str = ""

    def messages(self, query: str, text: str, fence: str) -> list[BaseMessage]:
        """The conversation that asks for a grade of one harmless text."""
        said = HumanMessage(self.question.format_map({"query": query, "text": text, "fence": fence}))
        return [SystemMessage(self.system), said] if self.system else [said]


def load_listwise(style: str) -> ListwiseStyle:
    """A style by name or from a file.

    Args:
        style: Name of one that comes with the package, or the path of a YAML file with the keys of `ListwiseStyle`.

    Raises:
        ValueError: If there is no such style, or a key or placeholder of it is wrong.
    """
    chosen: ListwiseStyle = _load(ListwiseStyle, style)
    if chosen.identifiers not in {"codes", "numbers", "letters"}:
        msg = f"The prompt style {style!r} asks for identifiers {chosen.identifiers!r}: use codes, numbers or letters."
        raise ValueError(msg)
    if bool(chosen.opening_reply) != bool(chosen.passage_reply):
        msg = f"The prompt style {style!r} needs both opening_reply and passage_reply, or neither."
        raise ValueError(msg)
    frame = {"count", "query", "fence", "first", "second"}
    for key, allowed, needed in (
        ("opening", frame, set()),
        ("passage", {"identifier", "text", "fence"}, {"identifier", "text"}),
        ("passage_reply", {"identifier"}, set()),
        ("order", frame, set()),
        ("best", frame, set()),
    ):
        _check(style, key, getattr(chosen, key), allowed, needed)
    if "{query}" not in chosen.opening + chosen.order:
        msg = f"The prompt style {style!r} never shows the query: put {{query}} into 'opening' or 'order'."
        raise ValueError(msg)
    return chosen


def load_graded(style: str) -> GradedStyle:
    """A style for single passages, by name or from a file; see `load_listwise`."""
    chosen: GradedStyle = _load(GradedStyle, style)
    _check(style, "question", chosen.question, {"query", "text", "fence"}, {"query", "text"})
    grades = chosen.grades
    if not isinstance(grades, Mapping) or not all(isinstance(value, (int, float)) for value in grades.values()):
        msg = f"The prompt style {style!r} needs grades: a number for each answer."
        raise ValueError(msg)
    if len(set(grades.values())) < 2 or min(grades.values()) != 0:  # noqa: PLR2004
        msg = f"The prompt style {style!r} needs at least two grades, the lowest of them 0."
        raise ValueError(msg)
    return chosen


def style_names() -> list[str]:
    """Names of the styles that come with the package, of both kinds."""
    return sorted(_names("passage") + _names("question"))


def draw(seed: int | None, *content: str) -> random.Random:
    """Randomness of one prompt: the same for the same content, and unknown to whoever wrote it.

    So an LLM cache recognises a prompt that it has seen, while no document can foresee fence and identifiers.

    Args:
        seed: The key; by default one drawn for this process.
        content: What the prompt is about.
    """
    key = _PROCESS_KEY if seed is None else str(seed).encode()
    digest = hmac.new(key, "\0".join(content).encode("utf-8", "surrogatepass"), "sha256")
    return random.Random(digest.digest())  # noqa: S311 - the key is what must not be guessed


def fence(rng: random.Random) -> str:
    """Name of the marks around the texts of one prompt."""
    return f"passage-{rng.getrandbits(48):012x}"


def identifiers(kind: Literal["codes", "numbers", "letters"], count: int, rng: random.Random) -> list[str]:
    """Different identifiers for the passages of one prompt."""
    if kind == "numbers":
        return [str(number) for number in range(1, count + 1)]
    if kind == "letters":
        alphabet = [chr(ord("A") + place) for place in range(26)]
        return [*alphabet, *(first + second for first in alphabet for second in alphabet)][:count]
    codes: dict[str, None] = {}
    while len(codes) < count:
        # A letter after a digit is never a word, so a code is told from prose without brackets too.
        codes["".join(rng.choice(signs) for signs in (_LETTERS, _DIGITS, _LETTERS, _DIGITS))] = None
    return list(codes)


def harmless(text: str) -> str:
    """A text whose brackets look like no identifier, which ends no turn of a chat template, and that can be sent."""
    text = _CONTROLS.sub("", _LONE.sub("\ufffd", text))
    text = _BRACKETED.sub(r"(\1)", text)
    # One may be inside another. Of those that hold others each is short, so this ends after a few rounds.
    while (shown := _TURNS.sub(lambda match: f"({match.group(match.lastindex or 0)})", text)) != text:
        text = shown
    return text


def _load(kind: type[Any], style: str) -> Any:
    names = _names("question" if kind is GradedStyle else "passage")
    missing = f"There is no prompt style {style!r}: choose one of {', '.join(names)}, or give the path of a YAML file."
    if style in style_names() and style not in names:  # one of the other kind, and no file of that name
        raise ValueError(missing)
    place: Any = _SHIPPED / f"{style}.yaml" if style in names else Path(style)
    try:
        data = yaml.safe_load(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(missing) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        msg = f"The prompt style {style!r} is not YAML{where}."
        raise ValueError(msg) from None  # what YAML says quotes the file
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not isinstance(data, dict) or set(data) - known or needed - set(data):
        msg = f"The prompt style {style!r} must be a mapping with the keys {sorted(needed)}, and perhaps {sorted(known - needed)}."
        raise ValueError(msg)
    return kind(**data)


@cache
def _names(key: str) -> list[str]:
    """Styles with a key that come with the package."""
    styles = (file for file in _SHIPPED.iterdir() if file.name.endswith(".yaml"))
    return sorted(file.name.removesuffix(".yaml") for file in styles if f"\n{key}:" in file.read_text(encoding="utf-8"))


def _check(style: str, key: str, template: Any, allowed: set[str], needed: set[str]) -> None:
    try:
        used = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except (TypeError, ValueError) as error:
        msg = f"The prompt style {style!r} has no valid text for {key!r}: {error} Write a brace as {{{{ or }}}}."
        raise ValueError(msg) from error
    if used - allowed or needed - used:
        msg = f"{key!r} of the prompt style {style!r} may use {sorted(allowed)} and must use {sorted(needed)}, not {sorted(used)}."
        raise ValueError(msg)
