"""What an evaluation found: scores, latency, and what to be careful about."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["EvaluationReport", "Latency", "SystemResult"]

# Of usage, in the table: what a language model's calls cost, and what a rerank endpoint's requests do.
_SPENT = (
    *("calls", "input_tokens", "output_tokens", "repairs"),
    *("requests", "retries", "documents", "cached", "search_units", "tokens"),
    "cost",
)
_RARE = {"retries", "cached"}  # shown where there were any


@dataclass(frozen=True)
class Latency:
    """Seconds that one stage took for a question.

    Attributes:
        first: The first call, which loads the model.
        p50: Median of the other calls.
        p95: 95th percentile of the other calls.
    """

    first: float
    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """Summarise measured calls, in the order they were made; None if there were none."""
        if not seconds:
            return None
        rest = sorted(seconds[1:]) or list(seconds)
        return cls(seconds[0], statistics.median(rest), rest[math.ceil(0.95 * len(rest)) - 1])


@dataclass(frozen=True)
class SystemResult:
    """One line of the table.

    Attributes:
        name: The system's name.
        scores: Mean of each metric.
        per_question: Score of each question, by metric.
        rankings: Document ids by question, best first.
        retrieval: Latency of the first stage; None for a ready-made run.
        reranking: Latency of the reranker; None without one.
        usage: What was asked and spent over all questions. Of language models: ``calls``, ``input_tokens``,
            ``output_tokens``, ``repairs`` …; of endpoints: ``requests``, ``retries``, ``documents``, ``cached``,
            ``search_units``, ``tokens``; ``cost`` where it is known. None where neither was asked.
    """

    name: str
    scores: Mapping[str, float]
    per_question: Mapping[str, Mapping[str, float]]
    rankings: Mapping[str, Sequence[str]]
    retrieval: Latency | None = None
    reranking: Latency | None = None
    usage: Mapping[str, float] | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of every system over the same questions.

    Attributes:
        dataset: Name of the dataset.
        questions: Number of questions that the means are over.
        systems: The results; the first is the baseline.
        notes: What to be careful about, in words.
    """

    dataset: str
    questions: int
    systems: Sequence[SystemResult]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def baseline(self) -> SystemResult:
        """The system that the others are held against."""
        return self.systems[0]

    def __getitem__(self, name: str) -> SystemResult:
        """The result of the system of that name."""
        for system in self.systems:
            if system.name == name:
                return system
        msg = f"There is no system {name!r}; there are {[system.name for system in self.systems]}."
        raise KeyError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return asdict(self)

    def to_markdown(self) -> str:
        """The table and the notes."""
        metrics = list(self.baseline.scores)
        spent = [name for name in _SPENT if any(_is_shown(system.usage, name) for system in self.systems)]
        header = [
            "system",
            *metrics,
            "retrieve ms",
            "rerank ms",
            "first ms",
            *(name.replace("_", " ") for name in spent),
        ]
        rows = [
            [
                system.name,
                *(f"{system.scores[metric]:.3f}" for metric in metrics),
                _milliseconds(system.retrieval),
                _milliseconds(system.reranking),
                _first_call(system),
                *(_amount(system.usage, name) for name in spent),
            ]
            for system in self.systems
        ]
        lines = [f"{self.dataset}: {self.questions} questions", "", *_table(header, rows)]
        if any(system.retrieval or system.reranking for system in self.systems):
            lines += ["", "Milliseconds for one question: median / 95th percentile; the first call apart."]
        if spent:
            lines += ["", "What language models and endpoints were asked and cost: sums over all questions."]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_markdown()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def _is_shown(usage: Mapping[str, float] | None, name: str) -> bool:
    return usage is not None and name in usage and (name not in _RARE or usage[name] > 0)


def _amount(usage: Mapping[str, float] | None, name: str) -> str:
    if usage is None or name not in usage:
        return "-"
    return f"{usage[name]:.4f}" if name == "cost" else f"{usage[name]:,.0f}"


def _milliseconds(latency: Latency | None) -> str:
    return "-" if latency is None else f"{latency.p50 * 1e3:.1f} / {latency.p95 * 1e3:.1f}"


def _first_call(system: SystemResult) -> str:
    stages = [stage.first for stage in (system.retrieval, system.reranking) if stage is not None]
    return f"{sum(stages) * 1e3:.0f}" if stages else "-"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that is also aligned for the eye."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in cells
    ]
    rule = "|-" + "-" * widths[0] + "-|" + "|".join("-" * (width + 1) + ":" for width in widths[1:]) + "|"
    return [lines[0], rule, *lines[1:]]
