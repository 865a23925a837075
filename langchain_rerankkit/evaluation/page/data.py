"""What the page's scripts read: a head that is needed at once, and chunks that each are unpacked at first use."""

from __future__ import annotations

import math
from itertools import repeat
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.evaluation.significance import bootstrap_interval

if TYPE_CHECKING:
    from langchain_rerankkit.evaluation.compare import Comparison
    from langchain_rerankkit.evaluation.report import EvaluationReport, Latency

__all__ = ["pack"]

_QUESTIONS_PER_CHUNK = 50
_DOCUMENTS_PER_CHUNK = 250
_ALL_TEXT = 24_000_000  # characters of documents in a page, at most,
_LEAST_TEXT = 100  # but so many of each


class _Numbers:
    """Numbers in place of ids, in the order of first use."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def __call__(self, id_: str) -> int:
        return self.of.setdefault(id_, len(self.of))


def pack(
    report: EvaluationReport, comparison: Comparison | None, *, depth: int, characters: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make plain JSON values of a report.

    Args:
        report: The report.
        comparison: Names the baseline.
        depth: Places of each ranking that are kept.
        characters: To which texts are cut.

    Returns:
        The head, and the chunks by name: ``questions``; ``scores-<metric>``: the score of each question by each system,
        null where it does not count; ``rankings-<n>``: of fifty questions (see `_rankings`); ``documents-<n>``: ids and
        texts. Documents are numbered through all chunks.
    """
    questions = list(
        dict.fromkeys(
            [*report.question_texts, *report.gold, *(id_ for system in report.systems for id_ in system.rankings)]
        )
    )
    number = _Numbers()
    chunks: dict[str, Any] = {
        "questions": {
            "ids": questions,
            "texts": [report.question_texts.get(id_, id_) for id_ in questions],
            "failures": [
                {place: system.failures[id_] for place, id_ in enumerate(questions) if id_ in system.failures}
                for system in report.systems
            ],
        }
    }
    for place, metric in enumerate(report.metrics):
        chunks[f"scores-{place}"] = [
            [_finite(system.per_question[metric].get(id_)) for id_ in questions] for system in report.systems
        ]
    for start in range(0, len(questions), _QUESTIONS_PER_CHUNK):
        chunks[f"rankings-{start // _QUESTIONS_PER_CHUNK}"] = [
            _rankings(report, id_, depth, number) for id_ in questions[start : start + _QUESTIONS_PER_CHUNK]
        ]
    documents = list(number.of)
    cut = min(characters, max(_LEAST_TEXT, _ALL_TEXT // max(1, len(documents))))
    for start in range(0, len(documents), _DOCUMENTS_PER_CHUNK):
        ids = documents[start : start + _DOCUMENTS_PER_CHUNK]
        texts = [report.documents.get(id_) for id_ in ids]
        chunks[f"documents-{start // _DOCUMENTS_PER_CHUNK}"] = {
            "ids": ids,
            "texts": [text and text[: cut + 1] for text in texts],  # one more says that there was more
        }
    head = {
        "metrics": report.metrics,
        "systems": _systems(report),
        "baseline": comparison.baseline if comparison else report.baseline.name,
        "depth": depth,
        "cut": cut,
        "perChunk": {"rankings": _QUESTIONS_PER_CHUNK, "documents": _DOCUMENTS_PER_CHUNK},
    }
    return head, chunks


def _rankings(report: EvaluationReport, question: str, depth: int, number: _Numbers) -> dict[str, Any]:
    """What each system made of a question.

    Returns:
        ``documents``: numbers of those that follow, which are named by their place in this list; ``top``: for each system
        its first documents as [document, score]; ``far``: documents that it has further down and that are gold or among
        another system's first, as [document, score, place]; ``length`` of each ranking; ``grades`` as [document, grade] or [document, grade, reason].
    """
    rankings = [system.rankings.get(question, ()) for system in report.systems]
    given = [system.document_scores.get(question, ()) for system in report.systems]
    scores = [
        scores if len(scores) == len(ranking) else repeat(None) for ranking, scores in zip(rankings, given, strict=True)
    ]
    top = [ranking[:depth] for ranking in rankings]
    shown = {id_ for ranking in top for id_ in ranking}
    grades = report.gold.get(question, {})
    gold = {id_: grade for id_, grade in grades.items() if id_ in shown or grade > 0}
    followed = shown | set(gold)
    here = _Numbers()
    first = [
        [[here(id_), _four_digits(score)] for id_, score in zip(ranking, scored, strict=False)]
        for ranking, scored in zip(top, scores, strict=True)
    ]
    reasons = report.reasons.get(question, {})
    graded = [[here(id_), grade, *([reasons[id_]] if id_ in reasons else [])] for id_, grade in gold.items()]
    far = []
    for ranking, scored in zip(rankings, scores, strict=True):
        left = followed.difference(ranking[:depth])
        found = []
        for place, (id_, score) in enumerate(zip(ranking, scored, strict=False), start=1):
            if id_ in left:
                left.discard(id_)  # its first place is the one that counts
                found.append([here(id_), _four_digits(score), place])
        far.append(found)
    return {
        "documents": [number(id_) for id_ in here.of],
        "top": first,
        "far": far,
        "length": [len(ranking) for ranking in rankings],
        "grades": graded,
    }


def _four_digits(score: float | None) -> float | None:
    return None if score is None else _finite(float(f"{score:.4g}"))


def _systems(report: EvaluationReport) -> list[dict[str, Any]]:
    intervals = _intervals(report)
    return [
        {
            "name": system.name,
            "scores": [_finite(system.scores[metric]) for metric in report.metrics],
            "intervals": intervals[place],
            "ceiling": [_finite(system.ceiling.get(metric)) for metric in report.metrics],
            "retrieval": _milliseconds(system.retrieval),
            "reranking": _milliseconds(system.reranking),
            "isReranker": system.source is not None,
        }
        for place, system in enumerate(report.systems)
    ]


def _intervals(report: EvaluationReport) -> list[list[list[float | None]]]:
    """Lower and upper end of each system's mean by each metric."""
    numpy = require("numpy", extra="evaluation")
    columns = [system.per_question[metric] for system in report.systems for metric in report.metrics]
    questions = list(columns[0])
    values = numpy.array([[column.get(id_, 0.0) for id_ in questions] for column in columns]).T
    ends = bootstrap_interval(values.reshape(len(questions), len(columns)))
    pairs = [[_finite(float(low)), _finite(float(high))] for low, high in ends.T]
    width = len(report.metrics)
    return [pairs[start : start + width] for start in range(0, len(pairs), width)]


def _milliseconds(latency: Latency | None) -> float | None:
    return None if latency is None else latency.p50 * 1e3


def _finite(value: float | None) -> float | None:
    """JSON has no number for the others."""
    return value if value is not None and math.isfinite(value) else None
