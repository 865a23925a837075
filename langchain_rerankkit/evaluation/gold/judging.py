"""Which documents are relevant: by id and grade, or because they hold an accepted answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from langchain_core.documents import Document

from langchain_rerankkit._progress import progress

if TYPE_CHECKING:
    from langchain_rerankkit.evaluation.datasets.dataset import Dataset
    from langchain_rerankkit.evaluation.gold.matching import Matcher

__all__ = [
    "Identity",
    "Judgements",
    "document_id",
    "identity_of",
    "judge_by_answers",
    "judge_by_ids",
    "judges_by_answers",
]

Identity = str | Callable[[Document], str] | None
"""What documents are known by: a metadata field, a function, or None for `document_id`."""


@dataclass(frozen=True)
class Judgements:
    """What systems are held against.

    Attributes:
        grades: Grade of each judged document, by question and document id.
        relevance: Lowest grade that counts as relevant.
        matcher: How documents were judged by the answers they hold; empty where gold names ids.
        pooled: Whether only documents that some system returned were judged, so that recall is relative to them.
        unknown: Documents that could not be judged, and count as not relevant.
        depth: Ranks of each system whose documents were judged; None for all.
    """

    grades: Mapping[str, Mapping[str, int]]
    relevance: int
    matcher: str = ""
    pooled: bool = False
    unknown: int = 0
    depth: int | None = None

    def relevant_among(self, question: str, documents: Sequence[str]) -> bool:
        """Whether any of these is known to be relevant."""
        grades = self.grades.get(question, {})
        return any(grades.get(document, 0) >= self.relevance for document in documents)

    def without_relevant(self) -> list[str]:
        """Questions that have no relevant document."""
        return [id_ for id_, grades in self.grades.items() if max(grades.values(), default=0) < self.relevance]


def document_id(document: Document, *, need_id: bool = True) -> str:
    """The id that a document is judged by: ``Document.id``, else ``metadata["id"]`` or ``metadata["_id"]``.

    Args:
        document: The document.
        need_id: Without an id, raise; otherwise fall back to a hash of the text.

    Raises:
        ValueError: If the document has no id and one is needed.
    """
    for id_ in (document.id, document.metadata.get("id"), document.metadata.get("_id")):
        if id_ is not None:
            return str(id_)
    if need_id:
        msg = (
            "A document has no id to compare with the gold ids. Give documents an id, pass identity=<function of the "
            "document, or the name of a metadata field>, or judge by gold='answers'."
        )
        raise ValueError(msg)
    return sha256(document.page_content.encode("utf-8", "surrogatepass")).hexdigest()


def identity_of(identity: Identity, *, need_id: bool) -> Callable[[Document], str]:
    """The function that gives a document's id.

    Args:
        identity: What documents are known by.
        need_id: See `document_id`.
    """
    if callable(identity):
        return identity
    if identity is None:
        return lambda document: document_id(document, need_id=need_id)

    def field(document: Document) -> str:
        if identity not in document.metadata:
            msg = f"A document has no metadata field {identity!r} to be known by; it has {sorted(document.metadata)}."
            raise ValueError(msg)
        return str(document.metadata[identity])

    return field


def judges_by_answers(dataset: Dataset, gold: str) -> bool:
    """Whether answer texts are the gold: ids go first where it is left open and the dataset has them."""
    return gold == "answers" or (gold == "auto" and not any(question.documents for question in dataset.questions))


def judge_by_ids(dataset: Dataset, relevance: int) -> Judgements:
    """The dataset's own grades."""
    return Judgements({question.id: dict(question.documents) for question in dataset.questions}, relevance)


def judge_by_answers(
    dataset: Dataset,
    pools: Mapping[str, Iterable[Document]],
    identify: Callable[[Document], str],
    matcher: Matcher,
) -> Judgements:
    """Grades of the documents that any system returned, and of the whole corpus where the matcher is cheap enough.

    Args:
        dataset: Questions with answers.
        pools: What all systems returned together, by question; a document is judged once.
        identify: Gives a document's id.
        matcher: Says whether a document answers a question.
    """
    corpus = {identify(document): document for document in dataset.corpus} if matcher.whole_corpus else {}
    pooled = {
        question.id: {**corpus, **{identify(document): document for document in pools[question.id]}}
        for question in dataset.questions
    }
    verdicts = matcher.many(
        (question, document) for question in dataset.questions for document in pooled[question.id].values()
    )
    keys = ((question, id_) for question, pool in pooled.items() for id_ in pool)
    total = sum(map(len, pooled.values()))
    grades: dict[str, dict[str, int]] = {question.id: {} for question in dataset.questions}
    unknown = 0
    for (question_id, id_), grade in zip(keys, progress(verdicts, total, "judge"), strict=True):
        if grade is None:
            unknown += 1
        elif grade:
            grades[question_id][id_] = grade
    return Judgements(grades, matcher.relevance, matcher.name, pooled=not corpus, unknown=unknown, depth=matcher.depth)
