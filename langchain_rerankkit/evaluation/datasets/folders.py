"""Data sets as folders: this package's layout and BEIR's."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.datasets.files import json_rows, write_lines
from langchain_rerankkit.evaluation.datasets.questions import Question, parse_question, text_field
from langchain_rerankkit.evaluation.datasets.trec import load_qrels

__all__ = ["judged_questions", "read_folder", "read_questions", "write_folder"]


def read_folder(folder: Path, split: str | None) -> tuple[tuple[Question, ...], tuple[Document, ...]]:
    """The questions and the corpus of a folder: see `Dataset.load`."""
    if (folder / "questions.jsonl").is_file():
        if split is not None:
            msg = "Only BEIR's layout (queries.jsonl and qrels/<split>.tsv) has splits by name."
            raise DatasetError(msg, file=folder)
        questions = read_questions(folder / "questions.jsonl")
    elif (folder / "queries.jsonl").is_file():
        rows = ((row, folder / "queries.jsonl", line) for line, row in json_rows(folder / "queries.jsonl"))
        texts = _unique(rows, lambda row, *where: (text_field(row, "_id", *where), text_field(row, "text", *where)))
        qrels = _qrels_file(folder, split)
        questions = judged_questions(dict(texts), load_qrels(qrels), qrels)
    else:
        msg = "There is neither a questions.jsonl nor a queries.jsonl here."
        raise DatasetError(msg, file=folder)
    file = folder / "corpus.jsonl"
    rows = ((row, file, line) for line, row in (json_rows(file) if file.exists() else ()))
    return questions, tuple(document for _, document in _unique(rows, _document))


def read_questions(file: Path) -> tuple[Question, ...]:
    """The questions of a ``questions.jsonl``."""
    rows = ((row, file, line) for line, row in json_rows(file))

    def parse(row: Mapping[str, Any], *where: Any) -> tuple[str, Question]:
        question = parse_question(row, *where)
        return question.id, question

    return tuple(question for _, question in _unique(rows, parse))


def judged_questions(
    texts: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    file: str | Path,
    aspects: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None,
) -> tuple[Question, ...]:
    """The judged ones of some queries, as questions. Others are left out, as in BEIR and TREC: they have no gold.

    Qrels of queries that are not there are said in a warning.

    Args:
        texts: The queries by id.
        qrels: Grades by query and document.
        file: Where they are from, for the warning.
        aspects: Grades by query, aspect and document, where documents were judged so.
    """
    lost = [query for query in qrels if query not in texts]
    if lost:
        some = ", ".join(map(repr, lost[:5])) + (", …" if lost[5:] else "")
        warnings.warn(f"{file}: {len(lost)} judged queries are not among the queries: {some}.", stacklevel=4)
    named = aspects or {}
    return tuple(
        Question(id_, text, documents=qrels[id_], aspects=named.get(id_, {}))
        for id_, text in texts.items()
        if id_ in qrels
    )


def _unique(
    rows: Iterable[tuple[dict[str, Any], Path, int]], parse: Callable[[dict[str, Any], Path, int], tuple[str, Any]]
) -> Iterator[tuple[str, Any]]:
    seen: dict[str, int] = {}
    for row, file, line in rows:
        id_, value = parse(row, file, line)
        if id_ in seen:
            msg = f"The id {id_!r} occurs twice; first in line {seen[id_]}."
            raise DatasetError(msg, file=file, line=line, field="_id" if "_id" in row else "id")
        seen[id_] = line
        yield id_, value


def _document(row: Mapping[str, Any], file: Path, line: int) -> tuple[str, Document]:
    metadata = row.get("metadata", {})
    if not isinstance(metadata, dict):
        msg = "The field must be an object."
        raise DatasetError(msg, file=file, line=line, field="metadata")
    text = text_field(row, "text", file, line)
    if "_id" not in row:
        id_ = text_field(row, "id", file, line)
        return id_, Document(id=id_, page_content=text, metadata=metadata)
    id_ = text_field(row, "_id", file, line)
    title = text_field(row, "title", file, line) if row.get("title") else ""
    content = f"{title} {text}".strip()
    return id_, Document(id=id_, page_content=content, metadata={"title": title, **metadata} if title else metadata)


def _qrels_file(folder: Path, split: str | None) -> Path:
    files = [folder / "qrels" / f"{split or 'test'}.tsv"]
    if split is None:
        files.insert(0, folder / "qrels.tsv")
    for file in files:
        if file.is_file():
            return file
    there = ", ".join(sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))) or "none"
    msg = f"There is no {' and no '.join(str(file.relative_to(folder)) for file in files)} here; splits: {there}."
    raise DatasetError(msg, file=folder)


def write_folder(
    folder: Path, questions: Sequence[Question], corpus: Sequence[Document], *, overwrite: bool = False
) -> None:
    """Write this package's layout: see `Dataset.save`."""
    if not questions:
        msg = "The dataset has no questions."
        raise DatasetError(msg, file=folder)
    names = ("questions.jsonl", "corpus.jsonl", "queries.jsonl")
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        msg = f"The folder already holds {' and '.join(there)}; overwrite=True replaces a dataset."
        raise DatasetError(msg, file=folder)
    folder.mkdir(parents=True, exist_ok=True)
    documents = folder / "corpus.jsonl"
    if corpus:
        write_lines(documents, (_dump(row, documents, n) for n, row in enumerate(_corpus_rows(corpus, documents), 1)))
    else:
        documents.unlink(missing_ok=True)
    file = folder / "questions.jsonl"
    rows = (
        {
            "id": question.id,
            "question": question.text,
            **({"answers": list(question.answers)} if question.answers else {}),
            **({"documents": dict(question.documents)} if question.documents else {}),
            **(
                {"aspects": {name: dict(grades) for name, grades in question.aspects.items()}}
                if question.aspects
                else {}
            ),
        }
        for question in questions
    )
    write_lines(file, (_dump(row, file, n) for n, row in enumerate(rows, 1)))


def _corpus_rows(corpus: Sequence[Document], file: Path) -> Iterator[dict[str, Any]]:
    seen: set[str | None] = {None}
    for line, document in enumerate(corpus, start=1):
        if document.id in seen:
            msg = "The document has no id." if document.id is None else f"The id {document.id!r} occurs twice."
            raise DatasetError(msg, file=file, line=line, field="id")
        seen.add(document.id)
        row = {"id": document.id, "text": document.page_content}
        yield {**row, "metadata": document.metadata} if document.metadata else row


def _dump(row: dict[str, Any], file: Path, line: int) -> str:
    for name, value in row.items():
        if not _is_json(value):
            msg = "The field holds something that JSON does not: give it strings, numbers, lists and dicts of these."
            raise DatasetError(msg, file=file, line=line, field=name)
    return json.dumps(row, ensure_ascii=False)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(item) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
