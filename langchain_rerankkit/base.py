"""The one contract: a `Reranker` is a LangChain document compressor and a Runnable.

A backend answers one question — how relevant is each text to this query? — by writing `Reranker._score`. It returns
numbers aligned with the texts; it never sorts, cuts, copies or traces. All of that happens here, once.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import get_config_list, run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.ranking import best_first
from langchain_rerankkit.records import (
    Answer,
    DetailedScores,
    Judged,
    RankedDocument,
    Ranking,
    RerankInput,
    ScoreRequest,
    Scores,
    Status,
    details_of,
    documents_of,
    encodable,
    query_and_documents,
)
from langchain_rerankkit.tracing import Spans, run_config, summary, within

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

__all__ = ["Reranker"]

_Item = TypeVar("_Item")
_Outputs = dict[str, Any]  # of a run
_logger = logging.getLogger("langchain_rerankkit")
_NOTHING = object()
_KEPT = ("fallback", "unjudged")  # no min_score cuts what nobody judged


@dataclass(frozen=True)
class _Job:
    documents: list[Document]
    judged: list[int]  # positions of the documents that have a text
    request: ScoreRequest


class _Once:
    """A value made at first use, once, however many threads ask; copies and pickles start unmade."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = False
        self._value: Any = None

    def get(self, make: Callable[[], Any]) -> Any:
        if not self._made:
            with self._lock:
                if not self._made:
                    self._value = make()
                    self._made = True
        return self._value

    def peek(self) -> Any:
        """The value, or None where it was not made yet."""
        return self._value

    def __reduce__(self) -> tuple[type[_Once], tuple[()]]:
        return _Once, ()


class Reranker(RunnableSerializable[RerankInput, list[Document]], BaseDocumentCompressor):
    """Puts the documents most relevant to a query first.

    Subclass it with fields and `_score`::

        class LengthReranker(Reranker):
            def _score(self, query, texts):
                return [-float(len(text)) for text in texts]

    and it is a ``BaseDocumentCompressor`` for any ``ContextualCompressionRetriever``, a Runnable over
    ``{"query": …, "documents": […]}``, batched, asynchronous, traced and checked. Documents that come back are
    copies: the caller's are never changed, and none is lost but by ``top_n`` and ``min_score``.
    """

    top_n: int | None = Field(default=None, ge=1)
    """How many documents to keep; all by default."""

    min_score: float | None = None
    """Keep documents whose score is at least this. Compared with the score shown in the metadata."""

    document_text: Callable[[Document], str] | Sequence[str] | None = None
    """What the model reads instead of ``page_content``: a function of the document, or the names of metadata fields
    to put before it, a line each (an allow-list: no other metadata reaches the model)."""

    on_nan: Literal["raise", "last"] = "raise"
    """What a score that is NaN or infinite does: raise `ScoreError`, or put its document last with score ``-inf``."""

    on_error: Literal["raise", "keep_order"] = "raise"
    """What a failing backend does: raise, or give back the documents in the order they came in, cut to ``top_n`` but
    not by ``min_score``, with the status ``"fallback"`` and a logged warning."""

    details: bool = True
    """Whether ``metadata["rerank"]`` says model, rank, previous rank and status beside the score."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True,
        extra="forbid",
        protected_namespaces=(),
        validate_assignment=True,
        populate_by_name=True,
    )

    call_options: ClassVar[frozenset[str]] = frozenset({"top_n", "min_score"})
    """Fields that a single call may override: ``invoke(..., top_n=3)`` or ``bind(top_n=3)``."""

    _once: _Once = PrivateAttr(default_factory=_Once)

    # --- what a backend writes ------------------------------------------------------------------------------------

    @property
    def scores_are(self) -> Literal["relevance", "rank"]:
        """``"relevance"`` when a score means something by itself, ``"rank"`` when only the order within one list does.

        A ``min_score`` on rank scores is refused.
        """
        return "relevance"

    @property
    def judges_alone(self) -> bool:
        """Whether a score depends on nothing but query and text, so that it can be kept and used beside other candidates."""
        return self.scores_are == "relevance"

    def _load(self) -> Any:
        """Build the model or API client, or take one that the caller gave: called once, at first use, under a lock."""
        return None

    def _score(self, query: str, texts: list[str]) -> Answer:
        """Judge texts.

        Args:
            query: The query.
            texts: At least one text, none blank, without lone surrogates.

        Returns:
            One number per text, aligned, higher is more relevant; `DetailedScores` where there is more to say.
        """
        msg = f"{type(self).__name__} must implement _score (or _score_many)."
        raise NotImplementedError(msg)

    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        """Judge several requests; override it where many queries go faster together.

        An exception in place of scores fails that request alone. `DetailedScores` add to ``metadata["rerank"]``, and so
        does what `with_details` adds to an exception, where the documents keep their order.
        """
        answers: list[Answer | Exception] = []
        for request in requests:
            try:
                with within(request.config):
                    answers.append(self._score(request.query, request.texts))
            except Exception as error:  # noqa: BLE001 - one failing query must not lose the others
                answers.append(error)
        return answers

    async def _ascore(self, query: str, texts: list[str]) -> Answer:
        """Judge texts asynchronously; override it where the backend is truly asynchronous."""
        return await _on_thread(self._score, query, texts)

    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        """Judge several requests asynchronously: with `_ascore` where a backend has its own, else on a thread."""
        if type(self)._ascore is Reranker._ascore:
            return await _on_thread(self._score_many, requests)

        async def score(request: ScoreRequest) -> Answer:
            with within(request.config):
                return await self._ascore(request.query, request.texts)

        answers = await asyncio.gather(*map(score, requests), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
        return cast("Sequence[Answer | Exception]", answers)

    def _activate(self, raw_score: float) -> float:
        """The score that people see, from the backend's own; must not change the order."""
        return raw_score

    def _label(self) -> str:
        """Name of the model in ``metadata["rerank"]`` and in traces."""
        model = getattr(self, "model", None)
        return model if isinstance(model, str) else type(self).__name__

    def _provider(self) -> str | None:
        """Name of who hosts the model, in traces; None for a model in this process."""
        return None

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    # --- the model ------------------------------------------------------------------------------------------------

    def _ready(self) -> Any:
        """What `_load` returned, the one time that it was called."""
        return self._once.get(self._load)

    def warmup(self) -> Self:
        """Load the model now, so that a missing file or package shows at start-up and not at the first query."""
        self._ready()
        return self

    def close(self) -> None:
        """Let go of the model. Its memory is free once no other reranker holds it; a later call loads it again."""
        self._once = _Once()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # Another model or device needs another load; another cut does not.
        if name in type(self).model_fields and name not in self.call_options:
            self._once = _Once()

    @model_validator(mode="after")
    def _check_min_score(self) -> Self:
        if self.min_score is not None and self.scores_are == "rank":
            msg = (
                f"min_score needs scores that mean something by themselves; those of {type(self).__name__} only order "
                "one list. Use top_n."
            )
            raise ValueError(msg)
        return self

    # --- the public ways in ---------------------------------------------------------------------------------------

    @override
    def invoke(self, input: RerankInput, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """Rerank documents.

        Args:
            input: ``{"query": …, "documents": […]}``; other keys are ignored.
            config: Runnable configuration (callbacks, tags, …).
            **kwargs: Fields to override for this call: see `call_options`.

        Returns:
            Copies of the documents, best first, with ``metadata["relevance_score"]`` and ``metadata["rerank"]``.

        Raises:
            ScoreError: If the backend returned a wrong number of scores or one that is not finite.
            TypeError: If the input is not a query and documents.
        """
        reranker = self._with(kwargs)
        (config,) = reranker._traced(config)
        # langchain-core passes the run's own configuration by name, though its annotation lacks this case.
        return documents_of(reranker._call_with_config(reranker._rerank, input, config, run_type="retriever"))  # type: ignore[arg-type]

    @override
    async def ainvoke(self, input: RerankInput, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        reranker = self._with(kwargs)
        (config,) = reranker._traced(config)
        return documents_of(await reranker._acall_with_config(reranker._arerank, input, config, run_type="retriever"))  # type: ignore[arg-type]

    @override
    def batch(
        self,
        inputs: list[RerankInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[list[Document]]:
        """Rerank for several queries in one pass of the backend, with one traced run each."""
        reranker = self._with(kwargs)
        outputs = reranker._batch_with_config(
            reranker._rerank_batch,  # type: ignore[arg-type]
            inputs,
            reranker._traced(config, len(inputs)),
            return_exceptions=return_exceptions,
            run_type="retriever",
        )
        return [documents_of(output) for output in outputs]

    @override
    async def abatch(
        self,
        inputs: list[RerankInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[list[Document]]:
        reranker = self._with(kwargs)
        outputs = await reranker._abatch_with_config(
            reranker._arerank_batch,  # type: ignore[arg-type]
            inputs,
            reranker._traced(config, len(inputs)),
            return_exceptions=return_exceptions,
            run_type="retriever",
        )
        return [documents_of(output) for output in outputs]

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The document compressor's way in: the same as `invoke`."""
        return self.invoke({"query": query, "documents": documents}, {"callbacks": callbacks})

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        return await self.ainvoke({"query": query, "documents": documents}, {"callbacks": callbacks})

    def rank(self, query: str, documents: Sequence[Document | str], **options: Any) -> Ranking:
        """Rank documents or plain texts and return records instead of documents; no run of LangChain's.

        Args:
            query: The query.
            documents: Documents, or texts.
            **options: Fields to override for this call: see `call_options`.

        Returns:
            A list of one `RankedDocument` per document kept, best first; a table in a notebook.
        """
        reranker = self._with(options)
        wrapped = [Document(page_content=item) if isinstance(item, str) else item for item in documents]
        (judged,) = reranker._judge_many([{"query": query, "documents": wrapped}])
        return Ranking(reranker._rank(_unwrap(judged)))

    # --- written once ---------------------------------------------------------------------------------------------

    def _with(self, options: Mapping[str, Any]) -> Self:
        """This reranker with some fields changed for one call; the loaded model is shared."""
        if not options:
            return self
        unknown = sorted(set(options) - self.call_options)
        if unknown:
            msg = f"{type(self).__name__} takes {sorted(self.call_options)} for a single call, not {unknown}."
            raise TypeError(msg)
        changed = self.model_copy()
        for name, value in options.items():
            setattr(changed, name, value)
        return changed

    def _traced(self, config: RunnableConfig | list[RunnableConfig] | None, count: int = 1) -> list[RunnableConfig]:
        """Configurations of runs that name the model."""
        label, provider = self._label(), self._provider()
        configs = get_config_list(config, count)
        return [run_config(one, name=type(self).__name__, model=label, provider=provider) for one in configs]

    def _rerank(self, input: RerankInput, config: RunnableConfig) -> _Outputs:
        return _unwrap(self._rerank_batch([input], [config])[0])

    async def _arerank(self, input: RerankInput, config: RunnableConfig) -> _Outputs:
        return _unwrap((await self._arerank_batch([input], [config]))[0])

    def _rerank_batch(self, inputs: list[RerankInput], config: list[RunnableConfig]) -> list[_Outputs | Exception]:
        return [self._outputs(judged) for judged in self._judge_many(inputs, config)]

    async def _arerank_batch(
        self, inputs: list[RerankInput], config: list[RunnableConfig]
    ) -> list[_Outputs | Exception]:
        return [self._outputs(judged) for judged in await self._ajudge_many(inputs, config)]

    def _outputs(self, judged: Judged | Exception) -> _Outputs | Exception:
        """What the run shows; the caller gets its documents."""
        if isinstance(judged, Exception):
            return judged
        ranked = self._rank(judged)
        return {"documents": self._annotate(ranked), **summary(self._label(), judged, ranked)}

    def _judge_many(
        self, inputs: Sequence[RerankInput], configs: Sequence[RunnableConfig | None] | None = None
    ) -> list[Judged | Exception]:
        """Check inputs, ask the backend, check its answers. Combiners call it on their members."""
        with self._spans(inputs, configs) as spans:
            jobs = self._prepare_many(inputs, configs)
            requests = _to_judge(jobs)
            try:
                answers = self._score_many(requests) if requests else []
            except Exception as error:  # noqa: BLE001 - becomes the outcome of each run
                answers = [error] * len(requests)
            return spans.record(self._align(jobs, answers))

    async def _ajudge_many(
        self, inputs: Sequence[RerankInput], configs: Sequence[RunnableConfig | None] | None = None
    ) -> list[Judged | Exception]:
        with self._spans(inputs, configs) as spans:
            jobs = self._prepare_many(inputs, configs)
            requests = _to_judge(jobs)
            try:
                answers = await self._ascore_many(requests) if requests else []
            except Exception as error:  # noqa: BLE001 - becomes the outcome of each run
                answers = [error] * len(requests)
            return spans.record(self._align(jobs, answers))

    def _spans(self, inputs: Sequence[RerankInput], configs: Sequence[RunnableConfig | None] | None) -> Spans:
        return Spans(self._label(), inputs, configs, provider=self._provider(), top_k=self.top_n, rank=self._rank)

    def _prepare_many(
        self, inputs: Sequence[RerankInput], configs: Sequence[RunnableConfig | None] | None
    ) -> list[_Job | Exception]:
        return [
            self._prepare(given, config) for given, config in zip(inputs, configs or [None] * len(inputs), strict=True)
        ]

    def _prepare(self, input: RerankInput, config: RunnableConfig | None) -> _Job | Exception:
        try:
            query, documents = query_and_documents(input)
            texts = [encodable(self._text(document)) for document in documents]
        except Exception as error:  # noqa: BLE001 - a bad input fails its own run of a batch
            return error
        judged = [position for position, text in enumerate(texts) if text.strip()]
        request = ScoreRequest(encodable(query), [texts[i] for i in judged], [documents[i] for i in judged], config)
        return _Job(documents, judged, request)

    def _text(self, document: Document) -> str:
        if self.document_text is None:
            return document.page_content
        if callable(self.document_text):
            text: Any = self.document_text(document)
            if not isinstance(text, str):
                msg = f"document_text must return a str, not {type(text).__name__}."
                raise TypeError(msg)
            return text
        lead = [str(document.metadata[name]) for name in self.document_text if document.metadata.get(name) is not None]
        return "\n".join([*lead, document.page_content])

    def _align(
        self, jobs: Sequence[_Job | Exception], answers: Sequence[Answer | Exception]
    ) -> list[Judged | Exception]:
        """Put the backend's answers, which cover only documents with a text, back beside all documents."""
        expected = len(_to_judge(jobs))
        if len(answers) != expected:
            error = ScoreError(f"{type(self).__name__} answered {len(answers)} of {expected} requests.")
            answers = [error] * expected
        remaining = iter(answers)
        results: list[Judged | Exception] = []
        for job in jobs:
            if isinstance(job, Exception):
                results.append(job)
                continue
            try:
                results.append(self._judged(job, next(remaining) if job.judged else []))
            except Exception as failure:  # noqa: BLE001 - the outcome of this run alone
                results.append(failure if self.on_error == "raise" else self._fallback(job, failure))
        return results

    def _judged(self, job: _Job, answer: Answer | Exception) -> Judged:
        if isinstance(answer, Exception):
            raise answer
        details: list[Mapping[str, Any]] = [{}] * len(job.documents)
        raw_scores = [-math.inf] * len(job.documents)
        statuses: list[Status] = ["blank"] * len(job.documents)
        asked = job.judged
        if isinstance(answer, DetailedScores):
            if len(answer.details) != len(asked):
                msg = f"{type(self).__name__} returned {len(answer.details)} details for {len(asked)} texts."
                raise ScoreError(msg)
            for position, said in zip(asked, answer.details, strict=True):
                details[position] = said
            for index in answer.unjudged:
                statuses[asked[index]] = "unjudged"
            for index in answer.dropped:
                statuses[asked[index]] = "dropped"
            others = answer.unjudged | answer.dropped
            asked = [position for index, position in enumerate(asked) if index not in others]
            answer = [score for index, score in enumerate(answer.scores) if index not in others]
        for position, score in zip(asked, self._checked(answer, len(asked)), strict=True):
            finite = math.isfinite(score)
            raw_scores[position] = score if finite else -math.inf
            statuses[position] = "ok" if finite else "not finite"
        return Judged(job.documents, raw_scores, statuses, details=details)

    def _fallback(self, job: _Job, error: Exception) -> Judged:
        count = len(job.documents)
        _logger.warning(
            "%s failed (%s): %d documents keep the order they came in.",
            type(self).__name__,
            type(error).__name__,
            count,
        )
        said = details_of(error)  # what failing cost, for one
        details = [copy.deepcopy(said) for _ in range(count)]
        return Judged(job.documents, [-math.inf] * count, ["fallback"] * count, type(error).__name__, details)

    def _rank(self, judged: Judged) -> list[RankedDocument]:
        positions = [i for i in best_first(judged.raw_scores) if judged.statuses[i] != "dropped"]
        if self.min_score is None:
            positions = positions[: self.top_n]
        ranked = [
            RankedDocument(
                document=judged.documents[position],
                score=self._activate(judged.raw_scores[position]) if judged.statuses[position] == "ok" else -math.inf,
                raw_score=judged.raw_scores[position],
                rank=rank,
                previous_rank=position + 1,
                status=judged.statuses[position],
                reason=judged.reason,
                details=judged.details[position] if judged.details else {},
            )
            for rank, position in enumerate(positions, start=1)
        ]
        if self.min_score is not None:
            ranked = [line for line in ranked if line.score >= self.min_score or line.status in _KEPT]
        return ranked[: self.top_n]

    def _checked(self, answer: Scores, expected: int) -> list[float]:
        values: Any = answer.tolist() if hasattr(answer, "tolist") else answer
        try:
            scores = [float(value) for value in values]
        except (TypeError, ValueError) as error:
            msg = f"{type(self).__name__} must return one number per text."
            raise ScoreError(msg) from error
        if len(scores) != expected:
            msg = f"{type(self).__name__} returned {len(scores)} scores for {expected} texts; none was dropped."
            raise ScoreError(msg)
        broken = [position for position, score in enumerate(scores) if not math.isfinite(score)]
        if broken and self.on_nan == "raise":
            msg = (
                f"{type(self).__name__} returned {len(broken)} of {expected} scores that are not finite (first at text "
                f"{broken[0]}). Check the model's precision, or set on_nan='last' to put those documents last."
            )
            raise ScoreError(msg)
        return scores

    def _annotate(self, ranked: list[RankedDocument]) -> list[Document]:
        documents = []
        label = self._label()
        for line in ranked:
            metadata = dict(line.document.metadata)
            previous = metadata.pop("relevance_score", _NOTHING)
            if self.details or line.status != "ok":
                details: dict[str, Any] = {
                    "model": label,
                    "rank": line.rank,
                    "previous_rank": line.previous_rank,
                    "status": line.status,
                    **line.details,
                }
                if line.reason is not None:
                    details["reason"] = line.reason
                if line.raw_score != line.score:
                    details["raw_score"] = line.raw_score
                if previous is not _NOTHING:
                    details["previous_score"] = previous
                metadata["rerank"] = details
            metadata["relevance_score"] = line.score  # last, so that a stale one can never win
            documents.append(line.document.model_copy(update={"metadata": metadata}))
        return documents


@cache
def _executor() -> ThreadPoolExecutor:
    """Threads of our own for local models: asyncio's default executor stays free for everybody else.

    More than processors, since most wait for the one pass that a model runs, and those that wait go together.
    """
    return ThreadPoolExecutor(max_workers=16, thread_name_prefix="rerankkit")


if hasattr(os, "register_at_fork"):  # not on Windows; threads do not survive a fork
    os.register_at_fork(after_in_child=_executor.cache_clear)

_threads: ContextVar[Executor | None] = ContextVar("rerankkit_threads", default=None)
"""Whose threads to use in place of ours: what may be late must not keep others waiting."""


async def _on_thread(function: Callable[..., _Item], *arguments: Any) -> _Item:
    """Call a function on a thread, where what the caller traces is still known."""
    return await run_in_executor(_threads.get() or _executor(), contextvars.copy_context().run, function, *arguments)


def _to_judge(jobs: Sequence[_Job | Exception]) -> list[ScoreRequest]:
    return [job.request for job in jobs if isinstance(job, _Job) and job.judged]


def _unwrap(result: _Item | Exception) -> _Item:
    if isinstance(result, Exception):
        raise result
    return result
