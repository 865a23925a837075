"""What a judge said of documents: read from a model's answers, and kept in a file."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.llm.parsing import without_thoughts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Judgement", "JudgementCache", "parse_judgement"]

_logger = logging.getLogger("langchain_rerankkit")

_READ = 20_000  # characters of an answer that are read
_LONGEST_REASON = 1000  # characters
_MOST_VALUES = 20  # places of an answer where JSON may begin that are tried
_HEAD = '{"judgement": "'  # of each line of a cache
_FILE = "judgements.jsonl"
# What is left of JSON that is none, and the ways to say it without JSON.
_MEMBER = re.compile(r"""["']grade["']\s*:\s*["']?(\d{1,4})(?![\d.]*\d)""", re.IGNORECASE)
_SAID = re.compile(r"\bgrade\b\W{0,5}(?:(?:is|of)\b\W{0,5})?(\d{1,4})(?![\d.]*\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Judgement:
    """What a judge says of a document.

    Attributes:
        grade: The grade; None where there is none.
        reason: Why, in the model's words: text to be escaped where it is shown, as it may quote the document.
        error: Why there is no grade.
        truncated: Whether the model saw only the beginning of the document.
    """

    grade: int | None
    reason: str = ""
    error: str = ""
    truncated: bool = False


class JudgementCache:
    """A file of JSON lines, to which judgements are appended: several threads and processes may.

    Args:
        path: The file, or the folder in which it is or will be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path / _FILE if path.is_dir() else path
        self._torn = False

    def read(self) -> Iterator[tuple[str, Judgement]]:
        """Qrels by key. A line that a killed process did not finish is left out, and so asked for again.

        Raises:
            DatasetError: If it cannot be read or is no such file.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            msg = f"The cache cannot be read ({error.strerror})."
            raise DatasetError(msg, file=self._path) from error
        self._torn = bool(data) and not data.endswith(b"\n")
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), start=1):
            try:
                if line.strip():
                    yield _read_line(line)
            except json.JSONDecodeError:
                if not (line.startswith(_HEAD) or _HEAD.startswith(line)):
                    raise self._foreign(number) from None
                _logger.warning("%s:%d: the line is torn; its judgement will be asked for again.", self._path, number)
            except (TypeError, KeyError, ValueError, RecursionError):
                raise self._foreign(number) from None

    def add(self, key: str, judgement: Judgement, **about: Any) -> None:
        """Append a judgement."""
        line: dict[str, Any] = {"judgement": key, **about, "grade": judgement.grade, "reason": judgement.reason}
        if judgement.truncated:
            line["truncated"] = True
        # One write, so that lines of several processes do not mix; a torn line ends before it.
        data = (("\n" if self._torn else "") + json.dumps(line, default=str) + "\n").encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            self._torn = file.write(data) < len(data)

    def _foreign(self, number: int) -> DatasetError:
        msg = "This is no line of a cache of judgements. Give the judge a file of its own."
        return DatasetError(msg, file=self._path, line=number)


def parse_judgement(answer: str, scale: Mapping[int, str], passage: str) -> Judgement | None:
    """The grade that an answer gives, and its reason; None if it gives none, or several.

    JSON is read as such, also with prose or marks of Markdown around it or when it is broken; else "grade: 2" in prose, or
    a grade that is all of the answer.

    Args:
        answer: What the model said.
        scale: The grades that there are.
        passage: What the model was shown. What stands there word for word is a quotation and no judgement.
    """
    text = without_thoughts(answer)[:_READ].strip()
    found: dict[int, str] = {}
    rest, stop = [], 0
    for start, end, value in _objects(text):
        rest.append(text[stop:start])
        stop = end
        given = {str(key).lower(): item for key, item in value.items()}
        if "grade" in given and text[start:end] not in passage:
            found[_whole(given["grade"])] = str(given.get("reason") or "")
    rest.append(text[stop:])
    if text in {str(grade) for grade in scale}:
        found[int(text)] = ""
    for pattern in (_MEMBER,) if found else (_MEMBER, _SAID):
        for match in pattern.finditer("\n".join(rest)):
            if match.group() not in passage:
                found.setdefault(int(match.group(1)), text)
    if len(found) != 1:
        return None
    ((grade, reason),) = found.items()
    return Judgement(grade, " ".join(reason.split())[:_LONGEST_REASON]) if grade in scale else None


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """JSON objects of a text, none inside another: where each begins and ends, and what it is."""
    decoder = json.JSONDecoder(strict=False)  # lines may break in a string
    stop = tried = 0
    for begin in re.finditer(r"\{", text):
        if begin.start() < stop:
            continue
        tried += 1
        if tried > _MOST_VALUES:
            return
        try:
            value, stop = decoder.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            continue
        yield begin.start(), stop, value


def _whole(value: Any) -> int:
    """A grade of a JSON value; -1 where it is none."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,4}\s*", value):
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    return -1


def _read_line(line: str) -> tuple[str, Judgement]:
    value = json.loads(line)
    key, grade, reason = value["judgement"], value["grade"], value["reason"]
    if not (isinstance(key, str) and type(grade) is int and isinstance(reason, str)):
        raise TypeError
    return key, Judgement(grade, reason, truncated=value.get("truncated") is True)
