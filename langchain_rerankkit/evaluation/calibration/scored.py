"""What a reranker says of documents that people judged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from langchain_rerankkit._progress import progress
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.evaluation.datasets.dataset import Dataset, Question
from langchain_rerankkit.evaluation.gold.matching import Match
from langchain_rerankkit.evaluation.gold.qrels import (
    GoldKind,
    Identity,
    Qrels,
    choose_gold,
    identity_of,
    judge_by_answers,
    judge_by_ids,
)
from langchain_rerankkit.records import RerankInput

__all__ = ["Candidates", "Scored", "candidates_of", "score_candidates"]

_AT_ONCE = 32  # questions in one batch


@dataclass(frozen=True)
class Candidates:
    """What is scored, and what it is held against.

    Attributes:
        questions: Those that have gold.
        found: Candidates of each question, in the same order.
        judged: Gold of these questions.
        identify: Gives a document's id.
    """

    questions: Sequence[Question]
    found: Sequence[Sequence[Document]]
    judged: Qrels
    identify: Callable[[Document], str]

    def grade(self, question: Question, document: Document) -> int | None:
        """The grade of a document; None where the gold says nothing of it."""
        return self.judged.grades[question.id].get(self.identify(document))


def candidates_of(
    dataset: Dataset,
    retriever: Runnable[str, Any] | None,
    *,
    gold: GoldKind,
    match: Match | None,
    relevance: int,
    identity: Identity,
    candidates: int,
    seed: int,
) -> Candidates:
    """The candidates of each question: what the retriever finds, or judged documents and others drawn from the corpus.

    Raises:
        ValueError: If there is no gold, or neither a retriever nor a corpus.
    """
    matcher = choose_gold(dataset, gold, match)
    if matcher is None:
        asked = [question for question in dataset.questions if question.documents]
    else:
        asked = [question for question in dataset.questions if question.answers or not matcher.whole_corpus]
    dataset = replace(dataset, questions=tuple(asked))
    identify = identity_of(identity, need_id=matcher is None)
    corpus = {identify(document): document for document in dataset.corpus}
    if retriever is None and (not corpus or (matcher is not None and not matcher.whole_corpus)):
        msg = "There are no candidates: give a retriever, or a dataset with its corpus."
        raise ValueError(msg)
    pools: dict[str, list[Document]] = {question.id: [] for question in asked}
    if retriever is not None:
        for question in progress(asked, len(asked), "retrieve"):
            found = {identify(document): document for document in reversed(retriever.invoke(question.text))}
            pools[question.id] = list(found.values())[::-1]  # one that comes twice is one document
    judged = (
        judge_by_ids(dataset, relevance) if matcher is None else judge_by_answers(dataset, pools, identify, matcher)
    )
    if retriever is None:
        ids = list(corpus)
        for question in asked:
            known = [corpus[id_] for id_ in judged.grades[question.id] if id_ in corpus]
            draw = random.Random(f"{seed} {question.id}")  # noqa: S311 - a sample, no secret
            drawn = draw.sample(ids, min(candidates, len(ids)))
            others = [corpus[id_] for id_ in drawn if id_ not in judged.grades[question.id]]
            pools[question.id] = [*known, *others[: max(candidates - len(known), 0)]]
    return Candidates(asked, [pools[question.id] for question in asked], judged, identify)


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


def score_candidates(reranker: Reranker, candidates: Candidates) -> Scored:
    """Have candidates scored, all of them; an error of the reranker is raised."""
    # The copy shares the loaded model. Without details of its own, documents may show those of an earlier reranker.
    reranker = reranker.model_copy(update={"top_n": None, "min_score": None, "on_error": "raise", "details": True})
    scored = Scored()
    pairs = list(zip(candidates.questions, candidates.found, strict=True))
    starts = range(0, len(pairs), _AT_ONCE)
    for start in progress(starts, len(starts), "calibrate"):
        some = pairs[start : start + _AT_ONCE]
        answers = reranker.batch([RerankInput(query=q.text, documents=documents) for q, documents in some])
        for number, ((question, _), ranked) in enumerate(zip(some, answers, strict=True), start=start):
            for document in ranked:
                details = document.metadata["rerank"]
                scored.statuses[details["status"]] += 1
                if details["status"] == "unjudged":  # min_score does not cut it
                    continue
                if "backend" in details:
                    scored.backends.add(str(details["backend"]))
                grade = candidates.grade(question, document)
                scored.scores.append(document.metadata["relevance_score"])
                scored.relevant.append(grade is not None and grade >= candidates.judged.relevance)
                scored.questions.append(number)
                scored.ungraded += grade is None
    return scored
