"""What one line of the table answered, and its scores."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_rerankkit._optional import require
from langchain_rerankkit._progress import progress
from langchain_rerankkit.evaluation.diversity import aspects_of, greedy
from langchain_rerankkit.evaluation.metrics import score
from langchain_rerankkit.evaluation.report import Latency, SystemResult
from langchain_rerankkit.evaluation.running.asking import Asked
from langchain_rerankkit.records import encodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_rerankkit.evaluation.gold.qrels import Qrels
    from langchain_rerankkit.evaluation.metrics import Metric
    from langchain_rerankkit.evaluation.running.systems import Line

__all__ = ["Answer", "Found", "Outcome", "fallback", "result_of", "vectors_of"]

_AT_A_TIME = 1024  # texts, whose vectors then become arrays, a tenth as large as the lists they come in
_KINDS = ("grades", "aspects", "texts")
_ALPHA = 0.5  # of the greedy order by aspects


class Found(NamedTuple):
    """Of a document in a ranking what is looked at; small, since there are millions.

    Attributes:
        id: What it is known by.
        text: Its text.
        score: What it shows as its score, if anything.
        status: Of its reranking.
        reason: Of a fallback.
    """

    id: str
    text: str
    score: Any = None
    status: str = "ok"
    reason: str = ""


Answer = Asked[Found]
"""What is kept of what a stage said to one question."""


def fallback(answer: Answer) -> str:
    """Why documents stand in the order that they came in, where the reranker fell back to it; else empty."""
    first = answer.documents[0] if answer.documents else None
    return first.reason or "no reason given" if first is not None and first.status == "fallback" else ""


@dataclass(frozen=True)
class Outcome:
    """Everything that a line answered.

    Attributes:
        line: The line.
        found: Answers of its first stage, by question.
        runs: Answers of its reranker in each of its runs; none for a first stage.
    """

    line: Line
    found: Mapping[str, Answer]
    runs: Sequence[Mapping[str, Answer]] = ()

    @property
    def answers(self) -> Mapping[str, Answer]:
        """What is ranked in the end: of several runs, the first."""
        return self.runs[0] if self.runs else self.found

    @property
    def pools(self) -> dict[str, Sequence[Found]]:
        """Candidates of each question."""
        return {id_: asked.documents for id_, asked in self.found.items()}


def vectors_of(outcomes: Iterable[Outcome], embeddings: Any, depth: int) -> dict[str, Any]:
    """The vector of each text among the first so many of any ranking.

    Args:
        outcomes: What lines answered.
        embeddings: LangChain's ``Embeddings``.
        depth: Ranks that are looked at.
    """
    numpy = require("numpy", extra="evaluation")
    texts = list(
        dict.fromkeys(
            text
            for outcome in outcomes
            for run in outcome.runs or [outcome.found]
            for asked in run.values()
            for text in _texts(asked)[:depth]
        )
    )
    vectors: dict[str, Any] = {}
    parts = [texts[start : start + _AT_A_TIME] for start in range(0, len(texts), _AT_A_TIME)]
    for part in progress(parts, len(parts), "embed"):
        made = numpy.asarray(embeddings.embed_documents(part), dtype=numpy.float32)
        vectors.update(zip(part, made, strict=True))
    return vectors


def result_of(
    outcome: Outcome, judged: Qrels, metrics: Mapping[str, Metric], vectors: Mapping[str, Any]
) -> SystemResult:
    """Score a line.

    Args:
        outcome: What it answered.
        judged: Gold of the questions that count.
        metrics: Metrics by name.
        vectors: The vector of each text, for metrics that compare texts.
    """
    line, gold = outcome.line, judged.grades
    by = {kind: [name for name, metric in metrics.items() if metric.looks_at == kind] for kind in _KINDS}

    def scored(rankings: Mapping[str, Sequence[str]], kind: str) -> dict[str, dict[str, float]]:
        if not by[kind]:
            return {}
        return score(gold, rankings, by[kind], relevance=judged.relevance, aspects=judged.aspects, vectors=vectors)

    def all_scored(run: Mapping[str, Answer], ranking: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
        texts = {id_: _texts(asked) for id_, asked in run.items()} if by["texts"] else {}
        found = {**scored(ranking, "grades"), **scored(ranking, "aspects"), **scored(texts, "texts")}
        return {name: found[name] for name in metrics}

    answered = outcome.runs or [outcome.found]
    rankings = [{id_: [document.id for document in asked.documents] for id_, asked in run.items()} for run in answered]
    runs = [all_scored(run, ranking) for run, ranking in zip(answered, rankings, strict=True)]
    per_question = {
        metric: {id_: statistics.fmean(run[metric][id_] for run in runs) for id_ in gold} if len(runs) > 1 else values
        for metric, values in runs[0].items()
    }
    pools = {id_: [document.id for document in pool] for id_, pool in outcome.pools.items()}
    best = {id_: _best_first(pools[id_], grades) for id_, grades in gold.items()}
    most = {id_: _most_aspects_first(id_, pools[id_], judged) for id_ in gold} if by["aspects"] else {}
    ceiling = {**scored(best, "grades"), **scored(most, "aspects")}
    reranked = bool(outcome.runs)
    asked = [asked for run in outcome.runs for asked in run.values()]
    return SystemResult(
        name=line.name,
        scores=_means(per_question),
        per_question=per_question,
        rankings=rankings[0],
        document_scores={id_: [_shown(d) for d in asked.documents] for id_, asked in outcome.answers.items()},
        ceiling=_means({name: ceiling[name] for name in metrics if name in ceiling}),
        source=line.first if reranked else None,
        candidates=statistics.fmean(map(len, pools.values())) if reranked and pools else None,
        words=_words(outcome.pools) if reranked else None,
        retrieval=_latency(outcome.found.values()),
        reranking=_latency(asked),
        usage=_total(asked) or None,
        failures={id_: a.error for run in outcome.runs or [outcome.found] for id_, a in run.items() if a.error},
        repeats=[_means(run) for run in runs] if len(runs) > 1 else [],
    )


def _best_first(pool: Sequence[str], grades: Mapping[str, int]) -> list[str]:
    return sorted(dict.fromkeys(pool), key=lambda document: -grades.get(document, 0))


def _most_aspects_first(question: str, pool: Sequence[str], judged: Qrels) -> list[str]:
    of = aspects_of(judged.grades[question], judged.aspects.get(question, {}), judged.relevance)
    return greedy({document: of[document] for document in pool if document in of}, _ALPHA)


def _texts(asked: Answer) -> list[str]:
    """What documents say, as they are ranked; those that say nothing have no vector."""
    return [encodable(document.text) for document in asked.documents if document.text.strip()]


def _means(per_question: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        metric: math.fsum(values.values()) / len(values) if values else math.nan
        for metric, values in per_question.items()
    }


def _shown(document: Found) -> float | None:
    return float(document.score) if isinstance(document.score, (int, float)) and math.isfinite(document.score) else None


def _words(pools: Mapping[str, Sequence[Found]]) -> float | None:
    texts = {document.text for pool in pools.values() for document in pool}
    counts = [len(text.split()) for text in texts if text]
    return statistics.fmean(counts) if counts else None


def _latency(answers: Iterable[Answer]) -> Latency | None:
    timed = [asked for asked in answers if asked.seconds is not None and asked.error is None]
    return Latency.of([a.seconds or 0.0 for a in timed if a.cold], [a.seconds or 0.0 for a in timed if not a.cold])


def _total(answers: Iterable[Answer]) -> dict[str, float]:
    total: dict[str, float] = {}
    for asked in answers:
        for name, value in asked.usage.items():
            total[name] = total.get(name, 0) + value
    return total
