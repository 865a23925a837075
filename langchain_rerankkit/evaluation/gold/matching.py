"""Does a document answer a question? Whole words, never a bare substring: "India" is not in "Indiana"; or by other rules.

| matcher | a document is relevant if it holds |
|---|---|
| `words` | an accepted answer as whole words, whatever its case, accents and punctuation |
| `regex` | a match of an accepted answer, which is a pattern |
| `number` | a number within tolerance of an accepted answer, which is a number |
| a function | what a function of question and document says: true or false, or a grade |
| `LLMJudge` | what a chat model says, with its reason: see `langchain_rerankkit.evaluation.gold.llm_judge` |
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from langchain_rerankkit.errors import DatasetError, ScoreError
from langchain_rerankkit.lexical import UNSPACED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from langchain_core.documents import Document

    from langchain_rerankkit.evaluation.datasets.questions import Question

__all__ = ["Match", "Matcher", "holds_answer", "normalise", "number", "parse_matcher", "regex", "words"]

_MOST_REMEMBERED = 64 * 2**20  # characters of texts, for each matcher

_SCALES = {"thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "bn": 9, "trillion": 12}
_UNSURE = {"k", "m", "mn", "b", "t", "tn", "s"}  # right behind a number they may change it: 5k, 5m, 1990s
_CURRENCIES = "$€£¥₹"
# Thousands are also kept apart by spaces that do not break, and by apostrophes.
_GROUPS = {".": ",\u00a0\u2009\u202f'\u2019", ",": ". \u00a0\u2009\u202f'\u2019"}
_INDIAN = {".": r"\d{1,2}(?:,\d{2})+,\d{3}|", ",": ""}


class Matcher(ABC):
    """Grades a document for a question. Subclasses write `_grade`.

    Attributes:
        name: What it is called in a report.
        whole_corpus: Whether it is cheap enough for every pair of a question and a document of the corpus. Otherwise only
            documents that some system returned are graded.
        depth: Of these, how many of each ranking, from the top; all if None.
        relevance: Lowest grade that means relevant.
    """

    name: str
    whole_corpus: bool = False
    depth: int | None = None
    relevance: int = 1

    @abstractmethod
    def _grade(self, question: Question, document: Document) -> Any:
        """True or False, or a whole-number grade of at least 0."""

    def __call__(self, question: Question, document: Document) -> int:
        """The grade of a document; 0 is not relevant.

        Raises:
            DatasetError: If an answer of the question is none that this matcher can look for.
            ScoreError: If the result is no grade.
        """
        said = self._grade(question, document)
        if said is True or said is False:
            return int(said)
        try:
            # Scalars of numpy and the like: their booleans are no indices.
            grade = operator.index(said.item() if hasattr(said, "item") else said)
        except (TypeError, ValueError):
            grade = -1
        if grade < 0:
            what = repr(said) if said is None or isinstance(said, (int, float)) else f"a {type(said).__name__}"
            msg = (
                f"{self.name!r} returned {what} for question {question.id!r} and document {document.id!r}. Return True or "
                "False, or a whole-number grade of at least 0."
            )
            raise ScoreError(msg)
        return grade

    def many(self, pairs: Iterable[tuple[Question, Document]]) -> Iterator[int | None]:
        """Grades of pairs, in their order, as they become known; None for one that could not be judged."""
        return (self(question, document) for question, document in pairs)

    def aspects(self, question: Question, document: Document) -> Sequence[str]:  # noqa: ARG002 - for those that know
        """Names of what a relevant document is relevant to, such as the answers it holds; none where that is not known."""
        return ()

    def reason(self, question: Question, document: Document) -> str:  # noqa: ARG002 - for those that have one
        """Why a document has the grade that it was given, where the matcher says so."""
        return ""


Match = str | Matcher | Callable[..., Any]
"""When a document holds an answer: a name, a matcher, or a function of question and document."""


def parse_matcher(match: Match) -> Matcher:
    """What ``match=`` may be, as a matcher.

    Args:
        match: ``"words"``, ``"regex"``, ``"number"``, a `Matcher`, or a function of a question and a document that
            returns True or False, or a whole-number grade of at least 0.

    Raises:
        ValueError: If it is nothing of these.
    """
    if isinstance(match, Matcher):
        return match
    if isinstance(match, str) and match in _NAMED:
        return _NAMED[match]()
    if not callable(match):
        msg = f"Match by one of {', '.join(map(repr, _NAMED))}, or by a function of a question and a document; not {match!r}."
        raise ValueError(msg)  # noqa: TRY004 - a name may be wrong too
    return _Function(match)


def words() -> Matcher:
    """A document is relevant if it holds an accepted answer as whole words.

    Case, accents and punctuation do not count; see `normalise`. An answer without words is in no document.
    """
    return _Answers("words", normalise, _worded, _any_inside)


def regex(flags: int = re.IGNORECASE | re.MULTILINE) -> Matcher:
    r"""A document is relevant if an accepted answer, which is a pattern, matches anywhere in it.

    The syntax is that of `re`. Texts and patterns are compared in Unicode's composed form (NFC). Answers are patterns by
    intention: write ``\b`` around what must be a whole word, or "India" matches "Indiana".

    Some patterns take a time that grows exponentially with the text (``(a+)+$``), and nothing can stop them once they
    run. Take patterns from people you trust, do not repeat what is already repeated, and prefer ``[^,]*,`` to ``.*,``.

    Args:
        flags: Of `re`. By default case does not count and ``^`` and ``$`` match at lines, as in the evaluation of
            open-domain question answering (Chen et al., "Reading Wikipedia to Answer Open-Domain Questions", ACL 2017).
    """

    def patterns(question: Question) -> list[re.Pattern[str]]:
        return [_pattern(answer, flags, question) for answer in question.answers]

    return _Answers("regex", _composed, patterns, _any_found)


def number(*, relative: float = 0.0, absolute: float = 0.0, decimal: Literal[".", ","] = ".") -> Matcher:
    """A document is relevant if it holds a number within tolerance of an accepted answer, which is a number.

    x is within tolerance of the answer a if ``|x - a| <= max(absolute, relative * |a|)``. Numbers are compared as decimals,
    exactly.

    Read are digits with thousands apart (``1,234.5``, ``12,34,567``, or with an apostrophe or a space that does not
    break), a sign (``-3``, ``$-3``, ``-$3``), an exponent (``1.2e6``), and after it thousand, million, billion (bn), trillion, lakh or
    crore. A currency, a unit or a percent sign does not count: ``45 %`` is 45.

    A number is read as a whole or not at all: 1947 is not in 19471 nor in 1.947. None is read where digits belong to a
    name (B12), a time, a version or a date with points (12:30, 1.2.3), where separators are wrong (1,94), or where a letter
    may change them (5k, 5m, 1990s). Numbers in words and fractions (1/2) are not read. A hyphen between two numbers is no sign.

    Args:
        relative: Tolerance as a share of the answer, such as 0.01.
        absolute: Tolerance in the answer's own unit.
        decimal: Sign before the decimals, in answers and documents. With ``","`` thousands are kept apart by points and
            spaces.

    Raises:
        ValueError: If a tolerance is negative or not finite, or there is no such decimal sign.
    """
    if not (0 <= relative < math.inf and 0 <= absolute < math.inf):
        msg = f"Tolerances are finite numbers of at least 0, not relative={relative!r}, absolute={absolute!r}."
        raise ValueError(msg)
    if decimal not in _GROUPS:
        msg = f"The decimal sign is '.' or ',', not {decimal!r}."
        raise ValueError(msg)
    reader = _NumberReader(decimal)
    share, least = Decimal(str(relative)), Decimal(str(absolute))

    def ranges(question: Question) -> list[tuple[Decimal, Decimal]]:
        found = []
        for answer in question.answers:
            value = reader.alone(answer)
            if value is None:
                msg = (
                    f"The answer {answer!r} of question {question.id!r} is not a number. Write it like 1234{decimal}5, -3, "
                    "45 % or 3 million."
                )
                raise DatasetError(msg, field="answers")
            tolerance = max(least, share * abs(value))
            # Without a tolerance nothing is calculated, and so nothing is rounded.
            found.append((value - tolerance, value + tolerance) if tolerance else (value, value))
        return found

    within = [f"{name}={value}" for name, value in (("relative", relative), ("absolute", absolute)) if value]
    return _Answers(f"number({', '.join(within)})" if within else "number", reader.all, ranges, _any_between)


@cache  # at first use, since so large a class takes milliseconds to compile
def _token() -> re.Pattern[str]:
    # Scripts without spaces have no words to compare, so there each character is one.
    return re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


def normalise(text: str) -> str:
    """The words of a text with a space on either side: case, accents and punctuation are gone.

    Two normalised texts can be compared by ``in``: ``normalise("The Ganges!")`` is ``" the ganges "``.
    """
    if not text.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        # NFKD takes Hangul and voiced kana apart; composing again makes both sides alike.
        text = unicodedata.normalize("NFKC", plain)
    found = _token().findall(text.casefold() if not text.isascii() else text.lower())
    return f" {' '.join(found)} " if found else " "


def holds_answer(normalised_text: str, normalised_answers: Iterable[str]) -> bool:
    """Whether any answer occurs in the text as whole words; an answer without words never does.

    Both must come from `normalise`.
    """
    return any(answer.strip() and answer in normalised_text for answer in normalised_answers)


class _Function(Matcher):
    """A function of the user's."""

    def __init__(self, function: Callable[[Question, Document], Any]) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        self._function = function

    @override
    def _grade(self, question: Question, document: Document) -> Any:
        return self._function(question, document)


class _Answers(Matcher):
    """Looks for answers in texts, each of which is prepared once.

    Args:
        name: What it is called in a report.
        read_text: Prepares a text.
        read_answers: Prepares the answers of a question.
        holds: Whether a prepared text holds any of the prepared answers.
    """

    whole_corpus = True

    def __init__(
        self,
        name: str,
        read_text: Callable[[str], Any],
        read_answers: Callable[[Question], Sequence[Any]],
        holds: Callable[[Any, Sequence[Any]], bool],
    ) -> None:
        self.name = name
        self._read_text, self._read_answers, self._holds = read_text, read_answers, holds
        self._texts: dict[str, Any] = {}
        self._answers: dict[tuple[str, ...], Sequence[Any]] = {}
        self._remembered = 0

    @override
    def _grade(self, question: Question, document: Document) -> bool:
        return self._holds(*self._prepared(question, document))

    @override
    def aspects(self, question: Question, document: Document) -> list[str]:
        text, answers = self._prepared(question, document)
        different = enumerate(dict.fromkeys(answers))
        return [str(number) for number, answer in different if self._holds(text, [answer])]

    def _prepared(self, question: Question, document: Document) -> tuple[Any, Sequence[Any]]:
        answers = self._answers.get(question.answers)
        if answers is None:
            answers = self._read_answers(question)
            self._remember(self._answers, question.answers, answers, sum(map(len, question.answers)))
        content = document.page_content
        text = self._texts.get(content)
        if text is None:
            text = self._read_text(content)
            self._remember(self._texts, content, text, len(content))
        return text, answers

    def _remember(self, kept: dict[Any, Any], key: Any, value: Any, size: int) -> None:
        # The first ones stay: throwing out the oldest is no use to who goes through a corpus again and again.
        if self._remembered < _MOST_REMEMBERED:
            self._remembered += size
            kept[key] = value


class _NumberReader:
    """Numbers in texts: see `number`.

    Args:
        decimal: Sign before the decimals.
    """

    def __init__(self, decimal: Literal[".", ","]) -> None:
        groups, point = _GROUPS[decimal], re.escape(decimal)
        whole = rf"{_INDIAN[decimal]}\d{{1,3}}(?:(?P<group>[{groups}])\d{{3}}(?:(?P=group)\d{{3}})*)|\d{{1,25}}"
        self._pattern = re.compile(
            rf"""(?:(?<![\w)\]%°'"’”.])(?P<sign>[-−–])[{_CURRENCIES}]?)?"""  # noqa: RUF001 - minus and dash
            rf"(?<!\w)(?<!\d[.,:])(?P<number>(?:(?:{whole})(?:{point}\d{{1,25}})?|{point}\d{{1,25}})(?:e[-+−]?\d{{1,3}})?)"  # noqa: RUF001
            rf"(?![.,:]?\d)(?:[\s-]?(?P<scale>{'|'.join(_SCALES)})s?|(?P<unit>[^\W\d_]*))(?!\w)",
            re.IGNORECASE,
        )
        # float() and Decimal() know points only.
        self._plain = str.maketrans({**dict.fromkeys(groups), decimal: ".", "−": "-"})  # noqa: RUF001

    def all(self, text: str) -> list[Decimal]:
        """The numbers of a text, in rising order."""
        return sorted({self._value(match) for match in self._pattern.finditer(text) if not _is_unsure(match)})

    def alone(self, text: str) -> Decimal | None:
        """The number that is all of a text; None where it is none."""
        match = self._pattern.fullmatch(text.strip().lstrip(f"+{_CURRENCIES}").rstrip(f"%{_CURRENCIES}").strip())
        return None if match is None or match["unit"] else self._value(match)

    def _value(self, match: re.Match[str]) -> Decimal:
        value = Decimal(match["number"].translate(self._plain))
        if match["scale"]:
            value = value.scaleb(_SCALES[match["scale"].lower()])
        return value.copy_negate() if match["sign"] else value


def _is_unsure(match: re.Match[str]) -> bool:
    unit = match["unit"] or ""
    return unit.lower() in _UNSURE or not (unit == "" or unit.isalpha())  # as in 3½ and 10²


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _pattern(answer: str, flags: int, question: Question) -> re.Pattern[str]:
    try:
        pattern = re.compile(_composed(answer), flags)
    except (re.error, OverflowError, RecursionError) as error:
        msg = f"The answer {answer!r} of question {question.id!r} is not a pattern ({error})."
        raise DatasetError(msg, field="answers") from error
    if pattern.search(""):
        msg = f"The answer {answer!r} of question {question.id!r} matches even where there is nothing, so in every document."
        raise DatasetError(msg, field="answers")
    return pattern


def _worded(question: Question) -> list[str]:
    return [answer for answer in map(normalise, question.answers) if answer.strip()]


# Loops in place of any(): these run for every question and document.


def _any_inside(text: str, answers: Sequence[str]) -> bool:
    for answer in answers:  # noqa: SIM110
        if answer in text:
            return True
    return False


def _any_found(text: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    return any(pattern.search(text) for pattern in patterns)


def _any_between(numbers: Sequence[Decimal], ranges: Sequence[tuple[Decimal, Decimal]]) -> bool:
    for low, high in ranges:
        place = bisect_left(numbers, low)
        if place < len(numbers) and numbers[place] <= high:
            return True
    return False


_NAMED: dict[str, Callable[[], Matcher]] = {"words": words, "regex": regex, "number": number}
