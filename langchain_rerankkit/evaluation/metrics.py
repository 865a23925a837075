"""Metrics of rankings, exactly as trec_eval defines them.

| name | definition, for one question with R relevant documents |
|---|---|
| ``hit@k`` | 1 if any of the first k is relevant, else 0 |
| ``mrr``, ``mrr@k`` | 1 / rank of the first relevant document, 0 if there is none (within k) |
| ``precision@k`` | relevant among the first k, divided by k even when fewer came back |
| ``recall@k`` | relevant among the first k, divided by R |
| ``map``, ``map@k`` | sum of the precision at each relevant document (within k), divided by R |
| ``ndcg``, ``ndcg@k`` | sum of grade / log2(rank + 1), divided by that of the best possible order of all judged documents |

Beside them, for comparison with figures of others: ``recall_cap@k`` and ``map_cap@k`` divide by min(k, R) (BEIR,
sentence-transformers); ``ndcg_exp`` and ``ndcg_exp@k`` gain 2^grade - 1 (Burges et al., ICML 2005). Any other name is handed to
ir-measures (``"nDCG(gains={2: 3})@10"``, …). A metric of a system is the mean over questions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["DEFAULT_METRICS", "Metric", "parse_metrics", "score"]

DEFAULT_METRICS = ("hit@1", "hit@5", "mrr@10", "ndcg@10", "map@10", "precision@5", "recall@5")

_PATTERN = re.compile(r"(?P<name>[a-z_]+)(?:@(?P<cutoff>[1-9][0-9]*))?", re.IGNORECASE)
_ALIASES = {"rr": "mrr", "p": "precision", "r": "recall", "ap": "map"}


@dataclass(frozen=True)
class Metric:
    """What a metric's name means.

    Attributes:
        name: One of the table above, or empty for a measure of ir-measures.
        cutoff: Ranks that are looked at; None for all.
        measure: The measure of ir-measures, for names that it defines.
    """

    name: str
    cutoff: int | None = None
    measure: Any = None


def parse_metrics(names: str | Iterable[str]) -> dict[str, Metric]:
    """What each name means.

    Args:
        names: Names such as ``"ndcg@10"``, in any case, or one of them.

    Raises:
        ValueError: If a name is unknown or lacks its cut-off, or there is none.
    """
    metrics = {name: _parse(name) for name in ([names] if isinstance(names, str) else names)}
    if not metrics:
        msg = "At least one metric is needed."
        raise ValueError(msg)
    return metrics


def _parse(name: str) -> Metric:
    match = _PATTERN.fullmatch(name)
    known = match["name"].lower() if match else ""
    known = _ALIASES.get(known, known)
    if match and known in _METRICS:
        cutoff = int(match["cutoff"]) if match["cutoff"] else None
        if cutoff is None and known in _NEED_CUTOFF:
            msg = f"The metric {name!r} needs a cut-off, such as {name}@5."
            raise ValueError(msg)
        return Metric(known, cutoff)
    ir_measures = require("ir_measures", extra="evaluation")
    try:
        measure = ir_measures.parse_measure(name)
    except (NameError, ValueError, SyntaxError) as error:
        msg = (
            f"Unknown metric {name!r}. Known are {', '.join(DEFAULT_METRICS)}, other cut-offs of these, "
            f"{', '.join(_METRICS)} and ir-measures' own."
        )
        raise ValueError(msg) from error
    if not ir_measures.DefaultPipeline.supports(measure):
        msg = f"ir-measures cannot compute the metric {name!r} with what is installed: see https://ir-measur.es."
        raise ValueError(msg)
    return Metric("", measure=measure)


def score(
    gold: Mapping[str, Mapping[str, int]],
    rankings: Mapping[str, Sequence[str]],
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    *,
    relevance: int = 1,
) -> dict[str, dict[str, float]]:
    """Score rankings against gold grades.

    Args:
        gold: Grade of each judged document, by question id and document id. Grades below 1 count as not relevant.
        rankings: Document ids of each question, best first. The order given is the truth: nothing is re-sorted. A
            document that occurs again counts once, at its first place; its later places stay occupied.
        metrics: Names: see the table above.
        relevance: Lowest grade that counts as relevant, for metrics that know only relevant and not; nDCG gains the
            grades as they are, and measures of ir-measures take theirs from their name.

    Returns:
        For each metric the score of each question in ``gold``; a question that has no ranking scores 0.

    Raises:
        ValueError: If a metric is unknown.
    """
    parsed = parse_metrics(metrics)
    found = _Found(gold, rankings, relevance) if any(metric.name for metric in parsed.values()) else None
    scores = {}
    for name, metric in parsed.items():
        if found is not None and metric.name:
            values = _METRICS[metric.name](found, metric.cutoff)
            scores[name] = dict(zip(gold, values.tolist(), strict=True))
        else:
            scores[name] = _by_ir_measures(metric.measure, gold, rankings)
    return scores


class _Found:
    """Where the judged documents stand: flat arrays over all questions, so that each metric is a few sums.

    Args:
        gold: As in `score`.
        rankings: As in `score`.
        relevance: As in `score`.
    """

    def __init__(
        self, gold: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]], relevance: int
    ) -> None:
        self.numpy = numpy = require("numpy", extra="evaluation")
        self.questions = len(gold)
        self.relevance = relevance
        found: list[tuple[int, int, int]] = []  # question, rank from 1, grade
        ideal: list[tuple[int, int, int]] = []
        for number, (question, grades) in enumerate(gold.items()):
            left = {document: grade for document, grade in grades.items() if grade > 0}
            ideal += [(number, rank, g) for rank, g in enumerate(sorted(left.values(), reverse=True), start=1)]
            for rank, document in enumerate(rankings.get(question, ()), start=1):
                if document in left:  # at its first place only
                    found.append((number, rank, left.pop(document)))
        self.all = _Entries(numpy, found)
        self.ideal = _Entries(numpy, ideal)
        self.relevant = self.all.where(self.all.grade >= relevance)
        self.total = self.count(self.ideal.where(self.ideal.grade >= relevance))

    def count(self, entries: _Entries, weights: Any = None) -> Any:
        """Number of entries of each question, or the sum of their weights; shape [questions]."""
        return self.numpy.bincount(entries.question, weights, minlength=self.questions).astype(float)

    def share(self, part: Any, whole: Any) -> Any:
        """One divided by the other, and 0 where there is nothing to find."""
        return self.numpy.divide(part, whole, out=self.numpy.zeros(self.questions), where=whole > 0)

    def least(self, cutoff: int | None) -> Any:
        """The smaller of the cut-off and R."""
        return self.total if cutoff is None else self.numpy.minimum(cutoff, self.total)


class _Entries:
    """Documents that stand somewhere: arrays of question, rank from 1 and grade, by question and rank."""

    def __init__(self, numpy: Any, entries: Sequence[tuple[int, int, int]]) -> None:
        self.array = numpy.asarray(entries, dtype=numpy.int64).reshape(-1, 3)
        self.numpy = numpy
        self.question, self.rank, self.grade = self.array.T

    def where(self, mask: Any) -> _Entries:
        return _Entries(self.numpy, self.array[mask])

    def within(self, cutoff: int | None) -> _Entries:
        return self if cutoff is None else self.where(self.rank <= cutoff)


def _hit(found: _Found, cutoff: int | None) -> Any:
    return (found.count(found.relevant.within(cutoff)) > 0).astype(float)


def _mrr(found: _Found, cutoff: int | None) -> Any:
    relevant = found.relevant.within(cutoff)
    values = found.numpy.zeros(found.questions)
    questions, first = found.numpy.unique(relevant.question, return_index=True)
    values[questions] = 1.0 / relevant.rank[first]
    return values


def _precision(found: _Found, cutoff: int | None) -> Any:
    return found.count(found.relevant.within(cutoff)) / cutoff


def _recall(found: _Found, cutoff: int | None) -> Any:
    return found.share(found.count(found.relevant.within(cutoff)), found.total)


def _recall_cap(found: _Found, cutoff: int | None) -> Any:
    return found.share(found.count(found.relevant.within(cutoff)), found.least(cutoff))


def _precisions(found: _Found, cutoff: int | None) -> Any:
    """Sum of the precision at each relevant document."""
    relevant = found.relevant.within(cutoff)
    _, first, place = found.numpy.unique(relevant.question, return_index=True, return_inverse=True)
    ordinal = found.numpy.arange(len(relevant.question)) - first[place] + 1
    return found.count(relevant, ordinal / relevant.rank)


def _map(found: _Found, cutoff: int | None) -> Any:
    return found.share(_precisions(found, cutoff), found.total)


def _map_cap(found: _Found, cutoff: int | None) -> Any:
    return found.share(_precisions(found, cutoff), found.least(cutoff))


def _ndcg(found: _Found, cutoff: int | None, gain: Callable[[Any], Any] = lambda grade: grade) -> Any:
    def gained(entries: _Entries) -> Any:
        return found.count(entries, gain(entries.grade) / found.numpy.log2(entries.rank + 1))

    return found.share(gained(found.all.within(cutoff)), gained(found.ideal.within(cutoff)))


def _ndcg_exp(found: _Found, cutoff: int | None) -> Any:
    return _ndcg(found, cutoff, lambda grade: 2.0**grade - 1)


_METRICS = {
    "hit": _hit,
    "mrr": _mrr,
    "precision": _precision,
    "recall": _recall,
    "map": _map,
    "ndcg": _ndcg,
    "recall_cap": _recall_cap,
    "map_cap": _map_cap,
    "ndcg_exp": _ndcg_exp,
}
_NEED_CUTOFF = {"hit", "precision", "recall", "recall_cap"}


def _by_ir_measures(
    measure: Any, gold: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    # trec_eval orders by score and breaks ties by name; scores that fall by one leave no ties. Numbers in place of
    # names keep odd ids (spaces, surrogates, NUL) out of its C code.
    qrels, run = {}, {}
    for number, (question, grades) in enumerate(gold.items()):
        numbers = {document: str(place) for place, document in enumerate(grades)}
        qrels[str(number)] = {numbers[document]: int(grade) for document, grade in grades.items()}
        placed: dict[str, float] = {}
        seen: set[str] = set()
        for place, document in enumerate(rankings.get(question, ())):
            known = document in numbers and document not in seen
            seen.add(document)
            placed[numbers[document] if known else f"other-{place}"] = -float(place)
        if placed:
            run[str(number)] = placed
    scores = dict.fromkeys(gold, 0.0)
    originals = list(gold)
    if run:
        for value in require("ir_measures", extra="evaluation").iter_calc([measure], qrels, run):
            scores[originals[int(value.query_id)]] = float(value.value)
    return scores
