"""What is tried: how deep each reranker reads, which chooses for which, and how much each counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.rerankers.cascade import CascadeReranker
from langchain_rerankkit.rerankers.ensemble import EnsembleReranker

__all__ = ["Setting", "Step", "every_setting"]

_SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the second reranker in a sum of two
_FIRST_STAGE = (0.25, 0.5, 1.0)  # factors of the order that the documents came in, beside one reranker


@dataclass(frozen=True)
class Step:
    """Rerankers that judge the same documents, together.

    Attributes:
        depth: How many documents they judge; None for all.
        weights: Name and factor of each.
        first_stage: Factor of the order that the documents came in; 0 leaves it out.
    """

    depth: int | None
    weights: tuple[tuple[str, float], ...]
    first_stage: float = 0.0

    def __str__(self) -> str:
        parts = [name if len(self.weights) == 1 else f"{weight:g} {name}" for name, weight in self.weights]
        parts += [f"{self.first_stage:g} first stage"] if self.first_stage else []
        return f"{' + '.join(parts)} on {self.depth or 'all'}"

    def build(self, rerankers: Mapping[str, Reranker]) -> Reranker:
        """The one reranker that they make."""
        chosen = [rerankers[name] for name, _ in self.weights]
        if len(chosen) == 1 and not self.first_stage:
            return chosen[0]
        return EnsembleReranker(
            rerankers=chosen,
            weights=None if len(chosen) == 1 else [weight for _, weight in self.weights],
            method="rrf" if self.first_stage else "z-score",
            first_stage_weight=self.first_stage,
        )


@dataclass(frozen=True)
class Setting:
    """Steps, each of which judges what the one before it puts first. What none judges follows behind."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ", then ".join(map(str, self.steps))

    def build(self, rerankers: Mapping[str, Reranker]) -> Reranker:
        """The reranker of this setting.

        Args:
            rerankers: Its members by name.
        """
        judges = [step.build(rerankers) for step in self.steps]
        if len(self.steps) == 1 and self.steps[0].depth is None:
            return judges[0]
        cuts = [*(step.depth for step in self.steps[1:]), None]
        members = [judge.model_copy(update={"top_n": cut}) for judge, cut in zip(judges, cuts, strict=True)]
        return CascadeReranker(members, candidates=self.steps[0].depth, keep_rest=True)

    def seconds(self, costs: Mapping[tuple[str, int | None], float]) -> float:
        """What it should take for a question: the sum over steps and members.

        Args:
            costs: Seconds by name and depth.
        """
        return sum(costs[name, step.depth] for step in self.steps for name, _ in step.weights)


def every_setting(names: Sequence[str], depths: Sequence[int | None]) -> Iterator[Setting]:
    """All that are tried.

    One reranker; one with the first stage's order; two added; one that chooses what another, or the two added, then judge:
    each at every depth.

    Args:
        names: Of the rerankers, the cheapest first: only a cheaper one chooses for another.
        depths: How many documents are judged, the fewest first; None stands for all.
    """
    pairs = list(combinations(names, 2))
    sums = [tuple(zip(pair, (round(1 - share, 2), share), strict=True)) for pair in pairs for share in _SHARES]
    for place, depth in enumerate(depths):
        for name in names:
            alone = ((name, 1.0),)
            yield Setting((Step(depth, alone),))
            for factor in _FIRST_STAGE:
                yield Setting((Step(depth, alone, factor),))
        for weights in sums:
            yield Setting((Step(depth, weights),))
        for shorter in depths[:place]:
            for first, second in pairs:
                yield Setting((Step(depth, ((first, 1.0),)), Step(shorter, ((second, 1.0),))))
            for weights in sums:
                yield Setting((Step(depth, ((weights[0][0], 1.0),)), Step(shorter, weights)))
