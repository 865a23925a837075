"""The two halves of a dataset: on one, settings are scored; on the other, those that were chosen are judged."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from pydantic import Field
from typing_extensions import override

from langchain_rerankkit._progress import progress
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.evaluation.compare import compare
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.datasets.trec import load_run
from langchain_rerankkit.evaluation.evaluate import evaluate
from langchain_rerankkit.evaluation.metrics import score
from langchain_rerankkit.evaluation.running.systems import System
from langchain_rerankkit.evaluation.significance import bootstrap_interval
from langchain_rerankkit.records import RerankInput
from langchain_rerankkit.tuning.choosing import Times, Values
from langchain_rerankkit.tuning.remembering import RememberingReranker
from langchain_rerankkit.tuning.report import NO_RERANKING, UNTUNED, Choice, Tuning
from langchain_rerankkit.tuning.settings import Setting, Step, every_setting
from langchain_rerankkit.tuning.timing import Asked, failing_at

__all__ = ["Tuned", "TuningHalf", "judge"]

_AT_ONCE = 16  # questions in one batch
_FEW = 50  # questions of a half, below which it is said that they are few


@dataclass(frozen=True)
class Tuned:
    """What the tuning half has found: rerankers as given and as tuned, and the settings, chosen by budget and all."""

    given: Mapping[str, Reranker]
    members: Mapping[str, Reranker]
    chosen: Mapping[float, Setting | None]
    values: Values
    times: Times
    seed: int


class TuningHalf:
    """The questions that choose, with their candidates and gold.

    Args:
        dataset: The questions.
        first: The first stage.
        metric: The metric.
        judged_by: Arguments of `evaluate` that say what is relevant.
    """

    def __init__(self, dataset: Dataset, first: System, metric: str, judged_by: Mapping[str, Any]) -> None:
        seen = _Seen()
        self._metric = metric
        self._report = evaluate(
            {NO_RERANKING: _part_of(first, dataset), "candidates": seen}, dataset, metric, **judged_by
        )
        reranked = self._report["candidates"]
        # Questions come in their order, but for those at which the first stage failed; documents in that of the ids.
        asked = [question.id for question in dataset.questions if question.id not in reranked.failures]
        found = dict(zip(asked, seen.found, strict=True))
        self._ids = reranked.rankings
        self._texts = self._report.question_texts
        self._found = {id_: found[id_] for id_ in self._report.gold if found.get(id_)}
        if not self._found:
            msg = "No question of the tuning half has both gold and candidates."
            if failures := reranked.failures:
                id_, error = next(iter(failures.items()))
                where = f"all {len(failures)}" if not asked else f"{len(failures)}"
                msg += f" The first stage failed at {where} questions, as at {id_!r}: {error}"
            raise ValueError(msg)
        self.deepest = max(map(len, self._found.values()))

    def sample(self, size: int, seed: int) -> Asked:
        """Some questions with their candidates."""
        chosen = random.Random(seed).sample(sorted(self._found), min(size, len(self._found)))  # noqa: S311 - a sample
        return [(id_, self._texts[id_], self._found[id_]) for id_ in chosen]

    def values(self, members: Mapping[str, Reranker], depths: Sequence[int | None]) -> Values:
        """The metric of each question, for each setting, and for none."""
        remembering = {name: RememberingReranker(reranker=member) for name, member in members.items()}
        asked: list[RerankInput] = [
            {"query": self._texts[id_], "documents": documents} for id_, documents in self._found.items()
        ]
        ids = list(self._found)
        starts = range(0, len(asked), _AT_ONCE)
        for name, member in remembering.items():
            if member.judges_alone:
                for start in progress(starts, len(starts), f"judge: {name}"):
                    batch = slice(start, start + _AT_ONCE)
                    for id_, judged in zip(ids[batch], member._judge_many(asked[batch]), strict=True):  # noqa: SLF001
                        with failing_at(name, id_):
                            if isinstance(judged, Exception):
                                raise judged
        found: dict[Setting | None, list[float]] = {None: self._score({id_: self._ids[id_] for id_ in self._found})}
        settings = list(every_setting(list(members), depths))
        for setting in progress(settings, len(settings), "settings"):
            reranker = setting.build(remembering)
            rankings = {}
            for id_, documents in self._found.items():
                with failing_at(setting, id_):
                    ranking = reranker.rank(self._texts[id_], documents)
                rankings[id_] = [self._ids[id_][line.previous_rank - 1] for line in ranking]
            found[setting] = self._score(rankings)
        return found

    def _score(self, rankings: Mapping[str, Sequence[str]]) -> list[float]:
        report = self._report
        scores = score(report.gold, rankings, self._metric, relevance=report.relevance)[self._metric]
        return list(scores.values())


class _Seen(Reranker):
    """Keeps what it is given to rerank, and reranks nothing."""

    found: list[list[Document]] = Field(default_factory=list)

    @override
    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        self.found.append(list(documents))
        return list(documents)


def judge(tuned: Tuned, first: System, held_out: Dataset, metric: str, judged_by: Mapping[str, Any]) -> Tuning:
    """Evaluate what was chosen on the other questions, as it will be used.

    Args:
        tuned: What the tuning half has tuned.
        first: The first stage.
        held_out: The other questions.
        metric: The metric.
        judged_by: Arguments of `evaluate` that say what is relevant.
    """
    last = list(tuned.given)[-1]
    systems: dict[str, Any] = {NO_RERANKING: _part_of(first, held_out), UNTUNED: tuned.given[last]}
    names: dict[Setting | None, str] = {None: NO_RERANKING}
    if tuned.members[last] is tuned.given[last]:
        names[Setting((Step(None, ((last, 1.0),)),))] = UNTUNED
    built: dict[str, Reranker | None] = {NO_RERANKING: None, UNTUNED: tuned.given[last]}
    for setting in tuned.chosen.values():
        if setting is not None and setting not in names:
            names[setting] = str(setting)
            systems[str(setting)] = built[str(setting)] = setting.build(tuned.members)
    report = evaluate(systems, held_out, metric, **judged_by)
    gains, changes = (compare(report, name, metrics=[metric], seed=tuned.seed) for name in (NO_RERANKING, UNTUNED))
    choices = []
    for budget, setting in tuned.chosen.items():
        system = names[setting]
        scores = list(report[system].per_question[metric].values())
        low, high = bootstrap_interval([[score] for score in scores], seed=tuned.seed)[:, 0]
        choices.append(
            Choice(
                budget=budget,
                setting=NO_RERANKING if setting is None else str(setting),
                reranker=built[system],
                system=system,
                score=statistics.fmean(tuned.values[setting]),
                held_out=report[system].scores[metric],
                low=float(low),
                high=float(high),
                seconds=tuned.times.taken[setting],
                gain=None if system == NO_RERANKING else gains[system, metric],
                against_untuned=None if system == UNTUNED else changes[system, metric],
            )
        )
    tuned_on, reported_on = len(tuned.values[None]), report.questions
    return Tuning(
        dataset=held_out.name,
        metric=metric,
        choices=choices,
        tuning_questions=tuned_on,
        held_out_questions=reported_on,
        tried=len(tuned.values),
        report=report,
        notes=[*_notes(choices, tuned_on, reported_on), *report.notes],
    )


def _notes(choices: Sequence[Choice], tuned_on: int, reported_on: int) -> Iterator[str]:
    if min(tuned_on, reported_on) < _FEW:
        yield (
            f"The halves have {tuned_on} and {reported_on} questions: too few to tell settings apart that are close. Take at "
            f"least {_FEW} each before you trust a choice."
        )
    for system in dict.fromkeys(choice.system for choice in choices):
        alike = [choice for choice in choices if choice.system == system]
        within = f"Within {', '.join(f'{choice.budget * 1e3:g}' for choice in alike)} ms"
        gain, against_untuned = alike[0].gain, alike[0].against_untuned
        if gain is None:
            yield f"{within}: no reranker is better than the first stage's order beyond noise, so none is chosen."
        elif gain.verdict != "better":
            yield f"{within}, against {NO_RERANKING}: {gain} Leave the reranker out, or ask more questions."
        if against_untuned is not None:
            better = f" Take the {UNTUNED} one if its time fits." if against_untuned.verdict == "worse" else ""
            yield f"{within}, against the {UNTUNED} reranker: {against_untuned}{better}"


def _part_of(first: System, half: Dataset) -> System:
    """The first stage for these questions: of a run, what it says of them."""
    run = load_run(first) if isinstance(first, (str, Path)) else first
    if not isinstance(run, Mapping):
        return first
    # One of other questions altogether stays as it is, for its ids to be complained of.
    return {question.id: run[question.id] for question in half.questions if question.id in run} or run
