"""Scores and orders: plain arithmetic on lists of floats, with no models, documents or dependencies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "FusionMethod",
    "best_first",
    "check_weights",
    "fuse",
    "fuse_rankings",
    "kendall_tau",
    "min_max",
    "reciprocal_ranks",
    "scores_from_order",
    "sigmoid",
    "with_floor",
    "z_scores",
]

FusionMethod = Literal["rrf", "z-score", "min-max", "sum"]
"""How several score lists become comparable before they are added: ``"rrf"`` (reciprocal ranks: only the order counts),
``"z-score"`` (mean 0 and deviation 1), ``"min-max"`` (from 0 to 1, which some call relative scores) or ``"sum"`` (as they are).
"""

_Key = TypeVar("_Key")


def best_first(scores: Sequence[float]) -> list[int]:
    """Positions from the highest score to the lowest; ties keep the order they came in, non-finite scores go last.

    Args:
        scores: One score per candidate.

    Returns:
        A permutation of ``range(len(scores))``.
    """
    # NaN compares false with everything and would scramble the sort, so it never reaches the key.
    return sorted(range(len(scores)), key=lambda i: -scores[i] if math.isfinite(scores[i]) else math.inf)


def scores_from_order(order: Sequence[int], count: int) -> list[float]:
    """Turn an order into aligned scores, for backends that only know an order (listwise rerankers).

    Args:
        order: Positions of candidates, best first, each at most once. It may leave candidates out: they follow in
            the order they came in.
        count: Number of candidates.

    Returns:
        ``count`` scores aligned with the candidates: 1.0 for the best, then 1/2, 1/3 … They carry no more than the
        order, so the backend declares ``scores_are = "rank"``.

    Raises:
        ValueError: If a position is out of range or occurs twice.
    """
    if len(set(order)) != len(order) or any(not 0 <= position < count for position in order):
        msg = f"An order of {count} candidates must name positions from 0 to {count - 1}, each at most once."
        raise ValueError(msg)
    named = set(order)
    complete = [*order, *(position for position in range(count) if position not in named)]
    scores = [0.0] * count
    for rank, position in enumerate(complete, start=1):
        scores[position] = 1.0 / rank
    return scores


def sigmoid(logit: float) -> float:
    """Logistic function, exact at both ends: no overflow for large negative logits."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def z_scores(scores: Sequence[float]) -> list[float]:
    """Subtract the mean and divide by the standard deviation (population); all zero when every score is the same."""
    if not scores:
        return []
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    # Rounding leaves a tiny deviation where there is none; it must not be blown up into differences.
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        return [0.0] * len(scores)
    return [(score - mean) / deviation for score in scores]


def min_max(scores: Sequence[float]) -> list[float]:
    """Map the lowest score to 0 and the highest to 1; all zero when every score is the same."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    if high == low:
        return [0.0] * len(scores)
    return [(score - low) / (high - low) for score in scores]


def reciprocal_ranks(scores: Sequence[float], k: int = 60) -> list[float]:
    """``1 / (k + rank)`` of each score, where equal scores share the better rank.

    Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning
    methods", SIGIR 2009 (which proposes k = 60).
    """
    values = [0.0] * len(scores)
    rank, previous = 0, math.nan
    for place, position in enumerate(best_first(scores), start=1):
        if scores[position] != previous:
            rank, previous = place, scores[position]
        values[position] = 1.0 / (k + rank)
    return values


_NORMALISERS: dict[str, Callable[[Sequence[float]], list[float]]] = {
    "rrf": reciprocal_ranks,
    "z-score": z_scores,
    "min-max": min_max,
    "sum": list,
}


def fuse(
    score_lists: Sequence[Sequence[float]], *, method: FusionMethod = "z-score", weights: Sequence[float] | None = None
) -> list[float]:
    """Add several score lists over the same candidates, after making them comparable.

    Args:
        score_lists: One list of scores per judge, all aligned with the same candidates.
        method: See `FusionMethod`.
        weights: One factor per list; all 1 by default.

    Returns:
        One score per candidate. It is relative to these candidates: the same document gets another score in another
        list.

    Raises:
        ValueError: If the lists differ in length, or the weights do not match them, or the method is unknown.
    """
    factors = _factors(method, weights, len(score_lists))
    if len({len(scores) for scores in score_lists}) > 1:
        msg = f"Score lists over the same candidates must be equally long, got {[len(s) for s in score_lists]}."
        raise ValueError(msg)
    normalised = [_NORMALISERS[method](scores) for scores in score_lists]
    return [
        math.fsum(factor * value for factor, value in zip(factors, values, strict=True))
        for values in zip(*normalised, strict=True)
    ]


def fuse_rankings(
    rankings: Sequence[Mapping[_Key, float]],
    *,
    method: FusionMethod = "rrf",
    weights: Sequence[float] | None = None,
    k: int = 60,
) -> dict[_Key, float]:
    """Add several rankings, each of the documents that one judge found, after making their scores comparable.

    A ranking that lacks a document adds nothing to it; or its lowest value, where that is below 0, so that a document that
    was found never counts less than one that was not. Where all scores of a ranking are the same, ``"z-score"`` and
    ``"min-max"`` make each of them 1: one document found is something else than none.

    Args:
        rankings: For each judge, finite scores by document, best first. ``"rrf"`` looks at the order alone.
        method: See `FusionMethod`.
        weights: One factor per ranking, none negative; all 1 by default.
        k: Of ``"rrf"``: the larger, the less the first places stand out.

    Returns:
        The sums by document, highest first; equal ones in the order in which the rankings, one after the other, name them.

    Raises:
        ValueError: If the weights do not match the rankings, or the method is unknown.
    """
    factors = _factors(method, weights, len(rankings))
    values = [dict(zip(ranking, _comparable(list(ranking.values()), method, k), strict=True)) for ranking in rankings]
    absent = [min(0.0, *found.values()) if found else 0.0 for found in values]
    sums = {
        key: math.fsum(
            factor * found.get(key, default) for factor, found, default in zip(factors, values, absent, strict=True)
        )
        for key in dict.fromkeys(key for ranking in rankings for key in ranking)
    }
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _comparable(scores: list[float], method: FusionMethod, k: int) -> list[float]:
    if method == "rrf":
        return [1.0 / (k + rank) for rank in range(1, len(scores) + 1)]
    values = _NORMALISERS[method](scores)
    return values if method == "sum" or any(values) else [1.0] * len(scores)


def check_weights(weights: Sequence[float], count: int) -> None:
    """Refuse what cannot be the weights of so many lists.

    Raises:
        ValueError: If there are more or fewer, one is negative or not finite, or all are 0.
    """
    if len(weights) != count:
        msg = f"{count} lists need as many weights, got {len(weights)}."
        raise ValueError(msg)
    if count and not (any(weights) and all(0 <= weight < math.inf for weight in weights)):
        msg = "Weights must be finite and not negative, and one of them above 0."
        raise ValueError(msg)


def with_floor(scores: Mapping[_Key, float]) -> dict[_Key, float]:
    """What nobody judged, or whose score is not finite, counts as the worst that was judged."""
    floor = min((score for score in scores.values() if math.isfinite(score)), default=0.0)
    return {key: score if math.isfinite(score) else floor for key, score in scores.items()}


def _factors(method: str, weights: Sequence[float] | None, count: int) -> list[float]:
    if method not in _NORMALISERS:
        msg = f"Unknown fusion method {method!r}; choose one of {sorted(_NORMALISERS)}."
        raise ValueError(msg)
    if weights is None:
        return [1.0] * count
    check_weights(weights, count)
    return list(weights)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """How far two score lists over the same candidates agree on the order of pairs: from -1 (reversed) to 1 (the same).

    Pairs that tie in either list count as neither (tau-a). 1 for fewer than two candidates.
    """
    pairs = agreement = 0
    for position in range(len(first)):
        for other in range(position):
            pairs += 1
            product = (first[position] - first[other]) * (second[position] - second[other])
            agreement += (product > 0) - (product < 0)
    return agreement / pairs if pairs else 1.0
