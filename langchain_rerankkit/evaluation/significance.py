"""Is a difference more than chance? Paired resampling of questions, for many comparisons at once.

Resampling a mean is a matrix product: a matrix of weights, one row for each resample and one column for each question, times
the matrix of differences, one column for each comparison. So all systems and metrics share one set of resamples.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["bootstrap_interval", "detectable", "holm", "randomisation_test"]

_NORMAL = NormalDist()
_CELLS = 4_000_000  # of a block of weights, to bound memory


def bootstrap_interval(differences: Any, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Any:
    """Interval of each mean by the bootstrap over questions, bias-corrected and accelerated (BCa).

    Args:
        differences: Array of shape [questions, comparisons].
        level: Share of such intervals that are to hold the true mean.
        resamples: How many.
        seed: Of the random numbers.

    Returns:
        Array of shape [2, comparisons]: lower and upper ends. Both are the mean where all differences are the same, and
        NaN with fewer than two questions.

    Source:
        Efron, Better Bootstrap Confidence Intervals, JASA 82 (1987); the acceleration of a mean is a sixth of the
        skewness of its jackknife values.
    """
    numpy = require("numpy", extra="evaluation")
    values = numpy.asarray(differences, dtype=float)
    questions, comparisons = values.shape
    if questions < 2:  # noqa: PLR2004 - one question says nothing of the next
        return numpy.full((2, comparisons), math.nan)
    random = numpy.random.default_rng(seed)
    means = numpy.concatenate(
        [
            numpy.stack([numpy.bincount(draw, minlength=questions) for draw in draws]).astype(float)
            @ values
            / questions
            for draws in (random.integers(questions, size=(rows, questions)) for rows in _blocks(resamples, questions))
        ]
    )
    centre = values.mean(axis=0)
    deviations = values - centre
    squares = (deviations**2).sum(axis=0)
    ends = numpy.empty((2, comparisons))
    for column in range(comparisons):
        if not squares[column] > 1e-24:  # noqa: PLR2004 - rounding
            ends[:, column] = centre[column]
            continue
        # Ties count half: metrics are discrete, and so are their means over few questions.
        below = numpy.mean(means[:, column] < centre[column]) + 0.5 * numpy.mean(means[:, column] == centre[column])
        bias = _NORMAL.inv_cdf(min(max(float(below), 1 / resamples), 1 - 1 / resamples))
        acceleration = float((deviations[:, column] ** 3).sum() / (6 * squares[column] ** 1.5))
        for row, tail in enumerate(((1 - level) / 2, (1 + level) / 2)):
            shifted = bias + _NORMAL.inv_cdf(tail)
            at = _NORMAL.cdf(bias + shifted / (1 - acceleration * shifted))
            ends[row, column] = numpy.quantile(means[:, column], at)
    return ends


def randomisation_test(differences: Any, *, resamples: int = 10_000, seed: int = 0) -> list[float]:
    """Two-sided p-value of each mean difference, by swapping the two systems at random within each question.

    Where there are no more ways to swap than resamples, all are gone through and the p-value is exact.

    Args:
        differences: Array of shape [questions, comparisons].
        resamples: How many.
        seed: Of the random numbers.

    Returns:
        A p-value for each comparison: the share of swaps whose mean differs at least as much, the one observed included.

    Source:
        Fisher's randomisation test, as Smucker, Allan and Carterette recommend it: A Comparison of Statistical
        Significance Tests for Information Retrieval Evaluation, CIKM 2007.
    """
    numpy = require("numpy", extra="evaluation")
    values = numpy.asarray(differences, dtype=float)
    comparisons = values.shape[1]
    # A question without a difference stays so however it is swapped.
    values = values[(values != 0).any(axis=1)]
    differing = len(values)
    if not differing:
        return [1.0] * comparisons
    observed = numpy.abs(values.sum(axis=0))
    slack = 1e-9 * numpy.abs(values).sum(axis=0)  # sums of the same numbers in another order
    exact = 2**differing <= resamples if differing < 64 else False  # noqa: PLR2004
    random = numpy.random.default_rng(seed)
    reached = numpy.zeros(comparisons)
    total = 2**differing if exact else resamples
    start = 0
    for rows in _blocks(total, differing):
        if exact:
            bits = (numpy.arange(start, start + rows)[:, None] >> numpy.arange(differing)) & 1
        else:
            packed = random.integers(256, size=(rows, -(-differing // 8)), dtype=numpy.uint8)
            bits = numpy.unpackbits(packed, axis=1, count=differing)
        signs = 1.0 - 2.0 * bits
        reached += (numpy.abs(signs @ values) >= observed - slack).sum(axis=0)
        start += rows
    return [float(p) for p in (reached / total if exact else (reached + 1) / (total + 1))]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for having looked several times, so that the chance of any false alarm stays at the level.

    Source:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def detectable(differences: Any, *, level: float = 0.95, power: float = 0.8) -> Any:
    """The smallest true mean difference that so many questions would show, for each comparison.

    Args:
        differences: Array of shape [questions, comparisons].
        level: Of confidence, two-sided.
        power: Share of experiments that would show it.

    Returns:
        Array of shape [comparisons]; NaN with fewer than two questions.

    Source:
        The normal approximation: (z of level + z of power) times the standard error.
    """
    numpy = require("numpy", extra="evaluation")
    values = numpy.asarray(differences, dtype=float)
    if len(values) < 2:  # noqa: PLR2004 - no spread to be known
        return numpy.full(values.shape[1], math.nan)
    factor = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return factor * values.std(axis=0, ddof=1) / math.sqrt(len(values))


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Rows of each block of a matrix that is never held whole."""
    block = max(1, _CELLS // max(1, columns))
    for start in range(0, rows, block):
        yield min(block, rows - start)
