"""A guard for continuous integration: did a system get worse than the figures that were accepted?"""

from __future__ import annotations

import warnings
from dataclasses import replace
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.compare import compare
from langchain_rerankkit.evaluation.report import EvaluationReport
from langchain_rerankkit.evaluation.wording import counted, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_rerankkit.evaluation.compare import Comparison
    from langchain_rerankkit.evaluation.report import SystemResult

__all__ = ["assert_no_regression"]

_WORST = 5  # questions shown
_SHORT = 60  # characters of a question shown
_ROUNDING = 1e-9
_OLD, _NEW = "the baseline", "the difference"


def assert_no_regression(
    report: EvaluationReport,
    baseline: EvaluationReport | str | Path,
    metric: str = "ndcg@10",
    tolerance: float = 0.0,
    system: str | None = None,
) -> None:
    """Fail if a system scores lower than in the baseline, question by question over those that both have.

    For a test of yours::

        def test_retrieval_is_as_good_as_before():
            assert_no_regression(evaluate(systems, dataset), "baseline.json", tolerance=0.01)

    The first baseline, and every new one, is written by ``report.save("baseline.json")`` and kept with the code.

    Args:
        report: What `evaluate` returned now.
        baseline: The accepted report, or the path where ``report.save(path)`` wrote it.
        metric: The metric to look at; both reports must have it.
        tolerance: How far the mean may fall. For systems that do not always answer alike, take what repeated runs
            differ by.
        system: Look at the system of this name only; by default at all that the baseline has.

    Raises:
        AssertionError: If a system fell by more than the tolerance, or is gone. The message says by how much, whether
            that is beyond chance, on which questions most, and how to accept the new figures.
        DatasetError: If there is no baseline or it cannot be read.
        ValueError: If the two cannot be compared: another metric, relevance, or no question in common.

    Warns:
        UserWarning: If the two are not of quite the same questions, gold or systems, so that a part is not guarded.
    """
    if not (isfinite(tolerance) and tolerance >= 0):
        msg = f"The tolerance must be 0 or more, not {tolerance}."
        raise ValueError(msg)
    accept = "report.save(path)"
    if not isinstance(baseline, EvaluationReport):
        accept = f"report.save({str(baseline)!r})"
        if not Path(baseline).exists():
            msg = f"There is no baseline yet. If the report is as it should be, write it: {accept}, and keep the file."
            raise DatasetError(msg, file=baseline)
        baseline = EvaluationReport.load(baseline)
    _check_comparable(report, baseline, metric)
    before = [one.name for one in baseline.systems]
    if system is not None and system not in before:
        msg = f"The baseline has no system {system!r}; it has {before}. Accept a new baseline: {accept}."
        raise ValueError(msg)
    findings = [
        finding
        for name in ([system] if system is not None else before)
        if (finding := _finding(report, baseline, name, metric, tolerance)) is not None
    ]
    before_and_asked = [id_ for id_ in baseline.baseline.per_question[metric] if id_ in report.question_texts]
    gone = [id_ for id_ in before_and_asked if id_ not in report.baseline.per_question[metric]]
    if gone:
        findings.append(
            f"{counted(len(gone), 'question')} that counted are asked and count no longer, since no document is known to be "
            f"relevant: {some(gone)}."
        )
    unguarded = [one.name for one in report.systems if one.name not in before] if system is None else []
    notes = [
        *([f"systems that are not in the baseline: {some(unguarded)}"] if unguarded else []),
        *_changes(report, baseline, metric),
    ]
    if findings:
        told = "".join(f"\nNote: {note}." for note in notes)
        msg = "\n".join(findings) + told + f"\nTo accept the new figures as the baseline: {accept}."
        raise AssertionError(msg)
    for note in notes:
        warnings.warn(f"{note}. To have them guarded, accept a new baseline: {accept}.", UserWarning, stacklevel=2)


def _check_comparable(report: EvaluationReport, baseline: EvaluationReport, metric: str) -> None:
    for name, each in (("report", report), ("baseline", baseline)):
        if metric not in each.metrics:
            msg = f"The {name} has no metric {metric!r}; it has {each.metrics}."
            raise ValueError(msg)
    if report.relevance != baseline.relevance:
        msg = f"The report's relevance is {report.relevance} and the baseline's {baseline.relevance}: use the same."
        raise ValueError(msg)
    if not _common(report, baseline, metric):
        msg = (
            f"The report ({report.dataset!r}) and the baseline ({baseline.dataset!r}) have no question in common: "
            "compare reports of the same dataset."
        )
        raise ValueError(msg)


def _common(report: EvaluationReport, baseline: EvaluationReport, metric: str) -> list[str]:
    """Ids of the questions that count in both and read the same in both."""
    before = baseline.baseline.per_question[metric]
    return [
        id_
        for id_ in report.baseline.per_question[metric]
        if id_ in before and report.question_texts.get(id_) == baseline.question_texts.get(id_)
    ]


def _changes(report: EvaluationReport, baseline: EvaluationReport, metric: str) -> list[str]:
    """What differs between the two beside the scores, in words."""
    common = _common(report, baseline, metric)
    notes = []
    for one, other, where in ((report, baseline, "the report"), (baseline, report, "the baseline")):
        there = other.baseline.per_question[metric]
        only = [id_ for id_ in one.baseline.per_question[metric] if id_ not in there]
        if only:
            notes.append(f"questions that count only in {where}: {some(only)}")
    both = set(report.baseline.per_question[metric]) & set(baseline.baseline.per_question[metric])
    reworded = sorted(both - set(common))
    if reworded:
        notes.append(f"questions that read differently now and are left out: {some(reworded)}")
    regraded = [id_ for id_ in common if report.gold.get(id_) != baseline.gold.get(id_)]
    if regraded:
        notes.append(f"questions whose gold has changed: {some(regraded)}")
    return notes


def _finding(
    report: EvaluationReport, baseline: EvaluationReport, name: str, metric: str, tolerance: float
) -> str | None:
    """What is wrong with a system, in words; None if nothing."""
    there = [one.name for one in report.systems]
    if name not in there:
        return f"{name}: is in the baseline and not in the report, which has {there}."
    common = _common(report, baseline, metric)
    old, new = (_only(system, metric, common) for system in (baseline[name], report[name]))
    fall = old.scores[metric] - new.scores[metric]
    if fall <= tolerance + _ROUNDING:
        return None
    pair = [replace(old, name=_OLD), replace(new, name=_NEW)]
    comparison = compare(EvaluationReport(report.dataset, len(common), pair), metrics=[metric])
    allowed = f", more than the tolerance of {tolerance:g}" if tolerance else ""
    return (
        f"{name}: {metric} fell by {fall:.4f}, from {old.scores[metric]:.4f} to {new.scores[metric]:.4f} over "
        f"{counted(len(common), 'question')}{allowed}.\n{_chance(comparison, metric)}\n{_worst(report, comparison, old, new, metric)}"
    )


def _only(system: SystemResult, metric: str, questions: Sequence[str]) -> SystemResult:
    """The system's result by one metric on some questions."""
    scores = {id_: system.per_question[metric][id_] for id_ in questions}
    return replace(system, scores={metric: fmean(scores.values())}, per_question={metric: scores}, ceiling={})


def _chance(comparison: Comparison, metric: str) -> str:
    line = comparison[_NEW, metric]
    if line.verdict == "worse":
        return f"  This is beyond chance (p = {line.p:.2g}; 95 % interval {line.low:+.4f} to {line.high:+.4f})."
    if line.spread >= abs(line.difference):
        return f"  Repeated runs of one system differ by {line.spread:.4f}, so this may be chance: mind the tolerance."
    shown = f": {counted(comparison.questions, 'question')} would show a difference of {line.detectable:.4f} or more"
    return (
        f"  This may be chance (p = {line.p:.2g}){shown if isfinite(line.detectable) else ''}. A system that always "
        "answers alike has changed all the same."
    )


def _worst(report: EvaluationReport, comparison: Comparison, old: SystemResult, new: SystemResult, metric: str) -> str:
    lines = []
    line = comparison[_NEW, metric]
    for id_, _ in comparison.hurt(_NEW, metric, _WORST):
        text = " ".join(report.question_texts.get(id_, "").split())
        text = f" {text[: _SHORT - 1]}…" if len(text) > _SHORT else f" {text}" if text else ""
        failed = f" (failed: {new.failures[id_]})" if id_ in new.failures else ""
        lines.append(
            f"    {id_}:{text} {old.per_question[metric][id_]:.3f} → {new.per_question[metric][id_]:.3f}{failed}"
        )
    return "\n".join(
        [f"  Questions that lost: {line.losses}, that gained: {line.wins}, the same: {line.ties}. Most lost:", *lines]
    )
