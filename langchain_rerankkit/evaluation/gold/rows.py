"""Judging single rows as they are handed around: outputs with documents, in whatever shape, and reference outputs with gold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.documents import Document

from langchain_rerankkit._optional import require
from langchain_rerankkit.evaluation.datasets.questions import Question
from langchain_rerankkit.evaluation.gold.matching import Match, normalise, parse_matcher
from langchain_rerankkit.evaluation.gold.qrels import Empty, GoldKind, Identity, by_answers, check_kind, identity_of
from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS, parse_metrics, score

__all__ = ["Row", "RowJudge"]


@dataclass(frozen=True)
class Row:
    """A judged row.

    Attributes:
        ranking: Document ids, best first.
        grades: The gold: grade of each judged document.
        relevance: Lowest grade that counts as relevant.
        left_out: Whether it does not count, since nothing is known to be relevant.
        remark: What there is to say of it; empty if nothing.
        aspects: By aspect, the grades of documents for it.
    """

    ranking: Sequence[str]
    grades: Mapping[str, int]
    relevance: int
    left_out: bool = False
    remark: str = ""
    aspects: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class RowJudge:
    """Turns rows into rankings and grades, and scores them.

    Args:
        metrics: Metric names.
        gold: Judge by ``"documents"`` or ``"answers"``; ``"auto"`` takes documents where the reference has them.
        match: When a document holds an answer: see `langchain_rerankkit.evaluation.gold.matching`.
        relevance: Lowest grade of a gold document that counts as relevant; a matcher has its own.
        empty: ``"exclude"`` questions without any relevant document, or let them score ``"zero"``.
        identity: Gives a document's id: a function, or the name of a metadata field; by default `document_id`.
        documents: The key of the outputs that holds the documents.

    Raises:
        ValueError: If a metric is unknown, or needs vectors, which a row does not have.
    """

    def __init__(
        self,
        metrics: str | Iterable[str] = DEFAULT_METRICS,
        *,
        gold: GoldKind = "auto",
        match: Match | None = None,
        relevance: int = 1,
        empty: Empty = "exclude",
        identity: Identity = None,
        documents: str = "documents",
    ) -> None:
        check_kind("empty", empty, Empty)
        require("numpy", extra="evaluation")  # LangSmith's runner would only log it
        parsed = parse_metrics(metrics)
        of_texts = [name for name, metric in parsed.items() if metric.looks_at == "texts"]
        if of_texts:
            msg = f"{', '.join(of_texts)}: vectors of documents are at hand in evaluate(…, embeddings=…) alone."
            raise ValueError(msg)
        self.metrics = list(parsed)
        self._gold = "answers" if by_answers(gold, match, has_documents=True) else gold
        self._matcher = parse_matcher("words" if match is None else match)
        self._relevance = relevance
        self._empty = empty
        self._identity = identity
        self._key = documents

    def judge(self, outputs: Mapping[str, Any], reference: Mapping[str, Any], question: str = "") -> Row:
        """Read one row.

        Args:
            outputs: With the documents that were found.
            reference: With the gold.
            question: For judges that read it.

        Raises:
            TypeError: If the documents or the gold are missing or of the wrong type.
            ValueError: If a document has no id to be judged by.
        """
        documents = self._documents(outputs)
        remark = "The system failed: nothing found." if documents is None else ""
        by_documents, gold = self._gold_of(reference)
        aspects: dict[str, dict[str, int]] = {}
        identify = identity_of(self._identity, need_id=by_documents)
        ids = [document if isinstance(document, str) else identify(document) for document in documents or ()]
        if by_documents:
            grades, relevance = _grades(gold), self._relevance
            named = reference.get("aspects") or {}
            if not isinstance(named, Mapping):
                msg = "Aspects are grades of documents by id, or lists of ids, by the name of each aspect."
                raise TypeError(msg)
            aspects = {str(name): _grades(documents_of_it) for name, documents_of_it in named.items()}
            answerable = any(grade >= relevance for grade in grades.values())
        else:
            asked = Question("", question, tuple(_strings(gold)))
            relevance = self._matcher.relevance
            answerable = any(normalise(answer).strip() for answer in asked.answers) or not self._matcher.whole_corpus
            grades = {}
            for id_, document in zip(ids, documents or (), strict=True):
                # Several parts of one document may have its id: the best one counts.
                grade = self._matcher(asked, _with_text(document))
                grades[id_] = max(grades.get(id_, 0), grade)
                for aspect in self._matcher.aspects(asked, _with_text(document)) if grade else ():
                    aspects.setdefault(aspect, {})[id_] = grades[id_]
        if not answerable and self._empty == "exclude":
            return Row(ids, grades, relevance, left_out=True, remark="Left out: nothing is known to be relevant.")
        return Row(ids, grades, relevance, remark=remark, aspects=aspects)

    def score(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Score of each row by each metric."""
        found: dict[str, list[float]] = {metric: [0.0] * len(rows) for metric in self.metrics}
        for relevance in {row.relevance for row in rows}:
            named = {str(number): row for number, row in enumerate(rows) if row.relevance == relevance}
            gold = {name: row.grades for name, row in named.items()}
            rankings = {name: row.ranking for name, row in named.items()}
            aspects = {name: row.aspects for name, row in named.items()}
            for metric, values in score(gold, rankings, self.metrics, relevance=relevance, aspects=aspects).items():
                for name, value in values.items():
                    found[metric][int(name)] = value
        return found

    def _documents(self, outputs: Mapping[str, Any]) -> list[Any] | None:
        """The documents; None where the system failed, which LangSmith shows as outputs without anything."""
        if self._key in outputs:
            found = outputs[self._key]
        elif not outputs or set(outputs) == {"output"}:  # a bare list, as LangSmith wraps it
            found = outputs.get("output")
        else:
            msg = f"The outputs have {list(outputs)} and no {self._key!r}: name the key of the documents, documents=…"
            raise TypeError(msg)
        if found is None:
            return None
        if isinstance(found, (str, bytes, Mapping)) or not isinstance(found, Iterable):
            msg = f"The documents must be a list of Documents, of dicts of them, or of ids, not {type(found).__name__}."
            raise TypeError(msg)
        return [_document(item) for item in found]

    def _gold_of(self, reference: Mapping[str, Any]) -> tuple[bool, Any]:
        """Whether to judge by documents, and the gold."""
        kinds = {"documents": ("documents", "relevant"), "answers": ("answers", "answer")}
        for kind, keys in kinds.items():
            for key in keys:
                if self._gold in {"auto", kind} and reference.get(key) is not None:
                    return kind == "documents", reference[key]
        wanted = [key for kind, keys in kinds.items() if self._gold in {"auto", kind} for key in keys]
        msg = f"The reference outputs have {list(reference)}, and gold is looked for under {', '.join(wanted)}."
        raise TypeError(msg)


def _document(item: Any) -> Document | str:
    """A document or an id; documents come back from serialisation as dicts, LangChain's own wrapped in a constructor."""
    if isinstance(item, (Document, str)):
        return item
    fields = item.get("kwargs", item) if isinstance(item, Mapping) else {}
    if "page_content" not in fields:
        msg = f"A document is a Document, a dict with 'page_content', or an id, not {type(item).__name__}."
        raise TypeError(msg)
    return Document(
        id=fields.get("id"), page_content=fields["page_content"], metadata=dict(fields.get("metadata") or {})
    )


def _with_text(document: Document | str) -> Document:
    if isinstance(document, str):
        msg = "These documents are ids, and to be judged by answers they need their text: return Documents."
        raise TypeError(msg)
    return document


def _grades(gold: Any) -> dict[str, int]:
    if not isinstance(gold, Mapping):
        return dict.fromkeys(_strings(gold), 1)
    if not all(type(grade) is int for grade in gold.values()):
        msg = "Grades are whole numbers."
        raise TypeError(msg)
    return {str(id_): grade for id_, grade in gold.items()}


def _strings(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(item, str) for item in values):
        msg = "Gold is a list of document ids, or grades by id, or an answer or a list of them."
        raise TypeError(msg)
    return list(values)
