"""Questions of the ir_datasets package and of LangSmith."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from langchain_core.documents import Document

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.datasets.folders import judged_questions
from langchain_rerankkit.evaluation.datasets.questions import (
    ANSWER,
    DOCUMENTS,
    QUESTION,
    Question,
    named,
    parse_question,
)

__all__ = ["read_ir_dataset", "read_langsmith"]


def read_ir_dataset(name: str, corpus: bool | Iterable[str]) -> tuple[tuple[Question, ...], tuple[Document, ...]]:
    """The judged queries and documents of an ir_datasets name: see `Dataset.from_ir_datasets`."""
    if isinstance(corpus, str):
        msg = "corpus is True, False, or the ids of documents as a list."
        raise DatasetError(msg, field="corpus")
    ir_datasets = require("ir_datasets", extra="ir-datasets")
    try:
        source = ir_datasets.load(name)
    except KeyError as error:
        near = difflib.get_close_matches(name, list(ir_datasets.registry), n=5, cutoff=0.5)
        msg = f"ir_datasets knows no {name!r}" + (f"; near it are {', '.join(near)}." if near else ".")
        raise DatasetError(msg) from error
    if not (source.has_queries() and source.has_qrels()):
        below = [other for other in ir_datasets.registry if other.startswith(f"{name}/")]
        msg = f"{name!r} has no judged queries of its own" + (f"; {', '.join(below[:9])} may." if below else ".")
        raise DatasetError(msg)
    try:
        queries = {query.query_id: query for query in source.queries_iter()}
        texts = {id_: query.default_text() for id_, query in queries.items()}
        questions = judged_questions(texts, *_gold(source, name))
        documents = _documents(source, corpus, name)
    except (OSError, RuntimeError) as error:
        msg = (
            f"The files of {name!r} could not be read or downloaded ({type(error).__name__}). They are kept in "
            f"{ir_datasets.util.home_path()}; without a network, fetch them there first."
        )
        raise DatasetError(msg) from error
    answered = (replace(question, answers=_answers(queries[question.id])) for question in questions)
    return tuple(answered), documents


def _gold(source: Any, name: str) -> tuple[dict[str, dict[str, int]], str, dict[str, dict[str, dict[str, int]]]]:
    """Grades by query and document, the name, and grades by query, subtopic and document where there are subtopics."""
    by_subtopic = "subtopic_id" in getattr(source.qrels_cls(), "_fields", ())
    grades: dict[str, dict[str, int]] = {}
    aspects: dict[str, dict[str, dict[str, int]]] = {}
    for qrel in source.qrels_iter():
        judged = grades.setdefault(qrel.query_id, {})
        if by_subtopic:
            judged = aspects.setdefault(qrel.query_id, {}).setdefault(qrel.subtopic_id, {})
        known = judged.setdefault(qrel.doc_id, qrel.relevance)
        if known != qrel.relevance:
            msg = (
                f"The document {qrel.doc_id!r} has two grades for {qrel.query_id!r} in {name!r}: {known} and "
                f"{qrel.relevance}."
            )
            raise DatasetError(msg)
    return grades, name, aspects


def _answers(query: Any) -> tuple[str, ...]:
    answers = getattr(query, "answers", ())
    if not isinstance(answers, (list, tuple)):
        return ()
    return tuple(answer for answer in answers if isinstance(answer, str))


def _documents(source: Any, corpus: bool | Iterable[str], name: str) -> tuple[Document, ...]:
    if corpus is False:
        return ()
    if not source.has_docs():
        msg = f"{name!r} has no documents."
        raise DatasetError(msg, field="corpus")
    if corpus is True:
        return tuple(map(_document, source.docs_iter()))
    ids = list(dict.fromkeys(corpus))
    found = source.docs_store().get_many(ids)
    lost = [id_ for id_ in ids if id_ not in found]
    if lost:
        msg = f"{len(lost)} of {len(ids)} documents are not in {name!r}, {lost[0]!r} among them."
        raise DatasetError(msg, field="corpus")
    return tuple(_document(found[id_]) for id_ in ids)


def _document(record: Any) -> Document:
    metadata = {name: value for name in ("title", "url") if isinstance(value := getattr(record, name, None), str)}
    return Document(id=record.doc_id, page_content=record.default_text(), metadata=metadata)


def read_langsmith(
    name_or_id: str | UUID, client: Any, keys: Mapping[str, str | None]
) -> tuple[tuple[Question, ...], str]:
    """The examples of a LangSmith dataset, and its name: see `Dataset.from_langsmith`."""
    langsmith = require("langsmith", extra="langsmith")
    client = client or langsmith.Client()
    try:
        id_ = name_or_id if isinstance(name_or_id, UUID) else UUID(name_or_id)
        which: dict[str, Any] = {"dataset_id": id_}
    except ValueError:
        which = {"dataset_name": name_or_id}
    try:
        found = client.read_dataset(**which)
    except langsmith.utils.LangSmithNotFoundError as error:
        msg = f"LangSmith has no dataset {str(name_or_id)!r} for this key."
        raise DatasetError(msg) from error
    questions = tuple(_example(example, keys) for example in client.list_examples(dataset_id=found.id))
    if not questions:
        msg = f"The LangSmith dataset {found.name!r} has no examples."
        raise DatasetError(msg)
    return questions, found.name


def _example(example: Any, keys: Mapping[str, str | None]) -> Question:
    inputs, outputs = example.inputs or {}, example.outputs or {}
    where = f"LangSmith example {example.id}"
    question = _key(inputs, "question", keys["question"], QUESTION, where)
    if question is None and len(inputs) == 1:
        question = next(iter(inputs))
    if question is None:
        msg = f"There is no question among the inputs {list(inputs)}; name its key by question=…"
        raise DatasetError(msg, file=where)
    answer = _key(outputs, "answer", keys["answer"], (*ANSWER, "output"), where)
    documents = _key(outputs, "documents", keys["documents"], DOCUMENTS, where)
    row = {"id": _question_id(example), "question": inputs[question]}
    if answer is not None:
        row["answers"] = outputs[answer]
    if documents is not None:
        given = outputs[documents]
        row["documents"] = [given] if isinstance(given, str) else given
    if documents is not None and isinstance(outputs.get("aspects"), Mapping):
        row["aspects"] = outputs["aspects"]
    names = {"question": question, "answers": answer, "documents": documents}
    return parse_question(row, where, None, {field: key for field, key in names.items() if key is not None})


def _question_id(example: Any) -> str:
    """The example's id; or the question's own, where the example was pushed from a dataset of ours."""
    own = (example.metadata or {}).get("id")
    pushed = isinstance(own, str) and example_id(example.dataset_id, own) == example.id
    return str(own if pushed else example.id)


def example_id(dataset_id: UUID, question_id: str) -> UUID:
    """Under which id a question of ours stands in a LangSmith dataset."""
    return uuid5(dataset_id, json.dumps(question_id))  # ASCII, whatever the id is


def _key(row: Mapping[str, Any], role: str, given: str | None, usual: Sequence[str], where: str) -> str | None:
    found: list[str] = named(row, usual) if given is None else [given]
    if given is not None and given not in row:
        msg = f"The key is not there; there are {list(row)}."
        raise DatasetError(msg, file=where, field=given)
    if len(found) > 1:
        msg = f"Several keys may be the {role}: {found}; say which by {role}=…"
        raise DatasetError(msg, file=where)
    return found[0] if found else None
