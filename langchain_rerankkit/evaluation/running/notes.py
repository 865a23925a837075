"""What to be careful about, in words: how an evaluation can measure nothing and look as if it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from langchain_rerankkit.evaluation.datasets.summary import summarise
from langchain_rerankkit.evaluation.running.outcome import fallback
from langchain_rerankkit.evaluation.wording import counted, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_core.documents import Document

    from langchain_rerankkit.evaluation.datasets.dataset import Dataset
    from langchain_rerankkit.evaluation.gold.qrels import Qrels
    from langchain_rerankkit.evaluation.metrics import Metric
    from langchain_rerankkit.evaluation.report import SystemResult
    from langchain_rerankkit.evaluation.running.outcome import Found, Outcome

__all__ = ["notes_on_aspects", "notes_on_gold", "notes_on_systems"]


def notes_on_gold(
    dataset: Dataset,
    judged: Qrels,
    without: Sequence[str],
    left_out: Sequence[str],
    identify: Callable[[Document], str],
) -> Iterator[str]:
    """On questions, answers and corpus.

    Args:
        dataset: The dataset.
        judged: Its gold.
        without: Questions that have no relevant document.
        left_out: Those that do not count.
        identify: Gives a document's id.
    """
    questions = counted(len(dataset.questions), "question")
    if len(left_out) == len(dataset.questions):
        yield "No question counts, so there are no scores: no document is known to be relevant to any."
    if left_out:
        yield f"{len(left_out)} of {questions} without a relevant document are left out of the means: {some(left_out)}."
    uncounted = set(left_out)
    zero = [id_ for id_ in without if id_ not in uncounted]
    if zero:
        what = "in no document that was judged" if judged.matcher else "without a relevant document"
        yield f"{len(zero)} of {questions} {'have their answer ' if judged.matcher else ''}{what} and count as 0: {some(zero)}."
    if judged.pooled:
        yield (
            f"Judged by answer text ({judged.matcher}) over what these systems returned: recall and the ideal order are "
            "relative to that pool, and change with another system in it."
        )
        if judged.depth is not None:
            yield f"Of each ranking the first {judged.depth} documents were judged; what is further down counts as not relevant."
    elif judged.matcher:
        yield (
            f"Judged by answer text ({judged.matcher}) over the whole corpus of {len(dataset.corpus)} documents and what "
            "was returned."
        )
    if judged.unknown:
        yield f"{judged.unknown} documents could not be judged and count as not relevant."
    mistakes = summarise(dataset, identify).mistakes()
    names = ["blank_documents", "repeated_documents"]
    if not judged.matcher:
        names += ["missing_documents", "contradicted"]
    yield from (mistakes[name] for name in names if name in mistakes)


def notes_on_aspects(judged: Qrels, metrics: Mapping[str, Metric]) -> Iterator[str]:
    """On what counts as an aspect of a question, where metrics look at that."""
    asked = [name for name, metric in metrics.items() if metric.looks_at == "aspects"]
    if not asked:
        return
    if not judged.aspects:
        yield f"{', '.join(asked)}: the gold names no aspects, so each relevant document is one of its own."
    elif judged.matcher:
        yield f"{', '.join(asked)}: each accepted answer that a document holds is an aspect, other spellings of one included."


def notes_on_systems(outcomes: Sequence[Outcome], results: Sequence[SystemResult], judged: Qrels) -> Iterator[str]:
    """On what the systems returned."""
    for outcome, result in zip(outcomes, results, strict=True):
        yield from _notes_on_failures(outcome)
        if isinstance(outcome.line.source, Mapping) and outcome.line.reranker is None:
            yield from _notes_on_a_run(outcome)
        if outcome.line.reranker is not None:
            yield from _notes_on_reranking(outcome)
        if any(result.rankings.values()) and not any(
            map(judged.relevant_among, result.rankings, result.rankings.values())
        ):
            yield f"{outcome.line.name} found no relevant document at all.{_hint(result, judged)}"
        twice = sum(len(set(ids)) < len(ids) for ids in result.rankings.values())
        if twice:
            yield (
                f"{outcome.line.name} returned a document twice for {counted(twice, 'question')}; it counts at its first "
                "place."
            )
    seen: dict[tuple[tuple[str, tuple[str, ...]], ...], str] = {}
    for outcome, result in zip(outcomes, results, strict=True):
        if max(map(len, outcome.pools.values()), default=0) <= 1:
            continue  # there is but one order of one document
        ranking = tuple((id_, tuple(found)) for id_, found in result.rankings.items())
        if ranking in seen:
            yield f"{result.name} ranks exactly like {seen[ranking]} on every question."
        else:
            seen[ranking] = result.name


def _notes_on_a_run(outcome: Outcome) -> Iterator[str]:
    asked, known = list(outcome.found), outcome.line.source
    missing = [id_ for id_ in asked if id_ not in known]
    if missing:
        yield (
            f"{outcome.line.name} has no answer to {len(missing)} of {counted(len(asked), 'question')}, which count as nothing "
            f"found: {some(missing)}."
        )
    if others := len(known) - (len(asked) - len(missing)):
        yield f"{outcome.line.name} answers {counted(others, 'question')} that the dataset does not ask."


def _notes_on_failures(outcome: Outcome) -> Iterator[str]:
    name, questions = outcome.line.name, len(outcome.answers)
    for number, run in enumerate(outcome.runs or [outcome.found], start=1):
        in_run = f", run {number}," if len(outcome.runs) > 1 else ""
        errors = Counter(asked.error for asked in run.values() if asked.error)
        if errors:
            commonest, _ = errors.most_common(1)[0]
            yield (
                f"{name}{in_run} failed at {errors.total()} of {counted(questions, 'question')}, which count as nothing "
                f"found: {commonest}"
            )
        fallen = Counter(filter(None, map(fallback, run.values())))
        if fallen:
            commonest, _ = fallen.most_common(1)[0]
            yield (
                f"{name}{in_run} fell back to the order it was given at {fallen.total()} of "
                f"{counted(questions, 'question')} ({commonest})."
            )


def _notes_on_reranking(outcome: Outcome) -> Iterator[str]:
    line, pools = outcome.line, outcome.pools
    deepest = max(map(len, pools.values()), default=0)
    cuts = [cut for cut in (line.cut, getattr(line.reranker, "top_n", None)) if cut is not None]
    kept = min(cuts, default=None)
    if deepest <= 1:
        yield f"{line.name}: the first stage returns {counted(deepest, 'document')}, so there is nothing to rerank."
    elif kept is not None and deepest <= kept:
        yield (
            f"{line.name}: the first stage returns at most {deepest} documents and {kept} are kept, so the reranker can "
            "only reorder, not choose. Retrieve more."
        )
    ranked = [(pools[id_], asked.documents) for id_, asked in outcome.answers.items() if len(asked.documents) > 1]
    if ranked and all(_decides_nothing(pool, found) for pool, found in ranked):
        yield f"{line.name}: all scores of each question are the same, so this reranker decides nothing."
    strangers = sum(
        bool({document.id for document in asked.documents} - {document.id for document in pools[id_]})
        for id_, asked in outcome.answers.items()
    )
    if strangers:
        yield f"{line.name} returned documents that were not among the candidates for {counted(strangers, 'question')}."


def _decides_nothing(pool: Sequence[Found], found: Sequence[Found]) -> bool:
    scores = {document.score for document in found}
    judged = scores != {None} and all(document.status == "ok" for document in found)
    return judged and len(scores) == 1 and [d.id for d in found] == [d.id for d in pool]


def _hint(result: SystemResult, judged: Qrels) -> str:
    """Why that may be, where gold names ids."""
    found = next((id_ for ids in result.rankings.values() for id_ in ids), None)
    gold = next((id_ for grades in judged.grades.values() for id_ in grades), None)
    if judged.matcher or gold is None:
        return ""
    return (
        f" Do its documents carry the ids of the gold? It returned {found!r}, and the gold names {gold!r}. If the id stands "
        "under another name, pass identity=<metadata field>."
    )
