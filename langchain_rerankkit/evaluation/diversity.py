"""Measures of how different the documents of a ranking are: by the aspects that gold names, and by their vectors.

A question may have several aspects (subtopics, intents; different answers), each with relevant documents of its own. A
relevant document that no aspect names is an aspect of its own.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["Aspects", "aspects_of", "distances", "greedy"]


def aspects_of(
    grades: Mapping[str, int], named: Mapping[str, Mapping[str, int]], relevance: int = 1
) -> dict[str, list[int]]:
    """The aspects of each relevant document of a question, as numbers.

    Args:
        grades: Grade of each judged document.
        named: For each aspect, the grades of documents for it.
        relevance: Lowest grade that counts as relevant.
    """
    found: dict[str, list[int]] = {}
    aspects = [
        members
        for by_document in named.values()
        if (members := [document for document, grade in by_document.items() if grade >= relevance])
    ]
    for number, members in enumerate(aspects):
        for document in members:
            found.setdefault(document, []).append(number)
    alone = (document for document, grade in grades.items() if grade >= relevance and document not in found)
    found.update({document: [number] for number, document in enumerate(list(alone), start=len(aspects))})
    return found


def greedy(aspects: Mapping[str, Sequence[int]], alpha: float, depth: int | None = None) -> list[str]:
    """Documents in the order in which each one gains most after those before it.

    The best order of all cannot be computed in reasonable time (it is NP-complete); this is what stands for it in
    the definition of alpha-nDCG (Clarke et al., "Novelty and Diversity in Information Retrieval Evaluation", SIGIR
    2008). Of equal gains the larger id goes first, as in TREC's ndeval.

    Args:
        aspects: The aspects of each document.
        alpha: How much an aspect is worth less each time that it was there before.
        depth: How many documents to order; None for all.
    """
    gains: dict[int, float] = {}
    documents = sorted(aspects, reverse=True)
    # Gains only fall, so one computed earlier bounds what a document gains now: few are computed anew.
    waiting = [(-float(len(aspects[document])), place) for place, document in enumerate(documents)]
    heapq.heapify(waiting)
    order: list[str] = []
    while waiting and (depth is None or len(order) < depth):
        bound, place = waiting[0]
        of_it = aspects[documents[place]]
        gain = sum(gains.get(aspect, 1.0) for aspect in of_it)
        if -gain > bound:
            heapq.heapreplace(waiting, (-gain, place))
            continue
        heapq.heappop(waiting)
        order.append(documents[place])
        gains.update((aspect, gains.get(aspect, 1.0) * (1.0 - alpha)) for aspect in of_it)
    return order


class Aspects:
    """Where the aspects of questions stand in rankings.

    Args:
        by_question: For each question the aspects of its relevant documents: see `aspects_of`.
        rankings: Document ids of each question, best first.
    """

    def __init__(
        self, by_question: Mapping[str, Mapping[str, Sequence[int]]], rankings: Mapping[str, Sequence[str]]
    ) -> None:
        self._numpy = require("numpy", extra="evaluation")
        self._by_question = by_question
        self._found = _Places(self._numpy, ((of, rankings.get(question, ())) for question, of in by_question.items()))
        self._ideal: dict[tuple[float, int | None], _Places] = {}

    def alpha_ndcg(self, cutoff: int | None, alpha: float) -> Any:
        """See the table of `langchain_rerankkit.evaluation.metrics`; shape [questions]."""
        if (alpha, cutoff) not in self._ideal:
            ideal = ((of, greedy(of, alpha, cutoff)) for of in self._by_question.values())
            self._ideal[alpha, cutoff] = _Places(self._numpy, ideal)
        return self._share(self._found.gained(cutoff, alpha), self._ideal[alpha, cutoff].gained(cutoff, alpha))

    def coverage(self, cutoff: int) -> Any:
        """See there; shape [questions]."""
        total = [len({aspect for aspects in of.values() for aspect in aspects}) for of in self._by_question.values()]
        return self._share(self._found.different(cutoff), self._numpy.asarray(total, dtype=float))

    def _share(self, part: Any, whole: Any) -> Any:
        return self._numpy.divide(part, whole, out=self._numpy.zeros(len(part)), where=whole > 0)


class _Places:
    """Arrays of question, rank from 1, and how often the aspect was there before: an entry for each aspect of a document.

    Args:
        numpy: The library.
        rankings: For each question the aspects of its relevant documents, and a ranking. A document that occurs again
            counts once, at its first place.
    """

    def __init__(self, numpy: Any, rankings: Iterable[tuple[Mapping[str, Sequence[int]], Sequence[str]]]) -> None:
        self._numpy = numpy
        entries: list[tuple[int, int, int]] = []
        self._questions = 0
        for aspects, ranking in rankings:
            left, before = dict(aspects), dict[int, int]()
            for rank, document in enumerate(ranking, start=1):
                for aspect in left.pop(document, ()):
                    entries.append((self._questions, rank, before.get(aspect, 0)))
                    before[aspect] = before.get(aspect, 0) + 1
            self._questions += 1
        self._question, self._rank, self._before = numpy.asarray(entries, dtype=numpy.int64).reshape(-1, 3).T

    def gained(self, cutoff: int | None, alpha: float) -> Any:
        gains = (1.0 - alpha) ** self._before / self._numpy.log2(self._rank + 1)
        return self._sum(gains if cutoff is None else gains * (self._rank <= cutoff))

    def different(self, cutoff: int) -> Any:
        return self._sum((self._before == 0) & (self._rank <= cutoff))

    def _sum(self, values: Any) -> Any:
        return self._numpy.bincount(self._question, values, minlength=self._questions).astype(float)


def distances(
    questions: Collection[str],
    rankings: Mapping[str, Sequence[str]],
    vectors: Mapping[str, Sequence[float]],
    cutoff: int | None,
) -> list[float]:
    """Mean of 1 - cosine over the pairs of documents in each ranking; 0 where there is no pair.

    Args:
        questions: Ids of the questions.
        rankings: Names of documents of each question, best first.
        vectors: The vector of each name, all of one dimension. One of zeros is similar to nothing.
        cutoff: Ranks that are looked at; None for all.

    Raises:
        KeyError: If a name has no vector.
    """
    numpy = require("numpy", extra="evaluation")
    values = []
    for question in questions:
        top = rankings.get(question, ())[:cutoff]
        count = len(top)
        if count < 2:  # noqa: PLR2004 - a pair
            values.append(0.0)
            continue
        matrix = numpy.asarray([vectors[name] for name in top], dtype=float)
        norms = numpy.linalg.norm(matrix, axis=1, keepdims=True)
        unit = matrix / numpy.where(norms == 0, 1, norms)
        # The sum over all pairs is that of the sum with itself, so none is looked at.
        pairs = float(unit.sum(axis=0) @ unit.sum(axis=0)) - float((unit * unit).sum())
        values.append(1.0 - pairs / (count * (count - 1)))
    return values
