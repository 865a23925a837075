"""What a rerank shows of itself: as a run of LangChain's tracers, LangSmith's among them, and as an OpenTelemetry span.

Both say the same: model, number of candidates, the order before and after, scores, statuses, usage. A run holds query and
documents as a retriever's run does; a span holds no text unless ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` is
set to ``true``, the switch of the OpenTelemetry conventions. Attributes of spans have the names of OpenInference's reranker
spans (Arize-ai/openinference, ``spec/semantic_conventions.md``) and of OpenTelemetry's conventions for generative AI; what
neither has a name for begins with ``rerankkit.``.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config
from typing_extensions import Self

from langchain_rerankkit.errors import RerankKitError
from langchain_rerankkit.records import Judged, RankedDocument, RerankInput, encodable, total_usage

__all__ = ["Spans", "run_config", "summary", "within"]

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_PARENTS = "rerankkit-parents"  # in OpenTelemetry's context: the context of each input of a batch, by its configuration
_logger = logging.getLogger("langchain_rerankkit")


def run_config(config: RunnableConfig | None, *, name: str, model: str, provider: str | None = None) -> RunnableConfig:
    """The configuration of a run that says what model it is of, by LangSmith's names.

    Args:
        config: The caller's configuration.
        name: Name of the class, which gives ``ls_retriever_name`` as a retriever's does.
        model: For ``ls_model_name``.
        provider: For ``ls_provider``.

    Returns:
        A copy. Unlike a retriever's, what it says is not inherited: a language model's run below keeps its own.
    """
    config = ensure_config(config)
    metadata = {"ls_retriever_name": name.removesuffix("Reranker").lower() or name.lower(), "ls_model_name": model}
    if provider is not None:
        metadata["ls_provider"] = provider
    manager = get_callback_manager_for_config(config)
    manager.add_metadata(metadata, inherit=False)
    return cast("RunnableConfig", {**config, "callbacks": manager})


def summary(model: str, judged: Judged, ranked: Sequence[RankedDocument]) -> dict[str, Any]:
    """One rerank in plain values that JSON can hold, without any text.

    Args:
        model: Name of the model, where what was judged does not say another one.
        judged: All candidates.
        ranked: Those that are returned.

    Returns:
        ``model``, ``candidates`` and ``returned`` (numbers), ``previous_ranks`` and ``scores`` (of what is returned, best
        first; None for one that was not judged), ``statuses`` (how many candidates have each); and ``usage``,
        ``backend``, ``stage`` or ``stages``, ``failed`` and ``reason`` as in ``metadata["rerank"]``, where there are any.
    """
    said = next((details for details in judged.details if details), {})
    outcome: dict[str, Any] = {
        "model": said.get("model", model),
        "candidates": len(judged.documents),
        "returned": len(ranked),
        "previous_ranks": [line.previous_rank for line in ranked],
        "scores": [float(line.score) if math.isfinite(line.score) else None for line in ranked],
        "statuses": dict(Counter(judged.statuses)),
        **{key: said[key] for key in ("backend", "stages" if "stages" in said else "stage", "failed") if key in said},
    }
    if usage := total_usage(said):
        outcome["usage"] = usage
    if judged.reason is not None:
        outcome["reason"] = judged.reason
    return outcome


class Spans:
    """The OpenTelemetry spans of one pass of a reranker, one for each input; nothing where nobody uses OpenTelemetry.

    Args:
        model: Name of the model.
        inputs: What the pass is given.
        configs: Configuration of each input's run.
        provider: Who hosts the model, if it is hosted.
        top_k: How many documents are wanted.
        rank: Gives the order of what was judged.
    """

    def __init__(
        self,
        model: str,
        inputs: Sequence[RerankInput],
        configs: Sequence[RunnableConfig | None] | None,
        *,
        provider: str | None,
        top_k: int | None,
        rank: Callable[[Judged], Sequence[RankedDocument]],
    ) -> None:
        self._model, self._inputs, self._rank = model, inputs, rank
        self._configs = configs or [None] * len(inputs)
        self._fixed: dict[str, Any] = {
            "openinference.span.kind": "RERANKER",
            "gen_ai.operation.name": "rerank",
            "gen_ai.request.model": model,
            "reranker.model_name": model,
        }
        if provider is not None:
            self._fixed["gen_ai.provider.name"] = provider
        if top_k is not None:
            self._fixed["reranker.top_k"] = top_k
        self._spans: list[Any] = []

    def __enter__(self) -> Self:
        """Start the spans.

        That of a single input is the current one. Several inputs share the pass: what was current stays so, and `within`
        gives each its own.
        """
        # Who set up an SDK has imported the API; for everybody else to look is all that it costs.
        if "opentelemetry.trace" not in sys.modules:
            return self
        self._api: Any = importlib.import_module("opentelemetry.trace")
        if isinstance(self._api.get_tracer_provider(), self._api.ProxyTracerProvider):
            return self
        self._context: Any = importlib.import_module("opentelemetry.context")
        tracer = self._api.get_tracer("langchain_rerankkit")
        kind = self._api.SpanKind.CLIENT if "gen_ai.provider.name" in self._fixed else self._api.SpanKind.INTERNAL
        current = self._context.get_current()
        parents = self._context.get_value(_PARENTS) or {}
        contexts = [parents.get(id(config), (None, current))[1] for config in self._configs]
        self._spans = [tracer.start_span(f"rerank {self._model}", one, kind, dict(self._fixed)) for one in contexts]
        contexts = [self._api.set_span_in_context(span, one) for span, one in zip(self._spans, contexts, strict=True)]
        # With the configurations themselves, so that no other object can have their ids.
        children = {id(c): (c, one) for c, one in zip(self._configs, contexts, strict=True) if c is not None}
        inner = contexts[0] if len(contexts) == 1 else current
        self._token = self._context.attach(self._context.set_value(_PARENTS, children, inner))
        return self

    def record(self, outcomes: list[Judged | Exception]) -> list[Judged | Exception]:
        """Let each span say what came of its input; the outcomes are given back as they are."""
        for span, given, outcome in zip(self._spans, self._inputs, outcomes, strict=False):
            if not span.is_recording():
                continue
            try:
                if isinstance(outcome, Exception):
                    self._fail(span, outcome)
                else:
                    ranked = self._rank(outcome)
                    said = self._fixed | _result(summary(self._model, outcome, ranked), ranked)
                    if _captures():
                        said |= _query(given["query"])
                    span.set_attributes(_documents(outcome.documents, ranked, _limit() - len(said)))
                    span.set_attributes(said)  # last: past its limit a span drops what was set first
            except Exception as error:  # noqa: BLE001 - tracing fails nobody's rerank
                _logger.warning("A rerank could not be described to OpenTelemetry (%s).", type(error).__name__)
        return outcomes

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if not self._spans:
            return
        self._context.detach(self._token)
        for span in self._spans:
            if error is not None:
                self._fail(span, error)
            span.end()

    def _fail(self, span: Any, error: BaseException) -> None:
        # Messages of this package's errors hold no text of anybody; those of others, and causes in a traceback, may.
        told = str(error) if isinstance(error, RerankKitError) else type(error).__name__
        span.set_attribute("error.type", type(error).__qualname__)
        if _captures():
            told = encodable(str(error))
            span.record_exception(error)
        span.set_status(self._api.Status(self._api.StatusCode.ERROR, told))


@contextmanager
def within(config: RunnableConfig | None) -> Iterator[None]:
    """Let spans that begin in the block nest in that of one input of a batch.

    Args:
        config: Configuration of that input: ``ScoreRequest.config``.
    """
    context: Any = sys.modules.get("opentelemetry.context")
    parent = None if context is None or config is None else (context.get_value(_PARENTS) or {}).get(id(config))
    if parent is None:
        yield
        return
    token = context.attach(parent[1])
    try:
        yield
    finally:
        context.detach(token)


def _captures() -> bool:
    """Whether spans may hold queries and texts."""
    return os.environ.get(_CAPTURE, "").strip().lower() in {"true", "span_only", "span_and_event"}


def _query(query: str) -> dict[str, Any]:
    query = encodable(query)
    return {"reranker.query": query, "input.value": query, "input.mime_type": "text/plain"}


def _limit() -> int:
    """How many attributes a span may have: the SDK drops others, with a warning for each; some are left to processors."""
    for name in ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"):
        if (value := os.environ.get(name, "").strip()).isdecimal():
            return int(value) - 8
    return 128 - 8


def _documents(given: Sequence[Document], ranked: Sequence[RankedDocument], room: int) -> dict[str, Any]:
    """Attributes of the documents at the top before and after, of as many as there is room for."""
    text = _captures()
    lists: dict[str, list[tuple[Document, Any]]] = {
        "output": [(line.document, line.score) for line in ranked],
        "input": [(document, document.metadata.get("relevance_score")) for document in given],
    }
    attributes: dict[str, Any] = {}
    for place in range(len(given)):  # never fewer than those that are returned
        of_place: dict[str, Any] = {}
        for side, documents in lists.items():
            if place >= len(documents):
                continue
            document, score = documents[place]
            name = f"reranker.{side}_documents.{place}.document"
            if document.id is not None:
                of_place[f"{name}.id"] = encodable(document.id)
            if isinstance(score, (int, float)) and math.isfinite(score):
                of_place[f"{name}.score"] = float(score)
            if text:
                of_place[f"{name}.content"] = encodable(document.page_content)
        if len(attributes) + len(of_place) > room:
            break
        attributes |= of_place
    return attributes


def _result(said: Mapping[str, Any], ranked: Sequence[RankedDocument]) -> dict[str, Any]:
    """Attributes of a summary: the whole as JSON, with all ids, and numbers to add up or to filter by as their own."""
    ids = [line.document.id for line in ranked]
    attributes: dict[str, Any] = {
        "output.value": json.dumps({**said, "ids": ids}, default=str),
        "output.mime_type": "application/json",
        "gen_ai.response.model": said["model"],
        **{f"rerankkit.{key}": said[key] for key in ("candidates", "returned", "backend", "reason") if key in said},
    }
    attributes |= {f"rerankkit.statuses.{status}": count for status, count in said["statuses"].items()}
    usage: Mapping[str, Any] = said.get("usage", {})
    attributes |= {f"rerankkit.usage.{key}": value for key, value in usage.items()}
    for key, names in {"input": ("input_tokens", "tokens"), "output": ("output_tokens",)}.items():
        count = next((usage[name] for name in names if name in usage), None)
        if count is not None:
            attributes[f"gen_ai.usage.{key}_tokens"] = int(count)
    return attributes
