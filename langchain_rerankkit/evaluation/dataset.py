"""Questions with gold answers, and where they are read from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from langchain_rerankkit.errors import DatasetError

__all__ = ["Dataset", "Question", "load_run"]


@dataclass(frozen=True)
class Question:
    """A question and what answers it.

    Attributes:
        id: Unique in its dataset.
        text: The question as a user asks it.
        answers: Accepted answers; a document is relevant if it holds one of them.
        documents: Grade of each gold document by id: 1 relevant, more for better, 0 judged and not relevant.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    documents: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """Questions with gold, and the documents they are asked of where these are at hand.

    Raises:
        DatasetError: If two questions share an id.
    """

    questions: tuple[Question, ...]
    corpus: tuple[Document, ...] = ()
    name: str = "dataset"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for question in self.questions:
            if question.id in seen:
                msg = f"The question id {question.id!r} occurs twice."
                raise DatasetError(msg, field="id")
            seen.add(question.id)

    @classmethod
    def from_questions(
        cls, questions: Sequence[Mapping[str, Any]], corpus: Sequence[Document] = (), name: str = "dataset"
    ) -> Dataset:
        """A dataset from dicts with the fields of ``questions.jsonl``: see `load`. The ``id`` may be left out.

        Raises:
            DatasetError: If a field is missing or of the wrong type.
        """
        parsed = tuple(_question({"id": str(n), **row}, None, n) for n, row in enumerate(questions, start=1))
        return cls(parsed, tuple(corpus), name)

    @classmethod
    def load(cls, folder: str | Path) -> Dataset:
        """Read a folder in this package's layout or in BEIR's.

        Ours: ``questions.jsonl`` with ``{"id", "question", "answers": […], "documents": {id: grade}}`` (``answers``
        or ``documents`` may be left out) and ``corpus.jsonl`` with ``{"id", "text", "metadata": {…}}``.

        BEIR's: ``queries.jsonl`` with ``{"_id", "text"}``, ``corpus.jsonl`` with ``{"_id", "title", "text"}``, and
        ``qrels.tsv`` or ``qrels/test.tsv`` with a header line. Title and text become the document's content, as in
        BEIR's own experiments.

        Args:
            folder: The folder; ``corpus.jsonl`` may be missing.

        Raises:
            DatasetError: With file, line and field.
        """
        folder = Path(folder)
        corpus = tuple(_document(row, file, line) for row, file, line in _rows(folder / "corpus.jsonl", optional=True))
        if (folder / "questions.jsonl").is_file():
            questions = tuple(_question(row, file, line) for row, file, line in _rows(folder / "questions.jsonl"))
        elif (folder / "queries.jsonl").is_file():
            grades = _read_qrels(folder)
            rows = list(_rows(folder / "queries.jsonl"))
            questions = tuple(
                Question(id_, _text(row, "text", file, line), documents=grades[id_])
                for row, file, line in rows
                if (id_ := _text(row, "_id", file, line)) in grades
            )
        else:
            msg = "There is neither a questions.jsonl nor a queries.jsonl here."
            raise DatasetError(msg, file=folder)
        if not questions:
            msg = "The dataset has no questions."
            raise DatasetError(msg, file=folder)
        return cls(questions, corpus, folder.name)


def load_run(path: str | Path) -> dict[str, list[str]]:
    """Read a TREC run: lines of ``query Q0 document rank score tag``.

    Returns:
        Document ids of each query by falling score; ties keep the order of the file.

    Raises:
        DatasetError: With file and line.
    """
    scored: dict[str, list[tuple[float, str]]] = {}
    for number, line in enumerate(_open(Path(path)).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            query, _, document, _, score, *_ = line.split()
            scored.setdefault(query, []).append((float(score), document))
        except ValueError as error:
            msg = "A line of a TREC run reads: query Q0 document rank score tag."
            raise DatasetError(msg, file=path, line=number) from error
    return {query: [d for _, d in sorted(lines, key=lambda line: -line[0])] for query, lines in scored.items()}


def _open(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        msg = f"The file cannot be read ({error.strerror})."
        raise DatasetError(msg, file=path) from error
    except UnicodeDecodeError as error:
        msg = "The file is not UTF-8 text."
        raise DatasetError(msg, file=path) from error


def _rows(path: Path, *, optional: bool = False) -> Iterator[tuple[dict[str, Any], Path, int]]:
    if optional and not path.exists():
        return
    # Not splitlines(): JSON strings may hold other line separators.
    for number, line in enumerate(_open(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"The line is not JSON ({error.msg})."
            raise DatasetError(msg, file=path, line=number) from error
        if not isinstance(row, dict):
            msg = "Each line must be a JSON object."
            raise DatasetError(msg, file=path, line=number)
        yield row, path, number


def _text(row: Mapping[str, Any], name: str, file: Path | None, line: int) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        msg = "The field is missing." if value is None else f"The field must be a string, not {type(value).__name__}."
        raise DatasetError(msg, file=file, line=line, field=name)
    return value


def _question(row: Mapping[str, Any], file: Path | None, line: int) -> Question:
    answers = row.get("answers", [])
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, Sequence) or not all(isinstance(answer, str) for answer in answers):
        msg = "The field must be a list of strings."
        raise DatasetError(msg, file=file, line=line, field="answers")
    documents = row.get("documents", {})
    if isinstance(documents, list) and all(isinstance(id_, str) for id_ in documents):
        documents = dict.fromkeys(documents, 1)
    if not isinstance(documents, Mapping) or not all(
        isinstance(id_, str) and isinstance(grade, int) for id_, grade in documents.items()
    ):
        msg = "The field must map document ids to whole-number grades (or be a list of ids)."
        raise DatasetError(msg, file=file, line=line, field="documents")
    return Question(_text(row, "id", file, line), _text(row, "question", file, line), tuple(answers), dict(documents))


def _document(row: Mapping[str, Any], file: Path, line: int) -> Document:
    metadata = row.get("metadata", {})
    if not isinstance(metadata, dict):
        msg = "The field must be an object."
        raise DatasetError(msg, file=file, line=line, field="metadata")
    text = _text(row, "text", file, line)
    if "_id" not in row:
        return Document(id=_text(row, "id", file, line), page_content=text, metadata=metadata)
    title = row.get("title") or ""
    return Document(
        id=_text(row, "_id", file, line),
        page_content=f"{title} {text}".strip(),
        metadata={"title": title, **metadata} if title else metadata,
    )


def _read_qrels(folder: Path) -> dict[str, dict[str, int]]:
    path = next((p for p in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if p.is_file()), None)
    if path is None:
        msg = "There is neither a qrels.tsv nor a qrels/test.tsv here."
        raise DatasetError(msg, file=folder)
    grades: dict[str, dict[str, int]] = {}
    for number, row in enumerate(csv.reader(_open(path).splitlines(), delimiter="\t"), start=1):
        if not row or number == 1:  # the header
            continue
        try:
            query, document, grade = row
            grades.setdefault(query, {})[document] = int(grade)
        except ValueError as error:
            msg = "A line of qrels reads: query, document and whole-number grade, with tabs between."
            raise DatasetError(msg, file=path, line=number) from error
    return grades
