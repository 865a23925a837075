"""Ask every question of every system, on the same candidates, and score what comes back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable

from langchain_rerankkit.evaluation.dataset import Dataset, Question, load_run
from langchain_rerankkit.evaluation.matching import holds_answer, normalise
from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS, parse_metrics, score
from langchain_rerankkit.evaluation.report import EvaluationReport, Latency, SystemResult

__all__ = ["document_id", "evaluate"]

System = Any
"""A retriever, a reranker or other document compressor, a retriever with a compressor, or a run."""


def evaluate(
    systems: System | Mapping[str, System],
    dataset: Dataset,
    metrics: Iterable[str] = DEFAULT_METRICS,
    *,
    gold: Literal["auto", "documents", "answers"] = "auto",
    relevance: int = 1,
    empty: Literal["exclude", "zero"] = "exclude",
    identity: Callable[[Document], str] | None = None,
) -> EvaluationReport:
    """Compare systems on one dataset.

    The first system is the baseline. A reranker reorders the baseline's candidates. A retriever with a compressor
    (`ContextualCompressionRetriever`, ours or langchain-classic's) is taken apart: its first stage is asked once and
    timed apart, and gets a line of its own, so "without reranker" is always in the table.

    Args:
        systems: Systems by name, or a single one (a run needs a name). Each is a retriever (any Runnable from a question to documents), a
            reranker, a retriever with a compressor, or a ready-made run: a TREC file, or a mapping from question id to
            document ids (best first) or to scores by document id.
        dataset: Questions with gold.
        metrics: Metric names with cut-offs: see `langchain_rerankkit.evaluation.metrics`.
        gold: Judge by ``"documents"`` (ids and grades) or by ``"answers"`` (a document is relevant if it holds an
            accepted answer as whole words); ``"auto"`` takes ids where the dataset has them.
        relevance: Lowest grade that counts as relevant.
        empty: Questions without any relevant document: ``"exclude"`` them from the means (and say how many), or count
            them as ``"zero"`` as trec_eval does.
        identity: Gives a document's id; by default `document_id`.

    Returns:
        The report: a table when printed, and everything in it as attributes.

    Raises:
        ValueError: If there is no system or no question, a metric is unknown, a reranker has no candidates to reorder,
            or documents have no id to be judged by.
    """
    names = list(parse_metrics(metrics, relevance=relevance))
    by_answers = gold == "answers" or (gold == "auto" and not any(q.documents for q in dataset.questions))
    if by_answers and not any(question.answers for question in dataset.questions):
        msg = "The dataset has no gold: give its questions answers, or ids of gold documents."
        raise ValueError(msg)
    identify = identity or (lambda document: document_id(document, need_id=not by_answers))
    candidates = _Candidates(dataset, identify)
    outcomes = [
        _run(line, dataset, candidates, with_text=by_answers or line.reranker is not None) for line in _lines(systems)
    ]

    if by_answers:
        judged = _judge_by_answers(dataset, outcomes, identify, relevance)
    else:
        judged = {question.id: dict(question.documents) for question in dataset.questions}
    without = [id_ for id_, grades in judged.items() if not any(grade >= relevance for grade in grades.values())]
    if empty == "exclude":
        judged = {id_: grades for id_, grades in judged.items() if id_ not in set(without)}
    results = [_result(outcome, judged, names, relevance, identify) for outcome in outcomes]
    notes = [
        *_notes_on_gold(dataset, without, empty, by_answers=by_answers),
        *_notes_on_systems(outcomes, results),
    ]
    return EvaluationReport(dataset.name, len(judged), results, notes)


def document_id(document: Document, *, need_id: bool = True) -> str:
    """The id that a document is judged by: ``Document.id``, else ``metadata["id"]`` or ``metadata["_id"]``.

    Args:
        document: The document.
        need_id: Without an id, raise; otherwise fall back to a hash of the text.

    Raises:
        ValueError: If the document has no id and one is needed.
    """
    for id_ in (document.id, document.metadata.get("id"), document.metadata.get("_id")):
        if id_ is not None:
            return str(id_)
    if need_id:
        msg = (
            "A document has no id to compare with the gold ids. Give documents an id, pass identity=<function of the "
            "document>, or judge by gold='answers'."
        )
        raise ValueError(msg)
    return sha256(document.page_content.encode("utf-8", "surrogatepass")).hexdigest()


# --- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """One line of the table: a first stage, and perhaps a reranker and how many documents are kept after it."""

    name: str
    source: Any
    reranker: BaseDocumentCompressor | None = None
    cut: int | None = None


@dataclass
class _Outcome:
    line: _Line
    rankings: dict[str, list[Document]] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)  # number of candidates
    retrieval: list[float] = field(default_factory=list)
    reranking: list[float] = field(default_factory=list)
    usage: dict[str, float] = field(default_factory=dict)  # of language models, over all questions


def _lines(systems: System | Mapping[str, System]) -> list[_Line]:
    named = systems if isinstance(systems, Mapping) else {_default_name(systems): systems}
    if not named:
        msg = "Give at least one system to evaluate."
        raise ValueError(msg)
    lines: list[_Line] = []
    plain = [id(system) for system in named.values()]
    for name, system in named.items():
        if hasattr(system, "base_retriever") and hasattr(system, "base_compressor"):
            if id(system.base_retriever) not in plain:
                plain.append(id(system.base_retriever))
                lines.append(_Line(f"{name}, without reranker", system.base_retriever))
            cut = getattr(system, "k", None)
            lines.append(_Line(name, system.base_retriever, system.base_compressor, cut))
        elif isinstance(system, BaseDocumentCompressor):
            if not lines:
                msg = f"{name!r} is a reranker and comes first: put the retriever or run that it reorders before it."
                raise ValueError(msg)
            lines.append(_Line(name, lines[0].source, system))
        elif isinstance(system, (str, Path)):
            lines.append(_Line(name, load_run(system)))
        elif isinstance(system, (Runnable, Mapping)):
            lines.append(_Line(name, system))
        else:
            msg = f"{name!r} is a {type(system).__name__}; a system is a retriever, a reranker, or a run."
            raise ValueError(msg)
    return lines


def _default_name(system: Any) -> str:
    return Path(system).name if isinstance(system, (str, Path)) else type(system).__name__


class _Candidates:
    """First-stage results, asked for once per source, so that all rerankers see the same pool."""

    def __init__(self, dataset: Dataset, identify: Callable[[Document], str]) -> None:
        self._corpus = {identify(document): document for document in dataset.corpus}
        self._found: dict[tuple[int, str], tuple[list[Document], float | None]] = {}

    def of(self, source: Any, question: Question, *, with_text: bool) -> tuple[list[Document], float | None]:
        """Documents, and the seconds it took to find them; None for a run."""
        key = (id(source), question.id)
        if key not in self._found:
            if isinstance(source, Runnable):
                start = time.perf_counter()
                documents = list(source.invoke(question.text))
                self._found[key] = documents, time.perf_counter() - start
            else:
                self._found[key] = [self._document(id_) for id_ in _ids(source.get(question.id, ()))], None
        documents, seconds = self._found[key]
        if with_text and not isinstance(source, Runnable):
            unknown = [document.id for document in documents if document.id not in self._corpus]
            if unknown:
                msg = f"The run names documents that the dataset's corpus lacks, {unknown[0]!r} among them."
                raise ValueError(msg)
        return documents, seconds

    def _document(self, id_: str) -> Document:
        return self._corpus.get(id_) or Document(id=id_, page_content="")


def _ids(ranking: Mapping[str, float] | Sequence[str]) -> list[str]:
    if isinstance(ranking, Mapping):
        return sorted(ranking, key=lambda id_: -ranking[id_])  # stable: ties keep their order
    return list(ranking)


def _run(line: _Line, dataset: Dataset, candidates: _Candidates, *, with_text: bool) -> _Outcome:
    outcome = _Outcome(line)
    for question in dataset.questions:
        documents, seconds = candidates.of(line.source, question, with_text=with_text)
        outcome.pools[question.id] = len(documents)
        if seconds is not None:
            outcome.retrieval.append(seconds)
        if line.reranker is not None:
            start = time.perf_counter()
            documents = list(line.reranker.compress_documents(documents, question.text))[: line.cut]
            outcome.reranking.append(time.perf_counter() - start)
            _add_usage(outcome.usage, documents)
        outcome.rankings[question.id] = documents
    return outcome


def _add_usage(total: dict[str, float], documents: Sequence[Document]) -> None:
    """Add what the reranker says of its cost; every document of a question says the same."""
    details = documents[0].metadata.get("rerank") if documents else None
    usage = details.get("usage") if isinstance(details, Mapping) else None
    if isinstance(usage, Mapping):
        for name, value in usage.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                total[name] = total.get(name, 0) + value


# --- what it is compared with -----------------------------------------------------------------------------------------


def _judge_by_answers(
    dataset: Dataset, outcomes: Sequence[_Outcome], identify: Callable[[Document], str], grade: int
) -> dict[str, dict[str, int]]:
    """The grade of each document that holds an answer, in the corpus and in what any system returned."""
    texts = {identify(document): normalise(document.page_content) for document in dataset.corpus}
    corpus = list(texts)
    judged = {}
    for question in dataset.questions:
        answers = [normalise(answer) for answer in question.answers]
        pool = list(corpus)
        for outcome in outcomes:
            for document in outcome.rankings[question.id]:
                id_ = identify(document)
                if id_ not in texts:
                    texts[id_] = normalise(document.page_content)
                pool.append(id_)
        judged[question.id] = {id_: grade for id_ in dict.fromkeys(pool) if holds_answer(texts[id_], answers)}
    return judged


def _result(
    outcome: _Outcome,
    judged: Mapping[str, Mapping[str, int]],
    metrics: Sequence[str],
    relevance: int,
    identify: Callable[[Document], str],
) -> SystemResult:
    rankings = {id_: [identify(document) for document in found] for id_, found in outcome.rankings.items()}
    per_question = score(judged, rankings, metrics, relevance=relevance)
    means = {
        metric: math.fsum(values.values()) / len(values) if values else math.nan
        for metric, values in per_question.items()
    }
    return SystemResult(
        outcome.line.name,
        means,
        per_question,
        rankings,
        Latency.of(outcome.retrieval),
        Latency.of(outcome.reranking),
        outcome.usage or None,
    )


# --- what to be careful about -----------------------------------------------------------------------------------------


def _notes_on_gold(dataset: Dataset, without: Sequence[str], empty: str, *, by_answers: bool) -> list[str]:
    notes = []
    if without:
        what = "whose answer occurs in no document" if by_answers else "without a relevant document"
        done = "left out of the means" if empty == "exclude" else "counted as 0"
        notes.append(f"{len(without)} of {len(dataset.questions)} questions {what} are {done}: {_some(without)}.")
    if by_answers and not dataset.corpus:
        notes.append(
            "Judged by answer text without the whole corpus: recall is relative to the documents that any of these "
            "systems returned."
        )
    if not by_answers and dataset.corpus:
        known = {document.id for document in dataset.corpus}
        lost = [q.id for q in dataset.questions if q.documents and not known.intersection(q.documents)]
        if lost:
            notes.append(f"{len(lost)} questions have no gold document in the corpus: {_some(lost)}.")
    return notes


def _notes_on_systems(outcomes: Sequence[_Outcome], results: Sequence[SystemResult]) -> list[str]:
    notes = []
    for outcome in outcomes:
        line = outcome.line
        if line.reranker is None:
            continue
        deepest = max(outcome.pools.values(), default=0)
        cuts = [cut for cut in (line.cut, getattr(line.reranker, "top_n", None)) if cut is not None]
        kept = min(cuts, default=None)
        if deepest <= 1:
            notes.append(f"{line.name}: the first stage returns {deepest} document, so there is nothing to rerank.")
        elif kept is not None and deepest <= kept:
            notes.append(
                f"{line.name}: the first stage returns at most {deepest} documents and {kept} are kept, so the "
                "reranker can only reorder, not choose. Retrieve more."
            )
        if _all_tie(outcome):
            notes.append(f"{line.name}: all scores of each question are the same, so this reranker decides nothing.")
    seen: dict[tuple[tuple[str, tuple[str, ...]], ...], str] = {}
    for result in results:
        ranking = tuple((id_, tuple(found)) for id_, found in result.rankings.items())
        if ranking in seen:
            notes.append(f"{result.name} ranks exactly like {seen[ranking]} on every question.")
        else:
            seen[ranking] = result.name
    return notes


def _all_tie(outcome: _Outcome) -> bool:
    several = [
        [document.metadata.get("relevance_score") for document in found]
        for found in outcome.rankings.values()
        if len(found) > 1
    ]
    return bool(several) and all(scores[0] is not None and len(set(scores)) == 1 for scores in several)


def _some(ids: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(str, ids[:most])) + (", …" if len(ids) > most else "")
