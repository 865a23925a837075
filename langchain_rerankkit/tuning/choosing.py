"""Which setting is best for a budget, and which are as good."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_rerankkit.tuning.settings import Setting

__all__ = ["Times", "Values", "within_noise"]

Values = Mapping[Setting | None, Sequence[float]]
"""The metric of each question, by setting; of no reranking under None."""


@dataclass(frozen=True)
class Times:
    """What settings take for a question, in seconds.

    Attributes:
        predicted: The sum of what their members take: by this they are ordered, in two digits, so that of settings that
            only differ in weights none is faster by chance.
        taken: The same, or what they took where they were run: by this they fit a budget.
    """

    predicted: Mapping[Setting | None, float]
    taken: dict[Setting | None, float]


def within_noise(values: Values, times: Times, budget: float) -> list[Setting | None]:
    """Settings that fit a budget and are as good as the best one that does, the fastest first, of equals the better.

    As good are those whose mean difference from the best, question by question, is at most its standard error.

    Args:
        values: What they score.
        times: What they take for a question.
        budget: What they may take.
    """
    total = {setting: math.fsum(values[setting]) for setting in values if times.taken[setting] <= budget}
    fitting = sorted(total, key=lambda setting: (_about(times.predicted[setting]), -total[setting]))
    best = max(fitting, key=lambda setting: total[setting])
    return [setting for setting in fitting if _is_as_good(values[setting], values[best])]


def _about(seconds: float) -> float:
    return float(f"{seconds:.2g}")


def _is_as_good(some: Sequence[float], best: Sequence[float]) -> bool:
    behind = [b - s for s, b in zip(some, best, strict=True)]
    # What rounding leaves of equal scores is no difference.
    mean = statistics.fmean(behind)
    error = statistics.stdev(behind) / math.sqrt(len(behind)) if len(behind) > 1 else 0.0
    return mean <= error + 1e-12
