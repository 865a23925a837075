"""Arithmetic of one threshold over the scored documents of many questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["USABLE", "Curve", "Estimate", "Kept", "Pairs", "Target"]

Target = Literal["precision", "recall"]

USABLE = 0.1
"""A threshold is of use if it keeps this share of the relevant documents, or drops this share of the others."""

FOLDS = 10


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval.

    Attributes:
        value: From 0 to 1.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Curve:
    """What each possible threshold would do; columns of equal length, from the highest threshold to the lowest.

    Attributes:
        threshold: Each distinct score.
        precision: Share of relevant documents among those that score at least this.
        recall: Share of the relevant documents that do.
        kept: Documents that do, per question.
    """

    threshold: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    kept: tuple[float, ...]


@dataclass(frozen=True)
class Kept:
    """What is left of the documents.

    Attributes:
        precision: Share of relevant ones among them; None if nothing is left.
        recall: Share of the relevant ones that are left.
        documents: Documents left per question.
        nothing: Share of questions of which nothing is left.
    """

    precision: Estimate | None
    recall: Estimate | None
    documents: float
    nothing: float


class Pairs:
    """Scored documents of many questions, at least one relevant and one not.

    Args:
        scores: Score of each pair; ``-inf`` for one that no threshold keeps. Shape [pairs], as the next two.
        relevant: Whether its document is relevant.
        questions: Number of its question, from 0.
        count: Number of questions; some may have no pairs.
    """

    def __init__(self, scores: Sequence[float], relevant: Sequence[bool], questions: Sequence[int], count: int) -> None:
        self._numpy: Any = require("numpy", extra="evaluation")
        values = self._numpy.asarray(scores, dtype=float)
        order = self._numpy.argsort(-values, kind="stable")
        self._scores = values[order]
        self._relevant = self._numpy.asarray(relevant, dtype=bool)[order]
        self._questions = self._numpy.asarray(questions, dtype=int)[order]
        self._count = count

    @property
    def with_relevant(self) -> int:
        """Number of questions with a relevant document."""
        return len(set(self._questions[self._relevant].tolist()))

    def curve(self) -> Curve:
        """Every possible threshold."""
        thresholds, kept, hits = self._steps(slice(None))
        columns = (thresholds, hits / kept, hits / self._relevant.sum(), kept / self._count)
        return Curve(*(tuple(column.tolist()) for column in columns))

    def choose(self, target: Target, wanted: float) -> tuple[float | None, str]:
        """The threshold, or None and why there is none that is of use.

        For precision: among those that reach it, the one of the highest recall, and of these the highest. For recall: the
        highest that reaches it.
        """
        return self._choose(slice(None), target, wanted)

    def at(self, threshold: float) -> Kept:
        """What a threshold keeps."""
        return self._kept(self._scores >= threshold)

    def held_out(self, target: Target, wanted: float, seed: int) -> tuple[Kept, int]:
        """What is kept when each tenth of the questions gets the threshold that the others choose.

        Returns:
            What is kept (nothing where the others found no threshold), and in how many tenths that was so.
        """
        shuffled = self._numpy.random.default_rng(seed).permutation(self._count)
        folds = (shuffled % FOLDS)[self._questions]
        passed = self._numpy.zeros(len(self._scores), dtype=bool)
        without = 0
        for fold in range(FOLDS):
            threshold, _ = self._choose(folds != fold, target, wanted)
            if threshold is None:
                without += 1
            else:
                passed |= (folds == fold) & (self._scores >= threshold)
        return self._kept(passed), without

    def auc(self) -> Estimate:
        """Probability that a relevant document outscores another one, ties counting half."""
        above, below = self._scores[self._relevant], self._scores[~self._relevant]
        of_above, of_below = self._placements(above, below), 1 - self._placements(below, above)
        value = float(of_above.mean())
        influences = self._sum(of_above - value, self._relevant) / len(above)
        influences += self._sum(of_below - value, ~self._relevant) / len(below)
        questions = len(set(self._questions.tolist()))
        return self._estimate(value, influences, questions, len(above) * len(below))

    # --- written once -----------------------------------------------------------------------------------------------

    def _steps(self, pairs: Any) -> tuple[Any, Any, Any]:
        """Distinct finite scores, falling; how many pairs reach each; how many of these are relevant."""
        scores, relevant = self._scores[pairs], self._relevant[pairs]
        finite = self._numpy.isfinite(scores)
        scores, hits = scores[finite], self._numpy.cumsum(relevant[finite])
        last = self._numpy.flatnonzero(self._numpy.diff(scores, append=-self._numpy.inf))
        return scores[last], last + 1, hits[last]

    def _choose(self, pairs: Any, target: Target, wanted: float) -> tuple[float | None, str]:
        thresholds, kept, hits = self._steps(pairs)
        relevant = int(self._relevant[pairs].sum())
        others = len(self._relevant[pairs]) - relevant
        if not (len(thresholds) and relevant and others):
            return None, "there are no scores to compare"
        recall, dropped = hits / relevant, 1 - (kept - hits) / others
        if target == "precision":
            reached = self._numpy.flatnonzero(hits / kept >= wanted)
            if not len(reached) or recall[reached[-1]] < USABLE:
                best = (hits / kept)[recall >= USABLE].max(initial=0.0)
                return None, (
                    f"precision {wanted:g} is reached at no threshold that keeps {USABLE:.0%} of the relevant documents; "
                    f"the best is {best:.3f}"
                )
            place = self._numpy.searchsorted(hits, hits[reached[-1]])
        else:
            reached = self._numpy.flatnonzero(recall >= wanted)
            if not len(reached):
                return None, f"only {recall[-1]:.3f} of the relevant documents could be judged at all"
            place = reached[0]
            if dropped[place] < USABLE:
                return None, f"recall {wanted:g} is reached only by keeping {1 - dropped[place]:.1%} of the others"
        return float(thresholds[place]), ""

    def _kept(self, passed: Any) -> Kept:
        everything = self._numpy.ones(len(passed))
        kept, hits = self._sum(passed, slice(None)), self._sum(passed & self._relevant, slice(None))
        relevant = self._sum(everything[self._relevant], self._relevant)
        return Kept(
            self._share(hits, kept),
            self._share(hits, relevant),
            float(kept.sum() / self._count),
            float((kept == 0).mean()),
        )

    def _sum(self, values: Any, pairs: Any) -> Any:
        """Sums of each question, over some pairs."""
        return self._numpy.bincount(self._questions[pairs], weights=values, minlength=self._count)

    def _share(self, parts: Any, wholes: Any) -> Estimate | None:
        """A share over all questions, from its part and its whole in each."""
        whole = wholes.sum()
        if not whole:
            return None
        value = float(parts.sum() / whole)
        return self._estimate(value, (parts - value * wholes) / whole, int((wholes > 0).sum()), float(whole))

    def _placements(self, scores: Any, others: Any) -> Any:
        """Share of the others below each score, ties counting half."""
        ordered = self._numpy.sort(others)
        sides = (self._numpy.searchsorted(ordered, scores, side) for side in ("left", "right"))
        return sum(sides) / (2 * len(ordered))

    def _estimate(self, value: float, influences: Any, questions: int, pairs: float) -> Estimate:
        """Wilson's interval with as many pairs as the variance between questions says.

        Args:
            value: The share.
            influences: What each question adds to its deviation.
            questions: How many questions it comes from.
            pairs: How many pairs; no variance makes them count as more.
        """
        if questions < 2:  # noqa: PLR2004 - one question says nothing of the next
            return Estimate(value, 0.0, 1.0)
        variance = questions / (questions - 1) * float((influences**2).sum())
        spread = value * (1 - value)
        # Rounding leaves a tiny variance where all questions agree.
        effective = min(spread / variance, pairs) if variance > 1e-18 else min(questions, pairs)  # noqa: PLR2004
        square = float(require("scipy.special", extra="evaluation").stdtrit(questions - 1, 0.975)) ** 2 / effective
        centre, half = value + square / 2, (square * spread + square**2 / 4) ** 0.5
        low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
        return Estimate(value, min(max(low, 0.0), value), max(min(high, 1.0), value))
