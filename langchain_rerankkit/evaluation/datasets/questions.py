"""A question with its gold, and how it is read from what people have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_rerankkit.errors import DatasetError

__all__ = ["ANSWER", "DOCUMENTS", "ID", "QUESTION", "Question", "named", "parse_question", "text_field"]

# What people call a column or a key. Compared without case, with "_" and "-" as blanks.
QUESTION = ("question", "questions", "query", "prompt", "input", "q", "user input", "user query", "user question")
ANSWER = (
    *("answer", "answers", "a", "ground truth", "ground truths", "gold", "gold answer", "gold answers", "reference"),
    *("reference answer", "reference answers", "expected", "expected answer", "expected answers", "expected output"),
    *("correct answer", "correct answers", "accepted answers"),
)
DOCUMENTS = (
    *("source", "sources", "document", "documents", "doc", "docs", "doc id", "doc ids", "docid", "document id"),
    *("document ids", "source id", "source ids", "context id", "context ids", "passage id", "passage ids", "chunk id"),
    *("chunk ids", "gold document", "gold documents", "gold ids", "relevant", "relevant documents", "relevant ids"),
    *("reference context ids", "expected source", "expected sources", "url", "urls", "file", "file name", "filename"),
)
ID = ("id", "question id", "query id", "qid")


@dataclass(frozen=True)
class Question:
    """A question and what answers it.

    Attributes:
        id: Unique in its dataset.
        text: The question as a user asks it.
        answers: Accepted answers; a document is relevant if it holds one of them.
        documents: Grade of each gold document by id: 1 relevant, more for better, 0 judged and not relevant.
        aspects: For a question with several aspects (subtopics), by name of each: the grades of documents for it. Of a
            document that ``documents`` lacks, the best of them is its grade.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    documents: Mapping[str, int] = field(default_factory=dict)
    aspects: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        best: dict[str, int] = {}
        for grades in self.aspects.values():
            for document, grade in grades.items():
                best[document] = max(grade, best.get(document, grade))
        if best:
            object.__setattr__(self, "documents", {**best, **self.documents})


def named(names: Iterable[Any], usual: Sequence[str]) -> list[Any]:
    """Those of the names that are usual for something, in the order given."""
    return [name for name in names if re.sub(r"[\s_-]+", " ", str(name)).strip().casefold() in usual]


def text_field(
    row: Mapping[str, Any], name: str, file: str | Path | None, line: int | None, known_as: str | None = None
) -> str:
    """A field that must be there and be a string.

    Raises:
        DatasetError: If it is not.
    """
    value = row.get(name)
    if not isinstance(value, str):
        msg = "The field is missing." if value is None else f"The field must be a string, not {type(value).__name__}."
        raise DatasetError(msg, file=file, line=line, field=known_as or name)
    return value


def _usual_names(row: Mapping[str, Any], file: str | Path | None, line: int | None) -> dict[str, str]:
    """What gold is called in a row that has it under another name."""
    found = {}
    for name, usual in (("answers", ANSWER), ("documents", DOCUMENTS)):
        others = [] if name in row else named(row, usual)
        if len(others) > 1:
            msg = f"Several fields may be the {name}: {others}. Call one of them {name!r}."
            raise DatasetError(msg, file=file, line=line)
        if others:
            found[name] = others[0]
    return found


def parse_question(
    row: Mapping[str, Any], file: str | Path | None, line: int | None, names: Mapping[str, str] | None = None
) -> Question:
    """A question from ``{"id", "question", "answers", "documents", "aspects"}``.

    Args:
        row: The fields. ``answers`` and ``documents`` may be missing or have another of their usual names; ``aspects`` may
            be missing.
        file: Where the row is from, for errors.
        line: The line there.
        names: What fields are called there, where it is something else.

    Raises:
        DatasetError: If a field is missing or of the wrong type.
    """
    names = {**_usual_names(row, file, line), **(names or {})}
    row = {**row, **{name: row[other] for name, other in names.items() if name not in row and other in row}}
    answers = row.get("answers", [])
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, Sequence) or not all(isinstance(answer, str) for answer in answers):
        msg = "The field must be a list of strings."
        raise DatasetError(msg, file=file, line=line, field=names.get("answers", "answers"))
    documents = _grades(row.get("documents", {}))
    if documents is None:
        msg = "The field must map document ids to whole-number grades (or be a list of ids)."
        raise DatasetError(msg, file=file, line=line, field=names.get("documents", "documents"))
    given = row.get("aspects", {})
    aspects = {name: _grades(value) for name, value in given.items()} if isinstance(given, Mapping) else {"": None}
    if not all(isinstance(name, str) and grades is not None for name, grades in aspects.items()):
        msg = "The field must map the name of each aspect to its documents, as ids or as grades by id."
        raise DatasetError(msg, file=file, line=line, field="aspects")
    id_, text = (text_field(row, name, file, line, names.get(name)) for name in ("id", "question"))
    by_aspect = {name: grades for name, grades in aspects.items() if grades is not None}
    return Question(id_, text, tuple(answers), documents, by_aspect)


def _grades(documents: Any) -> dict[str, int] | None:
    """Grades by id, from what gold may be; None where it is something else."""
    if isinstance(documents, str):
        documents = [documents]
    if isinstance(documents, (list, tuple)) and all(isinstance(id_, str) for id_ in documents):
        return dict.fromkeys(documents, 1)
    if isinstance(documents, Mapping) and all(
        isinstance(id_, str) and isinstance(grade, int) and not isinstance(grade, bool)
        for id_, grade in documents.items()
    ):
        return dict(documents)
    return None
