"""Ask every question of every system, on the same candidates, and score what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Literal

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from langchain_rerankkit._optional import require
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.gold.matching import Match, Matcher
from langchain_rerankkit.evaluation.gold.qrels import (
    Empty,
    GoldKind,
    Identity,
    Qrels,
    check_kind,
    choose_gold,
    has_id,
    identity_of,
    judge_by_answers,
    judge_by_ids,
    text_id,
)
from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS, parse_metrics
from langchain_rerankkit.evaluation.report import EvaluationReport
from langchain_rerankkit.evaluation.running.asking import Engine, ask_here
from langchain_rerankkit.evaluation.running.notes import notes_on_aspects, notes_on_gold, notes_on_systems
from langchain_rerankkit.evaluation.running.outcome import Outcome, result_of, vectors_of
from langchain_rerankkit.evaluation.running.run_folder import RunFolder
from langchain_rerankkit.evaluation.running.stages import Stages
from langchain_rerankkit.evaluation.running.systems import Line, System, lines_of
from langchain_rerankkit.model_id import settings

__all__ = ["evaluate"]


def evaluate(
    systems: System | Mapping[str, System],
    dataset: Dataset,
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    *,
    gold: GoldKind = "auto",
    match: Match | None = None,
    relevance: int = 1,
    empty: Empty = "exclude",
    identity: Identity = None,
    repeats: int = 1,
    concurrency: int = 1,
    run_dir: str | Path | None = None,
    engine: Literal["local", "ray"] | Engine = "local",
    embeddings: Embeddings | None = None,
) -> EvaluationReport:
    """Compare systems on one dataset.

    The first system is the baseline. A reranker reorders the baseline's candidates. A retriever with a compressor
    (`ContextualCompressionRetriever`, ours or langchain-classic's) is taken apart: its first stage is asked once and
    timed apart, and gets a line of its own, so "without reranker" is always in the table.

    A question that a system fails at is recorded, counted as nothing found, and said in the notes.

    Args:
        systems: Systems by name, or a single one (a run needs a name). Each is a retriever (any Runnable or function from
            a question to documents), a reranker, a retriever with a compressor, or a ready-made run: a TREC file, or a mapping from
            question id to document ids (best first) or to scores by document id (ties keep their order).
        dataset: Questions with gold.
        metrics: Metric names with cut-offs: see `langchain_rerankkit.evaluation.metrics`.
        gold: Judge by ``"documents"`` (ids and grades) or by ``"answers"``; ``"auto"`` takes answers where ``match`` is
            given, else ids where the dataset has them.
        match: When a document holds an answer: ``"words"`` (the default), ``"regex"``, ``"number"``, a function of
            question and document, or a judge: see `langchain_rerankkit.evaluation.gold.matching`.
        relevance: Lowest grade of a gold document that counts as relevant; a matcher has its own.
        empty: Questions without any relevant document: ``"exclude"`` them from the means (and say how many), or count
            them as ``"zero"`` as trec_eval does. Those to which no system found an answer, where that is all that was
            looked at, count as 0 in either way.
        identity: Gives a document's id: a function, or the name of a metadata field; by default `document_id`.
        repeats: How often each reranker is asked everything, for those whose answers vary. Scores are means over the
            runs, and differences within their spread are called noise.
        concurrency: Questions asked at a time. More than one for endpoints; times of local models are then those of a
            busy machine.
        run_dir: A folder that keeps every answer as it comes. A later call with the same folder asks only what is missing or
            failed.
            Other questions, corpora and settings of systems are refused; what a store, a client or a closure holds
            cannot be seen: take a new folder after a change there.
        engine: Where rerankers run: ``"local"`` in threads of this process, ``"ray"`` on actors of a Ray cluster, so
            many of them as ``concurrency`` says; or ``partial(ask_on_ray, num_gpus=1)`` of
            `langchain_rerankkit.evaluation.running.ray`.
        embeddings: The model whose vectors say how far texts are apart, for the metric ``ild``.

    Returns:
        The report: a table when printed, and everything in it as attributes.

    Raises:
        ValueError: If there is no system or no question, a metric is unknown or lacks its ``embeddings``, a reranker has
            no candidates to reorder, or documents have no id to be judged by.
        DatasetError: If ``run_dir`` holds another evaluation.
        MissingExtraError: If a system needs a package that is not installed.
        ModelNotFoundError: If a system's model files are missing.
    """
    parsed = parse_metrics(metrics)
    of_texts = [name for name, metric in parsed.items() if metric.looks_at == "texts"]
    if of_texts and embeddings is None:
        msg = f"{', '.join(of_texts)} compares texts by their vectors: give embeddings=…, such as EmbeddedEmbeddings()."
        raise ValueError(msg)
    if repeats < 1 or concurrency < 1 or relevance < 1:
        msg = "repeats, concurrency and relevance must be at least 1."
        raise ValueError(msg)
    check_kind("empty", empty, Empty)
    if not isinstance(dataset, Dataset):
        msg = f"evaluate takes systems and then a Dataset, not a {type(dataset).__name__}."
        raise TypeError(msg)
    require("numpy", extra="evaluation")  # which is better said before everything is asked
    matcher = choose_gold(dataset, gold, match)
    identify = identity_of(identity, need_id=matcher is None)
    if identity is None and matcher is not None and any(not has_id(document) for document in dataset.corpus):
        identify = text_id  # a store may have given ids to documents that have none here
    lines = lines_of(systems)
    need_text = {line.first for line in lines if line.reranker is not None or matcher is not None or of_texts}
    with ExitStack() as stack:
        folder = stack.enter_context(RunFolder(run_dir, _facts(dataset, lines))) if run_dir is not None else None
        stages = Stages(dataset, identify, _engine(engine), concurrency, folder, need_text=need_text)
        outcomes = [stages.outcome(line, repeats) for line in lines]

    if matcher is not None:
        pools = {question.id: stages.pool(outcomes, question.id, matcher.depth) for question in dataset.questions}
        judged = judge_by_answers(dataset, pools, identify, matcher)
    else:
        judged = judge_by_ids(dataset, relevance)
    without = judged.without_relevant()
    left_out = _left_out(dataset, without, matcher if judged.pooled else None) if empty == "exclude" else []
    judged = judged.without(left_out)
    vectors = vectors_of(outcomes, embeddings, max(parsed[name].cutoff or 0 for name in of_texts)) if of_texts else {}
    results = [result_of(outcome, judged, parsed, vectors) for outcome in outcomes]
    return EvaluationReport(
        dataset=dataset.name,
        questions=len(judged.grades),
        systems=results,
        notes=[
            *notes_on_gold(dataset, judged, without, left_out, identify),
            *notes_on_aspects(judged, parsed),
            *notes_on_systems(outcomes, results, judged),
        ],
        relevance=judged.relevance,
        question_texts={question.id: question.text for question in dataset.questions},
        gold=judged.grades,
        reasons=judged.reasons,
        documents=_texts(outcomes, judged, stages.corpus),
    )


def _engine(engine: str | Engine) -> Engine:
    if callable(engine):
        return engine
    if engine == "local":
        return ask_here
    if engine == "ray":
        from langchain_rerankkit.evaluation.running.ray import ask_on_ray

        return ask_on_ray
    msg = f"The engine is 'local' or 'ray', not {engine!r}."
    raise ValueError(msg)


def _facts(dataset: Dataset, lines: Sequence[Line]) -> dict[str, str]:
    """What an evaluation is of; secrets are no plain settings."""
    facts = {
        "the questions": _hash([(question.id, question.text) for question in dataset.questions]),
        "the corpus": _hash([(document.id, document.page_content) for document in dataset.corpus]),
    }
    for line in lines:
        # What a reranker is given is kept with its answers.
        said = settings(line.source) if line.reranker is None else f"{settings(line.reranker)} {line.cut}"
        facts[f"the system {line.name!r}"] = said
    return facts


def _hash(rows: Sequence[tuple[str | None, str]]) -> str:
    return sha256(json.dumps(rows).encode()).hexdigest()


def _left_out(dataset: Dataset, without: Sequence[str], pooled: Matcher | None) -> list[str]:
    if pooled is None:
        return list(without)
    # That nobody found an answer does not mean that there is none.
    return [question.id for question in dataset.questions if pooled.whole_corpus and not question.answers]


def _texts(outcomes: Sequence[Outcome], judged: Qrels, corpus: Mapping[str, Document]) -> dict[str, str]:
    texts = {
        document.id: document.text
        for outcome in outcomes
        for answer in outcome.found.values()
        for document in answer.documents
        if document.text
    }
    wanted = {id_ for grades in judged.grades.values() for id_ in grades}
    return texts | {id_: document.page_content for id_, document in corpus.items() if id_ in wanted}
