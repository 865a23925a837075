"""Which documents are relevant: by id and grade, or because they hold an accepted answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

from langchain_core.documents import Document

from langchain_rerankkit._progress import progress
from langchain_rerankkit.evaluation.gold.matching import Match, Matcher, parse_matcher

if TYPE_CHECKING:
    from langchain_rerankkit.evaluation.datasets.dataset import Dataset
    from langchain_rerankkit.evaluation.datasets.questions import Question

__all__ = [
    "Empty",
    "GoldKind",
    "Identity",
    "Qrels",
    "by_answers",
    "check_kind",
    "choose_gold",
    "document_id",
    "has_id",
    "identity_of",
    "judge_by_answers",
    "judge_by_ids",
    "text_id",
]

GoldKind = Literal["auto", "documents", "answers"]
"""What documents are judged by; ``"auto"`` takes ids where the dataset has them."""

Empty = Literal["exclude", "zero"]
"""What questions without a relevant document count for."""

Identity = str | Callable[[Document], str] | None
"""What documents are known by: a metadata field, a function, or None for `document_id`."""


@dataclass(frozen=True)
class Qrels:
    """What systems are held against.

    Attributes:
        grades: Grade of each judged document, by question and document id.
        relevance: Lowest grade that counts as relevant.
        matcher: How documents were judged by the answers they hold; empty where gold names ids.
        pooled: Whether only documents that some system returned were judged, so that recall is relative to them.
        unknown: Documents that could not be judged, and count as not relevant.
        depth: Ranks of each system whose documents were judged; None for all.
        reasons: Why a document has its grade, by question and document id, where a judge says so.
        aspects: By question and aspect, the grades of documents for it; of answers each one is an aspect.
    """

    grades: Mapping[str, Mapping[str, int]]
    relevance: int
    matcher: str = ""
    pooled: bool = False
    unknown: int = 0
    depth: int | None = None
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    aspects: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)

    def relevant_among(self, question: str, documents: Sequence[str]) -> bool:
        """Whether any of these is known to be relevant."""
        grades = self.grades.get(question, {})
        return any(grades.get(document, 0) >= self.relevance for document in documents)

    def without(self, questions: Sequence[str]) -> Qrels:
        """The same for the other questions."""
        left_out = set(questions)
        return replace(self, grades={id_: grades for id_, grades in self.grades.items() if id_ not in left_out})

    def without_relevant(self) -> list[str]:
        """Questions that have no relevant document."""
        return [id_ for id_, grades in self.grades.items() if max(grades.values(), default=0) < self.relevance]


def check_kind(name: str, value: Any, kinds: Any) -> None:
    """Refuse a value that is none of a Literal's.

    Raises:
        ValueError: If it is none.
    """
    if value not in get_args(kinds):
        msg = f"{name} is one of {', '.join(get_args(kinds))}, not {value!r}."
        raise ValueError(msg)


def _own_id(document: Document) -> Any:
    """The id by which gold may name it; None where it has none."""
    ids = (document.id, document.metadata.get("id"), document.metadata.get("_id"))
    return next((id_ for id_ in ids if id_ is not None), None)


def has_id(document: Document) -> bool:
    """Whether a document has an id by which gold may name it."""
    return _own_id(document) is not None


def text_id(document: Document) -> str:
    """A hash of a document's text, for documents without ids."""
    return sha256(document.page_content.encode("utf-8", "surrogatepass")).hexdigest()


def document_id(document: Document, *, need_id: bool = True) -> str:
    """The id that a document is judged by: ``Document.id``, else ``metadata["id"]`` or ``metadata["_id"]``.

    Args:
        document: The document.
        need_id: Without an id, raise; otherwise fall back to a hash of the text.

    Raises:
        ValueError: If the document has no id and one is needed.
    """
    if (id_ := _own_id(document)) is not None:
        return str(id_)
    if need_id:
        msg = (
            "A document has no id to compare with the gold ids. Give documents an id, pass identity=<function of the "
            "document, or the name of a metadata field>, or judge by gold='answers'."
        )
        raise ValueError(msg)
    return text_id(document)


def identity_of(identity: Identity, *, need_id: bool) -> Callable[[Document], str]:
    """The function that gives a document's id.

    Args:
        identity: What documents are known by.
        need_id: See `document_id`.
    """
    if callable(identity):
        return lambda document: str(identity(document))
    if identity is None:
        return lambda document: document_id(document, need_id=need_id)

    def field(document: Document) -> str:
        if identity not in document.metadata:
            msg = f"A document has no metadata field {identity!r} to be known by; it has {sorted(document.metadata)}."
            raise ValueError(msg)
        return str(document.metadata[identity])

    return field


def choose_gold(dataset: Dataset, gold: GoldKind, match: Match | None) -> Matcher | None:
    """What judges documents by the answers they hold; None where ids are the gold.

    Where it is left open, a given ``match`` means answers; without, ids go first where the dataset has them.

    Raises:
        ValueError: If there is no such kind, a match is given for ids, or the dataset has no questions or no gold of
            that kind.
    """
    if not dataset.questions:
        msg = "The dataset has no questions."
        raise ValueError(msg)
    has_documents = any(question.documents for question in dataset.questions)
    if not by_answers(gold, match, has_documents=has_documents):
        if not has_documents:
            msg = "The dataset has no gold of that kind: give its questions ids of gold documents."
            raise ValueError(msg)
        return None
    matcher = parse_matcher("words" if match is None else match)
    # Functions and judges may do without answers; those that look for them do not.
    if matcher.whole_corpus and not any(question.answers for question in dataset.questions):
        msg = "The dataset has no gold of that kind: give its questions accepted answers."
        raise ValueError(msg)
    return matcher


def by_answers(gold: GoldKind, match: Match | None, *, has_documents: bool) -> bool:
    """Whether answers are the gold: see `choose_gold`.

    Raises:
        ValueError: If there is no such kind, or a match is given for ids.
    """
    check_kind("gold", gold, GoldKind)
    if gold == "documents" and match is not None:
        msg = "match= is for gold='answers': ids of documents match or do not."
        raise ValueError(msg)
    return gold == "answers" or (gold == "auto" and (match is not None or not has_documents))


def judge_by_ids(dataset: Dataset, relevance: int) -> Qrels:
    """The dataset's own grades."""
    return Qrels(
        {question.id: dict(question.documents) for question in dataset.questions},
        relevance,
        aspects={question.id: question.aspects for question in dataset.questions if question.aspects},
    )


def judge_by_answers(
    dataset: Dataset,
    pools: Mapping[str, Sequence[Document]],
    identify: Callable[[Document], str],
    matcher: Matcher,
) -> Qrels:
    """Grades of the documents that any system returned, and of the whole corpus where the matcher is cheap enough.

    Args:
        dataset: Questions with answers.
        pools: What all systems returned together, by question, under the ids that they are known by. A text is judged
            once; of several texts of one id the best grade counts.
        identify: Gives the id of a document of the corpus.
        matcher: Says whether a document answers a question.
    """
    # One id may have several texts: parts of a document, or one that a compressor has shortened.
    documents = dataset.corpus if matcher.whole_corpus else ()
    corpus = {(identify(document), document.page_content): document for document in documents}
    waiting: deque[tuple[Question, str, Document]] = deque()  # for their verdict

    def pairs() -> Iterator[tuple[Question, Document]]:
        for question in dataset.questions:
            pool = {(str(document.id), document.page_content): document for document in pools[question.id]}
            others = ((key, document) for key, document in pool.items() if key not in corpus)
            for (id_, _), document in chain(corpus.items(), others):
                waiting.append((question, id_, document))
                yield question, document

    total = sum(len(corpus) + len(pool) for pool in pools.values())
    grades: dict[str, dict[str, int]] = {question.id: {} for question in dataset.questions}
    reasons: dict[str, dict[str, str]] = {}
    aspects: dict[str, dict[str, dict[str, int]]] = {}
    unknown = 0
    for grade in progress(matcher.many(pairs()), total, "judge"):
        question, id_, document = waiting.popleft()
        before = grades[question.id].get(id_, -1)
        if grade is None:
            unknown += 1
        elif (grade or not matcher.whole_corpus) and grade > before:  # of a whole corpus, most are 0
            grades[question.id][id_] = grade
        for aspect in matcher.aspects(question, document) if grade else ():
            of_it = aspects.setdefault(question.id, {}).setdefault(aspect, {})
            of_it[id_] = max(grade or 0, of_it.get(id_, 0))
        if (grade is None or grade > before) and (reason := matcher.reason(question, document)):
            reasons.setdefault(question.id, {})[id_] = reason
    return Qrels(
        grades,
        matcher.relevance,
        matcher.name,
        pooled=not corpus,
        unknown=unknown,
        depth=matcher.depth,
        reasons=reasons,
        aspects=aspects,
    )
