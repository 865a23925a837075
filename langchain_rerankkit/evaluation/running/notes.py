"""What to be careful about, in words: how an evaluation can measure nothing and look as if it did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from langchain_rerankkit.evaluation.datasets.summary import summarise
from langchain_rerankkit.evaluation.wording import counted, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from langchain_core.documents import Document

    from langchain_rerankkit.evaluation.datasets.dataset import Dataset
    from langchain_rerankkit.evaluation.gold.qrels import Qrels
    from langchain_rerankkit.evaluation.report import SystemResult
    from langchain_rerankkit.evaluation.running.outcome import Outcome

__all__ = ["notes_on_gold", "notes_on_systems"]


def notes_on_gold(
    dataset: Dataset, judged: Qrels, without: Sequence[str], empty: str, identify: Callable[[Document], str]
) -> Iterator[str]:
    """On questions, answers and corpus.

    Args:
        dataset: The dataset.
        judged: Its gold.
        without: Questions that have no relevant document.
        empty: What was done with them.
        identify: Gives a document's id.
    """
    if without:
        what = "whose answer occurs in no document" if judged.matcher else "without a relevant document"
        done = "left out of the means" if empty == "exclude" else "counted as 0"
        yield f"{len(without)} of {counted(len(dataset.questions), 'question')} {what} are {done}: {some(without)}."
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
    names = ("blank_documents",) if judged.matcher else ("missing_documents", "contradicted", "blank_documents")
    yield from (mistakes[name] for name in names if name in mistakes)


def notes_on_systems(outcomes: Sequence[Outcome], results: Sequence[SystemResult], judged: Qrels) -> Iterator[str]:
    """On what the systems returned."""
    for outcome, result in zip(outcomes, results, strict=True):
        yield from _notes_on_failures(outcome)
        if outcome.line.reranker is not None:
            yield from _notes_on_reranking(outcome)
        if any(result.rankings.values()) and not any(
            map(judged.relevant_among, result.rankings, result.rankings.values())
        ):
            yield (
                f"{outcome.line.name} found no relevant document at all. Do its documents carry the ids of the gold? If "
                "they are under another name, pass identity=<metadata field>."
            )
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


def _notes_on_failures(outcome: Outcome) -> Iterator[str]:
    name, questions = outcome.line.name, len(outcome.answers)
    errors = Counter(asked.error for asked in outcome.answers.values() if asked.error)
    if errors:
        commonest, _ = errors.most_common(1)[0]
        yield f"{name} failed at {errors.total()} of {counted(questions, 'question')}, which count as nothing found: {commonest}"
    fallen = sum(
        any(details.get("status") == "fallback" for details in _details(asked.documents))
        for asked in outcome.answers.values()
    )
    if fallen:
        yield f"{name} fell back to the order it was given at {fallen} of {counted(questions, 'question')}."


def _notes_on_reranking(outcome: Outcome) -> Iterator[str]:
    line = outcome.line
    deepest = max(map(len, outcome.pools.values()), default=0)
    cuts = [cut for cut in (line.cut, getattr(line.reranker, "top_n", None)) if cut is not None]
    kept = min(cuts, default=None)
    if deepest <= 1:
        yield f"{line.name}: the first stage returns {counted(deepest, 'document')}, so there is nothing to rerank."
    elif kept is not None and deepest <= kept:
        yield (
            f"{line.name}: the first stage returns at most {deepest} documents and {kept} are kept, so the reranker can "
            "only reorder, not choose. Retrieve more."
        )
    several = [
        [document.metadata.get("relevance_score") for document in asked.documents]
        for asked in outcome.answers.values()
        if len(asked.documents) > 1
    ]
    if several and all(scores[0] is not None and len(set(scores)) == 1 for scores in several):
        yield f"{line.name}: all scores of each question are the same, so this reranker decides nothing."


def _details(documents: Sequence[Document]) -> Iterator[Mapping[str, object]]:
    for document in documents:
        details = document.metadata.get("rerank")
        if isinstance(details, dict):
            yield details
