"""What the rerankers that ask a chat model have in common: concurrent calls, budgets, retries, usage, recordings."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self, override

from langchain_rerankkit._steps import advance, gather
from langchain_rerankkit.llm.prompts import harmless
from langchain_rerankkit.llm.tape import Tape, candidate_ids
from langchain_rerankkit.llm.tokens import TokenCounter
from langchain_rerankkit.llm.usage import Meter
from langchain_rerankkit.passages import Chunks, ChunkScore
from langchain_rerankkit.ranking import best_first
from langchain_rerankkit.records import Answer, DetailedScores, ScoreRequest, with_details
from langchain_rerankkit.rerankers.chunking import ChunkingReranker
from langchain_rerankkit.tracing import within

__all__ = ["Asked", "ChatReranker", "Conversation", "Verdict", "corrected"]

Conversation = Generator[list[BaseMessage], Any, Any]
"""Yields messages, is sent the model's answer to them (a message or a text), returns what it was about."""

Verdict = Generator[list[Conversation], list[Any], DetailedScores]
"""Yields conversations that may go on at the same time, is sent what they returned (None for one that the budget ended),
returns the scores."""


@dataclass(frozen=True)
class _Ready:
    model: Runnable[Any, Any]
    counter: TokenCounter
    tape: Tape | None


class Asked:
    """One query as it goes into prompts, and what it costs.

    Args:
        query: The query.
        chunks: What is shown of the documents, harmless.
        counter: Counts tokens.
        meter: Counts calls.
        chunk_score: What the scores of a document's chunks say of it.

    Attributes:
        query: The query, harmless.
        texts: What is shown of the documents, each text once: all of a document, its beginning, or its chunks.
    """

    def __init__(
        self, query: str, chunks: Chunks, counter: TokenCounter, meter: Meter, chunk_score: ChunkScore
    ) -> None:
        self.query = harmless(query)
        self.counter, self.meter = counter, meter
        self.texts = chunks.different
        self._given, self._chunk_score = chunks, chunk_score
        self._truncated: set[int] = set()

    def cut(self, position: int, limit: int) -> str:
        """A text cut to a number of tokens, which its documents will say."""
        text, cut = self.counter.cut(self.texts[position], limit)
        if cut:
            self._truncated.add(position)
        return text

    def answer(
        self,
        scores: Sequence[float],
        *,
        each: Sequence[Mapping[str, Any]] | None = None,
        unjudged: AbstractSet[int] = frozenset(),
        **more: Any,
    ) -> DetailedScores:
        """What to say of the documents.

        Args:
            scores: One for each text.
            each: More to say of the documents of each text; of a document in chunks, what there is of the best one.
            unjudged: Positions of texts that nobody judged.
            more: More to say of every document.
        """
        if self.meter.stopped is not None:
            more["stopped"] = self.meter.stopped
        usage = self.meter.usage()
        judged = {position: score for position, score in enumerate(scores) if position not in unjudged}
        results = self._given.results(judged, self._chunk_score, self._truncated)
        return DetailedScores(
            [0.0 if result.score is None else result.score for result in results],
            [
                {"usage": dict(usage), **more, **(each[result.best] if each else {}), **result.details}
                for result in results
            ],
            {document for document, result in enumerate(results) if result.score is None},
        )


def corrected(answer: str, told: str, echo: int) -> list[BaseMessage]:
    """What to add to a conversation whose answer cannot be used.

    Args:
        answer: What the model said.
        told: What is wrong with it, and what to answer instead.
        echo: Characters of the answer that the model is shown again.
    """
    # Turns must alternate for some models, and an empty one is refused by some providers.
    return [AIMessage(answer[:echo].strip() or "(empty)"), HumanMessage(told)]


class ChatReranker(ChunkingReranker):
    """A chat model as the judge. Subclasses write `_verdict`: what it is asked, and what its answers mean.

    Works over any LangChain chat model. Retries of failed requests, rate limits and timeouts are the model's own
    settings; what is asked again here is what was answered and could not be used. An LLM cache of LangChain recognises
    a prompt that it has seen. ``metadata["rerank"]["usage"]`` holds calls, tokens, retries, repairs and seconds of the
    query.

    What the model reads of a document is made harmless first: without control characters, and with round brackets where it
    looks like an identifier or the end of a turn. ``best_span`` counts in that text.
    """

    model: Runnable[Any, Any]
    """A chat model, or any Runnable from messages to a message."""

    passage_tokens: int | None = Field(default=400, ge=1)
    """Most tokens that are shown of a text, or of each of its chunks, counted by the model's own counter where it has one;
    all if None."""

    chunk_overlap: int = Field(default=32, ge=0)
    """About how many tokens neighbouring chunks share: at most half of a chunk."""

    max_retries: int = Field(default=2, ge=0)
    """How often the model is asked again, with the error shown to it, when its answer cannot be used."""

    max_concurrency: int = Field(default=8, ge=1)
    """Most calls of the model at the same time, for all queries of a batch together."""

    max_calls: int | None = Field(default=None, ge=1)
    """Calls after which a query stops and keeps what it has: ``metadata["rerank"]["stopped"]`` says so."""

    max_tokens: int | None = Field(default=None, ge=1)
    """The same for tokens, of prompts and answers together; calls under way are finished."""

    prices: Mapping[str, tuple[float, float]] | None = None
    """Money for a million tokens of prompts and of answers, by name of the model. With it, usage has a ``cost``."""

    seed: int | None = None
    """Key from which fences, identifiers and shuffles of prompts are derived. By default each process draws its own,
    which no author of a document can know; set it so that an LLM cache on disk serves later processes too."""

    record: str | None = None
    """JSON lines file to append each verdict to: query, ids of the candidates, order."""

    replay: str | None = None
    """JSON lines file of such verdicts to answer from. What it lacks is an error, or is asked for if ``record`` is set."""

    call_options = ChunkingReranker.call_options | {"max_calls", "max_tokens"}

    @abstractmethod
    def _verdict(self, asked: Asked) -> Verdict:
        """How one query is judged."""

    @field_validator("model", mode="before")
    @classmethod
    def _check_model(cls, model: Any) -> Any:
        if isinstance(model, str):
            msg = f"Give a chat model and not its name: ChatOpenAI(model={model!r}), or another class that has it."
            raise ValueError(msg)  # noqa: TRY004 - pydantic reports it as a mistake of this field
        return model

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if self.long_documents == "chunk" and self.passage_tokens is None:
            msg = "long_documents='chunk' needs the size of a chunk: set passage_tokens."
            raise ValueError(msg)
        if self.prices is not None and self._label() not in self.prices:
            msg = f"prices has no entry for {self._label()!r}, only for {', '.join(sorted(self.prices))}."
            raise ValueError(msg)
        return self

    @override
    def _label(self) -> str:
        model: Any = self.model
        while not isinstance(name := getattr(model, "model_name", None) or getattr(model, "model", None), str):
            if (model := getattr(model, "bound", None)) is None:
                return type(self.model).__name__
        return name

    @override
    def _text(self, document: Document) -> str:
        return harmless(
            super()._text(document)
        )  # before it is cut, and so that nothing but control characters is blank

    def _prepared(self) -> Runnable[Any, Any]:
        """The model with what has to be bound to it."""
        return self.model

    @override
    def _load(self) -> _Ready:
        paths = [None if name is None else Path(name).expanduser() for name in (self.replay, self.record)]
        return _Ready(self._prepared(), TokenCounter(_innermost(self.model)), Tape(*paths) if any(paths) else None)

    def _at_once(self, requests: Sequence[ScoreRequest]) -> int:
        limits = [(request.config or {}).get("max_concurrency") for request in requests]
        return min([self.max_concurrency, *(limit for limit in limits if limit)])

    def _meter(self) -> Meter:
        price = None if self.prices is None else self.prices[self._label()]
        return Meter(self._ready().counter, max_calls=self.max_calls, max_tokens=self.max_tokens, price=price)

    def _begin(self, request: ScoreRequest, meter: Meter) -> Verdict:
        ready: _Ready = self._ready()
        if ready.tape is not None:
            recorded = ready.tape.find(request.query, candidate_ids(request.documents, request.texts))
            if recorded is not None:
                return _replayed(recorded, meter)
        chunks = self._shown(request.texts, ready.counter)
        return self._verdict(Asked(request.query, chunks, ready.counter, meter, self.chunk_score))

    def _shown(self, texts: Sequence[str], counter: TokenCounter) -> Chunks:
        """What is shown of texts: cut where they are long."""
        limit = self.passage_tokens

        def shown(text: str) -> tuple[str, bool]:
            return (text, False) if limit is None else counter.cut(text, limit)

        return self._chunks(
            texts, limit or 0, "tokens", shown, lambda text, start: counter.reach(text, start, limit or 0)
        )

    def _finish(self, request: ScoreRequest, verdict: DetailedScores, meter: Meter) -> DetailedScores:
        tape = self._ready().tape
        if tape is not None and meter.stopped is None:  # half a verdict is not worth keeping
            scores = list(verdict.scores)
            ids = candidate_ids(request.documents, request.texts)
            kept = scores if self.scores_are == "relevance" else None
            tape.add(request.query, ids, best_first(scores), kept, model=self._label(), usage=meter.usage())
        return verdict

    # --- the same twice: on threads, and in an event loop -----------------------------------------------------------

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        self._ready()
        count = self._at_once(requests)
        with ContextThreadPoolExecutor(count) as calls, ContextThreadPoolExecutor(min(count, len(requests))) as queries:
            return list(queries.map(lambda request: self._judge(request, calls), requests))

    def _judge(self, request: ScoreRequest, calls: Executor) -> Answer | Exception:
        meter = self._meter()
        try:
            with within(request.config):
                verdict = self._begin(request, meter)
                done, step = advance(verdict)
                while not done:
                    futures = [calls.submit(self._converse, one, meter, request) for one in step]
                    try:
                        said = [future.result() for future in futures]
                    finally:
                        for future in futures:
                            future.cancel()  # after a failure; does nothing to what is done
                    done, step = advance(verdict, said)
            return self._finish(request, step, meter)
        except Exception as error:  # noqa: BLE001 - one failing query must not lose the others
            return with_details(error, usage=meter.usage())

    def _converse(self, conversation: Conversation, meter: Meter, request: ScoreRequest) -> Any:
        model = self._ready().model
        done, step = advance(conversation)
        while not done:
            if not meter.admit():
                return None
            done, step = advance(conversation, _heard(model.invoke(step, request.config), step, meter))
        return step

    @override
    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        self._ready()
        calls = asyncio.Semaphore(self._at_once(requests))
        return await gather([self._ajudge(request, calls) for request in requests])

    async def _ajudge(self, request: ScoreRequest, calls: asyncio.Semaphore) -> Answer | Exception:
        meter = self._meter()
        try:
            with within(request.config):
                verdict = self._begin(request, meter)
                done, step = advance(verdict)
                while not done:
                    said = await gather([self._aconverse(one, meter, request, calls) for one in step])
                    done, step = advance(verdict, said)
            return self._finish(request, step, meter)
        except Exception as error:  # noqa: BLE001 - one failing query must not lose the others
            return with_details(error, usage=meter.usage())

    async def _aconverse(
        self, conversation: Conversation, meter: Meter, request: ScoreRequest, calls: asyncio.Semaphore
    ) -> Any:
        model = self._ready().model
        async with calls:
            done, step = advance(conversation)
            while not done:
                if not meter.admit():
                    return None
                done, step = advance(conversation, _heard(await model.ainvoke(step, request.config), step, meter))
            return step


def _replayed(scores: Sequence[float], meter: Meter) -> Verdict:
    """A recorded verdict: asks nothing."""
    yield from ()
    return DetailedScores(scores, [{"usage": meter.usage(), "replayed": True} for _ in scores])


def _heard(answer: Any, messages: Sequence[BaseMessage], meter: Meter) -> Any:
    """What the model said: of a structured answer the message behind it, which is read here and not there."""
    if isinstance(answer, Mapping) and "raw" in answer:
        answer = answer["raw"]
    meter.add(messages, answer)
    return answer


def _innermost(model: Any) -> Any:
    while not hasattr(model, "get_num_tokens") and hasattr(model, "bound"):
        model = model.bound
    return model
