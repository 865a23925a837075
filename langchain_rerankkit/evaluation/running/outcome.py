"""What one line of the table answered, and its scores."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_rerankkit.evaluation.metrics import score
from langchain_rerankkit.evaluation.report import Latency, SystemResult
from langchain_rerankkit.evaluation.running.asking import Asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_rerankkit.evaluation.gold.qrels import Qrels
    from langchain_rerankkit.evaluation.running.systems import Line

__all__ = ["Answer", "Found", "Outcome", "fallback", "result_of"]


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


def result_of(
    outcome: Outcome,
    judged: Qrels,
    metrics: Sequence[str],
) -> SystemResult:
    """Score a line.

    Args:
        outcome: What it answered.
        judged: Gold of the questions that count.
        metrics: Names of metrics.
    """
    line, gold = outcome.line, judged.grades

    def scored(rankings: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
        return score(gold, rankings, metrics, relevance=judged.relevance)

    rankings = [
        {id_: [document.id for document in asked.documents] for id_, asked in run.items()}
        for run in outcome.runs or [outcome.found]
    ]
    runs = [scored(ranking) for ranking in rankings]
    per_question = {
        metric: {id_: statistics.fmean(run[metric][id_] for run in runs) for id_ in gold} if len(runs) > 1 else values
        for metric, values in runs[0].items()
    }
    pools = {id_: [document.id for document in pool] for id_, pool in outcome.pools.items()}
    best = {id_: _best_first(pools[id_], grades) for id_, grades in gold.items()}
    reranked = bool(outcome.runs)
    asked = [asked for run in outcome.runs for asked in run.values()]
    return SystemResult(
        name=line.name,
        scores=_means(per_question),
        per_question=per_question,
        rankings=rankings[0],
        document_scores={id_: [_shown(d) for d in asked.documents] for id_, asked in outcome.answers.items()},
        ceiling=_means(scored(best)),
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
