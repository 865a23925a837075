"""Evaluation with LangSmith: evaluators for its runner, a run of its runner that stays on this machine, and uploads.

LangSmith's runner takes evaluators of certain shapes only and logs away what others raise; hence the factories. An
experiment is averaged by LangSmith over the rows that have a score.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from statistics import fmean
from typing import TYPE_CHECKING, Any

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_rerankkit._optional import require
from langchain_rerankkit._progress import load_tqdm
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.gold.matching import Match
from langchain_rerankkit.evaluation.gold.qrels import Empty, GoldKind, Identity
from langchain_rerankkit.evaluation.gold.rows import RowJudge
from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS
from langchain_rerankkit.evaluation.running.systems import is_compression_retriever
from langchain_rerankkit.evaluation.uploads import local_examples, push_dataset, push_report, pushed, uploading
from langchain_rerankkit.records import usage_of

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.evaluation import ExperimentResults

__all__ = ["evaluate_with_langsmith", "push_dataset", "push_report", "row_evaluator", "summary_evaluator"]

_FLUSH = (
    100  # questions after which uploads are waited for; LangSmith's client drops what is beyond its queue of 10,000
)


# --- evaluators -------------------------------------------------------------------------------------------------------


def row_evaluator(
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    *,
    gold: GoldKind = "auto",
    match: Match | None = None,
    relevance: int = 1,
    empty: Empty = "exclude",
    identity: Identity = None,
    documents: str = "documents",
) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """An evaluator of single runs, for ``evaluators=[…]`` of LangSmith's ``evaluate`` and ``aevaluate``.

    Its reference outputs hold gold document ids, with grades or as a list, under ``documents`` or ``relevant``, or
    accepted answers under ``answers`` or ``answer``: what `push_dataset` writes. A run that failed counts as nothing
    found. LangSmith drops a row whose evaluator raises, so a row that cannot be judged gets the score None and a
    comment that says what to do.

    Args:
        metrics: Metric names, which become the feedback's keys.
        gold: Judge by ``"documents"`` or by ``"answers"``; ``"auto"`` takes documents where the reference has them.
        match: When a document holds an answer: see `langchain_rerankkit.evaluation.gold.matching`.
        relevance: Lowest grade that counts as relevant.
        empty: Questions without any relevant document get the score None, which LangSmith leaves out of its means
            (``"exclude"``), or 0 (``"zero"``). By answers, a row cannot know whether another document would hold one, so
            only a question without an answer is left out.
        identity: Gives a document's id: a function, or the name of a metadata field; by default
            `langchain_rerankkit.evaluation.gold.qrels.document_id`.
        documents: The key of the outputs that holds the documents, best first: LangChain Documents, dicts of them as
            they come back from LangSmith, or ids. A bare list is taken as well.

    Returns:
        A function of outputs and reference outputs that returns ``{"results": [{"key": "ndcg@10", "score": …}, …]}``.

    Raises:
        ValueError: If a metric is unknown.
    """
    judge = RowJudge(
        metrics, gold=gold, match=match, relevance=relevance, empty=empty, identity=identity, documents=documents
    )
    return _evaluator("retrieval_metrics", _score_row, judge)


def summary_evaluator(
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    *,
    gold: GoldKind = "auto",
    match: Match | None = None,
    relevance: int = 1,
    empty: Empty = "exclude",
    identity: Identity = None,
    documents: str = "documents",
) -> Callable[[list[dict[str, Any]], list[dict[str, Any]]], dict[str, Any]]:
    """An evaluator of a whole experiment, for ``summary_evaluators=[…]``: the means of what `row_evaluator` gives.

    Args:
        metrics: Metric names; the keys are ``"mean_ndcg@10"`` and so on.
        gold: As for `row_evaluator`.
        match: As for `row_evaluator`.
        relevance: As for `row_evaluator`.
        empty: As for `row_evaluator`.
        identity: As for `row_evaluator`.
        documents: As for `row_evaluator`.

    Returns:
        A function of all outputs and all reference outputs. Each mean's comment says over how many runs it is.

    Raises:
        ValueError: If a metric is unknown.
    """
    judge = RowJudge(
        metrics, gold=gold, match=match, relevance=relevance, empty=empty, identity=identity, documents=documents
    )
    return _evaluator("mean_retrieval_metrics", _score_all, judge)


def _evaluator(name: str, function: Callable[..., dict[str, Any]], *bound: Any) -> Callable[..., dict[str, Any]]:
    """A function for LangSmith, which reads names of evaluators and parameters, and takes a plain function's for a key."""
    evaluator = partial(function, *bound)
    evaluator.__name__ = name  # type: ignore[attr-defined]
    return evaluator


def _score_row(
    judge: RowJudge,
    outputs: dict[str, Any],
    reference_outputs: dict[str, Any],
    inputs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    try:
        row = judge.judge(outputs, reference_outputs, _question_of(inputs))
    except (TypeError, ValueError) as error:
        # In the shape that LangSmith itself gives to a failed evaluator whose keys it knows.
        failed = {"score": None, "comment": str(error), "extra": {"error": True}}
        return {"results": [{"key": metric, **failed} for metric in judge.metrics]}
    scores = judge.score([row])
    remark = {"comment": row.remark} if row.remark else {}
    return {
        "results": [
            {"key": metric, "score": None if row.left_out else scores[metric][0], **remark} for metric in judge.metrics
        ]
    }


# Exactly these parameters: with more, even with defaults, LangSmith hands over runs and examples in their place.
def _score_all(
    judge: RowJudge, outputs: list[dict[str, Any]], reference_outputs: list[dict[str, Any]]
) -> dict[str, Any]:
    keys = {metric: f"mean_{metric}" for metric in judge.metrics}
    try:
        rows = [judge.judge(*pair) for pair in zip(outputs, reference_outputs, strict=True)]
    except (TypeError, ValueError) as error:
        return {"results": [{"key": key, "score": None, "comment": str(error)} for key in keys.values()]}
    counted = [row for row in rows if not row.left_out]
    means = {metric: fmean(values) if values else None for metric, values in judge.score(counted).items()}
    comment = f"over {len(counted)} of {len(rows)} runs"
    return {"results": [{"key": key, "score": means[metric], "comment": comment} for metric, key in keys.items()]}


def _question_of(inputs: dict[str, Any] | None) -> str:
    return str((inputs or {}).get("question", ""))


def _costs(outputs: dict[str, Any]) -> dict[str, Any]:
    """Seconds and usage, as feedback, so that experiments can be compared by them."""
    amounts = {name: outputs.get(name) for name in ("retrieval_seconds", "reranking_seconds")}
    amounts.update({f"usage_{name}": value for name, value in (outputs.get("usage") or {}).items()})
    return {"results": [{"key": name, "score": value} for name, value in amounts.items() if value is not None]}


# --- experiments ------------------------------------------------------------------------------------------------------


def evaluate_with_langsmith(
    system: Any,
    dataset: Dataset,
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    *,
    upload: bool = False,
    client: Client | None = None,
    experiment: str | None = None,
    gold: GoldKind = "auto",
    match: Match | None = None,
    relevance: int = 1,
    empty: Empty = "exclude",
    identity: Identity = None,
    concurrency: int = 1,
    repeats: int = 1,
) -> ExperimentResults:
    """Run LangSmith's ``evaluate`` over a dataset, on this machine alone or as an experiment on LangSmith.

    Each run's outputs are ``documents``, ``retrieval_seconds``, for a retriever with a compressor
    ``reranking_seconds`` (all but its first stage), and ``usage`` where the reranker tells it; seconds and usage
    become feedback beside the metrics. The first call of a model loads it. LangSmith prints a line at the start and
    shows a progress bar.

    Without ``upload``, LangSmith gets nothing: no run, no trace, not even where ``LANGSMITH_TRACING`` is set. What the
    system itself asks (a model, an endpoint) it asks as ever.

    Args:
        system: A retriever, a retriever with a compressor, any other Runnable from a question to documents, or such a
            function. Pass ``chain.ainvoke`` or an async function where there is no synchronous way; its calls share
            one event loop.
        dataset: Questions with gold.
        metrics: Metric names.
        upload: Push the dataset (see `push_dataset`) and the runs, as an experiment of that dataset.
        client: The LangSmith client to upload with; by default one from the environment.
        experiment: The experiment's name, to which LangSmith adds a random end; by default the system's class.
        gold: As for `row_evaluator`.
        match: As for `row_evaluator`.
        relevance: As for `row_evaluator`.
        empty: As for `row_evaluator`.
        identity: As for `row_evaluator`.
        concurrency: Questions asked at a time; with more than one, results come in the order in which they are done.
        repeats: How often each question is asked, for systems that do not always answer alike.

    Returns:
        LangSmith's results: iterate over them for runs, examples and scores, or call ``to_pandas()``.

    Raises:
        TypeError: If the system is none.
        ValueError: If the dataset has no question or no gold, a metric is unknown, or a client is given without ``upload``.
        RuntimeError: If no question could be answered and judged; the message has the first reason.
    """
    runner = require("langsmith.evaluation", extra="langsmith")
    if not dataset.questions:
        msg = "The dataset has no questions."
        raise ValueError(msg)
    if not any(question.documents or question.answers for question in dataset.questions):
        msg = "The dataset has no gold: give its questions answers, or ids of gold documents."
        raise ValueError(msg)
    if client is not None and not upload:
        msg = "A client is only for uploads: say upload=True, or leave it out."
        raise ValueError(msg)
    options: dict[str, Any] = {
        "gold": gold,
        "match": match,
        "relevance": relevance,
        "empty": empty,
        "identity": identity,
    }
    evaluators = [row_evaluator(metrics, **options), _evaluator("costs", _costs)]
    if upload:
        client = uploading(client)
        examples = list(pushed(dataset, client)[1].values())
    else:
        client = _silent_client()
        examples = local_examples(dataset)
    load_tqdm()  # LangSmith's bar is of it too
    with _target(system, client, traced=upload) as target, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"'upload_\w+' parameter is in beta", category=UserWarning)
        results: ExperimentResults = runner.evaluate(
            target,
            data=examples,
            evaluators=evaluators,
            client=client,
            upload_results=upload,
            experiment_prefix=experiment or getattr(system, "__name__", type(system).__name__),
            max_concurrency=0 if concurrency == 1 else concurrency,
            num_repetitions=repeats,
            # These are sums over outputs that are there already; traced, all documents would be uploaded once more.
            disable_evaluator_tracing=True,
        )
    client.flush()
    _raise_if_nothing_was_judged(results)
    return results


def _silent_client() -> Client:
    """A client that sends nothing: no tracing thread, no run sampled, and an address where nobody listens."""
    client: Client = require("langsmith", extra="langsmith").Client(
        api_url="http://127.0.0.1:9",  # discard
        api_key="unused",
        info={"version": "0"},  # else it asks
        auto_batch_tracing=False,
        tracing_sampling_rate=0.0,
        tracing_mode="langsmith",  # whatever the environment says of OpenTelemetry
    )
    return client


@contextmanager
def _target(system: Any, client: Client, *, traced: bool) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """What LangSmith calls for an example."""
    tracing_context = require("langsmith.run_helpers", extra="langsmith").tracing_context
    asked = count(1)
    with _asking(system) as ask:

        def answer(inputs: dict[str, Any]) -> dict[str, Any]:
            if traced:
                if next(asked) % _FLUSH == 0:
                    client.flush()
                return ask(inputs["question"])
            with tracing_context(enabled=False):  # LangSmith's "local" would still trace what is called in here
                return ask(inputs["question"])

        yield answer


@contextmanager
def _asking(system: Any) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A function from a question to its outputs, whatever the system is."""
    if isinstance(system, BaseDocumentCompressor):
        msg = (
            "A reranker alone finds no documents: put it behind a retriever, "
            "ContextualCompressionRetriever(base_retriever=…, base_compressor=…)."
        )
        raise TypeError(msg)
    if is_compression_retriever(system):
        yield lambda question: _retrieve_and_rerank(system, question)
    elif isinstance(system, Runnable):
        yield lambda question: _timed(system.invoke, question)
    elif inspect.iscoroutinefunction(system):
        with _loop() as loop:
            yield lambda question: _timed(
                lambda text: asyncio.run_coroutine_threadsafe(system(text), loop).result(), question
            )
    elif callable(system):
        yield lambda question: _timed(system, question)
    else:
        msg = f"A system is a retriever or a function from a question to documents, not {type(system).__name__}."
        raise TypeError(msg)


def _retrieve_and_rerank(system: Any, question: str) -> dict[str, Any]:
    """Both stages, timed apart: the system itself is asked, with a clock around its first stage."""
    spent = []

    def retrieve(query: str, config: RunnableConfig) -> Any:
        start = time.perf_counter()
        found = system.base_retriever.invoke(query, config)
        spent.append(time.perf_counter() - start)
        return found

    outputs = _timed(system.model_copy(update={"base_retriever": RunnableLambda(retrieve)}).invoke, question)
    first = sum(spent)
    return {**outputs, "retrieval_seconds": first, "reranking_seconds": outputs["retrieval_seconds"] - first}


def _timed(retrieve: Callable[[str], Any], question: str) -> dict[str, Any]:
    start = time.perf_counter()
    documents = retrieve(question)
    seconds = time.perf_counter() - start
    if not isinstance(documents, Sequence) or isinstance(documents, str):
        msg = f"A system returns a list of documents, not {type(documents).__name__}."
        raise TypeError(msg)
    outputs: dict[str, Any] = {"documents": list(documents), "retrieval_seconds": seconds}
    if usage := usage_of(documents):
        outputs["usage"] = usage
    return outputs


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all questions, in a thread of its own, since the caller may be in one already."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _raise_if_nothing_was_judged(results: ExperimentResults) -> None:
    reason = ""
    for row in results:
        if row["run"].error is None:
            wrong = [r.comment for r in row["evaluation_results"]["results"] if (r.extra or {}).get("error")]
            if not wrong:
                return
            reason = reason or str(wrong[0])
        reason = reason or str(row["run"].error)
    msg = f"No question could be answered and judged. The first: {reason}"
    raise RuntimeError(msg)
