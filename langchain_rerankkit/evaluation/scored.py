"""What a reranker says of documents that people judged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.evaluation.dataset import Dataset, Question
from langchain_rerankkit.evaluation.gold import document_id
from langchain_rerankkit.evaluation.matching import holds_answer, normalise
from langchain_rerankkit.records import RerankInput

__all__ = ["Judge", "Scored", "candidates_of", "score_candidates"]

_AT_ONCE = 32  # questions in one batch


class Judge:
    """Says which documents are relevant.

    Args:
        dataset: Questions with gold.
        gold: ``"documents"``, ``"answers"``, or ``"auto"``: ids where the dataset has them.
        relevance: Lowest grade that counts as relevant.
        identity: Gives a document's id.

    Attributes:
        questions: Those that have gold.
        by_answers: Whether answer texts decide.
    """

    def __init__(self, dataset: Dataset, gold: str, relevance: int, identity: Callable[[Document], str] | None) -> None:
        self.by_answers = gold == "answers" or (gold == "auto" and not any(q.documents for q in dataset.questions))
        self.dataset, self.relevance = dataset, relevance
        self.questions = [q for q in dataset.questions if (q.answers if self.by_answers else q.documents)]
        if not self.questions:
            msg = "The dataset has no gold: give its questions answers, or ids of gold documents."
            raise ValueError(msg)
        self.id_of = identity or (lambda document: document_id(document, need_id=not self.by_answers))
        self._normalise = lru_cache(maxsize=100_000)(normalise)
        self._answers = {q.id: [normalise(answer) for answer in q.answers] for q in self.questions}

    def is_relevant(self, question: Question, document: Document) -> bool:
        """Whether it is known to be; a document without a grade is not."""
        if self.by_answers:
            return holds_answer(self._normalise(document.page_content), self._answers[question.id])
        return question.documents.get(self.id_of(document), self.relevance - 1) >= self.relevance

    def is_judged(self, question: Question, document: Document) -> bool:
        """Whether the gold says anything of it: a grade, or that it holds an answer."""
        return self.is_relevant(question, document) if self.by_answers else self.id_of(document) in question.documents

    def judged(self, question: Question, corpus: Mapping[str, Document]) -> dict[str, Document]:
        """Those of a corpus, by id, that the gold says anything of."""
        if self.by_answers:
            return {id_: document for id_, document in corpus.items() if self.is_relevant(question, document)}
        return {id_: corpus[id_] for id_ in question.documents if id_ in corpus}


def candidates_of(
    judge: Judge, retriever: Runnable[str, Any] | None, candidates: int, seed: int
) -> Iterator[tuple[Question, list[Document]]]:
    """The candidates of each question: what the retriever finds, or judged documents and others drawn from the corpus.

    Raises:
        ValueError: If there is neither a retriever nor a corpus.
    """
    if retriever is not None:
        for question in judge.questions:
            found: dict[str, Document] = {}
            for document in retriever.invoke(question.text):
                found.setdefault(judge.id_of(document), document)  # one that comes twice is one document
            yield question, list(found.values())
        return
    corpus = {judge.id_of(document): document for document in judge.dataset.corpus}
    if not corpus:
        msg = "There are no candidates: give a retriever, or a dataset with its corpus."
        raise ValueError(msg)
    ids = list(corpus)
    for question in judge.questions:
        found = judge.judged(question, corpus)
        draw = random.Random(f"{seed} {question.id}")  # noqa: S311 - a sample, no secret
        others = [id_ for id_ in draw.sample(ids, min(candidates, len(ids))) if id_ not in found]
        others = others[: max(candidates - len(found), 0)]
        yield question, [*found.values(), *(corpus[id_] for id_ in others)]


@dataclass
class Scored:
    """Scores of documents, and what is known of them.

    Attributes:
        scores: The score shown, ``-inf`` for a document that could not be judged; aligned with the next two.
        relevant: Whether the document is relevant.
        questions: Number of its question, from 0.
        statuses: How many documents came back with each status; those ``"unjudged"`` are not among the scores.
        backends: What ran the model, where the reranker says so.
        ungraded: How many of the scored documents the gold says nothing of.
    """

    scores: list[float] = field(default_factory=list)
    relevant: list[bool] = field(default_factory=list)
    questions: list[int] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    backends: set[str] = field(default_factory=set)
    ungraded: int = 0


def score_candidates(reranker: Reranker, inputs: Iterator[tuple[Question, list[Document]]], judge: Judge) -> Scored:
    """Have candidates scored, all of them; an error of the reranker is raised."""
    # The copy shares the loaded model. Without details of its own, documents may show those of an earlier reranker.
    reranker = reranker.model_copy(update={"top_n": None, "min_score": None, "on_error": "raise", "details": True})
    scored, number = Scored(), 0
    while some := list(islice(inputs, _AT_ONCE)):
        answers = reranker.batch([RerankInput(query=q.text, documents=documents) for q, documents in some])
        for (question, _), ranked in zip(some, answers, strict=True):
            for document in ranked:
                details = document.metadata["rerank"]
                scored.statuses[details["status"]] += 1
                if details["status"] == "unjudged":  # min_score does not cut it
                    continue
                if "backend" in details:
                    scored.backends.add(str(details["backend"]))
                scored.scores.append(document.metadata["relevance_score"])
                scored.relevant.append(judge.is_relevant(question, document))
                scored.questions.append(number)
                scored.ungraded += not judge.is_judged(question, document)
            number += 1
    return scored
