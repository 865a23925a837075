"""Metrics of rankings, exactly as trec_eval defines them, and measures of diversity. Of all of them, higher is better.

| name | definition, for one question with R relevant documents |
|---|---|
| ``hit@k`` | 1 if any of the first k is relevant, else 0 |
| ``mrr``, ``mrr@k`` | 1 / rank of the first relevant document, 0 if there is none (within k) |
| ``precision@k`` | relevant among the first k, divided by k even when fewer came back |
| ``recall@k`` | relevant among the first k, divided by R |
| ``map``, ``map@k`` | sum of the precision at each relevant document (within k), divided by R |
| ``ndcg``, ``ndcg@k`` | sum of grade / log2(rank + 1), divided by that of the best possible order of all judged documents |

Beside them, for comparison with figures of others: ``recall_cap@k`` and ``map_cap@k`` divide by min(k, R) (BEIR,
sentence-transformers); ``ndcg_exp`` and ``ndcg_exp@k`` gain 2^grade - 1 (Burges et al., ICML 2005). How different the
documents are, for a question with several aspects (see `langchain_rerankkit.evaluation.diversity`):

| name | definition |
|---|---|
| ``alpha_ndcg``, ``alpha_ndcg@k`` | as nDCG, but a document gains, for each of its aspects, (1 - alpha)^(documents before it with that aspect); alpha is 0.5, or as in ``alpha_ndcg(alpha=0.3)@10`` (Clarke et al., SIGIR 2008) |
| ``coverage@k`` | aspects that the first k have, divided by all that any relevant document has: the subtopic recall of Zhai et al. (SIGIR 2003) |
| ``ild@k`` | intra-list distance: mean of 1 - cosine over the pairs of the first k, 0 without a pair. It is 1 - intra-list similarity (Ziegler et al., WWW 2005, as a mean), and knows nothing of relevance |

Any other name is handed to ir-measures (``"nDCG(gains={2: 3})@10"``, …). A metric of a system is the mean over questions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require
from langchain_rerankkit.evaluation.diversity import Aspects, aspects_of, distances
from langchain_rerankkit.evaluation.ir_measures import by_ir_measures, is_of_aspects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["DEFAULT_METRICS", "Metric", "parse_metrics", "score"]

DEFAULT_METRICS = ("hit@1", "hit@5", "mrr@10", "ndcg@10", "map@10", "precision@5", "recall@5")

_PATTERN = re.compile(
    r"(?P<name>[a-z_]+)(?:(?<=alpha_ndcg)\(alpha=(?P<alpha>[01](?:\.0*)?|0?\.[0-9]+)\))?(?:@(?P<cutoff>[1-9][0-9]*))?",
    re.IGNORECASE,
)
_ALIASES = {"rr": "mrr", "p": "precision", "r": "recall", "ap": "map", "strecall": "coverage"}


@dataclass(frozen=True)
class Metric:
    """What a metric's name means.

    Attributes:
        name: One of the table above, or empty for a measure of ir-measures.
        cutoff: Ranks that are looked at; None for all.
        measure: The measure of ir-measures, for names that it defines.
        alpha: Of ``alpha_ndcg``, how much an aspect is worth less each time that it was there before.
    """

    name: str
    cutoff: int | None = None
    measure: Any = None
    alpha: float | None = None

    @property
    def looks_at(self) -> Literal["grades", "aspects", "texts"]:
        """What of the documents counts: their grades, the aspects that they are relevant to, or what they say."""
        if self.name in _OF_TEXTS:
            return "texts"
        return "aspects" if self.name in _OF_ASPECTS or is_of_aspects(self.measure) else "grades"


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
    if match and (known in _METRICS or known in _OF_TEXTS):
        cutoff = int(match["cutoff"]) if match["cutoff"] else None
        if cutoff is None and known in _NEED_CUTOFF:
            msg = f"The metric {name!r} needs a cut-off, such as {name}@5."
            raise ValueError(msg)
        return Metric(known, cutoff, alpha=float(match["alpha"] or 0.5) if known == "alpha_ndcg" else None)
    if known == "ils":
        msg = f"Of all metrics here higher is better, so in place of {name!r} ask for ild, which is 1 - ILS: ild@10."
        raise ValueError(msg)
    ir_measures = require("ir_measures", extra="evaluation")
    try:
        measure = ir_measures.parse_measure(name)
    except (NameError, ValueError, SyntaxError) as error:
        msg = (
            f"Unknown metric {name!r}. Known are {', '.join(DEFAULT_METRICS)}, other cut-offs of these, "
            f"{', '.join([*_METRICS, *_OF_TEXTS])} and ir-measures' own."
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
    aspects: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None,
    vectors: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, dict[str, float]]:
    """Score rankings against gold grades.

    Args:
        gold: Grade of each judged document, by question id and document id. Grades below 1 count as not relevant.
        rankings: Document ids of each question, best first. The order given is the truth: nothing is re-sorted. A
            document that occurs again counts once, at its first place; its later places stay occupied.
        metrics: Names: see the table above.
        relevance: Lowest grade that counts as relevant, for metrics that know only relevant and not; nDCG gains the
            grades as they are, and measures of ir-measures take theirs from their name.
        aspects: By question id and name of an aspect, the grades of documents for it. A relevant document without any is
            an aspect of its own.
        vectors: The vector of each document in the rankings, by id, for ``ild``.

    Returns:
        For each metric the score of each question in ``gold``; a question that has no ranking scores 0.

    Raises:
        ValueError: If a metric is unknown, or ``ild`` lacks vectors.
    """
    parsed = parse_metrics(metrics)
    ours = any(metric.name and metric.looks_at != "texts" for metric in parsed.values())
    found = _Found(gold, rankings, relevance, aspects or {}) if ours else None
    scores = {}
    for name, metric in parsed.items():
        if metric.looks_at == "texts":
            if vectors is None:
                msg = f"{name} compares texts by their vectors: it is computed by evaluate(…, embeddings=…)."
                raise ValueError(msg)
            scores[name] = dict(zip(gold, distances(gold, rankings, vectors, metric.cutoff), strict=True))
        elif found is not None and metric.name:
            options = {} if metric.alpha is None else {"alpha": metric.alpha}
            values = _METRICS[metric.name](found, metric.cutoff, **options)
            scores[name] = dict(zip(gold, values.tolist(), strict=True))
        else:
            named = (aspects or {}) if metric.looks_at == "aspects" else None
            scores[name] = by_ir_measures(metric.measure, gold, rankings, named)
    return scores


class _Found:
    """Where the judged documents stand: flat arrays over all questions, so that each metric is a few sums.

    Args:
        gold: As in `score`.
        rankings: As in `score`.
        relevance: As in `score`.
        named: Its aspects.
    """

    def __init__(
        self,
        gold: Mapping[str, Mapping[str, int]],
        rankings: Mapping[str, Sequence[str]],
        relevance: int,
        named: Mapping[str, Mapping[str, Mapping[str, int]]],
    ) -> None:
        self.numpy = numpy = require("numpy", extra="evaluation")
        self.questions = len(gold)
        self.relevance = relevance
        self._gold, self._rankings, self._named = gold, rankings, named
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

    @cached_property
    def aspects(self) -> Aspects:
        """The same for aspects."""
        of = {id_: aspects_of(grades, self._named.get(id_, {}), self.relevance) for id_, grades in self._gold.items()}
        return Aspects(of, self._rankings)

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


def _alpha_ndcg(found: _Found, cutoff: int | None, alpha: float) -> Any:
    return found.aspects.alpha_ndcg(cutoff, alpha)


def _coverage(found: _Found, cutoff: int) -> Any:
    return found.aspects.coverage(cutoff)


_METRICS: dict[str, Callable[..., Any]] = {
    "hit": _hit,
    "mrr": _mrr,
    "precision": _precision,
    "recall": _recall,
    "map": _map,
    "ndcg": _ndcg,
    "recall_cap": _recall_cap,
    "map_cap": _map_cap,
    "ndcg_exp": _ndcg_exp,
    "alpha_ndcg": _alpha_ndcg,
    "coverage": _coverage,
}
_OF_ASPECTS = {"alpha_ndcg", "coverage"}
_OF_TEXTS = {"ild"}
_NEED_CUTOFF = {"hit", "precision", "recall", "recall_cap", "coverage", "ild"}
