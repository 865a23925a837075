"""What a tuning found: a setting for each budget, and what it does on questions that did not choose it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.config.saving import config_of, write_config
from langchain_rerankkit.evaluation.compare import Difference
from langchain_rerankkit.evaluation.report import EvaluationReport, SystemResult
from langchain_rerankkit.evaluation.table import Table

__all__ = ["GIVEN_LATER", "NO_RERANKING", "UNTUNED", "Choice", "Tuning", "budget_name", "milliseconds"]

NO_RERANKING, UNTUNED = "no reranking", "untuned"
GIVEN_LATER = ("statistics", "store", "embeddings", "api_key")
"""Fields that a file cannot hold, and that whoever loads it gives again."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for one budget.

    Attributes:
        budget: Seconds that the median question may take.
        setting: What was chosen, in words.
        reranker: The same, ready to use; None where the order of the first stage is as good as any within the budget.
        system: Its name in the report.
        score: Mean of the metric on the tuning half, which chose it and so flatters it.
        held_out: The same on the other half.
        low: Lower end of the held-out mean's 95 % interval; NaN with fewer than two questions.
        high: Upper end.
        seconds: Median time of a question when it was chosen.
        gain: Held-out difference from no reranking; None where that is what was chosen.
        against_untuned: Held-out difference from the untuned reranker; None where that is what was chosen.
    """

    budget: float
    setting: str
    reranker: Reranker | None
    system: str
    score: float
    held_out: float
    low: float
    high: float
    seconds: float
    gain: Difference | None
    against_untuned: Difference | None


@dataclass(frozen=True, repr=False)
class Tuning:
    """A setting for each budget.

    Attributes:
        dataset: Name of the dataset.
        metric: What was made as high as possible.
        choices: One for each budget, the smallest first.
        tuning_questions: Number of questions that chose the settings.
        held_out_questions: Number of questions that judge them.
        tried: Number of settings that were tried.
        report: The held-out evaluation of no reranking, the untuned reranker and all settings chosen.
        notes: What to be careful about, in words.
    """

    dataset: str
    metric: str
    choices: Sequence[Choice]
    tuning_questions: int
    held_out_questions: int
    tried: int
    report: EvaluationReport
    notes: Sequence[str] = ()

    def __getitem__(self, budget: float) -> Choice:
        """The choice for a budget."""
        for choice in self.choices:
            if choice.budget == budget:
                return choice
        msg = f"There is no choice for a budget of {budget} s; there are {[choice.budget for choice in self.choices]}."
        raise KeyError(msg)

    def save(self, folder: str | Path) -> list[Path]:
        """Write a TOML file for each budget, ``within-50ms.toml``, that `load_reranker` reads.

        Word statistics, stores and embeddings that a file cannot hold are left out: they are given again when it is loaded.
        Nothing is written for a budget in which no reranker is worth its while.

        Args:
            folder: Where to; made where it is not there.

        Returns:
            The files.

        Raises:
            ConfigError: If a reranker is of a class of your own.
            MissingExtraError: If tomli-w is not installed.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        files = []
        for choice in self.choices:
            if choice.reranker is None:
                continue
            config, left_out = config_of(choice.reranker, GIVEN_LATER)
            comment = (
                f"{choice.setting}\n"
                f"Tuned on {self.tuning_questions} questions of {self.dataset} for {choice.budget * 1e3:g} ms. On "
                f"{self.held_out_questions} others: {self.metric} {choice.held_out:.3f}, {NO_RERANKING} "
                f"{self.report[NO_RERANKING].scores[self.metric]:.3f}, {milliseconds(self.report[choice.system])} ms (median / "
                f"95th percentile).{_to_give(left_out)}"
            )
            name = f"within-{budget_name(choice.budget).replace(' ', '')}.toml"
            files.append(write_config(config, Path(folder) / name, comment))
        return files

    def table(self) -> Table:
        """A line for each budget, under what there was before."""
        quality = [f"{self.metric}, tuning", "held out", "95 % interval"]
        header = ["within", "setting", *quality, "ms", "vs none", "vs untuned"]
        rows = []
        for name in (NO_RERANKING, UNTUNED):
            if name in {system.name for system in self.report.systems}:
                system = self.report[name]
                rows.append(["-", name, "-", f"{system.scores[self.metric]:.3f}", "-", milliseconds(system), "-", "-"])
        rows += [
            [
                budget_name(choice.budget),
                choice.setting,
                f"{choice.score:.3f}",
                f"{choice.held_out:.3f}",
                f"{choice.low:.3f} to {choice.high:.3f}",
                milliseconds(self.report[choice.system]),
                _change(choice.gain),
                _change(choice.against_untuned),
            ]
            for choice in self.choices
        ]
        how = (
            f"{self.tried} settings were tried on {self.tuning_questions} questions, and those chosen judged on "
            f"{self.held_out_questions} others. The figures of the tuning half chose the setting, so they flatter it. Under "
            f"'vs none' is the held-out difference from {NO_RERANKING}, under 'vs untuned' that from the last reranker as it was "
            "given, on all candidates, each with its verdict (paired randomisation test, Holm). Milliseconds of reranking for "
            "one question: median / 95th percentile."
        )
        rule = "Chosen is the fastest setting that is behind the best one within the budget by no more than the standard error."
        legend = [how, rule]
        return Table(f"{self.dataset}, tuned for {self.metric}", header, rows, legend, self.notes, left=(1,))

    def to_markdown(self) -> str:
        """The table and the notes."""
        return self.table().markdown()

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return f"<Tuning on {self.dataset!r}: {', '.join(f'{c.budget:g} s: {c.setting}' for c in self.choices)}>"

    def __rich__(self) -> Any:
        return self.table().rich()

    def _repr_html_(self) -> str:
        return self.table().html()


def _to_give(left_out: Collection[str]) -> str:
    """What has to be given when it is loaded, as a sentence."""
    lacking = [f"{field}=…" for field in GIVEN_LATER if field in left_out and field != "api_key"]  # the environment's
    return f"\nIt was tuned with what a file cannot hold: load_reranker(path, {', '.join(lacking)})" if lacking else ""


def budget_name(seconds: float) -> str:
    """A budget as it is written in tables and names of files."""
    return f"{seconds * 1e3:g} ms"


def milliseconds(system: SystemResult) -> str:
    """Median and 95th percentile of a question's reranking."""
    latency = system.reranking
    return "0" if latency is None else f"{latency.p50 * 1e3:.1f} / {latency.p95 * 1e3:.1f}"


def _change(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.difference:+.3f} {difference.verdict}"
