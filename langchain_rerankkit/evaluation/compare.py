"""Hold systems against each other, question by question, and say what can be claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require
from langchain_rerankkit.evaluation.significance import bootstrap_interval, detectable, holm, randomisation_test
from langchain_rerankkit.evaluation.table import Table
from langchain_rerankkit.evaluation.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_rerankkit.evaluation.report import EvaluationReport, SystemResult

__all__ = ["Comparison", "Difference", "compare"]

_LEVEL = 0.05
Verdict = Literal["better", "worse", "below noise", "equal", "failed"]


@dataclass(frozen=True)
class Difference:
    """One system against the baseline by one metric.

    Attributes:
        system: The system's name.
        metric: The metric.
        score: Its mean.
        baseline_score: The baseline's.
        ceiling: What the best order of the system's candidates would score; None where that is unknown.
        difference: Mean over questions of the system's score less the baseline's.
        low: Lower end of the difference's interval; NaN with fewer than two questions.
        high: Upper end.
        p: P-value of the randomisation test.
        p_adjusted: The same by Holm's method over all systems compared.
        wins: Questions it is better at.
        ties: Questions it is equal at.
        losses: Questions it is worse at.
        detectable: The smallest true difference that so many questions would show four times out of five.
        seconds: Median time of a question, first stage and reranker; None where nothing was timed.
        cost: What all questions cost; None where that is unknown.
        spread: Largest less smallest mean of repeated runs, the system's or the baseline's; 0 without repeats.
        verdict: ``"better"`` or ``"worse"`` where the adjusted p-value is below the level and the difference above the
            spread, ``"equal"`` where no question differs, ``"failed"`` where one of the two answered no question, else
            ``"below noise"``.
    """

    system: str
    metric: str
    score: float
    baseline_score: float
    ceiling: float | None
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    wins: int
    ties: int
    losses: int
    detectable: float
    seconds: float | None
    cost: float | None
    spread: float
    verdict: Verdict

    def __str__(self) -> str:
        """The finding in words."""
        differing = self.wins + self.losses
        questions = counted(differing + self.ties, "question")
        if self.verdict == "failed":
            return f"{self.system}: it or the baseline failed at all of {questions}, so nothing is compared."
        if self.verdict == "equal":
            return f"{self.system}: {self.metric} is the same as the baseline's on all of {questions}."
        interval = f" [{self.low:+.3f}, {self.high:+.3f}]" if math.isfinite(self.low) else ""
        change = f"{self.system}: {self.metric} {self.difference:+.3f}{interval}"
        if self.verdict in {"better", "worse"}:
            return f"{change}, {self.verdict} than the baseline ({_adjusted(self.p_adjusted)})."
        return f"{change} is below noise{self._why_noise(questions)}."

    def _why_noise(self, questions: str) -> str:
        differing = self.wins + self.losses
        if self.spread and self.spread >= abs(self.difference):
            return f": repeated runs of one system differ by {self.spread:.3f}"
        why = f" ({_adjusted(self.p_adjusted)})"
        least = 2.0 ** (1 - differing)  # the p-value where all of them differ in one direction
        if least >= _LEVEL:
            what = f"only {counted(differing, 'question')} differ{'s' if differing == 1 else ''}"
            return f"{why}: {what}, which cannot show anything (p is at least {least:.2g})"
        if self.detectable > abs(self.difference):
            return f"{why}: {questions} would show a difference of {self.detectable:.3f} or more"
        return why


@dataclass(frozen=True, repr=False)
class Comparison:
    """Every system against the baseline.

    Attributes:
        baseline: Name of the baseline.
        questions: Number of questions that are paired.
        differences: One for each metric and system, metrics in the report's order.
        per_question: Score less the baseline's, by metric, system and question.
        level: Of the intervals.
    """

    baseline: str
    questions: int
    differences: Sequence[Difference]
    per_question: dict[str, dict[str, dict[str, float]]]
    level: float = 0.95

    def __getitem__(self, system_and_metric: tuple[str, str]) -> Difference:
        """``comparison[system, metric]``: the difference of a system by a metric."""
        for line in self.differences:
            if (line.system, line.metric) == system_and_metric:
                return line
        there = [(line.system, line.metric) for line in self.differences]
        msg = f"There is no comparison of {system_and_metric!r}; there are {there}."
        raise KeyError(msg)

    def helped(self, system: str, metric: str, most: int = 5) -> list[tuple[str, float]]:
        """Questions at which the system gained most over the baseline, with the gain."""
        return self._extremes(system, metric, most, 1)

    def hurt(self, system: str, metric: str, most: int = 5) -> list[tuple[str, float]]:
        """Questions at which it lost most, with the loss as a negative number."""
        return self._extremes(system, metric, most, -1)

    def _extremes(self, system: str, metric: str, most: int, sign: int) -> list[tuple[str, float]]:
        if self[system, metric].verdict == "equal":
            return []
        changes = self.per_question[metric][system].items()
        return sorted(((id_, d) for id_, d in changes if d * sign > 0), key=lambda item: -sign * item[1])[:most]

    def table(self) -> Table:
        """A line for each metric and system, and each finding in words."""
        interval = f"{100 * self.level:g} % interval"
        header = ["metric", "system", "score", "ceiling", "difference", interval, "p (Holm)", "W / T / L", "verdict"]
        timed = any(line.seconds is not None for line in self.differences)
        paid = any(line.cost is not None for line in self.differences)
        header += [*(["ms"] if timed else []), *(["cost"] if paid else [])]
        rows = [
            [
                line.metric,
                line.system,
                f"{line.score:.3f}",
                "-" if line.ceiling is None else f"{line.ceiling:.3f}",
                f"{line.difference:+.3f}",
                f"{line.low:+.3f} to {line.high:+.3f}" if math.isfinite(line.low) else "-",
                _p(line.p_adjusted),
                f"{line.wins} / {line.ties} / {line.losses}",
                line.verdict,
                *(["-" if line.seconds is None else f"{line.seconds * 1e3:.1f}"] if timed else []),
                *(["-" if line.cost is None else f"{line.cost:.4f}"] if paid else []),
            ]
            for line in self.differences
        ]
        how = (
            f"Paired over {counted(self.questions, 'question')}. The p-value decides: by randomisation, adjusted by Holm's "
            "method over the systems of a metric. Each interval (BCa bootstrap) is of one comparison alone, and somewhat "
            "too narrow with few questions. The ceiling is the best order of the candidates."
        )
        noisy = [str(line) for line in self.differences if line.verdict != "better"]
        title = f"Against {self.baseline}, {counted(self.questions, 'question')}"
        return Table(title, header, rows, [how, *self._extreme_questions()], noisy, left=(1, 8))

    def _extreme_questions(self) -> list[str]:
        """Which questions each system helped and hurt most by the first metric."""
        metric = self.differences[0].metric if self.differences else ""
        sentences = []
        for system in self.per_question.get(metric, {}):
            moved = {"helped": self.helped(system, metric, 3), "hurt": self.hurt(system, metric, 3)}
            said = [
                f"{how} most {', '.join(f'{id_} {d:+.2f}' for id_, d in found)}"
                for how, found in moved.items()
                if found
            ]
            if said:
                sentences.append(f"{system}, by {metric}: {'; '.join(said)}.")
        return sentences

    def to_markdown(self) -> str:
        """The table and the notes."""
        return self.table().markdown()

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return f"<Comparison against {self.baseline!r}: {counted(len(self.differences), 'difference')}>"

    def __rich__(self) -> Any:
        return self.table().rich()

    def _repr_html_(self) -> str:
        return self.table().html()


def compare(
    report: EvaluationReport,
    baseline: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Hold every system of a report against one of them, question by question.

    Args:
        report: What `evaluate` returned: all its systems were asked the same questions of the same dataset.
        baseline: Name of the system to compare with; by default the first.
        metrics: Some of the report's metrics; by default all.
        level: Of the intervals; a difference counts where its adjusted p-value is below one less this.
        resamples: Of the bootstrap and of the randomisation test.
        seed: Of their random numbers.

    Returns:
        The comparison: a table when printed.

    Raises:
        ValueError: If a system or metric is not in the report, there is no other system, or no question counts.
    """
    numpy = require("numpy", extra="evaluation")
    there = [system.name for system in report.systems]
    if baseline is not None and baseline not in there:
        msg = f"The report has no system {baseline!r}; it has {there}."
        raise ValueError(msg)
    base = report.baseline if baseline is None else report[baseline]
    others = [system for system in report.systems if system.name != base.name]
    if not others:
        msg = "The report has one system: evaluate it together with what it is to be compared with."
        raise ValueError(msg)
    names = list(report.metrics if metrics is None else metrics)
    unknown = [name for name in names if name not in report.metrics]
    if unknown:
        msg = f"The report lacks the metrics {unknown}; it has {report.metrics}."
        raise ValueError(msg)
    questions = list(base.per_question[names[0]]) if names else []
    if not questions:
        msg = "No question of the report counts, so there is nothing to compare: see its notes."
        raise ValueError(msg)
    changes = {
        metric: {
            # Differences of scores computed in another order are not differences.
            system.name: {
                id_: round(system.per_question[metric][id_] - base.per_question[metric][id_], 9) for id_ in questions
            }
            for system in others
        }
        for metric in names
    }
    columns = numpy.array([list(by_id.values()) for by in changes.values() for by_id in by.values()]).T
    columns = columns.reshape(len(questions), len(names) * len(others))
    ends = bootstrap_interval(columns, level=level, resamples=resamples, seed=seed)
    p_values = randomisation_test(columns, resamples=resamples, seed=seed)
    least = detectable(columns, level=level)
    differences = []
    column = 0
    for metric in names:
        adjusted = holm(p_values[column : column + len(others)])
        for system, p_adjusted in zip(others, adjusted, strict=True):
            values = columns[:, column]
            mean = float(values.mean())
            spread = max(_spread(system, metric), _spread(base, metric))
            differences.append(
                Difference(
                    system=system.name,
                    metric=metric,
                    score=system.scores[metric],
                    baseline_score=base.scores[metric],
                    ceiling=system.ceiling.get(metric),
                    difference=mean,
                    low=float(ends[0, column]),
                    high=float(ends[1, column]),
                    p=p_values[column],
                    p_adjusted=p_adjusted,
                    wins=int((values > 0).sum()),
                    ties=int((values == 0).sum()),
                    losses=int((values < 0).sum()),
                    detectable=float(least[column]),
                    seconds=_seconds(system),
                    cost=(system.usage or {}).get("cost"),
                    spread=spread,
                    verdict="failed"
                    if any(set(questions) <= set(one.failures) for one in (base, system))
                    else _verdict(values, mean, p_adjusted, 1 - level, spread),
                )
            )
            column += 1
    return Comparison(base.name, len(questions), differences, changes, level)


def _seconds(system: SystemResult) -> float | None:
    stages = [stage.p50 for stage in (system.retrieval, system.reranking) if stage is not None]
    return sum(stages) if stages else None


def _spread(system: SystemResult, metric: str) -> float:
    means = [means[metric] for means in system.repeats]
    return max(means) - min(means) if means else 0.0


def _verdict(values: Any, mean: float, p: float, threshold: float, spread: float) -> Verdict:
    if not (values != 0).any():
        return "equal"
    if p >= threshold or abs(mean) <= spread:
        return "below noise"
    return "better" if mean > 0 else "worse"


def _adjusted(value: float) -> str:
    return f"adjusted p {'' if value < 0.001 else '= '}{_p(value)}"  # noqa: PLR2004 - as many digits as are shown


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"  # noqa: PLR2004 - as many digits as are shown
