"""What an evaluation found: scores, rankings, latency, cost, and what to be careful about."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.datasets.files import read_json, write_lines
from langchain_rerankkit.evaluation.table import Table
from langchain_rerankkit.evaluation.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_rerankkit.evaluation.compare import Comparison

__all__ = ["EvaluationReport", "Latency", "SystemResult"]

_FORMAT = "langchain-rerankkit report"
_VERSION = 1
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
        first: The first call, which loads the model; of several processes, the longest.
        p50: Median of the other calls.
        p95: 95th percentile of the other calls.
    """

    first: float
    p50: float
    p95: float

    @classmethod
    def of(cls, first: Sequence[float], rest: Sequence[float]) -> Latency | None:
        """Summarise measured calls, the first of each process apart; None if there were none."""
        if not first and not rest:
            return None
        ordered = sorted(rest or first)
        return cls(
            max(first, default=ordered[-1]), statistics.median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1]
        )


@dataclass(frozen=True, repr=False)
class SystemResult:
    """One line of the table.

    Attributes:
        name: The system's name.
        scores: Mean of each metric over the questions that count.
        per_question: Score of each question that counts, by metric.
        rankings: Document ids of every question, best first; empty where the system failed.
        document_scores: The score of each of these documents, aligned; None where it has none.
        ceiling: What the best possible order of its candidates would score, by metric: of aspects what the greedy order
            would; of metrics that compare texts none is known.
        source: The system whose candidates it reorders; None for a first stage.
        candidates: Candidates per question, on average; None for a first stage.
        words: Words per candidate, on average; None where no text is at hand.
        retrieval: Latency of the first stage; None for a ready-made run.
        reranking: Latency of the reranker; None without one.
        usage: What was asked and spent over all questions. Of language models: ``calls``, ``input_tokens``,
            ``output_tokens``, ``repairs`` …; of endpoints: ``requests``, ``retries``, ``documents``, ``cached``,
            ``search_units``, ``tokens``; ``cost`` where it is known. None where neither was asked.
        failures: What went wrong, by question; such a question counts as nothing found.
        repeats: Mean of each metric in each of several runs, where there were several; ``scores`` are the means of them.
    """

    name: str
    scores: Mapping[str, float]
    per_question: Mapping[str, Mapping[str, float]]
    rankings: Mapping[str, Sequence[str]]
    document_scores: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    ceiling: Mapping[str, float] = field(default_factory=dict)
    source: str | None = None
    candidates: float | None = None
    words: float | None = None
    retrieval: Latency | None = None
    reranking: Latency | None = None
    usage: Mapping[str, float] | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    repeats: Sequence[Mapping[str, float]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<SystemResult {self.name!r}: {', '.join(f'{name} {mean:.3f}' for name, mean in self.scores.items())}>"


@dataclass(frozen=True, repr=False)
class EvaluationReport:
    """Scores of every system over the same questions.

    Attributes:
        dataset: Name of the dataset.
        questions: Number of questions that the means are over.
        systems: The results; the first is the baseline.
        notes: What to be careful about, in words.
        relevance: Lowest grade that counts as relevant.
        question_texts: Every question asked, by id, those that do not count included.
        gold: Grades of the judged documents of each question that counts.
        documents: Text of ranked and of gold documents, by id, where it was at hand.
        reasons: Why a document has its grade, by question and document id, where a judge says so.
    """

    dataset: str
    questions: int
    systems: Sequence[SystemResult]
    notes: Sequence[str] = field(default_factory=list)
    relevance: int = 1
    question_texts: Mapping[str, str] = field(default_factory=dict)
    gold: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def baseline(self) -> SystemResult:
        """The system that the others are held against."""
        return self.systems[0]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics."""
        return list(self.baseline.scores)

    def __getitem__(self, name: str) -> SystemResult:
        """The result of the system of that name."""
        for system in self.systems:
            if system.name == name:
                return system
        msg = f"There is no system {name!r}; there are {[system.name for system in self.systems]}."
        raise KeyError(msg)

    def compare(self, baseline: str | None = None, **options: Any) -> Comparison:
        """Hold every system against one of them: see `langchain_rerankkit.evaluation.compare.compare`."""
        from langchain_rerankkit.evaluation.compare import compare

        return compare(self, baseline, **options)

    # --- to look at -----------------------------------------------------------------------------------------------

    def table(self) -> Table:
        """Scores, the ceiling of each first stage, latency and usage."""
        spent = [name for name in _SPENT if any(_is_shown(system.usage, name) for system in self.systems)]
        timed = any(system.retrieval or system.reranking for system in self.systems)
        failed = any(system.failures for system in self.systems)
        header = [
            "system",
            *self.metrics,
            *(["retrieve ms", "rerank ms", "first ms"] if timed else []),
            *(name.replace("_", " ") for name in spent),
            *(["failed"] if failed else []),
        ]
        rows = []
        reranked = {system.source for system in self.systems}
        for system in self.systems:
            cells = [f"{system.scores[metric]:.3f}" for metric in self.metrics]
            times = [_milliseconds(system.retrieval), _milliseconds(system.reranking), _first_call(system)]
            amounts = [_amount(system.usage, name) for name in spent]
            failures = [str(len(system.failures))] if failed else []
            rows.append([system.name, *cells, *(times if timed else []), *amounts, *failures])
            if system.source is None and system.name in reranked and system.ceiling:
                best = [f"{system.ceiling[metric]:.3f}" if metric in system.ceiling else "-" for metric in self.metrics]
                rest = len(header) - len(best) - 1
                rows.append([f"{system.name}, best order", *best, *["-"] * rest])
        legend = []
        if timed:
            legend.append("Milliseconds for one question: median / 95th percentile; the first call apart.")
        pools = [system for system in self.systems if system.candidates is not None]
        if timed and pools:
            fewest, most = min(s.candidates or 0 for s in pools), max(s.candidates or 0 for s in pools)
            words = [system.words for system in pools if system.words is not None]
            same = round(fewest) == round(most)
            count = counted(round(most), "candidate") if same else f"{fewest:.0f} to {most:.0f} candidates"
            legend.append(
                f"Reranked: {count} for a question" + (f", {statistics.mean(words):.0f} words each." if words else ".")
            )
        if spent:
            kept = ", and what caches answered" if "cached" in spent else ""
            legend.append(
                f"What language models and endpoints were asked and cost{kept}: sums over all questions and runs."
            )
        return Table(f"{self.dataset}: {counted(self.questions, 'question')}", header, rows, legend, self.notes)

    def to_markdown(self) -> str:
        """The table and the notes."""
        return self.table().markdown()

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        # Notebooks store it beside the table.
        names = [system.name for system in self.systems]
        return f"<EvaluationReport {self.dataset!r}: {counted(self.questions, 'question')}, systems {names}>"

    def __rich__(self) -> Any:
        return self.table().rich()

    def _repr_html_(self) -> str:
        return self.table().html()

    # --- to keep --------------------------------------------------------------------------------------------------

    def to_html(self, path: str | Path, **options: Any) -> Path:
        """Write one page that holds everything and needs no network: see `langchain_rerankkit.evaluation.page`."""
        from langchain_rerankkit.evaluation.page import write_page

        return write_page(self, path, **options)

    def to_csv(self, path: str | Path | None = None) -> str:
        """One line for each system and question that counts, with its score by each metric.

        Args:
            path: Where to write it as well. Text that a spreadsheet would take for a formula gets an apostrophe before it.

        Returns:
            The lines.
        """
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)  # a bare "\r" would end a row
        writer.writerow(["system", "id", "question", *self.metrics, "failure"])
        for system in self.systems:
            for id_ in next(iter(system.per_question.values()), {}):
                scores = [system.per_question[metric][id_] for metric in self.metrics]
                cells = [system.name, id_, self.question_texts.get(id_, "")]
                failure = system.failures.get(id_, "")
                writer.writerow([*map(_no_formula, cells), *scores, _no_formula(failure)])
        if path is not None:
            Path(path).write_text(out.getvalue(), encoding="utf-8", errors="replace")
        return out.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return {"format": _FORMAT, "version": _VERSION, **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EvaluationReport:
        """The report that `to_dict` made it of.

        Raises:
            DatasetError: If it is something else, or of a newer version.
        """
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            msg = "This is no report: write one with report.save(path)."
            raise DatasetError(msg, field="format")
        if data.get("version") != _VERSION:
            msg = f"The report has version {data.get('version')}, and {_VERSION} can be read: use the newer package."
            raise DatasetError(msg, field="version")
        fields = {name: value for name, value in data.items() if name not in {"format", "version"}}
        try:
            report = cls(systems=[_system(row) for row in fields.pop("systems")], **fields)
            report.table()  # finds what is missing or of another kind
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            msg = f"The report is damaged ({type(error).__name__}: {error})."
            raise DatasetError(msg) from error
        return report

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; `load` gives the same report."""
        write_lines(path, [json.dumps(self.to_dict(), allow_nan=False)])  # ASCII, so that lone surrogates survive
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> EvaluationReport:
        """Read what `save` wrote.

        Raises:
            DatasetError: If the file cannot be read or holds something else.
        """
        data = read_json(path)
        try:
            return cls.from_dict(data)
        except DatasetError as error:
            raise DatasetError(str(error), file=path) from error


def _system(row: Mapping[str, Any]) -> SystemResult:
    stages = {name: row[name] and Latency(**row[name]) for name in ("retrieval", "reranking")}
    # Means over no question have no number, in JSON least of all.
    means = {name: _numbers(row[name]) for name in ("scores", "ceiling")}
    return SystemResult(**{**row, **stages, **means, "repeats": [_numbers(run) for run in row["repeats"]]})


def _numbers(means: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in means.items()}


def _plain(value: Any) -> Any:
    """Tuples as lists, and what JSON has no number for as null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _no_formula(text: str) -> str:
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) or text[:1] in {"\t", "\r"} else text


def _has(usage: Mapping[str, float] | None, name: str) -> TypeGuard[Mapping[str, float]]:
    """Whether it is told; documents without a request or a cost are those that a cache had a local model judge."""
    return (
        usage is not None
        and name in usage
        and (name != "documents" or not usage.keys().isdisjoint({"requests", "cost"}))
    )


def _is_shown(usage: Mapping[str, float] | None, name: str) -> bool:
    return _has(usage, name) and (name not in _RARE or usage[name] > 0)


def _amount(usage: Mapping[str, float] | None, name: str) -> str:
    if not _has(usage, name):
        return "-"
    return f"{usage[name]:.4f}" if name == "cost" else f"{usage[name]:,.0f}"


def _milliseconds(latency: Latency | None) -> str:
    return "-" if latency is None else f"{latency.p50 * 1e3:.1f} / {latency.p95 * 1e3:.1f}"


def _first_call(system: SystemResult) -> str:
    stages = [stage.first for stage in (system.retrieval, system.reranking) if stage is not None]
    return f"{sum(stages) * 1e3:.0f}" if stages else "-"
