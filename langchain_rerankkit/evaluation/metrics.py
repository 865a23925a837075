"""Metrics of rankings, exactly as trec_eval defines them; the arithmetic is ir-measures'.

| name | definition, for one question with R relevant documents |
|---|---|
| ``hit@k`` | 1 if any of the first k is relevant, else 0 |
| ``mrr``, ``mrr@k`` | 1 / rank of the first relevant document, 0 if there is none (within k) |
| ``precision@k`` | relevant among the first k, divided by k even when fewer came back |
| ``recall@k`` | relevant among the first k, divided by R |
| ``map``, ``map@k`` | mean over R of the precision at each relevant document (within k) |
| ``ndcg``, ``ndcg@k`` | sum of grade / log2(rank + 1), divided by that of the best possible order |

A metric of a system is the mean over questions. Any other name is handed to ir-measures (``"RBP(p=0.8)"``, …).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["DEFAULT_METRICS", "parse_metrics", "score"]

DEFAULT_METRICS = ("hit@1", "hit@5", "mrr@10", "ndcg@10", "map@10", "precision@5", "recall@5")

# Ours on the left; ir-measures' on the right, with whether it knows a relevance threshold and needs a cut-off.
_NAMES = {
    "hit": ("Success", True, True),
    "mrr": ("RR", True, False),
    "rr": ("RR", True, False),
    "precision": ("P", True, True),
    "p": ("P", True, True),
    "recall": ("R", True, True),
    "r": ("R", True, True),
    "map": ("AP", True, False),
    "ap": ("AP", True, False),
    "ndcg": ("nDCG", False, False),
}
_PATTERN = re.compile(r"(?P<name>[a-z]+)(?:@(?P<cutoff>[1-9][0-9]*))?", re.IGNORECASE)


def parse_metrics(names: Iterable[str], *, relevance: int = 1) -> dict[str, Any]:
    """Turn metric names into ir-measures' measures.

    Args:
        names: Names such as ``"ndcg@10"``, in any case.
        relevance: Lowest grade that counts as relevant, for metrics that know only relevant and not.

    Returns:
        The measure of each name.

    Raises:
        ValueError: If a name is unknown or lacks its cut-off.
    """
    ir_measures = require("ir_measures", extra="evaluation")
    measures = {}
    for name in names:
        match = _PATTERN.fullmatch(name)
        if match is None or match["name"].lower() not in _NAMES:
            try:
                measures[name] = ir_measures.parse_measure(name)
            except (NameError, ValueError, SyntaxError) as error:
                known = ", ".join(DEFAULT_METRICS)
                msg = f"Unknown metric {name!r}. Known are {known}, other cut-offs of these, and ir-measures' own."
                raise ValueError(msg) from error
            continue
        measure, graded, needs_cutoff = _NAMES[match["name"].lower()]
        if needs_cutoff and match["cutoff"] is None:
            msg = f"The metric {name!r} needs a cut-off, such as {name}@5."
            raise ValueError(msg)
        threshold = f"(rel={relevance})" if graded and relevance != 1 else ""
        cutoff = f"@{match['cutoff']}" if match["cutoff"] else ""
        measures[name] = ir_measures.parse_measure(f"{measure}{threshold}{cutoff}")
    if not measures:
        msg = "At least one metric is needed."
        raise ValueError(msg)
    return measures


def score(
    gold: Mapping[str, Mapping[str, int]],
    rankings: Mapping[str, Sequence[str]],
    metrics: Iterable[str] = DEFAULT_METRICS,
    *,
    relevance: int = 1,
) -> dict[str, dict[str, float]]:
    """Score rankings against gold grades.

    Args:
        gold: Grade of each judged document, by question id and document id. Grades below 1 count as not relevant.
        rankings: Document ids of each question, best first. The order given is the truth: nothing is re-sorted. A
            document that occurs again counts once, at its first place; its later places stay occupied.
        metrics: Names: see the table above.
        relevance: Lowest grade that counts as relevant.

    Returns:
        For each metric the score of each question in ``gold``; a question that has no ranking scores 0.

    Raises:
        ValueError: If a metric is unknown.
    """
    ir_measures = require("ir_measures", extra="evaluation")
    measures = parse_metrics(metrics, relevance=relevance)
    # trec_eval orders by score and breaks ties by name; scores that fall by one leave no ties. Numbers in place of
    # names keep odd ids (spaces, surrogates, NUL) out of its C code.
    qrels, run = {}, {}
    questions = {question: str(number) for number, question in enumerate(gold)}
    for question, grades in gold.items():
        numbers = {document: str(number) for number, document in enumerate(grades)}
        qrels[questions[question]] = {numbers[document]: int(grade) for document, grade in grades.items()}
        placed: dict[str, float] = {}
        seen: set[str] = set()
        for place, document in enumerate(rankings.get(question, ())):
            known = document in numbers and document not in seen
            seen.add(document)
            placed[numbers[document] if known else f"other-{place}"] = -float(place)
        if placed:
            run[questions[question]] = placed
    names = {measure: name for name, measure in measures.items()}
    originals = list(gold)
    scores: dict[str, dict[str, float]] = {name: dict.fromkeys(gold, 0.0) for name in measures}
    if run:
        for value in ir_measures.iter_calc(list(names), qrels, run):
            scores[names[value.measure]][originals[int(value.query_id)]] = float(value.value)
    # Two names of one measure ("mrr@10", "rr@10") were computed once.
    return {name: scores[names[measure]] for name, measure in measures.items()}
